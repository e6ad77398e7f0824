//! The parameters that differ when a sender sends the same event again, by who sends.

use super::Kind;

/// What browsers and apps add: against caches, and when they send. `cb` never reaches `params`.
const OF_BROWSERS: &[&str] = &[
    "_",
    "_t",
    "_ts",
    "attempt",
    "cache_buster",
    "cachebuster",
    "nocache",
    "ord",
    "r",
    "rand",
    "random",
    "retries",
    "retry",
    "retry_count",
    "rnd",
    "sent_at",
    "sentAt",
    "stm",
    "t",
    "timestamp",
    "ts",
    "z",
];

/// What ad networks' servers add: the number of the try, when they send, and what signs that.
const OF_SERVERS: &[&str] = &[
    "attempt",
    "delivery_id",
    "nonce",
    "request_id",
    "retries",
    "retry",
    "retry_count",
    "sent_at",
    "sentAt",
    "sig",
    "signature",
    "timestamp",
    "ts",
];

/// Checks whether a further parameter of a hit of this kind differs when the same event is sent
/// again.
#[must_use]
pub(crate) fn is_volatile(kind: Kind, name: &str) -> bool {
    let names = match kind {
        Kind::Callback => OF_SERVERS,
        _ => OF_BROWSERS,
    };
    names.contains(&name)
}
