//! What the visitor's own page asks about: the edge asks, the thread with Postgres answers.
//!
//! They share no more than this queue, so that the edge needs no Postgres. It is bounded, and so is what
//! it can cost: one short question is answered at a time, [`FILES_MAX`] files are written at a time, and
//! who asks gives up after [`ANSWER_TIME_MAX`]. An inquiry that cannot be answered is dropped, which its
//! asker sees.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::hit::VisitorId;
use crate::subject::Held;

/// How long an answer, or the first piece of a file, is waited for.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a file may take in all.
pub const FILE_TIME_MAX: Duration = Duration::from_secs(120);
/// Inquiries that wait.
const WAITING_MAX: usize = 32;
/// Files that are written at the same time.
const FILES_MAX: usize = 2;
/// Pieces of a file that wait for its reader.
const PIECES_MAX: usize = 4;

/// A question about what is held.
pub struct Inquiry {
    /// Whose data: the visitors that one browser's cookies name.
    pub visitors: Vec<VisitorId>,
    /// What is asked for, and where the answer goes.
    pub wanted: Wanted,
}

/// What is asked for.
pub enum Wanted {
    /// What is held in short, for each visitor.
    Summary(oneshot::Sender<Vec<Held>>),
    /// All of it, as the text of one JSON array.
    File {
        /// Where its pieces go.
        pieces: mpsc::Sender<Piece>,
        /// Counts the file until it is written.
        turn: OwnedSemaphorePermit,
    },
}

/// A piece of a file.
pub enum Piece {
    /// Some bytes of it.
    Bytes(Bytes),
    /// The file is whole. A file whose pieces stop without this one is not.
    End,
}

/// No room for another inquiry.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

/// The asking side.
#[derive(Clone)]
pub struct Inquirer {
    waiting: mpsc::Sender<Inquiry>,
    files: Arc<Semaphore>,
}

/// Both ends of a new queue.
#[must_use]
pub fn queue() -> (Inquirer, mpsc::Receiver<Inquiry>) {
    let (waiting, inquiries) = mpsc::channel(WAITING_MAX);
    let files = Arc::new(Semaphore::new(FILES_MAX));
    (Inquirer { waiting, files }, inquiries)
}

impl Inquirer {
    /// Asks what is held about visitors, in short.
    ///
    /// # Errors
    /// Where too many inquiries wait.
    pub fn summary(&self, visitors: Vec<VisitorId>) -> Result<oneshot::Receiver<Vec<Held>>, Busy> {
        let (answer, answered) = oneshot::channel();
        self.ask(visitors, Wanted::Summary(answer))?;
        Ok(answered)
    }

    /// Asks for all that is held about visitors.
    ///
    /// # Errors
    /// Where too many inquiries wait, or too many files are being written.
    pub fn file(&self, visitors: Vec<VisitorId>) -> Result<mpsc::Receiver<Piece>, Busy> {
        let files = Arc::clone(&self.files);
        let turn = files.try_acquire_owned().map_err(|_| Busy)?;
        let (pieces, written) = mpsc::channel(PIECES_MAX);
        self.ask(visitors, Wanted::File { pieces, turn })?;
        Ok(written)
    }

    fn ask(&self, visitors: Vec<VisitorId>, wanted: Wanted) -> Result<(), Busy> {
        self.waiting
            .try_send(Inquiry { visitors, wanted })
            .map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_inquiries_nor_files_pile_up() {
        let (inquirer, mut inquiries) = queue();
        let files: Vec<_> = (0..FILES_MAX).map(|_| inquirer.file(Vec::new())).collect();
        assert!(files.iter().all(Result::is_ok));
        assert_eq!(inquirer.file(Vec::new()).err(), Some(Busy));
        for _ in FILES_MAX..WAITING_MAX {
            assert!(inquirer.summary(Vec::new()).is_ok());
        }
        assert_eq!(inquirer.summary(Vec::new()).err(), Some(Busy));
        // A file that is done makes room for another inquiry and another file.
        drop(inquiries.try_recv());
        assert!(inquirer.file(Vec::new()).is_ok());
    }
}
