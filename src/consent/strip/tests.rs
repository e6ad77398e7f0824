#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::hit::VisitorId;

mod hidden;

/// What must be in no byte of a hit.
const SECRET: &str = "s3cr3t";

fn measured() -> Hit<'static> {
    let mut hit = Hit::new(UnixMicros(1), Kind::Event, "shop");
    hit.permit = Permit::MEASURE;
    hit
}

fn params_left(permit: Permit, params: &str) -> String {
    let mut hit = measured();
    hit.permit = permit;
    hit.params = params.to_owned().into();
    strip(&mut hit);
    hit.params.into_owned()
}

/// What is left without `store` of parameters.
fn json_left(params: &Value) -> Value {
    match &*params_left(Permit::MEASURE, &params.to_string()) {
        "" => json!({}),
        text => serde_json::from_str(text).unwrap(),
    }
}

/// The same of a hit that a tracker sent.
fn tracked(permit: Permit, keep: &[&str], params: &Value) -> Value {
    let keep: Vec<String> = keep.iter().map(|name| fold_name(name)).collect();
    let mut bytes = Vec::new();
    let sent = measured();
    sent.encode(&mut bytes);
    // Field 41 is the protocol: Segment's.
    bytes.extend([0xc8, 0x02, 2]);
    let mut hit = Hit::decode(&bytes).unwrap();
    hit.permit = permit;
    hit.params = params.to_string().into();
    let personal = Personal {
        keep_traits: &keep,
        ..Personal::default()
    };
    strip_personal(&mut hit, &personal);
    match &*hit.params {
        "" => json!({}),
        text => serde_json::from_str(text).unwrap(),
    }
}

fn url_left(url: &str) -> String {
    let mut hit = measured();
    hit.page_url = url.to_owned().into();
    strip(&mut hit);
    hit.page_url.into_owned()
}

#[test]
fn without_store_ids_and_what_identifies_leave_parameters_at_any_depth() {
    for (before, after) in [
        (json!({"value": 1, "user_id": "s"}), json!({"value": 1})),
        (
            json!({"a": {"USER-ID": 7, "b": [1, {"clientId": "x"}]}}),
            json!({"a": {"b": [1, {}]}}),
        ),
        (
            json!({"previousSessionId": "x", "sessionIndex": 3}),
            json!({"sessionIndex": 3}),
        ),
        (
            json!({"domain_userid": "x", "network_userid": "y", "fp": "z"}),
            json!({}),
        ),
        (json!({"traits": {"plan": "gold"}, "x": 1}), json!({"x": 1})),
        (
            json!({"context": {"traits": {"name": "A"}, "locale": "sv"}}),
            json!({"context": {"locale": "sv"}}),
        ),
        (
            json!({"user": {"name": "A", "id": 3, "plan": "x"}}),
            json!({"user": {"plan": "x"}}),
        ),
        (
            json!({"user": "anna", "customer": 17, "session": "x", "login": "a"}),
            json!({}),
        ),
        (
            json!({"device": {"id": "d", "model": "iPhone"}}),
            json!({"device": {"model": "iPhone"}}),
        ),
        (
            json!({"products": [{"name": "Phone", "id": 3, "price": 9.5}]}),
            json!({"products": [{"name": "Phone", "id": 3, "price": 9.5}]}),
        ),
        (
            json!({"address": {"street": "S 1", "city": "Solna"}}),
            json!({"address": {"city": "Solna"}}),
        ),
        (
            json!({"billing": {"first": "A", "total": 3}}),
            json!({"billing": {"total": 3}}),
        ),
        (
            json!({"note": "ask anna.x+y@telenor.se today", "n": 1}),
            json!({"n": 1}),
        ),
        (
            json!({"list": ["a", "anna@telenor.se", "b"]}),
            json!({"list": ["a", null, "b"]}),
        ),
        (
            json!({"e": "anna%40telenor.se", "f": "anna%2540telenor.se"}),
            json!({}),
        ),
        (
            json!({"inner": "{\"email\":\"x\",\"n\":1}"}),
            json!({"inner": "{\"n\":1}"}),
        ),
        (json!({"inner": "%7B%22email%22%3A%22x%22%7D"}), json!({})),
        (
            json!({"link": "https://a.example/?gclid=X&n=1#_ga=2"}),
            json!({"link": "https://a.example/?n=1"}),
        ),
        (
            json!({"cvar": {"1": ["user_id", "77"], "2": ["Plan", "gold"]}}),
            json!({"cvar": {"1": ["user_id", null], "2": ["Plan", "gold"]}}),
        ),
        (
            json!({"fields": [{"name": "Email", "value": "x"}]}),
            json!({"fields": [{"name": "Email"}]}),
        ),
        (
            json!({"user[email]": "x", "user.name": "A", "a.device.id": "d", "cd[em]": "x"}),
            json!({}),
        ),
        (json!({"anna@telenor.se": 1}), json!({})),
    ] {
        assert_eq!(json_left(&before), after, "{before}");
    }
}

