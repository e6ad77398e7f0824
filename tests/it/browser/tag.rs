//! The tag in Chromium: what it sends of what a page gives it, and how.

mod choices;
mod commands;
mod consent;
mod fields;
mod links;
mod measures;
mod modules;
mod package;
mod views;
mod wild;

use serde_json::Value;

use super::pages::page;
use super::{Browser, Proxy, SITES};
use crate::support::{Collector, Config, until};

/// Sites for these tests besides [`SITES`].
const MORE_SITES: &str = r#"
[[site]]
key = "second"
default_permit = ["store", "measure"]

[[site]]
key = "waits"
default_permit = ["store", "measure"]
gvl_id = 2
wait_for = "tcf"

[[site]]
key = "waits-for-gpp"
gvl_id = 2
wait_for = "gpp"
"#;

/// Keeps the words that the tag writes to the console, counts requests that have no reply yet, and
/// gives no time twice, so that the IDs of hits tell their order.
const LISTEN: &str = "window.words = []; console.warn = (...all) => words.push(all.join(' ')); \
    { const [native, now] = [fetch, Date.now]; let last = 0; window.unanswered = 0; \
    Date.now = () => last = Math.max(now(), last + 1); \
    window.fetch = (...all) => { const reply = native(...all), done = () => { unanswered--; }; \
    unanswered++; reply.then(done, done); return reply; }; }";

/// A browser, with a collector behind a proxy.
struct Stage {
    collector: Collector,
    proxy: Proxy,
    browser: Browser,
}

impl Stage {
    async fn set() -> Stage {
        let config = Config::new().with(SITES).with(MORE_SITES);
        let collector = Collector::start(config).await;
        Stage {
            proxy: Proxy::start(collector.http).await,
            collector,
            browser: Browser::start().await,
        }
    }

    /// Opens a page with the tag of a site, behind a script of its own.
    async fn open(&self, site: &str, script: &str) {
        self.open_html(&page(site, &format!("{LISTEN}{script}")))
            .await;
    }

    async fn open_html(&self, html: &str) {
        self.proxy.serve("/page", html);
        self.browser.open(&self.proxy.url("/page")).await;
    }

    /// Returns the names of the events that went to the collector, and the paths of page views, as
    /// they came.
    fn sent(&self) -> Vec<String> {
        self.proxy.events().iter().map(name_of).collect()
    }

    /// Returns the events that went to the collector in the order in which the page made them:
    /// requests that are under way at once come in any order.
    fn made(&self) -> Vec<Value> {
        let mut events = self.proxy.events();
        events.sort_by_key(|event| {
            let (time, _) = event["id"].as_str()?.split_once('-')?;
            time.parse::<u64>().ok()
        });
        events
    }

    /// Returns what [`Stage::sent`] does without its first, in the order of [`Stage::made`].
    fn made_since(&self, before: usize) -> Vec<String> {
        self.made().iter().skip(before).map(name_of).collect()
    }

    /// Waits until so many hits went to the collector.
    async fn until_sent(&self, count: usize) {
        until(async || self.proxy.events().len() >= count).await;
        self.settle().await;
    }

    /// Sends an event by which a test knows that what came before it has been sent or never will.
    async fn fence(&self) {
        self.browser.run("avtryck('event', 'fence')").await;
        until(async || self.sent().iter().any(|name| name == "fence")).await;
        self.settle().await;
    }

    /// Waits until no request of the page is under way: one that began first may come last.
    async fn settle(&self) {
        until(async || self.browser.run("return window.unanswered || 0").await == 0).await;
    }

    /// Waits until a query of the database counts one row.
    async fn until_row(&self, condition: &str) {
        let sql = format!("select count(*) from avtryck.hit_detail where {condition}");
        self.collector.wait_for(&sql, 1).await;
    }

    async fn words(&self) -> Vec<String> {
        let words = self.browser.run("return window.words").await;
        serde_json::from_value(words).expect("a list of words")
    }

    async fn close(self) {
        self.browser.close().await;
    }
}

fn name_of(event: &Value) -> String {
    let url = event["u"].as_str().expect("a URL");
    let url = url.split_once("//").map_or(url, |(_, rest)| rest);
    let path = url.find('/').map_or("", |at| &url[at..]);
    match event["e"].as_str() {
        None | Some("") => path.to_owned(),
        Some(name) => name.to_owned(),
    }
}

