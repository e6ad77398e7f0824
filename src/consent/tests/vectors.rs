//! Strings of the IAB's own encoders (script/tc_vectors.mjs), whole and mutated.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::Deserialize;

use super::super::{PermitRules, Strings, bits, decide, gpp, tcf};
use super::reference;
use crate::consent::Signals;
use crate::hit::{ConsentSource, Kind, Permit};

#[derive(Clone, Deserialize)]
pub(super) struct Vector {
    name: String,
    pub(super) string: String,
    encoding: Option<String>,
    said: Option<Said>,
    expect: Vec<Expect>,
}

#[derive(Clone, Deserialize)]
struct Said {
    policy: u8,
    special: Vec<u32>,
    disclosed: Option<String>,
    restrictions: Vec<Restriction>,
}

#[derive(Clone, Deserialize)]
struct Restriction {
    #[serde(rename = "type")]
    kind: u8,
}

#[derive(Clone, Deserialize)]
struct Expect {
    vendor: u16,
    consents: Vec<u32>,
    interests: Vec<u32>,
    ad: Vec<String>,
    page: Vec<String>,
}

static VECTORS: LazyLock<Vec<Vector>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../vectors.json")).expect("the vectors are JSON")
});

pub(super) fn named(name: &str) -> Vector {
    let found = VECTORS.iter().find(|vector| vector.name == name);
    found
        .unwrap_or_else(|| panic!("no vector {name:?}"))
        .clone()
}

impl Vector {
    fn is_gpp(&self) -> bool {
        self.name.starts_with("GPP")
    }
}

/// Decides the permit of a string alone, in its own parameter.
fn decide_alone(text: &str, is_gpp: bool, vendor: u16, kind: Kind, strings: &Strings) -> Permit {
    let mut signals = Signals::default();
    let (slot, source) = if is_gpp {
        (&mut signals.gpp, ConsentSource::Gpp)
    } else {
        (&mut signals.tcf, ConsentSource::Tcf)
    };
    *slot = Some(Cow::Borrowed(text));
    let rules = PermitRules {
        gvl_id: Some(vendor),
        default_permit: Permit::NONE,
        gdpr_0_permit: Permit::NONE,
    };
    let (permit, decided_by) = decide(&signals, &rules, kind, strings);
    assert_eq!(decided_by, source);
    permit
}

#[test]
fn the_permits_of_real_strings_are_those_that_an_independent_rule_expects() {
    let strings = Strings::default();
    for vector in VECTORS.iter() {
        for expect in &vector.expect {
            let context = format!("{}, vendor {}", vector.name, expect.vendor);
            let flags = |names: &[String]| {
                names
                    .iter()
                    .map(|name| Permit::from_name(name).expect("a flag"))
                    .fold(Permit::NONE, Permit::with)
            };
            for kind in Kind::ALL {
                let expected = match kind {
                    Kind::PageView | Kind::Event => flags(&expect.page),
                    Kind::Withdrawal | Kind::Erasure => Permit::NONE,
                    _ => flags(&expect.ad),
                };
                let of = |text| decide_alone(text, vector.is_gpp(), expect.vendor, kind, &strings);
                assert_eq!(of(&vector.string), expected, "{context}, {kind:?}");
                assert_eq!(of(&vector.string), expected, "{context}, cached");
            }
        }
    }
}

#[test]
fn the_purposes_of_a_vendor_are_those_of_an_independent_decoder() {
    let purposes = |bits: u32| {
        (1..=24)
            .filter(|purpose| bits >> (24 - purpose) & 1 == 1)
            .collect()
    };
    for vector in VECTORS.iter() {
        let section = if vector.is_gpp() {
            gpp::eu_section(&vector.string, "")
        } else {
            Some(vector.string.as_str())
        };
        for expect in &vector.expect {
            let vendor = section.and_then(|section| tcf::read(section, expect.vendor));
            let (consents, interests): (Vec<u32>, Vec<u32>) = vendor
                .map_or_else(Default::default, |vendor| {
                    (purposes(vendor.consents), purposes(vendor.interests))
                });
            assert_eq!(consents, expect.consents, "{}", vector.name);
            assert_eq!(interests, expect.interests, "{}", vector.name);
            if let (Some(vendor), Some(said)) = (vendor, &vector.said) {
                let has_location = vendor.special_features >> 11 == 1;
                assert_eq!(has_location, said.special.contains(&1));
            }
        }
    }
}

#[test]
fn the_vectors_are_varied_enough() {
    let count = |which: &dyn Fn(&Vector, &Said) -> bool| {
        let said = |vector: &&Vector| vector.said.as_ref().is_some_and(|said| which(vector, said));
        VECTORS.iter().filter(said).count()
    };
    assert!(count(&|vector, _| !vector.is_gpp()) >= 60);
    assert!(count(&|vector, _| vector.is_gpp()) >= 20);
    for encoding in ["bits", "ranges"] {
        assert!(count(&|vector, _| vector.encoding.as_deref() == Some(encoding)) >= 20);
    }
    for policy in [2, 4, 5] {
        assert!(count(&|_, said| said.policy == policy) >= 10);
    }
    assert!(count(&|_, said| said.disclosed.is_some()) >= 20);
    assert!(count(&|_, said| said.disclosed.is_none()) >= 20);
    for kind in 0..3 {
        assert!(count(&|_, said| said.restrictions.iter().any(|one| one.kind == kind)) >= 8);
    }
}

