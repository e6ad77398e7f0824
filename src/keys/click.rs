//! The keys of click URLs and of the pixels of conversions.

use super::{Key, Ring};

/// What the MAC of a click covers before the query string.
const CLICK_CONTEXT: &[u8] = b"avtryck click 1\n";
/// What the MAC of a conversion covers before the query string.
const CONVERSION_CONTEXT: &[u8] = b"avtryck conversion 1\n";

/// What a signature is good for. One for another purpose does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A click may go to its target.
    Click,
    /// A conversion is the site's own word.
    Conversion,
}

/// The keys of click URLs, which sign the pixels of conversions too. Its methods that sign and
/// verify stand in [`crate::click`].
pub struct ClickKeyring {
    clicks: Ring,
    conversions: Ring,
}

impl ClickKeyring {
    /// Makes a ring of secrets with their IDs.
    #[must_use]
    pub fn new<'k>(secrets: impl IntoIterator<Item = (u8, &'k [u8])>) -> ClickKeyring {
        let secrets: Vec<_> = secrets.into_iter().collect();
        ClickKeyring {
            clicks: Ring::new(secrets.iter().copied(), CLICK_CONTEXT),
            conversions: Ring::new(secrets, CONVERSION_CONTEXT),
        }
    }

    fn ring(&self, purpose: Purpose) -> &Ring {
        match purpose {
            Purpose::Click => &self.clicks,
            Purpose::Conversion => &self.conversions,
        }
    }

    /// Returns the key that signs, with its ID.
    pub(crate) fn first(&self, purpose: Purpose) -> Option<(u8, &Key)> {
        self.ring(purpose).first()
    }

    /// Returns the key with that ID.
    pub(crate) fn find(&self, purpose: Purpose, id: u8) -> Option<&Key> {
        self.ring(purpose).find(id)
    }
}
