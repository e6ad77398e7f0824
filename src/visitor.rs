//! The visitor's ID and its cookie. Pure: entropy and time are passed in.
//!
//! # The value
//! 33 bytes, in base64url without padding (44 characters):
//!
//! | bytes | hold |
//! | --- | --- |
//! | 0 | the key's ID |
//! | 1..5 | when it was made: seconds since 1970, u32, big-endian |
//! | 5..21 | the visitor's ID, 128 random bits |
//! | 21..33 | MAC: the first 96 bits of HMAC-SHA-256 over `avtryck visitor 1` and bytes 0..21 |
//!
//! A value is believed if its MAC verifies under a configured key (compared in constant time) and
//! it is not older than the cookie's age: forged, foreign and expired values are replaced by a new
//! ID. A cookie is set once and not renewed by later hits, so that it ends when it said it would.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::clock::UnixMicros;
use crate::hit::VisitorId;

const CONTEXT: &[u8] = b"avtryck visitor 1";
const SIGNED_BYTES: usize = 21;
const MAC_BYTES: usize = 12;
const VALUE_BYTES: usize = SIGNED_BYTES + MAC_BYTES;

/// How far in the future a cookie may have been made: clocks of several collectors differ.
const SKEW_SECONDS: i64 = 300;

/// The keys of the cookie: the first signs, each verifies.
pub struct Keyring {
    keys: Vec<(u8, Hmac<Sha256>)>,
    age_seconds_max: i64,
}

impl Keyring {
    /// A ring of keys with their IDs, for cookies that last `age_seconds_max`. At least one key.
    #[must_use]
    pub fn new<'k>(
        keys: impl IntoIterator<Item = (u8, &'k [u8])>,
        age_seconds_max: i64,
    ) -> Keyring {
        let key = |(id, secret): (u8, &[u8])| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
            mac.update(CONTEXT);
            Some((id, mac))
        };
        Keyring {
            keys: keys.into_iter().filter_map(key).collect(),
            age_seconds_max,
        }
    }

    /// The visitor of a cookie's value, if it is to be believed at `now`.
    #[must_use]
    pub fn verify(&self, value: &str, now: UnixMicros) -> Option<VisitorId> {
        self.read(value, now).map(|known| known.visitor)
    }

    /// The same, with the time at which the ID was made.
    #[must_use]
    pub fn read(&self, value: &str, now: UnixMicros) -> Option<Known> {
        let mut bytes = [0; VALUE_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        if length != VALUE_BYTES {
            return None;
        }
        let (signed, mac) = bytes.split_at_checked(SIGNED_BYTES)?;
        let (key_id, rest) = signed.split_first()?;
        let (made_at, id) = rest.split_first_chunk::<4>()?;
        let (_, key) = self.keys.iter().find(|(id, _)| id == key_id)?;
        key.clone()
            .chain_update(signed)
            .verify_truncated_left(mac)
            .ok()?;
        let made_at = i64::from(u32::from_be_bytes(*made_at));
        let fresh = (-SKEW_SECONDS..self.age_seconds_max).contains(&(now.seconds() - made_at));
        let known = Known {
            visitor: VisitorId(id.try_into().ok()?),
            made_at: UnixMicros(made_at * 1_000_000),
        };
        Some(known).filter(|_| fresh)
    }

    /// What a form carries that is for a visitor: the first 96 bits of HMAC-SHA-256 over `avtryck visitor 1`,
    /// `form` and the visitor's ID, in base64url. No cookie's value is a MAC over so many bytes.
    #[must_use]
    pub fn form_token(&self, visitor: VisitorId) -> Option<String> {
        let (_, key) = self.keys.first()?;
        let mac = form_mac(key, visitor).finalize().into_bytes();
        Some(URL_SAFE_NO_PAD.encode(mac.get(..MAC_BYTES)?))
    }

    /// Whether a token is a form's for that visitor.
    #[must_use]
    pub fn is_form_token(&self, visitor: VisitorId, token: &str) -> bool {
        let mut mac = [0; MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(token, &mut mac);
        let verifies = |key| form_mac(key, visitor).verify_truncated_left(&mac).is_ok();
        length == Ok(MAC_BYTES) && self.keys.iter().any(|(_, key)| verifies(key))
    }

    /// The value of a cookie that names `visitor`, made at `now`.
    #[must_use]
    pub fn sign(&self, visitor: VisitorId, now: UnixMicros) -> Option<String> {
        let (key_id, key) = self.keys.first()?;
        let mut value = [0; VALUE_BYTES];
        let (signed, mac) = value.split_at_mut_checked(SIGNED_BYTES)?;
        let (id, rest) = signed.split_first_mut()?;
        let (made_at, visitor_id) = rest.split_first_chunk_mut::<4>()?;
        *id = *key_id;
        *made_at = u32::try_from(now.seconds()).ok()?.to_be_bytes();
        visitor_id.copy_from_slice(&visitor.0);
        let whole = key.clone().chain_update(signed).finalize().into_bytes();
        mac.copy_from_slice(whole.get(..MAC_BYTES)?);
        Some(URL_SAFE_NO_PAD.encode(value))
    }
}

fn form_mac(key: &Hmac<Sha256>, visitor: VisitorId) -> Hmac<Sha256> {
    key.clone().chain_update(b"form").chain_update(visitor.0)
}

/// A visitor as their cookie names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The ID.
    pub visitor: VisitorId,
    /// When it was made, to the second.
    pub made_at: UnixMicros,
}

