//! Households in Postgres.
//!
//! | step | where |
//! | --- | --- |
//! | a batch stores its sightings, one row of `sighting_part` | in its transaction ([`part`]) |
//! | the rows are added to `sighting`, some at a time | each minute ([`fold`]) |
//! | pairs are found in SQL, and compared with [`crate::identity::household`] | each night ([`night()`]) |
//! | households are made of the pairs | each night |
//! | whoever leaves on request is gone at once | `avtryck.forget_sightings` |
//! | a visitor sees what is believed of their home, and contradicts | [`own`] |

pub(crate) mod census;
pub mod check;
pub mod night;
pub mod own;
pub mod part;
#[cfg(test)]
mod tests;

pub use night::{Night, fold, night};
pub(crate) use night::{clear, has_sightings};
