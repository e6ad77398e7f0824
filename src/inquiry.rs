//! Inquiries of the visitor's own page: the edge asks, the thread with Postgres answers.
//!
//! They share only this queue, so that the edge needs no Postgres. What a visitor says of what is
//! believed goes the same way ([`Contradiction`]). The queue is bounded, and so is
//! its cost: one question is answered at a time, and reads a bounded number of rows; at most
//! [`FILES_MAX`] files are written at a time, one for each client; and the edge gives up after
//! [`ANSWER_TIME_MAX`]. An inquiry that cannot be answered is dropped, and its asker notices.
//!
//! The queue is fair: clients take turns, and so do visitors, whose cookie may come from any number
//! of addresses. A question belongs to the round after that of the last one that waits of its
//! client or its visitor, and the rounds are answered in their order. Where the queue is full, a
//! question takes the place of one of a later round. So whoever asks the first time waits for one
//! question of each other client, however many those ask.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::hit::VisitorId;
use crate::hit::belief::{PageScope, Wish};
use crate::hit::subject::Held;

/// How long the edge waits for an answer, or for the first piece of a file.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a whole file may take.
pub(crate) const FILE_TIME_MAX: Duration = Duration::from_secs(120);
/// The most questions that wait.
const WAITING_MAX: usize = 64;
/// The most questions that wait of one client or of one visitor.
const WAITING_OF_ONE_MAX: usize = 4;
/// The most files that are written at the same time. One takes up to about 1 MiB of memory.
const FILES_MAX: usize = 16;
/// The most pieces of a file that wait for its reader.
const PIECES_MAX: usize = 4;

/// What an inquiry asks for.
pub enum Inquiry {
    /// What the page shows of each visitor, or a contradiction.
    Question(Question),
    /// Everything that is held, as the text of one JSON array.
    File(FileInquiry),
}

/// A question for what the page shows.
pub struct Question {
    /// The visitors whom one browser's cookies prove.
    pub visitors: Vec<VisitorId>,
    /// The page, and what its request permits.
    pub scope: PageScope,
    /// What the visitors say against it. Then nothing is shown: the page that follows asks anew.
    pub contradiction: Option<Contradiction>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Vec<Held>, Busy>>,
}

/// What a visitor says against what is believed.
pub struct Contradiction {
    /// What is to be done.
    pub wish: Wish,
    /// The number of the group or of the import that is meant; else 0.
    pub number: i32,
    /// Checks whether a device of a visitor is the one that is meant. A browser names it by a
    /// handle, and only the edge can read it.
    pub is_meant: Box<dyn Fn(VisitorId, [u8; 16]) -> bool + Send>,
}

/// A question for everything.
pub struct FileInquiry {
    /// The visitors whom one browser's cookies prove.
    pub visitors: Vec<VisitorId>,
    /// Where the pieces go.
    pub pieces: mpsc::Sender<Piece>,
    /// Holds the file's place among [`FILES_MAX`] until it is written.
    pub turn: Turn,
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
pub struct Inquirer(Arc<Queue>);

/// The answering side.
pub struct Inquiries(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<WaitingInquiries>,
    /// Wakes the answering side.
    arrived: Notify,
}

#[derive(Default)]
struct WaitingInquiries {
    /// In the order in which they came.
    questions: Vec<WaitingQuestion>,
    /// The round that is being answered.
    round: u64,
    files: VecDeque<FileInquiry>,
    /// The clients for which a file waits or is being written.
    file_clients: Vec<IpAddr>,
}

struct WaitingQuestion {
    round: u64,
    client: IpAddr,
    question: Question,
}

/// One file's place among those that are written, until it is dropped.
pub struct Turn {
    queue: Arc<Queue>,
    client: IpAddr,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let clients = &mut self.queue.lock().file_clients;
        clients.retain(|client| *client != self.client);
    }
}

