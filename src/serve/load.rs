//! `avtryck load`: the loader without an edge. It reads from Kafka what collectors without Postgres
//! have produced, and does in Postgres all that a collector with Postgres does: it loads, carries
//! out withdrawals and erasures, runs the jobs, and finds households and segments.
//!
//! Any number of them share the partitions. Each runs the jobs, which may run in several processes
//! at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};

use super::evaluation::Evaluation;
use super::handover::Sockets;
use super::households::Households;
use super::loading::{job_limits, sighting_rules, tie_rules};
use super::reload::sources;
use super::signals::{Event, ProcessSignals};
use super::{bind_admin, check_load, log_start, manifests, notify, reports, warnings};
use crate::admin::board::Board;
use crate::admin::live::Live;
use crate::admin::{self, ReportQuestion, Status};
use crate::config::Config;
use crate::enrich::{self, TableFiles, Tables};
use crate::jobs;
use crate::keys::UserKeyring;
use crate::loader::Progress;
use crate::loader::from_kafka::{KafkaInstructions, KafkaLoader, LoaderGroup, RefusedHalves};
use crate::loader::sink::kafka::{Suppressed, follow};
use crate::loader::sink::{CallbackAttributes, PostgresSink, Sightings};
use crate::metrics::Metrics;
use crate::postgres::{Database, LOAD_CONNECTIONS};

/// What loading may take when the process stops. What is left waits in Kafka.
const LAST_BATCH_TIME_MAX: Duration = Duration::from_secs(5);