#[test]
fn without_store_entities_lose_ids_and_those_about_a_person_or_a_place_leave() {
    let (before, after) = (
        json!({"co": [
            {"schema": "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
             "data": {"userId": "u", "sessionId": "s", "previousSessionId": "p", "sessionIndex": 2,
                      "firstEventId": "e", "firstEventTimestamp": "2026-11-26T17:38:10.475Z"}},
            {"schema": "iglu:com.snowplowanalytics.snowplow/browser_context/jsonschema/2-0-0",
             "data": {"tabId": "t", "online": true}},
            {"schema": "iglu:com.snowplowanalytics.snowplow/mobile_context/jsonschema/1-0-3",
             "data": {"appleIdfa": "i", "androidIdfa": "i", "appleIdfv": "v", "appSetId": "x", "carrier": "Telenor"}},
            {"data": {"name": "A", "level": 3}, "schema": "iglu:se.telenor/user_context/jsonschema/1-0-0"},
            {"schema": "iglu:com.snowplowanalytics.snowplow/geolocation_context/jsonschema/1-1-0",
             "data": {"latitude": 59.3}},
        ]}),
        json!({"co": [
            {"schema": "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
             "data": {"sessionIndex": 2}},
            {"schema": "iglu:com.snowplowanalytics.snowplow/browser_context/jsonschema/2-0-0",
             "data": {"online": true}},
            {"schema": "iglu:com.snowplowanalytics.snowplow/mobile_context/jsonschema/1-0-3",
             "data": {"carrier": "Telenor"}},
        ]}),
    );
    assert_eq!(json_left(&before), after);
}

#[test]
fn positions_need_the_permit_to_locate() {
    let params = json!({"latitude": 59.4, "lng": "18.06", "lat": "1", "context": {"location": {"city": "Solna"}},
        "location": "https://a.example/x", "coords": [59.4, 18.0]});
    let without = json!({"lat": "1", "context": {}, "location": "https://a.example/x"});
    let ours = params.to_string();
    let locating = Permit::MEASURE.with(Permit::LOCATE);
    assert_eq!(params_left(locating, &ours), ours);
    let left = params_left(Permit::MEASURE, &ours);
    assert_eq!(serde_json::from_str::<Value>(&left).unwrap(), without);
    let stored = Permit::MEASURE.with(Permit::STORE);
    assert_eq!(tracked(stored, &[], &params), without);
    assert_eq!(tracked(stored.with(Permit::LOCATE), &[], &params), params);
    assert_eq!(
        url_left("https://a.example/?lat=59.4&x=1"),
        "https://a.example/?x=1"
    );
}

