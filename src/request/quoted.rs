//! Strings of JSON text: where one ends, and what is in it.
//!
//! One pass says both. So whoever reads a string need not look for its escapes, for what its text
//! may hold and for what cannot be stored one after the other.

/// How many bytes of a long string are looked at together.
const LANES: usize = 16;

/// The mark of the quote that ends a string.
const QUOTE: u8 = 1;
/// The mark of a backslash.
pub(crate) const ESCAPE: u8 = 1 << 1;
/// The mark of a byte that a character may begin with which JSON has to escape or which cannot be
/// stored: control characters, of which those beyond ASCII begin with 0xc2.
pub(crate) const UNSOUND: u8 = 1 << 2;
/// The marks of `=`, `:`, `%` and `@`.
pub(crate) const EQUALS: u8 = 1 << 3;
pub(crate) const COLON: u8 = 1 << 4;
pub(crate) const PERCENT: u8 = 1 << 5;
pub(crate) const AT: u8 = 1 << 6;

/// Returns the mark of a byte. It has no branch, so that the compiler looks at many at once.
const fn mark(byte: u8) -> u8 {
    let is_unsound = (byte < b' ') | (byte == 0x7f) | (byte == 0xc2);
    ((byte == b'"') as u8 * QUOTE)
        | ((byte == b'\\') as u8 * ESCAPE)
        | (is_unsound as u8 * UNSOUND)
        | ((byte == b'=') as u8 * EQUALS)
        | ((byte == b':') as u8 * COLON)
        | ((byte == b'%') as u8 * PERCENT)
        | ((byte == b'@') as u8 * AT)
}

/// The mark of each byte.
#[expect(
    clippy::indexing_slicing,
    reason = "it is evaluated by the compiler, which would refuse an index that is too large"
)]
const MARKS: [u8; 256] = {
    let mut marks = [0; 256];
    let mut byte = u8::MAX;
    loop {
        marks[byte as usize] = mark(byte);
        match byte.checked_sub(1) {
            Some(before) => byte = before,
            None => break marks,
        }
    }
};

fn mark_of(byte: u8) -> u8 {
    MARKS.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Returns the marks of all the bytes of a text that is no JSON.
pub(crate) fn marks_of(text: &str) -> u8 {
    text.bytes().fold(0, |all, byte| all | mark_of(byte))
}

/// A string of JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted<'t> {
    /// What stands between its quotes, as it was written.
    pub(crate) inner: &'t str,
    /// The marks of its bytes, but for those behind backslashes.
    pub(crate) marks: u8,
}

impl<'t> Quoted<'t> {
    /// Splits a text at the end of the string that it begins within: the string, and what follows
    /// its closing quote. `None` if it has none.
    pub(crate) fn split(text: &'t str) -> Option<(Quoted<'t>, &'t str)> {
        let (length, marks) = scan(text.as_bytes())?;
        let (inner, after) = text.split_at_checked(length)?;
        Some((Quoted { inner, marks }, after.get(1..)?))
    }

    /// Returns whether it has a byte with one of these marks.
    pub(crate) fn has(self, marks: u8) -> bool {
        self.marks & marks != 0
    }
}

/// Returns the length of the string that bytes begin within, and its marks. The first bytes are
/// looked at one by one, because most strings are short.
fn scan(bytes: &[u8]) -> Option<(usize, u8)> {
    const ENDS: u8 = QUOTE | ESCAPE;
    let mut rest = bytes;
    let mut all = 0;
    loop {
        let near = rest.get(..LANES).unwrap_or(rest);
        let ends = near.iter().position(|byte| {
            let mark = mark_of(*byte);
            all |= mark;
            mark & ENDS != 0
        });
        if let Some(at) = ends {
            if rest.get(at) == Some(&b'"') {
                return Some((bytes.len() - rest.len() + at, all & !QUOTE));
            }
            // Whatever is escaped ends nothing.
            rest = rest.get(at + 2..)?;
            continue;
        }
        rest = rest.get(near.len()..).filter(|rest| !rest.is_empty())?;
        for many in rest.as_chunks::<LANES>().0 {
            let mut lanes = [0; LANES];
            for (lane, byte) in lanes.iter_mut().zip(many) {
                *lane = mark(*byte);
            }
            let marks = lanes.iter().fold(0, |all, mark| all | mark);
            if marks & ENDS != 0 {
                break;
            }
            all |= marks;
            rest = rest.get(LANES..)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Splits as [`Quoted::split`] does, byte by byte.
    fn split_slowly(text: &str) -> Option<(Quoted<'_>, &str)> {
        let mut marks = 0;
        let mut bytes = text.bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    let inner = &text[..at];
                    return Some((Quoted { inner, marks }, &text[at + 1..]));
                }
                b'\\' => {
                    marks |= ESCAPE;
                    bytes.next();
                }
                byte => marks |= mark(byte),
            }
        }
        None
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_string_ends_at_the_first_quote_that_is_not_escaped(
            text in "[ab]{0,40}[\"\\\\=:%@\u{1}\u{80}\u{e4}a]{0,4}[ab]{0,40}[\"\\\\a]{0,3}[a\"]{0,40}"
        ) {
            prop_assert_eq!(Quoted::split(&text), split_slowly(&text));
        }
    }

    #[test]
    fn each_mark_is_that_of_its_bytes_alone() {
        let marked = |mark: u8| (0..=u8::MAX).filter(move |byte| mark_of(*byte) & mark != 0);
        for (mark, bytes) in [
            (QUOTE, &b"\""[..]),
            (ESCAPE, b"\\"),
            (EQUALS, b"="),
            (COLON, b":"),
            (PERCENT, b"%"),
            (AT, b"@"),
        ] {
            assert_eq!(marked(mark).collect::<Vec<_>>(), bytes);
        }
        let unsound: Vec<u8> = (0..b' ').chain([0x7f, 0xc2]).collect();
        assert_eq!(marked(UNSOUND).collect::<Vec<_>>(), unsound);
        assert_eq!(marks_of("a=b%"), EQUALS | PERCENT);
    }
}
