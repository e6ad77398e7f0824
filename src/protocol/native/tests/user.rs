//! Who is logged in, which only a body says.

use super::*;

fn begin(kind: Kind) -> Draft<'static> {
    Draft::new(UnixMicros(7), kind)
}

#[test]
fn a_body_says_who_is_logged_in_and_nothing_of_it_is_in_the_hit() {
    for (event, user) in [
        (r#"{"e":"buy","user":"anna"}"#, "anna"),
        (r#"{"user":4711}"#, "4711"),
        (r#"{"user":"anna","user":"berta"}"#, "anna"),
        (r#"{"user":"null"}"#, ""),
        (r#"{"user":true}"#, ""),
    ] {
        let mut draft = begin(Kind::PageView);
        assert!(read_event(event, "", Reading::default(), &mut draft));
        assert_eq!(draft.user, user, "{event}");
        assert_eq!(draft.hit.params, "", "{event}");
    }
    // What is known of a user is no ID.
    let event = r#"{"user":{"plan":"gold"}}"#;
    let mut draft = begin(Kind::PageView);
    assert!(read_event(event, "", Reading::default(), &mut draft));
    assert_eq!((&*draft.user, &*draft.hit.params), ("", event));
}

#[test]
fn an_address_never_says_who_is_logged_in_and_none_of_it_is_kept() {
    let in_json = "json=%7B%22e%22%3A%22buy%22%2C%22user%22%3A%22anna%22%7D";
    for query in ["user=anna", "x=1&us%65r=anna&user=berta", in_json] {
        for kind in [Kind::PageView, Kind::Impression, Kind::Click] {
            let mut draft = begin(kind);
            read_query(query, Reading::default(), &mut draft);
            assert_eq!(draft.user, "", "{query}");
            let is_kept = draft.hit.params.contains("anna");
            assert!(
                !is_kept || query == in_json && kind != Kind::PageView,
                "{query}"
            );
        }
        let mut draft = begin(Kind::PageView);
        assert!(read_event(
            r#"{"user":"clara"}"#,
            query,
            Reading::default(),
            &mut draft
        ));
        assert_eq!(draft.user, "clara", "{query}");
    }
}
