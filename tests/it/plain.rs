//! The short way of plain requests and hyper's are one to the outside: two collectors, of which one
//! has `http.plain` off, give the same replies to the same bytes, count the same and store the same
//! rows.

use std::net::SocketAddr;

use avtryck::clock;
use avtryck::hit::VisitorId;
use avtryck::keys::CookieKeyring;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{Collector, Config, PATIENCE};

/// The key of both collectors' cookies, in the configuration and as bytes.
const COOKIE_KEY: &str = "1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const COOKIE_KEY_BYTES: [u8; 32] = [7; 32];
const COOKIE_AGE_SECONDS: i64 = 390 * 86_400;
/// What the last request of each connection is, so that the connection ends.
const LAST: &str =
    "GET /p.gif?site=open&last=1 HTTP/1.1\r\nHost: open.example\r\nConnection: close\r\n\r\n";
/// Requests with bytes changed at random.
const MUTATIONS: usize = 1_000;
/// The columns that tell two rows of the same request apart.
const ROWS: &str = "select (to_jsonb(d) - 'hit_id' - 'received_at' - 'visitor_id')::text as hit \
                    from avtryck.hit_detail d order by 1";

/// Requests as bytes, without the one that ends the connection.
fn requests() -> Vec<Vec<u8>> {
    let keys = CookieKeyring::new([(1, &COOKIE_KEY_BYTES[..])], COOKIE_AGE_SECONDS);
    let cookie = keys.sign(VisitorId([9; 16]), clock::now()).unwrap();
    let lines = [
        "GET /p.gif?site=open&u=https%3A%2F%2Fwww.open.example%2F&x=%C3%A5+b HTTP/1.1".to_owned(),
        "GET /i.gif?site=open&partner=network&campaign=spring&ev=firstQuartile HTTP/1.1".to_owned(),
        "GET /p.gif HTTP/1.1".to_owned(),
        "GET /p.gif?site=nowhere HTTP/1.1".to_owned(),
        "GET /p.gif?site=open&partner=nobody HTTP/1.1".to_owned(),
        "GET /p.gif?site=shut HTTP/1.1".to_owned(),
        "GET /p.gif?a=%zz&b={}|^`&site=open HTTP/1.1".to_owned(),
        "GET /p.gif??site=open HTTP/1.1".to_owned(),
        "GET /p.gif?site=open#f HTTP/1.1".to_owned(),
        "GET /p.gif?site=open&<>=\"\u{e5}\" HTTP/1.1".to_owned(),
        "GET /p.gif?site=open&x=a b HTTP/1.1".to_owned(),
        "GET /p.gif?site=open&x=a\tb HTTP/1.1".to_owned(),
        "GET /p.gif?site=open&u=x#top&gdpr=1&gdpr_consent= HTTP/1.1".to_owned(),
        "GET /p.gif/ HTTP/1.1".to_owned(),
        "GET /P.gif?site=open HTTP/1.1".to_owned(),
        "GET http://open.example/p.gif?site=open HTTP/1.1".to_owned(),
        "HEAD /p.gif?site=open HTTP/1.1".to_owned(),
        "OPTIONS /p.gif?site=open HTTP/1.1".to_owned(),
        "DELETE /p.gif?site=open HTTP/1.1".to_owned(),
        "get /p.gif?site=open HTTP/1.1".to_owned(),
        "GET  /p.gif?site=open HTTP/1.1".to_owned(),
        "GET /p.gif?site=open HTTP/1.0".to_owned(),
        "GET /p.gif?site=open HTTP/2.0".to_owned(),
        format!("GET /p.gif?site=open&long={} HTTP/1.1", "a".repeat(9000)),
        "GET /unknown HTTP/1.1".to_owned(),
        "GET /id?site=open HTTP/1.1".to_owned(),
        "GET /c?site=open&to=https%3A%2F%2Fx.example%2F HTTP/1.1".to_owned(),
    ];
    let headers = [
        "Host: open.example\r\n".to_owned(),
        "host:127.0.0.1:80\r\n".to_owned(),
        String::new(),
        "Host: a/b\r\n".to_owned(),
        "Host: open.example\r\nHost: open.example\r\n".to_owned(),
        "Host: \r\n".to_owned(),
        format!("Host: open.example\r\nCookie: other=\u{e5}; avid={cookie}; avchoice=measure\r\n"),
        "Host: open.example\r\nCookie: avid=forged\r\nCookie: avchoice=none\r\n".to_owned(),
        "Host: open.example\r\nOrigin: https://www.open.example\r\n".to_owned(),
        "Host: open.example\r\nOrigin: https://evil.example\r\nSec-GPC: 1\r\n".to_owned(),
        "Host: open.example\r\nSec-Fetch-Site: cross-site\r\nX-Forwarded-Proto: https\r\n"
            .to_owned(),
        "Host: open.example\r\nX-Forwarded-For: 2.64.0.1, 10.1.2.3\r\nUser-Agent: VLC\r\n"
            .to_owned(),
        "Host: open.example\r\nSec-Purpose: prefetch\r\nReferer: https://r.example/\u{7f}\r\n"
            .to_owned(),
        "Host: open.example\r\nSec-CH-UA-Model: \"SM-S918B\"\r\nsec-ch-ua-mobile: ?1\r\n"
            .to_owned(),
        "Host: open.example\r\nConnection: Keep-Alive\r\n".to_owned(),
        "Host: open.example\r\nConnection: close\r\n".to_owned(),
        "Host: open.example\r\nConnection: keep-alive, close\r\n".to_owned(),
        "Host: open.example\r\nContent-Length: 0\r\n".to_owned(),
        "Host: open.example\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "Host: open.example\r\nContent-Length: -1\r\n".to_owned(),
        "Host: open.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Host: open.example\r\nTransfer-Encoding: gzip\r\n".to_owned(),
        "Host: open.example\r\nExpect: 100-continue\r\n".to_owned(),
        "Host: open.example\r\nUpgrade: websocket\r\nConnection: upgrade\r\n".to_owned(),
        "Host: open.example\r\nX: a\nY: b\r\n".to_owned(),
        "Host: open.example\r\nX: a\r\n folded\r\n".to_owned(),
        "Host: open.example\r\nX : a\r\n".to_owned(),
        "Host: open.example\r\n\r\n".to_owned(),
        format!("Host: open.example\r\n{}", "X: y\r\n".repeat(70)),
        format!("Host: open.example\r\n{}", "X: y\r\n".repeat(120)),
    ];
    let mut all = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        // Each line with a plain header, and the first line with each header.
        all.push(bytes_of(line, &headers[0]));
        all.push(bytes_of(line, &headers[6 + number % 10]));
    }
    all.extend(headers.iter().map(|headers| bytes_of(&lines[0], headers)));
    all.extend(headers.iter().map(|headers| bytes_of(&lines[1], headers)));
    let mut random = 1_u64;
    for number in 0..MUTATIONS {
        let (line, headers) = (&lines[number % 2], &headers[6 + number % 11]);
        let mut bytes = bytes_of(line, headers);
        for _ in 0..=number % 2 {
            // Half of the changes may make a request malformed; the others seldom do.
            let changes: &[u8] = if number % 4 < 2 {
                b"\0\t\r\n :\"#?\x7f\x80\xff"
            } else {
                b"%/a&=+;,-_~z"
            };
            let at = next(&mut random) % bytes.len();
            bytes[at] = changes[next(&mut random) % changes.len()];
        }
        all.push(bytes);
    }
    all
}

