//! `avtryck load`: from Kafka's topics of hits and counts into Postgres.
//!
//! It is a loader like that of the spools, with the same two stages and the same sink; where the
//! batches are from is another [`Feed`](super::prepare::Feed). A partition takes the place of a
//! spool, and its position in Postgres is moved by compare and swap in the transaction that stores
//! the rows. That is the fence: whoever had a partition before, and has not noticed yet that it is
//! another's, finds the position moved. Kafka's own offsets are never written, and never read.
//!
//! | happens | then |
//! | --- | --- |
//! | a rebalance | the batches in hand are dropped, and the session begins again with what is assigned now ([`Rebalanced`]) |
//! | a crash, a kill | the position in Postgres says where to go on |
//! | the database is restored from a backup | the same: what Kafka still has is loaded again |
//! | two processes believe they have a partition | one commits, the other begins again |
//! | Kafka has deleted messages that were not loaded | an error in the log, a metric, and a remark in `/readyz` |
//! | a topic is deleted and made anew | nothing more is loaded of it until somebody says so, and the log says why ([`witness`]) |
//! | a message that cannot be read | it is set aside in `avtryck.rejected_hit` |
//! | a message of a spool that its collector loads into this database | it is left out and counted ([`way`](crate::postgres::batch::way)) |
//!
//! | module | does |
//! | --- | --- |
//! | `group` | the consumer, and which partitions it has |
//! | `feed` | reads batches, and makes rows of messages |
//! | `instruction` | withdrawals and erasures |
//! | `kept` | what may be stored of a message that is set aside |
//! | `witness` | keeps in Postgres what tells a topic from another one of the same name |

mod feed;
mod group;
mod instruction;
mod kept;
mod witness;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::prepare::{Prepared, Preparer, Preparing};
use super::session::{self, Stages};
use super::sink::kafka::witness::Witness;
use super::sink::{PostgresSink, PostgresWriter, Reached, RefusedSpools, Sink as _, Writer as _};
use super::{Progress, run};
use crate::config::{ClientIp, KafkaConfig};
use crate::enrich::Tables;
use crate::metrics::{Metrics, gauge_value};
use crate::postgres::Load;
use feed::GroupFeed;
pub(crate) use group::{LoaderGroup, Rebalanced};
pub(crate) use instruction::KafkaInstructions;
use instruction::TopicAhead;
pub(crate) use witness::Witnesses;

/// The ID that stands for a partition where a spool has its own.
fn partition_id(cluster: &str, topic: &str, partition: i32) -> [u8; 16] {
    let mut hash = Sha256::new_with_prefix(b"avtryck kafka 1");
    for text in [cluster, topic] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.update(partition.to_le_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}

/// A partition of a topic of hits or of counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Partition {
    topic: String,
    number: i32,
}

/// Loads from Kafka into Postgres.
pub(crate) struct KafkaLoader {
    /// The member of the consumer group.
    pub group: Arc<LoaderGroup>,
    /// How Kafka is reached.
    pub config: Arc<KafkaConfig>,
    /// Where batches go.
    pub sink: PostgresSink,
    /// For how long a topic may keep hits.
    pub retention: Duration,
    /// Hits of a batch.
    pub batch_rows: usize,
    /// How long it waits for more when there is little.
    pub batch_wait: Duration,
    /// What is stored of an address, if a message has more.
    pub client_ip: ClientIp,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// Whether it loads.
    pub progress: Arc<Progress>,
    /// The spools that it leaves to their collectors, by the first halves of their IDs.
    pub refused: RefusedHalves,
    /// What tells the topics that are read from later ones.
    pub witnesses: Arc<Witnesses>,
}

/// Spools by the first halves of their IDs, shared between the stages.
#[derive(Clone, Debug, Default)]
pub(crate) struct RefusedHalves(Arc<Mutex<HashSet<i64>>>);

impl RefusedHalves {
    fn snapshot(&self) -> HashSet<i64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, halves: &[i64]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(halves);
    }
}

