//! Snowplow's trackers: recorded requests, and what stands in none.

use serde_json::{Value, json};

use super::recorded::recorded;
use crate::support::{Collector, Config};

/// A site that the recordings name, which permits all.
const SHOP: &str = r#"
[[site]]
key = "the-shop"
aliases = ["shop"]
hosts = ["127.0.0.1"]
origins = ["http://shop.example"]
default_permit = ["store", "measure", "profile", "match", "link", "locate"]

[[site]]
key = "asking"
aliases = ["asking-shop"]
origins = ["http://shop.example"]
default_permit = []
"#;

pub(super) fn config() -> Config {
    Config::new().with(SHOP)
}

const TP2: &str = "/com.snowplowanalytics.snowplow/tp2";

/// The recordings, and the events that each brings.
const RECORDINGS: [(&str, i64); 10] = [
    ("snowplow-browser-3.24.6-get.jsdom.json", 3),
    ("snowplow-browser-3.24.6-post.jsdom.json", 3),
    ("snowplow-browser-3.24.6-post-path-svranon.jsdom.json", 3),
    ("snowplow-browser-4.10.1-post.jsdom.json", 3),
    ("snowplow-browser-4.10.1-post-svranon.jsdom.json", 3),
    ("snowplow-node-4.8.0-get.json", 9),
    ("snowplow-node-4.8.0-post.json", 9),
    ("snowplow-python-1.1.0-get.json", 5),
    ("snowplow-python-1.1.0-post.json", 5),
    ("snowplow-python-1.1.0-post-base64.json", 5),
];

/// A collector whose pages may post to a path of their own.
async fn start() -> Collector {
    let paths =
        r#"path.snowplow = ["/i", "/ice.png", "/com.snowplowanalytics.snowplow/tp2", "/shop/t"]"#;
    Collector::start(config().with(paths)).await
}

/// Sends an event in an envelope.
pub(super) async fn send(collector: &Collector, event: &Value) {
    let body = json!({"schema": "iglu:x/payload_data/jsonschema/1-0-4", "data": [event]});
    let reply = collector.post(TP2, &[], &body.to_string()).await;
    assert_eq!((reply.status, &*reply.body), (200, "ok"), "{event}");
    assert_eq!(reply.header("avtryck-refusal"), "", "{event}");
}

#[tokio::test]
async fn each_recording_becomes_its_rows_and_replayed_none_more() {
    let collector = start().await;
    let mut rows = 0;
    for (file, events) in RECORDINGS {
        for round in 0..2 {
            for request in recorded(file) {
                let reply = request.send(&collector).await;
                let expected = match &*request.method {
                    "GET" => (200, "image/gif"),
                    "OPTIONS" => (204, ""),
                    _ => (200, "text/plain"),
                };
                let seen = (reply.status, reply.header("content-type"));
                assert_eq!(seen, expected, "{file} {reply:?}");
                assert_eq!(reply.header("avtryck-refusal"), "", "{file}");
                if request.method == "POST" {
                    assert_eq!(reply.body, "ok");
                }
            }
            rows += if round == 0 { events } else { 0 };
            collector
                .wait_for("select count(*) from avtryck.hit", rows)
                .await;
        }
        // What was replayed is loaded, too: a hit that was sent after it is a row.
        collector.get("/p.gif?e=after", &[]).await;
        rows += 1;
        collector
            .wait_for("select count(*) from avtryck.hit", rows)
            .await;
    }
}

