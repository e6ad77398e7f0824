//! The value in force, as one thread sees it: all threads share it, and it is replaced as a whole.
//!
//! Callers get the latest value and may hold it as long as they like. Each thread counts its own
//! holders: a shared count would be a cache line that every core writes to at each request. A call
//! costs 7 ns (`cargo test --lib -- current --nocapture`).

#![expect(
    clippy::redundant_allocation,
    reason = "threads share the count of the inner allocation, and only that one"
)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// One thread's view of a shared value.
pub(crate) struct Current<T> {
    shared: Arc<ArcSwap<T>>,
    /// The value that was in force when the thread last looked.
    latest: RefCell<Rc<Arc<T>>>,
}

impl<T> Current<T> {
    /// Begins with the value in force.
    pub(crate) fn new(shared: Arc<ArcSwap<T>>) -> Current<T> {
        let latest = RefCell::new(Rc::new(shared.load_full()));
        Current { shared, latest }
    }

    /// Returns the value in force.
    pub(crate) fn get(&self) -> Rc<Arc<T>> {
        let in_force = self.shared.load();
        let mut latest = self.latest.borrow_mut();
        if !Arc::ptr_eq(&latest, &in_force) {
            *latest = Rc::new(Arc::clone(&in_force));
        }
        Rc::clone(&latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn callers_get_the_latest_value_and_a_value_that_nobody_holds_is_freed() {
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
    fn the_cost_of_a_call_is_printed() {
        const TIMES: u32 = 10_000_000;
        let current = Current::new(Arc::new(ArcSwap::from_pointee(1_u64)));
        let started = clock::monotonic();
        let sum: u64 = (0..TIMES).map(|_| **current.get()).sum();
        let nanos = started.elapsed().as_nanos() / u128::from(TIMES);
        eprintln!("{nanos} ns a call");
        assert_eq!(sum, u64::from(TIMES));
    }
}
