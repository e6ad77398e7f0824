//! Events as JSON: one object or an array of them. An event that is wrong is refused alone; only a
//! body that is no JSON at all refuses them all.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::parameter::{Parameter, limit};
use super::params::Params;
use crate::callback::names::Fields;
use crate::consent::Signals;
use crate::hit::{Flags, Hit, Kind};
use crate::protocol::native::{OF_CALLBACKS, Reading, Seen, finish, note_ad, put};
use crate::request::text::{clean, is_macro};

/// The most events in one body.
pub const EVENTS_MAX: usize = 1000;

/// Splits a body into its events' texts. `None` where it is no JSON object or array, or where it
/// holds more than [`EVENTS_MAX`].
#[must_use]
pub fn events(body: &[u8]) -> Option<Vec<&RawValue>> {
    let body = body.trim_ascii();
    let events = if body.first() == Some(&b'[') {
        serde_json::from_slice::<Vec<&RawValue>>(body).ok()?
    } else {
        vec![serde_json::from_slice::<&RawValue>(body).ok()?]
    };
    (events.len() <= EVENTS_MAX).then_some(events)
}

/// Puts one event's members into `hit` and `signals`; false where it is no JSON object, or one that
/// holds what no text can (a lone surrogate, a number out of range, more than 128 levels).
pub fn event_hit<'a>(event: &RawValue, hit: &mut Hit<'a>, signals: &mut Signals<'a>) -> bool {
    event_hit_as(event, Reading::default(), hit, signals)
}

/// Like [`event_hit`], under a partner's names.
pub fn event_hit_as<'a>(
    event: &RawValue,
    reading: Reading<'_>,
    hit: &mut Hit<'a>,
    signals: &mut Signals<'a>,
) -> bool {
    let Ok(members) = serde_json::from_str::<Map<String, Value>>(event.get()) else {
        return false;
    };
    let mut params = Params::default();
    let mut seen = Seen::of(hit.kind, reading);
    let mut members: Vec<(String, Value)> = members.into_iter().collect();
    if let Some(fields) = reading.fields {
        members = reached(members, &fields);
    }
    for (name, value) in members {
        let name = clean(
            Cow::Owned(name),
            crate::hit::limits::TEXT_BYTES_MAX,
            &mut hit.flags,
        );
        let name = reading.ours(name).into_owned();
        let is_callbacks = seen.kind == Kind::Callback && OF_CALLBACKS.contains(&&*name);
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("ch", Value::Object(hints)) => {
                for (hint, value) in hints {
                    let name = format!("ch_{hint}");
                    let value = scalar(&name, value, &mut hit.flags);
                    put(&name, value, hit, signals, &mut seen);
                }
            }
            (name, value) if is_callbacks || Parameter::named(name).is_some() => {
                let value = scalar(name, value, &mut hit.flags);
                put(name, value, hit, signals, &mut seen);
            }
            (name, _)
                if hit.kind == Kind::Callback && crate::callback::names::is_personal(name) => {}
            (name, mut value) => {
                match &value {
                    Value::String(text) => note_ad(name, text, hit, &mut seen),
                    Value::Bool(true) => note_ad(name, "true", hit, &mut seen),
                    Value::Number(number) if number.as_i64() == Some(1) => {
                        note_ad(name, "1", hit, &mut seen);
                    }
                    _ => {}
                }
                clean_value(&mut value, &mut hit.flags);
                params.push(name, |out| out.push_str(&value.to_string()), &mut hit.flags);
            }
        }
    }
    hit.params = params.finish();
    finish(hit, seen);
    true
}

/// The members with those in the place of an object that have a name of their own by their path; what else the object
/// holds stays in it.
fn reached(members: Vec<(String, Value)>, fields: &Fields<'_>) -> Vec<(String, Value)> {
    let mut flat = Vec::with_capacity(members.len());
    // A path is as long as the longest name: nothing is descended into that no name reaches.
    for (path, value) in members {
        match value {
            Value::Object(inner) if fields.reach_into(&path) => {
                let inner = inner
                    .into_iter()
                    .map(|(name, value)| (format!("{path}.{name}"), value));
                flat.extend(reached(inner.collect(), fields));
            }
            value => flat.push((path, value)),
        }
    }
    flat
}

/// A known member's text: strings as they are, other values as their JSON.
fn scalar<'a>(name: &str, value: Value, flags: &mut Flags) -> Option<Cow<'a, str>> {
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

/// What no text or name in a JSON value may hold: NUL, which `jsonb` refuses, and DEL and the control
/// characters beyond ASCII, which JSON writes as they are. The others it escapes, and a text may need line's ends.
fn is_unsound(character: char) -> bool {
    matches!(character, '\0' | '\u{7f}'..='\u{9f}')
}

/// Replaces what is unsound in a value's texts and names.
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
