//! The bytes that hyper reads and writes on an HTTP/1.1 connection: one header at a time, with a
//! target that it accepts, and with replies of ours in place of its own.
//!
//! hyper refuses some targets that senders mean well, and its refusals say nothing. So it is given
//! each header whole, after [`target::mend`], and no byte after it until it has read the header and
//! told how long the body is ([`Inbound::expect_body`]). If hyper refuses the header all the same,
//! its reply is exchanged for one that names the reason. What the client still sends is then read
//! and dropped until it has read the reply, for [`LINGER_TIME_MAX`] at most: closing a socket with
//! unread bytes resets the connection, and the reply would be lost.
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

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::limits::LINGER_TIME_MAX;
use super::stream::{Stream, has_bare_line_feed};
use super::target;
use super::timer::{CoarseSleep, Wheel};
use crate::endpoint::TRACKER_HEADER_BYTES_MAX;

/// Returns what is sent in place of a reply to the request with that header; `None` if the reply is
/// sent as it is.
pub(crate) type Replace = Box<dyn Fn(&[u8], &[u8]) -> Option<Vec<u8>>>;

/// What is known of the requests on a connection.
#[derive(Default)]
pub(crate) struct Inbound {
    bare_line_feed: Cell<bool>,
    body_bytes_left: Cell<u64>,
}

impl Inbound {
    /// Checks whether a line feed without a carriage return before it was read.
    pub(crate) fn has_bare_line_feed(&self) -> bool {
        self.bare_line_feed.get()
    }

    /// Says how many bytes follow the header before the next one. `None` is a body whose length
    /// only hyper knows; what follows it is not told from it.
    pub(crate) fn expect_body(&self, bytes: Option<u64>) {
        self.body_bytes_left.set(bytes.unwrap_or(u64::MAX));
    }
}

/// A connection as hyper sees it.
pub(crate) struct Heads {
    stream: Stream,
    inbound: Rc<Inbound>,
    /// The header that hyper is given, and how much of it hyper has.
    head: Vec<u8>,
    given: usize,
    last_byte: u8,
    replace: Replace,
    /// A reply in place of hyper's, and how much of it is written.
    reply: Option<Vec<u8>>,
    written: usize,
    wheel: Wheel,
    linger: Option<Pin<Box<CoarseSleep>>>,
}

impl Heads {
    pub(crate) fn new(
        stream: Stream,
        inbound: Rc<Inbound>,
        replace: Replace,
        wheel: Wheel,
    ) -> Heads {
        Heads {
            stream,
            inbound,
            head: Vec::new(),
            given: 0,
            last_byte: 0,
            replace,
            reply: None,
            written: 0,
            wheel,
            linger: None,
        }
    }

    /// Reads the next header. It is empty at the end.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // An idle connection keeps no memory for its last header.
        self.head = Vec::new();
        self.given = 0;
        if ready!(self.stream.poll_head(cx, TRACKER_HEADER_BYTES_MAX))? {
            self.head = self.stream.take_head();
            self.note_line_ends_of_head();
            target::mend(&mut self.head);
        }
        Poll::Ready(Ok(()))
    }

    fn note_line_ends_of_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.note_line_ends(&head);
        self.head = head;
    }

    fn note_line_ends(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            if has_bare_line_feed(self.last_byte, bytes) {
                self.inbound.bare_line_feed.set(true);
            }
            self.last_byte = *last;
        }
    }

    /// Reads more of a body, at most what is left of it.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let left = self.inbound.body_bytes_left.get();
        let mut body = (&mut self.stream).take(left);
        ready!(Pin::new(&mut body).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        self.note_line_ends(read);
        let read = u64::try_from(read.len()).unwrap_or(u64::MAX);
        self.inbound.body_bytes_left.set(left.saturating_sub(read));
        Poll::Ready(Ok(()))
    }
}

/// Tells the client that nothing follows, and drops what it sends until it ends too.
fn poll_linger(
    stream: &mut Stream,
    mut late: Pin<&mut CoarseSleep>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
    let mut room = [0; 4096];
    loop {
        if late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut dropped = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut dropped))?;
        if dropped.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncRead for Heads {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given == self.head.len() {
            if self.inbound.body_bytes_left.get() > 0 {
                return self.poll_body(cx, buffer);
            }
            ready!(self.poll_head(cx))?;
        }
        let rest = self.head.get(self.given..).unwrap_or_default();
        let part = rest.get(..buffer.remaining()).unwrap_or(rest);
        buffer.put_slice(part);
        self.given += part.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heads {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.reply.is_none() {
            this.reply = (this.replace)(bytes, &this.head);
        }
        let Some(reply) = &this.reply else {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        };
        while let Some(rest) = reply.get(this.written..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut this.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.written += written;
        }
        let wheel = &this.wheel;
        let late = this
            .linger
            .get_or_insert_with(|| Box::pin(wheel.sleep(LINGER_TIME_MAX)));
        // The reply is written, whatever becomes of the connection.
        drop(ready!(poll_linger(&mut this.stream, late.as_mut(), cx)));
        this.reply = None;
        this.written = 0;
        // hyper is to believe that its own reply was written.
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
