#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::borrow::Cow;

use super::*;
use crate::identity::{LinkPermit, NodeKind, TieSource};

const DAY: i64 = 24 * HOUR_MICROS;
/// A day of 2026, at midnight.
const NOON: i64 = 20_700 * DAY;

fn memory() -> TieMemory {
    let mut memory = TieMemory::new(RandomState::new());
    memory.set_now(UnixMicros(NOON));
    memory
}

fn node(number: u64) -> Node {
    Node(u128::from(number).to_be_bytes())
}

fn tie(a: u64, b: u64, is_proved: bool) -> Tie<'static> {
    Tie {
        a: node(a),
        b: node(b),
        a_kind: NodeKind::Visitor,
        b_kind: NodeKind::Maid,
        partner: Cow::Borrowed(""),
        at: UnixMicros(NOON),
        permit: LinkPermit::new(Permit::ALL).unwrap(),
        consent_source: ConsentSource::Choice,
        source: TieSource::Hit,
        is_proved,
    }
}

fn is_new(memory: &mut TieMemory, tie: &Tie<'_>) -> bool {
    matches!(memory.note_tie(tie), Novelty::New(_))
}

#[test]
fn a_tie_is_stored_once_a_week_and_once_more_when_it_is_proved() {
    let mut memory = memory();
    assert!(is_new(&mut memory, &tie(1, 2, false)));
    assert_eq!(memory.note_tie(&tie(1, 2, false)), Novelty::Stored);
    assert!(is_new(&mut memory, &tie(1, 2, true)));
    assert_eq!(memory.note_tie(&tie(1, 2, false)), Novelty::Stored);
    memory.set_now(UnixMicros(NOON + 7 * DAY - HOUR_MICROS));
    assert_eq!(memory.note_tie(&tie(1, 2, true)), Novelty::Stored);
    memory.set_now(UnixMicros(NOON + 7 * DAY));
    assert!(is_new(&mut memory, &tie(1, 2, true)));
}

#[test]
fn a_tie_that_was_left_out_or_removed_is_stored_again() {
    let mut memory = memory();
    let Novelty::New(forget) = memory.note_tie(&tie(1, 2, false)) else {
        panic!("it is new");
    };
    memory.forget_tie(forget);
    assert!(is_new(&mut memory, &tie(1, 2, false)));
    assert!(is_new(&mut memory, &tie(1, 3, false)));
    assert!(is_new(&mut memory, &tie(4, 5, false)));
    for _ in 0..2 {
        memory.unlink(node(1));
        assert!(is_new(&mut memory, &tie(1, 2, false)));
        assert!(is_new(&mut memory, &tie(1, 3, false)));
        assert_eq!(memory.note_tie(&tie(4, 5, false)), Novelty::Stored);
    }
    memory.unlink(node(3));
    assert!(is_new(&mut memory, &tie(1, 3, false)));
    assert_eq!(memory.note_tie(&tie(1, 2, false)), Novelty::Stored);
}

#[test]
fn an_id_that_twenty_others_had_within_an_hour_ties_nothing_until_the_next_day() {
    let mut memory = memory();
    for visitor in 0..20 {
        assert!(
            is_new(&mut memory, &tie(100 + visitor, 1_000, false)),
            "{visitor}"
        );
        // Seen again, it is the same tie.
        assert_eq!(
            memory.note_tie(&tie(100 + visitor, 1_000, false)),
            Novelty::Stored
        );
    }
    assert_eq!(memory.note_tie(&tie(120, 1_000, false)), Novelty::Hub);
    memory.set_now(UnixMicros(NOON + 2 * HOUR_MICROS));
    assert_eq!(memory.note_tie(&tie(121, 1_000, false)), Novelty::Hub);
    assert!(is_new(&mut memory, &tie(121, 1_001, false)));
    memory.set_now(UnixMicros(NOON + DAY));
    assert!(is_new(&mut memory, &tie(122, 1_000, false)));
}

#[test]
fn a_visitor_who_names_ever_new_ids_makes_twenty_ties_an_hour() {
    let mut memory = memory();
    let made = (0..10_000).filter(|id| is_new(&mut memory, &tie(1, 1_000 + id, false)));
    assert_eq!(made.count(), 20);
}

#[test]
fn the_new_ties_of_a_busy_hour_make_nobody_a_hub() {
    let mut memory = memory();
    let hubs =
        (0..60_000).filter(|id| !is_new(&mut memory, &tie(1 << 32 | id, 2 << 32 | id, false)));
    assert_eq!(hubs.count(), 0);
}

