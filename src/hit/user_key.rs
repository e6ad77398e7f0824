//! The keyed hash that stands for a user.

use std::fmt;

/// The keyed hash of a sender's user ID: 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserKey(pub [u8; 16]);

impl UserKey {
    /// How many older keys there may be beside the one that makes new hashes.
    pub const OLDER_MAX: usize = 3;
}

impl fmt::Display for UserKey {
    /// Writes 32 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}
