//! The parameters of one request -> what it tells.
//!
//! | parameter | becomes |
//! | --- | --- |
//! | `idsite` | the site's alias |
//! | `url` `urlref` | `page_url` `referrer` |
//! | `cid`, `_id`, `id` | `device_id`, the first of them that is not empty |
//! | `uid` | `user_key` |
//! | `cdt` `cdo` | `occurred_at` ([`super::time`]) |
//! | `uadata` | client hints |
//! | `cip` `ua` | address and agent, from a trusted sender |
//! | `consent` | a category of that name |
//! | [`PASSED_OVER`] | nothing |
//! | any other | `params` under its own name; those of [`is_json`] as JSON |
//!
//! What happened follows from what is there, the first of: `ping`; `idgoal` (`goal`, or `order` and
//! `cart` for goal 0); `e_a` (its own name); `c_i` (`content_interaction`), `c_n`
//! (`content_impression`); `link` (`outlink`); `download`; `search` (`site_search`). A request with
//! none of them is a page view, unless `ca=1` says that it is not one.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::fields::{RequestField, RequestFields};
use super::{id, time};
use crate::clock::UnixMicros;
use crate::hit::Kind;
use crate::protocol::Arrival;
use crate::protocol::native::Parameter;
use crate::protocol::tracker::{Claims, Told, json_of, read_hints, without_fragment};
use crate::refusal::Reason;

/// What goes nowhere: what Matomo is told about the request itself, what proves something to it,
/// and what says where the visitor is, which we find by the address.
const PASSED_OVER: [&str; 13] = [
    "apiv",
    "bots",
    "city",
    "country",
    "lat",
    "long",
    "queuedtracking",
    "r",
    "rand",
    "rec",
    "region",
    "send_image",
    "token_auth",
];
/// The parameters that have places of their own.
const PLACED: [&str; 12] = [
    "_id", "cdo", "cdt", "cid", "cip", "consent", "id", "idsite", "ua", "uadata", "uid", "url",
];
/// How old a time may be that no trusted sender says, in microseconds: 24 hours, as in Matomo.
const UNTRUSTED_AGE_MAX: i64 = 24 * 60 * 60 * 1_000_000;
/// The sums of an order, which trackers write as `false` where there is none.
const SUMS: [&str; 5] = ["revenue", "ec_st", "ec_tx", "ec_sh", "ec_dt"];

/// What a request says of its sender beside its parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requester {
    now: UnixMicros,
    /// Whether a header names the page, as browsers' headers do and servers' do not.
    names_page: bool,
}

impl Requester {
    pub(super) fn of(arrival: &Arrival<'_, '_>) -> Requester {
        Requester {
            now: arrival.at,
            names_page: arrival.headers.origin.is_some() || !arrival.headers.referer.is_empty(),
        }
    }

    /// Returns whether the client keeps cookies. A page on which the tracker keeps none, and leaves
    /// the visitor's ID empty, wants none of ours either.
    fn keeps_cookies(self, fields: &RequestFields) -> bool {
        let leaves_id_empty = fields.has("_id") && fields.text("_id").is_none();
        match fields.text("cookie") {
            _ if leaves_id_empty => false,
            Some(cookie) => cookie != "0",
            None => self.names_page,
        }
    }
}

/// The parameter that marks a request as one that records something.
pub(super) const MARK: &str = "rec";

/// Returns whether a request is marked so.
pub(super) fn is_marked(fields: &RequestFields) -> bool {
    fields.text(MARK) == Some("1")
}

/// Tells an event.
///
/// # Errors
/// If it is not marked as one (`rec=1`): it belongs to no site, as Matomo has it.
pub(super) fn tell(fields: &RequestFields, sender: Requester) -> Result<Told<'static>, Reason> {
    if !is_marked(fields) {
        return Err(Reason::SiteUnknown);
    }
    let mut told = Told {
        claims: claims(fields, sender),
        ..Told::default()
    };
    let (kind, name) = read_kind(fields);
    told.kind = Some(kind);
    let mut ours = |parameter, text: &str| {
        if !text.is_empty() {
            told.ours.push((parameter, Cow::Owned(json_of(text))));
        }
    };
    ours(Parameter::EventName, name);
    let page_url = fields.text("url").map(page_url).unwrap_or_default();
    ours(Parameter::PageUrl, &page_url);
    let referrer = fields.text("urlref").map(unwrap).unwrap_or_default();
    ours(Parameter::Referrer, without_fragment(referrer));
    let visitor = visitor(fields);
    ours(Parameter::DeviceId, visitor);
    ours(Parameter::User, fields.text("uid").unwrap_or_default());
    if let Some(id) = id::event_id(fields, &told.claims.site_alias, visitor) {
        ours(Parameter::EventId, &id.text);
        told.claims.is_event_id_personal = id.is_of_visitor;
    }
    let mut hints = Vec::new();
    read_hints(fields.text("uadata").unwrap_or_default(), &mut hints);
    for (parameter, json) in hints {
        told.ours.push((parameter, Cow::Owned(json.into_owned())));
    }
    put_params(&mut told, fields, name);
    Ok(told)
}

