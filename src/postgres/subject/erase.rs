//! Erases what is held under an ID.
//!
//! The order guarantees that nothing is left: first the ID goes on the list of suppression, and
//! once that is committed every batch in progress knows it; then rows are deleted, in small
//! portions and each day by itself, so that neither loaders nor readers wait long, and asked for
//! again: rows that are left are an error; then the audit row is written. If any step fails, the
//! same request can be repeated and finishes.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use super::rejected::RejectedHits;
use super::{Conditions, End, PARAMETERS, PLAIN_PLANS, TABLES, Table};
use crate::hit::VisitorId;
use crate::hit::subject::Subject;
use crate::postgres::batch::exposure;
use crate::postgres::batch::position;
use crate::postgres::batch::position::SpoolPosition;
use crate::postgres::subject::suppression;
use crate::postgres::timestamp::Timestamp;
use crate::row::ChunkOffset;
use uuid::Uuid;

/// The most rows that one delete removes: short transactions, little WAL at once.
const DELETE_ROWS_MAX: u16 = 10_000;

/// The table whose rows are found by day.
const HIT: &str = "hit";

/// The days since 1970 on which hits of the subject were received. A day leads to its rows wherever
/// they lie: where `hit` is distributed over several servers, a partition here holds none of them.
const DAYS: &str = "select distinct (held.received_at at time zone 'UTC')::date - date '1970-01-01' \
     from avtryck.hit as held";

/// The rows of the day `$4`.
const ON_DAY: &str = "held.received_at >= (date '1970-01-01' + $4::int)::timestamp at time zone 'UTC' \
     and held.received_at < (date '1970-01-01' + $4::int + 1)::timestamp at time zone 'UTC'";

/// Deletes the copies of hits that came late.
const DELETE_COPIES: &str = "delete from avtryck.late_hit where hit_id = any($1)";

/// Marks what the roll-ups of reports have of the hits that are gone.
const MARK_REPORTS: &str = "insert into avtryck.report_mark (at, moves_conversions, changes_web) \
     select avtryck.report_slot(received_at), bool_or(kind between 2 and 5), bool_or(kind in (1, 2)) \
     from unnest($1::timestamptz[], $2::smallint[]) as gone (received_at, kind) group by 1";
const MARK_PATHS: &str = "select avtryck.mark_paths(array_agg(received_at), array_agg(occurred_at)) \
     from unnest($1::timestamptz[], $2::timestamptz[], $3::smallint[]) as gone (received_at, occurred_at, kind) \
     where kind between 3 and 5";

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

/// How many rows were removed, by table: of the tables whose rows are deleted each, and of those
/// whose rows go with the list of suppression the ones that had any.
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
    // The counts are questions of a few rows each.
    client.batch_execute(PLAIN_PLANS).await?;
    let mut removed = Box::pin(suppression::add_erased(client, subject))
        .await
        .context("adding to the list of suppression")?;
    removed.add(Box::pin(remove(client, subject)).await?);
    let transaction = client.transaction().await?;
    write_audit_row(&transaction, subject, asked_by, &removed).await?;
    transaction.commit().await?;
    Ok(removed)
}

/// Deletes the rows of a subject that is on the list of suppression.
///
/// # Errors
/// Where Postgres fails.
pub async fn remove(client: &mut Client, subject: &Subject<'_>) -> anyhow::Result<Removed> {
    client.batch_execute(PLAIN_PLANS).await?;
    // What is added after this has nothing of a subject on the list.
    exposure::add_up(client)
        .await
        .context("adding up exposures")?;
    let conditions = Conditions::new(subject);
    let mut removed = Removed::default();
    for table in TABLES.iter().filter(|table| table.end == End::Deleted) {
        let rows = match table.name {
            HIT => Box::pin(delete_hits(client, table, &conditions)).await,
            _ => delete(client, table, &conditions).await,
        };
        let rows = rows.with_context(|| format!("deleting from avtryck.{}", table.name))?;
        removed.0.insert(table.name, rows);
    }
    let rejected = delete_rejected(client, subject)
        .await
        .context("deleting from avtryck.rejected_hit")?;
    removed.0.insert("rejected_hit", rejected);
    // Roll-ups hold hashes of who saw what. Those that have the subject's go, and are made again.
    // While another transaction makes roll-ups, loaders need not wait for it: the job takes the
    // marks once that is done. Nor do they wait until what was in sums is found.
    let take =
        "select case when avtryck.try_report_lock() then avtryck.take_report_marks(true) end";
    client
        .execute(take, &[])
        .await
        .context("deleting roll-ups")?;
    Ok(removed)
}

