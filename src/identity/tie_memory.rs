//! What one loader remembers of ties, permits and sightings, so that most hits write nothing.
//!
//! It never decides what is true: that is in the database, and whatever is forgotten here is
//! written once more.
//!
//! | what | bytes | forgets |
//! | --- | --- | --- |
//! | ties that were stored within a week | 8 MiB | the oldest of four, where a fifth has their place |
//! | permits that were stored within a week, refusals within a minute | 8 MiB | the same |
//! | sightings that were stored | 8 MiB, where there are any | the same |
//! | new ties of an ID within an hour | 64 KiB | all, each hour |
//! | IDs with too many of them | 4,096 IDs | all, each day or where there are more |
//!
//! A tie is found by a keyed hash of its IDs, each with a number that changes when the ID loses its
//! ties, and a sighting in the same way. So they are all forgotten at once, however many there
//! were. With the key nobody can make up IDs that take the place of others, or that count as
//! others.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash, RandomState};

use super::recent::{Recent, StoredSince};
use super::{Node, Tie, is_own_word, is_refusal};
use crate::clock::UnixMicros;
use crate::hit::{ConsentSource, Permit};

/// How long what was stored is not stored again: a week, in minutes.
const STORED_MINUTES: u32 = 7 * 24 * 60;
/// The same for a refusal. Another collector may have stored a consent in between, so it is short.
const REFUSAL_MINUTES: u32 = 1;

/// The new ties that an ID may have in an hour. A device has few.
const NEW_TIES_MAX: u8 = 20;

/// The IDs that are remembered as having too many ties.
const HUBS_MAX: usize = 4_096;
/// The IDs that are remembered as having lost their ties and sightings.
const UNLINKED_MAX: usize = 65_536;

const MINUTE_MICROS: i64 = 60_000_000;
const HOUR_MICROS: i64 = 60 * MINUTE_MICROS;

/// What a tie is to a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// It was stored within a week.
    Stored,
    /// It is to be stored; the number forgets it again.
    New(u64),
    /// One of its IDs has more ties than a device can have.
    Hub,
}

/// What one loader remembers.
pub(crate) struct TieMemory {
    random: RandomState,
    pairs: Recent,
    permits: Recent,
    sightings: Recent,
    /// How often IDs lost their ties and sightings.
    unlinked: HashMap<Node, u32>,
    new_ties: Sketch,
    /// Those of unproved ties, and those of proved ones: what anybody names is no reason to drop
    /// what is vouched for.
    hubs: HashSet<(Node, bool)>,
    now: UnixMicros,
}

impl TieMemory {
    /// Makes an empty memory whose hashes are keyed with `random`.
    #[must_use]
    pub(crate) fn new(random: RandomState) -> TieMemory {
        TieMemory {
            random,
            pairs: Recent::default(),
            permits: Recent::default(),
            sightings: Recent::default(),
            unlinked: HashMap::new(),
            new_ties: Sketch::default(),
            hubs: HashSet::new(),
            now: UnixMicros::default(),
        }
    }

    /// Notes what time it is.
    pub(crate) fn set_now(&mut self, now: UnixMicros) {
        if now.0.div_euclid(HOUR_MICROS) != self.now.0.div_euclid(HOUR_MICROS) {
            self.new_ties.clear();
        }
        if now.day() != self.now.day() {
            self.hubs.clear();
        }
        self.now = now;
    }

    /// Tells whether a tie is to be stored, and remembers it as stored.
    pub(crate) fn note_tie(&mut self, tie: &Tie<'_>) -> Novelty {
        let ends = [tie.a, tie.b];
        let pair = self.hash(ends.map(|node| (node, self.unlinked.get(&node).copied())));
        let minute = self.minute();
        let is_stored = |stored: StoredSince| {
            stored.age(minute) < STORED_MINUTES && (stored.value() != 0 || !tie.is_proved)
        };
        if self.pairs.get(pair).is_some_and(is_stored) {
            return Novelty::Stored;
        }
        if ends
            .iter()
            .any(|node| self.hubs.contains(&(*node, tie.is_proved)))
        {
            return Novelty::Hub;
        }
        let nodes = ends.map(|node| self.hash(node));
        for node in ends {
            if self.new_ties.add(self.hash((node, tie.is_proved))) > NEW_TIES_MAX {
                if self.hubs.len() >= HUBS_MAX {
                    self.hubs.clear();
                }
                self.hubs.insert((node, tie.is_proved));
                return Novelty::Hub;
            }
        }
        let stored = StoredSince::new(u16::from(tie.is_proved), minute);
        self.pairs.put(pair, stored);
        for node in nodes {
            self.pairs.put(node, stored);
        }
        Novelty::New(pair)
    }

    /// Forgets a tie that was not stored.
    pub(crate) fn forget_tie(&mut self, tie: u64) {
        self.pairs.remove(tie);
    }

