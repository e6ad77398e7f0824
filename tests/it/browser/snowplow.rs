//! Snowplow's tracker for pages, unmodified, on a page of another origin than the collector's.

use serde_json::Value;

use super::{Browser, Proxy};
use crate::support::{Collector, Config, root, until};

/// Calls the tracker as a page would, and keeps what it says to the console.
const CALLS: &str = r"
    snowplowBrowserTracking.newTracker('sp', COLLECTOR, OPTIONS);
    snowplowBrowserTracking.enableActivityTracking({ minimumVisitLength: 1, heartbeatDelay: 1 });
    snowplowBrowserTracking.trackPageView();
    snowplowBrowserTracking.trackStructEvent({ category: 'Mixes', action: 'Play', value: 4.5 });
    snowplowBrowserTracking.trackSelfDescribingEvent({ event: {
        schema: 'iglu:com.acme/viewed_product/jsonschema/1-0-0', data: { price: 49.95 } } });
    // A page ping tells that somebody is there.
    document.dispatchEvent(new Event('mousemove'));
    setTimeout(() => document.dispatchEvent(new Event('mousemove')), 500);
";

/// The events that the tracker still keeps, as text.
const QUEUE: &str = "return Object.keys(localStorage)
    .filter(key => key.startsWith('snowplowOutQueue') && !key.endsWith('.expires'))
    .flatMap(key => JSON.parse(localStorage.getItem(key) || '[]'))
    .map(event => JSON.stringify(event)).join()";

/// The ID that the tracker gave the visitor; empty if it gave none.
const OWN_ID: &str = "return (document.cookie.match(/_sp_id[^=]*=([0-9a-f-]{36})/) || ['', ''])[1]";

/// Where pages may post to beside the usual path.
const PATHS: &str = r#"path.snowplow = ["/i", "/com.snowplowanalytics.snowplow/tp2", "/shop/t"]"#;

/// A page with the tracker, served by a proxy of its own, and a collector behind another.
struct Stage {
    collector: Collector,
    pages: Proxy,
    proxy: Proxy,
    browser: Browser,
}

impl Stage {
    async fn set(permits: &[&str]) -> Stage {
        // Nothing is behind the proxy of the pages.
        let pages = Proxy::start(([127, 0, 0, 1], 1).into()).await;
        let origin = pages.url("");
        let permits = serde_json::to_string(permits).expect("a list");
        let site = format!(
            "[[site]]\nkey = \"the-shop\"\naliases = [\"shop\"]\norigins = [\"{origin}\"]\n\
             default_permit = {permits}\n"
        );
        let collector = Collector::start(Config::new().with(&site).with(PATHS)).await;
        Stage {
            proxy: Proxy::start(collector.http).await,
            collector,
            pages,
            browser: Browser::start().await,
        }
    }

    async fn open(&self, version: &str, options: &str) {
        let tracker = root().join(format!(
            "assets/data/snowplow/browser-{version}/index.umd.min.js"
        ));
        let tracker = std::fs::read_to_string(tracker).expect("script/fetch test puts it there");
        let calls = CALLS
            .replace("COLLECTOR", &format!("'{}'", self.proxy.url("")))
            .replace("OPTIONS", options);
        let page = format!(
            "<!doctype html><meta charset=utf-8><title>Räksmörgås</title><link rel=icon href=data:,>\
             <script>{tracker}</script><script>{calls}</script>"
        );
        self.pages.serve("/p/1", &page);
        self.browser.open(&self.pages.url("/p/1?a=b#c")).await;
    }

    /// Waits until the tracker keeps no event.
    async fn until_all_sent(&self, requests: usize) {
        until(async || {
            let paths = ["/i?", "tp2", "/shop/t"];
            let sent: usize = paths.map(|path| self.proxy.count(path)).iter().sum();
            sent >= requests && self.browser.run(QUEUE).await == ""
        })
        .await;
    }
}

#[tokio::test]
async fn snowplows_tracker_on_another_origin_becomes_rows_and_keeps_no_event() {
    for (version, options) in [
        ("4.10.1", "{ appId: 'shop' }"),
        ("4.10.1", "{ appId: 'shop', eventMethod: 'get' }"),
        (
            "4.10.1",
            "{ appId: 'shop', postPath: '/shop/t', encodeBase64: true }",
        ),
        ("3.24.6", "{ appId: 'shop' }"),
        (
            "3.24.6",
            "{ appId: 'shop', postPath: '/shop/t', encodeBase64: false }",
        ),
        ("3.24.6", "{ appId: 'shop', eventMethod: 'beacon' }"),
    ] {
        let stage = Stage::set(&["store", "measure"]).await;
        stage.open(version, options).await;
        let rows = "select count(*) from avtryck.hit_detail where protocol = 'snowplow'";
        stage.collector.wait_for(rows, 4).await;
        stage.until_all_sent(1).await;
        let rows = stage
            .collector
            .rows(
                "select coalesce(event_name, ''), page_url, params::text, visitor_id::text, \
                 device_id from avtryck.hit_detail where protocol = 'snowplow' order by 1",
            )
            .await;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(
            names,
            ["", "event", "page_ping", "viewed_product"],
            "{version} {options}"
        );
        for row in &rows {
            assert_eq!(row.get::<_, String>(1), stage.pages.url("/p/1?a=b"));
            // The cookie of the first reply comes back with all later requests.
            assert!(
                row.get::<_, Option<String>>(3).is_some(),
                "{version} {options}"
            );
            assert!(row.get::<_, Option<String>>(4).is_some());
        }
        let params = |at: usize| serde_json::from_str::<Value>(rows[at].get(2)).expect("JSON");
        assert_eq!(params(0)["page"], "Räksmörgås");
        assert_eq!(params(3)["ue"]["data"], serde_json::json!({"price": 49.95}));
        assert_eq!(
            stage.browser.console().await,
            Vec::<String>::new(),
            "{version} {options}"
        );
        stage.browser.close().await;
    }
}

#[tokio::test]
async fn a_page_that_permits_nothing_or_asks_for_anonymity_leaves_no_id() {
    for (permits, options, rows) in [
        (&[][..], "{ appId: 'shop' }", 0),
        (
            &["store", "measure"],
            "{ appId: 'shop', anonymousTracking: { withServerAnonymisation: true } }",
            4,
        ),
    ] {
        let stage = Stage::set(permits).await;
        stage.open("4.10.1", options).await;
        stage.until_all_sent(3).await;
        let count = "select (select count(*) from avtryck.hit) \
                     + (select coalesce(sum(hits), 0)::bigint from avtryck.hit_count)";
        stage.collector.wait_for(count, 4).await;
        let ids = "select count(*) from avtryck.hit_detail \
                   where visitor_id is not null or device_id is not null or client_ip is not null";
        assert_eq!(stage.collector.number(ids).await, 0, "{options}");
        let kept = "select count(*) from avtryck.hit_detail";
        assert_eq!(stage.collector.number(kept).await, rows, "{options}");
        assert_eq!(stage.browser.cookie("avid").await, None, "{options}");
        // The tracker has an ID all the same, where it is not told to have none.
        let own = stage.browser.run(OWN_ID).await;
        let own = own.as_str().unwrap_or_default();
        assert_eq!(own.is_empty(), rows > 0, "{options} {own}");
        let spool = stage.collector.dir.path().join("spool");
        let is_held = !own.is_empty() && crate::consent::holds(&spool, own.as_bytes());
        assert!(!is_held, "{options} {own}");
        assert_eq!(
            stage.browser.console().await,
            Vec::<String>::new(),
            "{options}"
        );
        stage.browser.close().await;
    }
}
