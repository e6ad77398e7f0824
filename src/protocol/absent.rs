//! Values that mean "no value": macros that nobody expanded, and what programs write where they
//! know no ID. Pure.
//!
//! Every sender without an ID writes the same value, so to take one for an ID would make strangers
//! one person, or their events one row. Such a value counts as absent. Macros are looked for in
//! every value, but in the names and texts of people only as ad networks write them
//! ([`ANYWHERE`]); an ID may hold none of any style ([`IN_IDS`]).
//!
//! The other risk is to lose an ID that somebody has. So a style whose marks may stand in an ID
//! needs a name between them ([`Inside::Name`]), which no random ID looks like.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::Md5;
use percent_encoding::percent_decode_str;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What a value is that counts as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// A macro that nobody expanded.
    Macro,
    /// What a program writes where it knows no ID.
    NoId,
}

/// What must stand between the marks of a macro.
#[derive(Clone, Copy, Debug)]
enum Inside {
    /// Anything.
    Any,
    /// Small letters.
    Lower,
    /// Capital letters and underscores.
    Upper,
    /// A name, as [`is_name`] has it, or another macro.
    Name,
}

/// A way of writing macros: what opens one, what closes it, and what must stand in between.
type Style = (&'static str, &'static str, Inside);

/// The macros of ad networks, by the networks' own lists.
const ANYWHERE: [Style; 5] = [
    ("${", "}", Inside::Any),
    ("%%", "%%", Inside::Any),
    ("%e", "!", Inside::Lower),
    ("[", "]", Inside::Upper),
    ("__ADF", "__", Inside::Any),
];

/// What no ID may be besides: the macros of other networks, and the places of templates, mail
/// systems and programs.
const IN_IDS: [Style; 46] = [
    ("{{", "}}", Inside::Any),
    ("{%", "%}", Inside::Any),
    ("{#", "#}", Inside::Any),
    ("#{", "}", Inside::Any),
    ("%{", "}", Inside::Any),
    ("@{", "}", Inside::Any),
    ("!{", "}", Inside::Any),
    ("&{", "}", Inside::Any),
    ("*{", "}", Inside::Any),
    ("$(", ")", Inside::Any),
    ("$[", "]", Inside::Any),
    ("%(", ")s", Inside::Any),
    ("%(", ")", Inside::Any),
    ("%[", "]", Inside::Any),
    ("<%", "%>", Inside::Any),
    ("<?", "?>", Inside::Any),
    ("<<", ">>", Inside::Any),
    ("[[", "]]", Inside::Any),
    ("[%", "%]", Inside::Any),
    ("[$", "]", Inside::Any),
    ("[@", "]", Inside::Any),
    ("((", "))", Inside::Any),
    ("*|", "|*", Inside::Any),
    ("##", "##", Inside::Any),
    ("@@", "@@", Inside::Any),
    ("$$", "$$", Inside::Any),
    ("||", "||", Inside::Any),
    ("function", "}", Inside::Any),
    ("{", "}", Inside::Name),
    ("[", "]", Inside::Name),
    ("(", ")", Inside::Name),
    ("<", ">", Inside::Name),
    ("%", "%", Inside::Name),
    ("$", "$", Inside::Name),
    ("#", "#", Inside::Name),
    ("@", "@", Inside::Name),
    ("|", "|", Inside::Name),
    ("!", "!", Inside::Name),
    ("^", "^", Inside::Name),
    ("*", "*", Inside::Name),
    ("~", "~", Inside::Name),
    ("__", "__", Inside::Name),
    ("--", "--", Inside::Name),
    ("$", "", Inside::Name),
    ("%", "", Inside::Name),
    (":", "", Inside::Name),
];

/// What programs write where they know no ID, in small letters and without punctuation.
const WORDS: [&str; 31] = [
    "null",
    "nil",
    "none",
    "undefined",
    "undef",
    "nan",
    "infinity",
    "na",
    "false",
    "true",
    "unknown",
    "unset",
    "notset",
    "empty",
    "void",
    "missing",
    "invalid",
    "unavailable",
    "notavailable",
    "notapplicable",
    "anonymous",
    "guest",
    "optout",
    "optedout",
    "noconsent",
    "noid",
    "nouid",
    "nullptr",
    "dbnull",
    "objectobject",
    // The Android ID of every device of some series.
    "9774d56d682e549c",
];

