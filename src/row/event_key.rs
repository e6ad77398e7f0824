//! The keys under which senders' event IDs are remembered.

use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::hit::{Flags, Hit, Kind};

/// The bits of an event key that hold its hash, if its time stands before them.
const HASH_BITS: u32 = 80;
/// Digits of a time in milliseconds, until the year 2286.
const MILLIS_DIGITS: usize = 13;

/// Returns the key of a hit's event ID; `None` where the sender gave none.
///
/// A URL for one use is signed with its ID, but not always with site and partner. Its key leaves
/// both out, so that adding another site or partner does not make the URL a new one.
#[must_use]
pub fn event_key(hit: &Hit<'_>) -> Option<[u8; 16]> {
    if hit.event_id.is_empty() {
        return None;
    }
    let (site, partner) = match hit.flags.has(Flags::ONE_TIME) {
        true => ("", ""),
        false => (&*hit.site, &*hit.partner),
    };
    Some(key(site, hit.kind, partner, &hit.event_id))
}

/// Returns the XXH3 128-bit hash of site, kind, partner and ID. If the ID begins with a time, so
/// does the key: keys of one moment lie beside each other in the index, where others each take a
/// page of their own.
fn key(site: &str, kind: Kind, partner: &str, event_id: &str) -> [u8; 16] {
    let mut hash = Xxh3::new();
    for text in [site, partner, event_id] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(&[kind.number()]);
    let hash = hash.digest128();
    let key = match time_of(event_id) {
        Some(millis) => u128::from(millis) << HASH_BITS | hash & ((1 << HASH_BITS) - 1),
        None => hash,
    };
    key.to_be_bytes()
}

/// Returns the milliseconds since 1970 that an event ID begins with: a UUID of version 7 (RFC 9562,
/// section 5.7), or thirteen digits as `Date.now()` gives them.
fn time_of(event_id: &str) -> Option<u64> {
    if let Ok(uuid) = Uuid::try_parse(event_id) {
        let [a, b, c, d, e, f, ..] = *uuid.as_bytes();
        return (uuid.get_version_num() == 7).then(|| u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
    }
    let digits = event_id.get(..MILLIS_DIGITS)?;
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use super::*;
    use crate::clock::UnixMicros;

    #[test]
    fn keys_of_event_ids_that_begin_with_a_time_are_in_its_order() {
        let key = |id: &str| key("telenor.se", Kind::Event, "", id);
        for (early, late, millis) in [
            (
                "019ac0de-0000-7fff-bfff-ffffffffffff",
                "019ac0de-0001-7000-8000-000000000000",
                0x019a_c0de_0000_u64,
            ),
            (
                "1764119000000-4294967295,1",
                "1764119000001-1,1",
                1_764_119_000_000,
            ),
        ] {
            assert!(key(early) < key(late));
            assert_eq!(
                key(early).first_chunk::<6>().unwrap(),
                &millis.to_be_bytes()[2..]
            );
            // The rest is a hash of the whole ID, and of the site, kind and partner.
            let other = format!("{}0", early.strip_suffix(['1', 'f']).unwrap());
            assert_ne!(key(early), key(&other));
            assert_ne!(key(early), super::key("other.se", Kind::Event, "", early));
        }
        // Neither begins with a time.
        assert_ne!(
            key("019ac0de-0000-4fff-bfff-ffffffffffff")[..6],
            [0x01, 0x9a, 0xc0, 0xde, 0, 0]
        );
        assert_ne!(key("+764119000000-1")[..2], [0, 0]);
    }

    #[test]
    fn a_key_depends_on_kind_site_and_partner_unless_the_url_is_for_one_use() {
        let key = |kind, site: &'static str, partner: &'static str, flags| {
            let mut hit = Hit::new(UnixMicros(1), kind, site);
            (hit.partner, hit.event_id, hit.flags) = (partner.into(), "order-1".into(), flags);
            event_key(&hit).unwrap()
        };
        let none = Flags::default();
        let click = key(Kind::Click, "telenor.se", "", none);
        assert_ne!(click, key(Kind::Event, "telenor.se", "", none));
        assert_ne!(click, key(Kind::Click, "other.se", "", none));
        assert_ne!(click, key(Kind::Click, "telenor.se", "adform", none));
        let one_time = key(Kind::Click, "telenor.se", "", Flags::ONE_TIME);
        assert_eq!(
            one_time,
            key(Kind::Click, "other.se", "adform", Flags::ONE_TIME)
        );
        let hit = Hit::new(UnixMicros(1), Kind::Event, "telenor.se");
        assert_eq!(event_key(&hit), None);
    }
}
