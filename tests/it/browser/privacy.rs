//! The visitor's own page in Chromium without scripts: its forms alone.

use fantoccini::Locator;
use serde_json::json;

use super::{Browser, Proxy, config};
use crate::support::{Collector, PATIENCE, until};

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

    /// Waits until such an element has a text, which the page that a form leads to brings. That of
    /// the page before may go while it is read.
    async fn until_shows(&self, css: &str, text: &str) {
        until(async || {
            let element = self.client.find(Locator::Css(css)).await;
            let read = match element {
                Ok(element) => element.text().await.ok(),
                Err(_) => None,
            };
            read.is_some_and(|read| read.contains(text))
        })
        .await;
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

    // Everything is allowed by default, which is nobody's consent: no box is ticked.
    for flag in ["store", "measure", "link", "locate"] {
        browser.click(flag).await;
    }
    browser.click("save").await;
    let done = browser.shows("[role=status]:focus").await;
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

    // Deletion asks first, and whoever goes back has lost nothing.
    browser.click("erase").await;
    let asked = browser.shows("#sure:focus").await;
    assert!(asked.ends_with("du radera allt?"), "{asked}");
    browser.click("back").await;
    browser.shows("[aria-labelledby=stored]").await;
    assert_eq!(browser.cookie("avid").await.as_ref(), Some(&visitor));
    browser.click("erase").await;
    browser.shows("#sure").await;
    browser.click("confirm").await;
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

/// Ties a visitor to another browser by a login that was proved, and believes that they share a
/// home, as jobs would do.
pub(super) async fn believe(collector: &Collector, visitor: &str) {
    let sql = format!(
        "insert into avtryck.link_edge (a, b, a_kind, b_kind, first_day, last_day, proved_day, permit, consent_source, \
                                        source, is_new) \
         select least(node, user_node), greatest(node, user_node), \
                case when node < user_node then 1 else 5 end, case when node < user_node then 5 else 1 end, \
                current_date, current_date, current_date, 63, 2, 0, false \
         from unnest(array['{visitor}', md5('other')]::uuid[]) as node, (select md5('user')::uuid as user_node) as login; \
         insert into avtryck.link_node (node, kind, device_group, proved_group, degree, first_day, last_day) \
         values ('{visitor}', 1, 1, 0, 0, current_date, current_date), \
                (md5('other')::uuid, 1, 2, 0, 0, current_date, current_date); \
         insert into avtryck.device_group \
         select number, 1, false, false, now(), now() from generate_series(1, 2) as number; \
         insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
         select subject::uuid, 'demo', '', 63, 0, now() from unnest(array['{visitor}', md5('other'), md5('user')]) as subject \
         on conflict do nothing; \
         insert into avtryck.household_shown values ('{visitor}', 2, 14, 1, current_date)"
    );
    collector
        .database()
        .await
        .batch_execute(&sql)
        .await
        .unwrap();
}

#[tokio::test]
async fn without_scripts_a_visitor_contradicts_what_is_believed_on_a_phone() {
    let collector = Collector::start(config().embedded()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::without_scripts().await;
    browser.client.set_window_size(390, 844).await.unwrap();
    browser.open(&proxy.url("/p.gif?site=demo")).await;
    let rows = "select count(*) from avtryck.subject_permit";
    collector.wait_for(rows, 1).await;
    let sql = "select visitor_id::text from avtryck.hit";
    let visitor: String = collector.rows(sql).await[0].get(0);
    believe(&collector, &visitor).await;

    browser.open(&proxy.url("/privacy?site=demo&lang=sv")).await;
    let tied = browser.shows("[aria-labelledby=tied]").await;
    assert!(tied.contains("samma inloggning"), "{tied}");
    let not_mine = Locator::Css("button[value=not_mine]");
    let button = browser.client.find(not_mine).await.unwrap();
    button.click().await.unwrap();
    browser
        .until_shows("[role=status]", "Det är noterat.")
        .await;
    let empty = "Det finns inget att visa.";
    browser.until_shows("[aria-labelledby=tied]", empty).await;
    let sql = "select count(*) from avtryck.link_forbidden";
    assert_eq!(collector.number(sql).await, 1);

    let home = browser.shows("#belief").await;
    assert!(home.contains("2 till 3 andra enheter"), "{home}");
    browser.click("never").await;
    let never = "aldrig ska beräknas";
    browser.until_shows("[aria-labelledby=home]", never).await;
    let sql = "select count(*) from avtryck.household_never";
    assert_eq!(collector.number(sql).await, 1);
    browser.close().await;
}

#[tokio::test]
async fn on_a_phone_the_page_begins_with_a_list_of_its_parts_that_leads_to_each() {
    let collector = Collector::start(config().embedded()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    browser.open(&proxy.url("/p.gif?site=demo")).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 1)
        .await;
    // What is shown of the list; each section that it lacks; each link that leads nowhere, or to
    // something else than a heading of its own words.
    let look = "const links = [...document.querySelectorAll('.contents a')]; \
        const of = link => document.getElementById(link.hash.slice(1)); \
        return { shown: document.querySelector('.contents').offsetHeight > 0, count: links.length, \
        lacks: [...document.querySelectorAll('main > section')].map(section => section.getAttribute('aria-labelledby')) \
        .filter(id => !links.some(link => link.hash === '#' + id)), \
        astray: links.filter(link => !of(link) || of(link).tagName !== 'H2' || of(link).textContent !== link.textContent).map(String) }";
    for language in ["sv", "en", "da", "nb", "fi"] {
        for (width, is_shown) in [(390, true), (1280, false)] {
            browser.look("light", width).await;
            let page = format!("/privacy?site=demo&lang={language}");
            browser.open(&proxy.url(&page)).await;
            let found = browser.run(look).await;
            assert_eq!(found["shown"], is_shown, "{language}, {width}: {found}");
            assert!(found["count"].as_u64() >= Some(6), "{language}: {found}");
            assert_eq!(found["lacks"], json!([]), "{language}");
            assert_eq!(found["astray"], json!([]), "{language}");
        }
    }
    // A finger's breadth, and the heading is in view afterwards.
    browser.look("light", 390).await;
    browser.open(&proxy.url("/privacy?site=demo&lang=sv")).await;
    let small = "return [...document.querySelectorAll('.contents a')].filter(link => link.offsetHeight < 24).length";
    assert_eq!(browser.run(small).await, 0);
    browser.click_link("Radera allt").await;
    browser
        .until("const { top } = document.getElementById('delete').getBoundingClientRect(); return location.hash === '#delete' && top >= 0 && top < innerHeight")
        .await;
    browser.close().await;
}
