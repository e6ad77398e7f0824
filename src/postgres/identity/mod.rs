//! Ties and permits in Postgres.
//!
//! | step | where |
//! | --- | --- |
//! | a batch stores what it saw, one row each of `link_part` and `permit_part` | in its transaction ([`part`]) |
//! | the rows are added to `subject_permit` and `link_edge` | on the loader's second connection ([`mod@fold`]) |
//! | an ID that is withdrawn or erased loses its ties | where it gets on the list of suppression ([`remove`]) |
//! | an ID that a hit refused ties for loses them | as the batch is folded |
//! | a visitor sees the devices that are believed to be theirs, and contradicts | [`own`] |
//!
//! What was received later counts, in whatever order it arrives: a permit never overwrites a later
//! one, and a tie from before a refusal is dropped, though it may be folded after it.
//!
//! Whoever changes ties takes [`lock`] first, and they take turns. A transaction that holds the
//! lock of the list of suppression may take it, and never the other way round.

pub(crate) mod census;
pub mod check;
pub mod fold;
pub mod group;
mod loss;
pub mod own;
pub mod part;
pub mod rule;

use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

pub use fold::fold;
pub(crate) use fold::{Changed, Follower};
pub(crate) use loss::Loss;

/// The advisory lock: "identity" in ASCII; `fold.sql` has it too.
pub(crate) const LOCK: i64 = 0x6964_656e_7469_7479;

/// Why an ID lost its ties, of the reasons in `link_change`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Its subject said no.
    Withdrawal,
    /// Its subject was erased, and no raw ID may stay.
    Erasure,
    /// A visitor said that another ID is not theirs.
    NotMine,
    /// A visitor had a tie forgotten.
    Forgotten,
}

impl Removal {
    /// Returns the word in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Removal::Withdrawal => "withdrawal",
            Removal::Erasure => "erasure",
            Removal::NotMine => "not_mine",
            Removal::Forgotten => "forgotten",
        }
    }
}

/// Takes the lock under which ties change, until the transaction ends.
///
/// # Errors
/// Where Postgres fails.
pub async fn lock(transaction: &Transaction<'_>) -> Result<(), Error> {
    transaction
        .execute("select pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    Ok(())
}

/// Removes IDs from ties, owners and permits, and notes which groups are to be split. What batches
/// saw of them must be folded before, or it would bring them back. Returns how many ties there
/// were.
///
/// # Errors
/// Where Postgres fails.
pub async fn remove(
    transaction: &Transaction<'_>,
    nodes: &[Uuid],
    reason: Removal,
) -> Result<u64, Error> {
    if nodes.is_empty() {
        return Ok(0);
    }
    lock(transaction).await?;
    loss::note(transaction, reason.name()).await?;
    // Before their groups are gone, for what is known of a device is known of its IDs.
    let forget = "select avtryck.forget_sightings($1)";
    transaction.execute(forget, &[&nodes]).await?;
    let is_erasure = reason == Removal::Erasure;
    let forget = "select avtryck.forget_profiles($1, $2)";
    transaction.execute(forget, &[&nodes, &is_erasure]).await?;
    let permits = [
        "delete from avtryck.subject_permit where subject = any($1)",
        "delete from avtryck.subject_id where subject = any($1)",
    ];
    let traces = [
        "delete from avtryck.link_change where node = any($1)",
        "delete from avtryck.link_forbidden where a = any($1) or b = any($1)",
        "delete from avtryck.household_apart where node = any($1) or other = any($1)",
        "delete from avtryck.household_never where key in \
         (select avtryck.household_gone_key(node) from unnest($1::uuid[]) as gone (node))",
    ];
    for sql in permits.iter().chain(traces.iter().filter(|_| is_erasure)) {
        transaction.execute(*sql, &[&nodes]).await?;
    }
    let sql = "select avtryck.unlink($1, array_fill(date 'infinity', array[cardinality($1::uuid[])]), $2)";
    let row = transaction
        .query_one(sql, &[&nodes, &reason.name()])
        .await?;
    if is_erasure {
        let sql = "update avtryck.segment_due \
                   set subjects = array(select unnest(subjects) except select unnest($1)) \
                   where subjects && $1";
        transaction.execute(sql, &[&nodes]).await?;
    }
    row.try_get(0).map(i64::cast_unsigned)
}
