//! Which connections end when there is no room for a new one: those that wait for a request, the
//! one that has waited longest first.
//!
//! A connection waits until the whole header of a request is there, and again from its reply on,
//! until the client has read that. So neither silence nor a slow header nor a reply that is not
//! read keeps anybody out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;

/// A connection that has a request under way.
const BUSY: u64 = u64::MAX;
/// For this many connections that wait, one more ends each time: looking for the oldest costs as
/// much as there are connections.
const WAITING_FOR_EACH: usize = 256;

/// The connections of one thread.
#[derive(Default)]
pub(crate) struct Crowd {
    members: RefCell<HashMap<u64, Rc<Requests>>>,
    /// Counts what happens, which is as good as a clock to tell what came first.
    now: Cell<u64>,
}

/// What a connection knows of its requests.
#[derive(Default)]
pub(crate) struct Requests {
    pub(crate) count: Cell<u32>,
    /// Notified once the connection is to accept no further request.
    pub(crate) is_over: Notify,
    /// Whether one was refused that hyper did not understand.
    pub(crate) is_refused: Cell<bool>,
    /// How many are under way.
    under_way: Cell<u32>,
    /// Since when the connection waits for one, or [`BUSY`].
    waits_since: Cell<u64>,
    gives_way: Cell<bool>,
}

impl Requests {
    /// Returns whether the connection is to end, because it waits and another one needs its place.
    pub(crate) fn gives_way(&self) -> bool {
        self.gives_way.get() && self.under_way.get() == 0
    }

    /// Waits until the connection is to accept no further request.
    pub(crate) async fn wait_until_over(&self) {
        self.is_over.notified().await;
    }
}

impl Crowd {
    /// Adds a connection, until the guard is dropped.
    pub(crate) fn add(self: &Rc<Crowd>) -> Member {
        let number = self.tick();
        let requests = Rc::new(Requests::default());
        requests.waits_since.set(number);
        let mut members = self.members.borrow_mut();
        members.insert(number, Rc::clone(&requests));
        Member {
            crowd: Rc::clone(self),
            number,
            requests,
        }
    }

    /// Ends the connections that have waited longest. Returns how many.
    pub(crate) fn give_way(&self) -> usize {
        let members = self.members.borrow();
        let waits = |requests: &&Rc<Requests>| {
            requests.waits_since.get() != BUSY && !requests.gives_way.get()
        };
        let mut waiting: Vec<&Rc<Requests>> = members.values().filter(waits).collect();
        if waiting.is_empty() {
            return 0;
        }
        let count = 1 + waiting.len() / WAITING_FOR_EACH;
        waiting.select_nth_unstable_by_key(count - 1, |requests| requests.waits_since.get());
        for requests in waiting.iter().take(count) {
            requests.gives_way.set(true);
            requests.is_over.notify_one();
        }
        count
    }

    fn tick(&self) -> u64 {
        let now = self.now.get();
        self.now.set(now + 1);
        now
    }
}

/// A connection in the crowd.
pub(crate) struct Member {
    crowd: Rc<Crowd>,
    number: u64,
    pub(crate) requests: Rc<Requests>,
}

impl Member {
    /// Notes that a request begins; it is under way until the guard is dropped.
    pub(crate) fn begin(&self) -> UnderWay {
        UnderWay::new(Rc::clone(&self.crowd), Rc::clone(&self.requests))
    }

    /// Returns the function that notes the same.
    pub(crate) fn begin_function(&self) -> impl Fn() -> UnderWay + use<> {
        let (crowd, requests) = (Rc::clone(&self.crowd), Rc::clone(&self.requests));
        move || UnderWay::new(Rc::clone(&crowd), Rc::clone(&requests))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crowd.members.borrow_mut().remove(&self.number);
    }
}

/// A request that is under way.
pub(crate) struct UnderWay {
    crowd: Rc<Crowd>,
    requests: Rc<Requests>,
}

impl UnderWay {
    fn new(crowd: Rc<Crowd>, requests: Rc<Requests>) -> UnderWay {
        requests.under_way.set(requests.under_way.get() + 1);
        requests.waits_since.set(BUSY);
        UnderWay { crowd, requests }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let left = self.requests.under_way.get() - 1;
        self.requests.under_way.set(left);
        if left == 0 {
            self.requests.waits_since.set(self.crowd.tick());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_that_has_waited_longest_gives_way_and_a_busy_one_never_does() {
        let crowd = Rc::new(Crowd::default());
        assert_eq!(crowd.give_way(), 0);
        let members: Vec<Member> = (0..4).map(|_| crowd.add()).collect();
        let busy = (members[0].begin(), members[0].begin());
        drop(members[1].begin());
        let ended = || -> Vec<bool> {
            members
                .iter()
                .map(|member| member.requests.gives_way())
                .collect()
        };
        assert_eq!(crowd.give_way(), 1);
        assert_eq!(ended(), [false, false, true, false]);
        assert_eq!(crowd.give_way(), 1);
        assert_eq!(ended(), [false, false, true, true]);
        assert_eq!(crowd.give_way(), 1);
        assert_eq!(ended(), [false, true, true, true]);
        drop(busy.0);
        assert_eq!(
            crowd.give_way(),
            0,
            "one of its requests is still under way"
        );
        drop(busy.1);
        assert_eq!(crowd.give_way(), 1);
        drop(members);
        assert!(crowd.members.borrow().is_empty());
    }
}
