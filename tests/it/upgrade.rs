//! One process goes on in the place of another: no connection is refused, no request fails.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use loadtest::Plan;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::chaos::{Load, check_names, postgres_pid};
use crate::support::{Collector, Config, PATIENCE, command, free_address, tempdir};

const UPGRADES: u32 = 3;

fn plan(address: SocketAddr, prefix: &str, rate: f64) -> Plan {
    Plan {
        address,
        site: "open".to_owned(),
        prefix: prefix.to_owned(),
        connections: 16,
        rate: Some(rate),
        fresh: prefix == "fresh",
        padding: 0,
    }
}

#[tokio::test]
async fn upgrades_under_load_refuse_no_connection_fail_no_request_and_load_each_hit_once() {
    let mut collector = Collector::start(Config::sites().embedded()).await;
    let address = collector.http;
    collector.until_up().await;
    let postgres = postgres_pid(collector.dir.path(), None);
    let loads = [("kept", 1000.0), ("fresh", 300.0)];
    let loads = loads.map(|(prefix, rate)| (prefix, Load::of(plan(address, prefix, rate))));
    for _ in 0..UPGRADES {
        let (next, status, log) = collector.hand_over().await;
        assert!(status.success(), "{log}");
        assert!(
            log.contains("\"handed over\"") && !log.contains("cut off"),
            "{log}"
        );
        assert_eq!(next.http, address);
        collector = next;
    }
    collector.until_up().await;
    assert_eq!(postgres_pid(collector.dir.path(), None), postgres);
    for (prefix, load) in loads {
        let outcome = load.stop().await;
        let failed = (outcome.unconnected, outcome.broken, outcome.refused.len());
        assert_eq!(failed, (0, 0, 0));
        assert!(outcome.acknowledged.len() > 500);
        check_names(&collector.database().await, prefix, &outcome, PATIENCE).await;
    }
    let (status, _, log) = collector.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test]
async fn a_successor_that_goes_away_leaves_the_collector_serving() {
    let collector = Collector::open().await;
    let successor = UnixStream::connect(collector.dir.path().join("spool/hand-over")).unwrap();
    let started = Instant::now();
    while !says_the_last(collector.http).await {
        assert!(started.elapsed() < PATIENCE);
    }
    drop(successor);
    while says_the_last(collector.http).await {
        assert!(started.elapsed() < PATIENCE);
    }
    let (status, _, log) = collector.stop().await;
    assert!(
        status.success() && log.contains("this one goes on"),
        "{log}"
    );
}

/// Whether the reply to a request that would keep its connection says that it is the last one.
async fn says_the_last(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /p.gif?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        if let Some(reply) = loadtest::reply(&bytes) {
            assert_eq!(reply.status, 200);
            return reply.closes;
        }
    }
}

#[tokio::test]
async fn without_being_told_to_take_over_a_second_collector_ends_and_says_why() {
    let collector = Collector::open().await;
    let second = command(&["serve"])
        .env("AVTRYCK_CONFIG", collector.dir.path().join("avtryck.toml"))
        .output();
    let second = tokio::time::timeout(PATIENCE, second)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("in use by another process"), "{text}");
    assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
}

#[tokio::test]
async fn an_address_that_the_successor_does_not_have_is_given_up() {
    let dir = tempdir();
    Config::sites().write(&dir).await;
    let collector = Collector::start_by(command(&["serve", "--take-over"]), dir).await;
    let (before, after) = (collector.http, free_address());
    let dir = collector.dir.path();
    let config = Config::read(dir).set("http.listen", after.to_string());
    config.write_as_it_is(dir);
    let (collector, status, log) = collector.hand_over().await;
    assert!(status.success(), "{log}");
    assert_eq!(collector.http, after);
    assert!(TcpStream::connect(before).await.is_err());
    assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
}
