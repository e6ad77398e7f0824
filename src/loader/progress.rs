//! How far the loader is, for metrics and readiness.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use spool::Position;

/// How far the loader is.
#[derive(Debug, Default)]
pub struct Progress {
    connected: AtomicBool,
    /// Of each spool.
    positions: Mutex<Vec<Position>>,
}

impl Progress {
    /// Returns whether the sink took the last batch.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Returns the position up to which a spool is loaded, of those that the loader has.
    #[must_use]
    pub fn position(&self, spool: usize) -> Position {
        let positions = self.positions.lock();
        let positions = positions.unwrap_or_else(PoisonError::into_inner);
        positions.get(spool).copied().unwrap_or_default()
    }

    pub(super) fn set_position(&self, spool: usize, position: Position) {
        let positions = self.positions.lock();
        let mut positions = positions.unwrap_or_else(PoisonError::into_inner);
        if positions.len() <= spool {
            positions.resize(spool + 1, Position::default());
        }
        if let Some(known) = positions.get_mut(spool) {
            *known = position;
        }
    }

    /// Notes whether the sink takes batches, and returns whether it did before.
    pub(super) fn set_connected(&self, is_connected: bool) -> bool {
        self.connected.swap(is_connected, Ordering::Relaxed)
    }
}
