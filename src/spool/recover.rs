//! What the run before left: the end of its last chunk, and how many records lie before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::read::Window;
use super::{Disk, OpenError, Position, SpoolId, chunk, frame};

/// Where the spool ends.
#[derive(Clone, Copy, Default)]
pub(super) struct Recovered {
    pub(super) end: Position,
    /// Records in its whole life.
    pub(super) records: u64,
    /// Bytes behind the last record that were cut off.
    pub(super) torn_bytes: u64,
}

/// Reads and syncs the last chunk, and cuts off what lies behind its last record. A last chunk that was
/// torn before it held anything is deleted: nobody was told of it.
pub(super) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    id: SpoolId,
    chunks: &mut BTreeMap<u64, u64>,
) -> Result<Recovered, OpenError> {
    let at = |path: PathBuf| move |source| OpenError::Io { path, source };
    while let Some((number, _)) = chunks.last_key_value() {
        let number = *number;
        let path = chunk::path(dir, number);
        let file = disk.open_to_write(&path).map_err(at(path.clone()))?;
        // Records of a killed process may be in the page cache alone.
        file.sync_data().map_err(at(path.clone()))?;
        let header = chunk::header_of(&*file, number, id).map_err(at(path.clone()))?;
        let mut window = Window::new(file);
        let (offset, counted) = window.scan_end(frame::seed(id)).map_err(at(path.clone()))?;
        if header.is_none() && counted == 0 {
            disk.remove(&path).map_err(at(path))?;
            chunks.remove(&number);
            continue;
        }
        let size = window.file.size().map_err(at(path.clone()))?;
        let torn = window.has_data(offset, size).map_err(at(path.clone()))?;
        // Nobody writes behind it any more; many starts must not fill the spool with space kept free.
        window.file.truncate(offset).map_err(at(path.clone()))?;
        let before = chunk::records_before(disk, dir, id, chunks, number).map_err(at(path))?;
        chunks.insert(number, offset);
        let end = Position {
            chunk: number,
            offset,
        };
        return Ok(Recovered {
            end,
            records: before + counted,
            torn_bytes: torn.map_or(0, |last| last + 1 - offset),
        });
    }
    Ok(Recovered::default())
}
