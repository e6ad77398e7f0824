//! What the consent signals of one hit allow.

use std::fmt;

/// What the consent signals of one hit allow: a set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permit(u8);

impl Permit {
    /// Nothing is allowed.
    pub const NONE: Permit = Permit(0);
    /// The visitor cookie and IDs.
    pub const STORE: Permit = Permit(1);
    /// The hit as a row of its own.
    pub const MEASURE: Permit = Permit(2);
    /// Segments.
    pub const PROFILE: Permit = Permit(4);
    /// Exchange of IDs with a partner.
    pub const MATCH: Permit = Permit(8);
    /// Linking of devices and households.
    pub const LINK: Permit = Permit(16);
    /// Geodata finer than the region.
    pub const LOCATE: Permit = Permit(32);
    /// Everything.
    pub const ALL: Permit = Permit(63);

    /// Each flag with its name in config, cookies and SQL.
    pub const NAMED: [(&'static str, Permit); 6] = [
        ("store", Permit::STORE),
        ("measure", Permit::MEASURE),
        ("profile", Permit::PROFILE),
        ("match", Permit::MATCH),
        ("link", Permit::LINK),
        ("locate", Permit::LOCATE),
    ];

    /// Returns the flag with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Permit> {
        Permit::NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, flag)| *flag)
    }

    /// Returns the names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Permit::NAMED
            .into_iter()
            .filter(move |(_, flag)| self.allows(*flag))
            .map(|(name, _)| name)
    }

    /// Checks whether every flag of `other` is set here.
    #[must_use]
    pub fn allows(self, other: Permit) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the flags that are set in either.
    #[must_use]
    pub const fn with(self, other: Permit) -> Permit {
        Permit(self.0 | other.0)
    }

    /// Returns the flags that are set here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Permit) -> Permit {
        Permit(self.0 & !other.0)
    }

    /// Returns the flags that are set in both.
    #[must_use]
    pub const fn and(self, other: Permit) -> Permit {
        Permit(self.0 & other.0)
    }

    /// Returns the flags as a number: 1 store, 2 measure, 4 profile, 8 match, 16 link, 32 locate.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns the flags of a number; unknown ones are left out.
    pub(crate) fn from_bits(bits: u64) -> Permit {
        Permit(u8::try_from(bits & u64::from(Permit::ALL.0)).unwrap_or(0))
    }
}

impl fmt::Display for Permit {
    /// Writes the names of the flags joined by dots, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for name in self.names() {
            write!(f, "{separator}{name}")?;
            separator = ".";
        }
        if separator.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_names_its_flags() {
        assert_eq!(Permit::NONE.to_string(), "none");
        assert_eq!(
            Permit::STORE.with(Permit::LOCATE).to_string(),
            "store.locate"
        );
        assert_eq!(Permit::from_name("match"), Some(Permit::MATCH));
        assert_eq!(Permit::from_name("all"), None);
    }
}
