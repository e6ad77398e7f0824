//! A body -> its events' texts, one when its turn comes: one object, the members of an array, or
//! values one after the other.
//!
//! Nothing is looked at before its turn comes, and of one event no more than [`TOLD_BYTES_MAX`]; of
//! a tracker's that is larger only its end is looked for.
//!
//! A broken event must not cost the others. An object ends at its own last bracket as long as
//! brackets and quotes stand where JSON has them ([`Split::end_of_object`]). Where they do not, the
//! next event begins at the next object that is sound and is not part of the broken one
//! ([`Split::read_run`]):
//!
//! - where events stand on lines of their own, at the next line that begins with one;
//! - otherwise at an object that is no member of another. Objects in an array that ends before the
//!   events do are the broken event's own: what was bought, say. Where that array does not end,
//!   those that have the names of its first object are. But what begins with the same name as an
//!   event before is one.
//!
//! Where events may be texts as well ([`Split::takes_texts`]), a text ends at its quote if a comma
//! or the end of the list follows. If not, it is broken, and the next event begins at the next text
//! or object behind a comma: what is in a text has its quotes escaped.
//!
//! A broken event is one text, whatever it consists of. No object that a scan found open where it
//! ended is scanned again, and objects that were read to find the next event are not read again for
//! that, so the time of each event is linear.

use std::borrow::Cow;
use std::collections::HashSet;

use memchr::{memchr, memchr2, memmem};

use super::json::members_of;
use crate::endpoint::EVENTS_MAX;
use crate::hit::Flags;
use crate::hit::limits::{TOLD_BYTES_MAX, TRACKER_TOLD_BYTES_MAX};
use crate::refusal::Reason;

/// What some editors and programs put before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// How many first names of events are kept, and how long they may be.
const FIRST_NAMES_MAX: usize = 8;
const FIRST_NAME_BYTES_MAX: usize = 64;

/// Splits a body into its events' texts; each may be no event, and is then refused alone. What
/// stands beyond the first [`EVENTS_MAX`] is one more. Returns `None` if none of them is JSON.
#[must_use]
pub fn split_events(body: &[u8]) -> Option<Vec<Cow<'_, str>>> {
    let events: Vec<_> = Split::new(body)?
        .filter_map(Result::ok)
        .take(EVENTS_MAX + 1)
        .map(String::from_utf8_lossy)
        .collect();
    let is_json = |event: &Cow<'_, str>| names_of(event.as_bytes()).is_some();
    events.iter().any(is_json).then_some(events)
}

/// A body while it is split.
pub(super) struct Split<'b> {
    body: &'b [u8],
    /// Where the rest begins.
    at: usize,
    /// How far may be looked at.
    limit: usize,
    /// The most bytes of one event.
    told_bytes_max: usize,
    /// The end of a larger event is looked for, so that those after it are not lost.
    passes_large: bool,
    is_array: bool,
    /// Whether an event may be a text.
    takes_texts: bool,
    /// How many times the next event is split off again.
    repeats: usize,
    /// An event was split off.
    is_begun: bool,
    /// The names that the events before began with.
    first_names: Vec<&'b [u8]>,
    /// Where objects and arrays begin that a scan found open at a fault.
    broken: HashSet<usize>,
    /// The same at the limit.
    unended: HashSet<usize>,
}

/// Why the end of an object or an array is not known.
#[derive(Clone, Copy, Debug)]
pub(in crate::protocol) enum Unended {
    /// A bracket or a quote is missing or too many.
    Fault,
    /// It is not in what may be looked at.
    Beyond,
}

impl<'b> Split<'b> {
    /// Begins. Returns `None` if nothing is there.
    pub(super) fn new(body: &'b [u8]) -> Option<Split<'b>> {
        let body = trim(body);
        let is_array = body.starts_with(b"[");
        (!body.is_empty()).then(|| Split {
            body,
            at: usize::from(is_array),
            limit: 0,
            told_bytes_max: TOLD_BYTES_MAX,
            passes_large: false,
            is_array,
            takes_texts: false,
            repeats: 0,
            is_begun: false,
            first_names: Vec::new(),
            broken: HashSet::new(),
            unended: HashSet::new(),
        })
    }

    /// Takes events as large as trackers of other makers send, and passes over larger ones. The
    /// first event is split off so many times.
    pub(super) fn for_tracker(self, takes_texts: bool, times: usize) -> Split<'b> {
        Split {
            told_bytes_max: TRACKER_TOLD_BYTES_MAX,
            passes_large: true,
            takes_texts,
            repeats: times.saturating_sub(1),
            ..self
        }
    }

