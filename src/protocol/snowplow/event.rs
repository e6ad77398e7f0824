//! One event: its members, one after the other.
//!
//! | members | become |
//! | --- | --- |
//! | `e` | the kind and the name: none for `pv`, a page view; `page_ping` for `pp`, `event` for `se`, `transaction` and `transaction_item` for `tr` and `ti`, the name of the schema for `ue` |
//! | `eid` `url` `refr` `duid` `uid` `sid` | event ID, page, referrer, device ID, user, session |
//! | `aid` | the site's alias |
//! | `dtm` `stm` `ttm` | when it happened: `ttm` as it is, else `dtm`, corrected by `stm` |
//! | `ip` `ua` | address and agent, from a server that is trusted; never stored as they are |
//! | `nuid` `tnuid` `fp` `mac` | nothing: IDs that this collector does not give or take |
//! | `ue_pr` `ue_px` | `ue`: what happened, with its schema |
//! | `co` `cx` | `co`: the contexts, with their schemas |
//! | `tr_id` `tr_tt` `tr_cu` | `order_id`, `value` and `currency` besides |
//! | all others | `params`, under their own names |

use std::borrow::Cow;
use std::mem;
use std::ops::Range;

use memchr::memchr;

use super::document::{self, Contexts};
use super::webhook;
use crate::clock::UnixMicros;
use crate::consent::names::means_signal;
use crate::hit::Kind;
use crate::protocol::native::Parameter;
use crate::protocol::tracker::{Told, json_of, without_fragment};

/// How the versions of trackers begin that keep cookies: those of pages, and Android's.
const KEEPING_COOKIES: [&str; 3] = ["js-", "no-js-", "andr-"];

/// The name of the member that is to blame for an event that is none; empty if no one is.
pub(super) type Blame = &'static str;

/// The text of a document, and the member that it was in.
type Text<'e> = (Blame, Cow<'e, str>);

/// The value of a member.
pub(super) enum MemberValue<'e> {
    /// As JSON.
    Json(&'e str),
    /// As text.
    Text(Cow<'e, str>),
}

impl<'e> MemberValue<'e> {
    fn is_empty(&self) -> bool {
        match self {
            MemberValue::Json(json) => matches!(*json, "\"\"" | "null"),
            MemberValue::Text(text) => text.is_empty(),
        }
    }

    /// Returns whether an empty value says something under that name.
    fn is_said_of(&self, name: &str) -> bool {
        !matches!(self, MemberValue::Json("null")) && means_signal(name)
    }

    fn into_json(self) -> Cow<'e, str> {
        match self {
            MemberValue::Json(json) => Cow::Borrowed(json),
            MemberValue::Text(text) => Cow::Owned(json_of(&text)),
        }
    }

    /// Returns the text. A number and a truth value are texts too; a list and an object are none.
    fn into_text(self) -> Option<Cow<'e, str>> {
        match self {
            MemberValue::Json(json) => text_of(json),
            MemberValue::Text(text) => Some(text),
        }
    }

    /// Returns the text of a document in Base64.
    fn into_decoded(self) -> Option<Cow<'e, str>> {
        document::decode_base64(&self.into_text()?).map(Cow::Owned)
    }

    /// Returns the text of a document, which may also stand in the event as it is.
    fn into_document(self) -> Option<Cow<'e, str>> {
        match self {
            MemberValue::Json(json) if json.starts_with('{') => Some(Cow::Borrowed(json)),
            value => value.into_text(),
        }
    }
}

/// Returns a scalar's text.
pub(super) fn text_of(json: &str) -> Option<Cow<'_, str>> {
    match json.strip_prefix('"') {
        Some(inner) if memchr(b'\\', inner.as_bytes()).is_none() => {
            Some(Cow::Borrowed(inner.strip_suffix('"')?))
        }
        Some(_) => serde_json::from_str(json).ok().map(Cow::Owned),
        None if json.starts_with(['{', '[', 'n']) => None,
        None => Some(Cow::Borrowed(json)),
    }
}

/// An event while its members come in.
#[derive(Default)]
pub(super) struct SnowplowEvent<'e> {
    told: Told<'e>,
    /// What `e` says.
    kind: String,
    /// The texts that say what happened and what was around it.
    happened: Option<Text<'e>>,
    contexts: Vec<Text<'e>>,
    /// What contexts say that counts after the event's own members, and after that.
    pub(super) later: Vec<(Parameter, String)>,
    pub(super) last: Vec<(Parameter, String)>,
    /// Further parameters that have a second name.
    pub(super) further: Vec<(&'static str, String)>,
    is_true_time: bool,
    /// Whether a member names a schema, as a webhook's do.
    names_schema: bool,
}

