//! Postgres's clock, and the tables that have what is known of it: `clock`, `job` and
//! `wrong_clock_day`.

use tokio_postgres::{Client, Error, Transaction};

use crate::clock::UnixMicros;
use crate::postgres::timestamp::Timestamp;

/// What the database knows of the clock of Postgres: the row of the table `clock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockRecord {
    /// What it showed when a collector looked last.
    pub seen_at: UnixMicros,
    /// Since when it has run in step with the clocks of the collectors.
    pub in_step_since: UnixMicros,
    /// When a clock was last found to be wrong.
    pub wrong_at: Option<UnixMicros>,
    /// When the last of the days was counted.
    pub day_at: UnixMicros,
    /// Days on which collectors ran with their clocks in step.
    pub days: i32,
}

/// Reads what the clock of Postgres shows.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_clock(client: &Client) -> Result<UnixMicros, Error> {
    let row = client.query_one("select clock_timestamp()", &[]).await?;
    Ok(row.try_get::<_, Timestamp>(0)?.0)
}

/// Replaces what the database knows of the clock by what `judge` makes of it, and returns both. Of
/// several collectors one at a time does so.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn update_clock(
    client: &mut Client,
    judge: impl FnOnce(Option<ClockRecord>) -> ClockRecord,
) -> Result<(Option<ClockRecord>, ClockRecord), Error> {
    let transaction = client.transaction().await?;
    let row = transaction
        .query_opt(
            "select seen_at, in_step_since, day_at, days, wrong_at from avtryck.clock for update",
            &[],
        )
        .await?;
    let before = row.map(|row| {
        let [seen_at, in_step_since, day_at]: [Timestamp; 3] =
            [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
        Ok::<_, Error>(ClockRecord {
            seen_at: seen_at.0,
            in_step_since: in_step_since.0,
            day_at: day_at.0,
            days: row.try_get(3)?,
            wrong_at: row.try_get::<_, Option<Timestamp>>(4)?.map(|at| at.0),
        })
    });
    let before = before.transpose()?;
    let after = judge(before);
    transaction
        .execute(
            "insert into avtryck.clock (seen_at, in_step_since, day_at, days, wrong_at) \
             values ($1, $2, $3, $4, $5) \
             on conflict (one) do update set seen_at = excluded.seen_at, \
                 in_step_since = excluded.in_step_since, day_at = excluded.day_at, \
                 days = excluded.days, wrong_at = excluded.wrong_at",
            &[
                &Timestamp(after.seen_at),
                &Timestamp(after.in_step_since),
                &Timestamp(after.day_at),
                &after.days,
                &after.wrong_at.map(Timestamp),
            ],
        )
        .await?;
    transaction.commit().await?;
    Ok((before, after))
}

/// Returns when a job that deletes by age deleted something last.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_deletion(client: &Client, job: &str) -> Result<Option<UnixMicros>, Error> {
    let row = client
        .query_opt(
            "select deleted_at from avtryck.job where name = $1",
            &[&job],
        )
        .await?;
    let at = row.map(|row| row.try_get::<_, Timestamp>(0)).transpose()?;
    Ok(at.map(|at| at.0))
}

/// Notes when a job deleted something.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn note_deletion(client: &Client, job: &str, at: UnixMicros) -> Result<(), Error> {
    client
        .execute(
            "insert into avtryck.job (name, deleted_at) values ($1, $2) \
             on conflict (name) do update set deleted_at = excluded.deleted_at",
            &[&job, &Timestamp(at)],
        )
        .await?;
    Ok(())
}

/// Notes the days that rows bear which a batch loads while a clock is wrong or in doubt.
pub(super) async fn note_wrong_days(
    transaction: &Transaction<'_>,
    days: &[i32],
) -> Result<(), Error> {
    if days.is_empty() {
        return Ok(());
    }
    transaction
        .execute(
            "insert into avtryck.wrong_clock_day (day, lived_day) \
             select date '1970-01-01' + day, coalesce((select days from avtryck.clock), 0) \
             from unnest($1::int[]) as day order by day \
             on conflict (day) do update set lived_day = excluded.lived_day",
            &[&days],
        )
        .await?;
    Ok(())
}

/// Reads the days whose rows are kept, though they may look older than that, because a clock was
/// wrong or in doubt when they were loaded and not that many days have been lived through since.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_protected_days(
    client: &Client,
    days_kept: i32,
) -> Result<Vec<i32>, Error> {
    let rows = client
        .query(
            "select day - date '1970-01-01' from avtryck.wrong_clock_day \
             where coalesce((select days from avtryck.clock), 0) - lived_day < $1 order by day",
            &[&days_kept],
        )
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
