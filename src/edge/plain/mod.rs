//! Plain requests: a GET of the pixel over HTTP/1.1, without a body. They are most of what comes, so they are read and
//! answered in one piece, without a map of headers on either side.
//!
//! Nothing is refused here for its form: whatever is not plain goes to hyper as it came. What is read here hyper would read
//! in the same way, since `httparse` is its parser too.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Either;
use httparse::Status;
use httpdate::HttpDate;
use hyper::StatusCode;
use hyper::header;
use hyper::http::response::Parts;

use crate::clock::{self, UnixMicros};
use crate::config::Config;
use crate::edge::endpoint::pixel;
use crate::edge::exchange::admit::Request;
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::{GIF, Reply, WithCookie as _};
use crate::edge::transport::stream::has_bare_line_feed;
use crate::edge::{Edge, Peer, Worker, router};
use crate::endpoint::{Endpoint, Shape};
use crate::hit::Kind;
use crate::hit::limits::URI_BYTES_MAX;
use crate::request::Headers;

/// More headers are hyper's to judge.
const HEADERS_MAX: usize = 64;
/// A longer name is none that is looked for.
const NAME_BYTES_MAX: usize = 32;
/// The length of a date (RFC 9110, section 5.6.7).
const DATE_BYTES: usize = 29;
/// Room for the reply to a hit, with its cookie.
const REPLY_BYTES: usize = 640;

/// One plain request.
pub(crate) struct Plain<'a> {
    endpoint: Endpoint,
    kind: Kind,
    path: &'a str,
    query: &'a str,
    headers: Headers<'a>,
    /// The client wants no further one on this connection.
    is_last: bool,
}

impl<'a> Plain<'a> {
    /// The request that `bytes` begin with, and its length. `None` where it is not plain.
    pub(crate) fn read(config: &Config, bytes: &'a [u8]) -> Option<(Plain<'a>, usize)> {
        if !config.http.plain {
            return None;
        }
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let Ok(Status::Complete(length)) = request.parse_with_uninit_headers(bytes, &mut room)
        else {
            return None;
        };
        let target = request.path?;
        if request.method != Some("GET")
            || request.version != Some(1)
            || target.len() > URI_BYTES_MAX
            || !is_plain(target)
            || has_bare_line_feed(0, bytes.get(..length)?)
        {
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (endpoint, kind) = match router::find_endpoint(&config.path, false, path) {
            endpoint @ Endpoint::Pixel => (endpoint, Kind::PageView),
            endpoint @ Endpoint::Impression => (endpoint, Kind::Impression),
            _ => return None,
        };
        let mut headers = Headers::default();
        let mut is_last = false;
        for header in &*request.headers {
            let mut name = [0; NAME_BYTES_MAX];
            let Some(name) = name.get_mut(..header.name.len()) else {
                continue;
            };
            name.copy_from_slice(header.name.as_bytes());
            name.make_ascii_lowercase();
            match &*name {
                b"connection" if header.value.eq_ignore_ascii_case(b"keep-alive") => {}
                b"connection" if header.value.eq_ignore_ascii_case(b"close") => is_last = true,
                // A body, or another protocol.
                b"connection" | b"content-length" | b"transfer-encoding" | b"expect"
                | b"upgrade" => {
                    return None;
                }
                name => headers.take(name, header.value),
            }
        }
        router::has_sound_host(&headers).then_some((
            Plain {
                endpoint,
                kind,
                path,
                query,
                headers,
                is_last,
            },
            length,
        ))
    }

    /// Answers it into `out`. Whether the connection may go on.
    pub(crate) async fn answer(
        &self,
        worker: &Worker,
        edge: &Edge,
        peer: Peer,
        out: &mut Vec<u8>,
    ) -> bool {
        let begun = clock::monotonic();
        let request = Request::new(worker, edge, &self.headers, peer, self.endpoint);
        let taken = pixel::take(worker, &request, self.query, self.kind).await;
        let (status, goes_on) = match taken {
            // But for the cookie it is the same for all of these.
            Ok(cookie) if self.headers.origin.is_none() && !peer.tls && !self.is_last => {
                worker.replies.hit(request.now, cookie.as_deref(), out);
                (StatusCode::OK, true)
            }
            taken => {
                let answer = taken.map(|cookie| reply::hit(Shape::Gif).with_cookie(cookie));
                let target = (self.endpoint, self.path, self.query);
                let mut reply = router::complete(&request, &edge.config.sites, target, answer);
                if self.is_last {
                    reply::end(&mut reply);
                }
                let ends = reply.headers().contains_key(header::CONNECTION);
                (worker.replies.put(request.now, reply, out), !ends)
            }
        };
        let took = begun.elapsed();
        edge.metrics.request(self.endpoint, status.as_str(), took);
        goes_on
    }
}

/// Whether every program takes the target for the same; hyper judges the others that httparse takes. Without a branch, so
/// that the compiler looks at many bytes at once.
fn is_plain(target: &str) -> bool {
    let is_doubtful = |byte: u8| {
        !byte.is_ascii() | (byte == b'"') | (byte == b'#') | (byte == b'<') | (byte == b'>')
    };
    !target
        .bytes()
        .fold(false, |found, byte| found | is_doubtful(byte))
}

/// One thread's replies in HTTP/1.1.
pub(crate) struct Replies {
    /// How the reply to a hit begins.
    hit: Vec<u8>,
    date: Cell<[u8; DATE_BYTES]>,
    /// The second that the date is of.
    second: Cell<i64>,
    /// Room that a reply took, for the next one.
    spare: Cell<Vec<u8>>,
}

impl Default for Replies {
    fn default() -> Replies {
        let mut hit = Vec::new();
        let (parts, _) = reply::hit(Shape::Gif).into_parts();
        put_head(&parts, GIF.len(), &mut hit);
        Replies {
            hit,
            date: Cell::new([0; DATE_BYTES]),
            second: Cell::new(i64::MIN),
            spare: Cell::default(),
        }
    }
}

impl Replies {
    /// Room to write a reply to.
    pub(crate) fn room(&self) -> Vec<u8> {
        let mut room = self.spare.take();
        room.clear();
        room.reserve(REPLY_BYTES);
        room
    }

