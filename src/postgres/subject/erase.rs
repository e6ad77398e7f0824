//! Erases what is held under an ID.
//!
//! The order guarantees that nothing is left: first the ID goes on the list of suppression, and
//! once that is committed every batch in progress knows it; then rows are deleted, in small
//! portions and each partition by itself, so that neither loaders nor readers wait long; then the
//! audit row is written. If any step fails, the same request can be repeated and finishes.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context as _;
use serde_json::json;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use super::rejected::RejectedHits;
use super::{Conditions, End, PARAMETERS, PLAIN_PLANS, TABLES, Table};
use crate::hit::VisitorId;
use crate::hit::subject::Subject;
use crate::postgres::batch::exposure;
use crate::postgres::batch::position;
use crate::postgres::batch::position::SpoolPosition;
use crate::postgres::subject::suppression;
use crate::postgres::subject::suppression::Reason;
use crate::row::ChunkOffset;
use uuid::Uuid;

/// The most rows that one delete removes: short transactions, little WAL at once.
const DELETE_ROWS_MAX: u64 = 10_000;

/// Marks what the roll-ups of reports have of the hits that are gone.
const MARK_REPORTS: &str = ", marked as ( \
     insert into avtryck.report_mark (at, moves_conversions) \
     select avtryck.report_slot(received_at), bool_or(kind between 2 and 5) from gone group by 1)";

/// Who asked for an erasure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// An operator, with `avtryck subject erase`.
    Cli,
    /// The visitor, on their own page.
    Visitor,
}

impl AskedBy {
    /// Returns the word in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AskedBy::Cli => "cli",
            AskedBy::Visitor => "visitor",
        }
    }
}

/// How many rows were removed, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed(pub BTreeMap<&'static str, u64>);

impl Removed {
    /// Adds what was removed besides.
    pub fn add(&mut self, other: Removed) {
        for (table, rows) in other.0 {
            *self.0.entry(table).or_default() += rows;
        }
    }
}

impl fmt::Display for Removed {
    /// Writes a line for each table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (table, rows)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{table}: {rows} rows removed")?;
        }
        Ok(())
    }
}

/// Erases a subject: suppression, deletion, audit row. A second time removes nothing, and has an
/// audit row too.
///
/// # Errors
/// Where Postgres fails; the same call can then be repeated and finishes.
pub async fn erase(
    client: &mut Client,
    subject: &Subject<'_>,
    asked_by: AskedBy,
) -> anyhow::Result<Removed> {
    suppression::add(client, &[(*subject, Reason::Erasure)])
        .await
        .context("adding to the list of suppression")?;
    let removed = remove(client, subject).await?;
    let transaction = client.transaction().await?;
    write_audit_row(&transaction, subject, asked_by, &removed).await?;
    transaction.commit().await?;
    Ok(removed)
}

/// Deletes the rows of a subject that is on the list of suppression.
///
/// # Errors
/// Where Postgres fails.
pub async fn remove(client: &Client, subject: &Subject<'_>) -> anyhow::Result<Removed> {
    client.batch_execute(PLAIN_PLANS).await?;
    // What is added after this has nothing of a subject on the list.
    exposure::add_up(client)
        .await
        .context("adding up exposures")?;
    let conditions = Conditions::new(subject);
    let mut removed = Removed::default();
    for table in TABLES.iter().filter(|table| table.end == End::Deleted) {
        let mut rows = 0;
        for partition in find_partitions(client, table, &conditions).await? {
            rows += delete(client, table, &partition, &conditions)
                .await
                .with_context(|| format!("deleting from {partition}"))?;
        }
        removed.0.insert(table.name, rows);
    }
    let rejected = delete_rejected(client, subject)
        .await
        .context("deleting from avtryck.rejected_hit")?;
    removed.0.insert("rejected_hit", rejected);
    // Roll-ups hold hashes of who saw what. Those that have the subject's go, and are made again.
    // While another transaction makes roll-ups, loaders need not wait for it: the job takes the
    // marks once that is done.
    let take = "select case when avtryck.try_report_lock() then avtryck.take_report_marks() end";
    client
        .execute(take, &[])
        .await
        .context("deleting roll-ups")?;
    Ok(removed)
}

