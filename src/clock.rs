//! The clocks. Nothing else in avtryck reads the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct UnixMicros(pub i64);

impl UnixMicros {
    /// Returns whole seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns whole days since 1970, in UTC.
    #[must_use]
    pub fn day(self) -> i64 {
        self.seconds().div_euclid(86_400)
    }

    /// Returns the time from `earlier` until this, or zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: UnixMicros) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Reads the wall clock.
#[must_use]
pub fn now() -> UnixMicros {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMicros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// Reads the clock that never goes back, for measuring how long something took.
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Returns how long ago a moment of that clock was.
#[must_use]
pub fn time_since(moment: Instant) -> Duration {
    moment.elapsed()
}
