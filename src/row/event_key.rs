//! The keys under which senders' event IDs are remembered.
//!
//! Two hits are one event if they have the same ID within the same scope. The scope is the site,
//! the kind, the partner and the event's name, because senders number things and not hits: the
//! basket and the purchase of `order-4711` are two events. And it is the sender's class, so that
//! nobody spends the IDs of another class: a scanner that fetches a link before the person does
//! leaves the person's click what it is.

use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::hit::{Flags, Hit, Kind};

/// The bits of an event key that hold its hash, if its time stands before them.
const HASH_BITS: u32 = 80;
/// Digits of a time in milliseconds, until the year 2286.
const MILLIS_DIGITS: usize = 13;

/// Who sends a hit, as far as event IDs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SenderClass {
    /// A person's browser or app, or one that gives itself out as that.
    Person = 1,
    /// A machine of a stranger: a crawler, a scanner of links, a browser that fetches ahead.
    Machine = 2,
    /// A server that proves who it is.
    Server = 3,
    /// A service that fetches the pictures of mail, whether or not the reader looks at it.
    MailProxy = 4,
}

impl SenderClass {
    /// Returns the class of a hit of that kind with these flags, those that the loader finds among
    /// them.
    ///
    /// A server's own flags say that nobody saw what it reports. The others are about the client
    /// that it names.
    #[must_use]
    pub fn of(kind: Kind, flags: Flags) -> SenderClass {
        if flags.has_any(Flags::UNCOUNTED) {
            SenderClass::Machine
        } else if kind == Kind::Callback {
            SenderClass::Server
        } else if flags.has(Flags::MAIL_PROXY) {
            SenderClass::MailProxy
        } else if flags.has_any(Flags::MACHINE) {
            SenderClass::Machine
        } else {
            SenderClass::Person
        }
    }
}

/// What an event ID is unique within.
struct Scope<'h> {
    site: &'h str,
    partner: &'h str,
    event_name: &'h str,
    kind: Kind,
    class: SenderClass,
}

/// Returns the key of a hit's event ID; `None` where the sender gave none. `flags` are those of the
/// hit and those that the loader found.
///
/// A URL for one use is signed with its ID, but not always with what else makes a scope. Its key
/// leaves that out, so that adding another site, partner or name does not make the URL a new one.
#[must_use]
pub fn event_key(hit: &Hit<'_>, flags: Flags) -> Option<[u8; 16]> {
    if hit.event_id.is_empty() {
        return None;
    }
    let is_one_time = flags.has(Flags::ONE_TIME);
    let unless_one_time = |text| if is_one_time { "" } else { text };
    let scope = Scope {
        site: unless_one_time(&hit.site),
        partner: unless_one_time(&hit.partner),
        event_name: unless_one_time(&hit.event_name),
        kind: hit.kind,
        class: SenderClass::of(hit.kind, flags),
    };
    Some(key(&scope, &hit.event_id))
}

/// Returns the key that release 0.1.0 gave a hit's event ID; `None` where the sender gave none. It
/// knew neither names nor classes.
#[must_use]
pub fn former_event_key(hit: &Hit<'_>) -> Option<[u8; 16]> {
    if hit.event_id.is_empty() {
        return None;
    }
    let (site, partner) = match hit.flags.has(Flags::ONE_TIME) {
        true => ("", ""),
        false => (&*hit.site, &*hit.partner),
    };
    let hash = hash([site, partner, &hit.event_id], &[hit.kind.number()]);
    Some(with_time(hash, &hit.event_id))
}

fn key(scope: &Scope<'_>, event_id: &str) -> [u8; 16] {
    let texts = [scope.site, scope.partner, scope.event_name, event_id];
    let hash = hash(texts, &[scope.kind.number(), scope.class as u8]);
    with_time(hash, event_id)
}

