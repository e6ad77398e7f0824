//! Closes connections at a pace.
//!
//! The system takes several microseconds to close one, and thousands may end at once: where a
//! client held them all, the requests of others would wait behind the last of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use scopeguard::ScopeGuard;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task;

/// How many connections are closed before other tasks have their turn: about 100 µs.
const SLICE: usize = 16;

/// A connection's socket, and its place among all connections.
struct Held {
    stream: TcpStream,
    #[expect(dead_code, reason = "it is held")]
    place: OwnedSemaphorePermit,
}

/// A connection, and what it is handed over to when it ends.
type Ending = ScopeGuard<(Held, Closing), fn((Held, Closing))>;

/// A connection that is closed in its turn however it ends, and has its place until then.
pub(crate) struct Placed(Ending);

impl Placed {
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        let (held, _) = &mut *self.0;
        &mut held.stream
    }
}

/// The connections of one edge thread that are to be closed. Its clones share them.
#[derive(Clone, Default)]
pub(crate) struct Closing(Rc<Ended>);

#[derive(Default)]
struct Ended {
    all: RefCell<VecDeque<Held>>,
    is_there: Notify,
}

impl Closing {
    /// Takes a connection in, to close it once it is dropped.
    pub(crate) fn place(&self, stream: TcpStream, place: OwnedSemaphorePermit) -> Placed {
        let held = Held { stream, place };
        Placed(scopeguard::guard(
            (held, self.clone()),
            |(held, closing)| {
                closing.0.all.borrow_mut().push_back(held);
                closing.0.is_there.notify_one();
            },
        ))
    }

    /// Closes what has ended. Never returns.
    pub(crate) async fn run(self) {
        loop {
            self.0.is_there.notified().await;
            while self.close_some() {
                task::yield_now().await;
            }
        }
    }

    /// Closes as many as may be closed at a time. Returns whether there are more.
    fn close_some(&self) -> bool {
        let mut all = self.0.all.borrow_mut();
        let count = all.len().min(SLICE);
        all.drain(..count);
        !all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn others_have_their_turn_while_many_connections_are_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let places = Arc::new(Semaphore::new(5 * SLICE));
        let closing = Closing::default();
        let mut clients = Vec::new();
        for _ in 0..5 * SLICE {
            let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            clients.push(client.expect("a connection"));
            let place = Arc::clone(&places).try_acquire_owned().expect("a place");
            let (stream, _) = accepted.expect("a connection");
            drop(closing.place(stream, place));
        }
        assert_eq!(
            places.available_permits(),
            0,
            "a place is held until the close"
        );
        let others = async {
            let mut turns = Vec::new();
            while places.available_permits() < 5 * SLICE {
                task::yield_now().await;
                turns.push(places.available_permits());
            }
            turns
        };
        let turns = tokio::select! {
            biased;
            () = closing.clone().run() => unreachable!("it never returns"),
            turns = others => turns,
        };
        assert!(
            turns.windows(2).all(|pair| pair[1] - pair[0] <= SLICE),
            "{turns:?}"
        );
        for client in &mut clients {
            assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
        }
    }
}
