//! The live view, as a person sees it.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Browser, config};
use crate::support::{Collector, PATIENCE};

impl Browser {
    /// Waits until a script answers true.
    pub(super) async fn until(&self, script: &str) {
        let started = Instant::now();
        while self.run(script).await != Value::Bool(true) {
            assert!(started.elapsed() < PATIENCE, "{script}");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn the_live_view_says_what_became_of_a_tag_and_runs_nothing_that_it_shows() {
    let collector = Collector::start(config()).await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/", collector.admin)).await;
    browser
        .until("return document.getElementById('stream').textContent === 'watching'")
        .await;
    // Samples are given out from the next whole second on: hits until the first shows.
    let hostile = "%3Cimg%20src%3Dx%20onerror%3D%22document.title%3D'run'%22%3E";
    let shown = "return document.querySelectorAll('#hits li.row').length > 0";
    let started = Instant::now();
    while browser.run(shown).await != Value::Bool(true) {
        assert!(started.elapsed() < PATIENCE);
        collector
            .get(&format!("/p.gif?site=demo&u={hostile}&e={hostile}"), &[])
            .await;
    }
    collector.get("/p.gif?site=asks", &[]).await;
    collector.get("/p.gif?site=dmeo", &[]).await;
    browser
        .until(
            "return ['row', 'count', 'refused'].every(kind => document.querySelector('#hits li.' + kind))",
        )
        .await;
    let text = browser
        .run("return document.querySelector('#hits li.row').textContent")
        .await;
    assert!(
        text.as_str()
            .is_some_and(|text| text.contains("<img src=x")),
        "{text}"
    );
    let injected =
        "return document.querySelector('#hits img') !== null || document.title === 'run'";
    assert_eq!(browser.run(injected).await, Value::Bool(false));

    // Why does a tag not show up? Its site is misspelt.
    browser
        .run("const site = document.getElementById('site'); site.value = 'dmeo'; site.dispatchEvent(new Event('input', { bubbles: true }))")
        .await;
    browser
        .until("return /1 × refused \\(site_unknown\\): no \\[\\[site\\]\\] has that key/.test(document.getElementById('why').textContent)")
        .await;
    browser
        .until("return document.querySelectorAll('#hits li').length === 1")
        .await;
    // The filter stands in a link that opens the same view.
    let link = browser
        .run("return document.getElementById('link').href")
        .await;
    let link = link.as_str().expect("a link").to_owned();
    assert!(link.ends_with("/?site=dmeo"), "{link}");
    let address = browser.run("return location.href").await;
    assert_eq!(address, Value::from(link.clone()));
    // The charts have read the metrics twice.
    browser
        .until("return document.getElementById('rate').textContent !== '–'")
        .await;
    // A hit that is only counted is none by consent.
    let share = "return document.getElementById('consent').textContent";
    while browser.run(share).await != "0 %" {
        assert!(started.elapsed() < PATIENCE);
        collector.get("/p.gif?site=asks", &[]).await;
    }
    let scale = "return document.querySelector('.top').textContent.startsWith('top ')";
    assert_eq!(browser.run(scale).await, Value::Bool(true));
    browser
        .until("return /^Today, since the start at .*, [1-9][0-9]* counted, /.test(document.getElementById('today').textContent)")
        .await;

    // Whoever opens the link sees what it looks for, and what became of it.
    let link = link.replace("dmeo", "demo");
    browser.open(&link).await;
    browser
        .until("return document.getElementById('site').value === 'demo'")
        .await;
    browser
        .until("return document.getElementById('stream').textContent === 'watching'")
        .await;
    let event = r#"{"site":"demo","e":"sale","params":{"product":"phone-12"}}"#;
    collector.get("/p.gif?site=asks", &[]).await;
    collector.post("/e", &[], event).await;
    browser
        .until("return document.querySelectorAll('#hits li.stored').length === 1")
        .await;
    let text = browser
        .run("return document.querySelector('#hits').textContent")
        .await;
    let text = text.as_str().expect("text");
    assert!(
        text.contains("stored") && text.contains("phone-12"),
        "{text}"
    );
    assert!(!text.contains("asks"), "{text}");
    browser.close().await;
}

#[tokio::test]
async fn the_live_view_and_the_demo_lead_to_each_other_and_a_button_copies_the_link() {
    // Both on one host, as the links expect, below the ports that the system gives to anybody.
    let begin = usize::try_from(std::process::id() % 9_000).unwrap();
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = (20_000..30_000).skip(begin).filter(is_free);
    let [address, admin] = [(), ()].map(|()| format!("127.0.0.1:{}", ports.next().unwrap()));
    let config = config().embedded().set("http.listen", address.clone());
    let config = config.set("admin.listen", admin);
    let collector = Collector::start(config).await;
    let browser = Browser::start().await;
    let live = format!("http://{}/", collector.admin);
    browser.open(&live).await;
    browser.click("demo").await;
    let at_demo = format!("return location.href === 'http://{address}/demo'");
    browser.until(&at_demo).await;
    browser
        .until("return document.getElementById('live').href.includes('?site=')")
        .await;
    browser.click("live").await;
    let back = format!("return location.href === '{live}?site=demo'");
    browser.until(&back).await;
    let is_filled = "return document.getElementById('site').value === 'demo'";
    browser.until(is_filled).await;

    let may = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    browser.devtools("Browser.grantPermissions", may).await;
    browser.click("copy").await;
    browser
        .until("return document.getElementById('copy').textContent === 'Copied'")
        .await;
    let paste =
        "navigator.clipboard.readText().then(arguments[0], error => arguments[0](String(error)))";
    let pasted = browser.client.execute_async(paste, Vec::new()).await;
    assert_eq!(pasted.expect("a text"), format!("{live}?site=demo"));
    browser.close().await;
}

#[tokio::test]
async fn somebody_without_a_shell_makes_tags_by_the_form() {
    let partner = "[[partner]]\nkey = \"young\"\nmapping = \"adform\"\nsite = \"demo\"\n";
    let collector = Collector::start(config().with(partner)).await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/", collector.admin)).await;
    browser.click_link("Tags of an ad").await;
    let fill = "const fill = (id, value) => { document.getElementById(id).value = value; }; \
        fill('at', 'https://px.example'); fill('partner', 'young'); fill('campaign', 'spring'); \
        fill('size', '300x250'); fill('click', 'https://shop.example/phones');";
    browser.run(fill).await;
    browser.click("make").await;
    browser
        .until("return document.querySelector('pre') !== null")
        .await;
    let text = browser.run("return document.body.innerText").await;
    let text = text.as_str().expect("a text");
    for part in [
        "partner young has no gvl_id",
        "https://px.example/i.gif?",
        "campaign=spring",
        "size=300x250",
        "https%3A%2F%2Fshop.example%2Fphones",
        "<Impression>",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    // The form keeps what was chosen, so that it can be changed.
    let kept = "return document.getElementById('campaign').value + ' ' + document.getElementById('partner').value";
    assert_eq!(browser.run(kept).await, "spring young");
    browser.close().await;
}

#[tokio::test]
async fn what_was_not_stored_looks_unlike_what_was_and_a_count_says_its_minute_alone() {
    let collector = Collector::start(config()).await;
    let browser = Browser::start().await;
    let spoil = "alter table avtryck.hit add constraint none check (event_name <> 'spoilt')";
    let database = collector.database().await;
    database.batch_execute(spoil).await.unwrap();
    browser.open(&format!("http://{}/", collector.admin)).await;
    // Samples are given out from the next whole second on.
    let shown = "return document.querySelectorAll('#hits li.row').length > 0";
    let started = Instant::now();
    while browser.run(shown).await != Value::Bool(true) {
        assert!(started.elapsed() < PATIENCE);
        collector.get("/p.gif?site=demo", &[]).await;
    }
    browser.click("clear").await;
    for event in ["sale", "sale", "spoilt"] {
        let event = json!({ "site": "demo", "e": event, "id": event }).to_string();
        collector.post("/e", &[], &event).await;
    }
    collector.get("/p.gif?site=asks", &[]).await;
    collector.get("/p.gif?site=dmeo", &[]).await;
    browser
        .until("return ['stored', 'repeated', 'rejected', 'count', 'refused'].every(kind => document.querySelector('#hits li.' + kind))")
        .await;
    let look = "const of = {}; for (const kind of ['stored', 'repeated', 'rejected', 'count', 'refused']) { \
        const hit = document.querySelector('#hits li.' + kind), { borderLeftColor, borderLeftWidth } = getComputedStyle(hit); \
        const { color } = getComputedStyle(hit.querySelector('.what')); \
        of[kind] = { color, is_marked: borderLeftColor === color && parseFloat(borderLeftWidth) >= 4, \
        time: hit.querySelector('time').textContent }; } return of";
    let found = browser.run(look).await;
    let color = |kind: &str| &found[kind]["color"];
    assert_ne!(color("repeated"), color("stored"), "{found}");
    assert_eq!(color("repeated"), color("count"), "{found}");
    assert_eq!(color("rejected"), color("refused"), "{found}");
    assert_ne!(color("refused"), color("stored"), "{found}");
    for (kind, digits) in [
        ("stored", 6),
        ("repeated", 6),
        ("rejected", 6),
        ("count", 4),
        ("refused", 6),
    ] {
        assert_eq!(found[kind]["is_marked"], true, "{kind}: {found}");
        let time = found[kind]["time"].as_str().expect("a time");
        let count = time.bytes().filter(u8::is_ascii_digit).count();
        assert_eq!(count, digits, "{kind}: {time}");
    }
    browser
        .run("const site = document.getElementById('site'); site.value = 'dmeo'; site.dispatchEvent(new Event('input', { bubbles: true }))")
        .await;
    browser
        .until("return document.getElementById('why').textContent.startsWith('The last hit that fits:')")
        .await;
    browser.close().await;
}
