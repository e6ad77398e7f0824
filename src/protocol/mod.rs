//! The ways in which hits arrive: bytes in, drafts out. Pure.
//!
//! A protocol is a module here. [`read`] and [`read_body`] choose it by the endpoint; those of
//! other makers stand in the list `trackers!`.

mod absent;
mod headers;
mod matomo;
mod meta;
pub mod native;
pub mod partner;
mod plausible;
mod segment;
mod snowplow;
pub mod system;
pub(crate) mod text;
mod tracker;

use std::borrow::Cow;

pub use headers::signals;
pub(crate) use segment::write_key;
pub use tracker::Claims;
use tracker::Told;

use crate::clock::UnixMicros;
use crate::consent::Signals;
use crate::endpoint::{Endpoint, Protocol};
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
    /// Its path.
    pub path: &'r str,
    /// Its query string, without the `?`; empty if there is none.
    pub query: &'r str,
    /// The cookie with the visitor's choice.
    pub choice_cookie: CookieNames<'h>,
    /// What images in the form of Meta's pixel call things beside Meta's names: theirs, ours.
    pub meta_names: &'h [(String, String)],
}

/// A hit and its consent signals as a protocol read them, before the permit is decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft<'r> {
    /// The hit, with everything that the sender said.
    pub hit: Hit<'r>,
    /// What came with it about the visitor's consent.
    pub signals: Signals<'r>,
    /// Who is logged in, by the sender's ID. It never gets into the hit as it is.
    pub user: Cow<'r, str>,
    /// What the site signed of the user ([`crate::callback::user`]). It never gets into the hit.
    pub user_sig: Cow<'r, str>,
    /// The token of the link that led to the page ([`crate::visitor::link`]). It never gets into
    /// the hit.
    pub link: Cow<'r, str>,
    /// What a tracker of another maker claims besides.
    pub claims: Option<Box<Claims>>,
}

impl Draft<'_> {
    /// Returns the draft of a hit of which nothing more is known.
    #[must_use]
    #[inline]
    pub fn new(at: UnixMicros, kind: Kind) -> Self {
        Draft {
            hit: Hit::new(at, kind, ""),
            signals: Signals::default(),
            user: Cow::Borrowed(""),
            user_sig: Cow::Borrowed(""),
            link: Cow::Borrowed(""),
            claims: None,
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
///
/// # Errors
/// If a tracker's query tells no hit.
pub fn read<'r>(arrival: &Arrival<'_, 'r>) -> Result<Draft<'r>, Reason> {
    let mut draft = Draft::new(arrival.at, Kind::PageView);
    read_into(arrival, &mut draft)?;
    Ok(draft)
}

/// Reads the hit in a request's query string and headers into a new draft, which stays where it is.
///
/// # Errors
/// If a tracker's query tells no hit.
#[inline]
pub fn read_into<'r>(arrival: &Arrival<'_, 'r>, draft: &mut Draft<'r>) -> Result<(), Reason> {
    let protocol = arrival.endpoint.spec().protocol;
    if protocol == Protocol::Native && arrival.endpoint != Endpoint::Meta {
        read_native(arrival, draft);
        return Ok(());
    }
    read_tracker(arrival, draft)
}

/// Reads the protocols of other makers. A module has `read` for what a query tells, `read_body`,
/// and `OWN_NAMES`: the parameters that it understands itself, however much they look like signals
/// or may hold some.
macro_rules! trackers {
    ($($protocol:ident: $module:ident,)+) => {
        /// Returns what a request without a body tells.
        #[inline]
        fn read_query<'r>(arrival: &Arrival<'_, 'r>) -> Result<Told<'r>, Reason> {
            match arrival.endpoint.spec().protocol {
                Protocol::Native => Ok(meta::read(arrival)),
                $(Protocol::$protocol => $module::read(arrival),)+
            }
        }

        /// Returns the parameters that an endpoint's protocol understands itself.
        fn own_names(endpoint: Endpoint) -> &'static [&'static str] {
            match endpoint.spec().protocol {
                Protocol::Native => &[],
                $(Protocol::$protocol => &$module::OWN_NAMES,)+
            }
        }

        /// Reads the hits in a request's body.
        ///
        /// # Errors
        /// If nothing of the body can be read.
        pub fn read_body<'r>(
            arrival: &Arrival<'_, 'r>,
            body: &'r [u8],
        ) -> Result<Drafts<'r>, Reason> {
            match arrival.endpoint.spec().protocol {
                Protocol::Native => native::read_body(arrival, body),
                $(Protocol::$protocol => $module::read_body(arrival, body),)+
            }
        }
    };
}

trackers! {
    Snowplow: snowplow,
    Segment: segment,
    Matomo: matomo,
    Plausible: plausible,
}

#[inline(never)]
fn read_tracker<'r>(arrival: &Arrival<'_, 'r>, draft: &mut Draft<'r>) -> Result<(), Reason> {
    let mut told = read_query(arrival)?;
    told.queries.push(Cow::Borrowed(arrival.query));
    draft.read_browser(arrival.headers, arrival.choice_cookie);
    match native::read_told(draft, told, own_names(arrival.endpoint)) {
        true => Ok(()),
        false => Err(Reason::Json),
    }
}

fn read_native<'r>(arrival: &Arrival<'_, 'r>, draft: &mut Draft<'r>) {
    draft.hit.kind = match arrival.endpoint {
        Endpoint::Impression => Kind::Impression,
        Endpoint::Click => Kind::Click,
        Endpoint::Sync | Endpoint::SetUid => Kind::Sync,
        Endpoint::Callback => Kind::Callback,
        Endpoint::System => Kind::Event,
        // A page view with a name of an event becomes that event.
        _ => Kind::PageView,
    };
    let is_click = draft.hit.kind == Kind::Click;
    native::read(arrival, draft);
    if is_click {
        // The collector gives a click its ID; nobody else does.
        draft.hit.click_id = Cow::Borrowed("");
    }
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
