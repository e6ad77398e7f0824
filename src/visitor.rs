//! The visitor's ID and its cookie. Pure: entropy and time are passed in.
//!
//! # The value
//! 36 bytes, in base64url without padding (48 characters):
//!
//! | bytes | hold |
//! | --- | --- |
//! | 0 | the key's ID |
//! | 1..5 | when it was made: seconds since 1970, u32, big-endian |
//! | 5..21 | the visitor's ID, 128 random bits |
//! | 21 | the scope: how many labels the cookie's domain has; 0 for a host alone |
//! | 22..36 | MAC: the first 112 bits of HMAC-SHA-256 over `avtryck visitor 1`, bytes 0..22, and the scope's domain or host |
//!
//! The scope binds a value to where its cookie was set: planted on another host or on another site
//! of the collector it proves nothing. A domain is the end of the host that was asked, of as many
//! labels, so a cookie of a former `cookie_domain` still proves its visitor. Values of release
//! 0.1.0 have 33 bytes: no scope, and a MAC of 96 bits over bytes 0..21. They are accepted until
//! they expire.
//!
//! A value is accepted if its MAC verifies under a configured key (compared in constant time) and
//! it is not older than the cookie's age: forged, foreign and expired values are replaced by a new
//! ID. One that was made in the future is accepted, for we made it: this clock or that of another
//! collector was or is wrong, and every visitor would become a new one. A cookie is set once and
//! not renewed by later hits, so that it ends when it said it would.
//!
//! # Several values
//! Whoever controls another host of the domain, or a request over http, can plant a cookie, with an
//! ID that the collector gave to them. So a name that vouches for its cookie ([`NameTrust`])
//! outweighs one that does not; among equals the oldest ID holds, in whichever order they come: it
//! is the one thing that cannot be made later. What is planted beside a visitor's ID changes
//! nothing unless it is older, and never ends the visitor's own cookie.

mod cookie_kind;
pub mod link;

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use sha2::{Digest as _, Sha256};

use crate::clock::UnixMicros;
use crate::hit::VisitorId;
use crate::keys::{CookieKeyring, Key};
use crate::request::{FoundCookie, NameTrust};

pub(crate) use cookie_kind::{CookieKind, Reach, lies_within};
pub use cookie_kind::{Party, set_cookie};

/// The default age of the visitor cookie, and the age of the cookie that keeps a choice: less than
/// 13 months.
pub(crate) const COOKIE_DAYS: u16 = 390;
/// The age that a configuration may give the visitor cookie at most: 13 months.
pub const COOKIE_DAYS_MAX: u16 = 396;
const _: () = assert!(
    COOKIE_DAYS == 390 && COOKIE_DAYS_MAX == 396,
    "the key cookie.max_age has them too"
);
/// [`COOKIE_DAYS`] in seconds.
pub const COOKIE_AGE_SECONDS: i64 = COOKIE_DAYS as i64 * 86_400;

/// What the MAC covers of a value that is bound to no scope.
const UNBOUND_BYTES: usize = 21;
/// The MAC of such a value, and of a form.
const MAC_BYTES: usize = 12;
/// The length of such a value.
const UNBOUND_VALUE_BYTES: usize = UNBOUND_BYTES + MAC_BYTES;
/// What the MAC covers of a value that is bound to a scope.
const BOUND_BYTES: usize = UNBOUND_BYTES + 1;
/// The MAC of such a value. Whole groups of three bytes leave base64 no bits without a meaning.
const BOUND_MAC_BYTES: usize = 14;
/// The longest value, in bytes.
const VALUE_BYTES_MAX: usize = BOUND_BYTES + BOUND_MAC_BYTES;

/// A visitor whom a cookie proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvedVisitor {
    /// The ID.
    pub visitor: VisitorId,
    /// When the ID was made, to the second.
    pub made_at: UnixMicros,
    /// Whether it is older than the configuration lets cookies get.
    pub is_expired: bool,
    /// Whether the value is bound to the scope of its cookie.
    pub is_bound: bool,
}

