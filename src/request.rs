//! An HTTP request -> a [`Hit`] and the consent [`Signals`] that came with it. Pure.
//!
//! What the sender wrote is never trusted to be clean: a text is percent-decoded once (twice where a
//! macro encoded what was encoded already), cut at its limit on a character's border, and freed of what
//! Postgres cannot hold; the hit's flags say that it happened. An unexpanded macro of an ad network
//! counts as absent. A visitor's ID or address is never taken from a parameter.
//!
//! docs/parameters.md lists the parameters; the limits stand here.

mod address;
mod agent;
mod fields;
mod json;
mod text;

pub use address::{ForwardedHeader, client_ip, forwarded_https};
pub use fields::{Fields, Mapping};
pub use json::{EVENTS_MAX, event_hit, event_hit_as, events};
pub(crate) use text::is_encoded_still;

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use crate::hit::{Flags, Hit, Kind};
use text::{clean, decode, decode_utf8, is_macro};

/// The longest request target, in bytes.
pub const URI_BYTES_MAX: usize = 8 * 1024;
/// The longest URL stored, in bytes; a longer one is cut.
pub const URL_BYTES_MAX: usize = 2048;
/// The longest user agent stored, in bytes; a longer one is cut.
pub const USER_AGENT_BYTES_MAX: usize = 512;
/// The longest ID or name stored, in bytes; a longer one is cut.
pub const TEXT_BYTES_MAX: usize = 256;
/// The longest event name and event ID, in bytes.
pub const EVENT_BYTES_MAX: usize = 128;
/// The longest click ID, in bytes: ours have 22 characters, those of others more.
pub const CLICK_ID_BYTES_MAX: usize = 64;
/// The most further parameters of one hit; later ones are left out.
pub const PARAMS_MAX: usize = 64;
/// The most bytes of further parameters, as JSON; what goes beyond is left out.
pub const PARAMS_BYTES_MAX: usize = 4096;

/// The consent signals of one request, as sent. `Some("")` is a signal that says nothing, which is
/// no consent: an unexpanded macro is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signals<'a> {
    /// `gdpr=0|1`.
    pub gdpr: Option<Cow<'a, str>>,
    /// `gdpr_consent`: a TC string.
    pub tcf: Option<Cow<'a, str>>,
    /// `gpp`: a GPP string.
    pub gpp: Option<Cow<'a, str>>,
    /// `gpp_sid`: the IDs of the sections in force, separated by commas.
    pub gpp_sid: Option<Cow<'a, str>>,
    /// The header `Sec-GPC: 1`.
    pub gpc: bool,
    /// The value of the first-party choice cookie.
    pub choice: Option<&'a str>,
}

/// One pass over the headers: what the request path needs of them.
#[derive(Debug, Default)]
pub struct Headers<'a> {
    /// The `Host` header, where there was exactly one.
    pub host: Option<&'a str>,
    /// How many `Host` headers there were.
    pub hosts: usize,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<&'a str>,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Content-Length` above zero.
    pub has_length: bool,
    /// How many `Transfer-Encoding` headers there were.
    pub transfer_encodings: usize,
    /// `Transfer-Encoding: chunked`, once and nothing else.
    pub is_chunked: bool,
    /// `Sec-GPC: 1`.
    pub gpc: bool,
    /// `Sec-Purpose: prefetch` or prerender, also under its old names.
    pub prefetch: bool,
    /// `X-Purpose: preview` or `Sec-Purpose: preview`: a thumbnail.
    pub preview: bool,
    cookies: Vec<&'a HeaderValue>,
    user_agent: &'a [u8],
    referer: &'a [u8],
    hints: [&'a [u8]; HINTS.len()],
}

const HINTS: [&str; 6] = [
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-ch-ua-platform-version",
    "sec-ch-ua-model",
    "sec-ch-ua-form-factors",
];