#[test]
fn a_phone_number_is_one_by_its_value_where_its_name_may_mean_something_else() {
    for name in ["mobile", "cell", "sms", "fax", "Mobile"] {
        let params = json!({"traits": {name: "+46 70-123 45 67"}, "b": 1});
        assert_eq!(
            tracked(Permit::ALL, &[], &params),
            json!({"traits": {}, "b": 1})
        );
        assert_eq!(tracked(Permit::ALL, &[name], &params), params);
        for value in [json!(true), json!("android"), json!(2), json!("15.5")] {
            let params = json!({"traits": {"a": 1}, name: value});
            assert_eq!(tracked(Permit::ALL, &[], &params), params);
            let plain = json!({name: value});
            assert_eq!(json_left(&plain), plain);
        }
        assert_eq!(json_left(&json!({name: 46_701_234_567_u64})), json!({}));
        let url = format!("https://shop.example/?{name}=%2B46701234567&b=1");
        assert_eq!(url_left(&url), "https://shop.example/?b=1");
    }
    for name in ["whatsapp", "personnummer", "streetAddress1", "birthMonth"] {
        let params = json!({"traits": {name: "x", "plan": "pro"}});
        let left = json!({"traits": {"plan": "pro"}});
        assert_eq!(tracked(Permit::ALL, &[], &params), left, "{name}");
    }
    for name in [
        "remote_ip",
        "x_forwarded_for",
        "facebook_id",
        "user_fingerprint",
    ] {
        assert_eq!(json_left(&json!({name: "x"})), json!({}), "{name}");
    }
}

#[test]
fn traits_lose_what_identifies_directly_unless_it_is_listed() {
    let stored = Permit::ALL;
    let params = json!({
        "traits": {"email": "a@b.se", "Phone": "1", "first_name": "A", "name": "A B", "birthday": "x",
                   "address": {"street": "S 1", "city": "Solna"}, "plan": "gold", "login": "a@b.se", "id": "7",
                   "company": {"name": "Telenor"}},
        "context": {"traits": {"email": "a@b.se", "age": 3}, "app": {"name": "Shop"}},
        "co": [{"schema": "iglu:se.telenor/user/jsonschema/1-0-0", "data": {"email": "a@b.se", "level": 3}}],
        "email": "newsletter@telenor.se", "user_id": "7",
    });
    let left = json!({
        "traits": {"address": {"city": "Solna"}, "plan": "gold", "id": "7", "company": {"name": "Telenor"}},
        "context": {"traits": {"age": 3}, "app": {"name": "Shop"}},
        "co": [{"schema": "iglu:se.telenor/user/jsonschema/1-0-0", "data": {"level": 3}}],
        "email": "newsletter@telenor.se", "user_id": "7",
    });
    assert_eq!(tracked(stored, &[], &params), left);
    let kept = tracked(stored, &["E-Mail", "address"], &params);
    assert_eq!(kept["traits"]["email"], "a@b.se");
    assert_eq!(kept["traits"]["address"], params["traits"]["address"]);
    assert_eq!(kept["context"]["traits"]["email"], "a@b.se");
    assert_eq!(kept["traits"]["login"], Value::Null);
}

#[test]
fn without_store_ids_and_what_identifies_leave_addresses() {
    for (before, after) in [
        ("https://a.example/?_sp=1.2&n=1", "https://a.example/?n=1"),
        (
            "https://a.example/?pk_vid=1&_GA=2&_gl=3",
            "https://a.example/",
        ),
        (
            "https://a.example/?n=1;fbclid=x#a",
            "https://a.example/?n=1#a",
        ),
        (
            "https://a.example/?n=1&amp;msclkid=x",
            "https://a.example/?n=1",
        ),
        (
            "https://a.example/a;jsessionid=x?n=1",
            "https://a.example/a?n=1",
        ),
        ("https://anna:pw@a.example/b", "https://a.example/b"),
        (
            "https://a.example/u/anna%40b.se/x",
            "https://a.example/u//x",
        ),
        (
            "https://a.example/#/r?email=x&n=1",
            "https://a.example/#/r?n=1",
        ),
        ("https://a.example/#access_token=x", "https://a.example/"),
        (
            "https://a.example/?next=https%3A%2F%2Fb.example%2F%3Fgclid%3Dx&n=1",
            "https://a.example/?n=1",
        ),
        (
            "https://a.example/?gclid%253Dx&n=1&a%3D1",
            "https://a.example/?n=1&a%3D1",
        ),
        (
            "https://a.example/?a=1,gclid=x&b=1,c=2&d=1%2Cuser_id%3D2",
            "https://a.example/?b=1,c=2",
        ),
        (
            "https://a.example/?_gcl_au=1.1&_gcl_aw=2&android_id=3&kundnr=4&mobil=5",
            "https://a.example/?mobil=5",
        ),
        (
            "https://a.example/?q=anna%2540b.se&n=1",
            "https://a.example/?n=1",
        ),
        (
            "https://a.example/?j=%7B%22user%22%3A%7B%22id%22%3A1%7D%7D",
            "https://a.example/",
        ),
        (
            "https://a.example/@news/?a=b%20c&%zz&=&&x",
            "https://a.example/@news/?a=b%20c&%zz&=&&x",
        ),
        (
            "https://a.example/?first-name=A&phone=1&page=2",
            "https://a.example/?page=2",
        ),
        (
            "android-app://com.google.android.gm/",
            "android-app://com.google.android.gm/",
        ),
    ] {
        assert_eq!(url_left(before), after);
    }
}

