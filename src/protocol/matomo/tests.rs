#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::clock::UnixMicros;
use crate::endpoint::Endpoint;
use crate::hit::Flags;
use crate::protocol::recorded::{NOW, Recorded};
use crate::protocol::{read, read_body};
use crate::request::Headers;

/// The recordings of trackers: what they told, an event in each line.
const RECORDED: [(&str, &[&str]); 6] = [
    (
        include_str!("../../../tests/recorded/matomo-js-5.2.0-b5-beacon.jsdom.json"),
        &[
            "page_view  keeps",
            "event Play keeps",
            "event site_search keeps",
            "event order keeps",
            "event goal keeps",
            "event outlink keeps",
            "event LLLLLLLL keeps",
            "event ping keeps",
            "event content_impression keeps",
            "page_view  keeps",
            "page_view  keeps",
            "page_view  keeps",
        ],
    ),
    (
        include_str!("../../../tests/recorded/matomo-js-5.2.0-b5-consent-cookieless.jsdom.json"),
        &[
            "page_view  none",
            "event Play none",
            "event site_search none",
            "event order none",
            "event goal none",
            "event outlink none",
            "event ping keeps",
            "event content_impression none",
            "event ping keeps",
        ],
    ),
    (
        include_str!("../../../tests/recorded/matomo-js-5.2.0-b5-image-get.jsdom.json"),
        &[
            "page_view  keeps",
            "event Play keeps",
            "event site_search keeps",
            "event order keeps",
            "event goal keeps",
            "event outlink keeps",
            "event content_impression keeps",
            "event ping keeps",
        ],
    ),
    (
        include_str!("../../../tests/recorded/matomo-node-matomo-tracker-2.2.4.json"),
        &[
            "page_view  none",
            "event Play none",
            "page_view  none",
            "event order none",
        ],
    ),
    (
        include_str!("../../../tests/recorded/matomo-node-piwik-tracker-1.1.2.json"),
        &["page_view  none", "page_view  none"],
    ),
    (
        include_str!("../../../tests/recorded/matomo-python-asgi-matomo-0.8.0.json"),
        &["page_view  none"],
    ),
];

