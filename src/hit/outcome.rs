//! What becomes of a hit.

use super::{Flags, Hit, Kind, Permit};

/// What becomes of a hit. It is decided here and nowhere else; SQL's `avtryck.is_counted` says the
/// same of what has no `measure`, to which a test holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A row of its own.
    Row,
    /// One more in `hit_count`, and nothing else.
    Count,
    /// Neither: nobody saw what it records, and it may not be a row; or it is an instruction.
    Nothing,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 3] = [Outcome::Row, Outcome::Count, Outcome::Nothing];

    /// Decides what becomes of a hit of that kind, with these flags, under this permit.
    #[must_use]
    pub fn of(kind: Kind, flags: Flags, permit: Permit) -> Outcome {
        if kind.is_instruction() {
            Outcome::Nothing
        } else if permit.allows(Permit::MEASURE) {
            Outcome::Row
        } else if flags.has_any(Flags::UNCOUNTED) {
            Outcome::Nothing
        } else {
            Outcome::Count
        }
    }

    /// Returns the word in the live view and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Row => "row",
            Outcome::Count => "count",
            Outcome::Nothing => "nothing",
        }
    }
}

impl Hit<'_> {
    /// Decides what becomes of this hit.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome::of(self.kind, self.flags, self.permit)
    }

    /// Decides what becomes of this hit where an ID of it is on the list of suppression: the same
    /// as without the permit to measure.
    #[must_use]
    pub(crate) fn outcome_if_suppressed(&self) -> Outcome {
        let permit = self.permit.without(Permit::MEASURE);
        Outcome::of(self.kind, self.flags, permit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_never_a_row_nor_counted() {
        for kind in Kind::ALL {
            let outcomes = [Permit::NONE, Permit::ALL]
                .map(|permit| Outcome::of(kind, Flags::default(), permit));
            let expected = match kind.is_instruction() {
                true => [Outcome::Nothing; 2],
                false => [Outcome::Count, Outcome::Row],
            };
            assert_eq!(outcomes, expected, "{kind:?}");
        }
    }

    #[test]
    fn what_nobody_saw_is_a_row_with_measure_and_nothing_without() {
        for flag in [Flags::PREFETCH, Flags::PREVIEW] {
            let of = |permit| Outcome::of(Kind::Impression, flag.with(Flags::BOT), permit);
            assert_eq!(of(Permit::ALL), Outcome::Row);
            assert_eq!(of(Permit::ALL.without(Permit::MEASURE)), Outcome::Nothing);
        }
    }
}