/// Makes a request of its first line and its headers. Headers that hold their own end, and a body,
/// are taken as they are.
fn bytes_of(line: &str, headers: &str) -> Vec<u8> {
    let end = if headers.contains("\r\n\r\n") {
        ""
    } else {
        "\r\n"
    };
    format!("{line}\r\n{headers}{end}").into_bytes()
}

/// Returns the next of a series of numbers that is the same in each run.
fn next(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap()
}

/// Sends each request on a connection of its own. Returns the replies, in the order of the
/// requests.
async fn send(address: SocketAddr, requests: &[Vec<u8>]) -> Vec<Vec<String>> {
    let mut exchanges = JoinSet::new();
    for (number, request) in requests.iter().enumerate() {
        let bytes = [request, LAST.as_bytes()].concat();
        exchanges.spawn(async move {
            let exchange = async {
                let mut stream = TcpStream::connect(address).await.unwrap();
                // A collector that refuses before it has read everything resets the connection.
                drop(stream.write_all(&bytes).await);
                let mut replied = Vec::new();
                drop(stream.read_to_end(&mut replied).await);
                replied
            };
            let replied = tokio::time::timeout(PATIENCE, exchange).await;
            (
                number,
                without_chance(&replied.expect("the connection ends")),
            )
        });
    }
    let mut replies = exchanges.join_all().await;
    replies.sort_unstable();
    replies.into_iter().map(|(_, replies)| replies).collect()
}

