//! Texts that are the same for everybody: what load balancers and crawlers ask for.

use bytes::Bytes;
use hyper::StatusCode;

use crate::edge::exchange::reply::{Reply, with_body};

/// Says that the collector answers. Whether hits are loaded is for the admin listener to say.
pub(crate) fn serve_health() -> Reply {
    text(b"ok\n")
}

/// Keeps crawlers away from every path.
pub(crate) fn serve_robots() -> Reply {
    text(b"User-agent: *\nDisallow: /\n")
}

fn text(text: &'static [u8]) -> Reply {
    with_body(StatusCode::OK, "text/plain", Bytes::from_static(text))
}
