//! Requests that a proxy and a server may read differently. Each tries to get a hit named `h###`
//! recorded that hides in another request, whose own hit is named `s###`; the number is the
//! payload's.

/// What has to come of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// No record, no reply below 400, and a close.
    Refused,
    /// Exactly one record, of the request that does not hide.
    One,
}

use Expect::{One, Refused};

pub(super) struct Payload {
    pub(super) what: String,
    pub(super) bytes: Vec<u8>,
    pub(super) expect: Expect,
}

const HOST: &str = "Host: 127.0.0.1\r\n";
const SEEN: &str = "GET /p.gif?site=open&e=s### HTTP/1.1\r\n";
const HIDDEN: &str = "GET /p.gif?site=open&e=h### HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
const POST: &str = "POST /e HTTP/1.1\r\nHost: 127.0.0.1\r\n";
/// 26 (1a in hexadecimal) bytes.
const BODY: &str = r#"{"site":"open","e":"s###"}"#;
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// Every payload, with its number in its names.
pub(super) fn all() -> Vec<Payload> {
    let mut all = Vec::new();
    lengths(&mut all);
    lengths_and_codings(&mut all);
    codings(&mut all);
    chunks(&mut all);
    lines(&mut all);
    targets(&mut all);
    hosts(&mut all);
    names_and_values(&mut all);
    versions_and_upgrades(&mut all);
    bodies(&mut all);
    for (number, payload) in all.iter_mut().enumerate() {
        let digits = format!("{number:03}");
        let bytes = &mut payload.bytes;
        while let Some(at) = bytes.windows(3).position(|three| three == b"###") {
            bytes[at..at + 3].copy_from_slice(digits.as_bytes());
        }
    }
    all
}

fn add(all: &mut Vec<Payload>, expect: Expect, what: &str, bytes: impl AsRef<[u8]>) {
    all.push(Payload {
        what: what.to_owned(),
        bytes: bytes.as_ref().to_vec(),
        expect,
    });
}

fn lengths(all: &mut Vec<Payload>) {
    for value in [
        "+26",
        "-26",
        "0x1a",
        "1a",
        "26.0",
        "26;",
        "2 6",
        "26, 26",
        "26,27",
        "2_6",
        "\"26\"",
        "",
        "26\u{b}",
        "٢٦",
        "99999999999999999999",
        "18446744073709551615",
        "9223372036854775807",
    ] {
        let text = format!("{POST}Content-Length: {value}\r\n\r\n{BODY}{HIDDEN}");
        add(all, Refused, &format!("length {value:?}"), text);
    }
    for value in [" 26", "26 ", "\t26\t", "026"] {
        let text = format!("{POST}Content-Length:{value}\r\n\r\n{BODY}");
        add(all, One, &format!("length {value:?}"), text);
    }
    let hidden = HIDDEN.len();
    for (one, other) in [
        ("26", "0"),
        ("0", "26"),
        ("26", "27"),
        ("26", "+26"),
        ("26", ""),
    ] {
        let text =
            format!("{POST}Content-Length: {one}\r\nContent-Length: {other}\r\n\r\n{BODY}{HIDDEN}");
        add(
            all,
            Refused,
            &format!("lengths {one:?} and {other:?}"),
            text,
        );
    }
    let text = format!("{POST}Content-Length: 26\r\ncontent-length: 26\r\n\r\n{BODY}");
    add(all, One, "two equal lengths", text);
    let text = format!(
        "{POST}Content-Length: {}\r\nX: y\r\nCONTENT-LENGTH: 26\r\n\r\n{BODY}{HIDDEN}",
        26 + hidden
    );
    add(all, Refused, "two lengths, one covers what hides", text);
    let text = format!("{POST}Content-Length : 26\r\n\r\n{BODY}{HIDDEN}");
    add(
        all,
        Refused,
        "space in front of the colon of a length",
        text,
    );
    let text = format!("{POST}Content-Length: 200\r\n Content-Length: 26\r\n\r\n{BODY}{HIDDEN}");
    add(all, Refused, "a length in a folded line", text);
}

