//! The keyed hash that everything is found by which a stranger's hit names: rows of dimensions,
//! creatives, and senders' event IDs.
//!
//! Without the secret nobody can choose a content that has the key of another, so no hit can take
//! the place of a row that is still to come. The secret is kept in the database, so that any number
//! of loaders agree on each key without asking each other, and only they know it.
//!
//! The hash is SipHash-1-3 with 128 bits, of which a dimension's key takes the first 64. A key of a
//! site, an ad and an event ID took (ns, in a program that does nothing else, streamed as here; an
//! Intel Xeon with AVX2):
//!
//! | hash | 16 B, 2 texts | 40 B, 5 texts | 100 B, 4 texts | 1,000 B, 12 texts |
//! | --- | --- | --- | --- | --- |
//! | XXH3-64, without a secret, as before | 24 | 24 | 50 | 153 |
//! | SipHash-1-3, 128 bits | 24 | 41 | 54 | 280 |
//! | SipHash-2-4, 128 bits | 40 | 62 | 110 | 755 |
//! | HighwayHash-128 | 107 | 140 | 187 | 501 |
//! | BLAKE3, keyed | 205 | 315 | 472 | 2,435 |
//!
//! Its shorter rounds are those of the hash tables of Rust, Python and Ruby. An attacker sees none
//! of its results, and has one try for each content that he sends.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128 as _, SipHasher13 as SipHasher13Of128};

use super::dimension::{Columns, Dimension};

/// The bytes of the secret.
pub(crate) const SECRET_BYTES: usize = 32;

/// The key that no row has.
pub(crate) const UNKNOWN_KEY: i64 = 0;

/// Makes the keys of dimension rows and of event IDs.
pub struct Keyer {
    dimension: [u64; 2],
    event: [u64; 2],
    former: FormerKeys,
}

/// The keys that content has which was stored before there was a secret, by the keys that it would
/// have now.
pub(crate) type FormerKeys = HashMap<i64, i64, BuildHasherDefault<KeyIsHash>>;

/// Takes a key for its own hash, because it is one.
#[derive(Debug, Default)]
pub(crate) struct KeyIsHash(u64);

impl Hasher for KeyIsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_i64(&mut self, key: i64) {
        self.0 = key.cast_unsigned();
    }
}

impl fmt::Debug for Keyer {
    /// Keeps the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyer").finish_non_exhaustive()
    }
}

impl Keyer {
    /// Makes keys of this secret: its first half is for dimensions, its second for event IDs.
    #[must_use]
    pub fn new(secret: [u8; SECRET_BYTES]) -> Keyer {
        let (words, _) = secret.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let mut half = || [0; 2].map(|_| words.next().unwrap_or_default());
        Keyer {
            dimension: half(),
            event: half(),
            former: FormerKeys::default(),
        }
    }

    /// Makes keys of a secret that tests know.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Keyer {
        Keyer::new(std::array::from_fn(|index| {
            u8::try_from(index).unwrap_or_default()
        }))
    }

    /// Gives content that was stored before there was a secret the key that it was stored under.
    #[must_use]
    pub(crate) fn with_former(self, former: FormerKeys) -> Keyer {
        Keyer { former, ..self }
    }

    /// Returns the key of a row.
    #[must_use]
    pub fn key(&self, row: &impl Dimension) -> i64 {
        let key = self.new_key(row);
        if self.former.is_empty() {
            return key;
        }
        self.former.get(&key).copied().unwrap_or(key)
    }

    /// Returns the key that a row has whose content was never stored before there was a secret:
    /// the hash of its table and content, each text with its length before it, numbers as
    /// little-endian bytes.
    #[must_use]
    pub(crate) fn new_key<D: Dimension>(&self, row: &D) -> i64 {
        let [k0, k1] = self.dimension;
        let mut hash = ContentHash(SipHasher13Of128::new_with_keys(k0, k1));
        hash.0.write(D::TABLE.as_bytes());
        row.columns(&mut hash);
        match hash.0.finish128().h1.cast_signed() {
            UNKNOWN_KEY => 1,
            key => key,
        }
    }

    /// Returns the hash of the texts that an event's ID is unique within, each with its length, and
    /// of numbers.
    pub(super) fn event<const TEXTS: usize>(&self, texts: [&str; TEXTS], numbers: &[u8]) -> u128 {
        let [k0, k1] = self.event;
        let mut hash = SipHasher13Of128::new_with_keys(k0, k1);
        for text in texts {
            hash.write(&(text.len() as u64).to_le_bytes());
            hash.write(text.as_bytes());
        }
        hash.write(numbers);
        hash.finish128().as_u128()
    }

    /// Begins a hash of what an event says.
    pub(super) fn begin_said(&self) -> SipHasher13 {
        let [k0, k1] = self.event;
        SipHasher13::new_with_keys(k0, k1)
    }

    /// Returns 16 bits of random ones, as a visitor's ID is.
    pub(super) fn fold(&self, random: [u8; 16]) -> u16 {
        let random = u128::from_le_bytes(random);
        let [k0, k1] = self.event.map(u128::from);
        let product = (random ^ k0).wrapping_mul(k1 << 64 | k0 | 1);
        u16::try_from(product >> 112).unwrap_or_default()
    }
}

/// The hash of a row's content.
struct ContentHash(SipHasher13Of128);

impl ContentHash {
    fn bits(&mut self, bits: Option<u64>) {
        self.0.write(&[u8::from(bits.is_some())]);
        self.0.write(&bits.unwrap_or(0).to_le_bytes());
    }
}

impl Columns for ContentHash {
    fn text(&mut self, _: &'static str, text: &str) {
        self.0.write(&(text.len() as u64).to_le_bytes());
        self.0.write(text.as_bytes());
    }

    fn name(&mut self, column: &'static str, text: &str) {
        self.text(column, text);
    }

    fn integer(&mut self, _: &'static str, number: Option<u32>) {
        self.bits(number.map(u64::from));
    }

    fn real(&mut self, _: &'static str, number: Option<f64>) {
        self.bits(number.map(f64::to_bits));
    }

    fn boolean(&mut self, _: &'static str, is_so: bool) {
        self.bits(Some(u64::from(is_so)));
    }
}