/// Where a cookie is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement<'a> {
    /// On the site's own domain; without one, on the collector's host alone.
    FirstParty {
        /// `cookie_domain`, where the collector's host lies in it.
        domain: Option<&'a str>,
    },
    /// In a page of another site: a cookie per embedding site (CHIPS).
    ThirdParty,
}

/// The `Set-Cookie` header of a cookie for the collector's eyes only. `None` where a browser would not
/// keep it: a third-party cookie needs https.
#[must_use]
pub fn set_cookie(
    name: &str,
    value: &str,
    placement: Placement<'_>,
    secure: bool,
    age_seconds: i64,
) -> Option<String> {
    let cookie = format!("{name}={value}; Path=/; Max-Age={age_seconds}; HttpOnly");
    placed(cookie, placement, secure)
}

/// The same for a cookie that the page's scripts may read.
#[must_use]
pub fn set_open_cookie(
    name: &str,
    value: &str,
    placement: Placement<'_>,
    secure: bool,
    age_seconds: i64,
) -> Option<String> {
    let cookie = format!("{name}={value}; Path=/; Max-Age={age_seconds}");
    placed(cookie, placement, secure)
}

fn placed(mut cookie: String, placement: Placement<'_>, secure: bool) -> Option<String> {
    match placement {
        Placement::FirstParty { domain } => {
            if let Some(domain) = domain {
                cookie.push_str("; Domain=");
                cookie.push_str(domain);
            }
            cookie.push_str("; SameSite=Lax");
            if secure {
                cookie.push_str("; Secure");
            }
        }
        Placement::ThirdParty if secure => cookie.push_str("; SameSite=None; Secure; Partitioned"),
        Placement::ThirdParty => return None,
    }
    Some(cookie)
}

