//! The demo page, as somebody who tries it sees it.

use serde_json::json;

use super::{Browser, Proxy, config};
use crate::support::{Collector, Config, root};

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
    let converted = "select count(*) from avtryck.hit_detail where event_name = 'conversion' and click_id is not null";
    collector.wait_for(converted, 1).await;
    let live = browser
        .run("return document.getElementById('live').href")
        .await;
    let expected = format!("http://127.0.0.1:{}/?site=demo", collector.admin.port());
    assert_eq!(live, expected);
    // The report has this visitor's impression, click and purchase.
    let report = browser
        .run("return document.getElementById('report').href")
        .await;
    let expected = format!(
        "http://127.0.0.1:{}/report?campaign=demo",
        collector.admin.port()
    );
    assert_eq!(report, *expected);
    // The admin listener of a test has an address of its own.
    let report = format!("http://{}/report?campaign=demo", collector.admin);
    browser.open(&report).await;
    let said = browser.run("return document.body.innerText").await;
    let said = said.as_str().expect("a text").to_owned();
    assert!(said.contains("net conversions"), "{said}");
    let figures = "const all = {}; document.querySelectorAll('.figures > *').forEach(figure => \
                   all[figure.children[0].textContent.trim()] = figure.children[1].textContent.trim()); return all";
    let figures = browser.run(figures).await;
    assert_eq!(figures["net clicks"], "1", "{figures}");
    assert_eq!(figures["net conversions"], "1", "{figures}");
    assert_ne!(figures["net impressions"], "0", "{figures}");
    browser.client.back().await.expect("the demo");
    let privacy = browser
        .run("return document.getElementById('own') === null")
        .await;
    assert_eq!(privacy, true, "the demo's own site needs no explanation");
    browser.close().await;
}

#[tokio::test]
async fn the_demo_leaves_a_developers_own_browser_out_until_it_is_to_count_again() {
    let collector = Collector::start(config().embedded()).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    browser.open(&proxy.url("/demo")).await;
    browser
        .wait_for_text("status", "Sent: a page view and an impression.")
        .await;
    let before = proxy.hits().len();
    browser.click("ignore").await;
    let left_out = "Left out: this browser sends nothing of its own.";
    browser.wait_for_text("status", left_out).await;
    // It holds for later pages.
    browser.open(&proxy.url("/demo")).await;
    browser.wait_for_text("status", left_out).await;
    // As long as the page would wait for the tag.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(proxy.hits().len(), before, "{:?}", proxy.hits());
    browser.click("heed").await;
    browser
        .wait_for_text("status", "Sent: a page view and an impression.")
        .await;
    assert!(proxy.hits().len() >= before + 2, "{:?}", proxy.hits());
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
async fn the_demo_changes_with_its_segments_and_refuses_and_forgets() {
    let demo = std::fs::read_to_string(root().join("demo.toml")).unwrap();
    let segments = &demo[demo.find("[[segment]]").unwrap()..];
    let collector = Collector::start(config().with(segments).embedded()).await;
    let fill = tokio::process::Command::new(root().join("script/fill_demo.py"))
        .arg(format!("http://{}", collector.http))
        .output()
        .await
        .unwrap();
    assert!(fill.status.success(), "{fill:?}");
    let invented = "select count(distinct visitor_id) from avtryck.hit_detail \
                    where params->>'invented' = 'yes' and page_url like 'https://invented.example/%'";
    collector.wait_for(invented, 200).await;
    let buyers = "select count(*) from avtryck.hit_detail where event_name = 'purchase'";
    assert_eq!(collector.number(buyers).await, 67);

    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    browser.open(&proxy.url("/demo")).await;
    browser.wait_for_text("groups", "none").await;
    browser.click("event").await;
    let visitor = "select count(*) from avtryck.hit_detail \
                   where event_name = 'add_to_cart' and params->>'invented' is null";
    collector.wait_for(visitor, 1).await;
    // What the evaluation does each minute, for this visitor.
    let evaluate = "insert into avtryck.segment (key, size, is_exposed) values ('considering', 100, true) \
                    on conflict (key) do update set size = 100, is_exposed = true; \
                    insert into avtryck.segment_member (segment, subject, since, permit) \
                    select segment, visitor_id, now(), 63 from avtryck.segment, avtryck.hit_detail \
                    where key = 'considering' and event_name = 'add_to_cart' and params->>'invented' is null \
                    on conflict do nothing";
    let database = collector.database().await;
    database.batch_execute(evaluate).await.unwrap();
    // One question at a time: what came after them would wait for all of them.
    let ask = "return new Promise(resolve => avtryck('segments', keys => resolve(keys.join() === 'considering')))";
    browser.until(ask).await;
    browser.click("ask").await;
    browser.wait_for_text("groups", "considering").await;
    let offer = "return document.getElementById('offer').textContent";
    let said = browser.run(offer).await;
    assert!(
        said.as_str().is_some_and(|said| said.contains("cart")),
        "{said}"
    );

    // A refusal holds at once; a consent after it is that of somebody new.
    browser.choose("refuse", "refused").await;
    browser.wait_for_text("groups", "none").await;
    assert_eq!(browser.run(offer).await, "Phones for everybody.");
    browser.click("accept").await;
    browser.click("ask").await;
    browser.wait_for_text("groups", "none").await;
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

#[tokio::test]
async fn each_button_of_the_demo_copies_what_runs_as_it_is() {
    let collector = Collector::start(config().embedded()).await;
    let browser = Browser::start().await;
    // Before the database has started the page has no command that opens it.
    collector.get("/p.gif?site=demo", &[]).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 1)
        .await;
    // A clipboard is there on this machine and on https alone.
    browser
        .open(&format!("http://{}/demo", collector.http))
        .await;
    let may = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    browser.devtools("Browser.grantPermissions", may).await;
    let buttons = "return [...document.querySelectorAll('button.copy')].map(button => [button.dataset.of, button.textContent])";
    let buttons: Vec<(String, String)> =
        serde_json::from_value(browser.run(buttons).await).unwrap();
    let named: Vec<&str> = buttons.iter().map(|(of, _)| of.as_str()).collect();
    assert_eq!(named, ["psql", "rows", "reported"]);
    let database = collector.database().await;
    for (of, words) in &buttons {
        let button = format!("document.querySelector('[data-of={of}]')");
        browser.run(&format!("{button}.click()")).await;
        browser
            .until(&format!("return {button}.textContent === 'Copied'"))
            .await;
        let paste = "navigator.clipboard.readText().then(arguments[0], error => arguments[0](String(error)))";
        let pasted = browser.client.execute_async(paste, Vec::new()).await;
        let pasted = pasted.unwrap().as_str().unwrap().to_owned();
        if of == "psql" {
            // Whoever runs the collector is asked for no password on its socket.
            let output = tokio::process::Command::new("sh")
                .args(["-c", &format!("{pasted} -c 'select 41 + 1'")])
                .output()
                .await
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("42"), "{pasted}: {output:?}");
        } else {
            assert!(pasted.contains("from avtryck."), "{pasted}");
            database.batch_execute(&pasted).await.expect(&pasted);
        }
        browser
            .until(&format!("return {button}.textContent === {}", json!(words)))
            .await;
    }
    // Without a clipboard the text is selected, to be copied by hand.
    browser
        .run("Object.defineProperty(navigator, 'clipboard', { value: undefined }); document.querySelector('[data-of=rows]').click()")
        .await;
    let selected = "return getSelection().toString().trim() === document.getElementById('rows').textContent.trim()";
    browser.until(selected).await;
    browser.close().await;
}
