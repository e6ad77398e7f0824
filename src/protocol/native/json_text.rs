//! JSON as senders write it -> JSON that Postgres takes.
//!
//! One pass over a text writes it without blanks and changes only what cannot be stored, with the
//! flag `cleaned`: NUL, DEL and the control characters beyond ASCII become U+FFFD, in texts and in
//! names; so does half a surrogate pair; a number beyond any float becomes a text; `NaN` and its
//! like, which are not JSON, become `null`. Numbers keep their digits.

use std::mem;

use memchr::memchr2;
use serde_json::value::RawValue;

use crate::hit::Flags;
use crate::request::marks::marks;
use crate::request::quoted::Quoted;
use crate::request::skip_blanks;

/// How deep a value may be nested: with the object around it, no deeper than serde reads.
const DEPTH_MAX: usize = 126;
/// The most digits of a number that any float can hold.
const DIGITS_MAX: usize = 300;

/// What is found within an object or an array.
pub(super) enum FoundText<'t> {
    /// A member of an object.
    Member {
        /// Its name, as written between the quotes.
        name: &'t str,
        /// Whether that has a backslash.
        is_escaped: bool,
        /// What follows its colon.
        rest: &'t str,
        /// The name of the object that it is a member of; empty if an array holds that. `None` in
        /// the outermost object.
        object: Option<&'t str>,
    },
    /// A text that is a value.
    Text {
        /// As written between the quotes.
        inner: &'t str,
        /// Whether that has a backslash.
        is_escaped: bool,
    },
}

/// Writes a JSON text clean. Returns false if it is nested too deep. What is not JSON stays none.
pub(super) fn write_clean<'t>(
    text: &'t str,
    out: &mut String,
    flags: &mut Flags,
    on_found: &mut impl FnMut(FoundText<'t>),
) -> bool {
    let mut rest = text;
    // Where what is not yet written begins: most texts are written at once.
    let mut from = 0;
    // The names of the objects and arrays that are open, and that of the value which is next.
    let (mut open, mut next) = (Vec::new(), "");
    while let Some(first) = rest.as_bytes().first() {
        let at = text.len() - rest.len();
        let mut is_kept = true;
        let after = match first {
            b'"' => {
                let within = rest.get(1..).unwrap_or_default();
                let string = Quoted::split(within);
                is_kept = string.is_some_and(|(string, _)| string.is_plain());
                let is_escaped = string.is_none_or(|(string, _)| string.is_escaped());
                let (inner, after) =
                    string.map_or((within, ""), |(string, after)| (string.inner, after));
                if let Some(value) = skip_blanks(after).strip_prefix(':') {
                    next = inner;
                    on_found(FoundText::Member {
                        name: inner,
                        is_escaped,
                        rest: skip_blanks(value),
                        object: open.get(1..).and_then(|open| open.last()).copied(),
                    });
                } else if !open.is_empty() {
                    on_found(FoundText::Text { inner, is_escaped });
                }
                after
            }
            b'-' | b'0'..=b'9' => {
                let (number, after) = split_number(rest);
                is_kept = is_clean_number(number);
                after
            }
            b'a'..=b'z' | b'A'..=b'Z' => {
                let (word, after) = split_while(rest, |byte| byte.is_ascii_alphabetic());
                is_kept = !is_no_word(word);
                after
            }
            b'{' | b'[' => {
                open.push(mem::take(&mut next));
                rest.get(1..).unwrap_or_default()
            }
            b'}' | b']' => {
                open.pop();
                rest.get(1..).unwrap_or_default()
            }
            _ => {
                let character = rest.chars().next().unwrap_or_default();
                is_kept = !character.is_whitespace();
                rest.get(character.len_utf8()..).unwrap_or_default()
            }
        };
        if !is_kept {
            out.push_str(text.get(from..at).unwrap_or_default());
            from = text.len() - after.len();
            write_changed(text.get(at..from).unwrap_or_default(), out, flags);
        }
        rest = after;
        if open.len() > DEPTH_MAX {
            return false;
        }
    }
    out.push_str(text.get(from..).unwrap_or_default());
    true
}

/// Writes a piece that is not written as it is: a string, a number, a word, or a blank.
fn write_changed(piece: &str, out: &mut String, flags: &mut Flags) {
    match piece.as_bytes() {
        [b'"', ..] => {
            let within = piece.get(1..).unwrap_or_default();
            write_string(split_string(within).0, out, flags);
        }
        [b'-' | b'0'..=b'9', ..] => write_number(piece, out, flags),
        [b'a'..=b'z' | b'A'..=b'Z', ..] => write_word(piece, out, flags),
        _ => {}
    }
}

