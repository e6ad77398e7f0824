//! The key of households: it makes numbers of addresses, and is gone after an epoch.
//!
//! A number is an HMAC of a whole address, so only who has the key of an epoch can tell whether an
//! address had it. Each epoch has its own key, which follows from the one before and from which the
//! one before cannot be computed. Collectors that were given the same first key therefore agree
//! without talking to each other, and nobody who finds a key later can go back.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::Key;
use crate::identity::household::EPOCH_DAYS;

/// What the text of a key begins with.
const FORM: &str = "avtryck-household-1";
/// What precedes a key where the next one is made of it.
const RATCHET: &[u8] = b"avtryck household";

/// The key of one epoch.
#[derive(Clone)]
pub(crate) struct HouseholdKey {
    epoch: i32,
    made_on: i32,
    secret: [u8; 32],
    /// The secret as a key, so that each number begins with a copy of its state.
    key: Key,
}

/// Returns the epoch of a UTC day since 1970.
#[must_use]
pub(crate) fn epoch_of(day: i32) -> i32 {
    day.div_euclid(i32::from(EPOCH_DAYS))
}

impl HouseholdKey {
    /// Makes the key of an epoch of its secret. `made_on` is the day of that.
    #[must_use]
    pub(crate) fn new(epoch: i32, made_on: i32, secret: [u8; 32]) -> HouseholdKey {
        HouseholdKey {
            epoch,
            made_on,
            secret,
            key: Key::new_from_slice(&secret).unwrap_or_else(|_| Key::new(&[0; 64].into())),
        }
    }

    /// Returns the epoch of which it is the key.
    #[must_use]
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Returns the key that is due on a day: the next one, once its own epoch has ended. There is
    /// at most one step a day, so that a clock which jumps makes one step and not a hundred.
    #[must_use]
    pub(crate) fn due(&self, day: i32) -> Option<HouseholdKey> {
        let is_due = epoch_of(day) > self.epoch && day > self.made_on;
        is_due.then(|| {
            let hash = Sha256::new()
                .chain_update(RATCHET)
                .chain_update(self.secret);
            HouseholdKey::new(self.epoch.saturating_add(1), day, hash.finalize().into())
        })
    }

    /// Returns the number of an address: of IPv4 as a whole, of an IPv6 /64, or of a /56 where a
    /// home has all of that.
    #[must_use]
    pub(crate) fn number(&self, ip: IpAddr, has_56: bool) -> i64 {
        let mut mac = self.key.clone();
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                mac.update(&[4]);
                mac.update(&ip.octets());
            }
            IpAddr::V6(ip) => {
                let [network @ .., _, _, _, _, _, _, _, _] = ip.octets();
                let [wide @ .., _]: [u8; 8] = network;
                mac.update(&[6]);
                mac.update(if has_56 { &wide[..] } else { &network[..] });
            }
        }
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = mac.finalize().into_bytes().into();
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Reads the text of a key.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<HouseholdKey> {
        let mut words = text.split_ascii_whitespace();
        if words.next()? != FORM {
            return None;
        }
        let (epoch, made_on) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let secret = STANDARD.decode(words.next()?).ok()?.try_into().ok()?;
        let is_all = words.next().is_none();
        is_all.then(|| HouseholdKey::new(epoch, made_on, secret))
    }

    /// Returns it as a text: whoever has that can find the address of each number of the epoch.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        let secret = STANDARD.encode(self.secret);
        format!("{FORM} {} {} {secret}\n", self.epoch, self.made_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i32 = 20_783;

    fn key() -> HouseholdKey {
        HouseholdKey::new(epoch_of(DAY), DAY, [7; 32])
    }

    fn number(key: &HouseholdKey, ip: &str, has_56: bool) -> i64 {
        key.number(ip.parse().expect("an address"), has_56)
    }

    #[test]
    fn an_address_is_as_much_of_it_as_a_home_has() {
        let key = key();
        let number = |ip, has_56| number(&key, ip, has_56);
        assert_ne!(number("192.0.2.1", false), number("192.0.2.2", false));
        assert_eq!(number("192.0.2.1", true), number("::ffff:192.0.2.1", false));
        let (one, same_64, same_56) = ("2001:db8:0:1::1", "2001:db8:0:1:2::", "2001:db8:0:ff::");
        assert_eq!(number(one, false), number(same_64, false));
        assert_ne!(number(one, false), number(same_56, false));
        assert_eq!(number(one, true), number(same_56, true));
        assert_ne!(number(one, true), number("2001:db8:0:100::", true));
        assert_ne!(number(one, true), number(one, false));
    }

    #[test]
    fn a_key_is_due_after_its_epoch_and_once_a_day() {
        let key = key();
        let first_of_next = (key.epoch() + 1) * i32::from(EPOCH_DAYS);
        assert!(key.due(first_of_next - 1).is_none());
        assert!(key.due(first_of_next - 400).is_none());
        let next = key.due(first_of_next).expect("the next key");
        assert_eq!(next.epoch(), key.epoch() + 1);
        // A clock that shows 400 days later takes one step a day, and one that is set back none.
        let ahead = key.due(first_of_next + 400).expect("the next key");
        assert_eq!(ahead.epoch(), key.epoch() + 1);
        assert!(ahead.due(first_of_next + 400).is_none());
        assert!(ahead.due(first_of_next).is_none());
        assert_eq!(ahead.secret, next.secret);
    }

    #[test]
    fn collectors_with_the_same_first_key_agree_and_a_later_key_tells_nothing_of_an_earlier() {
        let (one, other) = (key(), HouseholdKey::parse(&key().to_text()).expect("a key"));
        let next_day = (one.epoch() + 1) * i32::from(EPOCH_DAYS);
        let (next, others) = (one.due(next_day), other.due(next_day + 5));
        let (next, others) = (next.expect("a key"), others.expect("a key"));
        assert_eq!(
            number(&next, "192.0.2.1", false),
            number(&others, "192.0.2.1", false)
        );
        // The number of before is none that the later key gives to any address of the network.
        let before = number(&one, "192.0.2.1", false);
        let mut all = (0..=u16::MAX).map(|low| {
            let ip = (0xc000_0000 | u32::from(low)).to_be_bytes();
            next.number(ip.into(), false)
        });
        assert!(all.all(|number| number != before));
        let text = next.to_text();
        assert!(!text.contains(&STANDARD.encode(one.secret)));
    }

    #[test]
    fn a_text_that_is_no_key_is_refused() {
        let text = key().to_text();
        for wrong in [
            "",
            "avtryck-household-1",
            "1 2 3 4",
            text.trim_end().trim_end_matches('='),
            &format!("{text} 1"),
        ] {
            assert!(HouseholdKey::parse(wrong).is_none(), "{wrong}");
        }
        let again = HouseholdKey::parse(&text).expect("a key");
        assert_eq!(again.to_text(), text);
    }
}
