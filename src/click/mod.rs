//! Click URLs: how one is signed, and which targets a click may go to. Pure. [`conversion`] has the
//! pixels of conversions, which are signed in the same way.
//!
//! # A signed URL
//! `/c?k=1&site=shop&partner=adform&to=https%3A%2F%2Fshop.example%2F&sig=…&placement=__ADFPLAID__`
//!
//! `sig` is HMAC-SHA-256, its first 16 to 32 bytes in base64url, over `avtryck click 1`, a line
//! feed and the query string before `&sig=`, byte for byte as it is in the URL. `k` is the key's
//! ID; `exp`, where present, is the second since 1970 from which the URL no longer counts as
//! signed. What follows `sig` is not covered: it is the place for macros, which a network expands.
//! `k`, `exp` and `to` are read from the covered part alone, and the first of a repeated parameter
//! counts everywhere, so nothing after `sig` can change what was signed. Names are compared as
//! written: `%74o` is not `to`. Separators that a page escaped for HTML are read as separators.
//! In the row's `params` a later value of a signed name goes to the member `unsigned`.
//!
//! # A target
//! A target is an absolute http or https URL by the WHATWG's rules, which are those of browsers.
//! What browsers correct is corrected: spaces and control characters around it, tabs and line feeds
//! in it, and after the host spaces, backslashes and bytes that are not UTF-8. Up to the end of the
//! host it is written so that nobody can read it otherwise: two slashes after the scheme, no
//! userinfo, no backslash, and in the host's labels only letters, digits, `-` and `_`. It goes into
//! `Location` as it was parsed and rewritten, never as it came, and what goes there is what is
//! checked.
//!
//! Unless it is signed, its host must be on the site's list: the very name, or with `*.` any name
//! below it. A dot at a host's end is its own name's as well. A name with a port
//! (`shop.example:8443`) is for that port alone. One without is for the scheme's own port and those
//! from 1024 on: nothing that a page links to is below. From a click by https such a target leads
//! to https, never down to http, unless the list says `shop.example:80`.

mod conversion;

pub use conversion::VALID_SECONDS_MAX;
pub(crate) use conversion::is_signed_conversion;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::clock::UnixMicros;
use crate::keys::{ClickKeyring, Purpose};
use crate::request::{
    is_encoded_still, push_escaped, raw_value, unescape_separators, without_root,
};

/// The shortest MAC that is accepted, in bytes: 128 bits.
const MAC_BYTES_MIN: usize = 16;
/// A whole MAC, in bytes.
const MAC_BYTES: usize = 32;
/// The first port that anybody may listen on, and so the first that pages are served at besides 80
/// and 443.
const PORT_MIN: u16 = 1024;
/// The name of a click's target.
const TARGET: &str = "to";
/// The name under which a click's ID goes to the target.
const CLICK_ID: &str = "avclid";

impl ClickKeyring {
    /// Returns the query string of a click: it begins with the key's ID and ends with the signature
    /// of what comes before it. `rest` has neither; `None` without a key.
    #[must_use]
    pub fn sign(&self, rest: &str) -> Option<String> {
        self.sign_for(Purpose::Click, rest)
    }

    /// Returns the same for the pixel of a conversion.
    #[must_use]
    pub(crate) fn sign_conversion(&self, rest: &str) -> Option<String> {
        self.sign_for(Purpose::Conversion, rest)
    }

    fn sign_for(&self, purpose: Purpose, rest: &str) -> Option<String> {
        let (id, key) = self.first(purpose)?;
        let signed = format!("k={id}&{rest}");
        let mac = key.clone().chain_update(&signed).finalize().into_bytes();
        let mac = URL_SAFE_NO_PAD.encode(mac);
        Some(format!("{signed}&sig={mac}"))
    }

    /// Checks the signature of a part of a query string.
    fn verifies(&self, purpose: Purpose, (signed, signature): (&str, &str)) -> bool {
        let mut mac = [0; MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(signature.trim_end_matches('='), &mut mac);
        let mac = length.ok().and_then(|length| mac.get(..length));
        let key = raw_value(signed, "k")
            .and_then(|id| id.parse::<u8>().ok())
            .and_then(|id| self.find(purpose, id));
        mac.filter(|mac| mac.len() >= MAC_BYTES_MIN)
            .zip(key)
            .is_some_and(|(mac, key)| {
                key.clone()
                    .chain_update(signed)
                    .verify_truncated_left(mac)
                    .is_ok()
            })
    }
}

/// Why a click goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// `to` is missing, or is not a target.
    Target,
    /// The host is not on the list, and nothing is signed.
    Host,
    /// The host is not on the list, and the signature is not one of ours.
    Signature,
    /// The host is not on the list, and the signature was one of ours once.
    Expired,
}

/// Where a click goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    url: Url,
    /// Whether it may be http although the click came by https: somebody said so.
    may_leave_https: bool,
    /// Whether the URL is for one use: the signature covers an `id`.
    pub is_one_time: bool,
}

impl Target {
    /// Returns the target's host, as browsers would ask for it.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// Returns the target of a click that came by https: never down to http, unless its port is on
    /// the list or it is signed.
    ///
    /// # Errors
    /// If it has a port of its own, where nobody can tell whether https is there.
    pub(crate) fn over_https(mut self) -> Result<Target, Flaw> {
        if self.may_leave_https || self.url.scheme() == "https" {
            return Ok(self);
        }
        let is_web_port = self.url.port().is_none();
        if is_web_port && self.url.set_scheme("https").is_ok() {
            Ok(self)
        } else {
            Err(Flaw::Host)
        }
    }

