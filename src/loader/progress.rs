//! How far the loader is, for metrics and readiness.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use spool::Position;

/// How far the loader is.
#[derive(Debug, Default)]
pub struct Progress {
    connected: AtomicBool,
    position: Mutex<Position>,
}

impl Progress {
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

    /// Notes whether the sink takes batches, and returns whether it did before.
    pub(super) fn set_connected(&self, is_connected: bool) -> bool {
        self.connected.swap(is_connected, Ordering::Relaxed)
    }
}
