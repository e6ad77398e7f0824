//! What is particular to HTTP/2: its settings, how much may come in without a request, and when a
//! connection that rests is ended.
//!
//! hyper bounds the streams of a connection, their headers, what it keeps of bodies and replies,
//! and ends who opens and resets streams without end, or sends headers or empty DATA without end.
//! It answers SETTINGS and PING for ever, though, and lets WINDOW_UPDATE and PRIORITY pass. So who
//! sends more bytes than its requests account for is ended, whatever the frames are.

use std::time::Duration;

use hyper::server::conn::http2::Builder;

use super::limits::HEADER_BYTES_MAX;
use super::timer::Wheel;
use crate::endpoint::BODY_BYTES_MAX;

/// What a client sends first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What may come in before the first request, and with each request: the largest body, its header,
/// and as much again as a body takes in frames.
pub(crate) const REQUEST_BYTES_MAX: u64 = 2 * BODY_BYTES_MAX as u64 + HEADER_BYTES_MAX as u64;
/// A connection without a request for so long, and for twice as long at the most, is ended. A
/// browser keeps it for the next page, but what it takes is more than with HTTP/1.1, where the same
/// limit is 10 s.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(15);

/// The settings of a connection. hyper's own are made for clients that are trusted: 1 MiB windows,
/// no keep-alive.
pub(crate) fn builder(wheel: Wheel) -> Builder<Local> {
    let mut builder = Builder::new(Local);
    builder
        .timer(wheel)
        .max_concurrent_streams(100)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Runs the streams of a connection on the thread that it lives on.
#[derive(Clone, Copy)]
pub(crate) struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
