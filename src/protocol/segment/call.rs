//! One call -> what it tells.

use std::borrow::Cow;

use super::{Calls, WRITE_KEY, consent, context, is_empty, read_text};
use crate::hit::Kind;
use crate::protocol::native::Parameter;
use crate::protocol::tracker::{Object, Told, read_time};

/// What kind of call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Track,
    Page,
    Screen,
    Identify,
    Group,
    Alias,
    Merge,
}

impl Type {
    /// Returns the type that a path gives.
    pub(super) fn of_segment(segment: &str) -> Option<Type> {
        Some(match segment {
            "t" => Type::Track,
            "p" => Type::Page,
            "s" => Type::Screen,
            "i" => Type::Identify,
            "g" => Type::Group,
            "a" => Type::Alias,
            name => return Type::of_json(&format!("\"{name}\"")),
        })
    }

    /// Returns the type that a member gives.
    fn of_json(json: &str) -> Option<Type> {
        Some(match json {
            "\"track\"" => Type::Track,
            "\"page\"" => Type::Page,
            "\"screen\"" => Type::Screen,
            "\"identify\"" => Type::Identify,
            "\"group\"" => Type::Group,
            "\"alias\"" => Type::Alias,
            "\"merge\"" => Type::Merge,
            _ => return None,
        })
    }

    /// Returns the name of its events, as JSON; `None` if they have names of their own, or none.
    fn event_name(self) -> Option<&'static str> {
        match self {
            Type::Track | Type::Page => None,
            Type::Screen => Some("\"screen\""),
            Type::Identify => Some("\"identify\""),
            Type::Group => Some("\"group\""),
            Type::Alias => Some("\"alias\""),
            Type::Merge => Some("\"merge\""),
        }
    }
}

/// The members of a call that have a place of their own, as JSON.
#[derive(Default)]
struct Members<'e> {
    r#type: Option<&'e str>,
    event: Option<&'e str>,
    message_id: Option<&'e str>,
    anonymous_id: Option<&'e str>,
    user_id: Option<&'e str>,
    original_timestamp: Option<&'e str>,
    timestamp: Option<&'e str>,
    sent_at: Option<&'e str>,
    write_key: Option<&'e str>,
    properties: Option<&'e str>,
    context: Option<&'e str>,
}

impl<'e> Members<'e> {
    /// Returns where a member belongs.
    fn slot(&mut self, name: &str) -> Option<&mut Option<&'e str>> {
        Some(match name {
            "type" => &mut self.r#type,
            "event" => &mut self.event,
            "messageId" => &mut self.message_id,
            "anonymousId" => &mut self.anonymous_id,
            "userId" => &mut self.user_id,
            "originalTimestamp" => &mut self.original_timestamp,
            "timestamp" => &mut self.timestamp,
            "sentAt" => &mut self.sent_at,
            WRITE_KEY => &mut self.write_key,
            "properties" => &mut self.properties,
            "context" => &mut self.context,
            _ => return None,
        })
    }
}

/// Returns whether nothing is kept of a member: it steers Segment's own servers, holds a client's
/// address, or names a person in whichever way (`mergeProperties`).
fn is_dropped(name: &str) -> bool {
    matches!(
        name,
        "integrations"
            | "_metadata"
            | "channel"
            | "token"
            | "receivedAt"
            | "request_ip"
            | "ip"
            | "mergeProperties"
    )
}

