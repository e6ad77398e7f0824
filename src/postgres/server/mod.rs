//! The server: an embedded one or another, and connections to it.

pub mod connect;
pub mod embedded;
mod installation;
