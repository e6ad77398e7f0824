//! Scheduled work on Postgres: one table ([`JOBS`]), one file for each job. A job reads no clock
//! and may run in several processes at once. What it leaves undone, its next run does.

mod event_key;
mod exposure;
mod partition_ahead;
mod retention;
mod suppression;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_postgres::Client;

use crate::clock::UnixMicros;

/// The pause before a job that failed is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// The most rows that one delete removes: short transactions, little WAL at once.
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
    /// Does the work, and returns how many partitions or rows it made or removed.
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

/// When each job is due. At first every job is.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    due: [UnixMicros; JOBS.len()],
}

/// The result of one job.
#[derive(Debug)]
pub struct JobOutcome {
    /// The job's name.
    pub name: &'static str,
    /// How much it made or removed, or why it failed; then it is due again in a minute.
    pub result: anyhow::Result<u64>,
}

impl Schedule {
    /// Runs the jobs that are due, in the order of the table.
    pub async fn tick(
        &mut self,
        client: &mut Client,
        settings: &Settings,
        now: UnixMicros,
    ) -> Vec<JobOutcome> {
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
            outcomes.push(JobOutcome {
                name: job.name,
                result,
            });
        }
        outcomes
    }

    /// Returns when the next job is due.
    #[must_use]
    pub fn next(&self) -> UnixMicros {
        self.due.iter().copied().min().unwrap_or_default()
    }
}

/// Runs every job once, until the first that fails.
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

/// Returns the UTC day since 1970, within what a `date` of Postgres can hold.
fn day(at: UnixMicros) -> i32 {
    /// The year 4707 before and after 1970: inside the range of `date`.
    const DAYS_MAX: i64 = 1_000_000;
    i32::try_from(at.day().clamp(-DAYS_MAX, DAYS_MAX)).unwrap_or(0)
}

/// Repeats a delete until it finds nothing more. Its first parameter is a day, its second the most
/// rows that it may remove.
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
