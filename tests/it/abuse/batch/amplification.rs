//! What requests cost beside a pixel, by the CPU time of the edge threads: for each kilobyte that a
//! client sends, no request of any kind costs more than [`PIXELS_MAX`] pixels.
//!
//! `cargo test --test it -- costs_more_than_twenty --nocapture` prints the table.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::long_query;
use crate::support::{Collector, Config, consent_string};

/// How many pixels a kilobyte may cost.
const PIXELS_MAX: f64 = 20.0;
/// Requests are sent again until they have taken this much CPU time, in ns, or so often.
const CPU_NANOS: u64 = 30_000_000;
const TIMES_MAX: u32 = 400;
const RANDOM_REQUESTS: u64 = 60;

/// A request, and how many bytes it has once its body is unpacked.
struct Request {
    name: String,
    bytes: Vec<u8>,
    unpacked: usize,
}

fn get(name: &str, target: &str, headers: &str) -> Request {
    let text = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n");
    Request {
        name: name.to_owned(),
        unpacked: text.len(),
        bytes: text.into_bytes(),
    }
}

fn post_bytes(name: &str, target: &str, headers: &str, body: &[u8], unpacked: usize) -> Request {
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    Request {
        name: name.to_owned(),
        unpacked: head.len() + unpacked,
        bytes: [head.as_bytes(), body].concat(),
    }
}

fn post(name: &str, target: &str, headers: &str, body: &str) -> Request {
    post_bytes(name, target, headers, body.as_bytes(), body.len())
}

fn array(count: usize, event: &str) -> String {
    format!("[{}]", vec![event; count].join(","))
}

/// Repeats a text up to a length.
fn fill(text: &str, bytes: usize) -> String {
    text.repeat(bytes / text.len())
}

fn packed(text: &str) -> Request {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(text.as_bytes()).unwrap();
    let body = packed.finish().unwrap();
    let counted = text.len().min(50 * body.len());
    post_bytes("packed events", "/e?site=open", "", &body, counted)
}

/// Long headers of every kind that is read.
fn long_headers() -> String {
    let text = fill("x\"y; ", 2000);
    format!(
        "User-Agent: {text}\r\nReferer: https://a.example/{text}\r\nSec-CH-UA: {text}\r\n\
         Sec-CH-UA-Model: {text}\r\nSec-CH-UA-Platform: {text}\r\n"
    )
}