    /// Gives up what is left.
    pub(super) fn end(&mut self) {
        self.at = self.body.len();
    }

    /// Returns what may be looked at from a place on.
    fn rest(&self, at: usize) -> &'b [u8] {
        self.body.get(at..self.limit).unwrap_or_default()
    }

    /// Returns whether nothing stands behind what may be looked at.
    fn sees_end(&self) -> bool {
        self.limit == self.body.len()
    }

    /// Returns where the event ends that begins at a place; `None` if it is too large.
    fn end_of_event(&mut self, start: usize) -> Option<usize> {
        if self.takes_texts {
            return Some(self.end_of_item(start));
        }
        let (end, is_known) = match self.rest(start).first() {
            Some(b'{') => match self.end_of_object(start) {
                Ok(end) if self.is_followed(end) => {
                    self.keep_first_name(start);
                    return Some(end);
                }
                Ok(end) if self.names(start, end).is_some() => return Some(end),
                Ok(end) => return Some(self.skip_broken(end)),
                Err(Unended::Fault) => (None, false),
                // An array of this event may hold those that follow. A large event looks the same.
                Err(Unended::Beyond) => match self.end_of_large(start) {
                    Some(end) => return Some(end),
                    None => (None, !self.sees_end()),
                },
            },
            Some(b'"' | b':') => (None, false),
            _ => {
                let is_end = |byte: &u8| b",\n{[]}\"".contains(byte);
                let end = self.rest(start).iter().position(is_end);
                (end.map(|end| start + end), false)
            }
        };
        end.or_else(|| self.next_event(start, is_known))
            .or_else(|| self.sees_end().then_some(self.limit))
    }

    /// Returns where an event ends that is larger than it may be. Once one was looked at in vain,
    /// no further one is.
    fn end_of_large(&mut self, start: usize) -> Option<usize> {
        if !self.passes_large || self.sees_end() {
            return None;
        }
        self.unended.clear();
        let limit = std::mem::replace(&mut self.limit, self.body.len());
        let end = self.end_of_object(start).ok();
        self.limit = limit;
        self.passes_large = end.is_some();
        end
    }

    /// Returns where the text or the object ends that begins at a place.
    fn end_of_item(&mut self, start: usize) -> usize {
        let end = match self.body.get(start) {
            Some(b'{') => match self.end_of_object(start) {
                Err(Unended::Beyond) => self.end_of_large(start),
                end => end.ok(),
            },
            Some(b'"') => Some(end_of_string(self.body, start + 1) + 1),
            _ => None,
        };
        let is_followed = |end: &usize| {
            let after = self.body.get(*end..);
            after.is_some_and(|after| matches!(after.trim_ascii_start(), [] | [b',' | b']', ..]))
        };
        end.filter(is_followed)
            .or_else(|| self.next_item(start))
            .unwrap_or(self.body.len())
    }

    /// Returns where the next item begins behind a broken one: a text or an object after a comma.
    fn next_item(&self, start: usize) -> Option<usize> {
        let mut at = start + 1;
        while let Some(found) = memchr(b',', self.body.get(at..)?) {
            at += found + 1;
            let item = self.body.get(at..)?.trim_ascii_start();
            let begins = match item {
                [b'"', first, ..] => matches!(first, b'?' | b'/') || first.is_ascii_alphanumeric(),
                [b'{', inside @ ..] => inside.trim_ascii_start().starts_with(b"\""),
                _ => false,
            };
            if begins {
                return Some(self.body.len() - item.len());
            }
        }
        None
    }

    /// Returns whether behind an object another follows or the events end.
    fn is_followed(&self, end: usize) -> bool {
        match self.rest(end).trim_ascii_start() {
            [] => true,
            [b',', after @ ..] => matches!(after.trim_ascii_start(), [] | [b'{', ..]),
            [b'{', ..] => !self.is_array,
            [b']', after @ ..] => self.is_array && after.trim_ascii_start().is_empty(),
            _ => false,
        }
    }

    fn keep_first_name(&mut self, start: usize) {
        if self.first_names.len() < FIRST_NAMES_MAX
            && let Some(name) = first_name(self.rest(start))
            && !self.first_names.contains(&name)
        {
            self.first_names.push(name);
        }
    }

    /// Returns where the object ends that begins at `start`, if brackets and quotes match.
    fn end_of_object(&mut self, start: usize) -> Result<usize, Unended> {
        if self.broken.contains(&start) {
            return Err(Unended::Fault);
        }
        if self.unended.contains(&start) {
            return Err(Unended::Beyond);
        }
        let bytes = self.body.get(..self.limit).unwrap_or_default();
        let mut open = Vec::new();
        let end = end_of_nested(bytes, start, &mut open);
        // A scan that began at one of them would end where this one did.
        match end {
            Ok(_) => {}
            Err(Unended::Fault) => self.broken.extend(open),
            Err(Unended::Beyond) => self.unended.extend(open),
        }
        end
    }

    /// Returns where to go on behind a broken event that seems to end at a place: its rest may
    /// follow.
    fn skip_broken(&mut self, end: usize) -> usize {
        let next = self
            .next_event(end.saturating_sub(1), false)
            .unwrap_or(self.limit);
        let between = self.body.get(end..next).unwrap_or_default();
        let is_of_event = between.iter().any(|byte| b"\":{".contains(byte));
        if is_of_event { next } else { end }
    }

    /// Returns where the first event begins behind `from`, which stands in a broken one. `is_known`
    /// demands that it begins with a line or as an event before did.
    fn next_event(&mut self, from: usize, is_known: bool) -> Option<usize> {
        let is_lines = !self.is_array && memmem::find(self.rest(from), b"\n{").is_some();
        let mut at = from + 1;
        while let Some(found) = memchr(b'{', self.rest(at)) {
            let start = at + found;
            at = if self.may_begin(start, is_lines) {
                match self.read_run(start, is_lines, is_known && !is_lines) {
                    Ok(event) => return Some(event),
                    Err(end) => end,
                }
            } else {
                start + 1
            };
        }
        None
    }

    /// Returns whether the opening bracket at a place may be an event's: it has a name behind it or
    /// nothing, and is not the value of a member or in a text.
    fn may_begin(&self, start: usize, is_lines: bool) -> bool {
        let before = self.body.get(..start).unwrap_or_default();
        if before.ends_with(b"\n") {
            return true;
        }
        let is_value = matches!(before.trim_ascii_end(), [.., b':' | b'"' | b'\\']);
        let inside = self.rest(start + 1).trim_ascii_start();
        !is_lines && !is_value && matches!(inside, [b'"' | b'}', ..])
    }

    /// Reads the objects that follow one another from `start` on. Returns where the first begins
    /// that is an event; or, if they belong to a broken event, where to go on.
    fn read_run(&mut self, start: usize, is_lines: bool, is_known: bool) -> Result<usize, usize> {
        let mut objects = Vec::new();
        let mut at = start;
        while let Ok(end) = self.end_of_object(at) {
            let Some(names) = self.names(at, end) else {
                if objects.is_empty() {
                    return Err(end);
                }
                break;
            };
            objects.push((at, end, names));
            let rest = self.rest(end).trim_ascii_start();
            let next = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
            at = self.limit - next.len();
            if !next.starts_with(b"{") {
                break;
            }
        }
        let (Some((.., names)), Some((_, end, _))) = (objects.first(), objects.last()) else {
            return Err(start + 1);
        };
        let before = self.body.get(1..start).unwrap_or_default();
        let begins_array = !is_lines && ends_with_inner_array(before);
        let ends_array = self.ends_inner_array(*end);
        let event = objects.iter().find(|(at, _, found)| {
            let begins_as_events_do =
                || first_name(self.rest(*at)).is_some_and(|name| self.first_names.contains(&name));
            let is_apart = is_lines || !ends_array && (!begins_array || found != names);
            let may_be = !is_known && is_apart;
            may_be || begins_as_events_do()
        });
        event.map_or(Err(*end), |(start, ..)| Ok(*start))
    }

    /// Returns whether an array ends at a place that is not that of the events.
    fn ends_inner_array(&self, end: usize) -> bool {
        let Some(after) = self.rest(end).trim_ascii_start().strip_prefix(b"]") else {
            return false;
        };
        match after.trim_ascii_start() {
            [] => !self.is_array,
            [b'}' | b']', ..] => true,
            [b',', next @ ..] => next.trim_ascii_start().starts_with(b"\""),
            _ => false,
        }
    }

    /// Returns the names of an object's members; `None` if it is not JSON.
    fn names(&self, start: usize, end: usize) -> Option<Vec<String>> {
        names_of(self.body.get(start..end)?)
    }
}

