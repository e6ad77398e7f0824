//! What becomes of the hits that the live view shows. The edge notes which hits it shows, and the
//! loader says what became of each once it is committed.
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

/// The hits that are shown and wait for their outcome.
pub struct ShownHits {
    key: RandomState,
    left: AtomicU32,
    /// How many wait, so that the loader takes the lock only if any do.
    count: AtomicUsize,
    waiting: Mutex<VecDeque<u64>>,
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

    /// Notes a hit that is shown, if this second has not had its share.
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
        waiting.push_back(number);
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

    /// Takes a hit out of those that wait; false if it is not one of them.
    #[must_use]
    pub fn take(&self, number: u64) -> bool {
        let mut waiting = self.lock();
        let found = waiting.iter().position(|waits| *waits == number);
        if let Some(at) = found {
            waiting.remove(at);
            self.count.store(waiting.len(), Ordering::Relaxed);
        }
        found.is_some()
    }

    /// Says what became of a hit.
    pub fn tell(&self, number: u64, fate: Fate) {
        // The only error is that nobody watches.
        drop(self.told.send((number, fate)));
    }

    /// Returns what is told from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<(u64, Fate)> {
        self.told.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_hits_wait_than_a_second_may_have_and_each_is_taken_once() {
        let shown = ShownHits::default();
        assert!(!shown.is_awaited());
        for number in 0..200 {
            shown.note(number);
        }
        let taken = (0..200).filter(|number| shown.take(*number)).count();
        assert_eq!(taken, PER_SECOND as usize);
        assert!(!shown.is_awaited() && !shown.take(0));
        for second in 0..100 {
            shown.begin_second();
            (0..200).for_each(|number| shown.note(1000 * second + number));
        }
        assert_eq!(shown.lock().len(), WAITING_MAX);
        shown.forget();
        assert!(!shown.is_awaited());
    }

    #[test]
    fn a_hit_is_known_by_its_whole_record_and_by_no_other_process() {
        let (shown, other) = (ShownHits::default(), ShownHits::default());
        assert_eq!(shown.number(b"a"), shown.number(b"a"));
        assert_ne!(shown.number(b"a"), shown.number(b"b"));
        assert_ne!(shown.number(b"a"), other.number(b"a"));
    }
}