/// Returns the XXH3 128-bit hash of texts, each with its length, and of numbers.
fn hash<const TEXTS: usize>(texts: [&str; TEXTS], numbers: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    for text in texts {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(numbers);
    hash.digest128()
}

/// Puts the time that an ID begins with, if it does, before its hash: keys of one moment lie beside
/// each other in the index, where others each take a page of their own.
fn with_time(hash: u128, event_id: &str) -> [u8; 16] {
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

    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::UnixMicros;

    const NONE: Flags = Flags::from_bits(0);

    fn hit(kind: Kind, event_id: &'static str) -> Hit<'static> {
        let mut hit = Hit::new(UnixMicros(1), kind, "telenor.se");
        hit.event_id = event_id.into();
        hit
    }

    #[test]
    fn keys_of_event_ids_that_begin_with_a_time_are_in_its_order() {
        let key = |id: &'static str| event_key(&hit(Kind::Event, id), NONE).unwrap();
        for (early, late, other, millis) in [
            (
                "019ac0de-0000-7fff-bfff-ffffffffffff",
                "019ac0de-0001-7000-8000-000000000000",
                "019ac0de-0000-7fff-bfff-fffffffffff0",
                0x019a_c0de_0000_u64,
            ),
            (
                "1764119000000-4294967295,1",
                "1764119000001-1,1",
                "1764119000000-4294967295,2",
                1_764_119_000_000,
            ),
        ] {
            assert!(key(early) < key(late));
            assert_eq!(
                key(early).first_chunk::<6>().unwrap(),
                &millis.to_be_bytes()[2..]
            );
            // The rest is a hash of the whole ID, and of its scope.
            assert_ne!(key(early), key(other));
            let mut elsewhere = hit(Kind::Event, early);
            elsewhere.site = "other.se".into();
            assert_ne!(key(early), event_key(&elsewhere, NONE).unwrap());
        }
        // Neither begins with a time.
        assert_ne!(
            key("019ac0de-0000-4fff-bfff-ffffffffffff")[..6],
            [0x01, 0x9a, 0xc0, 0xde, 0, 0]
        );
        assert_ne!(key("+764119000000-1")[..2], [0, 0]);
    }

    #[test]
    fn a_one_time_url_is_the_same_whatever_is_added_to_it() {
        let key = |site: &'static str, partner: &'static str, name: &'static str, flags| {
            let mut hit = hit(Kind::Click, "order-1");
            (hit.site, hit.partner) = (site.into(), partner.into());
            hit.event_name = name.into();
            event_key(&hit, flags).unwrap()
        };
        let one_time = key("telenor.se", "", "", Flags::ONE_TIME);
        assert_eq!(one_time, key("other.se", "adform", "x", Flags::ONE_TIME));
        assert_ne!(one_time, key("telenor.se", "", "", NONE));
        // It is one for each class.
        let scanned = Flags::ONE_TIME.with(Flags::DATA_CENTRE);
        assert_ne!(one_time, key("telenor.se", "", "", scanned));
    }

    #[test]
    fn the_class_of_a_sender_follows_from_kind_and_flags() {
        use SenderClass::{Machine, MailProxy, Person, Server};
        let harmless = Flags::CLEANED
            .with(Flags::OVER_LIMIT)
            .with(Flags::NEW_VISITOR)
            .with(Flags::FOREIGN_ORIGIN)
            .with(Flags::ONE_TIME);
        for (flags, browsers, servers) in [
            (NONE, Person, Server),
            (harmless, Person, Server),
            (Flags::BOT, Machine, Server),
            (Flags::DATA_CENTRE, Machine, Server),
            (Flags::BAD_AGENT.with(harmless), Machine, Server),
            (Flags::MAIL_PROXY, MailProxy, Server),
            (
                Flags::MAIL_PROXY.with(Flags::DATA_CENTRE),
                MailProxy,
                Server,
            ),
            (Flags::MAIL_PROXY.with(Flags::PREVIEW), Machine, Machine),
            (Flags::PREFETCH, Machine, Machine),
            (Flags::PREVIEW, Machine, Machine),
        ] {
            for kind in Kind::ALL {
                let expected = match kind {
                    Kind::Callback => servers,
                    _ => browsers,
                };
                assert_eq!(SenderClass::of(kind, flags), expected, "{kind:?} {flags}");
            }
        }
    }

    #[test]
    fn a_former_key_is_the_one_that_the_first_release_made() {
        let mut order = hit(Kind::Event, "");
        order.site = "open".into();
        assert_eq!(former_event_key(&order), None);
        order.event_id = "order-loaded".into();
        order.event_name = "order".into();
        let former = former_event_key(&order).unwrap();
        let checks = include_str!("../../tests/fixture/0.1.0/expected.json");
        let former_text = Uuid::from_bytes(former).to_string();
        assert!(checks.contains(&former_text), "{former_text}");
        assert_ne!(former, event_key(&order, NONE).unwrap());
        // It knew no names.
        order.event_name = "refund".into();
        assert_eq!(former_event_key(&order), Some(former));
    }

    proptest! {
        #[test]
        fn two_hits_have_one_key_if_and_only_if_scope_class_and_id_are_equal(
            hits in proptest::collection::vec(
                (0..2_usize, 0..2_usize, 0..3_usize, 0..6_usize, 0..4_usize, 0..6_usize),
                1..60,
            )
        ) {
            const TEXTS: [&str; 4] = ["", "a", "ab", "b"];
            const IDS: [&str; 4] = ["b", "ab", "1764119000000-1", "1764119000000-11"];
            const FLAGS: [Flags; 6] = [
                NONE,
                Flags::BOT,
                Flags::DATA_CENTRE,
                Flags::PREVIEW,
                Flags::BAD_AGENT,
                Flags::CLEANED,
            ];
            let mut keys = HashMap::new();
            let mut events = HashMap::new();
            for (site, partner, name, kind, id, flags) in hits {
                let (kind, flags) = (Kind::ALL[kind], FLAGS[flags]);
                let mut hit = hit(kind, IDS[id]);
                (hit.site, hit.partner) = (TEXTS[site].into(), TEXTS[partner].into());
                hit.event_name = TEXTS[name].into();
                let class = SenderClass::of(kind, flags);
                let event = (site, partner, name, kind, id, class);
                let key = event_key(&hit, flags).unwrap();
                prop_assert_eq!(*keys.entry(key).or_insert(event), event);
                prop_assert_eq!(*events.entry(event).or_insert(key), key);
            }
        }
    }
}
