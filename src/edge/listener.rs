//! Accepts the connections of one entrance.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::course::{Course, CourseReceiver, wait_for_end};
use crate::metrics::Metrics;

/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the course says stop, and gives each of them to `open` with its share
/// of `room`.
///
/// # Errors
/// If the runtime does not take the socket, or the socket cannot be shut down.
pub(crate) async fn accept(
    socket: std::net::TcpListener,
    room: Arc<Semaphore>,
    mut course: CourseReceiver,
    metrics: &Metrics,
    open: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit),
) -> io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    let mut has_failed = false;
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            (Ok(permit), accepted) = accepted => match accepted {
                Ok((stream, address)) => {
                    has_failed = false;
                    open(stream, address, permit);
                }
                Err(error) => {
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
