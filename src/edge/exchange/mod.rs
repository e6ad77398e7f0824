//! What every endpoint does with a request and its reply.

pub(crate) mod admit;
pub(crate) mod allowance;
pub(crate) mod cors;
pub(crate) mod https;
pub(crate) mod instruction;
pub(crate) mod mint;
pub(crate) mod reply;
