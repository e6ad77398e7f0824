//! The tag and the demo page in a real browser: Debian's Chromium, driven through ChromeDriver.
//!
//! Chromium's requests come from the loopback address, which has no place, and WebDriver cannot add
//! a header to them. So the browser reaches the collector through a forwarding proxy of the test,
//! which names a Swedish address in `X-Forwarded-For`; the collector trusts it. The proxy also
//! keeps each request's target: that is how a test sees that nothing was sent.

mod access;
mod ads;
mod demo;
mod live;
mod pages;
mod plausible;
mod privacy;
mod proxy;
mod segment;
mod snowplow;
mod tag;
mod whole;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper::Method;
use serde_json::{Value, json};
use url::Url;

use proxy::Proxy;

use crate::support::{Collector, Config, consent_string, until};

/// A site that permits all unless asked to refuse, as in the demo, and one that has to ask.
const SITES: &str = r#"
[[site]]
key = "demo"
hosts = ["127.0.0.1"]
default_permit = ["store", "measure", "profile", "match", "link", "locate"]

[[site]]
key = "asks"
hosts = ["asks.example"]
default_permit = []
gvl_id = 2

[[partner]]
key = "demo-network"
default_permit = ["store", "measure", "profile", "match", "link", "locate"]
"#;

/// Makes a configuration with [`SITES`].
fn config() -> Config {
    Config::new().with(SITES)
}

/// ChromeDriver, ended with the test whatever its outcome.
struct Driver {
    child: Child,
    port: u16,
}

impl Driver {
    /// The driver lets the system choose a port of `[::1]` and ends if the same one is taken on
    /// `127.0.0.1`; then another is started.
    fn start() -> Driver {
        let mut said = String::new();
        (0..10)
            .find_map(|_| Driver::start_once(&mut said))
            .unwrap_or_else(|| panic!("chromedriver does not start:\n{said}"))
    }

    /// Starts one; if it ends before it listens, there is none, and what it said is in `said`.
    fn start_once(said: &mut String) -> Option<Driver> {
        let child = Command::new("/usr/bin/chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts: apt-get install chromium-driver");
        let mut driver = Driver { child, port: 0 };
        let stdout = driver.child.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        // "ChromeDriver was started successfully on port 41234."
        driver.port = lines.find_map(|line| {
            said.push_str(&line);
            said.push('\n');
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse().ok()
        })?;
        // Read on, or a full pipe would stop the driver.
        std::thread::spawn(move || lines.for_each(drop));
        Some(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing more to do then.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// ChromeDriver's own command that reads the console.
#[derive(Debug)]
struct ReadConsole;

impl WebDriverCompatibleCommand for ReadConsole {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}

/// A browser with a profile of its own. The session is closed before the driver is ended, which
/// would leave Chromium behind otherwise.
struct Browser {
    client: Client,
    _driver: Driver,
    _profile: tempfile::TempDir,
}

impl Browser {
    async fn start() -> Browser {
        Browser::start_with(json!({})).await
    }

    /// One whose pages run no scripts.
    async fn without_scripts() -> Browser {
        Browser::start_with(json!({ "profile.managed_default_content_settings.javascript": 2 }))
            .await
    }

    async fn start_with(preferences: Value) -> Browser {
        let driver = Driver::start();
        let profile = tempfile::tempdir().expect("a directory for the profile");
        let profile_arg = format!("--user-data-dir={}", profile.path().display());
        let options = json!({
            "binary": "/usr/bin/chromium",
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                // Without "Headless", by which crawler lists know it.
                "--user-agent=Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
                profile_arg,
            ],
            "prefs": preferences,
            // ChromeDriver would turn it off.
            "excludeSwitches": ["disable-back-forward-cache"],
        });
        let capabilities = [
            ("goog:chromeOptions".to_owned(), options),
            ("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" })),
        ];
        let capabilities = capabilities.into_iter().collect();
        let client = ClientBuilder::rustls()
            .expect("a TLS configuration")
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", driver.port))
            .await
            .expect("a browser session");
        Browser {
            client,
            _driver: driver,
            _profile: profile,
        }
    }

