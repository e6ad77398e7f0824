use proptest::prelude::*;
use serde_json::Value;

use super::{read_request, recorded, request};

/// Changes one character of a text, or cuts it.
fn mutate(text: &str, (how, at, mark): (u8, usize, char)) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let at = at % characters.len();
    match how {
        0 => drop(characters.remove(at)),
        1 => characters.insert(at, mark),
        2 => characters[at] = mark,
        _ => characters.truncate(at),
    }
    characters.into_iter().collect()
}

/// The calls of recorded batches, as text.
fn recorded_batches() -> Vec<Vec<String>> {
    let files = [
        "segment-node-3.1.0.json",
        "segment-python-2.4.0.json",
        "segment-browser-1.84.3-batch.jsdom.json",
        "rudderstack-node-3.0.13.json",
        "rudderstack-python-2.1.9-nogzip.json",
        "rudderstack-browser-3.34.1-beacon.jsdom.json",
    ];
    let requests = files.iter().flat_map(|file| recorded(file));
    let calls = requests.map(|request| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let calls = body["batch"].as_array().unwrap().iter();
        calls.map(Value::to_string).collect::<Vec<_>>()
    });
    calls.filter(|calls| calls.len() > 1).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_changed_call_costs_no_other_of_its_batch(
        batch in proptest::sample::select(recorded_batches()),
        changed in any::<usize>(),
        change in (0..4_u8, any::<usize>(), proptest::sample::select(
            "{}[]\",:\\ x0".chars().collect::<Vec<_>>(),
        )),
    ) {
        let mut calls = batch.clone();
        let changed = changed % calls.len();
        calls[changed] = mutate(&calls[changed], change);
        // What follows a list that was cut right behind its bracket looks like its items.
        prop_assume!(!calls[changed].ends_with('['));
        let list = calls.join(",");
        let body = format!(r#"{{"batch":[{list}],"sentAt":"2026-11-26T17:49:00Z","writeKey":"k"}}"#);
        let read = read_request(&request("/v1/batch", &body));
        let found: Vec<&str> = read.iter().flatten().filter_map(|call| call["id"].as_str()).collect();
        for (at, call) in batch.iter().enumerate().filter(|(at, _)| *at != changed) {
            let call: Value = serde_json::from_str(call).unwrap();
            let id = call["messageId"].as_str().unwrap();
            prop_assert!(found.contains(&id), "call {at} of {body}");
        }
        prop_assert!(read.iter().flatten().all(|call| call["site"] == "k"), "{body}");
    }
}
