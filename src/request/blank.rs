//! Blanks before a piece of text.

/// Returns a text without the blanks that it begins with. Most pieces begin with none, which the
/// first byte tells.
#[inline]
pub(crate) fn skip_blanks(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(byte) if *byte > b' ' && byte.is_ascii() => text,
        _ => text.trim_start(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blanks_of_every_script_are_skipped_and_nothing_else() {
        for text in [
            "",
            " ",
            "a ",
            " \t\r\n a",
            "\u{a0}a",
            "\u{2003}a",
            "\u{e4} a",
            "\u{7f} a",
            "\0 a",
            "\u{b}a",
        ] {
            assert_eq!(skip_blanks(text), text.trim_start(), "{text:?}");
        }
    }
}
