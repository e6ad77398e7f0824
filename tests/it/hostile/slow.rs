//! Clients that take their time, thousands of them, while others are served.
//!
//! `make hostile` runs this alone, with all of them, and holds latency to the promise. Among other
//! tests, which take the same cores, there are fewer, and it is held to a bound that only a server
//! that stalls would miss.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use loadtest::{Outcome, Plan};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::tcp::WriteHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use crate::support::{Collector, Config, tempdir, until};

const CONNECTIONS: u32 = 5000;
/// The same among other tests.
const CONNECTIONS_SHARED: u32 = 1500;
/// What each kind has until it is cut off: header, body, write and idle time are the same.
const TIME_MAX: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(1);
/// Of the server's own; what the kernel keeps in socket buffers is not in it.
const MEMORY_BYTES_MAX: u64 = 20 * 1024;
/// Latencies below are not told apart: one sync that has to wait for the disk takes as long.
const LATENCY_FLOOR: Duration = Duration::from_millis(2);
/// The same among other tests.
const LATENCY_FLOOR_SHARED: Duration = Duration::from_millis(500);
const HONEST_RATE: f64 = 500.0;
/// How long they are by themselves first.
const QUIET_TIME: Duration = Duration::from_secs(5);
/// The same among other tests.
const QUIET_TIME_SHARED: Duration = Duration::from_secs(1);
/// How many slow ones come in a second: the first reach their time when the last have come, and
/// none before.
const OPENED_PER_SECOND: u32 = 600;
const HOST: &str = "Host: 127.0.0.1\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slow {
    /// Connects and says nothing.
    Silent,
    /// Sends its header at a byte a second.
    Header,
    /// Sends its body at a byte a second.
    Body,
    /// Sends requests and reads no reply.
    NonReading,
    /// Sends half a header and is gone, with no word to the other side.
    HalfOpen,
    /// Sends one request and keeps the connection.
    Idle,
}

const KINDS: [Slow; 6] = [
    Slow::Silent,
    Slow::Header,
    Slow::Body,
    Slow::NonReading,
    Slow::HalfOpen,
    Slow::Idle,
];

struct Client {
    kind: Slow,
    stream: TcpStream,
    /// From when its time counts.
    began: Instant,
}

/// Connects from an address of its own and does what its kind does first.
async fn open(number: u32, address: SocketAddr, kind: Slow) -> Client {
    let [_, _, a, b] = number.to_be_bytes();
    let socket = TcpSocket::new_v4().unwrap();
    if kind == Slow::NonReading {
        socket.set_recv_buffer_size(2048).unwrap();
    }
    socket
        .bind((Ipv4Addr::new(127, 9, a, b), 0).into())
        .unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let first = match kind {
        Slow::Silent | Slow::Header => String::new(),
        Slow::HalfOpen => format!("GET /p.gif?site=open&e=half HTTP/1.1\r\n{HOST}"),
        Slow::Body => format!("POST /e HTTP/1.1\r\n{HOST}Content-Length: 1000\r\n\r\n{{"),
        Slow::NonReading => format!("GET /tag.js?site=open HTTP/1.1\r\n{HOST}\r\n").repeat(100),
        Slow::Idle => format!("GET /p.gif?site=open&e=idle HTTP/1.1\r\n{HOST}\r\n"),
    };
    stream.write_all(first.as_bytes()).await.unwrap();
    if kind == Slow::Idle {
        let mut reply = Vec::new();
        while !reply.ends_with(b";") {
            assert_ne!(stream.read_buf(&mut reply).await.unwrap(), 0);
        }
    }
    Client {
        kind,
        stream,
        began: Instant::now(),
    }
}

impl Client {
    /// Goes on until the server ends the connection; how long it had.
    async fn hold(mut self) -> Duration {
        if self.kind == Slow::NonReading {
            // A reset is seen without reading.
            self.stream.ready(Interest::ERROR).await.unwrap();
            return self.began.elapsed();
        }
        let bytes: &[u8] = match self.kind {
            Slow::Header => b"GET /p.gif?site=open&e=slow HTTP/1.1\r\n",
            Slow::Body => b" ",
            _ => b"",
        };
        let (mut read, write) = self.stream.split();
        let mut rest = Vec::new();
        tokio::select! {
            _ = read.read_to_end(&mut rest) => {}
            () = trickle(write, bytes) => {}
        }
        self.began.elapsed()
    }
}