/// The names of IDs, which stand where an ID was to be put; as [`WORDS`].
const ID_NAMES: [&str; 19] = [
    "id",
    "uid",
    "uuid",
    "guid",
    "userid",
    "useruid",
    "clickid",
    "orderid",
    "eventid",
    "deviceid",
    "visitorid",
    "cookieid",
    "distinctid",
    "transactionid",
    "maid",
    "idfa",
    "gaid",
    "aaid",
    "did",
];

/// Words that end an ID made of a name and of nothing: `order-undefined`.
const MISSING_PARTS: [&str; 3] = ["undefined", "null", "nan"];

/// VAST's words for an ID that is unknown and one that is unavailable; other programs have the
/// first as well.
const NUMBERS: [&str; 2] = ["-1", "-2"];

/// What is written in other ways than [`WORDS`] and hashed as it is written.
const HASHED: [&str; 19] = [
    "",
    " ",
    "0",
    "-1",
    "-2",
    "-",
    "NaN",
    "n/a",
    "N/A",
    "(null)",
    "<null>",
    "not set",
    "(not set)",
    "[object Object]",
    "{}",
    "[]",
    "\"\"",
    "00000000-0000-0000-0000-000000000000",
    "00000000000000000000000000000000",
];

/// The longest of [`WORDS`] has fewer letters and digits.
const WORD_BYTES_MAX: usize = 24;
/// The longest name that a macro may have.
const NAME_BYTES_MAX: usize = 64;
/// The longest macro, with its marks.
const MACRO_BYTES_MAX: usize = 256;
/// How many macros a macro may stand in. Each style is tried at each depth, so this bounds what a
/// value of nothing but marks costs.
const DEPTH_MAX: u32 = 3;
/// How often a macro may have been escaped.
const ESCAPES_MAX: usize = 3;

/// Returns whether a whole value is a macro of an ad network.
pub(crate) fn is_macro(value: &str) -> bool {
    // Nearly all values begin otherwise.
    matches!(value.as_bytes(), [b'$' | b'%' | b'_' | b'[', ..])
        && ANYWHERE.iter().any(|style| is_in_style(value, style, 0))
}

/// Returns whether a whole value is a macro of any style.
pub(crate) fn is_macro_of_id(value: &str) -> bool {
    is_macro_within(value, DEPTH_MAX)
}

fn is_macro_within(value: &str, depth: u32) -> bool {
    let value = value.trim_matches(is_space_or_quote);
    if value.len() > MACRO_BYTES_MAX {
        return ANYWHERE.iter().any(|style| is_in_style(value, style, 0));
    }
    let mut styles = ANYWHERE.iter().chain(&IN_IDS);
    styles.any(|style| is_in_style(value, style, depth)) || is_name_with_macro(value, depth)
}

/// Returns what a value that stands where an ID belongs is, if it is none.
pub(crate) fn absence_of_id(value: &str) -> Option<Absence> {
    if is_plain(value) {
        return is_hash_of_no_id(value).then_some(Absence::NoId);
    }
    if is_hash_of_no_id(value) {
        return Some(Absence::NoId);
    }
    absence_of_text(value).or_else(|| absence_of_escaped(value))
}

fn absence_of_text(value: &str) -> Option<Absence> {
    if is_no_id(value) {
        Some(Absence::NoId)
    } else if is_macro_of_id(value) {
        Some(Absence::Macro)
    } else {
        is_joined_word(value, &ID_NAMES).then_some(Absence::NoId)
    }
}

/// Returns whether the ends of a value show that it can be neither a word nor a macro. Nearly all
/// IDs end here, so it looks at no more than that.
fn is_plain(value: &str) -> bool {
    match value.as_bytes() {
        [first, .., last] if first.is_ascii_alphanumeric() => match last {
            b'1'..=b'9' => true,
            // Zeros, UUIDs that are filled, and what ends with one of MISSING_PARTS.
            _ if value.len() > WORD_BYTES_MAX => {
                last.is_ascii_alphanumeric()
                    && !matches!(first, b'0' | b'f' | b'F' | b'x' | b'X')
                    && !matches!(last.to_ascii_lowercase(), b'd' | b'l' | b'n')
            }
            _ => false,
        },
        _ => false,
    }
}

