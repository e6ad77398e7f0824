//! The way in: threads append records to the group that the spool's own thread takes next, or that
//! they commit by themselves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::Notify;

use crate::frame::HEADER_BYTES;
use crate::spool::{Shared, lock};
use crate::write::Records;
use crate::{AppendError, Options, PENDING_BYTES_MAX, clock, frame};

/// How much of its buffer a thread keeps for the next record.
const ENCODED_KEPT_BYTES: usize = 64 * 1024;

/// The records that wait for the spool's own thread.
pub(crate) struct Group {
    /// The number of this group, by which its outcome finds its waiters.
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u64,
    pub(crate) first_append: Option<Instant>,
    /// The threads that have records in it, each once.
    pub(crate) threads: Vec<Arc<AppendingThread>>,
    /// Whether the spool's own thread is waiting for something to do.
    pub(crate) writer_is_idle: bool,
    /// Whether an appending thread has met a full or failing disk.
    pub(crate) has_new_trouble: bool,
    pub(crate) is_closed: bool,
    bytes_max: usize,
}

impl Group {
    pub(crate) fn new(options: &Options) -> Group {
        Group {
            number: 0,
            bytes: Vec::new(),
            records: 0,
            first_append: None,
            threads: Vec::new(),
            writer_is_idle: false,
            has_new_trouble: false,
            is_closed: false,
            bytes_max: bytes_max(options),
        }
    }

    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Adds records of a thread, and returns the number of the group.
    fn add(
        &mut self,
        thread: &Arc<AppendingThread>,
        records: &Records<'_>,
    ) -> Result<u64, AppendError> {
        if self.is_closed {
            return Err(AppendError::Closed);
        }
        if records.bytes.len() > self.bytes_max {
            return Err(AppendError::TooLarge);
        }
        if records.bytes.len() > self.bytes_max - self.bytes.len() {
            return Err(AppendError::Full);
        }
        self.bytes.extend_from_slice(records.bytes);
        if records.count > 0 && self.first_append.is_none() {
            self.first_append = records.first_append.or_else(|| Some(clock::monotonic()));
        }
        self.records += records.count;
        if !self.threads.iter().any(|known| Arc::ptr_eq(known, thread)) {
            self.threads.push(Arc::clone(thread));
        }
        Ok(self.number)
    }
}

/// Returns how large a group may be: it is written with one call into one chunk.
fn bytes_max(options: &Options) -> usize {
    let chunk = usize::try_from(options.chunk_bytes - HEADER_BYTES).unwrap_or(usize::MAX);
    PENDING_BYTES_MAX.min(chunk)
}

/// Where the spool's own thread leaves the outcomes of one thread's groups; at most one for each
/// group that the thread has under way.
#[derive(Default)]
pub(crate) struct AppendingThread {
    outcomes: Mutex<Vec<(u64, Result<(), AppendError>)>>,
    notify: Notify,
}

impl AppendingThread {
    pub(crate) fn report(&self, group: u64, outcome: Result<(), AppendError>) {
        lock(&self.outcomes).push((group, outcome));
        self.notify.notify_one();
    }
}

/// One thread's way into the spool.
#[derive(Clone)]
pub struct Appender(Rc<Way>);

struct Way {
    shared: Arc<Shared>,
    thread: Arc<AppendingThread>,
    /// Records are encoded here: those of one append, which is copied to the group of all threads,
    /// or those of the group that this thread commits by itself.
    encoded: RefCell<Vec<u8>>,
    /// Those who wait for the spool's own thread.
    waiting: RefCell<VecDeque<Rc<Ticket>>>,
    own: Option<OwnGroup>,
}

/// What is known of the group that a thread commits by itself.
struct OwnGroup {
    bytes_max: usize,
    records: Cell<u64>,
    first_append: Cell<Option<Instant>>,
    tickets: RefCell<Vec<Rc<Ticket>>>,
    has_begun: Notify,
}

#[derive(Default)]
struct Ticket {
    /// The group of all threads that it waits for, if it does.
    group: Cell<u64>,
    outcome: Cell<Option<Result<(), AppendError>>>,
    waker: Cell<Option<Waker>>,
}

