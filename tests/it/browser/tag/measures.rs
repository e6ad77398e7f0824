//! Modules that measure what a visitor does on a page: what each sends, and what it never does.

use fantoccini::Locator;
use serde_json::{Value, json};

use super::{LISTEN, Stage};
use crate::support::until;

/// Two scripts' worth of a second: pages must be in view for that long to be told.
const MORE_THAN_A_SECOND: &str = "const { now } = performance; let more = 0; \
     performance.now = () => now.call(performance) + more;";

impl Stage {
    /// Opens a page with modules; `before` runs ahead of the tag.
    async fn open_with(&self, modules: &str, before: &str, body: &str) {
        self.open_html(&format!(
            "<!doctype html><title>a page</title><link rel=icon href=data:,>\
             <script>{LISTEN}{before}</script>\
             <script src=\"/tag.js?site=demo&with={modules}\"></script>{body}"
        ))
        .await;
        self.until_row("kind = 'page_view'").await;
    }

    /// Returns the fields of the events of a name, in the order in which they were made.
    pub(super) fn fields_of(&self, name: &str) -> Vec<Value> {
        let events = self.made().into_iter();
        events
            .filter(|event| event["e"] == name)
            .map(|event| event["params"].clone())
            .collect()
    }

    /// Makes the page believe that it was left for another one.
    async fn leave(&self) {
        let hide = "Object.defineProperty(document, 'hidden', { value: true, configurable: true }); \
                    document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))";
        self.browser.run(hide).await;
    }
}

#[tokio::test]
async fn links_that_lead_away_and_files_are_told_without_their_queries() {
    let stage = Stage::set().await;
    let body = "<p onclick=\"event.preventDefault()\">\
        <a id=out href=\"https://other.example/way?token=secret#part\"><b>away</b></a>\
        <a id=same href=\"/page2?token=secret\">here</a>\
        <a id=mail href=\"mailto:anna@shop.example\">mail</a>\
        <a id=file href=\"/files/Price-List.PDF?token=secret\">list</a>\
        <a id=named href=\"/files/export?token=secret\" download>export</a>\
        <a id=both href=\"https://cdn.example/film.mp4\">film</a>\
        <a id=not href=\"/files/pdf\">no file</a></p>";
    stage.open_with("outbound,downloads", "", body).await;
    let click = "for (const id of ['same', 'mail', 'not', 'out', 'file', 'named', 'both']) \
                 (document.getElementById(id).firstElementChild || document.getElementById(id)).click();\
                 const middle = new MouseEvent('auxclick', { button: 1, bubbles: true, cancelable: true });\
                 document.getElementById('out').dispatchEvent(middle);\
                 document.getElementById('out').dispatchEvent(new MouseEvent('auxclick', { button: 2, bubbles: true }))";
    stage.browser.run(click).await;
    stage.fence().await;
    let out = json!({ "link_url": "https://other.example/way", "link_domain": "other.example" });
    assert_eq!(
        stage.fields_of("outbound_click"),
        [
            out.clone(),
            json!({ "link_url": "https://cdn.example/film.mp4", "link_domain": "cdn.example" }),
            out,
        ]
    );
    let here = stage.proxy.url("/files/");
    assert_eq!(
        stage.fields_of("file_download"),
        [
            json!({ "link_url": format!("{here}Price-List.PDF"), "file_name": "Price-List.PDF", "file_extension": "pdf" }),
            json!({ "link_url": format!("{here}export") }),
            json!({ "link_url": "https://cdn.example/film.mp4", "file_name": "film.mp4", "file_extension": "mp4" }),
        ]
    );
    stage.close().await;
}

#[tokio::test]
async fn a_form_is_told_once_when_it_is_begun_and_when_it_is_submitted_and_never_its_content() {
    let stage = Stage::set().await;
    let body = "<form id=order name=order action=\"/buy?token=secret\" onsubmit=\"event.preventDefault()\">\
        <input name=id value=hidden-7><input name=action value=x><input id=who><button>Buy</button></form>";
    stage.open_with("forms", "", body).await;
    let fill = "const who = document.getElementById('who'); \
                for (const name of ['anna', 'anna@shop.example']) { who.value = name; \
                who.dispatchEvent(new Event('change', { bubbles: true })); } \
                document.querySelector('button').click()";
    stage.browser.run(fill).await;
    stage.fence().await;
    let form = json!({ "form_id": "order", "form_name": "order", "form_destination": stage.proxy.url("/buy") });
    assert_eq!(stage.fields_of("form_start"), std::slice::from_ref(&form));
    assert_eq!(stage.fields_of("form_submit"), [form]);
    let all = json!(stage.proxy.events()).to_string();
    for secret in ["anna", "hidden-7", "secret"] {
        assert!(!all.contains(secret), "{all}");
    }
    stage.close().await;
}