impl<'b> Iterator for Split<'b> {
    type Item = Result<&'b [u8], Reason>;

    fn next(&mut self) -> Option<Self::Item> {
        // A list within a list of items is none of them.
        let skipped: &[u8] = if self.takes_texts { b",]}" } else { b",[]}" };
        let is_between = |byte: &u8| byte.is_ascii_whitespace() || skipped.contains(byte);
        let rest = self.body.get(self.at..).unwrap_or_default();
        let Some(skipped) = rest.iter().position(|byte| !is_between(byte)) else {
            self.end();
            // Brackets alone are no event.
            let is_empty = self.is_begun || self.is_array && rest.trim_ascii_start() == b"]";
            self.is_begun = true;
            return (!is_empty).then(|| Ok(rest.get(..1).unwrap_or_default()));
        };
        self.is_begun = true;
        let start = self.at + skipped;
        self.limit = self.body.len().min(start + self.told_bytes_max + 1);
        self.unended.clear();
        let end = self.end_of_event(start);
        // Where an event ends that is too large is not always looked for.
        let too_large = self.told_bytes_max + 1;
        self.at = end.unwrap_or(self.body.len());
        let Some(end) = end.filter(|end| end - start < too_large) else {
            if !self.passes_large {
                self.end();
            }
            return Some(Err(Reason::HitTooLarge));
        };
        if let Some(repeats) = self.repeats.checked_sub(1) {
            self.repeats = repeats;
            self.at = start;
        }
        let event = self.body.get(start..end).unwrap_or_default();
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        let length = event.iter().rposition(|byte| !is_end(byte));
        Some(Ok(event
            .get(..=length.unwrap_or_default())
            .unwrap_or(event)))
    }
}

