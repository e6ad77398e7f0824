//! Events as JSON: one object or an array of them. A wrong event is refused alone; only a body that
//! is not JSON at all refuses them all.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::parameter::{Parameter, limit};
use super::params::Params;
use super::{Draft, Notes, OF_CALLBACKS, Reading, finish, note_ad, put_parameter};
use crate::callback::names::{self, Fields};
use crate::hit::limits::TEXT_BYTES_MAX;
use crate::hit::{Flags, Kind};
use crate::protocol::text::{clean, is_macro};

/// The most events in one body.
pub const EVENTS_MAX: usize = 1000;

/// Splits a body into its events' texts. Returns `None` if it is not a JSON object or array, or if
/// it holds more than [`EVENTS_MAX`].
#[must_use]
pub fn split_events(body: &[u8]) -> Option<Vec<&RawValue>> {
    let body = body.trim_ascii();
    let events = if body.first() == Some(&b'[') {
        serde_json::from_slice::<Vec<&RawValue>>(body).ok()?
    } else {
        vec![serde_json::from_slice::<&RawValue>(body).ok()?]
    };
    (events.len() <= EVENTS_MAX).then_some(events)
}

/// Puts one event's members into a draft. Returns false if the event is not a JSON object, or one
/// that holds what no text can (a lone surrogate, a number out of range, more than 128 levels).
pub fn read_event<'a>(event: &RawValue, reading: Reading<'_>, draft: &mut Draft<'a>) -> bool {
    let Ok(members) = serde_json::from_str::<Map<String, Value>>(event.get()) else {
        return false;
    };
    let Draft { hit, signals } = draft;
    let mut params = Params::default();
    let mut notes = Notes::new(hit.kind, reading);
    let mut members: Vec<(String, Value)> = members.into_iter().collect();
    if let Some(fields) = reading.fields {
        members = flatten(members, &fields);
    }
    for (name, value) in members {
        let name = clean(Cow::Owned(name), TEXT_BYTES_MAX, &mut hit.flags);
        let name = reading.our_name(name).into_owned();
        let is_callbacks = notes.kind == Kind::Callback && OF_CALLBACKS.contains(&&*name);
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("ch", Value::Object(hints)) => {
                for (hint, value) in hints {
                    let name = format!("ch_{hint}");
                    let value = scalar_text(&name, value, &mut hit.flags);
                    put_parameter(&name, value, hit, signals, &mut notes);
                }
            }
            (name, value) if is_callbacks || Parameter::named(name).is_some() => {
                let value = scalar_text(name, value, &mut hit.flags);
                put_parameter(name, value, hit, signals, &mut notes);
            }
            (name, _) if hit.kind == Kind::Callback && names::is_personal(name) => {}
            (name, mut value) => {
                match &value {
                    Value::String(text) => note_ad(name, text, hit, &mut notes),
                    Value::Bool(true) => note_ad(name, "true", hit, &mut notes),
                    Value::Number(number) if number.as_i64() == Some(1) => {
                        note_ad(name, "1", hit, &mut notes);
                    }
                    _ => {}
                }
                clean_value(&mut value, &mut hit.flags);
                params.push(name, |out| out.push_str(&value.to_string()), &mut hit.flags);
            }
        }
    }
    hit.params = params.finish();
    finish(hit, notes);
    true
}

/// Takes members out of objects if the partner has a name for their path. The object keeps the
/// rest.
fn flatten(members: Vec<(String, Value)>, fields: &Fields<'_>) -> Vec<(String, Value)> {
    let mut flat = Vec::with_capacity(members.len());
    // Only objects that a name reaches into are entered, so a path is no longer than the longest
    // name.
    for (path, value) in members {
        match value {
            Value::Object(inner) if fields.reach_into(&path) => {
                let inner = inner
                    .into_iter()
                    .map(|(name, value)| (format!("{path}.{name}"), value));
                flat.extend(flatten(inner.collect(), fields));
            }
            value => flat.push((path, value)),
        }
    }
    flat
}

/// Returns a known member's text: a string as it is, another value as its JSON.
fn scalar_text<'a>(name: &str, value: Value, flags: &mut Flags) -> Option<Cow<'a, str>> {
    let text = match value {
        Value::String(text) => text,
        Value::Null => return None,
        other => other.to_string(),
    };
    if is_macro(&text) {
        flags.set(Flags::MACRO);
        return None;
    }
    Some(clean(Cow::Owned(text), limit(name), flags))
}

/// Returns whether no text or name in a JSON value may hold a character: NUL, which `jsonb`
/// refuses, and DEL and the control characters beyond ASCII, which JSON writes as they are. JSON
/// escapes the others, and a text may need its line ends.
fn is_unsound(character: char) -> bool {
    matches!(character, '\0' | '\u{7f}'..='\u{9f}')
}

/// Replaces unsound characters in a value's texts and names.
fn clean_value(value: &mut Value, flags: &mut Flags) {
    match value {
        Value::String(text) if text.contains(is_unsound) => {
            *text = text.replace(is_unsound, "\u{fffd}");
            flags.set(Flags::CLEANED);
        }
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| clean_value(value, flags)),
        Value::Object(members) => {
            if members.keys().any(|name| name.contains(is_unsound)) {
                flags.set(Flags::CLEANED);
                *members = std::mem::take(members)
                    .into_iter()
                    .map(|(name, value)| (name.replace(is_unsound, "\u{fffd}"), value))
                    .collect();
            }
            members
                .values_mut()
                .for_each(|value| clean_value(value, flags));
        }
        _ => {}
    }
}
