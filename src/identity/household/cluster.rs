//! From pairs to households.

use std::collections::HashMap;

use super::PairScore;

/// The most devices of a household.
pub(crate) const HOUSEHOLD_DEVICES_MAX: usize = 15;

/// A weaker pair joins nobody.
const JOIN_SCORE_MIN: f64 = 0.25;
/// A weaker pair does not speak for joining two households.
const AGREE_SCORE_MIN: f64 = JOIN_SCORE_MIN / 4.0;

/// Returns the households of two devices or more, each in the order of its devices, and they in
/// that of their first.
///
/// Pairs are taken from the strongest on. Two households become one if together they have at most
/// [`HOUSEHOLD_DEVICES_MAX`] devices and at least half of the pairs across agree: otherwise one
/// visitor would join two homes.
#[must_use]
pub fn cluster(pairs: &[PairScore]) -> Vec<Vec<i64>> {
    let agreeing: HashMap<(i64, i64), f64> = pairs
        .iter()
        .filter(|pair| pair.score >= AGREE_SCORE_MIN)
        .map(|pair| ((pair.a, pair.b), pair.score))
        .collect();
    let mut strongest: Vec<&PairScore> = pairs
        .iter()
        .filter(|pair| pair.score >= JOIN_SCORE_MIN)
        .collect();
    strongest.sort_unstable_by(|one, other| {
        let order = other.score.total_cmp(&one.score);
        order.then_with(|| (one.a, one.b).cmp(&(other.a, other.b)))
    });
    let mut households = Households::default();
    for pair in strongest {
        households.join(pair, &agreeing);
    }
    households.into_sorted()
}

/// Households that are growing.
#[derive(Default)]
struct Households {
    of: HashMap<i64, usize>,
    members: Vec<Vec<i64>>,
}

impl Households {
    fn find(&mut self, device: i64) -> usize {
        let members = &mut self.members;
        *self.of.entry(device).or_insert_with(|| {
            members.push(vec![device]);
            members.len() - 1
        })
    }

    fn join(&mut self, pair: &PairScore, agreeing: &HashMap<(i64, i64), f64>) {
        let (one, other) = (self.find(pair.a), self.find(pair.b));
        if one == other {
            return;
        }
        let devices = |at: usize| self.members.get(at).map_or(&[][..], Vec::as_slice);
        let (ours, theirs) = (devices(one), devices(other));
        if ours.len() + theirs.len() > HOUSEHOLD_DEVICES_MAX {
            return;
        }
        let across = ours
            .iter()
            .flat_map(|a| theirs.iter().map(move |b| (*a.min(b), *a.max(b))));
        let agree = across.filter(|pair| agreeing.contains_key(pair)).count();
        if 2 * agree < ours.len() * theirs.len() {
            return;
        }
        let moved = self.members.get_mut(other).map(std::mem::take);
        for device in moved.into_iter().flatten() {
            self.of.insert(device, one);
            if let Some(members) = self.members.get_mut(one) {
                members.push(device);
            }
        }
    }

    fn into_sorted(self) -> Vec<Vec<i64>> {
        let mut households = self.members;
        households.retain(|members| members.len() > 1);
        for members in &mut households {
            members.sort_unstable();
        }
        households.sort_unstable();
        households
    }
}
