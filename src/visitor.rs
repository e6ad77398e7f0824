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
//! A value is accepted if its MAC verifies under a configured key (compared in constant time) and
//! it is not older than the cookie's age: forged, foreign and expired values are replaced by a new
//! ID. One that was made in the future is accepted, for we made it: this clock or that of another
//! collector was or is wrong, and every visitor would become a new one. A cookie is set once and
//! not renewed by later hits, so that it ends when it said it would.
//!
//! A browser that sends several IDs is known by the oldest of them, in whichever order they come.

mod placement;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;

use crate::clock::UnixMicros;
use crate::hit::VisitorId;
use crate::keys::{CookieKeyring, Key};

pub use placement::{CookieKind, Party, Reach, lies_within, set_cookie};

/// The default age of the visitor cookie, and the age of the cookie that keeps a choice: less than
/// 13 months.
pub const COOKIE_DAYS: u16 = 390;
/// The age that a configuration may give the visitor cookie at most: 13 months.
pub const COOKIE_DAYS_MAX: u16 = 396;
/// [`COOKIE_DAYS`] in seconds.
pub const COOKIE_AGE_SECONDS: i64 = COOKIE_DAYS as i64 * 86_400;

const SIGNED_BYTES: usize = 21;
const MAC_BYTES: usize = 12;
const VALUE_BYTES: usize = SIGNED_BYTES + MAC_BYTES;

/// A visitor whom a cookie proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvedVisitor {
    /// The ID.
    pub visitor: VisitorId,
    /// When the ID was made, to the second.
    pub made_at: UnixMicros,
    /// Whether it is older than the configuration lets cookies get.
    pub is_expired: bool,
}

impl ProvedVisitor {
    /// Returns whether the cookie is older at `now` than any that a browser still sends: the clock
    /// is wrong. A cookie that is expired and no older was made before the configuration was
    /// changed.
    #[must_use]
    pub fn is_impossible(&self, now: UnixMicros) -> bool {
        self.is_expired && now.seconds() - self.made_at.seconds() >= COOKIE_AGE_SECONDS
    }

    /// Returns the older of two that are not expired; of two that are as old always the same one.
    fn min_by_age(self, other: ProvedVisitor) -> ProvedVisitor {
        let key = |proved: &ProvedVisitor| (proved.is_expired, proved.made_at.0, proved.visitor.0);
        std::cmp::min_by_key(self, other, key)
    }
}

impl CookieKeyring {
    /// Returns the visitor whom a cookie's value proves at `now`, unless it is expired.
    #[must_use]
    pub fn verify(&self, value: &str, now: UnixMicros) -> Option<VisitorId> {
        self.read(value, now)
            .filter(|proved| !proved.is_expired)
            .map(|proved| proved.visitor)
    }

    /// Returns the visitor whom a cookie's value proves, with the time at which the ID was made and
    /// whether it is expired at `now`.
    #[must_use]
    pub fn read(&self, value: &str, now: UnixMicros) -> Option<ProvedVisitor> {
        let mut bytes = [0; VALUE_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        if length != VALUE_BYTES {
            return None;
        }
        let (signed, mac) = bytes.split_at_checked(SIGNED_BYTES)?;
        let (key_id, rest) = signed.split_first()?;
        let (made_at, id) = rest.split_first_chunk::<4>()?;
        self.find(*key_id)?
            .clone()
            .chain_update(signed)
            .verify_truncated_left(mac)
            .ok()?;
        let made_at = i64::from(u32::from_be_bytes(*made_at));
        let age_seconds = now.seconds() - made_at;
        Some(ProvedVisitor {
            visitor: VisitorId(id.try_into().ok()?),
            made_at: UnixMicros(made_at * 1_000_000),
            is_expired: age_seconds >= self.age_seconds_max(),
        })
    }

    /// Returns the visitor whom the values of a request's cookies prove, and whether they prove
    /// others too.
    #[must_use]
    pub fn choose<'v>(
        &self,
        values: impl Iterator<Item = &'v str>,
        now: UnixMicros,
    ) -> Option<(ProvedVisitor, bool)> {
        values
            .filter_map(|value| self.read(value, now))
            .map(|proved| (proved, false))
            .reduce(|(one, differ), (other, _)| {
                let oldest = one.min_by_age(other);
                let are_two = one.is_expired == other.is_expired && one.visitor != other.visitor;
                (oldest, differ || are_two)
            })
    }

    /// Returns the value of a cookie for `visitor`, made at `now`.
    #[must_use]
    pub fn sign(&self, visitor: VisitorId, now: UnixMicros) -> Option<String> {
        let (key_id, key) = self.first()?;
        let mut value = [0; VALUE_BYTES];
        let (signed, mac) = value.split_at_mut_checked(SIGNED_BYTES)?;
        let (id, rest) = signed.split_first_mut()?;
        let (made_at, visitor_id) = rest.split_first_chunk_mut::<4>()?;
        *id = key_id;
        *made_at = u32::try_from(now.seconds()).ok()?.to_be_bytes();
        visitor_id.copy_from_slice(&visitor.0);
        let whole = key.clone().chain_update(signed).finalize().into_bytes();
        mac.copy_from_slice(whole.get(..MAC_BYTES)?);
        Some(URL_SAFE_NO_PAD.encode(value))
    }

