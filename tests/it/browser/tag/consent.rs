//! Consent: platforms that come late, and choices that a page passes on.

use serde_json::json;

use super::super::pages::{CLOCK, PLATFORMS};
use super::{LISTEN, Stage};
use crate::support::{consent_string, until};

/// Puts a consent platform on the page that is open.
fn platform(api: &str) -> String {
    let script = match api {
        "tcf" => PLATFORMS
            .replace("const __TCF__", "window.__tcfapi")
            .replace("const __GPP__", "const unused"),
        _ => PLATFORMS
            .replace("const __TCF__", "const unused")
            .replace("const __GPP__", "window.__gpp"),
    };
    // As globals, so that later scripts of the test find them.
    let script = script
        .replace("const heard", "window.heard")
        .replace("const tcf", "window.tcf");
    let script = script
        .replace("const gpp", "window.gpp")
        .replace("const answer", "window.answer");
    format!("{script}; return 1")
}

#[tokio::test]
async fn a_site_that_waits_for_a_platform_sends_nothing_before_its_answer_however_late_it_comes() {
    let stage = Stage::set().await;
    let agreed = consent_string("made since TCF 2.3, disclosed");
    let string =
        consent_string("GPP with the USA: policy 4, long ranges, some disclosed, publisher's own");
    for (site, api, answer) in [
        (
            "waits",
            "tcf",
            format!("answer('tcf', tcf('useractioncomplete', '{agreed}', true))"),
        ),
        (
            "waits-for-gpp",
            "gpp",
            format!("answer('gpp', gpp('ready', '{string}'))"),
        ),
    ] {
        let before = stage.sent().len();
        // A page that is left before the platform has come sends nothing.
        stage.open(site, CLOCK).await;
        stage.open(site, CLOCK).await;
        stage
            .browser
            .run("for (let n = 0; n < 150; n++) avtryck('page', { n }); avtryck('event', 'early')")
            .await;
        stage.browser.pass_time().await;
        stage.browser.run(&platform(api)).await;
        stage.browser.pass_time().await;
        assert_eq!(stage.browser.asked().await, 0, "sent before the answer");
        assert_eq!(
            stage.sent().len(),
            before,
            "sent when the first page was left"
        );
        stage.browser.run(&answer).await;
        let sql = format!(
            "select count(*) from avtryck.hit_detail where site = '{site}' and consent_source = '{api}'"
        );
        stage.collector.wait_for(&sql, 100).await;
        // The oldest page views were dropped, and no event.
        assert!(stage.sent().contains(&"early".to_owned()));
        assert_eq!(stage.sent().len(), before + 100);
    }
    stage.close().await;
}

#[tokio::test]
async fn a_choice_in_a_form_that_is_not_understood_permits_nothing_and_the_console_says_so() {
    let stage = Stage::set().await;
    for (call, choice, is_warned_of) in [
        ("['store', 'measure']", "store.measure", false),
        ("['measure', 'store']", "store.measure", false),
        (
            "{ store: true, measure: true, link: false }",
            "store.measure",
            false,
        ),
        ("{ store: false }", "none", false),
        ("{ analytics: false, store: true }", "store", false),
        ("[]", "none", false),
        ("{}", "none", false),
        ("{ store: 1, measure: 0 }", "store", false),
        ("{ store: 'denied', measure: true }", "measure", true),
        ("'match'", "none", true),
        ("['analytics']", "none", true),
        ("['store', 'analytics']", "store", true),
        ("{ analytics: true, measure: true }", "measure", true),
        ("'store'", "none", true),
        ("''", "none", true),
        ("true", "none", true),
        ("1", "none", true),
        ("undefined", "none", true),
        ("null", "none", true),
    ] {
        let consent = format!("avtryck('consent', {call})");
        stage.open("demo", "").await;
        stage.browser.run(&consent).await;
        // The words come from a module that is fetched, and hits wait for it.
        let before = stage.sent().len();
        stage.browser.run("avtryck('event', 'next')").await;
        stage.until_sent(before + 1).await;
        let words = stage.words().await;
        let warnings = words
            .iter()
            .filter(|word| word.starts_with("avtryck: unknown consent"));
        assert_eq!(
            warnings.count(),
            usize::from(is_warned_of),
            "{call}: {words:?}"
        );
        stage
            .open(
                "demo&with=debug",
                "localStorage.avtryck_debug = 1; console.info = (...all) => words.push(all.join(' '));",
            )
            .await;
        stage.browser.run(&consent).await;
        assert_eq!(
            stage.browser.cookie("avchoice").await.as_deref(),
            Some(choice),
            "{call}"
        );
        let words = stage.words().await;
        let kept = format!("store,measure,profile,match,link,locate avchoice={choice}");
        assert!(words.iter().any(|word| word.contains(&kept)), "{words:?}");
    }
    stage.close().await;
}

