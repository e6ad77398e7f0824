//! The target of a click.

use avtryck::click::{Target, target};
use avtryck::keys::ClickKeyring;
use hyper::header::HeaderValue;

use super::sound::NOW;

const LISTED: &str = "www.shop.example";
const SIGNED: &str = "to=https%3A%2F%2Fx.example%2F";
const CLICK_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// A click's query string. The fuzzer has no key, and one URL that was signed.
pub fn click(bytes: &[u8]) {
    let ring = ClickKeyring::new([(7, &[7; 32][..])]);
    let hosts = [LISTED.to_owned()];
    let text = String::from_utf8_lossy(bytes);
    let signed = ring.sign(SIGNED).expect("a key signs");
    // The signature may be cut short, so what it covers is all that has to be there.
    let (covered, _) = signed.split_once("&sig=").expect("a signature");
    let is_signed = text.starts_with(&format!("{covered}&sig="));
    if let Ok(target) = target(&text, &ring, &hosts, NOW) {
        let host = target.host();
        assert!(
            host == LISTED || is_signed && host == "x.example",
            "{text:?}"
        );
        location(&target);
    }
    // Whatever stands behind a signature, the click goes where it was signed for.
    let behind = target(&format!("{signed}&{text}"), &ring, &hosts, NOW);
    let behind = behind.expect("a signed target");
    assert_eq!(behind.location(None), "https://x.example/");
    // And in front of it nothing is signed.
    if let Ok(target) = target(&format!("{text}&{signed}"), &ring, &hosts, NOW) {
        assert!(!text.is_empty() && target.host() == LISTED || is_signed);
    }
}

/// `Location` says the target to any reader, and the click's ID once.
fn location(target: &Target) {
    let plain = target.clone().location(None);
    let told = target.clone().location(Some(CLICK_ID));
    for location in [&plain, &told] {
        assert!(HeaderValue::from_str(location).is_ok());
        assert!(location.bytes().all(|byte| byte.is_ascii_graphic()));
        let (scheme, rest) = location.split_once("://").expect("a scheme");
        assert!(matches!(scheme, "http" | "https"), "{location:?}");
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let port = authority
            .strip_prefix(target.host())
            .map(|port| port.strip_prefix(':').unwrap_or(port));
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        assert!(port.is_some_and(is_port), "{location:?}");
    }
    let query = told.split('#').next().and_then(|url| url.split_once('?'));
    let ids = query
        .map_or("", |(_, query)| query)
        .split('&')
        .filter_map(|pair| pair.strip_prefix("avclid="));
    assert_eq!(ids.collect::<Vec<_>>(), [CLICK_ID], "{told:?}");
}
