//! What a site that moves from Snowplow's collector brings along: the ID that its browsers have,
//! the records of its consent dialogues, and its webhooks.

use serde_json::{Value, json};

use crate::support::{Collector, Config};

const SITES: &str = r#"
[[site]]
key = "shop"
hosts = ["127.0.0.1"]
default_permit = ["store", "measure"]

[[site]]
key = "careful"
default_permit = ["store", "measure"]
snowplow_consent_narrows = true

[[site]]
key = "asking"
default_permit = ["measure"]
"#;

const TP2: &str = "/com.snowplowanalytics.snowplow/tp2";
const WEBHOOK: &str = "/com.snowplowanalytics.iglu/v1";
const ROWS: &str = "select count(*) from avtryck.hit_detail";
const NETWORK_USER: &str = "c1f5b3a2-6a3e-4bb1-9b0c-2f6f0c1d2e3f";

async fn start() -> Collector {
    Collector::start(Config::new().with(SITES)).await
}

/// A body with these events of a page.
fn payload(site: &str, events: &[Value]) -> String {
    let events = events.iter().map(|event| {
        let mut event = event.clone();
        event["aid"] = json!(site);
        event["tv"] = json!("js-4.10.1");
        event
    });
    let events: Vec<_> = events.collect();
    json!({"schema": "iglu:x/payload_data/jsonschema/1-0-4", "data": events}).to_string()
}

#[tokio::test]
async fn the_id_that_snowplows_collector_gave_is_kept_once_and_is_never_the_visitors() {
    let collector = start().await;
    let view = |id: u32| json!({"e": "pv", "page": "first", "vid": id});
    let cookie = format!("sp={NETWORK_USER}");
    let body = payload("shop", &[view(1)]);
    let first = collector.post(TP2, &[("Cookie", &cookie)], &body).await;
    let own = first.cookie().to_owned();
    assert!(
        own.starts_with("avid=") && !own.contains(NETWORK_USER),
        "{own}"
    );
    // The browser is known now, so it is not kept again.
    let own = own.split(';').next().unwrap_or_default();
    let both = format!("{own}; {cookie}");
    let body = payload("shop", &[view(2)]);
    collector.post(TP2, &[("Cookie", &both)], &body).await;
    // Neither is what is no ID, nor where nothing may be stored, nor one of our own pixel.
    for (site, cookie) in [
        ("shop", "sp=00000000-0000-0000-0000-000000000000"),
        ("shop", "sp=\"},{\"x"),
        ("asking", &*cookie),
    ] {
        let body = payload(site, &[view(3)]);
        collector.post(TP2, &[("Cookie", cookie)], &body).await;
    }
    let pixel = [("Cookie", &*cookie)];
    collector.get("/p.gif?site=shop&a=1", &pixel).await;
    collector.wait_for(ROWS, 6).await;
    let kept = format!("{ROWS} where params ->> 'network_userid' = '{NETWORK_USER}'");
    assert_eq!(collector.number(&kept).await, 1);
    let kept = format!("{ROWS} where params ? 'network_userid'");
    assert_eq!(collector.number(&kept).await, 1);
    let of_first = format!("{ROWS} where params ->> 'vid' = '1' and visitor_id is not null");
    assert_eq!(collector.number(&of_first).await, 1);
}

#[tokio::test]
async fn a_recorded_refusal_narrows_the_choice_where_the_site_says_so_and_never_widens_it() {
    let collector = start().await;
    let record = |what: &str| {
        let schema = "iglu:com.snowplowanalytics.snowplow/consent_preferences/jsonschema/1-0-0";
        let document = json!({"schema": schema, "data": {"eventType": what}});
        json!({"e": "ue", "ue_pr": json!({"schema": "s", "data": document}).to_string()})
    };
    for (site, what, choice) in [
        ("shop", "deny_all", None),
        ("careful", "allow_all", None),
        ("careful", "pending", None),
        ("careful", "deny_all", Some("none")),
        ("careful", "withdrawn", Some("none")),
        ("asking", "allow_all", None),
    ] {
        let body = payload(site, &[record(what), json!({"e": "pv"})]);
        let headers = [("Cookie", "avchoice=store.measure")];
        let reply = collector.post(TP2, &headers, &body).await;
        assert_eq!((reply.status, &*reply.body), (200, "ok"));
        let cookies: Vec<&str> = reply.cookies.iter().map(String::as_str).collect();
        let choices = cookies.iter().find_map(|cookie| {
            let value = cookie.strip_prefix("avchoice=")?;
            value.split(';').next()
        });
        assert_eq!(choices, choice, "{site} {what} {cookies:?}");
        let keeps_visitor = cookies
            .iter()
            .any(|cookie| cookie.starts_with("avid=") && !cookie.contains("Max-Age=0"));
        assert_eq!(keeps_visitor, choice.is_none(), "{site} {what} {cookies:?}");
    }
    // Six page views, and the records of which none refuses where that counts; the others are only
    // counted.
    collector.wait_for(ROWS, 10).await;
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    collector.wait_for(counted, 2).await;
}

#[tokio::test]
async fn a_webhook_is_answered_as_a_tracker_and_becomes_a_row_without_a_visitor() {
    let collector = start().await;
    let schema = "iglu:com.acme/lead/jsonschema/1-0-0";
    let lead = json!({"schema": schema, "data": {"plan": "pro"}}).to_string();
    let query = format!("{WEBHOOK}?schema={schema}&plan=pro");
    let image = collector.get(&query, &[]).await;
    assert_eq!(
        (image.status, image.header("content-type")),
        (200, "image/gif")
    );
    for (target, body) in [
        (WEBHOOK.to_owned(), lead),
        (
            format!("{WEBHOOK}?schema={schema}"),
            r#"{"plan":"pro"}"#.to_owned(),
        ),
        (format!("{WEBHOOK}?schema={schema}"), "plan=pro".to_owned()),
    ] {
        let reply = collector.post(&target, &[], &body).await;
        assert_eq!((reply.status, &*reply.body), (200, "ok"), "{target}");
        let told = (reply.header("avtryck-refusal"), reply.header("set-cookie"));
        assert_eq!(told, ("", ""), "{target} {body}");
    }
    let refused = collector.post(WEBHOOK, &[], "{\"plan\":1}").await;
    let told = (refused.status, refused.header("avtryck-refusal"));
    assert_eq!(told, (200, "json"));
    let rows = format!(
        "{ROWS} where kind = 'event' and event_name = 'lead' and visitor_id is null \
         and protocol = 'snowplow' and params #>> '{{ue,data,plan}}' = 'pro'"
    );
    collector.wait_for(&rows, 4).await;
    assert_eq!(collector.number(ROWS).await, 4);
}
