//! Deliveries as files in a folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Delivery;

/// A folder that the receiver reads.
#[derive(Clone, Debug)]
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    /// Puts a delivery into it, as `<to>-<number>-<kind>-<ID>.ndjson.gz`: under that name it is
    /// whole, and stays so when the machine loses power. One that is there already is left: its ID
    /// says that it is the same, also after a restore of the database.
    ///
    /// # Errors
    /// Where the folder cannot be written to.
    pub(crate) fn put(&self, delivery: &Delivery) -> anyhow::Result<()> {
        let Delivery {
            to,
            number,
            kind,
            id,
            ..
        } = delivery;
        let name = format!(
            "{to}-{number:010}-{}-{}.ndjson.gz",
            kind.name(),
            id.simple()
        );
        let (path, unfinished) = (self.0.join(&name), self.0.join(format!(".{name}.part")));
        let what = || path.display().to_string();
        if path.try_exists().with_context(what)? {
            return Ok(());
        }
        let bytes = delivery.to_bytes()?;
        let write = || -> io::Result<()> {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o640)
                .open(&unfinished)?;
            let mut packed = GzEncoder::new(file, Compression::default());
            packed.write_all(&bytes)?;
            packed.finish()?.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(&self.0)?.sync_all()
        };
        write().with_context(what)
    }
}
