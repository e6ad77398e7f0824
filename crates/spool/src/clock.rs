//! The only place that reads time.

use std::time::Instant;

/// Returns the time of the clock that never goes back.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}
