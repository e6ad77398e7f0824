//! Modules: what the file holds, and the one that keeps hits while the line is down.

use std::collections::HashSet;

use hyper::Method;
use serde_json::{Value, json};

use super::{LISTEN, Stage};
use crate::support::until;

/// A command of Chromium's own.
#[derive(Debug)]
struct NetworkConditions {
    is_offline: bool,
}

impl fantoccini::wd::WebDriverCompatibleCommand for NetworkConditions {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!(
            "session/{}/chromium/network_conditions",
            session.unwrap_or_default()
        ))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        let conditions = json!({ "offline": self.is_offline, "latency": 0, "throughput": -1 });
        let body = json!({ "network_conditions": conditions });
        (Method::POST, Some(body.to_string()))
    }
}

impl Stage {
    async fn set_offline(&self, is_offline: bool) {
        let command = NetworkConditions { is_offline };
        let client = self.browser.client.clone();
        client
            .issue_cmd(command)
            .await
            .expect("the network's conditions");
        until(async || self.browser.run("return navigator.onLine").await == !is_offline).await;
    }

    /// Waits until an event that comes after an earlier fence has been sent.
    pub(super) async fn fence_again(&self) {
        let before = self.sent().len();
        self.browser.run("avtryck('event', 'again')").await;
        until(async || self.sent().iter().skip(before).any(|name| name == "again")).await;
    }

    async fn open_offline_page(&self, site: &str) {
        let tag = format!("<script src=\"/tag.js?site={site}&with=offline,stored\"></script>");
        self.open_html(&format!(
            "<!doctype html><link rel=icon href=data:,><script>{LISTEN}</script>{tag}"
        ))
        .await;
    }

    async fn storage(&self) -> Value {
        self.browser.run("return localStorage.length").await
    }
}

#[tokio::test]
async fn hits_wait_while_the_line_is_down_and_go_out_once_it_is_back() {
    let stage = Stage::set().await;
    stage.open_offline_page("demo").await;
    stage.until_row("kind = 'page_view'").await;
    stage.set_offline(true).await;
    let many = "for (let n = 0; n < 120; n++) { avtryck('page', { n }); if (n < 3) avtryck('event', 'kept', { n }); }";
    stage.browser.run(many).await;
    assert_eq!(
        stage.storage().await,
        0,
        "memory is enough while the page lives"
    );
    assert_eq!(stage.sent(), ["/page"]);
    stage.set_offline(false).await;
    stage
        .collector
        .wait_for("select count(*) from avtryck.hit_detail", 101)
        .await;
    stage.fence().await;
    let sent = stage.sent();
    assert_eq!(sent.len(), 102, "once each");
    assert_eq!(
        sent.iter().filter(|name| *name == "kept").count(),
        3,
        "page views are dropped first"
    );
    assert_eq!(stage.made()[101]["e"], "fence");
    stage.close().await;
}

#[tokio::test]
async fn hits_of_a_page_that_is_left_offline_are_stored_only_with_the_permit() {
    let stage = Stage::set().await;
    for (choice, kept) in [("['store', 'measure']", 1), ("['measure']", 0)] {
        stage.open_offline_page("demo").await;
        stage
            .browser
            .run(&format!("avtryck('consent', {choice})"))
            .await;
        stage.fence_again().await;
        stage.set_offline(true).await;
        stage.browser.run("avtryck('event', 'left')").await;
        stage.browser.run("Object.defineProperty(document, 'hidden', { value: true }); document.dispatchEvent(new Event('visibilitychange')); dispatchEvent(new Event('pagehide'))").await;
        assert_eq!(stage.storage().await, kept, "{choice}");
        stage.set_offline(false).await;
        stage.open_offline_page("demo").await;
        stage.fence_again().await;
        assert_eq!(stage.storage().await, 0);
    }
    // A request that the change of the line ends may have arrived, and its hit goes once more: with
    // the same ID, so it counts once.
    let events = stage.proxy.events();
    let left = events.iter().filter(|event| event["e"] == "left");
    let ids: HashSet<String> = left.map(|event| event["id"].to_string()).collect();
    assert!((1..=2).contains(&ids.len()), "{events:?}");
    stage.close().await;
}

#[tokio::test]
async fn who_is_logged_in_is_kept_in_memory_and_never_on_the_device() {
    let stage = Stage::set().await;
    let open = async || {
        let tag = "<script src=\"/tag.js?site=demo&with=offline,stored,user\"></script>";
        let icon = "<!doctype html><link rel=icon href=data:,>";
        stage.open_html(&format!("{icon}{tag}")).await;
    };
    open().await;
    let anna = "avtryck('user', 'anna@customer.example', 'signature')";
    stage.browser.run(anna).await;
    stage.fence_again().await;
    stage.set_offline(true).await;
    stage.browser.run("avtryck('event', 'in_memory')").await;
    stage.set_offline(false).await;
    stage.until_sent(3).await;
    let in_memory = stage.proxy.last_event();
    assert_eq!(
        (&in_memory["e"], &in_memory["user"]),
        (&json!("in_memory"), &json!("anna@customer.example"))
    );

    stage.set_offline(true).await;
    stage.browser.run("avtryck('event', 'on_device')").await;
    let leave = "Object.defineProperty(document, 'hidden', { value: true }); \
                 document.dispatchEvent(new Event('visibilitychange')); dispatchEvent(new Event('pagehide')); \
                 return JSON.stringify(localStorage)";
    let stored = stage.browser.run(leave).await.to_string();
    assert!(stored.contains("on_device"), "{stored}");
    assert!(
        !stored.contains("anna") && !stored.contains("signature"),
        "{stored}"
    );
    stage.set_offline(false).await;
    // Somebody else is logged in when it is sent, to whom it does not belong.
    open().await;
    stage.browser.run("avtryck('user', 'berta')").await;
    let is_device = |event: &Value| event["e"] == "on_device";
    until(async || stage.proxy.events().iter().any(is_device)).await;
    let events = stage.proxy.events();
    let sent: Vec<&Value> = events.iter().filter(|event| is_device(event)).collect();
    assert!(
        sent.iter().all(|event| event["user"] != "berta"),
        "{sent:?}"
    );
    let last = sent.last().map(|event| &event["user"]);
    assert_eq!(last, Some(&json!("")), "{sent:?}");
    stage.close().await;
}

