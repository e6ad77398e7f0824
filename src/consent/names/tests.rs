use proptest::prelude::*;

use super::values::is_consent_string;
use super::*;

#[test]
fn a_name_has_its_meaning_however_it_is_spelled() {
    for (known, known_meaning) in NAMES {
        let (first, rest) = known.split_at(1);
        for name in [
            known.to_owned(),
            known.to_uppercase(),
            format!("{}{rest}", first.to_uppercase()),
            format!(" {known}\u{a0}"),
            format!("{first}\u{200b}{rest}"),
            format!("\u{feff}{first}-{rest}"),
            format!("{first}.{rest}_"),
            format!("{known}[]"),
            format!("{known}[0]"),
            format!("{known}:1"),
            format!("\"{known}\""),
            format!("amp;{known}"),
            format!("amp{known}"),
            format!("#38;{known}"),
            format!("x=1&{known}=2"),
            format!("%25{:x}{rest}", first.as_bytes()[0]),
        ] {
            assert_eq!(meaning(&name), Some(known_meaning), "{name:?}");
        }
    }
    for name in [
        "GdprApplies",
        "regs.gdpr",
        "gdpr_consent_755",
        "gdrp",
        "gppString",
    ] {
        assert_eq!(meaning(name), Some(Meaning::Signal), "{name}");
    }
    assert_eq!(meaning("ｇｄｐｒ＝１"), Some(Meaning::Signal));
    for name in ["parnter", "patner", "parttner"] {
        assert_eq!(meaning(name), Some(Meaning::Partner), "{name}");
    }
}

#[test]
fn a_word_under_the_name_of_a_consent_string_counts_where_it_refuses_or_is_empty() {
    for value in [
        "denied",
        "0",
        "False",
        "\"no\"",
        " none ",
        "?0",
        "revoked",
        "G100",
        "G110",
        "g1-0",
        "disallow",
        "Necessary",
        "",
        " ",
        "\"\"",
    ] {
        assert!(is_of_consent(value), "{value}");
    }
    for value in [
        "opt-out",
        "\"G100\"",
        "\"13q3q3q3q5l1\"",
        "Reject_All",
        "strictly necessary",
        "nej",
        "13q3q3q3q5l1",
        "{\"analytics\":\"denied\"}",
        "{\"a\":{\"b\":[false]}}",
        "{\"a\":\"{\\\"b\\\":\\\"denied\\\"}\"}",
        "[\"CPzHq4APzHq4ABEACBENAuCMAP_AAH_AAAAA\"]",
    ] {
        assert!(is_of_consent(value), "{value}");
    }
    for value in [
        "13t3t3t3t5l1",
        "{\"analytics\":true}",
        "[]",
        "{\"v\":\"\"}",
        "[1",
    ] {
        assert!(!is_of_consent(value), "{value}");
    }
    for value in [
        "LDU",
        "[1]",
        "{\"enabled\":true}",
        "[\"1YYN\"]",
        "1---,1YYN",
        "\"1\"",
    ] {
        assert!(objects(value), "{value}");
    }
    for value in ["[]", "[0]", "{\"v\":2}", "1---,1-N-", "59,1", "{", ""] {
        assert!(!objects(value), "{value}");
    }
    for value in [
        "granted",
        "1",
        "true",
        "yes",
        "null",
        "{}",
        "analytics",
        "00",
        "G111",
        "G1--",
        "G1",
        "allow",
    ] {
        assert!(!is_of_consent(value), "{value}");
    }
    for name in [
        "Ad_Storage",
        "analyticsStorage",
        "cookie-consent",
        "consent.status",
        "permit[]",
    ] {
        assert_eq!(meaning(name), Some(Meaning::ConsentString), "{name}");
    }
}

#[test]
fn other_names_have_no_meaning() {
    for name in [
        "",
        "x",
        "price",
        "3gpp",
        "latency",
        "latitude",
        "usp_form",
        "partners",
        "partner_id",
        "parent",
        "siteid",
        "website",
        "consents",
        "privacy",
        "tcfx",
        "eggplant",
        "%",
        "amp",
    ] {
        assert_eq!(meaning(name), None, "{name}");
    }
}

#[test]
fn an_objection_is_one_by_its_value() {
    for value in [
        "1", "true", "TRUE", "yes", "1YYN", "1NyN", "1.0", " 1 ", "on",
    ] {
        assert!(objects(value), "{value}");
    }
    for value in [
        "", "0", "false", "No", "1---", "1YNN", "59.33", "-1", "null",
    ] {
        assert!(!objects(value), "{value}");
    }
}

#[test]
fn a_consent_string_is_one_by_its_value() {
    for value in [
        "CPc_aUAPc_aUAAGABBENC0CgAP_AAE_AAAAAHtNf",
        "\"CPc_aUAPc_aUAAGABBENC0CgAP_AAE_AAAAAHtNf.YAAAAAAAAAAA\"",
        "BOEFEAyOEFEAyAHABDENAI4AAAB9vABAASA",
        "DBABMA~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA",
    ] {
        assert!(is_consent_string(value), "{value}");
    }
    for value in [
        "",
        "granted",
        "denied",
        "true",
        "1",
        "Cookies and analytics are fine",
        "C",
    ] {
        assert!(!is_consent_string(value), "{value}");
    }
}

