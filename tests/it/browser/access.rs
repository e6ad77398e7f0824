//! Pages for everybody: axe-core finds no violation of WCAG 2.2 AA on any page, in either scheme,
//! in any language, on a phone and on a desk.

use fantoccini::wd::WebDriverCompatibleCommand;
use hyper::Method;
use serde_json::{Value, json};
use url::Url;

use super::{Browser, Proxy, config};
use crate::support::{Collector, root};

/// A command of Chromium's DevTools.
#[derive(Debug)]
struct DevTools(&'static str, Value);

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/goog/cdp/execute"))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let DevTools(command, parameters) = self;
        let body = json!({ "cmd": command, "params": parameters });
        (Method::POST, Some(body.to_string()))
    }
}

/// What axe-core is asked, and how a violation is told: the rule and what breaks it.
const ASK: &str = "
    const tell = arguments[arguments.length - 1];
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
    axe.run(document, { runOnly: tags, preload: false }).then(
        found => tell({ passes: found.passes.length, violations: found.violations.map(rule =>
            rule.id + ': ' + rule.nodes.map(node => node.target + ' ' + node.failureSummary).join('; ')) }),
        error => tell({ passes: 0, violations: [String(error)] }));
";

impl Browser {
    pub(super) async fn devtools(&self, command: &'static str, parameters: Value) {
        let sent = self.client.issue_cmd(DevTools(command, parameters)).await;
        sent.unwrap_or_else(|error| panic!("{command}: {error}"));
    }

    /// Shows pages from now on as a reader of that language sees them.
    async fn read_in(&self, language: &str) {
        let agent = self.run("return navigator.userAgent").await;
        let of_reader = json!({ "userAgent": agent, "acceptLanguage": language });
        self.devtools("Emulation.setUserAgentOverride", of_reader)
            .await;
    }

    /// Shows pages from now on in that scheme and at that width.
    pub(super) async fn look(&self, scheme: &str, width: u32) {
        let scheme = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": [scheme] }),
        )
        .await;
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
    }

    /// Asks axe-core about the open page, and checks that nothing of it is cut off at the side.
    pub(super) async fn check_access(&self, axe: &str, what: &str) {
        self.run(axe).await;
        let found = self.client.execute_async(ASK, Vec::new()).await;
        let found = found.expect("axe-core answers");
        assert_eq!(found["violations"], json!([]), "{what}");
        assert!(found["passes"].as_u64() > Some(5), "{what}: {found}");
        let is_within =
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        assert_eq!(self.run(is_within).await, true, "{what} scrolls sideways");
    }
}

pub(super) fn axe() -> String {
    std::fs::read_to_string(root().join("assets/data/axe/axe.min.js"))
        .expect("axe-core is there: script/fetch test")
}

#[tokio::test]
async fn every_page_for_visitors_is_open_to_everybody_in_each_language() {
    let config = config()
        .embedded()
        .set("site.demo.name", "Demo")
        .set("site.demo.controller", "Demo AB")
        .set("site.demo.contact", "data@demo.example")
        .set("site.demo.policy", "https://demo.example/policy");
    let collector = Collector::start(config).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    let axe = axe();
    browser
        .open(&proxy.url("/p.gif?site=demo&u=https://demo.example/first"))
        .await;
    let shown = "/i.gif?site=demo&partner=demo-network&campaign=spring&creative=banner";
    browser.open(&proxy.url(shown)).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 2)
        .await;
    let groups = "insert into avtryck.segment (key, name_sv, name_en, reason_sv, reason_en) \
                  values ('phone', 'Ny telefon', 'New phone', 'du läste om telefoner', 'you read about phones'); \
                  insert into avtryck.attribute values \
                  (1, 'housing_type', 'words', 'ordinary', 'Bostadstyp', 'Type of housing', 50); \
                  insert into avtryck.import (name, supplier, legal_basis, purposes, key_kind, partner, columns, \
                                              valid_from, valid_until) \
                  values ('register', 'Register AB', 'public_task', '{profile}', 'user', '', '{1}', \
                          current_date - 9, current_date + 99); \
                  insert into avtryck.segment_member \
                  select segment, visitor_id, now(), 7 from avtryck.segment, (select distinct visitor_id from avtryck.hit) as one; \
                  insert into avtryck.attribute_value \
                  select import, visitor_id, md5('key')::uuid, '{flat}', now() \
                  from avtryck.import, (select distinct visitor_id from avtryck.hit) as one";
    let database = collector.database().await;
    database.batch_execute(groups).await.unwrap();
    for language in ["sv", "en", "da", "nb", "fi"] {
        browser.read_in(language).await;
        for (page, part) in [
            ("/", "h1"),
            ("/c?site=demo&to=https://elsewhere.example/", "code"),
            ("/privacy?site=demo", "[aria-labelledby=stored] ol"),
            ("/privacy?site=demo", "[aria-labelledby=groups] li"),
            ("/privacy?site=demo", "[aria-labelledby=sources] li"),
            ("/privacy?site=demo&ask=erasure", "#confirm"),
            ("/privacy?site=nobody", "#back"),
        ] {
            for (scheme, width) in [("light", 1280), ("dark", 390)] {
                browser.look(scheme, width).await;
                browser.open(&proxy.url(page)).await;
                let what = format!("{page} in {language}, {scheme}, {width} px");
                let said = browser.run("return document.documentElement.lang").await;
                assert_eq!(said, language, "{what}");
                let is_there = format!("return document.querySelector('{part}') !== null");
                assert_eq!(browser.run(&is_there).await, true, "{what}: no {part}");
                browser.check_access(&axe, &what).await;
            }
        }
    }
    browser.close().await;
}

#[tokio::test]
async fn every_page_for_developers_is_open_to_everybody() {
    let collector = Collector::start(config().embedded()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    let axe = axe();
    let live = format!("http://{}/", collector.admin);
    let tags = format!("{live}tags?at=https://px.example&partner=nobody");
    let report = format!("{live}report?campaign=demo");
    browser.open(&proxy.url("/demo")).await;
    let shown = "select count(*) from avtryck.hit where kind = 3";
    collector.wait_for(shown, 1).await;
    for (page, part) in [
        (proxy.url("/demo"), "#event"),
        (live, "#hits"),
        (tags, "#make"),
        (report, "table"),
    ] {
        for scheme in ["light", "dark"] {
            for width in [1280, 390] {
                browser.look(scheme, width).await;
                browser.open(&page).await;
                let what = format!("{page}, {scheme}, {width} px");
                let is_there = format!("return document.querySelector('{part}') !== null");
                assert_eq!(browser.run(&is_there).await, true, "{what}: no {part}");
                browser.check_access(&axe, &what).await;
            }
        }
    }
    browser.close().await;
}
