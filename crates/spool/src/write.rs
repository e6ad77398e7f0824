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

struct Writer {
    shared: Arc<Shared>,
    live: Option<Live>,
    /// The end of what was acknowledged.
    last: Position,
    /// Records acknowledged since the spool was created.
    records: u64,
    retry_at: Option<Instant>,
    /// Until when the writer waits for more records before it takes a group.
    busy_until: Option<Instant>,
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

/// Starts the writer of a spool in which `records` were acknowledged so far.
pub(crate) fn start(shared: Arc<Shared>, records: u64) -> io::Result<JoinHandle<()>> {
    let last = shared.committed();
    let mut writer = Writer {
        shared,
        live: None,
        last,
        records,
        retry_at: None,
        busy_until: None,
    };
    thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || writer.run())
}

/// What a group held besides its bytes.
struct Taken {
    number: u64,
    records: u64,
    first_append: Option<Instant>,
    threads: Vec<Arc<AppendingThread>>,
}

impl Writer {
    fn run(&mut self) {
        let mut bytes = Vec::new();
        while let Some(taken) = self.take(&mut bytes) {
            let started = clock::monotonic();
            let outcome = if taken.threads.is_empty() {
                self.probe()
            } else {
                self.commit(&bytes)
            };
            let ended = clock::monotonic();
            self.shared
                .full
                .store(outcome == Err(AppendError::Full), Ordering::Relaxed);
            self.shared
                .failing
                .store(outcome == Err(AppendError::Io), Ordering::Relaxed);
            for thread in &taken.threads {
                thread.report(taken.number, outcome);
            }
            if outcome.is_ok() {
                self.records += taken.records;
            }
            if outcome.is_ok() && taken.records > 0 {
                let wait = taken
                    .first_append
                    .map_or(Duration::ZERO, |first| ended - first);
                self.shared
                    .observer
                    .committed(taken.records, wait, ended - started);
            }
            if taken.records >= BUSY_RECORDS_MIN {
                self.busy_until = Some(ended + self.shared.pauses.busy);
            }
            bytes.clear();
            bytes.shrink_to(BUFFER_KEPT_BYTES);
        }
    }

    /// Waits for a group and swaps its bytes with an empty buffer; `None` once the spool is closed.
    /// While the spool is full or failing, an empty group is returned every `Pauses::probe`. While
    /// many records arrive, the group may grow for `Pauses::gather`, so that fewer syncs and
    /// wake-ups serve the same number of records.
    fn take(&self, bytes: &mut Vec<u8>) -> Option<Taken> {
        let shared = &self.shared;
        let troubled =
            shared.full.load(Ordering::Relaxed) || shared.failing.load(Ordering::Relaxed);
        let period = if troubled {
            shared.pauses.probe
        } else {
            Duration::MAX
        };
        let mut group = lock(&shared.group);
        group.writer_is_idle = true;
        let idle = |group: &mut Group| group.threads.is_empty() && !group.is_closed;
        (group, _) = shared
            .wake_writer
            .wait_timeout_while(group, period, idle)
            .unwrap_or_else(PoisonError::into_inner);
        group.writer_is_idle = false;
        let is_busy = self
            .busy_until
            .is_some_and(|until| clock::monotonic() < until);
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

    /// Finds out whether there is room again, so that readiness returns before a record is tried.
    fn probe(&mut self) -> Result<(), AppendError> {
        let enough = (FRAME_BYTES + RECORD_BYTES_MAX) as u64;
        match &self.live {
            Some(live) if live.end + enough <= self.shared.options.chunk_bytes => Ok(()),
            _ => self.rotate(),
        }
    }

    fn commit(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let length = bytes.len() as u64;
        let fits = |live: &Live, chunk_bytes: u64| live.end + length <= chunk_bytes;
        if !self
            .live
            .as_ref()
            .is_some_and(|live| fits(live, self.shared.options.chunk_bytes))
        {
            self.rotate()?;
        }
        match self.write(bytes) {
            Ok(()) => return Ok(()),
            Err(error) => self.give_up(&error),
        }
        self.rotate()?;
        self.write(bytes).map_err(|error| {
            self.give_up(&error);
            self.retry_at = Some(clock::monotonic() + self.shared.pauses.retry);
            failure(&error)
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(live) = &mut self.live else {
            return Err(io::Error::other("no chunk is open"));
        };
        let options = &self.shared.options;
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
        *lock(&self.shared.committed) = self.last;
        self.retry_at = None;
        Ok(())
    }

    /// Abandons a chunk that failed, and truncates it after what was acknowledged. One that holds
    /// nothing is deleted, so that a disk that keeps failing does not fill the spool.
    fn give_up(&mut self, error: &io::Error) {
        self.note_failure(error, "the spool gives up a chunk");
        let Some(live) = self.live.take() else {
            return;
        };
        if live.end == HEADER_BYTES {
            self.last = live.before;
            self.forget(live.number);
        } else if live.file.truncate(live.end).is_ok() {
            lock(&self.shared.chunks).insert(live.number, live.end);
        }
    }

    /// Deletes what is left of a chunk, whose number is not reused. If even that fails, it takes up
    /// space until a later start, and readers find it empty.
    fn forget(&self, number: u64) {
        if self.shared.delete(number).is_ok() {
            // A name that comes back after a crash is harmless, see `Header::end_of`.
            self.shared.disk.sync_dir(&self.shared.options.dir).ok();
        }
    }

    /// Counts a failure and logs the first of a series.
    fn note_failure(&self, error: &io::Error, what: &str) {
        self.shared.observer.failed(error);
        let is_known =
            self.shared.failing.load(Ordering::Relaxed) || self.shared.full.load(Ordering::Relaxed);
        if !is_known {
            tracing::error!(%error, "{what}");
        }
    }

    /// Starts the next chunk: durable, with its name, before its first record.
    fn rotate(&mut self) -> Result<(), AppendError> {
        let options = &self.shared.options;
        if !self.shared.make_room() {
            return Err(AppendError::Full);
        }
        let now = clock::monotonic();
        if self.retry_at.is_some_and(|at| now < at) {
            let full = self.shared.full.load(Ordering::Relaxed);
            return Err(if full {
                AppendError::Full
            } else {
                AppendError::Io
            });
        }
        let number = self.shared.highest.fetch_add(1, Ordering::Relaxed) + 1;
        match self.create(number) {
            Ok(live) => {
                self.last = Position {
                    chunk: number,
                    offset: HEADER_BYTES,
                };
                lock(&self.shared.chunks).insert(number, options.chunk_bytes);
                self.live = Some(live);
                Ok(())
            }
            Err(error) => {
                self.note_failure(&error, "the spool cannot start a chunk");
                self.retry_at = Some(now + self.shared.pauses.retry);
                self.live = None;
                lock(&self.shared.chunks).insert(number, options.chunk_bytes);
                self.forget(number);
                Err(failure(&error))
            }
        }
    }

    fn create(&self, number: u64) -> io::Result<Live> {
        let (disk, options) = (&self.shared.disk, &self.shared.options);
        let header = Header {
            number,
            previous: self.last.chunk,
            previous_end: self.last.offset,
            records_before: self.records,
        };
        let file = disk.create(&chunk::path(&options.dir, number), options.chunk_bytes)?;
        file.write_all_at(&header.encode(self.shared.id), 0)?;
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

fn failure(error: &io::Error) -> AppendError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full,
        _ => AppendError::Io,
    }
}
