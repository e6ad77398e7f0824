//! The spool: a log on disk that hits are safe in before they are answered.
//!
//! It knows bytes and positions, never what they mean.
//!
//! # On disk
//! The directory (mode 0700) holds `id`, the spool's own random ID as 32 hex digits; `lock`, held by
//! the one process that writes; and chunks named `<number, 16 hex digits>.chunk` (mode 0600), each
//! preallocated to `chunk_bytes`. All numbers are little-endian.
//!
//! A chunk begins with its header, twice, so that no single damage hides where the chunk before ends:
//!
//! | header of a chunk | bytes |
//! | --- | --- |
//! | magic `AVTRYCK\n` | 0..8 |
//! | format version, 1 | 8..12 |
//! | CRC-32C of bytes 0..12 and 16..64 | 12..16 |
//! | spool ID | 16..32 |
//! | number of this chunk | 32..40 |
//! | number of the chunk before, 0 for none | 40..48 |
//! | where the chunk before ends | 48..56 |
//! | records acknowledged in all chunks before | 56..64 |
//!
//! | record | bytes |
//! | --- | --- |
//! | length of the payload, 1 to [`RECORD_BYTES_MAX`]; 0: no record from here on | 0..4 |
//! | CRC-32C of the length and the payload, begun with the CRC-32C of the spool ID | 4..8 |
//! | payload | 8.. |
//!
//! The CRC starts from the ID, so that a record which a sender hides in a payload is never taken for
//! one of ours when the reader searches on behind damage.
//!
//! # Write
//! Edge threads append to one group in memory ([`PENDING_BYTES_MAX`]); one thread takes the group,
//! writes it with one call and syncs it. What arrives meanwhile is the next group; while groups are large, it
//! waits a moment for more before it takes one. A commit wakes each edge thread once, however many of its hits
//! were in the group.
//!
//! After a failed write or sync a chunk is given up: it is neither written nor synced again. The
//! group goes to a new chunk, whose header says that the old one ends where it was last acknowledged;
//! so what may have reached the disk of the failed attempt is never read. If that fails too, the
//! group's hits get an [`AppendError`].
//!
//! A full spool (`bytes_max`, or no space on the disk) refuses; each later group tries again.
//!
//! # Read and recovery
//! A reader gives out what is committed and nothing beyond. At the start only the last chunk is
//! read, to find its end; it is synced, since records of a killed process may be in the page cache
//! alone, and cut off there, so that it takes no more space than it needs. It is never appended to: a
//! new chunk begins with the first group. Chunk numbers are never used twice; a chunk and its name are
//! durable before its first record is. A spool without a chunk gets a new ID: one that was emptied by
//! hand is another spool.
//!
//! A chunk whose records are all loaded is deleted once it was kept for `keep`, and before that if a
//! new chunk finds no room: a database that was restored from a backup can be loaded again from it.
//! Each header counts the records before it, so what is gone or damaged is known to the record.
//!
//! Three things are told apart. *Torn*: bytes behind the last valid record of the last chunk; nobody
//! was told that they are safe. *Corrupt*: bytes before a chunk's end that are no record; the reader
//! counts them and searches on byte by byte. *I/O error*: nothing is known about the bytes. In the one group
//! that a crash tore, a sound record may stand behind bytes that are none: the record is given out, the
//! bytes count as corrupt, and no record counts as lost.

mod append;
mod chunk;
mod disk;
mod frame;
mod read;
mod recover;
#[cfg(test)]
mod tests;
mod verify;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock;
pub use crate::config::Ack;
pub use append::{Appender, Pending};
pub use disk::{Disk, DiskFile, RealDisk};
pub use read::{Batch, Damage, ReadError, Reader};
pub use verify::{ChunkReport, verify};

use append::Group;
use chunk::HEADER_BYTES;
use recover::{Recovered, recover};

/// The largest payload of a record, in bytes.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// The most bytes that wait for the writer; beyond them the spool counts as full.
pub const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A place in the spool: everything before it was dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The chunk's number; 0 stands before the first.
    pub chunk: u64,
    /// The byte in it.
    pub offset: u64,
}

