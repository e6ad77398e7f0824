//! The demo page, as somebody who tries it sees it.

use serde_json::json;

use super::{Browser, Proxy, config};
use crate::support::{Collector, Config};

#[tokio::test]
async fn the_ad_of_the_demo_is_clicked_and_leads_to_a_purchase() {
    let collector = Collector::start(config().embedded()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    browser.open(&proxy.url("/demo")).await;
    browser
        .wait_for_text("status", "Sent: a page view and an impression.")
        .await;
    browser.click("click").await;
    browser
        .until("return location.search.includes('avclid=')")
        .await;
    browser
        .until("return document.getElementById('came').textContent.startsWith('You came from the ad.')")
        .await;
    browser.click("purchase").await;
    collector
        .wait_for(
            "select count(*) from avtryck.hit_detail where event_name = 'purchase' \
             and visitor_id = (select visitor_id from avtryck.hit_detail where kind = 'click')",
            1,
        )
        .await;
    let live = browser
        .run("return document.getElementById('live').href")
        .await;
    let expected = format!("http://127.0.0.1:{}/?site=demo", collector.admin.port());
    assert_eq!(live, expected);
    let privacy = browser
        .run("return document.getElementById('own') === null")
        .await;
    assert_eq!(privacy, true, "the demo's own site needs no explanation");
    browser.close().await;
}

#[tokio::test]
async fn the_demo_says_what_a_blocker_stops() {
    let collector = Collector::start(config().embedded()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    browser.devtools("Network.enable", json!({})).await;
    for (blocked, said) in [
        ("*/tag.js*", "the tag."),
        ("*/i.gif*", "the ad's pixel."),
        ("*/e", "the tag's hits."),
    ] {
        let urls = json!({ "urls": [blocked] });
        browser.devtools("Network.setBlockedURLs", urls).await;
        browser.open(&proxy.url("/demo")).await;
        let tells = format!(
            "return document.getElementById('status').textContent.startsWith(\"Blocked: {said}\")"
        );
        browser.until(&tells).await;
    }
    browser.close().await;
}

#[tokio::test]
async fn with_sites_of_ones_own_the_demo_says_which_it_uses() {
    let own = "[[site]]\nkey = \"shop\"\nhosts = [\"127.0.0.1\"]\n";
    let collector = Collector::start(Config::new().with(own).embedded()).await;
    let page = collector.get("/demo", &[]).await;
    for said in [
        "this page belongs to your site <code>shop</code>",
        "It permits nothing by default",
        "/tag.js?site=shop&amp;with=query",
    ] {
        assert!(page.body.contains(said), "no {said} in {}", page.body);
    }
    assert!(!page.body.contains("site=demo"), "{}", page.body);
}