/// Returns the tracker's ID of the visitor; empty if there is none.
fn visitor(fields: &RequestFields) -> &str {
    let names = ["cid", "_id", "id"];
    let mut texts = names.into_iter().filter_map(|name| fields.text(name));
    texts.next().unwrap_or_default()
}

fn claims(fields: &RequestFields, sender: Requester) -> Claims {
    let text = |name| fields.text(name).map(unwrap).unwrap_or_default();
    let made_at = time::made_at(fields, sender.now);
    let is_old = |made_at: UnixMicros| sender.now.0.saturating_sub(made_at.0) > UNTRUSTED_AGE_MAX;
    let flags: Vec<&str> = fields
        .iter()
        .filter(|field| field.name == "consent" && is_flag(&field.text))
        .map(|field| &*field.text)
        .collect();
    // Of several, one that does not agree counts.
    let is_agreed = flags.iter().all(|flag| *flag == "1");
    let is_told = flags.iter().any(|flag| !flag.is_empty());
    Claims {
        site_alias: text("idsite").trim().to_owned(),
        client_ip: text("cip").trim().parse().ok(),
        user_agent: text("ua").to_owned(),
        made_at,
        needs_trust_for_time: made_at.is_some_and(is_old),
        categories: is_told
            .then(|| ("consent".to_owned(), is_agreed))
            .into_iter()
            .collect(),
        keeps_cookies: sender.keeps_cookies(fields),
        ..Claims::default()
    }
}

/// Returns the kind of an event and its name, which a page view has none of.
fn read_kind(fields: &RequestFields) -> (Kind, &str) {
    let has = |name: &str| fields.text(name).is_some();
    let action = fields.text("e_a").or_else(|| fields.text("e_c"));
    let name = if fields.text("ping") == Some("1") {
        "ping"
    } else if let Some(goal) = fields.text("idgoal") {
        match goal {
            "0" if has("ec_id") => "order",
            "0" => "cart",
            _ => "goal",
        }
    } else if let Some(action) = action {
        action
    } else if has("c_n") && has("c_i") {
        "content_interaction"
    } else if has("c_n") {
        "content_impression"
    } else if has("link") {
        "outlink"
    } else if has("download") {
        "download"
    } else if has("search") {
        "site_search"
    } else if fields.text("ca") == Some("1") {
        ""
    } else {
        return (Kind::PageView, "");
    };
    (Kind::Event, name)
}

/// Puts what has no other place into `params`, and an order's number and sum under our own names.
fn put_params(told: &mut Told<'_>, fields: &RequestFields, name: &str) {
    let is_param = |field: &&RequestField| {
        let name = &*field.name;
        let is_no_sum = field.text == "false" && SUMS.contains(&name);
        if name == "consent" && !is_flag(&field.text) {
            // A consent string belongs elsewhere, and must not get lost without a word.
            return true;
        }
        !(PASSED_OVER.contains(&name) || PLACED.contains(&name) || name == "urlref" || is_no_sum)
    };
    for field in fields.iter().filter(is_param) {
        let json = if is_json(&field.name) && is_sound(&field.text) {
            field.text.clone()
        } else {
            field.json()
        };
        told.params
            .push((Cow::Owned(field.name.clone()), Cow::Owned(json)));
    }
    if matches!(name, "goal" | "order" | "cart") {
        for (own, ours) in [("ec_id", "order_id"), ("revenue", "value")] {
            if let Some(text) = fields.text(own).filter(|text| *text != "false") {
                let json = Cow::Owned(json_of(text));
                told.params.push((Cow::Borrowed(ours), json));
            }
        }
    }
}

/// Returns whether a text is a yes or a no.
fn is_flag(text: &str) -> bool {
    matches!(text, "" | "0" | "1")
}

/// Returns whether the value of a parameter may be JSON.
fn is_json(name: &str) -> bool {
    let is_dimension = || {
        let number = name.strip_prefix("dimension");
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    matches!(name, "cvar" | "_cvar" | "e_cvar" | "data" | "ec_items") || is_dimension()
}

/// Returns whether a text is an object or an array.
fn is_sound(text: &str) -> bool {
    text.starts_with(['{', '[']) && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Returns a text without Python's mark of bytes, which a tracker puts around what it has from
/// headers: `b'https://…'`.
fn unwrap(text: &str) -> &str {
    let inner = text
        .strip_prefix("b'")
        .and_then(|text| text.strip_suffix('\''));
    inner.unwrap_or(text)
}

/// Returns the address of a page without its fragment. That tracker puts the query there.
fn page_url(text: &str) -> Cow<'_, str> {
    let text = unwrap(text);
    let query = text.split_once("#b'");
    match query.and_then(|(page, query)| Some((page, query.strip_suffix('\'')?))) {
        Some((page, "")) => Cow::Borrowed(page),
        Some((page, query)) => Cow::Owned(format!("{page}?{query}")),
        None => Cow::Borrowed(without_fragment(text)),
    }
}
