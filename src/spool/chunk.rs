//! A chunk's name and header, and the file that names the spool.

use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};

use super::{Disk, DiskFile, OpenError, SpoolId};

/// Bytes of a chunk before its first record.
pub(super) const HEADER_BYTES: u64 = 64;
const MAGIC: &[u8; 8] = b"AVTRYCK\n";
const VERSION: u32 = 1;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) previous: u64,
    pub(super) previous_end: u64,
}

impl Header {
    pub(super) fn encode(self, id: SpoolId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&id.0);
        for number in [self.number, self.previous, self.previous_end] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// What it tells of a chunk before its own: where that ends, as far as anything in it was
    /// acknowledged. A chunk that was passed over holds nothing.
    pub(super) fn end_of(self, number: u64) -> Option<u64> {
        match self.previous.cmp(&number) {
            Ordering::Less => Some(HEADER_BYTES),
            Ordering::Equal => Some(self.previous_end),
            Ordering::Greater => None,
        }
    }

    fn decode(bytes: &[u8; 64], id: SpoolId) -> Option<Header> {
        let (rest, crc) = bytes.split_last_chunk::<4>()?;
        let number = |at: usize| Some(u64::from_le_bytes(*rest.get(at..)?.first_chunk()?));
        let sound = crc32c::crc32c(rest) == u32::from_le_bytes(*crc)
            && rest.starts_with(MAGIC)
            && rest.get(8..12)? == VERSION.to_le_bytes()
            && rest.get(16..32)? == id.0;
        sound.then_some(Header {
            number: number(32)?,
            previous: number(40)?,
            previous_end: number(48)?,
        })
    }
}

/// The file of a chunk.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.chunk"))
}

/// The header of a chunk; `None` where it is damaged.
pub(super) fn read_header(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    id: SpoolId,
) -> io::Result<Option<Header>> {
    header_of(&*disk.open(&path(dir, number))?, number, id)
}

pub(super) fn header_of(
    file: &dyn DiskFile,
    number: u64,
    id: SpoolId,
) -> io::Result<Option<Header>> {
    let mut bytes = [0; 64];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(Header::decode(&bytes, id).filter(|header| header.number == number))
}

/// The chunks in a directory: numbers and sizes.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, u64)>> {
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

/// Reads the spool's ID; `None` where there is none.
pub(super) fn read_id(disk: &dyn Disk, dir: &Path) -> Result<Option<SpoolId>, OpenError> {
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
            what: "is no spool ID; 32 hex digits would be right",
        })
}

/// The ID of the spool in `dir`. Where there is no chunk it is a new one: a spool that was emptied by
/// hand begins at chunk 1 again, and what is known of the former one must not be taken for it.
pub(super) fn load_id(disk: &dyn Disk, dir: &Path, is_empty: bool) -> Result<SpoolId, OpenError> {
    let path = dir.join("id");
    if !is_empty {
        return read_id(disk, dir)?.ok_or(OpenError::Format {
            path,
            what: "is missing though there are chunks; the file that was written with them would be right",
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
