//! What SIGHUP does: file and environment are read again, and what can change without a restart is
//! replaced while the collector serves.
//!
//! - A file with a mistake, or one that names geodata, rules, keys or certificates that cannot be
//!   read, replaces nothing. Every mistake is logged.
//! - Keys that take a restart are not replaced. Each that differs is logged.
//! - All other keys, sites and partners are replaced with the whole edge. A request keeps the edge
//!   that it began with.
//! - Certificates are replaced with their whole list. A connection keeps the list that it began
//!   with.
//! - Geodata, device rules, crawlers, names of models, lists of categories and data centres are
//!   replaced with all tables, and so are the rules of which IDs are tied together and the time
//!   zones of sites. A batch keeps the tables that it began with.
//!
//! A file of geodata or rules, or a certificate, that was in use and has become unreadable is not a
//! mistake of the configuration: what was read from it stays in use.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify};

use super::{check, evaluation, keyrings, loading, manifests};
use crate::clock;
use crate::config::{Config, ConfigErrors, Waiting};
use crate::edge::Edge;
use crate::edge::transport::tls::Certificates;
use crate::enrich::{self, LoadError, TableFiles, Tables};
use crate::identity::TieRules;
use crate::jobs::TimeZones;
use crate::loader::sink::{CallbackAttributes, Sightings};
use crate::metrics::{Metrics, gauge_value, timestamp};
use crate::postgres;
use crate::segment::Book;

/// What the parts that load read, and a reload exchanges.
pub(super) struct Exchanged {
    pub(super) tables: Arc<ArcSwap<Tables>>,
    pub(super) tie_rules: Arc<ArcSwap<TieRules>>,
    /// `None` where no jobs run.
    pub(super) time_zones: Option<Arc<ArcSwap<TimeZones>>>,
    pub(super) sightings: Arc<Sightings>,
    pub(super) attributes: Arc<CallbackAttributes>,
    pub(super) book: Arc<ArcSwap<Book>>,
    /// Has the job on ties run at once.
    pub(super) wake: Arc<Notify>,
}

/// Everything that a reload replaces, and what it is made from.
pub(super) struct Reload {
    file: Option<PathBuf>,
    edge: Arc<ArcSwap<Edge>>,
    exchanged: Exchanged,
    /// `None` if the collector does not serve https.
    certificates: Option<Arc<Certificates>>,
    metrics: Arc<Metrics>,
    /// What the tables were read from. It is locked while new ones are read: the first reading may
    /// take seconds, and must not replace the tables of a later reload.
    sources: Mutex<TableFiles>,
}

impl Reload {
    /// Begins with a configuration that was just read from `file`, and tables that are yet to be
    /// read.
    pub(super) fn new(
        file: Option<PathBuf>,
        edge: Arc<ArcSwap<Edge>>,
        exchanged: Exchanged,
        certificates: Option<Arc<Certificates>>,
        metrics: Arc<Metrics>,
    ) -> Rc<Reload> {
        metrics.config_timestamp.set(timestamp(clock::now()));
        Rc::new(Reload {
            file,
            edge,
            exchanged,
            certificates,
            metrics,
            sources: Mutex::default(),
        })
    }

    /// Reads geodata and rules for the first time. If a file cannot be read, hits lack what it
    /// tells.
    pub(super) async fn read_tables(&self) {
        let mut in_use = self.sources.lock().await;
        let edge = self.edge.load_full();
        let wanted = sources(&edge.config);
        if let Some((tables, errors)) = self.read_on_thread(wanted.clone()).await {
            self.replace_tables(&edge.config, tables, &errors);
            *in_use = wanted;
        }
    }

    /// Reloads everything or, if there is a mistake, nothing. Logs the outcome.
    pub(super) async fn run(&self) {
        match self.apply().await {
            Ok(waiting) => {
                for Waiting {
                    key,
                    in_force,
                    wanted,
                } in &waiting
                {
                    tracing::warn!(
                        "{key} waits for a restart: {in_force} is in force, {wanted} is in the configuration"
                    );
                }
                self.metrics.config_timestamp.set(timestamp(clock::now()));
                self.metrics.reloads_applied.increment(1);
                tracing::info!(waiting = waiting.len(), "the configuration was reloaded");
            }
            Err(mistakes) => {
                for mistake in &mistakes {
                    tracing::error!("the configuration is wrong: {mistake}");
                }
                self.metrics.reloads_refused.increment(1);
                tracing::error!(
                    mistakes = mistakes.len(),
                    "nothing was reloaded: what was in force stays"
                );
            }
        }
    }

