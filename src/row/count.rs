//! Counts of the hits that become no rows.

use std::collections::HashMap;

use super::{Ad, Keyer, Site};
use crate::hit::{Hit, Kind};

/// Hits of one minute and kind, on one site, for one ad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Count {
    /// Minutes since 1970.
    pub minute: i64,
    /// Key of the site.
    pub site_key: i64,
    /// Key of the ad, 0 for none.
    pub ad_key: i64,
    /// Kind of the hits.
    pub kind: Kind,
}

/// The end of the year 9999. A clock may be wrong by any amount, and Postgres refuses some times.
const SECONDS_MAX: i64 = 253_402_300_799;

impl Count {
    /// Returns what a hit adds one to.
    #[must_use]
    pub fn of(hit: &Hit<'_>, keyer: &Keyer) -> Count {
        let site_key = keyer.key(&Site::of(hit));
        let ad_key = Ad::of(hit).map_or(0, |ad| keyer.key(&ad));
        Count::with_keys(hit, site_key, ad_key)
    }

    /// Does the same where the keys are known already.
    #[must_use]
    pub fn with_keys(hit: &Hit<'_>, site_key: i64, ad_key: i64) -> Count {
        Count {
            minute: hit.received_at.seconds().clamp(0, SECONDS_MAX) / 60,
            site_key,
            ad_key,
            kind: hit.kind,
        }
    }
}

/// How many hits there are of each [`Count`].
#[derive(Debug, Default)]
pub struct Counts(pub(crate) HashMap<Count, i64>);

impl Counts {
    /// Adds one hit.
    pub fn add(&mut self, count: Count) {
        self.add_many(count, 1);
    }

    /// Adds several hits.
    pub(crate) fn add_many(&mut self, count: Count, hits: u64) {
        let sum = self.0.entry(count).or_default();
        *sum = sum.saturating_add_unsigned(hits);
    }
}
