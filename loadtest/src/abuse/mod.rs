//! What a stranger sends to do harm: each kind of abuse, as the bytes of its requests.
//!
//! `make abuse` sends them to a release build, beside honest hits.

mod attribution;
mod batch;
pub mod cookie;
mod device;
mod equal;
mod hold;
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
    /// Appends what a connection sends at a time, under a number that is new each time.
    pub request: fn(u64, &mut Vec<u8>),
    /// What a connection does next.
    pub manner: Manner,
    /// A query that may be slow afterwards, if one is: its time is shown.
    pub query: Option<&'static str>,
}

/// What an attacker does once it has sent a request.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Reads the whole reply and sends the next request.
    Exchanges,
    /// Reads nothing and waits until the collector closes the connection, then opens another one.
    Holds {
        /// Addresses of loopback that the connections come from.
        addresses: u8,
        /// The collector speaks HTTP/2 without TLS (`http.h2c`).
        h2c: bool,
    },
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
    hold::ATTACKS,
    inquiry::ATTACKS,
    keyed::ATTACKS,
];
