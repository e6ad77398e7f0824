//! The further parameters of a hit, as the text of a JSON object.

use std::borrow::Cow;

use crate::hit::Flags;
use crate::hit::limits::{PARAMS_BYTES_MAX, PARAMS_MAX};
use crate::protocol::text::marks;

/// Room for the parameters of most hits, allocated at once.
const USUAL_BYTES: usize = 256;

/// The JSON object while it grows, up to its limits.
#[derive(Default)]
pub(crate) struct Params {
    json: String,
    count: usize,
}

impl Params {
    pub(crate) fn push(&mut self, name: &str, write: impl FnOnce(&mut String), flags: &mut Flags) {
        let before = self.json.len();
        if before == 0 {
            self.json.reserve(USUAL_BYTES);
        }
        self.json.push(if before == 0 { '{' } else { ',' });
        push_json_text(&mut self.json, name);
        self.json.push(':');
        write(&mut self.json);
        if self.json.len() >= PARAMS_BYTES_MAX || self.count == PARAMS_MAX {
            self.json.truncate(before);
            flags.set(Flags::TRUNCATED);
        } else {
            self.count += 1;
        }
    }

    pub(crate) fn finish<'a>(mut self) -> Cow<'a, str> {
        if !self.json.is_empty() {
            self.json.push('}');
        }
        Cow::Owned(self.json)
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
