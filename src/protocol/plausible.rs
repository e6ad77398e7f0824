//! The events of Plausible's script: one JSON object in each body, whatever its content type. Pure.
//!
//! | member | becomes |
//! | --- | --- |
//! | `n` `name` | the event's name; `pageview` is a page view |
//! | `u` `url`, `r` `referrer` | `page_url`, `referrer` |
//! | `d` `domain` | the site's alias. Each of several, which commas part, is an event of its own |
//! | `p` `props` `m` `meta`, an object or its JSON as text | `params.props` |
//! | `$` `revenue`, the same | `params.revenue`, and its amount and currency as `value` and `currency` |
//! | any other | `params` under its own name |
//!
//! It has no ID of a visitor or of the event, and its requests carry no cookies.

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::Value;

use super::native::{self, Parameter};
use super::tracker::{Claims, Object, Told, Translate, without_fragment};
use super::{Arrival, Drafts};
use crate::hit::Kind;
use crate::refusal::Reason;

/// How Plausible names a page view.
const PAGE_VIEW: &str = "pageview";
/// The most sites of one event.
const SITES_MAX: usize = 8;
const NAME: [&str; 2] = ["n", "name"];
const URL: [&str; 2] = ["u", "url"];
const REFERRER: [&str; 2] = ["r", "referrer"];
const DOMAIN: [&str; 2] = ["d", "domain"];
const PROPS: [&str; 4] = ["p", "props", "m", "meta"];
const REVENUE: [&str; 2] = ["$", "revenue"];

/// Parameters that are understood here alone: the event is never in a query.
pub(super) const OWN_NAMES: [&str; 0] = [];

/// Refuses an event in a query string.
pub(super) fn read<'r>(_: &Arrival<'_, 'r>) -> Result<Told<'r>, Reason> {
    Err(Reason::Method)
}

/// Reads the event of a body.
///
/// # Errors
/// If the body is empty.
pub(super) fn read_body<'r>(
    arrival: &Arrival<'_, 'r>,
    body: &'r [u8],
) -> Result<Drafts<'r>, Reason> {
    let text = String::from_utf8_lossy(body);
    let members = Object::read(text.trim()).ok_or(Reason::Json)?;
    let domains = text_of(&members, DOMAIN).unwrap_or_default();
    let mut sites: Vec<String> = domains
        .split(',')
        .map(|domain| domain.trim().to_owned())
        .filter(|domain| !domain.is_empty())
        .take(SITES_MAX)
        .collect();
    if sites.is_empty() {
        sites.push(String::new());
    }
    let event = Event {
        sites,
        at: Cell::new(0),
    };
    native::read_tracker(arrival, (body, &[]), Box::new(event))
}

/// The event of a body, which is read once for each of its sites.
struct Event {
    sites: Vec<String>,
    /// The site whose turn it is.
    at: Cell<usize>,
}

impl Translate for Event {
    fn translate<'e>(&'e self, event: &'e str) -> Option<Told<'e>> {
        let at = self.at.replace(self.at.get() + 1);
        let members = Object::read(event)?;
        tell(&members, self.sites.get(at)?)
    }

    fn times(&self) -> usize {
        self.sites.len()
    }
}

fn tell(members: &Object<'_>, site: &str) -> Option<Told<'static>> {
    let name = text_of(members, NAME).filter(|name| !name.is_empty())?;
    let is_page_view = name == PAGE_VIEW;
    let mut told = Told {
        kind: Some(if is_page_view {
            Kind::PageView
        } else {
            Kind::Event
        }),
        claims: Claims {
            site_alias: site.to_owned(),
            ..Claims::default()
        },
        ..Told::default()
    };
    let url = text_of(members, URL).unwrap_or_default();
    let referrer = text_of(members, REFERRER).unwrap_or_default();
    for (parameter, text) in [
        (Parameter::EventName, if is_page_view { "" } else { &*name }),
        (Parameter::PageUrl, without_fragment(&url)),
        (Parameter::Referrer, without_fragment(&referrer)),
    ] {
        if !text.is_empty() {
            told.ours
                .push((parameter, Cow::Owned(Value::from(text).to_string())));
        }
    }
    let mut param = |name: &str, json: String| {
        told.params
            .push((Cow::Owned(name.to_owned()), Cow::Owned(json)));
    };
    if let Some(props) = object_of(members, &PROPS) {
        param("props", props);
    }
    if let Some(revenue) = object_of(members, &REVENUE) {
        let parts = Object::read(&revenue)?;
        for (part, name) in [("amount", "value"), ("currency", "currency")] {
            let found = parts.0.iter().find(|(own, _)| own == part);
            if let Some((_, json)) = found {
                param(name, (*json).to_owned());
            }
        }
        param("revenue", revenue);
    }
    let placed = [&NAME[..], &URL, &REFERRER, &DOMAIN, &PROPS, &REVENUE].concat();
    for (name, json) in &members.0 {
        if placed.contains(&&**name) {
            // A second name for the same thing does not count, nor does what should be an object
            // and is not.
            told.dropped.push(Cow::Owned((*json).to_owned()));
        } else if *json != "null" {
            param(name, (*json).to_owned());
        }
    }
    Some(told)
}

/// Returns the text of the first of these members that is there.
fn text_of<const NAMES: usize>(members: &Object<'_>, names: [&str; NAMES]) -> Option<String> {
    let json = json_of(members, &names)?;
    serde_json::from_str(json).ok()
}

/// Returns the first of these members that is there, as JSON.
fn json_of<'m>(members: &'m Object<'_>, names: &[&str]) -> Option<&'m str> {
    let find = |name: &&str| members.0.iter().find(|(own, _)| own == *name);
    let (_, json) = names.iter().find_map(find)?;
    Some(*json).filter(|json| *json != "null")
}

/// Returns the first of these members as the JSON of an object; it may be a text that has the JSON
/// in it.
fn object_of(members: &Object<'_>, names: &[&str]) -> Option<String> {
    let json = json_of(members, names)?;
    let inner = serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
    let is_object = Object::read(&inner).is_some();
    is_object.then_some(inner)
}

#[cfg(test)]
mod tests;
