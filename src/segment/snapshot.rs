//! Who is in which segments, in memory, so that a page is answered without Postgres.
//!
//! A subject is known by the first 64 bits of its [`Node`]: a visitor's ID is random, the key of
//! any other ID is a hash, and nobody can choose one that a cookie or a signature proves. Members
//! that share them are all left out, so that nobody is told the segments of another. One who is in
//! no segment and shares them with a member is told the member's: the probability that this befalls
//! any of 10 million visitors beside 10 million members is 5 in a million.
//!
//! Subjects lie in [`PARTS`] parts by the first 8 of these bits, each sorted, with a table of where
//! the next 12 begin. A part is replaced as a whole while the others answer, so that the memory in
//! use grows by one part at a time.
//!
//! What a subject has is the number of a set of segments: few sets are in use, however many
//! subjects there are. A subject takes 8 bytes for its prefix and 2 for its set, 4 beyond 65,536
//! different sets; the tables take 4 MB. So 10 million subjects take 105 MB.
//!
//! A snapshot is as old as its last refresh. It never decides what may be told: the consent of the
//! request does, and whoever has withdrawn is [denied](Snapshot::deny) until the snapshot shows it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::identity::Node;

/// How many parts there are.
pub(crate) const PARTS: usize = 256;
/// How many ranges of prefixes a part's table has.
const RANGES: usize = 1 << 12;
/// The most subjects of one generation that are denied. They are forgotten after two generations,
/// and the snapshot is without them long before.
const DENIED_MAX: usize = 1 << 17;

/// The number of a segment, as Postgres gives it.
pub type SegmentNumber = i16;

/// What a snapshot knows a subject by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectPrefix(u64);

impl SubjectPrefix {
    /// Returns the prefix of a node.
    #[must_use]
    pub fn of(node: Node) -> SubjectPrefix {
        let [prefix @ .., _, _, _, _, _, _, _, _] = node.0;
        SubjectPrefix(u64::from_be_bytes(prefix))
    }

    /// Takes the first 64 bits as Postgres has them, whose numbers have a sign.
    #[must_use]
    pub(crate) fn from_bits(bits: i64) -> SubjectPrefix {
        SubjectPrefix(bits.cast_unsigned())
    }

    /// Returns the first and the last node that have the prefix.
    #[must_use]
    pub(crate) fn nodes(self) -> [Node; 2] {
        [0, u64::MAX].map(|rest| {
            let bits = u128::from(self.0) << 64 | u128::from(rest);
            Node(bits.to_be_bytes())
        })
    }

    /// Returns the part that the prefix lies in.
    #[must_use]
    pub fn part(self) -> usize {
        (self.0 >> 56) as usize
    }

    fn range(self) -> usize {
        (self.0 >> 44) as usize & (RANGES - 1)
    }
}

/// Returns the first and the last node of a part.
#[must_use]
pub(crate) fn nodes_of_part(part: u8) -> [Node; 2] {
    [0, u64::MAX >> 8].map(|rest| {
        let [first, last] = SubjectPrefix(u64::from(part) << 56 | rest).nodes();
        if rest == 0 { first } else { last }
    })
}

/// A subject's segments, as a refresh reads them.
pub type SubjectSegments = (SubjectPrefix, Vec<SegmentNumber>);

/// The segments that a site may be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ShownSegments {
    /// Their numbers and keys.
    pub segments: Vec<(SegmentNumber, String)>,
}

/// What each site may be told, by the site's key.
pub type ShownBySite = HashMap<String, ShownSegments>;

/// What a page is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The keys of the segments.
    pub keys: Vec<String>,
    /// The same for a subject that is in all segments that the site may be told.
    pub all: Vec<String>,
}

/// Sets of segments, which are only added to.
#[derive(Clone, Default)]
struct Sets {
    /// Where each set ends in `numbers`; it begins where the one before ends.
    ends: Vec<u32>,
    numbers: Vec<SegmentNumber>,
}

impl Sets {
    fn get(&self, set: u32) -> &[SegmentNumber] {
        let set = set as usize;
        let start = match set.checked_sub(1) {
            None => Some(0),
            Some(before) => self.ends.get(before).copied(),
        };
        let range = start.zip(self.ends.get(set).copied());
        range
            .and_then(|(start, end)| self.numbers.get(start as usize..end as usize))
            .unwrap_or_default()
    }
}

/// The sets of the subjects of a part, by the width that their numbers need.
enum SetNumbers {
    Narrow(Box<[u16]>),
    Wide(Box<[u32]>),
}

impl SetNumbers {
    fn new(numbers: &[u32]) -> SetNumbers {
        let narrow: Result<_, _> = numbers
            .iter()
            .map(|number| u16::try_from(*number))
            .collect();
        narrow.map_or_else(|_| SetNumbers::Wide(numbers.into()), SetNumbers::Narrow)
    }

