//! What the measuring programs have in common: the processes that they start, the Postgres that
//! those share, and what all of them have used.

pub mod collector;
pub mod postgres;
pub mod process;
pub mod usage;