    async fn apply(&self) -> Result<Vec<Waiting>, Vec<String>> {
        let mut in_use = self.sources.lock().await;
        let running = self.edge.load_full();
        let environment: Vec<_> = std::env::vars_os().collect();
        let (config, waiting) = running
            .config
            .reload(self.file.as_deref(), environment, |wanted| {
                let unusable = postgres::check(&wanted.database, &wanted.in_force);
                unusable.map_err(|value| ConfigErrors(vec![wanted.in_force.message(&value)]))
            })
            .map_err(|errors| errors.0)?;
        let keyrings = keyrings::both(&config).map_err(|error| vec![format!("{error:#}")])?;
        let wanted = sources(&config);
        let Some((tables, errors)) = self.read_on_thread(wanted.clone()).await else {
            return Err(vec!["reading geodata and rules panicked".to_owned()]);
        };
        let mistakes: Vec<String> = errors
            .iter()
            .filter(|error| !error.is_partial() && !in_use.name(&error.path))
            .map(|error| check::describe(&config, error))
            .collect();
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        if let Some(certificates) = &self.certificates {
            let (files, metrics) = (config.certificates.clone(), Arc::clone(&self.metrics));
            Arc::clone(certificates).exchange(files, metrics).await?;
        }
        self.replace_tables(&config, tables, &errors);
        *in_use = wanted;
        let exchanged = &self.exchanged;
        let rules = Arc::new(loading::tie_rules(&config));
        exchanged.tie_rules.store(rules);
        if let Some(time_zones) = &exchanged.time_zones {
            time_zones.store(Arc::new(loading::time_zones(&config)));
        }
        exchanged.wake.notify_one();
        let rules = Arc::new(loading::sighting_rules(&config));
        exchanged.sightings.rules.store(rules);
        let manifests = Arc::new(manifests::read(&config));
        let named = manifests::for_loader(&config, &manifests);
        exchanged.attributes.named.store(Arc::new(named));
        exchanged.book.store(Arc::new(evaluation::book(&config)));
        let edge = running.with(config, keyrings).with_manifests(manifests);
        self.edge.store(Arc::new(edge));
        Ok(waiting)
    }

    /// Reads tables on a thread of its own; `None` if that panicked.
    async fn read_on_thread(&self, wanted: TableFiles) -> Option<(Tables, Vec<LoadError>)> {
        let before = self.exchanged.tables.load_full();
        let read = tokio::task::spawn_blocking(move || enrich::reload(&wanted, &before)).await;
        if let Err(error) = &read {
            self.metrics.reload_errors.increment(1);
            tracing::error!(%error, "reading geodata and rules failed");
        }
        read.ok()
    }

    fn replace_tables(&self, config: &Config, tables: Tables, errors: &[LoadError]) {
        let (partial, failed): (Vec<_>, Vec<_>) =
            errors.iter().partition(|error| error.is_partial());
        self.metrics.reload_errors.increment(failed.len() as u64);
        for error in partial {
            tracing::warn!("{}", check::describe(config, error));
        }
        let [places, networks] = tables.built_seconds().map(gauge_value);
        self.metrics.places_built.set(places);
        self.metrics.networks_built.set(networks);
        self.metrics
            .lists_written
            .set(gauge_value(tables.lists_written()));
        self.metrics
            .listed_domains
            .set(gauge_value(tables.listed_domains() as u64));
        self.exchanged.tables.store(Arc::new(tables));
        if failed.is_empty() {
            tracing::info!("geodata and device rules loaded");
            return;
        }
        let texts: Vec<String> = failed
            .iter()
            .map(|error| check::describe(config, error))
            .collect();
        tracing::error!(
            failed = failed.len(),
            "not loaded, so what an earlier load gave stays in use, and without one hits go without it: {}",
            texts.join("; ")
        );
    }
}

/// Returns what the tables are to be read from.
pub(super) fn sources(config: &Config) -> TableFiles {
    TableFiles {
        city: config.geoip.city.clone(),
        network: config.geoip.network.clone(),
        rules: config.device.rules.clone(),
        crawlers: config.device.crawlers.clone(),
        models: config.device.models.clone(),
        schemas: config.schema.folders.clone(),
        data_centres: Arc::new(config.traffic.data_centre_asns.clone()),
        categories: config.category.lists.clone(),
        taxonomy: config.category.taxonomy.clone(),
        sensitive: config.category.sensitive.clone(),
    }
}