/// The random ID of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolId(pub [u8; 16]);

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How a spool is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its directory.
    pub dir: PathBuf,
    /// When an append is done.
    pub ack: Ack,
    /// Disk space of all chunks, in bytes.
    pub bytes_max: u64,
    /// Size of a chunk, in bytes.
    pub chunk_bytes: u64,
    /// How long a chunk stays after it was loaded, if there is room.
    pub keep: Duration,
}

/// How long the writer waits.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    /// So long for more hits, while many arrive.
    gather: Duration,
    /// That many arrive a large group says for so long.
    busy: Duration,
    /// No new chunk is tried for so long after a failed attempt.
    retry: Duration,
    /// A spool that is full or failing is tried so often without a hit.
    probe: Duration,
}

const PAUSES: Pauses = Pauses {
    gather: Duration::from_micros(150),
    busy: Duration::from_millis(2),
    retry: Duration::from_millis(250),
    probe: Duration::from_secs(1),
};

/// Told of what the writer does.
pub trait Observer: Send + Sync + 'static {
    /// A group was committed: how many records, the wait of its first, and the time on the disk.
    fn committed(&self, records: u64, append_wait: Duration, sync: Duration);
    /// A chunk could not be written or synced.
    fn failed(&self, error: &io::Error);
}

/// Why a record is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No room.
    #[error("the spool is full")]
    Full,
    /// The disk failed.
    #[error("the spool's disk failed")]
    Io,
    /// The payload is empty or above [`RECORD_BYTES_MAX`].
    #[error("the record is too large")]
    TooLarge,
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the spool in {0} is in use by another process; one process for each spool.dir would be right"
    )]
    Locked(PathBuf),
    /// The disk says no.
    #[error("the spool's {path} cannot be used: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something is there that is no spool of ours.
    #[error("{path} {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// An open spool. Clones share it.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the writer, the appenders and the readers share.
