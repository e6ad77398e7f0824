//! The token that says who this process is, where brokers ask for SASL's OAUTHBEARER.
//!
//! Whatever gets tokens writes them to a file (`kafka.oauth_token_file`), and replaces it before
//! the token ends. The file is read each time that the client wants a token, which is when four
//! fifths of the time are over that the last one is good for.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;

use crate::clock::UnixMicros;

/// How long a token is taken to be good for that does not say it.
const UNKNOWN_LIFETIME: Duration = Duration::from_mins(5);
/// Larger than any token.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;
/// The name that the client logs for one that names nobody.
const NOBODY: &str = "avtryck";

/// Reads a token from a file.
///
/// # Errors
/// If there is none, or it has expired.
pub(super) fn read(file: &Path, now: UnixMicros) -> anyhow::Result<OAuthToken> {
    let shown = file.display();
    let size = std::fs::metadata(file).with_context(|| shown.to_string())?;
    ensure!(
        size.len() <= TOKEN_BYTES_MAX,
        "{shown} is too large for a token"
    );
    let text = std::fs::read_to_string(file).with_context(|| shown.to_string())?;
    let token = text.trim();
    let is_word = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(is_word, "{shown} holds no token");
    let now_millis = now.0 / 1_000;
    let claims = read_claims(token).unwrap_or_default();
    let ends = claims.get("exp").and_then(serde_json::Value::as_f64);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a number that is too large ends at the largest"
    )]
    let ends = ends.map(|seconds| (seconds * 1e3) as i64);
    let unknown = i64::try_from(UNKNOWN_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    let lifetime_ms = ends.unwrap_or(now_millis + unknown);
    ensure!(
        lifetime_ms > now_millis,
        "the token in {shown} has ended; whatever writes it is late"
    );
    let name = claims.get("sub").and_then(serde_json::Value::as_str);
    Ok(OAuthToken {
        token: token.to_owned(),
        principal_name: name.unwrap_or(NOBODY).replace('\0', ""),
        lifetime_ms,
    })
}

/// Returns what a token says of itself, if it is a JWT. Brokers check it; the client only needs to
/// know when to ask for the next one.
fn read_claims(token: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&claims).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_who_it_is_of_and_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let now = UnixMicros(1_000_000_000_000);
        let read_text = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(&file, now)
        };
        let jwt = |claims: &str| format!("e30.{}.c2lnbmVk\n", URL_SAFE_NO_PAD.encode(claims));
        let of = |text: &str| {
            let token = read_text(text).unwrap();
            assert_eq!(token.token, text.trim());
            (token.principal_name, token.lifetime_ms)
        };
        let claims = "{\"sub\":\"edge\",\"exp\":1000600}";
        assert_eq!(of(&jwt(claims)), ("edge".to_owned(), 1_000_600_000));
        // What is no JWT, or does not say it.
        let unknown = (NOBODY.to_owned(), 1_000_300_000);
        for text in ["opaque", "a.b.c", &jwt("{}"), &jwt("[]")] {
            assert_eq!(of(text), unknown, "{text}");
        }
        for wrong in ["", " \n", "two words", "a\u{e4}b"] {
            let error = read_text(wrong).err().unwrap().to_string();
            assert!(error.contains("holds no token"), "{wrong}: {error}");
        }
        for ended in ["{\"exp\":1000000}", "{\"exp\":-1e300}"] {
            let error = read_text(&jwt(ended)).err().unwrap().to_string();
            assert!(error.contains("has ended"), "{ended}: {error}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(read(&file, now).is_err());
    }
}
