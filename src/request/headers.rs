//! A request's headers, read in one pass.

use hyper::HeaderMap;

use super::cookie::{self, CookieNames, FoundCookie};

use super::host_of;

/// What a request's headers say, as far as it is needed.
#[derive(Debug, Default)]
pub struct Headers<'a> {
    /// The `Host` header, where there was exactly one.
    pub host: Option<&'a str>,
    /// How many `Host` headers there were.
    pub hosts: usize,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`, as sent.
    pub fetch_site: Option<&'a [u8]>,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Content-Encoding`.
    pub content_encoding: &'a [u8],
    /// `Content-Length` above zero.
    pub has_length: bool,
    /// How many `Transfer-Encoding` headers there were.
    pub transfer_encodings: usize,
    /// `Transfer-Encoding: chunked`, once and nothing else.
    pub is_chunked: bool,
    /// `Authorization`, as sent.
    pub authorization: &'a [u8],
    /// `Access-Control-Request-Headers`, as sent: what a page's request is to have.
    pub requested_headers: &'a [u8],
    /// `SP-Anonymous`: the page asks that nothing be kept of who sends.
    pub is_anonymous: bool,
    /// `Sec-GPC` with anything but a no.
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
    /// HTTP/2 may split the header (RFC 9113, section 8.2.3).
    cookies: Lines<'a>,
    /// `User-Agent`, as sent.
    pub(crate) accept_language: &'a [u8],
    pub(crate) user_agent: &'a [u8],
    /// `Referer`, as sent.
    pub(crate) referer: &'a [u8],
    pub(crate) hints: Hints<'a>,
}

/// The values of a header that may have several lines, in the order sent. One line alone allocates
/// nothing.
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
pub(crate) struct Hints<'a> {
    pub(crate) brands: &'a [u8],
    pub(crate) mobile: &'a [u8],
    pub(crate) platform: &'a [u8],
    pub(crate) platform_version: &'a [u8],
    pub(crate) model: &'a [u8],
    pub(crate) form_factors: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Reads the headers once.
    #[must_use]
    pub fn read(map: &'a HeaderMap) -> Headers<'a> {
        let mut headers = Headers::default();
        for (name, value) in map {
            headers.read_one(name.as_str().as_bytes(), value.as_bytes());
        }
        headers
    }

    /// Reads one header. Its name is in lower case. It is matched as bytes, because that compiles
    /// to a decision by length and letter; texts would be compared one after the other.
    pub(crate) fn read_one(&mut self, name: &[u8], bytes: &'a [u8]) {
        match name {
            b"host" => {
                self.hosts += 1;
                self.host = text(bytes);
            }
            b"user-agent" => self.user_agent = bytes,
            b"accept-language" => self.accept_language = bytes,
            b"referer" => self.referer = bytes,
            b"cookie" => self.cookies.push(bytes),
            b"x-forwarded-for" => self.x_forwarded_for.push(bytes),
            b"forwarded" => self.forwarded.push(bytes),
            b"x-forwarded-proto" => self.forwarded_proto = Some(bytes),
            b"origin" => self.origin = text(bytes),
            b"content-type" => self.content_type = text(bytes),
            b"content-encoding" => self.content_encoding = bytes,
            b"authorization" => self.authorization = bytes,
            b"access-control-request-headers" => self.requested_headers = bytes,
            b"sp-anonymous" => self.is_anonymous = true,
            b"content-length" => self.has_length = bytes != b"0",
            b"transfer-encoding" => {
                self.transfer_encodings += 1;
                self.is_chunked =
                    self.transfer_encodings == 1 && bytes.eq_ignore_ascii_case(b"chunked");
            }
            b"sec-gpc" => self.gpc |= !matches!(bytes.trim_ascii(), b"" | b"0" | b"?0" | b"false"),
            b"sec-fetch-site" => self.fetch_site = Some(bytes),
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

    /// Returns the values of the cookies of that name, in the order sent, that are text.
    pub fn cookies<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a str> + 'h {
        let found = self.find_cookies(name.into());
        found.filter_map(|found| found.text())
    }

    /// Returns the values of the cookies of that name, in the order sent.
    pub fn cookie_values<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a [u8]> + 'h {
        self.find_cookies(name.into()).map(|found| found.value)
    }

    /// Returns the cookies that have one of these names, in the order sent.
    pub fn find_cookies<'h>(
        &'h self,
        names: CookieNames<'h>,
    ) -> impl Iterator<Item = FoundCookie<'a>> + 'h {
        let lines = self.cookies.iter();
        lines.flat_map(move |line| cookie::find_in(line, names))
    }

    /// Returns the cookies that have one of these names or had it before they lost their `=`, in
    /// the order sent.
    pub(crate) fn find_choices<'h>(
        &'h self,
        names: CookieNames<'h>,
    ) -> impl Iterator<Item = FoundCookie<'a>> + 'h {
        let lines = self.cookies.iter();
        lines.flat_map(move |line| cookie::find_all_in(line, names))
    }

    /// Returns the host of the page that sent the request: that of `Origin`, else that of
    /// `Referer`.
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
        Some(host_of(host))
    }
}

/// Returns a value as text if all its characters are visible.
fn text(bytes: &[u8]) -> Option<&str> {
    let is_visible = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    // Without a way out early, the compiler looks at many bytes at once.
    let are_visible = bytes.iter().fold(true, |all, byte| all & is_visible(byte));
    are_visible.then(|| str::from_utf8(bytes).ok()).flatten()
}
