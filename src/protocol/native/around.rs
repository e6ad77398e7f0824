//! What a tracker's request says of consent, whatever its protocol makes of it: in a query or a
//! form, around a list of events, and within values of which nothing is kept.
//!
//! A protocol passes over what it does not know, and over empty values. Of a consent signal neither
//! may get lost: it counts wherever it stands, and an empty consent string is a refusal.

use std::borrow::Cow;

use memchr::memchr3;

use super::json::{scalar_text, string_or_json};
use super::page::is_meant;
use super::parameter::Parameter;
use super::reader::HitReader;
use crate::consent::names::{may_mean, meaning};
use crate::protocol::text::{decode, decode_once};
use crate::request::split_pairs;

impl HitReader<'_, '_, '_> {
    /// Reads what a query or a form says of consent: signals by their names, and what values hide.
    /// What stands under `own_names` the protocol understands itself.
    pub(super) fn read_signals_of_query(&mut self, query: &str, own_names: &[&str]) {
        for (raw_name, raw) in split_pairs(query) {
            let name = decode_once(raw_name);
            if own_names.contains(&&*name) {
                // A document is read where its schema is known.
                if !decode_once(raw).starts_with('{') {
                    self.note_hidden_in_value(raw);
                }
                continue;
            }
            let may_mean = may_mean(&name);
            let parameter = may_mean.then(|| Parameter::from_name(&name)).flatten();
            if let Some(signal) = parameter.filter(|known| known.is_signal()) {
                let value = decode(raw, signal.rule(), &mut self.draft.hit.flags);
                let mut value = value.map(|text| Cow::Owned(text.into_owned()));
                self.put(&name, parameter, &mut value);
            } else if may_mean {
                self.note_field(&name, &decode_once(raw));
                // A whole query string that was escaped is a name without a value.
                self.draft.signals.is_unclear |= self.hides_escaped(&name);
            }
            if !parameter.is_some_and(Parameter::is_decided_by) {
                self.note_hidden_in_value(raw);
            }
        }
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
        let meaning = may_mean(name).then(|| meaning(name)).flatten();
        self.draft.signals.is_unclear |=
            meaning.is_some_and(|meaning| is_meant(name, meaning, value));
    }

    /// Notes that a value hides a signal, as it was sent or decoded.
    fn note_hidden_in_value(&mut self, raw: &str) {
        // Most values have nothing that comes between a name and its value, nor an escape.
        if memchr3(b'=', b':', b'%', raw.as_bytes()).is_none() {
            return;
        }
        if self.hides(raw) {
            self.draft.signals.is_unclear = true;
        } else {
            self.note_hidden(None, Some(&decode_once(raw)));
        }
    }
}
