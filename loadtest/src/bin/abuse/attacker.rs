//! The attacker: sends the requests of one attack as fast as they are answered, or holds its
//! connections for as long as the collector lets it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use loadtest::abuse::{Attack, Manner};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpSocket, TcpStream};

/// A request without a whole reply by then is given up.
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause before a connection is tried again that was refused or broke off.
const RECONNECT_PAUSE: Duration = Duration::from_millis(2);
/// How much of a reply that nobody reads the socket of a held connection keeps, roughly.
const UNREAD_BYTES: u32 = 4096;
/// How often a connection with a reply that nobody reads is looked at.
const CLOSED_POLL_PERIOD: Duration = Duration::from_secs(1);
/// Bytes of a reply that are kept to find its end.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// What an attacker did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Requests sent.
    pub(crate) requests: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Replies by status; status 0 counts requests without a reply that was read.
    pub(crate) statuses: BTreeMap<u16, u64>,
}

/// What the attacker's line takes, in bytes a second: 10 Gbit/s. Loopback takes four to five times
/// as much, which costs the honest clients processor time before the collector has any say in it.
const LINE_BYTES_PER_SECOND: f64 = 1.25e9;

/// A line that all connections share.
struct Line {
    begun: Instant,
    sent_bytes: Cell<f64>,
}

impl Line {
    /// Waits until these bytes may be sent.
    async fn wait_for(&self, bytes: usize) {
        let sent = self.sent_bytes.get();
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        self.sent_bytes.set(sent + bytes as f64);
        let due = self.begun + Duration::from_secs_f64(sent / LINE_BYTES_PER_SECOND);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

/// Attacks for that time.
pub(crate) async fn attack(attack: &Attack, address: SocketAddr, lasts: Duration) -> Done {
    let local = tokio::task::LocalSet::new();
    let next = Rc::new(Cell::new(0));
    let line = Rc::new(Line {
        begun: Instant::now(),
        sent_bytes: Cell::new(0.0),
    });
    let until = Instant::now() + lasts;
    let mut connections = tokio::task::JoinSet::new();
    for index in 0..attack.connections {
        let shared = (Rc::clone(&next), Rc::clone(&line));
        match attack.manner {
            Manner::Exchanges => {
                let work = connection(attack.request, address, until, shared);
                connections.spawn_local_on(work, &local);
            }
            Manner::Holds { addresses, .. } => {
                // 127.0.1.1 and on: none of them is a proxy of the collector.
                let host = u8::try_from(index % usize::from(addresses.max(1))).unwrap_or(0);
                let from = SocketAddr::from(([127, 0, 1, host + 1], 0));
                let work = held(attack.request, (from, address), until, shared);
                connections.spawn_local_on(work, &local);
            }
        }
    }
    local
        .run_until(async {
            let mut all = Done::default();
            while let Some(Ok(done)) = connections.join_next().await {
                all.requests += done.requests;
                all.bytes += done.bytes;
                for (status, number) in done.statuses {
                    *all.statuses.entry(status).or_default() += number;
                }
            }
            all
        })
        .await
}

async fn connection(
    request: fn(u64, &mut Vec<u8>),
    address: SocketAddr,
    until: Instant,
    (next, line): (Rc<Cell<u64>>, Rc<Line>),
) -> Done {
    let mut done = Done::default();
    let (mut bytes, mut reply) = (Vec::new(), Vec::new());
    let mut kept = None;
    while Instant::now() < until {
        let stream = match kept.take() {
            Some(stream) => Ok(stream),
            None => TcpStream::connect(address).await,
        };
        let Ok(mut stream) = stream else {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            continue;
        };
        bytes.clear();
        request(next.replace(next.get() + 1), &mut bytes);
        line.wait_for(bytes.len()).await;
        let exchange = exchange(&mut stream, &bytes, &mut reply);
        let answered = tokio::time::timeout(REPLY_TIME_MAX, exchange).await;
        done.requests += 1;
        done.bytes += bytes.len() as u64;
        let answer = answered.ok().flatten();
        let status = answer.map_or(0, |answer| answer.status);
        *done.statuses.entry(status).or_default() += 1;
        if answer.is_some_and(|answer| !answer.closes) {
            kept = Some(stream);
        }
    }
    done
}

/// Opens a connection again and again, sends, and waits until it is closed.
async fn held(
    request: fn(u64, &mut Vec<u8>),
    (from, address): (SocketAddr, SocketAddr),
    until: Instant,
    (next, line): (Rc<Cell<u64>>, Rc<Line>),
) -> Done {
    let mut done = Done::default();
    let mut bytes = Vec::new();
    while Instant::now() < until {
        let Ok(mut stream) = connect_from(from, address).await else {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            continue;
        };
        bytes.clear();
        request(next.replace(next.get() + 1), &mut bytes);
        line.wait_for(bytes.len()).await;
        done.requests += 1;
        done.bytes += bytes.len() as u64;
        *done.statuses.entry(0).or_default() += 1;
        let held = async {
            drop(stream.write_all(&bytes).await);
            while let Ok(ready) = stream.ready(Interest::READABLE).await
                && !ready.is_read_closed()
            {
                tokio::time::sleep(CLOSED_POLL_PERIOD).await;
            }
        };
        tokio::time::timeout_at(until.into(), held).await.ok();
    }
    done
}

async fn connect_from(from: SocketAddr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(UNREAD_BYTES)?;
    socket.bind(from)?;
    socket.connect(address).await
}

/// Sends a request and reads its whole reply, if one comes.
async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    reply: &mut Vec<u8>,
) -> Option<loadtest::Reply> {
    // What is refused before it was sent whole has a reply all the same.
    drop(stream.write_all(request).await);
    reply.clear();
    loop {
        if let Some(whole) = loadtest::reply(reply) {
            return Some(whole);
        }
        if stream.read_buf(reply).await.ok()? == 0 || reply.len() > REPLY_BYTES_MAX {
            return None;
        }
    }
}
