//! Puts the parts together, in the order that keeps the promise: the spool first, so that whatever
//! is answered is safe; the edge next, which needs nothing else; Postgres last and behind the edge's
//! back. The stop goes the other way: edge, spool, loader, Postgres. Instead of stopping it may hand over
//! to another process (`handover`), which needs the spool alone: what the loader has in hand is dropped.

mod answer;
mod handover;
mod public;
mod reload;
mod spools;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin;
use crate::admin::Status;
use crate::admin::board;
use crate::admin::board::Board;
use crate::admin::live::Live;
use crate::clock;
use crate::config::Config;
use crate::edge;
use crate::edge::{Course, Edge, Spools};
use crate::enrich::{Sources, Tables};
use crate::inquiry;
use crate::jobs;
use crate::keys::{ClickKeyring, CookieKeyring};
use crate::loader::{Instructions, Loader, Progress};
use crate::metrics::{Metrics, gauge_value};
use crate::postgres::Database;
use handover::{Door, Role, Sockets, Successor};
use public::Public;
use reload::Reload;

/// What loading may take at the stop; what is left waits in the spool.
const LAST_BATCH_TIME_MAX: Duration = Duration::from_secs(3);
/// How often jobs are looked at.
const WORK_PERIOD: Duration = Duration::from_secs(5);

/// Collects until SIGTERM or SIGINT, or until another process takes over; with `take_over`, from the one that
/// serves now. The configuration was read from `file` and the environment; SIGHUP reads them again.
///
/// # Errors
/// Where the spool, a listener or a thread cannot be set up.
pub fn serve(config: Config, file: Option<PathBuf>, take_over: bool) -> anyhow::Result<()> {
    let in_force = config.in_force.in_one_line();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = in_force,
        "starting"
    );
    // Before another process goes for this one.
    edge::transport::tls::check(&config.certificates)?;
    let metrics = Arc::new(Metrics::new().context("registering metrics")?);
    let sockets = if take_over {
        handover::take_over(&config.spool.dir).context("taking over")?
    } else {
        Sockets::default()
    };
    let spools = spools::open(&config, &metrics)?;
    let keyrings = keyrings(&config)?;
    let database = Arc::new(Database::new(&config.database)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .context("starting the loader's runtime")?;
    let local = tokio::task::LocalSet::new();
    let result = local.block_on(
        &runtime,
        run((config, file), metrics, spools, keyrings, database, sockets),
    );
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Brings the schema up to date.
///
/// # Errors
/// Where Postgres cannot be reached, or a migration fails.
pub fn migrate(config: &Config) -> anyhow::Result<()> {
    let database = Database::new(&config.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let connected = database.connect().await;
        database.leave().await;
        connected.map(drop)
    })
}

