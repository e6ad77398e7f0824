//! The fuzz targets, without the fuzzer: each with its corpus, and with mutations of it that are
//! the same in each run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::root;
use crate::targets::{TARGETS, Target};

/// Mutations of each target's corpus.
const MUTATIONS: usize = 2_000;
/// Longer inputs are cut: `make fuzz` has the same limit.
const BYTES_MAX: usize = 8192;

/// Numbers from a seed: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// One to six changes: a flipped byte, some taken away, some doubled, some of another seed.
fn mutated(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(5) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 + random.below(255) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
            _ => {
                let from = random.below(other.len());
                let to = (from + 1 + random.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

/// The first input that a target does not take.
fn first_not_taken(name: &str, at: u64, target: Target) -> Option<String> {
    let takes = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| target(bytes))).is_ok();
    let dir = root().join("fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} has no corpus");
    let read = |path| std::fs::read(path).unwrap();
    let seeds: Vec<Vec<u8>> = paths.iter().map(read).collect();
    if let Some(seed) = seeds.iter().position(|seed| !takes(seed)) {
        return Some(format!("{name} does not take {}", paths[seed].display()));
    }
    let mut random = Random(at);
    (0..MUTATIONS).find_map(|_| {
        let [seed, other] = [(); 2].map(|()| &seeds[random.below(seeds.len())]);
        let bytes = mutated(seed, other, &mut random);
        (!takes(&bytes)).then(|| format!("{name} does not take {}", bytes.escape_ascii()))
    })
}

#[test]
fn each_target_takes_its_corpus_and_what_grows_from_it() {
    let not_taken: Vec<String> = (0..)
        .zip(TARGETS)
        .filter_map(|(at, (name, target))| first_not_taken(name, at, target))
        .collect();
    assert!(not_taken.is_empty(), "{}", not_taken.join("\n"));
}
