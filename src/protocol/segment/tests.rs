mod changed;
mod context;

use std::path::Path;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::*;
use crate::endpoint::Endpoint;
use crate::protocol::Draft;
use crate::request::Headers;

/// 2026-11-27T00:00:00Z.
const NOW: UnixMicros = UnixMicros(1_795_737_600_000_000);

/// A request as it was recorded.
struct Recorded {
    path: String,
    headers: HeaderMap,
    body: String,
}

fn recorded(file: &str) -> Vec<Recorded> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recorded")
        .join(file);
    let requests: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let posts = requests
        .iter()
        .filter(|request| request["method"] == "POST");
    posts
        .map(|request| {
            let mut headers = HeaderMap::new();
            for header in request["headers"].as_array().unwrap() {
                headers.append(
                    header[0].as_str().unwrap().parse::<HeaderName>().unwrap(),
                    HeaderValue::from_str(header[1].as_str().unwrap()).unwrap(),
                );
            }
            let body = request.get("body_decoded").unwrap_or(&request["body"]);
            Recorded {
                path: request["path"].as_str().unwrap().to_owned(),
                headers,
                body: body.as_str().unwrap().to_owned(),
            }
        })
        .collect()
}

fn request(path: &str, body: &str) -> Recorded {
    Recorded {
        path: path.to_owned(),
        headers: HeaderMap::new(),
        body: body.to_owned(),
    }
}

/// Returns what a draft has, without what is empty.
fn tell(draft: &Draft<'_>) -> Value {
    let Draft {
        hit,
        signals,
        user,
        claims,
        ..
    } = draft;
    let claims = claims.as_deref().unwrap();
    let agent = &claims.user_agent;
    let params: Value = serde_json::from_str(&hit.params).unwrap_or_default();
    let mut told = json!({
        "kind": hit.kind.name(), "e": hit.event_name, "id": hit.event_id, "did": hit.device_id,
        "user": user, "session": hit.session_id, "u": hit.page_url, "ref": hit.referrer,
        "maid": hit.maid, "model": hit.hints.model, "platform": hit.hints.platform,
        "version": hit.hints.platform_version, "brands": hit.hints.brands,
        "occurred": hit.occurred_at.map(|at| (NOW.0 - at.0) / 1_000),
        "site": claims.site_alias, "ip": claims.client_ip, "agent": agent,
        "categories": claims.categories, "unclear": signals.is_unclear, "tcf": signals.tcf,
        "params": params,
    });
    let told_map = told.as_object_mut().unwrap();
    told_map.retain(|_, value| {
        !matches!(value, Value::Null | Value::Bool(false)) && *value != "" && *value != json!([])
    });
    assert!(!claims.keeps_cookies && !claims.is_anonymous);
    told
}

/// Reads a request: what each event tells, or why it was refused.
fn read_request(request: &Recorded) -> Vec<Result<Value, Reason>> {
    let headers = Headers::read(&request.headers);
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let arrival = Arrival {
        endpoint: Endpoint::Segment,
        at: NOW,
        headers: &headers,
        path,
        query,
        choice_cookie: "avchoice".into(),
        meta_names: &[],
    };
    let Ok(Drafts::Each(events)) = read_body(&arrival, request.body.as_bytes()) else {
        panic!("{}", request.body)
    };
    events
        .iter()
        .map(|draft| draft.map(|draft| tell(&draft)))
        .collect()
}

/// Returns what each call of a recorded file tells.
fn read_file(file: &str) -> Vec<Value> {
    let read = recorded(file);
    let events = read.iter().flat_map(read_request);
    events.map(|event| event.expect("a sound event")).collect()
}

/// Returns what a batch of one call tells.
fn tell_one(event: &Value) -> Result<Value, Reason> {
    let body = json!({"batch": [event]}).to_string();
    read_request(&request("/v1/batch", &body)).remove(0)
}

