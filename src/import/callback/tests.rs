#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::attribute::AttributeClass;
use crate::clock::UnixMicros;
use crate::import::RowKey;

const MANIFEST: &str = r#"
name = "net-household"
supplier = "an ad network"
legal_basis = "consent"
purpose = ["profile"]
key = { kind = "partner_uid", column = "uid", partner = "net" }
valid_until = "2027-01-01"
[column.hh_income]
attribute = "income_band"
values = { "1" = "low", "9" = "high" }
[column.home]
attribute = "housing_type"
[column.home_id]
attribute = "housing_id"
[column.age]
attribute = "age_band"
"#;

/// 2026-11-27.
const NOW: i64 = 1_795_737_600_000_000;

fn parse(text: &str, classes: &[AttributeClass]) -> Manifest {
    Manifest::parse(text, date(2026, 11, 27), classes).unwrap()
}

fn users() -> UserKeyring {
    UserKeyring::new(&[(1, vec![7; 32])])
}

fn of(known: PartnerManifest) -> CallbackManifests {
    CallbackManifests(HashMap::from([("net".to_owned(), known)]))
}

fn right() -> CallbackManifests {
    of(PartnerManifest::Right(Box::new(parse(MANIFEST, &[]))))
}

fn callback(params: &str) -> Hit<'static> {
    let mut hit = Hit::new(UnixMicros(NOW), Kind::Callback, "shop");
    hit.partner = "net".into();
    hit.partner_uid = "uid-12345".into();
    hit.permit = NEEDED;
    hit.flags = Flags::PROVED;
    hit.params = params.to_owned().into();
    hit
}

/// Takes what a callback says; returns its `params` and `attributes`, and whether it is rejected.
fn take(all: &CallbackManifests, mut hit: Hit<'static>) -> (String, String, bool) {
    let is_rejected = all.take(&mut hit, &users()).is_err();
    (
        hit.params.into_owned(),
        hit.attributes.into_owned(),
        is_rejected,
    )
}

