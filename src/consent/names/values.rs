//! Which values say something of consent under the names that are known for it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{ESCAPES_MAX, narrow_all};

/// A TC string's core has 213 bits at least, which are 36 characters; those of TCF 1 have fewer.
const TC_STRING_BYTES_MIN: usize = 28;

/// Returns whether a value found under the name of an objection objects. Other programs use these
/// names for other things (a latitude, a selling point), so it must be a yes or a US privacy string
/// whose third character is one, or Meta's "limited data use". Of a list or an object, any scalar
/// may be.
#[must_use]
pub fn objects(value: &str) -> bool {
    const YES: [&str; 7] = ["true", "t", "yes", "y", "on", "enabled", "ldu"];
    let value = &*plain(value);
    if let Some(json) = container(value) {
        return has_scalar(&json, &objects);
    }
    let value = value.trim_matches(surrounds);
    if YES.iter().any(|yes| yes.eq_ignore_ascii_case(value)) {
        return true;
    }
    if let Ok(number) = value.parse::<f64>() {
        return (number - 1.0).abs() < f64::EPSILON;
    }
    let mut strings = value.split(',').map(str::trim);
    strings.any(|string| matches!(string.as_bytes(), [b'1', _, b'y' | b'Y', _]))
}

/// Returns a value without what hides it: escapes, fullwidth characters, characters without a width
/// and what stands in the place of control characters.
fn plain(value: &str) -> Cow<'_, str> {
    let is_hidden = |c: char| matches!(c, '%' | '&') || !c.is_ascii() || c.is_control();
    if !value.contains(is_hidden) {
        return Cow::Borrowed(value);
    }
    let mut decoded = Cow::Borrowed(value);
    for _ in 0..ESCAPES_MAX {
        match percent_decode_str(&decoded).decode_utf8_lossy() {
            other if other == decoded => break,
            other => decoded = Cow::Owned(other.into_owned()),
        }
    }
    let narrowed = narrow_all(&decoded).map_or(decoded, Cow::Owned);
    let has_no_width = |c: char| {
        matches!(
            c,
            '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fffd}'
        ) || c.is_control()
    };
    let seen = narrowed.replace(has_no_width, "");
    Cow::Owned(seen.replace("&quot;", "\"").replace("&#34;", "\""))
}

/// Checks whether a character may stand around a word and says nothing.
fn surrounds(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '?')
}

/// Reads a list or an object in JSON; `None` if a value is neither.
fn container(value: &str) -> Option<Value> {
    let value = value.trim_start();
    let is_one = value.starts_with(['[', '{']);
    is_one.then(|| serde_json::from_str(value).ok()).flatten()
}

/// Returns whether a scalar of a value, at any depth, is one of those that a test finds.
fn has_scalar(json: &Value, test: &impl Fn(&str) -> bool) -> bool {
    match json {
        Value::Null => false,
        Value::Bool(is_true) => test(if *is_true { "true" } else { "false" }),
        Value::Number(number) => test(&number.to_string()),
        Value::String(text) => match container(text) {
            Some(json) => has_scalar(&json, test),
            None => test(text),
        },
        Value::Array(list) => list.iter().any(|json| has_scalar(json, test)),
        Value::Object(members) => members.values().any(|json| has_scalar(json, test)),
    }
}

/// Returns whether a value found under the name of a consent string looks like one: of TCF 1 or 2,
/// or of GPP. Pages use that name for words (`granted`).
pub(super) fn is_consent_string(value: &str) -> bool {
    let value = value.trim_matches(|c: char| c.is_whitespace() || c == '"');
    let is_of_string =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    match value.as_bytes() {
        [b'B' | b'C', ..] => value.len() >= TC_STRING_BYTES_MIN && value.bytes().all(is_of_string),
        [b'D', b'B', ..] => value.bytes().all(is_of_string),
        _ => false,
    }
}

/// Returns whether a value found under the name of a consent string is a word that refuses,
/// whatever its case and whatever stands between its letters.
fn refuses(value: &str) -> bool {
    const NO: [&str; 46] = [
        "0",
        "false",
        "f",
        "no",
        "n",
        "off",
        "none",
        "nej",
        "nei",
        "nein",
        "decline",
        "declined",
        "declineall",
        "denied",
        "deny",
        "denyall",
        "disabled",
        "disagree",
        "disallow",
        "disallowed",
        "essential",
        "essentialonly",
        "necessary",
        "necessaryonly",
        "noconsent",
        "notgiven",
        "notgranted",
        "onlyessential",
        "onlynecessary",
        "optedout",
        "optout",
        "refuse",
        "refuseall",
        "refused",
        "reject",
        "rejectall",
        "rejected",
        "restricted",
        "revoke",
        "revoked",
        "strictlynecessary",
        "unconsented",
        "withdraw",
        "withdrawal",
        "withdrawn",
        "withheld",
    ];
    const LENGTH_MAX: usize = 32;
    if value.len() > LENGTH_MAX {
        return false;
    }
    let value = value.trim_matches(surrounds);
    if value.contains(['.', '-']) && value.parse().is_ok_and(|number: f64| number <= 0.0) {
        return true;
    }
    let parts = || value.split([',', '|', ';']);
    if parts().count() > 1 && parts().all(refuses) {
        return true;
    }
    let letters = value.chars().filter(char::is_ascii_alphanumeric);
    let word: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    NO.contains(&&*word) || has_denied(value) || has_denied_default(&word)
}

/// Returns whether a value is a state of Google's consent mode that has a no: `G1`, a digit for ads
/// and one for measuring.
fn has_denied(value: &str) -> bool {
    matches!(value.as_bytes(), [b'G' | b'g', b'1', ads, measuring] if [ads, measuring].contains(&&b'0'))
}

/// Returns whether a value is the longer state of Google's consent mode with a no: `1`, digits, and
/// between them a letter for each purpose, of which `p`, `q`, `m` and `u` are denied.
fn has_denied_default(word: &str) -> bool {
    const STATES: &str = "lpqtrmnuv";
    let letters = || word.chars().filter(char::is_ascii_alphabetic);
    word.starts_with('1')
        && letters().count() >= 4
        && letters().all(|letter| STATES.contains(letter))
        && letters().any(|letter| matches!(letter, 'p' | 'q' | 'm' | 'u'))
}

/// Returns whether a value found under the name of a consent string says something of consent that
/// is not understood: a string, a refusal, or nothing where something was to be filled in. Of a
/// list or an object, any scalar may be a string or a refusal.
#[must_use]
pub(crate) fn is_of_consent(value: &str) -> bool {
    let value = &*plain(value);
    if let Some(json) = container(value) {
        return has_scalar(&json, &|text| is_consent_string(text) || refuses(text));
    }
    let is_blank = value.chars().all(|c| c.is_whitespace() || c == '"');
    is_blank || is_consent_string(value) || refuses(value)
}

/// Returns whether a value found under the name of the state of Apple's App Tracking Transparency
/// refuses: 1 is restricted and 2 denied. 0 says that nobody was asked, 3 is authorized.
#[must_use]
pub(crate) fn refuses_tracking(value: &str) -> bool {
    let value = &*plain(value);
    if let Some(json) = container(value) {
        return has_scalar(&json, &refuses_tracking);
    }
    let state = value.trim_matches(surrounds);
    match state.parse::<f64>() {
        Ok(state) => [1.0, 2.0]
            .iter()
            .any(|no| (state - no).abs() < f64::EPSILON),
        Err(_) => is_of_consent(value),
    }
}
