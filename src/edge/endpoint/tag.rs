//! `GET /tag.js?site=KEY`: the tag, with the site's configuration filled in.
//!
//! `assets/tag.min.js` is what `make tag` makes of `assets/tag.js`. The script of each site is
//! rendered and compressed once, when the configuration is loaded; a request only chooses between
//! the two, or gets 304 if the browser has the one that it would get.

use std::io::Write as _;

use askama::Template;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use crate::config::{Config, Site};
use crate::edge::Refusal;
use crate::edge::exchange::Exchange;
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::Reply;
use crate::endpoint::Endpoint;
use crate::hit::Permit;

/// The minified tag. The `json` filter writes `<`, `>`, `&` and `'` as escapes, so that no value
/// ends a script element that the tag is pasted into.
#[derive(Template)]
#[template(path = "tag.min.js", escape = "none")]
struct Tag<'a> {
    config: TagConfig<'a>,
}

/// What the tag has to know of its site.
#[derive(Serialize)]
struct TagConfig<'a> {
    site: &'a str,
    /// The path that takes events.
    event: &'a str,
    /// The path of the pixel.
    pixel: &'a str,
    /// The name of the cookie that holds the visitor's choice.
    choice: &'a str,
    /// The domain of that cookie; empty for the page's own host.
    domain: &'a str,
    /// Nothing is sent before the visitor has chosen.
    ask: bool,
    /// Without a choice the click that led here may be remembered.
    keep: bool,
}

/// The script of one site in the two representations that it is sent in.
struct Script {
    site: String,
    plain: Representation,
    gzipped: Representation,
}

#[derive(Clone)]
struct Representation {
    body: Bytes,
    /// A strong entity tag: it differs wherever a byte of the body does.
    etag: HeaderValue,
}

/// The scripts of all sites.
pub(crate) struct Scripts(Vec<Script>);

impl Scripts {
    /// Renders and compresses the script of each site.
    pub(crate) fn new(config: &Config) -> Scripts {
        Scripts(
            config
                .sites
                .iter()
                .map(|site| Script::new(config, site))
                .collect(),
        )
    }

    fn of(&self, site: &str) -> Option<&Script> {
        self.0.iter().find(|script| script.site == site)
    }
}

impl Script {
    fn new(config: &Config, site: &Site) -> Script {
        let tag = Tag {
            config: TagConfig {
                site: &site.key,
                event: config.path.of(Endpoint::Event),
                pixel: config.path.of(Endpoint::Pixel),
                choice: &config.cookie.choice_name,
                domain: site.cookie_domain.as_deref().unwrap_or(""),
                ask: site.default_permit == Permit::NONE,
                keep: site.default_permit.allows(Permit::STORE),
            },
        };
        let text = tag
            .render()
            .expect("a template of texts and flags can always be written to a string");
        let gzipped = gzip(text.as_bytes());
        Script {
            site: site.key.clone(),
            plain: Representation::new(text.into_bytes()),
            gzipped: Representation::new(gzipped),
        }
    }
}

impl Representation {
    fn new(body: Vec<u8>) -> Representation {
        let etag = format!("\"{:032x}\"", xxh3_128(&body));
        Representation {
            etag: HeaderValue::try_from(etag).expect("hexadecimal digits in quotes are a header"),
            body: Bytes::from(body),
        }
    }
}

/// Compresses at the best level. The same bytes always give the same result: the header has no
/// time.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("a vector takes every byte")
}

/// Answers with the script of the site that the query names.
pub(crate) fn answer(request: &Exchange<'_>, parts: &Parts) -> Result<Reply, Refusal> {
    let site = request.site_of(parts.uri.query().unwrap_or_default())?;
    let script = request
        .edge
        .scripts
        .of(&site.key)
        .expect("each site of the configuration has a script");
    Ok(respond(script, &parts.headers))
}

fn respond(script: &Script, asked: &HeaderMap) -> Reply {
    let gzipped = accepts_gzip(asked);
    let representation = if gzipped {
        &script.gzipped
    } else {
        &script.plain
    };
    let mut reply = if has_etag(asked, &representation.etag) {
        reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        let content_type = "text/javascript; charset=utf-8";
        let mut reply = reply::with_body(StatusCode::OK, content_type, representation.body.clone());
        if gzipped {
            reply
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        reply
    };
    let headers = reply.headers_mut();
    headers.insert(header::ETAG, representation.etag.clone());
    for (name, value) in [
        // Long enough to cost little, short enough that a new configuration arrives the same hour.
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::VARY, "Accept-Encoding"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "cross-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}

/// Checks whether the client takes gzip (RFC 9110, section 12.5.3). A weight that cannot be read
/// counts as 0: the plain form is right for everybody.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut by_wildcard = false;
    for coding in elements(headers, header::ACCEPT_ENCODING) {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().to_ascii_lowercase();
        let weight = weight.strip_prefix("q=").map(str::parse::<f32>);
        let is_accepted = matches!(weight, Some(Ok(weight)) if weight > 0.0);
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => return is_accepted,
            "*" => by_wildcard = is_accepted,
            _ => {}
        }
    }
    by_wildcard
}

/// Checks whether the client has the body already (RFC 9110, section 13.1.2: a weak comparison).
fn has_etag(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    elements(headers, header::IF_NONE_MATCH).any(|known| {
        let known = known.strip_prefix("W/").unwrap_or(known);
        known == "*" || known.as_bytes() == etag.as_bytes()
    })
}

/// Splits the values of a header that is a list. Our own entity tags have no comma.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().cloned();
        pairs
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn gzip_is_sent_only_to_clients_that_accept_it() {
        for (accept, expected) in [
            ("gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("deflate, GZIP;q=0.5", true),
            ("br;q=1.0, gzip ; q=0.8, *;q=0", true),
            ("*", true),
            ("*;q=0.1, identity", true),
            ("gzip;q=0, *", false),
            ("*, gzip;q=0.000", false),
            ("gzip;q=nan", false),
            ("gzip;level=9", false),
            ("identity", false),
            ("br", false),
            ("", false),
        ] {
            let asked = headers(&[(header::ACCEPT_ENCODING, accept)]);
            assert_eq!(accepts_gzip(&asked), expected, "{accept:?}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn an_entity_tag_is_found_alone_in_a_list_and_marked_as_weak() {
        let etag = HeaderValue::from_static("\"0a\"");
        for (known, expected) in [
            ("\"0a\"", true),
            ("W/\"0a\"", true),
            ("\"1b\", \"0a\"", true),
            ("*", true),
            ("\"1b\"", false),
            ("0a", false),
            ("", false),
        ] {
            let asked = headers(&[(header::IF_NONE_MATCH, known)]);
            assert_eq!(has_etag(&asked, &etag), expected, "{known:?}");
        }
    }

    #[test]
    fn no_value_ends_the_script_or_one_of_its_strings() {
        let hostile = "</script><!--'\"\\\u{2028}&";
        let tag = Tag {
            config: TagConfig {
                site: hostile,
                event: "/e",
                pixel: "/p.gif",
                choice: "avtryck_choice",
                domain: "",
                ask: true,
                keep: false,
            },
        };
        let text = tag.render().expect("a script");
        let (_, argument) = text.rsplit_once("})(").expect("the call");
        let argument = argument.trim_end().strip_suffix(");").expect("its end");
        for forbidden in ['<', '>', '&', '\''] {
            assert!(!argument.contains(forbidden), "{argument}");
        }
        let read: serde_json::Value = serde_json::from_str(argument).expect("JSON");
        assert_eq!(read["site"], hostile);
    }
}
