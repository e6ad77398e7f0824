//! What a page says once for all of its hits: properties, its user, a filter, and what it wants to
//! be told; and what a developer sees and leaves out.

use serde_json::json;

use super::super::{Browser, Proxy, SITES};
use super::Stage;
use crate::support::{Collector, Config, until};

const USER_KEY: &str = "1:c2VnbWVudCBhbmQgcnVkZGVyc3RhY2sgdXNlciBrZXk=";

impl Stage {
    /// A stage whose collector hashes users.
    async fn with_user_key() -> Stage {
        let config = Config::new().with(SITES).set("user.keys", vec![USER_KEY]);
        let collector = Collector::start(config).await;
        Stage {
            proxy: Proxy::start(collector.http).await,
            collector,
            browser: Browser::start().await,
        }
    }
}

#[tokio::test]
async fn properties_that_were_set_are_in_each_hit_that_follows_and_in_those_that_wait() {
    let stage = Stage::set().await;
    for with in ["", "&with=set"] {
        let before = stage.sent().len();
        let early = "window.avtryck = (...all) => { (avtryck.q = avtryck.q || []).push(all); }; \
            avtryck('set', { plan: 'early', level: 1 });";
        stage.open(&format!("demo{with}"), early).await;
        stage
            .browser
            .run("avtryck('event', 'own', { plan: 'own' }); avtryck('set', { level: null, more: [1] }); avtryck('event', 'last')")
            .await;
        // Several connections bring them, in any order.
        stage.until_sent(before + 3).await;
        let events = stage.proxy.events().split_off(before);
        assert_eq!(events.len(), 3, "{events:?}");
        let params_of = |name: &str| {
            let mut events = events.iter();
            let found = events.find(|event| event["e"].as_str().unwrap_or_default() == name);
            found.map(|event| &event["params"]).expect("it was sent")
        };
        assert_eq!(params_of("")["plan"], "early", "{events:?}");
        assert_eq!(params_of("own")["plan"], "own", "{events:?}");
        assert_eq!(
            params_of("last"),
            &json!({ "plan": "early", "level": null, "more": [1] })
        );
    }
    stage
        .collector
        .wait_for(
            "select count(*) from avtryck.hit_detail where event_name = 'last' and params = '{\"plan\": \"early\", \"more\": [1]}'",
            2,
        )
        .await;
    stage.close().await;
}

#[tokio::test]
async fn a_user_is_sent_in_bodies_alone_and_until_the_logout() {
    let stage = Stage::with_user_key().await;
    for with in ["", "&with=user"] {
        stage.open(&format!("demo{with}"), "").await;
        stage
            .browser
            .run("avtryck('user', 'kim@shop.example'); avtryck('event', 'in')")
            .await;
        stage.fence_again().await;
    }
    stage
        .browser
        .run("avtryck('user', null); avtryck('event', 'out')")
        .await;
    stage
        .collector
        .wait_for(
            "select count(*) from avtryck.hit_detail where event_name = 'in' and user_key is not null",
            2,
        )
        .await;
    stage
        .until_row("event_name = 'out' and user_key is null")
        .await;
    // The path of pixels is an address, which is logged.
    stage.proxy.block("/e");
    stage.open("demo&with=user", "").await;
    stage
        .browser
        .run("avtryck('user', 'kim@shop.example'); avtryck('event', 'pixel')")
        .await;
    stage
        .until_row("event_name = 'pixel' and user_key is null")
        .await;
    assert!(stage.proxy.count("pixel") > 0);
    assert_eq!(stage.proxy.count("kim"), 0);
    stage.close().await;
}

#[tokio::test]
async fn a_filter_changes_and_drops_hits_and_one_that_fails_drops_them() {
    let stage = Stage::set().await;
    stage.open("demo&with=filter", "").await;
    stage
        .browser
        .run(
            "avtryck('filter', hit => { if (hit.e === 'bad') throw 1; hit.u = hit.u.replace('/page', '/other'); return hit.e !== 'drop'; }); \
             for (const name of ['drop', 'bad', 'kept']) avtryck('event', name)",
        )
        .await;
    stage.fence().await;
    assert_eq!(stage.made_since(0), ["/page", "kept", "fence"]);
    stage
        .until_row("event_name = 'kept' and page_url like '%/other'")
        .await;
    stage.close().await;
}

#[tokio::test]
async fn a_page_is_told_which_hits_are_on_disk_and_why_others_are_not() {
    let stage = Stage::with_user_key().await;
    stage
        .open(
            "demo",
            "window.told = []; window.avtryck = (...all) => { (avtryck.q = avtryck.q || []).push(all); }; \
             avtryck('recorded', (hit, reason) => { told.push([hit.e, reason]); throw 1; });",
        )
        .await;
    stage.browser.run("avtryck('event', 'order')").await;
    let told = async || stage.browser.run("return window.told").await;
    until(async || told().await.as_array().is_some_and(|all| all.len() == 2)).await;
    assert_eq!(told().await, json!([["", ""], ["order", ""]]));
    // A site that the collector does not know: the page and the console are told the reason.
    let listen = "window.told = []; window.said = []; console.info = (...all) => said.push(all.join(' ')); \
         window.avtryck = (...all) => { (avtryck.q = avtryck.q || []).push(all); }; \
         avtryck('recorded', (hit, reason) => told.push([hit.e, reason]));";
    stage.proxy.serve(
        "/refused",
        &format!(
            "<!doctype html><link rel=icon href=data:,><script>{listen}</script>\
                 <script src=\"/tag.js?site=demo&with=debug,recorded\" data-site=nobody></script>"
        ),
    );
    let refused = stage.proxy.url("/refused?avtryck_debug");
    stage.browser.open(&refused).await;
    until(async || told().await == json!([["", "site_unknown"]])).await;
    let said = stage.browser.run("return said.join()").await.to_string();
    assert!(said.contains("/e 400 site_unknown"), "{said}");
    stage.close().await;
}

