//! The open loop: requests that are due at a fixed rate whatever the replies do.
//!
//! A request's latency counts from the moment that it was due, so one that had to wait for a
//! connection, because those before it took long, has that wait in its latency (no coordinated
//! omission). The pace is kept by ticks of [`TICK`]: a request leaves up to that much late, which
//! its latency has in it too.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use loadtest::corpus::Corpus;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const TICK: Duration = Duration::from_micros(200);
const CONNECTIONS: usize = 64;
const LATENCY_MICROS_MAX: u64 = 60_000_000;
/// A reply that is not there by then counts as failed.
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// In microseconds, of requests with a whole reply of status 2xx.
    pub(crate) latency: Histogram<u64>,
    /// All others.
    pub(crate) failed: u64,
}

impl Outcome {
    /// The latency in milliseconds that a share of the requests keeps to.
    #[expect(
        clippy::cast_precision_loss,
        reason = "at most a minute in microseconds"
    )]
    pub(crate) fn millis(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Sends `rate` requests a second for `time`. Runs on a thread of its own.
pub(crate) async fn run(
    address: SocketAddr,
    corpus: Arc<Corpus>,
    first_serial: u64,
    rate: u32,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let sending = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, send(address, corpus, first_serial, rate, time))
    });
    sending.await.context("the open loop panicked")?
}

struct Queue {
    corpus: Arc<Corpus>,
    due: RefCell<VecDeque<(Instant, u64)>>,
    more: Notify,
    is_over: Cell<bool>,
    outcome: RefCell<Outcome>,
}

async fn send(
    address: SocketAddr,
    corpus: Arc<Corpus>,
    first_serial: u64,
    rate: u32,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let queue = Rc::new(Queue {
        corpus,
        due: RefCell::default(),
        more: Notify::new(),
        is_over: Cell::new(false),
        outcome: RefCell::new(Outcome {
            latency: Histogram::new_with_max(LATENCY_MICROS_MAX, 3)?,
            failed: 0,
        }),
    });
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connections.spawn_local(connection(address, stream, Rc::clone(&queue)));
    }
    let tick = Arc::new(Notify::new());
    let pace = Pace::start(&tick);
    let start = Instant::now();
    let gap = Duration::from_secs(1) / rate;
    let count = u64::from(rate) * time.as_secs();
    let mut next = 0_u64;
    while next < count {
        tick.notified().await;
        let now = Instant::now();
        loop {
            let due = start + gap * u32::try_from(next)?;
            if due > now || next == count {
                break;
            }
            queue.due.borrow_mut().push_back((due, first_serial + next));
            queue.more.notify_one();
            next += 1;
        }
    }
    pace.stop();
    queue.is_over.set(true);
    // Whoever waits hears it now, whoever is busy sees it after.
    queue.more.notify_waiters();
    connections.join_all().await;
    let outcome = queue.outcome.borrow().clone();
    Ok(outcome)
}

/// A thread that ticks: the timers of the system are finer than the runtime's milliseconds.
struct Pace {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Pace {
    fn start(tick: &Arc<Notify>) -> Pace {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, tick) = (Arc::clone(&is_over), Arc::clone(tick));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                tick.notify_one();
            }
        });
        Pace { is_over, thread }
    }

    fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("a thread that only ticks");
    }
}

async fn connection(address: SocketAddr, stream: TcpStream, queue: Rc<Queue>) {
    let mut stream = Some(stream);
    let (mut request, mut reply) = (Vec::new(), Vec::with_capacity(4096));
    loop {
        let job = queue.due.borrow_mut().pop_front();
        let Some((due, serial)) = job else {
            if queue.is_over.get() {
                return;
            }
            queue.more.notified().await;
            continue;
        };
        let at = usize::try_from(serial).unwrap_or(0) % queue.corpus.requests.len().max(1);
        request.clear();
        if let Some(of_corpus) = queue.corpus.requests.get(at) {
            of_corpus.put(serial, &mut request);
        }
        let sent = exchange(address, &mut stream, &request, &mut reply);
        let answered = tokio::time::timeout(REPLY_TIME_MAX, sent).await;
        let mut outcome = queue.outcome.borrow_mut();
        if matches!(answered, Ok(Ok(()))) {
            let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
            outcome.latency.saturating_record(micros);
        } else {
            outcome.failed += 1;
            stream = None;
        }
    }
}

async fn exchange(
    address: SocketAddr,
    kept: &mut Option<TcpStream>,
    request: &[u8],
    reply: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address).await?,
    };
    stream.write_all(request).await?;
    reply.clear();
    loop {
        if stream.read_buf(reply).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(parsed) = loadtest::reply(reply) {
            if !(200..300).contains(&parsed.status) {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            if !parsed.closes {
                *kept = Some(stream);
            }
            return Ok(());
        }
    }
}
