//! The seats for connections of the admin listener. When all are taken, a new connection gets that
//! of the one that has asked nothing for the longest time, so that nobody holds them all by being
//! idle. Viewers of the live view keep theirs; they are few.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::task::AbortHandle;

/// Connections at one time: enough for scrapers, probes and viewers.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// The open connections, those that asked last at the end.
#[derive(Clone, Default)]
pub(super) struct Seats(Rc<RefCell<Vec<Taken>>>);

struct Taken {
    seat: Rc<Seat>,
    task: AbortHandle,
}

/// One connection's seat.
#[derive(Default)]
pub(super) struct Seat {
    is_viewer: Cell<bool>,
}

impl Seats {
    /// Gives a seat to a connection that `task` serves, where need be another one's.
    pub(super) fn take(&self, seat: Rc<Seat>, task: AbortHandle) {
        let mut taken = self.0.borrow_mut();
        taken.retain(|taken| !taken.task.is_finished());
        if taken.len() >= CONNECTIONS_MAX
            && let Some(at) = taken.iter().position(|taken| !taken.seat.is_viewer.get())
        {
            taken.remove(at).task.abort();
        }
        taken.push(Taken { seat, task });
    }

    /// Notes that a connection asks something, and whether it is a viewer from now on.
    pub(super) fn note(&self, seat: &Rc<Seat>, is_viewer: bool) {
        seat.is_viewer.set(is_viewer);
        let mut taken = self.0.borrow_mut();
        let found = taken.iter().position(|taken| Rc::ptr_eq(&taken.seat, seat));
        if let Some(at) = found {
            let own = taken.remove(at);
            taken.push(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_that_asked_nothing_for_longest_gives_way_and_no_viewer_does() {
        let seats = Seats::default();
        let open = || {
            let seat = Rc::new(Seat::default());
            let task = tokio::spawn(std::future::pending::<()>());
            seats.take(Rc::clone(&seat), task.abort_handle());
            (seat, task)
        };
        let first = (0..CONNECTIONS_MAX).map(|_| open()).collect::<Vec<_>>();
        // The first one watches, the second one has just asked.
        seats.note(&first[0].0, true);
        seats.note(&first[1].0, false);
        let later = (0..CONNECTIONS_MAX - 2).map(|_| open()).collect::<Vec<_>>();
        for (at, (_, task)) in first.into_iter().enumerate() {
            if at < 2 {
                assert!(!task.is_finished(), "{at}");
                task.abort();
            }
            assert!(task.await.is_err_and(|error| error.is_cancelled()), "{at}");
        }
        assert!(later.iter().all(|(_, task)| !task.is_finished()));
        // Whoever has left makes room.
        let (_, last) = open();
        assert!(later.iter().all(|(_, task)| !task.is_finished()));
        assert_eq!(seats.0.borrow().len(), CONNECTIONS_MAX - 1);
        last.abort();
    }
}
