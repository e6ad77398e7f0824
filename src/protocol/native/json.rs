//! One event as JSON. A wrong event is refused alone, and what cannot be stored of one is replaced.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json_text::{FoundText, leading_scalar, leading_value, write_clean};
use super::page::{name_hint, write_hint};
use super::parameter::{Parameter, rule};
use super::{HitReader, OF_CALLBACKS, OF_SYSTEMS};
use crate::callback::names::{self, Fields};
use crate::consent::names::{Meaning, carries_consent, may_mean, meaning};
use crate::hit::limits::{PARAMETERS_READ_MAX, TEXT_BYTES_MAX};
use crate::hit::{Flags, Kind};
use crate::protocol::absent::is_macro;
use crate::protocol::text::{self, ValueKind, ValueRule, clean, may_hide};
use crate::request::quoted::Quoted;

/// The members of a JSON object in the order sent, repeated ones included.
pub(crate) struct Members<'t>(pub(crate) Vec<(String, &'t RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Returns the members of an object: names, and values as JSON. What is not quite JSON is read as
/// what [`write_clean`] makes of it, with a flag. `None` if it is no object. `leave_out` is given
/// what comes after the first [`PARAMETERS_READ_MAX`].
pub(super) fn members_of(
    object: &str,
    flags: &mut Flags,
    leave_out: &mut dyn FnMut(&str, &str),
) -> Option<Vec<(String, String)>> {
    let mut owned = |Members(mut members): Members<'_>| -> Vec<(String, String)> {
        let late = members.split_off(members.len().min(PARAMETERS_READ_MAX));
        for (name, value) in late {
            leave_out(&name, value.get());
        }
        let own = |(name, value): (String, &RawValue)| (name, value.get().to_owned());
        members.into_iter().map(own).collect()
    };
    if let Ok(members) = serde_json::from_str(object) {
        return Some(owned(members));
    }
    let (mended, changes) = mend(object)?;
    let members = serde_json::from_str(&mended).ok()?;
    flags.set(changes);
    Some(owned(members))
}

/// Writes what is not quite JSON as JSON, and returns what was changed. `None` if it is nested too
/// deep.
pub(super) fn mend(text: &str) -> Option<(String, Flags)> {
    let mut mended = String::with_capacity(text.len());
    let mut changes = Flags::default();
    write_clean(text, &mut mended, &mut changes, &mut |_| {}).then_some((mended, changes))
}