    fn get(&self, at: usize) -> Option<u32> {
        match self {
            SetNumbers::Narrow(numbers) => numbers.get(at).map(|number| u32::from(*number)),
            SetNumbers::Wide(numbers) => numbers.get(at).copied(),
        }
    }
}

/// The subjects whose prefixes begin with the same 8 bits.
struct SubjectPart {
    prefixes: Box<[SubjectPrefix]>,
    /// Where each range begins, and where the last one ends.
    starts: Box<[u32]>,
    sets_of: SetNumbers,
    /// What the numbers of sets mean. It may have grown since the part was made.
    sets: Arc<ArcSwap<Sets>>,
}

impl SubjectPart {
    fn new(members: &[(SubjectPrefix, u32)], sets: &Arc<ArcSwap<Sets>>) -> SubjectPart {
        let mut starts = vec![0; RANGES + 1];
        for (prefix, _) in members {
            if let Some(after) = starts.get_mut(prefix.range() + 1) {
                *after += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let numbers: Vec<u32> = members.iter().map(|(_, set)| *set).collect();
        SubjectPart {
            prefixes: members.iter().map(|(prefix, _)| *prefix).collect(),
            starts: starts.into(),
            sets_of: SetNumbers::new(&numbers),
            sets: Arc::clone(sets),
        }
    }

    fn find(&self, prefix: SubjectPrefix) -> Option<u32> {
        let start = *self.starts.get(prefix.range())? as usize;
        let end = *self.starts.get(prefix.range() + 1)? as usize;
        let near = self.prefixes.get(start..end)?;
        let at = near.binary_search(&prefix).ok()?;
        self.sets_of.get(start + at)
    }

    fn members(&self) -> impl Iterator<Item = (SubjectPrefix, u32)> {
        let numbered = self.prefixes.iter().enumerate();
        numbered.filter_map(|(at, prefix)| Some((*prefix, self.sets_of.get(at)?)))
    }
}

/// Subjects that have withdrawn since about the last refreshes.
#[derive(Default)]
struct Denied {
    count: AtomicUsize,
    generations: Mutex<[HashSet<SubjectPrefix>; 2]>,
}

impl Denied {
    fn change(&self, change: impl FnOnce(&mut [HashSet<SubjectPrefix>; 2])) {
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut generations);
        let count = generations.iter().map(HashSet::len).sum();
        self.count.store(count, Ordering::Release);
    }

    fn has(&self, prefix: SubjectPrefix) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        generations.iter().any(|denied| denied.contains(&prefix))
    }
}

/// Who is in which segments.
pub struct Snapshot {
    parts: Box<[ArcSwap<SubjectPart>]>,
    shown: ArcSwap<ShownBySite>,
    denied: Denied,
    members: AtomicUsize,
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        let sets = Arc::default();
        let empty = || ArcSwap::from_pointee(SubjectPart::new(&[], &sets));
        Snapshot {
            parts: (0..PARTS).map(|_| empty()).collect(),
            shown: ArcSwap::default(),
            denied: Denied::default(),
            members: AtomicUsize::new(0),
        }
    }
}

impl Snapshot {
    /// Returns what a site's page is told of one who has all of these IDs.
    #[must_use]
    pub fn answer(&self, site: &str, nodes: impl IntoIterator<Item = Node>) -> Answer {
        let shown = self.shown.load();
        let Some(shown) = shown.get(site) else {
            return Answer::default();
        };
        let mut has = Vec::new();
        for node in nodes {
            self.add_segments(SubjectPrefix::of(node), &mut has);
        }
        let keys = |of: &mut dyn Iterator<Item = &(SegmentNumber, String)>| {
            of.map(|(_, key)| key.clone()).collect()
        };
        Answer {
            keys: keys(
                &mut shown
                    .segments
                    .iter()
                    .filter(|(number, _)| has.contains(number)),
            ),
            all: keys(&mut shown.segments.iter()),
        }
    }

    fn add_segments(&self, prefix: SubjectPrefix, has: &mut Vec<SegmentNumber>) {
        let Some(part) = self.parts.get(prefix.part()) else {
            return;
        };
        let part = part.load();
        if let Some(set) = part.find(prefix)
            && !self.denied.has(prefix)
        {
            has.extend_from_slice(part.sets.load().get(set));
        }
    }

    /// Tells nothing about a subject until refreshes have shown that it is in no segment.
    pub(crate) fn deny(&self, node: Node) {
        self.denied.change(|[recent, _]| {
            if recent.len() < DENIED_MAX {
                recent.insert(SubjectPrefix::of(node));
            }
        });
    }

    /// Forgets whom refreshes have shown to be in no segment: whoever was denied before the call
    /// before this one.
    pub(crate) fn forget_denied(&self) {
        self.denied
            .change(|[recent, older]| *older = std::mem::take(recent));
    }

    /// Replaces what sites may be told.
    pub fn show(&self, shown: ShownBySite) {
        if **self.shown.load() != shown {
            self.shown.store(Arc::new(shown));
        }
    }

