//! Our own protocol: parameters of a query string, and events as JSON. Pure.
//!
//! What the sender wrote is never trusted to be clean: a text is percent-decoded once (twice where
//! a macro encoded what was encoded already), cut at its limit on a character's border, and freed
//! of what Postgres cannot hold; the hit's flags say that it happened. An unexpanded macro of an ad
//! network counts as absent. A visitor's ID or address is never taken from a parameter.
//!
//! A hit may be told in two places: an event in a body, and the address that it was sent to. They
//! are read one after the other as if they were one, the event first, and the first of a repeated
//! parameter counts. So what the address says holds for each event that does not say otherwise.
//!
//! A parameter that shows that a consent signal or a partner was meant and is not understood makes
//! the hit one without consent ([`crate::consent::names`]).
//!
//! docs/parameters.md lists the parameters; the limits stand here.

mod around;
mod events;
mod json;
mod json_text;
mod page;
mod parameter;
mod params;
mod reader;
mod split;
mod template;

pub use crate::endpoint::EVENTS_MAX;
pub use events::Events;
pub(super) use events::Owner;
pub(crate) use events::SplitEvent;
pub(crate) use json::Members;
pub(super) use page::write_hint;
pub(super) use parameter::Parameter;
pub use split::split_events;
pub(super) use split::{end_of_nested, end_of_string, trim};
pub(super) use template::read_told;

use std::borrow::Cow;
use std::mem;
use std::time::Duration;

use super::headers::parse_mobile;
use super::text::clean;
use super::tracker::{Translate, occurred_at, read_time};
use super::{Arrival, Draft, Drafts};
use crate::callback::names::Fields;
use crate::clock::UnixMicros;
use crate::consent::parse_choice;
use crate::hit::limits::USER_AGENT_BYTES_MAX;
use crate::hit::{Flags, Hit, Kind};
use crate::refusal::Reason;
use crate::request::agent;
use reader::HitReader;
use template::Template;

/// Reads a browser's request, its headers and its query string, into a new draft. The draft's kind
/// is what the hit is to begin with.
pub fn read<'r>(arrival: &Arrival<'_, 'r>, draft: &mut Draft<'r>) {
    draft.read_browser(arrival.headers, arrival.choice_cookie);
    read_query(arrival.query, Reading::default(), draft);
}

/// Reads the body of `POST /e`: one event, or several. The parameters of the query string hold for
/// each event that does not say otherwise.
///
/// `sendBeacon` can send `text/plain` without a preflight, so that is taken as JSON too.
///
/// # Errors
/// If the body is not JSON.
pub fn read_body<'r>(arrival: &Arrival<'_, 'r>, body: &'r [u8]) -> Result<Drafts<'r>, Reason> {
    if !may_be_events(arrival.headers.content_type, body) {
        return Err(Reason::ContentType);
    }
    let Arrival { at, headers, .. } = *arrival;
    let mut draft = Draft::new(at, Kind::PageView);
    draft.read_browser(headers, arrival.choice_cookie);
    read_events(body, arrival.query, Reading::default(), draft, None)
}

/// Returns whether a body of that type may hold events. Some programs give every body the type of a
/// form, or none.
pub(super) fn may_be_events(content_type: Option<&str>, body: &[u8]) -> bool {
    let media_type = content_type.unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let is = |known: &str| media_type.eq_ignore_ascii_case(known);
    let looks_like_json = || matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
    [
        "",
        "application/json",
        "text/plain",
        "text/json",
        "application/x-ndjson",
    ]
    .into_iter()
    .any(is)
        || (is("application/x-www-form-urlencoded") && looks_like_json())
}

/// Reads a body's events, each of which begins as a copy of `draft`. What stands beyond the most
/// that a body may have is refused as one event.
///
/// # Errors
/// If the body is empty.
pub(super) fn read_events<'r>(
    body: &'r [u8],
    query: &'r str,
    reading: Reading<'r>,
    draft: Draft<'r>,
    owner: Option<Owner<'r>>,
) -> Result<Drafts<'r>, Reason> {
    let template = Template::new(draft, query, reading);
    Ok(Drafts::Each(Events::new(body, template, owner)?))
}

