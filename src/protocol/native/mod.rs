//! An HTTP request -> a [`Hit`] and the consent [`Signals`] that came with it. Pure.
//!
//! What the sender wrote is never trusted to be clean: a text is percent-decoded once (twice where a
//! macro encoded what was encoded already), cut at its limit on a character's border, and freed of what
//! Postgres cannot hold; the hit's flags say that it happened. An unexpanded macro of an ad network
//! counts as absent. A visitor's ID or address is never taken from a parameter.
//!
//! docs/parameters.md lists the parameters; the limits stand here.

mod json;
mod parameter;
mod params;

pub use json::{EVENTS_MAX, event_hit, event_hit_as, events};

use std::borrow::Cow;

use memchr::memchr;

use crate::callback::names::{self, Fields};
use crate::consent::Signals;
use crate::hit::limits::{TEXT_BYTES_MAX, USER_AGENT_BYTES_MAX};
use crate::request::agent;

use crate::hit::{Flags, Hit, Kind};
use crate::request::mobile;
use crate::request::text::{clean, decode};
use parameter::{Parameter, limit};
use params::{Params, push_json_text};

/// Puts a query string's parameters into `hit` and `signals`. The first of a repeated parameter
/// counts. `ev` says what happened where the hit is an impression to begin with.
pub fn query<'a>(query: &'a str, hit: &mut Hit<'a>, signals: &mut Signals<'a>) {
    query_as(query, Reading::default(), hit, signals);
}

/// How a partner's callbacks are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading<'n> {
    /// What the partner calls things.
    pub fields: Option<Fields<'n>>,
    /// Whether the partner is believed what it says of the visitor's address and agent.
    pub trusts_client: bool,
}

impl Reading<'_> {
    fn ours<'n>(&self, theirs: Cow<'n, str>) -> Cow<'n, str> {
        match self.fields {
            Some(fields) => fields.ours(theirs),
            None => theirs,
        }
    }
}

/// Like [`query`], under a partner's names.
pub fn query_as<'a>(
    query: &'a str,
    reading: Reading<'_>,
    hit: &mut Hit<'a>,
    signals: &mut Signals<'a>,
) {
    let mut params = Params::default();
    let mut seen = Seen::of(hit.kind, reading);
    for (name, raw) in pairs(query) {
        let mut flags = Flags::default();
        let Some(name) = decode(name, TEXT_BYTES_MAX, &mut flags) else {
            hit.flags.set(flags);
            continue;
        };
        let name = reading.ours(name);
        let value = decode(raw, limit(&name), &mut flags);
        hit.flags.set(flags);
        if let Some(value) = put(&name, value, hit, signals, &mut seen)
            && !(hit.kind == Kind::Callback && names::is_personal(&name))
        {
            params.push(&name, |out| push_json_text(out, &value), &mut hit.flags);
        }
    }
    hit.params = params.finish();
    finish(hit, seen);
}

/// The parameters of a query string: name and value, as sent.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = query;
    std::iter::from_fn(move || {
        loop {
            let end = memchr(b'&', rest.as_bytes()).unwrap_or(rest.len());
            let (pair, behind) = rest.split_at_checked(end)?;
            rest = behind.get(1..).unwrap_or_default();
            if !pair.is_empty() {
                return Some(pair.split_once('=').unwrap_or((pair, "")));
            } else if behind.is_empty() {
                return None;
            }
        }
    })
}

/// The last touch once all parameters are in: the kind follows from what happened.
fn finish<'a>(hit: &mut Hit<'a>, seen: Seen<'a>) {
    match &*seen.ad_event {
        "" => {}
        _ if hit.kind == Kind::Callback => hit.event_name = seen.ad_event,
        "impression" => {}
        "click" => hit.kind = Kind::Click,
        _ => {
            hit.kind = Kind::Event;
            hit.event_name = seen.ad_event;
        }
    }
    if seen.trusts_client && !hit.user_agent.is_empty() && agent::is_impossible(&hit.user_agent) {
        hit.flags.set(Flags::BAD_AGENT);
    }
    if hit.kind == Kind::PageView && !hit.event_name.is_empty() {
        hit.kind = Kind::Event;
    }
    // A limited device has no ID, whatever the sender calls it.
    if seen.limits_tracking || hit.maid.bytes().all(|byte| matches!(byte, b'0' | b'-')) {
        hit.maid = Cow::Borrowed("");
    }
    // iOS writes UUIDs in capitals, Android does not, and networks as they like.
    if hit.maid.len() == UUID_BYTES && hit.maid.bytes().any(|byte| byte.is_ascii_uppercase()) {
        hit.maid = Cow::Owned(hit.maid.to_ascii_lowercase());
    }
    // What VAST says where it knows no ID.
    for id in [
        &mut hit.partner_uid,
        &mut hit.device_id,
        &mut hit.maid,
        &mut hit.creative,
    ] {
        if matches!(&**id, "-1" | "-2") {
            *id = Cow::Borrowed("");
        }
    }
}

