//! Pages that are not tame: links and forms where a module does not expect them, values that must
//! not leave the page, policies that forbid, and pages that come back.

use fantoccini::Locator;
use serde_json::{Value, json};

use super::{LISTEN, Stage};
use crate::support::until;

/// Keeps what nothing caught, which a tag never causes.
const UNCAUGHT: &str = "addEventListener('error', event => words.push(String(event.message))); \
     addEventListener('unhandledrejection', event => words.push('rejected'));";

/// Keeps links and forms from leading away, after the modules saw them.
const STAY: &str = "addEventListener('submit', event => event.preventDefault()); addEventListener('click', event => \
     event.composedPath().some(one => one.href) && event.preventDefault());";

/// Makes a shadow tree in `#host`.
const SHADOW: &str = "const root = document.getElementById('host').attachShadow({ mode: 'open' });";

/// Every module that a page may name.
const ALL: &str = "chosen,context,debug,downloads,ecommerce,engagement,errors,filter,fit,forms,hash,linked,\
     links,media,navigation,notfound,offline,outbound,platform,query,recorded,rescue,scroll,segments,set,\
     stored,user,vitals";

impl Stage {
    /// Opens a page with modules of the demo site's tag, and keeps its errors.
    async fn open_wild(&self, modules: &str, body: &str) {
        self.open_html(&wild(modules, body)).await;
    }

    /// Returns all that went to the collector, as one text.
    fn all_sent(&self) -> String {
        json!(self.proxy.events()).to_string()
    }
}

fn wild(modules: &str, body: &str) -> String {
    format!(
        "<!doctype html><title>wild</title><link rel=icon href=data:,><script>{LISTEN}{UNCAUGHT}{STAY}</script>\
         <script src=\"/tag.js?site=demo&with={modules}\"></script>{body}"
    )
}