struct Shared {
    id: SpoolId,
    seed: u32,
    settings: Settings,
    disk: Arc<dyn Disk>,
    observer: Box<dyn Observer>,
    /// What waits for the writer.
    group: Mutex<Group>,
    wake_writer: Condvar,
    /// The end of what is durable.
    committed: Mutex<Position>,
    /// Where the last chunk of the run before ends.
    recovered: Recovered,
    /// Reading has begun where it may.
    begun: AtomicBool,
    /// Chunks on the disk with the space that they take.
    chunks: Mutex<BTreeMap<u64, u64>>,
    /// Chunks that are loaded and kept, and since when.
    loaded: Mutex<BTreeMap<u64, Instant>>,
    pauses: Pauses,
    full: AtomicBool,
    failing: AtomicBool,
    /// The highest chunk number ever tried.
    highest: AtomicU64,
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl Shared {
    fn committed(&self) -> Position {
        *lock(&self.committed)
    }

    fn used_bytes(&self) -> u64 {
        lock(&self.chunks).values().sum()
    }

    /// Deletes a chunk; fine if it is gone already.
    fn delete(&self, number: u64) -> io::Result<()> {
        match self.disk.remove(&chunk::path(&self.settings.dir, number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => lock(&self.chunks).remove(&number),
        };
        Ok(())
    }

    /// Whether a chunk more may be there; what is loaded and only kept makes room.
    fn make_room(&self) -> bool {
        let fits = || self.used_bytes() + self.settings.chunk_bytes <= self.settings.bytes_max;
        while !fits() {
            let Some((oldest, _)) = lock(&self.loaded).pop_first() else {
                return false;
            };
            if self.delete(oldest).is_err() {
                return false;
            }
        }
        true
    }

    /// Where a chunk ends, if that is known: from the writer, from the scan at the start, or from
    /// the header of the chunk behind it.
    fn end_of(&self, number: u64) -> io::Result<Option<u64>> {
        let committed = self.committed();
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
        let header = chunk::read_header(&*self.disk, &self.settings.dir, next, self.id)?;
        Ok(header.and_then(|header| header.end_of(number)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spool {
    /// Opens the spool, making it where there is none, and starts its writer.
    ///
    /// # Errors
    /// Where another process has it, the disk fails, or files are there that are no spool.
    pub fn open(
        settings: Settings,
        disk: Arc<dyn Disk>,
        observer: Box<dyn Observer>,
    ) -> Result<Spool, OpenError> {
        Spool::open_with(settings, disk, observer, PAUSES)
    }

    fn open_with(
        settings: Settings,
        disk: Arc<dyn Disk>,
        observer: Box<dyn Observer>,
        pauses: Pauses,
    ) -> Result<Spool, OpenError> {
        let dir = settings.dir.clone();
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
            group: Mutex::new(Group::new(&settings)),
            settings,
            disk,
            observer,
            wake_writer: Condvar::new(),
            committed: Mutex::new(recovered.end),
            recovered,
            begun: AtomicBool::new(false),
            chunks: Mutex::new(chunks),
            loaded: Mutex::default(),
            pauses,
            full: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            highest: AtomicU64::new(highest),
            lock: Mutex::new(Some(guard)),
        });
        let writer = write::start(Arc::clone(&shared), recovered.records).map_err(at(dir))?;
        Ok(Spool {
            shared,
            writer: Arc::new(Mutex::new(Some(writer))),
        })
    }

    /// Its ID.
    #[must_use]
    pub fn id(&self) -> SpoolId {
        self.shared.id
    }

    /// A way in, for one edge thread. To be made on that thread.
    #[must_use]
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.shared))
    }

    /// Whether reading may begin at `start`, or the end that lies before it: then this spool was restored from
    /// an older copy, and its new records get chunks with numbers that its reader takes for read. The first
    /// time what was there when it was opened counts, for new records may have come since.
    ///
    /// # Errors
    /// That end.
    pub fn check_start(&self, start: Position) -> Result<(), Position> {
        let has_begun = self.shared.begun.load(Ordering::Acquire);
        let end = if has_begun {
            self.committed()
        } else {
            self.shared.recovered.end
        };
        if start.chunk > end.chunk {
            return Err(end);
        }
        self.shared.begun.store(true, Ordering::Release);
        Ok(())
    }

    /// A way out, from a position on that so many records lie before.
    #[must_use]
    pub fn reader(&self, from: Position, records: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), from, records)
    }

    /// Bytes behind the last record that were cut off when it was opened: of a group that a crash tore,
    /// which nobody was told of, or of a last record that was damaged since.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        self.shared.recovered.torn_bytes
    }

    /// The end of what readers are given.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.shared.committed()
    }

    /// Disk space of all chunks, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.used_bytes()
    }

    /// Bytes from a position to the end, about: whole chunks count with all their space.
    #[must_use]
    pub fn backlog_bytes(&self, from: Position) -> u64 {
        let committed = self.committed();
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

    /// Whether the last group found no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// Whether the last group found the disk failing.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Takes what lies before a position as loaded: chunks that lie wholly before it are deleted once
    /// they were kept for long enough. After a restart that time begins anew.
    ///
    /// # Errors
    /// Where one cannot be deleted; it is tried again with the next call.
    pub fn release(&self, before: Position) -> io::Result<()> {
        let limit = before.chunk.min(self.committed().chunk);
        let now = clock::monotonic();
        let done: Vec<u64> = {
            let chunks = lock(&self.shared.chunks);
            let mut loaded = lock(&self.shared.loaded);
            loaded.retain(|number, _| *number < limit && chunks.contains_key(number));
            for (number, _) in chunks.range(..limit) {
                loaded.entry(*number).or_insert(now);
            }
            let keep = self.shared.settings.keep;
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

    /// Commits what is pending and ends the writer. Later appends are refused.
    pub fn close(&self) {
        lock(&self.shared.group).close();
        self.shared.wake_writer.notify_one();
        let writer = lock(&self.writer).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the spool's writer panicked");
        }
    }

    /// Lets another process open it. It has to be closed, and nothing may release chunks of it any more.
    pub fn let_go(&self) {
        *lock(&self.shared.lock) = None;
    }
}