/// The length of a UUID with its hyphens.
const UUID_BYTES: usize = 36;

/// Which of the known parameters were there already, and what is decided once all are in.
struct Seen<'a> {
    /// Their bits.
    parameters: u32,
    /// What the hit was to begin with.
    kind: Kind,
    trusts_client: bool,
    ad_event: Cow<'a, str>,
    limits_tracking: bool,
}

impl Seen<'_> {
    fn of(kind: Kind, reading: Reading<'_>) -> Self {
        Seen {
            parameters: 0,
            kind,
            trusts_client: reading.trusts_client,
            ad_event: Cow::Borrowed(""),
            limits_tracking: false,
        }
    }
}

/// What OpenRTB's macros give in an auction that is a test; none of these is anything but an ID, a price or
/// a code.
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

/// Puts a parameter in its place; gives the value of a further one back.
fn put<'a>(
    name: &str,
    value: Option<Cow<'a, str>>,
    hit: &mut Hit<'a>,
    signals: &mut Signals<'a>,
    seen: &mut Seen<'a>,
) -> Option<Cow<'a, str>> {
    if put_of_kind(name, value.as_ref(), hit, seen) {
        return None;
    }
    let Some(parameter) = Parameter::named(name) else {
        note_ad(name, value.as_deref().unwrap_or_default(), hit, seen);
        return value;
    };
    if seen.parameters & parameter.bit() != 0 {
        return None;
    }
    seen.parameters |= parameter.bit();
    let text = value.unwrap_or_default();
    let signal = match parameter {
        Parameter::Gdpr => &mut signals.gdpr,
        Parameter::GdprConsent => &mut signals.tcf,
        Parameter::Gpp => &mut signals.gpp,
        Parameter::GppSid => &mut signals.gpp_sid,
        _ => {
            put_into_hit(parameter, text, hit);
            return None;
        }
    };
    *signal = Some(text);
    None
}

fn put_into_hit<'a>(parameter: Parameter, text: Cow<'a, str>, hit: &mut Hit<'a>) {
    let slot = match parameter {
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
        Parameter::Mobile => {
            hit.hints.mobile = mobile(&text).or(hit.hints.mobile);
            return;
        }
        Parameter::Gdpr
        | Parameter::GdprConsent
        | Parameter::Gpp
        | Parameter::GppSid
        | Parameter::AddtlConsent
        | Parameter::CacheBuster => return,
    };
    if !text.is_empty() {
        *slot = text;
    }
}

/// Puts a parameter that only hits of some kinds have in its place; false for any other.
fn put_of_kind<'a>(
    name: &str,
    value: Option<&Cow<'a, str>>,
    hit: &mut Hit<'a>,
    seen: &mut Seen<'a>,
) -> bool {
    match (seen.kind, name) {
        (Kind::Impression | Kind::Callback, "ev") => {
            if seen.ad_event.is_empty() {
                seen.ad_event = value.cloned().unwrap_or_default();
            }
        }
        // How it is signed and answered says nothing of the hit.
        (Kind::Click, "k" | "exp" | "sig" | "clid")
        | (Kind::Sync, "f" | "bidder" | "bounced" | "bounce")
        | (Kind::Callback, "token") => {}
        // A visitor's address must not come to stand in `params`, which is kept as it is.
        (Kind::Callback, "client_ip") => {
            let ip = value.and_then(|text| text.parse().ok());
            hit.client_ip = hit.client_ip.or(ip.filter(|_| seen.trusts_client));
        }
        (Kind::Callback, "user_agent") => {
            if seen.trusts_client && hit.user_agent.is_empty() {
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

/// Notes what a further parameter says of an ad; it is kept in `params` all the same.
fn note_ad(name: &str, text: &str, hit: &mut Hit<'_>, seen: &mut Seen<'_>) {
    let is_true = matches!(text, "1" | "true");
    match name {
        "preview" if is_true => hit.flags.set(Flags::PREVIEW),
        "lat" => seen.limits_tracking |= is_true,
        name if text == "AUDIT" && AUDITED.contains(&name) => hit.flags.set(Flags::PREVIEW),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
