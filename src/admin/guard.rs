//! Whom the admin listener answers.
//!
//! It asks for no password, so nothing that a browser carries here from elsewhere may be answered:
//! no page of a name that an attacker owns and lets lead here (DNS rebinding), and no page of
//! another site that takes the places of viewers. Browsers always say which host they ask.
//!
//! | who asks | `/`, `/live`, `/today`, `/tags` | `/metrics`, `/readyz` | `/healthz` |
//! | --- | --- | --- | --- |
//! | an address, `localhost`, a name in `admin.hosts` | answered | answered | answered |
//! | a name that nobody can own on the internet ([`is_private`]) | refused | answered | answered |
//! | any other name | refused | refused | answered |
//! | no host at all, as no browser does | refused | answered | answered |

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};

use crate::request::host_of;

/// The ends of names that are reserved (RFC 6761, RFC 6762, RFC 8375, ICANN's `internal`) or that
/// Kubernetes gives its services.
const PRIVATE_ENDS: [&str; 6] = [
    ".localhost",
    ".internal",
    ".local",
    ".home.arpa",
    ".svc",
    ".cluster.local",
];

/// The names of `admin.hosts`.
pub(crate) struct AdminNames(Vec<String>);

impl AdminNames {
    pub(crate) fn new(names: Vec<String>) -> AdminNames {
        AdminNames(names)
    }

    /// Checks whether a browser that asks this host may see hits.
    pub(crate) fn has(&self, host: &str) -> bool {
        let name = host_of(host);
        name.eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Checks whether whoever sends these headers may see hits.
    pub(crate) fn admit_viewer(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter().peekable();
        hosts.peek().is_some() && hosts.all(|host| text(host).is_some_and(|host| self.has(host)))
    }

    /// Checks whether whoever sends these headers may see metrics and readiness.
    pub(crate) fn admit_monitor(&self, headers: &HeaderMap) -> bool {
        let is_known = |host: &str| self.has(host) || is_private(host);
        let mut hosts = headers.get_all(header::HOST).iter();
        hosts.all(|host| text(host).is_some_and(is_known))
    }
}

/// Checks whether a host has a name that nobody can own on the internet: one without a dot, as the
/// services of a Docker network have, or a reserved one.
fn is_private(host: &str) -> bool {
    let name = host_of(host).to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(plain);
    is_name && (!name.contains('.') || PRIVATE_ENDS.iter().any(|end| name.ends_with(end)))
}

/// Checks whether a request comes from a page of another origin. Browsers say so by
/// `Sec-Fetch-Site`, older ones by `Origin`; what is no browser sends neither.
pub(crate) fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get(HeaderName::from_static("sec-fetch-site"));
    let is_other_site =
        site.is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    let host = headers.get(header::HOST).and_then(text);
    let is_own = |origin: &HeaderValue| {
        let own = text(origin).and_then(|origin| origin.split_once("://"));
        own.zip(host)
            .is_some_and(|((_, own), host)| own.eq_ignore_ascii_case(host))
    };
    is_other_site || headers.get(header::ORIGIN).is_some_and(|it| !is_own(it))
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> AdminNames {
        AdminNames::new(vec!["ops.example".to_owned()])
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_str(value).expect("a header's value");
            map.append(HeaderName::from_static(name), value);
        }
        map
    }

    #[test]
    fn only_addresses_and_names_that_no_stranger_owns_are_answered() {
        for (host, is_viewer, is_monitor) in [
            ("127.0.0.1:8090", true, true),
            ("10.0.0.7", true, true),
            ("[::1]:8090", true, true),
            ("[fd00::7]", true, true),
            ("localhost:1", true, true),
            ("OPS.example:8090", true, true),
            ("avtryck:8090", false, true),
            ("avtryck", false, true),
            ("avtryck.monitoring.svc:8090", false, true),
            ("avtryck.monitoring.svc.cluster.local", false, true),
            ("node-1.internal", false, true),
            ("Printer.LOCAL", false, true),
            ("", false, false),
            (":8090", false, false),
            ("evil.example", false, false),
            ("evil.example:8090", false, false),
            ("ops.example.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("a.svc.evil.example", false, false),
            ("evilsvc.example", false, false),
            ("7f000001.rbndr.us", false, false),
            ("evil.example.", false, false),
            ("evil\u{20}example", false, false),
        ] {
            let map = headers(&[("host", host)]);
            assert_eq!(names().admit_viewer(&map), is_viewer, "{host}");
            assert_eq!(names().admit_monitor(&map), is_monitor, "{host}");
        }
        let none = HeaderMap::new();
        assert!(!names().admit_viewer(&none) && names().admit_monitor(&none));
        for (one, other) in [("localhost", "evil.example"), ("evil.example", "localhost")] {
            let two = headers(&[("host", one), ("host", other)]);
            assert!(!names().admit_viewer(&two) && !names().admit_monitor(&two));
        }
    }

    #[test]
    fn a_page_of_another_origin_is_foreign_and_what_is_no_browser_is_not() {
        let host = ("host", "127.0.0.1:8090");
        for (lines, foreign) in [
            (vec![host], false),
            (vec![host, ("sec-fetch-site", "same-origin")], false),
            (vec![host, ("sec-fetch-site", "none")], false),
            (vec![host, ("sec-fetch-site", "same-site")], true),
            (vec![host, ("sec-fetch-site", "cross-site")], true),
            (vec![host, ("sec-fetch-site", "Cross-Site")], true),
            (vec![host, ("sec-fetch-site", "")], true),
            (vec![host, ("origin", "http://127.0.0.1:8090")], false),
            (vec![host, ("origin", "http://127.0.0.1:8091")], true),
            (vec![host, ("origin", "https://evil.example")], true),
            (vec![host, ("origin", "null")], true),
            (vec![host, ("origin", "")], true),
            (
                vec![
                    host,
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "https://evil.example"),
                ],
                true,
            ),
            (vec![("origin", "http://127.0.0.1:8090")], true),
        ] {
            assert_eq!(is_foreign(&headers(&lines)), foreign, "{lines:?}");
        }
    }
}
