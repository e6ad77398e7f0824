//! The `Cookie` header: the visitor's value and the choice.

use std::sync::OnceLock;

use avtryck::clock::UnixMicros;
use avtryck::consent::{PermitRules, Signals, Strings, decide};
use avtryck::hit::{ConsentSource, Kind, Permit, VisitorId};
use avtryck::keys::CookieKeyring;
use avtryck::protocol::signals;
use avtryck::request::Headers;
use avtryck::visitor::{COOKIE_AGE_SECONDS, Party, set_cookie};
use hyper::header::{COOKIE, HeaderMap, HeaderValue};

use super::sound::NOW;

const HOST: &str = "px.shop.example";
const VISITOR: VisitorId = VisitorId([9; 16]);

/// A `Cookie` header's value, or the value of the visitor's cookie alone.
pub fn cookie(bytes: &[u8]) {
    let ring = CookieKeyring::new([(1, &[1; 32][..]), (2, &[2; 32][..])], COOKIE_AGE_SECONDS);
    let signed = ring.sign(VISITOR, NOW).expect("a key signs");
    if let Ok(value) = str::from_utf8(bytes) {
        verify(&ring, &signed, value);
    }
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let mut map = HeaderMap::new();
    map.append(COOKIE, value);
    let headers = Headers::read(&map);
    for value in headers.cookies("avid") {
        assert!(!value.contains(';'), "{value:?}");
        verify(&ring, &signed, value);
    }
    choice(&headers);
    // Whatever other cookies hold, ours is found behind them.
    let mut behind = bytes.to_vec();
    behind.extend_from_slice(format!("; avid={signed}").as_bytes());
    let value = HeaderValue::from_bytes(&behind).expect("as sound as before");
    map.insert(COOKIE, value);
    let headers = Headers::read(&map);
    let mut visitors = headers.cookies("avid");
    let found = visitors.find_map(|value| ring.verify(value, NOW));
    assert_eq!(found, Some(VISITOR));
}

/// A value is believed if it is the one that was signed, and in its time.
fn verify(ring: &CookieKeyring, signed: &str, value: &str) {
    let found = ring.verify(value, NOW);
    assert_eq!(found, (value == signed).then_some(VISITOR), "{value:?}");
    let late = UnixMicros(NOW.0 + (COOKIE_AGE_SECONDS + 1) * 1_000_000);
    assert_eq!(ring.verify(value, late), None, "{value:?}");
    // Bound to a host, the ID is believed there alone.
    let bound = ring.at(HOST).sign(VISITOR, None, NOW).expect("a key signs");
    let proved = ring.at(HOST).read(value, NOW);
    let proved = proved.filter(|proved| !proved.is_expired);
    assert_eq!(
        proved.is_some(),
        value == signed || value == bound,
        "{value:?}"
    );
    if value == bound {
        assert_eq!(ring.at("other.example").read(value, NOW), None);
    }
    if found.is_some() {
        let party = Party::First { domain: None };
        let cookie = set_cookie("avid", value, party, true, COOKIE_AGE_SECONDS);
        assert!(HeaderValue::try_from(cookie.expect("a cookie")).is_ok());
    }
}

/// Choices permit nothing that one of them does not name.
fn choice(headers: &Headers<'_>) {
    static STRINGS: OnceLock<Strings> = OnceLock::new();
    let signals: Signals<'_> = signals(headers, "avchoice");
    if signals.choice.is_none() {
        return;
    }
    let rules = PermitRules {
        default_permit: Permit::ALL,
        ..PermitRules::default()
    };
    let strings = STRINGS.get_or_init(Strings::default);
    let (permit, source) = decide(&signals, &rules, Kind::PageView, strings);
    assert_eq!(source, ConsentSource::Choice);
    for (name, flag) in Permit::NAMED {
        let names = |value: &[u8]| {
            value
                .split(|byte| *byte == b'.')
                .any(|word| word == name.as_bytes())
        };
        let is_named = headers.cookie_values("avchoice").all(names);
        assert!(is_named || !permit.allows(flag), "{name}: {headers:?}");
    }
}
