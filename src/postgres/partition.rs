//! The partitions of `avtryck.hit`, one a UTC day: made when needed, dropped whole by retention.
//!
//! A hit keeps the time that it was stamped with, even by a clock that was wrong, so a batch may
//! bring days that are far away. Their partitions are made too, up to [`FAR_DAYS_MAX`] of them at
//! one time: a clock that shows a different year each second does not fill the catalog.

use std::ops::RangeInclusive;

use anyhow::Context as _;
use tokio_postgres::{Client, Error, Transaction};

/// How long a job waits for those who use a partition before it drops or indexes it. Loaders queue
/// behind it, so it gives up soon; the job tries again later.
const LOCK_TIMEOUT: &str = "2s";

/// After that many bytes of rows a run builds no more indexes: they take some ten seconds.
const INDEXED_BYTES: i64 = 1 << 30;

/// The days before today, and those after it, that are not far away.
const DAYS_BEFORE: i32 = 400;
const DAYS_AFTER: i32 = 10;

/// How many partitions there may be of days that are far away.
pub(super) const FAR_DAYS_MAX: usize = 50;

/// Which days have a partition.
#[derive(Debug, Default)]
pub(super) struct Days {
    /// How many partitions were made.
    pub(super) made: u64,
    /// The days without one: there are [`FAR_DAYS_MAX`] others that are far away.
    pub(super) refused: Vec<i32>,
}

/// Locks `hit` against the dropping of partitions until the transaction ends, and makes the
/// partitions of these days (since 1970, UTC) that are missing.
///
/// Because the lock is taken first, a day that is found here still exists when the rows come.
pub(super) async fn make_days(
    transaction: &Transaction<'_>,
    days: &[i32],
    today: i32,
) -> Result<Days, Error> {
    transaction
        .batch_execute("lock table only avtryck.hit in row exclusive mode")
        .await?;
    let near = today.saturating_sub(DAYS_BEFORE)..=today.saturating_add(DAYS_AFTER);
    let is_near = |day: &i32| near.contains(day);
    let (mut wanted, far): (Vec<i32>, Vec<i32>) = days.iter().partition(|day| is_near(day));
    let mut refused = Vec::new();
    if !far.is_empty() {
        let mut known = read_far(transaction, &near).await?;
        for day in far {
            if known.contains(&day) || known.len() < FAR_DAYS_MAX {
                known.push(day);
                wanted.push(day);
            } else {
                refused.push(day);
            }
        }
    }
    let row = transaction
        .query_one(
            "select count(*) from unnest($1::int[]) as day \
             where avtryck.make_hit_day(date '1970-01-01' + day)",
            &[&wanted],
        )
        .await?;
    let made = row.try_get::<_, i64>(0)?.cast_unsigned();
    Ok(Days { made, refused })
}

/// Reads which days outside a range have a partition.
async fn read_far(
    transaction: &Transaction<'_>,
    near: &RangeInclusive<i32>,
) -> Result<Vec<i32>, Error> {
    let rows = transaction
        .query(
            "select day - date '1970-01-01' from avtryck.hit_day \
             where day - date '1970-01-01' not between $1 and $2",
            &[near.start(), near.end()],
        )
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Makes the partitions of `today` and of that many days after it, and returns how many were
/// missing.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn make_ahead(client: &mut Client, today: i32, ahead: i32) -> anyhow::Result<u64> {
    let transaction = client.transaction().await?;
    let days: Vec<i32> = (today..=today + ahead).collect();
    let days = make_days(&transaction, &days, today).await?;
    transaction.commit().await?;
    Ok(days.made)
}

/// Builds the indexes that partitions lack since an upgrade, a day at a time and the newest first,
/// until the days have [`INDEXED_BYTES`]. Returns how many it built. A day that is in use for
/// longer than [`LOCK_TIMEOUT`] is left for the next run, and those before it too.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn index_days(client: &mut Client) -> anyhow::Result<u64> {
    let days = client
        .query(
            "select day - date '1970-01-01', pg_relation_size(partition) from avtryck.hit_day \
             cross join lateral to_regclass('avtryck.hit_' || to_char(day, 'YYYYMMDD')) as of (partition) \
             where partition in (select partition from avtryck.missing_hit_index) order by day desc",
            &[],
        )
        .await
        .context("reading which days lack an index")?;
    let (mut built, mut bytes) = (0, 0);
    for row in &days {
        let day: i32 = row.try_get(0)?;
        let transaction = client.transaction().await?;
        transaction
            .batch_execute(&format!("set local lock_timeout = '{LOCK_TIMEOUT}'"))
            .await?;
        let indexes = transaction
            .query_one(
                "select avtryck.index_hit_day(date '1970-01-01' + $1::int)",
                &[&day],
            )
            .await
            .with_context(|| format!("indexing the day {day}"))?;
        transaction.commit().await?;
        built += u64::from(indexes.try_get::<_, i32>(0)?.unsigned_abs());
        bytes += row.try_get::<_, i64>(1)?;
        if bytes >= INDEXED_BYTES {
            break;
        }
    }
    Ok(built)
}

/// Returns the days whose partitions are due, in their order: those before `first_kept`, and those
/// far in the future of `today`, where only a wrong clock made hits. The `protected` ones are not.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_due(
    client: &Client,
    (first_kept, today): (i32, i32),
    protected: &[i32],
) -> anyhow::Result<Vec<i32>> {
    let rows = client
        .query(
            "select number from avtryck.hit_day cross join lateral (select day - date '1970-01-01') as day_of (number) \
             where (number < $1 or number > $2 and exists ( \
                        select from avtryck.wrong_clock_day as wrong where wrong.day = hit_day.day)) \
               and number <> all($3) order by number",
            &[&first_kept, &today.saturating_add(DAYS_AFTER), &protected],
        )
        .await
        .context("reading which partitions are due")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Drops the partition of a day, and its roll-ups with it.
///
/// # Errors
/// Where Postgres fails, or a reader holds the partition longer than a drop waits.
pub(crate) async fn drop_day(client: &mut Client, day: i32) -> anyhow::Result<()> {
    let row = client
        .query_one(
            "select to_char(date '1970-01-01' + $1::int, 'YYYYMMDD')",
            &[&day],
        )
        .await?;
    // Digits leave nothing in the name that would need quoting.
    let digits: &str = row.try_get(0)?;
    let transaction = client.transaction().await?;
    transaction
        .batch_execute(&format!("set local lock_timeout = '{LOCK_TIMEOUT}'"))
        .await?;
    let forget = "select avtryck.forget_expired_day(date '1970-01-01' + $1::int)";
    transaction
        .execute(forget, &[&day])
        .await
        .with_context(|| format!("deleting the roll-ups of {digits}"))?;
    let drop = format!("drop table if exists avtryck.hit_{digits}");
    transaction
        .batch_execute(&drop)
        .await
        .with_context(|| format!("dropping the partition hit_{digits}"))?;
    transaction.commit().await?;
    tracing::info!(day = digits, "retention dropped the hits of a day");
    Ok(())
}
