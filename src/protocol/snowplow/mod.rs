//! Snowplow's trackers: an event as a query string, or a list of events in an envelope of JSON.
//! Pure.
//!
//! An event is a flat map of short names ([`event`] has the table). Two of them hold JSON
//! documents, as text or as Base64: what happened (`ue`) and contexts around it (`co`), each with
//! the URI of its schema ([`document`]). They are decoded and kept whole; a few contexts also say
//! what has a place of its own in a hit.
//!
//! The parameters of the address outweigh the members of each event that was sent to it. An event
//! of no known type, or one whose documents cannot be read, is refused alone: half an event would
//! be counted as a whole one.
//!
//! What names a schema in place of a type is an event of Iglu's webhook ([`webhook`]).

mod document;
mod event;
#[cfg(test)]
mod tests;
mod webhook;

use std::borrow::Cow;

use super::native;
use super::text::decode_once;
use super::tracker::{Envelope, Object, Told, Translate};
use super::{Arrival, Draft, Drafts};
use crate::endpoint::Endpoint;
use crate::hit::Kind;
use crate::hit::limits::{PARAMETERS_READ_MAX, TRACKER_TOLD_BYTES_MAX};
use crate::refusal::Reason;
use crate::request::split_pairs;
use event::{Blame, MemberValue, SnowplowEvent};
use webhook::Webhook;

/// What is not read for what it may say of consent: documents, of which [`document`] knows what
/// those about consent mean.
pub(super) const OWN_NAMES: [&str; 4] = ["ue_pr", "ue_px", "co", "cx"];
/// The member of the envelope that has the events.
const EVENTS: &str = "data";

/// Reads the event in a query string.
///
/// # Errors
/// If it is none.
pub(super) fn read<'r>(arrival: &Arrival<'_, 'r>) -> Result<Told<'r>, Reason> {
    let is_anonymous = arrival.headers.is_anonymous;
    let mut event = SnowplowEvent::new(is_anonymous);
    let redirects = arrival.endpoint == Endpoint::SnowplowRedirect;
    let mut target = None;
    for (name, text) in pairs(arrival.query) {
        match &*name {
            "u" if redirects => target = target.or(Some(text)),
            // How the target is signed says nothing about the event.
            "k" | "exp" | "sig" if redirects => {}
            _ => {
                let put = event.put(name, MemberValue::Text(text));
                put.map_err(|_| Reason::Json)?;
            }
        }
    }
    if event.names_schema_alone()
        && let Some(told) = webhook::read_pairs([arrival.query, ""], is_anonymous)
    {
        return told.map_err(|_| Reason::Json);
    }
    if let Some(target) = target {
        event.redirect_to(&target);
    }
    event.finish().map_err(|_| Reason::Json)
}

/// Reads the events in a body. Without a body, the query string has the event. A body that is no
/// envelope may be its list, or one event.
///
/// # Errors
/// If nothing of it can be read, or if it was sent to an address with more parameters than an event
/// has: each event would be read together with all of them.
pub(super) fn read_body<'r>(
    arrival: &Arrival<'_, 'r>,
    body: &'r [u8],
) -> Result<Drafts<'r>, Reason> {
    if body.trim_ascii().is_empty() {
        let mut draft = Draft::new(arrival.at, Kind::PageView);
        draft.read_browser(arrival.headers, arrival.choice_cookie);
        let mut told = read(arrival)?;
        told.queries.push(Cow::Borrowed(arrival.query));
        let is_read = native::read_told(&mut draft, told, &OWN_NAMES);
        return is_read.then_some(Drafts::One(draft)).ok_or(Reason::Json);
    }
    if split_pairs(arrival.query)
        .nth(PARAMETERS_READ_MAX)
        .is_some()
    {
        return Err(Reason::UriTooLong);
    }
    let is_anonymous = arrival.headers.is_anonymous;
    let is_json = matches!(body.trim_ascii(), [b'{' | b'[', ..]);
    if !is_json
        && body.len() <= TRACKER_TOLD_BYTES_MAX
        && let Ok(form) = str::from_utf8(body.trim_ascii())
        && let Some(told) = webhook::read_pairs([arrival.query, form], is_anonymous)
    {
        let mut draft = Draft::new(arrival.at, Kind::PageView);
        draft.read_browser(arrival.headers, arrival.choice_cookie);
        let mut told = told.map_err(|_| Reason::Json)?;
        told.queries = [arrival.query, form].map(Cow::Borrowed).into();
        let is_read = native::read_told(&mut draft, told, &OWN_NAMES);
        return is_read.then_some(Drafts::One(draft)).ok_or(Reason::Json);
    }
    if let Some(webhook) = Webhook::of_address(arrival.query, is_anonymous) {
        return native::read_tracker(arrival, (body, &[]), Box::new(webhook));
    }
    let envelope = Envelope::open(body, EVENTS).unwrap_or_default();
    let schema = envelope.member(webhook::SCHEMA);
    if let Some(schema) = schema.and_then(webhook::schema_of_body) {
        let webhook = Webhook::of_schema(schema, arrival.query, is_anonymous);
        let data = match envelope.events {
            [] => envelope.member(EVENTS).unwrap_or_default().as_bytes(),
            events => events,
        };
        let list = (data, &*envelope.members);
        return native::read_tracker(arrival, list, Box::new(webhook));
    }
    let list = match envelope.events {
        [] => body,
        events => events,
    };
    let members: &[_] = match envelope.events {
        [] => &[],
        _ => &envelope.members,
    };
    native::read_tracker(arrival, (list, members), Box::new(Events::new(arrival)))
}

/// What all events of a body have in common.
struct Events<'r> {
    /// The parameters of the address.
    address: Vec<(Cow<'r, str>, Cow<'r, str>)>,
    is_anonymous: bool,
}

impl<'r> Events<'r> {
    fn new(arrival: &Arrival<'_, 'r>) -> Events<'r> {
        Events {
            address: pairs(arrival.query).collect(),
            is_anonymous: arrival.headers.is_anonymous,
        }
    }
}

impl Events<'_> {
    fn read<'e>(&'e self, text: &'e str) -> Result<Told<'e>, Blame> {
        let mut event = SnowplowEvent::new(self.is_anonymous);
        for (name, text) in &self.address {
            event.put(Cow::Borrowed(name), MemberValue::Text(Cow::Borrowed(text)))?;
        }
        for (name, json) in Object::read(text).ok_or("")?.0 {
            if self.address.iter().any(|(known, _)| *known == name) {
                event.drop_member(&name, MemberValue::Json(json));
            } else {
                event.put(name, MemberValue::Json(json))?;
            }
        }
        event.finish()
    }
}

impl Translate for Events<'_> {
    fn translate<'e>(&'e self, text: &'e str) -> Option<Told<'e>> {
        self.read(text).ok()
    }

    fn blame(&self, text: &str) -> &'static str {
        self.read(text).err().unwrap_or_default()
    }
}

/// Returns the parameters of a query string, decoded. A document is neither a macro nor encoded
/// twice, so all are decoded once.
fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    split_pairs(query).map(|(name, value)| (decode_once(name), decode_once(value)))
}
