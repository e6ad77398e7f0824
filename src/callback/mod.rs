//! How a partner's server proves that a callback is its own. Pure.
//!
//! By a MAC: the header `Avtryck-Signature` holds, in hex, HMAC-SHA-256 under the partner's secret.
//! It is over these lines, each ended by a line feed, and then the body as sent, packed if it was
//! packed:
//!
//! | version | header | lines |
//! | --- | --- | --- |
//! | 1 | the hex digits | [`CONTEXT`], timestamp, method, target |
//! | 2 | `v2=` and the hex digits | [`CONTEXT_2`], timestamp, method, host, target, content type |
//!
//! The timestamp is the header `Avtryck-Timestamp` (seconds since 1970), the target is path and
//! query as sent, the host is the header `Host` in lower case, and the content type is the header
//! as sent, or nothing. The first version stays for those who have it: with it, whoever repeats a
//! request may choose another host and content type.
//!
//! A signature stands for one request. Callbacks that bring no event ID get one that is made of it,
//! so a request that is repeated within its window is stored once, as one with an ID is.
//!
//! Or, for partners that can only be given a URL, by a token. Secrets and tokens are compared in
//! constant time.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub mod exchange;
pub mod names;
pub mod system;
pub mod user;

use crate::clock::UnixMicros;
use crate::refusal::Reason;

/// What the MAC of version 1 covers first.
pub(crate) const CONTEXT: &[u8] = b"avtryck callback 1\n";
/// What the MAC of version 2 covers first.
pub(crate) const CONTEXT_2: &[u8] = b"avtryck callback 2\n";
/// What a signature of version 2 begins with.
const VERSION_2: &str = "v2=";
/// How much of a signature an event ID has, in hex digits.
const ID_DIGITS: usize = 32;

/// What a partner's callbacks are proved with.
#[derive(Clone, Copy)]
pub(crate) struct Secrets<'p> {
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
    pub(crate) fn check<'r>(&self, claim: &Claim<'r>) -> Result<Proof<'r>, Reason> {
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
    pub(crate) fn verify(
        &self,
        proof: Proof<'_>,
        signed: &Signed<'_>,
        destination: &Destination<'_>,
        now: UnixMicros,
    ) -> Result<(), Reason> {
        let Proof::Signature(signature) = proof else {
            return Ok(());
        };
        let secret = self.secret.as_bytes();
        let is_signed = match signature.strip_prefix(VERSION_2) {
            Some(signature) => signed.has_signature_2(destination, signature, secret),
            None => signed.has_signature(signature, secret),
        };
        if self.secret.is_empty() || !is_signed {
            return Err(Reason::CallbackSignature);
        }
        if signed.is_in_time(now, self.window_seconds) {
            Ok(())
        } else {
            Err(Reason::CallbackTimestamp)
        }
    }
}

impl Proof<'_> {
    /// Returns the event ID of a callback that brings none: of its request's signature, and of its
    /// destination among the callbacks of the request. A token stands for no request.
    #[must_use]
    pub fn event_id(&self, index: usize) -> Option<String> {
        let Proof::Signature(signature) = self else {
            return None;
        };
        let digits = signature.strip_prefix(VERSION_2).unwrap_or(signature);
        let digits = digits.get(..ID_DIGITS)?.to_ascii_lowercase();
        Some(format!("signature-{digits}-{index}"))
    }
}

impl<'r> Claim<'r> {
    /// Finds the token: that of a `Bearer` header or, without one, that of the query string.
    fn token(&self) -> Option<&'r str> {
        self.bearer_token().or_else(|| {
            self.query
                .split('&')
                .find_map(|pair| pair.strip_prefix("token="))
        })
    }

    /// Finds the token of a `Bearer` header.
    fn bearer_token(&self) -> Option<&'r str> {
        let (scheme, token) = self.authorization?.split_once(' ')?;
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        is_bearer.then_some(token.trim())
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

/// Where a request goes and how its body is to be read, which version 2 covers too.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'r> {
    /// The host that is asked, with its port where the request names one, in any case.
    pub host: &'r str,
    /// The header `Content-Type`; empty if there is none.
    pub content_type: &'r str,
}

impl Signed<'_> {
    fn mac(&self, secret: &[u8]) -> Option<Hmac<Sha256>> {
        let lines = [self.timestamp, self.method, self.target];
        self.mac_of(CONTEXT, &lines, secret)
    }

    fn mac_2(&self, destination: &Destination<'_>, secret: &[u8]) -> Option<Hmac<Sha256>> {
        let host = destination.host.to_ascii_lowercase();
        let lines = [
            self.timestamp,
            self.method,
            &host,
            self.target,
            destination.content_type,
        ];
        self.mac_of(CONTEXT_2, &lines, secret)
    }

    fn mac_of(&self, context: &[u8], lines: &[&str], secret: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(context);
        for line in lines {
            mac.update(line.as_bytes());
            mac.update(b"\n");
        }
        mac.update(self.body);
        Some(mac)
    }

    /// Returns the signature of version 1.
    #[must_use]
    pub fn signature(&self, secret: &[u8]) -> Option<String> {
        self.mac(secret).map(to_hex)
    }

    /// Returns the signature of version 2, as the header has it.
    #[must_use]
    pub fn signature_2(&self, destination: &Destination<'_>, secret: &[u8]) -> Option<String> {
        let digits = to_hex(self.mac_2(destination, secret)?);
        Some(format!("{VERSION_2}{digits}"))
    }

    /// Returns whether the signature is this request's, by version 1.
    #[must_use]
    pub(crate) fn has_signature(&self, signature: &str, secret: &[u8]) -> bool {
        self.mac(secret).is_some_and(|mac| verifies(mac, signature))
    }

    /// Returns whether the signature is this request's, by version 2.
    fn has_signature_2(
        &self,
        destination: &Destination<'_>,
        signature: &str,
        secret: &[u8],
    ) -> bool {
        let mac = self.mac_2(destination, secret);
        mac.is_some_and(|mac| verifies(mac, signature))
    }

    /// Returns whether the timestamp lies within `window_seconds` of `now`, on either side.
    #[must_use]
    pub fn is_in_time(&self, now: UnixMicros, window_seconds: u64) -> bool {
        is_near(self.timestamp, now, window_seconds)
    }
}