    /// Returns the value of `Location`: ASCII, with the click's ID where there is one.
    #[must_use]
    pub fn location(mut self, click_id: Option<&str>) -> String {
        if let Some(id) = click_id {
            // Another click's ID must not be taken for this one's.
            let kept = self.url.query().map(|query| {
                let is_other = |pair: &&str| pair.split('=').next() != Some(CLICK_ID);
                query.split('&').filter(is_other).collect::<Vec<_>>()
            });
            let mut query = kept.unwrap_or_default().join("&");
            if !query.is_empty() {
                query.push('&');
            }
            // An ID is base64url: nothing to encode.
            query.push_str(CLICK_ID);
            query.push('=');
            query.push_str(id);
            self.url.set_query(Some(&query));
        }
        self.url.into()
    }
}

/// Returns the target that a click's query string names, if it is signed or has a host of `hosts`.
///
/// # Errors
/// The [`Flaw`] where the click may not go there.
pub fn target(
    query: &str,
    keyring: &ClickKeyring,
    hosts: &[String],
    now: UnixMicros,
) -> Result<Target, Flaw> {
    target_named(TARGET, query, keyring, hosts, now)
}

/// Returns the target that a query string has under that name. Where a `to` was signed, that was
/// the target, and no other parameter is.
///
/// # Errors
/// The [`Flaw`] where nobody may be led there.
pub(crate) fn target_named(
    name: &str,
    query: &str,
    keyring: &ClickKeyring,
    hosts: &[String],
    now: UnixMicros,
) -> Result<Target, Flaw> {
    let query = &*unescape_separators(query);
    let flaw = match split_signature(query) {
        None => Flaw::Host,
        Some((signed, _)) if name != TARGET && raw_value(signed, TARGET).is_some() => {
            Flaw::Signature
        }
        Some(parts @ (signed, _)) if keyring.verifies(Purpose::Click, parts) => {
            if is_in_time(signed, now) {
                let url = raw_value(signed, name)
                    .and_then(parse)
                    .ok_or(Flaw::Target)?;
                let is_one_time = raw_value(signed, "id").is_some_and(|id| !id.is_empty());
                return Ok(Target {
                    url,
                    may_leave_https: true,
                    is_one_time,
                });
            }
            Flaw::Expired
        }
        Some(_) => Flaw::Signature,
    };
    let url = raw_value(query, name).and_then(parse).ok_or(Flaw::Target)?;
    let listed = Listed::find(&url, hosts).ok_or(flaw)?;
    Ok(Target {
        url,
        may_leave_https: listed == Listed::WithPort,
        is_one_time: false,
    })
}

/// Splits a query string into the part that its signature covers and the signature.
fn split_signature(query: &str) -> Option<(&str, &str)> {
    let (signed, rest) = query.split_once("&sig=")?;
    Some((signed, rest.split('&').next().unwrap_or_default()))
}

fn is_in_time(signed: &str, now: UnixMicros) -> bool {
    raw_value(signed, "exp").is_none_or(|text| {
        let end: Option<i64> = text.parse().ok();
        end.is_some_and(|end| now.seconds() < end)
    })
}

/// Parses a raw value. `+` stays: no URL holds a space, so none was meant.
fn parse(raw: &str) -> Option<Url> {
    let mut text = decode(raw);
    if is_encoded_still(&text) {
        text = decode(&text);
    }
    // What the WHATWG's parser does before it looks at anything.
    text.retain(|character| !matches!(character, '\t' | '\n' | '\r'));
    let text = text.trim_matches(|character| character <= ' ');
    let (scheme, rest) = text.split_once(':')?;
    // However many slashes there are, and of whichever kind, browsers read two.
    let rest = rest.trim_start_matches(['/', '\\']);
    let is_web = ["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // Within JSON the slash behind it may be escaped.
    let authority = authority.strip_suffix('\\').unwrap_or(authority);
    if !is_web || authority.is_empty() || authority.contains(['@', '\\']) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.host().is_some_and(is_plain_host);
    is_plain.then_some(url)
}

/// Decodes a value once. Bytes that are not UTF-8 stay encoded, as in the addresses that browsers
/// make of a page in another encoding.
fn decode(text: &str) -> String {
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        push_escaped(&mut out, chunk.invalid());
    }
    out
}

/// Checks whether a host is an ordinary name or an address. The WHATWG's rules also allow `;`, `!`,
/// `'` and the like, and empty labels.
fn is_plain_host(host: Host<&str>) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let Host::Domain(name) = host else {
        return true;
    };
    let labels = name.strip_suffix('.').unwrap_or(name).split('.');
    labels
        .into_iter()
        .all(|label| !label.is_empty() && label.bytes().all(plain))
}

/// How a list has a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listed {
    /// By its host.
    Host,
    /// By its host and port.
    WithPort,
}

impl Listed {
    /// Finds a target's host and port on a list.
    fn find(url: &Url, list: &[String]) -> Option<Listed> {
        let (host, port) = (without_root(url.host_str()?), url.port_or_known_default()?);
        let is_usual = url.port().is_none() || port >= PORT_MIN;
        let has_host = |known: &str| match known.strip_prefix('*') {
            // The end has the dot, and something must come before it.
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == known,
        };
        let mut listed = None;
        for entry in list {
            match split_port(entry) {
                (known, Some(own)) if own == port && has_host(known) => {
                    return Some(Listed::WithPort);
                }
                (known, None) if is_usual && has_host(known) => listed = Some(Listed::Host),
                _ => {}
            }
        }
        listed
    }
}

/// Splits an entry of a list of hosts into the host and its port, if it has one.
#[must_use]
pub(crate) fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests;