/// Writes a byte a second until the other side takes no more.
async fn trickle(mut stream: WriteHalf<'_>, bytes: &[u8]) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for byte in bytes.iter().cycle() {
        second.tick().await;
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
    }
    std::future::pending().await
}

/// Honest clients on a thread of their own, so that the slow ones here do not delay them. They
/// begin anew each second: what this machine's disk does to one of them says little.
struct Honest {
    stop: watch::Sender<bool>,
    sending: JoinHandle<Vec<Outcome>>,
}

impl Honest {
    fn start(address: SocketAddr) -> Honest {
        let (stop, stopped) = watch::channel(false);
        let sending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(by_seconds(address, stopped))
        });
        Honest { stop, sending }
    }

    async fn stop(self) -> Honesty {
        self.stop.send_replace(true);
        let seconds = tokio::task::spawn_blocking(|| self.sending.join().unwrap())
            .await
            .unwrap();
        let mut p99s: Vec<u64> = seconds
            .iter()
            .map(|second| second.latency.value_at_quantile(0.99))
            .collect();
        p99s.sort_unstable();
        Honesty {
            p99: Duration::from_micros(p99s[p99s.len() / 2]),
            failed: seconds
                .iter()
                .any(|second| second.broken > 0 || !second.refused.is_empty()),
        }
    }
}

/// What honest clients saw.
struct Honesty {
    /// In half of the seconds no more.
    p99: Duration,
    failed: bool,
}

async fn by_seconds(address: SocketAddr, stopped: watch::Receiver<bool>) -> Vec<Outcome> {
    let mut seconds = Vec::new();
    while !*stopped.borrow() {
        let plan = Plan {
            address,
            site: "open".to_owned(),
            prefix: "honest".to_owned(),
            connections: 16,
            rate: Some(HONEST_RATE),
            fresh: false,
            padding: 0,
        };
        let (end, ended) = watch::channel(false);
        let (outcome, ()) = tokio::join!(loadtest::send(plan, ended), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            end.send_replace(true);
        });
        seconds.push(outcome);
    }
    seconds
}

/// How much later than due a timer of this process ever rang, until it is aborted.
async fn watch_lag(lag: watch::Sender<Duration>) {
    let period = Duration::from_millis(20);
    loop {
        let started = Instant::now();
        tokio::time::sleep(period).await;
        let late = started.elapsed().saturating_sub(period);
        lag.send_if_modified(|largest| {
            let is_larger = late > *largest;
            *largest = late.max(*largest);
            is_larger
        });
    }
}

/// Lets the system prefer every other thread to this one: attackers have processors of their own.
fn step_back() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let renice = std::process::Command::new("renice")
        .args(["-n", "19", "-p"])
        .arg(thread.file_name().unwrap())
        .output();
    assert!(renice.unwrap().status.success());
}

