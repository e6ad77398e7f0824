//! The attacker: sends the requests of one attack as fast as they are answered.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use loadtest::abuse::Attack;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request without a whole reply by then is given up.
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause before a connection is tried again that was refused or broke off.
const RECONNECT_PAUSE: Duration = Duration::from_millis(2);
/// Bytes of a reply that are kept to find its end.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// What an attacker did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Requests sent.
    pub(crate) requests: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Replies by status; status 0 counts requests without a reply.
    pub(crate) statuses: BTreeMap<u16, u64>,
}

/// Attacks for that time.
pub(crate) async fn attack(attack: &Attack, address: SocketAddr, lasts: Duration) -> Done {
    let local = tokio::task::LocalSet::new();
    let next = Rc::new(Cell::new(0));
    let until = Instant::now() + lasts;
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..attack.connections {
        let work = connection(attack.request, address, until, Rc::clone(&next));
        connections.spawn_local_on(work, &local);
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
    next: Rc<Cell<u64>>,
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
