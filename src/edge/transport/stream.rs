//! A connection's bytes, plain or out of TLS. Keeps what was read ahead to recognise the protocol
//! and to have a whole header, limits how many bytes come in, and watches how lines end.
//!
//! hyper accepts a bare line feed as the end of a line, as RFC 9112, section 2.2, allows. A proxy
//! in front may regard it as part of a header's value and pass it on: one request to the proxy
//! could then be two here. So no further request is accepted from a connection with a bare line
//! feed. A body may have one too; its client then needs a new connection, and loses nothing else.

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

/// Enough for most requests.
const HEAD_READ_BYTES: usize = 2048;

/// The bytes of one connection.
pub(crate) struct Stream {
    inner: Either<Socket, Box<TlsStream<Socket>>>,
    /// Bytes that were read ahead and are still to be read.
    ahead: Vec<u8>,
    inflow: Rc<Inflow>,
    last_byte: u8,
}

/// What is known of the bytes that came in, and how many more may.
pub(crate) struct Inflow {
    bare_line_feed: Cell<bool>,
    bytes_left: Cell<Option<u64>>,
}

impl Inflow {
    /// Checks whether a line feed without a carriage return before it was read.
    pub(crate) fn has_bare_line_feed(&self) -> bool {
        self.bare_line_feed.get()
    }

    /// Allows that many more bytes. There is no limit until this is called.
    pub(crate) fn allow(&self, bytes: u64) {
        let left = self.bytes_left.get().unwrap_or(0);
        self.bytes_left.set(Some(left.saturating_add(bytes)));
    }

    /// Counts bytes that came in. Fails if they are more than allowed.
    fn spend(&self, bytes: usize) -> io::Result<()> {
        if let Some(left) = self.bytes_left.get() {
            let left = left.checked_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
            self.bytes_left
                .set(Some(left.ok_or(io::ErrorKind::QuotaExceeded)?));
        }
        Ok(())
    }
}

impl Stream {
    /// Reads bytes as they come.
    pub(crate) fn plain(socket: Socket) -> Stream {
        Stream::new(Either::Left(socket))
    }

    /// Reads bytes that TLS decrypts.
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

    /// Returns the bytes that were read ahead.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Drops the first bytes of what was read ahead. A buffer of usual size is kept for the next
    /// request.
    pub(crate) fn consume(&mut self, length: usize) {
        if length < self.ahead.len() {
            self.ahead.drain(..length);
        } else if self.ahead.capacity() <= 2 * HEAD_READ_BYTES {
            self.ahead.clear();
        } else {
            self.ahead = Vec::new();
        }
    }

    /// Tells the client that nothing follows. Without TLS the close tells it.
    pub(crate) async fn shut_down(&mut self) {
        if let Either::Right(stream) = &mut self.inner {
            stream.shutdown().await.ok();
        }
    }

    /// Returns what is known of the bytes that are read from now on.
    pub(crate) fn inflow(&self) -> Rc<Inflow> {
        Rc::clone(&self.inflow)
    }

    fn note_line_ends(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            if has_bare_line_feed(self.last_byte, bytes) {
                self.inflow.bare_line_feed.set(true);
            }
            self.last_byte = *last;
        }
    }

    /// Checks whether the first bytes are `preface`. Reads no more than its length.
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

    /// Reads ahead until there is a whole header of a request, or `bytes_max`, or a byte that
    /// begins no request. Returns false if the connection ended before the first byte.
    pub(crate) async fn read_head(&mut self, bytes_max: usize) -> io::Result<bool> {
        let mut checked = 0;
        while self.ahead.len() < bytes_max
            && !ends_head(self.ahead.get(checked..).unwrap_or_default())
            && !self
                .ahead
                .first()
                .is_some_and(|byte| begins_no_request(*byte))
        {
            // The empty line may be split between two reads.
            checked = self.ahead.len().saturating_sub(2);
            if self.read_ahead().await? == 0 {
                break;
            }
        }
        Ok(!self.ahead.is_empty())
    }

    /// Reads more bytes ahead and returns how many; 0 at the end.
    async fn read_ahead(&mut self) -> io::Result<usize> {
        match &mut self.inner {
            Either::Left(socket) => {
                socket
                    .read_when_ready(&mut self.ahead, HEAD_READ_BYTES)
                    .await
            }
            // The socket does not tell of bytes that are already decrypted.
            Either::Right(stream) => {
                self.ahead.reserve(HEAD_READ_BYTES);
                stream.read_buf(&mut self.ahead).await
            }
        }
    }
}

/// Checks whether the bytes that follow `before` have a line feed without a carriage return before
/// it.
pub(crate) fn has_bare_line_feed(before: u8, bytes: &[u8]) -> bool {
    let is_bare = |before: u8, byte: u8| (byte == b'\n') & (before != b'\r');
    let first = bytes.first().is_some_and(|first| is_bare(before, *first));
    // Without a branch, so that the compiler checks many bytes at once.
    bytes
        .iter()
        .zip(bytes.iter().skip(1))
        .fold(first, |found, (before, byte)| {
            found | is_bare(*before, *byte)
        })
}

/// Checks whether the bytes have an empty line, with either kind of line end.
fn ends_head(bytes: &[u8]) -> bool {
    let is_empty_line = |after: &[u8]| after.starts_with(b"\n") || after.starts_with(b"\r\n");
    // Most often nothing follows the header yet.
    bytes.ends_with(b"\r\n\r\n")
        || memchr_iter(b'\n', bytes).any(|at| bytes.get(at + 1..).is_some_and(is_empty_line))
}

/// Checks whether neither a method nor an empty line begins with the byte. Such a request is
/// refused without waiting for more.
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
        self.note_line_ends(read);
        Poll::Ready(self.inflow.spend(read.len()))
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
