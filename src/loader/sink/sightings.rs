//! At which addresses the hits of a batch saw devices.
//!
//! This is the one place where the whole address of a hit becomes the number that is kept of it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::UnixMicros;
use crate::enrich::{DeviceClass, Facts};
use crate::hit::{Flags, Hit, Kind, Permit};
use crate::identity::household::EPOCH_DAYS;
use crate::identity::{Ids, Node, NodeKind, TieRules};
use crate::keys::{HouseholdKey, epoch_of};
use crate::postgres::Load;
use crate::postgres::household::part::{Sighting, SightingPart};

/// What a hit needs to be a sighting.
const NEEDED: Permit = Permit::STORE
    .with(Permit::MEASURE)
    .with(Permit::LINK)
    .with(Permit::LOCATE);

/// Addresses whose numbers a session remembers, and time zones.
const NUMBERS_MAX: usize = 65_536;
const ZONES_MAX: usize = 1_024;

const HOUR_MICROS: i64 = 3_600_000_000;

/// Which hits are sightings.
#[derive(Clone, Debug, Default)]
pub(crate) struct SightingRules {
    /// The sites with `household = true`.
    pub sites: HashSet<String>,
    /// `household.mobile_asns`.
    pub mobile_asns: HashSet<u32>,
    /// `household.mobile_networks`.
    pub mobile_networks: Vec<IpNet>,
    /// `household.ipv6_56_asns`.
    pub ipv6_56_asns: HashSet<u32>,
}

/// What the loaders need to make sightings, exchanged while they run.
#[derive(Default)]
pub(crate) struct Sightings {
    /// Replaced on a reload.
    pub rules: ArcSwap<SightingRules>,
    /// The key of the epoch; without one there are no sightings.
    pub key: ArcSwapOption<HouseholdKey>,
}

/// Finds the sightings of hits, for one session.
pub(super) struct SightingFinder {
    shared: Arc<Sightings>,
    rules: Arc<SightingRules>,
    key: Option<Arc<HouseholdKey>>,
    /// The numbers of addresses, of the epoch of the key.
    numbers: HashMap<(IpAddr, bool), i64>,
    zones: HashMap<String, Zone>,
}

/// A time zone, with how far it is from UTC in the hour that it was asked for last.
struct Zone {
    zone: Option<TimeZone>,
    hour: i64,
    offset_micros: i64,
}

impl SightingFinder {
    pub(super) fn new(shared: Arc<Sightings>) -> SightingFinder {
        SightingFinder {
            rules: shared.rules.load_full(),
            key: shared.key.load_full(),
            shared,
            numbers: HashMap::new(),
            zones: HashMap::new(),
        }
    }

    /// Begins a batch: all of its sightings are of one epoch.
    pub(super) fn begin(&mut self) {
        self.rules = self.shared.rules.load_full();
        let key = self.shared.key.load_full();
        let epoch = |key: &Option<Arc<HouseholdKey>>| key.as_ref().map(|key| key.epoch());
        if epoch(&key) != epoch(&self.key) || self.numbers.len() >= NUMBERS_MAX {
            self.numbers = HashMap::new();
        }
        self.key = key;
    }

