use serde_json::{Value, json};

use super::{read_request, request, tell_one};
use crate::hit::limits::TRACKER_TOLD_BYTES_MAX;

#[test]
fn consent_is_told_as_categories_and_never_as_something_unclear() {
    let event = |context: Value| json!({"type": "track", "userId": "u", "context": context});
    for (context, categories, unclear) in [
        (
            json!({"consent": {"categoryPreferences": {"Ads": true, "Gdpr": false, "x": "yes"}}}),
            json!([["Ads", true], ["Gdpr", false], ["x", false]]),
            false,
        ),
        (
            json!({"consentManagement": {
                "allowedConsentIds": ["C1", "C2"], "deniedConsentIds": ["C2", "gdpr_consent"],
                "provider": "oneTrust", "resolutionStrategy": "and",
            }}),
            json!([["C1", true], ["C2", false], ["gdpr_consent", false]]),
            false,
        ),
        (
            json!({"consentManagement": {"allowedConsentIds": {"a": ["1"], "b": ["2"]}}}),
            json!([["1", true], ["2", true]]),
            false,
        ),
        (
            json!({"consentManagement": {"allowedConsentIds": ["a"], "deniedConsentIds": ["a", 1, null, [true]]}}),
            json!([["1", false], ["a", false], ["true", false]]),
            false,
        ),
        (
            json!({"consentManagement": {"DeniedConsentIds": "a, b,"}}),
            json!([["a", false], ["b", false]]),
            false,
        ),
        (
            json!({"consentManagement": {"deniedConsentIds": "{\"x\":[1],\"y\":[\"a\"]}"}}),
            json!([["1", false], ["a", false]]),
            false,
        ),
        (
            json!({"consentManagement": {"allowedConsentIds": "all"}}),
            json!(null),
            false,
        ),
        (
            json!({"consent": {"gdpr_applies": {"gdpr": 1}}}),
            json!(null),
            true,
        ),
        (json!({"consent": {}}), json!(null), false),
    ] {
        let told = tell_one(&event(context.clone())).unwrap();
        assert_eq!(told["categories"], categories, "{context}");
        assert_eq!(told.get("unclear").is_some(), unclear, "{context}");
        assert!(
            !told["params"]
                .to_string()
                .contains("allowedConsentIds\":[\""),
            "{told}"
        );
    }
    for event in [
        json!({"type": "track", "userId": "u", "gdpr_consent": "CPtcf"}),
        json!({"type": "track", "userId": "u", "context": {"gdpr_consent": "CPtcf"}}),
        json!({"type": "track", "userId": "u", "properties": {"gdpr_consent": "CPtcf"}}),
    ] {
        assert_eq!(tell_one(&event).unwrap()["tcf"], "CPtcf", "{event}");
    }
}

#[test]
fn consent_is_found_however_its_names_are_written_and_wherever_it_stands() {
    let denied = json!([["Ads", false]]);
    let preferences = json!({"categoryPreferences": {"Ads": false}});
    let management = json!({"deniedConsentIds": ["Ads"]});
    for context in [
        json!({"consent": preferences.to_string()}),
        json!({"consent": [preferences]}),
        json!({"Consent": {"category_preferences": {"Ads": "false"}}}),
        json!({"consent": {"categoryPreferences": "{\"Ads\":false}"}}),
        json!({"consent": management}),
        json!({"ConsentManagement": management}),
        json!({"consent_management": {"denied_consent_ids": "Ads"}}),
        json!({"consentManagement": [{"provider": "x"}, management]}),
        json!({"consentManagement": management.to_string()}),
        json!({"consentManagement": preferences}),
        json!({"consentManagement": {"consent": preferences}}),
    ] {
        let call = json!({"type": "track", "userId": "u", "context": context});
        assert_eq!(tell_one(&call).unwrap()["categories"], denied, "{call}");
        let mut around = json!({"batch": [{"type": "track", "userId": "u"}]});
        around["context"] = context.clone();
        let told = read_request(&request("/v1/batch", &around.to_string())).remove(0);
        assert_eq!(told.unwrap()["categories"], denied, "{around}");
        let mut call = json!({"type": "track", "userId": "u"});
        call.as_object_mut()
            .unwrap()
            .extend(context.as_object().unwrap().clone());
        assert_eq!(tell_one(&call).unwrap()["categories"], denied, "{call}");
        let mut around = json!({"batch": [{"type": "track", "userId": "u"}]});
        around
            .as_object_mut()
            .unwrap()
            .extend(context.as_object().unwrap().clone());
        let told = read_request(&request("/v1/batch", &around.to_string())).remove(0);
        assert_eq!(told.unwrap()["categories"], denied, "{around}");
    }
    // Where nothing was agreed to, there is no category that says so.
    for context in [
        json!({"consent": {"categoryPreferences": {}}}),
        json!({"consentManagement": {"allowedConsentIds": []}}),
        json!({"consentManagement": {"allowedConsentIds": "[]", "deniedConsentIds": []}}),
        json!({"consentManagement": {"allowedConsentIds": {"a": []}}}),
    ] {
        let call = json!({"type": "track", "userId": "u", "context": context});
        let told = tell_one(&call).unwrap();
        assert_eq!(told["categories"], json!([["", true]]), "{call}");
    }
    // What is around calls counts for each of them, so it may not be large.
    let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    for context in [
        json!({"consentManagement": {"allowedConsentIds": many}}),
        json!({"a": "x".repeat(TRACKER_TOLD_BYTES_MAX)}),
    ] {
        let around = json!({"context": context, "batch": [{"type": "track", "userId": "u"}]});
        let told = read_request(&request("/v1/batch", &around.to_string())).remove(0);
        assert_eq!(told.unwrap()["categories"], json!([["", false]]));
    }
    let hints =
        json!({"type": "track", "userId": "u", "context": {"userAgentData": {"gpc": true}}});
    assert_eq!(tell_one(&hints).unwrap()["unclear"], true);
}