#[tokio::test]
async fn a_recorded_page_view_is_mapped_as_the_table_says() {
    let collector = start().await;
    for request in recorded("snowplow-browser-3.24.6-post.jsdom.json") {
        request.send(&collector).await;
    }
    let count = "select count(*) from avtryck.hit";
    collector.wait_for(count, 3).await;
    let rows = collector
        .rows(
            "select kind, site, page_url, referrer, event_name, event_id, device_id, session_id, \
             protocol, params::text, user_key is not null as has_user, \
             extract(epoch from occurred_at)::float8 as occurred_at \
             from avtryck.hit_detail order by params ->> 'dtm'",
        )
        .await;
    let text = |at: usize, name: &str| rows[at].get::<_, Option<String>>(name).unwrap_or_default();
    assert_eq!(
        [0, 1, 2].map(|at| text(at, "kind")),
        ["page_view", "event", "event"]
    );
    assert_eq!(
        [0, 1, 2].map(|at| text(at, "event_name")),
        ["", "viewed_product", "event"]
    );
    for at in 0..3 {
        assert_eq!(text(at, "site"), "the-shop");
        assert_eq!(text(at, "protocol"), "snowplow");
        assert_eq!(
            text(at, "page_url"),
            "http://shop.example/p/1?utm_source=news&utm_medium=email&utm_campaign=spring"
        );
        assert_eq!(text(at, "referrer"), "https://www.google.com/");
        assert_eq!(
            text(at, "device_id"),
            "696874c3-4405-41b1-b9c2-93454c5b0212"
        );
        assert_eq!(
            text(at, "session_id"),
            "bae3e0c4-2bfe-4476-aa78-6bca7c424603"
        );
    }
    assert_eq!(text(0, "event_id"), "2b792878-f3f4-43d6-9367-483248909098");
    let params: Value = serde_json::from_str(&text(0, "params")).unwrap();
    assert_eq!(params["page"], "Räksmörgås & co");
    assert_eq!(params["aid"], "shop");
    assert_eq!(
        params["page_view_id"],
        "71c364fd-763a-4e2c-afdc-f3b25380de7f"
    );
    let user = json!({"schema": "iglu:com.acme/user/jsonschema/1-0-0", "data": {"type": "tester"}});
    assert_eq!(params["co"][0], user);
    let params: Value = serde_json::from_str(&text(1, "params")).unwrap();
    let viewed = json!({"schema": "iglu:com.acme/viewed_product/jsonschema/1-0-0",
        "data": {"product_id": "ASO01043", "price": 49.95}});
    assert_eq!(params["ue"], viewed);
    let params: Value = serde_json::from_str(&text(2, "params")).unwrap();
    assert_eq!(
        (&params["se_ca"], &params["se_va"]),
        (&json!("Mixes"), &json!("4.5"))
    );
}

#[tokio::test]
async fn what_can_never_be_taken_is_answered_as_if_it_were_and_good_events_are_kept() {
    let collector = start().await;
    let good = json!({"e": "pv", "aid": "shop"});
    let of = |broken: Value| json!({"schema": "s", "data": [good, broken, good]}).to_string();
    let large = "x".repeat(100_000);
    let many = json!({"data": vec![&good; 1001]}).to_string();
    let mut rows = 0;
    for (reason, body, taken) in [
        ("site_unknown", of(json!({"e": "pv", "aid": "nobody"})), 2),
        ("json", of(json!({"e": "ue", "ue_px": "%"})), 2),
        ("json", of(json!({"e": "ue", "ue_pr": "{"})), 2),
        ("json", of(json!({"e": "pv", "cx": "e30"})), 2),
        ("json", of(json!([1])), 2),
        ("json", "{".to_owned(), 0),
        ("json", "not json".to_owned(), 0),
        ("hit_too_large", of(json!({"e": "pv", "page": large})), 2),
        ("too_many_events", many, 1000),
        ("body_too_large", "x".repeat(3 << 20), 0),
    ] {
        let reply = collector.post(TP2, &[], &body).await;
        assert_eq!((reply.status, &*reply.body), (200, "ok"), "{reason}");
        assert_eq!(reply.header("avtryck-refusal"), reason);
        rows += taken;
        collector
            .wait_for("select count(*) from avtryck.hit", rows)
            .await;
        let name = format!("avtryck_refusals_total{{reason=\"{reason}\"}}");
        assert!(collector.metric(&name).await >= 1.0, "{reason}");
    }
    for query in ["", "?e=zz", "?e=pv&aid=nobody", "?e=ue&ue_px=%25&aid=shop"] {
        let reply = collector.get(&format!("/i{query}"), &[]).await;
        assert_eq!((reply.status, reply.bytes.len()), (200, 43), "{query}");
        assert_ne!(reply.header("avtryck-refusal"), "", "{query}");
    }
}