impl ProvedVisitor {
    /// Returns whether the cookie is older at `now` than any that a browser still sends: the clock
    /// is wrong. A cookie that is expired and no older was made before the configuration was
    /// changed.
    #[must_use]
    pub(crate) fn is_impossible(&self, now: UnixMicros) -> bool {
        self.is_expired && now.seconds() - self.made_at.seconds() >= COOKIE_AGE_SECONDS
    }
}

/// The cookie that a request's visitor is known by.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'v> {
    /// Whom it proves.
    pub proved: ProvedVisitor,
    /// Its value.
    pub value: &'v str,
    /// Whether it has the former name of the cookie, and no ID has the new one.
    pub is_to_be_moved: bool,
    /// Whether the request has several IDs, and all of them are bound to nothing: no planter has
    /// got such a value since they are bound, so the reply may keep this one and end the others.
    pub is_one_of_unbound: bool,
    is_vouched: bool,
}

impl Chosen<'_> {
    /// Returns what decides between two: the lesser is chosen, of two that are alike always the
    /// same one.
    fn weight(&self) -> impl Ord + use<> {
        let proved = &self.proved;
        let age = (proved.made_at.0, proved.visitor.0);
        (
            proved.is_expired,
            !self.is_vouched,
            age,
            self.is_to_be_moved,
        )
    }
}

/// A keyring as one host uses it.
#[derive(Clone, Copy)]
pub struct HostKeyring<'k> {
    keyring: &'k CookieKeyring,
    host: &'k str,
}

impl HostKeyring<'_> {
    /// Returns the visitor whom a cookie's value proves to this host, with the time at which the ID
    /// was made and whether it is expired at `now`.
    #[must_use]
    pub fn read(&self, value: &str, now: UnixMicros) -> Option<ProvedVisitor> {
        let mut bytes = [0; VALUE_BYTES_MAX];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        let signed_bytes = match length {
            VALUE_BYTES_MAX => BOUND_BYTES,
            UNBOUND_VALUE_BYTES => UNBOUND_BYTES,
            _ => return None,
        };
        let (signed, mac) = bytes.get(..length)?.split_at_checked(signed_bytes)?;
        let (key_id, rest) = signed.split_first()?;
        let (made_at, rest) = rest.split_first_chunk::<4>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let scope = match rest {
            [] => Cow::Borrowed(""),
            [labels] => scope_of(self.host, *labels)?,
            _ => return None,
        };
        self.keyring
            .find(*key_id)?
            .clone()
            .chain_update(signed)
            .chain_update(&*scope)
            .verify_truncated_left(mac)
            .ok()?;
        let made_at = i64::from(u32::from_be_bytes(*made_at));
        let age_seconds = now.seconds() - made_at;
        Some(ProvedVisitor {
            visitor: VisitorId(*id),
            made_at: UnixMicros(made_at * 1_000_000),
            is_expired: age_seconds >= self.keyring.age_seconds_max(),
            is_bound: !rest.is_empty(),
        })
    }

    /// Returns the cookie by which the visitor of a request is known; `None` if none proves one.
    #[must_use]
    pub fn choose<'v>(
        &self,
        cookies: impl Iterator<Item = FoundCookie<'v>>,
        now: UnixMicros,
    ) -> Option<Chosen<'v>> {
        let mut chosen: Option<Chosen<'v>> = None;
        let (mut differ, mut are_unbound, mut has_new_name) = (false, true, false);
        for found in cookies {
            let Some((value, proved)) = self.prove(&found, now) else {
                continue;
            };
            let one = Chosen {
                proved,
                value,
                is_to_be_moved: found.is_former,
                is_one_of_unbound: false,
                is_vouched: found.trust == NameTrust::Vouched,
            };
            are_unbound &= proved.is_expired || !proved.is_bound;
            has_new_name |=
                !proved.is_expired && !found.is_former && found.trust != NameTrust::Lookalike;
            chosen = Some(chosen.map_or(one, |best| {
                let are_valid = !best.proved.is_expired && !proved.is_expired;
                differ |= are_valid && best.proved.visitor != proved.visitor;
                std::cmp::min_by_key(best, one, Chosen::weight)
            }));
        }
        if let Some(chosen) = &mut chosen {
            chosen.is_one_of_unbound = differ && are_unbound;
            chosen.is_to_be_moved &= !has_new_name;
        }
        chosen
    }

    fn prove<'v>(
        &self,
        found: &FoundCookie<'v>,
        now: UnixMicros,
    ) -> Option<(&'v str, ProvedVisitor)> {
        let value = found.text()?;
        Some((value, self.read(value, now)?))
    }

    /// Returns the visitors whom the cookies of a request prove, expired ones among them: each
    /// once, the one that is chosen first.
    #[must_use]
    pub(crate) fn read_all<'v>(
        &self,
        cookies: impl Iterator<Item = FoundCookie<'v>>,
        now: UnixMicros,
    ) -> Vec<ProvedVisitor> {
        let cookies: Vec<_> = cookies.collect();
        let chosen = self.choose(cookies.iter().copied(), now);
        let all = cookies.iter().filter_map(|found| self.prove(found, now));
        let mut known = HashSet::new();
        chosen
            .map(|chosen| chosen.proved)
            .into_iter()
            .chain(all.map(|(_, proved)| proved))
            .filter(|proved| known.insert(proved.visitor))
            .collect()
    }

    /// Returns the value of a cookie for `visitor`, made at `now`, on `domain` or, without one, on
    /// this host alone. The host lies in the domain.
    #[must_use]
    pub fn sign(
        &self,
        visitor: VisitorId,
        domain: Option<&str>,
        now: UnixMicros,
    ) -> Option<String> {
        let labels = domain.map_or(0, |domain| domain.split('.').count());
        let labels = u8::try_from(labels).ok()?;
        let scope = scope_of(self.host, labels)?;
        self.keyring.sign_within(visitor, &[labels], &scope, now)
    }
}

