use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::endpoint::{BODY_BYTES_MAX, TRACKER_BODY_BYTES_MAX};

/// Returns the names of the events that can be read, and how many objects have none.
fn names_of(body: &str) -> (BTreeSet<String>, usize) {
    let mut names = BTreeSet::new();
    let mut nameless = 0;
    for event in split_events(body.as_bytes()).unwrap_or_default() {
        let Some(members) = members_of(&event, &mut Flags::default(), &mut |_, _| {}) else {
            continue;
        };
        match members.iter().find(|(name, _)| name == "e") {
            Some((_, name)) => {
                names.insert(name.trim_matches('"').to_owned());
            }
            None => nameless += 1,
        }
    }
    (names, nameless)
}

#[test]
fn a_broken_event_costs_no_other_and_none_of_its_parts_is_an_event() {
    for broken in [
        "",
        "null",
        "7",
        "x",
        "nul",
        "{",
        "}",
        "{}}",
        "]",
        "\"",
        "\\",
        r#""e":"a""#,
        r#"{"e":"#,
        r#"{"e":"a"#,
        r#"{"e":"a\"#,
        r#"{"e":"a","x":"#,
        r#"{"e":"a","x":1"#,
        r#"{"e":"a","x":1]"#,
        r#"{"e":"a","x":[1,2"#,
        r#"{"e":"a","x":[1,2}"#,
        r#"{"e":"a","x":[1,2]"#,
        r#"{"e":"a","x":{"y":[{"z":1}"#,
        r#"{"e":"a","x":}"#,
        r#"{"e":"a",,}"#,
        r#"{"e":"a"]}"#,
        r#"{"e":"a"}}"#,
        r#"{"e":"a","x":1}],"y":2}"#,
        r#"{e":"a","x":"}"}"#,
        r#"{"e:"a","x":"{"}"#,
        r#"{"e":a","x":"},{"}"#,
        r#"{"e":"a,"x":"}]"}"#,
        r#"{"e":"a\","x":"y"}"#,
        r#"{"e":"a""x":"y"}"#,
        r#"{"e""a","x":{"y":1},"z":[{"y":1},{"y":2}]}"#,
        r#"{"e":"a","items":[{"id":1},{"id":2},{"id":3}"#,
        r#"{"e":"a","items":[{"id":1},{"id":2},{"id":3}]"#,
        r#"{"e":"a","items":[{"id":1},{"id":2},{"id":3}}"#,
        r#"{"e":"a","items":{"id":1},{"id":2},{"id":3}]}"#,
        r#"{"e":"a","items":[{"id":1},{"id":},{"id":3,"n":1}]}"#,
        r#"{"e":"a","items":[{"id":"1},{"id":"2"},{"id":"3"}]}"#,
        r#"{"e":"a","items":[{"id":1},{"id":2,{"id":3}]}"#,
        r#"{"e":"a","items":[{"id":1},"id":2},{"id":3}]}"#,
        r#""e":"a","items":[{"id":1},{"id":2}]}"#,
        r#"{"e":"a","text":"[{\"id\":1},{\"id\":2}]"#,
    ] {
        let (one, two, three) = (
            r#"{"e":"1","items":[{"id":1},{"id":2}],"t":"},{"}"#,
            r#"{"e":"2","t":"{\"e\":7}"}"#,
            r#"{ "e" : "3" , "x":"]" }"#,
        );
        let all: BTreeSet<String> = ["1", "2", "3"].map(str::to_owned).into();
        for body in [
            format!("[{one},{broken},{two},{three}]"),
            format!("[{broken},{one},{two},{three}]"),
            format!("[{one},{two},{three},{broken}]"),
            format!("[{one},{broken},{two},{broken},{three}]"),
            format!("[\n  {one},\n  {broken},\n  {two},\n  {three}\n]\n"),
            format!("{one}\n{broken}\n{two}\r\n{three}\n"),
            format!("{broken}\n{one}\n{broken}\n{two}\n{three}"),
        ] {
            let (mut names, nameless) = names_of(&body);
            names.remove("a");
            assert_eq!(names, all, "{body}");
            assert_eq!(
                nameless,
                usize::from(broken == "{}}") * (body.matches("{}}").count()),
                "{body}"
            );
        }
    }
}