#[tokio::test]
async fn two_sites_tags_on_one_page_send_each_for_itself_and_share_the_visitor() {
    let stage = Stage::set().await;
    let both = page("demo", "avtryck = undefined; var early = 1;")
        + "<script>avtryck('event', 'between', { n: 1 })</script><script src=\"/tag.js?site=second\"></script>\
           <script src=\"/tag.js?site=demo\"></script>";
    stage.open_html(&both).await;
    let browser = &stage.browser;
    browser
        .run("avtryck('event', 'after'); avtryck('event', 'one', {}, { site: 'second' })")
        .await;
    for (site, rows) in [("demo", 3), ("second", 4)] {
        let sql = format!("select count(*) from avtryck.hit_detail where site = '{site}'");
        stage.collector.wait_for(&sql, rows).await;
    }
    let names = "select count(distinct (site, event_name, visitor_id)) from avtryck.hit_detail";
    assert_eq!(stage.collector.number(names).await, 7, "{:?}", stage.sent());
    let visitors = "select count(distinct visitor_id) from avtryck.hit_detail";
    assert_eq!(stage.collector.number(visitors).await, 1);
    stage.close().await;
}

#[tokio::test]
async fn what_a_blocker_refused_is_not_asked_for_again_on_that_page() {
    let stage = Stage::set().await;
    stage.proxy.block("/e");
    stage.proxy.block("/p.gif");
    stage.open("demo", "").await;
    let refused = || stage.proxy.hits();
    let more = async |count| {
        for n in 0..count {
            let event = format!("avtryck('event', 'more', {{ n: {n} }})");
            stage.browser.run(&event).await;
        }
    };
    until(async || refused().len() >= 2).await;
    more(5).await;
    // The next page asks again, once, also where more comes before it has the answer.
    stage.proxy.hold("/p.gif");
    stage.open("demo", "").await;
    until(async || refused().len() >= 4).await;
    more(3).await;
    stage.proxy.hold("");
    more(3).await;
    stage.open("demo", "").await;
    until(async || refused().len() >= 6).await;
    assert_eq!(refused(), ["/e", "/p.gif"].repeat(3));
    stage.close().await;
}

#[tokio::test]
async fn a_tag_that_comes_as_a_module_or_as_text_sends_to_its_collector_or_nowhere() {
    let stage = Stage::set().await;
    let text = stage.collector.get("/tag.js?site=demo", &[]).await.body;
    // The page is from another origin than the collector.
    let collector = format!("http://localhost:{}", stage.proxy.address.port());
    let tag = format!("{collector}/tag.js?site=demo");
    let by_text = format!(
        "const script = document.createElement('script'); script.text = {}; document.head.append(script)",
        serde_json::to_string(&text)
            .expect("a text")
            .replace("</", "<\\/")
    );
    let head = format!("<!doctype html><link rel=icon href=data:,><script>{LISTEN}</script>");
    for (name, script, sends) in [
        ("classic", format!("<script src=\"{tag}\"></script>"), true),
        (
            "module",
            format!("<script type=module src=\"{tag}\"></script>"),
            true,
        ),
        (
            "import",
            format!("<script type=module>import '{tag}'</script>"),
            true,
        ),
        ("later", format!("<script>import('{tag}')</script>"), true),
        (
            "attribute",
            format!("<script data-collector=\"{collector}\">{text}</script>"),
            true,
        ),
        (
            "module-attribute",
            format!("<script type=module data-collector=\"{collector}/\">{text}</script>"),
            true,
        ),
        ("text", format!("<script>{text}</script>"), false),
        ("element", format!("<script>{by_text}</script>"), false),
        (
            "module-text",
            format!("<script type=module>{text}</script>"),
            false,
        ),
    ] {
        let before = stage.sent().len();
        stage
            .proxy
            .serve(&format!("/{name}"), &format!("{head}{script}"));
        stage
            .browser
            .open(&stage.proxy.url(&format!("/{name}")))
            .await;
        if sends {
            stage.until_sent(before + 1).await;
            assert_eq!(
                stage.sent().last().map(String::as_str),
                Some(format!("/{name}").as_str())
            );
            assert_eq!(stage.words().await, Vec::<String>::new(), "{name}");
        } else {
            assert_eq!(
                stage.words().await,
                ["avtryck: no data-collector"],
                "{name}"
            );
            stage.browser.run("avtryck('event', 'lost')").await;
        }
    }
    assert!(
        !stage.sent().contains(&"lost".to_owned()),
        "{:?}",
        stage.sent()
    );
    stage.close().await;
}
