//! Hands the listening sockets of a running collector to the process that goes on in its place.
//!
//! A collector that serves waits at the socket [`NAME`] in the spool's folder. `serve --take-over`
//! connects there and is sent the listening sockets themselves. From then on both processes have them,
//! and until the first one is done it alone accepts:
//!
//! | the process that goes | the process that comes |
//! | --- | --- |
//! | sends its sockets; accepts on for [`LEAVE_TIME`], each reply ends its connection | waits, and may still give up: then all is as before |
//! | stops accepting, answers what is open | whoever connects waits in the queue of a socket that never closes |
//! | closes the spool and lets go of it, closes the connection | opens the spool, accepts |
//! | ends, and leaves an embedded Postgres running | adopts it, loads |
//!
//! The sockets are sent, for of two processes that listen on one address (`SO_REUSEPORT`) the one that
//! closes its sockets resets whoever came into their queues since it last looked, or is half connected: some hits at
//! each upgrade, the more the farther away the clients are. (118 such closings, each behind an emptied queue, failed 16
//! of 1,905 requests from the same machine.) `net.ipv4.tcp_migrate_req` would move them; few machines have it set.

use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::Uid;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::edge::{Course, Spools};

/// The socket in the spool's folder.
const NAME: &str = "hand-over";
/// How long the process that goes accepts on. A client that keeps its connection open learns from a reply of
/// this time that it is to open a new one.
const LEAVE_TIME: Duration = Duration::from_secs(2);
/// How long the process that comes waits for the spool: far longer than the other one may take.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Sockets that one message may carry on Linux (`SCM_MAX_FD`): an edge of 252 threads, or 126 with TLS.
const SOCKETS_MAX: usize = 253;
/// Pause after an error of accept.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Which listener a socket is of, as the message has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Http,
    Tls,
    Admin,
}

impl Role {
    fn tag(self) -> u8 {
        match self {
            Role::Http => b'h',
            Role::Tls => b't',
            Role::Admin => b'a',
        }
    }
}

/// Listening sockets on their way from one process to the next.
#[derive(Default)]
pub(super) struct Sockets {
    /// One byte for each socket.
    tags: Vec<u8>,
    sockets: Vec<TcpListener>,
}

impl Sockets {
    pub(super) fn add(&mut self, role: Role, sockets: impl IntoIterator<Item = TcpListener>) {
        for socket in sockets {
            self.tags.push(role.tag());
            self.sockets.push(socket);
        }
    }

    /// Takes out those of a listener, if they listen where it is to listen now.
    pub(super) fn take(&mut self, role: Role, address: SocketAddr) -> Vec<TcpListener> {
        let all = std::mem::take(self);
        let mut taken = Vec::new();
        for (tag, socket) in all.tags.into_iter().zip(all.sockets) {
            if tag != role.tag() {
                self.tags.push(tag);
                self.sockets.push(socket);
            } else if socket.local_addr().is_ok_and(|at| fits(at, address)) {
                taken.push(socket);
            }
        }
        taken
    }
}

/// Whether a socket listens where the configuration says; port 0 is any port.
fn fits(at: SocketAddr, configured: SocketAddr) -> bool {
    at.ip() == configured.ip() && (configured.port() == 0 || at.port() == configured.port())
}

/// Where a successor knocks.
pub(super) struct Door(Option<UnixListener>);

impl Door {
    /// Opens it; the spool's lock is held, so what lies there is nobody's. Without it nothing but the
    /// hand-over is lost.
    pub(super) fn open(dir: &Path) -> Door {
        let path = dir.join(NAME);
        let bound = match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => UnixListener::bind(&path),
        };
        if let Err(error) = &bound {
            tracing::warn!(%error, "nobody can take over: {} cannot be made", path.display());
        }
        Door(bound.ok())
    }

    /// The next process that wants to take over.
    pub(super) async fn next(&self) -> Successor {
        let Some(listener) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) if is_ours(&stream) => return Successor(stream),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the socket for a hand-over");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whether the same user, or root, is at the other end.
