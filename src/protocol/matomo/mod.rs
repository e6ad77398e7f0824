//! The requests of Matomo's trackers -> what they tell. Pure.
//!
//! | request | events |
//! | --- | --- |
//! | `GET` with a query | one |
//! | `POST` with a query, a form, or both | one; the query outweighs the form |
//! | `POST` of JSON with a member `requests` | one for each item: an address with its query, a query, or an object |
//!
//! Trackers send JSON under the type of a form, so the first byte decides and not the content type.
//!
//! The address of a list says nothing of its items but what it says of consent. The member
//! `token_auth` of a list, and the parameter of that name, prove something to Matomo only: they are
//! passed over, and so is what needs them there ([`event`] has the names).

mod event;
mod fields;
mod id;
mod time;

use std::borrow::Cow;
use std::ops::Range;

use super::native;
use super::tracker::{Envelope, Told, Translate, without_fragment};
use super::{Arrival, Draft, Drafts};
use crate::consent::names::may_mean;
use crate::hit::Kind;
use crate::hit::limits::TRACKER_TOLD_BYTES_MAX;
use crate::refusal::Reason;
use event::{MARK, Requester, is_marked, tell};
use fields::RequestFields;

/// What is not read for what it may say of consent: Matomo's own `consent`, a category, and the
/// visitor's place.
pub(super) const OWN_NAMES: [&str; 2] = ["consent", "lat"];
/// The member that holds the events of a list.
const REQUESTS: &str = "requests";

/// Reads the one event of a query.
///
/// # Errors
/// If it is not marked as one (`rec=1`).
pub(super) fn read<'r>(arrival: &Arrival<'_, 'r>) -> Result<Told<'r>, Reason> {
    tell(
        &RequestFields::of_query(arrival.query),
        Requester::of(arrival),
    )
}

/// Reads the events of a body.
///
/// # Errors
/// If the body is neither a form nor JSON with events in it.
pub(super) fn read_body<'r>(
    arrival: &Arrival<'_, 'r>,
    body: &'r [u8],
) -> Result<Drafts<'r>, Reason> {
    let body = body.trim_ascii();
    let mut fields = RequestFields::of_query(arrival.query);
    if matches!(body, [b'{' | b'[', ..]) {
        let envelope = Envelope::open(body, REQUESTS).ok_or(Reason::Json)?;
        if !envelope.events.is_empty() {
            fields.retain(may_mean);
            let requests = Requests {
                sender: Requester::of(arrival),
                address: fields,
            };
            let list = (envelope.events, &*envelope.members);
            return native::read_tracker(arrival, list, Box::new(requests));
        }
    }
    if body.len() > TRACKER_TOLD_BYTES_MAX {
        return Err(Reason::HitTooLarge);
    }
    let form = String::from_utf8_lossy(body);
    fields.add_form(&form);
    let mut told = tell(&fields, Requester::of(arrival))?;
    told.queries = vec![Cow::Borrowed(arrival.query), form];
    let mut draft = Draft::new(arrival.at, Kind::PageView);
    draft.read_browser(arrival.headers, arrival.choice_cookie);
    if native::read_told(&mut draft, told, &OWN_NAMES) {
        Ok(Drafts::One(draft))
    } else {
        Err(Reason::Json)
    }
}

/// The items of a list.
struct Requests {
    sender: Requester,
    /// What the address says of consent.
    address: RequestFields,
}

impl Requests {
    /// Reads an item. Also returns its text, if that is what it is.
    fn read(&self, item: &str) -> Option<(RequestFields, Option<ItemText>)> {
        let mut fields = self.address.clone();
        let text = ItemText::read(item);
        match &text {
            Some(text) => fields.add_form(text.query()),
            None => fields.add_object(item)?,
        }
        Some((fields, text))
    }
}

/// An item that is an address or a query.
struct ItemText {
    /// The whole text.
    whole: String,
    /// Where the query stands in it.
    query: Range<usize>,
}

impl ItemText {
    /// Reads an item; `None` if it is no text.
    fn read(item: &str) -> Option<ItemText> {
        let whole: String = serde_json::from_str(item).ok()?;
        let start = whole.find('?').map_or(0, |at| at + 1);
        let query = whole.get(start..).unwrap_or_default();
        let query = start..start + without_fragment(query).len();
        Some(ItemText { whole, query })
    }

    fn query(&self) -> &str {
        self.whole.get(self.query.clone()).unwrap_or_default()
    }

    /// Returns the query, and what stands before and behind it: a signal counts there as well.
    fn into_queries(self) -> impl Iterator<Item = String> {
        let Range { start, end } = self.query;
        let parts = [
            start..end,
            0..start.saturating_sub(1),
            end..self.whole.len(),
        ];
        let parts = parts.map(|part| {
            let text = self.whole.get(part).unwrap_or_default();
            text.trim_start_matches('#').to_owned()
        });
        parts.into_iter().filter(|part| part.contains(['=', '%']))
    }
}

impl Translate for Requests {
    fn translate<'e>(&'e self, event: &'e str) -> Option<Told<'e>> {
        let (fields, text) = self.read(event)?;
        let mut told = tell(&fields, self.sender).ok()?;
        let queries = text.into_iter().flat_map(ItemText::into_queries);
        told.queries.extend(queries.map(Cow::Owned));
        Some(told)
    }

    fn refusal(&self, event: &str) -> Reason {
        let told = self
            .read(event)
            .map(|(fields, _)| tell(&fields, self.sender));
        told.and_then(Result::err).unwrap_or(Reason::Json)
    }

    fn blame(&self, event: &str) -> &'static str {
        match self.read(event) {
            Some((fields, _)) if !is_marked(&fields) => MARK,
            _ => "",
        }
    }

    fn takes_texts(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
