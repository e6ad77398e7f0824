//! A window on a chunk's file: a stretch of it in memory, in which records are found.

use std::io;

use crate::RECORD_BYTES_MAX;
use crate::disk::DiskFile;
use crate::frame::{self, FRAME_BYTES, HEADER_BYTES};

/// Bytes read at one time.
const BLOCK_BYTES: usize = 256 * 1024;

/// A stretch of a file in memory.
pub(crate) struct Window {
    pub(crate) file: Box<dyn DiskFile>,
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    pub(crate) fn new(file: Box<dyn DiskFile>) -> Window {
        Window {
            file,
            bytes: Vec::new(),
            start: 0,
        }
    }

    /// Returns the bytes from `at` to `end`, at most `length`; fewer if the file is shorter.
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

    /// Returns the bytes that the frame at `at` claims.
    pub(crate) fn frame(&mut self, at: u64, end: u64) -> io::Result<&[u8]> {
        let head = self.slice(at, end, FRAME_BYTES)?;
        let length = frame::claimed_length(head).unwrap_or(0);
        self.slice(at, end, FRAME_BYTES + length)
    }

    /// Returns the offset of the first valid record from `at` on.
    pub(crate) fn resync(&mut self, mut at: u64, end: u64, seed: u32) -> io::Result<Option<u64>> {
        while at + (FRAME_BYTES as u64) < end {
            // Zeros are not a record, so a block of them is skipped at once.
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

    /// Returns where the last valid record of a chunk ends, and the number of valid records.
    pub(crate) fn scan_end(&mut self, seed: u32) -> io::Result<(u64, u64)> {
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

    /// Returns the offset of the last byte between two offsets that is not zero.
    pub(crate) fn last_data(&mut self, mut at: u64, end: u64) -> io::Result<Option<u64>> {
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
