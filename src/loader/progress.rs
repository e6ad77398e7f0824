//! How far the loader is, for metrics and readiness.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use spool::Position;

use super::sink::Reached;
use super::start::StartFile;

/// How far the slowest of several loaders is with one spool.
#[derive(Debug)]
pub struct Floor(Mutex<Vec<Position>>);

impl Floor {
    /// Makes one of that many loaders.
    #[must_use]
    pub fn new(loaders: usize) -> Floor {
        Floor(Mutex::new(vec![Position::default(); loaders]))
    }

    fn set(&self, loader: usize, position: Position) {
        let mut positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = positions.get_mut(loader) {
            *known = position;
        }
    }

    /// Returns the position before which none of them needs the spool.
    #[must_use]
    pub fn position(&self) -> Position {
        let positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        positions.iter().min().copied().unwrap_or_default()
    }
}

/// How far the loader is.
#[derive(Debug, Default)]
pub struct Progress {
    connected: AtomicBool,
    /// Whether another process has taken over.
    fenced: AtomicBool,
    /// Of each spool.
    positions: Mutex<Vec<Position>>,
    /// Where it began with each spool.
    starts: Mutex<HashMap<usize, Option<Reached>>>,
    /// Where that is kept, of the spools of which later processes have to know it.
    start_files: Mutex<HashMap<usize, StartFile>>,
    /// The spools that others load as well: which, and which of its loaders this one is.
    shared: Mutex<Vec<(usize, Arc<Floor>, usize)>>,
}

impl Progress {
    /// Makes it one of the loaders of a spool, before any of them begins.
    pub fn share(&self, spool: usize, floor: &Arc<Floor>, loader: usize) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.push((spool, Arc::clone(floor), loader));
    }

    /// Has a file keep where it begins with a spool. If the file knows where a process before this
    /// one began, that is where it began.
    pub(crate) fn keep_start(&self, spool: usize, file: StartFile) {
        if let Some(kept) = file.read() {
            self.set_start(spool, Some(kept));
        }
        let files = self.start_files.lock();
        files
            .unwrap_or_else(PoisonError::into_inner)
            .insert(spool, file);
    }

    /// Notes where it begins with a spool, if that is for the first time.
    pub(crate) fn set_start(&self, spool: usize, from: Option<Reached>) {
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        if starts.contains_key(&spool) {
            return;
        }
        starts.insert(spool, from);
        let files = self.start_files.lock();
        let files = files.unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&spool) {
            file.keep(from.unwrap_or_default());
        }
    }

    /// Returns where it first began with a spool: nothing after that was released without the other
    /// loaders of the spool. `None` if it has not begun.
    #[must_use]
    pub fn start(&self, spool: usize) -> Option<Option<Reached>> {
        let starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        starts.get(&spool).copied()
    }

    fn floor(&self, spool: usize) -> Option<(Arc<Floor>, usize)> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of_spool = shared.iter().filter(|(index, ..)| *index == spool);
        let found = of_spool.next();
        found.map(|(_, floor, loader)| (Arc::clone(floor), *loader))
    }

    /// Returns the position before which nobody needs a spool any more.
    #[must_use]
    pub(crate) fn releasable(&self, spool: usize) -> Position {
        let floor = self.floor(spool);
        floor.map_or_else(|| self.position(spool), |(floor, _)| floor.position())
    }

    /// Returns whether the sink took the last batch.
    #[must_use]
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Returns the position up to which a spool is loaded, of those that the loader has.
    #[must_use]
    pub fn position(&self, spool: usize) -> Position {
        let positions = self.positions.lock();
        let positions = positions.unwrap_or_else(PoisonError::into_inner);
        positions.get(spool).copied().unwrap_or_default()
    }

    /// Notes the position up to which a spool is loaded.
    pub(crate) fn set_position(&self, spool: usize, position: Position) {
        if let Some((floor, loader)) = self.floor(spool) {
            floor.set(loader, position);
        }
        let positions = self.positions.lock();
        let mut positions = positions.unwrap_or_else(PoisonError::into_inner);
        if positions.len() <= spool {
            positions.resize(spool + 1, Position::default());
        }
        if let Some(known) = positions.get_mut(spool) {
            *known = position;
        }
    }

    /// Returns whether another process has taken over, so that this loader has ended.
    #[must_use]
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    pub(super) fn set_fenced(&self) {
        self.fenced.store(true, Ordering::Relaxed);
    }

    /// Leaves the spools that others load as well to these: it needs nothing of them any more.
    pub fn give_up(&self) {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let end = Position {
            chunk: u64::MAX,
            offset: u64::MAX,
        };
        let positions = self.positions.lock();
        let mut positions = positions.unwrap_or_else(PoisonError::into_inner);
        for (spool, floor, loader) in shared.iter() {
            floor.set(*loader, end);
            // Nothing waits for it, so no metric says that anything does.
            if positions.len() <= *spool {
                positions.resize(*spool + 1, Position::default());
            }
            if let Some(position) = positions.get_mut(*spool) {
                *position = end;
            }
        }
    }

    /// Notes whether the sink takes batches, and returns whether it did before.
    pub(super) fn set_connected(&self, is_connected: bool) -> bool {
        self.connected.swap(is_connected, Ordering::Relaxed)
    }
}
