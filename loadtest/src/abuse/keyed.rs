//! Attacks on what hits are told apart by: event IDs and the keys of dimension rows.

use std::io::Write as _;

use super::{Attack, Manner, SITE};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "burnt event IDs",
        aim: "the figures: a stranger uses the IDs of coming orders, with other values",
        connections: 4,
        request: burn_id,
        manner: Manner::Exchanges,
        query: Some(
            "select count(*) filter (where flags & 2097152 <> 0), count(*) from avtryck.hit",
        ),
    },
    Attack {
        name: "one event ID, other content",
        aim: "loading: each hit of one ID says something else",
        connections: 4,
        request: conflict,
        manner: Manner::Exchanges,
        query: Some(
            "select count(*), pg_total_relation_size('avtryck.event_key') from avtryck.event_key",
        ),
    },
];

/// Writing into a buffer cannot fail.
fn get(target: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    drop(write!(
        out,
        "GET {target} HTTP/1.1\r\nHost: px.example\r\n\r\n"
    ));
}

fn burn_id(number: u64, out: &mut Vec<u8>) {
    let order = number / 2;
    let value = number % 2;
    get(
        format_args!("/p.gif?site={SITE}&e=conversion&id=order-{order}&value={value}"),
        out,
    );
}

fn conflict(number: u64, out: &mut Vec<u8>) {
    get(
        format_args!("/p.gif?site={SITE}&e=conversion&id=order-1&value={number}"),
        out,
    );
}
