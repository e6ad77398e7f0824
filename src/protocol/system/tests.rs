#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::clock::UnixMicros;
use crate::endpoint::Endpoint;
use crate::hit::{Hit, Permit};
use crate::request::Headers;

const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);
const DAY: i64 = 86_400_000_000;
const PAST: Duration = Duration::from_secs(90 * 86_400);

/// What becomes of each event of a body.
fn read_with<T>(
    body: &str,
    proof: Proof<'_>,
    mut make: impl FnMut(Result<Draft<'_>, Reason>) -> T,
) -> Vec<T> {
    let mut headers = Headers::default();
    headers.read_one(b"user-agent", b"telltale-agent/1");
    headers.read_one(b"sec-gpc", b"1");
    headers.read_one(b"cookie", b"avid=telltale; avchoice=none");
    headers.read_one(b"referer", b"https://telltale.example/");
    headers.read_one(b"content-type", b"application/json");
    let arrival = Arrival {
        endpoint: Endpoint::System,
        at: NOW,
        headers: &headers,
        path: "/s/crm",
        query: "",
        choice_cookie: "avchoice".into(),
        meta_names: &[],
    };
    let sender = SystemSender {
        site: "shop",
        past: PAST,
        proof,
    };
    match super::read(&arrival, sender, body.as_bytes()) {
        Ok(Drafts::One(draft)) => vec![make(Ok(draft))],
        Ok(Drafts::Each(events)) => events.iter().map(make).collect(),
        Err(reason) => vec![make(Err(reason))],
    }
}

/// The one event of a body.
fn read_one(body: &str) -> (Hit<'static>, Option<Permit>, String) {
    let mut events = read_with(body, Proof::Token, |draft| {
        let draft = draft.unwrap();
        let mut bytes = Vec::new();
        draft.hit.encode(&mut bytes);
        let bytes: &'static [u8] = bytes.leak();
        let hit = Hit::decode(bytes).unwrap();
        (hit, draft.signals.choice, draft.user.into_owned())
    });
    assert_eq!(events.len(), 1);
    events.remove(0)
}

#[test]
fn an_event_is_what_it_says_and_nothing_of_who_sends_it() {
    let body = r#"{"e":"customer_new","id":"c-1","user":"anna","maid":"38400000-8cf0-11bd-b23e-10b96e40000d",
        "value":5,"client_ip":"192.0.2.1","user_agent":"telltale","ch_model":"SM-S918B"}"#;
    let (hit, choice, user) = read_one(body);
    assert_eq!((hit.kind, &*hit.site), (Kind::Event, "shop"));
    assert_eq!((&*hit.event_name, &*hit.event_id), ("customer_new", "c-1"));
    assert_eq!((&*user, choice), ("anna", None));
    assert_eq!(&*hit.params, r#"{"value":5}"#);
    assert_eq!(hit.flags, Flags::SYSTEM.with(Flags::PROVED));
    assert_eq!(
        (hit.client_ip, &*hit.user_agent, &*hit.page_url),
        (None, "", "")
    );
    let mut bytes = Vec::new();
    hit.encode(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        !text.contains("telltale") && !text.contains("192.0.2"),
        "{text}"
    );
}

#[test]
fn a_time_lies_between_the_oldest_row_and_now() {
    let clock = Flags::CLOCK;
    let none = Flags::default();
    let now = NOW.0;
    for (json, at, flags) in [
        ("1800000000", Some(now), none),
        ("1800000000000", Some(now), none),
        (r#""2027-01-15T08:00:00Z""#, Some(now), none),
        (r#""2027-01-15T09:00:00+01:00""#, Some(now), none),
        ("1799999999", Some(now - 1_000_000), none),
        ("1800000001", Some(now), clock),
        ("1792224000", Some(now - 90 * DAY), none),
        ("1792223999", Some(now - 90 * DAY), clock),
        ("0", Some(now - 90 * DAY), clock),
        ("-1", Some(now - 90 * DAY), clock),
        (r#""yesterday""#, None, clock),
        (r#""""#, None, clock),
        ("{}", None, clock),
        ("[1800000000]", None, clock),
        ("true", None, clock),
        ("null", None, none),
    ] {
        let (hit, ..) = read_one(&format!(r#"{{"e":"x","occurred_at":{json}}}"#));
        let own = hit.flags.without(Flags::SYSTEM.with(Flags::PROVED));
        assert_eq!(
            (hit.occurred_at, own),
            (at.map(UnixMicros), flags),
            "{json}"
        );
        assert_eq!((&*hit.params, hit.made_at), ("", None), "{json}");
    }
}

#[test]
fn a_list_of_permits_is_the_choice_and_several_are_what_all_allow() {
    let both = Permit::STORE.with(Permit::MEASURE);
    for (json, choice) in [
        (r#"["store","measure"]"#, Some(both)),
        (r#""store.measure""#, Some(both)),
        (r#""store,measure""#, Some(both)),
        (r#"["store","measure","fly"]"#, Some(both)),
        (r#"[]"#, Some(Permit::NONE)),
        (r#""none""#, Some(Permit::NONE)),
        (r#""""#, Some(Permit::NONE)),
        (r#"["none"]"#, Some(Permit::NONE)),
        (r#"["STORE"]"#, Some(Permit::NONE)),
        (r#"{"store":true}"#, Some(Permit::NONE)),
        ("true", Some(Permit::NONE)),
        ("7", Some(Permit::NONE)),
        (r#"["store",1]"#, Some(Permit::NONE)),
        ("null", None),
        (
            r#"["store","measure"],"permit":["measure"]"#,
            Some(Permit::MEASURE),
        ),
    ] {
        let (hit, is, _) = read_one(&format!(r#"{{"e":"x","permit":{json}}}"#));
        assert_eq!((is, &*hit.params), (choice, ""), "{json}");
    }
}

#[test]
fn a_broken_event_costs_no_other_one() {
    let good = r#"{"e":"a","id":"1"}"#;
    for broken in [
        r#"{"e":"b","#,
        "7",
        r#""text""#,
        "null",
        r#"[{"e":"b"}]"#,
        "{\"e\":\"b\",}x",
    ] {
        for body in [
            format!("[{good},{broken},{good}]"),
            format!("{good}\n{broken}\n{good}\n"),
        ] {
            let names = read_with(&body, Proof::Token, |draft| {
                draft.map(|draft| draft.hit.event_name.into_owned())
            });
            let taken = names.iter().filter(|name| **name == Ok("a".to_owned()));
            assert_eq!(taken.count(), 2, "{body}: {names:?}");
        }
    }
}

#[test]
fn an_event_without_an_id_gets_one_of_its_requests_signature() {
    let digits = "0123456789abcdef".repeat(4);
    let signature = format!("v2={digits}");
    let body = r#"[{"e":"a"},{"e":"b","id":"own"},{"e":"c"}]"#;
    let ids = |proof| {
        read_with(body, proof, |draft| {
            draft.unwrap().hit.event_id.into_owned()
        })
    };
    let first = "signature-0123456789abcdef0123456789abcdef-0";
    let third = "signature-0123456789abcdef0123456789abcdef-2";
    assert_eq!(ids(Proof::Signature(&signature)), [first, "own", third]);
    assert_eq!(ids(Proof::Token), ["", "own", ""]);
}

#[test]
fn a_user_sig_is_read_and_is_nowhere_in_the_hit() {
    let body = r#"{"e":"x","user":"anna","user_sig":"telltale","params":{"user_sig":"telltale"}}"#;
    let read = read_with(body, Proof::Token, |draft| {
        let draft = draft.unwrap();
        assert_eq!((&*draft.user, &*draft.user_sig), ("anna", "telltale"));
        draft.hit.params.into_owned()
    });
    assert_eq!(read, [""]);
}
