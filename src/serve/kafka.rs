//! What produces to Kafka, beside the loaders of Postgres: one loader for each spool.
//!
//! Each side has a position of its own, and neither waits for the other. What a spool may delete is
//! what both have.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::watch;

use super::health::Shard;
use super::loading;
use crate::config::Config;
use crate::loader::sink::KafkaSink;
use crate::loader::sink::kafka::{Suppressed, follow};
use crate::loader::{Floor, Loader, Progress};
use crate::metrics::Metrics;
use crate::postgres::Database;

/// The loaders that produce to Kafka; none without `[kafka]`.
pub(super) struct Kafka {
    loaders: Vec<Loader<KafkaSink>>,
    suppressed: Arc<Suppressed>,
    database: Arc<Database>,
    /// What these loaders count. Nobody reads it: each hit is counted once, on its way to Postgres.
    aside: Option<Arc<Metrics>>,
}

impl Kafka {
    /// Makes one for each of the spools that `loaders` load into Postgres. `carried_out` is how far
    /// instructions are carried out there.
    pub(super) fn new<S>(
        config: &Config,
        (loaders, carried_out): (&[Loader<S>], &Arc<Progress>),
        database: &Arc<Database>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Kafka> {
        let mut kafka = Kafka {
            loaders: Vec::new(),
            suppressed: Arc::default(),
            database: Arc::clone(database),
            aside: None,
        };
        if !config.kafka.is_used() {
            return Ok(kafka);
        }
        let aside = Arc::new(Metrics::new()?);
        let shared = Arc::new(config.kafka.clone());
        for loader in loaders {
            for (index, spool) in loader.spools.iter().enumerate() {
                let sink = KafkaSink {
                    config: Arc::clone(&shared),
                    spool_id: spool.id().0,
                    postgres: (Arc::clone(&loader.progress), index),
                    instructions: Arc::clone(carried_out),
                    retention: config.privacy.retention,
                    suppressed: Arc::clone(&kafka.suppressed),
                    metrics: Arc::clone(metrics),
                };
                // Whether Postgres is there or not, it has none of a new spool.
                if spool.began_empty() {
                    loader.progress.set_start(index, None);
                }
                if loader.instructions.began_empty() {
                    carried_out.set_start(0, None);
                }
                let progress = Arc::<Progress>::default();
                let floor = Arc::new(Floor::new(2));
                loader.progress.share(index, &floor, 0);
                progress.share(0, &floor, 1);
                kafka.loaders.push(Loader {
                    spools: vec![spool.clone()],
                    instructions: loader.instructions.clone(),
                    sink,
                    tables: Arc::clone(&loader.tables),
                    batch_rows: loader.batch_rows,
                    batch_wait: loader.batch_wait,
                    client_ip: loader.client_ip,
                    metrics: Arc::clone(&aside),
                    progress,
                });
            }
        }
        let floor = Arc::new(Floor::new(kafka.loaders.len() + 1));
        carried_out.share(0, &floor, kafka.loaders.len());
        for (index, own) in kafka.loaders.iter().enumerate() {
            own.progress.share(own.spools.len(), &floor, index);
        }
        kafka.aside = Some(aside);
        Ok(kafka)
    }

    pub(super) fn shards(&self) -> Vec<Shard> {
        loading::shards(&self.loaders)
    }

    /// Produces until `stop` holds true, and then what one batch holds.
    pub(super) async fn run(self, stop: watch::Receiver<bool>) {
        let Some(aside) = self.aside else {
            return;
        };
        tokio::task::spawn_local(follow(self.suppressed, self.database));
        tokio::task::spawn_local(async move { aside.keep_up().await });
        let loaders = self.loaders.into_iter();
        join_all(loaders.map(|loader| loader.run(stop.clone()))).await;
    }
}
