use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::clock::UnixMicros;
use crate::hit::Kind;
use crate::protocol::Draft;
use crate::protocol::native::Reading;

/// What values are made of, as sent: addresses, separators and signals, each also escaped. No value
/// has an `&`.
const PARTS: [&str; 33] = [
    "https://",
    "https%3A%2F%2F",
    "HTTP%3a%2F%2f",
    "http:",
    "%2F",
    "/",
    "a.example",
    "x",
    "?",
    "%3F",
    "%3f",
    "#",
    "%23",
    "%26",
    "%2526",
    "%25",
    "%",
    "%zz",
    "%C3%A5",
    "%EF%BC%9D",
    "=",
    "%3D",
    ":",
    "%3A",
    ";",
    "%3B",
    "+",
    "%20",
    "gdpr",
    "lat",
    "1",
    "%67dpr",
    "\"",
];

fn is_unclear(note: impl FnOnce(&mut HitReader<'_, '_, '_>)) -> bool {
    let mut draft = Draft::new(UnixMicros(0), Kind::PageView);
    let mut reader = HitReader::new(Reading::default(), &mut draft);
    note(&mut reader);
    draft.signals.is_unclear
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50_000))]

    #[test]
    fn a_value_that_is_not_decoded_would_hide_nothing(
        parts in proptest::collection::vec(select(&PARTS[..]), 0..9),
    ) {
        let raw = parts.concat();
        let is_hidden = is_unclear(|reader| {
            reader.note_hidden(None, Some(&decode_once(&raw)));
        });
        prop_assert!(may_hide_decoded(raw.as_bytes()) || !is_hidden || is_unclear(|reader| {
            reader.draft.signals.is_unclear = reader.hides(&raw);
        }), "{}", raw);
    }
}

#[test]
fn what_most_values_are_is_not_decoded() {
    for raw in [
        "",
        "Mobiler%20%26%20mer",
        "2026-11-25%2010+00",
        "https%3A%2F%2Fa.example%2Fb%20c%3Fd%3De%26gdpr%3D1",
        "https%3A%2F%2Fa.example%2Fb#gdpr=1",
    ] {
        assert!(!may_hide_decoded(raw.as_bytes()), "{raw}");
    }
    for raw in [
        "x+gdpr=1",
        "x%3Bgdpr%3D1",
        "x%253Bgdpr%253D1",
        "https%3A%2F%2Fa.example%2Fb%26gdpr%3D1",
        "https%3A%2F%2Fa.example%2Fb%2526gdpr%3D1",
    ] {
        assert!(may_hide_decoded(raw.as_bytes()), "{raw}");
    }
}