#[tokio::test]
async fn a_link_is_told_wherever_it_stands_and_never_what_is_no_address_of_the_web() {
    let stage = Stage::set().await;
    let body = "<div id=host></div>\
        <svg width=20 height=20><a id=svg href=\"https://svg.example/x?token=secret\"><text y=15>s</text></a></svg>\
        <img usemap=#m width=9 height=9 alt=\"\"><map name=m>\
        <area id=area shape=default href=\"https://area.example/plan.pdf?token=secret\" alt=\"\"></map>\
        <a id=mail href=\"mailto:anna@shop.zip\">mail</a><a id=js href=\"javascript:void 'secret.pdf'\">js</a>\
        <a id=data download href=\"data:text/csv,secret%0Aanna.csv\">data</a><a id=blob download>blob</a>\
        <a id=pass href=\"https://anna:secret@pass.example/list.csv#secret\">list</a><a id=bare>bare</a>";
    stage.open_wild("outbound,downloads", body).await;
    let click = format!(
        "{SHADOW} root.innerHTML = '<a href=\"https://shadow.example/deep?token=secret\"><b>in</b></a>'; \
         document.getElementById('blob').href = URL.createObjectURL(new Blob(['anna'])); \
         const click = element => element.dispatchEvent(new MouseEvent('click', {{ bubbles: true, composed: true, cancelable: true }})); \
         click(root.querySelector('b')); \
         for (const id of ['svg', 'area', 'mail', 'js', 'data', 'blob', 'pass', 'bare']) click(document.getElementById(id)); \
         click(document); click(window)"
    );
    stage.browser.run(&click).await;
    stage.fence().await;
    let links: Vec<Value> = stage
        .fields_of("outbound_click")
        .into_iter()
        .map(|fields| fields["link_url"].clone())
        .collect();
    assert_eq!(
        links,
        [
            "https://shadow.example/deep",
            "https://svg.example/x",
            "https://area.example/plan.pdf",
            "https://pass.example/list.csv",
        ]
    );
    let file = |host: &str, name: &str, extension: &str| json!({ "link_url": format!("https://{host}/{name}"), "file_name": name, "file_extension": extension });
    assert_eq!(
        stage.fields_of("file_download"),
        [
            file("area.example", "plan.pdf", "pdf"),
            json!({}),
            json!({}),
            file("pass.example", "list.csv", "csv"),
        ]
    );
    let all = stage.all_sent();
    for secret in ["anna", "secret", "token"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
    assert_eq!(stage.words().await, Vec::<String>::new());
    stage.close().await;
}

#[tokio::test]
async fn a_form_of_a_login_is_told_without_what_was_typed_also_in_a_shadow_tree() {
    let stage = Stage::set().await;
    // Fields with the names of what a module might ask the form for.
    let fields = [
        "getAttribute",
        "id",
        "name",
        "action",
        "elements",
        "form",
        "closest",
    ]
    .map(|name| format!("<input type=hidden name={name} value=hidden-7>"))
    .concat();
    let body = format!(
        "<form id=login name=login action=\"mailto:anna@shop.example\">{fields}<input type=email id=mail name=mail>\
         <input type=password id=password name=password><button id=go name=submit>Go</button></form>\
         <form id=broken action=\"https://\"></form><div id=host></div>"
    );
    stage.open_wild("forms", &body).await;
    for (id, typed) in [("mail", "kim@shop.example"), ("password", "geheim-9")] {
        let field = stage.browser.client.find(Locator::Id(id)).await;
        let field = field.expect("the field");
        field.send_keys(typed).await.expect("keys");
    }
    stage.browser.click("go").await;
    let in_shadow = format!(
        "{SHADOW} root.innerHTML = '<form id=deep action=/deep?token=secret><input type=password><button>Go</button></form>'; \
         root.addEventListener('submit', event => event.preventDefault()); \
         const field = root.querySelector('input'); field.focus(); field.value = 'geheim-8'; \
         field.dispatchEvent(new Event('change', {{ bubbles: true }})); root.querySelector('button').click(); \
         document.getElementById('broken').requestSubmit(); \
         for (const target of [document, window]) for (const type of ['change', 'submit', 'focusin']) target.dispatchEvent(new Event(type, {{ bubbles: true }}))"
    );
    stage.browser.run(&in_shadow).await;
    stage.fence().await;
    let login = json!({ "form_id": "login", "form_name": "login" });
    let deep = json!({ "form_id": "deep", "form_destination": stage.proxy.url("/deep") });
    assert_eq!(stage.fields_of("form_start"), [login.clone(), deep.clone()]);
    let broken = json!({ "form_id": "broken" });
    assert_eq!(stage.fields_of("form_submit"), [login, deep, broken]);
    let all = stage.all_sent();
    for secret in ["kim", "geheim", "hidden-7", "anna", "secret"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
    assert_eq!(stage.words().await, Vec::<String>::new());
    stage.close().await;
}

#[tokio::test]
async fn a_short_page_after_a_long_one_is_not_scrolled() {
    let stage = Stage::set().await;
    stage
        .open_wild("scroll", "<div id=long style=\"height: 20000px\"></div>")
        .await;
    stage.browser.run("scrollTo(0, 12000)").await;
    until(async || stage.fields_of("scroll").len() == 2).await;
    // The browser moves the page to its top by itself. The module looks 200 ms later.
    let next = "addEventListener('scroll', () => setTimeout(() => window.looked = 1, 500)); \
                history.pushState({}, '', '/short'); document.getElementById('long').style.height = '9px'";
    stage.browser.run(next).await;
    until(async || stage.browser.run("return window.looked").await == 1).await;
    stage.fence().await;
    assert_eq!(stage.fields_of("scroll").len(), 2);
    stage.close().await;
}

#[tokio::test]
async fn whatever_is_thrown_is_told_once_and_throws_nothing_more() {
    let stage = Stage::set().await;
    stage.open_wild("errors", "").await;
    let fail = "dispatchEvent(new ErrorEvent('error', { message: 'of data', filename: 'data:text/javascript,secret()', lineno: 7 })); \
                dispatchEvent(new Event('error')); \
                for (const reason of [Symbol('odd'), Object.create(null), { toString() { throw 1; } }, undefined]) \
                dispatchEvent(new PromiseRejectionEvent('unhandledrejection', { promise: new Promise(() => {}), reason }))";
    stage.browser.run(fail).await;
    stage.fence().await;
    assert_eq!(
        stage.fields_of("js_error"),
        [
            json!({ "message": "of data", "line": 7, "column": 0 }),
            json!({ "message": "Symbol(odd)" }),
            json!({ "message": "undefined" }),
        ]
    );
    let caused: Vec<String> = stage.words().await;
    let own = ["of data", "undefined", "rejected"];
    assert!(
        caused.iter().all(|word| own.contains(&word.as_str())),
        "{caused:?}"
    );
    stage.close().await;
}

#[tokio::test]
async fn the_next_piece_in_the_same_player_is_told_from_its_start() {
    let stage = Stage::set().await;
    stage
        .open_wild("media", "<button id=go>Listen</button>")
        .await;
    stage.browser.click("go").await;
    // Two pieces of a second of silence; the first is left where it has begun.
    let play = "const done = arguments[0]; const piece = () => { const head = new DataView(new ArrayBuffer(44)); \
        const write = (at, text) => [...text].forEach((c, n) => head.setUint8(at + n, c.charCodeAt(0))); \
        write(0, 'RIFF'); write(8, 'WAVEfmt '); write(36, 'data'); \
        head.setUint32(4, 8036, true); head.setUint32(16, 16, true); head.setUint16(20, 1, true); \
        head.setUint16(22, 1, true); head.setUint32(24, 8000, true); head.setUint32(28, 8000, true); \
        head.setUint16(32, 1, true); head.setUint16(34, 8, true); head.setUint32(40, 8000, true); \
        return URL.createObjectURL(new Blob([head, new Uint8Array(8000).fill(128)], { type: 'audio/wav' })); }; \
        const sound = document.createElement('audio'); sound.title = 'first'; sound.muted = true; document.body.append(sound); \
        sound.onplaying = () => { if (sound.title === 'second') return; sound.title = 'second'; sound.src = piece(); \
        sound.play().catch(error => done(error.message)); }; \
        sound.onended = () => done('ended'); sound.onerror = () => done(sound.error.message); \
        sound.src = piece(); sound.play().catch(error => error.name === 'AbortError' || done(error.message))";
    let outcome = stage.browser.client.execute_async(play, Vec::new()).await;
    assert_eq!(outcome.expect("an outcome"), "ended");
    stage.fence().await;
    let titles = |name: &str| -> Vec<Value> {
        let told = stage.fields_of(name).into_iter();
        told.map(|fields| fields["media_title"].clone()).collect()
    };
    assert_eq!(titles("media_start"), ["first", "second"]);
    assert_eq!(titles("media_complete"), ["second"]);
    stage.close().await;
}

#[tokio::test]
async fn under_a_strict_policy_the_tag_fetches_with_its_nonce_or_goes_without() {
    let stage = Stage::set().await;
    // Trusted Types forbid to fetch a module: what the file has works, and a consent above all.
    for (policy, property) in [
        ("", "'yes'"),
        ("; require-trusted-types-for 'script'", "null"),
    ] {
        let html = format!(
            "<!doctype html><meta http-equiv=Content-Security-Policy content=\"default-src 'none'; \
             script-src 'nonce-n1' 'strict-dynamic'; connect-src 'self'; img-src data:{policy}\">\
             <link rel=icon href=data:,><script nonce=n1>{LISTEN}{UNCAUGHT}{STAY}</script>\
             <script nonce=n1 src=\"/tag.js?site=asks&with=outbound\"></script>\
             <a id=out href=https://out.example/>out</a>"
        );
        stage.open_html(&html).await;
        let before = stage.sent().len();
        let events = "avtryck('set', { strict: 'yes' }); avtryck('consent', ['store', 'measure']); \
                      avtryck('event', 'agreed'); document.getElementById('out').click()";
        stage.browser.run(events).await;
        stage.until_sent(before + 3).await;
        assert_eq!(
            stage.made_since(before),
            ["/page", "agreed", "outbound_click"],
            "{policy}"
        );
        let row = format!(
            "select count(*) from avtryck.hit_detail where event_name = 'agreed' and params->>'strict' is not distinct from {property}"
        );
        stage.collector.wait_for(&row, 1).await;
        assert_eq!(stage.words().await, Vec::<String>::new(), "{policy}");
        stage
            .browser
            .run("document.cookie = 'avchoice=;path=/;max-age=0'")
            .await;
    }
    stage.close().await;
}

#[tokio::test]
async fn without_the_filter_that_a_page_gives_nothing_goes() {
    let stage = Stage::set().await;
    stage.browser.devtools("Network.enable", json!({})).await;
    let urls = json!({ "urls": ["*only=filter*"] });
    stage.browser.devtools("Network.setBlockedURLs", urls).await;
    let early = "window.avtryck = (...all) => { (avtryck.q = avtryck.q || []).push(all); }; \
                 avtryck('filter', hit => false); avtryck('event', 'unseen');";
    stage.open("demo", early).await;
    stage.browser.run("avtryck('event', 'later')").await;
    stage.proxy.serve("/next", &wild("", ""));
    stage.browser.open(&stage.proxy.url("/next")).await;
    stage.fence().await;
    assert_eq!(stage.made_since(0), ["/next", "fence"]);
    stage.close().await;
}

#[tokio::test]
async fn in_frames_of_any_kind_every_module_runs_and_throws_nothing() {
    let stage = Stage::set().await;
    stage.proxy.serve(
        "/frame",
        &wild(
            ALL,
            "<script>onload = () => parent.postMessage(words, '*')</script>",
        ),
    );
    let port = stage.proxy.address.port();
    let frames = format!(
        "<script>window.told = []; addEventListener('message', event => told.push(event.data))</script>\
         <iframe src=/frame?own></iframe><iframe src=http://localhost:{port}/frame?other></iframe>\
         <iframe sandbox=allow-scripts src=/frame?box></iframe>"
    );
    stage.open_wild(ALL, &frames).await;
    until(async || stage.browser.run("return told.length").await == 3).await;
    assert_eq!(stage.browser.run("return told").await, json!([[], [], []]));
    for frame in ["own", "other", "box"] {
        stage
            .until_row(&format!(
                "kind = 'page_view' and page_url like '%/frame?{frame}'"
            ))
            .await;
    }
    assert_eq!(stage.words().await, Vec::<String>::new());
    stage.close().await;
}

#[tokio::test]
async fn a_page_that_changes_its_address_all_the_time_keeps_its_tag() {
    let stage = Stage::set().await;
    stage.open_wild(ALL, "").await;
    stage.until_row("kind = 'page_view'").await;
    let storm = "for (let n = 0; n < 400; n++) { history.pushState(n, '', '/w' + n); history.replaceState({ n }, '', '?q=' + n + '#/' + n); } \
        let own; try { history.pushState(); } catch (e) { own = e.name; } \
        try { history.pushState({}, '', 'https://other.example/'); } catch (e) { own += e.name; } return own";
    // What the browser refuses, the page is told as without the tag.
    assert_eq!(stage.browser.run(storm).await, "TypeErrorSecurityError");
    stage.fence().await;
    let views = stage.sent();
    assert!(views.iter().any(|name| name.starts_with("/w")), "{views:?}");
    assert_eq!(stage.words().await, Vec::<String>::new());
    stage.close().await;
}

#[tokio::test]
async fn a_page_that_comes_back_tells_its_time_anew_and_not_that_it_was_away() {
    let stage = Stage::set().await;
    let clock = "<script>const { now } = performance; let more = 0; \
                 performance.now = () => now.call(performance) + more;</script>";
    stage
        .open_html(&wild("engagement,vitals", "").replacen(
            "<script>",
            &format!("{clock}<script>"),
            1,
        ))
        .await;
    stage.until_row("kind = 'page_view'").await;
    stage.browser.run("window.kept = 1; more += 5000").await;
    stage.proxy.serve("/other", &wild("", ""));
    let leave = async || stage.browser.open(&stage.proxy.url("/other")).await;
    leave().await;
    until(async || stage.fields_of("engagement").len() == 1).await;
    stage.browser.client.back().await.expect("the page before");
    assert_eq!(stage.browser.run("return window.kept").await, 1);
    stage.browser.run("more += 3000").await;
    leave().await;
    until(async || stage.fields_of("engagement").len() == 2).await;
    let times: Vec<f64> = stage
        .fields_of("engagement")
        .iter()
        .map(|fields| fields["visible_msec"].as_f64().expect("a time"))
        .collect();
    assert!(times[0] >= 5000.0 && times[1] >= 3000.0, "{times:?}");
    // Each stay alone: the second does not hold the first.
    assert!(times[1] < times[0] + 3000.0, "{times:?}");
    assert!(stage.fields_of("web_vitals").len() <= 1);
    stage.close().await;
}

#[tokio::test]
async fn a_page_that_is_rendered_ahead_measures_only_what_was_seen() {
    let stage = Stage::set().await;
    stage.proxy.serve(
        "/ahead",
        &wild(
            "engagement,scroll,vitals,notfound,errors,media",
            "<h1>Ahead</h1>",
        ),
    );
    let rules = "<script type=speculationrules>{\"prerender\": [{\"source\": \"list\", \"urls\": [\"/ahead\"]}]}</script>\
                 <span id=go onclick=\"location = '/ahead'\">on</span>";
    stage.open_wild("", rules).await;
    stage.fence().await;
    // Longer than a view that is told.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    stage.browser.click("go").await;
    stage.until_sent(3).await;
    stage.proxy.serve("/last", &wild("", ""));
    stage.browser.open(&stage.proxy.url("/last")).await;
    until(async || stage.sent().iter().any(|name| name == "/last")).await;
    assert_eq!(stage.sent()[..3], ["/page", "fence", "/ahead"]);
    for told in stage.fields_of("engagement") {
        // It was shown for the time of a step of this test, and ahead for longer.
        assert!(told["visible_msec"].as_f64() < Some(1500.0), "{told}");
    }
    // The browser drew it for nobody.
    assert_eq!(stage.fields_of("web_vitals"), [json!(null); 0]);
    stage.close().await;
}

#[tokio::test]
async fn modules_of_two_tags_on_one_page_tell_each_site_once() {
    let stage = Stage::set().await;
    let body = "<script src=\"/tag.js?site=second&with=outbound,errors\"></script>\
                <script src=\"/tag.js?site=demo&with=outbound\"></script><a id=out href=https://out.example/>out</a>";
    stage.open_wild("outbound,forms", body).await;
    let both = "document.getElementById('out').click(); \
                dispatchEvent(new ErrorEvent('error', { message: 'lost' }))";
    stage.browser.run(both).await;
    stage
        .until_row("event_name = 'js_error' and site = 'second'")
        .await;
    stage.fence().await;
    let sites = |name: &str| -> Vec<Value> {
        let events = stage.proxy.events().into_iter();
        let named = events.filter(|event| event["e"] == name);
        let mut sites: Vec<Value> = named.map(|event| event["site"].clone()).collect();
        sites.sort_by_key(Value::to_string);
        sites
    };
    assert_eq!(sites("outbound_click"), ["demo", "second"]);
    assert_eq!(sites("js_error"), ["second"]);
    stage.close().await;
}