/// Returns what a value is bound to at a host, in lower case: the domain of that many labels in
/// which the host lies, or the host itself.
fn scope_of(host: &str, labels: u8) -> Option<Cow<'_, str>> {
    let name = match usize::from(labels) {
        0 => host,
        labels => {
            let mut left = labels;
            let dot = host.bytes().rposition(|byte| {
                left -= usize::from(byte == b'.');
                left == 0
            });
            match dot {
                Some(dot) => host.get(dot + 1..)?,
                None if left == 1 => host,
                None => return None,
            }
        }
    };
    // Browsers write it so.
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Some(name.to_ascii_lowercase().into())
    } else {
        Some(name.into())
    }
}

impl CookieKeyring {
    /// Returns the keyring as the host that a request asks, named without its port, uses it.
    #[must_use]
    pub fn at<'k>(&'k self, host: &'k str) -> HostKeyring<'k> {
        HostKeyring {
            keyring: self,
            host,
        }
    }

    /// Returns the visitor whom a value that is bound to nothing proves at `now`, unless it is
    /// expired.
    #[must_use]
    pub fn verify(&self, value: &str, now: UnixMicros) -> Option<VisitorId> {
        let proved = self.at("").read(value, now)?;
        (!proved.is_expired).then_some(proved.visitor)
    }

    /// Returns a value for `visitor`, made at `now`, that is bound to nothing, as release 0.1.0
    /// made them.
    #[must_use]
    pub fn sign(&self, visitor: VisitorId, now: UnixMicros) -> Option<String> {
        self.sign_within(visitor, &[], "", now)
    }