/// Translates a call. `None` if it has no type, or neither ID.
pub(super) fn translate<'e>(calls: &'e Calls, event: &'e str) -> Option<Told<'e>> {
    let Object(all) = Object::read(event)?;
    let mut members = Members::default();
    let mut told = Told::default();
    told.params.reserve(all.len());
    for (name, value) in all {
        if let Some(slot) = members.slot(&name) {
            // The first counts. Another one may hide a signal all the same.
            match slot {
                Some(_) => told.dropped.push(Cow::Borrowed(value)),
                None => *slot = Some(value).filter(|value| *value != "null"),
            }
        } else if is_dropped(&name) {
            told.dropped.push(Cow::Borrowed(value));
        } else {
            if consent::is_holder(&name) {
                consent::collect_categories(value, &mut told.claims.categories);
            }
            if !is_empty(&name, value) {
                told.params.push((name, Cow::Borrowed(value)));
            }
        }
    }
    let r#type = calls.r#type.or_else(|| Type::of_json(members.r#type?))?;
    let anonymous_id = members.anonymous_id.filter(|id| is_id(id));
    let user_id = members.user_id.filter(|id| is_id(id));
    anonymous_id.or(user_id)?;
    let mut put = |parameter: Parameter, json: Option<&'e str>| {
        if let Some(json) = json {
            told.ours.push((parameter, Cow::Borrowed(json)));
        }
    };
    put(Parameter::EventId, members.message_id);
    put(Parameter::DeviceId, anonymous_id);
    put(Parameter::User, user_id);
    put(Parameter::EventName, r#type.event_name());
    if r#type == Type::Track {
        put(Parameter::EventName, members.event);
    }
    told.kind = Some(match r#type {
        Type::Page => Kind::PageView,
        _ => Kind::Event,
    });
    if let Some(properties) = members.properties {
        read_properties(properties, r#type, &mut told);
    }
    if let Some(context) = members.context {
        context::read(context, anonymous_id.is_none(), &mut told);
    }
    let claims = &mut told.claims;
    claims.categories.extend_from_slice(&calls.categories);
    consent::settle(&mut claims.categories);
    claims.site_alias.clone_from(&calls.write_key);
    if let Some(key) = members.write_key.filter(|_| calls.write_key.is_empty()) {
        claims.site_alias = read_text(key);
    }
    let made_at = members.original_timestamp.and_then(read_time);
    claims.made_at = made_at.or_else(|| members.timestamp.and_then(read_time));
    let sent_at = members.sent_at.and_then(read_time);
    claims.sent_at = sent_at.or(calls.sent_at);
    Some(told)
}

/// Returns the member that a call lacks which could not be translated; empty if it is no object.
pub(super) fn blame(calls: &Calls, event: &str) -> &'static str {
    let Some(Object(members)) = Object::read(event) else {
        return "";
    };
    let has_type = || {
        let mut types = members.iter().filter(|(name, _)| name == "type");
        types.any(|(_, json)| Type::of_json(json).is_some())
    };
    if calls.r#type.is_some() || has_type() {
        "userId"
    } else {
        "type"
    }
}

/// Puts what the caller said of the event to `params`, and of a page its addresses in their places.
fn read_properties<'e>(json: &'e str, r#type: Type, told: &mut Told<'e>) {
    let Some(Object(properties)) = Object::read(json) else {
        return told.dropped.push(Cow::Borrowed(json));
    };
    let mut value = None;
    for (name, json) in properties {
        if json == "null" {
            continue;
        }
        match (&*name, r#type) {
            ("url", Type::Page) => told.ours.push((Parameter::PageUrl, json.into())),
            ("referrer", Type::Page) => told.ours.push((Parameter::Referrer, json.into())),
            // The same with the fragment.
            ("tab_url", Type::Page) => {}
            _ => {
                // Where there are several, the one that comes first here.
                let rank = ["value", "revenue", "total"]
                    .iter()
                    .position(|known| *known == name);
                if let Some(rank) = rank
                    && value.is_none_or(|(known, _)| rank < known)
                {
                    value = Some((rank, json));
                }
                told.params.push((name, json.into()));
            }
        }
    }
    if let Some((1.., value)) = value {
        told.params.push(("value".into(), value.into()));
    }
}

/// Returns whether a value may be an ID: a text that is not blank, or a number.
fn is_id(json: &str) -> bool {
    match json.strip_prefix('"') {
        Some(text) => !text.trim_end_matches('"').trim().is_empty(),
        None => json.starts_with(|first: char| first == '-' || first.is_ascii_digit()),
    }
}
