//! The commands of the command line.

pub mod healthy;
pub mod subject;
pub mod tag;