fn is_ours(stream: &UnixStream) -> bool {
    let peer = stream.peer_cred().map(|peer| Uid::from_raw(peer.uid()));
    peer.is_ok_and(|peer| peer.is_root() || peer == Uid::effective())
}

/// A process that waits to go on in this one's place. Dropping it tells that process to begin.
pub(super) struct Successor(UnixStream);

impl Successor {
    fn give(&self, sockets: &Sockets) -> io::Result<()> {
        let borrowed: Vec<_> = sockets
            .sockets
            .iter()
            .map(|socket| socket.as_fd())
            .collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
            return Err(io::Error::other("too many listening sockets"));
        }
        let tags = [IoSlice::new(&sockets.tags)];
        sendmsg(&self.0, &tags, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Returns once that process is gone: it never says anything.
    async fn gone(&self) {
        let mut byte = [0];
        while self.0.readable().await.is_ok() {
            match self.0.try_read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }
}

/// Lets another process wait at the sockets, and connections end; says whether it still waits when it is
/// time to go.
pub(super) async fn leave(
    successor: &Successor,
    sockets: &Sockets,
    drain: &watch::Sender<Course>,
    signals: &mut super::Signals,
) -> bool {
    tracing::info!("another process takes over: requests in flight are answered");
    if let Err(error) = successor.give(sockets) {
        tracing::warn!(%error, "nothing was handed over");
        return false;
    }
    drain.send_replace(Course::Leaving);
    tokio::select! {
        () = tokio::time::sleep(LEAVE_TIME) => true,
        () = signals.stop() => true,
        () = successor.gone() => {
            tracing::warn!("the process that was to take over is gone; this one goes on");
            drain.send_replace(Course::Open);
            false
        }
    }
}

/// Lets the other process begin. What the loader has in hand is dropped: it waits in the spool.
pub(super) async fn finish(
    successor: Successor,
    spools: &Spools,
    loading: [JoinHandle<()>; 2],
) -> anyhow::Result<()> {
    for task in loading {
        task.abort();
        drop(task.await);
    }
    spools.hits.unlock();
    spools.instructions.unlock();
    drop(successor);
    tracing::info!("handed over");
    Ok(())
}

/// Waits until the process that serves from the spool in `dir` has let go of it, and returns its listening
/// sockets; none where no process does, or one that stops.
pub(super) fn take_over(dir: &Path) -> anyhow::Result<Sockets> {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, TimedOut, WouldBlock};
    let path = dir.join(NAME);
    let mut stream = match std::os::unix::net::UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => {
            tracing::info!("there is nobody to take over from");
            return Ok(Sockets::default());
        }
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    };
    stream.set_read_timeout(Some(WAIT_MAX))?;
    let sockets = receive(&stream).context("receiving the listening sockets")?;
    tracing::info!(
        sockets = sockets.sockets.len(),
        "taking over; the other process answers what is open"
    );
    match stream.read(&mut [0]) {
        Ok(_) => Ok(sockets),
        Err(error) if error.kind() == ConnectionReset => Ok(sockets),
        Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
            anyhow::bail!("the other process did not let go of the spool within {WAIT_MAX:?}")
        }
        Err(error) => Err(error).context("waiting for the other process"),
    }
}

fn receive(stream: &std::os::unix::net::UnixStream) -> io::Result<Sockets> {
    let mut tags = [0; SOCKETS_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut tags)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let bytes = match received {
        // A process that stops has not heard of us.
        Err(rustix::io::Errno::CONNRESET) => 0,
        received => received?.bytes,
    };
    let mut sockets = Sockets {
        tags: tags.get(..bytes).unwrap_or_default().to_vec(),
        sockets: Vec::new(),
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.sockets.extend(received.map(TcpListener::from));
        }
    }
    Ok(sockets)
}
