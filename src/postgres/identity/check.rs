//! Finds all device groups anew, by the rules of today: for a look, or for good.

use tokio_postgres::{Client, Error, Transaction};

use super::group::{Grouped, loosen, recount_hubs, settle_within};
use super::{Loss, lock};

/// How many groups are found anew in one transaction.
const RANGE: i64 = 500;

/// What finding groups anew changes, or would change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Groups that were looked at.
    pub groups: i64,
    /// Ties to IDs of partners that no longer unite anything.
    pub stale: u64,
    /// Ties of hubs that are none by the rules of today.
    pub freed: u64,
    /// What became of IDs.
    pub grouped: Grouped,
}

/// Finds the groups from a number on anew. `uniting` are the partners whose IDs unite a device:
/// ties to others' IDs are deleted first. `after` is called after each range with the number to go
/// on from. With `is_trial` each range is undone, so groups do not see what became of those before.
///
/// # Errors
/// Where Postgres fails. What was done until then stays done.
pub async fn rebuild(
    client: &mut Client,
    uniting: &[String],
    (from, is_trial): (i64, bool),
    mut after: impl FnMut(i64),
) -> Result<Rebuilt, Error> {
    let mut rebuilt = Rebuilt::default();
    let mut next = from;
    if from == 0 {
        let transaction = client.transaction().await?;
        rebuilt.freed = recount_hubs(&transaction).await?;
        settle_all(&transaction, &mut rebuilt.grouped).await?;
        end(transaction, is_trial).await?;
    }
    loop {
        let transaction = client.transaction().await?;
        lock(&transaction).await?;
        Loss::Rule.note(&transaction).await?;
        let sql = include_str!("check/stale.sql");
        let stale = transaction.execute(sql, &[&next, &RANGE, &uniting]).await?;
        let Some(last) = loosen(&transaction, next, RANGE).await? else {
            break;
        };
        let count =
            "select count(*) from avtryck.device_group where device_group between $1 and $2";
        rebuilt.groups += transaction
            .query_one(count, &[&next, &last])
            .await?
            .try_get::<_, i64>(0)?;
        rebuilt.stale += stale;
        settle_all(&transaction, &mut rebuilt.grouped).await?;
        end(transaction, is_trial).await?;
        next = last + 1;
        after(next);
    }
    Ok(rebuilt)
}

async fn settle_all(transaction: &Transaction<'_>, all: &mut Grouped) -> Result<(), Error> {
    loop {
        let grouped = settle_within(transaction).await?;
        if !grouped.is_full() {
            return Ok(());
        }
        all.add(grouped);
    }
}

async fn end(transaction: Transaction<'_>, is_trial: bool) -> Result<(), Error> {
    match is_trial {
        true => transaction.rollback().await,
        false => transaction.commit().await,
    }
}
