//! Texts that are the same for everybody: what load balancers and crawlers ask for.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::edge::exchange::reply::{Reply, with_body};

/// Says that the collector answers. Whether hits are loaded is for the admin listener to say.
pub(crate) fn serve_health() -> Reply {
    text(b"ok\n")
}

/// Keeps crawlers away from every path.
pub(crate) fn serve_robots() -> Reply {
    text(b"User-agent: *\nDisallow: /\n")
}

/// Says that Global Privacy Control is honoured, and since when, in the form of its specification
/// (W3C, section 4.2).
pub(crate) fn serve_gpc() -> Reply {
    let said = b"{\"gpc\":true,\"lastUpdate\":\"2026-11-27\"}\n";
    keep_a_day(with_body(
        StatusCode::OK,
        "application/json",
        Bytes::from_static(said),
    ))
}

/// Serves the icon, which is blue enough for light and for dark.
pub(crate) fn serve_icon() -> Reply {
    let icon = include_bytes!("../../../assets/favicon.ico");
    keep_a_day(with_body(
        StatusCode::OK,
        "image/x-icon",
        Bytes::from_static(icon),
    ))
}

/// Lets caches keep a reply for a day.
fn keep_a_day(mut reply: Reply) -> Reply {
    let a_day = HeaderValue::from_static("public, max-age=86400");
    reply.headers_mut().insert(header::CACHE_CONTROL, a_day);
    reply
}

fn text(text: &'static [u8]) -> Reply {
    with_body(StatusCode::OK, "text/plain", Bytes::from_static(text))
}
