//! Many connections at once: the memory that their bodies take, and who has a place.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::from;
use crate::support::{Collector, Config, PATIENCE, until};

/// A body that is one byte short.
const BODY_BYTES: usize = 1 << 20;
/// What all bodies may take, as it is configured.
const BUDGET_BYTES: u64 = 16 << 20;
/// What a connection takes beside its body, and what the allocator does not give back: without the
/// budget it would be 64 MiB in all.
const SLACK_BYTES: u64 = 24 << 20;
const CONNECTIONS: u32 = 64;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Sends all of a body but its last byte. Whoever ends the connection is heard later.
async fn send_body(address: SocketAddr, client: u32) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let [_, _, a, b] = client.to_be_bytes();
    let head = format!(
        "POST /e?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 2.65.{a}.{b}\r\n\
         Content-Length: {BODY_BYTES}\r\n\r\n"
    );
    drop(stream.write_all(head.as_bytes()).await);
    drop(stream.write_all(&vec![b' '; BODY_BYTES - 1]).await);
    stream
}

#[tokio::test]
async fn bodies_have_one_budget_of_memory_and_pixels_need_none_of_it() {
    let config = Config::sites().set("http.body_memory", "16MiB");
    let collector = Collector::start(config).await;
    collector.settle().await;
    let before = collector.resident_bytes();
    let mut held = Vec::new();
    let mut most = 0;
    for client in 0..CONNECTIONS {
        held.push(send_body(collector.http, client).await);
        most = most.max(collector.resident_bytes());
    }
    assert!(
        most - before <= BUDGET_BYTES + SLACK_BYTES,
        "{} MiB for {CONNECTIONS} bodies of 1 MiB",
        (most - before) >> 20
    );
    let refused = "avtryck_refusals_total{reason=\"crowded\"}";
    until(async || collector.metric(refused).await > 0.0).await;
    // The bodies that arrive slowly give way to one that is there, if they are on its thread.
    let start = Instant::now();
    let body = r#"{"site":"open","e":"honest"}"#;
    let mut honest = 503;
    for _ in 0..16 {
        if honest != 204 {
            honest = collector.post("/e", &from("2.64.3.1"), body).await.status;
        }
    }
    assert_eq!(honest, 204);
    assert!(start.elapsed() < BODY_TIME);
    let cookies = format!("a={}", "x".repeat(12_000));
    for headers in [&from("2.64.3.1")[..], &[("Cookie", &*cookies)]] {
        let pixel = collector.get("/p.gif?site=open&e=honest", headers).await;
        assert_eq!(pixel.status, 200);
    }
    drop(held);
}

#[tokio::test]
async fn one_client_has_a_quarter_of_the_memory_for_bodies() {
    let config = Config::sites().set("http.body_memory", "16MiB");
    let collector = Collector::start(config).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(send_body(collector.http, 7).await);
    }
    let refused = "avtryck_refusals_total{reason=\"crowded\"}";
    until(async || collector.metric(refused).await >= 4.0).await;
    // Others have what is left, and so has this one once its bodies are gone.
    let other = send_body(collector.http, 8).await;
    drop(held);
    let body = format!("{{\"site\":\"open\"}}{}", " ".repeat(BODY_BYTES - 15));
    until(async || {
        let reply = collector.post("/e", &from("2.65.0.7"), &body).await;
        reply.status == 204
    })
    .await;
    drop(other);
}

async fn get(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let request = b"GET /p.gif?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut reply = Vec::new();
    while !reply.ends_with(b"\x01\0;") {
        if stream.read_buf(&mut reply).await.ok()? == 0 {
            return None;
        }
    }
    Some(reply)
}

async fn ends(stream: &mut TcpStream) {
    let mut byte = [0];
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await;
    assert!(matches!(end.expect("it ends"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_connection_that_waits_gives_way_to_a_new_one_and_the_oldest_is_the_first() {
    const MAX: usize = 12;
    let config = Config::sites()
        .set("http.connections_max", MAX as i64)
        .set("http.threads", 1)
        .set("http.h2c", true);
    let collector = Collector::start(config).await;
    let connect = async || TcpStream::connect(collector.http).await.unwrap();
    let mut silent = Vec::new();
    for number in 0..MAX {
        let mut stream = connect().await;
        let first: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /p.gif?site=open HT",
            _ => b"POST /consent HTTP/1.1\r\nHost: a\r\n",
        };
        stream.write_all(first).await.unwrap();
        silent.push(stream);
    }
    let started = Instant::now();
    // Each of them keeps its connection.
    let mut kept = Vec::new();
    for number in 0..MAX {
        let mut stream = connect().await;
        assert!(get(&mut stream).await.is_some(), "{number}");
        kept.push(stream);
    }
    // By themselves the silent ones end after five or ten seconds.
    assert!(started.elapsed() < Duration::from_secs(4));
    for stream in &mut silent {
        ends(stream).await;
    }
    // The one that was used last stays.
    let last = kept.last_mut().unwrap();
    let mut newer = connect().await;
    assert!(get(&mut newer).await.is_some());
    assert!(get(last).await.is_some());
    ends(&mut kept[0]).await;
}

#[tokio::test]
async fn a_connection_with_a_request_under_way_does_not_give_way() {
    let config = Config::sites()
        .set("http.connections_max", 2)
        .set("http.threads", 1);
    let collector = Collector::start(config).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(collector.http).await.unwrap();
        let head = b"POST /e?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n\
            Content-Length: 2\r\n\r\n";
        stream.write_all(head).await.unwrap();
        // The collector asks for the body, so the request is under way.
        let mut reply = [0; 25];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"HTTP/1.1 100 Continue\r\n\r\n");
        busy.push(stream);
    }
    let mut waiting = TcpStream::connect(collector.http).await.unwrap();
    let asked = waiting.write_all(b"GET /p.gif?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    asked.await.unwrap();
    for stream in &mut busy {
        stream.write_all(b"{}").await.unwrap();
        let mut reply = [0; 12];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"HTTP/1.1 204");
    }
    let mut reply = [0; 12];
    waiting.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"HTTP/1.1 200");
}
