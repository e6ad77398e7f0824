//! A JSON object around a list of events.
//!
//! The members before the list are read from the front, those behind it from the back, and the list
//! itself is not looked at: it may be long, and a broken event in it must not cost the others, nor
//! what stands behind them. Only where the end of the body is not sound is the list's end looked
//! for from its beginning. If it is not found, the list takes the rest of the body.

use std::ops::Range;

use memchr::{memmem, memrchr};

use crate::protocol::native::{end_of_nested, end_of_string, trim};

/// The most members that are read before the list, and behind it.
const MEMBERS_MAX: usize = 64;
/// How far before the body's end members are looked for behind the list, in bytes. An array that is
/// longer is taken for the list.
const TAIL_BYTES_MAX: usize = 4 * 1024;

/// The object around a list of events: the list as text, and the other members.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Envelope<'b> {
    /// The list, from its bracket on; empty if there is none. It may hold anything.
    pub(in crate::protocol) events: &'b [u8],
    /// The other members: their names, and values as JSON. What could not be read of the object is
    /// a member without a name: it may hide a signal.
    pub(in crate::protocol) members: Vec<(String, &'b str)>,
}

/// What stands for the value of a member that is no text.
const NO_TEXT: &str = "\"\u{fffd}\"";

impl<'b> Envelope<'b> {
    /// Opens a body whose events are in the first array of that name. A body that is an array is
    /// itself the list. Returns `None` if it is neither object nor array.
    pub(in crate::protocol) fn open(body: &'b [u8], list: &str) -> Option<Envelope<'b>> {
        let body = trim(body);
        let mut envelope = Envelope::default();
        let start = match body.first() {
            Some(b'{') => envelope.read_head(body, list),
            Some(b'[') => {
                envelope.events = body;
                return Some(envelope);
            }
            _ => return None,
        };
        if let Some(start) = start {
            let end = envelope.read_tail(body, start);
            envelope.events = body.get(start..end).unwrap_or_default();
        }
        Some(envelope)
    }

    /// Returns a member's value as JSON.
    pub(in crate::protocol) fn member(&self, name: &str) -> Option<&'b str> {
        let mut members = self.members.iter();
        members
            .find(|(own, _)| own == name)
            .map(|(_, value)| *value)
    }

    /// Reads what stands before the list. Returns where the list begins.
    fn read_head(&mut self, body: &'b [u8], list: &str) -> Option<usize> {
        let mut at = 1;
        while self.members.len() < MEMBERS_MAX {
            let rest = body.get(at..).unwrap_or_default().trim_ascii_start();
            if rest == b"}" {
                return None;
            }
            let Some((name, start)) = name_at(body, at) else {
                break;
            };
            if name == list && body.get(start) == Some(&b'[') {
                return Some(start);
            }
            let Some(end) = end_of_value(body, start) else {
                break;
            };
            self.push(name, body.get(start..end));
            at = end;
        }
        // Something is broken before the list.
        let name = format!("\"{list}\"");
        let start = memmem::find_iter(body, &name).find_map(|at| {
            let after = body.get(at + name.len()..)?.trim_ascii_start();
            let value = after.strip_prefix(b":")?.trim_ascii_start();
            value.starts_with(b"[").then(|| body.len() - value.len())
        })?;
        self.push_unread(body.get(at..start));
        Some(start)
    }

    /// Reads what stands behind the list that begins at a place. Returns where the list ends.
    fn read_tail(&mut self, body: &'b [u8], start: usize) -> usize {
        let tail = Tail::read(body, start);
        let is_sound = tail.is_sound;
        let from_back = tail.end.map(|end| (end, tail.members));
        if !is_sound && let Some(end) = end_of_list(body, start) {
            self.read_members(body, end);
            return end;
        }
        let Some((end, members)) = from_back else {
            return body.len();
        };
        for (name, value) in members.into_iter().rev() {
            match serde_json::from_slice(name) {
                Ok(name) => self.push(name, Some(value)),
                Err(_) => [name, value]
                    .into_iter()
                    .for_each(|part| self.push_unread(Some(part))),
            }
        }
        end
    }

    /// Reads members from a place on, as far as they are sound.
    fn read_members(&mut self, body: &'b [u8], mut at: usize) {
        for _ in 0..MEMBERS_MAX {
            let Some((name, start)) = name_at(body, at) else {
                break;
            };
            let Some(end) = end_of_value(body, start) else {
                break;
            };
            self.push(name, body.get(start..end));
            at = end;
        }
        self.push_unread(body.get(at..));
    }

    fn push(&mut self, name: String, value: Option<&'b [u8]>) {
        match value.map(str::from_utf8) {
            Some(Ok(value)) => self.members.push((name, value)),
            Some(Err(_)) => {
                self.members.push((name, NO_TEXT));
                self.push_unread(value);
            }
            None => {}
        }
    }

    /// Adds bytes that could not be read, as far as they are text.
    fn push_unread(&mut self, bytes: Option<&'b [u8]>) {
        let chunks = bytes.unwrap_or_default().utf8_chunks();
        let texts = chunks.map(|chunk| chunk.valid().trim_ascii());
        // Without a name and a value, nothing is hidden.
        let texts = texts.filter(|text| text.contains([':', '=', '%']));
        let unread = texts.map(|text| (String::new(), text));
        self.members.extend(unread.take(MEMBERS_MAX));
    }
}

