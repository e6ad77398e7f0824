//! What hits cost, and how rounds of figures become one.

use std::collections::BTreeMap;

use loadtest::rig::usage::{Reading, Root, Time};

/// CPU time that hits took, by thread or process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) hits: u64,
    pub(crate) parts: BTreeMap<String, Time>,
}

impl Cost {
    /// Microseconds a hit: all of it, in user space, in the kernel.
    pub(crate) fn micros(&self) -> Micros {
        self.parts
            .values()
            .fold(Micros::default(), |sum, time| sum.plus(self.of(*time)))
    }

    /// The same of one part.
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 hits")]
    pub(crate) fn of(&self, time: Time) -> Micros {
        let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / self.hits.max(1) as f64;
        Micros {
            user: each(time.user),
            kernel: each(time.kernel),
        }
    }
}

/// Microseconds a hit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Micros {
    pub(crate) user: f64,
    pub(crate) kernel: f64,
}

impl Micros {
    pub(crate) fn sum(self) -> f64 {
        self.user + self.kernel
    }

    fn plus(self, other: Micros) -> Micros {
        Micros {
            user: self.user + other.user,
            kernel: self.kernel + other.kernel,
        }
    }
}

/// Counts CPU time from when it is made.
pub(crate) struct Meter {
    roots: Vec<Root>,
    before: Reading,
}

impl Meter {
    pub(crate) fn start(roots: impl IntoIterator<Item = Root>) -> Meter {
        let roots: Vec<Root> = roots.into_iter().collect();
        let before = Reading::of(&roots);
        Meter { roots, before }
    }

    pub(crate) fn stop(self, hits: u64) -> Cost {
        Cost {
            hits,
            parts: Reading::of(&self.roots).since(&self.before),
        }
    }
}

/// The middle one; of an even number the mean of the two in the middle.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
    if figures.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
    }
}

/// The median of each round's own ratio: what differs from round to round cancels out.
pub(crate) fn ratio(of: &[Cost], to: &[Cost]) -> f64 {
    let pairs = of.iter().zip(to);
    median(pairs.map(|(of, to)| of.micros().sum() / to.micros().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_two() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