/// Reads a list of a tracker's events, each of which is translated alone. What the address and the
/// members around the list say of consent holds for each event that does not say otherwise.
///
/// # Errors
/// If the list is empty.
pub(super) fn read_tracker<'r>(
    arrival: &Arrival<'_, 'r>,
    (list, members): (&'r [u8], &[(String, &'r str)]),
    translate: Box<dyn Translate + 'r>,
) -> Result<Drafts<'r>, Reason> {
    let mut draft = Draft::new(arrival.at, Kind::PageView);
    draft.read_browser(arrival.headers, arrival.choice_cookie);
    let own_names = super::own_names(arrival.endpoint);
    let template = Template::of_tracker(draft, arrival.query, members, own_names);
    let events = Events::new(list, template, None)?;
    Ok(Drafts::Each(
        events.with_translation(translate, arrival.query.len()),
    ))
}

/// How a sender's parameters are read. By default they are a browser's, under our own names.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading<'n> {
    /// What a partner calls things.
    pub fields: Option<Fields<'n>>,
    /// Whether the partner may say the visitor's address and agent.
    pub trusts_client: bool,
    /// What holds for an own system's events.
    pub system: Option<OfSystem>,
}

/// What holds for the events of one of the operator's own systems.
#[derive(Clone, Copy, Debug)]
pub struct OfSystem {
    /// How long ago they may have happened.
    pub past: Duration,
}

impl Reading<'_> {
    fn our_name<'n>(&self, theirs: Cow<'n, str>) -> Cow<'n, str> {
        match self.fields {
            Some(fields) => fields.our_name(theirs),
            None => theirs,
        }
    }
}

/// Puts a query string's parameters into a draft. The first of a repeated parameter counts. `ev`
/// says what happened if the hit is an impression to begin with.
pub fn read_query<'a>(query: &'a str, reading: Reading<'_>, draft: &mut Draft<'a>) {
    let mut reader = HitReader::new(reading, draft);
    reader.read_pairs(query);
    reader.finish();
}

/// Puts the fields of a form into a draft, and the parameters of the query string that it does not
/// have.
pub(super) fn read_form<'a>(
    form: &'a str,
    query: &'a str,
    reading: Reading<'_>,
    draft: &mut Draft<'a>,
) {
    let mut reader = HitReader::new(reading, draft);
    reader.read_pairs(form);
    reader.read_pairs(query);
    reader.finish();
}

/// Puts one event's members into a draft, and the parameters of the query string that it does not
/// have. Returns false if the event is not a JSON object, or nested too deep.
pub fn read_event<'a>(
    event: &str,
    query: &'a str,
    reading: Reading<'_>,
    draft: &mut Draft<'a>,
) -> bool {
    let mut reader = HitReader::new(reading, draft);
    if !reader.read_members(event) {
        return false;
    }
    reader.read_pairs(query);
    reader.finish();
    true
}

/// What a query string names a hit's site and partner.
#[derive(Debug)]
pub struct Names<'a> {
    /// The site's key, or nothing.
    pub site: Cow<'a, str>,
    /// The partner's key, or nothing.
    pub partner: Cow<'a, str>,
}

/// Reads of a query string only which site and partner it names.
#[must_use]
pub(crate) fn read_names(query: &str) -> Names<'_> {
    let mut draft = Draft::new(UnixMicros::default(), Kind::PageView);
    read_query(query, Reading::default(), &mut draft);
    Names {
        site: draft.hit.site,
        partner: draft.hit.partner,
    }
}