fn lengths_and_codings(all: &mut Vec<Payload>) {
    let chunk = format!("1a\r\n{BODY}\r\n0\r\n\r\n");
    let empty = format!("0\r\n\r\n{HIDDEN}");
    for length_is_first in [true, false] {
        let both = |length: usize| {
            let length = format!("Content-Length: {length}\r\n");
            let order = if length_is_first {
                [length.as_str(), CHUNKED]
            } else {
                [CHUNKED, length.as_str()]
            };
            order.concat()
        };
        let order = if length_is_first { "CL.TE" } else { "TE.CL" };
        let text = format!("{POST}{}\r\n{empty}", both(empty.len()));
        add(
            all,
            Refused,
            &format!("{order}: no chunk, then what hides"),
            text,
        );
        let text = format!(
            "{POST}{}\r\n{chunk}{HIDDEN}",
            both(chunk.len() + HIDDEN.len())
        );
        add(
            all,
            One,
            &format!("{order}: a chunk, then what hides"),
            text,
        );
        let text = format!("{POST}{}\r\n{chunk}{HIDDEN}", both(4));
        add(
            all,
            One,
            &format!("{order}: a length within the first chunk"),
            text,
        );
        let text = format!("{SEEN}{HOST}{}\r\n{empty}", both(0));
        add(all, Refused, &format!("{order} on a GET"), text);
    }
}

fn codings(all: &mut Vec<Payload>) {
    let chunk = format!("1a\r\n{BODY}\r\n0\r\n\r\n");
    let empty = format!("0\r\n\r\n{HIDDEN}");
    for value in [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked\u{b}",
        "\u{b}chunked",
        "chunk",
        "chunked,",
        ",chunked",
        "identity",
        "",
        "chunked\0",
        "x",
        "chunked\u{a0}",
        "'chunked'",
        "chu\tnked",
        "chunked\r",
    ] {
        let text = format!("{POST}Transfer-Encoding: {value}\r\n\r\n{chunk}{HIDDEN}");
        add(all, Refused, &format!("coding {value:?}"), text);
    }
    for value in [" chunked", "\tchunked ", "CHUNKED", "cHuNkEd"] {
        let text = format!("{POST}Transfer-Encoding:{value}\r\n\r\n{chunk}{HIDDEN}");
        add(all, One, &format!("coding {value:?}"), text);
    }
    for header in [
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\r\n\tTransfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding\0: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: x\r\ntransfer-encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "[Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:: chunked\r\n",
    ] {
        let text = format!("{POST}{header}\r\n{chunk}{HIDDEN}");
        add(all, Refused, &format!("header {header:?}"), text);
    }
    let text = format!("{POST}X: y\nTransfer-Encoding: chunked\r\n\r\n{chunk}{HIDDEN}");
    add(all, One, "coding behind a bare line feed", text);
    let text = format!("{POST}Transfer_Encoding: chunked\r\nContent-Length: 26\r\n\r\n{BODY}");
    add(all, One, "a name that is none of ours", text);
    let text = format!("{SEEN}{HOST}{CHUNKED}\r\n{empty}");
    add(all, Refused, "coding on a GET", text);
}

fn chunks(all: &mut Vec<Payload>) {
    let head = format!("{POST}{CHUNKED}\r\n");
    for size in [
        "0x1a",
        "+1a",
        "-1a",
        " 1a",
        "1a\u{b}",
        "1a\n",
        "1a\r",
        "",
        "1g",
        "1a 1",
        "ffffffffffffffff1a",
        "10000000000000000001a",
        "1a;x=\"a\nb\"",
        "1a;\n",
        "19",
        "1c",
        "1a;\rx",
    ] {
        let text = format!("{head}{size}\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}");
        add(all, Refused, &format!("chunk size {size:?}"), text);
    }
    for size in ["1a ", "1A", "001a", "1a;x=1", "1a;x=\"y\"", "1a\t;x"] {
        let text = format!("{head}{size}\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}");
        add(all, One, &format!("chunk size {size:?}"), text);
    }
    for (what, end) in [
        ("no line's end behind a chunk", "0\r\n\r\n"),
        ("a bare line feed behind a chunk", "\n0\r\n\r\n"),
        ("a last chunk that ends in a bare line feed", "\r\n0\n\r\n"),
        ("what hides as a trailer", "\r\n0\r\n"),
        (
            "a trailer with a space in its name",
            "\r\n0\r\nX y: z\r\n\r\n",
        ),
    ] {
        let text = format!("{head}1a\r\n{BODY}{end}{HIDDEN}");
        add(all, Refused, what, text);
    }
    for trailer in [
        "X: y",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: evil.example",
    ] {
        let text = format!("{head}1a\r\n{BODY}\r\n0\r\n{trailer}\r\n\r\n{HIDDEN}");
        add(all, One, &format!("trailer {trailer:?}"), text);
    }
    let long = "x".repeat(20_000);
    let text = format!("{head}1a;{long}\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}");
    add(all, Refused, "a chunk extension of 20,000 bytes", text);
    let text = format!("{head}1a\r\n{BODY}\r\n0\r\nX: {long}\r\n\r\n{HIDDEN}");
    add(all, Refused, "a trailer of 20,000 bytes", text);
}

