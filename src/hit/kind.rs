//! What a hit records.

use super::Hit;

/// The name of the event, or of what a callback reports, that an ad is paid for: the visitor bought
/// something.
pub(crate) const CONVERSION: &str = "conversion";

/// What a hit records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A page was shown.
    PageView = 1,
    /// Something with a name of its own happened on a page.
    Event = 2,
    /// An ad was shown.
    Impression = 3,
    /// An ad was clicked.
    Click = 4,
    /// An ad network's server reported something.
    Callback = 5,
    /// IDs were exchanged with a partner.
    Sync = 6,
    /// A visitor withdrew: never a row, but the instruction to stop recording this visitor's ID.
    Withdrawal = 7,
    /// A visitor asked to be erased: never a row, but the instruction to delete what is held too.
    Erasure = 8,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 8] = [
        Kind::PageView,
        Kind::Event,
        Kind::Impression,
        Kind::Click,
        Kind::Callback,
        Kind::Sync,
        Kind::Withdrawal,
        Kind::Erasure,
    ];

    /// Checks whether it is a visitor's instruction, which goes into the spool of instructions and
    /// is never stored as a hit.
    #[must_use]
    pub(crate) fn is_instruction(self) -> bool {
        matches!(self, Kind::Withdrawal | Kind::Erasure)
    }

    /// Returns the word in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::PageView => "page_view",
            Kind::Event => "event",
            Kind::Impression => "impression",
            Kind::Click => "click",
            Kind::Callback => "callback",
            Kind::Sync => "sync",
            Kind::Withdrawal => "withdrawal",
            Kind::Erasure => "erasure",
        }
    }

    /// Returns the number in the spool and in Postgres.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the kind with that number.
    pub(crate) fn from_number(number: u64) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| u64::from(kind.number()) == number)
    }
}

impl Hit<'_> {
    /// Checks whether it is a conversion, which the reports ascribe to a click.
    #[must_use]
    #[inline]
    pub(crate) fn is_conversion(&self) -> bool {
        matches!(self.kind, Kind::Event | Kind::Callback) && self.event_name == CONVERSION
    }
}
