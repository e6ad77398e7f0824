//! Verification: reads every record and reports what is damaged. Changes nothing.

use std::fmt;
use std::path::Path;

use crate::frame::{self, FRAME_BYTES, HEADER_BYTES};
use crate::window::Window;
use crate::{Damage, Disk, OpenError, chunk};

/// What a chunk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkReport {
    /// Its number.
    pub number: u64,
    /// Valid records.
    pub records: u64,
    /// Their bytes, frames included.
    pub bytes: u64,
    /// Bytes after the last record of the last chunk, which were never acknowledged.
    pub torn_bytes: u64,
    /// What should have been records.
    pub corrupt: Damage,
    /// Whether both copies of the header are sound.
    pub header_is_sound: bool,
}

impl ChunkReport {
    /// Returns whether anything in it is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.torn_bytes > 0 || self.corrupt.regions > 0 || !self.header_is_sound
    }
}

impl fmt::Display for ChunkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:016x}: {} records, {} bytes, {} torn bytes, {} corrupt bytes in {} places{}",
            self.number,
            self.records,
            self.bytes,
            self.torn_bytes,
            self.corrupt.bytes,
            self.corrupt.regions,
            if self.header_is_sound {
                ""
            } else {
                ", header corrupt"
            },
        )
    }
}

/// Reads the whole spool in a directory; returns a report for each chunk.
///
/// # Errors
/// If the directory holds no spool, or the disk fails.
pub fn verify(dir: &Path, disk: &dyn Disk) -> Result<Vec<ChunkReport>, OpenError> {
    let id = chunk::read_id(disk, dir)?.ok_or_else(|| OpenError::Format {
        path: dir.join("id"),
        what: "is missing, so this is not the directory of a spool",
    })?;
    let seed = frame::seed(id);
    let at = |source| OpenError::Io {
        path: dir.to_owned(),
        source,
    };
    let numbers: Vec<u64> = chunk::list(disk, dir)
        .map_err(at)?
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    let mut reports = Vec::new();
    for (index, number) in numbers.iter().copied().enumerate() {
        let next = numbers.get(index + 1).copied();
        let stated_end = match next {
            Some(next) => chunk::read_header(disk, dir, next, id)
                .map_err(at)?
                .and_then(|header| header.end_of(number)),
            None => None,
        };
        let file = disk.open(&chunk::path(dir, number)).map_err(at)?;
        let copies = chunk::header_copies(&*file, number, id).map_err(at)?;
        let header_is_sound = copies.iter().all(Option::is_some);
        let mut window = Window::new(file);
        let end = match stated_end {
            Some(end) => end,
            None => window.scan_end(seed).map_err(at)?.0,
        };
        let mut report = ChunkReport {
            number,
            records: 0,
            bytes: 0,
            torn_bytes: 0,
            corrupt: Damage::default(),
            header_is_sound,
        };
        count(&mut window, end, seed, &mut report).map_err(at)?;
        if next.is_none() {
            let size = window.file.size().map_err(at)?;
            let last = window.last_data(end, size).map_err(at)?;
            report.torn_bytes = last.map_or(0, |last| last + 1 - end);
        }
        reports.push(report);
    }
    Ok(reports)
}

fn count(
    window: &mut Window,
    end: u64,
    seed: u32,
    report: &mut ChunkReport,
) -> std::io::Result<()> {
    let mut at = HEADER_BYTES;
    while at < end {
        if let Some(payload) = frame::payload(window.frame(at, end)?, seed) {
            let length = (FRAME_BYTES + payload.len()) as u64;
            report.records += 1;
            report.bytes += length;
            at += length;
        } else {
            let next = window.resync(at + 1, end, seed)?.unwrap_or(end);
            report.corrupt.regions += 1;
            report.corrupt.bytes += next - at;
            at = next;
        }
    }
    Ok(())
}