#[test]
fn each_recorded_call_has_its_place() {
    for (file, site, calls) in [
        (
            "segment-node-3.1.0.json",
            "wk_123",
            "event identify - user-42 5|event Order Completed 507f191e810c19729de860ea user-42 2592000000|\
             page_view - 507f191e810c19729de860ea - 4|event screen x1 - 4|event group - user-42 4|\
             event alias - user-42 4",
        ),
        (
            "segment-python-2.4.0.json",
            "wk_123",
            "event identify - user-42 501|event Order Completed 507f191e user-42 2592000000|\
             page_view - - user-42 500|event screen - user-42 500|event group - user-42 500|\
             event alias - user-42 499",
        ),
        (
            "segment-browser-1.84.3.jsdom.json",
            "wk",
            "event identify D user-42 14|event Order Completed D user-42 14|event group D user-42 12|\
             page_view - D user-42 38|event alias D user-42 31",
        ),
        (
            "segment-browser-1.84.3-batch.jsdom.json",
            "wk",
            "page_view - D user-42 27|event identify D user-42 9|event Order Completed D user-42 8|\
             event group D user-42 1005|event alias D user-42 1004",
        ),
        (
            "rudderstack-node-3.0.13.json",
            "wk_123",
            "event identify - user-42 1|event Order Completed an-1 user-42 301|page_view - - user-42 300|\
             event screen - user-42 300|event group - user-42 300|event alias - user-42 300",
        ),
        (
            "rudderstack-node-3.0.13-plain.json",
            "wk_123",
            "event identify - user-42 1|event Order Completed an-1 user-42 302|page_view - - user-42 301|\
             event screen - user-42 301|event group - user-42 300|event alias - user-42 300",
        ),
        (
            "rudderstack-python-2.1.9-nogzip.json",
            "wk_123",
            "event identify - user-42 500|event Order Completed an-1 user-42 500|page_view - - user-42 500|\
             event alias - user-42 499|event group - user-42 499|event screen - user-42 499",
        ),
        (
            "rudderstack-browser-3.34.1.jsdom.json",
            "wk_123",
            // A text that stands for an ID, `new-id`, is none.
            "page_view - D - 2|event identify D user-42 1|event Order Completed D user-42 1|\
             event alias D - 1|event group D user-42 5",
        ),
        (
            "rudderstack-browser-3.34.1-beacon.jsdom.json",
            "wk_123",
            "page_view - D - 13|event identify D user-42 7|event Order Completed D user-42 5|\
             event group D user-42 1495|event alias D - 1494",
        ),
    ] {
        let told = read_file(file);
        let show = |event: &Value| {
            let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
            let did = text("did");
            let did = if did.len() == 36 { "D".to_owned() } else { did };
            let (kind, name) = (text("kind"), text("e"));
            format!("{kind} {name} {did} {} {}", text("user"), event["occurred"])
        };
        let shown: Vec<String> = told.iter().map(show).collect();
        assert_eq!(shown.join("|"), calls, "{file}");
        for event in told {
            assert_eq!(event["site"], site, "{file}");
            assert_eq!(event.get("unclear"), None, "{file}");
            let text = event.to_string();
            for gone in [
                "integrations",
                "_metadata",
                "writeKey",
                "channel",
                "messageId",
            ] {
                assert!(!text.contains(gone), "{file}: {text}");
            }
        }
    }
}

#[test]
fn a_call_of_a_server_is_told_whole() {
    let told = read_file("segment-node-3.1.0.json").remove(1);
    assert_eq!(
        told,
        json!({
            "kind": "event", "e": "Order Completed", "id": "msg-1", "user": "user-42",
            "did": "507f191e810c19729de860ea", "maid": "38400000-8cf0-11bd-b23e-10b96e40000d",
            "u": "https://shop.example/p/1?utm_source=news", "ref": "https://www.google.com/",
            "model": "SM-S918B", "occurred": 2_592_000_000_u64, "site": "wk_123",
            "ip": "198.51.100.7", "agent": "Mozilla/5.0 (X11; Linux x86_64)",
            "categories": [["Advertising", true], ["Analytics", false]],
            "params": {
                "order_id": "order-7", "revenue": 19.99, "value": 19.99, "currency": "SEK",
                "products": [{"product_id": "p1", "price": 9.9, "quantity": 2}],
                "context": {
                    "locale": "sv-SE", "timezone": "Europe/Stockholm",
                    "page": {"path": "/p/1", "title": "Räksmörgås"},
                    "campaign": {"source": "news", "medium": "email", "name": "spring"},
                    "device": {"adTrackingEnabled": true, "type": "android", "model": "SM-S918B"},
                    "library": {"name": "@segment/analytics-node", "version": "3.1.0"},
                },
            },
        })
    );
}