    /// Gives it back.
    pub(crate) fn keep(&self, room: Vec<u8>) {
        self.spare.set(room);
    }

    /// The reply to a recorded hit.
    fn hit(&self, now: UnixMicros, cookie: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hit);
        if let Some(cookie) = cookie {
            put_header(header::SET_COOKIE.as_str(), cookie.as_bytes(), out);
        }
        self.put_end(now, GIF, out);
    }

    /// Any reply whose body is there; what its status is.
    fn put(&self, now: UnixMicros, reply: Reply, out: &mut Vec<u8>) -> StatusCode {
        let (parts, body) = reply.into_parts();
        let body = match body {
            Either::Left(body) => body.into_inner().unwrap_or_default(),
            Either::Right(_) => Bytes::new(),
        };
        put_head(&parts, body.len(), out);
        self.put_end(now, &body, out);
        parts.status
    }

    /// The date, the end of the header, and the body.
    fn put_end(&self, now: UnixMicros, body: &[u8], out: &mut Vec<u8>) {
        if self.second.replace(now.seconds()) != now.seconds() {
            let since_epoch = Duration::from_secs(now.seconds().try_into().unwrap_or(0));
            let date = HttpDate::from(SystemTime::UNIX_EPOCH + since_epoch).to_string();
            if let Ok(date) = date.as_bytes().try_into() {
                self.date.set(date);
            }
        }
        put_header(header::DATE.as_str(), &self.date.get(), out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
    }
}

/// The status line, and every header but the date.
fn put_head(parts: &Parts, body_bytes: usize, out: &mut Vec<u8>) {
    let reason = parts.status.canonical_reason().unwrap_or_default();
    for part in ["HTTP/1.1 ", parts.status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &parts.headers {
        put_header(name.as_str(), value.as_bytes(), out);
    }
    let length = body_bytes.to_string();
    put_header(header::CONTENT_LENGTH.as_str(), length.as_bytes(), out);
}

fn put_header(name: &str, value: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
