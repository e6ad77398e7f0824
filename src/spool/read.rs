//! The way out: committed records from a position on, with what is damaged counted and passed over.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::chunk::{self, HEADER_BYTES};
use super::frame::{self, FRAME_BYTES};
use super::{DiskFile, Position, RECORD_BYTES_MAX, Shared, lock};

/// Bytes read at one time.
const BLOCK_BYTES: usize = 256 * 1024;

/// Bytes that should have been records and were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Stretches without a valid record.
    pub regions: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Places where chunks are gone.
    pub missing: u64,
    /// Records that are known to have been there, from the count in a later chunk's header.
    pub records: u64,
}

impl Damage {
    /// Whether there is any.
    #[must_use]
    pub fn is_some(&self) -> bool {
        *self != Damage::default()
    }
}

/// Records that were read. To be used again and again.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<(Position, Range<usize>)>,
    /// The position behind the last record.
    pub end: Position,
    /// How many records lie before that, in the whole life of the spool.
    pub end_records: u64,
    /// What was passed over on the way.
    pub damage: Damage,
}

impl Batch {
    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The length of all payloads.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// All payloads, which the ranges are of.
    #[must_use]
    pub fn payloads(&self) -> &[u8] {
        &self.bytes
    }

    /// Each record's place and the range of its payload.
    pub fn ranges(&self) -> impl Iterator<Item = (Position, Range<usize>)> {
        self.records.iter().cloned()
    }