#[test]
fn a_page_of_a_browser_is_told_whole() {
    let told = read_file("rudderstack-browser-3.34.1.jsdom.json").remove(0);
    let url = "http://shop.example/p/1?utm_source=news&utm_medium=email&utm_campaign=spring";
    assert_eq!(told["u"], url);
    assert_eq!(told["ref"], "https://www.google.com/");
    assert_eq!(told["session"], "1795715324464");
    assert_eq!(told["params"]["name"], "Home");
    assert_eq!(told["params"]["category"], "Docs");
    assert_eq!(told["params"]["title"], "Räksmörgås & co");
    assert_eq!(told["params"]["context"]["sessionStart"], true);
    assert!(!told.to_string().contains("frag"));
}

#[test]
fn a_call_without_a_type_or_an_id_is_refused_alone() {
    let good = r#"{"type":"track","event":"a","userId":1}"#;
    for broken in [
        "7",
        "null",
        "[1]",
        "{}",
        r#"{"type":"track","event":"x""#,
        r#"{"event":"x","userId":"u"}"#,
        r#"{"type":"buy","userId":"u"}"#,
        r#"{"type":7,"userId":"u"}"#,
        r#"{"type":"track","event":"x"}"#,
        r#"{"type":"track","event":"x","userId":null,"anonymousId":""}"#,
        r#"{"type":"track","event":"x","userId":{"a":1},"anonymousId":[1]}"#,
        r#"{"type":"track","event":"x","userId":" "}"#,
    ] {
        let body = format!(r#"{{"batch":[{good},{broken},{good}],"writeKey":"k"}}"#);
        let read = read_request(&request("/v1/b", &body));
        let refused = read.iter().filter(|event| event.is_err()).count();
        assert_eq!((read.len(), refused), (3, 1), "{broken}: {read:?}");
        for event in read.into_iter().flatten() {
            assert_eq!((&event["user"], &event["site"]), (&json!("1"), &json!("k")));
        }
    }
}

#[test]
fn the_path_gives_the_type() {
    let event =
        r#"{"anonymousId":"a1","event":"Order","properties":{"url":"https://a.example/#x"}}"#;
    for (path, kind, name, url) in [
        ("/v1/t", "event", "Order", ""),
        ("/v1/track", "event", "Order", ""),
        ("/v1/p", "page_view", "", "https://a.example/"),
        ("/v1/page", "page_view", "", "https://a.example/"),
        ("/v1/s", "event", "screen", ""),
        ("/v1/screen", "event", "screen", ""),
        ("/v1/i", "event", "identify", ""),
        ("/v1/identify", "event", "identify", ""),
        ("/v1/g", "event", "group", ""),
        ("/v1/group", "event", "group", ""),
        ("/v1/a", "event", "alias", ""),
        ("/v1/alias", "event", "alias", ""),
        ("/v1/merge", "event", "merge", ""),
    ] {
        // What the call says itself does not count then.
        for event in [event, &event.replacen('{', r#"{"type":"alias","#, 1)] {
            let told = read_request(&request(path, event)).remove(0).expect(path);
            let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
            assert_eq!(
                (&*text("kind"), &*text("e"), &*text("u")),
                (kind, name, url),
                "{path}"
            );
        }
    }
    assert_eq!(
        read_request(&request("/v1/m", r#"{"series":[{"type":"Counter"}]}"#)),
        []
    );
    for path in ["/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch"] {
        let event = json!({"type": "track", "event": "e", "userId": "u1"});
        for body in [
            json!({"batch": [event]}),
            json!({"batch": event}),
            json!([event]),
            event.clone(),
        ] {
            let read = read_request(&request(path, &body.to_string()));
            assert_eq!(read.len(), 1, "{path} {body}");
            assert_eq!(read[0].as_ref().unwrap()["e"], "e", "{path} {body}");
        }
        assert_eq!(read_request(&request(path, r#"{"batch":[]}"#)), []);
    }
}

#[test]
fn the_write_key_is_found_wherever_it_stands_and_never_kept() {
    let event = json!({"userId": "u1", "event": "e", "type": "track"});
    let with_key = |key: &str| {
        let mut event = event.clone();
        event["writeKey"] = json!(key);
        event
    };
    for (authorization, path, body, site) in [
        ("Basic d2tfMTIzOg==", "/v1/track", event.clone(), "wk_123"),
        ("basic d2tfMTIzOg", "/v1/track", with_key("other"), "wk_123"),
        ("Basic d2tfNw", "/v1/track", event.clone(), "wk_7"),
        (
            "Basic d2tfMTIzOnBhc3M=",
            "/v1/b",
            json!({"batch": [event]}),
            "wk_123",
        ),
        ("Basic !", "/v1/track", with_key("k"), "k"),
        ("Basic Og==", "/v1/track", with_key("k"), "k"),
        ("Bearer d2tfMTIzOg==", "/v1/track", with_key("k"), "k"),
        (
            "Bearer t",
            "/v1/b",
            json!({"batch": [event], "writeKey": "k"}),
            "k",
        ),
        (
            "",
            "/v1/b",
            json!({"writeKey": "k", "batch": [with_key("other")]}),
            "k",
        ),
        ("", "/v1/b", json!({"batch": [with_key("k")]}), "k"),
        (
            "",
            "/beacon/v1/batch?writeKey=k",
            json!({"batch": [event]}),
            "k",
        ),
        ("", "/v1/track", event.clone(), ""),
    ] {
        let mut request = request(path, &body.to_string());
        if !authorization.is_empty() {
            let value = HeaderValue::from_str(authorization).unwrap();
            request.headers.append("authorization", value);
        }
        let told = read_request(&request).remove(0).expect(path);
        assert_eq!(
            told["site"].as_str().unwrap_or_default(),
            site,
            "{authorization} {body}"
        );
        assert_eq!(told.get("params"), None, "{authorization} {body}");
    }
}

#[test]
fn what_a_call_says_besides_stays_under_its_own_name() {
    let event = json!({
        "type": "track", "userId": "u", "event": "Paid", "groupId": "g1", "previousId": "p1",
        "ip": "192.0.2.1", "request_ip": "192.0.2.1", "receivedAt": "2026-11-26T17:48:44.491Z",
        "properties": {"total": 3, "url": "https://a.example/", "a\"\u{1}b": {"c\\": 1}, "n": null},
        "context": {"externalId": [{"id": "e1"}], "a\"b": 1, "traits": {}, "page": {}, "x\\y": "z"},
    });
    let told = tell_one(&event).unwrap();
    assert_eq!(
        told["params"],
        json!({
            "groupId": "g1", "previousId": "p1", "total": 3, "value": 3, "url": "https://a.example/",
            "a\"\u{fffd}b": {"c\\": 1}, "context": {"a\"b": 1, "x\\y": "z"},
        })
    );
    for (properties, value) in [
        (json!({"value": 1, "revenue": 2, "total": 3}), json!(1)),
        (json!({"total": 3, "revenue": 2}), json!(2)),
        (json!({"revenue": null, "total": "3.50"}), json!("3.50")),
        (json!({"price": 3}), json!(null)),
        (json!([1]), json!(null)),
    ] {
        let event = json!({"type": "track", "userId": "u", "properties": properties});
        assert_eq!(
            tell_one(&event).unwrap()["params"]["value"],
            value,
            "{properties}"
        );
    }
}

#[test]
fn the_senders_clock_is_corrected_by_what_it_says_itself() {
    let minutes = |at: u32| format!("2026-11-26T12:{at:02}:00.000Z");
    for (times, sent_at, minutes_ago) in [
        (
            json!({"originalTimestamp": minutes(1), "sentAt": minutes(4)}),
            None,
            Some(3),
        ),
        (
            json!({"timestamp": minutes(1), "sentAt": minutes(4)}),
            Some(minutes(9)),
            Some(3),
        ),
        (json!({"timestamp": minutes(1)}), Some(minutes(9)), Some(8)),
        (
            json!({"timestamp": minutes(1), "originalTimestamp": minutes(2)}),
            Some(minutes(9)),
            Some(7),
        ),
        (
            json!({"timestamp": "2026-11-26T23:50:00+00:00"}),
            None,
            Some(10),
        ),
        (json!({"timestamp": 1_795_737_000_000_u64}), None, Some(10)),
        (json!({"timestamp": "yesterday"}), Some(minutes(9)), None),
        (json!({}), Some(minutes(9)), None),
    ] {
        let mut event = json!({"type": "track", "userId": "u"});
        let members = event.as_object_mut().unwrap();
        members.extend(times.as_object().unwrap().clone());
        let mut body = json!({"batch": [event]});
        if let Some(sent_at) = sent_at {
            body["sentAt"] = json!(sent_at);
        }
        let told = read_request(&request("/v1/batch", &body.to_string()))
            .remove(0)
            .unwrap();
        let expected: Option<u64> = minutes_ago.map(|minutes: u64| minutes * 60_000);
        assert_eq!(told["occurred"].as_u64(), expected, "{body}");
    }
}

#[test]
fn what_is_not_quite_json_is_mended_and_flagged() {
    let body = br#"{"batch":[{"type":"track","userId":"u","properties":{"a":NaN,"b":"\ud800"}}]}"#;
    let headers = Headers::default();
    let arrival = Arrival {
        endpoint: Endpoint::Segment,
        at: NOW,
        headers: &headers,
        path: "/v1/batch",
        query: "",
        choice_cookie: "avchoice".into(),
        meta_names: &[],
    };
    let Ok(Drafts::Each(events)) = read_body(&arrival, body) else {
        panic!("a list")
    };
    let drafts: Vec<_> = events.iter().map(Result::unwrap).collect();
    assert_eq!(drafts[0].hit.params, "{\"b\":\"\u{fffd}\"}");
    assert!(drafts[0].hit.flags.has(crate::hit::Flags::CLEANED));
}

#[test]
fn a_pixel_is_a_call_whose_names_are_paths() {
    let headers = Headers::default();
    let read_query = |path, query| {
        let arrival = Arrival {
            endpoint: Endpoint::Segment,
            at: NOW,
            headers: &headers,
            path,
            query,
            choice_cookie: "avchoice".into(),
            meta_names: &[],
        };
        crate::protocol::read(&arrival).map(|draft| tell(&draft))
    };
    let query = "writeKey=k&anonymousId=a1&event=Order&properties.total=7&properties.a.b=c%20d\
                 &context.page.url=https%3A%2F%2Fa.example%2F&context.page.title=T&properties=x";
    assert_eq!(
        read_query("/pixel/v1/track", query).unwrap(),
        json!({
            "kind": "event", "e": "Order", "did": "a1", "site": "k", "u": "https://a.example/",
            "params": {
                "total": "7", "value": "7", "a": {"b": "c d"}, "context": {"page": {"title": "T"}},
            },
        })
    );
    let page = read_query("/pixel/v1/page", "writeKey=k&userId=u1&name=Home").unwrap();
    assert_eq!(page["kind"], "page_view");
    assert_eq!(page["params"], json!({"name": "Home"}));
    assert_eq!(
        read_query("/pixel/v1/page", "writeKey=k"),
        Err(Reason::Json)
    );
}
