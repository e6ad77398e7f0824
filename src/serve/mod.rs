//! Puts the parts together, in the order that keeps the promise: the spool first, so that whatever
//! is answered is safe; the edge next, which needs nothing else; Postgres last, where no reply
//! waits for it. Stopping goes the other way: edge, spool, loader, Postgres. Instead of stopping,
//! the collector may hand over to another process (`handover`), which needs the spool only: what
//! the loader has in hand is dropped and loaded again.

mod check;
mod edge_threads;
mod evaluation;
mod handover;
mod health;
pub(crate) mod household_key;
mod households;
mod inquiries;
mod kafka;
pub(crate) mod keyrings;
mod load;
mod loading;
mod manifests;
mod notify;
mod public;
mod reload;
mod reports;
mod segments;
mod signals;
mod spools;

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use spool::Spool;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::admin;
use crate::admin::board::{self, Board, MakeTagPage};
use crate::admin::live::Live;
use crate::config::{Config, DatabaseUrl};
use crate::edge::{self, Course, Edge, Spools};
use crate::enrich::Tables;
use crate::inquiry;
use crate::keys::ClickKeyring;
use crate::metrics::Metrics;
use crate::postgres::Database;
use crate::postgres::server::cluster::Remembers;
pub use check::{check, summary, warnings};
pub(crate) use check::{check_addresses, check_load, check_tables, find_unsaid, unusable};
use edge_threads::EdgeThreads;
use handover::{Door, Role, Sockets, Successor};
use health::Health;
pub use load::load;
use loading::{Loading, Parts};
use public::Public;
use reload::{Exchanged, Reload};
use signals::{Event, ProcessSignals};
pub(crate) use spools::shard_dirs;

/// Makes the admin listener's page of tags for a query.
pub(crate) type TagPage = fn(&Config, &ClickKeyring, &str) -> String;

