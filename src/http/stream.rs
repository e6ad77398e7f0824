//! A connection's bytes: what was read ahead to tell its protocol, and a limit on stalled writes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::timer::{CoarseSleep, Wheel};

/// How long a client may take none of the bytes that it is sent.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Stream {
    inner: TcpStream,
    wheel: Wheel,
    /// Read ahead, and to be read again.
    ahead: Vec<u8>,
    /// Set while a write waits for the client.
    stalled: Option<Pin<Box<CoarseSleep>>>,
}

impl Stream {
    pub(crate) fn new(inner: TcpStream, wheel: Wheel) -> Stream {
        Stream {
            inner,
            wheel,
            ahead: Vec::new(),
            stalled: None,
        }
    }

    /// Whether the first bytes are these. Reads no more than their length.
    pub(crate) async fn starts_with(&mut self, preface: &[u8]) -> io::Result<bool> {
        while self.ahead.len() < preface.len() && preface.starts_with(&self.ahead) {
            let wanted = u64::try_from(preface.len() - self.ahead.len()).unwrap_or(u64::MAX);
            let mut ahead = std::mem::take(&mut self.ahead);
            let read = (&mut self.inner).take(wanted).read_buf(&mut ahead).await;
            self.ahead = ahead;
            if read? == 0 {
                break;
            }
        }
        Ok(self.ahead == preface)
    }

    /// Passes a write's result on; one that waits longer than it may becomes an error.
    fn limited<T>(
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
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        let length = self.ahead.len().min(buffer.remaining());
        let rest = self.ahead.split_off(length);
        buffer.put_slice(&self.ahead);
        self.ahead = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.limited(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.limited(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
