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
/// A search finds one connection for each of so many that wait, because it has to look at all of
/// them.
const WAITING_FOR_EACH: usize = 256;

/// The connections of one thread.
#[derive(Default)]
pub(crate) struct Crowd {
    members: RefCell<HashMap<u64, Rc<Requests>>>,
    /// The connections that had waited longest at the last search, each with when it began to wait;
    /// the longest wait is last. All others began to wait later, so these are the next to end.
    longest: RefCell<Vec<(u64, Rc<Requests>)>>,
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

    /// Ends the connection that has waited longest. Returns whether there is one.
    ///
    /// It ends no more than one: clients that hold all places connect again at once.
    pub(crate) fn give_way(&self) -> bool {
        let mut longest = self.longest.borrow_mut();
        loop {
            if longest.is_empty() {
                *longest = self.find_longest();
            }
            let Some((since, requests)) = longest.pop() else {
                return false;
            };
            if requests.waits_since.get() == since && !requests.gives_way.replace(true) {
                requests.is_over.notify_one();
                return true;
            }
        }
    }

    /// Finds the connections that have waited longest, and sorts them, the longest last.
    fn find_longest(&self) -> Vec<(u64, Rc<Requests>)> {
        let members = self.members.borrow();
        let waiting = members.values().filter_map(|requests| {
            let since = requests.waits_since.get();
            (since != BUSY && !requests.gives_way.get()).then_some((since, requests))
        });
        let mut waiting: Vec<_> = waiting.collect();
        let count = waiting.len().div_ceil(WAITING_FOR_EACH);
        if count < waiting.len() {
            waiting.select_nth_unstable_by_key(count, |(since, _)| *since);
            waiting.truncate(count);
        }
        waiting.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
        let waiting = waiting.into_iter();
        waiting
            .map(|(since, requests)| (since, Rc::clone(requests)))
            .collect()
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
        self.requests.waits_since.set(BUSY);
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
        assert!(!crowd.give_way());
        let members: Vec<Member> = (0..4).map(|_| crowd.add()).collect();
        let busy = (members[0].begin(), members[0].begin());
        drop(members[1].begin());
        let ended = || -> Vec<bool> {
            members
                .iter()
                .map(|member| member.requests.gives_way())
                .collect()
        };
        assert!(crowd.give_way());
        assert_eq!(ended(), [false, false, true, false]);
        assert!(crowd.give_way());
        assert_eq!(ended(), [false, false, true, true]);
        assert!(crowd.give_way());
        assert_eq!(ended(), [false, true, true, true]);
        drop(busy.0);
        assert!(!crowd.give_way(), "one of its requests is still under way");
        drop(busy.1);
        assert!(crowd.give_way());
        drop(members);
        assert!(crowd.members.borrow().is_empty());
    }

    #[test]
    fn it_is_always_the_one_that_has_waited_longest_whatever_came_before() {
        let mut random = fastrand::Rng::with_seed(1);
        let crowd = Rc::new(Crowd::default());
        let mut members: Vec<Member> = Vec::new();
        let mut under_way: Vec<(u64, UnderWay)> = Vec::new();
        // Whether there were enough for several to be looked for at once.
        let mut members_max = 0;
        for step in 0..60_000 {
            match random.u32(0..if step < 30_000 { 9 } else { 12 }) {
                0..=4 => members.push(crowd.add()),
                5..=6 if !members.is_empty() => {
                    let member = &members[random.usize(0..members.len())];
                    under_way.push((member.number, member.begin()));
                }
                7 if !under_way.is_empty() => {
                    under_way.swap_remove(random.usize(0..under_way.len()));
                }
                8..=9 if !members.is_empty() => {
                    // One that a client closes, in the middle of a request or not.
                    let member = members.swap_remove(random.usize(0..members.len()));
                    under_way.retain(|(number, _)| *number != member.number);
                }
                _ => {
                    let waits = |member: &&Member| {
                        member.requests.waits_since.get() != BUSY
                            && !member.requests.gives_way.get()
                    };
                    let waiting = members.iter().filter(waits);
                    let since = |member: &&Member| member.requests.waits_since.get();
                    let expected = waiting.min_by_key(since).map(|member| member.number);
                    let before: Vec<bool> = members
                        .iter()
                        .map(|member| member.requests.gives_way.get())
                        .collect();
                    assert_eq!(crowd.give_way(), expected.is_some());
                    let now = members.iter().zip(before);
                    let changed: Vec<u64> = now
                        .filter(|(member, before)| member.requests.gives_way.get() != *before)
                        .map(|(member, _)| member.number)
                        .collect();
                    assert_eq!(changed, Vec::from_iter(expected));
                }
            }
            members_max = members_max.max(members.len());
        }
        assert!(members_max > 4 * WAITING_FOR_EACH, "{members_max}");
    }
}