fn lines(all: &mut Vec<Payload>) {
    let first = SEEN.trim_end();
    for (what, text) in [
        (
            "bare line feeds",
            format!("{first}\nHost: 127.0.0.1\n\n{HIDDEN}"),
        ),
        (
            "a head that ends in two bare line feeds",
            format!("{SEEN}{HOST}X: y\n\n{HIDDEN}"),
        ),
        (
            "a head that ends in a bare and a whole line's end",
            format!("{SEEN}{HOST}X: y\n\r\n{HIDDEN}"),
        ),
        (
            "a bare line feed behind the request line",
            format!("{first}\n{HOST}\r\n{HIDDEN}"),
        ),
        ("a line feed in front", format!("\n{SEEN}{HOST}\r\n")),
        ("line's ends in front", format!("\r\n\r\n{SEEN}{HOST}\r\n")),
        (
            "a close, and more behind it",
            format!("{SEEN}{HOST}Connection: close\r\n\r\n{HIDDEN}"),
        ),
    ] {
        add(all, One, what, text);
    }
    for (what, text) in [
        (
            "bare carriage returns",
            format!("{first}\rHost: 127.0.0.1\r\r{HIDDEN}"),
        ),
        (
            "a bare carriage return in a value",
            format!("{SEEN}{HOST}X: y\rz\r\n\r\n{HIDDEN}"),
        ),
        (
            "a bare carriage return in front of a line feed",
            format!("{SEEN}{HOST}X: y\r\r\n\r\n{HIDDEN}"),
        ),
        (
            "a folded line",
            format!("{SEEN}{HOST}X: y\r\n z\r\n\r\n{HIDDEN}"),
        ),
        (
            "a folded line behind the request line",
            format!("{SEEN} X: y\r\n{HOST}\r\n{HIDDEN}"),
        ),
        (
            "a line without a colon",
            format!("{SEEN}{HOST}X\r\n\r\n{HIDDEN}"),
        ),
    ] {
        add(all, Refused, what, text);
    }
}

fn targets(all: &mut Vec<Payload>) {
    let path = "/p.gif?site=open&e=s###";
    let end = format!("{HOST}\r\n{HIDDEN}");
    for line in [
        format!("GET ftp://127.0.0.1{path} HTTP/1.1"),
        format!("GET http://a@127.0.0.1{path} HTTP/1.1"),
        "GET 127.0.0.1:80 HTTP/1.1".to_owned(),
        "CONNECT 127.0.0.1:80 HTTP/1.1".to_owned(),
        format!("GET {} HTTP/1.1", &path[1..]),
        format!("GET  {path} HTTP/1.1"),
        format!("GET\t{path} HTTP/1.1"),
        format!("GET {path}  HTTP/1.1"),
        format!("GET {path}\tHTTP/1.1"),
        format!("GET {path}&u=a b HTTP/1.1"),
        format!("GET {path}\0 HTTP/1.1"),
        format!("GET {path}\u{b} HTTP/1.1"),
        format!(" GET {path} HTTP/1.1"),
        format!("get {path} HTTP/1.1"),
        format!("G(T {path} HTTP/1.1"),
        format!("GET\0 {path} HTTP/1.1"),
        format!("PUT {path} HTTP/1.1"),
        format!("TRACE {path} HTTP/1.1"),
    ] {
        add(
            all,
            Refused,
            &format!("{line:?}"),
            format!("{line}\r\n{end}"),
        );
    }
    let line = format!("GET {path}&u={} HTTP/1.1", "x".repeat(9000));
    add(
        all,
        Refused,
        "a target of 9,000 bytes",
        format!("{line}\r\n{end}"),
    );
    for line in [
        format!("GET {path}#e=h### HTTP/1.1"),
        format!("GET {path}&u=<\"> HTTP/1.1"),
        format!("GET http://127.0.0.1{path} HTTP/1.1"),
        format!("GET https://127.0.0.1{path} HTTP/1.1"),
        format!("GET http://evil.example{path} HTTP/1.1"),
    ] {
        add(
            all,
            One,
            &format!("{line:?}"),
            format!("{line}\r\n{HOST}\r\n"),
        );
    }
}

