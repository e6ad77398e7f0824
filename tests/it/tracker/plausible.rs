//! Plausible's script: what it sent once, sent again.

use super::recorded::recorded;
use crate::support::{Collector, Config};

const SITES: &str = r#"
[[site]]
key = "the-shop"
aliases = ["shop.example"]
origins = ["http://shop.example"]
default_permit = ["store", "measure"]

[[site]]
key = "all"
aliases = ["all.example"]
default_permit = ["measure"]
"#;

const ROWS: &str = "select count(*) from avtryck.hit_detail";

#[tokio::test]
async fn recorded_events_are_taken_and_become_rows() {
    let collector = Collector::start(Config::new().with(SITES)).await;
    for request in &recorded("plausible-official-0.4.6.jsdom.json") {
        let reply = request.send(&collector).await;
        assert_eq!((reply.status, reply.cookies.len()), (202, 0));
    }
    collector.wait_for(ROWS, 2).await;
    let page = "page_url = 'http://shop.example/p/1?utm_source=news&utm_medium=email&utm_campaign=spring' \
         and referrer = 'https://www.google.com/' and protocol = 'plausible' and site = 'the-shop' \
         and visitor_id is null";
    let view = format!("{ROWS} where kind = 'page_view' and {page}");
    assert_eq!(collector.number(&view).await, 1);
    let event = format!(
        "{ROWS} where kind = 'event' and event_name = 'signup' and {page} \
         and params->'props'->>'tier' = 'pro' and params->>'value' = '19.99' \
         and params->>'currency' = 'EUR'"
    );
    assert_eq!(collector.number(&event).await, 1);
}

#[tokio::test]
async fn an_event_of_several_sites_is_a_row_of_each_that_is_known() {
    let collector = Collector::start(Config::new().with(SITES)).await;
    let event =
        |sites: &str| format!(r#"{{"n":"pageview","u":"https://shop.example/","d":"{sites}"}}"#);
    let sites = event("shop.example,all.example,other.example");
    let reply = collector.post("/api/event", &[], &sites).await;
    assert_eq!(reply.status, 202);
    let reply = collector
        .post("/api/event", &[], &event("other.example"))
        .await;
    assert_eq!(reply.header("avtryck-refusal"), "site_unknown");
    assert_eq!(reply.status, 200);
    collector.wait_for(ROWS, 2).await;
    for site in ["the-shop", "all"] {
        let sql = format!("{ROWS} where site = '{site}'");
        assert_eq!(collector.number(&sql).await, 1, "{site}");
    }
}