    /// Returns the token of a form that is for one visitor: the first 96 bits of HMAC-SHA-256 over
    /// `avtryck visitor 1`, `form` and the visitor's ID, in base64url. No cookie's value is a MAC
    /// over that many bytes.
    #[must_use]
    pub fn form_token(&self, visitor: VisitorId) -> Option<String> {
        let (_, key) = self.first()?;
        let mac = form_mac(key, visitor).finalize().into_bytes();
        Some(URL_SAFE_NO_PAD.encode(mac.get(..MAC_BYTES)?))
    }

    /// Checks whether a token is that of a form for that visitor.
    #[must_use]
    pub fn is_form_token(&self, visitor: VisitorId, token: &str) -> bool {
        let mut mac = [0; MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(token, &mut mac);
        let verifies = |key: &Key| form_mac(key, visitor).verify_truncated_left(&mac).is_ok();
        length == Ok(MAC_BYTES) && self.all().any(verifies)
    }
}

fn form_mac(key: &Key, visitor: VisitorId) -> Key {
    key.clone().chain_update(b"form").chain_update(visitor.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

    fn ring(keys: &[(u8, &[u8])]) -> CookieKeyring {
        CookieKeyring::new(keys.iter().copied(), COOKIE_AGE_SECONDS)
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
    fn of_several_ids_the_oldest_that_verifies_holds_in_any_order() {
        let ring = ring(&[(1, &[1; 32])]);
        let sign = |id: u8, seconds: i64| {
            let value = ring.sign(VisitorId([id; 16]), later(seconds));
            value.expect("a key signs")
        };
        let (old, new, as_old) = (sign(1, -9), sign(2, -5), sign(3, -9));
        let expired = sign(4, -COOKIE_AGE_SECONDS);
        let forged = old.replace('A', "B");
        let choose = |values: &[&str]| {
            let chosen = ring.choose(values.iter().copied(), NOW);
            chosen.map(|(proved, differ)| (proved.visitor.0[0], differ))
        };
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[&forged, ""]), None);
        // Whoever sees that it is expired counts the hit alone.
        assert_eq!(choose(&[&forged, &expired, ""]), Some((4, false)));
        assert_eq!(choose(&[&forged, &new, &expired]), Some((2, false)));
        assert_eq!(choose(&[&new, &new]), Some((2, false)));
        for values in [[&new, &old, &as_old], [&as_old, &old, &new]] {
            assert_eq!(choose(&values.map(String::as_str)), Some((1, true)));
        }
    }

    #[test]
    fn a_form_is_for_the_visitor_it_was_made_for_whichever_key_is_first() {
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
    fn a_value_expires_at_its_age_and_a_clock_that_went_back_makes_no_visitor_new() {
        let ring = ring(&[(1, &[1; 32])]);
        let value = ring.sign(VisitorId([9; 16]), NOW).expect("a key signs");
        assert!(ring.verify(&value, later(COOKIE_AGE_SECONDS - 1)).is_some());
        assert!(ring.verify(&value, later(COOKIE_AGE_SECONDS)).is_none());
        for seconds_back in [1, 300, 100 * 86_400, 1_800_000_000] {
            assert!(ring.verify(&value, later(-seconds_back)).is_some());
        }
    }

    #[test]
    fn no_value_with_one_character_changed_is_accepted() {
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

    /// Numbers from a seed, by SplitMix64.
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

    /// Makes one forgery of signed values: of their bytes, of their text, or of several of them.
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
    fn none_of_a_million_forgeries_is_accepted() {
        let mut random = Random(17);
        let visitors: Vec<VisitorId> = (0..64_u8).map(|at| VisitorId([at; 16])).collect();
        let ours = ring(&[(1, &[1; 32]), (2, &[2; 32])]);
        let second = ring(&[(2, &[2; 32])]);
        let stranger = ring(&[(1, &[3; 32])]);
        let sign = |ring: &CookieKeyring, at: usize| {
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
            // A splice of a value with itself is that value, and names the visitor it was signed
            // for.
            let known = by_value.get(value.as_str()).copied();
            assert_eq!(believed, known, "{value}");
            match known {
                Some(_) => unchanged += 1,
                None => forgeries += 1,
            }
        }
        eprintln!("{forgeries} forgeries, none accepted; {unchanged} more were not forgeries");
        assert_eq!(by_value.len(), 64);
    }

    #[test]
    fn the_tag_and_the_documentation_give_the_age_of_a_cookie() {
        let max_age = format!(";max-age={COOKIE_AGE_SECONDS};");
        let days = format!("{COOKIE_DAYS} days");
        let days_max = format!("{COOKIE_DAYS_MAX} days");
        for (text, expected) in [
            (include_str!("../assets/tag.js"), &max_age),
            (include_str!("../docs/tag.md"), &days),
            (include_str!("../docs/consent.md"), &days),
            (include_str!("../docs/consent.md"), &days_max),
        ] {
            assert!(text.contains(expected), "{expected}");
        }
    }
}
