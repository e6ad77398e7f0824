use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::clock;
use crate::edge::exchange::reply::WithCookie as _;

/// What a parser understands of a request.
type Understood = (String, String, String);

fn understood(path: &str, query: &str, headers: &Headers<'_>) -> Understood {
    (path.to_owned(), query.to_owned(), format!("{headers:?}"))
}

fn config() -> Config {
    let site = "[[site]]\nkey = \"a\"\nhosts = [\"a.example\"]\n[cookie]\nkeys = [\"1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\"]";
    Config::parse(site, []).expect("a right configuration")
}

/// Returns what is understood of a plain request, its length, and whether it is the last one.
fn plain(bytes: &[u8]) -> Option<(Understood, usize, bool)> {
    let (plain, length) = Plain::read(&config(), bytes)?;
    let understood = understood(plain.line.path, plain.line.query, &plain.headers);
    Some((understood, length, plain.is_last))
}

/// Returns what hyper understands of the requests among `bytes` that have no body, and its replies
/// to each with those cookies.
fn by_hyper(bytes: &[u8], cookies: &[String]) -> (Vec<Understood>, Vec<u8>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = |request: hyper::Request<Incoming>| {
        if request.body().is_end_stream() && request.method() == "GET" {
            let headers = Headers::read(request.headers());
            let query = request.uri().query().unwrap_or_default();
            let understood = understood(request.uri().path(), query, &headers);
            seen.lock().expect("a lock").push(understood);
        }
        let reply = reply::hit(Shape::Gif).with_cookie(cookies.to_vec());
        async { Ok::<_, Infallible>(reply) }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let replied = runtime.expect("a runtime").block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(bytes).await.expect("room");
        client.shutdown().await.expect("an open stream");
        let connection = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service_fn(service));
        connection.await.ok();
        let mut replied = Vec::new();
        client.read_to_end(&mut replied).await.expect("a reply");
        replied
    });
    let seen = seen.lock().expect("a lock").clone();
    (seen, replied)
}

#[test]
fn only_what_is_plain_is_answered_without_hyper() {
    let read = |line: &str, more: &str| {
        plain(format!("{line}\r\nHost: a.example\r\n{more}\r\n").as_bytes())
    };
    let line = "GET /p.gif?site=a&u=x HTTP/1.1";
    let (understood, length, is_last) =
        read(line, "Connection: Keep-Alive\r\n").expect("a plain request");
    assert!(!is_last);
    assert_eq!(
        (&*understood.0, &*understood.1, length),
        ("/p.gif", "site=a&u=x", 75)
    );
    assert!(read("GET /i.gif HTTP/1.1", "connection: Close\r\n").is_some());
    for line in [
        "POST /p.gif HTTP/1.1",
        "HEAD /p.gif HTTP/1.1",
        "GET /p.gif HTTP/1.0",
        "GET /c?x HTTP/1.1",
        "GET /P.gif HTTP/1.1",
        "GET http://a.example/p.gif HTTP/1.1",
        "GET /p.gif#f HTTP/1.1",
        "GET /p.gif?<> HTTP/1.1",
        "GET /p.gif?\u{e5} HTTP/1.1",
    ] {
        assert!(read(line, "").is_none(), "{line}");
    }
    for header in [
        "Connection: keep-alive, upgrade",
        "Content-Length: 0",
        "transfer-encoding: chunked",
        "Expect: 100-continue",
        "Upgrade: h2c",
        "X: a\nY: b",
        " folded",
        "X : a",
    ] {
        assert!(read(line, &format!("{header}\r\n")).is_none(), "{header}");
    }
    assert!(read(line, &"X: y\r\n".repeat(HEADERS_MAX)).is_none());
    // What every request must keep to is checked behind both ways of reading one.
    assert!(plain(format!("{line}\r\n\r\n").as_bytes()).is_some());
    assert!(read(line, "Host: b.example\r\n").is_some());
    assert!(
        plain(format!("{line}\r\nHost: a.example\r\n").as_bytes()).is_none(),
        "no end"
    );
}

