use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::endpoint::BODY_BYTES_MAX;
use crate::protocol::native::{Members, split_events};

/// Returns the numbers of the events that can be read.
fn numbers(events: &[u8]) -> Vec<u64> {
    let events = split_events(events).unwrap_or_default();
    let number = |event: &str| serde_json::from_str::<Value>(event).ok()?["e"].as_u64();
    events.iter().filter_map(|event| number(event)).collect()
}

/// Returns what serde reads: the list, and the other members.
fn read_by_serde<'b>(body: &'b str, list: &str) -> (&'b str, Vec<(String, &'b str)>) {
    let Members(members) = serde_json::from_str(body).expect("valid JSON");
    let mut members: Vec<_> = members
        .into_iter()
        .map(|(name, value): (String, &RawValue)| (name, value.get()))
        .collect();
    let is_list = |(name, value): &(String, &str)| name == list && value.starts_with('[');
    let at = members.iter().position(is_list);
    let events = at.map_or("", |at| members.remove(at).1);
    (events, members)
}

fn assert_same(body: &str, list: &str) {
    let (events, members) = read_by_serde(body, list);
    let envelope = Envelope::open(body.as_bytes(), list).expect("an object");
    assert_eq!(envelope.events, events.as_bytes(), "{body}");
    assert_eq!(envelope.members, members, "{body}");
}

#[test]
fn what_is_valid_is_read_as_serde_reads_it() {
    for body in [
        "{}",
        r#"{"batch":[]}"#,
        r#"{"batch":7,"batch":[1],"batch":[2]}"#,
        r#" { "a" : "\\" , "batch" : [ {"x":"]}"} ] , "b" : -1.5e+3 } "#,
        r#"{"batch":[[1],[2]],"tags":["a","]"],"o":{"p":[{"q":"\\\""}]},"n":null}"#,
        r#"{"\u0062atch":[1],"batch":[2]}"#,
        r#"{"o":{"batch":[1]},"batch":[2]}"#,
        r#"{"o":{"batch":[1]},"s":"\"batch\":[3]"}"#,
        r#"{"batch":{"batch":[1]},"e":"\\\\","f":"\"","g":true}"#,
    ] {
        assert_same(body, "batch");
    }
    let members = |body| Envelope::open(body, "batch").map(|envelope| envelope.members.len());
    assert_eq!(members(b""), None);
    assert_eq!(members(b"\"batch\""), None);
    assert_eq!(members(b" "), None);
    let bare = Envelope::open(b"\xef\xbb\xbf[{\"e\":1}]\n", "batch").expect("a list");
    assert_eq!(bare.events, b"[{\"e\":1}]");
    assert_eq!(bare.members, []);
}

