//! How a partner proves an ID that a browser brings from it. Pure.
//!
//! Anyone can ask for `/sync/PARTNER?uid=…`, or make another person's browser ask for it. So a
//! partner signs what it sends back: `sig` holds, in hex, HMAC-SHA-256 under the partner's secret
//! over [`CONTEXT`] and, each ended by a line feed, `ts` (seconds since 1970), our ID for the
//! visitor, which `match_url` told the partner, and the partner's ID. Our ID binds the proof to one
//! browser: brought by another one it proves nothing.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{is_near, verifies};
use crate::clock::UnixMicros;
use crate::hit::VisitorId;

/// What the MAC covers first.
pub(crate) const CONTEXT: &[u8] = b"avtryck sync 1\n";

/// What the MAC covers.
#[derive(Clone, Copy, Debug)]
pub struct SignedExchange<'r> {
    /// `ts`, as sent.
    pub timestamp: &'r str,
    /// Our ID.
    pub visitor: VisitorId,
    /// The partner's ID, decoded.
    pub partner_uid: &'r str,
}

impl SignedExchange<'_> {
    fn mac(&self, secret: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(CONTEXT);
        for line in [self.timestamp, &self.visitor.to_string(), self.partner_uid] {
            mac.update(line.as_bytes());
            mac.update(b"\n");
        }
        Some(mac)
    }

    /// Returns the signature, in hex.
    #[must_use]
    pub fn signature(&self, secret: &[u8]) -> Option<String> {
        let mac = self.mac(secret)?.finalize().into_bytes();
        Some(HEXLOWER.encode(&mac))
    }

    /// Checks whether the signature is the partner's, made within `window_seconds` of `now`. A
    /// partner without a secret proves nothing.
    #[must_use]
    pub(crate) fn is_proved_by(
        &self,
        signature: &str,
        secret: &str,
        now: UnixMicros,
        window_seconds: u64,
    ) -> bool {
        !secret.is_empty()
            && is_near(self.timestamp, now, window_seconds)
            && self
                .mac(secret.as_bytes())
                .is_some_and(|mac| verifies(mac, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);
    const SECRET: &str = "a secret of sixteen";
    const SIGNED: SignedExchange<'_> = SignedExchange {
        timestamp: "1800000000",
        visitor: VisitorId([7; 16]),
        partner_uid: "u-1",
    };

    #[test]
    fn the_signature_is_the_one_that_the_documentation_tells_to_make() {
        // printf 'avtryck sync 1\n1800000000\n07070707-0707-0707-0707-070707070707\nu-1\n' |
        //   openssl dgst -sha256 -hmac 'a secret of sixteen'
        let signature = SIGNED.signature(SECRET.as_bytes());
        assert_eq!(
            signature.as_deref(),
            Some("875041e1480f2438d0856a404f1b14debef20e8b9364dbe5d5a04b7960fb6533")
        );
    }

    #[test]
    fn a_proof_is_one_of_this_visitor_this_id_this_partner_and_this_moment() {
        let signature = SIGNED.signature(SECRET.as_bytes()).expect("a signature");
        let holds = |signed: SignedExchange<'_>, secret: &str, seconds: i64| {
            let now = UnixMicros(NOW.0 + seconds * 1_000_000);
            signed.is_proved_by(&signature, secret, now, 300)
        };
        assert!(holds(SIGNED, SECRET, 0) && holds(SIGNED, SECRET, 300));
        assert!(!holds(SIGNED, SECRET, 301) && !holds(SIGNED, SECRET, -301));
        assert!(!holds(SIGNED, "another secret", 0) && !holds(SIGNED, "", 0));
        for other in [
            SignedExchange {
                timestamp: "1800000001",
                ..SIGNED
            },
            SignedExchange {
                visitor: VisitorId([8; 16]),
                ..SIGNED
            },
            SignedExchange {
                partner_uid: "u-2",
                ..SIGNED
            },
        ] {
            assert!(!holds(other, SECRET, 0), "{other:?}");
        }
        for wrong in ["", "00", &signature[2..]] {
            assert!(!SIGNED.is_proved_by(wrong, SECRET, NOW, 300), "{wrong}");
        }
        // The key of an empty secret is known to everybody.
        let unkeyed = SIGNED.signature(b"").expect("a signature");
        assert!(!SIGNED.is_proved_by(&unkeyed, "", NOW, 300));
    }
}
