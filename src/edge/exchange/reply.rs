//! Replies: the GIF, the empty one, JSON, and the headers that all of them have.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use tokio::sync::mpsc;

use crate::edge::Refusal;
use crate::edge::endpoint::notice;
use crate::edge::text::Language;
use crate::endpoint::Shape;
use crate::inquiry::Piece;

/// A reply.
pub(crate) type Reply = Response<ReplyBody>;
/// The body of a reply: some bytes, or a body that is made while it is sent.
pub(crate) type ReplyBody = Either<Full<Bytes>, Pieces>;

/// A transparent GIF of one pixel, 43 bytes: header, screen of two colours, transparency, image.
pub(crate) const GIF: &[u8; 43] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// The client hints that browsers send only if they are asked for them.
const ACCEPT_CH: HeaderValue =
    HeaderValue::from_static("Sec-CH-UA-Model, Sec-CH-UA-Platform-Version, Sec-CH-UA-Form-Factors");
/// Room in a reply's map of headers: hyper puts the headers of the connection's next request into
/// it, and browsers send about that many.
const REQUEST_HEADERS: usize = 24;
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Names the reason in each reply that refuses something.
pub(crate) const REFUSAL: HeaderName = HeaderName::from_static("avtryck-refusal");
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const CH: HeaderName = HeaderName::from_static("accept-ch");

/// Adds cookies to a reply.
pub(crate) trait WithCookie {
    /// Sets each of the cookies.
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

/// Makes the reply to a recorded hit.
pub(crate) fn hit(shape: Shape) -> Reply {
    let status = hit_status(shape);
    let mut reply = match shape {
        Shape::Gif => gif(status),
        Shape::Empty | Shape::Page => empty(status),
    };
    ask_for_hints(&mut reply);
    reply
}

/// Asks a browser for the client hints that it sends only if it is asked.
pub(crate) fn ask_for_hints(reply: &mut Reply) {
    reply.headers_mut().insert(CH, ACCEPT_CH);
}

/// Returns the status of the reply to a recorded hit.
pub(crate) fn hit_status(shape: Shape) -> StatusCode {
    match shape {
        Shape::Gif => StatusCode::OK,
        Shape::Empty | Shape::Page => StatusCode::NO_CONTENT,
    }
}

/// Makes a GIF.
pub(crate) fn gif(status: StatusCode) -> Reply {
    let mut reply = with_body(status, "image/gif", Bytes::from_static(GIF));
    // A page with Cross-Origin-Embedder-Policy shows only images that allow it.
    reply
        .headers_mut()
        .insert(CORP, HeaderValue::from_static("cross-origin"));
    reply
}

/// Makes a reply without a body, which caches must not keep.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Either::Left(Full::default()));
    *reply.status_mut() = status;
    *reply.headers_mut() = HeaderMap::with_capacity(REQUEST_HEADERS);
    reply.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    reply
}

/// Makes a reply with a body, which caches must not keep.
pub(crate) fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = empty(status);
    *reply.body_mut() = Either::Left(Full::new(body));
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// Makes a redirect to `location`, which must be ASCII.
pub(crate) fn redirect(location: &str) -> Option<Reply> {
    let location = HeaderValue::from_str(location).ok()?;
    let mut reply = empty(StatusCode::FOUND);
    let headers = reply.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(CH, ACCEPT_CH);
    Some(reply)
}

/// Makes a redirect to where the same page is from now on.
pub(crate) fn redirect_permanently(location: &str) -> Option<Reply> {
    let mut reply = redirect(location)?;
    *reply.status_mut() = StatusCode::PERMANENT_REDIRECT;
    Some(reply)
}

/// Makes a reply whose body continues after its first piece, and which caches must not keep.
pub(crate) fn in_pieces(
    content_type: &'static str,
    first: Bytes,
    rest: mpsc::Receiver<Piece>,
) -> Reply {
    let mut reply = with_body(StatusCode::OK, content_type, Bytes::new());
    *reply.body_mut() = Either::Right(Pieces {
        first: Some(first),
        rest,
    });
    reply
}

/// A body in pieces. If it stops before its end, the connection is cut, so that no client takes it
/// for whole.
pub(crate) struct Pieces {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Piece>,
}

/// A body stopped before its end.
#[derive(Debug, thiserror::Error)]
#[error("the body stopped before its end")]
pub(crate) struct CutOff;

impl Body for Pieces {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        Poll::Ready(match ready!(self.rest.poll_recv(cx)) {
            Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End) => None,
            None => Some(Err(CutOff)),
        })
    }
}

/// Makes the reply to a refused request; a page is in the reader's language. A pixel still gets a
/// GIF, so that no page shows a broken image.
pub(crate) fn make_refusal(refusal: Refusal, shape: Shape, language: Language) -> Reply {
    let status = refusal.status();
    let mut reply = match shape {
        Shape::Gif => gif(status),
        Shape::Page => notice::refuse_link(status, refusal, language),
        Shape::Empty => with_body(
            status,
            "text/plain",
            Bytes::from(format!("{}\n", refusal.0.name())),
        ),
    };
    tell(&mut reply, refusal);
    reply
}

/// Says in a reply's headers why the request, or the first of its events, was refused.
pub(crate) fn tell(reply: &mut Reply, refusal: Refusal) {
    name_reason(reply, refusal);
    if matches!(
        reply.status(),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    ) {
        let headers = reply.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if refusal.closes() {
        end(reply);
    }
}

/// Names the reason of a refusal in the reply's headers, and nothing else.
pub(crate) fn name_reason(reply: &mut Reply, refusal: Refusal) {
    let reason = HeaderValue::from_static(refusal.0.name());
    reply.headers_mut().insert(REFUSAL, reason);
}

/// Says in a reply's headers that it is the last one of its connection.
pub(crate) fn end(reply: &mut Reply) {
    let close = HeaderValue::from_static("close");
    reply.headers_mut().insert(header::CONNECTION, close);
}