#[tokio::test]
async fn a_choice_without_store_ends_the_cookie_with_the_id() {
    let stage = Stage::set().await;
    for choice in ["[]", "['measure']", "{ measure: true }"] {
        stage.open("demo", "").await;
        stage
            .browser
            .run("avtryck('consent', ['store', 'measure'])")
            .await;
        stage.fence_again().await;
        let browser = &stage.browser;
        until(async || browser.cookie("avid").await.is_some()).await;
        stage
            .browser
            .run(&format!("avtryck('consent', {choice})"))
            .await;
        until(async || browser.cookie("avid").await.is_none()).await;
    }
    assert_eq!(
        stage.browser.cookie("avchoice").await.as_deref(),
        Some("measure")
    );
    stage.close().await;
}

#[tokio::test]
async fn the_consent_of_a_page_that_names_it_with_an_event_is_that_events() {
    let stage = Stage::set().await;
    stage.open("waits", "").await;
    stage.browser.run(&platform("tcf")).await;
    let browser = &stage.browser;
    until(async || browser.run("return heard.tcf.length").await == 1).await;
    let refused = consent_string("refused");
    let agreed = consent_string("made since TCF 2.3, disclosed");
    stage
        .browser
        .run(&format!(
            "answer('tcf', tcf('tcloaded', '{refused}', false))"
        ))
        .await;
    stage
        .browser
        .run(&format!(
            "avtryck('event', 'own', {{}}, {{ gdpr: 1, gdpr_consent: '{agreed}' }})"
        ))
        .await;
    stage
        .until_row("event_name = 'own' and consent_source = 'tcf'")
        .await;
    let own = stage.proxy.last_event();
    assert_eq!(
        (&own["gdpr_consent"], &own["ch"]),
        (&json!(agreed), &json!({}))
    );
    stage.close().await;
}

#[tokio::test]
async fn a_refusal_drops_what_waits_also_where_a_consent_follows_at_once() {
    let stage = Stage::set().await;
    stage.open("asks", "").await;
    let commands = "avtryck('event', 'held'); avtryck('consent', []); \
                    avtryck('event', 'refused'); avtryck('consent', ['store', 'measure'])";
    stage.browser.run(commands).await;
    stage.fence().await;
    assert_eq!(stage.sent(), ["fence"]);
    stage.close().await;
}

#[tokio::test]
async fn segments_that_a_former_choice_was_asked_for_are_not_told() {
    let stage = Stage::set().await;
    // The first reply comes after the refusal.
    let late = "const own = fetch; window.asked = 0; const reply = keys => new Response(JSON.stringify({ segments: keys })); \
                window.fetch = (...all) => !String(all[0]).includes('/segments') ? own(...all) : \
                asked++ ? Promise.resolve(reply(['after'])) : new Promise(done => { window.release = () => done(reply(['before'])); });";
    let html = format!(
        "<!doctype html><link rel=icon href=data:,><script>{LISTEN}{{ {late} }}</script>\
         <script data-segments=/segments src=\"/tag.js?site=demo&with=segments\"></script>"
    );
    stage.open_html(&html).await;
    let ask = "window.told = []; avtryck('segments', keys => told.push(...keys))";
    stage.browser.run(ask).await;
    stage.browser.run("avtryck('consent', ['measure'])").await;
    stage.browser.run("release()").await;
    until(async || stage.browser.run("return told.length").await != 0).await;
    assert_eq!(stage.browser.run("return told").await, json!(["after"]));
    stage.close().await;
}
