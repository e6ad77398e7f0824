//! Servers of Postgres as operators run them: with TLS, with standbys, behind a pool.

mod citus;
mod encrypted;
mod failover;
mod pooled;
