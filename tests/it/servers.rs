//! Servers of Postgres as operators run them: with TLS, with standbys, behind a pool.

mod encrypted;
mod failover;
mod pooled;
