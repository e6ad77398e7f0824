//! Load for avtryck: pixels over keep-alive connections, each with a name of its own, and a note of
//! each one that was acknowledged.
//!
//! A hit is acknowledged once the whole reply with status 200 has been read. One whose reply was
//! not read to its end may or may not have been kept; that is for nobody to know, and it is not
//! counted as either. Whoever compares with Postgres looks for each acknowledged name exactly once.

pub mod abuse;
pub mod corpus;
pub mod rig;
pub mod trackers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Pause before a connection is tried again that was refused or broke off.
const RECONNECT_PAUSE: Duration = Duration::from_millis(2);
/// A reply that is not there by then counts as broken off.
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);
/// The largest latency that is told apart from larger ones, in microseconds.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// What to send, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The collector's public address.
    pub address: SocketAddr,
    /// The key of the site.
    pub site: String,
    /// Begins each hit's name, so that several loads can be told apart.
    pub prefix: String,
    /// Connections side by side; each has one request under way.
    pub connections: usize,
    /// Requests a second over all connections; as fast as replies come where there is none.
    pub rate: Option<f64>,
    /// Each request over a connection of its own.
    pub fresh: bool,
    /// Bytes that each page's URL is longer, up to 2,000, to fill a spool with fewer hits.
    pub padding: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The numbers of the acknowledged hits: their names are `<prefix>-<number>`.
    pub acknowledged: Vec<u64>,
    /// Replies with another status than 200, by status.
    pub refused: std::collections::BTreeMap<u16, u64>,
    /// Requests without a whole reply.
    pub broken: u64,
    /// Connections that were not taken.
    pub unconnected: u64,
    /// From the moment that a request was due to the end of its reply, in microseconds. Where the
    /// rate is given a request is due on schedule, even if the one before it is not answered
    /// yet.
    pub latency: Histogram<u64>,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    fn new() -> Outcome {
        let latency = Histogram::new_with_max(LATENCY_MICROS_MAX, 3)
            .expect("three digits up to a minute are within bounds");
        Outcome {
            acknowledged: Vec::new(),
            refused: std::collections::BTreeMap::new(),
            broken: 0,
            unconnected: 0,
            latency,
            took: Duration::ZERO,
        }
    }

    fn add(&mut self, other: Outcome) {
        self.acknowledged.extend(other.acknowledged);
        for (status, number) in other.refused {
            *self.refused.entry(status).or_default() += number;
        }
        self.broken += other.broken;
        self.unconnected += other.unconnected;
        self.latency
            .add(other.latency)
            .expect("both have the same bounds");
    }
}

/// Sends until `stop` holds true, then waits for the replies that are under way.
pub async fn send(plan: Plan, stop: watch::Receiver<bool>) -> Outcome {
    let started = Instant::now();
    let plan = Arc::new(plan);
    let next = Arc::new(AtomicU64::new(0));
    let mut connections = JoinSet::new();
    for index in 0..plan.connections {
        let (plan, next, stop) = (Arc::clone(&plan), Arc::clone(&next), stop.clone());
        connections.spawn(async move { one_connection(&plan, index, &next, stop).await });
    }
    let mut all = Outcome::new();
    for outcome in connections.join_all().await {
        all.add(outcome);
    }
    all.took = started.elapsed();
    all
}

