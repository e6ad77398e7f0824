//! The limits of the public listener, in one place: time, bytes, connections, open files.
//!
//! They bound what a client can use of the collector, whatever it sends: a connection that makes no
//! progress ends within its time, and connections are counted before they are accepted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Notify, Semaphore};

use super::memory::Memory;
pub(crate) use super::subscriber::{SITE_FACTOR, site, subscriber};

/// Time for a request's header, and time until the next request of a connection begins.
pub(crate) const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for the first bytes of a connection on which HTTP/2 may begin.
pub(crate) const PREFACE_TIME_MAX: Duration = Duration::from_secs(5);
/// Time for the handshake of TLS.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a client may accept none of the bytes that it is sent.
pub(crate) const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a refused client may go on sending what nobody reads.
pub(crate) const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
/// Age at which a connection is ended, so that load moves to new processes and hosts.
pub(crate) const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
/// Time for the last request of a connection: its body, the spool, and a client that reads the
/// reply slowly.
pub(crate) const LAST_REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Requests after which a connection is ended.
pub(crate) const CONNECTION_REQUESTS_MAX: u32 = 10_000;
/// What the kernel keeps of replies that a client does not read, in bytes; by default it grows to
/// 4 MiB a connection. Linux uses twice this value, for its own bookkeeping.
pub(crate) const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How many connections may wait to be accepted.
pub(crate) const BACKLOG: i32 = 4096;

/// Open files other than connections: chunks, the loader's connection, the admin listener's 64,
/// geodata while it is read, and what the runtimes need.
const OTHER_FILES: u64 = 512;

/// Returns how many of `connections_max` the process can hold open, after raising its own limit of
/// open files as far as allowed. A limit that only shows when `accept` fails would also stop the
/// spool from opening new chunks.
fn fit_to_open_files(connections_max: usize) -> usize {
    let wanted = u64::try_from(connections_max)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHER_FILES);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return connections_max;
    };
    let mut files_max = soft;
    if soft < wanted {
        let raised = wanted.min(hard);
        match setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
            Ok(()) => files_max = raised,
            Err(error) => {
                tracing::warn!(%error, soft, raised, "the limit of open files cannot be raised")
            }
        }
    }
    let fitting = files_max
        .saturating_sub(OTHER_FILES)
        .max(files_max / 2)
        .max(1);
    let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
    if fitting < connections_max {
        tracing::warn!(
            files_max,
            connections_max,
            "http.connections_max is more than the limit of open files allows; at most {fitting} connections are held"
        );
    }
    fitting.min(connections_max)
}

/// Counts connections, in all and for each address, and limits them and what they use.
pub struct Limits {
    pub(crate) all: Arc<Semaphore>,
    /// Notified where a thread needs a place for a connection and has none that waits.
    pub(crate) crowded: Notify,
    pub(crate) memory: Arc<Memory>,
    /// Open connections by address; there are never more than two entries for a connection.
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Limits {
    /// Limits connections to `connections_max`, or to what the limit of open files allows, and
    /// the memory for what is being read.
    #[must_use]
    pub fn new(connections_max: usize, memory_bytes: u64) -> Limits {
        Limits {
            all: Arc::new(Semaphore::new(fit_to_open_files(connections_max))),
            crowded: Notify::new(),
            memory: Arc::new(Memory::new(memory_bytes)),
            per_address: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a connection for its address. Fails if the address already has `per_address_max`, or
    /// its IPv6 /56 [`SITE_FACTOR`] times as many.
    pub(crate) fn claim_slot(
        self: &Arc<Limits>,
        ip: IpAddr,
        per_address_max: usize,
    ) -> Result<AddressSlot, TooMany> {
        let keys = [Some(subscriber(ip)), site(ip)];
        let maxima = [per_address_max, per_address_max.saturating_mul(SITE_FACTOR)];
        let mut counts = self
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = |key: &IpAddr| counts.get(key).copied().unwrap_or(0);
        let mut both = keys.iter().zip(maxima);
        if both.any(|(key, max)| key.is_some_and(|key| count(&key) >= max)) {
            return Err(TooMany);
        }
        for key in keys.into_iter().flatten() {
            *counts.entry(key).or_insert(0) += 1;
        }
        Ok(AddressSlot {
            limits: Arc::clone(self),
            keys,
        })
    }
}

/// The address already has as many connections as it may.
#[derive(Debug)]
pub(crate) struct TooMany;

/// A connection that is counted for its address until this is dropped.
pub(crate) struct AddressSlot {
    limits: Arc<Limits>,
    keys: [Option<IpAddr>; 2],
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut counts = self
            .limits
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for key in self.keys.into_iter().flatten() {
            if let Some(count) = counts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_ipv4_address_and_by_ipv6_64_and_56() {
        let limits = Arc::new(Limits::new(100, 0));
        let mut slots = Vec::new();
        let mut take = |text: &str| {
            let ip: IpAddr = text.parse().expect("an address");
            let slot = limits.claim_slot(ip, 2);
            slot.map(|slot| slots.push(slot)).is_ok()
        };
        assert!(take("192.0.2.1") && take("192.0.2.1") && !take("192.0.2.1"));
        assert!(take("192.0.2.2"));
        // Each /64 has two, and the eight of the /56 are used up after four of them.
        for subnet in 0..4 {
            assert!(take(&format!("2001:db8:0:{subnet:x}::1")), "{subnet}");
            assert!(take(&format!("2001:db8:0:{subnet:x}::2")), "{subnet}");
            assert!(!take(&format!("2001:db8:0:{subnet:x}::3")), "{subnet}");
        }
        assert!(!take("2001:db8:0:ff::1"));
        assert!(take("2001:db8:0:100::1"));
        drop(slots);
        let counts = limits.per_address.lock().expect("no panic");
        assert!(counts.is_empty());
    }
}