    fn sign_within(
        &self,
        visitor: VisitorId,
        labels: &[u8],
        scope: &str,
        now: UnixMicros,
    ) -> Option<String> {
        let (key_id, key) = self.first()?;
        let made_at = u32::try_from(now.seconds()).ok()?.to_be_bytes();
        let mac_bytes = match labels {
            [] => MAC_BYTES,
            _ => BOUND_MAC_BYTES,
        };
        let mut value = [0; VALUE_BYTES_MAX];
        let (signed, mac_place) = value.split_at_mut_checked(UNBOUND_BYTES + labels.len())?;
        let (first, rest) = signed.split_first_mut()?;
        let (time, rest) = rest.split_first_chunk_mut()?;
        let (id, scope_labels) = rest.split_first_chunk_mut()?;
        (*first, *time, *id) = (key_id, made_at, visitor.0);
        scope_labels.copy_from_slice(labels);
        let signed_bytes = signed.len();
        let mac = key.clone().chain_update(&*signed);
        let mac = mac.chain_update(scope).finalize().into_bytes();
        mac_place
            .get_mut(..mac_bytes)?
            .copy_from_slice(mac.get(..mac_bytes)?);
        Some(URL_SAFE_NO_PAD.encode(value.get(..signed_bytes + mac_bytes)?))
    }

    /// Returns the token of a form that is for one visitor: the first 96 bits of HMAC-SHA-256 over
    /// `avtryck visitor 1`, `form` and the visitor's ID, in base64url. Every cookie's MAC is over
    /// more bytes.
    #[must_use]
    pub fn form_token(&self, visitor: VisitorId) -> Option<String> {
        let (_, key) = self.first()?;
        let mac = form_mac(key, visitor).finalize().into_bytes();
        Some(URL_SAFE_NO_PAD.encode(mac.get(..MAC_BYTES)?))
    }

    /// Checks whether a token is that of a form for that visitor.
    #[must_use]
    pub(crate) fn is_form_token(&self, visitor: VisitorId, token: &str) -> bool {
        let mut mac = [0; MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(token, &mut mac);
        let verifies = |key: &Key| form_mac(key, visitor).verify_truncated_left(&mac).is_ok();
        length == Ok(MAC_BYTES) && self.all().any(verifies)
    }

    /// Returns the handle by which a visitor's page names another device: the first 96 bits of
    /// HMAC-SHA-256 over `avtryck visitor 1`, `ties` and the first half of the SHA-256 of both IDs,
    /// in base64url. Nothing of the device's ID can be read from it, and no other visitor has the
    /// same. Every cookie's MAC is over more bytes, and that of a form over others.
    #[must_use]
    pub(crate) fn device_handle(&self, visitor: VisitorId, node: [u8; 16]) -> Option<String> {
        let (_, key) = self.first()?;
        let mac = handle_mac(key, visitor, node).finalize().into_bytes();
        Some(URL_SAFE_NO_PAD.encode(mac.get(..MAC_BYTES)?))
    }

    /// Checks whether a handle names a device on the page of a visitor.
    #[must_use]
    pub(crate) fn is_device_handle(
        &self,
        visitor: VisitorId,
        node: [u8; 16],
        handle: &str,
    ) -> bool {
        let mut mac = [0; MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(handle, &mut mac);
        let verifies = |key: &Key| {
            let expected = handle_mac(key, visitor, node);
            expected.verify_truncated_left(&mac).is_ok()
        };
        length == Ok(MAC_BYTES) && self.all().any(verifies)
    }
}

fn handle_mac(key: &Key, visitor: VisitorId, node: [u8; 16]) -> Key {
    let pair = Sha256::new().chain_update(visitor.0).chain_update(node);
    let pair = pair.finalize();
    let half = pair.get(..16).unwrap_or_default();
    key.clone().chain_update(b"ties").chain_update(half)
}

fn form_mac(key: &Key, visitor: VisitorId) -> Key {
    key.clone().chain_update(b"form").chain_update(visitor.0)
}

#[cfg(test)]
mod tests;