#[tokio::test]
async fn a_cached_event_of_a_phone_has_its_own_time_and_device() {
    let collector = start().await;
    let now = collector
        .rows("select (extract(epoch from now()) * 1000)::bigint")
        .await[0]
        .get::<_, i64>(0);
    let days = 86_400_000;
    let mobile = json!({"schema": "iglu:com.snowplowanalytics.snowplow/mobile_context/jsonschema/1-0-3",
        "data": {"osType": "android", "osVersion": "15", "deviceManufacturer": "Google",
            "deviceModel": "Pixel 9", "androidIdfa": "5ab1f0f8-ca8d-4e39-8e24-4c8a0a0e0b1f"}});
    let session = json!({"schema": "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
        "data": {"userId": "secret-device", "sessionId": "secret-session", "sessionIndex": 1}});
    let contexts = json!({"schema": "c", "data": [mobile, session]}).to_string();
    // Its clock is an hour fast.
    let event = json!({"e": "pp", "eid": "late-1", "aid": "shop", "tv": "andr-6.3.2",
        "dtm": now - 3 * days + 3_600_000, "stm": now + 3_600_000, "co": contexts});
    send(&collector, &event).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 1)
        .await;
    let row = &collector
        .rows(
            "select maid, device_id, session_id, flags, \
             abs(extract(epoch from (received_at - interval '3 days' - occurred_at)))::float8 \
             from avtryck.hit_detail",
        )
        .await[0];
    assert_eq!(
        row.get::<_, String>(0),
        "5ab1f0f8-ca8d-4e39-8e24-4c8a0a0e0b1f"
    );
    assert_eq!(row.get::<_, String>(1), "secret-device");
    assert_eq!(row.get::<_, String>(2), "secret-session");
    assert!(!row.get::<_, Vec<String>>(3).contains(&"clock".to_owned()));
    assert!(row.get::<_, f64>(4) < 1.0);
}

#[tokio::test]
async fn without_store_no_id_of_a_context_reaches_the_disk() {
    let config: Config = config()
        .set("site.the-shop.default_permit", vec!["measure"])
        .without_postgres();
    let collector = Collector::start(config).await;
    let contexts = json!({"schema": "c", "data": [
        {"schema": "iglu:com.snowplowanalytics.snowplow/mobile_context/jsonschema/1-0-3",
            "data": {"osType": "ios", "appleIdfa": "SECRETS1-A667-48BC-B806-42ECB2B48606",
                "appleIdfv": "SECRETS2", "appSetId": "SECRETS3"}},
        {"schema": "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
            "data": {"userId": "SECRETS4", "sessionId": "SECRETS5", "previousSessionId": "SECRETS6",
                "firstEventId": "SECRETS7"}},
    ]});
    let event = json!({"e": "pv", "aid": "shop", "co": contexts.to_string(), "duid": "SECRETS8",
        "uid": "SECRETS9", "sid": "SECRETS10", "nuid": "SECRETS11", "page": "kept",
        "url": "https://shop.example/?_sp=SECRETS12.1&gclid=SECRETS13"});
    send(&collector, &event).await;
    let (_, dir, _) = collector.stop().await;
    let mut found = Vec::new();
    let mut folders = vec![dir.path().join("spool")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                found.extend(std::fs::read(path).unwrap());
            }
        }
    }
    let text = String::from_utf8_lossy(&found).to_lowercase();
    assert!(text.contains("kept"), "the event is there");
    assert!(!text.contains("secrets"), "{text}");
}