/// Returns whether a JSON text is a scalar that [`write_clean`] writes as it is.
pub(super) fn is_clean_scalar(json: &str) -> bool {
    match json.as_bytes() {
        [b'"', ..] => {
            let string = Quoted::split(json.get(1..).unwrap_or_default());
            string.is_some_and(|(string, after)| after.is_empty() && string.is_plain())
        }
        [b'-' | b'0'..=b'9', ..] => {
            let (number, after) = split_number(json);
            after.is_empty() && is_clean_number(number)
        }
        _ => matches!(json, "true" | "false" | "null"),
    }
}

/// Returns a scalar at the beginning of a JSON text: a string without its quotes, or the text up to
/// what ends a value, or begins within it.
pub(super) fn leading_scalar(text: &str) -> &str {
    match text.strip_prefix('"') {
        Some(inner) => split_string(inner).0,
        None => text
            .split([',', '}', ']', '{', '[', '"', ':'])
            .next()
            .unwrap_or_default()
            .trim_end(),
    }
}

/// Returns a value at the beginning of a JSON text: a list or an object whole, or a scalar.
pub(super) fn leading_value(text: &str) -> &str {
    if !text.starts_with(['[', '{']) {
        return leading_scalar(text);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    match values.next() {
        Some(Ok(value)) => value.get(),
        _ => "",
    }
}

/// Splits a text at the end of the string that it begins within: what is in it, and what follows
/// its closing quote.
pub(super) fn split_string(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let mut end = 0;
    loop {
        let found = bytes.get(end..).and_then(|rest| memchr2(b'"', b'\\', rest));
        let Some(found) = found else {
            end = text.len();
            break;
        };
        end += found;
        if bytes.get(end) == Some(&b'"') {
            break;
        }
        // Whatever is escaped ends nothing.
        end += 2;
    }
    let (inner, after) = text.split_at(end);
    (inner, after.get(1..).unwrap_or_default())
}

/// Splits a text behind the number that it begins with.
fn split_number(text: &str) -> (&str, &str) {
    let is_of_number =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    split_while(text, is_of_number)
}

fn split_while(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !belongs(byte));
    text.split_at(end.unwrap_or(text.len()))
}

/// Returns whether a number is written as it is: without an exponent, and with digits that any
/// float can hold.
fn is_clean_number(number: &str) -> bool {
    let has_exponent = number.bytes().any(|byte| matches!(byte, b'e' | b'E'));
    !has_exponent && number.len() <= DIGITS_MAX
}

/// Returns whether a word is what some programs write where JSON has none.
fn is_no_word(word: &str) -> bool {
    matches!(word, "NaN" | "Infinity" | "undefined")
}

/// Returns whether no text or name in a JSON value may hold a character: NUL, which `jsonb`
/// refuses, and DEL and the control characters beyond ASCII, which JSON writes as they are. JSON
/// escapes the others, and a text may need its line ends.
fn is_unsound(character: char) -> bool {
    matches!(character, '\0' | '\u{7f}'..='\u{9f}')
}

/// Returns a mark for a byte that a doubtful character may begin with. Those beyond ASCII (U+0080
/// to U+009F) begin with 0xc2 in UTF-8.
fn may_be_doubtful(byte: u8) -> u8 {
    u8::from((byte == b'\\') | (byte < b' ') | (byte == 0x7f) | (byte == 0xc2))
}

/// Writes what stands between the quotes of a string.
fn write_string(inner: &str, out: &mut String, flags: &mut Flags) {
    out.push('"');
    let mut rest = inner;
    if marks(inner.as_bytes(), may_be_doubtful) == 0 {
        out.push_str(inner);
        out.push('"');
        return;
    }
    let is_doubtful = |c: char| c == '\\' || c < ' ' || is_unsound(c);
    while let Some(at) = rest.find(is_doubtful) {
        let (sound, doubtful) = rest.split_at(at);
        out.push_str(sound);
        rest = write_doubtful(doubtful, out, flags);
    }
    out.push_str(rest);
    out.push('"');
}

