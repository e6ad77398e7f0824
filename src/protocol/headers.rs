//! What a draft takes from the headers that a browser sends.

use std::borrow::Cow;

use super::Draft;
use super::text::{clean, decode_utf8};
use crate::consent::{Signals, parse_choice};
use crate::hit::limits::{TEXT_BYTES_MAX, URL_BYTES_MAX, USER_AGENT_BYTES_MAX};
use crate::hit::{Flags, Hit, Permit};
use crate::request::{CookieNames, FoundCookie, Headers, agent};

impl<'r> Draft<'r> {
    /// Puts what a browser's headers say into a new draft. `choice_cookie` is the cookie with the
    /// visitor's choice.
    pub fn read_browser<'c>(
        &mut self,
        headers: &Headers<'r>,
        choice_cookie: impl Into<CookieNames<'c>>,
    ) {
        self.signals.gpc = headers.gpc;
        self.signals.choice = choice(headers, choice_cookie.into());
        read_headers(headers, &mut self.hit);
    }
}

/// Returns the consent signals among the headers.
#[must_use]
pub fn signals<'r, 'c>(
    headers: &Headers<'r>,
    choice_cookie: impl Into<CookieNames<'c>>,
) -> Signals<'r> {
    Signals {
        gpc: headers.gpc,
        choice: choice(headers, choice_cookie.into()),
        ..Signals::default()
    }
}

/// Returns what the choice cookies permit together.
fn choice(headers: &Headers<'_>, names: CookieNames<'_>) -> Option<Permit> {
    headers
        .find_choices(names)
        .map(FoundCookie::value_if_trusted)
        .map(parse_choice)
        .reduce(Permit::and)
}

fn read_headers<'r>(headers: &Headers<'r>, hit: &mut Hit<'r>) {
    let mut flags = hit.flags;
    let mut text = |bytes: &'r [u8], bytes_max| {
        // Most hints are not sent.
        if bytes.is_empty() {
            return Cow::Borrowed("");
        }
        clean(decode_utf8(bytes, &mut flags), bytes_max, &mut flags)
    };
    hit.user_agent = text(headers.user_agent, USER_AGENT_BYTES_MAX);
    hit.page_url = text(headers.referer, URL_BYTES_MAX);
    let mut hint = |bytes| text(bytes, TEXT_BYTES_MAX);
    let hints = &headers.hints;
    hit.hints.brands = hint(hints.brands);
    hit.hints.mobile = parse_mobile(&hint(hints.mobile));
    hit.hints.platform = unquote(hint(hints.platform));
    hit.hints.platform_version = unquote(hint(hints.platform_version));
    hit.hints.model = unquote(hint(hints.model));
    hit.hints.form_factors = hint(hints.form_factors);
    if headers.prefetch {
        flags.set(Flags::PREFETCH);
    }
    if headers.preview {
        flags.set(Flags::PREVIEW);
    }
    if agent::is_impossible(&hit.user_agent) {
        flags.set(Flags::BAD_AGENT);
    }
    hit.flags = flags;
}

/// Reads the hint that says whether a device is a mobile one, as a header or a parameter has it.
pub(super) fn parse_mobile(text: &str) -> Option<bool> {
    match text {
        "?1" | "1" | "true" => Some(true),
        "?0" | "0" | "false" => Some(false),
        _ => None,
    }
}

/// Takes the quotes off a structured-header string (RFC 9651, section 3.3.3; hints hold no
/// escapes).
fn unquote(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_mark = |byte: Option<&u8>| byte.is_some_and(|byte| !byte.is_ascii_alphanumeric());
    // Most are empty.
    if !is_mark(text.as_bytes().first()) && !is_mark(text.as_bytes().last()) {
        return text;
    }
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim().trim_matches('"')),
        Cow::Owned(text) => Cow::Owned(text.trim().trim_matches('"').to_owned()),
    }
}
