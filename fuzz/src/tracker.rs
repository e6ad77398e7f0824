//! Requests of other makers' trackers -> hits.

use std::borrow::Cow;

use avtryck::endpoint::{Endpoint, Protocol};
use avtryck::protocol::{self, Arrival, Draft, Drafts};
use avtryck::refusal::Reason;
use avtryck::request::Headers;
use serde_json::{Map, Value};

use super::sound::{self, NOW};

/// What became of each event.
type Read = Vec<Result<String, Reason>>;

/// A request of Snowplow's trackers: the query string in the first line, and then the body. Without
/// a body it is a GET.
pub fn snowplow(bytes: &[u8]) {
    let (query, body) = split(bytes);
    read(Endpoint::Snowplow, &query, body.get(1..));
    // An event keeps its place, whatever it is, and costs no other one.
    if serde_json::from_slice::<Map<String, Value>>(body).is_ok() {
        let good = br#"{"e":"pv","eid":"1"}"#;
        let list = [b"{\"data\":[", &good[..], b",", body, b",", good, b"]}"].concat();
        let all = read(Endpoint::Snowplow, "", Some(&list));
        assert_eq!(all.len(), 3, "{}", list.escape_ascii());
        assert!(all[0].is_ok() && all[0] == all[2]);
    }
}

/// A request of the SDKs of Segment and RudderStack: path and query in the first line, and then the
/// body. Without a body it is the pixel.
pub fn segment(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (target, body) = bytes.split_at(end.unwrap_or(bytes.len()));
    let target = String::from_utf8_lossy(target);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let endpoint = match body {
        [] => Endpoint::SegmentPixel,
        _ => Endpoint::Segment,
    };
    read_at(endpoint, path, query, body.get(1..));
    // A call keeps its place, whatever it is, and costs no other one, nor what stands behind all.
    if serde_json::from_slice::<Map<String, Value>>(body).is_ok() {
        let good = br#"{"type":"track","userId":"u","event":"e","timestamp":1}"#;
        let sent_at = br#"],"sentAt":"2027-01-15T08:00:00Z"}"#;
        let list = [b"{\"batch\":[", &good[..], b",", body, b",", good, sent_at].concat();
        let all = read_at(Endpoint::Segment, "/v1/batch", "", Some(&list));
        assert_eq!(all.len(), 3, "{}", list.escape_ascii());
        assert!(all[0].is_ok() && all[0] == all[2]);
    }
}

/// A request of Matomo's trackers, in the same form.
pub fn matomo(bytes: &[u8]) {
    let (query, body) = split(bytes);
    read(Endpoint::Matomo, &query, body.get(1..));
    // An item of a list costs no other one, whether it is a text or an object.
    if let Ok(Value::Object(_) | Value::String(_)) = serde_json::from_slice(body) {
        let good = br#""?idsite=1&rec=1&e_a=a""#;
        let list = [b"{\"requests\":[", &good[..], b",", body, b",", good, b"]}"].concat();
        let all = read(Endpoint::Matomo, "", Some(&list));
        assert_eq!(all.len(), 3, "{}", list.escape_ascii());
        assert!(all[0].is_ok() && all[0] == all[2]);
    }
}

/// The query, and the body, of a request to each endpoint of another maker's.
pub fn tracker(bytes: &[u8]) {
    let query = String::from_utf8_lossy(bytes);
    for endpoint in Endpoint::ALL {
        let spec = endpoint.spec();
        if spec.protocol == Protocol::Native && endpoint != Endpoint::Meta {
            continue;
        }
        if spec.accepts("GET") {
            read(endpoint, &query, None);
        }
        if spec.accepts("POST") {
            read(endpoint, "", Some(bytes));
        }
    }
}

/// Returns the first line, and the rest with the line's end.
fn split(bytes: &[u8]) -> (Cow<'_, str>, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    (String::from_utf8_lossy(line), rest)
}

/// Reads a request, and checks each hit.
fn read(endpoint: Endpoint, query: &str, body: Option<&[u8]>) -> Read {
    read_at(endpoint, "/i", query, body)
}

fn read_at(endpoint: Endpoint, path: &str, query: &str, body: Option<&[u8]>) -> Read {
    let headers = Headers::default();
    let arrival = Arrival {
        endpoint,
        at: NOW,
        headers: &headers,
        path,
        query,
        choice_cookie: "avchoice".into(),
        meta_names: &[],
    };
    let Some(body) = body else {
        return vec![protocol::read(&arrival).map(|draft| check(endpoint, draft))];
    };
    let check_one = |draft: Draft<'_>| check(endpoint, draft);
    match protocol::read_body(&arrival, body) {
        Ok(Drafts::One(draft)) => vec![Ok(check_one(draft))],
        Ok(Drafts::Each(events)) => events.iter().map(|draft| draft.map(check_one)).collect(),
        Err(reason) => vec![Err(reason)],
    }
}

/// Checks a draft. Returns its hit as text.
fn check(endpoint: Endpoint, draft: Draft<'_>) -> String {
    sound::hit(&draft.hit);
    sound::signals(&draft.signals);
    assert!(draft.claims.is_some());
    let params: Map<String, Value> = match &*draft.hit.params {
        "" => Map::new(),
        params => serde_json::from_str(params).expect("an object"),
    };
    // Snowplow's documents are whole. In other protocols these are names like any others.
    if endpoint == Endpoint::Snowplow {
        if let Some(Value::Array(contexts)) = params.get("co") {
            assert!(contexts.iter().all(is_document), "{contexts:?}");
        }
        assert!(params.get("ue").is_none_or(is_document), "{params:?}");
    }
    format!("{:?}", draft.hit)
}

fn is_document(value: &Value) -> bool {
    value.get("schema").is_some() && value.get("data").is_some()
}
