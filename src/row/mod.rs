//! What is derived from a hit, as plain data: its [`Row`], the rows of dimensions that it points
//! to, and what else one hit leaves in a sink.
//!
//! Nothing here reads a table or knows a sink. `enrich` finds the dimensions that need
//! tables, the loader puts the parts together, and a sink stores them.

mod ad;
pub mod click;
mod count;
pub mod dimension;
mod event_key;
pub mod exposure;
mod keyer;
mod link;
mod page_domain;
mod said;
mod site;

use std::borrow::Cow;

use ipnet::IpNet;

pub use ad::Ad;
pub use count::{Count, Counts};
pub use dimension::Dimension;
pub(crate) use event_key::{Apart, FORMER_FORMS, SenderClass, former_event_keys};
pub use event_key::{EventKey, event_key};
pub use keyer::Keyer;
pub(crate) use keyer::{FormerKeys, SECRET_BYTES, UNKNOWN_KEY};
pub use link::Link;
pub use page_domain::PageDomain;
pub use said::Said;
pub use site::Site;

use crate::clock::UnixMicros;
use crate::hit::{ConsentSource, Flags, Hit, Kind, Permit, UserKey, VisitorId};

/// A place in a spool: chunk and byte offset.
pub(crate) type ChunkOffset = (u64, u64);

/// One row of `avtryck.hit`. Empty texts and `None` become NULL.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are the columns of `avtryck.hit`")]
pub struct Row<'a> {
    pub received_at: UnixMicros,
    /// The keys of the row's dimensions, in the order of `enrich::DIMENSIONS`.
    pub keys: Cow<'a, [Option<i64>]>,
    pub flags: Flags,
    pub kind: Kind,
    pub permit: Permit,
    pub consent_source: ConsentSource,
    pub hit_id: [u8; 16],
    pub visitor_id: Option<VisitorId>,
    pub page_url: Cow<'a, str>,
    pub referrer: Cow<'a, str>,
    pub event_name: Cow<'a, str>,
    pub event_id: Cow<'a, str>,
    pub partner_uid: Cow<'a, str>,
    pub maid: Cow<'a, str>,
    pub device_id: Cow<'a, str>,
    pub click_id: Cow<'a, str>,
    pub session_id: Cow<'a, str>,
    pub client_ip: Option<IpNet>,
    pub params: Cow<'a, str>,
    pub user_key: Option<UserKey>,
    pub occurred_at: Option<UnixMicros>,
    /// The protocol's number; `None` for our own.
    pub protocol: Option<u8>,
}

/// What the loader finds of a hit that the hit itself does not say.
#[derive(Clone, Copy, Debug)]
pub struct Derived<'a> {
    /// The ID of the row.
    pub hit_id: [u8; 16],
    /// The keys of its dimensions, in the order of `enrich::DIMENSIONS`.
    pub keys: &'a [Option<i64>],
    /// Flags besides those of the hit.
    pub flags: Flags,
    /// As much of the client's address as may be stored.
    pub client_ip: Option<IpNet>,
}

impl<'a> Row<'a> {
    /// Makes the row of a hit, from which it borrows every text.
    #[must_use]
    pub fn new(hit: &'a Hit<'_>, derived: Derived<'a>) -> Row<'a> {
        Row {
            received_at: hit.received_at,
            keys: Cow::Borrowed(derived.keys),
            flags: hit.flags.with(derived.flags),
            kind: hit.kind,
            permit: hit.permit,
            consent_source: hit.consent_source,
            hit_id: derived.hit_id,
            visitor_id: hit.visitor,
            page_url: Cow::Borrowed(&hit.page_url),
            referrer: Cow::Borrowed(&hit.referrer),
            event_name: Cow::Borrowed(&hit.event_name),
            event_id: Cow::Borrowed(&hit.event_id),
            partner_uid: Cow::Borrowed(&hit.partner_uid),
            maid: Cow::Borrowed(&hit.maid),
            device_id: Cow::Borrowed(&hit.device_id),
            click_id: Cow::Borrowed(&hit.click_id),
            session_id: Cow::Borrowed(&hit.session_id),
            client_ip: derived.client_ip,
            params: Cow::Borrowed(&hit.params),
            user_key: hit.user_key,
            occurred_at: hit.occurred_at,
            protocol: (!hit.protocol.is_native()).then_some(hit.protocol as u8),
        }
    }

    /// Returns the columns of type text, in order.
    #[must_use]
    pub fn texts(&self) -> [&str; 9] {
        [
            &self.page_url,
            &self.referrer,
            &self.event_name,
            &self.event_id,
            &self.partner_uid,
            &self.maid,
            &self.device_id,
            &self.click_id,
            &self.session_id,
        ]
    }
}