/// Writes a doubtful character or escape that a text begins with. Returns what follows.
fn write_doubtful<'t>(text: &'t str, out: &mut String, flags: &mut Flags) -> &'t str {
    let split = |length| text.split_at_checked(length).unwrap_or((text, ""));
    let (length, is_sound) = match text.as_bytes() {
        [b'\\', b'u', ..] => match surrogates(text) {
            Some((length, character)) => (length, character.is_some_and(|c| !is_unsound(c))),
            None => (2, false),
        },
        [
            b'\\',
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
            ..,
        ] => (2, true),
        _ => (text.chars().next().map_or(1, char::len_utf8), false),
    };
    let (piece, rest) = split(length);
    if is_sound {
        out.push_str(piece);
        return rest;
    }
    flags.set(Flags::CLEANED);
    match piece {
        // JSON escapes them; a text may need its line ends.
        "\n" => out.push_str("\\n"),
        "\r" => out.push_str("\\r"),
        "\t" => out.push_str("\\t"),
        _ => out.push('\u{fffd}'),
    }
    rest
}

/// Reads an escape of four hex digits, `\u0061`, or two that are a surrogate pair. Returns its
/// length, and its character unless it is half a pair; `None` if it is no escape.
fn surrogates(text: &str) -> Option<(usize, Option<char>)> {
    const ESCAPE_BYTES: usize = 6;
    let unit = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    };
    let first = unit(text)?;
    let second = text.get(ESCAPE_BYTES..).and_then(unit);
    let decode = |units: &[u16]| char::decode_utf16(units.iter().copied()).next()?.ok();
    Some(match (decode(&[first]), second) {
        (None, Some(second)) if decode(&[first, second]).is_some() => {
            (2 * ESCAPE_BYTES, decode(&[first, second]))
        }
        (character, _) => (ESCAPE_BYTES, character),
    })
}

/// Writes a number. One with an exponent, which Postgres would write out, is written out here.
fn write_number(number: &str, out: &mut String, flags: &mut Flags) {
    let has_exponent = number.contains(['e', 'E']);
    if is_clean_number(number) {
        out.push_str(number);
        return;
    }
    match number.parse::<f64>() {
        Ok(value) if value.is_finite() && has_exponent => {
            out.push_str(&serde_json::Value::from(value).to_string());
        }
        Ok(value) if !value.is_finite() => {
            flags.set(Flags::CLEANED);
            out.push('"');
            out.push_str(number);
            out.push('"');
        }
        _ => out.push_str(number),
    }
}

