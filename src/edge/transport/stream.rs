//! A connection's bytes, plain or out of TLS. Keeps what was read ahead to recognise the protocol
//! and to have a whole header, and limits how many bytes come in.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use memchr::memchr_iter;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::memory::{Memory, MemoryClaim};
use super::socket::Socket;
use crate::endpoint::{HEADER_BYTES_MAX, TRACKER_HEADER_BYTES_MAX};

/// Enough for most requests.
const HEAD_READ_BYTES: usize = 2048;

/// The bytes of one connection.
pub(crate) struct Stream {
    inner: Either<Socket, Box<TlsStream<Socket>>>,
    /// Bytes that were read ahead and are still to be read.
    ahead: Vec<u8>,
    /// How many of them hold no end of a header.
    checked: usize,
    inflow: Rc<Inflow>,
    memory: Arc<Memory>,
    /// The memory for a header beyond the usual size.
    claim: Option<MemoryClaim>,
}

/// How many more bytes may come in.
#[derive(Default)]
pub(crate) struct Inflow {
    bytes_left: Cell<Option<u64>>,
}

impl Inflow {
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
    pub(crate) fn plain(socket: Socket, memory: Arc<Memory>) -> Stream {
        Stream::new(Either::Left(socket), memory)
    }

    /// Reads bytes that TLS decrypts.
    pub(crate) fn from_tls(stream: Box<TlsStream<Socket>>, memory: Arc<Memory>) -> Stream {
        Stream::new(Either::Right(stream), memory)
    }

    fn new(inner: Either<Socket, Box<TlsStream<Socket>>>, memory: Arc<Memory>) -> Stream {
        Stream {
            inner,
            ahead: Vec::new(),
            checked: 0,
            inflow: Rc::default(),
            memory,
            claim: None,
        }
    }

    /// Returns the bytes that were read ahead.
    pub(crate) fn bytes_ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Drops the first bytes of what was read ahead. A buffer of usual size is kept for the next
    /// request.
    pub(crate) fn consume(&mut self, length: usize) {
        self.checked = 0;
        if length < self.ahead.len() {
            self.ahead.drain(..length);
        } else if self.ahead.capacity() <= 2 * HEAD_READ_BYTES {
            self.ahead.clear();
        } else {
            self.ahead = Vec::new();
        }
    }

    /// Takes the header that was read ahead, or as much of it as was.
    pub(crate) fn take_head(&mut self) -> Vec<u8> {
        self.checked = 0;
        let length = find_head_end(&self.ahead).unwrap_or(self.ahead.len());
        let rest = self.ahead.split_off(length);
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Tells the client that nothing follows. Without TLS the close tells it.
    pub(crate) async fn shut_down(&mut self) {
        if let Either::Right(stream) = &mut self.inner {
            stream.shutdown().await.ok();
        }
    }

    /// Returns the limit on the bytes that are read from now on.
    pub(crate) fn inflow(&self) -> Rc<Inflow> {
        Rc::clone(&self.inflow)
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
        poll_fn(|cx| self.poll_head(cx, bytes_max)).await
    }

    /// Does the same as [`Stream::read_head`].
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
    ) -> Poll<io::Result<bool>> {
        while self.ahead.len() < bytes_max
            && !ends_head(self.ahead.get(self.checked..).unwrap_or_default())
            && !self
                .ahead
                .first()
                .is_some_and(|byte| begins_no_request(*byte))
        {
            // The empty line may be split between two reads.
            self.checked = self.ahead.len().saturating_sub(2);
            self.claim_large_head()?;
            // This future keeps nothing from one poll to the next.
            if ready!(pin!(self.read_ahead()).poll(cx))? == 0 {
                break;
            }
        }
        Poll::Ready(Ok(!self.ahead.is_empty()))
    }

    /// Claims memory for a header that outgrows the usual size, and gives back what an earlier one
    /// had. Fails if there is none.
    fn claim_large_head(&mut self) -> io::Result<()> {
        let length = self.ahead.len();
        if length <= HEAD_READ_BYTES {
            self.claim = None;
            return Ok(());
        }
        let needed = match length {
            ..HEADER_BYTES_MAX => HEADER_BYTES_MAX,
            _ => TRACKER_HEADER_BYTES_MAX,
        };
        let claimed = self.claim.as_ref().map_or(0, MemoryClaim::bytes);
        let is_there = match &mut self.claim {
            Some(claim) => claim.grow(needed.saturating_sub(claimed)).is_ok(),
            None => {
                self.claim = self.memory.claim_head(needed);
                self.claim.is_some()
            }
        };
        if is_there {
            Ok(())
        } else {
            Err(io::ErrorKind::OutOfMemory.into())
        }
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
    // Most often nothing follows the header yet.
    bytes.ends_with(b"\r\n\r\n") || find_head_end(bytes).is_some()
}

/// Returns where the first empty line ends.
fn find_head_end(bytes: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', bytes).find_map(|at| match bytes.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
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
            self.checked = 0;
            let length = self.ahead.len().min(buffer.remaining());
            let rest = self.ahead.split_off(length);
            buffer.put_slice(&self.ahead);
            self.ahead = rest;
        }
        let read = buffer.filled().len() - before;
        Poll::Ready(self.inflow.spend(read))
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
