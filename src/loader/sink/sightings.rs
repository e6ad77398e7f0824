//! At which addresses the hits of a batch saw devices.
//!
//! This is the one place where the whole address of a hit becomes the number that is kept of it.
//!
//! A visit is many hits of one device at one address in one hour, and all but the first tell
//! nothing new. So the session's [`TieMemory`](crate::identity::TieMemory) remembers what was
//! stored, and most hits cost a look-up.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
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
use crate::postgres::household::part::{Sighting, SightingPart};

/// What a hit needs to be a sighting.
const NEEDED: Permit = Permit::STORE
    .with(Permit::MEASURE)
    .with(Permit::LINK)
    .with(Permit::LOCATE);

/// Time zones that a session remembers.
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
    zones: HashMap<String, Zone>,
}

/// A device at an address in an hour: a [`Sighting`] whose address has no number yet.
#[derive(Hash)]
pub(super) struct SeenAt {
    ip: IpAddr,
    has_56: bool,
    pub(super) node: Node,
    day: i32,
    hour: u8,
    is_phone: bool,
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
            zones: HashMap::new(),
        }
    }

    /// Begins a batch: all of its sightings are of one epoch.
    pub(super) fn begin(&mut self) {
        self.rules = self.shared.rules.load_full();
        self.key = self.shared.key.load_full();
    }

    /// Returns the sighting that a hit makes, with its epoch.
    pub(super) fn find_one(
        &mut self,
        hit: &Hit<'_>,
        flags: Flags,
        known: (&Facts<'_>, &TieRules),
    ) -> Option<(Sighting, i32)> {
        let place = self.place(hit, flags, known)?;
        self.sighting(&place)
    }

    /// Returns where a hit saw a device, if it is one that makes a sighting.
    pub(super) fn place(
        &mut self,
        hit: &Hit<'_>,
        flags: Flags,
        (facts, ties): (&Facts<'_>, &TieRules),
    ) -> Option<SeenAt> {
        let rules = &self.rules;
        let is_one = rules.sites.contains(&*hit.site)
            && hit.permit.allows(NEEDED)
            && !flags.with(hit.flags).has_any(SightingPart::WITHOUT)
            && !matches!(hit.kind, Kind::Callback);
        let ip = hit.client_ip.filter(|_| is_one)?.to_canonical();
        let epoch = self.key.as_ref()?.epoch();
        let utc_day = i32::try_from(hit.received_at.day()).ok()?;
        if epoch_of(utc_day) != epoch {
            return None;
        }
        let asn = facts.network.as_ref().and_then(|found| found.value.asn);
        let is_in = |asns: &HashSet<u32>| asn.is_some_and(|asn| asns.contains(&asn));
        let is_mobile =
            is_in(&rules.mobile_asns) || rules.mobile_networks.iter().any(|of| of.contains(&ip));
        if is_mobile {
            return None;
        }
        let has_56 = ip.is_ipv6() && is_in(&rules.ipv6_56_asns);
        let node = device_of(hit, ties)?;
        let zone = facts
            .place
            .as_ref()
            .map_or("", |place| &place.value.time_zone);
        let (day, hour) = self.local_time(zone, hit.received_at);
        // What the local day has of the day before or after the epoch counts as its first or last.
        let first = epoch.saturating_mul(i32::from(EPOCH_DAYS));
        let last = first.saturating_add(i32::from(EPOCH_DAYS) - 1);
        let device = facts.device.as_ref();
        Some(SeenAt {
            ip,
            has_56,
            node,
            day: day.clamp(first, last),
            hour,
            is_phone: device.is_some_and(|device| device.value.class == DeviceClass::Phone),
        })
    }

    /// Returns the sighting of a device at a place, with its epoch.
    pub(super) fn sighting(&self, place: &SeenAt) -> Option<(Sighting, i32)> {
        let key = self.key.as_ref()?;
        let sighting = Sighting {
            address: key.number(place.ip, place.has_56),
            node: place.node,
            day: place.day,
            hour: place.hour,
            is_phone: place.is_phone,
        };
        Some((sighting, key.epoch()))
    }

    /// Returns the day and the hour in a time zone; in UTC where that is unknown.
    fn local_time(&mut self, name: &str, at: UnixMicros) -> (i32, u8) {
        let offset = if let Some(zone) = self.zones.get_mut(name) {
            zone.offset(at)
        } else if self.zones.len() < ZONES_MAX {
            let mut zone = Zone::new(name);
            let offset = zone.offset(at);
            self.zones.insert(name.to_owned(), zone);
            offset
        } else {
            0
        };
        let local = at.0.saturating_add(offset);
        let hour = local.div_euclid(HOUR_MICROS);
        let day = i32::try_from(hour.div_euclid(24)).unwrap_or(0);
        (day, u8::try_from(hour.rem_euclid(24)).unwrap_or(0))
    }
}

impl Zone {
    fn new(name: &str) -> Zone {
        Zone {
            zone: TimeZone::get(name).ok(),
            hour: i64::MIN,
            offset_micros: 0,
        }
    }

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
