//! Hands the listening sockets of a running collector to the process that goes on in its place.
//!
//! A running collector listens at the socket [`NAME`] in the spool's directory. `serve --take-over`
//! connects there and receives the listening sockets themselves. From then on both processes have
//! them, but only the predecessor accepts until it is done:
//!
//! 1. The predecessor sends its sockets and accepts for another [`LEAVE_TIME`]; each reply ends its
//!    connection. The successor waits. It may still give up: then everything is as before. It does
//!    so if it is to listen where another process does.
//! 2. The predecessor stops accepting and answers open requests. New clients wait in the queues of
//!    the sockets, which never close.
//! 3. The predecessor closes and releases the spool, then closes the connection. The successor
//!    opens the spool and accepts.
//! 4. The predecessor ends and leaves an embedded Postgres running. The successor adopts it and
//!    loads.
//!
//! Two processes could instead listen on the same address (`SO_REUSEPORT`). But the one that closes
//! its sockets resets the clients that came into their queues since it last looked, or that are
//! half connected: some hits at each upgrade, and more of them the farther away the clients are.
//! (118 such closings, each right after the queue was emptied, failed 16 of 1,905 requests from the
//! same machine.) `net.ipv4.tcp_migrate_req` would move those clients; few machines have it set.

use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::unistd::Uid;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use spool::Spool;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::signals::ProcessSignals;
use crate::config::Config;
use crate::edge::{self, Course, Spools};

/// The name of the socket in the spool's directory.
const NAME: &str = "hand-over";
/// How long the predecessor goes on accepting. A client that keeps its connection open learns from
/// a reply in this time that it has to open a new one.
const LEAVE_TIME: Duration = Duration::from_secs(2);
/// How long the successor waits for the spool: far longer than the predecessor may take.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The most sockets that one message may carry on Linux (`SCM_MAX_FD`): enough for 252 edge
/// threads, or 126 with TLS.
const SOCKETS_MAX: usize = 253;
/// The pause after accept fails.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Which listener a socket belongs to, as the message says it.
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

/// Listening sockets that one process sends to the next.
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

    /// Removes and returns the sockets of a listener that listen at its configured address.
    pub(super) fn remove(&mut self, role: Role, address: SocketAddr) -> Vec<TcpListener> {
        let all = std::mem::take(self);
        let mut taken = Vec::new();
        for (tag, socket) in all.tags.into_iter().zip(all.sockets) {
            if tag == role.tag() && listens_at(&socket, address) {
                taken.push(socket);
            } else {
                self.tags.push(tag);
                self.sockets.push(socket);
            }
        }
        taken
    }

    /// Closes the sockets that no listener goes on with: they would keep a port that another
    /// listener may now have.
    fn retain(&mut self, listeners: &[(Role, &str, SocketAddr)]) {
        let mut kept = Sockets::default();
        for (role, _, address) in listeners {
            kept.add(*role, self.remove(*role, *address));
        }
        *self = kept;
    }

    /// Checks that no other process listens at an address that the predecessor does not have. One
    /// of the predecessor's ports is free only when that has ended.
    fn check_new(&self, listeners: &[(Role, &str, SocketAddr)]) -> anyhow::Result<()> {
        let has_port = |port| {
            let mut addresses = self.sockets.iter().filter_map(|it| it.local_addr().ok());
            addresses.any(|address| address.port() == port)
        };
        for (_, key, address) in listeners {
            if !has_port(address.port()) {
                edge::bind_alone(*address).map_err(|error| cannot_listen(key, *address, error))?;
            }
        }
        Ok(())
    }
}

/// Returns every listener of a configuration, with its key and its address.
fn listeners(config: &Config) -> Vec<(Role, &'static str, SocketAddr)> {
    let mut listeners = vec![
        (Role::Http, "http.listen", config.http.listen),
        (Role::Admin, "admin.listen", config.admin.listen),
    ];
    listeners.extend(config.tls.listen.map(|at| (Role::Tls, "tls.listen", at)));
    listeners
}

fn listens_at(socket: &TcpListener, address: SocketAddr) -> bool {
    socket.local_addr().is_ok_and(|at| fits(at, address))
}

/// Whether a socket listens at the configured address; port 0 is any port.
fn fits(at: SocketAddr, configured: SocketAddr) -> bool {
    at.ip() == configured.ip() && (configured.port() == 0 || at.port() == configured.port())
}

/// The socket that a successor connects to.
pub(super) struct Door(Option<UnixListener>);

