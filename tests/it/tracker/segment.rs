//! Segment's and RudderStack's SDKs: what they sent, and what they get.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::recorded::recorded;
use crate::consent::holds;
use crate::support::{Collector, Config};

/// A site that the recordings name, which permits all, and one that asks for consent.
const SITES: &str = r#"
[[site]]
key = "cart"
aliases = ["wk_123", "wk"]
origins = ["http://shop.example"]
default_permit = ["store", "measure", "profile", "match", "link", "locate"]
consent_categories = { Analytics = ["store", "measure"], Advertising = ["store", "measure", "match"] }

[[site]]
key = "asking"
aliases = ["wk_asking"]
default_permit = ["measure"]
"#;

/// A key that hashes users.
const USER_KEY: &str = "1:c2VnbWVudCBhbmQgcnVkZGVyc3RhY2sgdXNlciBrZXk=";

/// The recorded files, with the events in each.
const FILES: [(&str, i64); 9] = [
    ("segment-node-3.1.0.json", 6),
    ("segment-python-2.4.0.json", 6),
    ("segment-browser-1.84.3.jsdom.json", 5),
    ("segment-browser-1.84.3-batch.jsdom.json", 5),
    ("rudderstack-node-3.0.13.json", 6),
    ("rudderstack-node-3.0.13-plain.json", 6),
    ("rudderstack-python-2.1.9-nogzip.json", 6),
    ("rudderstack-browser-3.34.1.jsdom.json", 5),
    ("rudderstack-browser-3.34.1-beacon.jsdom.json", 5),
];

const KEY: (&str, &str) = ("authorization", "Basic d2tfMTIzOg==");
const ROWS: &str = "select count(*) from avtryck.hit_detail where site = 'cart'";

pub(super) fn config() -> Config {
    Config::new().with(SITES).set("user.keys", vec![USER_KEY])
}

fn event(id: &str) -> Value {
    json!({"type": "track", "event": "Paid", "userId": "u1", "messageId": id})
}

