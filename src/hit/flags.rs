//! What is noteworthy about a hit.

use std::fmt;

/// What is noteworthy about a hit: a set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

/// Makes a constant of each flag, and the lists of them, from one table.
macro_rules! flags {
    (
        stored { $( $(#[$doc:meta])* $flag:ident = $bit:literal $name:literal; )* }
        unstored { $( $(#[$unstored_doc:meta])* $unstored:ident = $unstored_bit:literal $unstored_name:literal; )* }
    ) => {
        impl Flags {
            $( $(#[$doc])* pub const $flag: Flags = Flags(1 << $bit); )*
            $( $(#[$unstored_doc])* pub const $unstored: Flags = Flags(1 << $unstored_bit); )*

            /// Each flag that a row may have, with its name in SQL.
            pub const NAMED: [(&'static str, Flags); [$($bit),*].len()] =
                [$( ($name, Flags::$flag) ),*];

            /// Each flag with its name, those that no row has included.
            pub const ALL: [(&'static str, Flags); [$($bit,)* $($unstored_bit),*].len()] =
                [$( ($name, Flags::$flag), )* $( ($unstored_name, Flags::$unstored) ),*];
        }
    };
}

flags! {
    stored {
        /// A value held NUL, control characters or bytes that are not UTF-8; they were replaced.
        CLEANED = 0 "cleaned";
        /// A value was longer than its limit and was cut, or parameters were left out.
        TRUNCATED = 1 "truncated";
        /// A value was an unexpanded macro of an ad network; it counts as absent.
        MACRO = 2 "macro";
        /// The browser fetched the page ahead and may never show it (`Sec-Purpose`).
        PREFETCH = 3 "prefetch";
        /// The visitor's ID was made with this hit.
        NEW_VISITOR = 4 "new_visitor";
        /// The request came from a page whose origin is not one of the site's.
        FOREIGN_ORIGIN = 5 "foreign_origin";
        /// The visitor cookie is a third party's: it belongs to one embedding site only.
        THIRD_PARTY = 6 "third_party";
        /// The client sends more hits than its limit.
        OVER_LIMIT = 7 "over_limit";
        /// The visitor never saw the ad: a preview, a thumbnail, or the test of an auction.
        PREVIEW = 8 "preview";
        /// The user agent is missing, or one that no browser or app has.
        BAD_AGENT = 9 "bad_agent";
        /// The address belongs to a data centre (`traffic.data_centre_asns`); set by the loader.
        DATA_CENTRE = 10 "data_centre";
        /// A click on a creative that its visitor had no impression of; set by the loader.
        NO_IMPRESSION = 11 "no_impression";
        /// A click within 100 ms of its impression; set by the loader.
        FAST_CLICK = 12 "fast_click";
        /// A signed click URL for one use, used again; set by the loader.
        REPLAYED = 13 "replayed";
        /// A known crawler; set by the loader.
        BOT = 14 "bot";
        /// One of the operator's own systems sent it, by `/s/{system}`.
        SYSTEM = 18 "system";
        /// Its time may be wrong: it cannot be right, or the clock of Postgres had jumped within 24
        /// hours before it was loaded; set by the loader.
        WRONG_CLOCK = 19 "wrong_clock";
        /// A service that fetches the pictures of mail for a reader; set by the loader.
        MAIL_PROXY = 20 "mail_proxy";
        /// Its sender's ID of the event was used before, for something else; set by the loader.
        ID_CONFLICT = 21 "id_conflict";
        /// Its device is unknown, because its batch had more new devices than it may look up; set
        /// by the loader.
        DEVICE_LATER = 22 "device_later";
        /// Its ad, the category of its page or its device was one new name too many for that site
        /// on that day, and is "other" or unknown; set by the loader.
        OTHER_AD = 23 "other_ad";
        /// A conversion that names a click of another visitor; set by the loader.
        FOREIGN_CLICK = 24 "foreign_click";
        /// When it happened by the sender's clock was in the future or more than 30 days ago (from
        /// an own system, longer ago than rows are kept), and was clamped; or cannot be read.
        CLOCK = 25 "clock";
        /// A document of it is not as its JSON schema says (`schema.folders`); set by the loader.
        SCHEMA = 26 "schema";
        /// Somebody vouches for what it names: all of its IDs where a system ([`Flags::SYSTEM`]) or
        /// a signed callback says so; the user of its own visitor, and no other ID beside it, where
        /// the site signed who is logged in (`user_sig`).
        PROVED = 27 "proved";
        /// Its `user_sig` is none of the site's for that user, or has expired, so that its user is
        /// anybody's word.
        BAD_USER_SIG = 28 "bad_user_sig";
        /// A click or a conversion on a site whose conversions must be signed (`conversions`).
        SIGNED_ONLY = 29 "signed_only";
        /// A conversion that our key signed, or an exchanged ID that its partner signed.
        SIGNED = 30 "signed";
        /// A program drives the browser (`navigator.webdriver`), as the tag says.
        WEBDRIVER = 31 "webdriver";
    }
    unstored {
        /// A click whose signed URL is for one use: the loader keeps a later one with the same
        /// event ID as a replay.
        ONE_TIME = 15 "one_time";
        /// A consent signal or a partner was meant and is not understood, so that the hit is only
        /// counted ([`crate::consent::names`]).
        UNCLEAR_CONSENT = 16 "unclear_consent";
        /// The page asked that nothing be kept of who sends (`SP-Anonymous`): once the loader has
        /// looked up the place and the network, it keeps nothing of the address.
        ANONYMOUS = 17 "anonymous";
    }
}

impl Flags {
    /// The flags of hits that no figure counts, even where they are rows.
    pub(crate) const UNCOUNTED: Flags = Flags::PREFETCH.with(Flags::PREVIEW);
    /// The flags that stay with a hit of which only a count is kept.
    pub const OF_COUNTS: Flags = Flags::UNCOUNTED.with(Flags::UNCLEAR_CONSENT);

    /// The flags that tell the loader what to do, and are in no row.
    pub(crate) const OF_LOADER: Flags = Flags::ONE_TIME.with(Flags::ANONYMOUS);

    /// The flags of hits that use up no event ID: whoever sends them could take the place of a hit
    /// that counts.
    pub(crate) const WITHOUT_ID: Flags =
        Flags::UNCOUNTED.with(Flags::OVER_LIMIT).with(Flags::MACRO);

    /// The flags of hits that a machine made by itself.
    pub(crate) const MACHINE: Flags = Flags::UNCOUNTED
        .with(Flags::BAD_AGENT)
        .with(Flags::DATA_CENTRE)
        .with(Flags::BOT);

    /// Returns these flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Sets the flags of `other` here.
    pub fn set(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    /// Checks whether every flag of `other` is set here.
    #[must_use]
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Checks whether any flag of `other` is set here.
    #[must_use]
    pub(crate) fn has_any(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the flags that are set in both.
    #[must_use]
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }

    /// Returns the flags that are set here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// Returns the flags of a number.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Flags {
        Flags(bits)
    }

    /// Returns the flags as a number; the view `hit_detail` names them.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Flags {
    /// Writes the names of the flags that a row may have, joined by dots; nothing for no flag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, flag) in Flags::NAMED {
            if self.has(flag) {
                write!(f, "{separator}{name}")?;
                separator = ".";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_has_a_bit_and_a_name_of_its_own() {
        let mut names: Vec<&str> = Flags::ALL.iter().map(|(name, _)| *name).collect();
        let bits = Flags::ALL.iter().fold(0, |bits, (name, flag)| {
            assert_eq!(bits & flag.bits(), 0, "{name}");
            bits | flag.bits()
        });
        assert_eq!(bits.count_ones() as usize, names.len());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Flags::ALL.len());
    }

    #[test]
    fn a_hit_over_its_limit_is_named_so() {
        let flags = Flags::OVER_LIMIT.with(Flags::CLEANED);
        assert_eq!(flags.to_string(), "cleaned.over_limit");
    }
}