impl KafkaLoader {
    /// Loads until `stop` holds true, and then what one batch holds.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        run(&self, &self.progress, stop).await;
    }

    async fn read_positions(
        &self,
        writer: &PostgresWriter,
        partitions: &[Partition],
        cluster: &str,
    ) -> anyhow::Result<BTreeMap<Partition, Option<Reached>>> {
        let mut positions = BTreeMap::new();
        let mut named = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let Partition { topic, number } = partition;
            let id = partition_id(cluster, topic, *number);
            let position = writer.position(id).await.context("reading the position")?;
            positions.insert(partition.clone(), position);
            named.push((id, topic.clone(), *number));
        }
        let name = writer.name_partitions(cluster, &named).await;
        name.context("naming the partitions")?;
        let witnesses = writer.witnesses(&named).await;
        let witnesses = witnesses.context("reading what was read last")?;
        let partition = |(topic, number, (offset, at_millis))| {
            (Partition { topic, number }, Witness { offset, at_millis })
        };
        let witnesses = witnesses.into_iter().map(partition).collect();
        witness::check(&self.config, witnesses).await?;
        Ok(positions)
    }

    /// Keeps in Postgres what tells the topics from later ones, now and then.
    async fn keep_witnesses(&self, writer: &PostgresWriter) -> anyhow::Result<()> {
        let due = self.witnesses.take_due();
        if due.is_empty() {
            return Ok(());
        }
        let cluster = self.group.cluster().await?;
        let of = |(Partition { topic, number }, witness): (Partition, Witness)| {
            let id = partition_id(&cluster, &topic, number);
            (id, (witness.offset, witness.at_millis))
        };
        let due: Vec<_> = due.into_iter().map(of).collect();
        let kept = writer.keep_witnesses(&due).await;
        kept.context("keeping what was read last")
    }
}

impl Stages for KafkaLoader {
    type Sink = PostgresSink;
    type Ahead = TopicAhead;

    fn sink(&self) -> &PostgresSink {
        &self.sink
    }

    fn pace(&self) -> (usize, Duration) {
        (self.batch_rows, self.batch_wait)
    }

    async fn overtake(&self, writer: &PostgresWriter) -> anyhow::Result<TopicAhead> {
        let checked = self.group.check_topics(self.retention).await;
        checked.context("checking the topics in Kafka")?;
        TopicAhead::new(&self.config, &self.group, writer).await
    }

    async fn begin(&self, writer: &PostgresWriter) -> anyhow::Result<Preparing<Load>> {
        let member = self.group.join().await?;
        let cluster = self.group.cluster().await?;
        let positions = self.read_positions(writer, member.partitions(), &cluster);
        let positions = positions.await?;
        let assigned = gauge_value(positions.len() as u64);
        self.metrics.load_partitions.set(assigned);
        let member = member.seek(positions, &cluster).await?;
        let preparer = Preparer {
            feed: GroupFeed::new(
                member,
                &self.config,
                self.refused.snapshot(),
                (&self.witnesses, &self.metrics),
            ),
            tables: Arc::new(ArcSwap::from_pointee(Tables::default())),
            client_ip: self.client_ip,
            metrics: Arc::clone(&self.metrics),
            encoder: self.sink.encoder(writer),
        };
        preparer.start()
    }

    async fn load(
        &self,
        writer: &mut PostgresWriter,
        ahead: &mut TopicAhead,
        prepared: &mut Prepared<Load>,
    ) -> anyhow::Result<()> {
        if prepared.moves_position() {
            // Those that came after the last batch, and before this one is stored.
            ahead.suppress_new(writer).await?;
            // Before the first position: a position never stands beside a witness of another topic.
            self.keep_witnesses(writer).await?;
            let (batch, load) = (&prepared.batch, &mut prepared.load);
            let client_ip = self.client_ip;
            let keep = |payload: &[u8]| kept::keep(payload, client_ip);
            let committed = writer.commit(load, batch.payloads(), &keep).await;
            let committed = committed.inspect_err(|error| {
                if let Some(RefusedSpools(halves)) = error.downcast_ref() {
                    self.refused.add(halves);
                }
            })?;
            session::count(&self.metrics, &committed, prepared);
            self.metrics
                .load_messages
                .increment(prepared.batch.len() as u64);
        }
        if !self.progress.set_connected(true) {
            tracing::info!("loading hits from Kafka into Postgres");
        }
        Ok(())
    }
}
