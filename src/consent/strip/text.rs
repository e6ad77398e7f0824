//! What a text holds, whatever its name.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};
use percent_encoding::percent_decode_str;

/// How often a text may have been encoded.
const ENCODED_MAX: usize = 4;

/// Decodes a value of a query as often as it was encoded.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..ENCODED_MAX {
        if memchr(b'%', text.as_bytes()).is_none() {
            break;
        }
        match percent_decode_str(&text).decode_utf8_lossy() {
            decoded if decoded == text => break,
            decoded => text = Cow::Owned(decoded.into_owned()),
        }
    }
    text
}

/// Checks whether an e-mail address stands in a text, also one that is encoded for an address.
pub(crate) fn holds_email(text: &str) -> bool {
    has_email(text) || memchr(b'%', text.as_bytes()).is_some() && has_email(&decode(text))
}

/// Checks whether an address with its scheme stands in a text.
pub(super) fn has_scheme(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr_iter(b':', bytes).any(|at| matches!(bytes.get(at..), Some([_, b'/', b'/', ..])))
}

/// The at signs and full stops of other scripts, which mail programs read as the usual ones.
const WIDE_MARKS: [(&[char], &str); 2] = [
    (&['\u{ff20}', '\u{fe6b}'], "@"),
    (&['\u{ff0e}', '\u{ff61}', '\u{3002}', '\u{fe52}'], "."),
];

fn has_email(text: &str) -> bool {
    if !text.is_ascii() && WIDE_MARKS.iter().any(|(marks, _)| text.contains(*marks)) {
        let [(ats, at), (stops, stop)] = WIDE_MARKS;
        return has_plain_email(&text.replace(ats, at).replace(stops, stop));
    }
    has_plain_email(text)
}

fn has_plain_email(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr_iter(b'@', bytes).any(|at| {
        let (before, after) = (bytes.get(..at), bytes.get(at + 1..));
        let local = before.and_then(<[u8]>::last);
        local.is_some_and(|byte| is_of_local_part(*byte)) && after.is_some_and(begins_with_domain)
    })
}

fn is_of_local_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&'*+-=?^_`{|}~\".)".contains(&byte) || !byte.is_ascii()
}

/// Checks whether two labels follow, the last of which is one that names have.
fn begins_with_domain(text: &[u8]) -> bool {
    let is_of_label =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || !byte.is_ascii();
    let end = text
        .iter()
        .position(|byte| !is_of_label(byte) && *byte != b'.');
    let domain = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
    // Pictures for screens of twice as many points are called `logo@2x.png`.
    if let [b'1'..=b'4', b'x', b'.', ..] = domain {
        return false;
    }
    let mut labels = domain.split(|byte| *byte == b'.');
    let has_first = labels.next().is_some_and(|label| !label.is_empty());
    has_first
        && labels.any(|label| {
            let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
            label.len() >= 2 && (label.iter().all(is_letter) || label.starts_with(b"xn--"))
        })
}

/// Checks whether a scalar is a phone number: 7 to 15 digits (E.164, section 6.1), and what people
/// write around them.
pub(super) fn is_phone(scalar: &str) -> bool {
    let digits = scalar.bytes().filter(u8::is_ascii_digit).count();
    let is_usual = |byte: u8| byte.is_ascii_digit() || b" +-().\"/".contains(&byte);
    (7..=15).contains(&digits) && scalar.bytes().all(is_usual)
}

/// Checks whether a scalar is a place on earth: a number with decimals, or two of them.
pub(super) fn is_position(scalar: &str) -> bool {
    let is_fine = |part: &str| {
        let part = part.trim();
        part.contains('.') && part.parse::<f64>().is_ok()
    };
    let mut parts = scalar.split([',', ';']);
    parts.all(is_fine)
}
