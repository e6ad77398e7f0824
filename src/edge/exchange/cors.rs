//! Cross-origin requests: pages of the origins that the configuration names for a site may read
//! replies, and no others.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use super::reply::{self, Reply};
use crate::config::Site;
use crate::edge::Refusal;
use crate::refusal::Reason;
use crate::request::Headers;

/// Returns whether the origin is one of the sites'.
pub(crate) fn is_known(sites: &[Site], origin: &str) -> bool {
    sites
        .iter()
        .flat_map(|site| &site.origins)
        .any(|known| known == origin)
}

/// Makes the reply to a preflight from a page of one of `sites`.
pub(crate) fn preflight(
    sites: &[Site],
    headers: &Headers<'_>,
    allow: &'static str,
) -> Result<Reply, Refusal> {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    match headers.origin {
        Some(origin) if is_known(sites, origin) => {
            let map = reply.headers_mut();
            map.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(allow),
            );
            map.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("content-type"),
            );
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
