//! What is noteworthy about a hit.

use std::fmt;

/// What is noteworthy about a hit: a set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub(super) u32);

impl Flags {
    /// A value held NUL, control characters or bytes that are not UTF-8; they were replaced.
    pub const CLEANED: Flags = Flags(1);
    /// A value was longer than its limit and was cut, or parameters were left out.
    pub const TRUNCATED: Flags = Flags(1 << 1);
    /// A value was an unexpanded macro of an ad network; it counts as absent.
    pub const MACRO: Flags = Flags(1 << 2);
    /// The browser fetched the page ahead and may never show it (`Sec-Purpose`).
    pub const PREFETCH: Flags = Flags(1 << 3);
    /// The visitor's ID was made with this hit.
    pub const NEW_VISITOR: Flags = Flags(1 << 4);
    /// The request came from a page whose origin is not one of the site's.
    pub const FOREIGN_ORIGIN: Flags = Flags(1 << 5);
    /// The cookie came in a third-party placement: it belongs to one embedding site only.
    pub const THIRD_PARTY: Flags = Flags(1 << 6);
    /// The client sends more hits than its limit.
    pub const OVER_LIMIT: Flags = Flags(1 << 7);

    /// The visitor never saw the ad: a preview, a thumbnail, or the test of an auction.
    pub const PREVIEW: Flags = Flags(1 << 8);
    /// The user agent is missing, or one that no browser or app has.
    pub const BAD_AGENT: Flags = Flags(1 << 9);
    /// The address belongs to a data centre (`traffic.data_centre_asns`); set by the loader.
    pub const DATA_CENTRE: Flags = Flags(1 << 10);
    /// A click on a creative that its visitor had no impression of; set by the loader.
    pub const NO_IMPRESSION: Flags = Flags(1 << 11);
    /// A click within 100 ms of its impression; set by the loader.
    pub const FAST_CLICK: Flags = Flags(1 << 12);
    /// A signed click URL for one use, used again; set by the loader.
    pub const REPLAYED: Flags = Flags(1 << 13);
    /// A known crawler; set by the loader.
    pub const BOT: Flags = Flags(1 << 14);
    /// A click whose signed URL is for one use: a later one with its event ID is kept, as a replay.
    pub const ONE_TIME: Flags = Flags(1 << 15);

    /// Each flag with its name in SQL.
    pub const NAMED: [(&'static str, Flags); 14] = [
        ("cleaned", Flags::CLEANED),
        ("truncated", Flags::TRUNCATED),
        ("macro", Flags::MACRO),
        ("prefetch", Flags::PREFETCH),
        ("new_visitor", Flags::NEW_VISITOR),
        ("foreign_origin", Flags::FOREIGN_ORIGIN),
        ("third_party", Flags::THIRD_PARTY),
        ("preview", Flags::PREVIEW),
        ("bad_agent", Flags::BAD_AGENT),
        ("data_centre", Flags::DATA_CENTRE),
        ("no_impression", Flags::NO_IMPRESSION),
        ("fast_click", Flags::FAST_CLICK),
        ("replayed", Flags::REPLAYED),
        ("bot", Flags::BOT),
    ];

    /// Flags of hits that count nowhere, though they are rows.
    pub const UNCOUNTED: Flags = Flags::PREFETCH.with(Flags::PREVIEW);

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Sets the flags of `other` here.
    pub fn set(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    /// Whether every flag of `other` is set here.
    #[must_use]
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a flag of `other` is set here.
    #[must_use]
    pub fn has_any(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// The flags that both have.
    #[must_use]
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }

    /// The flags that are here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// The flags of that number.
    #[must_use]
    pub fn from_bits(bits: u32) -> Flags {
        Flags(bits)
    }

    /// The flags as a number; the view `hit_detail` names them.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Flags {
    /// The names of the flags joined by dots; nothing for no flag.
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
