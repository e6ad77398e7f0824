//! How a site proves who is logged in. Pure.
//!
//! Anybody can send `user=SOMEBODY` from a browser. So the site's server gives the page, beside the
//! user, a `user_sig`: the ID of one of the site's `user_sig_keys`, the second since 1970 at which
//! it expires, and in hex an HMAC-SHA-256, joined by dots. The MAC is over [`CONTEXT`] and, each
//! ended by a line feed, the site's key, the user as the event names it, and the expiry in decimal
//! digits. Neither the site's key nor the expiry can hold a line feed, so no two claims have the
//! same bytes, whatever the user is.
//!
//! A signature that expires more than [`VALID_SECONDS_MAX`] from now is not believed. It proves
//! that the site vouches for this user to whoever shows it; it names no visitor. So a signature
//! that is stolen proves the same in another browser until it expires, and it proves nothing of
//! other IDs beside it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{to_hex, verifies};
use crate::clock::UnixMicros;

/// What the MAC covers first.
pub(crate) const CONTEXT: &[u8] = b"avtryck user 1\n";
/// How far from now a signature may expire at most, in seconds.
pub const VALID_SECONDS_MAX: i64 = 24 * 60 * 60;

/// That a user is logged in on a site.
#[derive(Clone, Copy, Debug)]
pub struct UserClaim<'r> {
    /// The site's key.
    pub site: &'r str,
    /// The user, by the site's own ID.
    pub user: &'r str,
}

impl UserClaim<'_> {
    fn mac(&self, expires: &str, secret: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(CONTEXT);
        for line in [self.site, self.user, expires] {
            mac.update(line.as_bytes());
            mac.update(b"\n");
        }
        Some(mac)
    }

    /// Returns the signature that expires at a second since 1970.
    #[must_use]
    pub fn sign(&self, (id, secret): (u8, &[u8]), expires: i64) -> Option<String> {
        let expires = expires.to_string();
        let digits = to_hex(self.mac(&expires, secret)?);
        Some(format!("{id}.{expires}.{digits}"))
    }

    /// Checks whether a signature was made with one of the keys and has not expired.
    #[must_use]
    pub(crate) fn is_proved_by(
        &self,
        signature: &str,
        keys: &[(u8, Vec<u8>)],
        now: UnixMicros,
    ) -> bool {
        let mut parts = signature.split('.');
        let (Some(id), Some(expires), Some(digits), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let is_signed = keys
            .iter()
            .find(|(known, _)| id.parse() == Ok(*known))
            .and_then(|(_, secret)| self.mac(expires, secret))
            .is_some_and(|mac| verifies(mac, digits));
        let left = expires
            .parse::<i64>()
            .ok()
            .and_then(|expires| expires.checked_sub(now.seconds()));
        is_signed && left.is_some_and(|left| (1..=VALID_SECONDS_MAX).contains(&left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);
    const CLAIM: UserClaim<'_> = UserClaim {
        site: "shop",
        user: "anna",
    };

    fn keys() -> Vec<(u8, Vec<u8>)> {
        vec![(2, vec![2; 32]), (1, vec![1; 32])]
    }

    fn signed(expires: i64) -> String {
        CLAIM.sign((1, &[1; 32]), expires).expect("a signature")
    }

    #[test]
    fn the_signature_is_the_one_that_the_documentation_tells_to_make() {
        // printf 'avtryck user 1\nshop\nanna\n1800003600\n' |
        //   openssl dgst -sha256 -mac HMAC -macopt hexkey:01…01
        assert_eq!(
            signed(1_800_003_600),
            "1.1800003600.7db2f247e34cca9b9f804a70c32711db4d5c23c010b3921b55c7c5fb9dcdefdb"
        );
    }

    #[test]
    fn a_signature_holds_until_it_expires_and_for_a_day_at_most() {
        for (left, holds) in [
            (-1, false),
            (0, false),
            (1, true),
            (86_400, true),
            (86_401, false),
        ] {
            let signature = signed(1_800_000_000 + left);
            assert_eq!(
                CLAIM.is_proved_by(&signature, &keys(), NOW),
                holds,
                "{left}"
            );
        }
        let (always, before) = (signed(i64::MAX), signed(i64::MIN));
        assert!(!CLAIM.is_proved_by(&always, &keys(), NOW));
        assert!(!CLAIM.is_proved_by(&before, &keys(), NOW));
    }

    #[test]
    fn a_signature_is_of_one_user_on_one_site_under_one_key() {
        let signature = signed(1_800_003_600);
        assert!(CLAIM.is_proved_by(&signature, &keys(), NOW));
        for (site, user) in [
            ("shop", "bo"),
            ("shop", "Anna"),
            ("other", "anna"),
            ("shop", ""),
            ("shop\nanna", ""),
            ("shop", "anna\n1800003600"),
        ] {
            let other = UserClaim { site, user };
            assert!(!other.is_proved_by(&signature, &keys(), NOW), "{other:?}");
        }
        // The lines of one claim are those of no other.
        let split = UserClaim {
            site: "shop",
            user: "anna\n1",
        };
        let of_split = split
            .sign((1, &[1; 32]), 1_800_003_600)
            .expect("a signature");
        assert!(split.is_proved_by(&of_split, &keys(), NOW));
        assert!(!CLAIM.is_proved_by(&of_split, &keys(), NOW));
        let digits = signature.rsplit('.').next().expect("digits");
        for wrong in [
            String::new(),
            digits.to_owned(),
            signature.replacen("1.", "2.", 1),
            signature.replacen("1.", "3.", 1),
            signature.replacen("1.", ".", 1),
            signature.replacen("1.", "257.", 1),
            signature.replacen(".1800003600", ".1800003601", 1),
            signature.replacen(".1800003600", ".+1800003600", 1),
            signature.replacen(".1800003600", ".01800003600", 1),
            format!("{signature}0"),
            format!("{signature}.1"),
            signature
                .get(..signature.len() - 2)
                .expect("ASCII")
                .to_owned(),
        ] {
            assert!(!CLAIM.is_proved_by(&wrong, &keys(), NOW), "{wrong}");
        }
        assert!(!CLAIM.is_proved_by(&signature, &[], NOW));
        assert!(!CLAIM.is_proved_by(&signature, &[(1, vec![2; 32])], NOW));
    }
}
