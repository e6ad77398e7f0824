//! The rules that a request must keep before any endpoint sees it.

use hyper::{Method, Version};

use super::Exchange;
use crate::edge::Refusal;
use crate::endpoint::Endpoint;
use crate::refusal::Reason;

impl Exchange<'_> {
    /// Refuses a request that breaks a rule which holds whatever it asks for.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let (line, headers) = (&self.line, self.headers);
        let spec = self.endpoint.spec();
        if line.header_bytes > spec.header_bytes_max() {
            return Err(Refusal(Reason::HeaderTooLarge));
        }
        if line.target.len() > spec.uri_bytes_max() {
            return Err(Refusal(Reason::UriTooLong));
        }
        if !self.has_sound_host() {
            return Err(Refusal(Reason::Host));
        }
        if headers.transfer_encodings > 0 && !headers.is_chunked {
            return Err(Refusal(Reason::TransferEncoding));
        }
        let has_body = headers.has_length || headers.is_chunked;
        if *line.method != Method::POST && has_body {
            return Err(Refusal(Reason::UnexpectedBody));
        }
        if self.endpoint == Endpoint::Unknown {
            return Err(Refusal(Reason::UnknownPath));
        }
        if spec.accepts(line.method.as_str()) {
            Ok(())
        } else {
            Err(Refusal(Reason::Method))
        }
    }

    /// Returns whether exactly one host is named, and soundly.
    fn has_sound_host(&self) -> bool {
        let (authority, headers) = (self.line.authority, self.headers);
        let is_named_once = if self.line.version < Version::HTTP_2 {
            // A target that names a host is a whole URL (RFC 9112, section 3.2).
            let is_web = matches!(self.line.scheme, Some("http" | "https"));
            headers.hosts == 1 && authority.is_some() == is_web
        } else {
            // Where target and header both name a host they must agree (RFC 9113, section 8.3.1);
            // headers.host is the header's then.
            headers.hosts <= 1
                && authority.is_some_and(|authority| {
                    let is_same = |host| authority.eq_ignore_ascii_case(host);
                    headers.host.is_some_and(is_same)
                })
        };
        is_named_once && headers.host.is_some_and(is_host) && authority.is_none_or(is_host)
    }
}

/// Returns whether a text is a host name or address with an optional port: no userinfo, no path,
/// nothing that a log or a proxy could read in another way.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => {
            let is_ipv6 = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if name.is_empty() || !name.bytes().all(is_ipv6) {
                return false;
            }
            (name, port)
        }
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            let is_plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if name.is_empty() || !name.bytes().all(is_plain) {
                return false;
            }
            (name, port)
        }
    };
    let port_is_sound = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 255 && port.len() <= 6 && port_is_sound
}
