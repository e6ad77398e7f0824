//! Requests that hyper refuses before anything here has seen them: their bytes are not HTTP, or
//! their header is too large.
//!
//! hyper's own reply has a status and nothing else. The reply in its place says why, in the form of
//! the endpoint that was meant, as far as the bytes tell; a click with a valid target leads on.

use http_body_util::{Either, Full};
use hyper::{Method, Version};
use memchr::{memchr, memmem};

use crate::edge::exchange::reply;
use crate::edge::exchange::respond::refuse_unread;
use crate::edge::exchange::{Exchange, Line};
use crate::edge::transport::target;
use crate::edge::{Peer, Refusal, Worker, router};
use crate::refusal::Reason;
use crate::request::Headers;

/// Returns the reason of a reply that hyper made by itself; `None` if it is one of ours.
pub(crate) fn reason_of(reply: &[u8]) -> Option<Reason> {
    let status = reply.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let reason = match status {
        b"400" => Reason::Malformed,
        b"414" => Reason::UriTooLong,
        b"431" => Reason::HeaderTooLarge,
        _ => return None,
    };
    // Every refusal of ours has this header.
    let ours = memmem::find(reply, reply::REFUSAL.as_str().as_bytes());
    ours.is_none().then_some(reason)
}

/// Makes the reply that refuses the request with that header, of which there may be only a part.
pub(crate) fn answer(worker: &Worker, peer: Peer, head: &[u8], reason: Reason) -> Vec<u8> {
    let edge = worker.edge.get();
    let (line, lines) = split_head(head);
    let (method, target) = split_line(line);
    // No method is empty, and nothing else than a GET or a HEAD leads on.
    let method = Method::from_bytes(method).unwrap_or(Method::OPTIONS);
    let target = target::mend_target(target);
    let (authority, path, query) = split_target(&target);
    let line = Line {
        method: &method,
        version: Version::HTTP_11,
        scheme: None,
        authority,
        target: &target,
        path,
        query,
        header_bytes: head.len(),
    };
    let headers = read_headers(lines);
    let endpoint = router::find_endpoint(&edge.config.path, edge.demo_psql.is_some(), path);
    let exchange = Exchange::new((worker, &**edge), peer, endpoint, line, &headers);
    let mut reply = refuse_unread(&exchange, Refusal(reason)).into_reply();
    if exchange.is_head() {
        *reply.body_mut() = Either::Left(Full::default());
    }
    let mut out = Vec::new();
    worker.replies.put_reply(exchange.now, reply, &mut out);
    out
}

/// Splits a header after its first line. A line that was cut ends before its query, so that no
/// click leads to a part of its target.
fn split_head(head: &[u8]) -> (&[u8], &[u8]) {
    let head = head.trim_ascii_start();
    match memchr(b'\n', head).and_then(|at| head.split_at_checked(at + 1)) {
        Some((line, rest)) => (line.trim_ascii_end(), rest),
        None => (head.split(|byte| *byte == b'?').next().unwrap_or(head), b""),
    }
}

/// Splits a request's first line into the method and the target, however they are separated.
fn split_line(line: &[u8]) -> (&[u8], &[u8]) {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut parts = line.splitn(2, is_blank);
    let method = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    let mut ends = rest.rsplitn(2, is_blank);
    let target = match (ends.next(), ends.next()) {
        (Some(version), Some(target)) if version.starts_with(b"HTTP/") => target,
        _ => rest,
    };
    (method, target.trim_ascii())
}

/// Splits a target into the host that it names, its path and its query.
fn split_target(target: &str) -> (Option<&str>, &str, &str) {
    let is_web =
        |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let (authority, rest) = match target.split_once("://") {
        Some((scheme, rest)) if is_web(scheme) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at(end);
            (Some(authority), rest)
        }
        _ => (None, target),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    (authority, path, query)
}

/// Reads what can be read of the lines of a header.
fn read_headers(lines: &[u8]) -> Headers<'_> {
    let mut headers = Headers::default();
    let lines = lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = memchr(b':', line).and_then(|at| line.split_at_checked(at));
        if let Some((name, value)) = colon {
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            headers.read_one(&name.to_ascii_lowercase(), value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_replies_that_name_no_reason_are_hypers_own() {
        let own = "\r\ncontent-length: 0\r\ndate: Thu, 26 Nov 2026 00:00:00 GMT\r\n\r\n";
        for (status, reason) in [
            ("1.1 400 Bad Request", Some(Reason::Malformed)),
            ("1.0 400 Bad Request", Some(Reason::Malformed)),
            ("1.1 414 URI Too Long", Some(Reason::UriTooLong)),
            (
                "1.1 431 Request Header Fields Too Large",
                Some(Reason::HeaderTooLarge),
            ),
            ("1.1 200 OK", None),
            ("1.1 100 Continue", None),
            ("1.1 404 Not Found", None),
        ] {
            let reply = format!("HTTP/{status}{own}");
            assert_eq!(reason_of(reply.as_bytes()), reason, "{status}");
        }
        let ours = format!("HTTP/1.1 400 Bad Request\r\navtryck-refusal: host{own}");
        assert_eq!(reason_of(ours.as_bytes()), None);
        assert_eq!(reason_of(b""), None);
    }

    #[test]
    fn a_line_is_split_as_the_sender_meant_it() {
        for (line, method, target) in [
            (
                &b"GET /c?to=a b HTTP/1.1"[..],
                &b"GET"[..],
                &b"/c?to=a b"[..],
            ),
            (b"GET  /c\tHTTP/1.1", b"GET", b"/c"),
            (b"GET\t/c", b"GET", b"/c"),
            (b"GET /c HTTP/9", b"GET", b"/c"),
            (b"GET /c x", b"GET", b"/c x"),
            (b"nonsense", b"nonsense", b""),
            (b"", b"", b""),
        ] {
            let shown = String::from_utf8_lossy(line);
            assert_eq!(split_line(line), (method, target), "{shown}");
        }
        for (target, parts) in [
            ("/c?a?b", (None, "/c", "a?b")),
            ("HTTP://h:1/c?a", (Some("h:1"), "/c", "a")),
            ("https://h?a", (Some("h"), "", "a")),
            ("ftp://h/c", (None, "ftp://h/c", "")),
            ("", (None, "", "")),
        ] {
            assert_eq!(split_target(target), parts, "{target}");
        }
    }

    #[test]
    fn a_line_that_was_cut_has_no_query() {
        let (line, rest) = split_head(b"\r\nGET /c?to=https%3A%2F%2Fshop.exa");
        assert_eq!((line, rest), (&b"GET /c"[..], &b""[..]));
        let (line, rest) = split_head(b"GET /c?to=x HTTP/1.1\r\nHost: a\r\nCook");
        assert_eq!(line, b"GET /c?to=x HTTP/1.1");
        let headers = read_headers(rest);
        assert_eq!((headers.host, headers.hosts), (Some("a"), 1));
    }
}
