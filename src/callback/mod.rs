//! How a partner's server proves that a callback is its own. Pure.
//!
//! By a MAC: the header `Avtryck-Signature` holds, in hex, HMAC-SHA-256 under the partner's secret over [`CONTEXT`] and,
//! each ended by a line feed, the header `Avtryck-Timestamp` (seconds since 1970), the method and the request's target
//! as sent, then the body as sent, packed if it was packed. Or, for those who can only be told a URL, by a token.
//! Secrets and tokens are compared in constant time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub mod names;

use crate::clock::UnixMicros;

/// What the MAC covers first.
pub const CONTEXT: &[u8] = b"avtryck callback 1\n";
/// A MAC, in bytes.
const MAC_BYTES: usize = 32;

/// A request as the MAC covers it.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the module's documentation says what they are")]
pub struct Signed<'r> {
    pub timestamp: &'r str,
    pub method: &'r str,
    pub target: &'r str,
    pub body: &'r [u8],
}

impl Signed<'_> {
    fn mac(&self, secret: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(CONTEXT);
        for line in [self.timestamp, self.method, self.target] {
            mac.update(line.as_bytes());
            mac.update(b"\n");
        }
        mac.update(self.body);
        Some(mac)
    }

    /// The signature, in hex.
    #[must_use]
    pub fn signature(&self, secret: &[u8]) -> Option<String> {
        let mac = self.mac(secret)?.finalize().into_bytes();
        Some(mac.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether the signature is this request's.
    #[must_use]
    pub fn has_signature(&self, signature: &str, secret: &[u8]) -> bool {
        let mut bytes = [0; MAC_BYTES];
        from_hex(signature, &mut bytes)
            && self
                .mac(secret)
                .is_some_and(|mac| mac.verify_slice(&bytes).is_ok())
    }

    /// Whether the timestamp lies within `window_seconds` of `now`, on either side.
    #[must_use]
    pub fn is_in_time(&self, now: UnixMicros, window_seconds: u64) -> bool {
        let at: Option<i64> = self.timestamp.parse().ok();
        at.is_some_and(|at| now.seconds().abs_diff(at) <= window_seconds)
    }
}

/// Whether a token is the one expected. MACs are compared, so that neither length nor start of a wrong one shows.
#[must_use]
pub fn is_token(given: &str, expected: &str) -> bool {
    let mac = |key: &str| {
        let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok()?;
        Some(mac.chain_update(CONTEXT))
    };
    mac(expected)
        .zip(mac(given))
        .is_some_and(|(expected, given)| given.verify(&expected.finalize().into_bytes()).is_ok())
}

/// Fills `bytes`; false where the text is not exactly theirs.
fn from_hex(text: &str, bytes: &mut [u8]) -> bool {
    if text.len() != 2 * bytes.len() {
        return false;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    text.as_bytes()
        .chunks_exact(2)
        .zip(bytes)
        .all(|(pair, byte)| {
            let value = pair.first().copied().and_then(digit);
            let low = pair.last().copied().and_then(digit);
            let value = value.zip(low).map(|(high, low)| high << 4 | low);
            value
                .and_then(|value| u8::try_from(value).ok())
                .inspect(|value| *byte = *value)
                .is_some()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of sixteen";

    fn signed() -> Signed<'static> {
        Signed {
            timestamp: "1800000000",
            method: "POST",
            target: "/cb/adform?site=shop",
            body: b"{\"ev\":\"conversion\"}",
        }
    }

    #[test]
    fn the_signature_is_the_one_that_the_documentation_tells_to_make() {
        // printf 'avtryck callback 1\n1800000000\nPOST\n/cb/adform?site=shop\n{"ev":"conversion"}' |
        //   openssl dgst -sha256 -hmac 'a secret of sixteen'
        assert_eq!(
            signed().signature(SECRET).as_deref(),
            Some("3f4414ba655c6201f7ffbe364be34eb8a08a61754b70f61a3e0c68bce43745c8")
        );
    }

    #[test]
    fn a_change_of_any_part_is_not_believed() {
        let signature = signed().signature(SECRET).expect("a signature");
        let holds = |request: Signed<'_>| request.has_signature(&signature, SECRET);
        assert!(holds(signed()));
        assert!(signed().has_signature(&signature.to_uppercase(), SECRET));
        assert!(!holds(Signed {
            timestamp: "1800000001",
            ..signed()
        }));
        assert!(!holds(Signed {
            method: "GET",
            ..signed()
        }));
        assert!(!holds(Signed {
            target: "/cb/adform",
            ..signed()
        }));
        assert!(!holds(Signed {
            body: b"",
            ..signed()
        }));
        for wrong in [
            "",
            "00",
            &signature[2..],
            &signature.replace('a', "g"),
            &format!("{signature}00"),
        ] {
            assert!(!signed().has_signature(wrong, SECRET), "{wrong}");
        }
        assert!(!signed().has_signature(&signature, b"another"));
    }

    #[test]
    fn a_timestamp_holds_within_the_window_on_either_side() {
        let now = |seconds: i64| UnixMicros(seconds * 1_000_000);
        for (at, holds) in [
            (1_800_000_300, true),
            (1_800_000_301, false),
            (1_799_999_700, true),
            (1_799_999_699, false),
        ] {
            assert_eq!(signed().is_in_time(now(at), 300), holds, "{at}");
        }
        assert!(
            !Signed {
                timestamp: "now",
                ..signed()
            }
            .is_in_time(now(1_800_000_000), 300)
        );
    }

    #[test]
    fn a_token_is_the_whole_token() {
        assert!(is_token("0123456789abcdef", "0123456789abcdef"));
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdeF",
            "0123456789abcdef0",
        ] {
            assert!(!is_token(wrong, "0123456789abcdef"), "{wrong}");
        }
    }
}