#[test]
fn the_users_id_is_replaced_by_its_hash_wherever_it_stands() {
    let key = UserKey([0xab; 16]);
    let hash = key.to_string();
    let fill = |permit| {
        let mut hit = measured();
        hit.permit = permit;
        hit.event_name = "anna 7".into();
        hit.device_id = "anna 7".into();
        hit.params =
            r#"{"a":"anna 7","b":[{"anna 7":"anna 7 too"}],"j":"{\"x\":\"anna 7\"}"}"#.into();
        hit.page_url = "https://a.example/anna%207?x=anna+7&y=1".into();
        let personal = Personal {
            user: "anna 7",
            user_key: Some(key),
            ..Personal::default()
        };
        strip_personal(&mut hit, &personal);
        hit
    };
    let hit = fill(Permit::ALL);
    assert_eq!((&*hit.event_name, &*hit.device_id), (&*hash, &*hash));
    assert_eq!(
        hit.params,
        format!(r#"{{"a":"{hash}","b":[{{"{hash}":"anna 7 too"}}],"j":"{{\"x\":\"{hash}\"}}"}}"#)
    );
    assert_eq!(
        hit.page_url,
        format!("https://a.example/{hash}?x={hash}&y=1")
    );
    let hit = fill(Permit::MEASURE);
    assert_eq!((&*hit.event_name, &*hit.device_id), ("", ""));
    assert_eq!(hit.params, r#"{"b":[{}],"j":"{}"}"#);
    assert_eq!(hit.page_url, "https://a.example/?y=1");
}

#[test]
fn a_number_that_is_the_users_id_is_one_where_it_is_called_so() {
    let mut hit = measured();
    hit.permit = Permit::ALL;
    hit.params = r#"{"user_id":17,"quantity":17}"#.into();
    let personal = Personal {
        user: "17",
        ..Personal::default()
    };
    strip_personal(&mut hit, &personal);
    assert_eq!(hit.params, r#"{"quantity":17}"#);
}

#[test]
fn deep_and_broken_parameters_end_without_what_cannot_be_judged() {
    for params in [
        "{",
        "[1",
        r#"{"a":}"#,
        "{\"a\":\"\\",
        &"[".repeat(100_000),
        r#"{"a":1}x"#,
    ] {
        assert_eq!(params_left(Permit::MEASURE, params), "");
        assert_eq!(params_left(Permit::ALL, params), params);
    }
    let mut nested = json!({ "email": SECRET });
    for _ in 0..12 {
        nested = json!({ "a": nested.to_string() });
    }
    assert!(!params_left(Permit::MEASURE, &nested.to_string()).contains(SECRET));
}

#[test]
fn json_within_a_string_that_leaves_as_a_whole_leaves() {
    let position = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/geolocation_context/jsonschema/1-1-0",
        "data": { "note": SECRET },
    });
    let text = format!("{SECRET}@mail.example");
    for held in [
        position.to_string(),
        json!(position.to_string()).to_string(),
        json!(text).to_string(),
        json!(json!(text).to_string()).to_string(),
        json!([text]).to_string(),
    ] {
        let params = json!({ "a": held, "b": [held] }).to_string();
        let left = params_left(Permit::MEASURE, &params);
        assert!(!left.contains(SECRET), "{params}: {left}");
    }
}

/// Names that say nothing of their values.
const HARMLESS: [&str; 8] = [
    "a", "value", "Plan", "step_3", "x-y", "currency", "items", "naïve",
];
/// Names whose values may not stay without `store`.
const PERSONAL: [&str; 10] = [
    "email",
    "User_ID",
    "gclid",
    "_sp",
    "previous-session-id",
    "firstName",
    "PHONE",
    "appleIdfa",
    "street",
    "token",
];

/// A document, of which a member with a personal name holds the secret.
fn document(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let harmless = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-zå \"\\\\/:.,]{0,12}".prop_map(Value::from),
    ];
    harmless.prop_recursive(4, 40, 5, move |inner| {
        let name = proptest::sample::select(names);
        let member =
            (name, inner.clone()).prop_map(|(name, value)| match PERSONAL.contains(&name) {
                true => (name.to_owned(), json!({ "deep": [SECRET, value] })),
                false => (name.to_owned(), value),
            });
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(member, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
            inner.prop_map(|value| Value::from(value.to_string())),
        ]
    })
}

