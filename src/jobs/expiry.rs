//! Deletes by age: one table ([`Expiry`] of each job), one way. What has to be found in another way
//! keeps to the same rules (`hit_count`, `import`).
//!
//! A run deletes the oldest day that is due, and no more. Where more is due it says so: the clock
//! is wrong, or the collectors were off, or `privacy.retention` was lowered, or hits came that were
//! stamped long ago. The rest goes an hour later, a day's worth in each run.

use anyhow::Context as _;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::JobLimits;
use crate::clock::UnixMicros;
use crate::postgres::clock::{note_deletion, read_deletion, read_protected_days};
use crate::postgres::identity::Loss;
use crate::postgres::partition;

/// The most rows that one delete removes: short transactions, little WAL at once.
const DELETE_ROWS_MAX: i64 = 10_000;

/// The table whose deletes say why, for groups are split by it.
pub(super) const TIES: &str = "link_edge";

/// Pages of `exposure` in one transaction: about 90,000 rows.
const STRETCH_PAGES: i64 = 1_000;

/// The least time between two runs of a job that delete something, whichever process runs them:
/// a little less than an hour, because runs are not on the second.
const APART_MICROS: u64 = 55 * 60 * 1_000_000;

/// What a job deletes, and when.
#[derive(Clone, Copy)]
pub(super) struct Expiry {
    /// Returns the first day that is kept.
    pub(super) first_kept: fn(&JobLimits, UnixMicros) -> i32,
    /// Where it is stored.
    pub(super) store: Store,
}

/// Where what a job deletes is stored.
#[derive(Clone, Copy)]
pub(super) enum Store {
    /// The partitions of `hit`.
    Partitions,
    /// A table, or those rows of it that a condition names.
    Rows {
        table: &'static str,
        /// The column that tells their age.
        column: &'static str,
        /// Whether it is a date, and not a point in time.
        is_date: bool,
        condition: &'static str,
    },
    /// The table `exposure`, which has no index on its times: one would turn each change of a row
    /// into a new entry in every index. It is read in stretches instead, each in a short
    /// transaction of its own. Rows that a loader is adding to are left: they were seen just now,
    /// and waiting for them here, in another order, could be a deadlock.
    Exposures,
    /// A dimension, or those rows of it that a condition names, by the day on which a hit last
    /// brought them. It has no index on that either, and is read in stretches too. It waits while
    /// anything is due that may point to its rows.
    Dimension {
        table: &'static str,
        condition: &'static str,
    },
}

/// What a run may delete.
struct Scope {
    /// The first day that is kept.
    first_kept: i32,
    today: i32,
    /// Days that are kept though they are older, for a clock was wrong when their rows came.
    protected: Vec<i32>,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Partitions or rows that it made or removed.
    pub changed: u64,
    /// The days' worth that was due beyond the one that it removed.
    pub held_back: u64,
}

impl Expiry {
    /// Deletes the oldest day that is due.
    pub(super) async fn run(
        &self,
        client: &mut Client,
        name: &str,
        limits: &JobLimits,
        as_of: UnixMicros,
    ) -> anyhow::Result<Done> {
        let first_kept = (self.first_kept)(limits, as_of);
        let today = super::day(as_of);
        let protected = read_protected_days(client, today.saturating_sub(first_kept)).await?;
        let scope = Scope {
            first_kept,
            today,
            protected,
        };
        let due = self.store.read_due(client, &scope).await?;
        let Some((oldest, days)) = due else {
            return Ok(Done::default());
        };
        if is_too_soon(client, name, as_of).await? {
            return Ok(Done {
                changed: 0,
                held_back: days,
            });
        }
        let changed = self.store.delete_day(client, oldest, &scope).await?;
        note(client, name, as_of).await?;
        let left = self.store.read_due(client, &scope).await?;
        let held_back = left.map_or(0, |(_, days)| days);
        Ok(Done { changed, held_back })
    }
}

/// Checks whether a job has deleted something less than an hour ago, in any process.
pub(super) async fn is_too_soon(
    client: &Client,
    name: &str,
    as_of: UnixMicros,
) -> anyhow::Result<bool> {
    let last = read_deletion(client, name).await?;
    Ok(last.is_some_and(|last| last.0.abs_diff(as_of.0) < APART_MICROS))
}

/// Notes that a job has deleted something.
pub(super) async fn note(client: &Client, name: &str, as_of: UnixMicros) -> anyhow::Result<()> {
    note_deletion(client, name, as_of).await.map_err(Into::into)
}

impl Store {
    /// Returns the oldest day that is due, and for how many days there may be something due.
    async fn read_due(&self, client: &Client, scope: &Scope) -> anyhow::Result<Option<(i32, u64)>> {
        let first_kept = scope.first_kept;
        if matches!(self, Store::Dimension { .. }) && is_pointed_to(client, scope).await? {
            return Ok(None);
        }
        let Some(Columns {
            table,
            day,
            first_day,
            condition,
            ..
        }) = self.columns()
        else {
            let limits = (first_kept, scope.today);
            let days = partition::read_due(client, limits, &scope.protected).await?;
            return Ok(days.first().map(|oldest| (*oldest, days.len() as u64)));
        };
        let sql = format!(
            "select {first_day} from avtryck.{table} where {condition} and {day} <> all($1)"
        );
        let row = client.query_one(&sql, &[&scope.protected]).await;
        let row = row.with_context(|| format!("looking for old rows of {table}"))?;
        let oldest: Option<i32> = row.try_get(0)?;
        let oldest = oldest.filter(|oldest| *oldest < first_kept);
        Ok(oldest.map(|oldest| (oldest, u64::from(first_kept.abs_diff(oldest)))))
    }