/// Opens all slow connections, tells how long that took, and holds them. How long those of each
/// kind had, least and most, and how late this thread ever was.
fn attack(
    address: SocketAddr,
    connections: u32,
    opened: oneshot::Sender<Duration>,
) -> (BTreeMap<Slow, (Duration, Duration)>, Duration) {
    step_back();
    let work = async {
        let (lag, largest_lag) = watch::channel(Duration::ZERO);
        let lagging = tokio::spawn(watch_lag(lag));
        let at_once = Arc::new(Semaphore::new(128));
        let mut clients = JoinSet::new();
        let started = Instant::now();
        for number in 0..connections {
            let due = started + Duration::from_secs(1) * number / OPENED_PER_SECOND;
            tokio::time::sleep_until(due.into()).await;
            let permit = Arc::clone(&at_once).acquire_owned().await.unwrap();
            let kind = KINDS[number as usize % KINDS.len()];
            clients.spawn(async move {
                let client = open(number, address, kind).await;
                drop(permit);
                (kind, client.hold().await)
            });
        }
        drop(at_once.acquire_many(128).await.unwrap());
        opened.send(started.elapsed()).unwrap();
        let mut times: BTreeMap<Slow, (Duration, Duration)> = BTreeMap::new();
        while let Some(done) = clients.join_next().await {
            let (kind, time) = done.unwrap();
            let (least, most) = times.entry(kind).or_insert((time, time));
            (*least, *most) = (time.min(*least), time.max(*most));
        }
        lagging.abort();
        (times, *largest_lag.borrow())
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn raise_open_files(connections: u32) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(hard > u64::from(connections) + 512, "open files: {hard}");
}

/// Makes a configuration to which the slow clients are strangers, and no proxies.
fn config() -> Config {
    Config::sites().set("http.trusted_proxies", vec!["127.0.0.1/32"])
}

#[tokio::test]
async fn thousands_of_slow_clients_are_cut_off_in_time_cost_little_and_delay_nobody() {
    let is_alone = std::env::var_os("HOSTILE_ALONE").is_some();
    let (connections, quiet_time, floor) = if is_alone {
        (CONNECTIONS, QUIET_TIME, LATENCY_FLOOR)
    } else {
        (CONNECTIONS_SHARED, QUIET_TIME_SHARED, LATENCY_FLOOR_SHARED)
    };
    raise_open_files(connections);
    // Without Postgres, so that what grows is what connections take, and not the loader.
    let collector = Collector::start(config().without_postgres()).await;
    // It asks for Postgres once geodata and rules are in memory.
    until(async || collector.metric("avtryck_postgres_errors_total").await > 0.0).await;
    let honest = Honest::start(collector.http);
    tokio::time::sleep(quiet_time).await;
    let before = honest.stop().await;
    let memory_before = collector.resident_bytes();

    let honest = Honest::start(collector.http);
    let (told, opened) = oneshot::channel();
    let address = collector.http;
    let attack = std::thread::spawn(move || attack(address, connections, told));
    let took = opened.await.unwrap();
    let opening = honest.stop().await;
    let honest = Honest::start(collector.http);
    let open = collector.metric("avtryck_http_connections").await;
    let mut memory = collector.resident_bytes();
    while !attack.is_finished() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        memory = memory.max(collector.resident_bytes());
    }
    let (times, lag) = attack.join().unwrap();
    let after = honest.stop().await;

    let each = memory.saturating_sub(memory_before) / u64::from(connections);
    eprintln!(
        "{open} connections open after {took:?}: {each} bytes each; honest p99 {:?} before, {:?} while they came, {:?} while they stayed and were cut off; \
         cut off after {times:?}, this process late by at most {lag:?}",
        before.p99, opening.p99, after.p99,
    );
    // Where opening them took as long, the first are cut off already.
    assert!(open >= f64::from(connections) || took + SLACK > TIME_MAX && !is_alone);
    for (kind, (least, most)) in times {
        assert!(
            least + SLACK + lag >= TIME_MAX,
            "{kind:?} after only {least:?}"
        );
        assert!(
            most <= TIME_MAX + SLACK + lag,
            "{kind:?} only after {most:?}"
        );
    }
    assert!(each <= MEMORY_BYTES_MAX, "{each}");
    for during in [opening, after] {
        assert!(!during.failed);
        assert!(during.p99 <= (2 * before.p99).max(floor));
    }
}

#[tokio::test]
async fn where_files_are_few_fewer_connections_are_held_and_nobody_is_lost() {
    let mut command = Command::new("prlimit");
    command
        .args(["--nofile=700:700", env!("CARGO_BIN_EXE_avtryck"), "serve"])
        .stdin(std::process::Stdio::null());
    let dir = tempdir();
    config().write(&dir).await;
    let collector = Collector::start_by(command, dir).await;
    let mut silent = Vec::new();
    for number in 0..400 {
        silent.push(open(number, collector.http, Slow::Silent).await);
    }
    // Half of the files are left for connections, 350, and each of the two edge threads holds the
    // place of the one that it waits for. Who comes then waits until another one ends, and is
    // answered.
    let waiting = tokio::spawn(loadtest::one(collector.http, "open"));
    until(async || collector.metric("avtryck_http_connections").await >= 349.0).await;
    drop(silent);
    assert_eq!(waiting.await.unwrap(), Some(200));
    assert_eq!(
        collector.metric("avtryck_http_accept_errors_total").await,
        0.0
    );
    collector
        .wait_for("select count(*) from avtryck.hit", 1)
        .await;
    let (_, _, log) = collector.stop().await;
    assert!(log.contains("http.connections_max is more than"), "{log}");
}
