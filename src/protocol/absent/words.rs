//! What programs write where they know no ID: `null`, zeros, and their like; a word that says what
//! belongs there and nothing behind it; and the name of an ID in its place.

use std::ops::RangeInclusive;

use super::macros::is_space_or_quote;
use super::terms::{is_term, words_of};

/// The words, in small letters and without punctuation.
pub(super) const WORDS: [&str; 70] = [
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
    "notfound",
    "notprovided",
    "novalue",
    "unspecified",
    "empty",
    "void",
    "missing",
    "invalid",
    "unavailable",
    "notavailable",
    "notapplicable",
    "anonymous",
    "anonymoususer",
    "anon",
    "guest",
    "guestuser",
    "nouser",
    "notloggedin",
    "loggedout",
    "unauthenticated",
    "optout",
    "optedout",
    "noconsent",
    "redacted",
    "noid",
    "nouid",
    "nullptr",
    "dbnull",
    "optionalempty",
    "objectobject",
    "placeholder",
    "changeme",
    "todo",
    "tbd",
    "string",
    "snil",
    "dmissing",
    "smissing",
    "nannannan",
    "nullnull",
    "undefinednull",
    "nannull",
    "notassigned",
    "unassigned",
    "undetermined",
    "uninitialized",
    "nullopt",
    "stdnullopt",
    "optionalnil",
    "error",
    "exception",
    "ingen",
    "saknas",
    "okänd",
    "ukjent",
    "ukendt",
    "tuntematon",
];

/// What is written so and in no other way. `-1` and `-2` are VAST's for an ID that is unknown and
/// one that is unavailable; `\N` is how databases write NULL, and the others are how tables and
/// programs write errors.
const EXACT: [&str; 19] = [
    "-1",
    "-2",
    "\\N",
    "\\n",
    "NaT",
    "#REF!",
    "#VALUE!",
    "#NAME?",
    "#NULL!",
    "#NUM!",
    "#DIV/0!",
    "#ERROR!",
    "inf",
    "-inf",
    "-nan(ind)",
    "-NaN(ind)",
    "1.#IND",
    "-1.#IND",
    "1.#QNAN",
];

/// IDs that many devices have: the address that Android gives for each device's own, the Android ID
/// of every device of some series, and UUIDs and ULIDs of a generator without randomness.
const SHARED: [&str; 11] = [
    "020000000000",
    "02:00:00:00:00:00",
    "02-00-00-00-00-00",
    "9774d56d682e549c",
    "00000000000040008000000000000000",
    "00000000-0000-4000-8000-000000000000",
    "ffffffffffff4fffbfffffffffffffff",
    "ffffffff-ffff-4fff-bfff-ffffffffffff",
    "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx",
    "12345678-1234-1234-1234-123456789012",
    "12345678-1234-5678-1234-567812345678",
];

/// The names of IDs, which stand where an ID was to be put. Terms may stand before them:
/// `user_id`, `externalUserId`.
const ID_NAMES: [&str; 11] = [
    "id", "uid", "uuid", "guid", "did", "maid", "idfa", "idfv", "gaid", "aaid", "oaid",
];
/// The shortest word that is a name of an ID because it ends with one; `sid` is a person's name.
const ID_NAME_BYTES_MIN: usize = 4;

/// Words before which nobody is meant: `unknown_user`, `no-id`.
const NOBODY: [&str; 9] = [
    "anonymous",
    "empty",
    "guest",
    "invalid",
    "missing",
    "no",
    "null",
    "undefined",
    "unknown",
];
/// What stands behind them.
const SOMEBODY: [&str; 14] = [
    "client",
    "customer",
    "device",
    "id",
    "member",
    "session",
    "uid",
    "user",
    "userid",
    "uuid",
    "value",
    "visitor",
    "visitorid",
    "clientid",
];

/// How the words begin and end that tell a reader to put an ID in their place.
const BEGINNINGS: [&str; 5] = ["your", "insert", "enter", "replace", "paste"];
const ENDING: &str = "here";

/// The longest of [`WORDS`] has fewer letters and digits.
const WORD_BYTES_MAX: usize = 24;
/// How many equal bytes an ID begins with that may be nothing but them.
pub(super) const UNIFORM_BYTES: usize = 8;
/// How many equal letters or digits are no ID: an address in hex has as many.
const FILLED_BYTES_MIN: usize = 12;
/// How many `x` are the pattern of an ID.
const PATTERN_BYTES: RangeInclusive<usize> = 3..=64;

