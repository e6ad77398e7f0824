//! The domains of a list, in little memory.
//!
//! A domain is 64 bits of a keyed hash of its name, with the number of its set of categories: 12
//! bytes. A name that is looked up can only be one of a stranger's choice, who does not know the
//! key: that it is taken for one of ten million entries has a chance of one in 10^12.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

/// The most domains of a list: 120 MB.
pub(super) const DOMAINS_MAX: usize = 10_000_000;
/// The most names of categories of a list.
pub(super) const LABELS_MAX: usize = 65_536;
/// The most categories of a domain; further ones are left out.
const CATEGORIES_MAX: usize = 8;

/// What a line of a list says of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label {
    pub(super) category: String,
    pub(super) source: String,
}

/// The domains of a list, with their categories.
#[derive(Default)]
pub(super) struct Index {
    state: RandomState,
    /// In order.
    hashes: Vec<u64>,
    /// The number of the set for each of them.
    sets: Vec<u32>,
    /// The labels of each set.
    labels: Vec<Vec<Label>>,
}

/// Collects the domains of a list.
#[derive(Default)]
pub(super) struct Builder {
    state: RandomState,
    entries: Vec<(u64, u32)>,
    numbers: HashMap<Label, u32>,
    labels: Vec<Label>,
}

/// Why a list takes no further line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Builder {
    /// Adds a domain.
    pub(super) fn add(&mut self, domain: &str, label: u32) -> Result<(), Full> {
        if self.entries.len() >= DOMAINS_MAX {
            return Err(Full);
        }
        self.entries.push((self.state.hash_one(domain), label));
        Ok(())
    }

    /// Returns the number of a label.
    pub(super) fn label(&mut self, label: Label) -> Result<u32, Full> {
        if let Some(number) = self.numbers.get(&label) {
            return Ok(*number);
        }
        if self.labels.len() >= LABELS_MAX {
            return Err(Full);
        }
        let number = u32::try_from(self.labels.len()).map_err(|_| Full)?;
        self.numbers.insert(label.clone(), number);
        self.labels.push(label);
        Ok(number)
    }

    /// Returns the index. Labels of a domain stay in the order in which they were first named.
    pub(super) fn finish(mut self) -> Index {
        self.entries.sort_unstable();
        self.entries.dedup();
        let mut index = Index {
            state: self.state,
            ..Index::default()
        };
        let mut sets: HashMap<Vec<u32>, u32> = HashMap::new();
        for of_domain in self.entries.chunk_by(|a, b| a.0 == b.0) {
            let Some((hash, _)) = of_domain.first() else {
                continue;
            };
            let labels = of_domain.iter().map(|(_, label)| *label);
            let labels: Vec<u32> = labels.take(CATEGORIES_MAX).collect();
            let next = sets.len();
            let set = *sets.entry(labels).or_insert_with_key(|labels| {
                let labels = labels.iter().filter_map(|label| {
                    let label = usize::try_from(*label).ok()?;
                    self.labels.get(label).cloned()
                });
                index.labels.push(labels.collect());
                // There are no more sets than domains.
                u32::try_from(next).unwrap_or(u32::MAX)
            });
            index.hashes.push(*hash);
            index.sets.push(set);
        }
        index.hashes.shrink_to_fit();
        index.sets.shrink_to_fit();
        index
    }
}

impl Index {
    /// Returns what the list says of a domain.
    pub(super) fn find(&self, domain: &str) -> Option<&[Label]> {
        let place = self
            .hashes
            .binary_search(&self.state.hash_one(domain))
            .ok()?;
        let set = usize::try_from(*self.sets.get(place)?).ok()?;
        self.labels.get(set).map(Vec::as_slice)
    }

    /// Returns how many domains it has.
    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }
}
