//! The visitor's own page in Chromium without scripts: its forms alone.

use fantoccini::Locator;

use super::{Browser, Proxy, config};
use crate::support::{Collector, PATIENCE};

impl Browser {
    /// Waits until the page has such an element, which a form's reply may be on its way with.
    async fn shows(&self, css: &str) -> String {
        let element = self
            .client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css));
        let element = element
            .await
            .unwrap_or_else(|error| panic!("{css}: {error}"));
        element.text().await.expect("its text")
    }
}

#[tokio::test]
async fn without_scripts_a_visitor_looks_chooses_and_deletes() {
    let collector = Collector::start(config().embedded()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::without_scripts().await;

    // Two pixels at once would be two visitors: the first one alone makes the cookie.
    browser
        .open(&proxy.url("/p.gif?site=demo&u=https://demo.example/first"))
        .await;
    browser.open(&proxy.url("/demo")).await;
    let visitor = browser.cookie("avid").await.expect("a visitor");
    let rows = "select count(*) from avtryck.hit where visitor_id is not null";
    collector.wait_for(rows, 3).await;
    assert!(
        !proxy.hits().contains(&"/e".to_owned()),
        "the tag did not run"
    );

    browser.click("privacy").await;
    let stored = browser.shows("[aria-labelledby=stored]").await;
    for text in [
        "https://demo.example/first",
        "/demo",
        "banner-1",
        "SE",
        "Chrome",
    ] {
        assert!(stored.contains(text), "{text} in {stored}");
    }
    assert!(browser.shows("#now").await.contains("setting"));

    // Everything is allowed by default; two boxes are unticked and the form is sent.
    for flag in ["profile", "match"] {
        browser.click(flag).await;
    }
    browser.click("save").await;
    let done = browser.shows("[role=status]").await;
    assert!(done.starts_with("Your choice is saved."), "{done}");
    assert_eq!(
        browser.cookie("avchoice").await.as_deref(),
        Some("store.measure.link.locate")
    );
    assert_eq!(
        browser.cookie("avid").await.as_ref(),
        Some(&visitor),
        "the same visitor still"
    );
    browser.click_link("Svenska").await;
    let now = browser.shows("html[lang=sv] #now").await;
    assert_eq!(
        now,
        "Just nu tillåtet: igenkänning, mätning, koppling av enheter, ort. Det har du själv valt."
    );

    browser.click("erase").await;
    let done = browser.shows("html[lang=sv] [role=status]").await;
    assert!(done.starts_with("Raderingen är registrerad."), "{done}");
    assert_eq!(browser.cookie("avid").await, None);
    assert_eq!(browser.cookie("avchoice").await.as_deref(), Some("none"));
    assert!(
        browser
            .shows("[aria-labelledby=stored]")
            .await
            .contains("ingen kaka")
    );
    collector.wait_for(rows, 0).await;

    // From now on this browser is a count.
    browser.open(&proxy.url("/p.gif?site=demo")).await;
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    collector.wait_for(counted, 1).await;
    assert_eq!(collector.number(rows).await, 0);
    browser.close().await;
}
