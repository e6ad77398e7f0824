//! The keys of the visitor cookie.

use hmac::Mac as _;

use super::{Key, Ring};

/// What each MAC covers first.
const CONTEXT: &[u8] = b"avtryck visitor 1";
/// What a key is derived for that encrypts the tokens of links.
const LINK_CONTEXT: &[u8] = b"avtryck link 1";

/// The keys of the visitor cookie. Its methods that sign, verify, seal and open stand in
/// [`crate::visitor`].
#[derive(Clone)]
pub struct CookieKeyring {
    ring: Ring,
    links: Ring,
    age_seconds_max: i64,
}

impl CookieKeyring {
    /// Makes a ring of at least one secret with its ID, for cookies that last `age_seconds_max`.
    #[must_use]
    pub fn new<'k>(
        secrets: impl IntoIterator<Item = (u8, &'k [u8])>,
        age_seconds_max: i64,
    ) -> CookieKeyring {
        let secrets: Vec<_> = secrets.into_iter().collect();
        CookieKeyring {
            ring: Ring::new(secrets.iter().copied(), CONTEXT),
            links: Ring::new(secrets, LINK_CONTEXT),
            age_seconds_max,
        }
    }

    /// Returns the key that signs, with its ID.
    pub(crate) fn first(&self) -> Option<(u8, &Key)> {
        self.ring.first()
    }

    /// Returns the key with that ID.
    pub(crate) fn find(&self, id: u8) -> Option<&Key> {
        self.ring.find(id)
    }

    /// Returns every key.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Key> {
        self.ring.0.iter().map(|(_, key)| key)
    }

    /// Returns the key that encrypts the tokens of links, with its ID.
    pub(crate) fn first_for_links(&self) -> Option<(u8, [u8; 32])> {
        let (id, key) = self.links.first()?;
        Some((id, key.clone().finalize().into_bytes().into()))
    }

    /// Returns the key with that ID that decrypts the tokens of links.
    pub(crate) fn find_for_links(&self, id: u8) -> Option<[u8; 32]> {
        let key = self.links.find(id)?;
        Some(key.clone().finalize().into_bytes().into())
    }

    /// Returns the age from which a cookie is no longer accepted, in seconds.
    pub(crate) fn age_seconds_max(&self) -> i64 {
        self.age_seconds_max
    }
}
