//! From a hit to what a sink stores of it.

use std::sync::Arc;

use ipnet::IpNet;
use spool::Position;

use super::sink::{DerivedHit, Encoder, Span, SpoolRecord};
use crate::config::ClientIp;
use crate::enrich::{DIMENSIONS, Device, DeviceBudget, Facts, Tables};
use crate::hit::{self, Flags, Hit, Outcome, Permit};
use crate::metrics::Metrics;
use crate::row::click::ClickMention;
use crate::row::dimension::{Found as _, Keyed};
use crate::row::exposure::AdContact;
use crate::row::{Ad, Count, Derived, Keyer, Link, Row, UNKNOWN_KEY, event_key};

/// What does not change from hit to hit.
pub(super) struct Deriver<'d> {
    /// Makes the keys, where rows have any.
    pub(super) keyer: Option<Arc<Keyer>>,
    pub(super) spans: &'d [Span],
    pub(super) client_ip: ClientIp,
    pub(super) tables: &'d Tables,
    pub(super) metrics: &'d Metrics,
    /// The devices that the batch may still look up.
    pub(super) devices: DeviceBudget,
}

impl Deriver<'_> {
    /// Adds the row or the count of a hit to a batch.
    ///
    /// # Errors
    /// The reason to reject the hit.
    pub(super) fn derive<E: Encoder>(
        &mut self,
        hit: &Hit<'_>,
        record: &SpoolRecord,
        (encoder, batch): (&mut E, &mut E::Batch),
    ) -> Result<(), &'static str> {
        match hit.outcome() {
            Outcome::Nothing => return Ok(()),
            Outcome::Count => {
                let facts = Facts::of_hit(hit);
                encoder.count(batch, hit, self.count(hit, &facts), &facts);
                return Ok(());
            }
            Outcome::Row => {}
        }
        let checked = self.tables.check_documents(hit);
        if checked.unknown > 0 {
            self.metrics.schemas_unknown.increment(checked.unknown);
        }
        let marked = Tables::mark_broken(hit, &checked);
        let hit = marked.as_ref().unwrap_or(hit);
        let facts = self.tables.facts(hit, &mut self.devices);
        self.note_misses(&facts);
        let creative = Ad::creative_of(hit).map(Keyed::new);
        let keyer = self.keyer.as_deref();
        let contact = creative
            .as_ref()
            .zip(keyer)
            .and_then(|(creative, keyer)| AdContact::of(hit, creative.key(keyer)));
        let flags = self.tables.flags(hit, &facts);
        let spool_id = self
            .spans
            .get(record.spool)
            .map_or([0; 16], |span| span.spool_id);
        let derived = Derived {
            hit_id: hit_id(spool_id, record.position),
            keys: &keyer.map_or([None; DIMENSIONS.len()], |keyer| facts.keys(keyer)),
            flags,
            client_ip: cut_ip(hit, self.client_ip),
        };
        let derived = DerivedHit {
            hit,
            row: Row::new(hit, derived),
            facts: &facts,
            creative,
            contact,
            event_key: keyer.and_then(|keyer| event_key(hit, hit.flags.with(flags), keyer)),
            link: Link::of(hit),
            mention: ClickMention::of(hit),
            is_sensitive_page: hit.permit.allows(Permit::PROFILE)
                && self.tables.is_sensitive_page(hit, &facts),
            sighting: None,
        };
        encoder.add(batch, derived, record)
    }

    pub(super) fn count(&self, hit: &Hit<'_>, facts: &Facts<'_>) -> Count {
        let keyer = self.keyer.as_deref();
        let site_key = facts
            .site
            .as_ref()
            .zip(keyer)
            .map(|(site, keyer)| site.key(keyer));
        let ad_key = facts
            .ad
            .as_ref()
            .zip(keyer)
            .map(|(ad, keyer)| ad.key(keyer));
        let [site_key, ad_key] = [site_key, ad_key].map(|key| key.unwrap_or(UNKNOWN_KEY));
        Count::with_keys(hit, site_key, ad_key)
    }

    fn note_misses(&self, facts: &Facts<'_>) {
        if facts.place.is_none() {
            self.metrics.place_misses.increment(1);
        }
        if facts.network.is_none() {
            self.metrics.network_misses.increment(1);
        }
        if self.tables.lacks_category(facts.page_domain.as_ref()) {
            self.metrics.category_misses.increment(1);
        }
        let device = facts.device.as_ref();
        if device.is_none_or(|device| device.value == Device::default()) {
            self.metrics.device_misses.increment(1);
        }
    }
}