fn hosts(all: &mut Vec<Payload>) {
    for host in [
        "",
        "Host: \r\n",
        "Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n",
        "Host: 127.0.0.1\r\nhost: evil.example\r\n",
        "Host: 127.0.0.1, evil.example\r\n",
        "Host: 127.0.0.1 evil.example\r\n",
        "Host: 127.0.0.1/p.gif\r\n",
        "Host: a@127.0.0.1\r\n",
        "Host: 127.0.0.1?x\r\n",
        "Host: 127.0.0.1#x\r\n",
        "Host: 127.0.0.1\\x\r\n",
        "Host: http://127.0.0.1\r\n",
        "Host: 127.0.0.1:80:80\r\n",
        "Host: 127.0.0.1:8o\r\n",
        "Host: 127.0.0.1:+80\r\n",
        "Host: :80\r\n",
        "Host: [::1\r\n",
        "Host: []\r\n",
        "Host: [::1]x\r\n",
        "Host: [x]\r\n",
        "Host: å.example\r\n",
        "Host: \"127.0.0.1\"\r\n",
        "Host: 127.0.0.1%00\r\n",
        "Host : 127.0.0.1\r\n",
        "Host: 127.0.0.1\r\n :80\r\n",
        "Host: 127.0.0.1\tx\r\n",
        "Host: 127.0.0.1:1234567\r\n",
    ] {
        add(
            all,
            Refused,
            &format!("{host:?}"),
            format!("{SEEN}{host}\r\n{HIDDEN}"),
        );
    }
    for host in [
        "Host: 127.0.0.1:80\r\n",
        "Host:127.0.0.1\r\n",
        "Host: \t127.0.0.1 \r\n",
        "HOST: [::1]:80\r\n",
    ] {
        add(all, One, &format!("{host:?}"), format!("{SEEN}{host}\r\n"));
    }
}

fn names_and_values(all: &mut Vec<Payload>) {
    for header in [
        &b"X Y: z"[..],
        b"X\0: y",
        b"X: \0",
        b"X: y\x01",
        b"X: y\x7f",
        b"X: y\x1b[31m",
        b"X\xff: y",
        b"X(: y",
        b"X@Y: z",
        b": y",
        b"\"X\": y",
        b"X;: y",
        b"{X}: y",
        b"X/Y: z",
        b"=X: y",
    ] {
        let bytes = [
            SEEN.as_bytes(),
            HOST.as_bytes(),
            header,
            b"\r\n\r\n",
            HIDDEN.as_bytes(),
        ];
        add(
            all,
            Refused,
            &String::from_utf8_lossy(header),
            bytes.concat(),
        );
    }
    for header in [
        &b"X: \xff\x80"[..],
        b"X: a\tb",
        b"X:",
        b"!#$%&'*+-.^_`|~1: y",
    ] {
        let bytes = [SEEN.as_bytes(), HOST.as_bytes(), header, b"\r\n\r\n"];
        add(all, One, &String::from_utf8_lossy(header), bytes.concat());
    }
    let many = "X: y\r\n".repeat(200);
    add(
        all,
        Refused,
        "200 headers",
        format!("{SEEN}{HOST}{many}\r\n{HIDDEN}"),
    );
    let long = "x".repeat(40_000);
    add(
        all,
        Refused,
        "a header of 40,000 bytes",
        format!("{SEEN}{HOST}X: {long}\r\n\r\n{HIDDEN}"),
    );
}

