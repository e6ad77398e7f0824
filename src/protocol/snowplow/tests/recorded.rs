//! Each recorded request of a real client.

use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::*;

/// Recordings, with what the tracker is called, how many events they have, and how each shows
/// itself: types in the order sent.
const RECORDINGS: [(&str, &str, &str); 10] = [
    (
        include_str!("../../../../tests/recorded/snowplow-browser-3.24.6-get.jsdom.json"),
        "js-3.24.6",
        "pv ue se",
    ),
    (
        include_str!("../../../../tests/recorded/snowplow-browser-3.24.6-post.jsdom.json"),
        "js-3.24.6",
        "pv ue se",
    ),
    (
        include_str!(
            "../../../../tests/recorded/snowplow-browser-3.24.6-post-path-svranon.jsdom.json"
        ),
        "js-3.24.6",
        "pv ue se",
    ),
    (
        include_str!("../../../../tests/recorded/snowplow-browser-4.10.1-post.jsdom.json"),
        "js-4.10.1",
        "pv ue se",
    ),
    (
        include_str!("../../../../tests/recorded/snowplow-browser-4.10.1-post-svranon.jsdom.json"),
        "js-4.10.1",
        "pv ue se",
    ),
    (
        include_str!("../../../../tests/recorded/snowplow-node-4.8.0-get.json"),
        "node-4.8.0",
        "pv ue se pp tr ti ue ue ue",
    ),
    (
        include_str!("../../../../tests/recorded/snowplow-node-4.8.0-post.json"),
        "node-4.8.0",
        "pv ue se pp tr ti ue ue ue",
    ),
    (
        include_str!("../../../../tests/recorded/snowplow-python-1.1.0-get.json"),
        "py-1.1.0",
        "pv ue se pp ue",
    ),
    (
        include_str!("../../../../tests/recorded/snowplow-python-1.1.0-post.json"),
        "py-1.1.0",
        "pv ue se pp ue",
    ),
    (
        include_str!("../../../../tests/recorded/snowplow-python-1.1.0-post-base64.json"),
        "py-1.1.0",
        "pv ue se pp ue",
    ),
];

/// A recorded event as it was sent: its members, as text.
type Sent = serde_json::Map<String, Value>;

/// Replays a recording. Returns each event as it was sent and as it was read.
fn replay(recording: &str) -> Vec<(Sent, Seen)> {
    let requests: Vec<Value> = serde_json::from_str(recording).expect("a list");
    let requests = requests
        .iter()
        .filter(|request| request["method"] != "OPTIONS");
    requests.flat_map(replay_request).collect()
}

fn replay_request(request: &Value) -> Vec<(Sent, Seen)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut headers = HeaderMap::new();
    for header in request["headers"].as_array().expect("a list") {
        let name = text(&header[0]).parse::<HeaderName>().expect("a name");
        let value = HeaderValue::from_str(&text(&header[1])).expect("a value");
        headers.append(name, value);
    }
    let path = text(&request["path"]);
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let body = (request["method"] == "POST").then(|| text(&request["body"]));
    let sent: Vec<Sent> = match &body {
        Some(body) => {
            let envelope: Value = serde_json::from_str(body).expect("JSON");
            serde_json::from_value(envelope["data"].clone()).expect("objects")
        }
        None => {
            let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let pairs = pairs.map(|(name, value)| (name.to_owned(), decode(value).into()));
            vec![pairs.collect()]
        }
    };
    let seen = send(query, &headers, body.as_deref().map(str::as_bytes));
    let seen = seen.into_iter().map(|seen| seen.expect("an event"));
    sent.into_iter().zip(seen).collect()
}

/// The members that become something else than further parameters.
const ELSEWHERE: [&str; 15] = [
    "eid", "url", "refr", "duid", "uid", "sid", "ip", "ua", "nuid", "tnuid", "co", "cx", "ue_pr",
    "ue_px", "fp",
];