#[test]
fn no_number_of_ties_makes_the_memory_grow() {
    let mut memory = memory();
    for id in 0..2_000_000 {
        if id % 50_000 == 0 {
            memory.new_ties.clear();
        }
        memory.note_tie(&tie(1 << 32 | id, 2 << 32 | id, false));
        memory.note_permit(node(id), ("shop", ""), Permit::ALL, ConsentSource::Choice);
        memory.note_sighting(node(1 << 32 | id), &id);
        if id % 10 == 0 {
            memory.unlink(node(1 << 32 | id));
        }
    }
    let bytes = memory.pairs.bytes() + memory.permits.bytes() + memory.sightings.bytes();
    assert_eq!(bytes, 24 << 20);
    assert_eq!(memory.new_ties.0.capacity(), 64 << 10);
    assert!(memory.unlinked.len() <= UNLINKED_MAX && memory.hubs.len() <= HUBS_MAX);
}

#[test]
fn a_permit_is_stored_when_it_changes_weekly_and_a_refusal_each_minute() {
    let mut memory = memory();
    let refused = Permit::STORE.with(Permit::MEASURE);
    let says = |memory: &mut TieMemory, permit| {
        memory.note_permit(node(1), ("shop", ""), permit, ConsentSource::Choice)
    };
    assert!(says(&mut memory, Permit::ALL) && !says(&mut memory, Permit::ALL));
    assert!(memory.note_permit(node(1), ("news", ""), Permit::ALL, ConsentSource::Choice));
    assert!(memory.note_permit(node(1), ("shop", "ads"), Permit::ALL, ConsentSource::Choice));
    assert!(memory.note_permit(node(1), ("shop", ""), Permit::ALL, ConsentSource::Tcf));
    // A default does not replace the subject's own word, and is replaced by it.
    for source in [ConsentSource::Default, ConsentSource::Gdpr0] {
        assert!(!memory.note_permit(node(1), ("shop", ""), Permit::STORE, source));
        assert!(memory.note_permit(node(2), ("shop", ""), Permit::STORE, source));
    }
    assert!(memory.note_permit(node(2), ("shop", ""), Permit::STORE, ConsentSource::Gpc));
    assert!(says(&mut memory, refused) && !says(&mut memory, refused));
    memory.set_now(UnixMicros(NOON + MINUTE_MICROS));
    assert!(says(&mut memory, refused) && says(&mut memory, Permit::ALL));
    memory.set_now(UnixMicros(NOON + 6 * DAY));
    assert!(!says(&mut memory, Permit::ALL));
    // Another collector stored a refusal, so what is permitted again must be stored again.
    assert!(is_new(&mut memory, &tie(1, 2, false)));
    memory.correct_permit(node(1), ("shop", ""), refused, ConsentSource::Choice);
    assert!(says(&mut memory, Permit::ALL));
    assert!(is_new(&mut memory, &tie(1, 2, false)));
    // What another stored just so changes nothing.
    memory.correct_permit(node(1), ("shop", ""), Permit::ALL, ConsentSource::Choice);
    assert!(!says(&mut memory, Permit::ALL));
}

#[test]
fn a_sighting_is_stored_once_and_again_where_it_was_left_out_or_its_id_lost_what_it_had() {
    let mut memory = memory();
    let (mine, other) = (node(1), node(2));
    let hour = memory.note_sighting(mine, &(mine, 20)).unwrap();
    assert_eq!(memory.note_sighting(mine, &(mine, 20)), None);
    assert!(memory.note_sighting(mine, &(mine, 21)).is_some());
    assert!(memory.note_sighting(other, &(other, 20)).is_some());
    memory.forget_sighting(hour);
    assert!(memory.note_sighting(mine, &(mine, 20)).is_some());
    // Of an ID without a tie, twice, by a refusal here and by one that another loader stored.
    let lose: [fn(&mut TieMemory, Node); 2] = [
        |memory, node| memory.unlink(node),
        |memory, node| {
            let rules = ("shop", "");
            memory.correct_permit(node, rules, Permit::NONE, ConsentSource::Choice);
        },
    ];
    for lose in lose {
        lose(&mut memory, mine);
        for hour in [20, 21] {
            assert!(memory.note_sighting(mine, &(mine, hour)).is_some());
            assert_eq!(memory.note_sighting(mine, &(mine, hour)), None);
        }
        assert_eq!(memory.note_sighting(other, &(other, 20)), None);
    }
}