/// Short events at addresses and with headers that are dear to read.
fn long_addresses() -> Vec<Request> {
    let short = array(1000, r#"{"a":1}"#);
    let long_string = fill("CPXxRfAPXxRfAAfKABENB", 7800);
    let tc_string = consent_string("policy 5, few, as bits, all disclosed");
    let at = |name: &str, query: &str| post(name, &format!("/e?site=open&{query}"), "", &short);
    let with = |name: &str, header: &str| post(name, "/e?site=open", header, &short);
    vec![
        at("many parameters", &fill("a&", 7900)),
        at("escapes in an address", &fill("%2525&", 7900)),
        at("an event in an address", &fill("json={}&", 7900)),
        at("a long string", &format!("gdpr_consent={long_string}")),
        at("a consent string", &format!("gdpr_consent={tc_string}")),
        at("a long address", &long_query(7900)),
        with("long headers", &long_headers()),
        with("many cookies", &many_cookies()),
    ]
}

fn many_cookies() -> String {
    let cookie = format!("avid={}; ", "A".repeat(52));
    format!("Cookie: {}\r\n", fill(&cookie, 12_000))
}

/// An object of that many members, each with its number for `#`.
fn members(count: usize, member: &str) -> String {
    let members = (0..count).map(|number| member.replace('#', &number.to_string()));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// Bodies that are dear to read.
fn bodies() -> Vec<Request> {
    let hidden = r#""k#":"a=b;c=d:e&f=g?h={\"i\":1}""#;
    let hints = r#"{"ch":{"brands":[{"brand":"a","version":"1"}],"model":"x"}}"#;
    let nested = format!("{}1{}", fill("{\"a\":", 600), "}".repeat(120));
    let fields = format!("{{\"params\":{}}}", members(4000, "\"k#\":#"));
    let listed = [
        ("empty events", array(1000, "{}")),
        ("short events", array(1000, "{\"a\":1}")),
        ("no events", array(100_000, "1")),
        ("brackets", "[".repeat(100_000)),
        ("quotes", "\"".repeat(100_000)),
        ("commas", ",".repeat(100_000)),
        ("broken events", array(9000, "{\"a\":\"x}")),
        (
            "a broken array",
            format!("[{{\"x\":\"{}", fill(",{\"b\":1}", 60_000)),
        ),
        (
            "broken in turn",
            fill("{\"a\":\"x},{\"b\":1},{\"c\":[{\"d\":1},", 90_000),
        ),
        ("many members", members(5000, "\"k#\":#")),
        ("one member often", members(5000, "\"k\":#")),
        ("many fields", fields),
        ("hidden signals", members(1000, hidden)),
        ("macros", array(1000, r#"{"id":"$$$x","uid":"%%y"}"#)),
        (
            "escaped",
            members(1000, r#""\u006b#":"\ud83d\ude00\u0000\n""#),
        ),
        ("nested", array(60, &nested)),
        ("not quite JSON", array(800, "{\"a\":NaN,\"b\":1e999,}")),
        ("numbers", members(800, "\"k#\":1e308")),
        ("hints", array(500, hints)),
        (
            "a long text",
            format!("{{\"a\":\"{}\"}}", fill("\\u0041=", 60_000)),
        ),
    ];
    let listed = listed.into_iter();
    listed
        .map(|(name, body)| post(name, "/e?site=open", "", &body))
        .collect()
}

/// Requests of every other endpoint, and bodies that are no text.
fn others() -> Vec<Request> {
    let many = fill("a&", 7800);
    let escaped = fill("%2525&", 7800);
    let to = "https%3A%2F%2Fwww.shop.example%2F";
    let token = "Authorization: Bearer 0123456789abcdef\r\n";
    let forwarded = format!("X-Forwarded-For: {}\r\n", fill("127.0.0.1, ", 12_000));
    let pixel = "/p.gif?site=open";
    let callbacks = array(1000, r#"{"a":1}"#);
    vec![
        packed(&array(1000, r#"{"e":"view","price":12.5}"#)),
        post("a form", "/cb/network", token, &fill("a=1&b=%20&", 60_000)),
        post(
            "callbacks",
            &format!("/cb/network?{many}"),
            token,
            &callbacks,
        ),
        get("a pixel's parameters", &format!("{pixel}&{many}"), ""),
        get("a pixel's cookies", pixel, &many_cookies()),
        get("a pixel's headers", pixel, &long_headers()),
        get("a pixel's proxies", pixel, &forwarded),
        get("a click", &format!("/c?site=open&{many}&to={to}"), ""),
        get(
            "a click's escapes",
            &format!("/c?site=open&{escaped}&to={to}"),
            "",
        ),
        get("a click that is refused", &format!("/c?{many}"), ""),
        get(
            "an exchange",
            &format!("/sync/network?site=open&{many}"),
            "",
        ),
        get("a choice", &format!("/consent?site=open&{many}"), ""),
        get("the tag", &format!("/tag.js?site=open&{many}"), ""),
        get("no endpoint", &format!("/nothing?{many}"), ""),
    ]
}

/// What random events are made of.
#[rustfmt::skip]
const PIECES: [&str; 28] = [
    "{", "}", "[", "]", ":", ",", "\"", "\\u0000", "\\ud800", "{}", "\"a\":1", "\"gdpr\":",
    "\"params\":{", "\"ch\":{", "null", "1e999", "NaN", "%25", "%00", "${X}", "$$$a", "=", ";",
    "&gdpr=", "\"id\":\"[[\"", "\u{fffd}", "  ", "{\"a\":{",
];
/// What random addresses are made of.
#[rustfmt::skip]
const PAIRS: [&str; 12] = [
    "&a", "&a=1", "&gdpr_consent=CP", "&json={}", "&%25=%25", "&u=https://a/?b=c", "&id=${X}",
    "&x=;gdpr=", "&e=a", "&maid=%%A%%", "&ch_model=%22", "&partner=network",
];

/// A random request of hostile pieces.
fn random_request(seed: u64) -> Request {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    let mut piece = String::new();
    for _ in 0..=below(6) {
        piece.push_str(PIECES[below(PIECES.len())]);
    }
    let pairs = PAIRS[below(PAIRS.len())];
    let query = fill(pairs, below(7800).max(pairs.len()));
    let count = 1 + below(2000);
    let event = match below(3) {
        0 => piece,
        1 => format!("{{{piece}}}"),
        _ => format!("{{\"a\":\"{}\"}}", piece.replace(['"', '\\'], "")),
    };
    let body: String = array(count, &event).chars().take(200_000).collect();
    let target = format!("/e?site=open{query}");
    post(
        &format!("random {seed}: {pairs} {event}"),
        &target,
        "",
        &body,
    )
}

/// Returns the CPU time of the edge threads, in ns.
fn edge_nanos(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| task.unwrap().path())
        .filter(|path| {
            fs::read_to_string(path.join("comm"))
                .unwrap()
                .starts_with("edge")
        })
        .map(|path| {
            let times = fs::read_to_string(path.join("schedstat")).unwrap();
            times.split(' ').next().unwrap().parse::<u64>().unwrap()
        })
        .sum()
}

/// Sends a request on a connection of its own if there is none, and reads the reply.
async fn exchange(collector: &Collector, stream: &mut Option<TcpStream>, bytes: &[u8]) {
    let mut open = match stream.take() {
        Some(open) => open,
        None => TcpStream::connect(collector.http).await.unwrap(),
    };
    drop(open.write_all(bytes).await);
    let mut reply = Vec::new();
    loop {
        if open.read_buf(&mut reply).await.unwrap_or(0) == 0 {
            return;
        }
        let Some(end) = reply.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&reply[..end]).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
            rest.lines()
                .next()
                .unwrap()
                .trim()
                .parse::<usize>()
                .unwrap()
        });
        if reply.len() < end + 4 + length {
            continue;
        }
        if !head.contains("connection: close") {
            *stream = Some(open);
        }
        return;
    }
}

/// Returns what one request costs, in ns of CPU time.
async fn nanos_of(collector: &Collector, request: &Request) -> f64 {
    let mut stream = None;
    // The first is not counted: it may fill caches.
    exchange(collector, &mut stream, &request.bytes).await;
    let before = edge_nanos(collector.pid());
    let mut times = 0;
    let mut spent = 0;
    while spent < CPU_NANOS && times < TIMES_MAX {
        exchange(collector, &mut stream, &request.bytes).await;
        times += 1;
        spent = edge_nanos(collector.pid()) - before;
    }
    spent as f64 / f64::from(times)
}

#[tokio::test]
async fn no_request_costs_more_than_twenty_pixels_for_a_kilobyte() {
    let config = Config::sites()
        .set("limit.hits_per_second", 0)
        .set("site.open.click_hosts", vec!["www.shop.example"])
        .set("partner.network.token", "0123456789abcdef");
    let collector = Collector::start(config).await;
    let pixel = get(
        "a pixel",
        "/p.gif?site=open&u=https%3A%2F%2Fshop.example%2F",
        "",
    );
    let pixel_nanos = nanos_of(&collector, &pixel).await;
    let mut table = format!(
        "a pixel costs {:.1} µs of the edge threads\n",
        pixel_nanos / 1e3
    );
    let mut dear = Vec::new();
    let random = (0..RANDOM_REQUESTS).map(random_request);
    let listed = [long_addresses(), bodies(), others()];
    for request in listed.into_iter().flatten().chain(random) {
        let nanos = nanos_of(&collector, &request).await;
        let kilobytes = (request.unpacked as f64 / 1024.0).max(1.0);
        let pixels = nanos / kilobytes / pixel_nanos;
        writeln!(
            table,
            "{pixels:6.2} pixels a kilobyte, {:8.1} µs, {kilobytes:6.1} kB: {}",
            nanos / 1e3,
            request.name
        )
        .unwrap();
        if pixels > PIXELS_MAX {
            dear.push(request.name);
        }
    }
    eprintln!("{table}");
    assert!(dear.is_empty(), "{dear:?}\n{table}");
}
