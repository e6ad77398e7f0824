//! The endpoints, a file each.

pub(crate) mod callback;
pub(crate) mod click;
pub(crate) mod consent;
pub(crate) mod demo;
pub(crate) mod event;
pub(crate) mod fixed;
pub(crate) mod id;
pub(crate) mod link;
pub(crate) mod notice;
pub(crate) mod pixel;
pub(crate) mod privacy;
pub(crate) mod segment;
pub(crate) mod segments;
pub(crate) mod sync;
pub(crate) mod system;
pub(crate) mod tag;
