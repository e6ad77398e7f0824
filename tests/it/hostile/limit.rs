//! Clients that send more hits than they may.

use std::time::Instant;

use crate::support::{Collector, Config, PATIENCE};

/// Ten hits in one request: no time passes between them in which a token could come back.
fn ten(site: &str, event: &str) -> String {
    let one = format!(r#"{{"site":"{site}","e":"{event}"}}"#);
    format!("[{}]", vec![one; 10].join(","))
}

fn from(address: &str) -> [(&str, &str); 1] {
    [("X-Forwarded-For", address)]
}

#[tokio::test]
async fn hits_over_the_limit_are_flagged_counted_and_kept() {
    let limit = "limit = { hits_per_second = 1, burst = 3 }";
    let collector = Collector::start(Config::sites().with(limit)).await;
    let heavy = collector
        .post("/e", &from("2.64.0.1"), &ten("open", "heavy"))
        .await;
    assert_eq!(heavy.status, 204);
    // An IPv6 subscriber has many addresses.
    for host in 1..=3 {
        let address = format!("2a00:801:200::{host}");
        let reply = collector
            .post("/e", &from(&address), r#"{"site":"open","e":"v6"}"#)
            .await;
        assert_eq!(reply.status, 204);
    }
    let v6 = collector
        .post("/e", &from("2a00:801:200:0:9::9"), &ten("open", "v6"))
        .await;
    assert_eq!(v6.status, 204);
    let other = collector
        .get("/p.gif?site=open&e=other", &from("2.64.0.2"))
        .await;
    assert_eq!(other.status, 200);
    // Of a hit without the permit to measure a count remains, and of its client nothing.
    let shut = collector
        .post("/e", &from("2.64.0.3"), &ten("shut", "shut"))
        .await;
    assert_eq!(shut.status, 204);
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 24)
        .await;
    let flagged = async |event: &str| {
        let sql = format!(
            "select count(*) from avtryck.hit_detail where event_name = '{event}' and 'over_limit' = any(flags)"
        );
        collector.number(&sql).await
    };
    assert_eq!((flagged("heavy").await, flagged("other").await), (7, 0));
    // Of the last ten at least seven, however long the three requests took.
    assert!((7..=10).contains(&flagged("v6").await));
    let counted = "select sum(hits)::bigint from avtryck.hit_count";
    collector.wait_for(counted, 10).await;
    assert!(collector.metric("avtryck_hits_over_limit_total").await >= 21.0);
    assert_eq!(
        collector
            .metric("avtryck_refusals_total{reason=\"over_limit\"}")
            .await,
        0.0
    );
}

#[tokio::test]
async fn by_choice_hits_over_the_limit_are_refused_and_no_other_client_pays() {
    let config = Config::sites()
        .with("limit = { hits_per_second = 1, burst = 3, drop = true }")
        .set("site.open.click_hosts", vec!["www.shop.example"]);
    let collector = Collector::start(config).await;
    let heavy = from("2.64.0.1");
    let events = collector.post("/e", &heavy, &ten("open", "heavy")).await;
    assert_eq!(
        (events.status, events.header("avtryck-refusal")),
        (200, "over_limit")
    );
    let answer: serde_json::Value = serde_json::from_str(&events.body).unwrap();
    assert_eq!(
        (&answer["taken"], &answer["refused"]),
        (&3.into(), &7.into())
    );
    let started = Instant::now();
    let mut taken = 3;
    let pixel = loop {
        let pixel = collector.get("/p.gif?site=open&e=heavy", &heavy).await;
        if pixel.status != 200 {
            break pixel;
        }
        taken += 1;
        assert!(started.elapsed() < PATIENCE);
    };
    assert_eq!((pixel.status, pixel.bytes.len()), (429, 43));
    assert_eq!(pixel.header("avtryck-refusal"), "over_limit");
    assert_eq!(
        (pixel.header("retry-after"), pixel.header("content-type")),
        ("1", "image/gif")
    );
    let none = loop {
        let reply = collector.post("/e", &heavy, &ten("open", "heavy")).await;
        if reply.status != 200 {
            break reply;
        }
        let answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        taken += answer["taken"].as_i64().unwrap();
        assert!(started.elapsed() < PATIENCE);
    };
    assert_eq!((none.status, none.header("retry-after")), (429, "1"));
    // Who clicks gets to the target, and the click is kept.
    for _ in 0..5 {
        let click = collector
            .get("/c?site=open&to=https://www.shop.example/x", &heavy)
            .await;
        assert_eq!((click.status, click.header("avtryck-refusal")), (302, ""));
    }
    let other = collector
        .get("/p.gif?site=open&e=other", &from("2.64.0.2"))
        .await;
    assert_eq!(other.status, 200);
    collector
        .wait_for("select count(*) from avtryck.hit", taken + 6)
        .await;
    assert!(
        collector
            .metric("avtryck_refusals_total{reason=\"over_limit\"}")
            .await
            >= 18.0
    );
    let status = "avtryck_http_requests_total{endpoint=\"pixel\",status=\"429\"}";
    assert_eq!(collector.metric(status).await, 1.0);
}
