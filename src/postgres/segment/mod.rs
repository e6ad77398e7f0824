//! Segments in Postgres.
//!
//! | step | where |
//! | --- | --- |
//! | a batch stores what it saw of subjects, one row of `subject_day_part` | in its transaction ([`part`]) |
//! | the rows are added to `subject_day` and `subject_seen` | every few seconds on the loader's second connection, and before an evaluation ([`fold`]) |
//! | subjects of whom something changed, and at night everybody, are evaluated | each minute ([`mod@evaluate`]) |
//! | whoever refuses profile, withdraws or is erased is gone at once | `avtryck.forget_profiles` |

pub(crate) mod effect;
pub mod evaluate;
pub mod own;
pub mod part;
pub mod preview;
pub(crate) mod snapshot;
pub mod status;
#[cfg(test)]
mod tests;

pub use evaluate::{Evaluated, evaluate};
use tokio_postgres::{Client, Error};

use crate::postgres::import;

/// Rows of `subject_day_part` that are added in one transaction.
const PARTS_MAX: i32 = 20;

/// Adds what batches saw of subjects, and what callbacks said of them, whichever collector loaded
/// them.
///
/// # Errors
/// Where Postgres fails.
pub async fn fold(client: &Client) -> Result<(), Error> {
    import::part::fold(client).await?;
    let sql = "select avtryck.fold_subject_days($1)";
    while client
        .query_one(sql, &[&PARTS_MAX])
        .await?
        .try_get::<_, i64>(0)?
        > 0
    {}
    Ok(())
}