#[test]
fn every_recorded_event_finds_its_places() {
    for (recording, version, types) in RECORDINGS {
        let events = replay(recording);
        let read: Vec<_> = events.iter().map(|(sent, _)| sent["e"].as_str()).collect();
        let expected: Vec<_> = types.split(' ').map(Some).collect();
        assert_eq!(read, expected, "{version}");
        for (sent, seen) in events {
            let said = |name: &str| sent.get(name).and_then(Value::as_str).unwrap_or_default();
            let without_fragment = |name| said(name).split('#').next().unwrap_or_default();
            for (read, sent) in [
                (&seen.id, said("eid")),
                (&seen.url, without_fragment("url")),
                (&seen.referrer, said("refr")),
                (&seen.device, said("duid")),
                (&seen.user, said("uid")),
                (&seen.session, said("sid")),
                (&seen.claims.site_alias, "shop"),
                (&seen.claims.user_agent, said("ua")),
            ] {
                assert_eq!(read, sent, "{version} {sent:?}");
            }
            let names = match said("e") {
                "pv" => &[""][..],
                "pp" => &["page_ping"],
                "se" => &["event"],
                "tr" => &["transaction"],
                "ti" => &["transaction_item"],
                _ => &[
                    "viewed_product",
                    "screen_view",
                    "link_click",
                    "consent_granted",
                ],
            };
            assert!(names.contains(&&*seen.name), "{version} {}", seen.name);
            assert_eq!(seen.kind == Some(Kind::PageView), said("e") == "pv");
            for (name, value) in &sent {
                let kept = (!ELSEWHERE.contains(&&**name)).then_some(value);
                assert_eq!(
                    seen.params.get(name).filter(|_| name != "co"),
                    kept,
                    "{name}"
                );
            }
            assert_eq!(seen.claims.client_ip.is_some(), sent.contains_key("ip"));
            assert_eq!(seen.claims.keeps_cookies, version.starts_with("js-"));
            assert!(!seen.is_unclear && seen.occurred_at.is_some(), "{version}");
            let tells = |plain, coded| sent.contains_key(plain) || sent.contains_key(coded);
            assert_eq!(seen.params.get("ue").is_some(), tells("ue_pr", "ue_px"));
            assert_eq!(seen.params.get("co").is_some(), tells("co", "cx"));
        }
    }
}

#[test]
fn documents_are_the_same_in_an_address_and_in_either_body() {
    let documents = |at: usize| -> Vec<_> {
        let events = replay(RECORDINGS[at].0);
        let documents = events.into_iter().map(|(_, seen)| {
            let own = |name: &str| seen.params.get(name).cloned();
            (own("ue"), own("co"))
        });
        documents.collect()
    };
    assert_eq!(documents(5), documents(6));
    assert_eq!(documents(7), documents(8));
    assert_eq!(documents(8), documents(9));
    for at in 0..RECORDINGS.len() {
        let viewed = documents(at)[1].0.clone().expect("what happened");
        assert_eq!(
            viewed["schema"],
            "iglu:com.acme/viewed_product/jsonschema/1-0-0"
        );
        assert_eq!(viewed["data"]["product_id"], "ASO01043", "{at}");
        assert_eq!(viewed["data"]["price"], 49.95, "{at}");
    }
    let user = json!({"schema": "iglu:com.acme/user/jsonschema/1-0-0",
        "data": {"type": "tester", "namn": "Åsa Öberg"}});
    assert_eq!(documents(6)[0].1.as_ref().map(|list| &list[0]), Some(&user));
}

#[test]
fn trackers_that_ask_for_anonymity_are_known_by_their_header() {
    for (at, (recording, ..)) in RECORDINGS.iter().enumerate() {
        for (_, seen) in replay(recording) {
            assert_eq!(seen.claims.is_anonymous, matches!(at, 2 | 4), "{at}");
            if seen.claims.is_anonymous {
                assert_eq!((&*seen.device, &*seen.user), ("", ""), "{at}");
                assert_ne!(seen.session, "");
            }
        }
    }
}
