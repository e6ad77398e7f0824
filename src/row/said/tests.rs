#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::clock::UnixMicros;
use crate::hit::{ConsentSource, Field, Permit, UserKey, VisitorId};
use crate::row::event_key;

const PAGE: &str = "https://shop.example/thanks?order=4711";

fn order(params: &str) -> Hit<'static> {
    let mut hit = Hit::new(UnixMicros(1), Kind::Event, "shop");
    hit.event_name = "conversion".into();
    hit.event_id = "order-4711".into();
    hit.page_url = PAGE.into();
    hit.visitor = Some(VisitorId([7; 16]));
    hit.params = params.to_owned().into();
    hit
}

fn said(hit: &Hit<'_>) -> Said {
    Said::by(hit, &Keyer::of_tests())
}

/// Checks that a later hit is a retry of an earlier one, or that it is not.
#[track_caller]
fn check(earlier: &Hit<'_>, later: &Hit<'_>, is_retry: bool) {
    let is_cut = later.flags.has(Flags::TRUNCATED);
    let found = said(earlier).is_of_retry(said(later), is_cut);
    assert_eq!(found, is_retry, "{earlier:#?}\n{later:#?}");
}

/// Changes a field of a hit that has a value in each.
fn change(hit: &mut Hit<'_>, field: &str) {
    match field {
        "received_at" => hit.received_at = UnixMicros(5),
        "kind" => hit.kind = Kind::Click,
        "permit" => hit.permit = Permit::STORE,
        "consent_source" => hit.consent_source = ConsentSource::Gpc,
        "flags" => hit.flags = Flags::THIRD_PARTY,
        "visitor" => hit.visitor = Some(VisitorId([8; 16])),
        "client_ip" => hit.client_ip = Some([192, 0, 2, 1].into()),
        "hint_mobile" => hit.hints.mobile = hit.hints.mobile.map(|mobile| !mobile),
        "user_key" => hit.user_key = Some(UserKey([9; 16])),
        "older_user_keys" => hit.older_user_keys = vec![UserKey([9; 16])],
        "occurred_at" => hit.occurred_at = Some(UnixMicros(5)),
        "made_at" => hit.made_at = Some(UnixMicros(5)),
        "protocol" => hit.protocol = Hit::new(UnixMicros(1), Kind::Event, "").protocol,
        _ => unreachable!("{field} is a text"),
    }
}

#[test]
fn each_field_belongs_to_the_scope_or_to_what_is_said_unless_it_is_volatile() {
    let keyer = Keyer::of_tests();
    let sample = |changed: &'static str| {
        let text = |name: &'static str| match (name, name == changed) {
            ("params", false) => r#"{"value":1}"#.to_owned(),
            ("params", true) => r#"{"value":2}"#.to_owned(),
            ("page_url", _) => format!("https://shop.example/{}", name == changed),
            (_, is_changed) => format!("{name} {is_changed}"),
        };
        let mut hit = Hit::sample(text);
        (hit.kind, hit.flags) = (Kind::Event, Flags::default());
        hit
    };
    let plain = sample("");
    let event = |hit: &Hit<'_>| event_key(hit, hit.flags, &keyer).unwrap();
    for field in Field::ALL {
        let mut changed = sample(field.name);
        if changed == plain {
            change(&mut changed, field.name);
        }
        assert_ne!(changed, plain, "{}", field.name);
        let (one, other) = (event(&plain), event(&changed));
        let is_same = one.key == other.key && one.said.is_of_retry(other.said, false);
        assert_eq!(is_same, field.is_volatile, "{}", field.name);
    }
}