/// Returns whether a value is one of the IDs that many devices have.
pub(super) fn is_known(value: &[u8]) -> bool {
    let is = |known: &&str| known.as_bytes().eq_ignore_ascii_case(value);
    SHARED
        .iter()
        .any(|known| known.len() == value.len() && is(known))
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

fn is_among(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Returns whether a word is zeros, as a number in hex as well, or one of [`WORDS`].
fn is_none(word: &str) -> bool {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    digits.unwrap_or(word).bytes().all(|byte| byte == b'0') || is_among(word, &WORDS)
}

/// Returns whether a value is what a program writes for none.
pub(super) fn is_no_id(value: &str) -> bool {
    let bare = value.trim_matches(is_space_or_quote);
    let mut words = value.split(is_mark).filter(|word| !word.is_empty());
    words.all(is_none)
        || EXACT.contains(&bare)
        || is_known(bare.trim_matches(['{', '}']).as_bytes())
        || ends_with_undefined(value.as_bytes())
        || ends_with_nothing(bare)
        || is_joined_word(value)
        || is_filled(value)
        || is_instruction(bare)
        || is_nobody(bare)
        || text_of_python(value.trim()).is_some_and(is_no_id)
        || bare.starts_with("[object ") && bare.ends_with(']')
}

/// Returns whether a value ends as JavaScript joins a text and nothing: `fb.1.undefined`,
/// `ORD2024-undefined`, `undefinedundefined`.
pub(super) fn ends_with_undefined(value: &[u8]) -> bool {
    const END: &[u8] = b"undefined";
    let end = value.last_chunk::<{ END.len() }>();
    end.is_some_and(|end| end.eq_ignore_ascii_case(END))
}

/// Returns whether a value has words that say what belongs behind them, and nothing there:
/// `order-`, `user-0`, `acme-user:none`. Behind any word, `null` is nothing as well, unless a dot
/// makes it a name: `order_null`, not `li.null`.
fn ends_with_nothing(value: &str) -> bool {
    let mut rest = value.trim_end_matches(is_mark);
    let is_dangling = value.ends_with(['-', '_', ':', '=', '/', '|', '.', '~'])
        && value.starts_with(|c: char| c.is_ascii_alphabetic());
    let mut nothings = 0;
    let mut is_null = false;
    let named = loop {
        let (before, last) =
            rest.char_indices()
                .rev()
                .find(|(_, c)| is_mark(*c))
                .map_or(("", rest), |(at, c)| {
                    let (before, last) = rest.split_at_checked(at).unwrap_or_default();
                    (before, last.get(c.len_utf8()..).unwrap_or_default())
                });
        if !is_none(last) {
            break rest;
        }
        nothings += 1;
        is_null = last.eq_ignore_ascii_case("null") && !rest.ends_with(&format!(".{last}"));
        rest = before.trim_end_matches(is_mark);
        if rest.is_empty() {
            return true;
        }
    };
    let mut words = named.split(is_mark).filter(|word| !word.is_empty());
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphabetic()) || is_none(word);
    match nothings {
        0 => is_dangling && words.all(is_named),
        _ => {
            let last_is_named = words.clone().next_back().is_some_and(is_named);
            (last_is_named || is_null) && words.all(is_word)
        }
    }
}

/// Returns whether a word, or each of several that are written together, is a term.
fn is_named(word: &str) -> bool {
    words_of(word, is_mark).all(is_term)
}

/// Returns whether a value is one of [`WORDS`] with marks within: `n/a`.
fn is_joined_word(value: &str) -> bool {
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
    str::from_utf8(joined).is_ok_and(|word| is_among(word, &WORDS))
}

/// Returns whether a value is nothing but one letter or digit where a UUID or an address stands
/// (RFC 9562's largest UUID has `f`), or nothing but a few `x`: the pattern of an ID.
fn is_filled(value: &str) -> bool {
    let is_within = |byte: &u8| !matches!(byte, b'-' | b':' | b'{' | b'}' | b' ');
    let mut bytes = value.bytes().filter(is_within);
    let count = bytes.clone().count();
    let Some(first) = bytes.next().filter(u8::is_ascii_alphanumeric) else {
        return false;
    };
    let is_long = if first.eq_ignore_ascii_case(&b'x') {
        PATTERN_BYTES.contains(&count)
    } else {
        count >= FILLED_BYTES_MIN
    };
    is_long && bytes.all(|byte| byte.eq_ignore_ascii_case(&first))
}

/// Returns whether a value tells a reader to put an ID in its place: `YOUR_USER_ID`,
/// `insert-id-here`.
fn is_instruction(value: &str) -> bool {
    let is_instructing = |word: &str| {
        let word = word.to_ascii_lowercase();
        BEGINNINGS.iter().any(|begin| word.starts_with(begin)) || word.ends_with(ENDING)
    };
    let value = value.trim_matches(is_mark);
    let mut words = words_of(value, is_mark);
    let (first, last) = (words.clone().next(), words.clone().last());
    let is_single = words.clone().nth(1).is_none();
    let instructs = first.into_iter().chain(last).any(is_instructing);
    let is_one = |word: &str| {
        BEGINNINGS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(word))
    };
    instructs
        && !(is_single && (is_one(value) || value.eq_ignore_ascii_case(ENDING)))
        && words.all(is_term)
}

/// Returns whether a value says that nobody is known: `unknown_user`, `no-user-id`.
fn is_nobody(value: &str) -> bool {
    let mut words = words_of(value, is_mark);
    let is_none = words.next().is_some_and(|word| is_among(word, &NOBODY));
    is_none && words.clone().next().is_some() && words.all(|word| is_among(word, &SOMEBODY))
}

/// Returns what stands in a text as Python shows it: `b'…'`, `u'…'`.
fn text_of_python(value: &str) -> Option<&str> {
    let quoted = value.strip_prefix(['b', 'u'])?;
    quoted.strip_prefix('\'')?.strip_suffix('\'')
}

/// Returns whether a value is the name of an ID: `uid`, `USER-ID`, `orderId`.
pub(super) fn is_name_of_id(value: &str) -> bool {
    let is_id = |word: &str| {
        let word = word.to_ascii_lowercase();
        let is_long = word.len() >= ID_NAME_BYTES_MIN;
        ID_NAMES
            .iter()
            .any(|name| word == *name || is_long && word.ends_with(name))
            && is_term(&word)
    };
    let mut words = words_of(value, is_mark);
    words.clone().last().is_some_and(is_id) && words.all(is_term)
}
