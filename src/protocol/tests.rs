//! IDs, as they come in at every endpoint and in every form.

use hyper::HeaderMap;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;

use super::partner::Sender;
use super::*;
use crate::callback::names::Fields;
use crate::hit::Flags;
use crate::hit::limits::{CLICK_ID_BYTES_MAX, EVENT_BYTES_MAX, TEXT_BYTES_MAX};
use crate::hit::whole;

mod signals;

/// The parameters that are IDs of somebody or something, with their limits.
const IDS: [(&str, usize); 5] = [
    ("id", EVENT_BYTES_MAX),
    ("uid", TEXT_BYTES_MAX),
    ("maid", TEXT_BYTES_MAX),
    ("did", TEXT_BYTES_MAX),
    ("click_id", CLICK_ID_BYTES_MAX),
];

/// The parameters by which hits are told apart, with their limits.
const NAMES: [(&str, usize); 5] = [
    ("e", EVENT_BYTES_MAX),
    ("campaign", TEXT_BYTES_MAX),
    ("creative", TEXT_BYTES_MAX),
    ("placement", TEXT_BYTES_MAX),
    ("publisher", TEXT_BYTES_MAX),
];

fn value_of(hit: &Hit<'_>, name: &str) -> String {
    let text = match name {
        "id" => &hit.event_id,
        "uid" => &hit.partner_uid,
        "maid" => &hit.maid,
        "did" => &hit.device_id,
        "click_id" => &hit.click_id,
        "e" => &hit.event_name,
        "campaign" => &hit.campaign,
        "creative" => &hit.creative,
        "placement" => &hit.placement,
        "publisher" => &hit.publisher,
        name => panic!("{name} is no ID"),
    };
    text.to_string()
}

/// A way in which a value comes in.
#[derive(Clone, Copy, Debug)]
enum Way {
    Query(Endpoint),
    Json,
    CallbackQuery,
    CallbackForm,
    CallbackJson,
}

const WAYS: [Way; 9] = [
    Way::Query(Endpoint::Pixel),
    Way::Query(Endpoint::Impression),
    Way::Query(Endpoint::Click),
    Way::Query(Endpoint::Sync),
    Way::Query(Endpoint::SetUid),
    Way::Json,
    Way::CallbackQuery,
    Way::CallbackForm,
    Way::CallbackJson,
];

/// Sends what `query` or `json` says and returns what becomes of the parameter, and the flags.
fn send(way: Way, name: &str, query: &str, json: &str) -> (String, Flags) {
    let query = format!("{name}={query}");
    let json = format!("{{\"{name}\":{json}}}");
    let map = HeaderMap::new();
    let headers = Headers::read(&map);
    let endpoint = match way {
        Way::Query(endpoint) => endpoint,
        Way::Json => Endpoint::Event,
        _ => Endpoint::Callback,
    };
    let is_in_query = matches!(way, Way::Query(_) | Way::CallbackQuery);
    let arrival = Arrival {
        endpoint,
        at: UnixMicros(7),
        headers: &headers,
        path: "",
        query: if is_in_query { &query } else { "" },
        choice_cookie: "avchoice".into(),
        meta_names: &[],
    };
    let sender = Sender {
        key: "network",
        site: "",
        fields: Fields::default(),
        trusts_client: false,
        proof: None,
    };
    let read = |body: &[u8]| {
        match way {
            Way::Query(_) => Ok(Drafts::One(super::read(&arrival)?)),
            Way::Json => read_body(&arrival, body),
            _ => partner::read(&arrival, sender, body),
        }
        .map(|drafts| match drafts {
            Drafts::One(draft) => found(&draft.hit, name),
            Drafts::Each(drafts) => {
                let draft = drafts.iter().next().expect("an event");
                found(&draft.expect("a sound event").hit, name)
            }
        })
    };
    let body = match way {
        Way::Query(_) | Way::CallbackQuery => "",
        Way::CallbackForm => &query,
        Way::Json | Way::CallbackJson => &json,
    };
    read(body.as_bytes()).expect("a sound request")
}

fn found(hit: &Hit<'_>, name: &str) -> (String, Flags) {
    (value_of(hit, name), hit.flags.without(Flags::BAD_AGENT))
}

fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, NON_ALPHANUMERIC).to_string()
}

fn send_text(way: Way, name: &str, text: &str) -> (String, Flags) {
    let json = serde_json::to_string(text).expect("a text is JSON");
    send(way, name, &encode(text.as_bytes()), &json)
}

/// Returns whether a parameter of that way has a place of its own: a click's ID is the collector's.
fn has_place(way: Way, name: &str) -> bool {
    !(matches!(way, Way::Query(Endpoint::Click)) && name == "click_id")
}

#[test]
fn a_value_that_says_that_there_is_no_id_is_absent_at_every_endpoint() {
    for (text, flags) in [
        ("0", Flags::default()),
        ("null", Flags::default()),
        ("undefined", Flags::default()),
        ("NaN", Flags::default()),
        ("[object Object]", Flags::default()),
        ("00000000-0000-0000-0000-000000000000", Flags::default()),
        ("D41D8CD98F00B204E9800998ECF8427E", Flags::default()),
        ("-1", Flags::default()),
        ("{{UID}}", Flags::MACRO),
        ("{order}", Flags::MACRO),
        ("__CLICKID__", Flags::MACRO),
        ("%ADID%", Flags::MACRO),
        ("%%DEVICE%%", Flags::MACRO),
        ("$USER", Flags::MACRO),
        ("${USER}", Flags::MACRO),
        ("[ORDER_ID_1]", Flags::MACRO),
        ("*|EMAIL|*", Flags::MACRO),
        ("##ORDER##", Flags::MACRO),
    ] {
        for way in WAYS {
            for (name, _) in IDS.into_iter().filter(|(name, _)| has_place(way, name)) {
                let none = (String::new(), flags);
                assert_eq!(send_text(way, name, text), none, "{way:?} {name} {text}");
                // As a browser writes a macro that it does not know.
                if !text.contains([' ', '#', '*']) {
                    let json = serde_json::to_string(text).expect("a text is JSON");
                    assert_eq!(send(way, name, text, &json), none, "{way:?} {name} {text}");
                }
            }
            // Elsewhere it may be what somebody means.
            if text == "null" {
                assert_eq!(send_text(way, "campaign", text).0, text, "{way:?}");
            }
        }
    }
}

