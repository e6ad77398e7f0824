//! Finds the key of each dimension of a hit, and gathers the rows that Postgres may not have.

use quick_cache::unsync::Cache;

use crate::enrich::Tables;
use crate::hit::{Hit, Permit};
use crate::metrics::Metrics;
use crate::postgres::batch::dimension::Dimensions;
use crate::row::{Ad, Device, Dimension as _, Site};

/// Dimension keys that are remembered as stored.
pub(super) const KNOWN_KEYS_MAX: usize = 65_536;

/// Dimension rows that are in Postgres, or on their way there: the table and the key.
pub(super) type Known = Cache<(Table, i64), ()>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Table {
    Place,
    Network,
    Device,
    Ad,
    Site,
}

/// The keys of one batch.
pub(super) struct Keys<'k> {
    pub(super) new: &'k mut Dimensions,
    pub(super) known: &'k mut Known,
    pub(super) metrics: &'k Metrics,
}

impl Keys<'_> {
    /// Has the row stored, unless it is known.
    fn store<T>(
        &mut self,
        table: Table,
        key: i64,
        content: impl FnOnce() -> T,
        rows: impl FnOnce(&mut Dimensions) -> &mut Vec<(i64, T)>,
    ) -> i64 {
        if self.known.get(&(table, key)).is_some() {
            self.metrics.dimension_hits.increment(1);
        } else {
            self.metrics.dimension_misses.increment(1);
            self.known.insert((table, key), ());
            rows(self.new).push((key, content()));
        }
        key
    }

    pub(super) fn site(&mut self, hit: &Hit<'_>) -> i64 {
        let site = Site::of(hit);
        let owned = || site.map(str::to_owned);
        self.store(Table::Site, site.key(), owned, |new| &mut new.sites)
    }

    pub(super) fn ad(&mut self, hit: &Hit<'_>) -> Option<i64> {
        let ad = Ad::of(hit)?;
        let owned = || ad.map(str::to_owned);
        Some(self.store(Table::Ad, ad.key(), owned, |new| &mut new.ads))
    }

    /// The row of `ad` that stands for the creative alone; `None` where the hit names neither campaign nor
    /// creative.
    pub(super) fn creative(&mut self, hit: &Hit<'_>) -> Option<i64> {
        if hit.campaign.is_empty() && hit.creative.is_empty() {
            return None;
        }
        let ad = Ad {
            partner: &*hit.partner,
            campaign: &*hit.campaign,
            creative: &*hit.creative,
            ..Ad::default()
        };
        let owned = || ad.map(str::to_owned);
        Some(self.store(Table::Ad, ad.key(), owned, |new| &mut new.ads))
    }

    pub(super) fn place(&mut self, tables: &Tables, hit: &Hit<'_>) -> Option<i64> {
        let Some(place) = hit.client_ip.and_then(|ip| tables.place(ip)) else {
            self.metrics.place_misses.increment(1);
            return None;
        };
        if !hit.permit.allows(Permit::LOCATE) {
            let coarse = place.value.coarse();
            return Some(self.store(Table::Place, coarse.key(), || coarse, |new| &mut new.places));
        }
        let content = || place.value.clone();
        Some(self.store(Table::Place, place.key, content, |new| &mut new.places))
    }

    /// The network's key, and its ASN.
    pub(super) fn network(&mut self, tables: &Tables, hit: &Hit<'_>) -> (Option<i64>, Option<u32>) {
        let Some(network) = hit.client_ip.and_then(|ip| tables.network(ip)) else {
            self.metrics.network_misses.increment(1);
            return (None, None);
        };
        let content = || network.value.clone();
        let key = self.store(Table::Network, network.key, content, |new| {
            &mut new.networks
        });
        (Some(key), network.value.asn)
    }

    /// The device's key, and whether it is a robot.
    pub(super) fn device(&mut self, tables: &Tables, hit: &Hit<'_>) -> (i64, bool) {
        let device = tables.device(&hit.user_agent, &hit.hints);
        if device.value == Device::default() {
            self.metrics.device_misses.increment(1);
        }
        let content = || device.value.clone();
        let key = self.store(Table::Device, device.key, content, |new| &mut new.devices);
        (key, device.value.is_bot)
    }
}