/// Makes a queue and returns both ends.
#[must_use]
pub fn queue() -> (Inquirer, Inquiries) {
    let queue = Arc::<Queue>::default();
    (Inquirer(Arc::clone(&queue)), Inquiries(queue))
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, WaitingInquiries> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inquirer {
    /// Asks what the page shows of visitors, for a client: an address that identifies one
    /// subscriber. If others take its place before it is answered, it is answered with [`Busy`].
    ///
    /// # Errors
    /// Where too many questions wait, or too many of this client or of a visitor.
    pub(crate) fn ask_for_summary(
        &self,
        visitors: Vec<VisitorId>,
        scope: PageScope,
        client: IpAddr,
    ) -> Result<oneshot::Receiver<Result<Vec<Held>, Busy>>, Busy> {
        self.ask(visitors, scope, None, client)
    }

    /// Asks for what visitors say against what is believed to be done. It takes its turn as other
    /// questions do. The answer is empty where nothing was done, and else has one entry, with
    /// nothing in it.
    ///
    /// # Errors
    /// As for [`Inquirer::ask_for_summary`].
    pub(crate) fn contradict(
        &self,
        visitors: Vec<VisitorId>,
        scope: PageScope,
        contradiction: Contradiction,
        client: IpAddr,
    ) -> Result<oneshot::Receiver<Result<Vec<Held>, Busy>>, Busy> {
        self.ask(visitors, scope, Some(contradiction), client)
    }

    fn ask(
        &self,
        visitors: Vec<VisitorId>,
        scope: PageScope,
        contradiction: Option<Contradiction>,
        client: IpAddr,
    ) -> Result<oneshot::Receiver<Result<Vec<Held>, Busy>>, Busy> {
        let (answer, answered) = oneshot::channel();
        let question = Question {
            visitors,
            scope,
            contradiction,
            answer,
        };
        self.0.lock().add(question, client)?;
        self.0.arrived.notify_one();
        Ok(answered)
    }

    /// Asks for everything that is held about visitors, for a client.
    ///
    /// # Errors
    /// Where too many files are being written, or one for this client already is.
    pub fn ask_for_file(
        &self,
        visitors: Vec<VisitorId>,
        client: IpAddr,
    ) -> Result<mpsc::Receiver<Piece>, Busy> {
        let mut waiting = self.0.lock();
        let clients = &mut waiting.file_clients;
        if clients.len() >= FILES_MAX || clients.contains(&client) {
            return Err(Busy);
        }
        clients.push(client);
        let (pieces, written) = mpsc::channel(PIECES_MAX);
        let queue = Arc::clone(&self.0);
        waiting.files.push_back(FileInquiry {
            visitors,
            pieces,
            turn: Turn { queue, client },
        });
        self.0.arrived.notify_one();
        Ok(written)
    }
}

impl WaitingInquiries {
    fn add(&mut self, question: Question, client: IpAddr) -> Result<(), Busy> {
        self.drop_abandoned();
        let is_same = |waiting: &&WaitingQuestion| {
            let of = &waiting.question.visitors;
            waiting.client == client || question.visitors.iter().any(|visitor| of.contains(visitor))
        };
        let own = self.questions.iter().filter(is_same);
        let (number, last) = own.fold((0, None), |(number, last), waiting| {
            (number + 1, last.max(Some(waiting.round)))
        });
        if number >= WAITING_OF_ONE_MAX {
            return Err(Busy);
        }
        let round = last.map_or(self.round, |last| last + 1);
        if self.questions.len() >= WAITING_MAX {
            let rounds = self.questions.iter().enumerate();
            let last = rounds.max_by_key(|(_, waiting)| waiting.round);
            let (last, _) = last
                .filter(|(_, waiting)| waiting.round > round)
                .ok_or(Busy)?;
            let out = self.questions.remove(last).question;
            // The asker may be gone by now.
            drop(out.answer.send(Err(Busy)));
        }
        self.questions.push(WaitingQuestion {
            round,
            client,
            question,
        });
        Ok(())
    }

    /// Removes the questions whose askers wait no longer.
    fn drop_abandoned(&mut self) {
        self.questions
            .retain(|waiting| !waiting.question.answer.is_closed());
    }

    fn take(&mut self) -> Option<Inquiry> {
        self.drop_abandoned();
        if let Some(file) = self.files.pop_front() {
            return Some(Inquiry::File(file));
        }
        let rounds = self.questions.iter().enumerate();
        let (first, _) = rounds.min_by_key(|(_, waiting)| waiting.round)?;
        let first = self.questions.remove(first);
        self.round = first.round;
        Some(Inquiry::Question(first.question))
    }
}

impl Inquiries {
    /// Waits for the inquiry whose turn it is.
    pub async fn next(&mut self) -> Inquiry {
        loop {
            if let Some(inquiry) = self.0.lock().take() {
                return inquiry;
            }
            self.0.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::Permit;

    type Asked = Result<oneshot::Receiver<Result<Vec<Held>, Busy>>, Busy>;

    fn address(client: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, client])
    }

    fn scope() -> PageScope {
        PageScope {
            site: "shop".to_owned(),
            permit: Permit::ALL,
        }
    }

    fn visitor(number: u8) -> VisitorId {
        VisitorId([number; 16])
    }

    /// The first byte of the visitor of each question, in the order in which they are answered.
    fn answered(inquiries: &Inquiries) -> Vec<u8> {
        let mut waiting = inquiries.0.lock();
        std::iter::from_fn(|| match waiting.take()? {
            Inquiry::Question(question) => question.visitors.first().map(|visitor| visitor.0[0]),
            Inquiry::File(_) => None,
        })
        .collect()
    }

    #[test]
    fn files_do_not_pile_up_and_are_asked_for_one_by_one() {
        let (inquirer, inquiries) = queue();
        let file = |client: u8| inquirer.ask_for_file(Vec::new(), address(client));
        let files: Vec<_> = (0..15).map(file).collect();
        assert!(files.iter().all(Result::is_ok));
        assert_eq!(file(0).err(), Some(Busy), "one for each client");
        assert!(file(15).is_ok());
        assert_eq!(file(16).err(), Some(Busy), "and no more than sixteen");
        // A file that is done makes room for another, even for its client.
        for _ in 0..2 {
            let taken = inquiries.0.lock().take();
            drop(taken);
        }
        assert!(file(0).is_ok() && file(16).is_ok());
    }

    #[test]
    fn clients_and_visitors_take_turns_however_many_questions_one_of_them_has() {
        let (inquirer, inquiries) = queue();
        let ask = |client: u8, number: u8| -> Asked {
            inquirer.ask_for_summary(vec![visitor(number)], scope(), address(client))
        };
        // One client with many visitors, one visitor from many addresses, and two who ask once.
        let asked = [
            (1, 10),
            (1, 11),
            (1, 12),
            (1, 13),
            (2, 20),
            (3, 20),
            (4, 20),
            (5, 50),
            (6, 60),
        ];
        let kept: Vec<Asked> = asked.map(|(client, number)| ask(client, number)).into();
        assert!(kept.iter().all(Result::is_ok));
        assert_eq!(ask(1, 14).err(), Some(Busy), "four of a client");
        assert!(ask(7, 20).is_ok());
        assert_eq!(
            answered(&inquiries),
            [10, 20, 50, 60, 11, 20, 12, 20, 13],
            "the one that nobody waits for any more is left out"
        );
    }

    #[test]
    fn a_full_queue_has_room_for_whoever_asks_the_first_time() {
        let (inquirer, inquiries) = queue();
        let mut kept = Vec::new();
        for client in 0..16 {
            for number in 0..4 {
                let of = vec![visitor(client * 4 + number)];
                let asked = inquirer.ask_for_summary(of, scope(), address(client));
                kept.push(asked.expect("room"));
            }
        }
        let again = inquirer.ask_for_summary(vec![visitor(99)], scope(), address(0));
        assert_eq!(again.err(), Some(Busy));
        let honest = inquirer.ask_for_summary(vec![visitor(100)], scope(), address(100));
        assert!(honest.is_ok());
        let lost = kept.iter_mut().filter_map(|asked| asked.try_recv().ok());
        assert_eq!(lost.collect::<Vec<_>>(), [Err(Busy)], "one made room");
        let order = answered(&inquiries);
        assert_eq!(order.len(), WAITING_MAX);
        assert!(order.iter().position(|of| *of == 100) < Some(17));
    }
}
