//! What is particular to HTTP/2: its settings, how many bytes may come in without a request, and
//! when an idle connection ends.
//!
//! hyper bounds the streams of a connection, their headers, and what it keeps of bodies and
//! replies. It ends a connection that keeps opening and resetting streams, or keeps sending headers
//! or empty DATA. But it answers any number of SETTINGS and PING frames and ignores WINDOW_UPDATE
//! and PRIORITY. So a client that sends more bytes than its requests account for is cut off,
//! whatever the frames are.

use std::time::Duration;

use hyper::server::conn::http2::Builder;

use super::timer::Wheel;
use crate::endpoint::{TRACKER_BODY_BYTES_MAX, TRACKER_HEADER_BYTES_MAX};

/// What a client sends first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The bytes that may come in before the first request, and with each request: the largest body,
/// its header, and as much again as the body for its frames.
pub(crate) const REQUEST_BYTES_MAX: u64 =
    2 * TRACKER_BODY_BYTES_MAX as u64 + TRACKER_HEADER_BYTES_MAX as u64;
/// A connection without a request ends after this time, or at most twice this time. A browser keeps
/// it for the next page, but it uses more memory than one of HTTP/1.1, where the limit is 10 s.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(15);

/// Returns the settings of a connection. hyper's defaults suit trusted clients: windows of 1 MiB,
/// no keep-alive.
pub(crate) fn builder(wheel: Wheel) -> Builder<Local> {
    let mut builder = Builder::new(Local);
    builder
        .timer(wheel)
        .max_concurrent_streams(100)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024)
        .max_header_list_size(u32::try_from(TRACKER_HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Runs the streams of a connection on that connection's thread.
#[derive(Clone, Copy)]
pub(crate) struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