impl<'a> Headers<'a> {
    /// Reads the headers once.
    #[must_use]
    pub fn read(map: &'a HeaderMap) -> Headers<'a> {
        let mut headers = Headers::default();
        for (name, value) in map {
            headers.take(name, value);
        }
        headers
    }

    fn take(&mut self, name: &HeaderName, value: &'a HeaderValue) {
        let text = || value.to_str().ok();
        match name.as_str() {
            "host" => {
                self.hosts += 1;
                self.host = text();
            }
            "user-agent" => self.user_agent = value.as_bytes(),
            "referer" => self.referer = value.as_bytes(),
            "cookie" => self.cookies.push(value),
            "origin" => self.origin = text(),
            "content-type" => self.content_type = text(),
            "content-length" => self.has_length = value.as_bytes() != b"0",
            "transfer-encoding" => {
                self.transfer_encodings += 1;
                self.is_chunked = self.transfer_encodings == 1
                    && value.as_bytes().eq_ignore_ascii_case(b"chunked");
            }
            "sec-gpc" => self.gpc = value.as_bytes() == b"1",
            "sec-fetch-site" => self.fetch_site = text(),
            "sec-purpose" | "purpose" | "x-purpose" | "x-moz" => {
                let value = value.as_bytes();
                self.prefetch |= value.starts_with(b"prefetch");
                self.preview |= value.starts_with(b"preview");
            }
            name => {
                if let Some(at) = HINTS.iter().position(|hint| *hint == name)
                    && let Some(slot) = self.hints.get_mut(at)
                {
                    *slot = value.as_bytes();
                }
            }
        }
    }

    /// The values of each cookie of that name, in the order sent. Cookies are parted as bytes: those of
    /// other programs on the domain need not be ASCII, and must not hide ours.
    pub fn cookies<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a str> + 'h {
        self.cookies
            .iter()
            .flat_map(|header| header.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|pair| str::from_utf8(pair).ok())
            .filter_map(move |pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
    }

    /// The host of the page that sent the request: of `Origin`, else of `Referer`.
    #[must_use]
    pub fn page_host(&self) -> Option<&'a str> {
        let url = match self.origin {
            Some(origin) if origin != "null" => origin,
            _ => str::from_utf8(self.referer).ok()?,
        };
        let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(name),
            _ => Some(host),
        }
    }

    /// The consent signals among the headers.
    #[must_use]
    pub fn signals(&self, choice_name: &str) -> Signals<'a> {
        Signals {
            gpc: self.gpc,
            choice: self.cookies(choice_name).next(),
            ..Signals::default()
        }
    }

    /// Puts into `hit` what the headers say of it.
    pub fn fill(&self, hit: &mut Hit<'a>) {
        let mut flags = hit.flags;
        hit.user_agent = clean(
            decode_utf8(self.user_agent, &mut flags),
            USER_AGENT_BYTES_MAX,
            &mut flags,
        );
        hit.page_url = clean(
            decode_utf8(self.referer, &mut flags),
            URL_BYTES_MAX,
            &mut flags,
        );
        let mut hint = |at: usize| {
            let bytes = self.hints.get(at).copied().unwrap_or_default();
            clean(decode_utf8(bytes, &mut flags), TEXT_BYTES_MAX, &mut flags)
        };
        hit.hints.brands = hint(0);
        hit.hints.mobile = mobile(&hint(1));
        hit.hints.platform = unquoted(hint(2));
        hit.hints.platform_version = unquoted(hint(3));
        hit.hints.model = unquoted(hint(4));
        hit.hints.form_factors = hint(5);
        if self.prefetch {
            flags.set(Flags::PREFETCH);
        }
        if self.preview {
            flags.set(Flags::PREVIEW);
        }
        if agent::is_impossible(&hit.user_agent) {
            flags.set(Flags::BAD_AGENT);
        }
        hit.flags = flags;
    }
}

fn mobile(text: &str) -> Option<bool> {
    match text {
        "?1" | "1" | "true" => Some(true),
        "?0" | "0" | "false" => Some(false),
        _ => None,
    }
}

/// A structured-header string without its quotes (RFC 9651, section 3.3.3; hints hold no escapes).
fn unquoted(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim().trim_matches('"')),
        Cow::Owned(text) => Cow::Owned(text.trim().trim_matches('"').to_owned()),
    }
}

/// Puts a query string's parameters into `hit` and `signals`. The first of a repeated parameter
/// counts. `ev` says what happened where the hit is an impression to begin with.
pub fn query<'a>(query: &'a str, hit: &mut Hit<'a>, signals: &mut Signals<'a>) {
    query_as(query, Reading::default(), hit, signals);
}

/// How a partner's callbacks are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading<'n> {
    /// What the partner calls things.
    pub fields: Option<&'n Fields>,
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
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
        let mut flags = Flags::default();
        let Some(name) = decode(name, TEXT_BYTES_MAX, &mut flags) else {
            hit.flags.set(flags);
            continue;
        };
        let name = reading.ours(name);
        let value = decode(raw, limit(&name), &mut flags);
        hit.flags.set(flags);
        if !put(&name, value.as_ref(), hit, signals, &mut seen)
            && let Some(value) = value
            && !(hit.kind == Kind::Callback && fields::is_personal(&name))
        {
            params.push(&name, |out| push_json_text(out, &value), &mut hit.flags);
        }
    }
    hit.params = params.finish();
    finish(hit, seen);
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
    places: u32,
    /// What the hit was to begin with.
    kind: Kind,
    trusts_client: bool,
    ad_event: Cow<'a, str>,
    limits_tracking: bool,
}