    /// Remembers a sighting of an ID as stored, and returns what forgets it; `None` where it is
    /// stored. Its time is a part of it.
    pub(crate) fn note_sighting(&mut self, node: Node, sighting: &impl Hash) -> Option<u64> {
        let hash = self.hash((sighting, self.unlinked.get(&node)));
        if self.sightings.get(hash).is_some() {
            return None;
        }
        let stored = StoredSince::new(0, self.minute());
        self.sightings.put(hash, stored);
        self.sightings.put(self.hash(node), stored);
        Some(hash)
    }

    /// Forgets a sighting that was not stored.
    pub(crate) fn forget_sighting(&mut self, sighting: u64) {
        self.sightings.remove(sighting);
    }

    /// Forgets the ties and the sightings of an ID that lost them.
    pub(crate) fn unlink(&mut self, node: Node) {
        let hash = self.hash(node);
        let mut had_any = false;
        for stored in [&mut self.pairs, &mut self.sightings] {
            had_any |= stored.get(hash).is_some();
            stored.remove(hash);
        }
        if !had_any {
            return;
        }
        if self.unlinked.len() >= UNLINKED_MAX {
            self.unlinked.clear();
            self.pairs = Recent::default();
            self.sightings = Recent::default();
        }
        *self.unlinked.entry(node).or_default() += 1;
    }

    /// Tells whether what a subject permits on a site, or to a partner there, is to be stored, and
    /// remembers it as stored. A default is not while the subject's own word is remembered, which
    /// it does not replace.
    pub(crate) fn note_permit(
        &mut self,
        node: Node,
        (site, partner): (&str, &str),
        permit: Permit,
        source: ConsentSource,
    ) -> bool {
        let key = self.hash((node, site, partner));
        let (minute, said) = (self.minute(), pack(permit, source));
        let minutes = match is_refusal(permit, source) {
            true => REFUSAL_MINUTES,
            false => STORED_MINUTES,
        };
        let stored = self.permits.get(key);
        let is_stored = stored.is_some_and(|stored| {
            let outweighs = holds_own_word(stored.value()) && !is_own_word(source);
            (stored.value() == said || outweighs) && stored.age(minute) < minutes
        });
        if !is_stored {
            self.permits.put(key, StoredSince::new(said, minute));
        }
        !is_stored
    }

    /// Takes over what became of a subject's permit, which may have cost it its ties: the next hit
    /// that says otherwise is stored, and so are its ties.
    pub(crate) fn correct_permit(
        &mut self,
        node: Node,
        (site, partner): (&str, &str),
        permit: Permit,
        source: ConsentSource,
    ) {
        let key = self.hash((node, site, partner));
        let is_other = |stored: StoredSince| stored.value() != pack(permit, source);
        if self.permits.get(key).is_some_and(is_other) {
            self.permits.remove(key);
        }
        self.unlink(node);
    }

    /// Forgets a subject's permit that was not stored.
    pub(crate) fn forget_permit(&mut self, node: Node, (site, partner): (&str, &str)) {
        let key = self.hash((node, site, partner));
        self.permits.remove(key);
    }

    fn hash(&self, value: impl Hash) -> u64 {
        self.random.hash_one(value)
    }

    fn minute(&self) -> u32 {
        StoredSince::minute(self.now)
    }
}

/// Returns a permit and what decided it as a number of nine bits.
fn pack(permit: Permit, source: ConsentSource) -> u16 {
    u16::from(permit.bits()) << 3 | u16::from(source.number())
}

/// Checks whether what [`pack`] made is of the subject's own word.
fn holds_own_word(said: u16) -> bool {
    ConsentSource::from_number(u64::from(said & 7)).is_some_and(is_own_word)
}

/// Counts how often each of many values occurs, and never too few: each has a counter in either
/// row, of which the smaller counts.
#[derive(Default)]
struct Sketch(Vec<u8>);

impl Sketch {
    const ROW: usize = 32 * 1024;

    /// Counts one more, and returns how many there are.
    fn add(&mut self, hash: u64) -> u8 {
        if self.0.is_empty() {
            self.0 = vec![0; 2 * Sketch::ROW];
        }
        let place = |hash: u64| usize::try_from(hash % Sketch::ROW as u64).unwrap_or_default();
        let places = [place(hash), Sketch::ROW + place(hash >> 32)];
        let count = |place: &usize| self.0.get(*place).copied().unwrap_or(u8::MAX);
        let count = places.iter().map(count).min().unwrap_or(u8::MAX);
        let more = count.saturating_add(1);
        for place in places {
            if let Some(counter) = self.0.get_mut(place) {
                *counter = more.max(*counter);
            }
        }
        more
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }
}

#[cfg(test)]
mod tests;
