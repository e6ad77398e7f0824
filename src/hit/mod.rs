//! A hit: one recorded request, as received, and its encoding in the spool.
//!
//! [`fields`] has the one table of a hit's fields. The struct, its constructor, the encoding
//! ([`wire`]) and the export all come from that table. [`Outcome`] decides what becomes of a hit.

pub mod belief;
mod consent_source;
mod fields;
mod flags;
mod kind;
pub mod limits;
mod outcome;
mod permit;
mod scan;
pub mod subject;
#[cfg(test)]
mod tests;
mod user_key;
mod visitor_id;
pub(crate) mod volatile;
pub mod whole;
pub(crate) mod wire;

pub use consent_source::ConsentSource;
pub(crate) use fields::Field;
pub use fields::{Hints, Hit};
pub use flags::Flags;
pub(crate) use kind::CONVERSION;
pub use kind::Kind;
pub use outcome::Outcome;
pub use permit::Permit;
pub(crate) use scan::without_unkept;
pub use scan::{subjects, without_client_ip};
pub use user_key::UserKey;
pub use visitor_id::VisitorId;
pub use wire::DecodeError;