/// Returns a body without what may stand around JSON.
pub(in crate::protocol) fn trim(body: &[u8]) -> &[u8] {
    let body = body.trim_ascii();
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Returns where the object or array ends that begins at `start`: behind its last bracket. It is
/// not known if brackets do not match, or if what opens or a string stands where JSON has none:
/// then a bracket or a quote is missing or too many. `open` gets where those begin that are open
/// there.
pub(in crate::protocol) fn end_of_nested(
    bytes: &[u8],
    start: usize,
    open: &mut Vec<usize>,
) -> Result<usize, Unended> {
    let mut at = start;
    // The last byte that is not a blank; of a string, its quote.
    let mut before = b' ';
    loop {
        let byte = bytes.get(at).ok_or(Unended::Beyond)?;
        let around = open.last().and_then(|at| bytes.get(*at));
        let is_in_place = match (byte, around) {
            (b' ' | b'\n' | b'\r' | b'\t', _) => {
                at += 1;
                continue;
            }
            (b'{' | b'[', None) => true,
            (b'{' | b'[', Some(b'{')) => before == b':',
            (b'{' | b'[', Some(_)) => matches!(before, b'[' | b','),
            (b'}', around) => around == Some(&b'{'),
            (b']', around) => around == Some(&b'['),
            (b'"', _) => matches!(before, b'{' | b'[' | b',' | b':'),
            (byte, _) => before != b'"' || matches!(byte, b',' | b':'),
        };
        if !is_in_place {
            return Err(Unended::Fault);
        }
        match byte {
            b'{' | b'[' => open.push(at),
            b'}' | b']' => {
                open.pop();
                if open.is_empty() {
                    return Ok(at + 1);
                }
            }
            b'"' => at = end_of_string(bytes, at + 1),
            _ => {}
        }
        before = *byte;
        at += 1;
    }
}

/// Returns where the string ends that begins before a place: at its closing quote, or at the end.
pub(in crate::protocol) fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    bytes.len()
}

/// Returns whether a text ends where an array of an event begins. Behind a comma it would be no
/// member's value: there, a bracket too many stands before an event.
fn ends_with_inner_array(text: &[u8]) -> bool {
    let before = text.trim_ascii_end().strip_suffix(b"[");
    before.is_some_and(|before| !before.trim_ascii_end().ends_with(b","))
}

fn names_of(object: &[u8]) -> Option<Vec<String>> {
    let object = String::from_utf8_lossy(object);
    let members = members_of(&object, &mut Flags::default(), &mut |_, _| {})?;
    Some(members.into_iter().map(|(name, _)| name).collect())
}

/// Returns the name of an object's first member, if it is short enough to be kept.
fn first_name(object: &[u8]) -> Option<&[u8]> {
    let inside = object.strip_prefix(b"{")?.trim_ascii_start();
    let name = inside.strip_prefix(b"\"")?;
    let name = name.get(..memchr(b'"', name)?)?;
    (name.len() <= FIRST_NAME_BYTES_MAX).then_some(name)
}

#[cfg(test)]
mod tests;