    /// Returns how many subjects are in a segment.
    #[must_use]
    pub(crate) fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    /// Returns the bytes that the parts and sets take.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        let mut sets: HashMap<*const ArcSwap<Sets>, usize> = HashMap::new();
        let mut bytes = 0;
        for part in &self.parts {
            let part = part.load();
            let of_sets = match &part.sets_of {
                SetNumbers::Narrow(numbers) => size_of_val(&**numbers),
                SetNumbers::Wide(numbers) => size_of_val(&**numbers),
            };
            bytes += size_of_val(&*part.prefixes) + size_of_val(&*part.starts) + of_sets;
            let known = part.sets.load();
            let size = 4 * known.ends.capacity() + 2 * known.numbers.capacity();
            sets.insert(Arc::as_ptr(&part.sets), size);
        }
        bytes + sets.values().sum::<usize>()
    }
}

/// Writes a snapshot. There is one for each.
pub struct SnapshotWriter {
    snapshot: Arc<Snapshot>,
    numbers: HashMap<Box<[SegmentNumber]>, u32>,
    sets: Sets,
    /// What the parts that this writer makes refer to.
    written: Arc<ArcSwap<Sets>>,
}

impl SnapshotWriter {
    /// Begins to write a snapshot.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>) -> SnapshotWriter {
        SnapshotWriter {
            snapshot,
            numbers: HashMap::new(),
            sets: Sets::default(),
            written: Arc::default(),
        }
    }

    /// Returns the snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Forgets the sets that are in use, so that those which no subject has any more are gone once
    /// every part has been replaced.
    pub(crate) fn forget_sets(&mut self) {
        *self = SnapshotWriter::new(Arc::clone(&self.snapshot));
    }

    /// Replaces a part. `members` has all of its subjects, sorted.
    pub fn replace(&mut self, part: usize, members: &[SubjectSegments]) {
        let members = self.number(members);
        self.store(part, &members);
    }

    /// Replaces the subjects of a part that have one of these prefixes. `members` has those that
    /// are in a segment now. Both are sorted.
    pub(crate) fn change(
        &mut self,
        part: usize,
        prefixes: &[SubjectPrefix],
        members: &[SubjectSegments],
    ) {
        let Some(slot) = self.snapshot.parts.get(part) else {
            return;
        };
        let old = slot.load_full();
        if !Arc::ptr_eq(&old.sets, &self.written) {
            // It was made by another writer, or before the sets were forgotten.
            let known = old.sets.load();
            let kept: Vec<SubjectSegments> = old
                .members()
                .filter(|(prefix, _)| prefixes.binary_search(prefix).is_err())
                .map(|(prefix, set)| (prefix, known.get(set).to_vec()))
                .collect();
            let mut all = [&kept, members].concat();
            all.sort_by_key(|(prefix, _)| *prefix);
            return self.replace(part, &all);
        }
        let changed = self.number(members);
        let mut merged = Vec::with_capacity(old.prefixes.len() + changed.len());
        merged.extend(
            old.members()
                .filter(|(prefix, _)| prefixes.binary_search(prefix).is_err()),
        );
        merged.extend(changed);
        // Two sorted runs, which the sort merges in one pass.
        merged.sort_by_key(|(prefix, _)| *prefix);
        self.store(part, &merged);
    }

    /// Gives each subject the number of its set, and leaves out those that share their prefix.
    fn number(&mut self, members: &[SubjectSegments]) -> Vec<(SubjectPrefix, u32)> {
        let mut numbered = Vec::with_capacity(members.len());
        for same in members.chunk_by(|one, next| one.0 == next.0) {
            if let [(prefix, segments)] = same
                && !segments.is_empty()
            {
                numbered.push((*prefix, self.number_set(segments)));
            }
        }
        if self.written.load().ends.len() != self.sets.ends.len() {
            self.written.store(Arc::new(self.sets.clone()));
        }
        numbered
    }

    fn number_set(&mut self, segments: &[SegmentNumber]) -> u32 {
        let mut sorted = segments.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        if let Some(known) = self.numbers.get(sorted.as_slice()) {
            return *known;
        }
        let number = u32::try_from(self.sets.ends.len()).unwrap_or(u32::MAX);
        self.sets.numbers.extend_from_slice(&sorted);
        let end = u32::try_from(self.sets.numbers.len()).unwrap_or(u32::MAX);
        self.sets.ends.push(end);
        self.numbers.insert(sorted.into(), number);
        number
    }

    fn store(&self, part: usize, members: &[(SubjectPrefix, u32)]) {
        if let Some(slot) = self.snapshot.parts.get(part) {
            let old = slot.swap(Arc::new(SubjectPart::new(members, &self.written)));
            let count = &self.snapshot.members;
            count.fetch_add(members.len(), Ordering::Relaxed);
            count.fetch_sub(old.prefixes.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
