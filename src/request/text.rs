//! Texts as they come: decoded, cleaned, cut, and told from macros.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::hit::Flags;

/// One raw query value: percent-decoded, cleaned and cut; `None` for an unexpanded macro, which is
/// recognised before decoding too, since `%%CACHEBUSTER%%` is no valid escape.
///
/// Values are decoded once. A macro that encodes what its network had encoded already is the exception:
/// see [`is_encoded_still`].
pub(super) fn decode<'a>(
    raw: &'a str,
    bytes_max: usize,
    flags: &mut Flags,
) -> Option<Cow<'a, str>> {
    let expanded = |flags: &mut Flags| flags.set(Flags::MACRO);
    if is_macro(raw) {
        expanded(flags);
        return None;
    }
    let spaced: Cow<'a, str> = if raw.contains('+') {
        Cow::Owned(raw.replace('+', " "))
    } else {
        Cow::Borrowed(raw)
    };
    let mut text = match spaced {
        Cow::Borrowed(text) => match Cow::from(percent_decode(text.as_bytes())) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => owned_utf8(bytes, flags),
        },
        Cow::Owned(text) => owned_utf8(percent_decode(text.as_bytes()).collect(), flags),
    };
    if is_encoded_still(&text) {
        text = owned_utf8(percent_decode(text.as_bytes()).collect(), flags);
    }
    if is_macro(&text) {
        expanded(flags);
        return None;
    }
    Some(clean(text, bytes_max, flags))
}

/// Whether a decoded value was encoded twice: it has escapes, all of them whole, and beside them only
/// characters that no encoder touches; or it is a URL whose scheme is still encoded. A URL that was encoded
/// once shows its `:` and `/` bare, so its own escapes stay.
pub(crate) fn is_encoded_still(text: &str) -> bool {
    if !text.contains('%') {
        return false;
    }
    let whole = text.split('%').skip(1).all(|after| {
        let escape = after.as_bytes().get(..2);
        escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let starts = |scheme: &str| {
        text.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    // RFC 3986's unreserved characters, and what JavaScript's encodeURIComponent leaves beside them.
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!*'()%".contains(&byte);
    whole && (text.bytes().all(bare) || starts("http%3A") || starts("https%3A"))
}

fn owned_utf8<'a>(bytes: Vec<u8>, flags: &mut Flags) -> Cow<'a, str> {
    Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|error| {
        flags.set(Flags::CLEANED);
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    }))
}

pub(super) fn decode_utf8<'a>(bytes: &'a [u8], flags: &mut Flags) -> Cow<'a, str> {
    let text = String::from_utf8_lossy(bytes);
    if matches!(text, Cow::Owned(_)) {
        flags.set(Flags::CLEANED);
    }
    text
}

/// Cuts a text at `bytes_max` on a character's border and replaces control characters by U+FFFD.
pub(super) fn clean<'a>(text: Cow<'a, str>, bytes_max: usize, flags: &mut Flags) -> Cow<'a, str> {
    let mut text = text;
    // The control characters beyond ASCII (U+0080 to U+009F) begin with 0xc2 in UTF-8; terminals obey them
    // too.
    let is_suspect = |byte: u8| byte < 0x20 || byte == 0x7f || byte == 0xc2;
    if text.bytes().any(is_suspect) && text.contains(char::is_control) {
        flags.set(Flags::CLEANED);
        text = Cow::Owned(text.replace(char::is_control, "\u{fffd}"));
    }
    if text.len() > bytes_max {
        flags.set(Flags::TRUNCATED);
        let end = text.floor_char_boundary(bytes_max);
        text = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or_default()),
            Cow::Owned(mut text) => {
                text.truncate(end);
                Cow::Owned(text)
            }
        };
    }
    text
}

/// Whether a whole value is a macro that an ad network was to replace and did not
/// (reference: the networks' own macro lists): `${…}`, `%%…%%`, `%e…!`, `[UPPER]`, `__ADF…__`.
pub(super) fn is_macro(value: &str) -> bool {
    let within = |open: &str, close: &str| {
        value
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close))
            .unwrap_or_default()
    };
    !within("${", "}").is_empty()
        || !within("%%", "%%").is_empty()
        || !within("__ADF", "__").is_empty()
        || (!within("%e", "!").is_empty()
            && within("%e", "!")
                .bytes()
                .all(|byte| byte.is_ascii_lowercase()))
        || (!within("[", "]").is_empty()
            && within("[", "]")
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}
