//! Imports of registers and bought data: from the bytes of files to checked rows.
//!
//! A [`Manifest`] says what a file is and what its columns mean. [`read::FileRows`] splits the file
//! into rows in bounded memory, and [`Manifest::check`] makes a [`CheckedRow`] of each, or says
//! what is wrong with it. Nothing here knows Postgres, and nothing raw that names a person leaves:
//! keys are hashed as the edge hashes them.

pub mod callback;
pub(crate) mod input;
mod json;
pub mod manifest;
pub mod read;
pub mod row;

pub use manifest::{KeyKind, Manifest, ManifestError};
pub use row::{CheckedRow, Reject, RowKey};
