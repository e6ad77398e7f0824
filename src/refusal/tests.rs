use std::fmt::Write as _;

use super::*;
use crate::endpoint::{ENDPOINTS, Ending, EndpointSpec, Path, Protocol, Readers, Shape};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/endpoints.md");

/// The page about the endpoints and the reasons, made from their tables.
fn page() -> String {
    let mut page = String::from(
        "# Endpoints and refusals\n\n\
         Made by `make metrics-docs` from `src/endpoint.rs`, `src/endpoint/protocol.rs` and \
         `src/refusal.rs`; a test compares them.\n[parameters.md](parameters.md) has what the endpoints take \
         and reply.\n\n\
         ## Endpoints\n\
         The names are the values of the label `endpoint`. The paths are those without a configuration; \
         `[path]` changes them. Only a\nPOST may have a body.\n\n\
         | endpoint | path | methods | body at most | what it does | a refused request gets | pages that may read the reply |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for spec in ENDPOINTS {
        let body = match spec.body_bytes_max {
            0 => String::new(),
            bytes => size(bytes),
        };
        let EndpointSpec { name, methods, .. } = spec;
        let (path, does) = (path(spec), spec.endpoint.meaning());
        let (shape, readers) = (shape(spec.shape), readers(spec.readers));
        writeln!(
            page,
            "| `{name}` | {path} | {methods} | {body} | {does} | {shape} | {readers} |"
        )
        .expect("a string takes all");
    }
    page += &protocols();
    page += "\n## Refusals\n\
        A refused request is not recorded. Its reply has the header `Avtryck-Refusal` with the reason, and \
        with status 429 or 503 also\n`Retry-After: 1`. After some reasons the connection ends, because what \
        follows may be a smuggled request.\nA click with a valid target is redirected to it all the same, \
        with the reason in that header.\n\
        Trackers of other makers get the statuses that their clients need \
        ([trackers.md](trackers.md#replies)).\n\n\
        | reason | status | connection | because | what to do |\n| --- | --- | --- | --- | --- |\n";
    for reason in Reason::ALL {
        let connection = if reason.closes() { "ends" } else { "stays" };
        let (name, status) = (reason.name(), reason.status().as_u16());
        let (because, advice) = (reason.meaning(), reason.advice());
        writeln!(
            page,
            "| `{name}` | {status} | {connection} | {because} | {advice} |"
        )
        .expect("a string takes all");
    }
    page
}

/// The table of protocols.
fn protocols() -> String {
    let mut table = String::from(
        "\n## Protocols\n\
         The number stands in records of the spool and in messages to Kafka, the name in SQL, in metric \
         labels and in the live view.\n[trackers.md](trackers.md#replies) says how trackers take replies.\n\n\
         | number | protocol | endpoints | names its site by | recorded events get | what can never be taken | what can be taken later |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for protocol in Protocol::ALL {
        let spec = protocol.spec();
        let own = ENDPOINTS.iter().filter(|own| own.protocol == protocol);
        let (number, name) = (protocol as u8, spec.name);
        if protocol == Protocol::Native {
            writeln!(table, "| {number} | `{name}` | all others | `site` | | | |")
                .expect("a string takes all");
            continue;
        }
        let endpoints = list(own.map(|own| own.name.to_owned()));
        let status = |status: Option<hyper::StatusCode>, of: &str| match status {
            Some(status) if status.as_u16() != 503 => format!("; {} {of}", status.as_u16()),
            _ => String::new(),
        };
        let ending = match spec.ending {
            Ending::Text => "`ok`",
            Ending::Gif => "a GIF",
            Ending::Json => "`{\"success\":true}`",
        };
        let recorded = spec.recorded.as_u16();
        let unknown = status(spec.site_unknown, "for an unknown site");
        let later = status(Some(spec.over_limit), "over the limit");
        let field = spec.site_field;
        writeln!(
            table,
            "| {number} | `{name}` | {endpoints} | `{field}` | {recorded}, {ending} | 200{unknown} | 503{later} |"
        )
        .expect("a string takes all");
    }
    table
}

fn path(spec: &EndpointSpec) -> String {
    match spec.path {
        Path::At(key) => format!("`{}`", key.default),
        Path::AbovePartner(key) => format!("`{}/PARTNER`", key.default),
        Path::AboveSystem(key) => format!("`{}/SYSTEM`", key.default),
        Path::AnyOf(key) => list(key.default.iter().map(|path| (*path).to_owned())),
        Path::BelowKey(key, segments) => below(key.default, segments),
        Path::Below(above, segments) => match above.spec().path {
            Path::At(key) => below(key.default, segments),
            _ => String::new(),
        },
        Path::Beside(other, tails) => match other.spec().path {
            Path::BelowKey(key, _) => {
                let (base, _) = key.default.rsplit_once('/').unwrap_or_default();
                below(base, tails)
            }
            _ => String::new(),
        },
        Path::Around(above, [before, after]) => match above.spec().path {
            Path::BelowKey(key, _) => format!("`{}/{before}/KEY/{after}`", key.default),
            _ => String::new(),
        },
        Path::Fixed(path) => format!("`{path}`"),
        Path::Demo(path) => format!("`{path}`, with the embedded Postgres"),
        Path::Elsewhere => "any other".to_owned(),
    }
}

fn below(above: &str, segments: &[&str]) -> String {
    list(segments.iter().map(|segment| format!("{above}/{segment}")))
}

fn list(paths: impl Iterator<Item = String>) -> String {
    let paths: Vec<String> = paths.map(|path| format!("`{path}`")).collect();
    paths.join(" ")
}

fn shape(shape: Shape) -> &'static str {
    match shape {
        Shape::Gif => "a GIF",
        Shape::Empty => "the reason as text",
        Shape::Page => "a page",
    }
}

fn readers(readers: Readers) -> &'static str {
    match readers {
        Readers::AnySite => "those of every site",
        Readers::SiteOfRequest => "those of the site in the request",
        Readers::Nobody => "none",
    }
}

#[test]
fn the_page_of_endpoints_says_what_the_tables_have() {
    let made = page();
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(PATH, &made).expect("docs/ can be written");
    }
    let written = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(written == made, "{PATH} is old: make metrics-docs");
}

#[test]
fn advice_names_limits_by_their_constants() {
    for reason in Reason::ALL {
        let advice = reason.advice();
        assert!(!advice.contains(['{', '}']), "{advice}");
        let written = reason.spec().advice;
        assert!(
            !written.contains("KiB") && !written.contains("MiB"),
            "{written}"
        );
        assert!(!written.contains("second"), "{written}");
    }
    assert!(Reason::UriTooLong.advice().contains("8 KiB"));
    assert!(Reason::BodyTooLarge.advice().contains("1 MiB"));
    assert!(Reason::BodySlow.advice().contains("10 seconds"));
}

#[test]
fn a_name_stands_for_one_reason() {
    let names = Reason::ALL.map(Reason::name);
    for (at, name) in names.iter().enumerate() {
        assert_eq!(names.iter().position(|other| other == name), Some(at));
    }
}
