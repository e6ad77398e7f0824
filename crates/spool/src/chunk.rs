//! A chunk's name and header, and the file that names the spool.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::frame::{HEADER_BYTES, HEADER_COPY_BYTES};
use crate::window::Window;
use crate::{Disk, DiskFile, OpenError, SpoolId, frame};

const MAGIC: &[u8; 8] = b"AVTRYCK\n";
const VERSION: u32 = 1;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u64,
    pub(crate) previous: u64,
    pub(crate) previous_end: u64,
    pub(crate) records_before: u64,
}

impl Header {
    pub(crate) fn encode(self, id: SpoolId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_COPY_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let mut rest = id.0.to_vec();
        for number in [
            self.number,
            self.previous,
            self.previous_end,
            self.records_before,
        ] {
            rest.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &rest);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&rest);
        bytes.repeat(2)
    }

    /// Returns where an earlier chunk ends, as far as its records were acknowledged. A chunk that
    /// was passed over holds nothing.
    pub(crate) fn end_of(self, number: u64) -> Option<u64> {
        match self.previous.cmp(&number) {
            Ordering::Less => Some(HEADER_BYTES),
            Ordering::Equal => Some(self.previous_end),
            Ordering::Greater => None,
        }
    }

    fn decode(bytes: &[u8; HEADER_COPY_BYTES], id: SpoolId) -> Option<Header> {
        let (start, rest) = bytes.split_first_chunk::<12>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let number = |at: usize| Some(u64::from_le_bytes(*rest.get(at..)?.first_chunk()?));
        let sound = crc32c::crc32c_append(crc32c::crc32c(start), rest) == u32::from_le_bytes(*crc)
            && start.starts_with(MAGIC)
            && start.ends_with(&VERSION.to_le_bytes())
            && rest.starts_with(&id.0);
        sound.then_some(Header {
            number: number(16)?,
            previous: number(24)?,
            previous_end: number(32)?,
            records_before: number(40)?,
        })
    }
}

/// Returns the path of a chunk.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.chunk"))
}

/// Reads the header of a chunk; `None` if both copies are damaged.
pub(crate) fn read_header(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    id: SpoolId,
) -> io::Result<Option<Header>> {
    header_of(&*disk.open(&path(dir, number))?, number, id)
}

/// Reads the header of an open chunk; `None` if both copies are damaged.
pub(crate) fn header_of(
    file: &dyn DiskFile,
    number: u64,
    id: SpoolId,
) -> io::Result<Option<Header>> {
    let copies = header_copies(file, number, id)?;
    Ok(copies.into_iter().flatten().next())
}

/// Reads both copies of the header; `None` for a damaged one.
pub(crate) fn header_copies(
    file: &dyn DiskFile,
    number: u64,
    id: SpoolId,
) -> io::Result<[Option<Header>; 2]> {
    let mut bytes = [0; 2 * HEADER_COPY_BYTES];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    let copy = |at: usize| {
        let whole = bytes.get(..filled)?.get(at..)?.first_chunk()?;
        Header::decode(whole, id).filter(|header| header.number == number)
    };
    Ok([copy(0), copy(HEADER_COPY_BYTES)])
}

/// Counts the records before a chunk, by its header. If that is damaged, by the nearest sound
/// header before it and the records that can still be read.
pub(crate) fn records_before(
    disk: &dyn Disk,
    dir: &Path,
    id: SpoolId,
    chunks: &BTreeMap<u64, u64>,
    number: u64,
) -> io::Result<u64> {
    let mut counted = 0;
    for (number, _) in chunks.range(..=number).rev() {
        if let Some(header) = read_header(disk, dir, *number, id)? {
            return Ok(header.records_before + counted);
        }
        if let Some((before, _)) = chunks.range(..number).next_back() {
            let mut window = Window::new(disk.open(&path(dir, *before))?);
            counted += window.scan_end(frame::seed(id))?.1;
        }
    }
    Ok(counted)
}

/// Lists the chunks in a directory: numbers and sizes.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let number = |name: &str| {
        let digits = name
            .strip_suffix(".chunk")
            .filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16)
            .ok()
            .filter(|number| *number > 0)
    };
    let mut chunks: Vec<_> = disk
        .list(dir)?
        .into_iter()
        .filter_map(|(name, size)| Some((number(&name)?, size)))
        .collect();
    chunks.sort_unstable();
    Ok(chunks)
}

/// Reads the spool's ID; `None` if there is no such file.
pub(crate) fn read_id(disk: &dyn Disk, dir: &Path) -> Result<Option<SpoolId>, OpenError> {
    let path = dir.join("id");
    let file = match disk.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { path, source }),
        Ok(file) => file,
    };
    let mut text = [0; 33];
    let length = file.read_at(&mut text, 0).map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })?;
    let text = text
        .get(..length)
        .and_then(|text| str::from_utf8(text).ok())
        .unwrap_or_default();
    u128::from_str_radix(text.trim(), 16)
        .ok()
        .filter(|_| text.trim().len() == 32)
        .map(|id| Some(SpoolId(id.to_be_bytes())))
        .ok_or(OpenError::Format {
            path,
            what: "is not a spool ID, which has 32 hex digits",
        })
}

/// Returns the ID of the spool in `dir`. Without chunks it gets a new one: a spool that was emptied
/// by hand begins at chunk 1 again, and positions in the old one must not be applied to it.
pub(crate) fn load_id(disk: &dyn Disk, dir: &Path, is_empty: bool) -> Result<SpoolId, OpenError> {
    let path = dir.join("id");
    if !is_empty {
        return read_id(disk, dir)?.ok_or(OpenError::Format {
            path,
            what: "is missing although there are chunks; restore the file that was written with them",
        });
    }
    let io = |source: io::Error| OpenError::Io {
        path: path.clone(),
        source,
    };
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| io(io::Error::other(error)))?;
    let id = SpoolId(id);
    let new = dir.join("id.new");
    match disk.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let file = disk.create(&new, 0).map_err(io)?;
    file.write_all_at(format!("{id}\n").as_bytes(), 0)
        .map_err(io)?;
    file.sync_data().map_err(io)?;
    disk.rename(&new, &path).map_err(io)?;
    disk.sync_dir(dir).map_err(io)?;
    Ok(id)
}
