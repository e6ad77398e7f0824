//! Keeps the password from a network that it would cross in clear text, and from a server that may
//! be anybody's.
//!
//! A server that asks for the password by `md5` or SCRAM learns a proof of it; one that asks for
//! the password itself, or whoever sits between and pretends to be it, learns the password. So that
//! request is an error, unless the server is on this machine or has shown a certificate that was
//! checked.
//!
//! The client has no such option, but it lets a caller wrap its stream, as for TLS: [`Watched`] is
//! a stream that reads along until the server has said how it wants to be convinced.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::tls::PostgresStream;

/// What a server sends that asks for the password in clear text: the type of the message, its
/// length and its code.
pub(super) const REQUEST: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];

/// A stream that fails if the first message of a server asks for the password in clear text.
pub(super) struct Watched<S> {
    stream: PostgresStream<S>,
    /// How many bytes were those of [`REQUEST`]; none once one was another.
    matched: Option<usize>,
}

impl<S> Watched<S> {
    /// Watches a stream for that request; `may_have_password` lets it pass.
    pub(super) fn new(stream: PostgresStream<S>, may_have_password: bool) -> Watched<S> {
        Watched {
            stream,
            matched: (!may_have_password).then_some(0),
        }
    }

    /// Looks at bytes that came.
    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(matched) = self.matched else {
            return Ok(());
        };
        let rest = REQUEST.get(matched..).unwrap_or_default();
        let compared = rest.len().min(bytes.len());
        self.matched =
            (bytes.get(..compared) == rest.get(..compared)).then_some(matched + compared);
        if self.matched == Some(REQUEST.len()) {
            let why = match self.stream {
                PostgresStream::Plain(_) => "the connection is not encrypted",
                PostgresStream::Tls(_) => {
                    "its certificate is not checked (sslmode=verify-full would)"
                }
            };
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "the server asks for the password in clear text, and {why}; let pg_hba.conf \
                     ask for it by scram-sha-256"
                ),
            ));
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(match &mut self.stream {
            PostgresStream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            PostgresStream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        })?;
        Poll::Ready(match self.matched {
            Some(_) => self.look(buffer.filled().get(before..).unwrap_or_default()),
            None => Ok(()),
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            PostgresStream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            PostgresStream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            PostgresStream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            PostgresStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            PostgresStream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            PostgresStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Watched<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}
