//! Where Kafka begins with a spool that has no position there yet.
//!
//! Beside Postgres that is where Postgres was when `[kafka]` was first configured. Postgres goes on
//! while Kafka is away, and processes come and go: so the place is kept in a file beside the spool
//! until the collector is started without `[kafka]`. Nothing after it is released before Kafka has
//! it.
//!
//! The file holds the spool's ID and the place, as text. That of another spool, which was in the
//! same folder before, counts as absent.

use std::io;
use std::path::PathBuf;

use spool::{Spool, SpoolId};

use super::sink::Reached;
use crate::whole;

/// The name of the file.
pub(crate) const FILE: &str = "kafka";

/// The file of one spool.
#[derive(Debug)]
pub(crate) struct StartFile {
    dir: PathBuf,
    spool: SpoolId,
    /// Where the spool's first chunk begins: what was before that is gone.
    first: Reached,
}

impl StartFile {
    /// Returns that of a spool.
    #[must_use]
    pub(crate) fn of(spool: &Spool) -> StartFile {
        // One that cannot be read is read as damage later.
        let first = spool.first().ok().flatten();
        let first = first.map(|(position, records)| Reached { position, records });
        StartFile {
            dir: spool.dir().to_owned(),
            spool: spool.id(),
            first: first.unwrap_or_default(),
        }
    }

    /// Returns what is kept.
    pub(super) fn read(&self) -> Option<Reached> {
        let path = self.dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!(%error, "where Kafka begins cannot be read from {}", path.display());
                return Some(self.first);
            }
        };
        let (spool, place) = text.trim_end().split_once(' ').unwrap_or_default();
        if spool.len() == 32 && spool != self.spool.to_string() {
            return None;
        }
        let kept = Reached::parse(place).unwrap_or_else(|error| {
            tracing::error!(
                "{} does not say where Kafka begins: {error:#}; it gets all that the spool has",
                path.display()
            );
            self.first
        });
        Some(match kept.position < self.first.position {
            true => self.first,
            false => kept,
        })
    }

    /// Keeps where Kafka begins. If that fails, only this process knows.
    pub(super) fn keep(&self, start: Reached) {
        if let Err(error) = self.write(start) {
            let path = self.dir.join(FILE);
            tracing::error!(%error, "where Kafka begins cannot be kept in {}", path.display());
        }
    }

    fn write(&self, start: Reached) -> io::Result<()> {
        let text = format!("{} {}\n", self.spool, start.to_text());
        whole::write(&self.dir, FILE, &text)
    }

    /// Deletes it: nothing is kept for Kafka any more.
    pub(crate) fn forget(&self) {
        let path = self.dir.join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%error, "{} cannot be deleted", path.display());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::Progress;
    use spool::Position;

    fn reached(chunk: u64, offset: u64, records: u64) -> Reached {
        Reached {
            position: Position { chunk, offset },
            records,
        }
    }

    fn file(dir: &std::path::Path, spool: u8) -> StartFile {
        StartFile {
            dir: dir.to_owned(),
            spool: SpoolId([spool; 16]),
            first: Reached::default(),
        }
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = reached(7, u64::MAX, 3);
        assert_eq!(place.to_text(), "7 18446744073709551615 3");
        assert_eq!(Reached::parse(&place.to_text()).unwrap(), place);
        for wrong in ["", "7 8", "7 8 x", "-1 2 3", "1 2 3 4", " 1 2 3"] {
            assert!(Reached::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn kafka_begins_where_postgres_was_in_the_first_process_whatever_it_has_in_later_ones() {
        let dir = tempfile::tempdir().unwrap();
        let begin = |spool, postgres| {
            let progress = Progress::default();
            progress.keep_start(0, file(dir.path(), spool));
            progress.set_start(0, postgres);
            progress.start(0).unwrap().unwrap_or_default()
        };
        let first = reached(2, 64, 5);
        assert_eq!(begin(1, Some(first)), first);
        assert_eq!(begin(1, Some(reached(9, 64, 50))), first);
        assert_eq!(begin(1, None), first);
        // Another spool in the same folder, which is empty.
        assert_eq!(begin(2, None), Reached::default());
        assert_eq!(begin(2, Some(first)), Reached::default());
        // Without Kafka nothing is kept for it.
        file(dir.path(), 2).forget();
        file(dir.path(), 2).forget();
        assert_eq!(begin(2, Some(first)), first);
    }

    #[test]
    fn what_was_released_is_gone_and_a_damaged_file_passes_over_nothing() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), 1).keep(reached(2, 64, 5));
        let later = StartFile {
            first: reached(4, 128, 9),
            ..file(dir.path(), 1)
        };
        assert_eq!(later.read(), Some(reached(4, 128, 9)));
        for damaged in ["", "x", "01010101010101010101010101010101 1 2"] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            assert_eq!(later.read(), Some(later.first), "{damaged}");
        }
    }
}
