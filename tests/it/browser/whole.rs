//! The visitor's own page with every section that it can have.

use fantoccini::Locator;
use serde_json::json;

use super::{Browser, Proxy, access, config, privacy};
use crate::support::Collector;

/// A group, and an import that says something, about the only visitor.
const ABOUT_THE_VISITOR: &str = "\
    insert into avtryck.segment (key, name_sv, name_en, reason_sv, reason_en) \
    values ('phone', 'Ny telefon', 'New phone', 'du läste om telefoner', 'you read about phones'); \
    insert into avtryck.attribute values (1, 'housing_type', 'words', 'ordinary', 'Bostadstyp', 'Type of housing', 50); \
    insert into avtryck.import (name, supplier, legal_basis, purposes, key_kind, partner, columns, valid_from, valid_until) \
    values ('register', 'Register AB', 'public_task', '{profile}', 'user', '', '{1}', current_date - 9, current_date + 99); \
    insert into avtryck.segment_member \
    select segment, visitor_id, now(), 7 from avtryck.segment, (select distinct visitor_id from avtryck.hit) as one; \
    insert into avtryck.attribute_value \
    select import, visitor_id, md5('key')::uuid, '{flat}', now() \
    from avtryck.import, (select distinct visitor_id from avtryck.hit) as one";

/// The sections in their order, by what names them.
const SECTIONS: [&str; 11] = [
    "why", "stored", "tied", "home", "groups", "sources", "said", "choose", "take", "delete", "who",
];

#[tokio::test]
async fn the_page_with_all_that_it_can_show_lists_each_part_and_is_open_to_everybody() {
    let collector = Collector::start(config().embedded()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    browser.open(&proxy.url("/p.gif?site=demo")).await;
    let rows = "select count(*) from avtryck.subject_permit";
    collector.wait_for(rows, 1).await;
    let sql = "select visitor_id::text from avtryck.hit";
    let visitor: String = collector.rows(sql).await[0].get(0);
    privacy::believe(&collector, &visitor).await;
    let database = collector.database().await;
    database.batch_execute(ABOUT_THE_VISITOR).await.unwrap();

    // Whoever leaves a group is told so on the next page, by a notice and in a section.
    let page = proxy.url("/privacy?site=demo&lang=en");
    browser.open(&page).await;
    let leave = Locator::Css("button[value=leave_group]");
    let leave = browser.client.find(leave).await.expect("the button");
    leave.click().await.expect("a click");
    browser
        .until("return document.activeElement.matches('[role=status]') && document.getElementById('said') !== null")
        .await;
    let done = browser.run("return location.href").await;
    let done = done.as_str().expect("an address").to_owned();

    let listed =
        "return [...document.querySelectorAll('.contents a')].map(link => link.hash.slice(1))";
    let shown = "return [...document.querySelectorAll('main > section')].map(part => part.getAttribute('aria-labelledby'))";
    let axe = access::axe();
    for language in ["sv", "en", "da", "nb", "fi"] {
        let done = done.replace("lang=en", &format!("lang={language}"));
        for (scheme, width) in [("light", 390), ("dark", 1280)] {
            browser.look(scheme, width).await;
            browser.open(&done).await;
            let what = format!("{language}, {scheme}, {width} px");
            assert_eq!(browser.run(shown).await, json!(SECTIONS), "{what}");
            assert_eq!(browser.run(listed).await, json!(SECTIONS), "{what}");
            browser.check_access(&axe, &what).await;
        }
    }
    browser.close().await;
}

#[tokio::test]
async fn the_ring_around_a_notice_leaves_what_follows_free() {
    let collector = Collector::start(config()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    browser.look("light", 390).await;
    browser
        .open(&proxy.url("/privacy?site=nobody&lang=sv"))
        .await;
    browser
        .until("return document.activeElement.matches('.notice')")
        .await;
    let gap = "const notice = document.querySelector('.notice'), { outlineWidth, outlineOffset } = getComputedStyle(notice); \
        return document.getElementById('back').getBoundingClientRect().top - notice.getBoundingClientRect().bottom \
        - parseFloat(outlineWidth) - parseFloat(outlineOffset)";
    let gap = browser.run(gap).await.as_f64().expect("a length");
    assert!(gap >= 0.0, "{gap} px");
    browser.close().await;
}