#[tokio::test]
async fn each_recorded_request_is_answered_as_its_client_expects_and_counts_once() {
    let collector = Collector::start(config()).await;
    for round in 0..2 {
        let mut total = 0;
        for (file, events) in FILES {
            for request in recorded(file) {
                let reply = request.send(&collector).await;
                let what = format!("{file} {} {}", request.method, request.target);
                match &*request.method {
                    "OPTIONS" => {
                        assert_eq!(reply.status, 204, "{what}");
                        let allowed = reply.header("access-control-allow-headers");
                        assert!(allowed.contains("authorization"), "{what}: {allowed}");
                        let origin = reply.header("access-control-allow-origin");
                        assert_eq!(origin, "http://shop.example", "{what}");
                    }
                    "GET" => {
                        assert_eq!(reply.status, 200, "{what}");
                        let json: Value = serde_json::from_str(&reply.body).expect(&what);
                        assert!(json.is_object(), "{what}");
                    }
                    _ => {
                        assert_eq!(reply.status, 200, "{what}: {}", reply.body);
                        assert_eq!(reply.body, r#"{"success":true}"#, "{what}");
                        assert_eq!(reply.header("avtryck-refusal"), "", "{what}");
                        assert_eq!(reply.cookies, [""; 0], "{what}");
                    }
                }
            }
            total += events;
            if round == 0 {
                collector.wait_for(ROWS, total).await;
            }
        }
        if round == 1 {
            let last = json!({"batch": [event("last")]}).to_string();
            collector.post("/v1/batch", &[KEY], &last).await;
            collector.wait_for(ROWS, total + 1).await;
        }
    }
    let other = format!("{ROWS} and (protocol <> 'segment' or visitor_id is not null)");
    assert_eq!(collector.number(&other).await, 0);
}

#[tokio::test]
async fn a_call_becomes_a_row_as_it_is_mapped() {
    let collector = Collector::start(config()).await;
    for file in [
        "segment-node-3.1.0.json",
        "rudderstack-browser-3.34.1.jsdom.json",
    ] {
        for request in recorded(file) {
            request.send(&collector).await;
        }
    }
    collector.wait_for(ROWS, 11).await;
    let row = collector
        .rows(
            "select kind::text, event_name, device_id, page_url, referrer, protocol::text, \
             params->>'order_id', params->>'value', user_key is not null, session_id \
             from avtryck.hit_detail where event_name = 'Order Completed' order by event_id desc",
        )
        .await;
    let shown: Vec<String> = row
        .iter()
        .map(|row| {
            let mut shown = String::new();
            for column in [0, 1, 2, 3, 4, 5, 6, 7, 9] {
                let text: Option<String> = row.get(column);
                write!(shown, "{} ", text.as_deref().unwrap_or("-")).unwrap();
            }
            write!(shown, "{}", row.get::<_, bool>(8)).unwrap();
            shown
        })
        .collect();
    assert_eq!(
        shown,
        [
            "event Order Completed 507f191e810c19729de860ea https://shop.example/p/1?utm_source=news \
             https://www.google.com/ segment order-7 19.99 - true",
            "event Order Completed e5247467-9f3c-4dad-8026-4ec29d62f9fc \
             http://shop.example/p/1?utm_source=news&utm_medium=email&utm_campaign=spring \
             https://www.google.com/ segment order-7 19.99 1795715324464 true",
        ]
    );
    let pages =
        "select count(*) from avtryck.hit_detail where site = 'cart' and kind = 'page_view'";
    assert_eq!(collector.number(pages).await, 2);
    // Those of servers say another time than they have, and it is corrected by what they say.
    let late = "select count(*) from avtryck.hit_detail where site = 'cart' \
         and occurred_at between received_at - interval '1 minute' and received_at";
    assert_eq!(collector.number(late).await, 10);
}

#[tokio::test]
async fn an_unknown_write_key_is_refused_and_each_known_one_is_found() {
    let collector = Collector::start(config()).await;
    let body = |extra: Value| {
        let mut body = json!({"batch": [event("a")]});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        body.to_string()
    };
    // `other:`
    let unknown = ("authorization", "Basic b3RoZXI6");
    for (target, headers, body) in [
        ("/v1/batch", &[unknown][..], body(json!({}))),
        ("/v1/batch", &[], body(json!({"writeKey": "other"}))),
        (
            "/v1/t",
            &[],
            json!({"userId": "u", "event": "e", "writeKey": "other"}).to_string(),
        ),
        ("/beacon/v1/batch?writeKey=other", &[], body(json!({}))),
    ] {
        let reply = collector.post(target, headers, &body).await;
        assert_eq!(reply.status, 401, "{target} {body}");
        assert_eq!(reply.header("avtryck-refusal"), "site_unknown", "{target}");
        assert_ne!(reply.body, r#"{"success":true}"#);
    }
    for (number, (target, headers, extra)) in [
        ("/v1/batch", &[KEY][..], json!({})),
        ("/v1/b", &[], json!({"writeKey": "wk_123"})),
        ("/v1/import", &[], json!({"writeKey": "cart"})),
        ("/beacon/v1/batch?writeKey=wk_123", &[], json!({})),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body: Value = serde_json::from_str(&body(extra)).unwrap();
        body["batch"][0] = event(&number.to_string());
        let reply = collector.post(target, headers, &body.to_string()).await;
        assert_eq!(
            (reply.status, &*reply.body),
            (200, r#"{"success":true}"#),
            "{target}"
        );
    }
    collector.wait_for(ROWS, 4).await;
    let pixel = collector
        .get("/pixel/v1/track?writeKey=wk_123&userId=u&event=Seen", &[])
        .await;
    assert_eq!(
        (pixel.status, &*pixel.header("content-type").to_owned()),
        (200, "image/gif")
    );
    collector.wait_for(ROWS, 5).await;
    for refused in [
        "/pixel/v1/page?writeKey=wk_123",
        "/pixel/v1/page?writeKey=other&userId=u",
    ] {
        let reply = collector.get(refused, &[]).await;
        assert_eq!(reply.header("content-type"), "image/gif", "{refused}");
        assert_ne!(reply.header("avtryck-refusal"), "", "{refused}");
    }
}

#[tokio::test]
async fn a_large_batch_is_taken_and_a_broken_event_is_refused_alone() {
    let collector = Collector::start(config()).await;
    let large = |id: usize, bytes: usize| {
        let mut event = event(&format!("large-{id}"));
        event["properties"] = json!({"text": "x".repeat(bytes)});
        event
    };
    // 500 KB, as the SDKs send at most, and an event of 33 KB.
    let mut events: Vec<Value> = (0..15).map(|id| large(id, 33_000)).collect();
    events.push(json!(7));
    events.push(json!({"type": "track", "event": "no ID"}));
    let body = json!({"batch": events, "writeKey": "wk_123"}).to_string();
    assert!((495_000..520_000).contains(&body.len()), "{}", body.len());
    let reply = collector.post("/v1/batch", &[], &body).await;
    assert_eq!((reply.status, &*reply.body), (200, r#"{"success":true}"#));
    assert_eq!(reply.header("avtryck-refusal"), "json");
    collector.wait_for(ROWS, 15).await;
    let whole = format!("{ROWS} and length(params->>'text') = 33000");
    assert_eq!(collector.number(&whole).await, 15);
    // Nothing of it can be taken, and no later try would help.
    for body in ["<xml>", "", "{\"batch\":[{\"type\":\"track\"}]}", "[1,2]"] {
        let reply = collector.post("/v1/batch", &[KEY], body).await;
        assert_eq!(reply.status, 200, "{body}");
        assert_eq!(reply.header("avtryck-refusal"), "json", "{body}");
    }
    let telemetry = collector
        .post("/v1/m", &[], r#"{"series":[{"type":"Counter"}]}"#)
        .await;
    assert_eq!(
        (telemetry.status, &*telemetry.body),
        (200, r#"{"success":true}"#)
    );
    assert_eq!(telemetry.header("avtryck-refusal"), "");
    assert_eq!(collector.number(ROWS).await, 15);
}

#[tokio::test]
async fn browsers_learn_where_to_send_and_one_key_moves_or_ends_all_paths() {
    let collector = Collector::start(config()).await;
    let origin = ("origin", "http://shop.example");
    let settings = collector
        .get("/v1/projects/wk_123/settings", &[origin])
        .await;
    let told: Value = serde_json::from_str(&settings.body).unwrap();
    let host = "127.0.0.1/v1";
    let destination = &told["integrations"]["Segment.io"];
    assert_eq!(destination["apiKey"], "wk_123");
    assert_eq!(destination["apiHost"], host);
    assert_eq!(destination["protocol"], "http");
    assert_eq!(
        (&told["metrics"]["host"], &told["metrics"]["sampleRate"]),
        (&json!(host), &json!(0))
    );
    assert_eq!(
        settings.header("access-control-allow-origin"),
        "http://shop.example"
    );
    let unknown = collector
        .get("/v1/projects/other/settings", &[origin])
        .await;
    assert_eq!(unknown.status, 401);
    let source = collector
        .get("/sourceConfig/?p=npm&writeKey=wk_123", &[origin])
        .await;
    let told: Value = serde_json::from_str(&source.body).unwrap();
    assert_eq!(told["source"]["enabled"], true);
    assert_eq!(told["source"]["writeKey"], "wk_123");
    assert_eq!(told["source"]["destinations"], json!([]));

    let moved = Collector::start(config().set("path.segment", "/in/v1")).await;
    for (path, status) in [
        ("/in/v1/projects/wk/settings", 200),
        ("/in/sourceConfig/?writeKey=wk", 200),
        ("/in/pixel/v1/page?writeKey=wk&userId=u", 200),
        ("/v1/projects/wk/settings", 404),
        ("/sourceConfig/?writeKey=wk", 404),
        ("/in/v1/projects//settings", 404),
        ("/in/v1/projects/a/b/settings", 404),
        ("/in/v1/projects/wk/other", 404),
    ] {
        assert_eq!(moved.get(path, &[]).await.status, status, "{path}");
    }
    let body = json!({"batch": [event("a")]}).to_string();
    let reply = moved
        .post("/in/beacon/v1/batch?writeKey=wk", &[], &body)
        .await;
    assert_eq!(reply.status, 200);
    let off = Collector::start(config().set("path.segment", "")).await;
    for path in [
        "/v1/projects/wk/settings",
        "/projects/wk/settings",
        "/sourceConfig/?writeKey=wk",
        "/pixel/v1/page?writeKey=wk&userId=u",
        "/batch",
    ] {
        assert_eq!(off.get(path, &[]).await.status, 404, "{path}");
    }
    for path in ["/v1/batch", "/beacon/v1/batch?writeKey=wk"] {
        assert_eq!(off.post(path, &[KEY], &body).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn categories_narrow_the_permit_and_without_store_no_trait_is_kept() {
    let collector = Collector::start(config()).await;
    let call = |id: &str, site: &str, consent: Value| {
        json!({"writeKey": site, "batch": [{
            "type": "identify", "userId": "tell-user", "anonymousId": "tell-anonymous",
            "messageId": id, "traits": {"email": "tell@tale.example", "plan": "pro"},
            "context": {"consent": {"categoryPreferences": consent}},
        }]})
        .to_string()
    };
    for (id, site, consent) in [
        (
            "some",
            "wk_123",
            json!({"Analytics": true, "Advertising": false}),
        ),
        ("none", "wk_123", json!({"Analytics": false})),
        ("measured", "wk_asking", json!({})),
    ] {
        let reply = collector
            .post("/v1/batch", &[], &call(id, site, consent))
            .await;
        assert_eq!(
            (reply.status, &*reply.body),
            (200, r#"{"success":true}"#),
            "{id}"
        );
    }
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 2)
        .await;
    collector
        .wait_for(
            "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count",
            1,
        )
        .await;
    let stored = "select count(*) from avtryck.hit_detail where event_id = 'some' \
         and user_key is not null and device_id = 'tell-anonymous' and params::text like '%pro%' \
         and params::text not like '%tale%'";
    assert_eq!(collector.number(stored).await, 1);
    let measured = "select count(*) from avtryck.hit_detail where event_id = 'measured' \
         and user_key is null and device_id is null and params is null";
    assert_eq!(collector.number(measured).await, 1);

    let collector = Collector::start(config()).await;
    let call = call("measured", "wk_asking", json!({}));
    assert_eq!(collector.post("/v1/batch", &[], &call).await.status, 200);
    let (_, dir, log) = collector.stop().await;
    let spool = dir.path().join("spool");
    assert!(holds(&spool, b"identify"));
    assert!(!holds(&spool, b"tell") && !log.contains("tell"));
    assert!(!holds(&spool, b"wk_asking"));
}
