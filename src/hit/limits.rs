//! The limits of what a hit may hold, and of the request that brings it.

pub use crate::endpoint::URI_BYTES_MAX;

/// The longest URL stored, in bytes; a longer one is cut.
pub const URL_BYTES_MAX: usize = 2048;
/// The longest user agent stored, in bytes; a longer one is cut.
pub const USER_AGENT_BYTES_MAX: usize = 512;
/// The longest ID or name stored, in bytes; a longer one is cut, and ends with its digest
/// ([`whole`](super::whole)).
pub const TEXT_BYTES_MAX: usize = 256;
/// The longest event name and event ID, in bytes; as with [`TEXT_BYTES_MAX`].
pub const EVENT_BYTES_MAX: usize = 128;
/// The longest click ID, in bytes; as with [`TEXT_BYTES_MAX`]. Ours have 22 characters, those of
/// others more.
pub const CLICK_ID_BYTES_MAX: usize = 64;
/// The most further parameters of one hit; later ones are left out.
pub const PARAMS_MAX: usize = 64;
/// The most parameters of one place (an event, a form, a query string) that are read: the further
/// ones, and each that has a place of its own. Of later ones only what they say of consent counts.
pub(crate) const PARAMETERS_READ_MAX: usize = PARAMS_MAX + 32;
/// The most bytes in which a body may tell one hit: what [`PARAMS_BYTES_MAX`] keeps, and as much as
/// an address may say besides.
pub const TOLD_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of further parameters, as JSON; what goes beyond is left out. A cart of 60 items
/// takes up to 32 KiB, and the tag sends at most 48,000 bytes.
pub const PARAMS_BYTES_MAX: usize = 48 * 1024;
/// The same for an event of another maker's tracker.
pub const TRACKER_PARAMS_BYTES_MAX: usize = 64 * 1024;
/// The most bytes in which a body may tell one: those parameters, a third more where they are in
/// base64, and what has a place of its own.
pub const TRACKER_TOLD_BYTES_MAX: usize = 96 * 1024;