/// Writes a word outside of strings.
fn write_word(word: &str, out: &mut String, flags: &mut Flags) {
    if !is_no_word(word) {
        out.push_str(word);
        return;
    }
    flags.set(Flags::CLEANED);
    if out.ends_with('-') {
        out.pop();
    }
    out.push_str("null");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"a\":",
        "\"b\" : ",
        " ",
        "\n",
        "\u{85}",
        "\u{a0}",
        "1",
        "-",
        "-2.50",
        "1e2",
        "1E999",
        "1+2",
        "true",
        "NaN",
        "-Infinity",
        "undefined",
        "x",
        "\\",
        "\\u0000",
        "\\ud83d\\ude00",
        "\"\u{e4}\"",
        "\"\u{a7}\"",
        "\"\u{1}\\n\"",
        "\"\u{7f}\"",
        "\u{e4}",
        "\0",
        "'",
    ];

    /// Writes as [`write_clean`] does, each piece alone.
    fn write_slowly(text: &str, found: &mut Vec<String>) -> (String, Flags) {
        let (mut out, mut flags) = (String::new(), Flags::default());
        let mut rest = text;
        let (mut open, mut next) = (Vec::new(), "");
        while let Some(first) = rest.chars().next() {
            let after = &rest[first.len_utf8()..];
            rest = match first {
                '"' => {
                    let (inner, after) = split_string(after);
                    write_string(inner, &mut out, &mut flags);
                    if let Some(value) = skip_blanks(after).strip_prefix(':') {
                        next = inner;
                        let object = open.get(1..).and_then(|open: &[&str]| open.last());
                        found.push(format!("{inner} {} {object:?}", skip_blanks(value)));
                    } else if !open.is_empty() {
                        found.push(inner.to_owned());
                    }
                    after
                }
                '-' | '0'..='9' => {
                    let (number, after) = split_number(rest);
                    write_number(number, &mut out, &mut flags);
                    after
                }
                'a'..='z' | 'A'..='Z' => {
                    let (word, after) = split_while(rest, |byte| byte.is_ascii_alphabetic());
                    write_word(word, &mut out, &mut flags);
                    after
                }
                _ => {
                    match first {
                        '{' | '[' => open.push(mem::take(&mut next)),
                        '}' | ']' => drop(open.pop()),
                        _ => {}
                    }
                    if !first.is_whitespace() {
                        out.push(first);
                    }
                    after
                }
            };
        }
        (out, flags)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50_000))]

        #[test]
        fn what_is_written_at_once_is_what_each_piece_would_be(
            parts in proptest::collection::vec(proptest::sample::select(PIECES), 0..16)
        ) {
            let text = parts.concat();
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            let (mut out, mut flags) = (String::new(), Flags::default());
            let written = write_clean(&text, &mut out, &mut flags, &mut |one| match one {
                FoundText::Member { name, rest, object, .. } => {
                    found.push(format!("{name} {rest} {:?}", object.as_ref()));
                }
                FoundText::Text { inner, .. } => found.push(inner.to_owned()),
            });
            prop_assert!(written);
            prop_assert_eq!((&out, flags), (&write_slowly(&text, &mut expected).0, write_slowly(&text, &mut Vec::new()).1));
            prop_assert_eq!(found, expected);
            if is_clean_scalar(&text) {
                prop_assert_eq!((out, flags), (text, Flags::default()));
            }
        }
    }

    fn clean(text: &str) -> (String, Flags) {
        let (mut out, mut flags) = (String::new(), Flags::default());
        assert!(write_clean(text, &mut out, &mut flags, &mut |_| {}));
        (out, flags)
    }

    #[test]
    fn what_json_holds_stays_and_what_it_cannot_hold_is_replaced() {
        for (text, expected) in [
            (
                r#" { "a" : [ 1 , -2.50 , true ] } "#,
                r#"{"a":[1,-2.50,true]}"#,
            ),
            ("12345678901234567890123", "12345678901234567890123"),
            (r#""\ud83d\ude00\n\"\/""#, r#""\ud83d\ude00\n\"\/""#),
            ("1e2", "100.0"),
            (r#""""#, r#""""#),
        ] {
            assert_eq!(
                clean(text),
                (expected.to_owned(), Flags::default()),
                "{text}"
            );
        }
        for (text, expected) in [
            (r#""a\ud800b""#, "\"a\u{fffd}b\""),
            (r#""\udc00\ud800""#, "\"\u{fffd}\u{fffd}\""),
            (r#""\ud800\u0041""#, "\"\u{fffd}\\u0041\""),
            (r#"{"\u0000":"\u0085"}"#, "{\"\u{fffd}\":\"\u{fffd}\"}"),
            ("\"\u{7f}\0\"", "\"\u{fffd}\u{fffd}\""),
            ("\"a\nb\"", r#""a\nb""#),
            (r#""\x41""#, "\"\u{fffd}x41\""),
            ("[1e400,-1e999]", r#"["1e400","-1e999"]"#),
            ("[NaN,-Infinity]", "[null,null]"),
        ] {
            assert_eq!(clean(text), (expected.to_owned(), Flags::CLEANED), "{text}");
        }
    }

    #[test]
    fn members_are_found_at_any_depth_and_too_much_depth_is_refused() {
        let (mut found, mut texts) = (Vec::new(), Vec::new());
        let text = r#"{"a":{"b" : "x\"y"},"c":[{"d":7}],"e":"f:"}"#;
        write_clean(
            text,
            &mut String::new(),
            &mut Flags::default(),
            &mut |one| match one {
                FoundText::Member {
                    name, rest, object, ..
                } => {
                    let value = leading_scalar(rest).to_owned();
                    found.push((name.to_owned(), value, object.map(str::to_owned)));
                }
                FoundText::Text { inner, .. } => texts.push(inner.to_owned()),
            },
        );
        let names: Vec<_> = found.iter().map(|(name, ..)| &**name).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
        let member = |name: &str, value: &str, object: Option<&str>| {
            (name.to_owned(), value.to_owned(), object.map(str::to_owned))
        };
        assert_eq!(found[1], member("b", r#"x\"y"#, Some("a")));
        assert_eq!(found[3], member("d", "7", Some("")));
        assert_eq!(texts, [r#"x\"y"#, "f:"]);
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (depth, is_taken) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false), (100_000, false)] {
            let text = deep(depth);
            let mut out = String::new();
            let taken = write_clean(&text, &mut out, &mut Flags::default(), &mut |_| {});
            assert_eq!(taken, is_taken, "{depth}");
        }
    }
}