impl Ticket {
    fn resolve(&self, outcome: Result<(), AppendError>) {
        self.outcome.set(Some(outcome));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Appender {
    pub(crate) fn new(shared: Arc<Shared>, commits: bool) -> Appender {
        let own = commits.then(|| OwnGroup {
            bytes_max: bytes_max(&shared.options),
            records: Cell::default(),
            first_append: Cell::default(),
            tickets: RefCell::default(),
            has_begun: Notify::new(),
        });
        Appender(Rc::new(Way {
            shared,
            thread: Arc::default(),
            encoded: RefCell::default(),
            waiting: RefCell::default(),
            own,
        }))
    }

    /// Appends records, each written by one of `encoders`, as one: all of them are taken or none.
    /// The [`Pending`] outcome says whether they are safe.
    ///
    /// # Errors
    /// If they are not taken: no room, a record too large, the spool closed.
    pub fn append_all<F: FnOnce(&mut Vec<u8>)>(
        &self,
        encoders: impl IntoIterator<Item = F>,
    ) -> Result<Pending, AppendError> {
        match &self.0.own {
            Some(own) => self.0.append_to_own(own, encoders),
            None => self.0.append_to_all(encoders),
        }
    }

    /// Appends one record.
    ///
    /// # Errors
    /// As [`Appender::append_all`].
    pub fn append(&self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<Pending, AppendError> {
        self.append_all(std::iter::once(encode))
    }

    /// Commits what this thread commits by itself, and passes outcomes on to the waiters; never
    /// returns. Runs as a task of the appending thread: waking waiters of its own thread costs no
    /// system call.
    pub fn deliver(&self) -> impl Future<Output = ()> + 'static {
        let way = Rc::clone(&self.0);
        async move {
            match &way.own {
                None => way.pass_on().await,
                Some(own) => {
                    tokio::join!(way.commit_own(own), way.pass_on());
                }
            }
        }
    }
}

impl Way {
    /// Appends to the group of all threads.
    fn append_to_all<F: FnOnce(&mut Vec<u8>)>(
        &self,
        encoders: impl IntoIterator<Item = F>,
    ) -> Result<Pending, AppendError> {
        let mut encoded = self.encoded.borrow_mut();
        encoded.clear();
        encoded.shrink_to(ENCODED_KEPT_BYTES);
        let count = encode_all(&mut encoded, self.shared.seed, encoders)?;
        let records = Records {
            bytes: &encoded,
            count,
            first_append: None,
        };
        let ticket = Rc::<Ticket>::default();
        self.leave(&records, std::iter::once(Rc::clone(&ticket)))?;
        Ok(Pending(ticket))
    }

    /// Leaves records to the spool's own thread, and has `tickets` wait for it.
    fn leave(
        &self,
        records: &Records<'_>,
        tickets: impl Iterator<Item = Rc<Ticket>>,
    ) -> Result<(), AppendError> {
        let mut group = lock(&self.shared.group);
        let number = group.add(&self.thread, records)?;
        let wakes = std::mem::take(&mut group.writer_is_idle);
        drop(group);
        if wakes {
            self.shared.wake_writer.notify_one();
        }
        self.waiting.borrow_mut().extend(tickets.inspect(|ticket| {
            ticket.group.set(number);
        }));
        Ok(())
    }

    /// Passes on what the spool's own thread reports: it is woken once for each commit.
    async fn pass_on(&self) {
        let mut outcomes = Vec::new();
        loop {
            self.thread.notify.notified().await;
            std::mem::swap(&mut *lock(&self.thread.outcomes), &mut outcomes);
            for (group, outcome) in outcomes.drain(..) {
                let mut waiting = self.waiting.borrow_mut();
                while let Some(ticket) = waiting.pop_front_if(|ticket| ticket.group.get() <= group)
                {
                    ticket.resolve(outcome);
                }
            }
        }
    }

    /// Appends to the group that this thread commits by itself.
    fn append_to_own<F: FnOnce(&mut Vec<u8>)>(
        &self,
        own: &OwnGroup,
        encoders: impl IntoIterator<Item = F>,
    ) -> Result<Pending, AppendError> {
        let mut group = self.encoded.borrow_mut();
        let start = group.len();
        let outcome = match encode_all(&mut group, self.shared.seed, encoders) {
            Ok(_) if group.len() - start > own.bytes_max => Err(AppendError::TooLarge),
            Ok(_) if group.len() > own.bytes_max => Err(AppendError::Full),
            outcome => outcome,
        };
        let records = outcome.inspect_err(|_| group.truncate(start))?;
        if own.first_append.get().is_none() {
            own.first_append.set(Some(clock::monotonic()));
            own.has_begun.notify_one();
        }
        own.records.set(own.records.get() + records);
        let ticket = Rc::<Ticket>::default();
        own.tickets.borrow_mut().push(Rc::clone(&ticket));
        Ok(Pending(ticket))
    }

    /// Commits group after group of this thread's own.
    async fn commit_own(&self, own: &OwnGroup) {
        let mut tickets = Vec::new();
        loop {
            own.has_begun.notified().await;
            // Whatever else is ready appends to this group.
            tokio::task::yield_now().await;
            std::mem::swap(&mut *own.tickets.borrow_mut(), &mut tickets);
            let mut encoded = self.encoded.borrow_mut();
            let records = Records {
                bytes: &encoded,
                count: own.records.take(),
                first_append: own.first_append.take(),
            };
            let known = self.commit_here(&records);
            let known = known.or_else(|| {
                let left = self.leave(&records, tickets.iter().cloned());
                left.is_err().then_some(left)
            });
            if let Some(outcome) = known {
                tickets.iter().for_each(|ticket| ticket.resolve(outcome));
            }
            tickets.clear();
            encoded.clear();
            encoded.shrink_to(ENCODED_KEPT_BYTES);
        }
    }

    /// Commits records in this thread; `None` if the disk is slow or in trouble, or the spool's own
    /// thread is at it.
    fn commit_here(&self, records: &Records<'_>) -> Option<Result<(), AppendError>> {
        let shared = &self.shared;
        if shared.is_troubled() || shared.stalls.load(Ordering::Relaxed) {
            return None;
        }
        let mut writer = shared.writer.try_lock().ok()?;
        let outcome = writer.commit(shared, records);
        drop(writer);
        if shared.is_troubled() {
            // From now on somebody has to look whether the disk has recovered.
            lock(&shared.group).has_new_trouble = true;
            shared.wake_writer.notify_one();
        }
        Some(outcome)
    }
}

/// Encodes records at the end of `out`, and returns how many.
fn encode_all<F: FnOnce(&mut Vec<u8>)>(
    out: &mut Vec<u8>,
    seed: u32,
    encoders: impl IntoIterator<Item = F>,
) -> Result<u64, AppendError> {
    let mut records = 0;
    for encode in encoders {
        if !frame::append(out, seed, encode) {
            return Err(AppendError::TooLarge);
        }
        records += 1;
    }
    Ok(records)
}

/// Records that were taken and are not yet known to be safe; resolves to their outcome.
pub struct Pending(Rc<Ticket>);

impl Future for Pending {
    type Output = Result<(), AppendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.0.outcome.get() {
            return Poll::Ready(outcome);
        }
        self.0.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}