#[test]
fn a_broken_event_costs_neither_the_others_nor_what_stands_around_the_list() {
    for broken in [
        "",
        "null",
        "x",
        "{",
        "}",
        "]",
        "\"",
        r#"{"e":"#,
        r#"{"e":"a"#,
        r#"{"e":"a","x":1"#,
        r#"{"e":"a","x":1]"#,
        r#"{"e":"a","x":[1,2"#,
        r#"{"e":"a","x":[1,2]"#,
        r#"{"e":"a","x":[{"z":1}]"#,
        r#"{"e":"a","x":}"#,
        r#"{"e":"a"]}"#,
        r#"{"e":"a"}}"#,
        r#"{"e:"a","x":"{"}"#,
        r#"{"e":a","x":"},{"}"#,
        r#"{"e":"a,"x":"}]"}"#,
        r#"{"e":"a\","x":"y"}"#,
        r#"{"e":"a","batch":[{"id":1},{"id":2}"#,
        r#"{"e":"a","x":1}],"y":2}"#,
    ] {
        let (one, two) = (r#"{"e":1,"t":"]},{\""}"#, r#"{"e":2,"items":[{"e":7}]}"#);
        for events in [
            format!("[{broken},{one},{two}]"),
            format!("[{one},{broken},{two}]"),
            format!("[ {one}, {two}, {broken} ]"),
        ] {
            let tail = r#""sentAt":"]\"","tags":["a",{"b":[]}],"writeKey":"k"#;
            let body = format!("{{\"schema\":\"s\",\"batch\":{events},{tail}\"}}\n");
            let envelope = Envelope::open(body.as_bytes(), "batch").expect("an object");
            assert_eq!(numbers(envelope.events), [1, 2], "{body}");
            assert_eq!(envelope.member("schema"), Some("\"s\""), "{body}");
            assert_eq!(envelope.member("sentAt"), Some(r#""]\"""#), "{body}");
            assert_eq!(envelope.member("tags"), Some(r#"["a",{"b":[]}]"#), "{body}");
            assert_eq!(envelope.member("writeKey"), Some("\"k\""), "{body}");
        }
    }
}

#[test]
fn a_broken_envelope_costs_no_event() {
    let events = r#"[{"e":1,"x":[{"e":7}]},{"e":2}]"#;
    for (body, sent_at) in [
        (format!("{{\"batch\":{events}"), None),
        (
            format!("{{\"batch\":{events},\"sentAt\":\"1\""),
            Some("\"1\""),
        ),
        (
            format!("{{\"batch\":{events},\"sentAt\":\"1\",\"k\":\"2"),
            Some("\"1\""),
        ),
        (format!("{{\"batch\":{events},\"sentAt\":1,}}"), Some("1")),
        (format!("{{\"batch\":{events},sentAt:1}}"), None),
        (format!("{{\"batch\":{events}}}}}"), None),
        (
            format!("{{\"s\":\"x\" \"batch\" : {events},\"sentAt\":1}}"),
            Some("1"),
        ),
        (
            format!("{{\"s\":{{,\"batch\":{events},\"sentAt\":1}}"),
            Some("1"),
        ),
        (format!("{{batch\":1,\"batch\":{events}}}"), None),
        (
            format!("{{\"batch\":{}", events.trim_end_matches(']')),
            None,
        ),
    ] {
        let envelope = Envelope::open(body.as_bytes(), "batch").expect("an object");
        assert_eq!(numbers(envelope.events), [1, 2], "{body}");
        assert_eq!(envelope.member("sentAt"), sent_at, "{body}");
    }
}

#[test]
fn what_cannot_be_read_of_an_envelope_is_a_member_without_a_name() {
    let many = |more: &str| {
        let members = (0..MEMBERS_MAX + 2).map(|number| format!("\"k{number}\":1"));
        members
            .chain([more.to_owned()])
            .collect::<Vec<_>>()
            .join(",")
    };
    let signal = "\"gpc\":1";
    for body in [
        format!("{{\"a\":nope!,{signal},\"batch\":[1]}}"),
        format!("{{{},\"batch\":[1]}}", many(signal)),
        format!("{{\"batch\":[1],{}}}", many(signal)),
        format!("{{\"batch\":[1],\"a\":,{signal}}}"),
    ] {
        let envelope = Envelope::open(body.as_bytes(), "batch").expect("an object");
        let members = envelope.members.iter();
        let unread: Vec<_> = members.filter(|(name, _)| name.is_empty()).collect();
        assert!(
            unread.iter().any(|(_, text)| text.contains(signal)),
            "{body}"
        );
        assert!(envelope.events.starts_with(b"[1"), "{body}");
    }
    let body = b"{\"c\":{\"a\":\"\xff\",\"gpc\":true},\"gpc\":\"\xff\",\"batch\":[1]}";
    let envelope = Envelope::open(body, "batch").expect("an object");
    assert_eq!(envelope.member("gpc"), Some(NO_TEXT));
    let mut texts = envelope.members.iter().map(|(_, text)| *text);
    assert!(texts.any(|text| text.contains("\"gpc\":true")));
}

#[test]
fn a_body_of_nothing_but_faults_is_opened_in_linear_time() {
    for piece in [
        "{\"",
        "\\\"",
        "\\\\",
        "]",
        "}",
        "[",
        "\"",
        "\"batch\" ",
        "\"batch\":[",
        "],\"a\":[",
        " ",
        ",",
        "\"a\":1,",
        "\"a\":[],",
        "{\"a\":",
    ] {
        let filling = piece.repeat(BODY_BYTES_MAX / piece.len());
        for body in [
            format!("{{{filling}"),
            format!("{{\"batch\":[{filling}],\"a\":1}}"),
            format!("{{\"batch\":[],{filling}}}"),
            format!("{{\"a\":[{filling}],\"batch\":[]}}"),
        ] {
            let start = Instant::now();
            let envelope = Envelope::open(body.as_bytes(), "batch").expect("an object");
            assert!(envelope.members.len() <= 2 * MEMBERS_MAX + 3);
            assert!(start.elapsed() < Duration::from_secs(5), "{piece}");
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let text = "[ -~å\\n]{0,12}|[{}\\[\\],:\"\\\\]{1,5}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-1e20..1e20).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        let member = (text, inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            proptest::collection::vec(member, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Writes an object with blanks around each of its members' parts.
fn write_object(members: &[(String, Value)], blank: &str) -> String {
    let member = |(name, value): &(String, Value)| {
        let name = Value::from(name.as_str());
        format!("{blank}{name}{blank}:{blank}{value}{blank}")
    };
    let members: Vec<String> = members.iter().map(member).collect();
    format!("{blank}{{{}}}{blank}", members.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_valid_object_is_read_as_serde_reads_it(
        members in proptest::collection::vec(("batch|[a-z\"\\\\]{0,4}", value()), 0..6),
        blank in "[ \\n\\t]{0,2}",
    ) {
        assert_same(&write_object(&members, &blank), "batch");
    }

    #[test]
    fn any_bytes_are_opened(start in "\\{?\"batch\":\\[", body in "[{}\\[\\],:\"\\\\ab1 ]{0,40}") {
        Envelope::open(format!("{start}{body}").as_bytes(), "batch");
        Envelope::open(body.as_bytes(), "a");
    }
}
