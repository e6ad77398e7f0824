//! How strongly two devices are tied by the homes at which both were.

use std::collections::HashMap;

use super::{AddressKind, EPOCH_DAYS, Stay};

/// Two devices, the smaller first, and how strongly they are tied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairScore {
    /// The smaller device group.
    pub a: i64,
    /// The larger.
    pub b: i64,
    /// How strongly.
    pub score: f64,
}

/// Days on which only one of the two was there count half: devices of a home are not all used each
/// day.
const DAY_APART: f64 = 0.5;
/// A visitor has a home of their own: a pair counts only if each of the two spent that share of its
/// days at the addresses where both were.
const SHARED_DAYS_MIN: f64 = 0.34;
/// After how many days a score counts half.
const HALF_LIFE_DAYS: f64 = 28.0;
/// What is weaker than that is forgotten.
const SCORE_MIN: f64 = 0.01;

/// Returns the pairs of an epoch of which `days` have passed, in the order of their devices. Stays
/// may come in any order.
#[must_use]
pub fn pairs_of_epoch(stays: &[Stay], days: u16) -> Vec<PairScore> {
    let mut days_of: HashMap<i64, u16> = HashMap::new();
    for stay in stays {
        *days_of.entry(stay.device).or_default() |= stay.home_days;
    }
    // In one order, because a sum of reals depends on it.
    let mut sorted = stays.to_vec();
    sorted.sort_unstable_by_key(|stay| (stay.address, stay.device));
    let mut together: HashMap<(i64, i64), Together> = HashMap::new();
    for stays in sorted.chunk_by(|one, other| one.address == other.address) {
        if AddressKind::of(stays, days) != AddressKind::Home {
            continue;
        }
        let at_home: Vec<&Stay> = stays.iter().filter(|stay| stay.home_days != 0).collect();
        let crowd = f64::from(u32::try_from(at_home.len()).unwrap_or(u32::MAX) + 1).log2();
        for (at, a) in at_home.iter().enumerate() {
            for b in at_home.iter().skip(at + 1) {
                let common = f64::from((a.home_days & b.home_days).count_ones());
                let fewer = a.home_days.count_ones().min(b.home_days.count_ones());
                let pair = together.entry((a.device, b.device)).or_default();
                pair.score += (common + DAY_APART * f64::from(fewer)) / crowd;
                pair.a_days |= a.home_days;
                pair.b_days |= b.home_days;
            }
        }
    }
    let is_enough = |days: u16, device: &i64| {
        let all = days_of.get(device).copied().unwrap_or(0).count_ones();
        f64::from(days.count_ones()) >= SHARED_DAYS_MIN * f64::from(all)
    };
    let mut pairs: Vec<PairScore> = together
        .into_iter()
        .filter(|((a, b), pair)| is_enough(pair.a_days, a) && is_enough(pair.b_days, b))
        .map(|((a, b), pair)| PairScore {
            a,
            b,
            score: pair.score,
        })
        .collect();
    pairs.sort_unstable_by_key(|pair| (pair.a, pair.b));
    pairs
}

/// Two devices at the addresses where both were.
#[derive(Default)]
struct Together {
    score: f64,
    a_days: u16,
    b_days: u16,
}

/// Adds the pairs of an epoch that has ended to those of before, in the order of their devices.
#[must_use]
pub fn fold(before: &[PairScore], ended: &[PairScore]) -> Vec<PairScore> {
    let weight = (-f64::from(EPOCH_DAYS) / HALF_LIFE_DAYS).exp2();
    let mut scores: HashMap<(i64, i64), f64> = HashMap::new();
    for pair in before {
        *scores.entry((pair.a, pair.b)).or_default() += pair.score * weight;
    }
    for pair in ended {
        *scores.entry((pair.a, pair.b)).or_default() += pair.score;
    }
    let mut pairs: Vec<PairScore> = scores
        .into_iter()
        .filter(|(_, score)| *score >= SCORE_MIN)
        .map(|((a, b), score)| PairScore { a, b, score })
        .collect();
    pairs.sort_unstable_by_key(|pair| (pair.a, pair.b));
    pairs
}
