//! The ways in which hits arrive: bytes in, hits and their consent signals out. Pure.

pub mod native;
