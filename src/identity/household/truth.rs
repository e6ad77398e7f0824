//! How well households agree with what is known: a share with its confidence interval.

/// The least number of independent cases that say anything.
pub(crate) const CASES_MIN: u64 = 30;

/// The quantile of the normal distribution for 95 %.
const Z: f64 = 1.959_964;

/// How many of some pairs of devices are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Pairs that are right.
    pub right: u64,
    /// All pairs.
    pub pairs: u64,
    /// How many people they are from. Pairs of one person are not independent, so the interval
    /// counts people.
    pub cases: u64,
}

/// A share, with the interval that has the true one in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The share.
    pub share: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Agreement {
    /// Returns the share that is right with its interval by Wilson's score; `None` if there are
    /// fewer cases than [`CASES_MIN`].
    #[must_use]
    pub(crate) fn estimate(self) -> Option<Estimate> {
        if self.cases < CASES_MIN || self.pairs == 0 {
            return None;
        }
        let share = real(self.right) / real(self.pairs);
        let n = real(self.cases);
        let scale = 1.0 + Z * Z / n;
        let middle = (share + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        Some(Estimate {
            share,
            low: (middle - half).max(0.0),
            high: (middle + half).min(1.0),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "pairs are far fewer than 2^53")]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn estimate(right: u64, pairs: u64, cases: u64) -> Option<Estimate> {
        Agreement {
            right,
            pairs,
            cases,
        }
        .estimate()
    }

    #[test]
    fn the_interval_is_wilsons_over_cases_and_too_few_of_them_say_nothing() {
        // Wilson's interval of 90 of 100: 0.8256 to 0.9448 (Newcombe 1998, method 3).
        let found = estimate(90, 100, 100).unwrap();
        assert!((found.share - 0.9).abs() < 1e-12, "{found:?}");
        assert!((found.low - 0.8256).abs() < 1e-4, "{found:?}");
        assert!((found.high - 0.9448).abs() < 1e-4, "{found:?}");
        let wider = estimate(900, 1_000, 100).unwrap();
        assert_eq!((wider.low, wider.high), (found.low, found.high));
        let all = estimate(30, 30, 30).unwrap();
        assert!(all.high > 0.999_999 && all.low < 0.89, "{all:?}");
        let none = estimate(0, 30, 30).unwrap();
        assert!(none.low < 1e-9 && none.high > 0.11, "{none:?}");
        assert_eq!(estimate(29, 29, 29), None);
        assert_eq!(estimate(0, 0, 100), None);
    }
}
