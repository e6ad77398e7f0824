//! How well households fit the truth.

use std::collections::HashMap;

/// Precision, recall and what is made of them, over pairs of devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    /// The share of the pairs that were found which are true.
    pub precision: f64,
    /// The share of the true pairs that were found.
    pub recall: f64,
    /// F0.5: precision counts twice as much as recall.
    pub f_half: f64,
    /// B-cubed F1: the mean over devices of how well the household of each fits its home.
    pub b_cubed: f64,
    /// How many devices the largest household has.
    pub largest: usize,
}

impl Score {
    /// Compares the households of devices with their homes. A device that is in no household is
    /// alone. Pairs with a device that was not asked for count neither way.
    pub(crate) fn new(
        devices: impl Iterator<Item = u32>,
        home_of: impl Fn(u32) -> u32,
        households: &[Vec<u32>],
    ) -> Score {
        let household_of: HashMap<u32, usize> = households
            .iter()
            .enumerate()
            .flat_map(|(at, household)| household.iter().map(move |device| (*device, at)))
            .collect();
        // How many devices there are of each home, each household, and each pair of the two. A
        // device in no household has one of its own.
        let (mut homes, mut found, mut both) = (Counts::new(), Counts::new(), Counts::new());
        for device in devices {
            let home = u64::from(home_of(device));
            let household = household_of
                .get(&device)
                .map_or(1 << 40 | u64::from(device), |at| *at as u64);
            *homes.entry((home, 0)).or_default() += 1.0;
            *found.entry((household, 0)).or_default() += 1.0;
            *both.entry((home, household)).or_default() += 1.0;
        }
        let pairs = |counts: &Counts| -> f64 { counts.values().map(|n| n * (n - 1.0) / 2.0).sum() };
        let (right, guessed, true_pairs) = (pairs(&both), pairs(&found), pairs(&homes));
        let precision = if guessed > 0.0 { right / guessed } else { 1.0 };
        let recall = if true_pairs > 0.0 {
            right / true_pairs
        } else {
            1.0
        };
        let all: f64 = both.values().sum();
        let mean = |of: &dyn Fn(&(u64, u64)) -> f64| -> f64 {
            let sum: f64 = both.iter().map(|(key, n)| n * n / of(key)).sum();
            sum / all
        };
        let b_precision = mean(&|key| found.get(&(key.1, 0)).copied().unwrap_or(1.0));
        let b_recall = mean(&|key| homes.get(&(key.0, 0)).copied().unwrap_or(1.0));
        Score {
            precision,
            recall,
            f_half: 1.25 * precision * recall / (0.25 * precision + recall),
            b_cubed: 2.0 * b_precision * b_recall / (b_precision + b_recall),
            largest: households.iter().map(Vec::len).max().unwrap_or(0),
        }
    }
}

type Counts = HashMap<(u64, u64), f64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_devices_are_counted_as_by_hand() {
        // Homes: 0 has 0 to 2, 1 has 3 and 4. Found: 0 with 1 with 3, the others alone.
        let home_of = |device| u32::from(device >= 3);
        let score = Score::new(0..5, home_of, &[vec![0, 1, 3]]);
        assert!((score.precision - 1.0 / 3.0).abs() < 1e-9, "{score:?}");
        assert!((score.recall - 1.0 / 4.0).abs() < 1e-9, "{score:?}");
        // Precision by device: 2/3, 2/3, 1, 1/3, 1; recall: 2/3, 2/3, 1/3, 1/2, 1/2.
        let (precision, recall) = (11.0 / 15.0, 8.0 / 15.0);
        let expected = 2.0 * precision * recall / (precision + recall);
        assert!((score.b_cubed - expected).abs() < 1e-9, "{score:?}");
        assert_eq!(score.largest, 3);
    }
}
