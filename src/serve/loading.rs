//! What happens after the reply: hits and instructions go from the spools to Postgres, and jobs
//! run.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::reload::Reload;
use crate::config::Config;
use crate::edge::Spools;
use crate::edge::exchange::instruction::KnownInstructions;
use crate::enrich::Tables;
use crate::jobs;
use crate::loader::sink::PostgresSink;
use crate::loader::{Instructions, Loader, Progress};
use crate::metrics::Metrics;
use crate::postgres::Database;
use spool::Spool;

/// What loading may take when the collector stops. What is left waits in the spool.
const LAST_BATCH_TIME_MAX: Duration = Duration::from_secs(3);
/// How often the edge forgets the instructions that are carried out.
const FOLLOW_PERIOD: Duration = Duration::from_secs(1);

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
        remark: &Arc<jobs::Remark>,
    ) -> Loading {
        let (stop, stopping) = watch::channel(false);
        let instructions = tokio::task::spawn_local(self.instructions.run(stopping.clone()));
        let (loader, reload) = (self.loader, Rc::clone(reload));
        let hits = tokio::task::spawn_local(async move {
            reload.read_tables().await;
            loader.run(stopping).await;
        });
        tokio::task::spawn_local(jobs::run(
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

/// Lets the edge forget the instructions that are carried out. Never returns.
pub(super) async fn follow_instructions(
    known: Arc<KnownInstructions>,
    spool: Spool,
    progress: Arc<Progress>,
) {
    loop {
        tokio::time::sleep(FOLLOW_PERIOD).await;
        known.forget(progress.position(), || spool.committed());
    }
}
