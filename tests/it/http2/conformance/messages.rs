//! The cases of requests, and of the blocks that hold their fields.

use super::Right;
use super::table::{BLOCK, ENDS, PROTOCOL_ERROR, Row, TARGET, post, post_with};
use crate::http2::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, fields, frame, request};
use Right::{Fine, Malformed, Stream};

/// A request that is malformed (section 8.1.1).
const NONE: Right = Stream(&[PROTOCOL_ERROR]);

/// A request with these fields alone.
fn whole(list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, ENDS, 1, &fields(list))
}

/// A sound request with more fields.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    let block = [request(TARGET), fields(more)].concat();
    frame(HEADERS, ENDS, 1, &block)
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn messages() -> Vec<Row> {
    let (method, scheme) = ((":method", "GET"), (":scheme", "https"));
    let (authority, path) = ((":authority", "127.0.0.1"), (":path", TARGET));
    let body = frame(DATA, END_STREAM, 1, br#"{"site":"open"}"#);
    vec![
        (
            "8.1 HEADERS again, and the stream goes on",
            vec![
                post(1),
                frame(HEADERS, END_HEADERS, 1, &fields(&[("x", "y")])),
            ],
            NONE,
        ),
        (
            "8.1.1 more content than content-length says",
            vec![post_with(1, &[("content-length", "1")]), body.clone()],
            NONE,
        ),
        (
            "8.1.1 less content than content-length says",
            vec![post_with(1, &[("content-length", "99")]), body],
            NONE,
        ),
        (
            "8.2 a name in upper case",
            vec![with(&[("X-Test", "a")])],
            NONE,
        ),
        (
            "8.2 a name with a space",
            vec![with(&[("x test", "a")])],
            NONE,
        ),
        (
            "8.2 a value with a line feed",
            vec![with(&[("x-test", "a\r\nb: c")])],
            NONE,
        ),
        (
            "8.2.2 connection",
            vec![with(&[("connection", "keep-alive")])],
            NONE,
        ),
        (
            "8.2.2 transfer-encoding",
            vec![with(&[("transfer-encoding", "chunked")])],
            NONE,
        ),
        (
            "8.2.2 te that is not trailers",
            vec![with(&[("te", "gzip")])],
            NONE,
        ),
        (
            "8.2.2 te: trailers",
            vec![with(&[("te", "trailers")])],
            Fine(1),
        ),
        (
            "8.3 an unknown pseudo-header",
            vec![with(&[(":x", "y")])],
            NONE,
        ),
        (
            "8.3 a pseudo-header of replies",
            vec![with(&[(":status", "200")])],
            NONE,
        ),
        (
            "8.3 a pseudo-header behind others",
            vec![whole(&[method, scheme, authority, ("x", "y"), path])],
            NONE,
        ),
        (
            "8.3 a pseudo-header in trailers, which the library lets pass and nobody reads",
            vec![post(1), frame(HEADERS, ENDS, 1, &fields(&[(":path", "/")]))],
            Malformed,
        ),
        (
            "8.3.1 no :method",
            vec![whole(&[scheme, authority, path])],
            NONE,
        ),
        (
            "8.3.1 no :scheme",
            vec![whole(&[method, authority, path])],
            NONE,
        ),
        (
            "8.3.1 no :path",
            vec![whole(&[method, scheme, authority])],
            NONE,
        ),
        (
            "8.3.1 an empty :path",
            vec![whole(&[method, scheme, authority, (":path", "")])],
            NONE,
        ),
        (
            "8.3.1 :method twice",
            vec![whole(&[method, method, scheme, authority, path])],
            NONE,
        ),
        (
            "8.3.1 :path twice",
            vec![whole(&[method, scheme, authority, path, path])],
            NONE,
        ),
        (
            "8.3.1 no :authority",
            vec![whole(&[method, scheme, path])],
            Malformed,
        ),
        (
            "8.3.1 :authority with userinfo",
            vec![whole(&[
                method,
                scheme,
                (":authority", "me@127.0.0.1"),
                path,
            ])],
            Malformed,
        ),
        (
            "8.3.1 host that is another one than :authority",
            vec![with(&[("host", "other.example")])],
            Malformed,
        ),
        (
            "8.3.1 host that is the same as :authority",
            vec![with(&[("host", "127.0.0.1")])],
            Fine(1),
        ),
        (
            "8.5 CONNECT with :path",
            vec![whole(&[(":method", "CONNECT"), scheme, authority, path])],
            Malformed,
        ),
    ]
}

pub(super) fn compression() -> Vec<Row> {
    let block = |bytes: &[u8]| {
        let block = [&request(TARGET), bytes].concat();
        vec![frame(HEADERS, ENDS, 1, &block)]
    };
    vec![
        (
            "7541, 2.3.3: an index that no table has",
            block(&[0xff, 0x00]),
            BLOCK,
        ),
        (
            "7541, 4.2: a change of size behind a field",
            block(&[0x3f, 0x00]),
            BLOCK,
        ),
        (
            "7541, 5.2: padding of more than seven bits",
            block(&[
                0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff,
            ]),
            BLOCK,
        ),
        (
            "7541, 5.2: padding of zeros",
            block(&[
                0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90,
            ]),
            BLOCK,
        ),
        (
            "7541, 5.2: the end of a string in it",
            block(&[
                0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x87, 0x49, 0x51, 0xff, 0xff, 0xff, 0xfa,
                0x7f,
            ]),
            BLOCK,
        ),
        ("7541, 6.1: an index of 0", block(&[0x80]), BLOCK),
        (
            "7541, 6.3: a size beyond what was agreed",
            {
                let block = [&[0x3f, 0xe2, 0x7f][..], &request(TARGET)].concat();
                vec![frame(HEADERS, ENDS, 1, &block)]
            },
            BLOCK,
        ),
    ]
}
