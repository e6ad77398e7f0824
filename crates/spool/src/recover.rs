//! Recovery: where the previous run ended, and how many records lie before that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::window::Window;
use crate::{Disk, OpenError, Position, SpoolId, chunk, frame};

/// Where the spool ends.
#[derive(Clone, Copy, Default)]
pub(crate) struct Recovered {
    pub(crate) end: Position,
    /// Records since the spool was created.
    pub(crate) records: u64,
    /// Bytes after the last record that were truncated.
    pub(crate) torn_bytes: u64,
}

/// Reads and syncs the last chunk, and truncates it after its last record. A last chunk that was
/// torn before it held anything is deleted: nothing in it was acknowledged.
pub(crate) fn recover(
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
        // Records of a killed process may be in the page cache only.
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
        let torn = window.last_data(offset, size).map_err(at(path.clone()))?;
        // Nothing is appended to it again; many starts must not fill the spool with unused space.
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