/// Splits a connection's bytes into replies, without what differs from one run to the next: the
/// date, the value of a new cookie, and the order of headers.
fn without_chance(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let replies = text.split("HTTP/1.").skip(1);
    let reply = |reply: &str| {
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((reply, ""));
        let mut lines: Vec<String> = head
            .lines()
            .map(|line| match line.split_once(": ") {
                Some(("date", _)) => "date".to_owned(),
                Some(("set-cookie", cookie)) => {
                    let (name, _) = cookie.split_once('=').unwrap();
                    let (_, attributes) = cookie.split_once(';').unwrap();
                    format!("set-cookie: {name}; {attributes}")
                }
                _ => line.to_owned(),
            })
            .collect();
        lines[1..].sort_unstable();
        format!("{}\n\n{body}", lines.join("\n"))
    };
    replies.map(reply).collect()
}

/// Starts a collector on which the short way is open or not.
async fn start(plain: bool) -> Collector {
    let config = Config::sites()
        .set("http.plain", plain)
        .set("cookie.keys", vec![COOKIE_KEY])
        .set("limit.hits_per_second", 0);
    Collector::start(config).await
}

/// Returns the counts of replies, refusals and hits.
async fn counts(collector: &Collector) -> Vec<String> {
    let metrics = collector.admin("/metrics").await.body;
    let names = [
        "avtryck_http_requests_total",
        "avtryck_refusals_total",
        "avtryck_hits_total",
    ];
    let mut lines: Vec<String> = metrics
        .lines()
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn the_same_bytes_get_the_same_reply_and_row_on_the_short_way_and_on_hypers() {
    let (short, hyper) = tokio::join!(start(true), start(false));
    let requests = requests();
    let (by_short, by_hyper) =
        tokio::join!(send(short.http, &requests), send(hyper.http, &requests));
    for ((request, short), hyper) in requests.iter().zip(&by_short).zip(&by_hyper) {
        assert_eq!(short, hyper, "{}", String::from_utf8_lossy(request));
    }
    let is_hit = |reply: &String| reply.starts_with("1 200 OK");
    let hits = by_short
        .iter()
        .flatten()
        .filter(|reply| is_hit(reply))
        .count();
    // About half of the requests are refused, and many of those end the connection before its last.
    assert!(hits > 600, "{hits} hits of {} requests", requests.len());
    assert_eq!(counts(&short).await, counts(&hyper).await);

    let stored = "select (select count(*) from avtryck.hit) + coalesce((select sum(hits) from avtryck.hit_count), 0)::bigint";
    let counted = counts(&short)
        .await
        .iter()
        .filter(|line| line.starts_with("avtryck_hits_total") && !line.contains("\"nothing\""))
        .map(|line| {
            line.rsplit_once(' ')
                .unwrap()
                .1
                .parse::<f64>()
                .unwrap()
                .round() as i64
        })
        .sum();
    short.wait_for(stored, counted).await;
    hyper.wait_for(stored, counted).await;
    let rows = async |collector: &Collector| -> Vec<String> {
        let rows = collector.rows(ROWS).await;
        rows.iter().map(|row| row.get("hit")).collect()
    };
    let (short, hyper) = (rows(&short).await, rows(&hyper).await);
    assert_eq!(short.len(), hyper.len());
    for (short, hyper) in short.iter().zip(&hyper) {
        assert_eq!(short, hyper);
    }
}
