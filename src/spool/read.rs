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
    /// Places where a chunk is gone.
    pub missing: u64,
}

/// Records that were read. To be used again and again.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<(Position, Range<usize>)>,
    /// The position behind the last record.
    pub end: Position,
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

    /// Each record's place and payload.
    pub fn records(&self) -> impl Iterator<Item = (Position, &[u8])> {
        self.records
            .iter()
            .map(|(position, range)| (*position, self.bytes.get(range.clone()).unwrap_or_default()))
    }

    fn clear(&mut self, position: Position) {
        self.bytes.clear();
        self.records.clear();
        self.end = position;
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
    open: Option<(u64, Window)>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, position: Position) -> Reader {
        Reader {
            shared,
            position,
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
        batch.clear(self.position);
        while self.position < self.shared.committed() {
            let start = self.position;
            let chunk = match self.find() {
                Some(chunk) => chunk,
                None => break,
            };
            let read = self.read_chunk(chunk, batch, records_max, bytes_max);
            let done = read.map_err(|source| {
                self.position = start;
                self.open = None;
                ReadError {
                    path: chunk::path(&self.shared.settings.dir, chunk),
                    source,
                }
            })?;
            batch.end = self.position;
            if !done {
                break;
            }
        }
        Ok(())
    }

    /// The first chunk on disk that the position is in or before.
    fn find(&self) -> Option<u64> {
        lock(&self.shared.chunks)
            .range(self.position.chunk..)
            .next()
            .map(|(number, _)| *number)
    }

    /// Reads on in a chunk; whether its end was reached and another may follow.
    fn read_chunk(
        &mut self,
        number: u64,
        batch: &mut Batch,
        records_max: usize,
        bytes_max: usize,
    ) -> io::Result<bool> {
        let shared = Arc::clone(&self.shared);
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let file = shared
                .disk
                .open(&chunk::path(&shared.settings.dir, number))?;
            self.open = Some((number, Window::new(file)));
        }
        let Some((_, window)) = &mut self.open else {
            return Ok(false);
        };
        if number != self.position.chunk {
            let header = chunk::header_of(&*window.file, number, shared.id)?;
            let follows = header.is_some_and(|header| header.previous <= self.position.chunk);
            batch.damage.missing += u64::from(!follows && self.position.chunk != 0);
            self.position = Position {
                chunk: number,
                offset: 0,
            };
        }
        self.position.offset = self.position.offset.max(HEADER_BYTES);
        let is_live = number == shared.committed().chunk;
        let end = match shared.end_of(number)? {
            Some(end) => Some(end),
            None => Some(window.scan_end(shared.seed)?),
        }
        .unwrap_or(HEADER_BYTES);
        while self.position.offset < end {
            if batch.records.len() >= records_max || batch.bytes.len() >= bytes_max {
                return Ok(false);
            }
            let at = self.position.offset;
            let bytes = window.frame(at, end)?;
            if let Some(payload) = frame::payload(bytes, shared.seed) {
                let start = batch.bytes.len();
                batch.bytes.extend_from_slice(payload);
                batch
                    .records
                    .push((self.position, start..batch.bytes.len()));
                self.position.offset = at + (FRAME_BYTES + payload.len()) as u64;
            } else {
                let next = window.resync(at + 1, end, shared.seed)?.unwrap_or(end);
                batch.damage.regions += 1;
                batch.damage.bytes += next - at;
                self.position.offset = next;
            }
        }
        if is_live {
            return Ok(false);
        }
        // The end of this chunk is the beginning of the next; none there yet: it stays here.
        let next = lock(&shared.chunks)
            .range(number + 1..)
            .next()
            .map(|(next, _)| *next);
        if let Some(next) = next.filter(|next| *next <= shared.committed().chunk) {
            self.position = Position {
                chunk: next,
                offset: HEADER_BYTES,
            };
        }
        Ok(next.is_some())
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

    /// Where the last valid record of a whole chunk ends.
    pub(super) fn scan_end(&mut self, seed: u32) -> io::Result<u64> {
        let size = self.file.size()?;
        let mut at = HEADER_BYTES;
        let mut end = HEADER_BYTES;
        while at < size {
            if let Some(payload) = frame::payload(self.frame(at, size)?, seed) {
                at += (FRAME_BYTES + payload.len()) as u64;
                end = at;
            } else {
                match self.resync(at + 1, size, seed)? {
                    Some(next) => at = next,
                    None => break,
                }
            }
        }
        Ok(end)
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
