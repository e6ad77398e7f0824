//! The way in: threads append records to the group that the writer takes next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::Notify;

use crate::frame::HEADER_BYTES;
use crate::spool::{Shared, lock};
use crate::{AppendError, Options, PENDING_BYTES_MAX, clock, frame};

/// How much of its buffer a thread keeps for the next record.
const ENCODED_KEPT_BYTES: usize = 64 * 1024;

/// The records that wait for the writer.
pub(crate) struct Group {
    /// The number of this group, by which its outcome finds its waiters.
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u64,
    pub(crate) first_append: Option<Instant>,
    /// The threads that have records in it, each once.
    pub(crate) threads: Vec<Arc<AppendingThread>>,
    /// Whether the writer is waiting for something to do.
    pub(crate) writer_is_idle: bool,
    pub(crate) is_closed: bool,
    bytes_max: usize,
}

impl Group {
    pub(crate) fn new(options: &Options) -> Group {
        let chunk = usize::try_from(options.chunk_bytes - HEADER_BYTES).unwrap_or(usize::MAX);
        Group {
            number: 0,
            bytes: Vec::new(),
            records: 0,
            first_append: None,
            threads: Vec::new(),
            writer_is_idle: false,
            is_closed: false,
            // A group is written with one call into one chunk.
            bytes_max: PENDING_BYTES_MAX.min(chunk),
        }
    }

    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }
}

/// Where the writer leaves the outcomes of one thread's groups; at most one for each group that
/// the thread has under way.
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
pub struct Appender {
    shared: Arc<Shared>,
    thread: Arc<AppendingThread>,
    /// Records are encoded here, so that the group is locked only while they are copied.
    encoded: Rc<RefCell<Vec<u8>>>,
    waiting: Rc<RefCell<VecDeque<Rc<Ticket>>>>,
}

struct Ticket {
    group: u64,
    outcome: Cell<Option<Result<(), AppendError>>>,
    waker: RefCell<Option<Waker>>,
}

impl Appender {
    pub(crate) fn new(shared: Arc<Shared>) -> Appender {
        Appender {
            shared,
            thread: Arc::default(),
            encoded: Rc::default(),
            waiting: Rc::default(),
        }
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
        let mut encoded = self.encoded.borrow_mut();
        encoded.clear();
        encoded.shrink_to(ENCODED_KEPT_BYTES);
        let mut records = 0;
        for encode in encoders {
            if !frame::append(&mut encoded, self.shared.seed, encode) {
                return Err(AppendError::TooLarge);
            }
            records += 1;
        }
        let mut group = lock(&self.shared.group);
        if group.is_closed {
            return Err(AppendError::Closed);
        }
        if encoded.len() > group.bytes_max {
            return Err(AppendError::TooLarge);
        }
        if encoded.len() > group.bytes_max - group.bytes.len() {
            return Err(AppendError::Full);
        }
        group.bytes.extend_from_slice(&encoded);
        if records > 0 && group.first_append.is_none() {
            group.first_append = Some(clock::monotonic());
        }
        group.records += records;
        if !group
            .threads
            .iter()
            .any(|thread| Arc::ptr_eq(thread, &self.thread))
        {
            group.threads.push(Arc::clone(&self.thread));
        }
        let ticket = Rc::new(Ticket {
            group: group.number,
            outcome: Cell::new(None),
            waker: RefCell::new(None),
        });
        let wake = std::mem::take(&mut group.writer_is_idle);
        drop(group);
        if wake {
            self.shared.wake_writer.notify_one();
        }
        self.waiting.borrow_mut().push_back(Rc::clone(&ticket));
        Ok(Pending(ticket))
    }

    /// Appends one record.
    ///
    /// # Errors
    /// As [`Appender::append_all`].
    pub fn append(&self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<Pending, AppendError> {
        self.append_all(std::iter::once(encode))
    }

    /// Passes outcomes on to the waiters; never returns. Runs as a task of the appending thread: it
    /// is woken once for each commit, and waking waiters of its own thread costs no system
    /// call.
    pub fn deliver(&self) -> impl Future<Output = ()> + 'static {
        let (thread, waiting) = (Arc::clone(&self.thread), Rc::clone(&self.waiting));
        async move {
            let mut outcomes = Vec::new();
            loop {
                thread.notify.notified().await;
                std::mem::swap(&mut *lock(&thread.outcomes), &mut outcomes);
                for (group, outcome) in outcomes.drain(..) {
                    let mut waiting = waiting.borrow_mut();
                    while let Some(ticket) = waiting.pop_front_if(|ticket| ticket.group <= group) {
                        ticket.outcome.set(Some(outcome));
                        if let Some(waker) = ticket.waker.take() {
                            waker.wake();
                        }
                    }
                }
            }
        }
    }
}

/// Records that were taken and are not yet known to be safe; resolves to their outcome.
pub struct Pending(Rc<Ticket>);

impl Future for Pending {
    type Output = Result<(), AppendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.0.outcome.get() {
            return Poll::Ready(outcome);
        }
        self.0.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}
