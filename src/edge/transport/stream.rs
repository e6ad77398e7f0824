//! A connection's bytes, plain or out of TLS: what was read ahead to tell its protocol and to have
//! a header, how many come in, and a look at how lines end.
//!
//! hyper takes a bare line feed for a line's end, as RFC 9112, section 2.2, allows. A proxy in
//! front may take it for part of a header's value and pass it on: what is one request to the proxy
//! could then be two here. So whoever has seen a bare line feed takes no further request from that
//! connection. A body may hold one too; that costs its client a new connection and nothing else.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use memchr::memchr_iter;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::socket::Socket;

/// Room for most requests.
const HEAD_READ_BYTES: usize = 2048;

pub(crate) struct Stream {
    inner: Either<Socket, Box<TlsStream<Socket>>>,
    /// Read ahead, and to be read again.
    ahead: Vec<u8>,
    inflow: Rc<Inflow>,
    last_byte: u8,
}

/// What whoever answers has to know of the bytes that came in, and how many more may.
pub(crate) struct Inflow {
    bare_line_feed: Cell<bool>,
    bytes_left: Cell<Option<u64>>,
}

impl Inflow {
    /// Whether a line feed without a carriage return in front was read.
    pub(crate) fn has_bare_line_feed(&self) -> bool {
        self.bare_line_feed.get()
    }

    /// Lets so many more bytes in. Without it there is no limit.
    pub(crate) fn allow(&self, bytes: u64) {
        let left = self.bytes_left.get().unwrap_or(0);
        self.bytes_left.set(Some(left.saturating_add(bytes)));
    }

    fn take(&self, bytes: usize) -> io::Result<()> {
        if let Some(left) = self.bytes_left.get() {
            let left = left.checked_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
            self.bytes_left
                .set(Some(left.ok_or(io::ErrorKind::QuotaExceeded)?));
        }
        Ok(())
    }
}

impl Stream {
    /// Of bytes as they come.
    pub(crate) fn plain(socket: Socket) -> Stream {
        Stream::new(Either::Left(socket))
    }

    /// Of bytes in TLS.
    pub(crate) fn encrypted(stream: Box<TlsStream<Socket>>) -> Stream {
        Stream::new(Either::Right(stream))
    }

    fn new(inner: Either<Socket, Box<TlsStream<Socket>>>) -> Stream {
        Stream {
            inner,
            ahead: Vec::new(),
            inflow: Rc::new(Inflow {
                bare_line_feed: Cell::new(false),
                bytes_left: Cell::new(None),
            }),
            last_byte: 0,
        }
    }

    /// What is read ahead.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Takes the first bytes away that are read ahead. Room for most requests is kept for the next
    /// one.
    pub(crate) fn take_ahead(&mut self, length: usize) {
        if length < self.ahead.len() {
            self.ahead.drain(..length);
        } else if self.ahead.capacity() <= 2 * HEAD_READ_BYTES {
            self.ahead.clear();
        } else {
            self.ahead = Vec::new();
        }
    }

    /// Says that nothing follows. Without TLS the close says so.
    pub(crate) async fn end(&mut self) {
        if let Either::Right(stream) = &mut self.inner {
            stream.shutdown().await.ok();
        }
    }

    /// What is read from now on.
    pub(crate) fn inflow(&self) -> Rc<Inflow> {
        Rc::clone(&self.inflow)
    }

    fn look_at(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            if has_bare_line_feed(self.last_byte, bytes) {
                self.inflow.bare_line_feed.set(true);
            }
            self.last_byte = *last;
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

    /// Reads ahead until a request's header is there, or as many bytes as it may have, or what can
    /// be none. False where nothing came before the end.
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
            if self.read_ahead().await? == 0 {
                break;
            }
        }
        Ok(!self.ahead.is_empty())
    }

    /// Reads more ahead; 0 bytes at the end.
    async fn read_ahead(&mut self) -> io::Result<usize> {
        match &mut self.inner {
            Either::Left(socket) => socket.read_late(&mut self.ahead, HEAD_READ_BYTES).await,
            // What it has decrypted already, no socket tells of.
            Either::Right(stream) => {
                self.ahead.reserve(HEAD_READ_BYTES);
                stream.read_buf(&mut self.ahead).await
            }
        }
    }
}

/// Whether a line feed without a carriage return in front is among the bytes that follow `before`.
pub(crate) fn has_bare_line_feed(before: u8, bytes: &[u8]) -> bool {
    let is_bare = |before: u8, byte: u8| (byte == b'\n') & (before != b'\r');
    let first = bytes.first().is_some_and(|first| is_bare(before, *first));
    // Without a branch, so that the compiler looks at many bytes at once.
    bytes
        .iter()
        .zip(bytes.iter().skip(1))
        .fold(first, |found, (before, byte)| {
            found | is_bare(*before, *byte)
        })
}

/// Whether an empty line is among the bytes, however its lines end.
fn ends_head(bytes: &[u8]) -> bool {
    let is_empty_line = |after: &[u8]| after.starts_with(b"\n") || after.starts_with(b"\r\n");
    // Behind most requests is nothing yet.
    bytes.ends_with(b"\r\n\r\n")
        || memchr_iter(b'\n', bytes).any(|at| bytes.get(at + 1..).is_some_and(is_empty_line))
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
        let read = buffer.filled().get(before..).unwrap_or_default();
        self.look_at(read);
        Poll::Ready(self.inflow.take(read.len()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