    async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the page opens");
    }

    async fn click(&self, id: &str) {
        let button = self
            .client
            .find(Locator::Id(id))
            .await
            .expect("the button is there");
        button.click().await.expect("the button can be clicked");
    }

    async fn click_link(&self, text: &str) {
        let link = self.client.find(Locator::LinkText(text)).await;
        let link = link.expect("the link is there");
        link.click().await.expect("the link can be clicked");
    }

    async fn run(&self, script: &str) -> Value {
        self.client
            .execute(script, Vec::new())
            .await
            .expect("the script runs")
    }

    /// Has every timer of a page with [`pages::CLOCK`] run, and those that they set in turn.
    async fn pass_time(&self) {
        let run = "for (let n = 0; n < 20; n++) timers.splice(0).forEach(run => run())";
        self.run(run).await;
        self.run(run).await;
    }

    /// Returns how often a page with [`pages::CLOCK`] has sent something.
    async fn asked(&self) -> Value {
        self.run("return asked").await
    }

    /// Waits until the tag listens to the page's consent platform.
    async fn until_heard(&self, platform: &str) {
        let script = format!("return heard.{platform}.length > 0");
        until(async || self.run(&script).await == true).await;
    }

    /// The value of a cookie of the open page.
    async fn cookie(&self, name: &str) -> Option<String> {
        let cookies = self.client.get_all_cookies().await.expect("the cookies");
        let found = cookies.into_iter().find(|cookie| cookie.name() == name);
        found.map(|cookie| cookie.value().to_owned())
    }

    /// Presses a button of the demo page and waits until the page tells the choice.
    async fn choose(&self, id: &str, told: &str) {
        self.click(id).await;
        self.wait_for_text("choice", told).await;
    }

    async fn wait_for_text(&self, id: &str, text: &str) {
        let started = Instant::now();
        let script = format!("return document.getElementById('{id}').textContent");
        let mut last = Value::Null;
        while started.elapsed() < Duration::from_secs(20) {
            last = self.run(&script).await;
            if last == *text {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("#{id} holds {last} and not {text:?}");
    }

    /// Returns what the browser wrote to the console since it was asked last.
    async fn console(&self) -> Vec<String> {
        let entries = self.client.issue_cmd(ReadConsole).await;
        let entries = entries.expect("the console's entries");
        let entries = entries.as_array().expect("a list").iter();
        entries.map(|entry| entry["message"].to_string()).collect()
    }

    async fn close(self) {
        self.client
            .clone()
            .close()
            .await
            .expect("the session closes");
    }
}

#[tokio::test]
async fn the_demo_page_becomes_enriched_rows_of_one_visitor_until_it_refuses() {
    let collector = Collector::start(config().embedded()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;

    browser.open(&proxy.url("/demo")).await;
    collector
        .wait_for(
            "select count(*) from avtryck.hit_detail where kind in ('page_view', 'impression')",
            2,
        )
        .await;
    let views = collector
        .rows(
            "select device_class, browser, country, visitor_id::text, page_url \
             from avtryck.hit_detail where kind = 'page_view'",
        )
        .await;
    let [view] = views.as_slice() else {
        panic!("{} page views", views.len())
    };
    assert_eq!(view.get::<_, Option<&str>>("device_class"), Some("desktop"));
    let name: &str = view.get("browser");
    assert!(name.contains("Chrom"), "browser {name}");
    assert_eq!(view.get::<_, Option<&str>>("country"), Some("SE"));
    assert_eq!(
        view.get::<_, Option<String>>("page_url"),
        Some(proxy.url("/demo"))
    );
    assert!(view.get::<_, Option<&str>>("visitor_id").is_some());

    browser.click("spa").await;
    browser.click("event").await;
    collector
        .wait_for(
            "select count(*) from avtryck.hit_detail where kind = 'event'",
            1,
        )
        .await;
    collector
        .wait_for(
            "select count(*) from avtryck.hit_detail where kind = 'page_view'",
            2,
        )
        .await;
    let spa = collector
        .rows("select referrer from avtryck.hit_detail where page_url like '%/demo?view=1' and kind = 'page_view'")
        .await;
    let referrer = spa
        .first()
        .and_then(|row| row.get::<_, Option<String>>("referrer"));
    assert_eq!(referrer, Some(proxy.url("/demo")));
    let event = collector
        .rows("select event_name, params->>'currency' as currency from avtryck.hit_detail where kind = 'event'")
        .await;
    let event = event.first().expect("one event");
    assert_eq!(
        event.get::<_, Option<&str>>("event_name"),
        Some("add_to_cart")
    );
    assert_eq!(event.get::<_, Option<&str>>("currency"), Some("SEK"));
    let visitors = collector
        .rows("select count(distinct visitor_id) as ids, count(visitor_id) as rows from avtryck.hit_detail")
        .await;
    let visitors = visitors.first().expect("one row");
    assert_eq!(
        visitors.get::<_, i64>("ids"),
        1,
        "page views, event and impression share one visitor"
    );
    assert_eq!(visitors.get::<_, i64>("rows"), 4);

    follow_choices(&collector, &proxy, &browser).await;
    browser.close().await;
}

/// Refuses, accepts and withdraws on the demo page, from which four rows of one visitor are there.
async fn follow_choices(collector: &Collector, proxy: &Proxy, browser: &Browser) {
    let counted =
        "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count_detail where site = 'demo'";
    let rows = "select count(*) from avtryck.hit_detail";
    browser.choose("refuse", "refused").await;
    assert_eq!(
        browser.cookie("avid").await,
        None,
        "the ID is gone with `store`"
    );
    browser.click("event").await;
    browser.click("spa").await;
    collector.wait_for(counted, 2).await;
    assert_eq!(collector.number(rows).await, 4, "no row after the refusal");

    browser
        .choose("accept", "store, measure, profile, match, link, locate")
        .await;
    browser.click("event").await;
    collector.wait_for(rows, 5).await;
    let by_choice = collector
        .rows("select visitor_id::text from avtryck.hit_detail where consent_source = 'choice'")
        .await;
    let visitor = by_choice
        .first()
        .and_then(|row| row.get::<_, Option<String>>(0));
    assert!(visitor.is_some(), "a new ID after the new consent");
    let ids = "select count(distinct visitor_id) from avtryck.hit_detail";
    assert_eq!(collector.number(ids).await, 2);
    assert!(browser.cookie("avid").await.is_some());

    browser.choose("withdraw", "refused").await;
    assert_eq!(browser.cookie("avid").await, None);
    assert_eq!(browser.cookie("avchoice").await.as_deref(), Some("none"));
    browser.click("event").await;
    collector.wait_for(counted, 3).await;
    // A page that is opened anew still knows.
    browser.open(&proxy.url("/demo")).await;
    browser.wait_for_text("choice", "refused").await;
    collector.wait_for(counted, 5).await;
    assert_eq!(
        collector.number(rows).await,
        5,
        "no row after the withdrawal"
    );
}

#[tokio::test]
async fn a_consent_platform_is_waited_for_and_its_strings_are_passed_on_unmodified() {
    let collector = Collector::start(config()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    let agreed = consent_string("made since TCF 2.3, disclosed");
    let refused = consent_string("refused");

    browser.open(&proxy.url("/tcf")).await;
    browser.run("avtryck('event', 'early')").await;
    browser.until_heard("tcf").await;
    browser.pass_time().await;
    assert_eq!(browser.asked().await, 0, "sent while the visitor is asked");
    browser
        .run(&format!(
            "answer('tcf', tcf('useractioncomplete', '{agreed}', true))"
        ))
        .await;
    let rows = "select count(*) from avtryck.hit_detail where consent_source = 'tcf' and 'store' = any(permit) and visitor_id is not null";
    collector.wait_for(rows, 2).await;
    let event = proxy.last_event();
    assert_eq!(
        (&event["gdpr"], &event["gdpr_consent"]),
        (&json!(1), &json!(agreed))
    );

    // A later change holds from the next hit on, and the collector decides what it means.
    browser
        .run(&format!(
            "answer('tcf', tcf('useractioncomplete', '{refused}', false))"
        ))
        .await;
    browser.run("avtryck('event', 'after')").await;
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count_detail";
    collector.wait_for(counted, 1).await;
    assert_eq!(proxy.last_event()["gdpr_consent"], json!(refused));
    assert_eq!(
        collector
            .number("select count(*) from avtryck.hit_detail")
            .await,
        2
    );

    // A refusal from the start: nothing is asked of the device, and only a count is kept.
    browser.open(&proxy.url("/tcf")).await;
    browser
        .run(&format!(
            "answer('tcf', tcf('tcloaded', '{refused}', false))"
        ))
        .await;
    collector.wait_for(counted, 2).await;
    assert_eq!(proxy.last_event()["ch"], json!({}));
    browser.close().await;
}

#[tokio::test]
async fn gpp_is_heard_too_and_a_platform_that_never_answers_is_not_waited_for_for_ever() {
    let collector = Collector::start(config()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    let string =
        consent_string("GPP with the USA: policy 4, long ranges, some disclosed, publisher's own");

    browser.open(&proxy.url("/gpp")).await;
    browser.until_heard("gpp").await;
    browser.pass_time().await;
    assert_eq!(browser.asked().await, 0);
    browser
        .run(&format!("answer('gpp', gpp('ready', '{string}'))"))
        .await;
    let rows = "select count(*) from avtryck.hit_detail where consent_source = 'gpp'";
    collector.wait_for(rows, 1).await;
    let event = proxy.last_event();
    assert_eq!(
        (&event["gpp"], &event["gpp_sid"]),
        (&json!(string), &json!([2]))
    );

    // Two platforms and no answer, on a site whose default permits to send.
    let opened = Instant::now();
    browser.open(&proxy.url("/mute")).await;
    let defaults = "select count(*) from avtryck.hit_detail where consent_source = 'default'";
    collector.wait_for(defaults, 1).await;
    assert!(opened.elapsed() > Duration::from_millis(2900));

    // One answer of two comes late: the next hit has it.
    let agreed = consent_string("made since TCF 2.3, disclosed");
    browser
        .run(&format!(
            "answer('tcf', tcf('useractioncomplete', '{agreed}', true))"
        ))
        .await;
    browser.run("avtryck('event', 'late')").await;
    // The demo site has no vendor ID, so no string permits anything there.
    collector
        .wait_for(
            "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count_detail",
            1,
        )
        .await;
    browser.close().await;
}

#[tokio::test]
async fn a_site_that_permits_nothing_by_default_sends_nothing_before_the_consent() {
    let collector = Collector::start(config()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;

    browser.open(&proxy.url("/asks")).await;
    browser.run("avtryck('event', 'early')").await;
    browser
        .run("history.pushState(null, '', '/asks?view=1')")
        .await;
    browser.pass_time().await;
    assert_eq!(browser.asked().await, 0, "sent before a choice");

    browser.run("avtryck('consent', [])").await;
    browser.run("avtryck('event', 'refused')").await;
    browser.pass_time().await;
    assert_eq!(browser.asked().await, 0, "sent after a refusal");
    assert_eq!(proxy.hits(), Vec::<String>::new());

    browser
        .run("avtryck('consent', ['store', 'measure'])")
        .await;
    browser.run("avtryck('event', 'agreed')").await;
    collector
        .wait_for(
            "select count(*) from avtryck.hit_detail where event_name = 'agreed'",
            1,
        )
        .await;
    let held = "select count(*) from avtryck.hit_detail where event_name in ('early', 'refused')";
    assert_eq!(
        collector.number(held).await,
        0,
        "what was held at the refusal is gone"
    );
    browser.close().await;
}
