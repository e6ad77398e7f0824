//! Where connections come in: a listening socket for each edge thread, and what is spoken first on
//! it.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio_rustls::TlsAcceptor;

use super::limits::{BACKLOG, SEND_BUFFER_BYTES};

/// A listening socket of one thread.
pub struct Entrance {
    pub(crate) socket: std::net::TcpListener,
    pub(crate) before: Before,
}

/// What comes before the first byte of HTTP.
#[derive(Clone)]
pub struct Before {
    /// Whether a proxy says first for whom it connects.
    pub proxy_protocol: bool,
    /// Shakes hands; none where the bytes are plain.
    pub tls: Option<TlsAcceptor>,
}

impl Entrance {
    /// Opens one for each of `threads` on the same address (`SO_REUSEPORT`), beside those whose
    /// sockets another process handed over. Each of those is opened, were it one too many:
    /// connections wait in it.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn open(
        address: SocketAddr,
        threads: usize,
        before: &Before,
        handed_over: Vec<std::net::TcpListener>,
    ) -> io::Result<Vec<Entrance>> {
        let mut sockets = handed_over;
        if sockets.is_empty() {
            sockets.push(bind(address)?);
        }
        // Where port 0 was asked for the system has chosen one.
        let address = sockets
            .first()
            .map_or(Ok(address), |first| first.local_addr())?;
        while sockets.len() < threads {
            sockets.push(bind(address)?);
        }
        let entrance = |socket| Entrance {
            socket,
            before: before.clone(),
        };
        Ok(sockets.into_iter().map(entrance).collect())
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The socket once more, to hand over. While one of the two is open connections are taken into
    /// its queue.
    ///
    /// # Errors
    /// Where there are too many open files.
    pub fn duplicate(&self) -> io::Result<std::net::TcpListener> {
        self.socket.try_clone()
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
