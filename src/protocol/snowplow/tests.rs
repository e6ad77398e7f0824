//! Recorded requests -> drafts, and what stands in them that no recording has.

mod recorded;
mod webhook;

use base64::Engine as _;
use hyper::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::clock::UnixMicros;
use crate::endpoint::Endpoint;
use crate::hit::Flags;
use crate::protocol::{read, read_body};
use crate::request::Headers;

/// Some time after the recordings were made.
const NOW: UnixMicros = UnixMicros(1_795_750_000_000_000);

/// What became of one event, as far as tests look at it.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    kind: Option<Kind>,
    name: String,
    id: String,
    url: String,
    referrer: String,
    device: String,
    user: String,
    session: String,
    maid: String,
    hints: [String; 4],
    mobile: Option<bool>,
    occurred_at: Option<UnixMicros>,
    is_unclear: bool,
    tcf: Option<String>,
    flags: Flags,
    params: Value,
    claims: crate::protocol::Claims,
}

fn see(draft: Draft<'_>) -> Seen {
    let hit = &draft.hit;
    let hints = [
        &hit.hints.model,
        &hit.hints.platform,
        &hit.hints.platform_version,
        &hit.hints.brands,
    ];
    Seen {
        kind: Some(hit.kind),
        name: hit.event_name.to_string(),
        id: hit.event_id.to_string(),
        url: hit.page_url.to_string(),
        referrer: hit.referrer.to_string(),
        device: hit.device_id.to_string(),
        user: draft.user.to_string(),
        session: hit.session_id.to_string(),
        maid: hit.maid.to_string(),
        hints: hints.map(|hint| hint.to_string()),
        mobile: hit.hints.mobile,
        occurred_at: hit.occurred_at,
        is_unclear: draft.signals.is_unclear,
        tcf: draft.signals.tcf.as_deref().map(str::to_owned),
        flags: hit.flags,
        params: serde_json::from_str(&hit.params).unwrap_or(Value::Null),
        claims: *draft.claims.expect("a tracker's claims"),
    }
}

/// Sends a body to an address, or asks for the address if there is none.
fn send(query: &str, headers: &HeaderMap, body: Option<&[u8]>) -> Vec<Result<Seen, Reason>> {
    let headers = Headers::read(headers);
    let arrival = Arrival {
        endpoint: Endpoint::Snowplow,
        at: NOW,
        headers: &headers,
        path: "/i",
        query,
        choice_cookie: "avchoice".into(),
        meta_names: &[],
    };
    let Some(body) = body else {
        return vec![read(&arrival).map(see)];
    };
    match read_body(&arrival, body) {
        Ok(Drafts::One(draft)) => vec![Ok(see(draft))],
        Ok(Drafts::Each(events)) => events.iter().map(|draft| draft.map(see)).collect(),
        Err(reason) => vec![Err(reason)],
    }
}

/// Sends events in an envelope.
fn post(events: &[Value]) -> Vec<Result<Seen, Reason>> {
    let body = json!({"schema": "iglu:x/payload_data/jsonschema/1-0-4", "data": events});
    let body = body.to_string();
    send("", &HeaderMap::new(), Some(body.as_bytes()))
}

fn post_one(event: Value) -> Seen {
    let mut seen = post(&[event]);
    assert_eq!(seen.len(), 1);
    seen.remove(0).expect("an event")
}

fn context(name: &str, data: Value) -> Value {
    json!({"schema": format!("iglu:{name}/jsonschema/1-0-0"), "data": data})
}

/// An event with contexts in plain text.
fn with_contexts(contexts: &[Value]) -> Value {
    let list = json!({"schema": "iglu:x/contexts/jsonschema/1-0-0", "data": contexts});
    json!({"e": "pv", "co": list.to_string()})
}

