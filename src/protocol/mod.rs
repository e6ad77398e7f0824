//! The ways in which hits arrive: bytes in, drafts out. Pure.
//!
//! A protocol is a module here. [`read`] and [`read_body`] choose it by the endpoint.

mod absent;
mod headers;
pub mod native;
pub mod partner;
pub(crate) mod text;

use std::borrow::Cow;

pub use headers::signals;

use crate::clock::UnixMicros;
use crate::consent::Signals;
use crate::endpoint::Endpoint;
use crate::hit::{Hit, Kind};
use crate::refusal::Reason;
use crate::request::{CookieNames, Headers};

/// What arrived: the facts of a request that a protocol reads, apart from its body.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'h, 'r> {
    /// The endpoint that was asked for.
    pub endpoint: Endpoint,
    /// When the request arrived.
    pub at: UnixMicros,
    /// Its headers.
    pub headers: &'h Headers<'r>,
    /// Its query string, without the `?`; empty if there is none.
    pub query: &'r str,
    /// The cookie with the visitor's choice.
    pub choice_cookie: CookieNames<'h>,
}

/// A hit and its consent signals as a protocol read them, before the permit is decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft<'r> {
    /// The hit, with everything that the sender said.
    pub hit: Hit<'r>,
    /// What came with it about the visitor's consent.
    pub signals: Signals<'r>,
}

impl Draft<'_> {
    /// Returns the draft of a hit of which nothing more is known.
    #[must_use]
    #[inline]
    pub fn new(at: UnixMicros, kind: Kind) -> Self {
        Draft {
            hit: Hit::new(at, kind, ""),
            signals: Signals::default(),
        }
    }
}

/// What a body holds.
#[expect(
    clippy::large_enum_variant,
    reason = "one hit is the usual case, and a box would cost it an allocation"
)]
pub enum Drafts<'r> {
    /// One hit. If it is refused, so is the request.
    One(Draft<'r>),
    /// A list of events, each of which is recorded or refused alone.
    Each(native::Events<'r>),
}

/// Reads the hit in a request's query string and headers.
#[must_use]
pub fn read<'r>(arrival: &Arrival<'_, 'r>) -> Draft<'r> {
    let kind = match arrival.endpoint {
        Endpoint::Impression => Kind::Impression,
        Endpoint::Click => Kind::Click,
        Endpoint::Sync | Endpoint::SetUid => Kind::Sync,
        // A page view with a name of an event becomes that event.
        Endpoint::Pixel | Endpoint::Event | Endpoint::Id => Kind::PageView,
        Endpoint::Callback => Kind::Callback,
        // Nothing of these is recorded.
        Endpoint::Consent
        | Endpoint::Privacy
        | Endpoint::PrivacyForm
        | Endpoint::Tag
        | Endpoint::Demo
        | Endpoint::Unknown => Kind::PageView,
    };
    let mut draft = Draft::new(arrival.at, kind);
    native::read(arrival, &mut draft);
    if kind == Kind::Click {
        // The collector gives a click its ID; nobody else does.
        draft.hit.click_id = Cow::Borrowed("");
    }
    draft
}

/// Reads the hits in a request's body.
///
/// # Errors
/// If nothing of the body can be read.
pub fn read_body<'r>(arrival: &Arrival<'_, 'r>, body: &'r [u8]) -> Result<Drafts<'r>, Reason> {
    native::read_body(arrival, body)
}

#[cfg(test)]
mod tests;
