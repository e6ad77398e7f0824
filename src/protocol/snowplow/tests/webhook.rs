//! Iglu's webhook, in each of its forms; and records of dialogues about consent.

use super::*;

const SCHEMA: &str = "iglu:com.acme/lead/jsonschema/1-0-0";

fn one(query: &str, body: Option<&str>) -> Seen {
    let mut seen = send(query, &HeaderMap::new(), body.map(str::as_bytes));
    assert_eq!(seen.len(), 1, "{query} {body:?}");
    seen.remove(0)
        .unwrap_or_else(|reason| panic!("{query} {body:?}: {reason:?}"))
}

#[test]
fn each_form_of_the_webhook_is_a_self_describing_event() {
    let of_pairs = json!({"name": "A b", "plan": "1"});
    let of_json = json!({"name": "A b", "plan": 1, "url": "https://crm.example/"});
    let whole = json!({"schema": SCHEMA, "data": of_json}).to_string();
    let query = format!("schema={SCHEMA}&aid=shop&eid=7");
    for (query, body, data) in [
        (format!("{query}&name=A%20b&plan=1"), None, &of_pairs),
        (format!("{query}&name=A+b&plan=1"), Some(""), &of_pairs),
        (query.clone(), Some("name=A+b&plan=1"), &of_pairs),
        (
            format!("{query}&plan=1"),
            Some("name=A+b&plan=2"),
            &of_pairs,
        ),
        (
            "aid=shop&eid=7".to_owned(),
            Some(&*format!("schema={SCHEMA}&name=A+b&plan=1")),
            &of_pairs,
        ),
        (query.clone(), Some(&*of_json.to_string()), &of_json),
        ("aid=shop&eid=7".to_owned(), Some(&*whole), &of_json),
    ] {
        let seen = one(&query, body);
        assert_eq!((seen.kind, &*seen.name), (Some(Kind::Event), "lead"));
        assert_eq!((&*seen.id, &*seen.claims.site_alias), ("7", "shop"));
        let document = json!({"schema": SCHEMA, "data": data});
        assert_eq!(seen.params["ue"], document, "{query} {body:?}");
        assert_eq!(seen.params["tv"], "com.snowplowanalytics.iglu-v1");
        assert!(!seen.claims.keeps_cookies && seen.url.is_empty());
    }
}

#[test]
fn a_list_of_data_is_as_many_events_and_a_broken_one_costs_no_other() {
    let list = r#"[{"a":1},7,{"a":2}]"#;
    for (query, body) in [
        (format!("schema={SCHEMA}"), list.to_owned()),
        (
            String::new(),
            format!(r#"{{"schema":"{SCHEMA}","data":{list}}}"#),
        ),
    ] {
        let seen = send(&query, &HeaderMap::new(), Some(body.as_bytes()));
        assert_eq!(seen.len(), 3, "{body}");
        assert_eq!(seen[1], Err(Reason::Json));
        for (at, a) in [(0, 1), (2, 2)] {
            let seen = seen[at].as_ref().expect("an event");
            assert_eq!(seen.params["ue"]["data"], json!({"a": a}));
        }
    }
}

#[test]
fn what_names_no_schema_or_a_type_of_event_is_no_webhook() {
    for (query, body) in [
        ("schema=x&a=1", None),
        ("schema=iglu:x&a=1", None),
        ("a=1", None),
        ("", Some("a=1&b=2")),
        ("", Some(r#"{"schema":"x","data":{"a":1}}"#)),
        (
            "",
            Some(r#"{"schema":"iglu:com.acme/lead/jsonschema/1-0-0"}"#),
        ),
        ("schema=iglu:com.acme/lead/jsonschema/1-0-0", Some("[7]")),
    ] {
        let seen = send(query, &HeaderMap::new(), body.map(str::as_bytes));
        assert!(seen.iter().all(Result::is_err), "{query} {body:?}");
    }
    // A tracker's event may have a member of that name.
    let seen = one(&format!("e=pv&schema={SCHEMA}"), None);
    assert_eq!(
        (seen.kind, &seen.params["schema"]),
        (Some(Kind::PageView), &json!(SCHEMA))
    );
}

#[test]
fn signals_in_the_address_of_a_webhook_are_understood_and_others_are_unclear() {
    let seen = one(&format!("schema={SCHEMA}&gdpr=1&gdpr_consent=CP&a=1"), None);
    assert_eq!((seen.tcf.as_deref(), seen.is_unclear), (Some("CP"), false));
    assert_eq!(seen.params["ue"]["data"], json!({"a": "1"}));
    assert!(one(&format!("schema={SCHEMA}&gdpr-consent=CP"), None).is_unclear);
}

#[test]
fn a_record_says_that_the_visitor_refuses_where_it_says_so_for_all() {
    let known = "com.snowplowanalytics.snowplow/";
    for (name, data, refuses) in [
        (
            "consent_preferences",
            json!({"eventType": "deny_all"}),
            true,
        ),
        (
            "consent_preferences",
            json!({"eventType": "withdrawn"}),
            true,
        ),
        ("consent_preferences", json!({"eventType": "expired"}), true),
        (
            "consent_preferences",
            json!({"eventType": "allow_all"}),
            false,
        ),
        (
            "consent_preferences",
            json!({"eventType": "allow_selected"}),
            false,
        ),
        (
            "consent_preferences",
            json!({"eventType": "pending"}),
            false,
        ),
        ("consent_preferences", json!({"eventType": 7}), false),
        ("consent_withdrawn", json!({"all": true}), true),
        ("consent_withdrawn", json!({"all": "true"}), true),
        ("consent_withdrawn", json!({"all": false}), false),
        (
            "consent_granted",
            json!({"all": true, "eventType": "deny_all"}),
            false,
        ),
        ("gdpr", json!({"eventType": "deny_all"}), false),
    ] {
        let document = context(&format!("{known}{name}"), data);
        let happened = json!({"schema": "s", "data": document}).to_string();
        for event in [
            json!({"e": "ue", "ue_pr": happened}),
            with_contexts(std::slice::from_ref(&document)),
        ] {
            assert_eq!(post_one(event).claims.refuses, refuses, "{document}");
        }
    }
    let other = context(
        "com.acme/consent_preferences",
        json!({"eventType": "deny_all"}),
    );
    assert!(!post_one(with_contexts(&[other])).claims.refuses);
}
