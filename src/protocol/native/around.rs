//! What a tracker's request says of consent, whatever its protocol makes of it: in a query or a
//! form, around a list of events, and within values of which nothing is kept.
//!
//! A protocol passes over what it does not know, and over empty values. Of a consent signal neither
//! may get lost: it counts wherever it stands, and an empty consent string is a refusal.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3, memchr3_iter};

use super::json::{scalar_text, string_or_json};
use super::page::is_meant;
use super::parameter::Parameter;
use super::reader::HitReader;
use crate::consent::names::{WIDE, may_mean, meaning};
use crate::protocol::text::{decode, decode_once};
use crate::request::split_pairs;

impl HitReader<'_, '_, '_> {
    /// Reads what a query or a form says of consent: signals by their names, and what values hide.
    /// What stands under `own_names` the protocol understands itself.
    pub(super) fn read_signals_of_query(&mut self, query: &str, own_names: &[&str]) {
        let may_be_wide = memchr(WIDE, query.as_bytes()).is_some();
        for (raw_name, raw) in split_pairs(query) {
            // An escaped name may mean anything.
            let asks = may_mean(raw_name);
            let name = match asks {
                true => decode_once(raw_name),
                false => Cow::Borrowed(raw_name),
            };
            let is_read = match own_names.contains(&&*name) {
                // A document is read where its schema is known.
                true => is_object(raw),
                false => asks && self.read_signal(&name, raw),
            };
            if !is_read {
                self.note_hidden_in_value(raw, may_be_wide);
            }
        }
    }

    /// Reads a parameter that may be a signal. Returns whether the permit is decided by its value.
    fn read_signal(&mut self, name: &str, raw: &str) -> bool {
        if !may_mean(name) {
            return false;
        }
        let parameter = Parameter::from_name(name);
        if let Some(signal) = parameter.filter(|known| known.is_signal()) {
            let value = decode(raw, signal.rule(), &mut self.draft.hit.flags);
            let mut value = value.map(|text| Cow::Owned(text.into_owned()));
            self.put(name, parameter, &mut value);
        } else {
            self.note_field(name, &decode_once(raw));
            // A whole query string that was escaped is a name without a value.
            self.draft.signals.is_unclear |= self.hides_escaped(name);
        }
        parameter.is_some_and(Parameter::is_decided_by)
    }

    /// Reads what the members around a list of events say of consent.
    pub(super) fn read_signals_of_members(&mut self, members: &[(String, &str)]) {
        for (name, json) in members {
            let parameter = Parameter::from_name(name);
            if parameter.is_some_and(Parameter::is_signal) && *json != "null" {
                let mut value = scalar_text(name, json, json, &mut self.draft.hit.flags);
                self.put(name, parameter, &mut value);
            } else {
                self.note_field(name, json);
                self.note_hidden_in_json(json);
            }
        }
    }

    /// Notes that a value of which nothing is kept hides a signal.
    pub(super) fn note_hidden_in_json(&mut self, json: &str) {
        self.note_hidden(None, Some(&string_or_json(json)));
    }

    /// Notes what the name of a field shows was meant.
    fn note_field(&mut self, name: &str, value: &str) {
        self.draft.signals.is_unclear |=
            meaning(name).is_some_and(|meaning| is_meant(name, meaning, value));
    }

    /// Notes that a value hides a signal, as it was sent or decoded.
    fn note_hidden_in_value(&mut self, raw: &str, may_be_wide: bool) {
        // Most values have nothing that comes between a name and its value, nor an escape.
        if !may_be_wide && memchr3(b'=', b':', b'%', raw.as_bytes()).is_none() {
            return;
        }
        if self.hides(raw) {
            self.draft.signals.is_unclear = true;
        } else if may_be_wide || may_hide_decoded(raw.as_bytes()) {
            self.note_hidden(None, Some(&decode_once(raw)));
        }
    }
}

/// Returns whether a raw value is an object in JSON.
fn is_object(raw: &str) -> bool {
    let is_escaped = |start: &str| start.eq_ignore_ascii_case("%7b");
    raw.starts_with('{') || raw.get(..3).is_some_and(is_escaped)
}

/// Returns whether a raw value may hide a signal once it is decoded. Nearly no value may, so this
/// is asked first: it only looks at the escapes.
fn may_hide_decoded(raw: &[u8]) -> bool {
    if memchr2(b'%', b'+', raw).is_none() {
        return false;
    }
    let escaped = |at: usize, bytes: &[u8]| match bytes.get(at..at + 3) {
        Some([b'%', high, low]) => {
            let digit = |digit: &u8| char::from(*digit).to_digit(16);
            Some(16 * digit(high)? + digit(low)?)
        }
        _ => None,
    };
    let Some(path) = after_scheme(raw) else {
        // What stands between a name and its value, another escape, or a fullwidth character.
        let is_harmless = |at| {
            let byte = escaped(at, raw);
            byte.is_some_and(|byte| ![b'=', b':', b'%', WIDE].map(u32::from).contains(&byte))
        };
        return !memchr3_iter(b'%', b'=', b':', raw).all(is_harmless);
    };
    // The query of an address is its own.
    for at in memchr3_iter(b'%', b'?', b'#', path) {
        let is_end = path.get(at) != Some(&b'%');
        match escaped(at, path).and_then(char::from_u32) {
            _ if is_end => return false,
            Some('?' | '#') => return false,
            None | Some('&' | '%') => return true,
            Some(_) => {}
        }
    }
    false
}

/// Returns what follows `https://` or `http://`, as sent or escaped; `None` where neither is there.
fn after_scheme(raw: &[u8]) -> Option<&[u8]> {
    let starts = ["https%3a%2f%2f", "http%3a%2f%2f", "https://", "http://"];
    starts.into_iter().find_map(|start| {
        let (scheme, rest) = raw.split_at_checked(start.len())?;
        scheme
            .eq_ignore_ascii_case(start.as_bytes())
            .then_some(rest)
    })
}

#[cfg(test)]
mod tests;