async fn run(
    (config, file): (Config, Option<PathBuf>),
    metrics: Arc<Metrics>,
    spools: Spools,
    keyrings: (CookieKeyring, ClickKeyring),
    database: Arc<Database>,
    mut sockets: Sockets,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let public = Public::open(&config, &metrics, &mut sockets)?;
    let admin = bind_admin(&config, &mut sockets)?;
    sockets = public.duplicates(&admin)?;
    let admin = TcpListener::from_std(admin)?;
    let door = Door::open(&config.spool.dir);
    let addresses = (public.addresses()?, admin.local_addr()?);
    let certificates = public.certificates.clone();
    let progress = Arc::new(Progress::default());
    let tables = Arc::new(ArcSwap::from_pointee(Tables::default()));
    let loader = Loader {
        spool: spools.hits.clone(),
        instructions: spools.instructions.clone(),
        database: Arc::clone(&database),
        tables: Arc::clone(&tables),
        batch_rows: config.loader.batch_rows,
        batch_wait: config.loader.batch_wait,
        client_ip: config.privacy.client_ip,
        metrics: Arc::clone(&metrics),
        progress: Arc::clone(&progress),
    };
    let instructions = Instructions {
        spool: spools.instructions.clone(),
        database: Arc::clone(&database),
        wait: config.loader.batch_wait,
        metrics: Arc::clone(&metrics),
        progress: Arc::default(),
    };
    let jobs = jobs::Settings {
        retention: config.privacy.retention,
    };
    let status = Arc::new(Health {
        spools: spools.clone(),
        metrics: Arc::clone(&metrics),
        progress,
        instructions: Arc::clone(&instructions.progress),
    });

    let (live, board) = live_view(&config, &tables);
    let (drain, draining) = watch::channel(Course::Open);
    let (inquirer, inquiries) = inquiry::queue();
    let edge = Arc::new(ArcSwap::from_pointee(Edge::new(
        config,
        keyrings,
        Arc::clone(&tables),
        Arc::clone(&metrics),
        database.psql(),
        live,
        inquirer,
    )));
    let threads = start_edge(&edge, &spools, public, &draining)?;
    let admin = tokio::task::spawn_local(admin::serve(admin, status, board));
    tell(addresses, database.psql().is_some());

    let reload = Reload::new(file, edge, tables, certificates, Arc::clone(&metrics));
    let (stop, stopping) = watch::channel(false);
    let instructing = tokio::task::spawn_local(instructions.run(stopping.clone()));
    let loading = tokio::task::spawn_local({
        let reload = Rc::clone(&reload);
        async move {
            reload.read_tables().await;
            loader.run(stopping).await;
        }
    });
    tokio::task::spawn_local(work(Arc::clone(&database), jobs, Arc::clone(&metrics)));
    tokio::task::spawn_local(answer::run(Arc::clone(&database), inquiries));
    tokio::task::spawn_local({
        let metrics = Arc::clone(&metrics);
        async move { metrics.keep_up().await }
    });

    let again = async || reload.run().await;
    let successor = until_end(&mut signals, &door, &sockets, &drain, again).await;
    // Where nobody else has them, their closing tells clients to go elsewhere.
    drop(sockets);
    if successor.is_some() {
        admin.abort();
        drain.send_replace(Course::HandedOver);
    } else {
        tracing::info!("stopping: requests in flight are answered");
        drain.send_replace(Course::Stopping);
    }
    tokio::task::spawn_blocking(move || join(threads))
        .await
        .context("waiting for the edge")?;
    close(spools.clone()).await?;
    if let Some(successor) = successor {
        return handover::finish(successor, &spools, [loading, instructing]).await;
    }
    stop.send_replace(true);
    stop_loading(loading, &database).await;
    tracing::info!("stopped");
    Ok(())
}

async fn stop_loading(loading: tokio::task::JoinHandle<()>, database: &Database) {
    if tokio::time::timeout(LAST_BATCH_TIME_MAX, loading)
        .await
        .is_err()
    {
        tracing::warn!("the last batch was not loaded in time; it waits in the spool");
    }
    database.stop().await;
}

/// Serves until it is to stop, or until another process waits to go on.
async fn until_end(
    signals: &mut Signals,
    door: &Door,
    sockets: &Sockets,
    drain: &watch::Sender<Course>,
    reload: impl AsyncFn(),
) -> Option<Successor> {
    loop {
        tokio::select! {
            event = signals.next() => match event {
                Event::Reload => reload().await,
                Event::Stop => return None,
            },
            successor = door.next() => {
                if handover::leave(&successor, sockets, drain, signals).await {
                    return Some(successor);
                }
            }
        }
    }
}

async fn close(spools: Spools) -> anyhow::Result<()> {
    let close = move || {
        spools.hits.close();
        spools.instructions.close();
    };
    tokio::task::spawn_blocking(close)
        .await
        .context("closing the spools")
}

/// Says where it listens.
fn tell(((http, tls), admin): ((SocketAddr, Option<SocketAddr>), SocketAddr), has_demo: bool) {
    let tls = tls.map(tracing::field::display);
    tracing::info!(%http, tls, %admin, "listening");
    if has_demo {
        tracing::info!(
            "the demo page is http://{http}/demo, what arrives shows live at http://{admin}/"
        );
    }
}

