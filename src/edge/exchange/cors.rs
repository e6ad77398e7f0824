//! Cross-origin requests: pages of the origins that the configuration names for a site may read
//! replies, and no others.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use super::reply::{self, Reply};
use crate::config::Site;
use crate::edge::Refusal;
use crate::endpoint::{EndpointSpec, Protocol};
use crate::refusal::Reason;
use crate::request::Headers;

/// The most headers that the reply to a preflight names: more than any client sends.
const ALLOWED_HEADERS_MAX: usize = 16;

/// The longest header name that it names.
const HEADER_NAME_BYTES_MAX: usize = 64;

/// Returns whether the origin is one of the sites'.
pub(crate) fn is_known(sites: &[Site], origin: &str) -> bool {
    sites
        .iter()
        .flat_map(|site| &site.origins)
        .any(|known| known == origin)
}

/// Returns those of the headers that a preflight names which pages may send, or all of them where
/// it names none of them.
fn allowed_headers(headers: &Headers<'_>, protocol: Protocol) -> Option<HeaderValue> {
    let known = protocol.spec().page_headers;
    let is_known = |name: &&str| {
        known.iter().any(|known| match known.strip_suffix('*') {
            Some(start) => name.starts_with(start) && name.len() <= HEADER_NAME_BYTES_MAX,
            None => known == name,
        })
    };
    let is_named = |name: &&str| !name.ends_with('*');
    let requested = headers.requested_headers.to_ascii_lowercase();
    let requested = str::from_utf8(&requested).unwrap_or_default();
    let mut names: Vec<&str> = requested
        .split(',')
        .map(str::trim)
        .filter(is_known)
        .collect();
    if names.is_empty() {
        names = known.iter().copied().filter(is_named).collect();
    }
    names.truncate(ALLOWED_HEADERS_MAX);
    HeaderValue::from_str(&names.join(", ")).ok()
}

/// Makes the reply to a preflight from a page of one of `sites`.
pub(crate) fn preflight(
    sites: &[Site],
    headers: &Headers<'_>,
    spec: &EndpointSpec,
) -> Result<Reply, Refusal> {
    let allow = spec.methods;
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    match headers.origin {
        Some(origin) if is_known(sites, origin) => {
            let map = reply.headers_mut();
            map.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(allow),
            );
            if let Some(allowed) = allowed_headers(headers, spec.protocol) {
                map.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            }
            map.insert(
                header::ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from_static("3600"),
            );
        }
        Some(_) => return Err(Refusal(Reason::Origin)),
        None => {}
    }
    reply
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    Ok(reply)
}

/// Lets `origin` read the reply, with credentials, if it is known as one of `sites`'.
pub(crate) fn allow(sites: &[Site], origin: &str, reply: &mut Reply) {
    reply
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("Origin"));
    if is_known(sites, origin)
        && let Ok(origin) = HeaderValue::from_str(origin)
    {
        let map = reply.headers_mut();
        map.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        map.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        map.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("avtryck-refusal"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(protocol: Protocol, requested: &str) -> String {
        let mut headers = Headers::default();
        headers.read_one(b"access-control-request-headers", requested.as_bytes());
        let allowed = allowed_headers(&headers, protocol).expect("names are visible");
        allowed.to_str().expect("names are visible").to_owned()
    }

    #[test]
    fn a_preflight_allows_what_the_clients_of_the_protocol_send_and_nothing_else() {
        for (protocol, requested, allowed) in [
            (Protocol::Native, "", "content-type"),
            (Protocol::Native, "content-type", "content-type"),
            (Protocol::Native, "Content-Type, X-Own", "content-type"),
            (Protocol::Native, "sp-anonymous", "content-type"),
            (Protocol::Matomo, "authorization", "content-type"),
            (
                Protocol::Snowplow,
                "content-type,sp-anonymous",
                "content-type, sp-anonymous",
            ),
            (Protocol::Snowplow, "", "content-type, sp-anonymous"),
            (
                Protocol::Segment,
                "anonymousid,authorization,content-type,sentat",
                "anonymousid, authorization, content-type, sentat",
            ),
            (
                Protocol::Segment,
                "rsa-retry-attempt, RSA-Initiator,x-retry-count,rs-other",
                "rsa-retry-attempt, rsa-initiator, x-retry-count",
            ),
        ] {
            assert_eq!(allow(protocol, requested), allowed, "{requested}");
        }
    }

    #[test]
    fn a_preflight_of_many_headers_has_a_short_reply() {
        let many = "rsa-a,".repeat(4_000);
        let told = allow(Protocol::Segment, &many);
        assert!(told.len() <= ALLOWED_HEADERS_MAX * "rsa-a, ".len());
        let long = format!("rsa-{}", "x".repeat(10_000));
        assert!(allow(Protocol::Segment, &long).len() < 100);
    }
}
