//! What becomes of the hits that the live view shows. The edge notes a hit before it is in the
//! spool, the live view says when it has shown it, and the loader what became of it once it is
//! committed. Whichever of the two comes last has the outcome told, so that none is lost to a
//! loader that is faster than the edge, and none is told before its hit.
//!
//! Nothing is noted while nobody watches, and then it costs the loader one relaxed load a batch. At
//! most [`PER_SECOND`] hits are noted in a second, and [`WAITING_MAX`] wait for their outcome; the
//! oldest make room. A hit is known by a hash of its record under a key of this process, which
//! tells nobody anything about it.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

/// The most hits of a second whose outcome is told.
pub(crate) const PER_SECOND: u32 = 50;
/// The most hits that wait for their outcome.
const WAITING_MAX: usize = 1024;
/// The most outcomes that wait to be shown.
const TOLD_MAX: usize = 256;

/// What became of a hit that could be a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is a row.
    Stored,
    /// Its event was a row already.
    Repeated,
    /// It was set aside in `rejected_hit`.
    Rejected,
}

impl Fate {
    /// Returns the word in the live view.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fate::Stored => "stored",
            Fate::Repeated => "repeated",
            Fate::Rejected => "rejected",
        }
    }
}

/// A hit that waits to be shown and for its outcome.
struct Waiting {
    number: u64,
    is_shown: bool,
    fate: Option<Fate>,
}

/// The hits that wait to be shown and for their outcome.
pub struct ShownHits {
    key: RandomState,
    left: AtomicU32,
    /// How many wait, so that the loader takes the lock only if any do.
    count: AtomicUsize,
    waiting: Mutex<VecDeque<Waiting>>,
    told: broadcast::Sender<(u64, Fate)>,
}

impl Default for ShownHits {
    fn default() -> ShownHits {
        ShownHits {
            key: RandomState::new(),
            left: AtomicU32::new(PER_SECOND),
            count: AtomicUsize::new(0),
            waiting: Mutex::default(),
            told: broadcast::channel(TOLD_MAX).0,
        }
    }
}

impl ShownHits {
    /// Returns by what a hit is known, of its record.
    #[must_use]
    pub fn number(&self, record: &[u8]) -> u64 {
        self.key.hash_one(record)
    }

    /// Notes a hit that is about to be recorded and shown, if this second has not had its share.
    pub fn note(&self, number: u64) {
        let left = |left: u32| left.checked_sub(1);
        let has_left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        if has_left.is_err() {
            return;
        }
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back(Waiting {
            number,
            is_shown: false,
            fate: None,
        });
        self.count.store(waiting.len(), Ordering::Relaxed);
    }

    /// Begins a second.
    pub(crate) fn begin_second(&self) {
        self.left.store(PER_SECOND, Ordering::Relaxed);
    }

    /// Forgets what waits, because nobody watches.
    pub fn forget(&self) {
        if self.is_awaited() {
            self.lock().clear();
            self.count.store(0, Ordering::Relaxed);
        }
    }

    /// Returns whether any hit waits for its outcome.
    #[must_use]
    pub(crate) fn is_awaited(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Says that a hit is shown.
    pub(crate) fn set_shown(&self, number: u64) {
        self.change(number, |hit| {
            hit.is_shown = true;
            hit.fate.is_some()
        });
    }

    /// Says what became of a hit, as far as anything is said, if it is one of those that wait.
    pub fn settle(&self, number: u64, fate: impl FnOnce() -> Option<Fate>) {
        self.change(number, |hit| {
            hit.fate = fate();
            hit.is_shown || hit.fate.is_none()
        });
    }

    /// Forgets a hit that is not shown.
    pub(crate) fn drop_hit(&self, number: u64) {
        self.change(number, |hit| {
            hit.fate = None;
            true
        });
    }

    /// Changes a hit that waits. If `change` returns that it need not wait any longer, its outcome
    /// is told, if it has one.
    fn change(&self, number: u64, change: impl FnOnce(&mut Waiting) -> bool) {
        let mut waiting = self.lock();
        let Some(at) = waiting.iter().position(|hit| hit.number == number) else {
            return;
        };
        if !waiting.get_mut(at).is_some_and(change) {
            return;
        }
        let fate = waiting.remove(at).and_then(|hit| hit.fate);
        self.count.store(waiting.len(), Ordering::Relaxed);
        if let Some(fate) = fate {
            // The only error is that nobody watches.
            drop(self.told.send((number, fate)));
        }
    }

    /// Returns what is told from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<(u64, Fate)> {
        self.told.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_hits_wait_than_a_second_may_have_and_each_is_told_once() {
        let shown = ShownHits::default();
        let mut told = shown.listen();
        assert!(!shown.is_awaited());
        for number in 0..200 {
            shown.note(number);
        }
        for number in (0..200).chain(0..200) {
            shown.set_shown(number);
            shown.settle(number, || Some(Fate::Stored));
        }
        let count = std::iter::from_fn(|| told.try_recv().ok()).count();
        assert_eq!(count, PER_SECOND as usize);
        assert!(!shown.is_awaited());
        for second in 0..100 {
            shown.begin_second();
            (0..200).for_each(|number| shown.note(1000 * second + number));
        }
        assert_eq!(shown.lock().len(), WAITING_MAX);
        shown.forget();
        assert!(!shown.is_awaited());
    }

    #[test]
    fn an_outcome_is_told_after_its_hit_is_shown_whichever_is_known_first() {
        let shown = ShownHits::default();
        let mut told = shown.listen();
        let mut told = || std::iter::from_fn(|| told.try_recv().ok()).collect::<Vec<_>>();
        (1..=4).for_each(|number| shown.note(number));
        shown.settle(1, || Some(Fate::Repeated));
        shown.set_shown(2);
        assert_eq!(told(), []);
        shown.settle(2, || Some(Fate::Rejected));
        shown.set_shown(1);
        assert_eq!(told(), [(2, Fate::Rejected), (1, Fate::Repeated)]);
        // Of one nothing is said, and one is not shown: whoever comes later finds nothing.
        shown.settle(3, || None);
        shown.set_shown(3);
        shown.settle(4, || Some(Fate::Stored));
        shown.drop_hit(4);
        shown.set_shown(4);
        assert_eq!(told(), []);
        assert!(!shown.is_awaited());
        shown.settle(5, || unreachable!("nobody waits for it"));
    }

    #[test]
    fn a_hit_is_known_by_its_whole_record_and_by_no_other_process() {
        let (shown, other) = (ShownHits::default(), ShownHits::default());
        assert_eq!(shown.number(b"a"), shown.number(b"a"));
        assert_ne!(shown.number(b"a"), shown.number(b"b"));
        assert_ne!(shown.number(b"a"), other.number(b"a"));
    }
}
