//! The writer: takes groups, writes and syncs them, starts chunks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::append::Thread;
use super::chunk::{self, HEADER_BYTES, Header};
use super::{Ack, AppendError, DiskFile, PENDING_BYTES_MAX, Position, Shared, lock};
use crate::clock;

/// How long after a failed attempt no new chunk is tried.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A buffer that grew beyond this is not kept for the next group.
const BUFFER_KEPT_BYTES: usize = PENDING_BYTES_MAX / 8;

struct Writer {
    shared: Arc<Shared>,
    live: Option<Live>,
    /// The last chunk, and where what was acknowledged in it ends.
    last: Position,
    retry_at: Option<Instant>,
}

struct Live {
    number: u64,
    file: Box<dyn DiskFile>,
    end: u64,
}

pub(super) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let last = shared.committed();
    let mut writer = Writer {
        shared,
        live: None,
        last,
        retry_at: None,
    };
    thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || writer.run())
}

/// What was in a group, beside its bytes.
struct Taken {
    number: u64,
    records: u64,
    first_append: Option<Instant>,
    threads: Vec<Arc<Thread>>,
}

impl Writer {
    fn run(&mut self) {
        let mut bytes = Vec::new();
        while let Some(taken) = self.take(&mut bytes) {
            let started = clock::monotonic();
            let outcome = self.commit(&bytes);
            let ended = clock::monotonic();
            self.shared
                .full
                .store(outcome == Err(AppendError::Full), Ordering::Relaxed);
            self.shared
                .failing
                .store(outcome == Err(AppendError::Io), Ordering::Relaxed);
            for thread in &taken.threads {
                thread.tell(taken.number, outcome);
            }
            if outcome.is_ok() {
                let wait = taken
                    .first_append
                    .map_or(Duration::ZERO, |first| ended - first);
                self.shared
                    .observer
                    .committed(taken.records, wait, ended - started);
            }
            bytes.clear();
            bytes.shrink_to(BUFFER_KEPT_BYTES);
        }
    }

    /// Waits for a group and swaps its bytes with an empty buffer; `None` once the spool is closed.
    fn take(&self, bytes: &mut Vec<u8>) -> Option<Taken> {
        let mut group = lock(&self.shared.group);
        while group.threads.is_empty() {
            if group.is_closed {
                return None;
            }
            group.writer_is_idle = true;
            group = self
                .shared
                .wake_writer
                .wait(group)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        group.writer_is_idle = false;
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

    fn commit(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let length = bytes.len() as u64;
        let fits = |live: &Live, chunk_bytes: u64| live.end + length <= chunk_bytes;
        if !self
            .live
            .as_ref()
            .is_some_and(|live| fits(live, self.shared.settings.chunk_bytes))
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
            failure(&error)
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(live) = &mut self.live else {
            return Err(io::Error::other("no chunk is open"));
        };
        live.file.write_all_at(bytes, live.end)?;
        if self.shared.settings.ack == Ack::Disk {
            live.file.sync_data()?;
        }
        live.end += bytes.len() as u64;
        self.last = Position {
            chunk: live.number,
            offset: live.end,
        };
        *lock(&self.shared.committed) = self.last;
        Ok(())
    }

    /// Leaves a chunk that failed for good.
    fn give_up(&mut self, error: &io::Error) {
        self.shared.observer.failed(error);
        tracing::error!(%error, "the spool gives a chunk up");
        self.live = None;
    }

    /// Starts the next chunk: durable, with its name, before its first record.
    fn rotate(&mut self) -> Result<(), AppendError> {
        let settings = &self.shared.settings;
        if self.shared.used_bytes() + settings.chunk_bytes > settings.bytes_max {
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
                self.retry_at = None;
                self.last = Position {
                    chunk: number,
                    offset: HEADER_BYTES,
                };
                lock(&self.shared.chunks).insert(number, settings.chunk_bytes);
                self.live = Some(live);
                Ok(())
            }
            Err(error) => {
                self.shared.observer.failed(&error);
                tracing::error!(%error, "the spool cannot start a chunk");
                self.retry_at = Some(now + RETRY_PAUSE);
                // Its header may have reached the disk and says where the chunk before ends.
                self.live = None;
                // What is left of the attempt takes space; the number is not used again.
                drop(self.shared.disk.remove(&chunk::path(&settings.dir, number)));
                Err(failure(&error))
            }
        }
    }

    fn create(&self, number: u64) -> io::Result<Live> {
        let (disk, settings) = (&self.shared.disk, &self.shared.settings);
        let header = Header {
            number,
            previous: self.last.chunk,
            previous_end: self.last.offset,
        };
        let file = disk.create(&chunk::path(&settings.dir, number), settings.chunk_bytes)?;
        file.write_all_at(&header.encode(self.shared.id), 0)?;
        file.sync_data()?;
        disk.sync_dir(&settings.dir)?;
        Ok(Live {
            number,
            file,
            end: HEADER_BYTES,
        })
    }
}

fn failure(error: &io::Error) -> AppendError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full,
        _ => AppendError::Io,
    }
}