/// Loads until SIGTERM or SIGINT. The configuration was read from `file` and the environment.
///
/// # Errors
/// If a listener, a thread or Kafka's client cannot be set up.
pub fn load(config: Config, file: Option<PathBuf>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .context("starting the loader's runtime")?;
    let signals = {
        let _in_runtime = runtime.enter();
        ProcessSignals::new().context("receiving signals")?
    };
    log_start(&config, file.as_deref());
    check_load(&config)?;
    for warning in warnings(&config) {
        tracing::warn!("{warning}");
    }
    let metrics = Arc::new(Metrics::new().context("registering metrics")?);
    metrics.load_running.set(1);
    let database = Database::new(&config.database)?.needing(LOAD_CONNECTIONS);
    let database = Arc::new(database);
    let local = tokio::task::LocalSet::new();
    let result = local.block_on(&runtime, run(config, signals, metrics, database));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn run(
    config: Config,
    mut signals: ProcessSignals,
    metrics: Arc<Metrics>,
    database: Arc<Database>,
) -> anyhow::Result<()> {
    signals.obey_stops().context("receiving signals")?;
    let admin = TcpListener::from_std(bind_admin(&config, &mut Sockets::default())?)?;
    let address = admin.local_addr()?;
    let tables = Arc::new(ArcSwap::from_pointee(read_names(&config).await?));
    let parts = Parts::new(&config, &tables, &metrics, &database)?;
    let (live, _) = Live::new(Arc::clone(&metrics.shown));
    let board = Arc::new(Board::new(live, config.admin.hosts.clone(), None));
    tokio::task::spawn_local(admin::serve(admin, Arc::clone(&parts.health), board));
    tracing::info!(admin = %address, "loading from Kafka");
    let keeping_up = Arc::clone(&metrics);
    tokio::task::spawn_local(async move { keeping_up.keep_up().await });
    let (stop, stopping) = watch::channel(false);
    let loading = parts.start(&config, &database, &metrics, &stopping);
    notify::ready();
    while signals.next().await != Event::Stop {
        tracing::warn!("avtryck load reads its configuration at its start alone: restart it");
    }
    notify::tell_stopping();
    stop.send_replace(true);
    if tokio::time::timeout(LAST_BATCH_TIME_MAX, loading)
        .await
        .is_err()
    {
        tracing::warn!("the last batch was not loaded in time; it waits in Kafka");
    }
    database.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Reads the names of models. Messages bring everything else that tables would say.
async fn read_names(config: &Config) -> anyhow::Result<Tables> {
    let wanted = TableFiles {
        models: sources(config).models,
        ..TableFiles::default()
    };
    let (tables, errors) = tokio::task::spawn_blocking(move || enrich::load(&wanted)).await?;
    for error in errors {
        tracing::warn!("{error}");
    }
    Ok(tables)
}

/// The parts, before they start.
struct Parts {
    loader: KafkaLoader,
    instructions: KafkaInstructions,
    suppressed: Arc<Suppressed>,
    jobs: jobs::JobLimits,
    health: Arc<LoadHealth>,
    report_questions: mpsc::Receiver<ReportQuestion>,
}

impl Parts {
    fn new(
        config: &Config,
        tables: &Arc<ArcSwap<Tables>>,
        metrics: &Arc<Metrics>,
        database: &Arc<Database>,
    ) -> anyhow::Result<Parts> {
        let kafka = Arc::new(config.kafka.clone());
        let group = Arc::new(LoaderGroup::new(&kafka, metrics)?);
        let tie_rules = Arc::new(ArcSwap::from_pointee(tie_rules(config)));
        let wake = Arc::<Notify>::default();
        let user_keys = UserKeyring::new(&config.user.keys).fingerprints();
        let attributes = Arc::<CallbackAttributes>::default();
        let named = manifests::for_loader(config, &manifests::read(config));
        attributes.named.store(Arc::new(named));
        let sink = PostgresSink::new(Arc::clone(database), Arc::clone(metrics))
            .limit_new_names(config.loader.new_names_per_day)
            .with_user_keys(user_keys)
            .with_tie_rules(Arc::clone(&tie_rules))
            .with_attributes(attributes)
            .with_wake(Arc::clone(&wake));
        let suppressed = Arc::<Suppressed>::default();
        let (reports, report_questions) = mpsc::channel(reports::WAITING_MAX);
        let health = Arc::new(LoadHealth {
            metrics: Arc::clone(metrics),
            group: Arc::clone(&group),
            progress: Arc::default(),
            jobs: Arc::default(),
            reports,
        });
        // As the collectors that produce alone have it: their hits may have sightings.
        let retention = config.topic_retention_of_load();
        Ok(Parts {
            loader: KafkaLoader {
                group: Arc::clone(&group),
                config: Arc::clone(&kafka),
                sink,
                retention,
                batch_rows: config.loader.batch_rows,
                batch_wait: config.loader.batch_wait,
                client_ip: config.privacy.client_ip,
                metrics: Arc::clone(metrics),
                progress: Arc::clone(&health.progress),
                refused: RefusedHalves::default(),
                witnesses: Arc::default(),
            },
            instructions: KafkaInstructions {
                group,
                config: kafka,
                retention,
                database: Arc::clone(database),
                suppressed: Arc::clone(&suppressed),
                metrics: Arc::clone(metrics),
            },
            suppressed,
            jobs: job_limits(config, tables, metrics, (tie_rules, wake)),
            health,
            report_questions,
        })
    }

    /// Starts them; the future ends when the loader has.
    fn start(
        self,
        config: &Config,
        database: &Arc<Database>,
        metrics: &Arc<Metrics>,
        stopping: &watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + use<> {
        let jobs = jobs::run(
            Arc::clone(database),
            self.jobs,
            Arc::clone(metrics),
            Arc::clone(&self.health.jobs),
        );
        tokio::task::spawn_local(jobs);
        tokio::task::spawn_local(follow(self.suppressed, Arc::clone(database)));
        tokio::task::spawn_local(self.instructions.run());
        // Sightings are made where the address is: here is no key.
        let sightings = Arc::new(Sightings::default());
        sightings.rules.store(Arc::new(sighting_rules(config)));
        let households = Households::without_key(config, &sightings);
        tokio::task::spawn_local(households.run(Arc::clone(database)));
        let segments = Evaluation::new(config, metrics);
        tokio::task::spawn_local(segments.run(Arc::clone(database)));
        tokio::task::spawn_local(reports::answer_all(
            Arc::clone(database),
            self.report_questions,
        ));
        let loading = tokio::task::spawn_local(self.loader.run(stopping.clone()));
        async move {
            // A panic was reported where it happened.
            drop(loading.await);
        }
    }
}

/// What the admin listener reports.
struct LoadHealth {
    metrics: Arc<Metrics>,
    group: Arc<LoaderGroup>,
    progress: Arc<Progress>,
    jobs: Arc<jobs::Remark>,
    reports: mpsc::Sender<ReportQuestion>,
}

impl Status for LoadHealth {
    fn ask_report(&self, question: ReportQuestion) -> Result<(), ReportQuestion> {
        self.reports
            .try_send(question)
            .map_err(mpsc::error::TrySendError::into_inner)
    }

    fn metrics(&self) -> String {
        let is_connected = self.progress.is_connected();
        self.metrics.loader_connected.set(u8::from(is_connected));
        self.metrics.render()
    }

    fn ready(&self) -> Result<String, String> {
        let remark = match (self.group.is_reached(), self.progress.is_connected()) {
            (false, _) => "kafka: not reached; hits wait there and at the collectors",
            (true, true) if !self.group.has_partitions() => {
                "kafka: no partition is this process's now; the others have all of them, or none has joined the group yet"
            }
            (true, true) => "loading from Kafka into Postgres",
            (true, false) => "not loading; hits wait in Kafka",
        };
        let lost = match self.group.lost() {
            0 => String::new(),
            lost => format!("; Kafka deleted up to {lost} messages before they were loaded"),
        };
        Ok(format!("{remark}{lost}\n{}", self.jobs.read()))
    }
}
