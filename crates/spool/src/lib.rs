//! A log on disk that keeps records safe before their sender is answered.
//!
//! It knows bytes and positions, never what they mean.
//!
//! # On disk
//! The directory (mode 0700) holds `id`, the spool's own random ID as 32 hex digits; `lock`, held
//! by the one process that writes; and chunks named `<number, 16 hex digits>.chunk` (mode 0600),
//! each preallocated to `chunk_bytes`. All numbers are little-endian.
//!
//! A chunk begins with two copies of its header, so that no single damage hides where the previous
//! chunk ends:
//!
//! | header of a chunk | bytes |
//! | --- | --- |
//! | magic, `AVTRYCK\n` | 0..8 |
//! | format version, 1 | 8..12 |
//! | CRC-32C of bytes 0..12 and 16..64 | 12..16 |
//! | spool ID | 16..32 |
//! | number of this chunk | 32..40 |
//! | number of the previous chunk, 0 for none | 40..48 |
//! | where the previous chunk ends | 48..56 |
//! | records acknowledged in all previous chunks | 56..64 |
//!
//! | record | bytes |
//! | --- | --- |
//! | length of the payload, 1 to [`RECORD_BYTES_MAX`]; 0: no record from here on | 0..4 |
//! | CRC-32C of the length and the payload, begun with the CRC-32C of the spool ID | 4..8 |
//! | payload | 8.. |
//!
//! The CRC starts from the ID, so that a record which a sender hides in a payload is never mistaken
//! for a real one when the reader searches past damage.
//!
//! # Write
//! Threads append to one group in memory ([`PENDING_BYTES_MAX`]); the spool's own thread takes the
//! group, writes it with one call and syncs it. What arrives meanwhile forms the next group; while
//! groups are large, the thread waits a moment for more before it takes one. A commit wakes each
//! appending thread once, however many of its records were in the group.
//!
//! A thread that appends alone can commit by itself ([`Spool::committing_appender`]): what the
//! tasks append that are ready together is a group. That takes no wake-up between threads, and no
//! lock that another thread wants. A sync that stalls stops the thread once; its groups are then
//! the spool's own thread's, until syncs are quick again.
//!
//! After a failed write or sync the chunk is given up: it is neither written nor synced again. The
//! group goes to a new chunk, whose header says that the old one ends where it was last
//! acknowledged, so whatever part of the failed attempt reached the disk is never read. If that
//! fails too, the group's records get an [`AppendError`].
//!
//! A full spool (`bytes_max`, or no space on the disk) refuses appends; each later group tries
//! again.
//!
//! # Read and recovery
//! A reader returns committed records and nothing beyond them. At the start only the last chunk is
//! read, to find its end. It is synced, because the records of a killed process may be in the page
//! cache only, and truncated there, so that it takes no more space than it needs. It is never
//! appended to: the first group begins a new chunk. Chunk numbers are never reused; a chunk and its
//! name are durable before its first record is. A spool without chunks gets a new ID: one that was
//! emptied by hand is another spool.
//!
//! A chunk that was read completely is deleted after `keep`, or earlier if a new chunk needs the
//! room: a database restored from a backup can be loaded again from the chunks that are kept.
//! Each header counts the records before it, so that lost and damaged records are counted exactly.
//!
//! Three things are told apart. *Torn*: bytes after the last valid record of the last chunk, which
//! nobody was told are safe. *Corrupt*: bytes before a chunk's end that are not a record; the
//! reader counts them and searches on byte by byte. *I/O error*: nothing is known about the bytes.
//! In the one group that a crash tore, a sound record may follow bytes that are none: the record is
//! returned, the bytes count as corrupt, and no record counts as lost.

mod append;
mod chunk;
mod clock;
mod disk;
mod frame;
mod read;
mod recover;
mod room;
mod spool;
#[cfg(test)]
mod tests;
mod verify;
mod window;
mod write;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use append::{Appender, Pending};
pub use disk::{Disk, DiskFile, RealDisk};
pub use read::{Batch, Damage, ReadError, Reader};
pub use room::Room;
pub use spool::Spool;
pub use verify::{ChunkReport, verify};

/// The largest payload of a record, in bytes.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// The most bytes that may wait for the writer; beyond them the spool counts as full.
pub const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A place in the spool: everything before it has been dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The chunk's number; 0 is before the first.
    pub chunk: u64,
    /// The offset in it, in bytes.
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

/// What an acknowledged append claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The record was synced to the disk.
    Disk,
    /// The record is in the page cache: it survives a crash of the process, not of the machine.
    Memory,
}

/// How a spool is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its directory.
    pub dir: PathBuf,
    /// When an append is done.
    pub ack: Ack,
    /// Disk space of all chunks, perhaps with those of other spools.
    pub room: Room,
    /// Size of a chunk, in bytes.
    pub chunk_bytes: u64,
    /// How long a chunk stays after it was loaded, if there is room.
    pub keep: Duration,
}

/// How long the writer waits, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    /// For more records, while many arrive.
    pub(crate) gather: Duration,
    /// How long a large group is taken as a sign that many arrive.
    pub(crate) busy: Duration,
    /// After a failed attempt to start a chunk, until the next one.
    pub(crate) retry: Duration,
    /// Between attempts to write to a spool that is full or failing, while no record arrives.
    pub(crate) probe: Duration,
    /// A sync that takes this long stalls the thread that waits for it.
    pub(crate) stall: Duration,
}

pub(crate) const PAUSES: Pauses = Pauses {
    gather: Duration::from_micros(150),
    busy: Duration::from_millis(2),
    retry: Duration::from_millis(250),
    probe: Duration::from_secs(1),
    stall: Duration::from_millis(20),
};

/// Is told what the writer does.
pub trait Observer: Send + Sync + 'static {
    /// A group was committed: its records, how long the first one waited, and the time that the
    /// write and the sync took.
    fn note_commit(&self, records: u64, append_wait: Duration, sync: Duration);
    /// A chunk could not be written or synced.
    fn note_failure(&self, error: &io::Error);
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
    /// Another process has it open.
    #[error(
        "the spool in {0} is in use by another process; each process needs a directory of its own"
    )]
    Locked(PathBuf),
    /// The disk refuses.
    #[error("the spool's {path} cannot be used")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something is there that is not a spool of this format.
    #[error("{path} {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}