#[test]
fn what_the_manifest_names_leaves_the_parameters_and_stands_checked_in_the_attributes() {
    let all = right();
    let high = r#"{"income_band":"high"}"#;
    let both = r#"{"housing_type":"flat","income_band":"high"}"#;
    for (params, rest, attributes) in [
        (r#"{"hh_income":"9","x":"y"}"#, r#"{"x":"y"}"#, high),
        (
            r#"{"a":1.50,"hh_income":9,"home":"flat"}"#,
            r#"{"a":1.50}"#,
            both,
        ),
        (r#"{"hh_incom\u0065":"9"}"#, "", high),
        (r#"{"hh_income":"","x":1}"#, r#"{"x":1}"#, ""),
        // No text and no number says nothing, and is not kept either.
        (
            r#"{"hh_income":["9"],"x":{"hh":1}}"#,
            r#"{"x":{"hh":1}}"#,
            "",
        ),
        (r#"{"home":null}"#, "", ""),
        (
            r#"{"q\"\u00e5":"\n\ud83d\ude00"}"#,
            r#"{"q\"\u00e5":"\n\ud83d\ude00"}"#,
            "",
        ),
        ("", "", ""),
        ("{}", "{}", ""),
        ("[]", "", ""),
    ] {
        let expected = (rest.to_owned(), attributes.to_owned(), false);
        assert_eq!(take(&all, callback(params)), expected, "{params}");
    }
    let (params, attributes, _) = take(&all, callback(r#"{"home_id":"1101","z":0}"#));
    assert_eq!(params, r#"{"z":0}"#);
    assert!(
        attributes.starts_with(r#"{"housing_id":""#) && !attributes.contains("1101"),
        "{attributes}"
    );
}

#[test]
fn values_that_are_wrong_or_of_a_child_are_rejected_and_nowhere() {
    for params in [
        r#"{"hh_income":"5","x":1}"#,
        r#"{"home_id":"11\n01","x":1}"#,
        r#"{"age":"under_18","home":"flat","x":1}"#,
        r#"{"home":"castle","hh_income":"9","x":1}"#,
    ] {
        let expected = (r#"{"x":1}"#.to_owned(), String::new(), true);
        assert_eq!(take(&right(), callback(params)), expected, "{params}");
    }
    let minors = parse(MANIFEST, &[AttributeClass::Minor]);
    let minors = of(PartnerManifest::Right(Box::new(minors)));
    let (_, attributes, _) = take(&minors, callback(r#"{"age":"under_18"}"#));
    assert_eq!(attributes, r#"{"age_band":"under_18"}"#);
}

#[test]
fn what_may_not_be_used_leaves_as_well() {
    let params = r#"{"hh_income":"9","x":1}"#;
    let mut without_permit = callback(params);
    without_permit.permit = Permit::STORE.with(Permit::MEASURE);
    let mut unsigned = callback(params);
    unsigned.flags = Flags::default();
    let mut of_nobody = callback(params);
    of_nobody.partner_uid = "".into();
    for hit in [without_permit, unsigned, of_nobody] {
        let expected = (r#"{"x":1}"#.to_owned(), String::new(), false);
        assert_eq!(take(&right(), hit.clone()), expected, "{hit:?}");
    }
    // Whose clock is right cannot be told here, so it is counted.
    let mut too_late = callback(params);
    too_late.received_at = UnixMicros(1_798_761_600_000_000);
    let expected = (r#"{"x":1}"#.to_owned(), String::new(), true);
    assert_eq!(take(&right(), too_late), expected);
    // What is no callback of the partner is not looked at.
    let mut other = callback(params);
    other.partner = "other".into();
    let mut event = callback(params);
    event.kind = Kind::Event;
    for hit in [other, event] {
        assert_eq!(
            take(&right(), hit),
            (params.to_owned(), String::new(), false)
        );
    }
}

#[test]
fn a_manifest_that_is_wrong_still_says_what_is_not_kept() {
    let text = MANIFEST.replace("housing_id", "credit_band");
    assert!(Manifest::parse(&text, date(2026, 11, 27), &[]).is_err());
    let params = r#"{"home_id":"low","hh_income":"9","x":1}"#;
    let is_left = |known, rest: &str| {
        let expected = (rest.to_owned(), String::new(), true);
        assert_eq!(take(&of(known), callback(params)), expected);
    };
    is_left(PartnerManifest::wrong(&text), r#"{"x":1}"#);
    is_left(PartnerManifest::wrong("name = "), "");
    is_left(PartnerManifest::wrong("name = \"x\""), "");
    is_left(PartnerManifest::Unreadable, "");
}

#[test]
fn the_loader_reads_of_the_attributes_what_its_manifest_names() {
    let manifest = parse(MANIFEST, &[]);
    assert_eq!(manifest.check_for_callbacks("net"), Ok(()));
    assert!(manifest.check_for_callbacks("other").is_err());
    let mut declared = DeclaredManifests::new(users());
    declared.add("net".to_owned(), 7, manifest);
    let mut hit = callback(r#"{"hh_income":"9","home":"flat"}"#);
    assert!(declared.read(&hit).is_none());
    right().take(&mut hit, &users()).unwrap();
    let (import, row) = declared.read(&hit).unwrap();
    assert!(matches!(row.key, RowKey::Subject(..)));
    let said: Vec<String> = row.values.into_iter().flatten().collect();
    assert_eq!(
        (import, said),
        (7, vec!["flat".to_owned(), "high".to_owned()])
    );
    for attributes in ["", "{}", "[]", r#"{"gender":"other"}"#, "{"] {
        let mut other = hit.clone();
        other.attributes = attributes.into();
        assert!(declared.read(&other).is_none(), "{attributes}");
    }
    let mut refused = hit.clone();
    refused.permit = Permit::STORE.with(Permit::MEASURE);
    assert!(declared.read(&refused).is_none());
    hit.partner_uid = "".into();
    assert!(declared.read(&hit).is_none());
}

#[test]
fn classes_that_are_off_are_off_for_callbacks_too() {
    let text = MANIFEST.replace("income_band", "credit_band");
    assert!(Manifest::parse(&text, date(2026, 11, 27), &[]).is_err());
    let text = MANIFEST
        .replace("partner_uid", "user")
        .replace(", partner = \"net\"", "");
    let error = parse(&text, &[]).check_for_callbacks("net").unwrap_err();
    assert!(error.starts_with("key.kind: user"), "{error}");
}

proptest! {
    #[test]
    fn whatever_a_callback_says_what_is_named_goes_and_the_rest_stays(
        members in proptest::collection::btree_map(
            prop_oneof![
                Just("hh_income".to_owned()),
                Just("home".to_owned()),
                Just("age".to_owned()),
                ".{0,6}",
            ],
            prop_oneof![
                any::<i32>().prop_map(serde_json::Value::from),
                ".{0,6}".prop_map(serde_json::Value::from),
                Just(serde_json::json!({"home": ["flat", null]})),
                Just(serde_json::Value::from("flat")),
                Just(serde_json::Value::Null),
            ],
            0..6,
        ),
    ) {
        let mut rest = members.clone();
        rest.retain(|name, _| !["hh_income", "home", "home_id", "age"].contains(&&**name));
        let (params, attributes, is_rejected) =
            take(&right(), callback(&serde_json::to_string(&members).unwrap()));
        let kept: BTreeMap<String, serde_json::Value> = match &*params {
            "" => BTreeMap::new(),
            params => serde_json::from_str(params).unwrap(),
        };
        prop_assert_eq!(kept, rest);
        prop_assert!(attributes.is_empty() || !is_rejected);
    }
}

#[test]
fn what_is_meant_for_a_named_parameter_leaves_in_whichever_form_it_is_sent() {
    for (params, rest) in [
        (r#"{"home[]":"flat","x":1}"#, r#"{"x":1}"#),
        (r#"{"HOME":"flat","Home[0]":"flat","x":1}"#, r#"{"x":1}"#),
        (r#"{" home ":"flat","home [a]":"flat"}"#, ""),
        // What only begins alike is another parameter.
        (
            r#"{"homes":1,"home.x":1,"x[home]":1}"#,
            r#"{"homes":1,"home.x":1,"x[home]":1}"#,
        ),
    ] {
        let expected = (rest.to_owned(), String::new(), false);
        assert_eq!(take(&right(), callback(params)), expected, "{params}");
        let wrong = of(PartnerManifest::wrong(MANIFEST));
        assert_eq!(take(&wrong, callback(params)).0, rest, "{params}");
    }
}
