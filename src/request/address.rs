//! The client's address behind trusted proxies.
//!
//! Only the hops that the operator named are believed: the chain of forwarded addresses is read
//! from the right, trusted hops are passed over, and the first that is not trusted is the client.
//! What an attacker puts in front of it changes nothing.
//!
//! An empty element of the chain is no hop (RFC 9110, section 5.6.1). An element that names no
//! address, as `unknown` or `_hidden`, is a hop that a trusted proxy did not tell: what stands in
//! front of it is anybody's word, so the client is that proxy.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Headers;

/// The header in which the operator's proxies name the client. One only: a proxy that sets one
/// header passes on whatever the client wrote into the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The client's address; IPv4-mapped addresses are unmapped.
#[must_use]
pub fn client_ip(
    peer: IpAddr,
    headers: &Headers<'_>,
    header: ForwardedHeader,
    trusted: &[IpNet],
) -> IpAddr {
    let mut client = peer.to_canonical();
    if !is_trusted(client, trusted) {
        return client;
    }
    let (lines, is_quoting) = match header {
        ForwardedHeader::XForwardedFor => (&headers.x_forwarded_for, false),
        ForwardedHeader::Forwarded => (&headers.forwarded, true),
    };
    // From right to left without looking further than needed: what an attacker wrote is never read.
    let hops = lines
        .iter()
        .rev()
        .flat_map(|line| elements(line, is_quoting));
    for hop in hops {
        let address = match header {
            ForwardedHeader::XForwardedFor => address(hop),
            ForwardedHeader::Forwarded => {
                forwarded_for(hop).and_then(|value| address(&unescape(value)))
            }
        };
        let Some(address) = address else { break };
        client = address;
        if !is_trusted(client, trusted) {
            break;
        }
    }
    client
}

/// Whether a trusted proxy says that the client spoke https to it.
#[must_use]
pub fn forwarded_https(peer: IpAddr, headers: &Headers<'_>, trusted: &[IpNet]) -> bool {
    forwarded_is_https(peer, headers, trusted) == Some(true)
}

/// What a trusted proxy says of that; `None` if it says nothing. The last value counts, which is
/// the nearest proxy's own.
#[must_use]
pub(crate) fn forwarded_is_https(
    peer: IpAddr,
    headers: &Headers<'_>,
    trusted: &[IpNet],
) -> Option<bool> {
    if !is_trusted(peer.to_canonical(), trusted) {
        return None;
    }
    let proto = elements(headers.forwarded_proto?, false).next()?;
    Some(proto.eq_ignore_ascii_case(b"https"))
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// The elements of a list from right to left.
fn elements(line: &[u8], is_quoting: bool) -> impl Iterator<Item = &[u8]> {
    FromRight::new(line, b',', is_quoting)
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// The parts of a header's value from right to left. A quoted string (RFC 9110, section 5.6.4) is
/// read from its end too: what a proxy wrote last is sound, whatever quotes stand unbalanced in
/// front of it.
struct FromRight<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
    is_quoting: bool,
}

impl<'a> FromRight<'a> {
    fn new(text: &'a [u8], separator: u8, is_quoting: bool) -> FromRight<'a> {
        FromRight {
            rest: Some(text),
            separator,
            is_quoting,
        }
    }
}

impl<'a> Iterator for FromRight<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest.take()?;
        let mut is_quoted = false;
        for (at, byte) in text.iter().enumerate().rev() {
            if *byte == b'"' && self.is_quoting {
                is_quoted = !is_quoted || is_escaped(text, at);
            } else if *byte == self.separator && !is_quoted {
                self.rest = text.get(..at);
                return text.get(at + 1..);
            }
        }
        Some(text)
    }
}

/// Whether the byte there has a backslash in front that is not itself escaped.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

/// The value of `for` among the pairs of one hop (RFC 7239, section 4).
fn forwarded_for(hop: &[u8]) -> Option<&[u8]> {
    FromRight::new(hop, b';', true).find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at_checked(equals)?;
        let is_for = name.trim_ascii().eq_ignore_ascii_case(b"for");
        is_for.then(|| value.get(1..)).flatten()
    })
}

/// Takes the backslashes off the characters that they escape in a quoted string (RFC 9110, section
/// 5.6.4).
fn unescape(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'\\') {
        return Cow::Borrowed(value);
    }
    let mut is_escaped = false;
    let mut kept = value.to_vec();
    kept.retain(|byte| {
        is_escaped = *byte == b'\\' && !is_escaped;
        !is_escaped
    });
    Cow::Owned(kept)
}

/// Parses an address, quoted or not: `192.0.2.1`, `192.0.2.1:80`, `192.0.2.1:_hidden`,
/// `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`, `fe80::1%eth0`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim().trim_matches('"').trim();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some(parts) => parts,
        // Without brackets only the one colon of an IPv4 address separates a port.
        None => match text.find(':') {
            Some(at) if text.rfind(':') == Some(at) => text.split_at(at),
            _ => (text, ""),
        },
    };
    // A zone is about the proxy's own interfaces.
    let host = host.split_once('%').map_or(host, |(host, _)| host);
    let address: IpAddr = host.parse().ok()?;
    is_port(port).then(|| address.to_canonical())
}

/// Checks whether what follows a host is nothing or a port, which RFC 7239, section 6, lets a proxy
/// hide behind a word.
fn is_port(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(is_letter))
}

#[cfg(test)]
mod tests;