/// Returns whether a timestamp, in seconds since 1970, lies within `window_seconds` of `now`.
fn is_near(timestamp: &str, now: UnixMicros, window_seconds: u64) -> bool {
    let at: Option<i64> = timestamp.parse().ok();
    at.is_some_and(|at| now.seconds().abs_diff(at) <= window_seconds)
}

/// Returns whether a token is the one expected. MACs are compared, so that neither the length nor
/// the start of a wrong token shows.
#[must_use]
pub(crate) fn is_token(given: &str, expected: &str) -> bool {
    let mac = |key: &str| {
        let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok()?;
        Some(mac.chain_update(CONTEXT))
    };
    mac(expected)
        .zip(mac(given))
        .is_some_and(|(expected, given)| given.verify(&expected.finalize().into_bytes()).is_ok())
}

fn to_hex(mac: Hmac<Sha256>) -> String {
    HEXLOWER.encode(&mac.finalize().into_bytes())
}

fn verifies(mac: Hmac<Sha256>, signature: &str) -> bool {
    HEXLOWER_PERMISSIVE
        .decode(signature.as_bytes())
        .is_ok_and(|bytes| mac.verify_slice(&bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of sixteen";
    const DESTINATION: Destination<'_> = Destination {
        host: "PX.shop.example",
        content_type: "application/json",
    };

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
    fn the_signature_of_version_2_is_the_one_that_the_documentation_tells_to_make() {
        // printf 'avtryck callback 2\n1800000000\nPOST\npx.shop.example\n%s\n%s\n%s' \
        //   '/cb/adform?site=shop' application/json '{"ev":"conversion"}' |
        //   openssl dgst -sha256 -hmac 'a secret of sixteen'
        assert_eq!(
            signed().signature_2(&DESTINATION, SECRET).as_deref(),
            Some("v2=32d575b3171af14c6455f8830ef391f31793789a696f289a94186dfd23f8a5be")
        );
    }

    #[test]
    fn version_2_holds_for_one_host_and_one_content_type() {
        let secrets = Secrets {
            secret: "a secret of sixteen",
            token: "",
            window_seconds: 300,
        };
        let now = UnixMicros(1_800_000_000_000_000);
        let old = signed().signature(SECRET).expect("a signature");
        let new = signed()
            .signature_2(&DESTINATION, SECRET)
            .expect("a signature");
        let verify = |signature: &str, destination: Destination<'_>| {
            secrets.verify(Proof::Signature(signature), &signed(), &destination, now)
        };
        let refused = Err(Reason::CallbackSignature);
        let other_case = Destination {
            host: "px.SHOP.example",
            ..DESTINATION
        };
        assert_eq!(verify(&new, other_case), Ok(()));
        for destination in [
            Destination {
                host: "px.shop.example:80",
                ..DESTINATION
            },
            Destination {
                host: "other.example",
                ..DESTINATION
            },
            Destination {
                content_type: "",
                ..DESTINATION
            },
            Destination {
                content_type: "text/plain",
                ..DESTINATION
            },
            Destination {
                content_type: "application/JSON",
                ..DESTINATION
            },
        ] {
            assert_eq!(verify(&new, destination), refused, "{destination:?}");
            assert_eq!(verify(&old, destination), Ok(()), "{destination:?}");
        }
        // Neither version's digits stand for the other's.
        for wrong in [
            &new[3..],
            &format!("v2={old}"),
            &format!("v1={old}"),
            &format!("v2=v2={}", &new[3..]),
            &new.replace("v2=", "V2="),
        ] {
            assert_eq!(verify(wrong, DESTINATION), refused, "{wrong}");
        }
        // A line feed moves nothing from one line to the next: no header and no target holds one,
        // and every line has an end.
        let (host, content_type) = ("a", "b");
        let destination = Destination { host, content_type };
        let moved = Destination {
            host: "",
            content_type: "ab",
        };
        assert_ne!(
            signed().signature_2(&destination, SECRET),
            signed().signature_2(&moved, SECRET)
        );
    }

    #[test]
    fn a_signature_is_the_event_id_of_callbacks_that_bring_none() {
        let digits = "3F4414BA655C6201F7FFBE364BE34EB8A08A61754B70F61A3E0C68BCE43745C8";
        let id = Some("signature-3f4414ba655c6201f7ffbe364be34eb8-7".to_owned());
        assert_eq!(Proof::Signature(digits).event_id(7), id);
        assert_eq!(Proof::Signature(&format!("v2={digits}")).event_id(7), id);
        assert_eq!(Proof::Token.event_id(7), None);
        assert_eq!(Proof::Signature("v2=").event_id(7), None);
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
            secrets.verify(Proof::Signature(&signature), &signed(), &DESTINATION, now)
        };
        assert_eq!(verify(secret, now), Ok(()));
        assert_eq!(verify("", now), Err(Reason::CallbackSignature));
        assert_eq!(verify("another", now), Err(Reason::CallbackSignature));
        let late = UnixMicros(now.0 + 301_000_000);
        assert_eq!(verify(secret, late), Err(Reason::CallbackTimestamp));
        assert_eq!(
            closed.verify(Proof::Token, &signed(), &DESTINATION, late),
            Ok(())
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
