//! Plausible's script, unmodified, on a page of another origin than the collector's.

use super::{Browser, Proxy};
use crate::support::{Collector, Config, root};

/// Calls the script as a page would. It sends nothing from this machine, nor for a browser that is
/// driven by a program, unless it is told to.
const CALLS: &str = r"
    window.__plausible = true;
    init({ domain: 'shop.example', endpoint: ENDPOINT, captureOnLocalhost: true });
    track('signup', { props: { tier: 'pro' }, revenue: { amount: 19.99, currency: 'EUR' } });
";

#[tokio::test]
async fn plausibles_script_on_another_origin_becomes_rows() {
    // Nothing is behind the proxy of the pages.
    let pages = Proxy::start(([127, 0, 0, 1], 1).into()).await;
    let site = format!(
        "[[site]]\nkey = \"the-shop\"\naliases = [\"shop.example\"]\norigins = [\"{}\"]\n\
         default_permit = [\"store\", \"measure\"]\n",
        pages.url("")
    );
    let collector = Collector::start(Config::new().with(&site)).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    let script = root().join("assets/data/matomo/browser/plausible.js");
    let script = std::fs::read_to_string(script).expect("script/fetch test puts it there");
    let calls = CALLS.replace("ENDPOINT", &format!("'{}'", proxy.url("/api/event")));
    let page = format!(
        "<!doctype html><meta charset=utf-8><title>Räksmörgås</title><link rel=icon href=data:,>\
         <script type=module>{script}\n{calls}</script>"
    );
    pages.serve("/p/1", &page);
    browser.open(&pages.url("/p/1?a=b#c")).await;

    let rows = "select count(*) from avtryck.hit_detail where protocol = 'plausible'";
    collector.wait_for(rows, 2).await;
    let rows = collector
        .rows(
            "select kind, coalesce(event_name, ''), page_url, coalesce(params->'props'->>'tier', ''), \
             visitor_id is null from avtryck.hit_detail order by 1 desc",
        )
        .await;
    let page = pages.url("/p/1?a=b");
    let told: Vec<[String; 4]> = rows
        .iter()
        .map(|row| [row.get(0), row.get(1), row.get(2), row.get(3)])
        .collect();
    assert_eq!(
        told,
        [
            ["page_view", "", &page, ""],
            ["event", "signup", &page, "pro"]
        ]
    );
    assert!(rows.iter().all(|row| row.get::<_, bool>(4)));
    assert_eq!(browser.console().await, Vec::<String>::new());
    browser.close().await;
}
