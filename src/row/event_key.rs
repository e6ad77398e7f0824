//! The keys under which senders' event IDs are remembered.
//!
//! Two hits are one event if they have the same ID within the same scope. The scope is the site,
//! the kind, the partner and the event's name, because senders number things and not hits: the
//! basket and the purchase of `order-4711` are two events. And it is the sender's class, so that
//! nobody spends the IDs of another class: a scanner that fetches a link before the person does
//! leaves the person's click what it is.
//!
//! The key is a keyed hash ([`Keyer`]), and with it is kept what the event says ([`Said`]). A hit
//! that says the same is the event sent again, and is left out. One that says something else is
//! stored and flagged ([`Flags::ID_CONFLICT`]), whoever of the two was right, and goes by a key of
//! its own ([`EventKey::separate`]), so that it is stored once as well. A hit that no figure
//! counts, or that is known to be invalid, uses up no ID.
//!
//! A tracker sends for a month what it could not deliver. Where it says when it made an event, and
//! so says it each time, the key begins with that time. So keys of one moment lie beside each
//! other, and can be remembered for longer ([`EventKey::is_timed`]).

use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::{Keyer, Said};
use crate::clock::UnixMicros;
use crate::hit::{Flags, Hit, Kind};

/// The bits of an event key that hold its hash, if its time stands before them.
const HASH_BITS: u32 = 80;
/// Digits of a time in milliseconds, until the year 2286.
const MILLIS_DIGITS: usize = 13;

/// Who sends a hit, as far as event IDs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum SenderClass {
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
    pub(crate) fn of(kind: Kind, flags: Flags) -> SenderClass {
        if flags.has_any(Flags::UNCOUNTED) {
            SenderClass::Machine
        } else if kind == Kind::Callback || flags.has(Flags::SYSTEM) {
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

impl<'h> Scope<'h> {
    /// Returns the scope of a hit's event ID.
    ///
    /// A URL for one use is signed with its ID, but not always with what else makes a scope. Its
    /// key leaves that out, so that adding another site, partner or name does not make the URL a
    /// new one.
    fn of(hit: &'h Hit<'_>, flags: Flags) -> Scope<'h> {
        let is_one_time = flags.has(Flags::ONE_TIME);
        let unless_one_time = |text| if is_one_time { "" } else { text };
        Scope {
            site: unless_one_time(&hit.site),
            partner: unless_one_time(&hit.partner),
            event_name: unless_one_time(&hit.event_name),
            kind: hit.kind,
            class: SenderClass::of(hit.kind, flags),
        }
    }

    fn texts<'t>(&self, event_id: &'t str) -> [&'t str; 4]
    where
        'h: 't,
    {
        [self.site, self.partner, self.event_name, event_id]
    }

    fn numbers(&self) -> [u8; 2] {
        [self.kind.number(), self.class as u8]
    }
}

/// The key of an event ID, and what the event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKey {
    /// The key.
    pub key: [u8; 16],
    /// What the event says.
    pub said: Said,
    /// Whether its sender says when it made the event, or is a system of the operator's own, so
    /// that it is remembered for as long as a tracker may keep an event.
    pub is_timed: bool,
}

/// Why a hit goes by another key than that of its event ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apart {
    /// It may not use up the ID ([`Flags::WITHOUT_ID`]).
    WithoutId,
    /// The ID belongs to an event that says something else.
    OtherContent,
    /// So does the key of what it says: that was said of somebody else.
    OtherSubject,
}

impl EventKey {
    /// Returns the key by which such a hit is known if it is sent again.
    #[must_use]
    pub(crate) fn separate(self, why: Apart, keyer: &Keyer) -> EventKey {
        let said = match why {
            Apart::WithoutId => [0; 12],
            Apart::OtherContent => self.said.bytes(false),
            Apart::OtherSubject => self.said.bytes(true),
        };
        let mut bytes = [0; 16 + 12 + 1];
        let (key, rest) = bytes.split_at_mut(16);
        key.copy_from_slice(&self.key);
        if let [said_part @ .., number] = rest {
            said_part.copy_from_slice(&said);
            *number = why as u8;
        }
        let key = keyer.event([], &bytes).to_be_bytes();
        EventKey { key, ..self }
    }
}

/// Returns the key of a hit's event ID; `None` where the sender gave none. `flags` are those of the
/// hit and those that the loader found.
#[must_use]
pub fn event_key(hit: &Hit<'_>, flags: Flags, keyer: &Keyer) -> Option<EventKey> {
    if hit.event_id.is_empty() {
        return None;
    }
    let scope = Scope::of(hit, flags);
    let hash = keyer.event(scope.texts(&hit.event_id), &scope.numbers());
    Some(EventKey {
        key: match hit.made_at.and_then(millis_of) {
            Some(millis) => begin_with(millis, hash),
            None => with_time(hash, &hit.event_id),
        },
        said: Said::by(hit, keyer),
        is_timed: hit.made_at.is_some() || hit.flags.has(Flags::SYSTEM),
    })
}

/// How many forms of keys there were before.
pub(crate) const FORMER_FORMS: usize = 2;