/// Deletes the hits of the subject, a day after the other, until none is found.
async fn delete_hits(
    client: &mut Client,
    table: &Table,
    conditions: &Conditions<'_>,
) -> anyhow::Result<u64> {
    let condition = conditions.condition(table);
    let sql = format!("{DAYS} {} where {condition}", table.joined);
    let find_days = client.prepare_typed(&sql, &PARAMETERS).await?;
    let mut deleted = 0;
    let mut has_deleted = true;
    loop {
        let days = client.query(&find_days, &conditions.parameters()).await?;
        if days.is_empty() {
            return Ok(deleted);
        }
        ensure!(has_deleted, "rows are left that were to be deleted");
        let before = deleted;
        for day in &days {
            let day: i32 = day.try_get(0)?;
            deleted += delete_day(client, table, conditions, day).await?;
        }
        // Another erasure may have been faster: then there is nothing left to find.
        has_deleted = deleted > before;
    }
}

/// Deletes the hits of the subject on a day, in portions. They are found by the subject, which has
/// an index, and named by their IDs, so that a portion is the same rows on every server.
async fn delete_day(
    client: &mut Client,
    table: &Table,
    conditions: &Conditions<'_>,
    day: i32,
) -> anyhow::Result<u64> {
    let condition = conditions.condition(table);
    let find = format!(
        "select held.hit_id from avtryck.hit as held {} where {ON_DAY} and {condition} \
         limit {DELETE_ROWS_MAX}",
        table.joined
    );
    // What is joined has found the IDs, and a delete joins nothing.
    let own = match table.joined {
        "" => condition,
        _ => condition.split(" and ").next().unwrap_or(condition),
    };
    let delete = format!(
        "delete from avtryck.hit as held where {ON_DAY} and {own} and held.hit_id = any($5) \
         returning received_at, kind, coalesce(occurred_at, received_at)"
    );
    let [key, id, partner] = conditions.parameters();
    let mut deleted = 0;
    loop {
        let types = [&PARAMETERS[..], &[Type::INT4]].concat();
        let statement = client.prepare_typed(&find, &types).await?;
        let found = client.query(&statement, &[key, id, partner, &day]).await?;
        let ids: Vec<Uuid> = found
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Ok(deleted);
        }
        let transaction = client.transaction().await?;
        let types = [&PARAMETERS[..], &[Type::INT4, Type::UUID_ARRAY]].concat();
        let statement = transaction.prepare_typed(&delete, &types).await?;
        let gone = transaction
            .query(&statement, &[key, id, partner, &day, &ids])
            .await?;
        let mut times = Vec::with_capacity(gone.len());
        let mut kinds = Vec::with_capacity(gone.len());
        let mut happened = Vec::with_capacity(gone.len());
        for row in &gone {
            times.push(row.try_get::<_, Timestamp>(0)?);
            kinds.push(row.try_get::<_, i16>(1)?);
            happened.push(row.try_get::<_, Timestamp>(2)?);
        }
        transaction.execute(DELETE_COPIES, &[&ids]).await?;
        transaction.execute(MARK_REPORTS, &[&times, &kinds]).await?;
        transaction
            .execute(MARK_PATHS, &[&times, &happened, &kinds])
            .await?;
        transaction.commit().await?;
        deleted += gone.len() as u64;
        if ids.len() < usize::from(DELETE_ROWS_MAX) || gone.is_empty() {
            return Ok(deleted);
        }
    }
}

/// Deletes the rows of the subject from a table without partitions.
async fn delete(
    client: &Client,
    table: &Table,
    conditions: &Conditions<'_>,
) -> anyhow::Result<u64> {
    let (name, condition) = (table.name, conditions.condition(table));
    let held = format!(
        "from avtryck.{name} as held {} where {condition}",
        table.joined
    );
    let sql = format!(
        "delete from avtryck.{name} where ctid = any(array( \
             select held.ctid {held} limit {DELETE_ROWS_MAX}))"
    );
    let statement = client.prepare_typed(&sql, &PARAMETERS).await?;
    let mut deleted = 0;
    loop {
        let rows = client.execute(&statement, &conditions.parameters()).await?;
        deleted += rows;
        if rows < u64::from(DELETE_ROWS_MAX) {
            break;
        }
    }
    let sql = format!("select exists (select 1 {held})");
    let statement = client.prepare_typed(&sql, &PARAMETERS).await?;
    let left = client
        .query_one(&statement, &conditions.parameters())
        .await?;
    ensure!(
        !left.try_get::<_, bool>(0)?,
        "rows are left that were to be deleted"
    );
    Ok(deleted)
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
