//! How far the loader is, for metrics and readiness.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use spool::Position;

use crate::clock::UnixMicros;

/// How far the loader is.
#[derive(Debug, Default)]
pub struct Progress {
    /// When the oldest hit that is not loaded was received; 0 when all are loaded.
    oldest_unloaded: AtomicI64,
    connected: AtomicBool,
    position: Mutex<Position>,
}

impl Progress {
    /// Returns the age of the oldest hit that is not loaded.
    #[must_use]
    pub fn oldest_unloaded(&self, now: UnixMicros) -> Duration {
        match self.oldest_unloaded.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            at => now.since(UnixMicros(at)),
        }
    }

    /// Returns whether the sink took the last batch.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Returns the position up to which the spool is loaded.
    #[must_use]
    pub fn position(&self) -> Position {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_position(&self, position: Position) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }

    /// Notes when the oldest hit that is not loaded was received; `None` when all are loaded.
    pub(super) fn set_oldest(&self, received_at: Option<UnixMicros>) {
        let at = received_at.map_or(0, |at| at.0);
        self.oldest_unloaded.store(at, Ordering::Relaxed);
    }

    /// Returns whether every hit that the loader knows of is loaded.
    pub(super) fn is_all_loaded(&self) -> bool {
        self.oldest_unloaded.load(Ordering::Relaxed) == 0
    }

    /// Notes whether the sink takes batches, and returns whether it did before.
    pub(super) fn set_connected(&self, is_connected: bool) -> bool {
        self.connected.swap(is_connected, Ordering::Relaxed)
    }
}