/// Returns the name of the next member from a place on, and where its value begins.
fn name_at(body: &[u8], at: usize) -> Option<(String, usize)> {
    let rest = body.get(at..)?.trim_ascii_start();
    let rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
    let start = body.len() - rest.strip_prefix(b"\"")?.len();
    let end = end_of_string(body, start);
    let name = serde_json::from_slice(body.get(start - 1..=end)?).ok()?;
    let after = body.get(end + 1..)?.trim_ascii_start();
    let value = after.strip_prefix(b":")?.trim_ascii_start();
    Some((name, body.len() - value.len()))
}

/// Returns where a value ends.
fn end_of_value(body: &[u8], start: usize) -> Option<usize> {
    match body.get(start)? {
        b'{' | b'[' => end_of_nested(body, start, &mut Vec::new()).ok(),
        b'"' => Some(end_of_string(body, start + 1) + 1).filter(|end| *end <= body.len()),
        _ => {
            let rest = body.get(start..)?;
            let length = rest.iter().position(|byte| !is_of_word(*byte))?;
            (length > 0).then_some(start + length)
        }
    }
}

/// Returns where the list ends that begins at a place, if its brackets match and what follows
/// belongs to an object.
fn end_of_list(body: &[u8], start: usize) -> Option<usize> {
    let end = end_of_nested(body, start, &mut Vec::new()).ok()?;
    let after = body.get(end..)?.trim_ascii_start();
    let is_followed = matches!(after.first(), None | Some(b'}')) || name_at(body, end).is_some();
    is_followed.then_some(end)
}

/// What stands behind a list, read from the body's end back to the list.
#[derive(Default)]
struct Tail<'b> {
    /// Where the list ends, if an array was found.
    end: Option<usize>,
    /// The members, the last one first: their names with their quotes, and their values.
    members: Vec<(&'b [u8], &'b [u8])>,
    /// Whether the array that ends there is no member.
    is_sound: bool,
}

impl<'b> Tail<'b> {
    fn read(body: &'b [u8], start: usize) -> Tail<'b> {
        let floor = start.max(body.len().saturating_sub(TAIL_BYTES_MAX));
        let mut tail = Tail::default();
        let mut count = 0;
        let mut next = body.strip_suffix(b"}").map(<[u8]>::len);
        while let Some(at) = next.filter(|_| tail.members.len() < MEMBERS_MAX) {
            let Some((last, end)) = last_before(body, floor, at) else {
                break;
            };
            if last == b']' {
                (tail.end, count) = (Some(end), tail.members.len());
            }
            let Some((name, value)) = member_before(body, start, floor, end) else {
                // The brackets of a list with a broken event do not match.
                tail.is_sound = last == b']';
                break;
            };
            tail.members
                .extend(body.get(name.clone()).zip(body.get(value..end)));
            next = last_before(body, floor, name.start)
                .filter(|(byte, _)| *byte == b',')
                .map(|(_, end)| end - 1);
        }
        // An array that seemed to be a member is the list if no list stands before it.
        tail.members.truncate(count);
        tail
    }
}

/// Returns the last byte before a place that is not a blank, and where it ends.
fn last_before(body: &[u8], floor: usize, at: usize) -> Option<(u8, usize)> {
    let before = body.get(floor..at)?.trim_ascii_end();
    Some((*before.last()?, floor + before.len()))
}

/// Returns where the name stands, with its quotes, and where the value begins of the member that
/// ends at a place. `None` if it is none.
fn member_before(
    body: &[u8],
    list: usize,
    floor: usize,
    end: usize,
) -> Option<(Range<usize>, usize)> {
    let value = match body.get(end - 1)? {
        b'}' | b']' => start_of_nested(body, floor, end),
        b'"' => start_of_string(body, floor, end),
        _ => start_of_word(body, floor, end),
    };
    let value = value.filter(|value| *value != list)?;
    let (_, colon) = last_before(body, floor, value).filter(|(byte, _)| *byte == b':')?;
    let (_, end) = last_before(body, floor, colon - 1)?;
    Some((start_of_string(body, floor, end)?..end, value))
}

/// Returns where the object or array begins that ends at a place, if its brackets match.
fn start_of_nested(body: &[u8], floor: usize, end: usize) -> Option<usize> {
    let mut open = Vec::new();
    let mut at = end;
    while at > floor {
        at -= 1;
        match *body.get(at)? {
            b'"' => at = start_of_string(body, floor, at + 1)?,
            bracket @ (b'}' | b']') => open.push(bracket),
            b'{' => {
                open.pop_if(|close| *close == b'}')?;
            }
            b'[' => {
                open.pop_if(|close| *close == b']')?;
            }
            _ => {}
        }
        if open.is_empty() {
            return Some(at);
        }
    }
    None
}

/// Returns where the string begins whose closing quote stands before a place.
fn start_of_string(body: &[u8], floor: usize, end: usize) -> Option<usize> {
    let mut before = body.get(floor..end)?.strip_suffix(b"\"")?;
    loop {
        let quote = memrchr(b'"', before)?;
        before = before.get(..quote)?;
        let escapes = before.iter().rev().take_while(|byte| **byte == b'\\');
        if escapes.count() % 2 == 0 {
            return Some(floor + quote);
        }
    }
}

/// Returns where the number or word begins that ends at a place.
fn start_of_word(body: &[u8], floor: usize, end: usize) -> Option<usize> {
    let before = body.get(floor..end)?;
    let other = before.iter().rposition(|byte| !is_of_word(*byte))?;
    (other + 1 < before.len()).then_some(floor + other + 1)
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

#[cfg(test)]
mod tests;
