//! Requests that are not written as the standards say: what is taken, what is refused with a
//! reason, and where a click goes all the same.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ads;
use crate::support::tls::Encrypted;
use crate::support::{Collector, PATIENCE, Reply, parse, raw};

const TO: &[u8] = b"to=https%3A%2F%2Fwww.shop.example%2F";
const THERE: &str = "https://www.shop.example/";

/// Makes a GET whose target and further lines are bytes.
fn get(target: &[u8], lines: &[u8]) -> Vec<u8> {
    [
        b"GET ",
        target,
        b" HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        lines,
        b"Connection: close\r\n\r\n",
    ]
    .concat()
}

fn outcome(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("avtryck-refusal"))
}

async fn refusals(collector: &Collector, reason: &str) -> f64 {
    let name = format!("avtryck_refusals_total{{reason=\"{reason}\"}}");
    collector.metric(&name).await
}

#[tokio::test]
async fn bytes_that_browsers_would_have_encoded_are_taken_and_mean_what_they_meant() {
    let collector = Collector::open().await;
    for (number, (raw_value, stored)) in [
        (&b"\"<q>\""[..], "\"<q>\""),
        (b"caf\xe9", "caf\u{fffd}"),
        (b"\xc3\xa5", "\u{e5}"),
        (b"{a|b}^`\\", "{a|b}^`\\"),
        (b"%00x", "\u{fffd}x"),
        (b"a#b", "a"),
        (
            b"https://shop.example/<%22>#top",
            "https://shop.example/<\">",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let number = number.to_string();
        let target = [b"/p.gif?site=open&e=", number.as_bytes(), b"&x=", raw_value];
        let reply = raw(collector.http, &get(&target.concat(), b"")).await;
        assert_eq!(outcome(&reply), (200, ""), "{stored}");
        let sql = format!(
            "select count(*) from avtryck.hit_detail where event_name = '{number}' and params->>'x' = '{stored}'"
        );
        collector.wait_for(&sql, 1).await;
    }
    // A consent signal is read wherever it stands.
    let target = b"/p.gif?site=open&u=https://shop.example/#top&gdpr=1&gdpr_consent=";
    assert_eq!(raw(collector.http, &get(target, b"")).await.status, 200);
    collector
        .wait_for(
            "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count",
            1,
        )
        .await;
}

#[tokio::test]
async fn a_target_that_names_the_host_is_a_request_for_that_host() {
    let collector = Collector::open().await;
    let send = async |line: &str, host: &str| {
        let bytes = format!("GET {line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        raw(collector.http, bytes.as_bytes()).await
    };
    for (line, host, expected) in [
        ("http://127.0.0.1/p.gif", "127.0.0.1", (200, "")),
        (
            "HTTP://127.0.0.1:8080/p.gif?site=open",
            "127.0.0.1:8080",
            (200, ""),
        ),
        ("https://127.0.0.1/p.gif", "127.0.0.1", (200, "")),
        // The target's host is the one that counts.
        ("http://127.0.0.1/p.gif", "other.example", (200, "")),
        (
            "http://other.example/p.gif",
            "127.0.0.1",
            (400, "site_missing"),
        ),
        ("http://a@127.0.0.1/p.gif", "127.0.0.1", (400, "host")),
        ("http://127.0.0.1/p.gif", "a/b", (400, "host")),
        // Without a path the target is "/" (RFC 9112, 3.2.2), which is a page.
        ("http://127.0.0.1", "127.0.0.1", (200, "")),
        ("http://127.0.0.1?site=open", "127.0.0.1", (200, "")),
        ("http:///p.gif", "127.0.0.1", (400, "malformed")),
        ("ftp://127.0.0.1/p.gif", "127.0.0.1", (400, "host")),
        ("127.0.0.1:80", "127.0.0.1", (400, "host")),
        ("127.0.0.1", "127.0.0.1", (400, "host")),
        ("p.gif?site=open", "127.0.0.1", (400, "malformed")),
        ("*", "127.0.0.1", (404, "unknown_path")),
    ] {
        let reply = send(line, host).await;
        assert_eq!(outcome(&reply), expected, "{line} {host}");
    }
    let none = b"GET http://127.0.0.1/p.gif HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(outcome(&raw(collector.http, none).await), (400, "host"));
    collector
        .wait_for("select count(*) from avtryck.hit", 4)
        .await;
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_a_reason_and_counted() {
    let collector = Collector::open().await;
    let pixel = |line: &str| format!("{line}\r\nHost: 127.0.0.1\r\n\r\n").into_bytes();
    let cookies = format!("Cookie: x={}\r\n", "y".repeat(17_000));
    let many = "X: y\r\n".repeat(200);
    let bad = b"X: \x01\r\n";
    let path = b"/p.gif?site=open";
    let cases = [
        (pixel("GET /p.gif?u=a b HTTP/1.1"), 400, "malformed"),
        (pixel("GET /p.gif?u=a\tb HTTP/1.1"), 400, "malformed"),
        (pixel("GET /p.gif?u=a\0b HTTP/1.1"), 400, "malformed"),
        (pixel("GET  /p.gif HTTP/1.1"), 400, "malformed"),
        (pixel("GET /p.gif HTTP/3.0"), 400, "malformed"),
        (pixel("nonsense"), 400, "malformed"),
        (get(path, bad), 400, "malformed"),
        (get(path, b"Content-Length: x\r\n"), 400, "malformed"),
        (get(path, cookies.as_bytes()), 431, "header_too_large"),
        (get(path, many.as_bytes()), 431, "header_too_large"),
        (get(&[b'/'; 20_000], b""), 431, "header_too_large"),
        (
            get(&[path, &[b'x'; 9000][..]].concat(), b""),
            414,
            "uri_too_long",
        ),
    ];
    for (bytes, status, reason) in &cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
        let reply = raw(collector.http, bytes).await;
        assert_eq!(outcome(&reply), (*status, *reason), "{shown}");
        assert_eq!(reply.header("connection"), "close", "{shown}");
        assert_eq!(reply.header("cache-control"), "no-store", "{shown}");
        // A page shows no broken image.
        let is_pixel = shown.contains("/p.gif");
        assert_eq!(reply.bytes.starts_with(b"GIF89a"), is_pixel, "{shown}");
    }
    for reason in ["malformed", "header_too_large", "uri_too_long"] {
        let sent = cases.iter().filter(|(.., other)| *other == reason).count();
        assert_eq!(refusals(&collector, reason).await, sent as f64, "{reason}");
    }
    let head = b"HEAD /p.gif?u=a b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let reply = raw(collector.http, head).await;
    assert_eq!(
        (outcome(&reply), reply.bytes.len()),
        ((400, "malformed"), 0)
    );
}

#[tokio::test]
async fn a_click_with_a_valid_target_leads_on_whatever_is_around_it() {
    let collector = Collector::start(ads::sites()).await;
    let click = |more: &[u8]| [b"/c?site=open&", TO, more].concat();
    let long = [b'x'; 9000];
    let cookies = format!("Cookie: x={}\r\n", "y".repeat(17_000));
    for (bytes, reason) in [
        (get(&click(b"&x=\"<>\""), b""), ""),
        (get(&click(b"&x=\xe5\xe4\xff"), b""), ""),
        (get(&click("&x=\u{e5}".as_bytes()), b""), ""),
        (get(&click(b"&x={|}^`\\"), b""), ""),
        (get(&click(b"&x=%00%zz"), b""), ""),
        (get(&click(b"#x"), b""), ""),
        (get(&[b"http://127.0.0.1", &*click(b"")].concat(), b""), ""),
        (get(&click(b"&x=a b"), b""), "malformed"),
        (get(&click(b"&x=a\tb"), b""), "malformed"),
        (get(&click(b"&x=\0"), b""), "malformed"),
        (get(&click(b""), b"X: \x01\r\n"), "malformed"),
        (
            get(&click(&[b"&x=", &long[..]].concat()), b""),
            "uri_too_long",
        ),
        (get(&click(b""), cookies.as_bytes()), "header_too_large"),
        (
            get(&[&click(b"&x=")[..], &[b'x'; 20_000]].concat(), b""),
            "header_too_large",
        ),
        (get(&click(b""), b"Host: 127.0.0.1\r\n"), "host"),
        (
            get(&click(b""), b"Content-Length: 1\r\n"),
            "unexpected_body",
        ),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let reply = raw(collector.http, &bytes).await;
        assert_eq!(outcome(&reply), (302, reason), "{shown}");
        assert_eq!(reply.header("location"), THERE, "{shown}");
        assert_eq!(reply.header("connection"), "close", "{shown}");
    }
    // The target itself, with what a line cannot hold.
    for (to, location) in [
        (&b"https://www.shop.example/a b"[..], "a%20b"),
        (b"https://www.shop.example/\xe9", "%E9"),
        (b"https://www.shop.example/\xe9 ", "%E9"),
        (b"https://www.shop.example/\"<>\"", "%22%3C%3E%22"),
        (b"https://www.shop.example/\t", ""),
        ("https://www.shop.example/\u{e5}".as_bytes(), "%C3%A5"),
        (b"https%3A%2F%2Fwww.shop.example%2Fcaf%E9%0A", "caf%E9"),
    ] {
        let reply = raw(
            collector.http,
            &get(&[b"/c?site=open&to=", to].concat(), b""),
        )
        .await;
        let there = format!("{THERE}{location}");
        assert_eq!((reply.status, reply.header("location")), (302, &*there));
    }
    // Nowhere else, and not to a part of a target.
    let off = get(b"/c?site=open&to=https://evil.example/ x", b"");
    assert_eq!(
        outcome(&raw(collector.http, &off).await),
        (400, "malformed")
    );
    let cut = get(&[&click(b"")[..], &[b'x'; 60_000]].concat(), b"");
    let reply = raw(collector.http, &cut).await;
    assert_eq!(outcome(&reply), (431, "header_too_large"));
    assert_eq!(reply.header("location"), "");
}

#[tokio::test]
async fn a_client_that_still_sends_reads_why_it_was_refused() {
    let collector = Collector::open().await;
    let mut stream = TcpStream::connect(collector.http).await.unwrap();
    let cookie = "y".repeat(2_000_000);
    let request = get(
        b"/p.gif?site=open",
        format!("Cookie: {cookie}\r\n").as_bytes(),
    );
    // Nothing is reset, neither while it sends nor before it reads.
    stream.write_all(&request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(outcome(&parse(&bytes)), (431, "header_too_large"));
    // One that never ends is ended.
    let mut stream = TcpStream::connect(collector.http).await.unwrap();
    stream.write_all(&request[..30_000]).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(outcome(&parse(&bytes)), (431, "header_too_large"));
    let ended = async {
        while stream.write_all(b"y").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

/// Reads one reply of a connection that goes on.
async fn next_reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let read = async {
        loop {
            let reply = parse(&bytes);
            let length = reply.header("content-length").parse::<usize>();
            if length.is_ok_and(|length| reply.bytes.len() == length) {
                return reply;
            }
            let mut part = [0; 4096];
            let length = stream.read(&mut part).await.unwrap();
            assert!(length > 0, "the connection ended early");
            bytes.extend_from_slice(&part[..length]);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

#[tokio::test]
async fn the_later_requests_of_a_connection_are_read_as_the_first_is() {
    let collector = Collector::start(ads::sites()).await;
    let mut stream = TcpStream::connect(collector.http).await.unwrap();
    let body = br#"{"site":"open","e":"one"}"#;
    let post = format!(
        "POST /e HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let odd: &[u8] = b"GET /c?site=open&to=https://www.shop.example/\"\xe9\" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    // A body in parts, one that begins like a request, two requests at once, a header in parts.
    let (head, length) = (post.as_bytes(), body.len());
    for parts in [
        vec![head, &body[..5], &body[5..]],
        vec![&head[..10], &head[10..], body],
        vec![head, body],
        vec![&odd[..30], &odd[30..70], &odd[70..]],
        vec![odd],
    ] {
        let is_click = parts[0].starts_with(b"GET");
        for part in parts {
            stream.write_all(part).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        if is_click {
            let reply = next_reply(&mut stream).await;
            let there = "https://www.shop.example/%22%E9%22";
            assert_eq!((reply.status, reply.header("location")), (302, there));
        } else {
            let mut reply = Vec::new();
            while !reply.ends_with(b"\r\n\r\n") {
                reply.push(stream.read_u8().await.unwrap());
            }
            assert!(reply.starts_with(b"HTTP/1.1 204"), "{length}");
        }
    }
    stream.write_all(&[odd, odd].concat()).await.unwrap();
    let mut both = Vec::new();
    while String::from_utf8_lossy(&both)
        .matches("HTTP/1.1 302")
        .count()
        < 2
    {
        both.push(stream.read_u8().await.unwrap());
    }
    // A refusal in the middle of a connection has its reason too.
    let bad = b"\r\n\r\nGET /p.gif?u=a b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let mut rest = Vec::new();
    stream.write_all(bad).await.unwrap();
    stream.read_to_end(&mut rest).await.unwrap();
    let text = String::from_utf8_lossy(&rest);
    let last = text
        .rfind("HTTP/1.1 ")
        .map(|at| parse(&rest[at..]))
        .unwrap();
    assert_eq!(outcome(&last), (400, "malformed"));
    let posted = "select count(*) from avtryck.hit where event_name = 'one'";
    collector.wait_for(posted, 3).await;
}

#[tokio::test]
async fn over_tls_it_is_the_same() {
    let encrypted = Encrypted::start(ads::sites()).await;
    let mut stream = encrypted.connect("http/1.1").await;
    let request = get(b"/c?site=open&to=https://www.shop.example/\xe9 x", b"");
    stream.write_all(&request).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let reply = parse(&bytes);
    assert_eq!(outcome(&reply), (302, "malformed"));
    assert_eq!(reply.header("location"), "https://www.shop.example/%E9%20x");
}