/// Returns the partitions that hold rows of the subject; of a table without partitions, the table.
async fn find_partitions(
    client: &Client,
    table: &Table,
    conditions: &Conditions<'_>,
) -> anyhow::Result<Vec<String>> {
    let Table { name, joined, .. } = table;
    let sql = format!(
        "select distinct held.tableoid::regclass::text from avtryck.{name} as held {joined} where {}",
        conditions.condition(table)
    );
    let statement = client.prepare_typed(&sql, &PARAMETERS).await?;
    let rows = client.query(&statement, &conditions.parameters()).await?;
    Ok(rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?)
}

async fn delete(
    client: &Client,
    table: &Table,
    partition: &str,
    conditions: &Conditions<'_>,
) -> anyhow::Result<u64> {
    let mark = if table.name == "hit" {
        MARK_REPORTS
    } else {
        ""
    };
    let sql = format!(
        "with gone as (delete from {partition} where ctid = any(array( \
             select held.ctid from {partition} as held {} where {} limit {DELETE_ROWS_MAX})) returning *){mark} \
         select count(*) from gone",
        table.joined,
        conditions.condition(table)
    );
    let mut deleted = 0;
    loop {
        let rows = match client.prepare_typed(&sql, &PARAMETERS).await {
            Ok(statement) => client.query_one(&statement, &conditions.parameters()).await,
            Err(error) => Err(error),
        };
        match rows {
            Ok(row) => {
                let rows = row.try_get::<_, i64>(0)?.cast_unsigned();
                deleted += rows;
                if rows < DELETE_ROWS_MAX {
                    return Ok(deleted);
                }
            }
            // Retention has dropped the day, and the rows with it.
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(deleted),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn delete_rejected(client: &Client, subject: &Subject<'_>) -> anyhow::Result<u64> {
    let mut hits = RejectedHits::default();
    let mut deleted = 0;
    while let Some(found) = hits.next(client, subject).await? {
        if found.is_empty() {
            continue;
        }
        let (places, payloads): (Vec<String>, Vec<Vec<u8>>) = found
            .into_iter()
            .map(|hit| (hit.place, hit.payload))
            .unzip();
        // Another row may be there by now; the same bytes name the same subject in every row.
        let sql = "delete from avtryck.rejected_hit \
                   where ctid = any($1::text[]::tid[]) and payload = any($2)";
        deleted += client.execute(sql, &[&places, &payloads]).await?;
    }
    Ok(deleted)
}

async fn write_audit_row(
    transaction: &Transaction<'_>,
    subject: &Subject<'_>,
    asked_by: AskedBy,
    removed: &Removed,
) -> anyhow::Result<()> {
    transaction
        .execute(
            "insert into avtryck.erasure (erased_at, key, id_kind, asked_by, removed) \
             values (now(), $1, $2, $3, $4)",
            &[
                &Uuid::from_bytes(subject.key()),
                &subject.id_kind(),
                &asked_by.name(),
                &json!(removed.0),
            ],
        )
        .await
        .context("writing the audit row")?;
    Ok(())
}

/// Records instructions as carried out: writes the audit rows of the visitors who were erased, and
/// moves the position of their spool from `from` to `to`.
///
/// # Errors
/// Where Postgres fails, or the position is not `from`.
pub async fn finish(
    client: &mut Client,
    spool_id: [u8; 16],
    from: Option<ChunkOffset>,
    to: SpoolPosition,
    erased: &[(VisitorId, Removed)],
) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    let moved = position::advance_one(&transaction, spool_id, from, to).await?;
    anyhow::ensure!(moved.is_some(), "another loader has moved the position on");
    for (visitor, removed) in erased {
        write_audit_row(
            &transaction,
            &Subject::Visitor(*visitor),
            AskedBy::Visitor,
            removed,
        )
        .await?;
    }
    transaction.commit().await?;
    Ok(())
}
