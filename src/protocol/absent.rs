//! Values that mean "no value": macros that nobody expanded, and what programs write where they
//! know no ID. Pure.
//!
//! Every sender without an ID writes the same value, so to take one for an ID would make strangers
//! one person, or their events one row. Such a value counts as absent. Macros are looked for in
//! every value, but in the names and texts of people only as ad networks write them
//! ([`is_macro`]); an ID may hold none of any style ([`macros`]), and may not be what programs
//! write for none ([`words`]) or a hash of that ([`digests`]).
//!
//! The other risk is to lose an ID that somebody has. So what a random ID or a name may look like
//! counts only with a word in it that says what belongs there ([`terms`]): `__user_id__` and
//! `order-0` are none, `__alice__` and `alice-0` are IDs.

mod digests;
mod macros;
mod terms;
mod words;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::consent::names::narrow_all;
use crate::request::marks::marks;
pub(crate) use macros::{is_macro, is_macro_of_id};

/// What a value is that counts as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// A macro that nobody expanded.
    Macro,
    /// What a program writes where it knows no ID.
    NoId,
}

/// How often a value may have been escaped.
const ESCAPES_MAX: usize = 3;

/// Returns why a value in an ID's place is not an ID; `None` if it is one.
pub(crate) fn absence_of_id(value: &str) -> Option<Absence> {
    if digests::has(value) {
        return Some(Absence::NoId);
    }
    if is_plain(value.as_bytes()) {
        return None;
    }
    absence_of_text(value)
        .or_else(|| absence_of_escaped(value))
        .or_else(|| absence_of_text(&narrow_all(value)?))
}

fn absence_of_text(value: &str) -> Option<Absence> {
    if words::is_no_id(value) {
        Some(Absence::NoId)
    } else if is_macro_of_id(value) {
        Some(Absence::Macro)
    } else {
        words::is_name_of_id(value).then_some(Absence::NoId)
    }
}

/// The mark of a byte that a macro may be made of, beside letters, digits and underscores.
const OF_MACRO: u8 = 1;
/// The mark of a digit that is no zero.
const DIGIT: u8 = 2;

fn mark(byte: u8) -> u8 {
    let is_plain = matches!(byte, b'+'..=b':' | b'@'..=b'Z' | b'_' | b'=' | b'a'..=b'z');
    (u8::from(!is_plain) * OF_MACRO) | (u8::from(matches!(byte, b'1'..=b'9')) * DIGIT)
}

/// Returns whether a value can be neither a word nor a macro, because it has a digit in it, nothing
/// that a macro is made of, and is none of the few exceptions. Nearly all IDs end here.
fn is_plain(value: &[u8]) -> bool {
    let (Some(first), Some(last)) = (value.first(), value.last()) else {
        return false;
    };
    let is_uniform = || {
        value
            .iter()
            .take(words::UNIFORM_BYTES)
            .all(|byte| byte == first)
    };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && !words::ends_with_undefined(value)
        && marks(value, mark) == DIGIT
        && !is_uniform()
        && !words::is_known(value)
}

/// Looks behind escapes: of HTML, of JavaScript, or of a query once more.
fn absence_of_escaped(value: &str) -> Option<Absence> {
    let mut value = Cow::Borrowed(value);
    for _ in 0..ESCAPES_MAX {
        if !value.contains(['&', '\\', '%']) {
            return None;
        }
        value = Cow::Owned(unescape(&value));
        if let Some(absence) = absence_of_text(&value) {
            return Some(absence);
        }
    }
    None
}

/// Takes one level of escapes off: of a query, of HTML, of JavaScript.
fn unescape(value: &str) -> String {
    let text = percent_decode_str(value).decode_utf8_lossy();
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(c) = rest.chars().next() {
        let (c, length) = match c {
            '&' => unescape_entity(rest),
            '\\' | '%' => unescape_unit(rest),
            _ => None,
        }
        .unwrap_or((c, c.len_utf8()));
        if c != '\\' {
            out.push(c);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

/// Reads `&lt;`, `&#60;` or `&#x3c;`: the character, and how many bytes it took.
fn unescape_entity(text: &str) -> Option<(char, usize)> {
    let (name, _) = text.strip_prefix('&')?.split_once(';')?;
    let number = |digits: &str, radix| char::from_u32(u32::from_str_radix(digits, radix).ok()?);
    let c = match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        "lbrace" | "lcub" => '{',
        "rbrace" | "rcub" => '}',
        "lbrack" | "lsqb" => '[',
        "rbrack" | "rsqb" => ']',
        "dollar" => '$',
        "percnt" => '%',
        "num" => '#',
        name => match name.strip_prefix("#x").or(name.strip_prefix("#X")) {
            Some(digits) => number(digits, 16)?,
            None => number(name.strip_prefix('#')?, 10)?,
        },
    };
    Some((c, name.len() + 2))
}

/// Reads `\u007b`, `\x7b` or `%u007B`: the character, and how many bytes it took.
fn unescape_unit(text: &str) -> Option<(char, usize)> {
    let (start, length) = match text.as_bytes() {
        [b'\\' | b'%', b'u', ..] => (2, 4),
        [b'\\', b'x', ..] => (2, 2),
        _ => return None,
    };
    let digits = text.get(start..start + length)?;
    let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    Some((c, start + length))
}

#[cfg(test)]
mod tests;
