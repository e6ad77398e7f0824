//! What a stranger sends to do harm: each kind of abuse, as the bytes of its requests.
//!
//! `make abuse` sends them to a release build, beside honest hits.

mod attribution;
mod batch;
pub mod cookie;
mod device;
mod equal;
mod inquiry;
mod keyed;

/// A kind of abuse.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Its name in the table.
    pub name: &'static str,
    /// What it tries to exhaust or to forge.
    pub aim: &'static str,
    /// Connections side by side; each has one request under way.
    pub connections: usize,
    /// Appends a whole HTTP/1.1 request, the one of that number.
    pub request: fn(u64, &mut Vec<u8>),
    /// A query that may be slow afterwards, if one is: its time is shown.
    pub query: Option<&'static str>,
}

/// The site and the partner that the requests name; both are configured, with every permit.
pub const SITE: &str = "demo";
/// See [`SITE`].
pub const PARTNER: &str = "net";

/// Every kind.
pub const ATTACKS: &[&[Attack]] = &[
    attribution::ATTACKS,
    batch::ATTACKS,
    cookie::ATTACKS,
    device::ATTACKS,
    equal::ATTACKS,
    inquiry::ATTACKS,
    keyed::ATTACKS,
];
