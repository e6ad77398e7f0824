//! Work on Postgres on a schedule: one table, one file per job. A job reads no clock and may run
//! in several processes at once; what one leaves undone its next turn does.

mod event_key;
mod exposure;
mod partition_ahead;
mod retention;
mod suppression;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_postgres::Client;

use crate::clock::UnixMicros;

/// How soon a job that failed is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// How many rows one delete takes at most: short transactions, little WAL at once.
const DELETE_ROWS_MAX: i64 = 10_000;

/// What the jobs need of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `privacy.retention`: how long rows are kept.
    pub retention: Duration,
}

type Run =
    for<'a> fn(&'a mut Client, &'a Settings, UnixMicros) -> BoxFuture<'a, anyhow::Result<u64>>;

/// One job.
pub struct Job {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// How often it runs.
    pub period: Duration,
    /// Does the work; how many partitions or rows it made or removed.
    pub run: Run,
}

/// Every job.
pub const JOBS: [Job; 5] = [
    Job {
        name: "partition_ahead",
        period: Duration::from_hours(1),
        run: |client, _, now| Box::pin(partition_ahead::run(client, now)),
    },
    Job {
        name: "retention",
        period: Duration::from_hours(1),
        run: |client, settings, now| Box::pin(retention::run(client, settings, now)),
    },
    Job {
        name: "event_key",
        period: Duration::from_hours(1),
        run: |client, _, now| Box::pin(event_key::run(client, now)),
    },
    Job {
        name: "suppression",
        period: Duration::from_hours(24),
        run: |client, _, now| Box::pin(suppression::run(client, now)),
    },
    Job {
        name: "exposure",
        period: Duration::from_hours(24),
        run: |client, settings, now| Box::pin(exposure::run(client, settings, now)),
    },
];

/// When each job is due. At first all are.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    due: [UnixMicros; JOBS.len()],
}

/// What one job came to.
#[derive(Debug)]
pub struct Outcome {
    /// The job's name.
    pub name: &'static str,
    /// What it made or removed, or why it failed; it is due again in a minute then.
    pub result: anyhow::Result<u64>,
}

impl Schedule {
    /// Runs the jobs that are due, in the order of the table.
    pub async fn tick(
        &mut self,
        client: &mut Client,
        settings: &Settings,
        now: UnixMicros,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (job, due) in JOBS.iter().zip(&mut self.due) {
            if now < *due {
                continue;
            }
            let result = (job.run)(client, settings, now).await;
            let pause = if result.is_ok() {
                job.period
            } else {
                job.period.min(RETRY)
            };
            *due = later(now, pause);
            outcomes.push(Outcome {
                name: job.name,
                result,
            });
        }
        outcomes
    }

    /// When the next job is due.
    #[must_use]
    pub fn next(&self) -> UnixMicros {
        self.due.iter().copied().min().unwrap_or_default()
    }
}

/// Runs every job once; the first failure ends it.
///
/// # Errors
/// Where a job fails.
pub async fn run(client: &mut Client, settings: &Settings, now: UnixMicros) -> anyhow::Result<()> {
    for job in &JOBS {
        (job.run)(client, settings, now)
            .await
            .map_err(|error| error.context(job.name))?;
    }
    Ok(())
}

fn later(at: UnixMicros, pause: Duration) -> UnixMicros {
    let micros = i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
    UnixMicros(at.0.saturating_add(micros))
}

fn earlier(at: UnixMicros, span: Duration) -> UnixMicros {
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    UnixMicros(at.0.saturating_sub(micros))
}

/// The UTC day since 1970 as Postgres counts: within what a `date` can hold.
fn day(at: UnixMicros) -> i32 {
    /// The year 4707 before and after 1970: inside the range of `date`.
    const DAYS_MAX: i64 = 1_000_000;
    i32::try_from(at.day().clamp(-DAYS_MAX, DAYS_MAX)).unwrap_or(0)
}

/// Repeats a delete, whose first parameter is a day and whose second is the most rows it may take,
/// until it finds nothing more.
async fn delete_all(client: &Client, sql: &str, day: i32) -> anyhow::Result<u64> {
    let mut deleted = 0;
    loop {
        let rows = client.execute(sql, &[&day, &DELETE_ROWS_MAX]).await?;
        deleted += rows;
        if rows < DELETE_ROWS_MAX.cast_unsigned() {
            return Ok(deleted);
        }
    }
}

#[cfg(test)]
mod tests;
