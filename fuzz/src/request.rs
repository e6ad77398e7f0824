//! Query strings, headers and event JSON -> hits; and hits out of the spool.

use std::time::Duration;

use avtryck::callback::Proof;
use avtryck::endpoint::Endpoint;
use avtryck::hit::{self, Flags, Hit, Kind};
use avtryck::protocol::native::{self, EVENTS_MAX, Reading};
use avtryck::protocol::system::{self, SystemSender};
use avtryck::protocol::{Arrival, Draft, Drafts};
use avtryck::request::Headers;
use serde_json::{Map, Value};

use super::sound::{self, NOW};

fn begin<'a>(kind: Kind) -> Draft<'a> {
    Draft::new(NOW, kind)
}

/// A query string, after a request's `?`.
pub fn query(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for kind in [Kind::PageView, Kind::Impression, Kind::Click] {
        query_of(kind, &text);
    }
}

fn query_of(kind: Kind, text: &str) {
    let read = |text: &str| {
        let mut draft = begin(kind);
        native::read_query(text, Reading::default(), &mut draft);
        let Draft { hit, signals, .. } = draft;
        sound::hit(&hit);
        sound::signals(&signals);
        let mut kept = Vec::new();
        hit.encode(&mut kept);
        let signals = [signals.gdpr, signals.tcf, signals.gpp, signals.gpp_sid];
        (
            kept,
            signals.map(|text| text.map(std::borrow::Cow::into_owned)),
        )
    };
    let (hit, signals) = read(text);
    let mut hit = Hit::decode(&hit).expect("a hit of ours");
    // The first of a repeated parameter counts: what is put behind changes no known field.
    let twice = format!("{text}&{text}");
    let (again, signals_again) = read(&twice);
    let mut again = Hit::decode(&again).expect("a hit of ours");
    for hit in [&mut hit, &mut again] {
        hit.params = "".into();
        hit.flags = Flags::default();
    }
    assert_eq!(hit, again);
    assert_eq!(signals, signals_again);
}

/// The headers of a request.
pub fn headers(bytes: &[u8]) {
    let map = super::header_map(bytes);
    let headers = Headers::read(&map);
    let mut draft = begin(Kind::PageView);
    draft.read_browser(&headers, "avchoice");
    sound::hit(&draft.hit);
    sound::signals(&draft.signals);
    assert_eq!(headers.hosts, map.get_all("host").iter().count());
    let host = headers.page_host().unwrap_or_default();
    assert!(!host.contains(['/', '?', '#', '@']), "{host:?}");
}

/// The body of `POST /e`.
pub fn event(bytes: &[u8]) {
    let Some(events) = native::split_events(bytes) else {
        return;
    };
    assert!(events.len() <= EVENTS_MAX + 1);
    for event in events {
        let mut draft = begin(Kind::PageView);
        let taken = native::read_event(&event, "", Reading::default(), &mut draft);
        // What is not quite an object may be taken too.
        let is_object = serde_json::from_str::<Map<String, Value>>(&event).is_ok();
        assert!(taken || !is_object, "{event}");
        sound::hit(&draft.hit);
        sound::signals(&draft.signals);
    }
}

/// A record's payload, as the loader finds it in the spool.
pub fn hit(bytes: &[u8]) {
    let kept = hit::without_client_ip(bytes);
    assert_eq!(hit::without_client_ip(&kept), kept);
    assert!(kept.len() <= bytes.len());
    let Ok(mut hit) = Hit::decode(bytes) else {
        return;
    };
    let mut encoded = Vec::new();
    hit.encode(&mut encoded);
    assert_eq!(Hit::decode(&encoded).as_ref(), Ok(&hit));
    hit.client_ip = None;
    assert_eq!(Hit::decode(&kept), Ok(hit));
}

/// The body of `POST /s/{system}`.
pub fn system(bytes: &[u8]) {
    read_of_system(bytes);
    // An event keeps its place, whatever it is, and costs no other one.
    if serde_json::from_slice::<Map<String, Value>>(bytes).is_ok() {
        let good = br#"{"e":"purchase","id":"o-1","user":"anna","occurred_at":1700000000}"#;
        let list = [b"[", &good[..], b",", bytes, b",", good, b"]"].concat();
        let all = read_of_system(&list);
        assert_eq!(all.len(), 3, "{}", list.escape_ascii());
        assert!(all[0].is_some() && all[0] == all[2]);
    }
}

/// What a system's body is read as: each event encoded, or nothing for one that is refused.
fn read_of_system(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let headers = Headers::default();
    let arrival = Arrival {
        endpoint: Endpoint::System,
        at: NOW,
        headers: &headers,
        path: "/s/crm",
        query: "",
        choice_cookie: "avchoice".into(),
        meta_names: &[],
    };
    let past = Duration::from_secs(90 * 86_400);
    let sender = SystemSender {
        site: "shop",
        past,
        proof: Proof::Token,
    };
    let Ok(Drafts::Each(events)) = system::read(&arrival, sender, body) else {
        return Vec::new();
    };
    let check = |draft: Draft<'_>| {
        let hit = &draft.hit;
        sound::hit(hit);
        sound::signals(&draft.signals);
        assert!(hit.flags.has(Flags::SYSTEM.with(Flags::PROVED)));
        assert!(hit.client_ip.is_none() && hit.visitor.is_none() && hit.user_agent.is_empty());
        let oldest = NOW.0 - i64::try_from(past.as_micros()).expect("90 days");
        let is_in_time = |at: avtryck::clock::UnixMicros| (oldest..=NOW.0).contains(&at.0);
        assert!(hit.occurred_at.is_none_or(is_in_time));
        let mut bytes = Vec::new();
        hit.encode(&mut bytes);
        bytes
    };
    events.iter().map(|draft| draft.ok().map(check)).collect()
}