#[test]
fn an_advertising_id_is_taken_only_where_nothing_says_that_it_may_not_be() {
    let maid = "38400000-8cf0-11bd-b23e-10b96e40000d";
    for (name, value, is_told) in [
        ("adTrackingEnabled", json!("False"), false),
        ("adTrackingEnabled", json!("NO"), false),
        ("adTrackingEnabled", json!(0.0), false),
        ("adTrackingEnabled", json!("denied"), false),
        ("adTrackingEnabled", json!("true"), true),
        ("adTrackingEnabled", json!(1), true),
        ("ad_tracking_enabled", json!(false), false),
        ("trackingStatus", json!("denied"), false),
        ("attTrackingStatus", json!(2), false),
        ("attTrackingStatus", json!(3), true),
        ("model", json!("no"), true),
    ] {
        for device in [
            format!("{{\"advertisingId\":\"{maid}\",\"{name}\":{value}}}"),
            format!("{{\"{name}\":{value},\"advertisingId\":\"{maid}\"}}"),
        ] {
            let device: Value = serde_json::from_str(&device).unwrap();
            let context = json!({"device": device});
            let call = json!({"type": "track", "userId": "u", "context": context});
            let told = tell_one(&call).unwrap();
            assert_eq!(told["maid"].as_str(), is_told.then_some(maid), "{call}");
        }
    }
}

#[test]
fn a_device_is_told_in_hints_and_ids() {
    let event = |id: &str, device: Value| {
        let context = json!({"device": device, "os": {"name": "iOS", "version": "17.4"}});
        json!({"type": "screen", id: "x1", "context": context})
    };
    let maid = "38400000-8cf0-11bd-b23e-10b96e40000d";
    for (enabled, is_told) in [
        (json!(true), true),
        (json!(null), true),
        (json!(false), false),
        (json!("false"), false),
        (json!(0), false),
    ] {
        let device = json!({
            "advertisingId": maid, "adTrackingEnabled": enabled, "id": "idfv-1", "token": "push",
            "name": "Anna's phone", "model": "iPhone15,2", "manufacturer": "Apple",
        });
        let told = tell_one(&event("userId", device.clone())).unwrap();
        assert_eq!(told["maid"].as_str(), is_told.then_some(maid));
        assert_eq!(told["did"], "idfv-1");
        assert_eq!(told["model"], "iPhone15,2");
        assert_eq!(told["platform"], "iOS");
        assert_eq!(told["version"], "17.4");
        let params = told["params"].to_string();
        for gone in [maid, "idfv-1", "push", "Anna"] {
            assert!(!params.contains(gone), "{params}");
        }
        assert_eq!(told["params"]["context"]["device"]["manufacturer"], "Apple");
        let told = tell_one(&event("anonymousId", device)).unwrap();
        assert_eq!(told["did"], "x1");
    }
    let brands = json!([{"brand": "Chromium", "version": "138"}]);
    for name in ["userAgentData", "ua-ch"] {
        let hints = json!({
            "brands": brands, "mobile": true, "platform": "Android", "platformVersion": "14.0.0",
            "model": "Pixel 8", "bitness": "64",
        });
        let context = json!({name: hints, "os": {"name": "Linux"}});
        let told = tell_one(&json!({"type": "page", "userId": "u", "context": context})).unwrap();
        assert_eq!(told["brands"], r#""Chromium";v="138""#);
        assert_eq!(told["platform"], "Android");
        assert_eq!(told["version"], "14.0.0");
        assert_eq!(told["model"], "Pixel 8");
    }
}

#[test]
fn a_name_in_quotes_is_a_name_like_any_other() {
    let names = ["\"", "a\"", "\"a\"", "a\\", "\"\"", "a\n"];
    for name in names {
        let context = json!({name: 1, "page": {name: {name: 2}}});
        let event = json!({"type": "track", "userId": "u", "context": context});
        let told = tell_one(&event).unwrap();
        assert_eq!(told["params"]["context"], context, "{name:?}");
    }
}