async fn one_connection(
    plan: &Plan,
    index: usize,
    next: &AtomicU64,
    mut stop: watch::Receiver<bool>,
) -> Outcome {
    let mut outcome = Outcome::new();
    let mut connection = None;
    let mut schedule = Schedule::new(plan, index);
    let mut buffer = Vec::with_capacity(4096);
    while !*stop.borrow_and_update() {
        let due = tokio::select! {
            due = schedule.next() => due,
            _ = stop.changed() => continue,
        };
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => match TcpStream::connect(plan.address).await {
                Ok(stream) => stream,
                Err(_) => {
                    outcome.unconnected += 1;
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                    continue;
                }
            },
        };
        let number = next.fetch_add(1, Ordering::Relaxed);
        let request = request(plan, number);
        let exchange = exchange(&mut stream, request.as_bytes(), &mut buffer);
        match tokio::time::timeout(REPLY_TIME_MAX, exchange).await {
            Ok(Ok(reply)) => {
                let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                outcome.latency.saturating_record(micros);
                if reply.status == 200 {
                    outcome.acknowledged.push(number);
                } else {
                    *outcome.refused.entry(reply.status).or_default() += 1;
                }
                if !reply.closes && !plan.fresh {
                    connection = Some(stream);
                }
            }
            _ => {
                outcome.broken += 1;
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }
    outcome
}

/// Sends one pixel without a name over a connection of its own; the reply's status, if there is
/// one.
pub async fn one(address: SocketAddr, site: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /p.gif?site={site} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let mut buffer = Vec::new();
    let exchange = exchange(&mut stream, request.as_bytes(), &mut buffer);
    let reply = tokio::time::timeout(REPLY_TIME_MAX, exchange).await;
    Some(reply.ok()?.ok()?.status)
}

/// When each request of a connection is due.
struct Schedule {
    period: Option<Duration>,
    due: Instant,
}

impl Schedule {
    #[expect(
        clippy::cast_precision_loss,
        reason = "there are far fewer than 2^52 connections"
    )]
    fn new(plan: &Plan, index: usize) -> Schedule {
        let period = plan
            .rate
            .map(|rate| Duration::from_secs_f64(plan.connections as f64 / rate));
        let share = index as f64 / plan.connections.max(1) as f64;
        Schedule {
            period,
            due: Instant::now() + period.unwrap_or_default().mul_f64(share),
        }
    }

    /// Waits for the next request's time and says when it was due: a late one was due on schedule,
    /// one that was waited for is due when the wait ended, which a timer makes up to a
    /// millisecond later.
    async fn next(&mut self) -> Instant {
        let Some(period) = self.period else {
            return Instant::now();
        };
        let due = self.due;
        self.due += period;
        if due <= Instant::now() {
            return due;
        }
        tokio::time::sleep_until(due.into()).await;
        Instant::now()
    }
}

/// A pixel as a phone's browser sends it behind a proxy that the collector trusts.
fn request(plan: &Plan, number: u64) -> String {
    let Plan { site, prefix, .. } = plan;
    let padding = "p".repeat(plan.padding);
    format!(
        "GET /p.gif?site={site}&e={prefix}-{number}&u=https%3A%2F%2Fwww.{site}.example%2Fpage%2F{page}{padding} HTTP/1.1\r\n\
         Host: 127.0.0.1\r\n\
         User-Agent: Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Mobile Safari/537.36\r\n\
         X-Forwarded-For: 2.{a}.{b}.{c}\r\n\r\n",
        page = number % 1000,
        version = 120 + number % 30,
        a = 64 + number % 64,
        b = number % 251,
        c = 1 + number % 253,
    )
}

/// What the head of a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// No further request may follow on its connection.
    pub closes: bool,
}

/// Sends a request and reads its whole reply.
async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> std::io::Result<Reply> {
    stream.write_all(request).await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(reply) = reply(buffer) {
            return Ok(reply);
        }
    }
}

/// The reply, once all of it is there.
#[must_use]
pub fn reply(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let (mut length, mut closes) = (0, false);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        }
        closes |= name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close");
    }
    (bytes.len() >= end + 4 + length).then_some(Reply { status, closes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_counts_once_all_of_it_is_there() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nConnection: close\r\n\r\nGIF";
        for cut in 0..bytes.len() {
            assert!(reply(&bytes[..cut]).is_none(), "{cut}");
        }
        let whole = reply(bytes).expect("a whole reply");
        assert_eq!((whole.status, whole.closes), (200, true));
    }
}
