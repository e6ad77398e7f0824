//! Click URLs: how one is signed, and which targets a click may go to. Pure.
//!
//! # A signed URL
//! `/c?k=1&site=shop&partner=adform&to=https%3A%2F%2Fshop.example%2F&sig=…&placement=__ADFPLAID__`
//!
//! `sig` is HMAC-SHA-256, its first 16 to 32 bytes in base64url, over [`CONTEXT`] and the query string in front of
//! `&sig=`, byte for byte as it stands in the URL. `k` is the key's ID, `exp`, if it is there, the second since 1970
//! from which on the URL is no longer signed. What stands behind `sig` is not covered: it is the place for macros,
//! which a network expands. `k`, `exp` and `to` are read from the covered part alone, and the first of a repeated
//! parameter counts everywhere, so nothing behind `sig` can change what was signed. Names are compared as they
//! stand: `%74o` is not `to`.
//!
//! # A target
//! An absolute http or https URL by the WHATWG's rules, which are those of browsers, without userinfo, and written so
//! that nobody can read it otherwise: two slashes behind the scheme, no backslash, no white space, no control
//! character, and in the host's labels letters, digits, `-` and `_` alone. It goes into `Location` as it was parsed and written anew, never as it came. Unless it is signed its
//! host is on the site's list: the very name, or with `*.` any name below it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::percent_decode_str;
use sha2::Sha256;
use url::{Host, Url};

use crate::clock::UnixMicros;
use crate::request::is_encoded_still;

/// What the MAC covers before the query string.
pub const CONTEXT: &[u8] = b"avtryck click 1\n";
/// The shortest MAC that is believed, in bytes: 128 bits.
const MAC_BYTES_MIN: usize = 16;
/// A whole MAC, in bytes.
const MAC_BYTES: usize = 32;
/// The name under which a click's ID goes to the target.
const CLICK_ID: &str = "avclid";

/// The keys of click URLs: the first signs, each verifies.
pub struct Keyring(Vec<(u8, Hmac<Sha256>)>);

impl Keyring {
    /// A ring of keys with their IDs.
    #[must_use]
    pub fn new<'k>(keys: impl IntoIterator<Item = (u8, &'k [u8])>) -> Keyring {
        let key = |(id, secret): (u8, &[u8])| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
            mac.update(CONTEXT);
            Some((id, mac))
        };
        Keyring(keys.into_iter().filter_map(key).collect())
    }

    /// A query string that begins with the key's ID and ends with the signature of what stands before it. `rest` has
    /// neither; `None` without a key.
    #[must_use]
    pub fn sign(&self, rest: &str) -> Option<String> {
        let (id, key) = self.0.first()?;
        let signed = format!("k={id}&{rest}");
        let mac = key.clone().chain_update(&signed).finalize().into_bytes();
        let mac = URL_SAFE_NO_PAD.encode(mac);
        Some(format!("{signed}&sig={mac}"))
    }

    /// Whether a part of a query string has this signature.
    fn verify(&self, signed: &str, signature: &str) -> bool {
        let mut mac = [0; MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(signature.trim_end_matches('='), &mut mac);
        let mac = length.ok().and_then(|length| mac.get(..length));
        let key = first(signed, "k")
            .and_then(|id| id.parse::<u8>().ok())
            .and_then(|id| self.0.iter().find(|(known, _)| *known == id));
        mac.filter(|mac| mac.len() >= MAC_BYTES_MIN)
            .zip(key)
            .is_some_and(|(mac, (_, key))| {
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
    /// `to` is missing, or is no target.
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
    /// The signature covers an `id`: the URL is for one use.
    pub is_one_time: bool,
}

impl Target {
    /// The target's host, as browsers would ask for it.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The value of `Location`: ASCII, with the click's ID where there is one.
    #[must_use]
    pub fn location(mut self, click_id: Option<&str>) -> String {
        if let Some(id) = click_id {
            // One of another click must not be taken for this one.
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

/// The target that a click's query string names, if it may go there: signed, or with a host of `hosts`.
///
/// # Errors
/// The [`Flaw`] for which it may not.
pub fn target(
    query: &str,
    keyring: &Keyring,
    hosts: &[String],
    now: UnixMicros,
) -> Result<Target, Flaw> {
    let signature = query.find("&sig=").map(|at| {
        let (signed, rest) = query.split_at(at);
        let rest = rest.get("&sig=".len()..).unwrap_or_default();
        (signed, rest.split('&').next().unwrap_or_default())
    });
    let flaw = match signature {
        None => Flaw::Host,
        Some((signed, signature)) if keyring.verify(signed, signature) => {
            if is_in_time(signed, now) {
                let url = first(signed, "to").and_then(parse).ok_or(Flaw::Target)?;
                let is_one_time = first(signed, "id").is_some_and(|id| !id.is_empty());
                return Ok(Target { url, is_one_time });
            }
            Flaw::Expired
        }
        Some(_) => Flaw::Signature,
    };
    let url = first(query, "to").and_then(parse).ok_or(Flaw::Target)?;
    if url.host_str().is_some_and(|host| is_listed(host, hosts)) {
        Ok(Target {
            url,
            is_one_time: false,
        })
    } else {
        Err(flaw)
    }
}

/// The first value of that name, as it stands.
fn first<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn is_in_time(signed: &str, now: UnixMicros) -> bool {
    first(signed, "exp").is_none_or(|text| {
        let end: Option<i64> = text.parse().ok();
        end.is_some_and(|end| now.seconds() < end)
    })
}

/// A raw value -> a target. `+` stays: no URL holds a space, so none was meant.
fn parse(raw: &str) -> Option<Url> {
    let mut text = percent_decode_str(raw).decode_utf8().ok()?;
    if is_encoded_still(&text) {
        text = Cow::Owned(percent_decode_str(&text).decode_utf8().ok()?.into_owned());
    }
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
    if text.contains(is_odd) {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let is_web = ["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if !is_web || authority.is_empty() || authority.contains('@') {
        return None;
    }
    let url = Url::parse(&text).ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.host().is_some_and(is_plain_host);
    is_plain.then_some(url)
}

/// Whether a host is a name or an address as everyone knows them. The WHATWG's rules also let `;`, `!`, `'` and the
/// like into one, and empty labels.
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

/// Whether a list has a host: its very name, or `*.` and the end of it.
fn is_listed(host: &str, list: &[String]) -> bool {
    list.iter().any(|known| match known.strip_prefix('*') {
        // With the dot, and something before it.
        Some(end) => host.len() > end.len() && host.ends_with(end),
        None => host == known,
    })
}

#[cfg(test)]
mod tests;
