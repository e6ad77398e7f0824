//! What trackers of other makers have in common: their events in our words. Pure.
//!
//! Each protocol is a module beside this one. It translates one event into what is [`Told`]: our
//! own parameters, further ones for `params` under the tracker's names, and [`Claims`] that only
//! the configuration can judge. The reader of our own protocol puts them in their places, so that
//! cleaning, limits, macros, "no ID" and hidden consent signals are decided in one place.

mod envelope;
mod hints;
mod object;
mod time;

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

pub(in crate::protocol) use envelope::Envelope;
pub(in crate::protocol) use hints::read_hints;
pub(in crate::protocol) use object::{Name, Object};
pub(in crate::protocol) use time::{PAST_MAX, occurred_at, read_time};

use super::native::Parameter;
use crate::clock::UnixMicros;
use crate::hit::Kind;
use crate::refusal::Reason;

/// One event in our words.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Told<'e> {
    /// What has a place of its own: texts and numbers as JSON. The first of a parameter counts.
    pub(in crate::protocol) ours: Vec<(Parameter, Cow<'e, str>)>,
    /// What goes to `params`: the tracker's names, and values as JSON. Consent signals under our
    /// own names (`gdpr`, `gdpr_consent`, `gpp`, `gpp_sid`) count among them.
    pub(in crate::protocol) params: Vec<(Cow<'e, str>, Cow<'e, str>)>,
    /// What names in `params` say of consent is understood here: the place in the list, and the
    /// bytes of the value. Elsewhere what looks like a signal makes the consent unclear.
    pub(in crate::protocol) understood: Vec<(usize, Range<usize>)>,
    /// The queries, forms or parts of a list that it stood in, as sent, but for the address of a
    /// body: what they say of consent counts whatever the protocol knows of it.
    pub(in crate::protocol) queries: Vec<Cow<'e, str>>,
    /// Values of which nothing is kept, as JSON. They may hide a signal all the same.
    pub(in crate::protocol) dropped: Vec<Cow<'e, str>>,
    /// Whether it is an event although it has no name, or a page view although it has one.
    pub(in crate::protocol) kind: Option<Kind>,
    pub(in crate::protocol) claims: Claims,
}

impl Told<'_> {
    /// Returns the same with texts of its own.
    pub(in crate::protocol) fn into_owned(self) -> Told<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let ours = self.ours.into_iter();
        let params = self.params.into_iter();
        Told {
            ours: ours
                .map(|(parameter, json)| (parameter, own(json)))
                .collect(),
            params: params.map(|(name, json)| (own(name), own(json))).collect(),
            understood: self.understood,
            queries: self.queries.into_iter().map(own).collect(),
            dropped: self.dropped.into_iter().map(own).collect(),
            kind: self.kind,
            claims: self.claims,
        }
    }
}

/// Writes a text as JSON.
pub(in crate::protocol) fn json_of(text: &str) -> String {
    // A text always can be written.
    serde_json::to_string(text).unwrap_or_default()
}

/// What a tracker claims that only the configuration, or the permit, can judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// What the tracker calls its site; empty if it names none. The host is asked only then.
    pub site_alias: String,
    /// The visitor's address and agent, as a server says them.
    pub client_ip: Option<IpAddr>,
    /// The visitor's agent, as a server says it; empty if it says none.
    pub user_agent: String,
    /// When it happened, by the sender's clock.
    pub made_at: Option<UnixMicros>,
    /// When it was sent, by the sender's clock.
    pub sent_at: Option<UnixMicros>,
    /// The categories that a consent tool named, each with whether it was agreed to.
    pub categories: Vec<(String, bool)>,
    /// Whether the client keeps cookies, so that a new visitor may be told its ID.
    pub keeps_cookies: bool,
    /// Whether a record of a dialogue says that the visitor refuses, or no longer agrees.
    pub refuses: bool,
    /// Whether the page asked that nothing be kept of who sends (`SP-Anonymous`).
    pub is_anonymous: bool,
    /// Whether `made_at` is so long ago that only a trusted sender may say it. From any other the
    /// hit has no time but that of its arrival, and a flag.
    pub needs_trust_for_time: bool,
    /// Whether the event's ID was made of an ID of the visitor, so that it needs `store` as well.
    pub is_event_id_personal: bool,
}

impl Claims {
    /// Returns when the event happened by our clock, and whether that had to be clamped.
    #[must_use]
    pub fn occurred_at(&self, received_at: UnixMicros) -> Option<(UnixMicros, bool)> {
        let made_at = self.made_at?;
        Some(time::occurred_at(
            received_at,
            made_at,
            self.sent_at,
            PAST_MAX,
        ))
    }

    /// Returns when the sender made the event, as far as a record can hold it: after 1970 began.
    #[must_use]
    pub(crate) fn recordable_made_at(&self) -> Option<UnixMicros> {
        self.made_at.filter(|time| time.0 > 0)
    }
}

/// Translates the events of one request.
pub(in crate::protocol) trait Translate {
    /// Translates an event. `None` if it is none of the protocol's.
    fn translate<'e>(&'e self, event: &'e str) -> Option<Told<'e>>;

    /// Returns the field that is to blame for an event that is none, by the tracker's own name;
    /// empty if no one field is.
    fn blame(&self, _event: &str) -> &'static str {
        ""
    }

    /// Returns why an event was not translated.
    fn refusal(&self, _event: &str) -> Reason {
        Reason::Json
    }

    /// Returns how many times the first event is translated, as an event of its own each time.
    fn times(&self) -> usize {
        1
    }

    /// Returns whether an event may be a text among the items of a list, and not only an object.
    fn takes_texts(&self) -> bool {
        false
    }
}

/// Returns an address without its fragment, which may hold secrets. Our own tag cuts it too.
pub(in crate::protocol) fn without_fragment(address: &str) -> &str {
    address.split_once('#').map_or(address, |(page, _)| page)
}
