//! The way out: committed records from a position on. Damage is counted and passed over.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::frame::{self, FRAME_BYTES, HEADER_BYTES};
use crate::spool::{Shared, lock};
use crate::window::Window;
use crate::{Position, chunk};

/// What should have been records and was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Stretches without a valid record.
    pub regions: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Places where chunks are missing.
    pub missing: u64,
    /// Records that are known to be lost, from the count in a later chunk's header.
    pub records: u64,
}

impl Damage {
    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: Damage) {
        self.regions += other.regions;
        self.bytes += other.bytes;
        self.missing += other.missing;
        self.records += other.records;
    }

    /// Returns whether there is any damage.
    #[must_use]
    pub fn is_some(&self) -> bool {
        *self != Damage::default()
    }
}

/// Records that were read. Reuse one for many reads to keep its buffers.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<(Position, Range<usize>)>,
    /// The position after the last record.
    pub end: Position,
    /// How many records lie before `end`, since the spool was created.
    pub end_records: u64,
    /// What was passed over on the way.
    pub damage: Damage,
}

impl Batch {
    /// Returns the number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the length of all payloads, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns all payloads, one after the other; [`Batch::ranges`] refer to them.
    #[must_use]
    pub fn payloads(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns each record's position and the range of its payload.
    pub fn ranges(&self) -> impl Iterator<Item = (Position, Range<usize>)> {
        self.records.iter().cloned()
    }

    /// Returns the payload in a range.
    #[must_use]
    pub fn payload(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Returns each record's position and payload.
    pub fn records(&self) -> impl Iterator<Item = (Position, &[u8])> {
        self.ranges()
            .map(|(position, range)| (position, self.payload(range)))
    }

    /// Empties it.
    pub fn reset(&mut self) {
        self.clear(Position::default(), 0);
    }

    /// Adds a record of another batch: that is how a batch of several spools is made. The end and
    /// the damage are not touched, because each spool has its own.
    pub fn push(&mut self, position: Position, payload: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.records.push((position, start..self.bytes.len()));
    }

    /// Keeps only the first `records` records. The reader that read the others must then
    /// [go back](Reader::go_back).
    pub fn truncate(&mut self, records: usize) {
        let Some((position, payload)) = self.records.get(records) else {
            return;
        };
        self.end = *position;
        self.end_records -= (self.records.len() - records) as u64;
        self.bytes.truncate(payload.start);
        self.records.truncate(records);
    }

    fn clear(&mut self, position: Position, records: u64) {
        self.bytes.clear();
        self.records.clear();
        self.end = position;
        self.end_records = records;
        self.damage = Damage::default();
    }
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read")]
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
    pub(crate) fn new(shared: Arc<Shared>, position: Position, records: u64) -> Reader {
        Reader {
            shared,
            position,
            records,
            open: None,
        }
    }

    /// Goes back to the end of a batch that it read last, and that was [truncated](Batch::truncate)
    /// since.
    pub fn go_back(&mut self, batch: &Batch) {
        self.position = batch.end;
        self.records = batch.end_records;
    }

    /// Fills `batch` with committed records, up to a number of records or bytes of payload,
    /// whichever is reached first. The batch is empty if there is nothing new.
    ///
    /// # Errors
    /// If the disk fails; the position stays, so the call can be repeated.
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
        // What was read before the fault is returned first; the next call meets the fault again.
        if !batch.is_empty() || batch.damage.is_some() {
            return Ok(());
        }
        Err(ReadError {
            path: chunk::path(&self.shared.options.dir, chunk),
            source,
        })
    }

    fn fill(
        &mut self,
        batch: &mut Batch,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<(), (u64, io::Error)> {
        while self.position < self.shared.committed_position() {
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

    /// Returns the first chunk from a number on that holds committed records.
    fn chunk_from(&self, number: u64) -> Option<u64> {
        let last = self.shared.committed_position().chunk;
        lock(&self.shared.chunks)
            .range(number..=last.max(number))
            .next()
            .map(|(number, _)| *number)
            .filter(|number| *number <= last)
    }

    /// Moves to the start of a chunk, whose header tells what is missing before it.
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
                let path = chunk::path(&self.shared.options.dir, number);
                (number, Window::new(self.shared.disk.open(&path)?))
            }
        };
        Ok(&mut self.open.insert(open).1)
    }

    /// Reads on in the current chunk; returns whether it was read to its end and others follow.
    fn read_chunk(
        &mut self,
        batch: &mut Batch,
        records_max: usize,
        bytes_max: usize,
    ) -> io::Result<bool> {
        let shared = Arc::clone(&self.shared);
        let (mut position, mut records) = (self.position, self.records);
        position.offset = position.offset.max(HEADER_BYTES);
        let is_live = position.chunk == shared.committed_position().chunk;
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
