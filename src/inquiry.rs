//! Inquiries of the visitor's own page: the edge asks, the thread with Postgres answers.
//!
//! They share only this queue, so that the edge needs no Postgres. The queue is bounded, and so is
//! its cost: one short question is answered at a time; at most [`FILES_MAX`] files are written at a
//! time, one for each client, so that a slow reader does not hold up the others; and the edge gives
//! up after [`ANSWER_TIME_MAX`]. An inquiry that cannot be answered is dropped, and its asker
//! notices.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::hit::VisitorId;
use crate::hit::subject::Held;

/// How long the edge waits for an answer, or for the first piece of a file.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a whole file may take.
pub const FILE_TIME_MAX: Duration = Duration::from_secs(120);
/// The most inquiries that wait.
const WAITING_MAX: usize = 32;
/// The most files that are written at the same time; each takes a connection to Postgres.
const FILES_MAX: usize = 8;
/// The most pieces of a file that wait for its reader.
const PIECES_MAX: usize = 4;

/// A question about what is held.
pub struct Inquiry {
    /// The visitors whom one browser's cookies prove.
    pub visitors: Vec<VisitorId>,
    /// What it asks for, and where the answer goes.
    pub wanted: Wanted,
}

/// What an inquiry asks for.
pub enum Wanted {
    /// What the page shows of each visitor.
    Summary(oneshot::Sender<Vec<Held>>),
    /// Everything that is held, as the text of one JSON array.
    File {
        /// Where the pieces go.
        pieces: mpsc::Sender<Piece>,
        /// Holds the file's place among [`FILES_MAX`] until it is written.
        turn: Turn,
    },
}

/// A piece of a file.
pub enum Piece {
    /// Some bytes of it.
    Bytes(Bytes),
    /// The file is complete. A file whose pieces stop without this one is not.
    End,
}

/// There is no room for another inquiry.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

/// The asking side.
#[derive(Clone)]
pub struct Inquirer {
    waiting: mpsc::Sender<Inquiry>,
    files: Files,
}

/// The clients for which a file is being written.
type Files = Arc<Mutex<Vec<IpAddr>>>;

/// One file's place among those that are written, until it is dropped.
pub struct Turn {
    files: Files,
    client: IpAddr,
}

impl Turn {
    fn reserve(files: &Files, client: IpAddr) -> Option<Turn> {
        let mut clients = files.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = clients.len() < FILES_MAX && !clients.contains(&client);
        has_room.then(|| {
            clients.push(client);
            let files = Arc::clone(files);
            Turn { files, client }
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut clients = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|client| *client != self.client);
    }
}

/// Makes a queue and returns both ends.
#[must_use]
pub fn queue() -> (Inquirer, mpsc::Receiver<Inquiry>) {
    let (waiting, inquiries) = mpsc::channel(WAITING_MAX);
    let files = Files::default();
    (Inquirer { waiting, files }, inquiries)
}

impl Inquirer {
    /// Asks what the page shows of visitors.
    ///
    /// # Errors
    /// Where too many inquiries wait.
    pub fn ask_for_summary(
        &self,
        visitors: Vec<VisitorId>,
    ) -> Result<oneshot::Receiver<Vec<Held>>, Busy> {
        let (answer, answered) = oneshot::channel();
        self.ask(visitors, Wanted::Summary(answer))?;
        Ok(answered)
    }

    /// Asks for everything that is held about visitors, for a client: an address that identifies
    /// one subscriber.
    ///
    /// # Errors
    /// Where too many inquiries wait, too many files are being written, or one for this client
    /// already is.
    pub fn ask_for_file(
        &self,
        visitors: Vec<VisitorId>,
        client: IpAddr,
    ) -> Result<mpsc::Receiver<Piece>, Busy> {
        let turn = Turn::reserve(&self.files, client).ok_or(Busy)?;
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
        let file = |client: u8| inquirer.ask_for_file(Vec::new(), IpAddr::from([10, 0, 0, client]));
        let files: Vec<_> = (0..7).map(file).collect();
        assert!(files.iter().all(Result::is_ok));
        assert_eq!(file(0).err(), Some(Busy), "one for each client");
        assert!(file(7).is_ok());
        assert_eq!(file(8).err(), Some(Busy), "and no more than eight");
        for _ in FILES_MAX..WAITING_MAX {
            assert!(inquirer.ask_for_summary(Vec::new()).is_ok());
        }
        assert_eq!(inquirer.ask_for_summary(Vec::new()).err(), Some(Busy));
        // A file that is done makes room for another inquiry and another file, even for its client.
        drop(inquiries.try_recv());
        assert!(file(0).is_ok());
    }
}