fn bind_admin(config: &Config, sockets: &mut Sockets) -> anyhow::Result<std::net::TcpListener> {
    let address = config.admin.listen;
    let bind = || {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let handed_over = sockets.take(Role::Admin, address).pop();
    handed_over
        .map_or_else(bind, io::Result::Ok)
        .with_context(|| format!("admin.listen: cannot listen on {address}"))
}

fn keyrings(config: &Config) -> anyhow::Result<(CookieKeyring, ClickKeyring)> {
    Ok((keyring(config)?, click_keyring(config)?))
}

/// The keys of the visitor cookie: the configured ones, else one of our own beside the spool.
fn keyring(config: &Config) -> anyhow::Result<CookieKeyring> {
    let age_seconds_max = i64::try_from(config.cookie.max_age.as_secs()).unwrap_or(i64::MAX);
    let own = own_keys(&config.cookie.keys, config, "cookie.key")?;
    let keys = config.cookie.keys.iter().chain(&own);
    Ok(CookieKeyring::new(
        keys.map(|(id, secret)| (*id, secret.as_slice())),
        age_seconds_max,
    ))
}

/// The same for a command that makes no key: `None` where there is none or it is damaged.
pub(crate) fn existing_keyring(config: &Config) -> Option<CookieKeyring> {
    let is_there = !config.cookie.keys.is_empty() || config.spool.dir.join("cookie.key").exists();
    is_there.then(|| keyring(config).ok()).flatten()
}

/// The keys of click URLs, likewise.
///
/// # Errors
/// Where a key of our own cannot be read or made.
pub fn click_keyring(config: &Config) -> anyhow::Result<ClickKeyring> {
    let own = own_keys(&config.click.keys, config, "click.key")?;
    let keys = config.click.keys.iter().chain(&own);
    Ok(ClickKeyring::new(
        keys.map(|(id, secret)| (*id, secret.as_slice())),
    ))
}

/// The key that a collector makes for itself where none is configured.
fn own_keys(
    configured: &[(u8, Vec<u8>)],
    config: &Config,
    file: &str,
) -> anyhow::Result<Vec<(u8, Vec<u8>)>> {
    if configured.is_empty() {
        Ok(vec![(0, own_key(&config.spool.dir.join(file))?)])
    } else {
        Ok(Vec::new())
    }
}

/// A new key of the visitor cookie or of click URLs, as the configuration takes it: `ID:BASE64`, with the lowest ID from 1 on
/// that no key of `known` has. ID 0 is the one that a collector makes for itself.
///
/// # Errors
/// Where every ID is taken, or the operating system gives no entropy.
pub fn new_key(known: &[(u8, Vec<u8>)]) -> anyhow::Result<String> {
    let id = (1..=u8::MAX)
        .find(|id| known.iter().all(|(taken, _)| taken != id))
        .context("every ID from 1 to 255 is taken; fewer keys would be right")?;
    let mut key = [0; 32];
    getrandom::fill(&mut key).context("making a key")?;
    Ok(format!("{id}:{}", STANDARD.encode(key)))
}

fn own_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let describe = || format!("the key in {}", path.display());
    match std::fs::read_to_string(path) {
        Ok(text) => STANDARD
            .decode(text.trim())
            .ok()
            .filter(|key| key.len() >= 32)
            .with_context(|| {
                format!(
                    "{} is damaged; 32 bytes in base64 would be right",
                    describe()
                )
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = vec![0; 32];
            getrandom::fill(&mut key).with_context(describe)?;
            let new = path.with_extension("new");
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)
                .with_context(describe)?;
            writeln!(file, "{}", STANDARD.encode(&key)).with_context(describe)?;
            file.sync_all().with_context(describe)?;
            std::fs::rename(&new, path).with_context(describe)?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(describe),
    }
}

/// Both ends of the live view, with the task that leads from one to the other.
fn live_view(config: &Config, tables: &Arc<ArcSwap<Tables>>) -> (Arc<Live>, Arc<Board>) {
    let (live, samples) = Live::new();
    let board = Arc::new(Board::new(Arc::clone(&live), config.admin.hosts.clone()));
    let showing = board::show(Arc::clone(&board), samples, Arc::clone(tables));
    tokio::task::spawn_local(showing);
    (live, board)
}

fn sources(config: &Config) -> Sources {
    Sources {
        city: config.geoip.city.clone(),
        network: config.geoip.network.clone(),
        rules: config.device.rules.clone(),
        crawlers: config.device.crawlers.clone(),
        data_centres: Arc::clone(&config.traffic.data_centre_asns),
    }
}

fn start_edge(
    edge: &Arc<ArcSwap<Edge>>,
    spools: &Spools,
    public: Public,
    draining: &edge::Drain,
) -> anyhow::Result<Vec<JoinHandle<io::Result<()>>>> {
    let limits = Arc::clone(&public.limits);
    let metrics = Arc::clone(&edge.load().metrics);
    let entrances = public.threads();
    let threads = entrances.len();
    metrics.threads.set(gauge_value(threads as u64));
    let connections_max = limits.all.available_permits();
    metrics
        .connections_max
        .set(gauge_value(connections_max as u64));
    let start = |(index, entrances)| {
        let (edge, spools, limits, draining) = (
            Arc::clone(edge),
            spools.clone(),
            Arc::clone(&limits),
            draining.clone(),
        );
        thread::Builder::new()
            .name(format!("edge {index}"))
            .spawn(move || edge::run(edge, &spools, entrances, limits, draining))
            .context("starting an edge thread")
    };
    entrances.into_iter().enumerate().map(start).collect()
}

fn join(threads: Vec<JoinHandle<io::Result<()>>>) {
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "an edge thread failed"),
            Err(_) => tracing::error!("an edge thread panicked"),
        }
    }
}