/// Looks behind escapes: of HTML, of JavaScript, or of a query once more.
fn absence_of_escaped(value: &str) -> Option<Absence> {
    let mut value = Cow::Borrowed(value);
    for _ in 0..ESCAPES_MAX {
        if !value.starts_with(['&', '\\', '%']) {
            return None;
        }
        value = Cow::Owned(unescape(&value));
        if let Some(absence) = absence_of_text(&value) {
            return Some(absence);
        }
    }
    None
}

fn is_in_style(value: &str, (open, close, inside): &Style, depth: u32) -> bool {
    let text = value
        .strip_prefix(open)
        .and_then(|rest| rest.strip_suffix(close))
        .unwrap_or_default();
    let is_upper = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    !text.is_empty()
        && match inside {
            Inside::Any => true,
            Inside::Lower => text.bytes().all(|byte| byte.is_ascii_lowercase()),
            Inside::Upper => text.bytes().all(is_upper),
            Inside::Name => {
                let text = text.trim();
                is_name(text) || is_macro_of_marks(text, depth)
            }
        }
}

fn is_macro_of_marks(text: &str, depth: u32) -> bool {
    let is_marked = !text.starts_with(|c: char| c.is_ascii_alphanumeric());
    is_marked
        && depth
            .checked_sub(1)
            .is_some_and(|depth| is_macro_within(text, depth))
}

/// Returns whether a value is a name and then a macro between brackets: `order-{{id}}`.
fn is_name_with_macro(value: &str, depth: u32) -> bool {
    let rest = value.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let is_named = rest.len() < value.len();
    let rest = rest
        .strip_prefix(['-', '_', '.', ':', '=', '/', '|'])
        .unwrap_or(rest);
    is_named
        && rest.starts_with(['{', '[', '(', '<', '$', '%', '#', '*'])
        && depth
            .checked_sub(1)
            .is_some_and(|depth| is_macro_within(rest, depth))
}

/// Returns whether a text looks like a name that somebody gave to a macro: one letter, or words
/// ([`has_humps`]) and numbers, with at most three digits each.
fn is_name(text: &str) -> bool {
    let is_separator = |c: char| matches!(c, '_' | '-' | '.' | ':' | '|' | ' ');
    let is_word = |word: &str| {
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = word.len() - letters.len();
        let is_number = letters.is_empty() && digits > 0;
        digits <= 3 && (is_number || has_humps(letters))
    };
    let first = text.split(is_separator).next().unwrap_or_default();
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && (text.len() == 1 || is_word(first))
        && text
            .split(is_separator)
            .skip(1)
            .all(|word| word.is_empty() || is_word(word))
}

/// Returns whether a word has letters alone, and at least two of them from each capital after a
/// small letter to the next: `clickId`, `userID`, `AdvertisingId`.
fn has_humps(word: &str) -> bool {
    let mut letters = 0;
    let mut last_is_small = false;
    for byte in word.bytes() {
        if !byte.is_ascii_alphabetic() {
            return false;
        }
        if byte.is_ascii_uppercase() && last_is_small {
            if letters < 2 {
                return false;
            }
            letters = 0;
        }
        letters += 1;
        last_is_small = byte.is_ascii_lowercase();
    }
    letters >= 2
}

