//! The words that labels may have.

use crate::hit::Permit;

/// Statuses that replies have; another one counts under 0.
pub(crate) const STATUSES: [&str; 18] = [
    "200", "204", "302", "303", "304", "308", "400", "401", "403", "404", "405", "408", "413",
    "414", "415", "429", "503", "0",
];

/// What a recorded hit comes to under its permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Added to a count, and gone.
    Count,
    /// A row without the visitor's IDs.
    Row,
    /// A row that may have the visitor's IDs.
    Visitor,
}

impl Outcome {
    /// Every outcome with its word in the label, in the order of the enum.
    pub(crate) const ALL: [(Outcome, &'static str); 3] = [
        (Outcome::Count, "count"),
        (Outcome::Row, "row"),
        (Outcome::Visitor, "visitor"),
    ];
}

impl From<Permit> for Outcome {
    fn from(permit: Permit) -> Outcome {
        if !permit.allows(Permit::MEASURE) {
            Outcome::Count
        } else if permit.allows(Permit::STORE) {
            Outcome::Visitor
        } else {
            Outcome::Row
        }
    }
}

/// Why a handshake of TLS made no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
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
    pub const ALL: [(HandshakeFailure, &'static str); 6] = [
        (HandshakeFailure::Timeout, "timeout"),
        (HandshakeFailure::Closed, "closed"),
        (HandshakeFailure::NotTls, "not_tls"),
        (HandshakeFailure::Incompatible, "incompatible"),
        (HandshakeFailure::Refused, "refused"),
        (HandshakeFailure::Protocol, "protocol"),
    ];
}
