//! Replies: the GIF, the empty one, JSON, and the headers that all of them carry.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::Refusal;

/// A reply.
pub(crate) type Reply = Response<Full<Bytes>>;

/// A transparent GIF of one pixel, 43 bytes: header, screen of two colours, transparency, image.
pub(crate) const GIF: &[u8; 43] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// What the collector asks of browsers beside what they send unasked.
const ACCEPT_CH: HeaderValue =
    HeaderValue::from_static("Sec-CH-UA-Model, Sec-CH-UA-Platform-Version, Sec-CH-UA-Form-Factors");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const REFUSAL: HeaderName = HeaderName::from_static("avtryck-refusal");
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const CH: HeaderName = HeaderName::from_static("accept-ch");

/// Adds cookies to a reply.
pub(crate) trait WithCookie {
    /// Sets each cookie that there is.
    fn with_cookie(self, cookies: impl IntoIterator<Item = String>) -> Self;
}

impl WithCookie for Reply {
    fn with_cookie(mut self, cookies: impl IntoIterator<Item = String>) -> Reply {
        for cookie in cookies {
            if let Ok(cookie) = HeaderValue::try_from(cookie) {
                self.headers_mut().append(header::SET_COOKIE, cookie);
            }
        }
        self
    }
}

/// What the body of a reply to a hit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// 200 with the GIF.
    Gif,
    /// 204.
    Empty,
}

/// The reply to a recorded hit.
pub(crate) fn hit(shape: Shape) -> Reply {
    let mut reply = match shape {
        Shape::Gif => gif(StatusCode::OK),
        Shape::Empty => empty(StatusCode::NO_CONTENT),
    };
    reply.headers_mut().insert(CH, ACCEPT_CH);
    reply
}

fn gif(status: StatusCode) -> Reply {
    let mut reply = with_body(status, "image/gif", Bytes::from_static(GIF));
    // A page with Cross-Origin-Embedder-Policy shows only images that allow it.
    reply
        .headers_mut()
        .insert(CORP, HeaderValue::from_static("cross-origin"));
    reply
}

/// A reply without a body that is not to be kept.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    reply
}

/// A reply with a body that is not to be kept.
pub(crate) fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = empty(status);
    *reply.body_mut() = Full::new(body);
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// The reply to a refused request: what a pixel gets is a GIF all the same, so that no page shows a
/// broken image.
pub(crate) fn refused(refusal: Refusal, shape: Shape) -> Reply {
    let status = refusal.status();
    let mut reply = match shape {
        Shape::Gif => gif(status),
        Shape::Empty => with_body(
            status,
            "text/plain",
            Bytes::from(format!("{}\n", refusal.0.name())),
        ),
    };
    let headers = reply.headers_mut();
    headers.insert(REFUSAL, HeaderValue::from_static(refusal.0.name()));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if refusal.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}
