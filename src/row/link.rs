//! Links of visitors to partners' IDs.

use crate::clock::UnixMicros;
use crate::hit::{Flags, Hit, Kind, Permit, VisitorId};

/// The permit that a link needs.
const PERMIT: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::MATCH);

/// A visitor and a partner's ID for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The visitor.
    pub visitor: VisitorId,
    /// The partner's key in the configuration.
    pub partner: String,
    /// The partner's ID.
    pub partner_uid: String,
    /// Whether the partner signed it.
    pub is_proved: bool,
    /// When the hit that says so was received.
    pub at: UnixMicros,
}

impl Link {
    /// Returns the link that a hit makes, if it makes one.
    #[must_use]
    pub fn of(hit: &Hit<'_>) -> Option<Link> {
        let is_whole = hit.kind == Kind::Sync
            && hit.permit.allows(PERMIT)
            && !hit.partner.is_empty()
            && !hit.partner_uid.is_empty();
        Some(Link {
            visitor: hit.visitor.filter(|_| is_whole)?,
            partner: hit.partner.to_string(),
            partner_uid: hit.partner_uid.to_string(),
            is_proved: hit.flags.has(Flags::SIGNED),
            at: hit.received_at,
        })
    }
}