#[tokio::test]
async fn hits_that_waited_for_more_than_a_day_are_dropped() {
    let stage = Stage::set().await;
    stage.open_offline_page("demo").await;
    stage.until_row("kind = 'page_view'").await;
    stage.set_offline(true).await;
    let later = "window.then = Date.now; avtryck('event', 'old'); Date.now = () => then() + 864e5; \
                 avtryck('event', 'new'); return 1";
    stage.browser.run(later).await;
    stage.set_offline(false).await;
    stage.until_row("event_name = 'new'").await;
    stage.fence().await;
    assert_eq!(stage.made_since(0), ["/page", "new", "fence"]);
    // This page may still look for what is kept: it waits a second after the last time.
    let kept = "Date.now = then; for (const [age, name] of [[864e5, 'stored-old'], [800e5, 'stored-new']]) \
                localStorage['avtryck.demo:' + (Date.now() - age + 0.5)] = JSON.stringify([{ e: name, u: location.href }]); \
                return 1";
    stage.browser.run(kept).await;
    stage.open_offline_page("demo").await;
    stage.until_row("event_name = 'stored-new'").await;
    stage.fence_again().await;
    assert!(!stage.sent().contains(&"stored-old".to_owned()));
    assert_eq!(stage.storage().await, 0);
    stage.close().await;
}

#[tokio::test]
async fn of_two_tabs_that_come_back_at_once_one_sends_what_was_stored() {
    let stage = Stage::set().await;
    let client = &stage.browser.client;
    let listen = "window.line = new BroadcastChannel('line'); \
                  line.onmessage = () => dispatchEvent(new Event('online')); return 1";
    stage.open_offline_page("demo").await;
    stage.until_row("kind = 'page_view'").await;
    stage.browser.run(listen).await;
    let first = client.window().await.expect("a tab");
    let second = client.new_window(true).await.expect("a tab").handle;
    client
        .switch_to_window(second)
        .await
        .expect("the other tab");
    stage.open_offline_page("demo").await;
    stage.browser.run(listen).await;
    let come_back = "for (let n = 0; n < 20; n++) \
                     localStorage['avtryck.demo:' + (Date.now() + n / 100)] = \
                     JSON.stringify([{ e: 'stored', params: { n }, u: location.href }]); \
                     line.postMessage(1); dispatchEvent(new Event('online')); return 1";
    stage.browser.run(come_back).await;
    let stored = "select count(*) from avtryck.hit_detail where event_name = 'stored'";
    stage.collector.wait_for(stored, 20).await;
    // Who gets the lock now gets it after both.
    let wait = "return navigator.locks.request('avtryck.demo:', () => 1)";
    stage.browser.run(wait).await;
    client.switch_to_window(first).await.expect("the first tab");
    stage.browser.run(wait).await;
    stage.fence().await;
    let stored = stage.sent().into_iter().filter(|name| name == "stored");
    assert_eq!(stored.count(), 20, "once each, before the collector looks");
    assert_eq!(stage.storage().await, 0);
    stage.close().await;
}

#[tokio::test]
async fn the_core_fetches_a_module_only_where_it_needs_it_and_the_file_lacks_it() {
    let stage = Stage::set().await;
    let mut fetched = 0;
    for (modules, script, more) in [
        ("", "", 0),
        (
            "",
            "avtryck('event', 'odd', { n: 5n }); avtryck('event', 'odd', { n: 6n })",
            1,
        ),
        ("rescue", "avtryck('event', 'odd', { n: 7n })", 0),
    ] {
        let tag = format!("<script src=\"/tag.js?site=demo&with={modules}\"></script>");
        stage
            .open_html(&format!(
                "<!doctype html><link rel=icon href=data:,><script>{LISTEN}</script>{tag}"
            ))
            .await;
        stage.browser.run(script).await;
        stage.fence_again().await;
        fetched += more;
        until(async || stage.proxy.count("only=rescue") >= fetched).await;
    }
    let odd = "select count(*) from avtryck.hit_detail where event_name = 'odd' and params->>'n' in ('5', '6', '7')";
    stage.collector.wait_for(odd, 3).await;
    assert_eq!(stage.proxy.count("only=rescue"), fetched);
    stage.close().await;
}