/// Returns the ID of a hit, which is its place in its spool: the first half of the spool's ID, then
/// chunk and offset. Loading a record again would give the same ID.
fn hit_id(spool_id: [u8; 16], position: Position) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, ..] = spool_id;
    let place = (position.chunk << 32 | position.offset & 0xffff_ffff).to_be_bytes();
    let [i, j, k, l, m, n, o, p] = place;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Returns what may be stored of a hit's address.
fn cut_ip(hit: &Hit<'_>, client_ip: ClientIp) -> Option<IpNet> {
    let ip = hit.client_ip.filter(|_| !hit.flags.has(Flags::ANONYMOUS));
    ip.and_then(|ip| shorten(ip.into(), client_ip))
}

/// Returns what may be stored of an address, or of a part of one: nothing, its /24 or /48, or all
/// that is there.
pub(super) fn shorten(network: IpNet, client_ip: ClientIp) -> Option<IpNet> {
    let most = match (client_ip, network) {
        (ClientIp::None, _) => return None,
        (ClientIp::Full, _) => network.max_prefix_len(),
        (ClientIp::Truncated, IpNet::V4(_)) => 24,
        (ClientIp::Truncated, IpNet::V6(_)) => 48,
    };
    let bits = network.prefix_len().min(most);
    let network = IpNet::new(network.addr(), bits).ok()?;
    Some(network.trunc())
}

/// Returns what may be stored of a payload: of its address as much as the configuration says, no
/// attributes, which end by rules of their own, and no hash of a user by an older key.
pub(super) fn keep(payload: &[u8], client_ip: ClientIp) -> Vec<u8> {
    match hit::without_unkept(payload) {
        Some(rest) => keep_of_address(&rest, client_ip),
        None => keep_of_address(payload, client_ip),
    }
}

fn keep_of_address(payload: &[u8], client_ip: ClientIp) -> Vec<u8> {
    match (client_ip, Hit::decode(payload)) {
        (_, Ok(hit)) if hit.flags.has(Flags::ANONYMOUS) => hit::without_client_ip(payload),
        (ClientIp::Full, _) => payload.to_vec(),
        (ClientIp::Truncated, Ok(mut hit)) => {
            hit.client_ip = cut_ip(&hit, client_ip).map(|network| network.network());
            let mut kept = Vec::with_capacity(payload.len());
            hit.encode(&mut kept);
            kept
        }
        _ => hit::without_client_ip(payload),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::clock::UnixMicros;
    use crate::hit::Kind;

    #[test]
    fn an_address_is_stored_as_the_configuration_says_in_rejected_hits_too() {
        for (ip, truncated) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("255.255.255.255", "255.255.255.0/24"),
            ("2001:db8:abcd:12:3456:789a:bcde:f012", "2001:db8:abcd::/48"),
            ("::1", "::/48"),
        ] {
            let ip: IpAddr = ip.parse().expect("an address");
            let truncated: IpNet = truncated.parse().expect("a network");
            let mut hit = Hit::new(UnixMicros(0), Kind::PageView, "shop");
            hit.client_ip = Some(ip);
            let mut payload = Vec::new();
            hit.encode(&mut payload);
            for (config, shortened, kept) in [
                (ClientIp::None, None, None),
                (
                    ClientIp::Truncated,
                    Some(truncated),
                    Some(truncated.network()),
                ),
                (ClientIp::Full, Some(IpNet::from(ip)), Some(ip)),
            ] {
                assert_eq!(shorten(ip.into(), config), shortened);
                let set_aside = keep(&payload, config);
                assert_eq!(Hit::decode(&set_aside).map(|hit| hit.client_ip), Ok(kept));
                let mut bringing = hit.clone();
                bringing.attributes = r#"{"income_band":"high"}"#.into();
                let mut payload = Vec::new();
                bringing.encode(&mut payload);
                assert_eq!(keep(&payload, config), set_aside);
                payload.extend_from_slice(&[0x1a, 5]);
                let broken = keep(&payload, config);
                let is_left = |text: &[u8]| broken.windows(text.len()).any(|part| part == text);
                assert!(is_left(b"shop") && !is_left(b"income_band"));
                let mut anonymous = hit.clone();
                anonymous.flags.set(Flags::ANONYMOUS);
                assert_eq!(cut_ip(&anonymous, config), None);
                let mut payload = Vec::new();
                anonymous.encode(&mut payload);
                let set_aside = keep(&payload, config);
                assert_eq!(Hit::decode(&set_aside).map(|hit| hit.client_ip), Ok(None));
            }
        }
    }
}
