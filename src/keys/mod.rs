//! Key rings: the keys of the visitor cookie, of click URLs and of users, each kind a type of its
//! own; and the key of households ([`HouseholdKey`]), which is none of a ring.
//!
//! A key is an HMAC-SHA-256 that was already given its context, so signing begins with a copy of
//! its state. The first key of a ring signs, and every key verifies: a new key is put first, and
//! the old one stays until what it signed has expired. [`crate::visitor`] and [`crate::click`] say
//! what exactly is signed.

mod click;
mod cookie;
mod household;
mod user;

pub use click::ClickKeyring;
pub(crate) use click::Purpose;
pub use cookie::CookieKeyring;
pub(crate) use household::{HouseholdKey, epoch_of};
pub use user::UserKeyring;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A key with its context.
pub(crate) type Key = Hmac<Sha256>;

/// Keys with their IDs.
#[derive(Clone)]
struct Ring(Vec<(u8, Key)>);

impl Ring {
    /// Makes a ring of secrets with their IDs; `context` precedes whatever is signed.
    fn new<'k>(secrets: impl IntoIterator<Item = (u8, &'k [u8])>, context: &[u8]) -> Ring {
        let key = |(id, secret): (u8, &[u8])| {
            let mut key = Key::new_from_slice(secret).ok()?;
            key.update(context);
            Some((id, key))
        };
        Ring(secrets.into_iter().filter_map(key).collect())
    }

    /// Returns the key that signs, with its ID.
    fn first(&self) -> Option<(u8, &Key)> {
        self.0.first().map(|(id, key)| (*id, key))
    }

    /// Returns the key with that ID.
    fn find(&self, id: u8) -> Option<&Key> {
        self.0
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, key)| key)
    }
}
