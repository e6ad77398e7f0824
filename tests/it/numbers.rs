//! Numbers that documentation has by hand: each is that of its constant.

use avtryck::callback::{system, user};
use avtryck::endpoint::{
    BODY_BYTES_MAX, EVENTS_MAX, TRACKER_BODY_BYTES_MAX, TRACKER_HEADER_BYTES_MAX,
    TRACKER_URI_BYTES_MAX, URI_BYTES_MAX,
};
use avtryck::hit::limits::{TOLD_BYTES_MAX, TRACKER_PARAMS_BYTES_MAX, TRACKER_TOLD_BYTES_MAX};
use avtryck::identity::group::GROUP_NODES_MAX;
use avtryck::identity::household::EPOCH_DAYS;
use avtryck::import::read::{FILE_BYTES_MAX, ROW_BYTES_MAX};
use avtryck::postgres::batch::event_key::{EVENT_KEY_DAYS as DAYS, TIMED_KEY_DAYS as TIMED_DAYS};
use avtryck::visitor::COOKIE_DAYS_MAX;

use crate::support::root;

/// Writes a number with a comma before its thousands.
fn thousands(number: usize) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    }
}

/// Joins lines: where one ends is no matter.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "it is one table of pages and what each says"
)]
fn documentation_says_the_numbers_of_the_constants() {
    let kib = |bytes: usize| bytes >> 10;
    let mib = |bytes: usize| bytes >> 20;
    let events = thousands(EVENTS_MAX);
    for (file, said) in [
        (
            "README.md",
            format!("for {DAYS} days ({TIMED_DAYS} where a tracker"),
        ),
        (
            "ARCHITECTURE.md",
            format!("is kept for {DAYS} days in `event_key` ({TIMED_DAYS} with"),
        ),
        (
            "ARCHITECTURE.md",
            format!("nobody can trace after {EPOCH_DAYS} days"),
        ),
        ("docs/abuse.md", format!("for {DAYS} days, or {TIMED_DAYS}")),
        (
            "docs/abuse.md",
            format!("| address | {} KiB, read once", kib(URI_BYTES_MAX)),
        ),
        (
            "docs/abuse.md",
            format!(
                "| {} KiB; {} KiB for trackers",
                kib(TOLD_BYTES_MAX),
                kib(TRACKER_TOLD_BYTES_MAX)
            ),
        ),
        (
            "docs/ads.md",
            format!("least {DAYS} days. So repeat a callback"),
        ),
        (
            "docs/consent.md",
            format!("for its {DAYS} or {TIMED_DAYS} days"),
        ),
        (
            "docs/consent.md",
            format!("after {} days, when no cookie", COOKIE_DAYS_MAX + 30),
        ),
        (
            "docs/households.md",
            format!("An epoch is {EPOCH_DAYS} days"),
        ),
        (
            "docs/identity.md",
            format!("at most {GROUP_NODES_MAX} IDs that ties connect"),
        ),
        (
            "docs/identity.md",
            format!("| all IDs | {GROUP_NODES_MAX} |"),
        ),
        (
            "docs/import.md",
            format!("{} GiB unpacked", FILE_BYTES_MAX >> 30),
        ),
        (
            "docs/import.md",
            format!("{} KiB a row", ROW_BYTES_MAX >> 10),
        ),
        (
            "docs/parameters.md",
            format!("remembered for at least {TIMED_DAYS} days"),
        ),
        (
            "docs/parameters.md",
            format!("an array of at most {events}"),
        ),
        (
            "docs/parameters.md",
            format!("an event of more than {} KiB", kib(TOLD_BYTES_MAX)),
        ),
        (
            "docs/segment.md",
            format!("is one row, for {TIMED_DAYS} days"),
        ),
        (
            "docs/segment.md",
            format!(
                "a request {} MiB and {events} calls",
                mib(TRACKER_BODY_BYTES_MAX)
            ),
        ),
        (
            "docs/snowplow.md",
            format!("is one row, for {TIMED_DAYS} days"),
        ),
        (
            "docs/systems.md",
            format!("for at least {TIMED_DAYS} days, whatever"),
        ),
        (
            "docs/systems.md",
            format!("clock by {} minutes", system::WINDOW_SECONDS / 60),
        ),
        (
            "docs/systems.md",
            format!(
                "may be at most {} hours from now",
                user::VALID_SECONDS_MAX / 3600
            ),
        ),
        ("docs/systems.md", format!("an array of at most {events}")),
        (
            "docs/systems.md",
            format!("of at most {} MiB", mib(BODY_BYTES_MAX)),
        ),
        (
            "docs/trackers.md",
            format!("| the address | {} KiB |", kib(TRACKER_URI_BYTES_MAX)),
        ),
        (
            "docs/trackers.md",
            format!("included | {} KiB,", kib(TRACKER_HEADER_BYTES_MAX)),
        ),
        (
            "docs/trackers.md",
            format!("| an event | {} KiB;", kib(TRACKER_TOLD_BYTES_MAX)),
        ),
        (
            "docs/trackers.md",
            format!("| its `params` | {} KiB;", kib(TRACKER_PARAMS_BYTES_MAX)),
        ),
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(
            one_line(&text).contains(&said),
            "{file} does not say: {said}"
        );
    }
}