#[test]
fn each_type_of_event_has_its_kind_and_name() {
    let happened = json!({"schema": "iglu:x/unstruct_event/jsonschema/1-0-0",
        "data": {"schema": "iglu:com.acme/checkout_done/jsonschema/1-0-0", "data": {"a": 1}}});
    for (e, kind, name) in [
        ("pv", Kind::PageView, ""),
        ("pp", Kind::Event, "page_ping"),
        ("se", Kind::Event, "event"),
        ("ev", Kind::Event, "event"),
        ("tr", Kind::Event, "transaction"),
        ("ti", Kind::Event, "transaction_item"),
        ("ad", Kind::Event, "ad_impression"),
        ("ue", Kind::Event, "checkout_done"),
    ] {
        let seen = post_one(json!({"e": e, "ue_pr": happened.to_string()}));
        assert_eq!((seen.kind, &*seen.name), (Some(kind), name), "{e}");
        assert_eq!(seen.params["ue"], happened["data"], "{e}");
        assert_eq!(seen.params["e"], e);
    }
    for broken in [
        json!({}),
        json!({"e": "xx"}),
        json!({"e": ""}),
        json!({"e": null}),
        json!({"e": ["pv"]}),
        // It says that something happened, and not what.
        json!({"e": "ue"}),
        json!("pv"),
        json!(7),
    ] {
        let seen = post(&[broken.clone(), json!({"e": "pv"})]);
        assert_eq!(seen[0], Err(Reason::Json), "{broken}");
        assert!(seen[1].is_ok() && seen.len() == 2, "{broken}");
    }
}

#[test]
fn documents_are_the_same_however_they_are_written() {
    let happened = r#"{"schema":"iglu:x/unstruct_event/jsonschema/1-0-0","data":{"schema":"iglu:com.acme/a/jsonschema/1-0-0","data":{"text":"Räksmörgås >?ÿ~~~","number":1e2,"list":[1.50,null]}}}"#;
    let contexts = r#"{"schema":"iglu:x/contexts/jsonschema/1-0-1","data":[{"schema":"iglu:com.acme/b/jsonschema/1-0-0","data":{"x":"ÿÿÿ?"}}]}"#;
    let standard = |text| base64::engine::general_purpose::STANDARD.encode(text);
    let url = |text| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    use base64::Engine as _;
    let padded = |text| base64::engine::general_purpose::URL_SAFE.encode(text);
    let spaced = standard(contexts).replace('+', " ");
    let lines = format!(
        "{}\r\n{}",
        &standard(happened)[..64],
        &standard(happened)[64..]
    );
    let expected_ue: Value = serde_json::from_str::<Value>(happened).expect("JSON")["data"].clone();
    let expected_co: Value = serde_json::from_str::<Value>(contexts).expect("JSON")["data"].clone();
    for (ue, happened, co, contexts) in [
        ("ue_pr", happened.to_owned(), "co", contexts.to_owned()),
        ("ue_px", url(happened), "cx", url(contexts)),
        ("ue_px", padded(happened), "cx", padded(contexts)),
        ("ue_px", standard(happened), "cx", standard(contexts)),
        ("ue_px", lines, "cx", spaced),
    ] {
        let seen = post_one(json!({"e": "ue", ue: happened, co: contexts}));
        assert_eq!(seen.params["ue"]["data"]["text"], "Räksmörgås >?ÿ~~~");
        assert_eq!(seen.params["ue"]["schema"], expected_ue["schema"]);
        assert_eq!(seen.params["co"], expected_co);
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        let query = format!("e=ue&{ue}={}&{co}={}", encode(&happened), encode(&contexts));
        let asked = send(&query, &HeaderMap::new(), None)
            .remove(0)
            .expect("an event");
        assert_eq!(asked, seen);
    }
    let whole = json!({"e": "ue", "ue_pr": serde_json::from_str::<Value>(happened).expect("JSON")});
    assert_eq!(post_one(whole).name, "a");
}