/// Returns the keys that a hit's event ID had before keys needed a secret; `None` where the sender
/// gave none. `flags` are those of the hit and those that the loader found. The first form is that
/// of release 0.1.0, which knew neither names nor classes.
#[must_use]
pub(crate) fn former_event_keys(hit: &Hit<'_>, flags: Flags) -> Option<[[u8; 16]; FORMER_FORMS]> {
    if hit.event_id.is_empty() {
        return None;
    }
    let scope = Scope::of(hit, flags);
    let first = hash(
        [scope.site, scope.partner, &hit.event_id],
        &[scope.kind.number()],
    );
    let second = hash(scope.texts(&hit.event_id), &scope.numbers());
    Some([first, second].map(|hash| with_time(hash, &hit.event_id)))
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
    match time_of(event_id) {
        Some(millis) => begin_with(millis, hash),
        None => hash.to_be_bytes(),
    }
}

fn begin_with(millis: u64, hash: u128) -> [u8; 16] {
    let key = u128::from(millis) << HASH_BITS | hash & ((1 << HASH_BITS) - 1);
    key.to_be_bytes()
}

/// Returns a time in milliseconds; `None` if it has no room in a key.
fn millis_of(at: UnixMicros) -> Option<u64> {
    let millis = u64::try_from(at.0 / 1000).ok()?;
    (millis >> (u128::BITS - HASH_BITS) == 0).then_some(millis)
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

    const NONE: Flags = Flags::from_bits(0);

    fn event_key(hit: &Hit<'_>, flags: Flags) -> Option<[u8; 16]> {
        super::event_key(hit, flags, &Keyer::of_tests()).map(|event| event.key)
    }

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
    fn a_key_begins_with_the_time_at_which_its_sender_made_the_event() {
        let key = |id: &'static str, made_at| {
            let mut hit = hit(Kind::Event, id);
            hit.made_at = made_at;
            super::event_key(&hit, NONE, &Keyer::of_tests()).unwrap()
        };
        let random = "3b241101-e2bb-4255-8caf-4136c566a962";
        let at = Some(UnixMicros(1_795_523_696_789_012));
        let timed = key(random, at);
        assert_eq!(timed.key[..6], 1_795_523_696_789_u64.to_be_bytes()[2..]);
        assert_eq!((timed, true), (key(random, at), timed.is_timed));
        // It is another event if its sender made it at another time, or never said when.
        let later = key(random, Some(UnixMicros(1_795_523_696_790_000)));
        assert_ne!((timed.key, timed.key), (later.key, key(random, None).key));
        assert!(!key(random, None).is_timed);
        // A time that has no room in a key is of no use there.
        for far in [i64::MIN, -1_000, i64::MAX] {
            assert_eq!(
                key(random, Some(UnixMicros(far))).key,
                key(random, None).key
            );
        }
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
                let by_system = SenderClass::of(kind, flags.with(Flags::SYSTEM));
                assert_eq!(by_system, servers, "{kind:?} {flags}");
            }
        }
    }

    #[test]
    fn former_keys_are_those_that_were_made() {
        let mut order = hit(Kind::Event, "");
        order.site = "open".into();
        assert_eq!(former_event_keys(&order, NONE), None);
        order.event_id = "order-loaded".into();
        order.event_name = "order".into();
        let [first, second] = former_event_keys(&order, NONE).unwrap();
        let checks = include_str!("../../tests/fixture/0.1.0/expected.json");
        let first_text = Uuid::from_bytes(first).to_string();
        assert!(checks.contains(&first_text), "{first_text}");
        // The first form knew neither names nor classes.
        let bot = former_event_keys(&order, Flags::BOT).unwrap();
        order.event_name = "refund".into();
        let refund = former_event_keys(&order, NONE).unwrap();
        for [other_first, other_second] in [bot, refund] {
            assert_eq!(first, other_first);
            assert_ne!(second, other_second);
        }
    }

    #[test]
    fn a_key_is_the_one_that_stands_in_databases_and_differs_with_the_secret() {
        let mut order = hit(Kind::Event, "order-1");
        order.event_name = "order".into();
        // Computed by another implementation of SipHash, with the secret 0, 1, 2, ….
        let expected = 0x3821_3dcd_c8f6_5f38_3916_8013_710d_d949_u128;
        assert_eq!(event_key(&order, NONE), Some(expected.to_be_bytes()));
        let other = super::event_key(&order, NONE, &Keyer::new([7; 32])).unwrap();
        assert_ne!(other.key, expected.to_be_bytes());
    }

    #[test]
    fn keys_apart_differ_by_reason_and_by_what_is_said() {
        let keyer = Keyer::of_tests();
        let key = |params: &'static str, page: &'static str| {
            let mut hit = hit(Kind::Event, "order-1");
            (hit.params, hit.page_url) = (params.into(), page.into());
            super::event_key(&hit, NONE, &keyer).unwrap()
        };
        let (one, other) = (key(r#"{"value":1}"#, ""), key(r#"{"value":2}"#, ""));
        let elsewhere = key(r#"{"value":1}"#, "https://telenor.se/thanks");
        assert_eq!((one.key, one.key), (other.key, elsewhere.key));
        let separate = |event: EventKey, why| event.separate(why, &keyer).key;
        let is_equal = |a, b, why| separate(a, why) == separate(b, why);
        assert!(is_equal(one, other, Apart::WithoutId));
        assert!(!is_equal(one, other, Apart::OtherContent));
        assert!(is_equal(one, elsewhere, Apart::OtherContent));
        assert!(!is_equal(one, elsewhere, Apart::OtherSubject));
        let all = [
            one.key,
            separate(one, Apart::WithoutId),
            separate(one, Apart::OtherContent),
            separate(one, Apart::OtherSubject),
        ];
        let distinct: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
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
