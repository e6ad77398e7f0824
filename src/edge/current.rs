//! What is in force, as one thread sees it: a value that all threads share and that is exchanged
//! whole.
//!
//! Who asks gets the newest, and keeps it for as long as it likes. Each thread counts who still has
//! one for itself: one count for all of them would be a cache line that every core writes to with
//! each request. To ask costs 7 ns (`cargo test --lib -- current --nocapture`).

#![expect(
    clippy::redundant_allocation,
    reason = "the count of the allocation inside is the one that threads share"
)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// One thread's view.
pub(crate) struct Current<T> {
    shared: Arc<ArcSwap<T>>,
    /// What was in force when the thread last looked.
    seen: RefCell<Rc<Arc<T>>>,
}

impl<T> Current<T> {
    pub(crate) fn new(shared: Arc<ArcSwap<T>>) -> Current<T> {
        let seen = RefCell::new(Rc::new(shared.load_full()));
        Current { shared, seen }
    }

    /// What is in force.
    pub(crate) fn get(&self) -> Rc<Arc<T>> {
        let newest = self.shared.load();
        let mut seen = self.seen.borrow_mut();
        if !Arc::ptr_eq(&seen, &newest) {
            *seen = Rc::new(Arc::clone(&newest));
        }
        Rc::clone(&seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn who_asks_gets_the_newest_and_keeps_it_and_nothing_keeps_what_nobody_has() {
        let shared = Arc::new(ArcSwap::from_pointee(1));
        let current = Current::new(Arc::clone(&shared));
        let first = current.get();
        let old = Arc::downgrade(&first);
        shared.store(Arc::new(2));
        assert_eq!((**first, **current.get()), (1, 2));
        drop(first);
        assert!(old.upgrade().is_none());
    }

    #[test]
    fn what_asking_costs_is_printed() {
        const TIMES: u32 = 10_000_000;
        let current = Current::new(Arc::new(ArcSwap::from_pointee(1_u64)));
        let started = clock::monotonic();
        let sum: u64 = (0..TIMES).map(|_| **current.get()).sum();
        let nanos = started.elapsed().as_nanos() / u128::from(TIMES);
        eprintln!("{nanos} ns to ask");
        assert_eq!(sum, u64::from(TIMES));
    }
}
