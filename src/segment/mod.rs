//! Segments: groups of subjects.

pub mod snapshot;
