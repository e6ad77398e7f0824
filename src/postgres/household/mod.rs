//! Households in Postgres.
//!
//! | step | where |
//! | --- | --- |
//! | a batch stores its sightings, one row of `sighting_part` | in its transaction ([`part`]) |
//! | the rows are added to `sighting`, some at a time | each night ([`night()`]) |
//! | pairs, in SQL: set work, of which the functions of [`crate::identity::household`] are the oracle | the same |
//! | households, from the pairs | the same |
//! | whoever leaves on request is gone at once | `avtryck.forget_sightings` |

pub mod night;
pub mod part;
#[cfg(test)]
mod tests;

pub use night::{Night, night};