/// Finishes a hit once all parameters are in: its kind follows from what happened.
fn finish<'a>(hit: &mut Hit<'a>, notes: &mut Notes<'a>) {
    match &*notes.ad_event {
        "" => {}
        _ if hit.kind == Kind::Callback => hit.event_name = mem::take(&mut notes.ad_event),
        "impression" => {}
        "click" => hit.kind = Kind::Click,
        _ => {
            hit.kind = Kind::Event;
            hit.event_name = mem::take(&mut notes.ad_event);
        }
    }
    if notes.trusts_client && !hit.user_agent.is_empty() && agent::is_impossible(&hit.user_agent) {
        hit.flags.set(Flags::BAD_AGENT);
    }
    if hit.kind == Kind::PageView && !hit.event_name.is_empty() {
        hit.kind = Kind::Event;
    }
    // A device with limited tracking has no ID, whatever the sender says.
    if notes.limits_tracking {
        hit.maid = Cow::Borrowed("");
    }
    // iOS writes UUIDs in capitals, Android does not, and networks use both.
    if hit.maid.len() == UUID_BYTES && hit.maid.bytes().any(|byte| byte.is_ascii_uppercase()) {
        hit.maid = Cow::Owned(hit.maid.to_ascii_lowercase());
    }
    // VAST says so where it knows none.
    if matches!(&*hit.creative, "-1" | "-2") {
        hit.creative = Cow::Borrowed("");
    }
}

/// The length of a UUID with its hyphens.
const UUID_BYTES: usize = 36;

/// What is noted while a hit is read, and decided once all parameters are in.
struct Notes<'a> {
    /// The bits of the known parameters that were there already.
    parameters: u32,
    /// Those of them that came from the same place as the next one: event, form or query string.
    parameters_here: u32,
    /// The bits of the signals that were said twice in one place.
    repeated: u32,
    /// What the hit was to begin with.
    kind: Kind,
    trusts_client: bool,
    system: Option<OfSystem>,
    ad_event: Cow<'a, str>,
    limits_tracking: bool,
    /// A partner was named by nothing.
    names_no_partner: bool,
    /// The site was meant under a name that is not its own.
    means_site: bool,
    /// The parameter comes after a click's signature, which does not cover it.
    is_unsigned: bool,
}

impl Notes<'_> {
    fn new(kind: Kind, reading: Reading<'_>) -> Self {
        Notes {
            parameters: 0,
            parameters_here: 0,
            repeated: 0,
            kind,
            trusts_client: reading.trusts_client,
            system: reading.system,
            ad_event: Cow::Borrowed(""),
            limits_tracking: false,
            names_no_partner: false,
            means_site: false,
            is_unsigned: false,
        }
    }
}

/// The parameters in which OpenRTB's macros say `AUDIT` if the auction is a test. Each is otherwise
/// an ID, a price or a code.
const AUDITED: [&str; 8] = [
    "auction_id",
    "bid_id",
    "imp_id",
    "seat_id",
    "ad_id",
    "price",
    "currency",
    "loss",
];

fn put_into_hit<'a>(parameter: Parameter, text: Cow<'a, str>, hit: &mut Hit<'a>) {
    match parameter {
        Parameter::Mobile => {
            hit.hints.mobile = parse_mobile(&text).or(hit.hints.mobile);
        }
        Parameter::Truncated => {
            if matches!(&*text, "1" | "true") {
                hit.flags.set(Flags::TRUNCATED);
            }
        }
        parameter => {
            if let Some(slot) = slot_of(parameter, hit)
                && !text.is_empty()
            {
                *slot = text;
            }
        }
    }
}

/// Returns where the text of a parameter belongs; `None` if no text is kept of it.
#[inline]
fn slot_of<'h, 'a>(parameter: Parameter, hit: &'h mut Hit<'a>) -> Option<&'h mut Cow<'a, str>> {
    Some(match parameter {
        Parameter::Site => &mut hit.site,
        Parameter::PageUrl => &mut hit.page_url,
        Parameter::Referrer => &mut hit.referrer,
        Parameter::EventName => &mut hit.event_name,
        Parameter::EventId => &mut hit.event_id,
        Parameter::Partner => &mut hit.partner,
        Parameter::Campaign => &mut hit.campaign,
        Parameter::Creative => &mut hit.creative,
        Parameter::Placement => &mut hit.placement,
        Parameter::Publisher => &mut hit.publisher,
        Parameter::PartnerUid => &mut hit.partner_uid,
        Parameter::Maid => &mut hit.maid,
        Parameter::DeviceId => &mut hit.device_id,
        Parameter::Category => &mut hit.category,
        Parameter::Model => &mut hit.hints.model,
        Parameter::Platform => &mut hit.hints.platform,
        Parameter::PlatformVersion => &mut hit.hints.platform_version,
        Parameter::FormFactors => &mut hit.hints.form_factors,
        Parameter::Brands => &mut hit.hints.brands,
        Parameter::ClickId => &mut hit.click_id,
        Parameter::Session => &mut hit.session_id,
        Parameter::Mobile
        | Parameter::Truncated
        | Parameter::Gdpr
        | Parameter::GdprConsent
        | Parameter::Gpp
        | Parameter::GppSid
        | Parameter::AddtlConsent
        | Parameter::CacheBuster
        | Parameter::User
        | Parameter::UserSig
        | Parameter::Link => return None,
    })
}