#[test]
fn an_id_in_json_is_a_text_or_a_number() {
    for (json, id) in [
        ("\"a\"", "a"),
        ("7", "7"),
        ("0", ""),
        ("0.0", ""),
        ("-1", ""),
        ("true", ""),
        ("false", ""),
        ("null", ""),
        ("{}", ""),
        ("{\"a\":1}", ""),
        ("[]", ""),
        ("[7]", ""),
    ] {
        for way in [Way::Json, Way::CallbackJson] {
            for (name, _) in IDS {
                assert_eq!(send(way, name, "", json).0, id, "{way:?} {name} {json}");
            }
        }
    }
}

#[test]
fn a_long_id_stays_itself_and_is_no_longer_than_its_limit() {
    for way in WAYS {
        for (name, limit) in IDS.into_iter().chain(NAMES) {
            if !has_place(way, name) {
                continue;
            }
            let fits = "x1".repeat(limit / 2);
            let fitting = (fits.clone(), Flags::default());
            assert_eq!(send_text(way, name, &fits), fitting, "{way:?} {name}");
            let long = |end: &str| {
                let (kept, flags) = send_text(way, name, &format!("{fits}{end}"));
                assert_eq!(flags, Flags::TRUNCATED);
                assert!(kept.len() <= limit && kept.starts_with("x1x1"), "{kept}");
                kept
            };
            assert_eq!(long("1"), long("1"));
            assert_ne!(long("1"), long("2"), "{way:?} {name}");
            // The command line finds what is held under it.
            assert_eq!(long("1"), whole::shorten(&format!("{fits}1"), limit));
            // Nobody can send what another ID became.
            assert_ne!(send_text(way, name, &long("1")).0, long("1"));
        }
    }
}

#[test]
fn ids_that_differ_only_in_what_is_cleaned_stay_two() {
    for (name, limit) in IDS.into_iter().chain(NAMES) {
        let mut kept = Vec::new();
        for text in [
            "a1\0",
            "a1\u{1}",
            "a1\u{7f}",
            "a1\u{85}",
            "a1\u{fffd}",
            "a1",
        ] {
            for way in [Way::Query(Endpoint::Pixel), Way::Json] {
                kept.push((text, send_text(way, name, text).0));
            }
        }
        for bytes in [&b"a1\xff"[..], b"a1\xfe", b"a1\xff\xff"] {
            let (text, flags) = send(Way::Query(Endpoint::Pixel), name, &encode(bytes), "0");
            assert!(flags.has(Flags::CLEANED));
            kept.push(("bytes", text));
        }
        for (at, (text, value)) in kept.iter().enumerate() {
            assert!(!value.contains(char::is_control) && value.len() <= limit);
            for (other_text, other) in &kept[at + 1..] {
                let is_same = text == other_text && *text != "bytes";
                assert_eq!(value == other, is_same, "{text:?} {other_text:?}: {value}");
            }
        }
        // What a cleaned ID became is no other ID's either.
        let became = &kept[0].1;
        assert_ne!(send_text(Way::Json, name, became).0, *became);
    }
}

/// Returns texts that are close to each other: of a few letters, often as long as a limit, with
/// what is cleaned, and with what looks like a digest.
fn close_texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ab\u{e5}]{1,2}",
        1 => "[\\u{0}\\u{1}\u{85}\u{fffd}\u{1f389}]",
        1 => Just("~0123456789abcdef0123456789abcdef".to_owned()),
        2 => (1..260_usize).prop_map(|length| "ab".repeat(length)),
        2 => prop_oneof![Just(31_usize), Just(64), Just(95), Just(128), Just(223), Just(256)]
            .prop_map(|length| "a".repeat(length)),
    ];
    proptest::collection::vec(piece, 1..4)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("it is an ID", |text| absent::absence_of_id(text).is_none())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn two_ids_are_one_if_and_only_if_the_whole_values_as_sent_are_equal(
        one in close_texts(),
        other in close_texts(),
        name in 0..IDS.len(),
        ways in (0..WAYS.len(), 0..WAYS.len()),
    ) {
        let (name, limit) = IDS[name];
        let ways = [WAYS[ways.0], WAYS[ways.1]];
        prop_assume!(ways.iter().all(|way| has_place(*way, name)));
        for other in [&one, &other] {
            let kept = [send_text(ways[0], name, &one).0, send_text(ways[1], name, other).0];
            prop_assert_eq!(kept[0] == kept[1], one == *other);
            prop_assert!(kept[0].len() <= limit && !kept[0].contains(char::is_control));
        }
        // Nor is an ID what another one became.
        let kept = send_text(ways[0], name, &one).0;
        let again = send_text(ways[1], name, &kept).0;
        prop_assert_eq!(kept == again, kept == one);
    }
}