#[test]
fn an_event_whose_document_cannot_be_read_is_refused_alone() {
    let good = json!({"schema": "s", "data": {"schema": "iglu:a/b/jsonschema/1-0-0", "data": {}}});
    let good = good.to_string();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &good);
    for (name, value) in [
        ("ue_px", "%%%".to_owned()),
        ("ue_px", encoded[1..].to_owned()),
        ("ue_px", "/////w==".to_owned()),
        ("ue_px", good.clone()),
        ("ue_pr", encoded.clone()),
        ("ue_pr", good[1..].to_owned()),
        ("ue_pr", good[..good.len() - 1].to_owned()),
        ("ue_pr", "{}".to_owned()),
        ("ue_pr", "[]".to_owned()),
        ("ue_pr", good.replace("iglu:", "http:")),
        ("co", good.clone()),
        ("co", "[{}]".to_owned()),
        (
            "co",
            r#"{"data":[{"schema":"iglu:a/b/c/1-0-0"}]}"#.to_owned(),
        ),
        ("cx", "e30".to_owned()),
    ] {
        let broken = json!({"e": "se", name: value});
        let seen = post(&[json!({"e": "pv"}), broken, json!({"e": "pp"})]);
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[1], Err(Reason::Json), "{name} {value}");
        assert!(seen[0].is_ok() && seen[2].is_ok());
        let query = format!("e=se&{name}={}", value.replace('%', "%25"));
        let asked = send(&query, &HeaderMap::new(), None);
        assert_eq!(asked, [Err(Reason::Json)], "{name} {value}");
    }
}

