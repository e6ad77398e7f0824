//! Strings of JSON text: where one ends, and what is in it.
//!
//! One pass says both. So whoever reads a string need not look for its escapes, for what its text
//! may hold and for what cannot be stored one after the other.

use memchr::memchr2;

use super::marks::marks;

/// How many bytes are looked at together: those of a word.
const LANES: usize = 8;
/// The longest string, in words, that is scanned word by word. Most are that short.
const WORDS: usize = 2;

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

/// Returns the mark of a byte; 0 if it has none.
const fn mark(byte: u8) -> u8 {
    match byte {
        b'"' => QUOTE,
        b'\\' => ESCAPE,
        0..b' ' | 0x7f | 0xc2 => UNSOUND,
        b'=' => EQUALS,
        b':' => COLON,
        b'%' => PERCENT,
        b'@' => AT,
        _ => 0,
    }
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

    /// Splits as [`Self::split`] does, and asks for nothing.
    pub(crate) fn split_name(text: &'t str) -> Option<(Quoted<'t>, &'t str)> {
        Quoted::split_asking::<0>(text)
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

    /// Returns whether it means what stands between its quotes, and all of it can be stored.
    pub(crate) fn is_plain(self) -> bool {
        self.marks & (ESCAPE | UNSOUND) == 0
    }
}

/// Returns the length of the string that bytes begin within, and those of its marks that are asked
/// for.
fn scan<const ASKED: u8>(bytes: &[u8]) -> Option<(usize, u8)> {
    let mut rest = bytes;
    let mut all = 0;
    loop {
        let length = scan_piece::<ASKED>(rest, &mut all)?;
        if rest.get(length) == Some(&b'"') {
            return Some((bytes.len() - rest.len() + length, all));
        }
        // Whatever is escaped ends nothing.
        all |= ESCAPE;
        rest = rest.get(length + 2..)?;
    }
}

/// Returns how many bytes stand before the first that may end a string, if one does. Of those the
/// marks are added.
fn scan_piece<const ASKED: u8>(bytes: &[u8], all: &mut u8) -> Option<usize> {
    for word in 0..WORDS {
        let rest = bytes.get(word * LANES..)?;
        let (length, is_found) = match rest.first_chunk::<LANES>() {
            Some(many) => scan_word::<ASKED>(u64::from_le_bytes(*many), all),
            None => scan_each::<ASKED>(rest, all),
        };
        if is_found {
            return Some(word * LANES + length);
        }
    }
    let before = WORDS * LANES;
    let length = before + memchr2(b'"', b'\\', bytes.get(before..)?)?;
    // The first words are scanned again: the whole string at once is cheaper than its last bytes
    // alone.
    *all |= marks(bytes.get(..length)?, asked_mark::<ASKED>);
    Some(length)
}

/// Returns the mark of a byte if it is asked for. It has no branch, so that the compiler looks at
/// many bytes at once.
fn asked_mark<const ASKED: u8>(byte: u8) -> u8 {
    let of = |mark: u8, has: bool| u8::from(has) * (mark & ASKED);
    of(UNSOUND, (byte < b' ') | (byte == 0x7f) | (byte == 0xc2))
        | of(EQUALS, byte == b'=')
        | of(COLON, byte == b':')
        | of(PERCENT, byte == b'%')
        | of(AT, byte == b'@')
}

const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; LANES])
}

/// Returns the highest bit of each byte that is less than a limit of 128 at the most. Only above
/// such a byte may it have the bit of another one as well: the lowest bit is always right.
const fn less(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(each(limit)) & !word & each(0x80)
}

/// The same of bytes that are a certain one.
const fn equal(word: u64, byte: u8) -> u64 {
    less(word ^ each(byte), 1)
}

/// Returns how many bytes of a word stand before the first that may end a string, and whether one
/// does. Of the bytes before it the marks are added.
fn scan_word<const ASKED: u8>(word: u64, all: &mut u8) -> (usize, bool) {
    let ends = equal(word, b'"') | equal(word, b'\\');
    let before = (ends & ends.wrapping_neg()).wrapping_sub(1);
    let mut add = |mark: u8, bits: u64| {
        *all |= u8::from(bits & before != 0) * mark;
    };
    if ASKED & UNSOUND != 0 {
        let bits = less(word, b' ') | equal(word, 0x7f) | equal(word, 0xc2);
        add(UNSOUND, bits);
    }
    for (mark, byte) in [(EQUALS, b'='), (COLON, b':'), (PERCENT, b'%'), (AT, b'@')] {
        if ASKED & mark != 0 {
            add(mark, equal(word, byte));
        }
    }
    match ends {
        0 => (LANES, false),
        ends => (ends.trailing_zeros() as usize / LANES, true),
    }
}

/// The same of the last bytes of a text.
fn scan_each<const ASKED: u8>(bytes: &[u8], all: &mut u8) -> (usize, bool) {
    let ends = bytes.iter().position(|byte| {
        let mark = mark_of(*byte);
        let is_end = mark & ENDS != 0;
        *all |= if is_end { 0 } else { mark & ASKED };
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
                byte => marks |= mark(byte) & asked,
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
            prop_assert_eq!(Quoted::split_name(&text), split_slowly(&text, 0));
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
        let all = UNSOUND | OF_TEXT;
        assert!((0..=u8::MAX).all(|byte| {
            asked_mark::<{ UNSOUND | OF_TEXT }>(byte) == mark_of(byte) & all
                && asked_mark::<AT>(byte) == mark_of(byte) & AT
        }));
        let unsound: Vec<u8> = (0..b' ').chain([0x7f, 0xc2]).collect();
        assert_eq!(marked(UNSOUND).collect::<Vec<_>>(), unsound);
        assert_eq!(marks_of("a=b%"), EQUALS | PERCENT);
    }
}