#[tokio::test]
async fn depth_and_time_are_told_for_each_page_of_a_single_page_site() {
    let stage = Stage::set().await;
    let body = "<div style=\"height: 20000px\"></div>";
    stage
        .open_with("scroll,engagement", MORE_THAN_A_SECOND, body)
        .await;
    stage.browser.run("scrollTo(0, 12000)").await;
    until(async || stage.fields_of("scroll").len() == 2).await;
    // A minute passes without a sign of the visitor, then the address changes.
    let next = "more += 60000; history.pushState({}, '', '/next'); scrollTo(0, 20000)";
    stage.browser.run(next).await;
    until(async || stage.fields_of("scroll").len() == 6).await;
    let depths: Vec<Value> = stage
        .fields_of("scroll")
        .into_iter()
        .map(|fields| fields["percent_scrolled"].clone())
        .collect();
    assert_eq!(depths, [25, 50, 25, 50, 75, 90]);
    stage.browser.run("more += 5000").await;
    stage.leave().await;
    until(async || stage.fields_of("engagement").len() == 2).await;
    let events = stage.proxy.events();
    let [first, second] = ["/page", "/next"].map(|path| {
        let url = stage.proxy.url(path);
        let mut told = events.iter();
        let told = told.find(|event| event["e"] == "engagement" && event["u"] == url.as_str());
        told.expect(path)["params"].clone()
    });
    let number = |fields: &Value, name: &str| fields[name].as_f64().expect(name);
    assert!(number(&first, "visible_msec") >= 60_000.0, "{first}");
    let engaged = number(&first, "engagement_msec");
    assert!((30_000.0..60_000.0).contains(&engaged), "{first}");
    assert!(number(&second, "visible_msec") >= 5_000.0, "{second}");
    stage.close().await;
}

#[tokio::test]
async fn vitals_are_told_once_and_errors_and_missing_pages_as_they_are() {
    let stage = Stage::set().await;
    let body = "<meta name=avtryck-status content=404><h1>Nothing here</h1>";
    // The browser tells nobody of errors in what the test itself runs.
    let fail = "window.fail = () => { setTimeout(() => { throw new Error('broken ' + 'x'.repeat(300)); }); \
                setTimeout(() => { for (let n = 0; n < 9; n++) Promise.reject(new Error('lost ' + n)); }, 1); };";
    stage.open_with("vitals,errors,notfound", fail, body).await;
    stage.browser.run("window.fail()").await;
    until(async || stage.fields_of("js_error").len() >= 5).await;
    // The largest paint is known once the page has been drawn.
    let drawn = "const done = arguments[0]; \
                 new PerformanceObserver(() => done()).observe({ type: 'largest-contentful-paint', buffered: true })";
    stage
        .browser
        .client
        .execute_async(drawn, Vec::new())
        .await
        .expect("a paint");
    stage.leave().await;
    stage.leave().await;
    stage.fence().await;
    let vitals = stage.fields_of("web_vitals");
    assert_eq!(vitals.len(), 1, "{vitals:?}");
    assert!(vitals[0]["lcp_msec"].as_f64().expect("a time") > 0.0);
    let errors = stage.fields_of("js_error");
    assert_eq!(errors.len(), 5, "{errors:?}");
    let thrown = errors.iter().find(|error| error["line"].is_number());
    let message = thrown.expect("a place")["message"]
        .as_str()
        .expect("a text");
    assert_eq!(message.len(), 200, "{message}");
    assert!(
        errors
            .iter()
            .any(|error| error["message"] == "Error: lost 0")
    );
    stage.close().await;
}

#[tokio::test]
async fn a_slow_click_and_what_moves_by_itself_are_in_the_vitals() {
    let stage = Stage::set().await;
    let body = "<p>What moves</p>\
                <button id=slow onclick=\"const end = performance.now() + 150; while (performance.now() < end);\">slow</button>";
    let push = "window.push = done => { \
                new PerformanceObserver(() => done()).observe({ type: 'layout-shift', buffered: true }); \
                const box = document.createElement('div'); \
                box.style.height = '300px'; \
                document.body.prepend(box); };";
    stage.open_with("vitals", push, body).await;
    let wait = async |script: &str| {
        let done = stage.browser.client.execute_async(script, Vec::new());
        done.await.expect("it is measured");
    };
    wait("window.push(arguments[0])").await;
    stage.browser.click("slow").await;
    wait(
        "const done = arguments[0]; \
         new PerformanceObserver(list => list.getEntries().some(entry => entry.interactionId) && done()) \
             .observe({ type: 'event', buffered: true, durationThreshold: 16 })",
    )
    .await;
    stage.leave().await;
    stage.fence().await;
    let vitals = stage.fields_of("web_vitals");
    assert_eq!(vitals.len(), 1, "{vitals:?}");
    let value = |name: &str| vitals[0][name].as_f64().unwrap_or_default();
    assert!((0.01..10.0).contains(&value("cls")), "{vitals:?}");
    assert!((150.0..30_000.0).contains(&value("inp_msec")), "{vitals:?}");
    stage.close().await;
}

