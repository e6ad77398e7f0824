//! Texts by which hits are told apart, where they are longer than what is kept.
//!
//! Two IDs that differ as sent must differ as kept, or two people would become one. A text that is
//! cut or cleaned ends with a tilde and the first 128 bits of the SHA-256 of what was sent, in hex.
//! A text that looks like the outcome of that is given a digest as well, so that nobody can send
//! what another text becomes.

use sha2::{Digest as _, Sha256};

/// What stands before the digest.
const MARK: &str = "~";
/// A digest, in hex digits: 128 bits.
const DIGITS: usize = 32;
/// Mark and digest, in bytes.
pub(crate) const DIGEST_BYTES: usize = MARK.len() + DIGITS;

/// Returns whether a text may be one that was changed: it ends with a mark and a digest, and is as
/// long as what was cut or holds the sign of what was cleaned.
#[must_use]
pub(crate) fn has_digest(text: &str, bytes_max: usize) -> bool {
    let Some(start) = text.len().checked_sub(DIGEST_BYTES) else {
        return false;
    };
    let end = text.get(start..).unwrap_or_default();
    end.strip_prefix(MARK)
        .is_some_and(|digest| digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
        // Up to three bytes are missing to the limit where a character did not fit.
        && (text.len() + 3 >= bytes_max || text.contains('\u{fffd}'))
}

/// Adds the digest of what was sent to what is kept of it.
#[must_use]
pub(crate) fn add_digest(mut kept: String, sent: &[u8]) -> String {
    kept.push_str(MARK);
    for byte in Sha256::digest(sent).iter().take(DIGITS / 2) {
        let digits = [byte >> 4, byte & 15];
        kept.extend(digits.map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default()));
    }
    kept
}

/// Returns an ID without control characters as hits hold it.
#[must_use]
pub(crate) fn shorten(id: &str, bytes_max: usize) -> String {
    if id.len() <= bytes_max {
        return id.to_owned();
    }
    let end = id.floor_char_boundary(bytes_max.saturating_sub(DIGEST_BYTES));
    add_digest(id.get(..end).unwrap_or_default().to_owned(), id.as_bytes())
}