fn drafts<T>(json: &str, mut make: impl FnMut(Draft<'_>) -> T) -> Vec<T> {
    let requests = Recorded::all(json);
    let each = |request: &Recorded| request.drafts(Endpoint::Matomo, |draft| make(draft.unwrap()));
    requests.iter().flat_map(each).collect()
}

/// Reads the hit of a query.
fn read_get<T>(query: &str, make: impl FnOnce(Result<Draft<'_>, Reason>) -> T) -> T {
    let headers = Headers::default();
    make(read(&arrival(query, &headers)))
}

/// Reads the hits of a body.
fn read_post<T>(
    query: &str,
    body: &str,
    mut make: impl FnMut(Result<Draft<'_>, Reason>) -> T,
) -> Vec<T> {
    let headers = Headers::default();
    match read_body(&arrival(query, &headers), body.as_bytes()) {
        Ok(Drafts::One(draft)) => vec![make(Ok(draft))],
        Ok(Drafts::Each(events)) => events.iter().map(make).collect(),
        Err(reason) => vec![make(Err(reason))],
    }
}

fn arrival<'r>(query: &'r str, headers: &'r Headers<'r>) -> Arrival<'r, 'r> {
    Arrival {
        endpoint: Endpoint::Matomo,
        at: NOW,
        headers,
        path: "/matomo.php",
        query,
        choice_cookie: "avchoice".into(),
        meta_names: &[],
    }
}

fn params(draft: &Draft<'_>) -> serde_json::Value {
    serde_json::from_str(&draft.hit.params).unwrap_or_default()
}

#[test]
fn each_recorded_request_tells_what_happened() {
    for (json, expected) in RECORDED {
        let told = drafts(json, |draft| {
            let Draft { hit, claims, .. } = draft;
            let claims = claims.unwrap();
            assert_eq!(claims.site_alias, "1");
            assert!(!hit.params.contains("token_auth"), "{}", hit.params);
            let name: String = hit.event_name.chars().take(20).collect();
            let name = if name.starts_with("LL") {
                "LLLLLLLL"
            } else {
                &name
            };
            let keeps = if claims.keeps_cookies {
                "keeps"
            } else {
                "none"
            };
            format!("{} {name} {keeps}", hit.kind.name())
        });
        assert_eq!(told, expected);
    }
}

#[test]
fn a_page_view_of_the_script_has_each_parameter_in_its_place() {
    let (beacon, _) = RECORDED[0];
    let first = drafts(beacon, |draft| {
        let hit = &draft.hit;
        let ids = [&*hit.device_id, &*draft.user, &*hit.referrer].map(str::to_owned);
        (hit.page_url.to_string(), ids, params(&draft), hit.flags)
    })
    .swap_remove(0);
    let url = "http://shop.example/p/1?utm_source=news&utm_medium=email&utm_campaign=spring";
    assert_eq!(first.0, url);
    let ids = ["e7f46de8fb0b1385", "user-42", "https://www.google.com/"];
    assert_eq!(first.1, ids);
    let expected = serde_json::json!({
        "action_name": "Räksmörgås & co", "h": "17", "m": "38", "s": "55", "_idn": "1",
        "_rcn": "spring", "_refts": "1795714735", "_ref": "https://www.google.com/",
        "dimension1": "member", "_cvar": {"1": ["a", "b"]}, "pv_id": "AaHUu1", "cookie": "1",
        "res": "1920x1080",
    });
    assert_eq!((first.2, first.3), (expected, Flags::default()));
}

#[test]
fn an_order_has_its_items_as_json_and_what_reports_know_it_by() {
    let (beacon, _) = RECORDED[0];
    let order = drafts(beacon, |draft| params(&draft)).swap_remove(3);
    let items = serde_json::json!([["sku", "Dress", "Clothing", 11.1, 2]]);
    assert_eq!(order["ec_items"], items);
    assert_eq!(
        (&order["order_id"], &order["value"]),
        (&"order-7".into(), &"19.99".into())
    );
    assert_eq!(
        (&order["ec_id"], &order["ec_st"]),
        (&"order-7".into(), &"15".into())
    );
    assert!(order.get("ec_dt").is_none());
}

#[test]
fn what_a_server_says_of_the_visitor_is_a_claim_and_no_parameter() {
    let (node, _) = RECORDED[3];
    let (claims, params) = drafts(node, |draft| {
        (draft.claims.clone().unwrap(), params(&draft))
    })
    .swap_remove(1);
    assert_eq!(claims.client_ip, "198.51.100.7".parse().ok());
    assert_eq!(claims.user_agent, "Mozilla/5.0 (X11)");
    for name in ["cip", "ua", "token_auth", "uid", "_id", "idsite", "rec"] {
        assert!(params.get(name).is_none(), "{name}");
    }
    read_get(
        "idsite=1&rec=1&country=se&region=01&city=X&lat=59.3&long=18.1&a=1",
        |draft| {
            assert_eq!(draft.unwrap().hit.params, r#"{"a":"1"}"#);
        },
    );
}

#[test]
fn the_bytes_of_python_are_read_as_what_they_stand_for() {
    let (python, _) = RECORDED[5];
    drafts(python, |draft| {
        assert_eq!(
            draft.hit.page_url,
            "https://shop.example:443/p/1?utm_source=news"
        );
        assert_eq!(draft.hit.referrer, "https://www.google.com/");
        assert_eq!(
            draft.claims.as_ref().unwrap().user_agent,
            "Mozilla/5.0 (X11)"
        );
        let cvar = serde_json::json!({"http_status_code": 200, "http_method": "GET"});
        assert_eq!(params(&draft)["cvar"], cvar);
    });
}

#[test]
fn what_happened_follows_from_the_parameters_that_are_there() {
    for (query, expected) in [
        ("", "page_view "),
        ("action_name=a", "page_view "),
        ("_pks=sku&_pkn=name", "page_view "),
        ("ping=1&action_name=a", "event ping"),
        ("ping=0", "page_view "),
        ("idgoal=3", "event goal"),
        ("idgoal=0", "event cart"),
        ("idgoal=0&ec_id=7", "event order"),
        ("idgoal=&e_a=x", "event x"),
        ("e_c=Videos&e_a=Play", "event Play"),
        ("c_n=Ad", "event content_impression"),
        ("c_n=Ad&c_i=click", "event content_interaction"),
        ("link=https://a.example/", "event outlink"),
        ("download=https://a.example/a.pdf", "event download"),
        ("search=", "page_view "),
        ("search=skor", "event site_search"),
        ("ca=1&cra=Error", "event "),
        ("ca=1", "event "),
    ] {
        let told = read_get(&format!("idsite=1&rec=1&{query}"), |draft| {
            let hit = draft.unwrap().hit;
            format!("{} {}", hit.kind.name(), hit.event_name)
        });
        assert_eq!(told, expected, "{query}");
    }
}

#[test]
fn a_request_that_is_not_marked_as_one_belongs_to_no_site() {
    for query in ["", "idsite=1", "idsite=1&rec=0", "idsite=1&rec="] {
        read_get(query, |draft| {
            assert_eq!(draft.err(), Some(Reason::SiteUnknown))
        });
        let told = read_post(query, "url=x", |draft| draft.err());
        assert_eq!(told, [Some(Reason::SiteUnknown)], "{query}");
    }
}

#[test]
fn the_address_outweighs_the_form() {
    let told = read_post(
        "idsite=2&_id=&e_a=a+b",
        "idsite=1&rec=1&_id=x&e_a=c&x=%C3%A5",
        |draft| {
            let draft = draft.unwrap();
            assert_eq!(draft.claims.as_ref().unwrap().site_alias, "2");
            assert_eq!((&*draft.hit.event_name, &*draft.hit.device_id), ("a b", ""));
            draft.hit.params.to_string()
        },
    );
    assert_eq!(told, [r#"{"e_a":"a b","x":"å"}"#]);
}

#[test]
fn a_list_has_texts_and_objects_and_a_broken_item_costs_only_itself() {
    let good = r#""?idsite=1&rec=1&e_a=a""#;
    let object = r#"{"idsite":1,"rec":"1","e_a":"o","x":[1],"y":2.5,"z":null}"#;
    let address = r#""https://m.example/matomo.php?idsite=1&rec=1&e_a=u""#;
    for (items, expected) in [
        (vec![good, object, address], "a o u"),
        (
            vec![good, r#""?idsite=1&e_a=x""#, object],
            "a site_unknown o",
        ),
        (vec![good, "17", object], "a json o"),
        (vec![good, "null", object], "a json o"),
        (vec![good, r#"["?idsite=1&rec=1"]"#, good], "a json a"),
        (
            vec![object, r#""?idsite=1&rec=1&e_a=\ud800x""#, good],
            "o \u{fffd}x a",
        ),
        (vec![good, r#"{"idsite":1"#, object], "a json o"),
        (
            vec![good, r#""?idsite=1&rec=1&e_a=b"#, good, object],
            "a json a o",
        ),
    ] {
        let body = format!(
            r#"{{"requests":[{}],"token_auth":"secret"}}"#,
            items.join(",")
        );
        let told = read_post("", &body, |draft| match draft {
            Ok(draft) => draft.hit.event_name.to_string(),
            Err(reason) => reason.name().to_owned(),
        });
        assert_eq!(told.join(" "), expected, "{body}");
    }
}

#[test]
fn a_signal_before_or_behind_the_query_of_an_item_counts() {
    let item = |text: &str| serde_json::json!({ "requests": [text] }).to_string();
    for (text, is_unclear) in [
        ("?idsite=7&rec=1&rand=123456&action_name=x", false),
        ("?idsite=7&rec=1&rand=123456&action_name=x#part", false),
        (
            "https://m.example/matomo.php?idsite=7&rec=1&rand=123456",
            false,
        ),
        ("?idsite=7&rec=1&rand=123456&action_name=x#&gpc=1", true),
        ("?idsite=7&rec=1&rand=123456&action_name=x#gpc=1", true),
        ("gpc=1?idsite=7&rec=1&rand=123456", true),
    ] {
        let unclear = read_post("", &item(text), |draft| draft.unwrap().signals.is_unclear);
        assert_eq!(unclear, [is_unclear], "{text}");
    }
}

#[test]
fn what_the_address_says_of_consent_holds_for_each_item_of_a_list() {
    let body = r#"{"requests":["?idsite=1&rec=1","?idsite=1&rec=1&gdpr=0"]}"#;
    let told = read_post("gdpr=1&gdpr_consent=C&uid=u&idsite=9", body, |draft| {
        let draft = draft.unwrap();
        let signals = draft.signals;
        assert_eq!(draft.user, "");
        let gdpr = signals.gdpr.map(std::borrow::Cow::into_owned);
        (gdpr, signals.tcf.is_some(), signals.is_unclear)
    });
    let one = Some("1".to_owned());
    assert_eq!(told, [(one.clone(), true, false), (one, true, true)]);
}

#[test]
fn a_time_long_ago_needs_a_trusted_sender() {
    const HOUR: i64 = 3_600_000_000;
    for (hours, is_taken) in [(1, true), (23, true), (25, false), (48, false)] {
        let made_at = UnixMicros(NOW.0 - hours * HOUR);
        let query = format!("idsite=1&rec=1&cdt={}", made_at.seconds());
        read_get(&query, |draft| {
            let draft = draft.unwrap();
            let claims = draft.claims.unwrap();
            assert_eq!(claims.made_at, Some(made_at));
            assert_eq!(claims.needs_trust_for_time, !is_taken);
            assert_eq!(draft.hit.occurred_at, is_taken.then_some(made_at));
            assert_eq!(draft.hit.flags.has(Flags::CLOCK), !is_taken, "{hours}");
        });
    }
}

#[test]
fn hints_come_from_the_script_too() {
    let uadata = r#"{"brands":[{"brand":"A","version":"1"}],"fullVersionList":[{"brand":"Chromium","version":"124.0.6367.91"}],"mobile":true,"model":"Pixel 8","platform":"Android","platformVersion":"14.0.0","formFactors":["Mobile"]}"#;
    read_get(&format!("idsite=1&rec=1&uadata={uadata}"), |draft| {
        let draft = draft.unwrap();
        let hints = draft.hit.hints;
        assert_eq!(hints.brands, r#""Chromium";v="124.0.6367.91""#);
        assert_eq!((hints.mobile, &*hints.model), (Some(true), "Pixel 8"));
        assert_eq!(
            (&*hints.platform, &*hints.platform_version),
            ("Android", "14.0.0")
        );
        assert_eq!(hints.form_factors, r#""Mobile""#);
        assert_eq!(draft.hit.params, "");
    });
}

#[test]
fn consent_of_the_tracker_is_a_category_and_signals_are_signals() {
    read_get("idsite=1&rec=1&consent=1&gdpr=1&gdpr_consent=C", |draft| {
        let draft = draft.unwrap();
        let claims = draft.claims.unwrap();
        assert_eq!(claims.categories, [("consent".to_owned(), true)]);
        assert_eq!(draft.signals.gdpr.as_deref(), Some("1"));
        assert!(!draft.signals.is_unclear);
        assert_eq!(draft.hit.params, "");
    });
    for (consents, categories) in [
        ("consent=1&consent=1", &[("consent".to_owned(), true)][..]),
        ("consent=1&consent=0", &[("consent".to_owned(), false)]),
        ("consent=0&consent=1", &[("consent".to_owned(), false)]),
        ("consent=1&consent=", &[("consent".to_owned(), false)]),
        ("consent=", &[]),
    ] {
        read_get(&format!("idsite=1&rec=1&{consents}"), |draft| {
            let claims = draft.unwrap().claims.unwrap();
            assert_eq!(claims.categories, categories, "{consents}");
        });
    }
    for unclear in [
        "us_privacy=1YYN",
        "consent=CPzHq4APzHq4ABEACBENAuCMAP_AAH_AAAAA",
        "dnt=1",
    ] {
        read_get(&format!("idsite=1&rec=1&{unclear}"), |draft| {
            assert!(draft.unwrap().signals.is_unclear, "{unclear}");
        });
    }
}
