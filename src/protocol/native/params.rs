//! The further parameters of a hit, as the text of a JSON object.

use std::borrow::Cow;
use std::mem;
use std::ops::Range;

use memchr::memchr_iter;

use crate::hit::Flags;
use crate::hit::limits::{PARAMS_BYTES_MAX, PARAMS_MAX};
use crate::request::marks::marks;

/// Room for the parameters of most hits, allocated at once.
const USUAL_BYTES: usize = 256;

/// The JSON object while it grows, up to its limits. The first of a repeated name counts.
pub(crate) struct Params {
    json: String,
    /// The most bytes that it may have.
    pub(super) bytes_max: usize,
    /// Where each name begins and ends in `json`.
    names: [(u16, u16); PARAMS_MAX],
    /// A hash of each name: one that differs is another name.
    hashes: [u8; PARAMS_MAX],
    count: usize,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            json: String::new(),
            bytes_max: PARAMS_BYTES_MAX,
            names: [(0, 0); PARAMS_MAX],
            hashes: [0; PARAMS_MAX],
            count: 0,
        }
    }
}

impl Params {
    /// Adds a member, as far as there is room. Returns false if there is one of that name.
    pub(crate) fn push(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut String),
        flags: &mut Flags,
    ) -> bool {
        // What comes after the last one is not even written to be compared.
        if self.is_full() {
            flags.set(Flags::TRUNCATED);
            return true;
        }
        let before = self.json.len();
        if before == 0 {
            self.json.reserve(USUAL_BYTES);
        }
        self.json.push(if before == 0 { '{' } else { ',' });
        push_json_text(&mut self.json, name);
        let name = before + 1..self.json.len();
        let text = self.json.get(name.clone()).unwrap_or_default();
        let hash = hash_of(text.as_bytes());
        if self.has(text, hash, self.count) {
            self.json.truncate(before);
            return false;
        }
        self.json.push(':');
        write(&mut self.json);
        if self.json.len() >= self.bytes_max || !self.keep_name(&name, hash) {
            self.json.truncate(before);
            flags.set(Flags::TRUNCATED);
        }
        true
    }

    /// Returns whether there is room for no further name.
    pub(crate) fn is_full(&self) -> bool {
        self.count == PARAMS_MAX
    }

    /// Adds the members of another object, as far as there is room, but for those whose names are
    /// there. Names that differ in the other object are not compared again.
    pub(crate) fn extend(&mut self, other: &Params, flags: &mut Flags) {
        let own = self.count;
        self.json.reserve(other.json.len() + 1);
        for at in 0..other.count {
            let Some((name, member)) = other.member(at) else {
                continue;
            };
            let hash = hash_of(name.as_bytes());
            if self.has(name, hash, own) {
                continue;
            }
            let before = self.json.len();
            self.json.push(if before == 0 { '{' } else { ',' });
            let start = self.json.len();
            self.json.push_str(member);
            if self.json.len() >= self.bytes_max
                || !self.keep_name(&(start..start + name.len()), hash)
            {
                self.json.truncate(before);
                flags.set(Flags::TRUNCATED);
            }
        }
    }

    /// Returns a member's name with its quotes, and the whole member.
    fn member(&self, at: usize) -> Option<(&str, &str)> {
        let (start, name_end) = *self.names.get(at)?;
        let is_last = at + 1 == self.count;
        let end = match self.names.get(at + 1) {
            // A comma is between them.
            Some((next, _)) if !is_last => usize::from(*next) - 1,
            _ => self.json.len(),
        };
        let start = usize::from(start);
        let name = self.json.get(start..usize::from(name_end))?;
        Some((name, self.json.get(start..end)?))
    }

    /// Returns whether a name, with its quotes and of that hash, is among the first ones.
    fn has(&self, name: &str, hash: u8, first: usize) -> bool {
        let text = self.json.as_bytes();
        let hashes = self.hashes.get(..first).unwrap_or_default();
        let alike = memchr_iter(hash, hashes);
        let mut alike = alike.filter_map(|at| self.names.get(at));
        alike.any(|(start, end)| {
            text.get(usize::from(*start)..usize::from(*end)) == Some(name.as_bytes())
        })
    }

    /// Notes where a name of that hash stands. Returns false if there are too many.
    fn keep_name(&mut self, name: &Range<usize>, hash: u8) -> bool {
        let places = self.names.get_mut(self.count);
        let places = places.zip(self.hashes.get_mut(self.count));
        let (Some((place, own_hash)), Ok(start), Ok(end)) =
            (places, u16::try_from(name.start), u16::try_from(name.end))
        else {
            return false;
        };
        (*place, *own_hash) = ((start, end), hash);
        self.count += 1;
        true
    }

    /// Takes the object's text; empty if it has no member.
    pub(crate) fn finish<'a>(&mut self) -> Cow<'a, str> {
        if !self.json.is_empty() {
            self.json.push('}');
        }
        Cow::Owned(mem::take(&mut self.json))
    }
}

/// Returns a hash of a name with its quotes, of its length and a few of its bytes.
fn hash_of(name: &[u8]) -> u8 {
    let [length, ..] = name.len().to_le_bytes();
    let middle = name.get(name.len() / 2).copied().unwrap_or_default();
    match name {
        [_, first, .., last, _] => {
            let hash = first.wrapping_mul(31).wrapping_add(middle);
            hash.wrapping_mul(31).wrapping_add(*last) ^ length
        }
        _ => length,
    }
}

/// Writes a text as JSON. The text is clean, so it has no control character to escape.
pub(crate) fn push_json_text(out: &mut String, text: &str) {
    out.push('"');
    let is_escaped = |byte| u8::from((byte == b'"') | (byte == b'\\'));
    if marks(text.as_bytes(), is_escaped) != 0 {
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                out.push('\\');
            }
            out.push(character);
        }
    } else {
        out.push_str(text);
    }
    out.push('"');
}
