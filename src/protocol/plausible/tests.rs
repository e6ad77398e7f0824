#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::endpoint::Endpoint;
use crate::protocol::recorded::Recorded;

const RECORDED: &str = include_str!("../../../tests/recorded/plausible-official-0.4.6.jsdom.json");

/// Returns what each event of a body tells.
fn events(body: &str) -> Vec<Result<String, Reason>> {
    let recording = serde_json::json!([
        {"method": "POST", "path": "/api/event", "headers": [], "body": body},
    ]);
    let request = Recorded::all(&recording.to_string()).swap_remove(0);
    request.drafts(Endpoint::Plausible, |draft| {
        let draft = draft?;
        let claims = draft.claims.unwrap();
        assert!(!claims.keeps_cookies);
        assert_eq!((&*draft.hit.event_id, &*draft.hit.device_id), ("", ""));
        let hit = &draft.hit;
        let texts = [
            &*claims.site_alias,
            hit.kind.name(),
            &hit.event_name,
            &hit.page_url,
            &hit.referrer,
            &hit.params,
        ];
        Ok(texts.join(" "))
    })
}

#[test]
fn the_recorded_events_tell_what_happened() {
    let bodies: Vec<_> = Recorded::all(RECORDED)
        .into_iter()
        .map(|one| one.body)
        .collect();
    let told: Vec<_> = bodies.iter().flat_map(|body| events(body)).collect();
    let page = "http://shop.example/p/1?utm_source=news&utm_medium=email&utm_campaign=spring";
    let from = "https://www.google.com/";
    let signup = r#"{"props":{"tier":"pro"},"value":19.99,"currency":"EUR","revenue":{"amount":19.99,"currency":"EUR"},"v":36}"#;
    assert_eq!(
        told,
        [
            Ok(format!(
                "shop.example page_view  {page} {from} {{\"v\":36}}"
            )),
            Ok(format!("shop.example event signup {page} {from} {signup}")),
        ]
    );
}

#[test]
fn names_are_short_or_long_and_objects_may_be_texts() {
    let body = r#"{"name":"pageview","url":"https://a.example/#x","domain":"a.example","props":"{\"a\":1}","revenue":"{\"amount\":\"3\"}","w":390,"h":1,"i":false}"#;
    let params =
        r#"{"props":{"a":1},"value":"3","revenue":{"amount":"3"},"w":390,"h":1,"i":false}"#;
    let expected = format!("a.example page_view  https://a.example/  {params}");
    assert_eq!(events(body), [Ok(expected)]);
    let body = r#"{"n":"engagement","u":"https://a.example/","d":"a.example","e":1500,"sd":40}"#;
    let expected = r#"a.example event engagement https://a.example/  {"e":1500,"sd":40}"#;
    assert_eq!(events(body), [Ok(expected.to_owned())]);
}

#[test]
fn an_event_of_several_sites_is_one_of_each() {
    let body = r#"{"n":"pageview","u":"https://a.example/","d":"a.example, all.example,,"}"#;
    let event = |site: &str| Ok(format!("{site} page_view  https://a.example/  "));
    assert_eq!(events(body), [event("a.example"), event("all.example")]);
    let many = format!(r#"{{"n":"x","d":"{}"}}"#, "a,".repeat(1000));
    assert_eq!(events(&many).len(), SITES_MAX);
}

#[test]
fn what_is_no_event_is_refused() {
    for body in [
        "",
        "{",
        "[]",
        "17",
        r#"{"u":"https://a.example/"}"#,
        r#"{"n":""}"#,
        r#"{"n":1}"#,
    ] {
        assert_eq!(events(body), [Err(Reason::Json)], "{body}");
    }
}
