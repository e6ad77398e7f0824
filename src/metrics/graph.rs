//! What there is of ties, device groups and households. Every collector of a database says the
//! same of it, but for counters, which count what this one did.

use metrics::{Counter, Gauge};

use super::register::Register;

/// Why a device group lost a tie: the words of `link_regroup.reason`.
pub(crate) const LOSSES: [&str; 8] = [
    "withdrawal",
    "erasure",
    "expiry",
    "rule",
    "hub",
    "not_mine",
    "forgotten",
    "other",
];

/// Whether something vouches for a tie.
const PROOF: [&str; 2] = ["claimed", "proved"];

/// The metrics of ties, groups and households.
#[expect(missing_docs, reason = "each metric's help text stands below")]
pub struct GraphMetrics {
    pub ties: [Gauge; 2],
    pub groups: [Gauge; 5],
    pub capped: Gauge,
    pub shared: Gauge,
    pub hubs: Gauge,
    pub owners: [Gauge; 2],
    /// Parts, ties, splits, sightings.
    pub waiting: [Gauge; 4],
    pub waiting_seconds: [Gauge; 4],
    pub merges: Counter,
    pub splits: [Counter; LOSSES.len()],
    pub audited: Counter,
    pub unpermitted: Counter,
    pub members: Gauge,
    pub households: [Gauge; 5],
    pub night_seconds: Gauge,
}

impl GraphMetrics {
    pub(super) fn register(r: &Register) -> GraphMetrics {
        let waiting = ["parts", "ties", "splits", "sightings"];
        GraphMetrics {
            ties: r.gauges(
                "avtryck_link_ties",
                "Ties between IDs, by whether something vouches for them.",
                ("proof", PROOF),
            ),
            groups: r.gauges(
                "avtryck_link_groups",
                "Device groups, by their number of IDs.",
                ("size", ["1", "2", "3_to_5", "6_to_10", "11_to_20"]),
            ),
            capped: r.gauge(
                "avtryck_link_capped_groups",
                "Device groups from which a tie was left out, because they would have become too large.",
            ),
            shared: r.gauge(
                "avtryck_link_shared_groups",
                "Device groups that had two owners or more within 90 days.",
            ),
            hubs: r.gauge(
                "avtryck_link_hubs",
                "IDs with more ties than one device can have, so that they do not count.",
            ),
            owners: r.gauges(
                "avtryck_link_owners",
                "Owners of device groups, by whether something vouches for a login.",
                ("proof", PROOF),
            ),
            waiting: r.gauges(
                "avtryck_link_waiting",
                "What waits for work on ties and households: batches to add up, ties to group, device groups to split, sightings to add up.",
                ("what", waiting),
            ),
            waiting_seconds: r.gauges(
                "avtryck_link_waiting_seconds",
                "For how long the oldest of it has waited; of ties, since the job link last had none left.",
                ("what", waiting),
            ),
            merges: r.counter(
                "avtryck_link_merges_total",
                "IDs that came to another device group by a new tie.",
            ),
            splits: r.counters(
                "avtryck_link_splits_total",
                "Device groups that lost a tie and were found anew, by why.",
                ("reason", LOSSES),
            ),
            audited: r.counter(
                "avtryck_link_audited_total",
                "Ties for which the daily audit looked for a hit that permitted them.",
            ),
            unpermitted: r.counter(
                "avtryck_link_unpermitted_total",
                "Ties among these that no stored hit permitted.",
            ),
            members: r.gauge("avtryck_household_members", "Devices in households."),
            households: r.gauges(
                "avtryck_households",
                "Households, by their number of devices.",
                ("size", ["2", "3", "4", "5_to_8", "9_to_15"]),
            ),
            night_seconds: r.gauge(
                "avtryck_household_night_age_seconds",
                "Time since the last night began (UTC) in which households were computed; 0 without one.",
            ),
        }
    }

    /// Counts device groups that lost a tie for a reason, one of [`LOSSES`].
    pub fn split(&self, reason: &str, groups: u64) {
        let at = LOSSES.iter().position(|known| *known == reason);
        if let Some(counter) = at.and_then(|at| self.splits.get(at)) {
            counter.increment(groups);
        }
    }
}