const ALL_NAMES: [&str; 18] = {
    let mut names = [""; 18];
    let mut at = 0;
    while at < 18 {
        names[at] = if at < 8 {
            HARMLESS[at]
        } else {
            PERSONAL[at - 8]
        };
        at += 1;
    }
    names
};

proptest! {
    #[test]
    fn no_secret_byte_of_a_nested_document_is_left(document in document(&ALL_NAMES)) {
        let params = json!({ "root": document }).to_string();
        let left = params_left(Permit::MEASURE, &params);
        prop_assert!(!left.contains(SECRET), "{}\n{}", params, left);
        prop_assert!(left.is_empty() || serde_json::from_str::<Value>(&left).is_ok(), "{}", left);
    }

    #[test]
    fn a_document_without_such_names_keeps_every_byte(document in document(&HARMLESS)) {
        let params = json!({ "root": document });
        for params in [params.to_string(), serde_json::to_string_pretty(&params).unwrap()] {
            prop_assert_eq!(params_left(Permit::MEASURE, &params), params);
        }
    }

    #[test]
    fn no_address_keeps_what_a_personal_name_holds(
        name in proptest::sample::select(&PERSONAL[..]),
        before in "[a-z0-9/&;=%.?#-]{0,20}",
        after in "[a-z0-9&;=%.-]{0,20}",
        encoded in 0..3_usize,
    ) {
        let mut pair = format!("{name}={SECRET}");
        for _ in 0..encoded {
            pair = percent_encoding::utf8_percent_encode(&pair, percent_encoding::NON_ALPHANUMERIC).to_string();
        }
        let pair = if encoded > 0 { format!("u={pair}") } else { pair };
        let left = url_left(&format!("https://a.example/?{before}&{pair}&{after}"));
        prop_assert!(!left.contains(SECRET), "{}", left);
    }

    #[test]
    fn an_address_for_mail_leaves_however_it_is_written(
        before in "[a-z ,:/]{0,9}",
        encoded in 0..3_usize,
        is_in_json in any::<bool>(),
    ) {
        let mut text = format!("{before} {SECRET}@mail.example");
        for _ in 0..encoded {
            text = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
        }
        if is_in_json {
            text = json!({ "x": [text] }).to_string();
        }
        let left = params_left(Permit::MEASURE, &json!({ "a": text, "b": 1 }).to_string());
        prop_assert!(!left.contains(SECRET), "{}", left);
        prop_assert!(left.contains("\"b\":1"));
    }
}

#[test]
fn a_sync_of_two_visitors_needs_link_and_one_with_a_partner_match() {
    let linked = VisitorId([2; 16]).to_string();
    for (partner, lacking, is_kept) in [
        ("", Permit::NONE, true),
        ("", Permit::MATCH, true),
        ("", Permit::LINK, false),
        ("", Permit::STORE, false),
        ("network", Permit::LINK, true),
        ("network", Permit::MATCH, false),
    ] {
        let mut hit = Hit {
            permit: Permit::ALL.without(lacking),
            partner: partner.into(),
            partner_uid: linked.as_str().into(),
            ..Hit::new(UnixMicros(1), Kind::Sync, "news")
        };
        strip(&mut hit);
        let expected = if is_kept { &*linked } else { "" };
        assert_eq!(hit.partner_uid, expected, "{partner} {lacking:?}");
    }
}