impl Door {
    /// Opens it, in place of one that an earlier process left: this one holds the spool's lock. If
    /// that fails, only the hand-over is lost.
    pub(super) fn open(dir: &Path) -> Door {
        let path = dir.join(NAME);
        let bound = match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => UnixListener::bind(&path),
        };
        if let Err(error) = &bound {
            tracing::warn!(%error, "no process can take over: {} cannot be created", path.display());
        }
        Door(bound.ok())
    }

    /// Waits for the next process that wants to take over.
    pub(super) async fn next(&self) -> Successor {
        let Some(listener) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) if is_trusted(&stream) => return Successor(stream),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the socket for a hand-over");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whether the process at the other end belongs to the same user or to root.
fn is_trusted(stream: &UnixStream) -> bool {
    let peer = stream.peer_cred().map(|peer| Uid::from_raw(peer.uid()));
    peer.is_ok_and(|peer| peer.is_root() || peer == Uid::effective())
}

/// A process that waits to take over. Dropping this tells it to begin.
pub(super) struct Successor(UnixStream);

impl Successor {
    fn send(&self, sockets: &Sockets) -> io::Result<()> {
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

    /// Waits until that process is gone. It never sends anything.
    async fn wait_until_gone(&self) {
        let mut byte = [0];
        while self.0.readable().await.is_ok() {
            match self.0.try_read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }
}

/// Sends the sockets to the successor and lets connections end for a while. Returns whether the
/// successor still waits after that.
pub(super) async fn leave(
    successor: &Successor,
    sockets: &Sockets,
    drain: &watch::Sender<Course>,
    signals: &mut ProcessSignals,
) -> bool {
    tracing::info!("another process takes over: requests in flight are answered");
    if let Err(error) = successor.send(sockets) {
        tracing::warn!(%error, "the sockets could not be handed over");
        return false;
    }
    drain.send_replace(Course::Leaving);
    tokio::select! {
        // Whatever else is due: nobody takes over any more.
        biased;
        () = successor.wait_until_gone() => {
            tracing::warn!("the process that was to take over is gone; this one goes on");
            drain.send_replace(Course::Open);
            false
        }
        () = tokio::time::sleep(LEAVE_TIME) => true,
        () = signals.stop() => true,
    }
}

/// Releases the spools and lets the successor begin.
pub(super) fn finish(successor: Successor, spools: &Spools) {
    spools.hits.spools.iter().for_each(Spool::unlock);
    spools.instructions.unlock();
    drop(successor);
    tracing::info!("handed over");
}

/// Waits until the process that serves from the configured spool has released it, and returns those
/// of its listening sockets that the configuration has a listener for: none if there is no such
/// process, or if it is stopping.
pub(super) fn take_over(config: &Config) -> anyhow::Result<Sockets> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let path = config.spool.dir.join(NAME);
    let mut stream = match std::os::unix::net::UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => {
            tracing::info!("no process serves from the spool, so there is nothing to take over");
            return Ok(Sockets::default());
        }
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    };
    stream.set_read_timeout(Some(WAIT_MAX))?;
    let mut sockets = receive(&stream).context("receiving the listening sockets")?;
    tracing::info!(
        sockets = sockets.sockets.len(),
        "taking over; the other process answers open requests"
    );
    let listeners = listeners(config);
    sockets.check_new(&listeners)?;
    wait_for_end(&mut stream)?;
    sockets.retain(&listeners);
    Ok(sockets)
}

/// Waits until the other process has released the spool: it closes the connection.
fn wait_for_end(stream: &mut std::os::unix::net::UnixStream) -> anyhow::Result<()> {
    use io::ErrorKind::{ConnectionReset, Interrupted, TimedOut, WouldBlock};
    loop {
        match stream.read(&mut [0]) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ConnectionReset => return Ok(()),
            // A signal came that does not end this process.
            Err(error) if error.kind() == Interrupted => {}
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
                anyhow::bail!("the other process did not release the spool within {WAIT_MAX:?}")
            }
            Err(error) => return Err(error).context("waiting for the other process"),
        }
    }
}

fn receive(stream: &std::os::unix::net::UnixStream) -> io::Result<Sockets> {
    let mut tags = [0; SOCKETS_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut tags = [IoSliceMut::new(&mut tags)];
        recvmsg(stream, &mut tags, &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    let bytes = match received {
        // A process that is stopping closes the connection without a message.
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

/// Returns the message that a listener cannot be opened.
pub(super) fn cannot_listen(key: &str, address: SocketAddr, error: io::Error) -> anyhow::Error {
    let message = format!("{key}: cannot listen on {address}");
    if error.kind() == io::ErrorKind::AddrInUse {
        anyhow!(
            "{message}: another process listens there; each spool needs ports of its own, and \
             `avtryck serve --take-over` goes on in place of a collector with the same spool"
        )
    } else {
        anyhow::Error::new(error).context(message)
    }
}
