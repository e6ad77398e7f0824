//! `make bench-kafka`: what Kafka between collectors and Postgres costs, with `KAFKA_HITS` hits.
//!
//! Hits are first kept in a spool, with the sink away, and then drained, so that what is measured
//! is not how fast they arrive. CPU time is that of the threads, by their names.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// Connections that send, and requests that one has in flight.
const SENDERS: usize = 4;
const IN_FLIGHT: usize = 16;

fn hits() -> usize {
    std::env::var("KAFKA_HITS").map_or(20_000, |hits| hits.parse().unwrap())
}

/// Requests of one connection, which the collector ends after 10,000.
const OF_CONNECTION: usize = 8_000;

fn request(number: usize) -> String {
    format!(
        "GET /i.gif?site=open&partner=network&campaign=spring&creative=c{}&placement=top&u=https%3A%2F%2Fwww.open.example%2F{number} \
         HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: {IPHONE}\r\nX-Forwarded-For: 2.64.{}.{}\r\n\r\n",
        number % 50,
        number / 250 % 250,
        number % 250,
    )
}

/// Sends hits of as many visitors as ads have, over connections that stay open for long.
async fn send_all(to: SocketAddr, hits: usize) {
    let senders = (0..SENDERS).map(|sender| {
        tokio::spawn(async move {
            let numbers: Vec<usize> = (sender..hits).step_by(SENDERS).collect();
            for of_connection in numbers.chunks(OF_CONNECTION) {
                let mut stream = TcpStream::connect(to).await.unwrap();
                for in_flight in of_connection.chunks(IN_FLIGHT) {
                    let requests: String = in_flight.iter().map(|n| request(*n)).collect();
                    stream.write_all(requests.as_bytes()).await.unwrap();
                    read_replies(&mut stream, in_flight.len()).await;
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
}

async fn read_replies(stream: &mut TcpStream, number: usize) {
    let mut replies = Vec::new();
    let count = |replies: &[u8]| {
        replies
            .windows(9)
            .filter(|part| part == b"HTTP/1.1 ")
            .count()
    };
    while count(&replies) < number || !replies.ends_with(b";") {
        let read = stream.read_buf(&mut replies).await.unwrap();
        assert!(read > 0, "the collector ended the connection");
    }
}

/// The CPU time of the threads of a process, in seconds, by the first word of their names.
fn cpu_seconds(process: &Collector) -> BTreeMap<String, f64> {
    let mut seconds = BTreeMap::new();
    let tasks = format!("/proc/{}/task", process.pid());
    for task in std::fs::read_dir(tasks).unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("schedstat")) else {
            continue;
        };
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let name = name.split([' ', ':', '\n']).next().unwrap_or_default();
        let nanoseconds: f64 = stat.split(' ').next().unwrap().parse().unwrap();
        *seconds.entry(name.to_owned()).or_default() += nanoseconds / 1e9;
    }
    seconds
}

/// Microseconds a hit of the threads of those names; of all others with `""`.
fn micros_a_hit(seconds: &BTreeMap<String, f64>, names: &[&str], hits: usize) -> f64 {
    let of = seconds
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()));
    of.map(|(_, seconds)| seconds).sum::<f64>() * 1e6 / hits as f64
}

/// A spool with hits, recorded while the sink was away; says what the edge took for each.
async fn record(config: Config) -> (Dir, f64) {
    let collector = Collector::start(config).await;
    let before = cpu_seconds(&collector);
    send_all(collector.http, hits()).await;
    let after = cpu_seconds(&collector);
    let edge = micros_a_hit(&after, &["edge"], hits()) - micros_a_hit(&before, &["edge"], hits());
    let (status, dir, log) = collector.stop().await;
    assert!(status.success(), "{log}");
    (dir, edge)
}

/// Waits until a query answers that many; hits a second from the first that it answers.
async fn drain(count: impl AsyncFn() -> i64, hits: usize) -> f64 {
    let mut first = None;
    loop {
        let counted = count().await;
        let (begun, before) = *first.get_or_insert_with(|| (Instant::now(), counted));
        if before == 0 && counted < hits as i64 {
            first = (counted > 0).then(|| (Instant::now(), counted));
        } else if counted >= hits as i64 {
            return (counted - before) as f64 / begun.elapsed().as_secs_f64();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn bytes_below(dir: &Path, prefix: &str) -> u64 {
    let partitions = std::fs::read_dir(dir).unwrap().flatten();
    let partitions =
        partitions.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let logs =
        partitions.flat_map(|partition| std::fs::read_dir(partition.path()).unwrap().flatten());
    let logs = logs.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "log"));
    logs.map(|log| log.metadata().unwrap().len()).sum()
}

#[tokio::test]
#[ignore = "measures, and takes minutes: make bench-kafka"]
async fn what_kafka_costs() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let hits = hits();
    let rows = async |collector: &Collector| collector.number(ROWS).await;
    // To Postgres, as ever.
    let direct = TestDatabase::migrated().await;
    let config = Config::sites().set("http.threads", 1);
    let (dir, edge_direct) = record(config.clone().without_postgres()).await;
    Config::read(dir.path())
        .database_of(&direct)
        .write_as_it_is(dir.path());
    let collector = Collector::start_in(dir).await;
    let rate = drain(async || rows(&collector).await, hits).await;
    let cpu = cpu_seconds(&collector);
    let sink = micros_a_hit(&cpu, &["avtryck", "prepare"], hits);
    eprintln!(
        "Postgres sink: edge {edge_direct:.1} µs a hit, sink {sink:.1} µs a hit, {rate:.0} hits/s ({cpu:.2?})"
    );
    drop(collector);
    // To Kafka alone.
    let nowhere = vec!["127.0.0.1:1".to_owned()];
    let away = alone(shared(&broker)).set("kafka.brokers", nowhere);
    let (dir, edge_kafka) = record(away).await;
    let there = Config::read(dir.path()).set("kafka.brokers", vec![broker.address.to_string()]);
    there.write_as_it_is(dir.path());
    let collector = Collector::start_in(dir).await;
    let produced = async || collector.metric("avtryck_kafka_messages_total").await as i64;
    let rate = drain(produced, hits).await;
    until_produced(&collector).await;
    let cpu = cpu_seconds(&collector);
    let sink = micros_a_hit(&cpu, &["avtryck", "prepare", "kafka", "rdk"], hits);
    eprintln!(
        "Kafka sink: edge {edge_kafka:.1} µs a hit, sink {sink:.1} µs a hit, {rate:.0} hits/s ({cpu:.2?})"
    );
    drop(collector);
    let wire = bytes_below(&broker.data(), "avtryck.hit-") as f64 / hits as f64;
    eprintln!("on the wire and on the brokers' disks: {wire:.0} bytes a hit with zstd");
    // From Kafka, with one loader and with two.
    for count in [1, 2] {
        let database = TestDatabase::migrated().await;
        let mut loaders = Vec::new();
        for _ in 0..count {
            let dir = tempdir();
            let group = format!("group-of-{count}");
            let config = shared(&broker)
                .set("kafka.group", group)
                .database_of(&database);
            config.write(&dir).await;
            loaders.push(loader_in(dir).await);
        }
        let rate = drain(async || rows(&loaders[0]).await, hits).await;
        let cpu: f64 = loaders
            .iter()
            .map(|of| cpu_seconds(of).values().sum::<f64>())
            .sum();
        let cpu = cpu * 1e6 / hits as f64;
        eprintln!("avtryck load, {count} of it: {cpu:.1} µs of CPU time a hit, {rate:.0} hits/s");
        assert_eq!(loaders[0].number(ROWS).await, hits as i64);
    }
}