#[tokio::test]
async fn a_page_view_says_its_title_and_what_shows_it_and_where_its_visitor_came_from() {
    let stage = Stage::set().await;
    stage.proxy.serve(
        "/page",
        "<!doctype html><meta charset=utf-8><title>Räksmörgås</title><link rel=icon href=data:,><script src=\"/tag.js?site=demo&with=context\"></script>",
    );
    let query = "/page?utm_source=news%20letter&utm_medium=email&utm_campaign=v%C3%A5r&utm_term=a+b&utm_content=top&gclid=Cj0K";
    stage.browser.open(&stage.proxy.url(query)).await;
    stage
        .until_row(
            "kind = 'page_view' and page_title = 'Räksmörgås' and screen ~ '^\\d+x\\d+$' and viewport ~ '^\\d+x\\d+$' \
             and language ~ '^[a-z]{2}' and browser_time_zone <> '' and utm_source = 'news letter' and utm_medium = 'email' \
             and utm_campaign = 'vår' and utm_term = 'a b' and utm_content = 'top' and gclid = 'Cj0K' and fbclid is null \
             and 'webdriver' = any(flags)",
        )
        .await;
    // Who did not permit to store is not asked about the device, and no ID of a click is kept.
    stage
        .browser
        .run("document.cookie = 'avchoice=measure;path=/'")
        .await;
    let query = "/page?utm_source=kim%40shop.example&utm_medium=email&gclid=Cj0L";
    stage.browser.open(&stage.proxy.url(query)).await;
    stage
        .until_row(
            "kind = 'page_view' and page_title = 'Räksmörgås' and screen is null and viewport is null and language is null \
             and browser_time_zone is null and utm_source is null and utm_medium = 'email' and gclid is null",
        )
        .await;
    stage.close().await;
}

#[tokio::test]
async fn debugging_prints_each_hit_and_its_reply_and_a_browser_that_is_ignored_sends_nothing() {
    let stage = Stage::with_user_key().await;
    let listen = "window.said = []; console.info = (...all) => said.push(all.map(one => JSON.stringify(one)).join(' '));";
    let said = async || {
        stage
            .browser
            .run("return window.said.join('\\n')")
            .await
            .to_string()
    };
    stage.open("demo", listen).await;
    stage.until_sent(1).await;
    assert_eq!(stage.browser.run("return said.length").await, 0);
    stage
        .browser
        .open(&stage.proxy.url("/page?avtryck_debug"))
        .await;
    stage
        .browser
        .run(
            "document.cookie = 'avchoice=store.measure;path=/'; avtryck('event', 'seen', { n: 7 })",
        )
        .await;
    until(async || said().await.contains("204")).await;
    until(async || stage.sent().contains(&"seen".to_owned())).await;
    let words = said().await;
    for expected in ["/page?avtryck_debug", "seen", "store.measure", "/e"] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    stage
        .browser
        .open(&stage.proxy.url("/page?avtryck_ignore"))
        .await;
    until(async || said().await.contains("avtryck_ignore")).await;
    let before = stage.sent().len();
    stage.browser.open(&stage.proxy.url("/page")).await;
    until(async || said().await.contains("avtryck_ignore")).await;
    stage.browser.run("avtryck('event', 'mine')").await;
    stage
        .browser
        .open(&stage.proxy.url("/page?avtryck_ignore=0"))
        .await;
    stage.fence().await;
    assert_eq!(
        stage.made_since(before),
        ["/page?avtryck_ignore=0", "fence"]
    );
    stage.close().await;
}

/// The columns of networks' click IDs, which are the names of parameters.
const CLICK_IDS: [&str; 9] = [
    "gclid",
    "gbraid",
    "wbraid",
    "dclid",
    "msclkid",
    "fbclid",
    "ttclid",
    "twclid",
    "li_fat_id",
];

#[tokio::test]
async fn ids_of_clicks_are_kept_with_the_permit_store_alone() {
    let stage = Stage::set().await;
    let query = CLICK_IDS
        .map(|name| format!("{name}=click-{name}"))
        .join("&");
    let target = format!("/page?utm_source=ad&{query}");
    stage.open("demo", "").await;
    // The choice without `store` names whatever else there is.
    for (choice, is_kept) in [
        ("measure.profile.match.link.locate", false),
        ("store.measure", true),
    ] {
        stage
            .browser
            .run(&format!("document.cookie = 'avchoice={choice};path=/'"))
            .await;
        stage.browser.open(&stage.proxy.url(&target)).await;
        // As the address of the page, and as the referrer of the next view.
        stage
            .browser
            .run(&format!("history.pushState({{}}, '', '/after-{is_kept}')"))
            .await;
        let each = CLICK_IDS.map(|name| match is_kept {
            true => format!("{name} = 'click-{name}'"),
            false => format!("{name} is null"),
        });
        let row = format!(
            "kind = 'page_view' and utm_source = 'ad' and page_url like '%click-%' = {is_kept} and {}",
            each.join(" and ")
        );
        stage.until_row(&row).await;
        let after = format!(
            "page_url like '%/after-{is_kept}' and coalesce(referrer, '') like '%click-%' = {is_kept}"
        );
        stage.until_row(&after).await;
    }
    stage.close().await;
}
