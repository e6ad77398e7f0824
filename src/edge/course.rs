//! What the edge threads are to do, and how the connections of one thread learn of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// What the edge threads are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Serve.
    Open,
    /// Serve, but end each connection after its next reply: another process is about to take over.
    Leaving,
    /// Stop. The other process has the listening sockets and accepts all new connections.
    HandedOver,
    /// Stop. Clients that have already connected are served first.
    Stopping,
}

/// The receiving end of the channel that sets the course of the edge threads.
pub(crate) type CourseReceiver = watch::Receiver<Course>;

/// How long connections may stay open once a thread stops.
#[derive(Clone, Copy)]
pub(crate) struct DrainTimes {
    /// Time for connections without a request. A request that arrives within it is answered, and
    /// its client is told that the connection ends.
    pub(crate) idle: Duration,
    /// Time for the requests in progress.
    pub(crate) max: Duration,
}

impl Course {
    /// Checks whether a thread stops accepting connections.
    pub(crate) fn is_end(self) -> bool {
        matches!(self, Course::HandedOver | Course::Stopping)
    }

    /// Returns how long a thread that stops waits for its connections. It is shorter if another
    /// process takes over, because new clients wait for that process meanwhile.
    pub(crate) fn drain_times(self) -> DrainTimes {
        if self == Course::HandedOver {
            DrainTimes {
                idle: Duration::from_millis(250),
                max: Duration::from_secs(1),
            }
        } else {
            DrainTimes {
                idle: Duration::from_secs(1),
                max: Duration::from_secs(4),
            }
        }
    }
}

/// Waits for the course that ends accepting. It is `Stopping` if the sender is gone.
pub(crate) async fn wait_for_end(course: &mut CourseReceiver) -> Course {
    let end = course.wait_for(|course| course.is_end()).await;
    end.map_or(Course::Stopping, |end| *end)
}

/// Waits for the next change of course. It is `Stopping` if the sender is gone.
pub(crate) async fn wait_for_change(course: &mut CourseReceiver) -> Course {
    match course.changed().await {
        Ok(()) => *course.borrow_and_update(),
        Err(_) => Course::Stopping,
    }
}

/// The connections that were accepted under one course. They end together.
#[derive(Default)]
pub(crate) struct Generation {
    ends_after_reply: Cell<bool>,
    closes_idle: Cell<bool>,
    closing_idle: Notify,
}

impl Generation {
    /// Checks whether the next reply of each connection is its last one.
    pub(crate) fn ends_after_reply(&self) -> bool {
        self.ends_after_reply.get()
    }

    /// Waits until connections without a request are to close.
    pub(crate) async fn wait_to_close_idle(&self) {
        while !self.closes_idle.get() {
            self.closing_idle.notified().await;
        }
    }

    fn close_idle(&self) {
        self.closes_idle.set(true);
        self.closing_idle.notify_waiters();
    }
}

/// The generations of one thread's connections.
#[derive(Default)]
pub(crate) struct Generations {
    current: RefCell<Rc<Generation>>,
    /// The connections that were accepted before the course last changed.
    previous: RefCell<Option<Rc<Generation>>>,
}

impl Generations {
    /// Returns the generation that a new connection belongs to.
    pub(crate) fn current(&self) -> Rc<Generation> {
        Rc::clone(&self.current.borrow())
    }

    /// Begins a generation at a change of course. The older connections keep serving unless the
    /// process is leaving; those that are older still close as soon as they have no request.
    pub(crate) fn begin(&self, course: Course) {
        let is_leaving = course == Course::Leaving;
        let next = Rc::new(Generation::default());
        next.ends_after_reply.set(is_leaving);
        let previous = self.current.replace(next);
        previous.ends_after_reply.set(is_leaving);
        if let Some(oldest) = self.previous.replace(Some(previous)) {
            oldest.close_idle();
        }
    }

    /// Ends every connection after its next reply, and the older ones as soon as they have no
    /// request.
    pub(crate) fn end_after_reply(&self) {
        self.current.borrow().ends_after_reply.set(true);
        if let Some(previous) = self.previous.borrow().as_ref() {
            previous.close_idle();
        }
    }

    /// Ends the connections that have no request.
    pub(crate) fn close_idle(&self) {
        self.current.borrow().close_idle();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn closes_idle(generation: &Generation) -> bool {
        generation.wait_to_close_idle().now_or_never().is_some()
    }

    #[test]
    fn a_process_that_leaves_and_comes_back_ends_only_the_connections_from_before() {
        let generations = Generations::default();
        let before = generations.current();
        generations.begin(Course::Leaving);
        let meanwhile = generations.current();
        assert!(before.ends_after_reply() && meanwhile.ends_after_reply());
        assert!(!closes_idle(&before));
        generations.begin(Course::Open);
        let after = generations.current();
        assert!(closes_idle(&before) && !closes_idle(&meanwhile));
        assert!(!meanwhile.ends_after_reply() && !after.ends_after_reply());
    }

    #[test]
    fn at_a_stop_new_connections_have_time_for_a_request_and_older_ones_have_none() {
        let generations = Generations::default();
        let before = generations.current();
        generations.begin(Course::Leaving);
        let current = generations.current();
        generations.end_after_reply();
        assert!(closes_idle(&before));
        assert!(current.ends_after_reply() && !closes_idle(&current));
        generations.close_idle();
        assert!(closes_idle(&current));
    }

    #[tokio::test]
    async fn a_course_whose_sender_is_gone_is_to_stop() {
        let (sender, mut course) = watch::channel(Course::Open);
        sender.send_replace(Course::Leaving);
        assert_eq!(wait_for_change(&mut course).await, Course::Leaving);
        drop(sender);
        assert_eq!(wait_for_change(&mut course).await, Course::Stopping);
        assert_eq!(wait_for_end(&mut course).await, Course::Stopping);
    }
}