impl HitReader<'_, '_, '_> {
    /// Puts one event's members in their places. Returns false if the event is not a JSON object,
    /// or nested too deep.
    pub(super) fn read_members(&mut self, event: &str) -> bool {
        let mut flags = Flags::default();
        let mut leave_out = |name: &str, json: &str| self.leave_out(name, json);
        let Some(mut members) = members_of(event, &mut flags, &mut leave_out) else {
            return false;
        };
        // Bytes that were no UTF-8 have become this character.
        if event.contains('\u{fffd}') {
            flags.set(Flags::CLEANED);
        }
        self.draft.hit.flags.set(flags);
        if let Some(fields) = self.reading.fields {
            let mut leave_out = |name: &str, json: &str| self.leave_out(name, json);
            members = flatten(members, &fields, &mut leave_out);
        }
        self.begin_source();
        self.read_fields(&mut members)
            && members
                .into_iter()
                .all(|(name, value)| self.read_member(name, &value))
    }

    /// Puts one member in its place. Returns false if it is nested too deep.
    fn read_member(&mut self, name: String, json: &str) -> bool {
        let hit = &mut self.draft.hit;
        let name = clean(Cow::Owned(name), TEXT_BYTES_MAX, &mut hit.flags);
        let name = self.reading.our_name(name).into_owned();
        if json == "null" {
            return true;
        }
        let mut text = String::with_capacity(json.len());
        let (mut nested, mut texts) = (Vec::new(), Vec::new());
        let mut note = |found| match found {
            FoundText::Member {
                name: member,
                is_escaped,
                rest,
                object,
            } => {
                let meaning = meaning_of(member, is_escaped);
                let value = match meaning {
                    Some(Meaning::Objection | Meaning::AppTracking) => leading_value(rest),
                    _ => leading_scalar(rest),
                };
                let meaning = meaning.filter(|meaning| match meaning {
                    Meaning::Site => false,
                    Meaning::Partner => carries_consent(object.unwrap_or(&name)),
                    _ => value != "null",
                });
                nested.extend(meaning.map(|meaning| (meaning, value)));
            }
            FoundText::Text { inner, is_escaped } => {
                texts.extend(text_that_may_hide(inner, is_escaped));
            }
        };
        if !write_clean(json, &mut text, &mut hit.flags, &mut note) {
            return false;
        }
        for (meaning, value) in nested {
            self.note_meaning(meaning, Some(value));
        }
        for text in texts {
            self.note_hidden(None, Some(&text));
        }
        if name == "ch" && text.starts_with('{') {
            self.read_hints(&text);
            return true;
        }
        let is_of_sender = self.notes.kind == Kind::Callback && OF_CALLBACKS.contains(&&*name)
            || self.notes.system.is_some() && OF_SYSTEMS.contains(&&*name);
        // A partner's user is its own, and an object is not an ID.
        let may_be_user = self.notes.kind != Kind::Callback && !text.starts_with(['{', '[']);
        let parameter = Parameter::from_name(&name);
        let parameter = parameter.filter(|known| *known != Parameter::User || may_be_user);
        if parameter == Some(Parameter::UserSig) && !may_be_user {
            return true;
        }
        if is_of_sender || parameter.is_some() {
            let mut scalar = scalar_text(&name, json, &text, &mut self.draft.hit.flags);
            self.note_hidden(parameter, scalar.as_deref());
            self.put(&name, parameter, &mut scalar);
            return true;
        }
        let scalar = string_or_json(&text);
        self.note_hidden(None, text.starts_with('"').then_some(&*scalar));
        self.note_further(&name, (!is_macro(&scalar)).then_some(&*scalar));
        let hit = &mut self.draft.hit;
        if hit.kind != Kind::Callback || !names::is_personal(&name) {
            self.params
                .push(&name, |out| out.push_str(&text), &mut hit.flags);
        }
        true
    }

    /// Puts what a tracker told under a name of ours in its place.
    pub(super) fn put_told(&mut self, parameter: Parameter, json: &str) {
        let flags = &mut self.draft.hit.flags;
        let mut value = scalar_text_by(parameter.rule(), json, json, flags);
        self.note_hidden(Some(parameter), value.as_deref());
        if matches!(parameter, Parameter::PageUrl | Parameter::Referrer) {
            value = value.map(without_fragment);
        }
        self.put("", Some(parameter), &mut value);
    }

    /// Puts the hints of the object `ch` in their places.
    fn read_hints(&mut self, object: &str) {
        let flags = &mut self.draft.hit.flags;
        let hints = members_of(object, flags, &mut |_, _| {}).unwrap_or_default();
        for (hint, value) in hints {
            let name = name_hint(&hint);
            if hint == "webdriver" && value == "true" {
                self.draft.hit.flags.set(Flags::WEBDRIVER);
            }
            if value != "null" {
                let value = write_hint(value);
                let mut value = scalar_text(&name, &value, &value, &mut self.draft.hit.flags);
                self.put(&name, Parameter::from_name(&name), &mut value);
            }
        }
    }
}

/// Returns the meaning of a name as it is written between quotes.
pub(super) fn meaning_of(name: &str, is_escaped: bool) -> Option<Meaning> {
    if is_escaped {
        let name: String = serde_json::from_str(&format!("\"{name}\"")).ok()?;
        return meaning_at_end(&name);
    }
    meaning_at_end(name)
}

/// Returns a text that is written between quotes, if it may hide a parameter.
pub(super) fn text_that_may_hide(inner: &str, is_escaped: bool) -> Option<Cow<'_, str>> {
    if is_escaped {
        let text = string_or_json(&format!("\"{inner}\"")).into_owned();
        return Some(Cow::Owned(text));
    }
    may_hide(inner).then_some(Cow::Borrowed(inner))
}