#[tokio::test]
async fn a_link_through_the_collector_leads_to_listed_hosts_alone_and_is_an_event() {
    let config = config().set("site.the-shop.click_hosts", vec!["shop.example"]);
    let collector = Collector::start(config).await;
    let target = "u=https%3A%2F%2Fshop.example%2Fx%3Fa%3Db";
    let asked = |query: &str| format!("/r/tp2?{query}");
    for (query, refusal) in [
        (format!("{target}&aid=shop&eid=link-1"), ""),
        (format!("e=se&se_ca=a&{target}&eid=link-2"), ""),
        (format!("{target}&e=ue&ue_px=%25"), "json"),
    ] {
        let reply = collector.get(&asked(&query), &[]).await;
        assert_eq!(
            (reply.status, reply.header("location")),
            (302, "https://shop.example/x?a=b")
        );
        assert_eq!(reply.header("avtryck-refusal"), refusal, "{query}");
    }
    for (query, refusal) in [
        ("aid=shop", "click_target"),
        ("u=javascript%3Aalert(1)", "click_target"),
        ("u=https%3A%2F%2Fevil.example%2F&aid=shop", "click_host"),
        (
            "u=https%3A%2F%2Fshop.example%2F&aid=asking-shop",
            "click_host",
        ),
        ("u=https%3A%2F%2Fshop.example%2F&aid=nobody", "click_host"),
        (
            "k=1&to=https%3A%2F%2Fshop.example%2F&u=https%3A%2F%2Fevil.example%2F&sig=AA",
            "click_signature",
        ),
    ] {
        let reply = collector.get(&asked(query), &[]).await;
        assert_eq!(
            (reply.status, reply.header("avtryck-refusal")),
            (400, refusal),
            "{query}"
        );
        assert_eq!(
            reply.header("content-type"),
            "text/html; charset=utf-8",
            "{query}"
        );
    }
    collector
        .wait_for("select count(*) from avtryck.hit", 2)
        .await;
    let rows = collector
        .rows(
            "select event_name, coalesce(params #>> '{ue,data,uri}', params #>> '{co,0,data,uri}') \
             from avtryck.hit_detail order by event_id",
        )
        .await;
    let rows: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let uri = || "https://shop.example/x?a=b".to_owned();
    let expected = [
        ("uri_redirect".to_owned(), uri()),
        ("event".to_owned(), uri()),
    ];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn snowplows_own_names_of_columns_are_in_a_view() {
    let collector = start().await;
    for request in recorded("snowplow-node-4.8.0-post.json") {
        request.send(&collector).await;
    }
    collector
        .wait_for("select count(*) from avtryck.snowplow_event", 9)
        .await;
    let row = &collector
        .rows(
            "select to_jsonb(snowplow_event)::text from avtryck.snowplow_event \
             where event = 'page_view'",
        )
        .await[0];
    let row: Value = serde_json::from_str(row.get(0)).unwrap();
    for (column, value) in [
        ("app_id", json!("shop")),
        ("platform", json!("srv")),
        ("v_tracker", json!("node-4.8.0")),
        ("event_id", json!("5921c2c2-572e-411d-8040-c4cfc47b6d14")),
        ("event_name", json!("page_view")),
        ("event_vendor", json!("com.snowplowanalytics.snowplow")),
        ("page_title", json!("Räksmörgås & co")),
        ("page_urlscheme", json!("https")),
        ("page_urlhost", json!("shop.example")),
        ("page_urlport", json!(443)),
        ("page_urlpath", json!("/p/1")),
        (
            "page_urlquery",
            json!("utm_source=news&utm_medium=email&utm_campaign=spring"),
        ),
        ("refr_urlhost", json!("www.google.com")),
        ("mkt_source", json!("news")),
        ("mkt_medium", json!("email")),
        ("mkt_campaign", json!("spring")),
        (
            "domain_userid",
            json!("3b1e6a0e-5f63-4f8f-9a4e-2f9a6f7a1c11"),
        ),
        ("domain_sessionidx", json!(3)),
        ("dvce_screenwidth", json!(1920)),
        ("br_viewheight", json!(720)),
        ("true_tstamp", json!("2026-01-01T00:00:00+00:00")),
    ] {
        assert_eq!(row[column], value, "{column}");
    }
    assert_eq!(
        row["contexts"]["data"][0]["schema"],
        "iglu:com.acme/user/jsonschema/1-0-0"
    );
    let sum = "select count(*) from avtryck.snowplow_event where \
        event = 'transaction' and tr_orderid = 'order-7' and tr_total = 19.99 and tr_currency = 'EUR' \
        or event = 'transaction_item' and ti_price = 49.95 and ti_quantity = 2 \
        or event = 'struct' and se_category = 'Mixes' and se_value = 0 \
        or event = 'page_ping' and pp_yoffset_max = 420 \
        or event_vendor = 'com.acme' and event_name = 'viewed_product' and event_version = '1-0-0' \
            and unstruct_event #>> '{data,data,product_id}' = 'ASO01043'";
    assert_eq!(collector.number(sum).await, 5);
    // What is no number or time is null, and never an error.
    let hostile = json!({"e": "se", "aid": "shop", "se_va": "1e999", "vid": "9".repeat(30), "vp": "x",
        "dtm": "99999999999999999", "res": "axb", "ti_qu": "-", "tr_tt": {"a": 1}, "page": ["b"]});
    send(&collector, &hostile).await;
    collector
        .wait_for("select count(*) from avtryck.snowplow_event", 10)
        .await;
    let nulls = "select count(*) from avtryck.snowplow_event where se_value is null \
        and domain_sessionidx is null and dvce_created_tstamp is null and br_viewwidth is null \
        and event = 'struct' and tr_total is null and ti_quantity is null";
    assert_eq!(collector.number(nulls).await, 1);
    let times = collector
        .rows(
            "select avtryck.iso_time_of(time)::text from (values ('2026-02-31T23:59:59Z'), \
             ('2026-01-01T02:00:00.5+02:00'), ('0000-01-01T00:00:00Z'), ('2026-13-01T00:00:00Z'), \
             ('2026-01-01')) as given (time)",
        )
        .await;
    let times: Vec<Option<String>> = times.iter().map(|row| row.get(0)).collect();
    let expected =
        ["2026-03-03 23:59:59+00", "2026-01-01 00:00:00.5+00"].map(|time| Some(time.to_owned()));
    assert_eq!(
        (&times[..2], &times[2..]),
        (&expected[..], &[None, None, None][..])
    );
}