fn versions_and_upgrades(all: &mut Vec<Payload>) {
    let path = "/p.gif?site=open&e=s###";
    for line in [
        format!("GET {path}"),
        format!("GET {path} "),
        format!("GET {path} HTTP/0.9"),
        format!("GET {path} HTTP/1.2"),
        format!("GET {path} HTTP/1.10"),
        format!("GET {path} HTTP/2.0"),
        format!("GET {path} HTTP/2"),
        format!("GET {path} http/1.1"),
        format!("GET {path} HTTP/1,1"),
        format!("GET {path} HTTP/1.1 x"),
        format!("GET {path} HTTPS/1.1"),
    ] {
        let text = format!("{line}\r\n{HOST}\r\n{HIDDEN}");
        add(all, Refused, &format!("{line:?}"), text);
    }
    let old = SEEN.replace("1.1", "1.0");
    add(
        all,
        Refused,
        "HTTP/1.0 without a host",
        format!("{old}\r\n{HIDDEN}"),
    );
    add(all, One, "HTTP/1.0", format!("{old}{HOST}\r\n{HIDDEN}"));
    let post = POST.replace("1.1", "1.0");
    let text = format!("{post}{CHUNKED}\r\n1a\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}");
    add(all, Refused, "HTTP/1.0 in chunks", text);
    let text = format!(
        "{post}{CHUNKED}Connection: keep-alive\r\nContent-Length: 26\r\n\r\n{BODY}{HIDDEN}"
    );
    add(all, Refused, "HTTP/1.0 with a length and in chunks", text);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    add(
        all,
        Refused,
        "HTTP/2 by prior knowledge",
        format!("{preface}\0\0\0\x04\0\0\0\0\0{HIDDEN}"),
    );
    for upgrade in ["h2c", "websocket", "TLS/1.0", "h2c, x"] {
        let upgrade = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n"
        );
        let text = format!("{SEEN}{HOST}{upgrade}\r\n{preface}");
        add(all, One, &upgrade, text);
    }
}

fn bodies(all: &mut Vec<Payload>) {
    let length = format!("Content-Length: {}\r\n\r\n", HIDDEN.len());
    for line in [
        "GET /p.gif?site=open&e=s###",
        "HEAD /p.gif?site=open",
        "OPTIONS /e",
        "DELETE /consent?site=open",
        "GET /id?site=open",
        "POST /p.gif?site=open&e=s###",
        "POST /nowhere",
        "POST /e",
        "POST /consent?site=open",
        "GET /e",
        "PUT /e",
    ] {
        let text = format!("{line} HTTP/1.1\r\n{HOST}{length}{HIDDEN}");
        add(
            all,
            Refused,
            &format!("{line} with a body that hides one"),
            text,
        );
    }
    let text = format!("{POST}Content-Type: text/html\r\n{length}{HIDDEN}");
    add(all, Refused, "a body of a type that is not read", text);
    let text = format!("{POST}Expect: 100-continue\r\nContent-Length: 26\r\n\r\n{BODY}");
    add(all, One, "an expectation", text);
    let text = format!("{POST}Expect: 100-continue\r\nContent-Type: text/html\r\n{length}{HIDDEN}");
    add(
        all,
        Refused,
        "an expectation, and a body that is not read",
        text,
    );
    let text = format!("{POST}Expect: x\r\n{CHUNKED}\r\n0\r\n\r\n{HIDDEN}");
    add(all, Refused, "an unknown expectation in chunks", text);
    let text = format!("{SEEN}{HOST}Content-Length: 0\r\n\r\n");
    add(all, One, "a GET that says it has no body", text);
    let text = format!("{POST}Connection: Content-Length\r\nContent-Length: 26\r\n\r\n{BODY}");
    add(all, One, "a length that is named as one hop's alone", text);
    let text = format!("{POST}X-HTTP-Method-Override: GET\r\nContent-Length: 26\r\n\r\n{BODY}");
    add(all, One, "another method by a header", text);
}
