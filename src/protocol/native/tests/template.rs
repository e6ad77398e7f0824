//! Events of a body, whose address is read once, and what is left out.

use super::*;
use crate::hit::limits::{PARAMETERS_READ_MAX, TOLD_BYTES_MAX};

/// Parameters that an address and an event may have in common.
const COMMON: [&str; 22] = [
    "site=a",
    "site=",
    "u=https%3A%2F%2Fshop.example%2F%3Fa%3D1",
    "e=buy",
    "id=7",
    "id=null",
    "partner=net",
    "partner=",
    "campaign=c%20d",
    "maid=${MAID}",
    "ch_mobile=?1",
    "ch_model=x",
    "gdpr=1",
    "gdpr=0",
    "gdpr_consent=CP",
    "GDPR=1",
    "lat=1",
    "Site=b",
    "x=1",
    "x=2&y=%00",
    "json=%7B%22z%22%3A1%2C%22e%22%3A%22q%22%7D",
    "gpp_sid=2",
];

proptest! {
    #[test]
    fn an_address_that_is_read_once_says_the_same_to_each_event(
        address in prop::collection::vec(0..COMMON.len(), 0..9),
        event in prop::collection::vec(0..COMMON.len(), 0..6),
        is_callback in any::<bool>(),
    ) {
        let name = |at: &usize| COMMON[*at];
        let address = address.iter().map(name).collect::<Vec<_>>().join("&");
        let members: Vec<String> = event
            .iter()
            .flat_map(|at| COMMON[*at].split('&'))
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| format!("\"{name}\":\"{value}\""))
            .collect();
        let event = format!("{{{}}}", members.join(","));
        let kind = if is_callback { Kind::Callback } else { Kind::PageView };
        let mut begun = begin(kind);
        begun.hit.user_agent = "UA".into();
        begun.hit.page_url = "https://a.example/".into();
        begun.hit.hints.mobile = Some(false);
        let reading = Reading::default();
        let mut alone = begun.clone();
        prop_assert!(read_event(&event, &address, reading, &mut alone));
        let template = Template::new(begun, &address, reading);
        for _ in 0..2 {
            let mut draft = template.read(&event).expect("an event");
            // What the address says twice and in two ways is never understood, whatever the
            // event says.
            let is_narrower = draft.signals.is_unclear && !alone.signals.is_unclear;
            if is_narrower {
                prop_assert!(address.contains("gdpr=0") && address.contains("gdpr=1"));
                draft.signals.is_unclear = false;
                draft.hit.flags = alone.hit.flags;
            }
            prop_assert_eq!(&draft, &alone);
        }
    }
}

#[test]
fn what_comes_after_the_most_that_is_read_is_left_out_but_for_what_it_says_of_consent() {
    assert_eq!(PARAMETERS_READ_MAX, PARAMS_MAX + Parameter::ALL.len());
    for (at, parameter) in Parameter::ALL.iter().enumerate() {
        assert_eq!(parameter.bit(), 1 << at);
    }
    let last = Parameter::ALL.len() - 1;
    assert_eq!(Parameter::ALL[last], Parameter::Truncated);
    let many: Vec<String> = (0..PARAMETERS_READ_MAX)
        .map(|n| format!("k{n}=1"))
        .collect();
    for (late, is_unclear) in [
        ("campaign=late", false),
        ("size=1:2", false),
        ("gdpr=1", true),
        ("partner=net", true),
        ("usPrivacy=1YYN", true),
        ("x=1%26gdpr%3D1", true),
        ("x=;gdpr=1", true),
    ] {
        let query = format!("{}&{late}", many.join("&"));
        let mut of_query = begin(Kind::PageView);
        read_query(&query, Reading::default(), &mut of_query);
        let members: Vec<String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| format!("\"{name}\":\"{value}\""))
            .collect();
        let event = format!("{{{}}}", members.join(","));
        let mut of_event = begin(Kind::PageView);
        assert!(read_event(&event, "", Reading::default(), &mut of_event));
        for Draft { hit, signals, .. } in [of_query, of_event] {
            assert_eq!(signals.is_unclear, is_unclear, "{late}");
            assert_eq!(&*hit.campaign, "");
            assert!(hit.flags.has(Flags::TRUNCATED));
        }
    }
    // What is in an object would have to be looked into.
    let members: Vec<String> = (0..=PARAMETERS_READ_MAX)
        .map(|n| format!("\"k{n}\":{{}}"))
        .collect();
    let mut draft = begin(Kind::PageView);
    let event = format!("{{{}}}", members.join(","));
    assert!(read_event(&event, "", Reading::default(), &mut draft));
    assert!(draft.signals.is_unclear);
}

#[test]
fn an_array_has_as_many_events_as_its_bytes_are_worth() {
    let read = |body: &str| {
        let template = Template::new(begin(Kind::PageView), "site=a", Reading::default());
        let events = Events::new(body.as_bytes(), template, None).expect("a body");
        events.iter().map(|draft| draft.err()).collect::<Vec<_>>()
    };
    let empty = format!("[{}{{}}]", "{},".repeat(999));
    let read_empty = read(&empty);
    assert_eq!(read_empty.len(), 64 + empty.len() / 8 + 1);
    assert_eq!(read_empty.last(), Some(&Some(Reason::TooManyEvents)));
    let short = format!("[{}{{\"a\":1}}]", "{\"a\":1},".repeat(999));
    assert_eq!(read(&short), vec![None; 1000]);
    let large = format!(
        "[{{\"a\":1}},{{\"a\":\"{}\"}},{{\"a\":1}}]",
        "x".repeat(TOLD_BYTES_MAX)
    );
    assert_eq!(read(&large), [None, Some(Reason::HitTooLarge)]);
    assert_eq!(read("[]"), []);
}