    /// Deletes what is of that day or older, and returns how much that was.
    async fn delete_day(
        &self,
        client: &mut Client,
        day: i32,
        scope: &Scope,
    ) -> anyhow::Result<u64> {
        let Some(columns) = self.columns() else {
            partition::drop_day(client, day).await?;
            return Ok(1);
        };
        let table = columns.table;
        let deleted = match self {
            Store::Exposures | Store::Dimension { .. } => {
                delete_in_stretches(client, &columns, day, scope).await
            }
            _ => delete_all(client, &columns, day, scope).await,
        };
        deleted.with_context(|| format!("deleting old rows of {table}"))
    }

    /// Returns how its rows are found; `None` for partitions.
    fn columns(&self) -> Option<Columns> {
        let (table, column, is_date, condition) = match self {
            Store::Partitions => return None,
            Store::Exposures => ("exposure", "last_at", false, "true"),
            Store::Dimension { table, condition } => (*table, "last_seen", true, *condition),
            Store::Rows {
                table,
                column,
                is_date,
                condition,
            } => (*table, *column, *is_date, *condition),
        };
        let (day_of, limit): (fn(&str) -> String, _) = if is_date {
            (
                |date| format!("({date} - date '1970-01-01')"),
                "date '1970-01-01' + $1::int",
            )
        } else {
            (
                |time| format!("(({time} at time zone 'UTC')::date - date '1970-01-01')"),
                "(date '1970-01-01' + $1::int)::timestamp at time zone 'UTC'",
            )
        };
        Some(Columns {
            table,
            day: day_of(column),
            first_day: day_of(&format!("min({column})")),
            is_before: format!("{column} < {limit}"),
            condition,
        })
    }
}

/// Checks whether hits or exposures are due that may point to rows of dimensions: they go first.
async fn is_pointed_to(client: &Client, scope: &Scope) -> anyhow::Result<bool> {
    for store in [Store::Partitions, Store::Exposures] {
        if Box::pin(store.read_due(client, scope)).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How the rows of a table are found by age, in SQL.
struct Columns {
    table: &'static str,
    /// The day of a row, since 1970.
    day: String,
    /// The first day of any row, in a way that an index finds.
    first_day: String,
    /// Whether a row lies before the day `$1`, in a way that an index finds.
    is_before: String,
    condition: &'static str,
}

impl Columns {
    /// Returns the condition for rows that lie before `$1` and on none of the days `$2`.
    fn is_due(&self) -> String {
        let Columns {
            day,
            is_before,
            condition,
            ..
        } = self;
        format!("{condition} and {is_before} and {day} <> all($2)")
    }
}

/// Repeats a delete until it finds nothing more, in short transactions.
async fn delete_all(
    client: &mut Client,
    columns: &Columns,
    day: i32,
    scope: &Scope,
) -> anyhow::Result<u64> {
    let (table, is_due) = (columns.table, columns.is_due());
    let sql = format!(
        "delete from avtryck.{table} where ctid = any(array( \
             select ctid from avtryck.{table} where {is_due} limit $3))"
    );
    let end = day + 1;
    let mut deleted = 0;
    loop {
        let values: [&(dyn ToSql + Sync); 3] = [&end, &scope.protected, &DELETE_ROWS_MAX];
        let rows = if table == TIES {
            let transaction = client.transaction().await?;
            Loss::Expiry.note(&transaction).await?;
            let rows = transaction.execute(&sql, &values).await?;
            transaction.commit().await?;
            rows
        } else {
            client.execute(&sql, &values).await?
        };
        deleted += rows;
        if rows < DELETE_ROWS_MAX.cast_unsigned() {
            return Ok(deleted);
        }
    }
}

/// Deletes from one stretch of pages after the other.
async fn delete_in_stretches(
    client: &Client,
    columns: &Columns,
    day: i32,
    scope: &Scope,
) -> anyhow::Result<u64> {
    let (table, is_due) = (columns.table, columns.is_due());
    let sql = format!(
        "select pg_relation_size('avtryck.{table}') / current_setting('block_size')::bigint"
    );
    let row = client.query_one(&sql, &[]).await?;
    let pages: i64 = row.try_get(0)?;
    let sql = format!(
        "delete from avtryck.{table} where ctid = any(array( \
             select ctid from avtryck.{table} \
             where ctid >= format('(%s,0)', $3::bigint)::tid and ctid < format('(%s,0)', $4::bigint)::tid \
               and {is_due} for update skip locked))"
    );
    let delete = client.prepare(&sql).await?;
    let end = day + 1;
    let mut deleted = 0;
    let mut from = 0;
    while from < pages {
        let to = from + STRETCH_PAGES;
        let values: [&(dyn ToSql + Sync); 4] = [&end, &scope.protected, &from, &to];
        deleted += client.execute(&delete, &values).await?;
        from = to;
    }
    Ok(deleted)
}
