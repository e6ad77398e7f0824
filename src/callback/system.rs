//! How one of the operator's own systems proves that a request is its own. Pure.
//!
//! By the MAC that callbacks have, version 2 alone, within [`WINDOW_SECONDS`]; or by a token in
//! `Authorization: Bearer`. A system has a list of each, so that a new one can be told to it before
//! the old one goes. A request is compared with all of a list, in constant time.

use super::{Claim, Destination, Proof, Signed, VERSION_2, is_token};
use crate::clock::UnixMicros;
use crate::refusal::Reason;

/// How far a signature's timestamp may be from now, in seconds.
pub const WINDOW_SECONDS: u64 = 5 * 60;
const _: () = assert!(
    WINDOW_SECONDS == 300,
    "the advice of Reason::SystemTimestamp has it too"
);

/// What a system's requests are proved with.
#[derive(Clone, Copy)]
pub struct SystemSecrets<'s> {
    /// The keys of signatures.
    pub secrets: &'s [String],
    /// The tokens.
    pub tokens: &'s [String],
}

impl SystemSecrets<'_> {
    /// Checks what can be checked before the body is read.
    ///
    /// # Errors
    /// If the request has no proof, or a wrong token.
    pub fn check<'r>(&self, claim: &Claim<'r>) -> Result<Proof<'r>, Reason> {
        if let Some(signature) = claim.signature {
            return Ok(Proof::Signature(signature));
        }
        let token = claim.bearer_token().ok_or(Reason::SystemUnproved)?;
        match is_any(self.tokens, |known| is_token(token, known)) {
            true => Ok(Proof::Token),
            false => Err(Reason::SystemToken),
        }
    }

    /// Verifies the signature, if that is the proof.
    ///
    /// # Errors
    /// If the signature is not the system's, or its timestamp is too far from now.
    pub fn verify(
        &self,
        proof: Proof<'_>,
        signed: &Signed<'_>,
        destination: &Destination<'_>,
        now: UnixMicros,
    ) -> Result<(), Reason> {
        let Proof::Signature(signature) = proof else {
            return Ok(());
        };
        let digits = signature.strip_prefix(VERSION_2);
        let is_signed = digits.is_some_and(|digits| {
            is_any(self.secrets, |secret| {
                signed.has_signature_2(destination, digits, secret.as_bytes())
            })
        });
        if !is_signed {
            Err(Reason::SystemSignature)
        } else if signed.is_in_time(now, WINDOW_SECONDS) {
            Ok(())
        } else {
            Err(Reason::SystemTimestamp)
        }
    }
}

/// Checks whether one of the texts is right. Each is asked, so that the time that it takes does not
/// tell which one is.
fn is_any(texts: &[String], is_right: impl Fn(&str) -> bool) -> bool {
    let mut is_any = false;
    for text in texts {
        is_any |= !text.is_empty() && is_right(text);
    }
    is_any
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);
    const DESTINATION: Destination<'_> = Destination {
        host: "px.shop.example",
        content_type: "application/json",
    };
    const SIGNED: Signed<'_> = Signed {
        timestamp: "1800000000",
        method: "POST",
        target: "/s/crm",
        body: b"{}",
    };

    fn lists() -> (Vec<String>, Vec<String>) {
        let texts = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
        (
            texts(["a new secret of sixteen", "an old secret of sixteen"]),
            texts(["a-new-token-0123", "an-old-token-0123"]),
        )
    }

    #[test]
    fn each_token_of_the_list_proves_and_no_token_of_an_address_does() {
        let (secrets, tokens) = lists();
        let system = SystemSecrets {
            secrets: &secrets,
            tokens: &tokens,
        };
        let check = |authorization: Option<&'static str>, query: &'static str| {
            system.check(&Claim {
                signature: None,
                timestamp: "",
                authorization,
                query,
            })
        };
        for right in ["Bearer a-new-token-0123", "bearer  an-old-token-0123 "] {
            assert_eq!(check(Some(right), ""), Ok(Proof::Token), "{right}");
        }
        for wrong in ["Bearer", "Basic a-new-token-0123", ""] {
            assert_eq!(check(Some(wrong), ""), Err(Reason::SystemUnproved));
        }
        for wrong in [
            "Bearer ",
            "Bearer a-new-token-012",
            "Bearer a-new-token-01234",
        ] {
            assert_eq!(check(Some(wrong), ""), Err(Reason::SystemToken), "{wrong}");
        }
        let in_query = check(None, "token=a-new-token-0123");
        assert_eq!(in_query, Err(Reason::SystemUnproved));
        let nothing = SystemSecrets {
            secrets: &[String::new()],
            tokens: &[String::new()],
        };
        let claim = Claim {
            signature: None,
            timestamp: "",
            authorization: Some("Bearer "),
            query: "",
        };
        assert_eq!(nothing.check(&claim), Err(Reason::SystemToken));
        let unkeyed = SIGNED.signature_2(&DESTINATION, b"").expect("a signature");
        let proof = Proof::Signature(&unkeyed);
        let verified = nothing.verify(proof, &SIGNED, &DESTINATION, NOW);
        assert_eq!(verified, Err(Reason::SystemSignature));
    }

    #[test]
    fn a_signature_is_of_version_2_and_holds_for_five_minutes() {
        let (secrets, tokens) = lists();
        let system = SystemSecrets {
            secrets: &secrets,
            tokens: &tokens,
        };
        let verify = |signature: &str, signed: &Signed<'_>, seconds: i64| {
            let now = UnixMicros(NOW.0 + seconds * 1_000_000);
            system.verify(Proof::Signature(signature), signed, &DESTINATION, now)
        };
        for secret in &secrets {
            let signature = SIGNED.signature_2(&DESTINATION, secret.as_bytes());
            let signature = signature.expect("a signature");
            for seconds in [0, 300, -300] {
                assert_eq!(verify(&signature, &SIGNED, seconds), Ok(()));
            }
            for seconds in [301, -301] {
                let late = verify(&signature, &SIGNED, seconds);
                assert_eq!(late, Err(Reason::SystemTimestamp));
            }
            let other = Signed {
                body: b"{ }",
                ..SIGNED
            };
            assert_eq!(verify(&signature, &other, 0), Err(Reason::SystemSignature));
            let version_1 = SIGNED.signature(secret.as_bytes()).expect("a signature");
            for wrong in [&*version_1, "", "v2=", "v2=00"] {
                let verified = verify(wrong, &SIGNED, 0);
                assert_eq!(verified, Err(Reason::SystemSignature), "{wrong}");
            }
        }
        let foreign = SIGNED.signature_2(&DESTINATION, b"a secret of somebody else");
        let foreign = foreign.expect("a signature");
        assert_eq!(verify(&foreign, &SIGNED, 0), Err(Reason::SystemSignature));
    }
}