/// Returns what a name shows was meant that is the path of a member, as `regs.gpp` is.
fn meaning_of_member(path: &str) -> Option<Meaning> {
    let (_, name) = path.rsplit_once('.')?;
    meaning(name).filter(|meaning| !matches!(meaning, Meaning::Partner | Meaning::Site))
}

/// Returns what a name shows was meant, as a whole or as a path to a member.
pub(super) fn meaning_at_end(name: &str) -> Option<Meaning> {
    may_mean(name)
        .then(|| meaning(name).or_else(|| meaning_of_member(name)))
        .flatten()
}

/// Takes members out of objects if the partner has a name for their path. The object keeps the
/// rest.
fn flatten(
    members: Vec<(String, String)>,
    fields: &Fields<'_>,
    leave_out: &mut dyn FnMut(&str, &str),
) -> Vec<(String, String)> {
    let mut flat = Vec::with_capacity(members.len());
    // Only objects that a name reaches into are entered, so a path is no longer than the longest
    // name.
    for (path, value) in members {
        let inner = fields
            .reach_into(&path)
            .then(|| members_of(&value, &mut Flags::default(), leave_out))
            .flatten();
        match inner {
            Some(inner) => {
                let inner = inner
                    .into_iter()
                    .map(|(name, value)| (format!("{path}.{name}"), value));
                flat.extend(flatten(inner.collect(), fields, leave_out));
            }
            None => flat.push((path, value)),
        }
    }
    flat
}

/// Cuts an address's fragment, which may hold secrets: our tag sends none either.
fn without_fragment(address: Cow<'_, str>) -> Cow<'_, str> {
    match address.find('#') {
        Some(at) => Cow::Owned(address.get(..at).unwrap_or_default().to_owned()),
        None => address,
    }
}

/// Returns the text of a JSON string that needs no decoding; `None` if it is no string, or may need
/// it.
fn plain_text(json: &str) -> Option<&str> {
    let (string, after) = Quoted::split(json.strip_prefix('"')?)?;
    (after.is_empty() && string.is_plain()).then_some(string.inner)
}

/// Returns a string as it is, another value as its JSON.
pub(super) fn string_or_json(json: &str) -> Cow<'_, str> {
    let string = match json.as_bytes() {
        [b'"', rest @ ..] if memchr(b'\\', rest).is_some() => {
            serde_json::from_str(json).map(Cow::Owned).ok()
        }
        [b'"', ..] => plain_text(json)
            .or_else(|| serde_json::from_str(json).ok())
            .map(Cow::Borrowed),
        _ => None,
    };
    string.unwrap_or(Cow::Borrowed(json))
}

/// Returns a known member's text by its rule: a string as it is, another value as its JSON. An ID
/// is a string or a number. `cleaned` is what can be stored of the member; a string that cannot be
/// read as it was sent is made of that.
pub(super) fn scalar_text<'a>(
    name: &str,
    json: &str,
    cleaned: &str,
    flags: &mut Flags,
) -> Option<Cow<'a, str>> {
    scalar_text_by(rule(Parameter::from_name(name), name), json, cleaned, flags)
}

/// The same by a known rule.
fn scalar_text_by<'a>(
    rule: ValueRule,
    json: &str,
    cleaned: &str,
    flags: &mut Flags,
) -> Option<Cow<'a, str>> {
    let (text, sent) = match json.as_bytes() {
        [b'"', ..] => match plain_text(json)
            .map_or_else(|| serde_json::from_str(json), |text| Ok(text.to_owned()))
        {
            Ok(text) => (text, None),
            Err(_) => (string_or_json(cleaned).into_owned(), Some(json.as_bytes())),
        },
        [b'-' | b'0'..=b'9', ..] => (json.to_owned(), None),
        _ if rule.kind == ValueKind::Id => return None,
        _ => (cleaned.to_owned(), None),
    };
    text::take(Cow::Owned(text), sent, rule, flags)
}
