//! Accepts the connections of one entrance.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::course::{Course, CourseReceiver, wait_for_end};
use crate::metrics::Metrics;

/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many connections are accepted before other tasks have their turn: under half a millisecond.
const IN_A_ROW: usize = 16;
/// How long the end of one connection is waited for before another one ends.
const GIVE_WAY_PAUSE: Duration = Duration::from_millis(20);

/// Takes a share of `room`. Where nothing is left, connections that only wait end until something
/// is.
async fn find_room(
    room: &Arc<Semaphore>,
    give_way: impl Fn(),
) -> Result<OwnedSemaphorePermit, AcquireError> {
    let mut permit = pin!(Arc::clone(room).acquire_owned());
    loop {
        if let Some(permit) = permit.as_mut().now_or_never() {
            return permit;
        }
        give_way();
        // One that ends may take its time, or none may wait at the moment.
        if let Ok(permit) = tokio::time::timeout(GIVE_WAY_PAUSE, permit.as_mut()).await {
            return permit;
        }
    }
}

/// Accepts connections until the course says stop, and gives each of them to `open` with its share
/// of `room`. Where there is none, `give_way` ends a connection that only waits.
///
/// # Errors
/// If the runtime does not take the socket, or the socket cannot be shut down.
pub(crate) async fn accept(
    socket: std::net::TcpListener,
    room: Arc<Semaphore>,
    mut course: CourseReceiver,
    metrics: &Metrics,
    open: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit),
    give_way: impl Fn(),
) -> io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    let mut has_failed = false;
    let mut in_a_row = 0;
    loop {
        let accepted = async {
            // A place is looked for once somebody is there who needs it.
            let (stream, address) = listener.accept().await?;
            Ok((stream, address, find_room(&room, &give_way).await))
        };
        tokio::select! {
            accepted = accepted => match accepted {
                Ok((stream, address, permit)) => {
                    has_failed = false;
                    if let Ok(permit) = permit {
                        open(stream, address, permit);
                    }
                    // Where thousands connect at once, requests do not wait for all of them.
                    in_a_row += 1;
                    if in_a_row == IN_A_ROW {
                        in_a_row = 0;
                        tokio::task::yield_now().await;
                    }
                }
                Err::<_, io::Error>(error) => {
                    if !has_failed {
                        tracing::warn!(%error, "accept failed; retrying until it succeeds");
                    }
                    has_failed = true;
                    metrics.accept_errors.increment(1);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            end = wait_for_end(&mut course) => match end {
                Course::HandedOver => return Ok(()),
                _ => break,
            },
        }
    }
    // Clients that have already connected are served: closing the listener would reset them. The
    // system is asked directly, because the runtime may not know of the last ones yet.
    let listener = listener.into_std()?;
    while let Ok((stream, address)) = listener.accept() {
        if let Ok(permit) = Arc::clone(&room).try_acquire_owned()
            && stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            open(stream, address, permit);
        }
    }
    // A program that is just being started still holds our sockets. If we only closed ours, they
    // would go on taking connections that nobody serves.
    SockRef::from(&listener).shutdown(Shutdown::Read)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn others_have_their_turn_while_many_connect() {
        const MANY: usize = 5 * IN_A_ROW;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        socket.set_nonblocking(true).expect("a mode");
        let address = socket.local_addr().expect("an address");
        let connect = |_| std::net::TcpStream::connect(address).expect("a connection");
        let _clients: Vec<_> = (0..MANY).map(connect).collect();
        let (_sender, course) = watch::channel(Course::Open);
        let metrics = Metrics::new().expect("metrics");
        let room = Arc::new(Semaphore::new(MANY));
        let opened = Cell::new(0);
        let open = |_, _, _| opened.set(opened.get() + 1);
        let accepting = accept(socket, room, course, &metrics, open, || {});
        let others = async {
            let mut turns = vec![0];
            while opened.get() < MANY {
                tokio::task::yield_now().await;
                turns.push(opened.get());
            }
            turns
        };
        let turns = tokio::select! {
            biased;
            _ = accepting => unreachable!("the course says nothing of an end"),
            turns = others => turns,
        };
        assert!(
            turns.windows(2).all(|pair| pair[1] - pair[0] <= IN_A_ROW),
            "{turns:?}"
        );
    }
}
