//! What is configured for trackers of other makers.

use super::*;
use crate::endpoint::{ENDPOINTS, Endpoint, Path};

#[test]
fn an_alias_stands_for_one_site() {
    let two = |one: &str, other: &str| {
        let text = format!(
            "[[site]]\nkey = \"a\"\naliases = {one}\n[[site]]\nkey = \"b\"\naliases = {other}\n"
        );
        errors(&text, &[])
    };
    assert_eq!(two("[\"a\", 3, \"Shop app\"]", "[\"4\"]"), [""; 0]);
    assert_eq!(
        two("[\"x\"]", "[\"x\"]"),
        ["line 6: site.aliases: x is there twice; each once would be right"]
    );
    assert_eq!(
        two("[\"b\"]", "[]"),
        ["line 3: site a, aliases: b is the key of another site; a name of its own would be right"]
    );
    for wrong in ["[\"\"]", "[\" x\"]", "[\"a\\u0000b\"]", "\"x\""] {
        assert_eq!(two(wrong, "[]").len(), 1, "{wrong}");
    }
}

#[test]
fn categories_have_permits_by_name() {
    let read = |table: &str| {
        let text = format!("{SITE}consent_categories = {table}\n");
        Config::parse(&text, []).map(|config| config.sites[0].consent_categories.clone())
    };
    let both = Permit::STORE.with(Permit::MEASURE);
    assert_eq!(
        read("{ Analytics = [\"store\", \"measure\"], None = [] }").unwrap(),
        [
            ("Analytics".to_owned(), both),
            ("None".to_owned(), Permit::NONE)
        ]
    );
    for wrong in [
        "{ A = [\"all\"] }",
        "{ A = \"store\" }",
        "[\"store\"]",
        "{ A = [1] }",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn paths_of_trackers_collide_with_no_other() {
    for (key, path, said) in [
        (
            "pixel",
            "\"/v1/batch\"",
            "path.pixel: /v1/batch lies below /v1, where ",
        ),
        (
            "snowplow",
            "[\"/v1/t\"]",
            "path.snowplow: /v1/t lies below /v1, where ",
        ),
        (
            "snowplow",
            "[\"/cb/x\"]",
            "path.snowplow: /cb/x lies below /cb, where ",
        ),
        (
            "matomo",
            "[\"/privacy/x\"]",
            "path.matomo: /privacy/x lies below /privacy, where ",
        ),
        (
            "segment",
            "\"/cb/v1\"",
            "path.segment: /cb/v1 lies below /cb, where ",
        ),
        ("segment", "\"/e\"", "path: /e is there twice"),
        ("snowplow", "[\"/x\", \"/x\"]", "path: /x is there twice"),
        ("matomo", "[\"/p.gif\"]", "path: /p.gif is there twice"),
        ("plausible", "[\"/health\"]", "path: /health is there twice"),
        ("robots", "[\"/demo\"]", "path.robots: "),
    ] {
        let errors = errors(&format!("{SITE}[path]\n{key} = {path}\n"), &[]);
        assert!(
            errors
                .first()
                .is_some_and(|first| first.starts_with(&format!("line 4: {said}"))),
            "{errors:?}"
        );
    }
}

#[test]
fn each_protocol_can_be_switched_off() {
    let mut off = String::new();
    let mut endpoints = Vec::new();
    for spec in ENDPOINTS {
        match spec.path {
            Path::AnyOf(key) => off += &format!("{} = []\n", key.name),
            Path::BelowKey(key, _) => off += &format!("{} = \"\"\n", key.name),
            _ => continue,
        }
        endpoints.push(spec.endpoint);
    }
    let config = Config::parse(&format!("{SITE}[path]\n{off}event = \"/v1/t\"\n"), []).unwrap();
    for endpoint in &endpoints {
        assert!(config.path.all_of(*endpoint).is_empty(), "{endpoint:?}");
    }
    assert!(endpoints.contains(&Endpoint::Segment) && endpoints.contains(&Endpoint::Robots));
}