#[test]
fn what_a_retry_changes_is_not_compared() {
    let first = order(r#"{"value":899,"currency":"SEK","items":[{"id":1,"n":"a"}],"big":1e2}"#);
    for (name, params) in [
        ("the same", &*first.params),
        (
            "a pixel, with texts",
            r#"{"value":"899","currency":"SEK","items":"[{\\"id\\":1,\\"n\\":\\"a\\"}]","big":"1e2"}"#,
        ),
        (
            "another order",
            r#"{"big":100.0,"items":[{"n":"a","id":1}],"currency":"SEK","value":899}"#,
        ),
        (
            "escapes and cache busters",
            r#"{"_":"17","v\\u0061lue":899,"currency":"\\u0053EK","items":[{"id":1,"n":"a"}],"big":1e2,"ts":5,"retry":2}"#,
        ),
    ] {
        let mut later = order(&params.replace("\\\\", "\\"));
        check(&first, &later, true);
        later.received_at = UnixMicros(99);
        later.flags = Flags::FOREIGN_ORIGIN;
        later.referrer = "https://elsewhere.example/".into();
        later.user_agent = name.into();
        check(&first, &later, true);
    }
}

#[test]
fn other_content_is_no_retry() {
    let first = order(r#"{"value":"899","currency":"SEK","list":["a","b"],"nested":{"a":"b,c"}}"#);
    for params in [
        "",
        r#"{"value":"1","currency":"SEK","list":["a","b"],"nested":{"a":"b,c"}}"#,
        r#"{"value":"SEK","currency":"899","list":["a","b"],"nested":{"a":"b,c"}}"#,
        r#"{"value":"899","currency":"SEK","list":["b","a"],"nested":{"a":"b,c"}}"#,
        r#"{"value":"899","currency":"SEK","list":["a,b"],"nested":{"a":"b,c"}}"#,
        r#"{"value":"899","currency":"SEK","list":["a","b"],"nested":{"a":"b","c":""}}"#,
        r#"{"value":"899,currency:SEK","list":["a","b"],"nested":{"a":"b,c"}}"#,
        r#"{"value":"899","currency":"SEK","list":["a","b"],"nested":{"a":"b,c"},"more":1}"#,
        r#"{"value":"899","currency":"SEK","list":["a","b"],"nested":{"a":"b,c","_":"1"}}"#,
        r#"{"value":"899","currency":"#,
    ] {
        check(&first, &order(params), false);
        check(&order(params), &first, false);
    }
    for set in [
        (|hit| hit.category = "x".into()) as fn(&mut Hit<'static>),
        |hit| hit.campaign = "x".into(),
        |hit| hit.page_url = "https://shop.example/other".into(),
        |hit| hit.page_url = "https://other.example/thanks?order=4711".into(),
        |hit| hit.visitor = Some(VisitorId([8; 16])),
    ] {
        let mut other = first.clone();
        set(&mut other);
        check(&first, &other, false);
        check(&other, &first, false);
    }
    // A text moves from one field to another.
    let mut one = first.clone();
    one.campaign = "x".into();
    let mut other = first.clone();
    other.creative = "x".into();
    check(&one, &other, false);
}

#[test]
fn a_page_is_compared_without_scheme_and_fragment_and_where_both_name_one() {
    let at = |page: &'static str| {
        let mut hit = order("");
        hit.page_url = page.into();
        hit
    };
    for page in [
        PAGE,
        "http://shop.example/thanks?order=4711",
        "https://shop.example/thanks?order=4711#top",
        "https://shop.example/",
        "https://shop.example",
        "",
    ] {
        check(&at(PAGE), &at(page), true);
        check(&at(page), &at(PAGE), true);
    }
    check(&at(PAGE), &at("https://shop.example/thanks"), false);
}

#[test]
fn visitors_clicks_and_ids_are_compared_where_both_hits_have_them() {
    let by = |visitor: u8, flags, click: &'static str, uid: &'static str| {
        let mut hit = order("");
        hit.visitor = (visitor > 0).then_some(VisitorId([visitor; 16]));
        hit.flags = flags;
        (hit.click_id, hit.partner_uid) = (click.into(), uid.into());
        hit
    };
    let none = Flags::default();
    let known = by(1, none, "c", "u");
    for (later, is_retry) in [
        (by(1, none, "c", "u"), true),
        (by(2, none, "c", "u"), false),
        (by(2, Flags::NEW_VISITOR, "c", "u"), true),
        (by(0, none, "", ""), true),
        (by(1, none, "", "u"), true),
        (by(1, none, "d", "u"), false),
        (by(1, none, "c", "v"), false),
    ] {
        check(&known, &later, is_retry);
        check(&later, &known, is_retry);
    }
    let mut clicks = [by(1, none, "c", ""), by(1, none, "d", "")];
    clicks.iter_mut().for_each(|hit| hit.kind = Kind::Click);
    check(&clicks[0], &clicks[1], true);
}

#[test]
fn what_was_cut_for_a_pixel_is_a_retry_and_what_was_cut_first_is_not() {
    let whole = order(r#"{"value":899,"text":"long"}"#);
    let mut cut = order(r#"{"value":899}"#);
    cut.flags = Flags::TRUNCATED;
    check(&whole, &cut, true);
    check(&cut, &whole, false);
    let mut elsewhere = cut.clone();
    elsewhere.page_url = "https://shop.example/other".into();
    check(&whole, &elsewhere, false);
    elsewhere.page_url = "".into();
    check(&whole, &elsewhere, false);
}

#[test]
fn senders_of_each_kind_have_volatile_parameters_of_their_own() {
    let of = |kind, params: &str| {
        let mut hit = order(params);
        hit.kind = kind;
        hit
    };
    for (kind, name, is_retry) in [
        (Kind::Event, "rnd", true),
        (Kind::Event, "stm", true),
        (Kind::Impression, "ord", true),
        (Kind::Callback, "ord", false),
        (Kind::Callback, "signature", true),
        (Kind::Event, "signature", false),
        (Kind::Event, "value", false),
    ] {
        let params = |value| of(kind, &format!("{{\"{name}\":{value}}}"));
        check(&params(1), &params(2), is_retry);
    }
}

#[test]
fn what_is_said_comes_back_from_its_columns() {
    let mut hit = order(r#"{"value":1}"#);
    hit.click_id = "c".into();
    let said = said(&hit);
    assert!(said.ids == 0 && said.what != 0 && said.page != 0);
    assert!(said.visitor != 0 && said.click != 0);
    let (what, about) = said.to_columns();
    assert_eq!(Said::from_columns(what, about), said);
    assert_eq!(
        Said::from_columns(0, 0),
        Said::by(
            &Hit::new(UnixMicros(1), Kind::Event, "a"),
            &Keyer::of_tests()
        )
    );
}

#[test]
fn broken_and_deep_json_costs_no_more_than_its_length() {
    for params in [
        "[".repeat(200_000),
        "{\"a\":".repeat(50_000),
        format!("{{\"a\":{}{}}}", "[".repeat(126), "]".repeat(126)),
        "{\"a\":\"\\".to_owned(),
        "{\"a\":\"\\\"".to_owned(),
        "{\"a".to_owned(),
        "{\"a\":}".to_owned(),
        "{},".to_owned(),
        "{\"\u{e5}\":\"\\\u{e5}\"}".to_owned(),
    ] {
        let hit = order(&params);
        check(&hit, &hit, true);
    }
}