#[test]
fn a_value_hides_what_stands_behind_a_separator_and_no_urls_own_query() {
    let hides = |text: &str| hides(text, |_, _| true);
    for text in [
        "1;gdpr=1",
        "1&gdpr=1&x=2",
        "1&amp;GDPR = 1",
        "1 gdpr=1",
        "1&gdpr[]=1",
        "1;gdpr[0]=1",
        "1&\"gdpr\"=1",
        "1&'gdpr'[0] = 1",
        "&gpp=",
        "1#gdpr_consent=",
        "gpp=x",
        "https://x.se/a;gdpr=1",
        "https://x.se/#gdpr=1",
        r#"{"x":1,"GDPR" : 1}"#,
        "1,partner=net",
    ] {
        assert!(hides(text), "{text}");
    }
    for text in [
        "",
        "GDPR: what to know",
        "https://x.se/?gdpr=1",
        "https://x.se/?a=1&gdpr=1",
        "a=b",
        "it is gdpr",
        "12:30",
    ] {
        assert!(!hides(text), "{text}");
    }
}

#[test]
fn what_other_programs_call_their_data_means_no_signal() {
    for name in [
        "img_dpr",
        "imgDpr",
        "bg-dpr",
        "missing_dpr",
        "string_pdr",
        "gp_percent",
        "gpPoints",
        "gp_product_id",
        "partnere",
        "partnern",
        "parter",
        "partner1",
        "filter[partner]",
        "form[partner]",
    ] {
        assert_eq!(meaning(name), None, "{name}");
    }
    for name in [
        "isGdpr",
        "x_gdpr",
        "GPPString",
        "amp;partner",
        "#38;partner",
        "&partner",
    ] {
        assert!(meaning(name).is_some(), "{name}");
    }
    for value in [
        "sharing",
        "Fri frakt",
        "Electronics",
        "2024-01-01",
        "unset",
        "59,33",
        "0",
    ] {
        assert!(!objects(value), "{value}");
    }
    for value in ["1", "1.0", "true", " Yes", "on", "?1", "1YYN", "1-Y-"] {
        assert!(objects(value), "{value}");
    }
}

#[test]
fn data_hides_nothing_and_a_long_value_is_looked_at_once() {
    let counts = |_: Meaning, _: &str| true;
    let long = ["a ?a=", "=", ":", "= ", "\":", "%=", "x&="].map(|text| text.repeat(200_000));
    let short = ["eyJhGDpRIjoxfQ==", "abGPdr/+zz9="].map(str::to_owned);
    for text in long.iter().chain(&short) {
        assert!(!hides(text, counts), "{text:.40}");
    }
    for text in ["x|gpp=DB", "{'gdpr':1}", "1&gdpr=", "1!us_privacy=1YYN"] {
        assert!(hides(text, counts), "{text}");
    }
}

/// Returns names that are close to those that have a meaning, as pages have them.
fn close_names() -> impl Strategy<Value = String> {
    let known = (0..NAMES.len(), "[A-Za-z0-9_-]?", 0..30_usize, any::<bool>());
    let known = known.prop_map(|(at, more, place, is_cut)| {
        let mut name = NAMES[at].0.to_owned();
        let place = place.min(name.len());
        name.insert_str(place, &more);
        if is_cut {
            name.remove(place.min(name.len() - 1));
        }
        name
    });
    prop_oneof![
        known,
        "[a-zA-Z_-]{0,6}(gdpr|gpDr|Gpp|amp|LAT|partner)[a-zA-Z0-9_-]{0,6}",
        "[_-]{0,2}[a-z0-9_=:.%A-Z-]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_name_that_is_not_asked_about_has_no_meaning(name in close_names()) {
        let has_meaning = read_meaning(&name).is_some() || hides(&name, |_, _| true);
        prop_assert!(may_mean(&name) || !has_meaning, "{}", name);
    }
}

#[test]
fn the_names_of_ordinary_parameters_are_not_asked_about() {
    for name in [
        "utm_source",
        "x",
        "imp_id",
        "price",
        "currency",
        "lang",
        "pos",
        "zone",
        "colorDepth",
        "data-currency",
    ] {
        assert!(!may_mean(name), "{name}");
    }
}

#[test]
fn the_state_of_app_tracking_refuses_where_it_is_restricted_or_denied() {
    for name in [
        "att_status",
        "attTrackingStatus",
        "trackingAuthorizationStatus",
    ] {
        assert_eq!(meaning(name), Some(Meaning::AppTracking), "{name}");
    }
    for value in [
        "1",
        "2",
        "2.0",
        "\"2\"",
        " 1",
        "denied",
        "restricted",
        "notGranted",
        "",
    ] {
        assert!(refuses_tracking(value), "{value}");
    }
    for value in ["[2]", "{\"status\":2}", "\u{ff12}", "%32"] {
        assert!(refuses_tracking(value), "{value}");
    }
    for value in [
        "0",
        "3",
        "[3]",
        "\"3\"",
        "authorized",
        "notDetermined",
        "20",
    ] {
        assert!(!refuses_tracking(value), "{value}");
    }
}

#[test]
fn no_spelling_of_a_value_hides_what_it_says() {
    for value in [
        "\u{ff11}",
        "1\u{200b}",
        "\u{feff}true",
        "%31",
        "%2531",
        "\"1YYN\"",
        "'1YYN'",
        "1\u{fffd}",
        "&quot;yes&quot;",
        "\u{ff11}\u{ff39}\u{ff39}\u{ff2e}",
    ] {
        assert!(objects(value), "{value}");
    }
    for value in [
        "\u{ff44}enied",
        "d\u{200b}enied",
        "%64enied",
        "&quot;denied&quot;",
        "'denied'",
        "denied\0",
        "denied|denied",
        "no,no",
        "-1",
        "0.0",
    ] {
        assert!(is_of_consent(value), "{value}");
    }
    for value in ["2", "%32", "10 % of all", "\u{ff12}", "r\u{e4}ka"] {
        assert!(!objects(value), "{value}");
    }
    for value in [
        "granted",
        "necessary,statistics",
        "10 %",
        "1",
        "r\u{e4}ka",
        "a&b",
    ] {
        assert!(!is_of_consent(value), "{value}");
    }
}
