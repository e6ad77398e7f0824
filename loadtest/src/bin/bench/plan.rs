//! How much is measured.

use std::time::Duration;

/// How much is measured, and for how long.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) rounds: u32,
    pub(crate) closed: Duration,
    pub(crate) tracker: Duration,
    pub(crate) end_to_end: Duration,
    pub(crate) rival: Duration,
    pub(crate) open: Duration,
    /// Rates at which the collector's cost is looked at.
    pub(crate) rates: &'static [u32],
    pub(crate) drain: Duration,
}

impl Plan {
    pub(crate) const TRIAL: Plan = Plan {
        name: "trial",
        rounds: 1,
        closed: Duration::from_secs(1),
        tracker: Duration::from_secs(1),
        end_to_end: Duration::from_secs(1),
        rival: Duration::from_secs(1),
        open: Duration::from_secs(1),
        rates: &[1_000],
        drain: Duration::from_secs(1),
    };
    pub(crate) const QUICK: Plan = Plan {
        name: "quick",
        rounds: 3,
        closed: Duration::from_secs(2),
        tracker: Duration::from_secs(2),
        end_to_end: Duration::from_secs(3),
        rival: Duration::from_secs(2),
        open: Duration::from_secs(4),
        rates: &[],
        drain: Duration::from_secs(4),
    };
    pub(crate) const FULL: Plan = Plan {
        name: "full",
        rounds: 5,
        closed: Duration::from_secs(5),
        tracker: Duration::from_secs(4),
        end_to_end: Duration::from_secs(10),
        rival: Duration::from_secs(5),
        open: Duration::from_secs(20),
        rates: &[1_000, 5_000, 20_000],
        drain: Duration::from_secs(20),
    };
}
