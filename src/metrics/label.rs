//! The words that labels may have.

use crate::hit::{Hit, Outcome, Permit};

/// Statuses that replies have; another one counts under 0.
pub(crate) const STATUSES: [&str; 19] = [
    "200", "204", "302", "303", "304", "308", "400", "401", "403", "404", "405", "408", "413",
    "414", "415", "429", "431", "503", "0",
];

/// The words for what becomes of a hit: its outcome, and `visitor` for a row that may have the
/// visitor's IDs.
pub(crate) const OUTCOMES: [&str; 4] = ["count", "nothing", "row", "visitor"];

/// Returns where in [`OUTCOMES`] the word for a hit is.
pub(crate) fn outcome_at(hit: &Hit<'_>) -> usize {
    match hit.outcome() {
        Outcome::Count => 0,
        Outcome::Nothing => 1,
        Outcome::Row if hit.permit.allows(Permit::STORE) => 3,
        Outcome::Row => 2,
    }
}

/// Why a handshake of TLS made no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeFailure {
    /// It took too long.
    Timeout,
    /// The client broke off.
    Closed,
    /// The client sent something else than TLS.
    NotTls,
    /// The client and we share no version, suite or protocol.
    Incompatible,
    /// The client said no, as browsers do to a certificate that they do not trust.
    Refused,
    /// The client did not keep to the protocol.
    Protocol,
}

impl HandshakeFailure {
    /// Every failure with its word in the label, in the order of the enum.
    pub(crate) const ALL: [(HandshakeFailure, &'static str); 6] = [
        (HandshakeFailure::Timeout, "timeout"),
        (HandshakeFailure::Closed, "closed"),
        (HandshakeFailure::NotTls, "not_tls"),
        (HandshakeFailure::Incompatible, "incompatible"),
        (HandshakeFailure::Refused, "refused"),
        (HandshakeFailure::Protocol, "protocol"),
    ];
}
