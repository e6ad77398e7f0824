//! Plain requests: a GET over HTTP/1.1, without a body, of an endpoint that records one hit of its
//! query string. Most requests are plain, so they are read and answered in one piece, without a map
//! of headers on either side.
//!
//! This is only another way to read a request and to write a reply. Everything between is
//! [`respond`](crate::edge::exchange::respond), as for hyper's requests. Nothing is refused here
//! for its form: a request that is not plain goes to hyper as it arrived. What is read here hyper
//! would read in the same way, because `httparse` is its parser too. `http.plain` turns this way
//! off.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Either;
use httparse::Status;
use httpdate::HttpDate;
use hyper::header;
use hyper::http::response::Parts;
use hyper::{Method, Version};

use crate::clock::UnixMicros;
use crate::config::Config;
use crate::edge::endpoint::pixel;
use crate::edge::exchange::reply::{self, GIF, Reply};
use crate::edge::exchange::respond::{Content, Outgoing, respond};
use crate::edge::exchange::{Exchange, Line};
use crate::edge::transport::stream::has_bare_line_feed;
use crate::edge::{Edge, Peer, Worker, router};
use crate::endpoint::{Endpoint, Shape};
use crate::protocol::Arrival;
use crate::request::{CookieNames, Headers};

/// The method of plain requests.
static METHOD: Method = Method::GET;
/// The most headers of a plain request; hyper judges requests with more.
const HEADERS_MAX: usize = 64;
/// The longest header name that is looked at; no header that is looked for has a longer one.
const NAME_BYTES_MAX: usize = 32;
/// The length of a date (RFC 9110, section 5.6.7).
const DATE_BYTES: usize = 29;
/// Room for the reply to a hit, with its cookie.
const REPLY_BYTES: usize = 640;

/// One plain request.
pub struct Plain<'a> {
    endpoint: Endpoint,
    line: Line<'a>,
    headers: Headers<'a>,
    /// The client wants no further request on this connection.
    is_last: bool,
}

impl<'a> Plain<'a> {
    /// Reads the request that `bytes` begin with. Returns it with its length, or `None` if it is
    /// not plain.
    #[must_use]
    pub fn read(config: &Config, bytes: &'a [u8]) -> Option<(Plain<'a>, usize)> {
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
        if request.method != Some(METHOD.as_str())
            || request.version != Some(1)
            || !is_plain(target)
            || has_bare_line_feed(0, bytes.get(..length)?)
        {
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let endpoint = router::find_endpoint(&config.path, false, path);
        if !endpoint.spec().is_plain {
            return None;
        }
        let (headers, is_last) = read_headers(request.headers)?;
        let line = Line {
            method: &METHOD,
            version: Version::HTTP_11,
            scheme: None,
            authority: None,
            target,
            path,
            query,
            header_bytes: length,
        };
        let plain = Plain {
            endpoint,
            line,
            headers,
            is_last,
        };
        Some((plain, length))
    }

    /// Returns what a protocol reads of the request.
    #[must_use]
    pub fn arrival<'h>(
        &'h self,
        at: UnixMicros,
        choice_cookie: impl Into<CookieNames<'h>>,
    ) -> Arrival<'h, 'a> {
        Arrival {
            endpoint: self.endpoint,
            at,
            headers: &self.headers,
            path: self.line.path,
            query: self.line.query,
            choice_cookie: choice_cookie.into(),
            meta_names: &[],
        }
    }

    /// Returns path and query, as sent.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.line.target
    }

    /// Returns whether the client wants no further request on this connection.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Answers the request into `out`. Returns whether the connection may go on.
    pub(crate) async fn answer(
        &self,
        worker: &Worker,
        edge: &Edge,
        peer: Peer,
        out: &mut Vec<u8>,
    ) -> bool {
        let exchange = Exchange::new(
            (worker, edge),
            peer,
            self.endpoint,
            self.line,
            &self.headers,
        );
        let outgoing = respond(&exchange, self.is_last, async || {
            pixel::handle(&exchange).await
        })
        .await;
        worker.replies.put_outgoing(exchange.now, outgoing, out)
    }
}

/// Reads the headers, and whether the client wants no further request. Returns `None` if the
/// request has a body, or wants another protocol.
fn read_headers<'a>(lines: &[httparse::Header<'a>]) -> Option<(Headers<'a>, bool)> {
    let mut headers = Headers::default();
    let mut is_last = false;
    for header in lines {
        let mut name = [0; NAME_BYTES_MAX];
        let Some(name) = name.get_mut(..header.name.len()) else {
            continue;
        };
        name.copy_from_slice(header.name.as_bytes());
        name.make_ascii_lowercase();
        match &*name {
            b"connection" if header.value.eq_ignore_ascii_case(b"keep-alive") => {}
            b"connection" if header.value.eq_ignore_ascii_case(b"close") => is_last = true,
            b"connection" | b"content-length" | b"transfer-encoding" | b"expect" | b"upgrade" => {
                return None;
            }
            name => headers.read_one(name, header.value),
        }
    }
    Some((headers, is_last))
}

/// Returns whether every program reads the target in the same way; hyper judges the others that
/// `httparse` accepts. It has no branch, so that the compiler looks at many bytes at once.
fn is_plain(target: &str) -> bool {
    let is_doubtful = |byte: u8| {
        !byte.is_ascii() | (byte == b'"') | (byte == b'#') | (byte == b'<') | (byte == b'>')
    };
    !target
        .bytes()
        .fold(false, |found, byte| found | is_doubtful(byte))
}

/// Writes one thread's replies in HTTP/1.1.
pub(crate) struct Replies {
    /// The beginning of the reply to a hit.
    hit: Vec<u8>,
    date: Cell<[u8; DATE_BYTES]>,
    /// The second that the date belongs to.
    second: Cell<i64>,
    /// The room of the last reply, for the next one.
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
    /// Returns room to write a reply to.
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

    /// Writes a reply. Returns whether the connection may go on after it.
    fn put_outgoing(&self, now: UnixMicros, outgoing: Outgoing<'_>, out: &mut Vec<u8>) -> bool {
        match outgoing.into_content() {
            Content::Hit(Shape::Gif, cookies) => {
                self.put_hit(now, &cookies, out);
                true
            }
            content => {
                let reply = content.into_reply();
                let ends = reply.headers().contains_key(header::CONNECTION);
                self.put_reply(now, reply, out);
                !ends
            }
        }
    }

    /// Writes the reply to a recorded hit.
    fn put_hit(&self, now: UnixMicros, cookies: &[String], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hit);
        for cookie in cookies {
            put_header(header::SET_COOKIE.as_str(), cookie.as_bytes(), out);
        }
        self.put_end(now, GIF, out);
    }

    /// Writes any reply whose body is there.
    pub(crate) fn put_reply(&self, now: UnixMicros, reply: Reply, out: &mut Vec<u8>) {
        let (parts, body) = reply.into_parts();
        let body = match body {
            Either::Left(body) => body.into_inner().unwrap_or_default(),
            Either::Right(_) => Bytes::new(),
        };
        put_head(&parts, body.len(), out);
        self.put_end(now, &body, out);
    }

    /// Writes the date, the end of the header, and the body.
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

/// Writes the status line and every header except the date.
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
