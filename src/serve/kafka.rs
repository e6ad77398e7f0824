//! What produces to Kafka, beside the loaders of Postgres: one loader for each spool.
//!
//! Each side has a position of its own, and neither waits for the other. What a spool may delete is
//! what both have. Where Kafka begins with a spool is kept beside it ([`StartFile`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use spool::Spool;
use tokio::sync::{Notify, watch};

use super::health::Shard;
use super::loading;
use crate::config::{Config, KafkaConfig};
use crate::loader::sink::KafkaSink;
use crate::loader::sink::kafka::instruction::follow_topic;
use crate::loader::sink::kafka::{Alone, Suppressed, VACANT_AGE, clear_vacant, follow};
use crate::loader::{Floor, Loader, Progress, StartFile};
use crate::metrics::Metrics;
use crate::postgres::Database;

/// The loaders that produce to Kafka; none without `[kafka]`.
pub(super) struct Kafka {
    loaders: Vec<Loader<KafkaSink>>,
    suppressed: Arc<Suppressed>,
    database: Arc<Database>,
    config: Arc<KafkaConfig>,
    /// What goes with hits that nobody else loads; `None` beside Postgres.
    alone: Option<(Spool, Arc<Floor>, Arc<Progress>)>,
    /// Says that another process has taken over a spool.
    fenced: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// What these loaders count. Nobody reads it: each hit is counted once, on its way to Postgres.
    aside: Option<Arc<Metrics>>,
}

impl Kafka {
    /// Makes one for each of the spools that `loaders` load into Postgres. `carried_out` is how far
    /// instructions are carried out there.
    pub(super) fn new<S>(
        config: &Config,
        (loaders, carried_out): (&[Loader<S>], &Arc<Progress>),
        alone: Option<&Alone>,
        database: &Arc<Database>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Kafka> {
        let mut kafka = Kafka {
            loaders: Vec::new(),
            suppressed: Arc::default(),
            database: Arc::clone(database),
            config: Arc::new(config.kafka.clone()),
            alone: None,
            fenced: Arc::default(),
            metrics: Arc::clone(metrics),
            aside: None,
        };
        let spools = || loaders.iter().flat_map(|loader| &loader.spools);
        if !config.produces_to_kafka() {
            // Postgres alone says what is released from now on.
            spools().for_each(|spool| StartFile::of(spool).forget());
            return Ok(kafka);
        }
        // Beside Postgres each hit is counted once, on its way there.
        let aside = match alone {
            Some(_) => Arc::clone(metrics),
            None => Arc::new(Metrics::new()?),
        };
        let shared = Arc::clone(&kafka.config);
        for loader in loaders {
            for (index, spool) in loader.spools.iter().enumerate() {
                let sink = KafkaSink {
                    config: Arc::clone(&shared),
                    spool_id: spool.id().0,
                    postgres: (Arc::clone(&loader.progress), index),
                    instructions: Arc::clone(carried_out),
                    retention: config.topic_retention(),
                    suppressed: Arc::clone(&kafka.suppressed),
                    alone: alone.cloned(),
                    metrics: Arc::clone(metrics),
                    doubt: Arc::default(),
                };
                if alone.is_none() {
                    loader.progress.keep_start(index, StartFile::of(spool));
                }
                // Whether Postgres is there or not, it has none of a new spool.
                if spool.began_empty() || alone.is_some() {
                    loader.progress.set_start(index, None);
                }
                if loader.instructions.began_empty() || alone.is_some() {
                    carried_out.set_start(0, None);
                }
                let progress = Arc::<Progress>::default();
                if alone.is_none() {
                    let floor = Arc::new(Floor::new(2));
                    loader.progress.share(index, &floor, 0);
                    progress.share(0, &floor, 1);
                }
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
        let others = usize::from(alone.is_none());
        let floor = Arc::new(Floor::new(kafka.loaders.len() + others));
        match (alone, loaders.first()) {
            (Some(_), Some(loader)) => {
                let instructions = loader.instructions.clone();
                kafka.alone = Some((instructions, Arc::clone(&floor), Arc::clone(carried_out)));
            }
            _ => carried_out.share(0, &floor, kafka.loaders.len()),
        }
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
        let is_alone = self.alone.is_some();
        let own = self.loaders.iter().flat_map(|loader| &loader.spools);
        let own = own.map(|spool| spool.id().0).collect();
        tokio::task::spawn_local(clear_what_is_left(Arc::clone(&self.config), own));
        match self.alone {
            Some(alone) => {
                tokio::task::spawn_local(follow_topic(self.suppressed, self.config));
                tokio::task::spawn_local(release_instructions(alone));
            }
            None => {
                tokio::task::spawn_local(follow(self.suppressed, self.database));
                tokio::task::spawn_local(async move { aside.keep_up().await });
            }
        }
        let loaders = self.loaders.into_iter().map(async |loader| {
            let progress = Arc::clone(&loader.progress);
            loader.run(stop.clone()).await;
            if !progress.is_fenced() {
                return;
            }
            self.metrics.kafka_fenced.set(1);
            match is_alone {
                // What would be answered from here could not be loaded.
                true => self.fenced.notify_one(),
                // Postgres has the hits; the spool does not wait for Kafka any more.
                false => progress.give_up(),
            }
        });
        join_all(loaders).await;
    }

    /// Returns what is notified when another process has taken over the only way of the hits.
    pub(super) fn fence_notice(&self) -> Arc<Notify> {
        Arc::clone(&self.fenced)
    }
}

/// How long after the start, and how often, what empty spools have left is cleared.
const FIRST_CLEARING: Duration = Duration::from_mins(10);
const CLEARING_PERIOD: Duration = Duration::from_hours(24);

/// Clears what spools have left in Kafka that nothing was ever written to. Never returns.
async fn clear_what_is_left(config: Arc<KafkaConfig>, own: BTreeSet<[u8; 16]>) {
    tokio::time::sleep(FIRST_CLEARING).await;
    loop {
        match clear_vacant(&config, own.clone(), VACANT_AGE).await {
            Ok(0) => {}
            Ok(spools) => tracing::info!(
                spools,
                "took out of Kafka what spools have left that nothing was ever written to"
            ),
            Err(error) => tracing::debug!("what empty spools have left stays: {error:#}"),
        }
        tokio::time::sleep(CLEARING_PERIOD).await;
    }
}

/// How often instructions that Kafka has are released.
const RELEASE_PERIOD: Duration = Duration::from_secs(1);

/// Releases the instructions that every loader has produced. Never returns.
async fn release_instructions(
    (instructions, floor, carried_out): (Spool, Arc<Floor>, Arc<Progress>),
) {
    loop {
        let position = floor.position();
        carried_out.set_position(0, position);
        if let Err(error) = instructions.release(position) {
            tracing::error!(%error, "a chunk of instructions that Kafka has cannot be deleted");
        }
        tokio::time::sleep(RELEASE_PERIOD).await;
    }
}