    /// The payload that lies there.
    #[must_use]
    pub fn payload(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Each record's place and payload.
    pub fn records(&self) -> impl Iterator<Item = (Position, &[u8])> {
        self.ranges()
            .map(|(position, range)| (position, self.payload(range)))
    }

    fn clear(&mut self, position: Position, records: u64) {
        self.bytes.clear();
        self.records.clear();
        self.end = position;
        self.end_records = records;
        self.damage = Damage::default();
    }
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read: {source}")]
pub struct ReadError {
    /// The chunk.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// Reads committed records in order.
pub struct Reader {
    shared: Arc<Shared>,
    position: Position,
    records: u64,
    open: Option<(u64, Window)>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, position: Position, records: u64) -> Reader {
        Reader {
            shared,
            position,
            records,
            open: None,
        }
    }

    /// Fills `batch` with what is committed, up to so many records or bytes of payload, whichever
    /// comes first. Empty when there is nothing new.
    ///
    /// # Errors
    /// Where the disk fails; the position stays, so the call can be made again.
    pub fn read(
        &mut self,
        batch: &mut Batch,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<(), ReadError> {
        batch.clear(self.position, self.records);
        let read = self.fill(batch, records_max, bytes_max);
        batch.end = self.position;
        batch.end_records = self.records;
        let Err((chunk, source)) = read else {
            return Ok(());
        };
        self.open = None;
        // What was read before the fault is given out first; the next call meets the fault again.
        if !batch.is_empty() || batch.damage.is_some() {
            return Ok(());
        }
        Err(ReadError {
            path: chunk::path(&self.shared.settings.dir, chunk),
            source,
        })
    }

    fn fill(
        &mut self,
        batch: &mut Batch,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<(), (u64, io::Error)> {
        while self.position < self.shared.committed() {
            let Some(number) = self.chunk_from(self.position.chunk) else {
                return Ok(());
            };
            let at = |error| (number, error);
            if number != self.position.chunk {
                self.enter(number, batch).map_err(at)?;
            }
            if !self.read_chunk(batch, records_max, bytes_max).map_err(at)? {
                return Ok(());
            }
            let Some(next) = self.chunk_from(number + 1) else {
                return Ok(());
            };
            self.enter(next, batch).map_err(|error| (next, error))?;
        }
        Ok(())
    }

    /// The first chunk on disk from a number on that holds something committed.
    fn chunk_from(&self, number: u64) -> Option<u64> {
        let last = self.shared.committed().chunk;
        lock(&self.shared.chunks)
            .range(number..=last.max(number))
            .next()
            .map(|(number, _)| *number)
            .filter(|number| *number <= last)
    }

    /// Goes to the start of a chunk; its header tells what is missing before it.
    fn enter(&mut self, number: u64, batch: &mut Batch) -> io::Result<()> {
        let id = self.shared.id;
        match chunk::header_of(&*self.window(number)?.file, number, id)? {
            Some(header) => {
                let follows = header.previous <= self.position.chunk;
                batch.damage.missing += u64::from(!follows);
                batch.damage.records += header.records_before.saturating_sub(self.records);
                self.records = header.records_before;
            }
            // The start of a chunk that was given up before it held anything.
            None if self.shared.end_of(number)? == Some(HEADER_BYTES) => {}
            None => {
                batch.damage.regions += 1;
                batch.damage.bytes += HEADER_BYTES;
            }
        }
        self.position = Position {
            chunk: number,
            offset: HEADER_BYTES,
        };
        Ok(())
    }

    fn window(&mut self, number: u64) -> io::Result<&mut Window> {
        let open = match self.open.take() {
            Some(open) if open.0 == number => open,
            _ => {
                let path = chunk::path(&self.shared.settings.dir, number);
                (number, Window::new(self.shared.disk.open(&path)?))
            }
        };
        Ok(&mut self.open.insert(open).1)
    }

    /// Reads on in the chunk that the position is in; whether it was read to its end and others follow.
    fn read_chunk(
        &mut self,
        batch: &mut Batch,
        records_max: usize,
        bytes_max: usize,
    ) -> io::Result<bool> {
        let shared = Arc::clone(&self.shared);
        let (mut position, mut records) = (self.position, self.records);
        position.offset = position.offset.max(HEADER_BYTES);
        let is_live = position.chunk == shared.committed().chunk;
        let window = self.window(position.chunk)?;
        let end = match shared.end_of(position.chunk)? {
            Some(end) => end,
            None => window.scan_end(shared.seed)?.0,
        };
        let outcome = loop {
            if position.offset >= end {
                break Ok(!is_live);
            }
            if batch.records.len() >= records_max || batch.bytes.len() >= bytes_max {
                break Ok(false);
            }
            let at = position.offset;
            let bytes = match window.frame(at, end) {
                Ok(bytes) => bytes,
                Err(error) => break Err(error),
            };
            if let Some(payload) = frame::payload(bytes, shared.seed) {
                let start = batch.bytes.len();
                batch.bytes.extend_from_slice(payload);
                batch.records.push((position, start..batch.bytes.len()));
                position.offset = at + (FRAME_BYTES + payload.len()) as u64;
                records += 1;
                continue;
            }
            let next = match window.resync(at + 1, end, shared.seed) {
                Ok(next) => next.unwrap_or(end),
                Err(error) => break Err(error),
            };
            batch.damage.regions += 1;
            batch.damage.bytes += next - at;
            position.offset = next;
        };
        (self.position, self.records) = (position, records);
        outcome
    }
}

/// A stretch of a file in memory.
pub(super) struct Window {
    pub(super) file: Box<dyn DiskFile>,
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    pub(super) fn new(file: Box<dyn DiskFile>) -> Window {
        Window {
            file,
            bytes: Vec::new(),
            start: 0,
        }
    }

    /// The bytes from `at` up to `end`, at most `length` of them; fewer where the file is shorter.
    fn slice(&mut self, at: u64, end: u64, length: usize) -> io::Result<&[u8]> {
        let length = usize::try_from(end.saturating_sub(at))
            .unwrap_or(length)
            .min(length);
        let held = self.start + self.bytes.len() as u64;
        if at < self.start || at + length as u64 > held {
            let wanted = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            self.fill(at, length.max(BLOCK_BYTES.min(wanted)))?;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        let rest = self.bytes.get(from..).unwrap_or_default();
        Ok(rest.get(..length).unwrap_or(rest))
    }

    fn fill(&mut self, at: u64, length: usize) -> io::Result<()> {
        self.start = at;
        self.bytes.clear();
        self.bytes.resize(length, 0);
        let mut filled = 0;
        while let Some(rest) = self.bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }

    /// The bytes that the frame at `at` claims.
    pub(super) fn frame(&mut self, at: u64, end: u64) -> io::Result<&[u8]> {
        let head = self.slice(at, end, FRAME_BYTES)?;
        let length = frame::claimed_length(head).unwrap_or(0);
        self.slice(at, end, FRAME_BYTES + length)
    }

    /// The first offset from `at` on that a valid record lies at.
    pub(super) fn resync(&mut self, mut at: u64, end: u64, seed: u32) -> io::Result<Option<u64>> {
        while at + (FRAME_BYTES as u64) < end {
            // Zeros are no record: whole blocks of them are passed over at once.
            let block = self.slice(at, end, 4096)?;
            if block.len() > 4 && block.iter().all(|byte| *byte == 0) {
                at += (block.len() - 3) as u64;
                continue;
            }
            if block.len() < FRAME_BYTES {
                break;
            }
            let candidate = block
                .windows(4)
                .position(|length| frame::claimed_length(length).is_some());
            let Some(candidate) = candidate else {
                at += (block.len() - 3) as u64;
                continue;
            };
            at += candidate as u64;
            let bytes = self.slice(at, end, FRAME_BYTES + RECORD_BYTES_MAX)?;
            if frame::payload(bytes, seed).is_some() {
                return Ok(Some(at));
            }
            at += 1;
        }
        Ok(None)
    }

    /// Where the last valid record of a whole chunk ends, and how many valid ones there are.
    pub(super) fn scan_end(&mut self, seed: u32) -> io::Result<(u64, u64)> {
        let size = self.file.size()?;
        let mut at = HEADER_BYTES;
        let mut end = HEADER_BYTES;
        let mut records = 0;
        while at < size {
            if let Some(payload) = frame::payload(self.frame(at, size)?, seed) {
                at += (FRAME_BYTES + payload.len()) as u64;
                end = at;
                records += 1;
            } else {
                match self.resync(at + 1, size, seed)? {
                    Some(next) => at = next,
                    None => break,
                }
            }
        }
        Ok((end, records))
    }

    /// Whether a byte between two offsets is not zero.
    pub(super) fn has_data(&mut self, mut at: u64, end: u64) -> io::Result<Option<u64>> {
        let mut last = None;
        while at < end {
            let block = self.slice(at, end, BLOCK_BYTES)?;
            if block.is_empty() {
                break;
            }
            if let Some(found) = block.iter().rposition(|byte| *byte != 0) {
                last = Some(at + found as u64);
            }
            at += block.len() as u64;
        }
        Ok(last)
    }
}
