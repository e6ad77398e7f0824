//! Postgres: the schema, and writing batches into it.
//!
//! What it promises: a batch and the position of the spool after it commit in one transaction
//! ([`commit`]), so each record becomes exactly one row. One bad hit never stops a batch. What it
//! refuses: to guess after a lost connection. The truth is then [`batch::position::read`].

pub mod batch;
pub mod clock;
pub mod device_model;
pub mod export;
pub mod household;
pub mod identity;
pub mod import;
pub mod partition;
pub mod report;
pub mod segment;
pub mod server;
mod session_lock;
pub mod subject;
mod timestamp;
pub mod user_key;

pub use batch::commit::{CommitError, Loaded, commit};
pub use batch::load::{Load, Payloads, Record, Rejected, SpoolSpan};
pub use server::connect::connect;
pub(crate) use server::database::has_several_hosts;
pub use server::database::{Database, check};
pub use server::distribute::distribute;
pub use server::migrate::migrate;
pub(crate) use server::requirements::{FILE_CONNECTIONS, LOAD_CONNECTIONS, needed_connections};
pub(crate) use server::silence::SilenceWatch;

#[cfg(test)]
mod tests;
