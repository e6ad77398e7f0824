//! What happens after the reply: hits and instructions go from the spools to Postgres, and jobs
//! run.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::health::JobsRemark;
use super::reload::Reload;
use crate::clock;
use crate::config::Config;
use crate::edge::Spools;
use crate::enrich::Tables;
use crate::jobs;
use crate::loader::sink::PostgresSink;
use crate::loader::{Instructions, Loader};
use crate::metrics::Metrics;
use crate::postgres::server::silence::LONG_SILENCE_MAX;
use crate::postgres::{Database, SilenceWatch};

/// What loading may take when the collector stops. What is left waits in the spool.
const LAST_BATCH_TIME_MAX: Duration = Duration::from_secs(3);
/// How often the collector looks for jobs that are due.
const JOBS_PERIOD: Duration = Duration::from_secs(5);

/// The parts that load, before they start.
pub(super) struct Parts {
    pub(super) loader: Loader,
    pub(super) instructions: Instructions,
    jobs: jobs::JobLimits,
}

impl Parts {
    pub(super) fn new(
        config: &Config,
        spools: &Spools,
        database: &Arc<Database>,
        tables: &Arc<ArcSwap<Tables>>,
        metrics: &Arc<Metrics>,
    ) -> Parts {
        Parts {
            loader: Loader {
                spool: spools.hits.clone(),
                instructions: spools.instructions.clone(),
                sink: PostgresSink::new(Arc::clone(database), Arc::clone(metrics)),
                tables: Arc::clone(tables),
                batch_rows: config.loader.batch_rows,
                batch_wait: config.loader.batch_wait,
                client_ip: config.privacy.client_ip,
                metrics: Arc::clone(metrics),
                progress: Arc::default(),
            },
            instructions: Instructions {
                spool: spools.instructions.clone(),
                database: Arc::clone(database),
                wait: config.loader.batch_wait,
                metrics: Arc::clone(metrics),
                progress: Arc::default(),
            },
            jobs: jobs::JobLimits {
                retention: config.privacy.retention,
            },
        }
    }

    /// Starts to load. Hits wait until geodata and rules have been read.
    pub(super) fn start(
        self,
        reload: &Rc<Reload>,
        database: &Arc<Database>,
        metrics: &Arc<Metrics>,
        remark: &Arc<JobsRemark>,
    ) -> Loading {
        let (stop, stopping) = watch::channel(false);
        let instructions = tokio::task::spawn_local(self.instructions.run(stopping.clone()));
        let (loader, reload) = (self.loader, Rc::clone(reload));
        let hits = tokio::task::spawn_local(async move {
            reload.read_tables().await;
            loader.run(stopping).await;
        });
        tokio::task::spawn_local(run_jobs(
            Arc::clone(database),
            self.jobs,
            Arc::clone(metrics),
            Arc::clone(remark),
        ));
        Loading {
            stop,
            hits,
            instructions,
        }
    }
}

/// The tasks that load.
pub(super) struct Loading {
    stop: watch::Sender<bool>,
    hits: JoinHandle<()>,
    instructions: JoinHandle<()>,
}

impl Loading {
    /// Loads one more batch, if there is time, and stops Postgres if it is the collector's own.
    pub(super) async fn stop(self, database: &Database) {
        self.stop.send_replace(true);
        let last = tokio::time::timeout(LAST_BATCH_TIME_MAX, self.hits).await;
        if last.is_err() {
            tracing::warn!("the last batch was not loaded in time; it waits in the spool");
        }
        database.stop().await;
    }

    /// Ends at once. What is in hand waits in the spool.
    pub(super) async fn abort(self) {
        for task in [self.hits, self.instructions] {
            task.abort();
            drop(task.await);
        }
    }
}

/// Runs the jobs that are due, over a connection of its own.
async fn run_jobs(
    database: Arc<Database>,
    limits: jobs::JobLimits,
    metrics: Arc<Metrics>,
    remark: Arc<JobsRemark>,
) {
    let mut schedule = jobs::Schedule::default();
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
        tokio::time::sleep(JOBS_PERIOD).await;
    }
}

async fn run_tick(
    database: &Arc<Database>,
    schedule: &mut jobs::Schedule,
    connection: &mut Option<(Client, SilenceWatch)>,
    limits: &jobs::JobLimits,
) -> anyhow::Result<jobs::Tick> {
    let open = connection.take().filter(|(client, _)| !client.is_closed());
    let (client, watch) = match open {
        Some(open) => connection.insert(open),
        None => connection.insert(SilenceWatch::connect(database, LONG_SILENCE_MAX).await?),
    };
    let tick = async {
        let clocks = jobs::Clocks::read(client).await?;
        schedule.tick(client, limits, clocks).await
    };
    watch.watch(tick).await
}

/// Reports a tick to the log, the metrics and the readiness.
fn report(tick: &jobs::Tick, metrics: &Metrics, remark: &JobsRemark) {
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
        match &outcome.result {
            Ok(done) if done.changed > 0 => {
                tracing::info!(job = outcome.name, done = done.changed, "job done");
            }
            Ok(_) => {}
            Err(error) => {
                metrics.job_errors.increment(1);
                tracing::error!(job = outcome.name, "job failed: {error:#}");
            }
        }
    }
}