fn is_space_or_quote(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`')
}

/// Returns whether a character says nothing: a mark, a space, or one that nobody sees.
fn is_mark(c: char) -> bool {
    c.is_ascii_punctuation()
        || c.is_whitespace()
        || c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{200b}'..='\u{2015}' | '\u{2060}' | '\u{feff}'
        )
}

/// Returns whether a value is made of marks alone, of zeros, or of [`WORDS`].
fn is_no_id(value: &str) -> bool {
    let is_none = |word: &str| is_zeros(word) || is_among(word, &WORDS);
    let mut words = value.split(is_mark).filter(|word| !word.is_empty());
    if words.clone().all(is_none) || NUMBERS.contains(&value.trim_matches(is_space_or_quote)) {
        return true;
    }
    let is_letters = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphabetic());
    if ends_with_undefined(value) {
        return true;
    }
    let ends_with_nothing = words
        .next_back()
        .is_some_and(|last| is_among(last, &MISSING_PARTS));
    ends_with_nothing && words.all(|word| is_letters(word) || is_none(word))
        || is_joined_word(value, &WORDS)
        || value.trim().starts_with("[object ") && value.ends_with(']')
        || is_filled_uuid(value)
}

/// Returns whether a value ends as JavaScript joins a text and nothing: `fb.1.undefined`,
/// `ORD2024-undefined`, `undefinedundefined`.
fn ends_with_undefined(value: &str) -> bool {
    const END: &str = "undefined";
    let start = value.len().checked_sub(END.len());
    let end = start.and_then(|start| value.get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(END))
}

/// Returns whether a word is zeros, as a number in hex as well.
fn is_zeros(word: &str) -> bool {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    digits.unwrap_or(word).bytes().all(|byte| byte == b'0')
}

fn is_among(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Returns whether a value is one of those words with marks within: `n/a`, `USER_ID`.
fn is_joined_word(value: &str, words: &[&str]) -> bool {
    let mut joined = [0; WORD_BYTES_MAX];
    let mut length = 0;
    for c in value.chars().filter(|c| !is_mark(*c)) {
        let (Some(place), true) = (joined.get_mut(length), c.is_ascii()) else {
            return false;
        };
        *place = c as u8;
        length += 1;
    }
    let joined = joined.get(..length).unwrap_or_default();
    str::from_utf8(joined).is_ok_and(|word| is_among(word, words))
}

/// Returns whether a value is RFC 9562's largest UUID or the pattern of one.
fn is_filled_uuid(value: &str) -> bool {
    let is_filled = |filler: u8| {
        let is_in_place = |(at, byte): (usize, u8)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.eq_ignore_ascii_case(&filler),
        };
        value.bytes().enumerate().all(is_in_place)
    };
    value.len() == 36 && (is_filled(b'f') || is_filled(b'x'))
}

/// The first 16 bytes of the MD5, SHA-1 and SHA-256 of every value that says that there is no ID.
static DIGESTS: LazyLock<HashSet<u128>> = LazyLock::new(|| {
    let capitalised = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or_default();
        first.to_uppercase() + rest
    };
    let spell = |word: &&str| [(*word).to_owned(), word.to_uppercase(), capitalised(word)];
    let words = WORDS.iter().chain(&ID_NAMES).flat_map(spell);
    let texts = words.chain(HASHED.iter().map(|text| (*text).to_owned()));
    // A shell hashes the line end as well.
    texts
        .flat_map(|text| [text.clone() + "\n", text])
        .flat_map(|text| {
            [
                first_half(&Md5::digest(&text)),
                first_half(&Sha1::digest(&text)),
                first_half(&Sha256::digest(&text)),
            ]
        })
        .flatten()
        .collect()
});

fn first_half(digest: &[u8]) -> Option<u128> {
    digest.first_chunk().copied().map(u128::from_be_bytes)
}

/// Returns whether a value is a hash of a value that says that there is no ID, in hex or base64.
fn is_hash_of_no_id(value: &str) -> bool {
    let digest = match value.len() {
        32 | 40 | 64 => u128::from_str_radix(value.get(..32).unwrap_or_default(), 16).ok(),
        22 | 24 | 27 | 28 | 43 | 44 => from_base64(value),
        _ => None,
    };
    // A number that is filled up with zeros begins as a digest of zeros does.
    let is_zero = || value.bytes().all(|byte| matches!(byte, b'0' | b'A' | b'='));
    digest.is_some_and(|digest| digest == 0 && is_zero() || DIGESTS.contains(&digest))
}

/// Decodes what may be a digest, in either alphabet, with padding or without.
fn from_base64(value: &str) -> Option<u128> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    let mut bytes = [0; 33];
    let is_url_safe = value.bytes().any(|byte| matches!(byte, b'-' | b'_'));
    let engine = if is_url_safe { URL_SAFE } else { STANDARD };
    let length = engine.decode_slice(value, &mut bytes).ok()?;
    first_half(bytes.get(..length)?)
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
