//! Where connections come in: a listening socket for each edge thread, and what its clients send
//! first.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio_rustls::TlsAcceptor;

use super::limits::{BACKLOG, SEND_BUFFER_BYTES};

/// How often a port that is in use is tried again, and after what pause: a program that a killed
/// collector was just starting holds its sockets for a moment.
const BIND_TRIES: u32 = 25;
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// The listening socket of one thread.
pub struct Entrance {
    pub(crate) socket: std::net::TcpListener,
    pub(crate) preamble: Preamble,
}

/// What a connection begins with, before the first byte of HTTP.
#[derive(Clone)]
pub struct Preamble {
    /// Whether a proxy first names the client that it connects for.
    pub proxy_protocol: bool,
    /// Does the TLS handshake; `None` if the bytes are plain.
    pub tls: Option<TlsAcceptor>,
}

impl Entrance {
    /// Opens an entrance for each of `threads` on the same address (`SO_REUSEPORT`). Sockets that
    /// another process handed over come first; all of them are used, even if there are more than
    /// threads, because connections wait in them.
    ///
    /// # Errors
    /// If the address cannot be bound; [`io::ErrorKind::AddrInUse`] if another process listens
    /// there, whether or not it would share the port.
    pub fn open(
        address: SocketAddr,
        threads: usize,
        preamble: &Preamble,
        handed_over: Vec<std::net::TcpListener>,
    ) -> io::Result<Vec<Entrance>> {
        let mut sockets = handed_over;
        if sockets.is_empty() {
            sockets.push(bind_first(address)?);
        }
        // For port 0 the system has chosen a port.
        let address = sockets
            .first()
            .map_or(Ok(address), |first| first.local_addr())?;
        while sockets.len() < threads {
            sockets.push(bind(address, Sharing::WithOurs)?);
        }
        let entrance = |socket| Entrance {
            socket,
            preamble: preamble.clone(),
        };
        Ok(sockets.into_iter().map(entrance).collect())
    }

    /// Returns the address that it listens at.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Duplicates the socket, to hand it over. While one of the two is open, new connections wait
    /// in its queue.
    ///
    /// # Errors
    /// If too many files are open.
    pub(crate) fn duplicate(&self) -> io::Result<std::net::TcpListener> {
        self.socket.try_clone()
    }
}

/// Binds an address at which no other socket listens. `SO_REUSEADDR` makes connections that an
/// earlier process left behind (`TIME_WAIT`) no obstacle.
///
/// # Errors
/// If the address cannot be bound; [`io::ErrorKind::AddrInUse`] if another process listens there.
pub(crate) fn bind_alone(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    for _ in 0..BIND_TRIES {
        match bind(address, Sharing::Never) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(BIND_PAUSE),
            bound => return bound,
        }
    }
    bind(address, Sharing::Never)
}

/// Binds the first of our sockets at an address. It shares the port only once it listens: until
/// then the system refuses it where any other socket listens, and of two processes that start at
/// the same moment it refuses one. With `SO_REUSEPORT` from the beginning, a collector with another
/// spool would get a part of our connections.
fn bind_first(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = bind_alone(address)?;
    SockRef::from(&socket).set_reuse_port(true)?;
    Ok(socket)
}

/// Whether a socket is bound beside others on the same port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Never,
    /// Beside the sockets of this process, or those that it was handed.
    WithOurs,
}

fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::WithOurs)?;
    socket.set_nonblocking(true)?;
    // Connections inherit this size.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
