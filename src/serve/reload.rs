//! What SIGHUP does: file and environment are read again, and what can be is exchanged while hits go on.
//!
//! | what | is exchanged |
//! | --- | --- |
//! | a file that is wrong, or names geodata, rules, keys or certificates that cannot be read | nothing: every mistake is logged |
//! | keys that take a restart | no; each that differs is logged |
//! | all other keys, sites and partners | the edge, whole; a request goes on with the one that it began with |
//! | certificates | the list, whole; a connection goes on with the one that it began with |
//! | geodata, device rules, crawlers, data centres | the tables, whole; a batch goes on with the ones that it began with |
//!
//! A file of geodata or rules, or a certificate, that was in use and has become unreadable is no mistake of the configuration:
//! what was read of it stays in use.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::{keyrings, sources};
use crate::clock;
use crate::config::Waiting;
use crate::edge::Edge;
use crate::edge::transport::tls::Certificates;
use crate::enrich::{self, LoadError, Sources, Tables};
use crate::metrics::{Metrics, gauge_value, timestamp};

/// Everything that a reload exchanges, and what it is made from.
pub(super) struct Reload {
    file: Option<PathBuf>,
    edge: Arc<ArcSwap<Edge>>,
    tables: Arc<ArcSwap<Tables>>,
    /// None where https is not spoken.
    certificates: Option<Arc<Certificates>>,
    metrics: Arc<Metrics>,
    /// What the tables were read from. Locked for as long as new ones are read: the first reading may take
    /// seconds, and must not overtake that of a reload.
    sources: Mutex<Sources>,
}

impl Reload {
    /// Begins with a configuration that was just read from `file`, and tables that are still to be.
    pub(super) fn new(
        file: Option<PathBuf>,
        edge: Arc<ArcSwap<Edge>>,
        tables: Arc<ArcSwap<Tables>>,
        certificates: Option<Arc<Certificates>>,
        metrics: Arc<Metrics>,
    ) -> Rc<Reload> {
        metrics.config_timestamp.set(timestamp(clock::now()));
        Rc::new(Reload {
            file,
            edge,
            tables,
            certificates,
            metrics,
            sources: Mutex::default(),
        })
    }

    /// Reads geodata and rules for the first time. Without a file hits go without what it tells.
    pub(super) async fn read_tables(&self) {
        let mut in_use = self.sources.lock().await;
        let wanted = sources(&self.edge.load().config);
        if let Some((tables, errors)) = self.read(wanted.clone()).await {
            self.exchange(tables, &errors);
            *in_use = wanted;
        }
    }

    /// Takes what there is to take, or nothing.
    pub(super) async fn run(&self) {
        match self.take().await {
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

    async fn take(&self) -> Result<Vec<Waiting>, Vec<String>> {
        let mut in_use = self.sources.lock().await;
        let running = self.edge.load_full();
        let environment: Vec<_> = std::env::vars_os().collect();
        let (config, waiting) = running
            .config
            .reload(self.file.as_deref(), environment)
            .map_err(|errors| errors.0)?;
        let keyrings = keyrings(&config).map_err(|error| vec![format!("{error:#}")])?;
        let wanted = sources(&config);
        let Some((tables, errors)) = self.read(wanted.clone()).await else {
            return Err(vec!["reading geodata and rules panicked".to_owned()]);
        };
        let mistakes: Vec<String> = errors
            .iter()
            .filter(|error| !error.is_partial() && !in_use.name(&error.path))
            .map(ToString::to_string)
            .collect();
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        if let Some(certificates) = &self.certificates {
            let (files, metrics) = (config.certificates.clone(), Arc::clone(&self.metrics));
            Arc::clone(certificates).exchange(files, metrics).await?;
        }
        self.exchange(tables, &errors);
        *in_use = wanted;
        let edge = running.with(config, keyrings);
        self.edge.store(Arc::new(edge));
        Ok(waiting)
    }

    /// Reads tables on a thread of its own; `None` where that panicked.
    async fn read(&self, wanted: Sources) -> Option<(Tables, Vec<LoadError>)> {
        let before = self.tables.load_full();
        let read = tokio::task::spawn_blocking(move || enrich::reload(&wanted, &before)).await;
        if let Err(error) = &read {
            self.metrics.reload_errors.increment(1);
            tracing::error!(%error, "reading geodata and rules failed");
        }
        read.ok()
    }

    fn exchange(&self, tables: Tables, errors: &[LoadError]) {
        let (partial, failed): (Vec<_>, Vec<_>) =
            errors.iter().partition(|error| error.is_partial());
        self.metrics.reload_errors.increment(failed.len() as u64);
        for error in partial {
            tracing::warn!("{error}");
        }
        if !failed.is_empty() {
            let texts: Vec<String> = failed.iter().map(ToString::to_string).collect();
            tracing::error!(
                "not loaded, so what an earlier load gave stays in use, and without one hits go without it: {}",
                texts.join("; ")
            );
        }
        let [places, networks] = tables.built().map(gauge_value);
        self.metrics.places_built.set(places);
        self.metrics.networks_built.set(networks);
        self.tables.store(Arc::new(tables));
        tracing::info!(failed = failed.len(), "geodata and device rules loaded");
    }
}
