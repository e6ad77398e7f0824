//! What one transaction writes: the rows of a batch, and the position of the spool after them.
//!
//! What a batch holds is derived elsewhere ([`crate::row`]); here are its encoding and its SQL.

mod click;
pub mod commit;
pub mod copy;
pub mod dimension;
pub mod event_key;
pub mod exposure;
pub mod load;
pub mod new_name;
mod partner_id;
pub mod position;
mod report;
pub mod way;
