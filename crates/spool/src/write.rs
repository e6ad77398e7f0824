//! The writer: takes groups, writes and syncs them, and starts chunks.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::append::{AppendingThread, Group};
use crate::chunk::Header;
use crate::frame::{FRAME_BYTES, HEADER_BYTES};
use crate::spool::{Shared, lock};
use crate::{
    Ack, AppendError, DiskFile, PENDING_BYTES_MAX, Position, RECORD_BYTES_MAX, chunk, clock,
};

/// A buffer that grew beyond this is not kept for the next group.
const BUFFER_KEPT_BYTES: usize = PENDING_BYTES_MAX / 8;
/// A group of this many records is a sign that many arrive: more than would wait for each other at
/// a rate that one sync after another keeps up with.
const BUSY_RECORDS_MIN: u64 = 16;
/// How far ahead of its records a chunk is filled with zeros. The sync that first covers space
/// which is only allocated must mark it as written, in the file system's journal; overwriting zeros
/// needs no such entry.
const AHEAD_BYTES: u64 = 256 * 1024;

/// After this many quick syncs in a row, the disk counts as quick again.
const QUICK_SYNCS_MIN: u32 = 64;

/// What writes to the chunks. Whoever holds it commits: the writer's thread, or an appending thread
/// that commits by itself.
pub(crate) struct ChunkWriter {
    live: Option<Live>,
    /// The end of what was acknowledged.
    last: Position,
    /// Records acknowledged since the spool was created.
    records: u64,
    retry_at: Option<Instant>,
    /// Syncs since the last one that stalled.
    quick_syncs: u32,
    is_closed: bool,
}

struct Live {
    number: u64,
    file: Box<dyn DiskFile>,
    end: u64,
    /// Up to where it has been written at least once.
    written: u64,
    /// The end of what was acknowledged before it.
    before: Position,
}

/// A group that is to be committed.
pub(crate) struct Records<'b> {
    pub(crate) bytes: &'b [u8],
    pub(crate) count: u64,
    pub(crate) first_append: Option<Instant>,
}

/// Starts the thread that commits what appending threads leave to it.
pub(crate) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || run(&shared))
}

/// A group that was taken from those who wait.
struct Taken {
    number: u64,
    records: u64,
    first_append: Option<Instant>,
    threads: Vec<Arc<AppendingThread>>,
}

fn run(shared: &Shared) {
    let mut bytes = Vec::new();
    // Until when the thread waits for more records before it takes a group.
    let mut busy_until = None;
    while let Some(taken) = take(shared, busy_until, &mut bytes) {
        let mut writer = lock(&shared.writer);
        if taken.threads.is_empty() {
            let outcome = writer.probe(shared);
            shared.set_state(outcome);
            continue;
        }
        let records = Records {
            bytes: &bytes,
            count: taken.records,
            first_append: taken.first_append,
        };
        let outcome = writer.commit(shared, &records);
        drop(writer);
        for thread in &taken.threads {
            thread.report(taken.number, outcome);
        }
        if taken.records >= BUSY_RECORDS_MIN {
            busy_until = Some(clock::monotonic() + shared.pauses.busy);
        }
        bytes.clear();
        bytes.shrink_to(BUFFER_KEPT_BYTES);
    }
}

