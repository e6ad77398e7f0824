//! An open spool: what its writer, appenders and readers share, and the calls that its owner makes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::append::{Appender, Group};
use crate::disk::Disk;
use crate::frame::{self, HEADER_BYTES};
use crate::read::Reader;
use crate::recover::{Recovered, recover};
use crate::write::ChunkWriter;
use crate::{
    AppendError, Observer, OpenError, Options, PAUSES, Pauses, Position, SpoolId, chunk, clock,
    write,
};

/// An open spool. Clones share it.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the writer, the appenders and the readers share.
pub(crate) struct Shared {
    pub(crate) id: SpoolId,
    pub(crate) seed: u32,
    pub(crate) options: Options,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) observer: Box<dyn Observer>,
    /// The records that wait for the writer.
    pub(crate) group: Mutex<Group>,
    pub(crate) wake_writer: Condvar,
    /// Held by whoever commits.
    pub(crate) writer: Mutex<ChunkWriter>,
    /// The end of what is durable.
    pub(crate) committed: Mutex<Position>,
    /// Where the previous run ended.
    pub(crate) recovered: Recovered,
    /// Whether reading has begun at a valid position.
    pub(crate) begun: AtomicBool,
    /// The chunks on the disk, with the space that each takes.
    pub(crate) chunks: Mutex<BTreeMap<u64, u64>>,
    /// The chunks that were read completely and are kept, and since when.
    pub(crate) loaded: Mutex<BTreeMap<u64, Instant>>,
    pub(crate) pauses: Pauses,
    pub(crate) full: AtomicBool,
    pub(crate) failing: AtomicBool,
    /// Whether a sync stalled lately.
    pub(crate) stalls: AtomicBool,
    /// The highest chunk number ever tried.
    pub(crate) highest: AtomicU64,
    pub(crate) lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl Shared {
    pub(crate) fn committed_position(&self) -> Position {
        *lock(&self.committed)
    }

    /// Keeps what the last attempt to write says about the disk.
    pub(crate) fn set_state(&self, outcome: Result<(), AppendError>) {
        let (full, failing) = (Err(AppendError::Full), Err(AppendError::Io));
        self.full.store(outcome == full, Ordering::Relaxed);
        self.failing.store(outcome == failing, Ordering::Relaxed);
    }

    /// Returns whether the last attempt to write failed.
    pub(crate) fn is_troubled(&self) -> bool {
        self.full.load(Ordering::Relaxed) || self.failing.load(Ordering::Relaxed)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        lock(&self.chunks).values().sum()
    }

    /// Deletes a chunk; succeeds if it is gone already.
    pub(crate) fn delete(&self, number: u64) -> io::Result<()> {
        match self.disk.remove(&chunk::path(&self.options.dir, number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => lock(&self.chunks).remove(&number),
        };
        Ok(())
    }

    /// Returns the chunk that was read completely longest ago and is only kept, and since when.
    pub(crate) fn oldest_kept(&self) -> Option<(u64, Instant)> {
        let kept = lock(&self.loaded);
        let oldest = kept.first_key_value();
        oldest.map(|(number, since)| (*number, *since))
    }

    /// Returns where a chunk ends, if that is known: from the writer, from the scan at the start,
    /// or from the header of the next chunk.
    pub(crate) fn end_of(&self, number: u64) -> io::Result<Option<u64>> {
        let committed = self.committed_position();
        if number == committed.chunk {
            return Ok(Some(committed.offset));
        }
        if number == self.recovered.end.chunk {
            return Ok(Some(self.recovered.end.offset));
        }
        let next = lock(&self.chunks)
            .range(number + 1..)
            .next()
            .map(|(next, _)| *next);
        let Some(next) = next else { return Ok(None) };
        let header = chunk::read_header(&*self.disk, &self.options.dir, next, self.id)?;
        Ok(header.and_then(|header| header.end_of(number)))
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spool {
    /// Opens the spool, creating it if there is none, and starts its writer.
    ///
    /// # Errors
    /// If another process has it open, the disk fails, or the directory holds files of another
    /// kind.
    pub fn open(
        options: Options,
        disk: Arc<dyn Disk>,
        observer: Box<dyn Observer>,
    ) -> Result<Spool, OpenError> {
        Spool::open_with(options, disk, observer, PAUSES)
    }

    pub(crate) fn open_with(
        options: Options,
        disk: Arc<dyn Disk>,
        observer: Box<dyn Observer>,
        pauses: Pauses,
    ) -> Result<Spool, OpenError> {
        let dir = options.dir.clone();
        let at = |path: PathBuf| move |source| OpenError::Io { path, source };
        disk.create_dir(&dir).map_err(at(dir.clone()))?;
        let guard = disk
            .lock(&dir.join("lock"))
            .map_err(at(dir.join("lock")))?
            .ok_or_else(|| OpenError::Locked(dir.clone()))?;
        let mut chunks: BTreeMap<u64, u64> = chunk::list(&*disk, &dir)
            .map_err(at(dir.clone()))?
            .into_iter()
            .collect();
        let id = chunk::load_id(&*disk, &dir, chunks.is_empty())?;
        let highest = chunks.last_key_value().map_or(0, |(number, _)| *number);
        let recovered = recover(&*disk, &dir, id, &mut chunks)?;
        let shared = Arc::new(Shared {
            id,
            seed: frame::seed(id),
            group: Mutex::new(Group::new(&options)),
            options,
            disk,
            observer,
            wake_writer: Condvar::new(),
            writer: Mutex::new(ChunkWriter::new(recovered.end, recovered.records)),
            committed: Mutex::new(recovered.end),
            recovered,
            begun: AtomicBool::new(false),
            chunks: Mutex::new(chunks),
            loaded: Mutex::default(),
            pauses,
            full: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            stalls: AtomicBool::new(false),
            highest: AtomicU64::new(highest),
            lock: Mutex::new(Some(guard)),
        });
        shared.options.room.join(&shared);
        let writer = write::start(Arc::clone(&shared)).map_err(at(dir))?;
        Ok(Spool {
            shared,
            writer: Arc::new(Mutex::new(Some(writer))),
        })
    }

    /// Returns its ID.
    #[must_use]
    pub fn id(&self) -> SpoolId {
        self.shared.id
    }

    /// Returns a way in for one thread, which must be the calling one. What it appends is committed
    /// by the spool's own thread, together with what others append.
    #[must_use]
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.shared), false)
    }

    /// Returns a way in for one thread, which must be the calling one, and which commits by itself
    /// while the disk is quick: no other thread is woken for a group, and none wakes this one.
    /// Meant for a spool with one appending thread.
    ///
    /// A group is what is appended until the runtime has polled every task that was ready. A sync
    /// that stalls stops the calling thread, once: later groups are the spool's own thread's,
    /// until its syncs are quick again.
    #[must_use]
    pub fn committing_appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.shared), true)
    }

    /// Returns whether there was nothing in it when it was opened: its ID is new, so nobody has
    /// read any of it before.
    #[must_use]
    pub fn began_empty(&self) -> bool {
        self.shared.recovered.end == Position::default()
    }

    /// Checks that `start` is not beyond the end; returns the end otherwise: the spool was then
    /// restored from an older copy, and new records would get chunk numbers that its reader counts
    /// as read. The first call compares with the end at opening, because new records may have
    /// arrived since.
    ///
    /// # Errors
    /// The end, if it lies before `start`.
    pub fn check_start(&self, start: Position) -> Result<(), Position> {
        let has_begun = self.shared.begun.load(Ordering::Acquire);
        let end = if has_begun {
            self.committed_position()
        } else {
            self.shared.recovered.end
        };
        if start.chunk > end.chunk {
            return Err(end);
        }
        self.shared.begun.store(true, Ordering::Release);
        Ok(())
    }

    /// Returns a reader that begins at a position, with the number of records before it.
    #[must_use]
    pub fn reader(&self, from: Position, records: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), from, records)
    }

    /// Returns the directory that it is in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.options.dir
    }

    /// Returns where its first chunk begins, with the number of records before that; `None` if
    /// there is no chunk, or its header cannot be read.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn first(&self) -> io::Result<Option<(Position, u64)>> {
        let Shared {
            disk, options, id, ..
        } = &*self.shared;
        let Some(chunk) = lock(&self.shared.chunks).keys().next().copied() else {
            return Ok(None);
        };
        let header = chunk::read_header(&**disk, &options.dir, chunk, *id)?;
        let start = Position {
            chunk,
            offset: HEADER_BYTES,
        };
        Ok(header.map(|header| (start, header.records_before)))
    }

    /// Returns how many bytes after the last record were truncated when it was opened: part of a
    /// group that a crash tore, which was never acknowledged, or of a last record damaged
    /// since.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        self.shared.recovered.torn_bytes
    }

    /// Returns the end of what readers may read.
    #[must_use]
    pub fn committed_position(&self) -> Position {
        self.shared.committed_position()
    }

    /// Returns the disk space of all chunks, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.used_bytes()
    }

    /// Returns roughly how many bytes lie between a position and the end: whole chunks count with
    /// all the space that they take.
    #[must_use]
    pub fn backlog_bytes(&self, from: Position) -> u64 {
        let committed = self.committed_position();
        if from.chunk == committed.chunk {
            return committed
                .offset
                .saturating_sub(from.offset.max(HEADER_BYTES));
        }
        let chunks = lock(&self.shared.chunks);
        let whole: u64 = chunks
            .range(from.chunk..committed.chunk.max(from.chunk))
            .map(|(_, size)| size)
            .sum();
        (whole + committed.offset).saturating_sub(from.offset)
    }

    /// Returns whether the last group found no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// Returns whether the disk failed for the last group.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Returns whether a sync stalled lately, so that no appending thread commits by itself.
    #[must_use]
    pub fn stalls(&self) -> bool {
        self.shared.stalls.load(Ordering::Relaxed)
    }

    /// Marks everything before a position as dealt with: chunks that lie completely before it are
    /// deleted after `keep`. A restart begins that time anew.
    ///
    /// # Errors
    /// If a chunk cannot be deleted; the next call tries again.
    pub fn release(&self, before: Position) -> io::Result<()> {
        let limit = before.chunk.min(self.committed_position().chunk);
        let now = clock::monotonic();
        let done: Vec<u64> = {
            let chunks = lock(&self.shared.chunks);
            let mut loaded = lock(&self.shared.loaded);
            loaded.retain(|number, _| *number < limit && chunks.contains_key(number));
            for (number, _) in chunks.range(..limit) {
                loaded.entry(*number).or_insert(now);
            }
            let keep = self.shared.options.keep;
            let is_due = |since: Instant| now.saturating_duration_since(since) >= keep;
            loaded
                .iter()
                .filter(|(_, since)| is_due(**since))
                .map(|(number, _)| *number)
                .collect()
        };
        for number in done {
            self.shared.delete(number)?;
            lock(&self.shared.loaded).remove(&number);
        }
        Ok(())
    }

    /// Commits what is pending and stops the writer. Later appends are refused.
    pub fn close(&self) {
        lock(&self.shared.group).close();
        self.shared.wake_writer.notify_one();
        let writer = lock(&self.writer).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the spool's writer panicked");
        }
        // Whoever commits by itself finds it closed.
        lock(&self.shared.writer).close();
    }

    /// Deletes it with its directory if everything in it was read up to `end` and nothing of that
    /// has to be kept; returns whether it did. It must be closed. Meant for a spool that nobody
    /// writes to any more. `beside` names the files that its owner keeps in the directory.
    ///
    /// # Errors
    /// If something cannot be deleted; the next call tries again.
    pub fn remove(&self, end: Position, beside: &[&str]) -> io::Result<bool> {
        let now = clock::monotonic();
        let last = self.committed_position();
        if end < last {
            return Ok(false);
        }
        let numbers: Vec<u64> = {
            let chunks = lock(&self.shared.chunks);
            let mut kept = lock(&self.shared.loaded);
            let since = |number| *kept.entry(number).or_insert(now);
            let keep = self.shared.options.keep;
            let numbers: Vec<u64> = chunks.keys().copied().collect();
            let is_due = |since: Instant| now.saturating_duration_since(since) >= keep;
            // Each of them begins to be kept now, if it did not before.
            if numbers
                .iter()
                .copied()
                .map(since)
                .filter(|since| !is_due(*since))
                .count()
                > 0
            {
                return Ok(false);
            }
            numbers
        };
        for number in numbers {
            self.shared.delete(number)?;
        }
        let Shared { disk, options, .. } = &*self.shared;
        // What was deleted before a fault stays deleted.
        for name in beside.iter().chain(&["id", "lock"]) {
            match disk.remove(&options.dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        disk.remove_dir(&options.dir)?;
        Ok(true)
    }

    /// Lets another process open it. It must be closed, and nothing may release its chunks
    /// afterwards.
    pub fn unlock(&self) {
        *lock(&self.shared.lock) = None;
    }
}