#[test]
fn the_member_that_is_to_blame_is_named_as_the_tracker_names_it() {
    let events = Events {
        address: Vec::new(),
        is_anonymous: false,
    };
    for (event, blamed) in [
        (r#"{"e":"ue","ue_px":"%"}"#, "ue_px"),
        (r#"{"e":"ue","ue_px":"e30"}"#, "ue_px"),
        (r#"{"e":"ue","ue_pr":"{"}"#, "ue_pr"),
        (r#"{"e":"ue"}"#, "ue_pr"),
        (r#"{"e":"pv","cx":"%"}"#, "cx"),
        (r#"{"e":"pv","co":"{}"}"#, "co"),
        (r#"{"e":"zz"}"#, "e"),
        ("{}", "e"),
        ("[]", ""),
        (r#"{"e":"pv"}"#, ""),
    ] {
        assert_eq!(events.blame(event), blamed, "{event}");
    }
}

#[test]
fn contexts_fill_what_has_a_place_of_its_own() {
    let mobile = context(
        "com.snowplowanalytics.snowplow/mobile_context",
        json!({"osType": "ios", "osVersion": "17.5.1", "deviceModel": "iPhone15,2",
            "deviceManufacturer": "Apple Inc.", "appleIdfv": "vendor-1",
            "appleIdfa": "EA7583CD-A667-48BC-B806-42ECB2B48606", "androidIdfa": ""}),
    );
    let session = context(
        "com.snowplowanalytics.snowplow/client_session",
        json!({"userId": "device-1", "sessionId": "session-1", "sessionIndex": 3}),
    );
    let page = context(
        "com.snowplowanalytics.snowplow/web_page",
        json!({"id": "page-1"}),
    );
    let hints = context(
        "org.ietf/http_client_hints",
        json!({"isMobile": true, "brands": [{"brand": "Chromium", "version": "130"}],
            "model": "Pixel 9", "platform": "Android", "platformVersion": "15"}),
    );
    let seen = post_one(with_contexts(&[mobile.clone(), page, session.clone()]));
    assert_eq!(seen.maid, "ea7583cd-a667-48bc-b806-42ecb2b48606");
    assert_eq!(seen.hints, ["iPhone15,2", "iOS", "17.5.1", ""]);
    assert_eq!((&*seen.device, &*seen.session), ("device-1", "session-1"));
    assert_eq!(seen.params["page_view_id"], "page-1");
    assert_eq!(seen.params["co"][0], mobile);
    assert_eq!(post_one(with_contexts(&[mobile])).device, "vendor-1");
    let seen = post_one(with_contexts(&[hints]));
    assert_eq!(
        seen.hints,
        ["Pixel 9", "Android", "15", "\"Chromium\";v=\"130\""]
    );
    assert_eq!(seen.mobile, Some(true));
    // What the event says itself counts first, and a nil ID is none.
    let mut event = with_contexts(&[session]);
    event["duid"] = json!("own-1");
    event["sid"] = json!("own-2");
    let seen = post_one(event);
    assert_eq!((&*seen.device, &*seen.session), ("own-1", "own-2"));
    let nil = context(
        "com.snowplowanalytics.snowplow/client_session",
        json!({"userId": "00000000-0000-0000-0000-000000000000", "sessionId": null}),
    );
    let seen = post_one(with_contexts(&[nil]));
    assert_eq!((&*seen.device, &*seen.session), ("", ""));
    // Somebody else's schema of the same name says nothing of ours.
    let other = context("com.acme/client_session", json!({"userId": "a"}));
    assert_eq!(post_one(with_contexts(&[other])).device, "");
}

#[test]
fn documents_about_consent_permit_nothing_and_make_nothing_unclear() {
    let preferences = json!({"basisForProcessing": "consent", "gdprApplies": true,
        "consentScopes": ["analytics"], "eventType": "allow_all"});
    let known = "com.snowplowanalytics.snowplow/consent_preferences";
    let seen = post_one(with_contexts(&[context(known, preferences.clone())]));
    assert!(!seen.is_unclear);
    assert_eq!(seen.params["co"][0]["data"], preferences);
    let happened = json!({"schema": "s", "data": context(known, preferences.clone())});
    let seen = post_one(json!({"e": "ue", "ue_pr": happened.to_string()}));
    assert_eq!(
        (&*seen.name, seen.is_unclear),
        ("consent_preferences", false)
    );
    // What others say of consent is not understood, also beside what is.
    for other in ["com.acme/consent_preferences", "com.acme/x"] {
        for contexts in [
            vec![context(other, preferences.clone())],
            vec![
                context(known, preferences.clone()),
                context(other, preferences.clone()),
            ],
            vec![
                context(other, preferences.clone()),
                context(known, preferences.clone()),
            ],
        ] {
            assert!(post_one(with_contexts(&contexts)).is_unclear, "{other}");
        }
    }
    // Nor what stands beside a document's schema and data, of which nothing is kept.
    let beside = |mut document: Value, member: &Value| {
        document["more"] = member.clone();
        document
    };
    let list = |list: &[Value], member: &Value| {
        let wrapped = json!({"schema": "s", "data": list});
        json!({"e": "pv", "co": beside(wrapped, member).to_string()})
    };
    let happened = |outer: &Value, inner: &Value| {
        let document = beside(context("com.acme/x", json!({})), inner);
        let wrapped = json!({"schema": "s", "data": document});
        json!({"e": "ue", "ue_pr": beside(wrapped, outer).to_string()})
    };
    let context = context("com.acme/x", json!({"a": 1}));
    for (said, is_unclear) in [(json!({"gdpr": 1}), true), (json!({"page": 1}), false)] {
        let nothing = json!(null);
        for event in [
            list(std::slice::from_ref(&context), &said),
            list(&[beside(context.clone(), &said), context.clone()], &nothing),
            happened(&said, &nothing),
            happened(&nothing, &said),
        ] {
            let seen = post_one(event.clone());
            assert_eq!(seen.is_unclear, is_unclear, "{event}");
            assert!(!seen.params.to_string().contains("more"), "{event}");
        }
    }
    // Nor what a text holds, or a path of names.
    for (said, is_unclear) in [
        (json!("gdpr=1"), true),
        (json!("x;us_privacy=1YYN"), true),
        (json!("{\"gpc\":1}"), true),
        (json!({"regs.us_privacy": "1YYN"}), true),
        (json!("https://shop.example/?gdpr=1"), false),
        (json!("colour: red; size=4"), false),
    ] {
        let event = json!({"e": "se", "se_ca": "a", "se_ac": "b", "se_la": said});
        let of_context =
            with_contexts(&[json!({"schema": context["schema"], "data": {"x": said}})]);
        for event in [event, of_context] {
            assert_eq!(post_one(event.clone()).is_unclear, is_unclear, "{event}");
        }
    }
    // A page that has our signals may add them to each event.
    let seen = post_one(json!({"e": "pv", "gdpr": 1, "gdpr_consent": "CP"}));
    assert_eq!((seen.tcf.as_deref(), seen.is_unclear), (Some("CP"), false));
    assert_eq!(seen.params, json!({"e": "pv"}));
}

#[test]
fn the_address_outweighs_the_members_of_each_event() {
    let body = br#"{"data":[{"e":"pv","aid":"a","eid":"1","x":"event"},{"e":"pp","eid":"2"}]}"#;
    let headers = HeaderMap::new();
    let seen = send("aid=b&x=address&duid=d%2B1", &headers, Some(body));
    for (seen, id) in seen.iter().zip(["1", "2"]) {
        let seen = seen.as_ref().expect("an event");
        assert_eq!(seen.claims.site_alias, "b");
        assert_eq!((&*seen.id, &*seen.device), (id, "d+1"));
        assert_eq!(
            (&seen.params["x"], &seen.params["aid"]),
            (&json!("address"), &json!("b"))
        );
    }
    assert_eq!(seen.len(), 2);
    // An event may come in the address alone, without an envelope, or in a bare list.
    for (query, body) in [
        ("e=pv&eid=1", ""),
        ("", r#"{"e":"pv","eid":"1"}"#),
        ("", r#"[{"e":"pv","eid":1}]"#),
        ("e=pv", r#"{"schema":"s","data":[{"eid":"1"}]}"#),
    ] {
        let seen = send(query, &headers, Some(body.as_bytes()));
        assert_eq!(seen[0].as_ref().expect(body).id, "1");
        assert_eq!(seen.len(), 1, "{body}");
    }
    let many = "a=1&".repeat(PARAMETERS_READ_MAX + 1);
    assert_eq!(send(&many, &headers, Some(body)), [Err(Reason::UriTooLong)]);
}

#[test]
fn what_is_outweighed_may_hide_a_signal_all_the_same() {
    let headers = HeaderMap::new();
    let document = |name: &str, data: Value| {
        let uri = format!("iglu:com.snowplowanalytics.snowplow/{name}/jsonschema/1-0-0");
        let inner = json!({"schema": uri, "data": data});
        [
            json!({"schema": "iglu:x/contexts/jsonschema/1-0-0", "data": [inner]}).to_string(),
            json!({"schema": "iglu:x/unstruct_event/jsonschema/1-0-0", "data": inner}).to_string(),
        ]
    };
    let [contexts, happened] = document("x", json!({"a": {"gpc": 1}}));
    let [harmless, what] = document("x", json!({"a": 1}));
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    for (query, event) in [
        ("gpc=0", json!({"gpc": "1"})),
        ("gpc=", json!({"gpc": true})),
        ("us_privacy=1---", json!({"us_privacy": "1YYN"})),
        ("co=", json!({"co": contexts})),
        ("cx=", json!({"cx": encoded(&contexts)})),
        ("ue_pr=", json!({"ue_pr": happened})),
        ("", json!({"ue_pr": what, "ue_px": encoded(&happened)})),
    ] {
        let mut event = event;
        (event["e"], event["eid"]) = ("pv".into(), "1".into());
        let body = json!({"data": [event]}).to_string();
        let seen = send(query, &headers, Some(body.as_bytes())).remove(0);
        assert!(seen.expect("an event").is_unclear, "{query} {body}");
    }
    let [refusal, withdrawn] = document("consent_withdrawn", json!({"all": "TRUE"}));
    for (query, event) in [
        ("co=", json!({"co": refusal})),
        ("", json!({"ue_pr": what, "ue_px": encoded(&withdrawn)})),
    ] {
        let mut event = event;
        event["e"] = "pv".into();
        let body = json!({"data": [event]}).to_string();
        let seen = send(query, &headers, Some(body.as_bytes())).remove(0);
        assert!(seen.expect("an event").claims.refuses, "{query} {body}");
    }
    let body = json!({"data": [{"e": "pv", "co": harmless, "x": "1"}]}).to_string();
    let seen = send("x=2&co=", &headers, Some(body.as_bytes())).remove(0);
    assert!(!seen.expect("an event").is_unclear);
}

#[test]
fn an_address_that_is_long_leaves_room_for_few_short_events() {
    let events = |count: usize, event: &str| format!("[{}]", vec![event; count].join(","));
    let address = format!("e=pv&x={}", "y".repeat(16 * 1024));
    let taken = |body: String| {
        let seen = send(&address, &HeaderMap::new(), Some(body.as_bytes()));
        seen.iter().filter(|seen| seen.is_ok()).count()
    };
    assert!(taken(events(1000, "{}")) < 70);
    let long = format!(r#"{{"page":"{}"}}"#, "y".repeat(2100));
    assert_eq!(taken(events(500, &long)), 500);
}

#[test]
fn numbers_and_truth_values_stand_for_texts() {
    let seen = post_one(
        json!({"e": "tr", "eid": 7, "aid": 12, "uid": 42, "dtm": 1_795_714_430_000_i64,
        "tr_id": 1001, "tr_tt": 19.90, "tr_cu": "EUR", "cookie": true, "vid": 3, "page": null}),
    );
    assert_eq!(
        (&*seen.id, &*seen.user, &*seen.claims.site_alias),
        ("7", "42", "12")
    );
    assert_eq!(seen.occurred_at, Some(UnixMicros(1_795_714_430_000_000)));
    assert_eq!(
        seen.params,
        json!({"e": "tr", "aid": 12, "dtm": 1_795_714_430_000_i64, "tr_id": 1001, "tr_tt": 19.9,
            "tr_cu": "EUR", "cookie": true, "vid": 3, "order_id": 1001, "value": 19.9, "currency": "EUR"})
    );
}

#[test]
fn an_event_with_more_members_than_are_kept_keeps_its_documents() {
    let mut event = with_contexts(&[context("com.acme/a", json!({"b": 1}))]);
    for number in 0..200 {
        event[format!("a{number}")] = json!("x");
    }
    let seen = post_one(event);
    assert_eq!(seen.params["co"][0]["data"], json!({"b": 1}));
    assert!(seen.flags.has(Flags::TRUNCATED));
}

#[test]
fn addresses_lose_their_fragment() {
    let seen = post_one(
        json!({"e": "pv", "url": "https://x.example/a?b=1#token=secret",
        "refr": "https://y.example/\u{e5}#\"x"}),
    );
    assert_eq!(seen.url, "https://x.example/a?b=1");
    assert_eq!(seen.referrer, "https://y.example/å");
}

#[test]
fn times_are_corrected_by_the_senders_clock() {
    let day = 86_400_000_i64;
    let now = NOW.0 / 1000;
    for (event, ago) in [
        (json!({"dtm": now - 3 * day, "stm": now}), 3 * day),
        // Its clock is a year slow.
        (
            json!({"dtm": (now - 368 * day).to_string(), "stm": (now - 365 * day).to_string()}),
            3 * day,
        ),
        (
            json!({"ttm": now - 2 * day, "dtm": now - 368 * day, "stm": now - 365 * day}),
            2 * day,
        ),
        (
            json!({"dtm": now - 5 * day, "ttm": now - 2 * day, "stm": now}),
            2 * day,
        ),
    ] {
        let mut event = event;
        event["e"] = json!("pv");
        let seen = post_one(event.clone());
        let occurred_at = seen.occurred_at.expect("a time").0 / 1000;
        assert_eq!(now - occurred_at, ago, "{event}");
        assert!(!seen.flags.has(Flags::CLOCK), "{event}");
    }
    assert!(
        post_one(json!({"e": "pv", "ttm": now - 60 * day}))
            .flags
            .has(Flags::CLOCK)
    );
    for no_time in [
        "",
        "soon",
        "99999999999999999999",
        "NaN",
        "9223372036854775807",
    ] {
        assert_eq!(
            post_one(json!({"e": "pv", "dtm": no_time})).occurred_at,
            None,
            "{no_time}"
        );
    }
}

#[test]
fn what_servers_claim_is_not_kept_as_it_is() {
    let seen = post_one(
        json!({"e": "pv", "tv": "py-1.1.0", "ip": "198.51.100.7", "ua": "Agent/1",
        "nuid": "n-1", "tnuid": "n-2", "fp": "123", "mac": "00:11"}),
    );
    assert_eq!(seen.claims.client_ip, "198.51.100.7".parse().ok());
    assert_eq!(seen.claims.user_agent, "Agent/1");
    assert_eq!(seen.params, json!({"e": "pv", "tv": "py-1.1.0"}));
    for (version, keeps) in [
        ("js-3.24.6", true),
        ("js-4.10.1", true),
        ("no-js-0.1.0", true),
        ("andr-6.3.2", true),
        ("ios-6.2.5", false),
        ("node-4.8.0", false),
        ("py-1.1.0", false),
        ("golang-3.0.0", false),
        ("", false),
    ] {
        let seen = post_one(json!({"e": "pv", "tv": version}));
        assert_eq!(seen.claims.keeps_cookies, keeps, "{version}");
    }
}
