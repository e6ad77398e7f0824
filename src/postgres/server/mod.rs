//! The server: an embedded one or the operator's, connections to it, and its schema.

mod clear_text;
pub(crate) mod cluster;
pub mod connect;
pub mod database;
pub mod distribute;
pub mod embedded;
mod installation;
pub mod migrate;
pub(crate) mod requirements;
pub mod servers;
pub mod silence;
mod tls;
mod url;

/// The value of `nice` for loading and the embedded server: where they and the edge want a core,
/// the edge gets it.
pub(crate) const NICE: i32 = 10;
