//! Runs the jobs beside the loader, and says what became of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::Client;

use super::{Clocks, Done, JobLimits, REPORT_CHECK, Schedule, Tick};
use crate::clock;
use crate::metrics::Metrics;
use crate::postgres::server::silence::LONG_SILENCE_MAX;
use crate::postgres::{Database, SilenceWatch};

/// How often they are looked at for for jobs that are due.
const JOBS_PERIOD: Duration = Duration::from_secs(5);

/// What there is to know of the jobs: a line for each remark, and none if all is well.
#[derive(Debug, Default)]
pub struct Remark(Mutex<String>);

impl Remark {
    /// Replaces the remarks, and returns whether they are new.
    fn replace(&self, remarks: String) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *known != remarks;
        *known = remarks;
        is_new
    }

    /// Returns the remarks.
    #[must_use]
    pub fn read(&self) -> String {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }
}

/// Runs the jobs that are due, over a connection of its own, and never ends.
pub async fn run(
    database: Arc<Database>,
    limits: JobLimits,
    metrics: Arc<Metrics>,
    remark: Arc<Remark>,
) {
    let mut schedule = Schedule::default();
    let mut connection: Option<(Client, SilenceWatch)> = None;
    let mut has_failed = false;
    loop {
        if schedule.is_due(clock::monotonic()) {
            let ran = run_tick(&database, &mut schedule, &mut connection, &limits).await;
            match ran {
                Ok(tick) => {
                    has_failed = false;
                    report(&tick, &metrics, &remark);
                }
                Err(error) => {
                    connection = None;
                    // The loader says the same, unless it is the jobs alone.
                    if !has_failed {
                        tracing::warn!("the jobs wait for Postgres: {error:#}");
                    }
                    has_failed = true;
                }
            }
        }
        let woken = async {
            match &limits.graph {
                Some(graph) => graph.wake.notified().await,
                None => std::future::pending().await,
            }
        };
        let is_woken = tokio::time::timeout(JOBS_PERIOD, woken).await.is_ok();
        // A connection that is lost is made by the next tick.
        if let Some((client, watch)) = connection.as_mut().filter(|_| is_woken) {
            let outcome = watch.watch(super::run_link(client, &limits)).await;
            report_outcome(super::LINK, &outcome, &metrics);
        }
    }
}

async fn run_tick(
    database: &Arc<Database>,
    schedule: &mut Schedule,
    connection: &mut Option<(Client, SilenceWatch)>,
    limits: &JobLimits,
) -> anyhow::Result<Tick> {
    let open = connection.take().filter(|(client, _)| !client.is_closed());
    let (client, watch) = match open {
        Some(open) => connection.insert(open),
        None => connection.insert(SilenceWatch::connect(database, LONG_SILENCE_MAX).await?),
    };
    let tick = async {
        let clocks = Clocks::read(client).await?;
        schedule.tick(client, limits, clocks).await
    };
    watch.watch(tick).await
}

/// Reports a tick to the log, the metrics and the readiness.
fn report(tick: &Tick, metrics: &Metrics, remark: &Remark) {
    let standing = &tick.standing;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a metric rounds what is beyond 2^52 µs"
    )]
    let difference = standing.difference_micros as f64 / 1e6;
    metrics.clock_difference.set(difference);
    metrics.jobs_suspended.set(u8::from(!standing.may_delete()));
    #[expect(clippy::cast_precision_loss, reason = "days are few")]
    metrics.jobs_held_back.set(tick.held_back as f64);

    let mut remarks = String::new();
    if let Some(fault) = standing.fault {
        remarks.push_str(&format!(
            "clock: {fault}; nothing is deleted by age until both have run in step for 24 h\n"
        ));
    } else if !standing.may_delete() {
        let hours = standing.wait.as_secs().div_ceil(3600);
        remarks.push_str(&format!(
            "clock: in step again; nothing is deleted by age for {hours} h more\n"
        ));
    }
    if tick.held_back > 0 {
        remarks.push_str(&format!(
            "retention: {} more days are due; one goes each hour\n",
            tick.held_back
        ));
    }
    if remark.replace(remarks.clone()) {
        for line in remarks.lines() {
            tracing::error!("{line}");
        }
    }
    for outcome in &tick.outcomes {
        report_outcome(outcome.name, &outcome.result, metrics);
    }
}

fn report_outcome(job: &str, result: &anyhow::Result<Done>, metrics: &Metrics) {
    match result {
        Ok(done) if job == REPORT_CHECK => {
            metrics.report_differences.increment(done.changed);
        }
        Ok(done) if done.changed > 0 => {
            tracing::info!(job, done = done.changed, "job done");
        }
        Ok(_) => {}
        Err(error) => {
            metrics.job_errors.increment(1);
            tracing::error!(job, "job failed: {error:#}");
        }
    }
}
