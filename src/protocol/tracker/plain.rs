//! JSON as trackers write it, gone through once.
//!
//! serde reads each JSON there is, at several times the work. What is found here is what serde
//! finds: the functions return `None` where something may be wrong, rare or nested deep, and then
//! serde decides. A test compares the two.

use crate::request::quoted::Quoted;

/// How deep values may be nested.
const DEPTH_MAX: usize = 32;

/// Goes through the members of an object that a text begins with. `each` is given a name without
/// escapes and the text from its value on, and returns what follows the value. Returns what follows
/// the object.
pub(in crate::protocol) fn skip_members<'t>(
    text: &'t str,
    mut each: impl FnMut(&'t str, &'t str) -> Option<&'t str>,
) -> Option<&'t str> {
    let mut rest = skip_blanks(text.strip_prefix('{')?);
    if let Some(after) = rest.strip_prefix('}') {
        return Some(after);
    }
    loop {
        let (name, after) = Quoted::split(rest.strip_prefix('"')?)?;
        if !name.is_plain() {
            return None;
        }
        let value = skip_blanks(skip_blanks(after).strip_prefix(':')?);
        rest = skip_blanks(each(name.inner, value)?);
        match rest.as_bytes().first()? {
            b',' => rest = skip_blanks(rest.get(1..)?),
            b'}' => return rest.get(1..),
            _ => return None,
        }
    }
}

/// Goes through the items of a list that a text begins with, as [`skip_members`] goes through
/// members.
pub(in crate::protocol) fn skip_items<'t>(
    text: &'t str,
    mut each: impl FnMut(&'t str) -> Option<&'t str>,
) -> Option<&'t str> {
    let mut rest = skip_blanks(text.strip_prefix('[')?);
    if let Some(after) = rest.strip_prefix(']') {
        return Some(after);
    }
    loop {
        rest = skip_blanks(each(rest)?);
        match rest.as_bytes().first()? {
            b',' => rest = skip_blanks(rest.get(1..)?),
            b']' => return rest.get(1..),
            _ => return None,
        }
    }
}

/// Takes the value that a text begins with. Returns it, and what follows.
pub(in crate::protocol) fn take_value(text: &str) -> Option<(&str, &str)> {
    let after = skip_value(text, 0)?;
    text.split_at_checked(text.len() - after.len())
}

fn skip_value(text: &str, depth: usize) -> Option<&str> {
    if depth > DEPTH_MAX {
        return None;
    }
    match text.as_bytes().first()? {
        b'"' => skip_string(text.get(1..)?),
        b'{' => skip_members(text, |_, value| skip_value(value, depth + 1)),
        b'[' => skip_items(text, |item| skip_value(item, depth + 1)),
        b't' => text.strip_prefix("true"),
        b'f' => text.strip_prefix("false"),
        b'n' => text.strip_prefix("null"),
        _ => skip_number(text),
    }
}

fn skip_string(text: &str) -> Option<&str> {
    let (string, after) = Quoted::split(text)?;
    let is_sound =
        !string.is_unsound() && (!string.is_escaped() || has_sound_escapes(string.inner));
    is_sound.then_some(after)
}

/// Checks that each backslash begins an escape, and that nothing that is escaped is a control
/// character.
fn has_sound_escapes(inner: &str) -> bool {
    let mut rest = inner.as_bytes();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        rest = match rest.get(at + 1..) {
            Some([b'u', digits @ ..]) => match digits.split_at_checked(4) {
                Some((digits, after)) if digits.iter().all(u8::is_ascii_hexdigit) => after,
                _ => return false,
            },
            Some(
                [
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    after @ ..,
                ],
            ) => after,
            _ => return false,
        };
    }
    true
}

/// Skips a number without an exponent.
fn skip_number(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let bytes = bytes.get(from..).unwrap_or_default();
        let is_digit = |byte: &&u8| byte.is_ascii_digit();
        bytes.iter().take_while(is_digit).count()
    };
    let start = usize::from(bytes.first() == Some(&b'-'));
    let mut end = start + digits(start);
    let is_whole = end == start + 1 || end > start && bytes.get(start) != Some(&b'0');
    if bytes.get(end) == Some(&b'.') {
        let count = digits(end + 1);
        end += 1 + count;
        if count == 0 {
            return None;
        }
    }
    let is_end = !matches!(bytes.get(end), Some(b'e' | b'E'));
    (is_whole && is_end).then(|| text.get(end..)).flatten()
}

/// Returns a text without the blanks that it begins with, as JSON has them.
#[inline]
pub(in crate::protocol) fn skip_blanks(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(byte) if *byte <= b' ' => text.trim_start_matches([' ', '\n', '\r', '\t']),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\":",
        "\"b\"",
        "\"data\":",
        " ",
        "\n",
        "0",
        "1",
        "-",
        "12.5",
        "1.",
        "01",
        "1e5",
        "-0",
        "true",
        "false",
        "null",
        "nul",
        "\\\"",
        "\\u00e4",
        "\\u00",
        "\\q",
        "\"\u{e4}\"",
        "\"\u{a0}\"",
        "\"\u{1}\"",
        "\u{a0}",
        "\"\\\\\"",
        "{}",
        "[]",
        "{\"a\":[1,{\"b\":null}]}",
        "\"x y\"",
    ];

    /// Returns texts that are often JSON or nearly.
    fn text() -> impl Strategy<Value = String> {
        let piece = || proptest::sample::select(PIECES).prop_map(str::to_owned);
        let value = piece().prop_recursive(4, 24, 4, move |inner| {
            let blank = proptest::sample::select(&["", "", "", " ", "\t\r\n"][..]);
            let member =
                (blank, inner.clone()).prop_map(|(b, value)| format!("{b}\"n\"{b}:{b}{value}{b}"));
            prop_oneof![
                proptest::collection::vec(member, 0..4)
                    .prop_map(|all| format!("{{{}}}", all.join(","))),
                proptest::collection::vec(inner, 0..4)
                    .prop_map(|all| format!("[{}]", all.join(" ,"))),
            ]
        });
        let pieces = proptest::collection::vec(piece(), 0..12).prop_map(|all| all.concat());
        prop_oneof![3 => value, 1 => pieces]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50_000))]

        #[test]
        fn what_is_found_is_what_serde_finds(text in text()) {
            if let Some((value, after)) = take_value(&text)
                && skip_blanks(after).is_empty()
            {
                let read: Result<&RawValue, _> = serde_json::from_str(&text);
                prop_assert_eq!(read.map(RawValue::get).map_err(|error| error.to_string()), Ok(value));
            }
        }
    }

    #[test]
    fn what_trackers_write_is_found() {
        for json in [
            r#"{"e":"pv","page":"R\u00e4ka","n":[1,-2.50,0,null,true,false,{}],"o":{"a":{"b":[]}}}"#,
            r#"{ "a" : [ 1 , "\"\\\/\n" ] , "ä" : {} }"#,
            "[]",
            "\"\"",
            "-0.5",
        ] {
            assert_eq!(take_value(json), Some((json, "")), "{json}");
        }
        for other in [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "01",
            "1.",
            "-",
            "\"\\q\"",
            "\"\\u12g4\"",
            "nul",
            "{,}",
        ] {
            let whole = take_value(other).filter(|(_, after)| after.is_empty());
            assert_eq!(whole, None, "{other}");
        }
    }
}