/// xorshift64*: the same mutations on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits") % limit
    }
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Characters outside the alphabet, and separators.
const OTHERS: &[u8] = b"=+/ %\0\x7f.~";

fn mutate(text: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if text.is_empty() {
        return;
    }
    let at = random.below(text.len());
    match random.below(8) {
        // A bit: anywhere, or among the versions, purposes and flags.
        0..=2 => {
            let at = if random.below(2) == 0 {
                at
            } else {
                at.min(random.below(45))
            };
            if let Some(value) = ALPHABET.iter().position(|known| *known == text[at]) {
                text[at] = ALPHABET[value ^ 1 << random.below(6)];
            }
        }
        3 => text[at] = ALPHABET[random.below(64)],
        4 if random.below(2) == 0 => text[at] = OTHERS[random.below(OTHERS.len())],
        4 => text.insert(at, ALPHABET[random.below(64)]),
        5 => text.truncate(at),
        6 => drop(text.remove(at)),
        // The end of another string after the beginning of this one, or a whole segment.
        _ => {
            let segment: &[u8] = other.rsplit(|byte| *byte == b'.').next().unwrap_or(other);
            if random.below(2) == 0 {
                text.push(b'.');
                text.extend_from_slice(segment);
            } else {
                text.truncate(at);
                text.extend_from_slice(&other[random.below(other.len())..]);
            }
        }
    }
}

/// A TC string has no MAC: a flipped bit may turn one valid string into another that permits more,
/// and no reader can tell. So the test checks that no mutated string makes the reader panic, that a
/// string that is no longer valid permits nothing, and that a string that is still valid permits
/// exactly what an independent, naive reading of it says, bit by bit.
#[test]
fn mutated_strings_permit_what_a_naive_reading_says_and_nothing_else() {
    let mutations = std::env::var("CONSENT_MUTATIONS");
    let mutations: u64 = mutations.map_or(200_000, |number| number.parse().expect("a number"));
    let threads = 4;
    let run = |thread: u64| {
        let mut random = Random(0x5eed + thread);
        let strings = Strings::default();
        let mut permitted = 0;
        for number in 0..mutations / threads {
            let vector = &VECTORS[random.below(VECTORS.len())];
            let other = &VECTORS[random.below(VECTORS.len())];
            let mut text = vector.string.clone().into_bytes();
            for _ in 0..=random.below(3) {
                mutate(&mut text, other.string.as_bytes(), &mut random);
            }
            let text = String::from_utf8_lossy(&text);
            let vendor = vector.expect[random.below(vector.expect.len())].vendor;
            let kind = Kind::ALL[random.below(6)];
            let expected = if text.is_empty() {
                Permit::NONE
            } else if vector.is_gpp() {
                reference::gpp(&text, vendor, kind)
            } else {
                reference::tcf(&text, vendor, kind)
            };
            let permit = decide_alone(&text, vector.is_gpp(), vendor, kind, &strings);
            assert_eq!(permit, expected, "{number}: {text:?} for {vendor}");
            permitted += u64::from(permit != Permit::NONE);
        }
        permitted
    };
    let permitted: u64 = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || run(thread)))
            .collect();
        running
            .into_iter()
            .map(|one| one.join().expect("no panic"))
            .sum()
    });
    // Some permit something and some nothing: both sides of the comparison occurred.
    assert!(
        (mutations / 20..mutations / 2).contains(&permitted),
        "{permitted}"
    );
}

#[test]
fn a_hostile_string_takes_no_longer_than_a_friendly_one() {
    // As many ranges of all vendors as a parameter holds: 1,400 of 33 bits.
    let mut hostile = String::new();
    let mut put = |number: u64, length: usize| hostile.push_str(&format!("{number:0length$b}"));
    for (number, length) in [
        (2, 6),
        (0, 36),
        (0, 36),
        (0, 54),
        (4, 6),
        (2, 2),
        (0, 12),
        (0, 61),
    ] {
        put(number, length);
    }
    put(65_535, 16);
    put(1, 1);
    put(1400, 12);
    for _ in 0..1400 {
        put(1, 1);
        put(1, 16);
        put(65_535, 16);
    }
    for (number, length) in [(0, 17), (0, 12)] {
        put(number, length);
    }
    while !hostile.len().is_multiple_of(6) {
        hostile.push('0');
    }
    let sextet = |six: &[u8]| {
        let value = six
            .iter()
            .fold(0, |value, bit| value << 1 | usize::from(*bit == b'1'));
        char::from(ALPHABET[value])
    };
    let text: String = hostile.as_bytes().chunks(6).map(sextet).collect();
    assert!(text.len() < 8192 && bits::Bits::new(&text).is_some());
    let started = crate::clock::monotonic();
    assert!(tcf::read(&text, 77).is_some());
    assert!(
        started.elapsed().as_millis() < 50,
        "{:?}",
        started.elapsed()
    );
}
