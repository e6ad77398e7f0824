//! Strings of JSON text: where one ends, and what is in it.
//!
//! One pass says both. So whoever reads a string need not look for its escapes, for what its text
//! may hold and for what cannot be stored one after the other.

/// How many bytes are looked at together.
const LANES: usize = 16;

/// The mark of the quote that ends a string.
const QUOTE: u8 = 1;
/// The mark of a backslash.
const ESCAPE: u8 = 1 << 1;
/// The mark of a byte that a character may begin with which JSON has to escape or which cannot be
/// stored: control characters, of which those beyond ASCII begin with 0xc2.
const UNSOUND: u8 = 1 << 2;
/// The marks of `=`, `:`, `%` and `@`.
pub(crate) const EQUALS: u8 = 1 << 3;
pub(crate) const COLON: u8 = 1 << 4;
pub(crate) const PERCENT: u8 = 1 << 5;
pub(crate) const AT: u8 = 1 << 6;

/// The marks of what ends a string, or may seem to.
const ENDS: u8 = QUOTE | ESCAPE;
/// The marks that texts are asked for.
const OF_TEXT: u8 = EQUALS | COLON | PERCENT | AT;

/// Returns those marks of a byte that are asked for. It has no branch, so that the compiler looks
/// at many bytes at once.
const fn mark(byte: u8, asked: u8) -> u8 {
    let is_unsound = (byte < b' ') | (byte == 0x7f) | (byte == 0xc2);
    ((byte == b'"') as u8 * (QUOTE & asked))
        | ((byte == b'\\') as u8 * (ESCAPE & asked))
        | (is_unsound as u8 * (UNSOUND & asked))
        | ((byte == b'=') as u8 * (EQUALS & asked))
        | ((byte == b':') as u8 * (COLON & asked))
        | ((byte == b'%') as u8 * (PERCENT & asked))
        | ((byte == b'@') as u8 * (AT & asked))
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
        marks[byte as usize] = mark(byte, u8::MAX);
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
    /// The marks of its bytes that were asked for, but for those behind backslashes.
    marks: u8,
}

impl<'t> Quoted<'t> {
    /// Splits a text at the end of the string that it begins within: the string, and what follows
    /// its closing quote. `None` if it has none. It is asked whether all of it is sound
    /// ([`Self::is_plain`]).
    pub(crate) fn split(text: &'t str) -> Option<(Quoted<'t>, &'t str)> {
        Quoted::split_asking::<UNSOUND>(text)
    }

    /// Splits as [`Self::split`] does, and asks for the marks of the text instead.
    pub(crate) fn split_text(text: &'t str) -> Option<(Quoted<'t>, &'t str)> {
        Quoted::split_asking::<OF_TEXT>(text)
    }

    fn split_asking<const ASKED: u8>(text: &'t str) -> Option<(Quoted<'t>, &'t str)> {
        let (length, marks) = scan::<ASKED>(text.as_bytes())?;
        let (inner, after) = text.split_at_checked(length)?;
        Some((Quoted { inner, marks }, after.get(1..)?))
    }

    /// Returns the marks of its text that were asked for.
    pub(crate) fn marks(self) -> u8 {
        self.marks
    }

    /// Returns whether it has a backslash.
    pub(crate) fn is_escaped(self) -> bool {
        self.marks & ESCAPE != 0
    }

    /// Returns whether it may have a character that JSON has to escape or that cannot be stored.
    pub(crate) fn is_unsound(self) -> bool {
        self.marks & UNSOUND != 0
    }

    /// Returns whether it means what stands between its quotes, and all of it can be stored.
    pub(crate) fn is_plain(self) -> bool {
        self.marks & (ESCAPE | UNSOUND) == 0
    }
}

/// Returns the length of the string that bytes begin within, and those of its marks that are asked
/// for.
fn scan<const ASKED: u8>(bytes: &[u8]) -> Option<(usize, u8)> {
    let mut rest = bytes;
    // The marks of eight bytes in each.
    let mut all = 0_u64;
    loop {
        let (length, is_found) = match rest.first_chunk::<LANES>() {
            Some(many) => scan_many::<ASKED>(many, &mut all),
            None => scan_each::<ASKED>(rest, &mut all),
        };
        if !is_found {
            rest = rest.get(length..).filter(|rest| !rest.is_empty())?;
        } else if rest.get(length) == Some(&b'"') {
            let [a, b, c, d, e, f, g, h] = all.to_le_bytes();
            let marks = a | b | c | d | e | f | g | h;
            return Some((bytes.len() - rest.len() + length, marks));
        } else {
            // Whatever is escaped ends nothing.
            all |= u64::from(ESCAPE);
            rest = rest.get(length + 2..)?;
        }
    }
}

/// Returns how many bytes stand before the first that may end a string, and whether one does.
fn scan_many<const ASKED: u8>(many: &[u8; LANES], all: &mut u64) -> (usize, bool) {
    const ENDS_EACH: u64 = u64::from_ne_bytes([ENDS; 8]);
    let mut lanes = [0; LANES];
    for (lane, byte) in lanes.iter_mut().zip(many) {
        *lane = mark(*byte, ASKED | ENDS);
    }
    let mut length = 0;
    for half in lanes.as_chunks::<8>().0 {
        let marks = u64::from_le_bytes(*half);
        let ends = marks & ENDS_EACH;
        if ends != 0 {
            let bits = ends.trailing_zeros() & !7;
            *all |= marks & !(u64::MAX << bits);
            return (length + bits as usize / 8, true);
        }
        *all |= marks;
        length += half.len();
    }
    (length, false)
}

/// The same of the last bytes of a text.
fn scan_each<const ASKED: u8>(bytes: &[u8], all: &mut u64) -> (usize, bool) {
    let ends = bytes.iter().position(|byte| {
        let mark = mark_of(*byte);
        let is_end = mark & ENDS != 0;
        *all |= u64::from(if is_end { 0 } else { mark & ASKED });
        is_end
    });
    ends.map_or((bytes.len(), false), |at| (at, true))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Splits as [`Quoted::split_asking`] does, byte by byte.
    fn split_slowly(text: &str, asked: u8) -> Option<(Quoted<'_>, &str)> {
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
                byte => marks |= mark(byte, asked),
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
            prop_assert_eq!(Quoted::split(&text), split_slowly(&text, UNSOUND));
            prop_assert_eq!(Quoted::split_text(&text), split_slowly(&text, OF_TEXT));
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
