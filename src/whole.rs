//! Small files that are there whole, as they were or as they are to be, whatever is cut short.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes a file of that name in the place of the one before. It gets its name once the disk has
/// all of it.
///
/// # Errors
/// Those of the disk.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let unfinished = dir.join(format!(".{name}"));
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, dir.join(name))?;
    File::open(dir)?.sync_all()
}
