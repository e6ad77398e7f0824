//! `GET /tag.js?site=KEY`: the tag, with the site's configuration put in.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::config::Config;
use crate::edge::Refusal;
use crate::edge::exchange::admit::Request;
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::Reply;
use crate::endpoint::Endpoint;
use crate::hit::Permit;

const SOURCE: &str = include_str!("../../../assets/tag.js");
const PLACEHOLDER: &str = "__CONFIG__";

/// The tag of each site, made once.
pub(crate) struct Scripts(Vec<(String, Bytes)>);

impl Scripts {
    pub(crate) fn new(config: &Config) -> Scripts {
        let source = bare(SOURCE);
        let script = |site: &crate::config::Site| {
            let settings = serde_json::json!({
                "site": site.key,
                "event": config.path.of(Endpoint::Event),
                "pixel": config.path.of(Endpoint::Pixel),
                "choice": config.cookie.choice_name,
                "domain": site.cookie_domain.as_deref().unwrap_or(""),
                "ask": site.default_permit == Permit::NONE,
                "keep": site.default_permit.allows(Permit::STORE),
            });
            // `<` cannot end a script element that the tag may be pasted into.
            let settings = settings.to_string().replace('<', "\\u003c");
            (
                site.key.clone(),
                Bytes::from(source.replace(PLACEHOLDER, &settings)),
            )
        };
        Scripts(config.sites.iter().map(script).collect())
    }
}

/// What stands in the tag for people alone, and what it is served as. No text in the tag holds any of these, nor
/// ` //`.
const SPACED: [(&str, &str); 21] = [
    (" => ", "=>"),
    (" === ", "==="),
    (" && ", "&&"),
    (" || ", "||"),
    (" = ", "="),
    (" + ", "+"),
    (" < ", "<"),
    (" > ", ">"),
    (" ? ", "?"),
    (", ", ","),
    (": ", ":"),
    (" {", "{"),
    ("{ ", "{"),
    (" }", "}"),
    (" (", "("),
    (") ", ")"),
    ("{\n", "{"),
    (",\n", ","),
    ("(\n", "("),
    (";\n", ";"),
    ("const ", "let "),
];

/// The source without what only people read: indentation, comments, space; a fifth of it once gzipped.
fn bare(source: &str) -> String {
    let lines = source
        .lines()
        .map(|line| line.split_once(" //").map_or(line, |(code, _)| code).trim())
        .filter(|line| !line.is_empty() && !line.starts_with("//"));
    let code: String = lines.flat_map(|line| [line, "\n"]).collect();
    SPACED
        .iter()
        .fold(code, |code, (spaced, served)| code.replace(spaced, served))
}

pub(crate) fn answer(request: &Request<'_>, query: &str) -> Result<Reply, Refusal> {
    let site = request.site_of(query)?;
    let scripts = &request.edge.scripts.0;
    let script = scripts
        .iter()
        .find(|(key, _)| *key == site.key)
        .map(|(_, script)| script.clone());
    let mut reply = reply::with_body(
        StatusCode::OK,
        "text/javascript; charset=utf-8",
        script.unwrap_or_default(),
    );
    let headers = reply.headers_mut();
    // Long enough to cost little, short enough that a new configuration arrives the same hour.
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("cross-origin"),
    );
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_has_the_code_and_no_comment() {
        let source = "// Why.\n(f => {\n  const a = 'https://x'; // how\n\n  // what\n})();\n";
        assert_eq!(bare(source), "(f=>{let a='https://x';})();");
        assert!(!bare(SOURCE).contains("//"));
        assert_eq!(bare(SOURCE).matches(PLACEHOLDER).count(), 1);
    }
}
