//! avtryck: an edge collector for cookies and pixels.
//!
//! The way of a hit, in reading order:
//!
//! 1. [`edge`] accepts a connection, limits it, and routes the request;
//! 2. [`protocol`] makes a [`hit::Hit`] of query, headers and cookies;
//! 3. [`consent`] decides what the visitor permits, and removes everything else from the hit;
//! 4. [`visitor`] verifies the cookie's ID or signs a new one;
//! 5. [`spool`] keeps the hit on disk; only now is the reply sent;
//! 6. [`loader`] reads batches from the spool;
//! 7. [`enrich`] adds place, network and device;
//! 8. [`postgres`] commits [`row`]s and the spool's position in one transaction;
//! 9. [`jobs`] looks after the tables on a schedule.
//!
//! [`cli`] is the command line, [`serve`] puts the parts together; ARCHITECTURE.md holds the
//! invariants.

pub mod admin;
pub mod attribute;
pub mod callback;
pub mod cli;
pub mod click;
pub mod clock;
pub mod config;
pub mod consent;
pub mod edge;
pub mod endpoint;
pub mod enrich;
pub mod export;
pub mod hit;
pub mod identity;
pub mod import;
pub mod inquiry;
pub mod jobs;
pub mod keys;
pub mod loader;
pub mod metrics;
pub mod postgres;
pub mod protocol;
pub mod refusal;
pub mod report;
pub mod request;
pub mod row;
pub mod schema;
pub mod segment;
pub mod serve;
pub mod visitor;
mod whole;