#[tokio::test]
async fn a_page_without_the_mark_is_missing_by_its_status_alone() {
    let stage = Stage::set().await;
    let module = "<script src=\"/tag.js?site=demo&with=notfound\"></script>";
    let claim = |status: u16| {
        format!(
            "<!doctype html><link rel=icon href=data:,><script>{LISTEN}\
             const native = performance.getEntriesByType; performance.getEntriesByType = type => \
             type === 'navigation' ? [{{ responseStatus: {status} }}] : native.call(performance, type)</script>{module}"
        )
    };
    for status in [200, 404, 500, 410] {
        stage.open_html(&claim(status)).await;
        stage.fence_again().await;
    }
    // A page that is left before the reply came sends its event again.
    let mut told = stage.fields_of("page_not_found");
    told.dedup();
    assert_eq!(told, [json!({ "status": 404 }), json!({ "status": 410 })]);
    stage.close().await;
}

#[tokio::test]
async fn a_sound_is_told_at_its_start_at_each_quarter_and_at_its_end() {
    let stage = Stage::set().await;
    stage
        .open_with("media", "", "<button>Listen</button>")
        .await;
    // A page may play a sound only once somebody has used it.
    let button = stage.browser.client.find(Locator::Css("button")).await;
    let button = button.expect("the button");
    button.click().await.expect("a click");
    // A second of silence: 8,000 samples of a byte each.
    let play = "const done = arguments[0]; const head = new DataView(new ArrayBuffer(44)); \
        [...'RIFF\\0\\0\\0\\0WAVEfmt '].forEach((c, at) => head.setUint8(at, c.charCodeAt(0))); \
        head.setUint32(4, 8036, true); head.setUint32(16, 16, true); head.setUint16(20, 1, true); \
        head.setUint16(22, 1, true); head.setUint32(24, 8000, true); head.setUint32(28, 8000, true); \
        head.setUint16(32, 1, true); head.setUint16(34, 8, true); \
        [...'data'].forEach((c, at) => head.setUint8(36 + at, c.charCodeAt(0))); head.setUint32(40, 8000, true); \
        const sound = document.createElement('audio'); sound.title = 'silence'; sound.muted = true; \
        sound.onended = () => done('ended'); sound.onerror = () => done(sound.error.message); document.body.append(sound); \
        sound.src = URL.createObjectURL(new Blob([head, new Uint8Array(8000).fill(128)], { type: 'audio/wav' })); \
        sound.play().catch(error => done(error.message))";
    let outcome = stage.browser.client.execute_async(play, Vec::new()).await;
    assert_eq!(outcome.expect("an outcome"), "ended");
    stage.fence().await;
    let told = |name: &str| stage.fields_of(&format!("media_{name}"));
    let start = json!({ "media_title": "silence", "duration": 1 });
    assert_eq!(told("start"), std::slice::from_ref(&start));
    assert_eq!(told("complete"), [start]);
    let percents: Vec<Value> = told("progress")
        .into_iter()
        .map(|fields| fields["percent"].clone())
        .collect();
    // A player may pass over a quarter of so short a sound, but never tells one twice.
    assert!(!percents.is_empty() && percents.is_sorted_by(|a, b| a.as_f64() < b.as_f64()));
    assert_eq!(percents.last(), Some(&json!(75)));
    stage.close().await;
}

#[tokio::test]
async fn a_shops_data_layer_is_read_whatever_pushes_to_it_and_an_order_counts_once() {
    let stage = Stage::set().await;
    let before = "window.dataLayer = [{ event: 'view_item', ecommerce: { items: [{ item_id: 'phone-12' }] } }]; \
                  function gtag() { dataLayer.push(arguments); } gtag('js', new Date()); gtag('config', 'G-1');";
    stage.open_with("ecommerce", before, "").await;
    let order = "{ user_data: { email: 'anna@shop.example' }, transaction_id: 'order-7', value: 899, currency: 'SEK', items: [{ item_id: 'phone-12', quantity: 1 }] }";
    let push = format!(
        "dataLayer.push({{ ecommerce: null }}); dataLayer.push({{ event: 'gtm.click', ecommerce: {{}} }}); \
         gtag('event', 'purchase', {order}); dataLayer.push({{ event: 'purchase', ecommerce: {order} }}, null, 7); \
         return dataLayer.length"
    );
    let length = stage.browser.run(&push).await;
    assert_eq!(length, 9, "the page's own readers see what they saw before");
    stage.fence().await;
    let item = json!([{ "item_id": "phone-12" }]);
    assert_eq!(stage.fields_of("view_item"), [json!({ "items": item })]);
    let orders = stage.fields_of("purchase");
    assert_eq!(orders.len(), 2);
    assert!(!json!(orders).to_string().contains("anna"), "{orders:?}");
    stage
        .until_row("event_name = 'purchase' and params->>'value' = '899'")
        .await;
    stage.until_row("event_name = 'fence'").await;
    stage.until_row("event_name = 'purchase'").await;
    stage.close().await;
}