/// Runs the jobs that are due.
async fn work(database: Arc<Database>, settings: jobs::Settings, metrics: Arc<Metrics>) {
    let mut schedule = jobs::Schedule::default();
    let mut client = None;
    loop {
        if clock::now() >= schedule.next() {
            if client
                .as_ref()
                .is_none_or(tokio_postgres::Client::is_closed)
            {
                // Why it cannot be reached is the loader's to log.
                client = database.connect().await.ok();
            }
            if let Some(client) = &mut client {
                for outcome in schedule.tick(client, &settings, clock::now()).await {
                    match outcome.result {
                        Ok(done) if done > 0 => {
                            tracing::info!(job = outcome.name, done, "job done")
                        }
                        Ok(_) => {}
                        Err(error) => {
                            metrics.job_errors.increment(1);
                            tracing::error!(job = outcome.name, "job failed: {error:#}");
                        }
                    }
                }
            }
        }
        tokio::time::sleep(WORK_PERIOD).await;
    }
}

enum Event {
    Reload,
    Stop,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::Stop,
            _ = self.interrupt.recv() => Event::Stop,
            _ = self.hangup.recv() => Event::Reload,
        }
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What the admin listener tells.
struct Health {
    spools: Spools,
    metrics: Arc<Metrics>,
    progress: Arc<Progress>,
    instructions: Arc<Progress>,
}

impl Status for Health {
    fn metrics(&self) -> String {
        let Spools { hits, instructions } = &self.spools;
        let metrics = &self.metrics;
        let backlog = hits.backlog_bytes(self.progress.position());
        let oldest = self.progress.oldest_unloaded(clock::now());
        metrics.spool_bytes.set(gauge_value(hits.used_bytes()));
        metrics.spool_backlog_bytes.set(gauge_value(backlog));
        metrics.spool_oldest_seconds.set(oldest.as_secs_f64());
        let backlog = instructions.backlog_bytes(self.instructions.position());
        metrics.instruction_backlog_bytes.set(gauge_value(backlog));
        let is_connected = self.progress.is_connected();
        metrics.loader_connected.set(u8::from(is_connected));
        metrics.render()
    }

    fn ready(&self) -> Result<String, String> {
        if self.spools.hits.is_full() {
            return Err("the spool is full".to_owned());
        }
        if self.spools.hits.is_failing() {
            return Err("the spool's disk fails".to_owned());
        }
        Ok(if self.progress.is_connected() {
            "postgres: loading\n".to_owned()
        } else {
            "postgres: not reached; hits are kept in the spool\n".to_owned()
        })
    }
}
