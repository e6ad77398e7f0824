//! A connection's socket, with a limit on stalled writes.
//!
//! The limit is below TLS, which buffers bytes of its own before the client has read any.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::closing::Placed;
use super::limits::WRITE_TIME_MAX;
use super::timer::{CoarseSleep, Wheel};

/// A connection's socket.
pub(crate) struct Socket {
    inner: Placed,
    wheel: Wheel,
    /// Set while a write waits for the client.
    stalled: Option<Pin<Box<CoarseSleep>>>,
}

impl Socket {
    pub(crate) fn new(inner: Placed, wheel: Wheel) -> Socket {
        Socket {
            inner,
            wheel,
            stalled: None,
        }
    }

    fn stream(&mut self) -> &mut TcpStream {
        self.inner.stream()
    }

    /// Reads once the client has sent something, and allocates memory only then.
    pub(crate) async fn read_when_ready(
        &mut self,
        into: &mut Vec<u8>,
        room: usize,
    ) -> io::Result<usize> {
        poll_fn(|cx| {
            ready!(self.stream().poll_read_ready(cx))?;
            into.reserve(room);
            // This future keeps nothing from one poll to the next.
            pin!(self.stream().read_buf(into)).poll(cx)
        })
        .await
    }

    /// Passes a write's result on. A write that waits longer than the limit becomes an error.
    fn limit_stall<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let wheel = &self.wheel;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(wheel.sleep(WRITE_TIME_MAX)));
        ready!(stalled.as_mut().poll(cx));
        // Otherwise the kernel would keep what the client does not read for minutes after the
        // close.
        drop(SockRef::from(&*self.stream()).set_linger(Some(Duration::ZERO)));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.stream()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(self.stream()).poll_write(cx, bytes);
        self.limit_stall(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(self.stream()).poll_write_vectored(cx, slices);
        self.limit_stall(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream()).poll_shutdown(cx)
    }
}