/// Collects until SIGTERM or SIGINT, or until another process takes over; with `take_over`, in the
/// place of the process that serves now. The configuration was read from `file` and the
/// environment; SIGHUP reads them again.
///
/// # Errors
/// If the spool, a listener or a thread cannot be set up.
pub fn serve(
    config: Config,
    file: Option<PathBuf>,
    take_over: bool,
    tag_page: TagPage,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .context("starting the loader's runtime")?;
    let signals = {
        let _in_runtime = runtime.enter();
        ProcessSignals::new().context("receiving signals")?
    };
    log_start(&config, file.as_deref());
    // A mistake is found before another process ends for this one.
    check(&config)?;
    for warning in warnings(&config) {
        tracing::warn!("{warning}");
    }
    let metrics = Arc::new(Metrics::new().context("registering metrics")?);
    let sockets = if take_over {
        handover::take_over(&config).context("taking over")?
    } else {
        Sockets::default()
    };
    let spools = spools::open(&config, &metrics)?;
    let connections = loading::count_connections(&config, &spools);
    let database = Database::new(&config.database)?
        .needing(connections)
        .remembering(&config.spool.dir, Remembers::Writes);
    let database = Arc::new(database);
    let local = tokio::task::LocalSet::new();
    let result = local.block_on(&runtime, async {
        let settings = (config, file, signals, tag_page);
        let collector = Collector::start(settings, metrics, spools, database, sockets)?;
        notify::ready();
        collector.run().await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Logs that the collector starts, and by which configuration. On a terminal that would be a wall
/// of text, which `check-config` shows better.
fn log_start(config: &Config, file: Option<&Path>) {
    let version = env!("CARGO_PKG_VERSION");
    let file = file.map(|file| tracing::field::display(file.display()));
    if io::stderr().is_terminal() {
        tracing::info!(
            version,
            file,
            "starting; `avtryck check-config` shows the configuration"
        );
    } else {
        let config = config.in_force.in_one_line();
        tracing::info!(version, file, config, "starting");
    }
}

/// A collector at work.
struct Collector {
    signals: ProcessSignals,
    door: Door,
    /// Duplicates of the listening sockets, for the process that takes over.
    sockets: Sockets,
    spools: Spools,
    database: Arc<Database>,
    reload: Rc<Reload>,
    /// Tells the edge how long it is to go on.
    drain: watch::Sender<Course>,
    edge: EdgeThreads,
    admin: JoinHandle<()>,
    loading: Loading,
}

impl Collector {
    /// Starts every part. Blocks while certificates are read.
    fn start(
        (config, file, mut signals, tag_page): (Config, Option<PathBuf>, ProcessSignals, TagPage),
        metrics: Arc<Metrics>,
        spools: Spools,
        database: Arc<Database>,
        mut sockets: Sockets,
    ) -> anyhow::Result<Collector> {
        signals.obey_stops().context("receiving signals")?;
        let keyrings = keyrings::both(&config)?;
        let public = Public::open(&config, &metrics, &mut sockets)?;
        let admin = bind_admin(&config, &mut sockets)?;
        let sockets = public.duplicates(&admin)?;
        let admin = TcpListener::from_std(admin)?;
        let door = Door::open(&config.spool.dir);
        let addresses = (public.addresses()?, admin.local_addr()?);
        let certificates = public.certificates.clone();
        let tables = Arc::new(ArcSwap::from_pointee(Tables::default()));
        let parts = Parts::new(&config, &spools, &database, &tables, &metrics)?;
        let (reports, report_questions) = mpsc::channel(reports::WAITING_MAX);
        let health = Arc::new(Health {
            metrics: Arc::clone(&metrics),
            shards: parts.shards(),
            kafka: parts.kafka.shards(),
            has_postgres: config.loads_into_postgres(),
            instructions: spools.instructions.clone(),
            carried_out: Arc::clone(&parts.instructions.progress),
            jobs: Arc::default(),
            reports,
        });
        let has_postgres = config.loads_into_postgres();
        let remark = Arc::clone(&health.jobs);
        let carried_out = Arc::clone(&health.carried_out);

        let (live, board) = start_live_view(&config, &tables, &metrics);
        let (drain, draining) = watch::channel(Course::Open);
        let (inquirer, inquiries) = inquiry::queue();
        let edge = Edge::new(
            config,
            keyrings,
            Arc::clone(&tables),
            Arc::clone(&metrics),
            database.psql(),
            live,
            inquirer,
        )
        .with_manifests(Arc::clone(&parts.manifests));
        let edge = Arc::new(ArcSwap::from_pointee(edge));
        board.answer_tags(answer_tags(Arc::clone(&edge), tag_page));
        let threads = EdgeThreads::start(&edge, &spools, public, &draining)?;
        tokio::task::spawn_local(loading::follow_instructions(
            Arc::clone(&edge.load().known_instructions),
            spools.instructions.clone(),
            carried_out,
        ));
        let admin = tokio::task::spawn_local(admin::serve(admin, health, board));
        log_addresses(addresses, database.psql().is_some());

        if has_postgres {
            tokio::task::spawn_local(segments::keep_up(
                Arc::clone(&edge),
                Arc::clone(&database),
                Arc::clone(&metrics),
            ));
            tokio::task::spawn_local(inquiries::answer_all(Arc::clone(&database), inquiries));
            tokio::task::spawn_local(reports::answer_all(Arc::clone(&database), report_questions));
        } else {
            tokio::task::spawn_local(inquiries::refuse_all(inquiries));
        }
        let tie_rules = Arc::clone(&parts.tie_rules);
        let sightings = Arc::clone(&parts.sightings);
        let exchanged = Exchanged {
            tables,
            tie_rules,
            time_zones: parts.time_zones(),
            sightings,
            attributes: Arc::clone(&parts.attributes),
            book: Arc::clone(&parts.segments.book),
            wake: Arc::clone(&parts.wake),
        };
        let reload = Reload::new(file, edge, exchanged, certificates, Arc::clone(&metrics));
        let loading = parts.start(&reload, &database, &metrics, &remark);
        tokio::task::spawn_local(async move { metrics.keep_up().await });
        Ok(Collector {
            signals,
            door,
            sockets,
            spools,
            database,
            reload,
            drain,
            edge: threads,
            admin,
            loading,
        })
    }

    /// Serves, then stops or hands over.
    async fn run(mut self) -> anyhow::Result<()> {
        let end = self.serve().await;
        notify::tell_stopping();
        let is_fenced = matches!(end, End::Fenced);
        let successor = match end {
            End::Successor(successor) => Some(successor),
            End::Stop | End::Fenced => None,
        };
        // If no other process has the sockets, closing them tells clients to go elsewhere.
        drop(self.sockets);
        if successor.is_some() {
            self.admin.abort();
            self.drain.send_replace(Course::HandedOver);
        } else {
            tracing::info!("stopping: requests in flight are answered");
            self.drain.send_replace(Course::Stopping);
        }
        tokio::task::spawn_blocking(move || self.edge.join())
            .await
            .context("waiting for the edge")?;
        close(self.spools.clone()).await?;
        if let Some(successor) = successor {
            self.loading.abort().await;
            handover::finish(successor, &self.spools);
        } else {
            self.loading.stop(&self.database).await;
            tracing::info!("stopped");
        }
        match is_fenced {
            true => Err(SpoolTaken.into()),
            false => Ok(()),
        }
    }

    /// Serves until the collector is to stop, or until another process waits to go on in its place.
    async fn serve(&mut self) -> End {
        loop {
            tokio::select! {
                event = self.signals.next() => match event {
                    Event::Reload => {
                        notify::tell_reloading();
                        self.reload.run().await;
                        notify::ready();
                    }
                    Event::Stop => return End::Stop,
                },
                () = self.loading.fenced.notified() => return End::Fenced,
                successor = self.door.next() => {
                    let (sockets, drain) = (&self.sockets, &self.drain);
                    if handover::leave(&successor, sockets, drain, &mut self.signals).await {
                        return End::Successor(successor);
                    }
                }
            }
        }
    }
}

/// Why a collector ends.
enum End {
    /// Somebody asked for it.
    Stop,
    /// Another process goes on in its place.
    Successor(Successor),
    /// Another process produces what is in its spool.
    Fenced,
}

/// Another process has the same spool, and has taken over its producer in Kafka. To start again
/// would only take it back, and two that take turns lose hits.
#[derive(Debug, thiserror::Error)]
#[error(
    "another process has a copy of this spool and produces from it, so this collector has ended: what it keeps in spool.dir \
     waits there; give one of the two an empty spool.dir"
)]
pub(crate) struct SpoolTaken;

async fn close(spools: Spools) -> anyhow::Result<()> {
    let close = move || {
        spools.hits.spools.iter().for_each(Spool::close);
        spools.instructions.close();
    };
    tokio::task::spawn_blocking(close)
        .await
        .context("closing the spools")
}

fn log_addresses(
    ((http, tls), admin): ((SocketAddr, Option<SocketAddr>), SocketAddr),
    has_demo: bool,
) {
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
    let handed_over = sockets.remove(Role::Admin, address).pop();
    handed_over
        .map_or_else(|| edge::bind_alone(address), Ok)
        .map_err(|error| handover::cannot_listen("admin.listen", address, error))
}

/// Returns what answers the form of tags, by the configuration in force.
fn answer_tags(edge: Arc<ArcSwap<Edge>>, page: TagPage) -> MakeTagPage {
    Box::new(move |query| {
        let edge = edge.load();
        page(&edge.config, &edge.click_keyring, query)
    })
}

/// Returns both ends of the live view, and starts the task that leads from one to the other.
fn start_live_view(
    config: &Config,
    tables: &Arc<ArcSwap<Tables>>,
    metrics: &Metrics,
) -> (Arc<Live>, Arc<Board>) {
    let has_demo = config.database.url == DatabaseUrl::Embedded;
    let demo_port = has_demo.then(|| config.http.listen.port());
    let (live, samples) = Live::new(Arc::clone(&metrics.shown));
    let board = Arc::new(Board::new(
        Arc::clone(&live),
        config.admin.hosts.clone(),
        demo_port,
    ));
    let showing = board::show(
        Arc::clone(&board),
        samples,
        Arc::clone(tables),
        Arc::clone(&metrics.shown),
    );
    tokio::task::spawn_local(showing);
    (live, board)
}