/// Waits for a group and swaps its bytes with an empty buffer; `None` once the spool is closed.
/// While the spool is full or failing, an empty group is returned every `Pauses::probe`. While many
/// records arrive, the group may grow for `Pauses::gather`, so that fewer syncs and wake-ups serve
/// the same number of records.
fn take(shared: &Shared, busy_until: Option<Instant>, bytes: &mut Vec<u8>) -> Option<Taken> {
    let mut group = lock(&shared.group);
    group.writer_is_idle = true;
    loop {
        let period = match shared.is_troubled() {
            true => shared.pauses.probe,
            false => Duration::MAX,
        };
        let idle = |group: &mut Group| {
            group.threads.is_empty() && !group.is_closed && !group.has_new_trouble
        };
        (group, _) = shared
            .wake_writer
            .wait_timeout_while(group, period, idle)
            .unwrap_or_else(PoisonError::into_inner);
        // An appending thread met the trouble: the time to the next probe begins.
        let has_new_trouble = std::mem::take(&mut group.has_new_trouble);
        if !has_new_trouble || !group.threads.is_empty() || group.is_closed {
            break;
        }
    }
    group.writer_is_idle = false;
    let is_busy = busy_until.is_some_and(|until| clock::monotonic() < until);
    if is_busy && !group.threads.is_empty() {
        // Only closing the spool ends this wait early.
        (group, _) = shared
            .wake_writer
            .wait_timeout_while(group, shared.pauses.gather, |group| !group.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
    }
    if group.threads.is_empty() && group.is_closed {
        return None;
    }
    std::mem::swap(&mut group.bytes, bytes);
    let number = group.number;
    group.number += 1;
    Some(Taken {
        number,
        records: std::mem::take(&mut group.records),
        first_append: group.first_append.take(),
        threads: std::mem::take(&mut group.threads),
    })
}

impl ChunkWriter {
    /// Makes the writer of a spool that ends at `last`, with `records` acknowledged so far.
    pub(crate) fn new(last: Position, records: u64) -> ChunkWriter {
        ChunkWriter {
            live: None,
            last,
            records,
            retry_at: None,
            quick_syncs: QUICK_SYNCS_MIN,
            is_closed: false,
        }
    }

    /// Refuses what comes from now on.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Commits a group: all of it or nothing.
    pub(crate) fn commit(
        &mut self,
        shared: &Shared,
        records: &Records<'_>,
    ) -> Result<(), AppendError> {
        if self.is_closed {
            return Err(AppendError::Closed);
        }
        let started = clock::monotonic();
        let outcome = self.write_to_a_chunk(shared, records.bytes);
        let ended = clock::monotonic();
        self.quick_syncs = match ended - started < shared.pauses.stall {
            true => self.quick_syncs.saturating_add(1),
            false => 0,
        };
        let stalls = self.quick_syncs < QUICK_SYNCS_MIN;
        shared.stalls.store(stalls, Ordering::Relaxed);
        shared.set_state(outcome);
        if outcome.is_ok() {
            self.records += records.count;
        }
        if outcome.is_ok() && records.count > 0 {
            let first = records.first_append.unwrap_or(started);
            shared
                .observer
                .note_commit(records.count, ended - first, ended - started);
        }
        outcome
    }

    /// Finds out whether there is room again, so that readiness returns before a record is tried.
    fn probe(&mut self, shared: &Shared) -> Result<(), AppendError> {
        let enough = (FRAME_BYTES + RECORD_BYTES_MAX) as u64;
        match &self.live {
            Some(live) if live.end + enough <= shared.options.chunk_bytes => Ok(()),
            _ => self.rotate(shared),
        }
    }

    fn write_to_a_chunk(&mut self, shared: &Shared, bytes: &[u8]) -> Result<(), AppendError> {
        let length = bytes.len() as u64;
        let fits = |live: &Live, chunk_bytes: u64| live.end + length <= chunk_bytes;
        if !self
            .live
            .as_ref()
            .is_some_and(|live| fits(live, shared.options.chunk_bytes))
        {
            self.rotate(shared)?;
        }
        match self.write(shared, bytes) {
            Ok(()) => return Ok(()),
            Err(error) => self.give_up(shared, &error),
        }
        self.rotate(shared)?;
        self.write(shared, bytes).map_err(|error| {
            self.give_up(shared, &error);
            self.retry_at = Some(clock::monotonic() + shared.pauses.retry);
            failure(&error)
        })
    }

    fn write(&mut self, shared: &Shared, bytes: &[u8]) -> io::Result<()> {
        let Some(live) = &mut self.live else {
            return Err(io::Error::other("no chunk is open"));
        };
        let options = &shared.options;
        let end = live.end + bytes.len() as u64;
        live.file.write_all_at(bytes, live.end)?;
        if options.ack == Ack::Disk {
            if end > live.written {
                let ahead = AHEAD_BYTES.min(options.chunk_bytes - end);
                let zeros = vec![0; usize::try_from(ahead).unwrap_or_default()];
                live.file.write_all_at(&zeros, end)?;
                live.written = end + ahead;
            }
            live.file.sync_data()?;
        }
        live.end = end;
        self.last = Position {
            chunk: live.number,
            offset: live.end,
        };
        *lock(&shared.committed) = self.last;
        self.retry_at = None;
        Ok(())
    }

    /// Abandons a chunk that failed, and truncates it after what was acknowledged. One that holds
    /// nothing is deleted, so that a disk that keeps failing does not fill the spool.
    fn give_up(&mut self, shared: &Shared, error: &io::Error) {
        note_failure(shared, error, "the spool gives up a chunk");
        let Some(live) = self.live.take() else {
            return;
        };
        if live.end == HEADER_BYTES {
            self.last = live.before;
            forget(shared, live.number);
        } else if live.file.truncate(live.end).is_ok() {
            lock(&shared.chunks).insert(live.number, live.end);
        }
    }

    /// Starts the next chunk: durable, with its name, before its first record.
    fn rotate(&mut self, shared: &Shared) -> Result<(), AppendError> {
        let options = &shared.options;
        let now = clock::monotonic();
        if self.retry_at.is_some_and(|at| now < at) {
            let full = shared.full.load(Ordering::Relaxed);
            return Err(if full {
                AppendError::Full
            } else {
                AppendError::Io
            });
        }
        let number = shared.highest.load(Ordering::Relaxed) + 1;
        if !options.room.take(shared, number) {
            return Err(AppendError::Full);
        }
        shared.highest.store(number, Ordering::Relaxed);
        match self.create(shared, number) {
            Ok(live) => {
                self.last = Position {
                    chunk: number,
                    offset: HEADER_BYTES,
                };
                self.live = Some(live);
                Ok(())
            }
            Err(error) => {
                note_failure(shared, &error, "the spool cannot start a chunk");
                self.retry_at = Some(now + shared.pauses.retry);
                self.live = None;
                forget(shared, number);
                Err(failure(&error))
            }
        }
    }

    fn create(&self, shared: &Shared, number: u64) -> io::Result<Live> {
        let (disk, options) = (&shared.disk, &shared.options);
        let header = Header {
            number,
            previous: self.last.chunk,
            previous_end: self.last.offset,
            records_before: self.records,
        };
        let file = disk.create(&chunk::path(&options.dir, number), options.chunk_bytes)?;
        file.write_all_at(&header.encode(shared.id), 0)?;
        file.sync_data()?;
        disk.sync_dir(&options.dir)?;
        Ok(Live {
            number,
            file,
            end: HEADER_BYTES,
            written: HEADER_BYTES,
            before: self.last,
        })
    }
}

/// Deletes what is left of a chunk, whose number is not reused. If even that fails, it takes up
/// space until a later start, and readers find it empty.
fn forget(shared: &Shared, number: u64) {
    if shared.delete(number).is_ok() {
        // A name that comes back after a crash is harmless, see `Header::end_of`.
        shared.disk.sync_dir(&shared.options.dir).ok();
    }
}

/// Counts a failure and logs the first of a series.
fn note_failure(shared: &Shared, error: &io::Error, what: &str) {
    shared.observer.note_failure(error);
    if !shared.is_troubled() {
        tracing::error!(%error, "{what}");
    }
}

fn failure(error: &io::Error) -> AppendError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full,
        _ => AppendError::Io,
    }
}
