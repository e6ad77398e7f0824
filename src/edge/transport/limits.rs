//! The limits of the public listener, in one place: time, bytes, connections, open files.
//!
//! What a client may take of the collector is bounded by these whatever it sends: a connection that
//! shows no progress ends within its time, and the number of connections is known before one is
//! accepted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Semaphore;

/// Time for a request's header, and for the next request of a connection to begin.
pub(crate) const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for the first bytes of a connection on which HTTP/2 may begin.
pub(crate) const PREFACE_TIME_MAX: Duration = Duration::from_secs(5);
/// Time for the handshake of TLS.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a client may take none of the bytes that it is sent.
pub(crate) const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// Age at which a connection is ended, so that load moves to new processes and hosts.
pub(crate) const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
/// How long the last request of a connection may take: its body, the spool, and its reply taken bit
/// by bit.
pub(crate) const LAST_REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Requests after which a connection is ended.
pub(crate) const CONNECTION_REQUESTS_MAX: u32 = 10_000;
/// The buffer for a request's header, in bytes: hyper answers a larger one with 431.
pub(crate) const HEADER_BYTES_MAX: usize = 16 * 1024;
/// What the kernel keeps of replies that a client does not read, in bytes; left alone it grows to 4
/// MiB a connection. Linux takes twice that for its own bookkeeping.
pub(crate) const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Connections that wait to be accepted.
pub(crate) const BACKLOG: i32 = 4096;

/// Files that are open beside connections: chunks, the loader's connection, the admin listener's
/// 64, geodata while it is read, and what the runtimes need.
const FILES_BESIDE: u64 = 512;

/// How many of `connections_max` the process can hold open. Raises its own limit of open files as
/// far as it may: a limit that is found out by a failing `accept` would stop the spool's new chunks
/// as well.
fn connections_that_fit(connections_max: usize) -> usize {
    let wanted = u64::try_from(connections_max)
        .unwrap_or(u64::MAX)
        .saturating_add(FILES_BESIDE);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return connections_max;
    };
    let mut files_max = soft;
    if soft < wanted {
        let raised = wanted.min(hard);
        match setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
            Ok(()) => files_max = raised,
            Err(error) => {
                tracing::warn!(%error, soft, raised, "open files: the limit cannot be raised")
            }
        }
    }
    let fitting = files_max
        .saturating_sub(FILES_BESIDE)
        .max(files_max / 2)
        .max(1);
    let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
    if fitting < connections_max {
        tracing::warn!(
            files_max,
            connections_max,
            "http.connections_max: more than the limit of open files has room for; at most {fitting} connections are held"
        );
    }
    fitting.min(connections_max)
}

/// How many connections there may be, in all and from one address.
pub struct Limits {
    pub(crate) all: Arc<Semaphore>,
    /// Open connections by address; as many entries as there are connections at the most.
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Limits {
    /// Of `connections_max`, or as many as fit.
    #[must_use]
    pub fn new(connections_max: usize) -> Limits {
        Limits {
            all: Arc::new(Semaphore::new(connections_that_fit(connections_max))),
            per_address: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a connection for its address, which may have so many.
    pub(crate) fn enter(
        self: &Arc<Limits>,
        ip: IpAddr,
        per_address_max: usize,
    ) -> Result<Entered, TooMany> {
        let key = subscriber(ip);
        let mut counts = self
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_insert(0);
        if *count >= per_address_max {
            return Err(TooMany);
        }
        *count += 1;
        Ok(Entered {
            limits: Arc::clone(self),
            key,
        })
    }
}

/// An address has as many connections as it may.
#[derive(Debug)]
pub(crate) struct TooMany;

/// A connection that is counted, until it is dropped.
pub(crate) struct Entered {
    limits: Arc<Limits>,
    key: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut counts = self
            .limits
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// An IPv4 address, or the /64 of an IPv6 one: what one subscriber has.
pub(crate) fn subscriber(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}
