//! A connection's bytes: what was read ahead to tell its protocol and to have a header, a limit on stalled writes, and a look
//! at how lines end.
//!
//! hyper takes a bare line feed for a line's end, as RFC 9112, section 2.2, allows. A proxy in front may
//! take it for part of a header's value and pass it on: what is one request to the proxy could then be
//! two here. So whoever has seen a bare line feed takes no further request from that connection. A body
//! may hold one too; that costs its client a new connection and nothing else.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::limits::WRITE_TIME_MAX;
use super::timer::{CoarseSleep, Wheel};

/// Room for most headers.
const HEAD_READ_BYTES: usize = 1024;

pub(crate) struct Stream {
    inner: TcpStream,
    wheel: Wheel,
    /// Read ahead, and to be read again.
    ahead: Vec<u8>,
    /// Set while a write waits for the client.
    stalled: Option<Pin<Box<CoarseSleep>>>,
    bare_line_feed: Rc<Cell<bool>>,
    last_byte: u8,
}

impl Stream {
    pub(crate) fn new(inner: TcpStream, wheel: Wheel) -> Stream {
        Stream {
            inner,
            wheel,
            ahead: Vec::new(),
            stalled: None,
            bare_line_feed: Rc::default(),
            last_byte: 0,
        }
    }

    /// Holds true once a line feed without a carriage return in front was read.
    pub(crate) fn bare_line_feed(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.bare_line_feed)
    }

    fn look_at(&mut self, bytes: &[u8]) {
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
            return;
        };
        let is_bare = |before: u8, byte: u8| (byte == b'\n') & (before != b'\r');
        // Without a branch, so that the compiler looks at many bytes at once.
        let found = bytes
            .iter()
            .zip(bytes.iter().skip(1))
            .fold(is_bare(self.last_byte, *first), |found, (before, byte)| {
                found | is_bare(*before, *byte)
            });
        if found {
            self.bare_line_feed.set(true);
        }
        self.last_byte = *last;
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

    /// Reads ahead until a request's header is there, or as many bytes as it may have, or what can be none.
    /// False where nothing came before the end.
    pub(crate) async fn read_head(&mut self, bytes_max: usize) -> io::Result<bool> {
        let mut looked_at = 0;
        while self.ahead.len() < bytes_max
            && !ends_head(self.ahead.get(looked_at..).unwrap_or_default())
            && !self
                .ahead
                .first()
                .is_some_and(|byte| begins_no_request(*byte))
        {
            // The end may lie across two reads.
            looked_at = self.ahead.len().saturating_sub(2);
            self.inner.readable().await?;
            self.ahead.reserve(HEAD_READ_BYTES);
            match self.inner.try_read_buf(&mut self.ahead) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(!self.ahead.is_empty())
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
        // What the client does not read must not stay with the kernel for minutes behind the close.
        drop(SockRef::from(&self.inner).set_linger(Some(Duration::ZERO)));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Whether an empty line is among the bytes, however its lines end.
fn ends_head(bytes: &[u8]) -> bool {
    let after = |at: usize| bytes.get(at..).unwrap_or_default();
    bytes.iter().enumerate().any(|(at, byte)| {
        *byte == b'\n' && (after(at + 1).starts_with(b"\n") || after(at + 1).starts_with(b"\r\n"))
    })
}

/// Whether no method and no empty line begins so: it is refused without waiting for more.
fn begins_no_request(byte: u8) -> bool {
    !byte.is_ascii_graphic() && !matches!(byte, b'\r' | b'\n')
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        } else {
            let length = self.ahead.len().min(buffer.remaining());
            let rest = self.ahead.split_off(length);
            buffer.put_slice(&self.ahead);
            self.ahead = rest;
        }
        self.look_at(buffer.filled().get(before..).unwrap_or_default());
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
