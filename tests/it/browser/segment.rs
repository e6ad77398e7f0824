//! The SDKs of Segment and RudderStack for pages, unmodified, on a page of another origin than the
//! collector's.

use super::{Browser, Proxy};
use crate::support::{Collector, Config, root, until};

/// A key that hashes users.
const USER_KEY: &str = "1:c2VnbWVudCBhbmQgcnVkZGVyc3RhY2sgdXNlciBrZXk=";

/// Calls Segment's SDK as its snippet does.
const SEGMENT: &str = r"
    const analytics = window.analytics = [];
    analytics._writeKey = 'wk_123';
    analytics._cdn = COLLECTOR;
    analytics._loadOptions = OPTIONS;
    analytics.push(['page', 'Docs', 'Home']);
    analytics.push(['track', 'Order Completed', { order_id: 'order-7', revenue: 19.99 }]);
    analytics.push(['identify', 'user-42', { plan: 'pro' }]);
";

const RUDDERSTACK: &str = r"
    const analytics = new rudderanalytics.RudderAnalytics();
    analytics.load('wk_123', COLLECTOR, Object.assign({ configUrl: COLLECTOR }, OPTIONS));
    analytics.page('Docs', 'Home');
    analytics.track('Order Completed', { order_id: 'order-7', revenue: 19.99 });
    analytics.identify('user-42', { plan: 'pro' });
";

/// A page with one of the SDKs.
struct Page {
    sdk: &'static str,
    calls: &'static str,
    options: &'static str,
    /// A path that it sends to.
    path: &'static str,
    /// Whether the SDK is there before it is called.
    comes_first: bool,
}

const fn segment(options: &'static str, path: &'static str) -> Page {
    Page {
        sdk: "analytics-next/dist/umd/standalone.js",
        calls: SEGMENT,
        options,
        path,
        comes_first: false,
    }
}

const fn rudderstack(options: &'static str, path: &'static str) -> Page {
    Page {
        sdk: "analytics-js/dist/npm/modern/bundled/umd/index.js",
        calls: RUDDERSTACK,
        options,
        path,
        comes_first: true,
    }
}

const PAGES: [Page; 5] = [
    segment("{}", "/v1/t"),
    segment(
        "{ integrations: { 'Segment.io': { deliveryStrategy: \
         { strategy: 'batching', config: { size: 3, timeout: 500 } } } } }",
        "/v1/b",
    ),
    rudderstack("{}", "/v1/track"),
    rudderstack(
        "{ queueOptions: { batch: { enabled: true, maxItems: 3 } } }",
        "/v1/batch",
    ),
    rudderstack(
        "{ useBeacon: true, beaconQueueOptions: { maxItems: 3, flushQueueInterval: 500 } }",
        "/beacon/v1/batch",
    ),
];

impl Page {
    /// Writes the page, which has the SDK in it.
    fn write(&self, collector: &str) -> String {
        let sdk = root().join("assets/data/segment/browser").join(self.sdk);
        let sdk = std::fs::read_to_string(sdk).expect("script/fetch test puts it there");
        let sdk = sdk.replace("</script", "<\\/script");
        let calls = self
            .calls
            .replace("COLLECTOR", &format!("'{collector}'"))
            .replace("OPTIONS", self.options);
        let scripts = match self.comes_first {
            true => [sdk, calls],
            false => [calls, sdk],
        };
        let [first, second] = scripts;
        format!(
            "<!doctype html><meta charset=utf-8><title>Räksmörgås</title><link rel=icon href=data:,>\
             <script>{first}</script><script>{second}</script>"
        )
    }
}

/// The entries of localStorage in which an SDK still keeps calls. One of them writes JSON as JSON.
const KEPT: &str = r"
    const read = text => typeof text == 'string' ? read(JSON.parse(text)) : text || [];
    return Object.keys(localStorage)
        .filter(key => /(\.queue|\.batchQueue|\.inProgress|:items)$/.test(key))
        .filter(key => Object.keys(read(localStorage.getItem(key))).length > 0)
        .join()";

/// A page with an SDK, open on another origin than the collector's.
struct Stage {
    collector: Collector,
    pages: Proxy,
    proxy: Proxy,
    browser: Browser,
}

impl Stage {
    async fn open(page: &Page, permits: &str) -> Stage {
        // Nothing is behind the proxy of the pages.
        let pages = Proxy::start(([127, 0, 0, 1], 1).into()).await;
        let site = format!(
            "[[site]]\nkey = \"cart\"\naliases = [\"wk_123\"]\norigins = [\"{}\"]\n\
             default_permit = {permits}\n",
            pages.url("")
        );
        let collector =
            Collector::start(Config::new().with(&site).set("user.keys", vec![USER_KEY])).await;
        let proxy = Proxy::start(collector.http).await;
        let browser = Browser::start().await;
        pages.serve("/p/1", &page.write(&proxy.url("")));
        browser.open(&pages.url("/p/1?a=b#c")).await;
        Stage {
            collector,
            pages,
            proxy,
            browser,
        }
    }

    /// Waits until the SDK keeps no call.
    async fn until_all_sent(&self) {
        until(async || self.browser.run(KEPT).await == "").await;
    }
}

#[tokio::test]
async fn the_sdks_of_segment_and_rudderstack_on_another_origin_become_rows() {
    for page in PAGES {
        let what = format!("{} {}", page.sdk, page.options);
        let stage = Stage::open(&page, r#"["store", "measure"]"#).await;
        let Stage {
            collector,
            pages,
            proxy,
            browser,
        } = &stage;
        let rows = "select count(*) from avtryck.hit_detail where protocol = 'segment'";
        collector.wait_for(rows, 3).await;
        let rows = collector
            .rows(
                "select coalesce(event_name, ''), page_url, device_id, visitor_id::text, \
                 params::text, user_key is not null from avtryck.hit_detail order by 1",
            )
            .await;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(names, ["", "Order Completed", "identify"], "{what}");
        for row in &rows {
            assert_eq!(row.get::<_, String>(1), pages.url("/p/1?a=b"), "{what}");
            assert_eq!(
                row.get::<_, String>(2),
                rows[0].get::<_, String>(2),
                "{what}"
            );
            // Their requests carry no cookie, so none is set.
            assert_eq!(row.get::<_, Option<String>>(3), None, "{what}");
            let params: String = row.get(4);
            assert!(params.contains("Räksmörgås"), "{what} {params}");
        }
        assert!(rows[2].get::<_, bool>(5), "{what}");
        assert!(proxy.count(page.path) > 0, "{what}");
        stage.until_all_sent().await;
        assert_eq!(browser.console().await, Vec::<String>::new(), "{what}");
        stage.browser.close().await;
    }
}

#[tokio::test]
async fn of_a_page_that_permits_nothing_counts_are_left_alone() {
    for page in [segment("{}", "/v1/t"), rudderstack("{}", "/v1/track")] {
        let stage = Stage::open(&page, "[]").await;
        let count = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
        stage.collector.wait_for(count, 3).await;
        stage.until_all_sent().await;
        let rows = "select count(*) from avtryck.hit";
        assert_eq!(stage.collector.number(rows).await, 0, "{}", page.sdk);
        let spool = stage.collector.dir.path().join("spool");
        for text in ["user-42", "order-7", "anonymousId"] {
            let is_held = crate::consent::holds(&spool, text.as_bytes());
            assert!(!is_held, "{} {text}", page.sdk);
        }
        let console = stage.browser.console().await;
        assert_eq!(console, Vec::<String>::new(), "{}", page.sdk);
        stage.browser.close().await;
    }
}