/// Puts a parameter that only hits of some kinds have in its place. Returns false for any other.
fn put_parameter_of_kind<'a>(
    name: &str,
    value: Option<&Cow<'a, str>>,
    hit: &mut Hit<'a>,
    notes: &mut Notes<'a>,
) -> bool {
    match (notes.kind, name) {
        (Kind::Impression | Kind::Callback, "ev") => {
            if notes.ad_event.is_empty() {
                notes.ad_event = value.cloned().unwrap_or_default();
            }
        }
        // How a request is signed and answered says nothing about the hit.
        (Kind::Click, "k" | "exp" | "sig" | "clid")
        | (Kind::Sync, "f" | "bidder" | "bounced" | "bounce" | "ts" | "sig")
        | (Kind::Callback, "token") => {}
        // A visitor's address must not get into `params`, which are stored as they are.
        (Kind::Callback, "client_ip") => {
            let ip = value.and_then(|text| text.parse().ok());
            hit.client_ip = hit.client_ip.or(ip.filter(|_| notes.trusts_client));
        }
        (Kind::Callback, "user_agent") => {
            if notes.trusts_client && hit.user_agent.is_empty() {
                let text = value.cloned().unwrap_or_default();
                hit.user_agent = clean(text, USER_AGENT_BYTES_MAX, &mut hit.flags);
            }
        }
        _ => return false,
    }
    true
}

/// The parameters that only callbacks have.
const OF_CALLBACKS: [&str; 4] = ["ev", "token", "client_ip", "user_agent"];
/// The members that only a system's events have, and those of which nothing is kept.
const OF_SYSTEMS: [&str; 4] = ["occurred_at", "permit", "client_ip", "user_agent"];

/// Puts what only a system says in its place. Returns false for any other name.
fn put_parameter_of_system(
    name: &str,
    value: &str,
    system: OfSystem,
    draft: &mut Draft<'_>,
) -> bool {
    let hit = &mut draft.hit;
    match name {
        "occurred_at" if hit.occurred_at.is_none() => {
            match read_time(value).map(|at| occurred_at(hit.received_at, at, None, system.past)) {
                Some((at, is_clamped)) => {
                    hit.occurred_at = Some(at);
                    if is_clamped {
                        hit.flags.set(Flags::CLOCK);
                    }
                }
                None => hit.flags.set(Flags::CLOCK),
            }
        }
        // Of several choices what all of them allow holds.
        "permit" => {
            let choice = draft.signals.choice;
            let permit = parse_choice(names_of_list(value).as_bytes());
            draft.signals.choice = Some(choice.map_or(permit, |choice| choice.and(permit)));
        }
        name => return OF_SYSTEMS.contains(&name),
    }
    true
}

/// Returns the names of a list, in JSON or with other marks between them, joined by dots as a
/// cookie has them.
fn names_of_list(text: &str) -> String {
    let names = match serde_json::from_str::<Vec<String>>(text) {
        Ok(names) => names,
        Err(_) => text.split([',', ' ', '.']).map(str::to_owned).collect(),
    };
    names.join(".")
}

/// Notes what a further parameter says about an ad. It is stored in `params` as well.
fn note_ad(name: &str, text: &str, hit: &mut Hit<'_>) {
    let is_test = match name {
        "preview" => matches!(text, "1" | "true"),
        name => text == "AUDIT" && AUDITED.contains(&name),
    };
    if is_test {
        hit.flags.set(Flags::PREVIEW);
    }
}

#[cfg(test)]
mod tests;
