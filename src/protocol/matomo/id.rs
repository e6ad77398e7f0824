//! The ID of an event, which no tracker sends.
//!
//! A browser whose POST a proxy has refused repeats it as an image, and an app repeats a list whose
//! reply got lost. A repeat has the marks of the moment that the first try had, so the ID is a hash
//! of these ([`MARKS`]) and of the site. What else differs makes it another event anyway: the
//! loader compares what two hits of one ID say.
//!
//! - Where a mark is random (`r`, `rand`), nothing of the visitor goes into the hash. Whoever knows
//!   or guesses an ID, or what was taken out of an address, cannot find the visitor's hits by it.
//! - Where none is, as in Matomo's app for iOS, only the tracker's ID of the visitor tells two
//!   visitors of one moment apart, and only all else that it says two events of one second. All of
//!   it goes into the hash, and the event's ID is one of the visitor: it needs `store`.
//! - A request without any of that has no ID. The image that Matomo recommends for pages without
//!   scripts is the same for every visitor (`?idsite=1&rec=1`), and so are page views as servers
//!   send them. To take one for a repeat would make all of them one hit.

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::fields::RequestFields;

/// The random numbers.
const RANDOM: [&str; 2] = ["rand", "r"];
/// The shortest text that may be a random number. An image of a page may have a constant.
const RANDOM_BYTES_MIN: usize = 4;
/// When it happened: one of these, or all of the others.
const MOMENT: &str = "cdt";
const CLOCK: [&str; 3] = ["h", "m", "s"];
/// What differs between two events and not between two tries of one. None of it is taken away from
/// a hit without `store`.
const MARKS: [&str; 15] = [
    "rand", "r", "cdt", "h", "m", "s", "pv_id", "_idn", "_idvc", "_idts", "_viewts", "_refts",
    "_ects", "res", "lang",
];
/// What differs between two tries of one event.
const OF_A_TRY: [&str; 2] = ["send_image", "token_auth"];
/// Room for the marks of most events.
const HASHED_BYTES: usize = 256;
/// The length of an ID, in bytes of its hash.
const HASH_BYTES: usize = 16;

/// The ID of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EventId {
    pub(super) text: String,
    /// Whether the visitor's ID went into it.
    pub(super) is_of_visitor: bool,
}

/// Makes the ID of an event on a site, by a visitor whom the tracker gave an ID.
pub(super) fn event_id(fields: &RequestFields, site: &str, visitor: &str) -> Option<EventId> {
    let is_random = |name: &str| {
        let text = fields.text(name).unwrap_or_default().as_bytes();
        let is_of_number = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
        text.len() >= RANDOM_BYTES_MIN
            && text.iter().all(is_of_number)
            && text.iter().any(u8::is_ascii_digit)
    };
    let has = |name: &str| fields.text(name).is_some();
    let has_random = RANDOM.into_iter().any(is_random);
    let has_moment = has(MOMENT) || CLOCK.into_iter().all(has);
    if !has_random && (visitor.is_empty() || !has_moment) {
        return None;
    }
    let mut hashed = Vec::with_capacity(HASHED_BYTES);
    let mut add = |part: &str| {
        hashed.extend_from_slice(part.as_bytes());
        // A byte that no UTF-8 has.
        hashed.push(0xff);
    };
    add(site);
    if has_random {
        MARKS
            .iter()
            .for_each(|mark| add(fields.text(mark).unwrap_or_default()));
    } else {
        add(visitor);
        let said = fields
            .iter()
            .filter(|field| !OF_A_TRY.contains(&&*field.name));
        let mut said: Vec<_> = said.map(|field| [&*field.name, &*field.text]).collect();
        said.sort_unstable();
        said.iter().flatten().for_each(|part| add(part));
    }
    // A letter comes first, because an ID that begins with digits would begin with a time.
    let mut text = String::from("m");
    let hash = Sha256::digest(&hashed);
    HEXLOWER.encode_append(hash.get(..HASH_BYTES).unwrap_or(&hash), &mut text);
    Some(EventId {
        text,
        is_of_visitor: !has_random,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(query: &str) -> Option<(String, bool)> {
        let fields = RequestFields::of_query(query);
        let visitor = fields.text("_id").unwrap_or_default();
        event_id(&fields, "1", visitor).map(|id| (id.text, id.is_of_visitor))
    }

    #[test]
    fn a_repeat_has_the_id_of_the_first_try() {
        let first = id("r=863735&h=17&m=38&s=55&send_image=0&_id=a&pv_id=AaHUu1");
        let again = id("pv_id=AaHUu1&h=17&r=863735&m=38&s=55&_id=a&send_image=1");
        assert!(first.is_some());
        assert_eq!(first, again);
        for other in [
            "r=863736&h=17&m=38&s=55&pv_id=AaHUu1",
            "r=863735&h=17&m=38&s=56&pv_id=AaHUu1",
            "r=863735&h=17&m=38&s=55&pv_id=AaHUu2",
        ] {
            assert_ne!(first, id(other), "{other}");
        }
    }

    #[test]
    fn nothing_of_the_visitor_is_in_an_id_that_a_random_number_makes() {
        let (text, is_of_visitor) =
            id("r=863735&h=1&m=2&s=3&_id=a&uid=u&cid=b").unwrap_or_default();
        assert!(!is_of_visitor);
        assert_eq!(id("r=863735&h=1&m=2&s=3&_id=b&uid=v"), Some((text, false)));
    }

    #[test]
    fn without_a_random_number_the_visitor_tells_moments_apart() {
        let one = id("cdt=2026-11-25 10:00:00&_id=a");
        assert!(
            one.as_ref()
                .is_some_and(|(_, is_of_visitor)| *is_of_visitor)
        );
        assert_ne!(one, id("cdt=2026-11-25 10:00:00&_id=b"));
        assert!(id("h=1&m=2&s=3&_id=a").is_some());
        // Two of one second, in a repeat in another order.
        let (home, cart) = (
            "_id=a&h=1&m=2&s=3&action_name=Home",
            "action_name=Cart&_id=a&h=1&m=2&s=3",
        );
        assert_ne!(id(home), id(cart));
        assert_eq!(
            id(home),
            id("action_name=Home&s=3&m=2&h=1&_id=a&send_image=1")
        );
    }

    #[test]
    fn a_request_that_others_send_as_well_has_no_id() {
        for query in [
            "",
            "url=https://shop.example/",
            "_id=a",
            "h=1&m=2&_id=a",
            "h=1&m=2&s=3",
            "rand=1",
            "rand=undefined",
            "rand=[timestamp]",
            "rand=%%CACHEBUSTER%%",
            "pv_id=AaHUu1",
        ] {
            assert_eq!(id(query), None, "{query}");
        }
    }
}
