//! The keys of click URLs.

use super::{Key, Ring};

/// What the MAC covers before the query string.
const CONTEXT: &[u8] = b"avtryck click 1\n";

/// The keys of click URLs. Its methods that sign and verify stand in [`crate::click`].
pub struct ClickKeyring(Ring);

impl ClickKeyring {
    /// Makes a ring of secrets with their IDs.
    #[must_use]
    pub fn new<'k>(secrets: impl IntoIterator<Item = (u8, &'k [u8])>) -> ClickKeyring {
        ClickKeyring(Ring::new(secrets, CONTEXT))
    }

    /// Returns the key that signs, with its ID.
    pub(crate) fn first(&self) -> Option<(u8, &Key)> {
        self.0.first()
    }

    /// Returns the key with that ID.
    pub(crate) fn find(&self, id: u8) -> Option<&Key> {
        self.0.find(id)
    }
}