impl<'e> SnowplowEvent<'e> {
    pub(super) fn new(is_anonymous: bool) -> SnowplowEvent<'e> {
        let mut event = SnowplowEvent::default();
        event.told.claims.is_anonymous = is_anonymous;
        event
    }

    pub(super) fn put_ours(&mut self, parameter: Parameter, json: Cow<'e, str>) {
        self.told.ours.push((parameter, json));
    }

    /// Puts a member in its place.
    ///
    /// # Errors
    /// Its name, if it holds a document that cannot be decoded.
    pub(super) fn put(&mut self, name: Cow<'e, str>, value: MemberValue<'e>) -> Result<(), Blame> {
        if value.is_empty() && !value.is_said_of(&name) {
            return Ok(());
        }
        match &*name {
            "eid" => self.put_ours(Parameter::EventId, value.into_json()),
            "url" => self.put_url(Parameter::PageUrl, value),
            "refr" => self.put_url(Parameter::Referrer, value),
            "duid" => self.put_ours(Parameter::DeviceId, value.into_json()),
            "uid" => self.put_ours(Parameter::User, value.into_json()),
            "sid" => self.put_ours(Parameter::Session, value.into_json()),
            "ue_pr" => self.note_time(("ue_pr", value.into_document().ok_or("ue_pr")?)),
            "ue_px" => self.note_time(("ue_px", value.into_decoded().ok_or("ue_px")?)),
            "co" => self
                .contexts
                .push(("co", value.into_document().ok_or("co")?)),
            "cx" => self
                .contexts
                .push(("cx", value.into_decoded().ok_or("cx")?)),
            "ip" => {
                let text = value.into_text().unwrap_or_default();
                self.told.claims.client_ip = text.trim().parse().ok();
            }
            "ua" => self.told.claims.user_agent = value.into_text().unwrap_or_default().into(),
            // The last is no tracker's, and is a document here.
            "nuid" | "tnuid" | "fp" | "mac" | "ue" => self.told.dropped.push(value.into_json()),
            _ => self.put_param(name, value.into_json()),
        }
        Ok(())
    }

    /// Notes what happened. The first document counts.
    fn note_time(&mut self, text: Text<'e>) {
        match self.happened {
            None => self.happened = Some(text),
            Some(_) => self.drop_document(text.0, &text.1),
        }
    }

    /// Drops a member that another one of its name outweighs. What it says of consent still counts.
    pub(super) fn drop_member(&mut self, name: &str, value: MemberValue<'e>) {
        let document = match name {
            "ue_pr" | "co" => value.into_document(),
            "ue_px" | "cx" => value.into_decoded(),
            _ => {
                let member = format!("{{{}:{}}}", json_of(name), value.into_json());
                return self.told.dropped.push(member.into());
            }
        };
        if let Some(text) = document {
            self.drop_document(name, &text);
        }
    }

    fn drop_document(&mut self, name: &str, text: &str) {
        let refuses = match name {
            "co" | "cx" => {
                let mut event = SnowplowEvent::default();
                Contexts::default().read(text, &mut event);
                event.told.claims.refuses
            }
            _ => document::read_happened(text).is_some_and(|happened| happened.refuses),
        };
        self.note_refusal(refuses);
        self.told.dropped.push(json_of(text).into());
    }

    /// Puts a member among the further parameters, and notes what else it says.
    fn put_param(&mut self, name: Cow<'e, str>, json: Cow<'e, str>) {
        let claims = &mut self.told.claims;
        let text = || text_of(&json).unwrap_or_default();
        match &*name {
            "e" if self.kind.is_empty() => self.kind = text().into_owned(),
            "aid" if claims.site_alias.is_empty() => claims.site_alias = text().into_owned(),
            "tv" => {
                let version = text();
                claims.keeps_cookies = KEEPING_COOKIES
                    .iter()
                    .any(|start| version.starts_with(start));
            }
            "ttm" => {
                let time = read_millis(&text());
                claims.made_at = time.or(claims.made_at);
                self.is_true_time |= time.is_some();
            }
            "dtm" => claims.made_at = claims.made_at.or_else(|| read_millis(&text())),
            "stm" => claims.sent_at = claims.sent_at.or_else(|| read_millis(&text())),
            webhook::SCHEMA => self.names_schema = true,
            "tr_id" => self.further.push(("order_id", json.clone().into_owned())),
            "tr_tt" => self.further.push(("value", json.clone().into_owned())),
            "tr_cu" => self.further.push(("currency", json.clone().into_owned())),
            _ => {}
        }
        self.told.params.push((name, json));
    }

    /// Notes that a record of a dialogue says that the visitor refuses.
    pub(super) fn note_refusal(&mut self, refuses: bool) {
        self.told.claims.refuses |= refuses;
    }

    /// Adds values, as JSON, of which nothing is kept.
    pub(super) fn drop_values(&mut self, values: Vec<String>) {
        let values = values.into_iter().map(Cow::Owned);
        self.told.dropped.extend(values);
    }

    /// Returns whether the members name a schema, and no type of an event.
    pub(super) fn names_schema_alone(&self) -> bool {
        self.names_schema && self.kind.is_empty()
    }

    /// Notes where a link leads that was followed: what happened, or a context of that.
    pub(super) fn redirect_to(&mut self, target: &str) {
        let uri = "iglu:com.snowplowanalytics.snowplow/uri_redirect/jsonschema/1-0-0";
        let document = serde_json::json!({"schema": uri, "data": {"uri": target}});
        if self.kind.is_empty() {
            self.put_param("e".into(), "\"ue\"".into());
            self.note_time(("u", format!("{{\"data\":{document}}}").into()));
        } else {
            self.contexts
                .push(("u", format!("{{\"data\":[{document}]}}").into()));
        }
    }

    /// Puts an address in its place, without its fragment, which may hold secrets.
    fn put_url(&mut self, parameter: Parameter, value: MemberValue<'e>) {
        if let MemberValue::Json(json) = value
            && json.starts_with('"')
            && memchr(b'#', json.as_bytes()).is_none()
        {
            self.put_ours(parameter, Cow::Borrowed(json));
            return;
        }
        if let Some(text) = value.into_text() {
            let url = json_of(without_fragment(&text));
            self.put_ours(parameter, url.into());
        }
    }

    /// Returns what the event tells.
    ///
    /// # Errors
    /// The member that is to blame if it is of no known type, or a document cannot be read.
    pub(super) fn finish(mut self) -> Result<Told<'e>, Blame> {
        let happened = match self.happened.take() {
            Some((name, text)) => Some(document::read_happened(&text).ok_or(name)?),
            None => None,
        };
        let mut contexts = Contexts::default();
        for (name, text) in mem::take(&mut self.contexts) {
            contexts.read(&text, &mut self).ok_or(name)?;
        }
        let name = match &*self.kind {
            "pv" => None,
            "pp" => Some("\"page_ping\""),
            "se" | "ev" => Some("\"event\""),
            "tr" => Some("\"transaction\""),
            "ti" => Some("\"transaction_item\""),
            "ad" => Some("\"ad_impression\""),
            "ue" if happened.is_some() => None,
            "ue" => return Err("ue_pr"),
            _ => return Err("e"),
        };
        let is_page_view = self.kind == "pv";
        let kind = if is_page_view {
            Kind::PageView
        } else {
            Kind::Event
        };
        self.told.kind = Some(kind);
        if let Some(name) = name {
            self.put_ours(Parameter::EventName, name.into());
        }
        // Where there is no room for all, the documents are kept.
        let others = mem::take(&mut self.told.params);
        if let Some(happened) = happened {
            self.note_refusal(happened.refuses);
            self.drop_values(happened.dropped);
            if self.kind == "ue" {
                self.put_ours(Parameter::EventName, happened.name.into());
            }
            self.put_document(
                "ue",
                happened.json,
                happened.understood.into_iter().collect(),
            );
        }
        if let Some((json, understood)) = contexts.finish() {
            self.put_document("co", json, understood);
        }
        let further = self.further.into_iter();
        let further = further.map(|(name, json)| (name.into(), json.into()));
        self.told.params.extend(others.into_iter().chain(further));
        for (parameter, json) in self.later.into_iter().chain(self.last) {
            self.told.ours.push((parameter, json.into()));
        }
        if self.is_true_time {
            self.told.claims.sent_at = None;
        }
        Ok(self.told)
    }

    fn put_document(&mut self, name: &'static str, json: String, understood: Vec<Range<usize>>) {
        let at = self.told.params.len();
        let understood = understood.into_iter().map(|range| (at, range));
        self.told.understood.extend(understood);
        self.told.params.push((name.into(), json.into()));
    }
}

/// Reads a time in milliseconds since 1970.
fn read_millis(text: &str) -> Option<UnixMicros> {
    let millis: i64 = text.trim().parse().ok()?;
    millis.checked_mul(1000).map(UnixMicros)
}
