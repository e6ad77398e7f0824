//! The texts by which models are known, and how they are compared: without case, and with an
//! underscore for a space, since user agents have either.

use super::Match;

/// The fewest characters of a text that a model may go on behind.
const TELLING_BYTES_MIN: usize = 5;

/// Returns a byte as texts are compared.
pub(super) fn plain(byte: u8) -> u8 {
    match byte {
        b'_' => b' ',
        byte => byte.to_ascii_lowercase(),
    }
}

/// Returns a text with one space between its words.
pub(super) fn space_out(text: &str) -> String {
    let words = text.split(|letter: char| letter == '_' || letter.is_whitespace());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// Returns the letters and digits of a text, in lower case; a plus is one of them.
pub(super) fn flat(text: &str) -> String {
    text.chars()
        .filter(|letter| letter.is_alphanumeric() || *letter == '+')
        .flat_map(char::to_lowercase)
        .collect()
}

/// Returns whether a text is enough to tell a model that goes on behind it.
pub(super) fn is_telling(text: &str) -> bool {
    text.len() >= TELLING_BYTES_MIN && text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Returns whether a model that begins with a text may go on like this: a number ends where the
/// text ends. The models for China and Hong Kong have a `0` more.
pub(super) fn may_follow(begin: &str, rest: &str) -> bool {
    let is_digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
    let mut next = rest.bytes();
    let (first, second) = (next.next(), next.next());
    if !is_digit(begin.bytes().last()) || !is_digit(first) {
        return true;
    }
    first == Some(b'0') && !is_digit(second) && !begin.contains(' ')
}

/// A text: where it stands, how it tells a model, and which one.
#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    bytes: u16,
    how: Match,
    named: u32,
}

/// Many texts in one, in order.
#[derive(Default)]
pub(super) struct Texts {
    whole: String,
    entries: Vec<Entry>,
}

impl Texts {
    /// Adds a text; returns false if there is no room for it.
    pub(super) fn add(&mut self, text: &str, how: Match, named: usize) -> bool {
        let fields = (
            u32::try_from(self.whole.len()),
            u16::try_from(text.len()),
            u32::try_from(named),
        );
        let (Ok(start), Ok(bytes), Ok(named)) = fields else {
            return false;
        };
        self.whole.push_str(text);
        self.entries.push(Entry {
            start,
            bytes,
            how,
            named,
        });
        true
    }

    /// Puts them in order, those of the same text by their model.
    pub(super) fn sort(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_by(|one, other| {
            let [first, second] = [one, other].map(|entry| self.text(*entry).bytes().map(plain));
            first
                .cmp(second)
                .then(one.named.cmp(&other.named))
                .then(one.how.cmp(&other.how))
        });
        entries.shrink_to_fit();
        self.whole.shrink_to_fit();
        self.entries = entries;
    }

    fn text(&self, entry: Entry) -> &str {
        let start = entry.start as usize;
        let text = self.whole.get(start..start + usize::from(entry.bytes));
        text.unwrap_or_default()
    }

    /// Finds the texts that another one begins with, the shortest first: their length in bytes,
    /// how they tell a model, and which.
    pub(super) fn walk(&self, text: &str, mut found: impl FnMut(usize, Match, usize)) {
        let mut left = self.entries.as_slice();
        for (at, byte) in text.bytes().map(plain).enumerate() {
            // All that are left have the bytes before this one.
            let here = |entry: &Entry| {
                let byte = self.text(*entry).as_bytes().get(at);
                byte.copied().map(plain)
            };
            let from = left.partition_point(|entry| here(entry) < Some(byte));
            left = left.get(from..).unwrap_or_default();
            let to = left.partition_point(|entry| here(entry) == Some(byte));
            left = left.get(..to).unwrap_or_default();
            if left.is_empty() {
                return;
            }
            let ended = left
                .iter()
                .take_while(|entry| usize::from(entry.bytes) == at + 1);
            for entry in ended {
                found(at + 1, entry.how, entry.named as usize);
            }
        }
    }

    /// Returns every text with how it tells a model, and which.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Match, usize)> {
        let entries = self.entries.iter();
        entries.map(|entry| (self.text(*entry), entry.how, entry.named as usize))
    }
}