    /// Adds the sighting that a hit makes to a batch of which the hit's row is the last one.
    pub(super) fn find(
        &mut self,
        hit: &Hit<'_>,
        flags: Flags,
        (facts, ties): (&Facts<'_>, &TieRules),
        load: &mut Load,
    ) {
        if let Some((sighting, epoch)) = self.find_one(hit, flags, (facts, ties)) {
            load.sighting(sighting, (epoch, hit.permit));
        }
    }

    /// Returns the sighting that a hit makes, with its epoch.
    pub(super) fn find_one(
        &mut self,
        hit: &Hit<'_>,
        flags: Flags,
        known: (&Facts<'_>, &TieRules),
    ) -> Option<(Sighting, i32)> {
        let is_noted = self.rules.sites.contains(&*hit.site);
        is_noted.then(|| self.sighting(hit, flags, known)).flatten()
    }

    fn sighting(
        &mut self,
        hit: &Hit<'_>,
        flags: Flags,
        (facts, ties): (&Facts<'_>, &TieRules),
    ) -> Option<(Sighting, i32)> {
        let is_one = hit.permit.allows(NEEDED)
            && !flags.with(hit.flags).has_any(SightingPart::WITHOUT)
            && !matches!(hit.kind, Kind::Callback);
        let ip = hit.client_ip.filter(|_| is_one)?.to_canonical();
        let key = self.key.clone()?;
        let utc_day = i32::try_from(hit.received_at.day()).ok()?;
        if epoch_of(utc_day) != key.epoch() {
            return None;
        }
        let asn = facts.network.as_ref().and_then(|found| found.value.asn);
        let is_in = |asns: &HashSet<u32>| asn.is_some_and(|asn| asns.contains(&asn));
        let rules = &self.rules;
        let is_mobile =
            is_in(&rules.mobile_asns) || rules.mobile_networks.iter().any(|of| of.contains(&ip));
        if is_mobile {
            return None;
        }
        let has_56 = ip.is_ipv6() && is_in(&rules.ipv6_56_asns);
        let node = device_of(hit, ties)?;
        let address = *self
            .numbers
            .entry((ip, has_56))
            .or_insert_with(|| key.number(ip, has_56));
        let zone = facts
            .place
            .as_ref()
            .map_or("", |place| &place.value.time_zone);
        let (day, hour) = self.local_time(zone, hit.received_at);
        // What the local day has of the day before or after the epoch counts as its first or last.
        let first = key.epoch().saturating_mul(i32::from(EPOCH_DAYS));
        let last = first.saturating_add(i32::from(EPOCH_DAYS) - 1);
        let device = facts.device.as_ref();
        let sighting = Sighting {
            address,
            node,
            day: day.clamp(first, last),
            hour,
            is_phone: device.is_some_and(|device| device.value.class == DeviceClass::Phone),
        };
        Some((sighting, key.epoch()))
    }

    /// Returns the day and the hour in a time zone; in UTC where that is unknown.
    fn local_time(&mut self, name: &str, at: UnixMicros) -> (i32, u8) {
        if !self.zones.contains_key(name) && self.zones.len() < ZONES_MAX {
            let zone = Zone {
                zone: TimeZone::get(name).ok(),
                hour: i64::MIN,
                offset_micros: 0,
            };
            self.zones.insert(name.to_owned(), zone);
        }
        let offset = self.zones.get_mut(name).map_or(0, |zone| zone.offset(at));
        let local = at.0.saturating_add(offset);
        let hour = local.div_euclid(HOUR_MICROS);
        let day = i32::try_from(hour.div_euclid(24)).unwrap_or(0);
        (day, u8::try_from(hour.rem_euclid(24)).unwrap_or(0))
    }
}

impl Zone {
    fn offset(&mut self, at: UnixMicros) -> i64 {
        let hour = at.0.div_euclid(HOUR_MICROS);
        if hour != self.hour {
            self.hour = hour;
            let time = Timestamp::from_microsecond(at.0).ok();
            let zone = self.zone.as_ref().zip(time);
            let seconds = zone.map_or(0, |(zone, time)| zone.to_offset(time).seconds());
            self.offset_micros = i64::from(seconds) * 1_000_000;
        }
        self.offset_micros
    }
}

/// Returns the ID of a hit's device: its visitor's or, in an app, that of the app.
fn device_of(hit: &Hit<'_>, rules: &TieRules) -> Option<Node> {
    if let Some(visitor) = hit.visitor {
        return Some(Node(visitor.0));
    }
    let ids = Ids::of(hit, rules);
    let found = ids
        .each()
        .find(|(kind, _)| matches!(kind, NodeKind::Maid | NodeKind::DeviceId));
    found.map(|(_, node)| node)
}
