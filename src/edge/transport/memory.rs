//! The memory for what is being read: bodies, and headers beyond the usual size.
//!
//! All of it comes out of one budget (`http.body_memory`), whatever the protocol and however many
//! connections there are. A claim grows as bytes come in, so nobody is charged for a length that is
//! only announced. Three quarters are for bodies; the rest is left for headers, so that bodies
//! never stop a pixel. One client's bodies have at most a quarter. Where the budget is used up, the
//! body that has been arriving for the longest time gives way ([`Arrivals`]).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::subscriber::subscriber;

/// The budget.
pub(crate) struct Memory {
    bytes_max: usize,
    used: AtomicUsize,
    /// What each client's bodies use; there are never more entries than claims.
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// Why a claim does not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The client has its share.
    OfClient,
    /// There is nothing left.
    OfAll,
}

impl Memory {
    pub(crate) fn new(bytes_max: u64) -> Memory {
        Memory {
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            used: AtomicUsize::new(0),
            clients: Mutex::default(),
        }
    }

    /// Returns a claim of a client's body, which is empty to begin with.
    pub(crate) fn claim_body(self: &Arc<Memory>, client: IpAddr) -> MemoryClaim {
        MemoryClaim {
            memory: Arc::clone(self),
            client: Some(subscriber(client)),
            bytes: 0,
        }
    }

    /// Claims memory for a header; `None` if there is none.
    pub(crate) fn claim_head(self: &Arc<Memory>, bytes: usize) -> Option<MemoryClaim> {
        let mut claim = MemoryClaim {
            memory: Arc::clone(self),
            client: None,
            bytes: 0,
        };
        claim.grow(bytes).is_ok().then_some(claim)
    }

    fn take(&self, client: Option<IpAddr>, bytes: usize) -> Result<(), Shortage> {
        let bytes_max = match client {
            Some(_) => self.bytes_max / 4 * 3,
            None => self.bytes_max,
        };
        if let Some(client) = client {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let used = clients.get(&client).copied().unwrap_or_default() + bytes;
            if used > self.bytes_max / 4 {
                return Err(Shortage::OfClient);
            }
            clients.insert(client, used);
        }
        let with_more = |used: usize| used.checked_add(bytes).filter(|used| *used <= bytes_max);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.used.fetch_update(set, fetch, with_more).is_ok() {
            return Ok(());
        }
        self.give_back(client, bytes);
        Err(Shortage::OfAll)
    }

    /// Gives back what a client's bodies use. What all use is the caller's to give back.
    fn give_back(&self, client: Option<IpAddr>, bytes: usize) {
        let Some(client) = client else { return };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = clients.get_mut(&client) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                clients.remove(&client);
            }
        }
    }
}

/// Memory that is in use until this is dropped.
pub(crate) struct MemoryClaim {
    memory: Arc<Memory>,
    /// Whose body it is; `None` for a header.
    client: Option<IpAddr>,
    bytes: usize,
}

impl MemoryClaim {
    /// Returns how much is claimed.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Claims more.
    ///
    /// # Errors
    /// If there is no more; what was claimed before stays.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Shortage> {
        self.memory.take(self.client, bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for MemoryClaim {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.memory.give_back(self.client, self.bytes);
    }
}

/// The bodies of one thread that are waiting for their next bytes, in the order in which they began
/// to arrive.
#[derive(Default)]
pub(crate) struct Arrivals {
    waiting: RefCell<BTreeMap<u64, Rc<Notify>>>,
    next: Cell<u64>,
}

impl Arrivals {
    /// Adds a body, until the guard is dropped.
    pub(crate) fn add(&self) -> ArrivingBody<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        let notify = Rc::new(Notify::new());
        let mut waiting = self.waiting.borrow_mut();
        waiting.insert(number, Rc::clone(&notify));
        ArrivingBody {
            arrivals: self,
            number,
            notify,
        }
    }

    /// Asks the oldest body to give way. Returns false if there is none.
    pub(crate) fn give_way(&self) -> bool {
        let oldest = self.waiting.borrow_mut().pop_first();
        oldest.is_some_and(|(_, notify)| {
            notify.notify_one();
            true
        })
    }
}

/// A body that is arriving.
pub(crate) struct ArrivingBody<'a> {
    arrivals: &'a Arrivals,
    number: u64,
    notify: Rc<Notify>,
}

impl ArrivingBody<'_> {
    /// Waits until the body is to give way.
    pub(crate) async fn wait_to_give_way(&self) {
        self.notify.notified().await;
    }
}

impl Drop for ArrivingBody<'_> {
    fn drop(&mut self) {
        self.arrivals.waiting.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    #[test]
    fn bodies_have_three_quarters_and_one_client_has_a_quarter() {
        let memory = Arc::new(Memory::new(400));
        let mut claims: Vec<MemoryClaim> = (1..=4).map(|n| memory.claim_body(client(n))).collect();
        for claim in claims.iter_mut().take(3) {
            assert_eq!(claim.grow(100), Ok(()));
            assert_eq!(claim.grow(1), Err(Shortage::OfClient));
        }
        let mut second = memory.claim_body(client(1));
        assert_eq!(second.grow(1), Err(Shortage::OfClient));
        assert_eq!(claims[3].grow(1), Err(Shortage::OfAll));
        let head = memory.claim_head(100);
        assert!(head.is_some() && memory.claim_head(1).is_none());
        drop(claims);
        drop(head);
        assert_eq!(second.grow(100), Ok(()));
        drop(second);
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
        assert!(memory.clients.lock().expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn the_oldest_body_gives_way_first() {
        let arrivals = Arrivals::default();
        assert!(!arrivals.give_way());
        let (first, second) = (arrivals.add(), arrivals.add());
        assert!(arrivals.give_way());
        first.wait_to_give_way().await;
        drop(first);
        drop(arrivals.add());
        assert!(arrivals.give_way());
        second.wait_to_give_way().await;
        assert!(!arrivals.give_way());
    }
}
