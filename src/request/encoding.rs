//! Percent-encoding that a sender applied twice, and bytes that are not text.

use percent_encoding::percent_encode_byte;

/// Appends bytes that are not UTF-8 as escapes.
pub(crate) fn push_escaped(out: &mut String, bytes: &[u8]) {
    out.extend(bytes.iter().map(|byte| percent_encode_byte(*byte)));
}

/// Returns whether a decoded value was encoded twice: it has escapes, all of them whole, and beside
/// them only characters that no encoder touches; or it is a URL whose scheme is still encoded. A
/// URL that was encoded once shows its `:` and `/` bare, so its own escapes stay.
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
    // RFC 3986's unreserved characters, and what JavaScript's encodeURIComponent leaves beside
    // them.
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!*'()%".contains(&byte);
    whole && (text.bytes().all(bare) || starts("http%3A") || starts("https%3A"))
}