impl Seen<'_> {
    fn of(kind: Kind, reading: Reading<'_>) -> Self {
        Seen {
            places: 0,
            kind,
            trusts_client: reading.trusts_client,
            ad_event: Cow::Borrowed(""),
            limits_tracking: false,
        }
    }
}

/// Each known parameter's limit; further parameters have the limit of all of them together.
fn limit(name: &str) -> usize {
    match name {
        "site" => 64,
        "u" | "ref" => URL_BYTES_MAX,
        "e" | "id" | "ev" => EVENT_BYTES_MAX,
        "avclid" | "click_id" => CLICK_ID_BYTES_MAX,
        "gdpr_consent" | "gpp" | "addtl_consent" => URI_BYTES_MAX,
        name if KNOWN.contains(&name) => TEXT_BYTES_MAX,
        _ => PARAMS_BYTES_MAX,
    }
}

const KNOWN: [&str; 28] = [
    "site",
    "u",
    "ref",
    "e",
    "id",
    "partner",
    "campaign",
    "creative",
    "placement",
    "publisher",
    "uid",
    "maid",
    "did",
    "cat",
    "ch_model",
    "ch_platform",
    "ch_platform_version",
    "ch_mobile",
    "ch_form_factors",
    "ch_brands",
    "gdpr",
    "gdpr_consent",
    "gpp",
    "gpp_sid",
    "addtl_consent",
    "cb",
    "avclid",
    "click_id",
];

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

/// Puts one known parameter in its place; false for a further parameter.
fn put<'a>(
    name: &str,
    value: Option<&Cow<'a, str>>,
    hit: &mut Hit<'a>,
    signals: &mut Signals<'a>,
    seen: &mut Seen<'a>,
) -> bool {
    if put_of_kind(name, value, hit, seen) {
        return true;
    }
    // Two names of one field.
    let name = if name == "click_id" { "avclid" } else { name };
    let Some(at) = KNOWN.iter().position(|known| *known == name) else {
        note_ad(name, value.map_or("", |value| value), hit, seen);
        return false;
    };
    if seen.places & (1 << at) != 0 {
        return true;
    }
    seen.places |= 1 << at;
    let text = value.cloned().unwrap_or_default();
    let slot = match name {
        "gdpr" => {
            signals.gdpr = Some(text);
            return true;
        }
        "gdpr_consent" => {
            signals.tcf = Some(text);
            return true;
        }
        "gpp" => {
            signals.gpp = Some(text);
            return true;
        }
        "gpp_sid" => {
            signals.gpp_sid = Some(text);
            return true;
        }
        "ch_mobile" => {
            hit.hints.mobile = mobile(&text).or(hit.hints.mobile);
            return true;
        }
        "site" => &mut hit.site,
        "u" => &mut hit.page_url,
        "ref" => &mut hit.referrer,
        "e" => &mut hit.event_name,
        "id" => &mut hit.event_id,
        "partner" => &mut hit.partner,
        "campaign" => &mut hit.campaign,
        "creative" => &mut hit.creative,
        "placement" => &mut hit.placement,
        "publisher" => &mut hit.publisher,
        "uid" => &mut hit.partner_uid,
        "maid" => &mut hit.maid,
        "did" => &mut hit.device_id,
        "cat" => &mut hit.category,
        "ch_model" => &mut hit.hints.model,
        "ch_platform" => &mut hit.hints.platform,
        "ch_platform_version" => &mut hit.hints.platform_version,
        "ch_form_factors" => &mut hit.hints.form_factors,
        "ch_brands" => &mut hit.hints.brands,
        "avclid" => &mut hit.click_id,
        // `cb` only defeats caches; `addtl_consent` permits nothing that the other signals do not.
        _ => return true,
    };
    if !text.is_empty() {
        *slot = text;
    }
    true
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

/// The further parameters, as the text of a JSON object that grows up to its limits.
#[derive(Default)]
struct Params {
    json: String,
    count: usize,
}

impl Params {
    fn push(&mut self, name: &str, write: impl FnOnce(&mut String), flags: &mut Flags) {
        let before = self.json.len();
        self.json.push(if before == 0 { '{' } else { ',' });
        push_json_text(&mut self.json, name);
        self.json.push(':');
        write(&mut self.json);
        if self.json.len() >= PARAMS_BYTES_MAX || self.count == PARAMS_MAX {
            self.json.truncate(before);
            flags.set(Flags::TRUNCATED);
        } else {
            self.count += 1;
        }
    }

    fn finish<'a>(mut self) -> Cow<'a, str> {
        if !self.json.is_empty() {
            self.json.push('}');
        }
        Cow::Owned(self.json)
    }
}

/// Writes a text as JSON; it is clean, so there is no control character to escape.
fn push_json_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