/// Whether `host` is `domain` or lies below it.
#[must_use]
pub fn lies_within(host: &str, domain: &str) -> bool {
    let Some(front) = host.len().checked_sub(domain.len()) else {
        return false;
    };
    let (sub, end) = host.split_at_checked(front).unwrap_or_default();
    end.eq_ignore_ascii_case(domain) && (sub.is_empty() || sub.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);
    const DAY_SECONDS: i64 = 86_400;

    fn ring(keys: &[(u8, &[u8])]) -> Keyring {
        Keyring::new(keys.iter().copied(), 390 * DAY_SECONDS)
    }

    fn later(seconds: i64) -> UnixMicros {
        UnixMicros(NOW.0 + seconds * 1_000_000)
    }

    #[test]
    fn a_signed_value_verifies_under_old_and_new_keys() {
        let old = ring(&[(1, &[1; 32])]);
        let both = ring(&[(2, &[2; 32]), (1, &[1; 32])]);
        let visitor = VisitorId([9; 16]);
        let value = old.sign(visitor, NOW).expect("a key signs");
        assert_eq!(value.len(), 44);
        assert_eq!(both.verify(&value, NOW), Some(visitor));
        assert_eq!(ring(&[(1, &[3; 32])]).verify(&value, NOW), None);
        assert_eq!(
            old.verify(&both.sign(visitor, NOW).expect("a key signs"), NOW),
            None
        );
    }

    #[test]
    fn a_form_is_for_the_visitor_that_it_was_made_for_whichever_key_is_the_first() {
        let old = ring(&[(1, &[1; 32])]);
        let both = ring(&[(2, &[2; 32]), (1, &[1; 32])]);
        let visitor = VisitorId([9; 16]);
        let token = old.form_token(visitor).expect("a key signs");
        assert_eq!(token.len(), 16);
        assert!(old.is_form_token(visitor, &token) && both.is_form_token(visitor, &token));
        assert!(!both.is_form_token(VisitorId([8; 16]), &token));
        assert!(!ring(&[(1, &[3; 32])]).is_form_token(visitor, &token));
        for other in ["", "A", &token[..15], &token[4..], &format!("{token}AAAA")] {
            assert!(!both.is_form_token(visitor, other), "{other}");
        }
    }

    #[test]
    fn a_value_ends_with_its_age_and_none_comes_from_the_future() {
        let ring = ring(&[(1, &[1; 32])]);
        let value = ring.sign(VisitorId([9; 16]), NOW).expect("a key signs");
        assert!(ring.verify(&value, later(390 * DAY_SECONDS - 1)).is_some());
        assert!(ring.verify(&value, later(390 * DAY_SECONDS)).is_none());
        assert!(ring.verify(&value, later(-SKEW_SECONDS)).is_some());
        assert!(ring.verify(&value, later(-SKEW_SECONDS - 1)).is_none());
    }

    #[test]
    fn no_change_of_a_single_character_is_believed() {
        let ring = ring(&[(1, &[1; 32])]);
        let value = ring.sign(VisitorId([9; 16]), NOW).expect("a key signs");
        for at in 0..value.len() {
            for other in "ABab09-_=".chars() {
                let mut forged = value.clone();
                forged.replace_range(at..=at, &other.to_string());
                assert!(
                    forged == value || ring.verify(&forged, NOW).is_none(),
                    "{forged}"
                );
            }
        }
        assert_eq!(ring.verify("", NOW), None);
        assert_eq!(ring.verify(&value[1..], NOW), None);
    }

    /// Numbers from a seed: SplitMix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((z ^ (z >> 31)) % limit as u64).expect("below a usize")
        }
    }

    /// One forgery made of signed values: of their bytes, of their text, or of several of them.
    fn forge(random: &mut Random, signed: &[String], foreign: &[String]) -> String {
        let text = |random: &mut Random| signed[random.below(signed.len())].clone();
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64");
        let value = text(random);
        match random.below(10) {
            0 | 1 => {
                let mut bytes = bytes(&value);
                for _ in 0..=random.below(4) {
                    let at = random.below(bytes.len());
                    bytes[at] ^= 1 << random.below(8);
                }
                URL_SAFE_NO_PAD.encode(bytes)
            }
            2 | 3 => {
                let (one, other) = (bytes(&value), bytes(&text(random)));
                let at = random.below(one.len() + 1);
                URL_SAFE_NO_PAD.encode([&one[..at], &other[at..]].concat())
            }
            4 => {
                // Another key's ID, time or visitor under this one's MAC.
                let (mut one, other) = (bytes(&value), bytes(&text(random)));
                let part = [0..1, 1..5, 5..21, 21..33][random.below(4)].clone();
                one[part.clone()].copy_from_slice(&other[part]);
                URL_SAFE_NO_PAD.encode(one)
            }
            5 => value[..random.below(value.len())].to_owned(),
            6 => format!("{value}{}", &text(random)[..random.below(44)]),
            7 => {
                let characters = b"ABCabc019-_=+/%\" \t;,.\xc3";
                let mut changed = value.into_bytes();
                let at = random.below(changed.len());
                changed[at] = characters[random.below(characters.len())];
                String::from_utf8_lossy(&changed).into_owned()
            }
            8 => {
                let bytes = bytes(&value);
                match random.below(4) {
                    0 => base64::engine::general_purpose::URL_SAFE.encode([&*bytes, &[0]].concat()),
                    1 => base64::engine::general_purpose::STANDARD.encode(bytes),
                    2 => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                    _ => value.to_ascii_lowercase(),
                }
            }
            _ => foreign[random.below(foreign.len())].clone(),
        }
    }

    #[test]
    fn none_of_a_million_forgeries_is_believed() {
        let mut random = Random(17);
        let visitors: Vec<VisitorId> = (0..64_u8).map(|at| VisitorId([at; 16])).collect();
        let ours = ring(&[(1, &[1; 32]), (2, &[2; 32])]);
        let second = ring(&[(2, &[2; 32])]);
        let stranger = ring(&[(1, &[3; 32])]);
        let sign = |ring: &Keyring, at: usize| {
            let made_at = later(-i64::try_from(at).expect("small") * 1000);
            ring.sign(visitors[at], made_at).expect("a key signs")
        };
        // Each visitor once, under the one key or the other.
        let signed: Vec<String> = (0..64)
            .map(|at| sign(if at % 2 == 0 { &ours } else { &second }, at))
            .collect();
        let foreign: Vec<String> = (0..64).map(|at| sign(&stranger, at)).collect();
        let by_value: std::collections::HashMap<&str, VisitorId> = signed
            .iter()
            .map(String::as_str)
            .zip(visitors.iter().copied())
            .collect();
        let (mut forgeries, mut unchanged) = (0, 0);
        while forgeries < 1_000_000 {
            let value = forge(&mut random, &signed, &foreign);
            let believed = ours.verify(&value, NOW);
            // A splice of a value with itself is that value, and means the visitor it was signed for.
            let known = by_value.get(value.as_str()).copied();
            assert_eq!(believed, known, "{value}");
            match known {
                Some(_) => unchanged += 1,
                None => forgeries += 1,
            }
        }
        eprintln!("{forgeries} forgeries, none believed; {unchanged} more were no forgeries");
        assert_eq!(by_value.len(), 64);
    }

    #[test]
    fn the_header_fits_its_placement() {
        let cookie = |placement, secure| set_cookie("avid", "v", placement, secure, 60);
        let own = Placement::FirstParty {
            domain: Some("telenor.se"),
        };
        assert_eq!(
            cookie(own, true).as_deref(),
            Some("avid=v; Path=/; Max-Age=60; HttpOnly; Domain=telenor.se; SameSite=Lax; Secure")
        );
        assert_eq!(
            cookie(Placement::FirstParty { domain: None }, false).as_deref(),
            Some("avid=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax")
        );
        assert_eq!(
            cookie(Placement::ThirdParty, true).as_deref(),
            Some("avid=v; Path=/; Max-Age=60; HttpOnly; SameSite=None; Secure; Partitioned")
        );
        assert_eq!(cookie(Placement::ThirdParty, false), None);
    }

    #[test]
    fn a_host_lies_within_its_domain_only() {
        assert!(lies_within("px.telenor.se", "telenor.se"));
        assert!(lies_within("TELENOR.se", "telenor.se"));
        assert!(!lies_within("eviltelenor.se", "telenor.se"));
        assert!(!lies_within("telenor.se.evil.example", "telenor.se"));
        assert!(!lies_within("se", "telenor.se"));
    }
}
