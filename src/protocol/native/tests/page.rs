//! What the tag sends in forms of its own.

use super::*;

fn event_of(text: &str) -> (Hit<'_>, Signals<'_>) {
    let mut draft = begin(Kind::PageView);
    let events = split_events(text.as_bytes()).expect("JSON");
    assert!(read_event(&events[0], "", Reading::default(), &mut draft));
    (draft.hit, draft.signals)
}

#[test]
fn a_pages_fields_become_params_whatever_their_names_and_keep_their_types() {
    let event = r#"{"site":"a","e":"view_item","id":"hit-1","truncated":1,"params":{"id":"phone-12","cat":"phones",
        "site":"b","e":"other","u":"https://other.example/","uid":7,"partner":"p","lat":1,"preview":true,"price":899.5,
        "none":null,"gdpr":1,"gdpr_consent":"CP","items":[{"n":1,"partner":"q"}]}}"#;
    let encoded: String = url::form_urlencoded::byte_serialize(event.as_bytes()).collect();
    let query = format!("json={encoded}");
    for (hit, signals) in [event_of(event), hit_of(&query)] {
        let names = (&*hit.site, &*hit.event_name, &*hit.event_id);
        assert_eq!(names, ("a", "view_item", "hit-1"));
        let others = (&*hit.page_url, &*hit.partner, &*hit.category);
        assert_eq!(others, ("", "", ""));
        let consent = (signals.gdpr.as_deref(), signals.tcf.as_deref());
        assert_eq!(consent, (Some("1"), Some("CP")));
        assert!(!signals.is_unclear);
        assert_eq!(
            hit.flags,
            Flags::TRUNCATED,
            "fields are no notes about an ad"
        );
        let params: serde_json::Value = serde_json::from_str(&hit.params).expect("an object");
        assert_eq!(
            params,
            serde_json::json!({
                "id": "phone-12", "cat": "phones", "site": "b", "e": "other",
                "u": "https://other.example/", "uid": 7, "partner": "p", "lat": 1,
                "preview": true, "price": 899.5, "items": [{"n": 1, "partner": "q"}],
            })
        );
    }
}

#[test]
fn a_signal_among_a_pages_fields_that_is_not_understood_makes_the_consent_unclear() {
    for fields in [
        r#"{"GDPR":1}"#,
        r#"{"gdpr[]":"1"}"#,
        r#"{"user":{"gdpr_consent":"CP"}}"#,
    ] {
        let event = format!(r#"{{"e":"x","params":{fields}}}"#);
        let (hit, signals) = event_of(&event);
        assert!(signals.is_unclear, "{fields}");
        assert!(hit.flags.has(Flags::UNCLEAR_CONSENT), "{fields}");
    }
    // What a platform said and what the page says differ.
    assert!(event_of(r#"{"gdpr":0,"params":{"gdpr":1}}"#).1.is_unclear);
    assert!(!event_of(r#"{"gdpr":1,"params":{"gdpr":1}}"#).1.is_unclear);
}

#[test]
fn a_page_view_that_a_page_sends_itself_may_name_its_address_among_its_fields() {
    for (fields, url, params) in [
        (
            r#"{"u":"https://a.se/#/x","n":1}"#,
            "https://a.se/#/x",
            r#"{"n":1}"#,
        ),
        (r#"{"u":"cart"}"#, "https://a.se/", r#"{"u":"cart"}"#),
    ] {
        let event = format!(r#"{{"e":"","u":"https://a.se/","params":{fields}}}"#);
        let (hit, _) = event_of(&event);
        assert_eq!((&*hit.page_url, &*hit.params), (url, params));
        assert_eq!(hit.kind, Kind::PageView);
    }
}

#[test]
fn hints_may_be_as_the_browsers_interface_gives_them() {
    let (hit, _) = event_of(
        r#"{"ch":{"brands":[{"brand":"Chromium","version":"156"},{"brand":"Not)A;Brand","version":"8"},5],
        "mobile":true,"model":"SM-S918B","platform":"Android","platformVersion":"16.0.0","formFactors":["Mobile","XR"]}}"#,
    );
    let hints = hit.hints;
    assert_eq!(hints.brands, r#""Chromium";v="156", "Not)A;Brand";v="8""#);
    assert_eq!(hints.platform_version, "16.0.0");
    assert_eq!(hints.form_factors, r#""Mobile", "XR""#);
    assert_eq!((hints.mobile, &*hints.model), (Some(true), "SM-S918B"));
    assert_eq!(hit.params, "");
}

#[test]
fn a_browser_that_a_program_drives_is_flagged_where_its_interface_says_so_and_nowhere_else() {
    for (event, is_driven) in [
        (r#"{"ch":{"webdriver":true,"model":"m"}}"#, true),
        (r#"{"ch":{"webdriver":false}}"#, false),
        (r#"{"ch":{"webdriver":"true"}}"#, false),
        (r#"{"ch":{}}"#, false),
        (r#"{"params":{"webdriver":true}}"#, false),
    ] {
        let (hit, _) = event_of(event);
        assert_eq!(hit.flags.has(Flags::WEBDRIVER), is_driven, "{event}");
        assert_eq!(hit.params.contains("webdriver"), event.contains("params"));
    }
}

#[test]
fn a_text_by_the_name_of_the_tags_event_is_a_parameter_like_any_other() {
    assert_eq!(&*hit_of("json=no").0.params, r#"{"json":"no"}"#);
    assert_eq!(&*hit_of("truncated=0").0.params, "");
    assert_eq!(hit_of("truncated=0").0.flags, Flags::default());
    let hit = ad_hit("json=%7B%22e%22:%22x%22%7D");
    assert_eq!((&*hit.event_name, hit.kind), ("", Kind::Impression));
    // Signals that such an event holds are still found.
    assert!(hit_of("json=no%26gdpr%3D1").1.is_unclear);
}
