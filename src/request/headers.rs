//! What a hit takes from a request's headers.

use std::borrow::Cow;

use hyper::HeaderMap;

use super::text::{clean, decode_utf8};
use crate::consent::Signals;
use crate::hit::limits::{TEXT_BYTES_MAX, URL_BYTES_MAX, USER_AGENT_BYTES_MAX};
use crate::hit::{Flags, Hit};
use crate::request::agent;

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
    /// `X-Forwarded-For`, or `Forwarded`.
    pub(crate) x_forwarded_for: Lines<'a>,
    pub(crate) forwarded: Lines<'a>,
    /// `X-Forwarded-Proto`, the last one.
    pub(crate) forwarded_proto: Option<&'a [u8]>,
    /// HTTP/2 may part the header (RFC 9113, section 8.2.3).
    cookies: Lines<'a>,
    user_agent: &'a [u8],
    referer: &'a [u8],
    hints: Hints<'a>,
}

/// The values of a header that may stand on several lines, in the order sent. One alone takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Lines<'a> {
    first: Option<&'a [u8]>,
    further: Vec<&'a [u8]>,
}

impl<'a> Lines<'a> {
    fn push(&mut self, line: &'a [u8]) {
        match self.first {
            None => self.first = Some(line),
            Some(_) => self.further.push(line),
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.first.iter().chain(&self.further).copied()
    }
}

/// Client hints, as sent.
#[derive(Debug, Default)]
struct Hints<'a> {
    brands: &'a [u8],
    mobile: &'a [u8],
    platform: &'a [u8],
    platform_version: &'a [u8],
    model: &'a [u8],
    form_factors: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Reads the headers once.
    #[must_use]
    pub fn read(map: &'a HeaderMap) -> Headers<'a> {
        let mut headers = Headers::default();
        for (name, value) in map {
            headers.take(name.as_str().as_bytes(), value.as_bytes());
        }
        headers
    }

    /// Takes one header in. Its name is in lower case, and matched as bytes: that is a decision by length and letter,
    /// where texts would be compared one after the other.
    pub fn take(&mut self, name: &[u8], bytes: &'a [u8]) {
        match name {
            b"host" => {
                self.hosts += 1;
                self.host = text(bytes);
            }
            b"user-agent" => self.user_agent = bytes,
            b"referer" => self.referer = bytes,
            b"cookie" => self.cookies.push(bytes),
            b"x-forwarded-for" => self.x_forwarded_for.push(bytes),
            b"forwarded" => self.forwarded.push(bytes),
            b"x-forwarded-proto" => self.forwarded_proto = Some(bytes),
            b"origin" => self.origin = text(bytes),
            b"content-type" => self.content_type = text(bytes),
            b"content-length" => self.has_length = bytes != b"0",
            b"transfer-encoding" => {
                self.transfer_encodings += 1;
                self.is_chunked =
                    self.transfer_encodings == 1 && bytes.eq_ignore_ascii_case(b"chunked");
            }
            b"sec-gpc" => self.gpc = bytes == b"1",
            b"sec-fetch-site" => self.fetch_site = text(bytes),
            b"sec-purpose" | b"purpose" | b"x-purpose" | b"x-moz" => {
                self.prefetch |= bytes.starts_with(b"prefetch");
                self.preview |= bytes.starts_with(b"preview");
            }
            b"sec-ch-ua" => self.hints.brands = bytes,
            b"sec-ch-ua-mobile" => self.hints.mobile = bytes,
            b"sec-ch-ua-platform" => self.hints.platform = bytes,
            b"sec-ch-ua-platform-version" => self.hints.platform_version = bytes,
            b"sec-ch-ua-model" => self.hints.model = bytes,
            b"sec-ch-ua-form-factors" => self.hints.form_factors = bytes,
            _ => {}
        }
    }

    /// The values of each cookie of that name, in the order sent. Cookies are parted as bytes: those of
    /// other programs on the domain need not be ASCII, and must not hide ours.
    pub fn cookies<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a str> + 'h {
        self.cookies
            .iter()
            .flat_map(|line| line.split(|byte| *byte == b';'))
            .filter_map(move |pair| {
                let value = pair
                    .trim_ascii()
                    .strip_prefix(name.as_bytes())?
                    .strip_prefix(b"=")?;
                str::from_utf8(value).ok()
            })
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
        let mut text =
            |bytes, bytes_max| clean(decode_utf8(bytes, &mut flags), bytes_max, &mut flags);
        hit.user_agent = text(self.user_agent, USER_AGENT_BYTES_MAX);
        hit.page_url = text(self.referer, URL_BYTES_MAX);
        let mut hint = |bytes| text(bytes, TEXT_BYTES_MAX);
        hit.hints.brands = hint(self.hints.brands);
        hit.hints.mobile = mobile(&hint(self.hints.mobile));
        hit.hints.platform = unquoted(hint(self.hints.platform));
        hit.hints.platform_version = unquoted(hint(self.hints.platform_version));
        hit.hints.model = unquoted(hint(self.hints.model));
        hit.hints.form_factors = hint(self.hints.form_factors);
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

/// A value of visible characters.
fn text(bytes: &[u8]) -> Option<&str> {
    let is_visible = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    if !bytes.iter().all(is_visible) {
        return None;
    }
    str::from_utf8(bytes).ok()
}

pub(crate) fn mobile(text: &str) -> Option<bool> {
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