#[test]
fn a_reply_says_what_hyper_would_have_it_say() {
    for cookies in [
        &[][..],
        &["avid=1; Path=/"],
        &["avid=; Max-Age=0", "avid=1"],
    ] {
        let cookies: Vec<String> = cookies.iter().map(|cookie| (*cookie).to_owned()).collect();
        let (_, expected) = by_hyper(b"GET /p.gif HTTP/1.1\r\nHost: a.example\r\n\r\n", &cookies);
        let replies = Replies::default();
        let [mut hit, mut put] = [Vec::new(), Vec::new()];
        replies.put_hit(clock::now(), &cookies, &mut hit);
        let reply = reply::hit(Shape::Gif).with_cookie(cookies);
        replies.put_reply(clock::now(), reply, &mut put);
        assert_eq!(parts_of(&hit), parts_of(&expected));
        assert_eq!(parts_of(&put), parts_of(&expected));
    }
}

/// Returns the status line, the headers in alphabetical order without the time of the date, and the
/// body.
fn parts_of(reply: &[u8]) -> (String, Vec<String>, Vec<u8>) {
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = reply.split_at(end.expect("an end") + 4);
    let head = String::from_utf8(head.to_vec()).expect("ASCII");
    let mut lines = head
        .trim_end()
        .split("\r\n")
        .map(|line| match line.split_once(": ") {
            Some(("date", date)) => format!("date of {} bytes", date.len()),
            _ => line.to_owned(),
        });
    let status = lines.next().expect("a status line");
    let mut headers: Vec<String> = lines.collect();
    headers.sort_unstable();
    (status, headers, body.to_vec())
}

/// Makes requests that are nearly plain: right lines, some of which mean something, and here and
/// there a wrong byte.
fn nearly_plain() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "Cookie: a=b; avid=c",
        "cookie: \u{e5}",
        "X-Forwarded-For: 192.0.2.1",
        "x-forwarded-proto: https",
        "Forwarded: for=192.0.2.1",
        "User-Agent: Mozilla/5.0 ( )",
        "Referer:https://a.example/?q=%20",
        "Sec-GPC: 1",
        "Sec-Fetch-Site:\tcross-site ",
        "Origin: https://a.example",
        "Sec-CH-UA: \"Chromium\";v=\"1\"",
        "Connection: keep-alive",
        "Connection: close",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Host: b.example",
        "X-Long-Name-That-Nobody-Looks-For-At-All: x",
        "Accept:",
    ]);
    let target = select(vec![
        "/p.gif?site=a",
        "/i.gif",
        "/p.gif?a=%zz&b={}|^`",
        "/p.gif??",
        "/p.gif/x",
        "/c",
    ]);
    let wrong = (
        any::<prop::sample::Index>(),
        select(b"\0\t\r\n :\"#?\x7f\x80\xff%/".to_vec()),
        any::<bool>(),
    );
    let lines = prop::collection::vec(line, 0..6);
    let all = (
        target,
        lines,
        prop::collection::vec(wrong, 0..3),
        any::<bool>(),
    );
    all.prop_map(|(target, lines, wrongs, is_followed)| {
        let lines = lines
            .iter()
            .fold(String::new(), |all, line| all + line + "\r\n");
        let mut bytes =
            format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n").into_bytes();
        for (index, byte, replaces) in wrongs {
            let at = index.index(bytes.len());
            bytes.splice(at..at + usize::from(replaces), [byte]);
        }
        if is_followed {
            bytes.extend_from_slice(b"GET /p.gif HTTP/1.1\r\n");
        }
        bytes
    })
}

proptest! {
    #[test]
    fn what_is_plain_is_to_hyper_the_same(bytes in nearly_plain()) {
        if let Some((understood, length, is_last)) = plain(&bytes) {
            let head = bytes.get(..length).expect("that many bytes");
            let (seen, reply) = by_hyper(head, &[]);
            prop_assert_eq!(seen, [understood]);
            prop_assert!(reply.starts_with(b"HTTP/1.1 200 OK\r\n"));
            let (_, headers, _) = parts_of(&reply);
            let ends = headers.iter().any(|header| header == "connection: close");
            prop_assert_eq!(ends, is_last);
        }
    }
}
