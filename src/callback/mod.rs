//! How a partner's server proves that a callback is its own. Pure.
//!
//! By a MAC: the header `Avtryck-Signature` holds, in hex, HMAC-SHA-256 under the partner's secret
//! over [`CONTEXT`] and, each ended by a line feed, the header `Avtryck-Timestamp` (seconds since
//! 1970), the method and the request's target as sent, then the body as sent, packed if it was
//! packed. Or, for partners that can only be given a URL, by a token. Secrets and tokens are
//! compared in constant time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub mod names;

use crate::clock::UnixMicros;
use crate::refusal::Reason;

/// What the MAC covers first.
pub const CONTEXT: &[u8] = b"avtryck callback 1\n";
/// A MAC, in bytes.
const MAC_BYTES: usize = 32;

/// What a partner's callbacks are proved with.
#[derive(Clone, Copy)]
pub struct Secrets<'p> {
    /// The key of signatures; empty if the partner does not sign.
    pub secret: &'p str,
    /// The token; empty if the partner has none.
    pub token: &'p str,
    /// How far a signature's timestamp may be from now, in seconds.
    pub window_seconds: u64,
}

/// What a request says to prove itself.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'r> {
    /// The header `Avtryck-Signature`.
    pub signature: Option<&'r str>,
    /// The header `Avtryck-Timestamp`; empty if there is none.
    pub timestamp: &'r str,
    /// The header `Authorization`, which may hold a token.
    pub authorization: Option<&'r str>,
    /// The query string, in which a token may stand as `token`.
    pub query: &'r str,
}

/// What is known about the sender before the body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof<'r> {
    /// Its token is right.
    Token,
    /// It has a signature, which covers the body and is yet to be verified.
    Signature(&'r str),
}

impl Secrets<'_> {
    /// Checks what can be checked before the body is read.
    ///
    /// # Errors
    /// If the partner has nothing to prove callbacks with, or the request has no proof or a wrong
    /// token.
    pub fn check<'r>(&self, claim: &Claim<'r>) -> Result<Proof<'r>, Reason> {
        if self.secret.is_empty() && self.token.is_empty() {
            return Err(Reason::CallbackClosed);
        }
        if let Some(signature) = claim.signature {
            return Ok(Proof::Signature(signature));
        }
        let token = claim.token().ok_or(Reason::CallbackUnproved)?;
        if !self.token.is_empty() && is_token(token, self.token) {
            Ok(Proof::Token)
        } else {
            Err(Reason::CallbackToken)
        }
    }

    /// Verifies the signature, if that is the proof.
    ///
    /// # Errors
    /// If the signature is not the partner's, or its timestamp is too far from now.
    pub fn verify(
        &self,
        proof: Proof<'_>,
        signed: &Signed<'_>,
        now: UnixMicros,
    ) -> Result<(), Reason> {
        let Proof::Signature(signature) = proof else {
            return Ok(());
        };
        if self.secret.is_empty() || !signed.has_signature(signature, self.secret.as_bytes()) {
            return Err(Reason::CallbackSignature);
        }
        if signed.is_in_time(now, self.window_seconds) {
            Ok(())
        } else {
            Err(Reason::CallbackTimestamp)
        }
    }
}

impl<'r> Claim<'r> {
    /// Finds the token: that of a `Bearer` header or, without one, that of the query string.
    fn token(&self) -> Option<&'r str> {
        let bearer = self.authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        });
        bearer.or_else(|| {
            self.query
                .split('&')
                .find_map(|pair| pair.strip_prefix("token="))
        })
    }
}

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

    /// Returns the signature, in hex.
    #[must_use]
    pub fn signature(&self, secret: &[u8]) -> Option<String> {
        let mac = self.mac(secret)?.finalize().into_bytes();
        Some(mac.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns whether the signature is this request's.
    #[must_use]
    pub fn has_signature(&self, signature: &str, secret: &[u8]) -> bool {
        let mut bytes = [0; MAC_BYTES];
        from_hex(signature, &mut bytes)
            && self
                .mac(secret)
                .is_some_and(|mac| mac.verify_slice(&bytes).is_ok())
    }

    /// Returns whether the timestamp lies within `window_seconds` of `now`, on either side.
    #[must_use]
    pub fn is_in_time(&self, now: UnixMicros, window_seconds: u64) -> bool {
        let at: Option<i64> = self.timestamp.parse().ok();
        at.is_some_and(|at| now.seconds().abs_diff(at) <= window_seconds)
    }
}

/// Returns whether a token is the one expected. MACs are compared, so that neither the length nor
/// the start of a wrong token shows.
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

/// Fills `bytes` from hex digits. Returns false if the text has more or fewer.
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
        // printf "avtryck callback 1\n1800000000\nPOST\n/cb/adform?site=shop\n%s" \
        //   '{"ev":"conversion"}' |
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
    fn a_signature_outweighs_a_token_and_a_header_outweighs_the_query() {
        let secrets = Secrets {
            secret: "a secret of sixteen",
            token: "0123456789abcdef",
            window_seconds: 300,
        };
        let claim = Claim {
            signature: None,
            timestamp: "1800000000",
            authorization: None,
            query: "",
        };
        let query = "ev=win&token=0123456789abcdef";
        let bearer = |text| Claim {
            authorization: Some(text),
            ..claim
        };
        for (claim, proof) in [
            (claim, Err(Reason::CallbackUnproved)),
            (Claim { query, ..claim }, Ok(Proof::Token)),
            (bearer("bearer  0123456789abcdef "), Ok(Proof::Token)),
            (
                bearer("Basic 0123456789abcdef"),
                Err(Reason::CallbackUnproved),
            ),
            (
                Claim {
                    query,
                    ..bearer("Bearer another")
                },
                Err(Reason::CallbackToken),
            ),
            (
                Claim {
                    signature: Some("00"),
                    query,
                    ..claim
                },
                Ok(Proof::Signature("00")),
            ),
        ] {
            assert_eq!(secrets.check(&claim), proof, "{claim:?}");
        }
        let (secret, token) = (secrets.secret, secrets.token);
        let closed = Secrets {
            secret: "",
            token: "",
            ..secrets
        };
        let claim = Claim { query, ..claim };
        assert_eq!(closed.check(&claim), Err(Reason::CallbackClosed));
        let signs_only = Secrets {
            token: "",
            ..secrets
        };
        assert_eq!(signs_only.check(&claim), Err(Reason::CallbackToken));
        let now = UnixMicros(1_800_000_000_000_000);
        let signature = signed().signature(secret.as_bytes()).expect("a signature");
        let verify = |secret, now| {
            let secrets = Secrets {
                secret,
                token,
                ..secrets
            };
            secrets.verify(Proof::Signature(&signature), &signed(), now)
        };
        assert_eq!(verify(secret, now), Ok(()));
        assert_eq!(verify("", now), Err(Reason::CallbackSignature));
        assert_eq!(verify("another", now), Err(Reason::CallbackSignature));
        let late = UnixMicros(now.0 + 301_000_000);
        assert_eq!(verify(secret, late), Err(Reason::CallbackTimestamp));
        assert_eq!(closed.verify(Proof::Token, &signed(), late), Ok(()));
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