#[test]
fn a_bracket_too_many_behind_a_broken_event_costs_no_other() {
    let (one, two) = (r#"{"e":"1","items":[]}"#, r#"{"e":"2","items":[]}"#);
    for broken in [
        r#"{"e":"a""items":[{"id":1}],"t":"}]"}"#,
        r#"{"e":"a","items":[{"id":1}],"t":"}]":"#,
        r#"{"e":"a","items":[{"id":1}],"t":"}]"]"#,
        r#"{"e":"a","items":[{"id":1}"#,
    ] {
        for between in [",", ", ", ",\n  "] {
            for bracket in ["[", " [", "[ "] {
                let body = format!("[{broken}{between}{bracket}{one}{between}{two}]");
                let all: BTreeSet<String> = ["1", "2"].map(str::to_owned).into();
                assert!(names_of(&body).0.is_superset(&all), "{body}");
            }
        }
    }
}

#[test]
fn a_broken_event_is_one_text() {
    for (body, texts) in [
        (
            "null\n{\"a\":1}\n7\n{\"b\":2}\n",
            &["null", "{\"a\":1}", "7", "{\"b\":2}"][..],
        ),
        (
            r#"[null,{"a":1},x,{"b":2}]"#,
            &["null", "{\"a\":1}", "x", "{\"b\":2}"],
        ),
        (r#"[{"a":"x,{"e":1}]"#, &[r#"{"a":"x"#, r#"{"e":1}"#]),
    ] {
        assert_eq!(
            split_events(body.as_bytes()).expect("an event"),
            texts,
            "{body}"
        );
    }
}

#[test]
fn an_event_that_is_too_large_ends_the_body() {
    let large = format!(r#"{{"e":"x","t":"{}"}}"#, "t".repeat(TOLD_BYTES_MAX));
    let items = format!(
        r#"{{"e":"x","i":[{}]}}"#,
        r#"{"id":1},"#.repeat(TOLD_BYTES_MAX / 8)
    );
    for large in [large, items] {
        let body = format!(r#"[{{"e":"1"}},{large},{{"e":"2"}}]"#);
        let read: Vec<_> = Split::new(body.as_bytes()).expect("a body").collect();
        assert_eq!(read, [Ok(&br#"{"e":"1"}"#[..]), Err(Reason::HitTooLarge)]);
    }
}

#[test]
fn a_trackers_event_that_is_too_large_costs_no_other() {
    let item = r#"{"e":1},"#.repeat(TRACKER_TOLD_BYTES_MAX / 8);
    let texts = "t".repeat(TRACKER_TOLD_BYTES_MAX);
    for large in [
        format!(r#"{{"e":"x","t":"{texts}"}}"#),
        format!(r#"{{"e":"x","i":[{item}0]}}"#),
    ] {
        let fits = format!(r#"{{"e":"{}"}}"#, "t".repeat(TRACKER_TOLD_BYTES_MAX - 8));
        let body = format!(r#"[{{"e":"1"}},{large},{fits},{large},{{"e":"2"}}]"#);
        let split = Split::new(body.as_bytes())
            .expect("a body")
            .for_tracker(false, 1);
        let read: Vec<_> = split.collect();
        let too_large = Err(Reason::HitTooLarge);
        let (first, last) = (Ok(&br#"{"e":"1"}"#[..]), Ok(&br#"{"e":"2"}"#[..]));
        assert_eq!(
            read,
            [first, too_large, Ok(fits.as_bytes()), too_large, last]
        );
    }
}

#[test]
fn a_body_of_trackers_faults_is_split_in_linear_time() {
    for piece in [
        "{\"",
        "{\"a\":[1,",
        "[{",
        ",{\"a\":\"",
        "{\"a\":1},{\"b\":",
        "{\"a\":x},",
        "{ ",
    ] {
        let body = format!("[{}", piece.repeat(TRACKER_BODY_BYTES_MAX / piece.len()));
        let start = Instant::now();
        let split = Split::new(body.as_bytes())
            .expect("a body")
            .for_tracker(false, 1);
        assert!(split.take(EVENTS_MAX + 1).count() > 0);
        assert!(start.elapsed() < Duration::from_secs(20), "{piece}");
    }
}

#[test]
fn a_cut_event_costs_no_other_however_many_follow() {
    for cut in [
        r#"{"e":"a","x":[1"#,
        r#"{"e":"a","x":[{"y":1}"#,
        r#"{"e":"a","x":"#,
        r#"{"e":"a"#,
    ] {
        for (open, joint, close) in [("[", ",", "]"), ("", "\n", "")] {
            let event = |n: usize| format!(r#"{{"e":"{n}","t":"{}"}}"#, "t".repeat(400));
            let mut events: Vec<_> = (0..EVENTS_MAX).map(event).collect();
            events[3] = cut.to_owned();
            let body = format!("{open}{}{close}", events.join(joint));
            let (mut names, nameless) = names_of(&body);
            names.remove("a");
            assert_eq!(
                (names.len(), nameless),
                (EVENTS_MAX - 1, 0),
                "{cut} {joint:?}"
            );
        }
    }
}

/// Each of these took minutes where a scan began anew at each place.
#[test]
fn a_body_of_nothing_but_faults_is_split_in_linear_time() {
    for piece in [
        "{\"",
        "{\"a\":[1,",
        ",{\"a\":[1,{\"b\":",
        "{\"a\":[{\"b\":x}",
        "[{",
        "\\\"",
        ",{\"a\":\"",
        "{\"a\":1},{\"b\":",
        "]},{\"",
        "{\"a\":[{\"a\":1},",
        "{\"a\":1}]",
        "{}]",
        "{\n",
        "\n{",
        "{ ",
        "null ",
        "{\"a\":x},",
        "{\"a\":x}",
        "{\"a\":x}{\"a\":1}]\"",
    ] {
        let body = piece.repeat(BODY_BYTES_MAX / piece.len());
        for body in [
            format!("[{body}"),
            format!("{{}}\n{body}"),
            format!("[{body}]}}]]"),
        ] {
            let start = Instant::now();
            let events = split_events(body.as_bytes()).unwrap_or_default();
            assert!(events.len() <= EVENTS_MAX + 1);
            assert!(start.elapsed() < Duration::from_secs(20), "{piece}");
        }
    }
}

/// Returns an event with that name and what pages send.
fn event(index: usize) -> impl Strategy<Value = Value> {
    let text = "[ -~å\\n]{0,12}|[{}\\[\\],:\"]{1,4}";
    let item = (text, 0..99).prop_map(|(name, price)| json!({"name": name, "price": price}));
    let items = proptest::collection::vec(item, 0..4);
    (text, items, -9.9..9.9, text).prop_map(move |(title, items, x, page)| {
        json!({
            "e": format!("event {index}"),
            "title": title,
            "items": items,
            "place": {"x": x, "tags": [1, true, null, page]},
        })
    })
}

/// Changes one byte of a text, or cuts it.
fn mutate(text: &str, (how, at, byte): (u8, usize, char)) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let at = at % characters.len();
    match how {
        0 => drop(characters.remove(at)),
        1 => characters.insert(at, byte),
        2 => characters[at] = byte,
        _ => characters.truncate(at),
    }
    characters.into_iter().collect()
}

type Mutation = Option<(u8, usize, char)>;

fn batch() -> impl Strategy<Value = Vec<(Value, Mutation)>> {
    let marks: Vec<char> = "{}[]\",:\\ x0".chars().collect();
    let mutation = (0..4_u8, any::<usize>(), proptest::sample::select(marks));
    let mutation = proptest::option::weighted(0.4, mutation);
    (2..12_usize, proptest::collection::vec(mutation, 12)).prop_flat_map(|(count, mutations)| {
        let events: Vec<_> = (0..count).map(event).collect();
        events.prop_map(move |events| events.into_iter().zip(mutations.clone()).collect())
    })
}

/// Writes a batch in each form, and returns it with the names of the events that were left alone
/// and stand for themselves.
fn write_batch(batch: &[(Value, Mutation)]) -> (Vec<String>, BTreeSet<String>) {
    let texts: Vec<String> = batch
        .iter()
        .map(|(event, mutation)| match mutation {
            Some(mutation) => mutate(&event.to_string(), *mutation),
            None => event.to_string(),
        })
        .collect();
    // Behind a colon that nothing follows, an event is the value of a member.
    let is_apart = |at: &usize| {
        let before = at.checked_sub(1).and_then(|before| texts.get(before));
        before.is_none_or(|before| !before.trim_end().ends_with(':'))
    };
    let whole = batch.iter().enumerate();
    let whole = whole.filter(|(at, (_, mutation))| mutation.is_none() && is_apart(at));
    let names = whole.filter_map(|(_, (event, _))| event["e"].as_str());
    let bodies = vec![
        format!("[{}]", texts.join(",")),
        format!("[\n  {}\n]\n", texts.join(",\n  ")),
        texts.join("\n"),
    ];
    (bodies, names.map(str::to_owned).collect())
}

/// How many batches are broken at random: `SPLIT_BATCHES`, or few.
fn count_batches() -> u32 {
    let batches = std::env::var("SPLIT_BATCHES");
    batches.map_or(2_000, |batches| batches.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(count_batches()))]

    #[test]
    fn every_event_that_was_left_alone_is_found(batch in batch()) {
        let (bodies, whole) = write_batch(&batch);
        for body in bodies {
            let (names, _) = names_of(&body);
            let lost: Vec<_> = whole.difference(&names).collect();
            prop_assert!(lost.is_empty(), "{lost:?} of {body}");
        }
    }
}
