//! Segments in Postgres.

pub mod snapshot;
