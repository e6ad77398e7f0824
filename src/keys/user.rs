//! The keys of the hashes that stand for users.

use hmac::Mac as _;

use super::{Key, Ring};
use crate::hit::UserKey;

/// What the hash of a user covers before the sender's ID.
const CONTEXT: &[u8] = b"avtryck user 1\n";
/// What the fingerprint of a key is the hash of.
const FINGERPRINT_CONTEXT: &[u8] = b"avtryck user fingerprint 1\n";

/// The keys of the hashes that stand for users: the first makes new ones, and what is looked up is
/// looked up under each. A hash is the first 128 bits of an HMAC-SHA-256 of a context and the
/// sender's ID, the same on every site.
pub struct UserKeyring {
    users: Ring,
    fingerprints: Ring,
}

impl UserKeyring {
    /// Makes a ring of secrets with their IDs; without any, no user is hashed.
    #[must_use]
    pub fn new(secrets: &[(u8, Vec<u8>)]) -> UserKeyring {
        let secrets = || secrets.iter().map(|(id, secret)| (*id, secret.as_slice()));
        UserKeyring {
            users: Ring::new(secrets(), CONTEXT),
            fingerprints: Ring::new(secrets(), FINGERPRINT_CONTEXT),
        }
    }

    /// Returns what stands for a user in new hits; `None` without a key.
    #[must_use]
    pub fn hash(&self, user: &str) -> Option<UserKey> {
        let (_, key) = self.users.first()?;
        Some(UserKey(digest(key, user)))
    }

    /// Returns what stood for a user while each older key made new hashes.
    pub fn older_hashes(&self, user: &str) -> impl Iterator<Item = UserKey> {
        self.hashes(user).skip(1)
    }

    /// Returns what may stand for a user in hits of any age: its hash by each key.
    pub fn hashes(&self, user: &str) -> impl Iterator<Item = UserKey> {
        let keys = self.users.0.iter();
        keys.map(move |(_, key)| UserKey(digest(key, user)))
    }

    /// Returns what tells each key apart from every other, and tells nothing of it.
    #[must_use]
    pub(crate) fn fingerprints(&self) -> Vec<[u8; 16]> {
        let keys = self.fingerprints.0.iter();
        keys.map(|(_, key)| digest(key, "")).collect()
    }
}

/// Returns the first 128 bits of the MAC of a text.
fn digest(key: &Key, text: &str) -> [u8; 16] {
    let mac: [u8; 32] = key
        .clone()
        .chain_update(text)
        .finalize()
        .into_bytes()
        .into();
    let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = mac;
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_hashes_and_a_fingerprint_of_its_own_and_the_first_makes_new_ones() {
        let (one, two) = ((1, vec![1; 32]), (2, vec![2; 32]));
        let ring = UserKeyring::new(&[one.clone(), two.clone()]);
        let hashes: Vec<UserKey> = ring.hashes("anna").collect();
        assert_eq!(ring.hash("anna"), hashes.first().copied());
        assert_eq!(
            UserKeyring::new(&[two]).hash("anna"),
            hashes.last().copied()
        );
        assert_ne!(hashes.first(), hashes.last());
        assert_ne!(ring.hash("anna"), ring.hash("Anna"));
        // The ID of a key says nothing about users, and the fingerprint belongs to no user.
        let same = UserKeyring::new(&[(9, one.1)]);
        assert_eq!(same.hash("anna"), ring.hash("anna"));
        assert_eq!(same.fingerprints().first(), ring.fingerprints().first());
        let empty = ring.hash("").map(|user| user.0);
        assert_ne!(empty, ring.fingerprints().first().copied());
        assert_eq!(UserKeyring::new(&[]).hash("anna"), None);
    }

    #[test]
    fn importers_can_make_the_same_hash() {
        // printf 'avtryck user 1\nanna' | openssl dgst -sha256 -mac HMAC -macopt hexkey:07…07
        let ring = UserKeyring::new(&[(1, vec![7; 32])]);
        let hash = ring.hash("anna").map(|user| user.to_string());
        assert_eq!(hash.as_deref(), Some("27c5945a5b21316167f1c32465db683a"));
    }
}
