//! The Kafka sink: a batch is the messages of its hits, and one transaction of Kafka stores them
//! with the position.
//!
//! Each spool has a producer of its own, whose transactional ID is the spool's, so that Kafka
//! itself refuses a second process that believes it has the same spool ([`Fenced`]); one that only
//! stood still goes on (`mark`). A session begins with `init_transactions`, which ends whatever the
//! last one left open; only then is the position read, from a compacted topic. The position moves
//! in the transaction of the messages that it is about: whoever reads committed messages alone sees
//! each hit once.
//!
//! A sink that has no position yet begins where Postgres was when `[kafka]` was first configured
//! ([`StartFile`](crate::loader::StartFile)), because what Postgres had then was released.
//!
//! What may not become a row in Postgres goes to no other reader either. A hit without the permit
//! to measure is added to a count, and so is the hit of an ID on the list of suppression
//! ([`Suppressed`]). Event IDs are not compared: what Postgres leaves out as repeated is in the
//! topic.
//!
//! | module | does |
//! | --- | --- |
//! | [`message`] | what a message holds |
//! | `client` | how brokers are reached, and what their topics must be like |
//! | `instruction` | the topic of instructions |
//! | `mark` | who began a session with a spool last |
//! | `session` | the blocking part, on a thread of its own: transactions, positions |
//! | `suppressed` | the list of suppression, as far as this process knows it |
//! | `token` | says who this process is, where that takes a token |
//! | `topic` | reads a topic from its beginning |
//! | `vacant` | takes out what spools have left that nothing was ever written to |
//! | `witness` | tells a topic from another one of the same name |

pub(in crate::loader) mod client;
pub mod instruction;
mod mark;
pub mod message;
pub(in crate::loader) mod session;
mod suppressed;
mod token;
mod topic;
mod vacant;
pub(in crate::loader) mod witness;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use arc_swap::ArcSwap;

use super::sightings::{SightingFinder, Sightings};
use super::{
    Committed, Companion, DerivedHit, Encoder, Reached, Sink, SinkBatch, Span, SpoolRecord, Writer,
};
use crate::clock::{self, UnixMicros};
use crate::config::{KafkaConfig, KafkaFormat};
use crate::enrich::Facts;
use crate::hit::{self, Flags, Hit, Kind, Outcome, VisitorId};
use crate::identity::{Ids, TieRules};
use crate::loader::Progress;
use crate::metrics::Metrics;
use crate::row::{Count, Keyer, UNKNOWN_KEY};
pub(crate) use mark::Doubt;
use message::{CountKey, RowParts, SubjectSaid, Tally};
use session::{PositionKey, ProducerThread, Transaction};
pub use suppressed::{Suppressed, follow};
pub use vacant::{VACANT_AGE, clear_vacant};

/// How long a session waits for Postgres to say where it began, and how long it pauses meanwhile.
const START_TIME_MAX: Duration = Duration::from_secs(10);
const START_PAUSE: Duration = Duration::from_millis(20);

/// Another process has taken over the spool: this one must not go on.
#[derive(Debug, thiserror::Error)]
#[error("another process produces what is in this spool: {0}")]
pub(crate) struct Fenced(String);

/// The sink that is a Kafka cluster, for one spool.
pub(crate) struct KafkaSink {
    /// How it is reached, and the names of its topics.
    pub config: Arc<KafkaConfig>,
    /// The spool whose hits it gets.
    pub spool_id: [u8; 16],
    /// Who loads that spool into Postgres, and which of its spools it is.
    pub postgres: (Arc<Progress>, usize),
    /// Who carries out instructions in Postgres.
    pub instructions: Arc<Progress>,
    /// For how long a topic may keep hits (`privacy.retention`).
    pub retention: Duration,
    /// Whose hits become counts.
    pub suppressed: Arc<Suppressed>,
    /// What goes with the hits where nobody loads this spool into Postgres but `avtryck load`.
    pub alone: Option<Alone>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// Whether another process may have taken over the spool.
    pub doubt: Arc<Doubt>,
}

/// What `avtryck load` needs to know of hits, and has no other way to know.
#[derive(Clone)]
pub(crate) struct Alone {
    /// Which IDs may stand for somebody.
    pub tie_rules: Arc<ArcSwap<TieRules>>,
    /// Which hits are sightings, and the key that makes them.
    pub sightings: Arc<Sightings>,
}

impl Sink for KafkaSink {
    type Batch = KafkaBatch;
    type Encoder = MessageEncoder;
    type Writer = KafkaWriter;
    type Companion = KafkaCompanion;

    const NAME: &'static str = "Kafka";

    async fn open(&self) -> anyhow::Result<(KafkaWriter, KafkaCompanion)> {
        // The list is read before the first hit is sent, unless Postgres cannot be reached: then
        // what the topic of instructions says has to do.
        if self.alone.is_none() {
            self.suppressed.wait_for_list().await;
        }
        let (worker, positions) = ProducerThread::start(self).await?;
        let writer = KafkaWriter {
            worker,
            positions,
            postgres: self.postgres.clone(),
            instructions: Arc::clone(&self.instructions),
            spool_id: self.spool_id,
            suppressed: Arc::clone(&self.suppressed),
            metrics: Arc::clone(&self.metrics),
            format: self.config.format,
            is_alone: self.alone.is_some(),
        };
        Ok((writer, KafkaCompanion))
    }

    fn encoder(&self, _: &KafkaWriter) -> MessageEncoder {
        MessageEncoder {
            format: self.config.format,
            alone: self.alone.as_ref().map(|alone| AloneEncoder {
                tie_rules: Arc::clone(&alone.tie_rules),
                in_force: alone.tie_rules.load_full(),
                sightings: SightingFinder::new(Arc::clone(&alone.sightings)),
            }),
        }
    }

    fn count_error(&self) {
        self.metrics.kafka_errors.increment(1);
    }
}

/// One message of a row: places in the bytes of its batch.
struct RowMessage {
    key: [u8; 16],
    value: Range<usize>,
    site: Range<usize>,
    kind: Kind,
    /// Its hit, among the payloads that were read.
    payload: Range<usize>,
}

/// The messages of a batch.
#[derive(Default)]
pub(crate) struct KafkaBatch {
    bytes: Vec<u8>,
    rows: Vec<RowMessage>,
    counts: HashMap<CountKey, Tally>,
    spans: Vec<Span>,
}

impl SinkBatch for KafkaBatch {
    fn follow(&mut self, _: &KafkaBatch) {}

    fn row_flags(&self) -> impl Iterator<Item = Flags> {
        std::iter::empty()
    }
}

/// Encodes rows as messages.
pub(crate) struct MessageEncoder {
    format: KafkaFormat,
    alone: Option<AloneEncoder>,
}

/// Finds what goes with the hits for `avtryck load`.
struct AloneEncoder {
    tie_rules: Arc<ArcSwap<TieRules>>,
    in_force: Arc<TieRules>,
    sightings: SightingFinder,
}

impl Encoder for MessageEncoder {
    type Batch = KafkaBatch;

    fn keyer(&self) -> Option<Arc<Keyer>> {
        None
    }

    fn make_batch(&self) -> KafkaBatch {
        KafkaBatch::default()
    }

    fn begin(&mut self, batch: &mut KafkaBatch, spans: &[Span], _: UnixMicros) {
        batch.bytes.clear();
        batch.rows.clear();
        batch.counts.clear();
        batch.spans.clear();
        batch.spans.extend_from_slice(spans);
        if let Some(alone) = &mut self.alone {
            alone.in_force = alone.tie_rules.load_full();
            alone.sightings.begin();
        }
    }

    fn add(
        &mut self,
        batch: &mut KafkaBatch,
        hit: DerivedHit<'_>,
        record: &SpoolRecord,
    ) -> Result<(), &'static str> {
        let start = batch.bytes.len();
        let sighting = self.alone.as_mut().and_then(|alone| {
            let known = (hit.facts, &*alone.in_force);
            alone.sightings.find_one(hit.hit, hit.row.flags, known)
        });
        let parts = RowParts {
            sighting,
            hit: hit.hit,
            row: &hit.row,
            facts: hit.facts,
            is_sensitive_page: hit.is_sensitive_page,
            is_for_loader: self.alone.is_some(),
        };
        parts.encode(self.format, &mut batch.bytes);
        let end = batch.bytes.len();
        batch.bytes.extend_from_slice(hit.hit.site.as_bytes());
        batch.rows.push(RowMessage {
            key: message::key_of(hit.hit, hit.row.hit_id),
            value: start..end,
            site: end..batch.bytes.len(),
            kind: hit.hit.kind,
            payload: record.payload.clone(),
        });
        Ok(())
    }

    fn count(&mut self, batch: &mut KafkaBatch, hit: &Hit<'_>, count: Count, _: &Facts<'_>) {
        let tally = batch.count(hit, count.minute);
        let Some(alone) = &self.alone else {
            return;
        };
        for (kind, node) in Ids::of(hit, &alone.in_force).each() {
            tally.add_said(SubjectSaid {
                node,
                kind,
                permit: hit.permit,
                consent_source: hit.consent_source,
            });
        }
    }

    /// Leaves it out: Postgres sets it aside, and no other reader could read it.
    fn reject(&mut self, _: &mut KafkaBatch, _: &SpoolRecord, _: String) {}
}

impl KafkaBatch {
    fn count(&mut self, hit: &Hit<'_>, minute: i64) -> &mut Tally {
        let tally = self.counts.entry(CountKey::of(hit, minute)).or_default();
        tally.hits += 1;
        tally
    }

    /// Makes counts of the hits whose IDs are on the list; returns how many there were.
    fn leave_out(&mut self, suppressed: &Suppressed, payloads: &[u8]) -> u64 {
        if suppressed.is_empty() {
            return 0;
        }
        let payload = |row: &RowMessage| payloads.get(row.payload.clone()).unwrap_or_default();
        let rows = std::mem::take(&mut self.rows);
        let before = rows.len();
        for row in rows {
            let subjects = hit::subjects(payload(&row));
            let mut keys = subjects.iter().flatten().map(|subject| subject.key());
            if !keys.any(|key| suppressed.has(&key)) {
                self.rows.push(row);
            } else if let Ok(hit) = Hit::decode(payload(&row))
                && hit.outcome_if_suppressed() == Outcome::Count
            {
                let count = Count::with_keys(&hit, UNKNOWN_KEY, UNKNOWN_KEY);
                self.count(&hit, count.minute);
            }
        }
        (before - self.rows.len()) as u64
    }
}

/// Commits batches by way of a thread that may block.
pub(crate) struct KafkaWriter {
    worker: ProducerThread,
    /// As they were when the session began.
    positions: HashMap<PositionKey, Reached>,
    postgres: (Arc<Progress>, usize),
    instructions: Arc<Progress>,
    spool_id: [u8; 16],
    suppressed: Arc<Suppressed>,
    metrics: Arc<Metrics>,
    format: KafkaFormat,
    is_alone: bool,
}

impl KafkaWriter {
    fn key(&self, spool_id: [u8; 16]) -> PositionKey {
        PositionKey {
            producer: self.spool_id,
            spool: spool_id,
        }
    }

    fn transaction(&self, batch: KafkaBatch) -> Transaction {
        Transaction {
            batch,
            positions: Vec::new(),
            instructions: Vec::new(),
            spool: self.spool_id,
            format: self.format,
        }
    }

    async fn send(&self, batch: &mut KafkaBatch, moved: &[Span]) -> anyhow::Result<u64> {
        let positions = moved.iter().filter(|span| span.moves());
        let positions = positions.map(|span| (self.key(span.spool_id), span.to));
        let transaction = Transaction {
            positions: positions.collect(),
            instructions: self.suppressed.take_news(),
            ..self.transaction(std::mem::take(batch))
        };
        let (transaction, outcome) = self.worker.commit(transaction).await?;
        *batch = transaction.batch;
        match &outcome {
            Ok(_) => self.metrics.kafka_transactions.increment(1),
            Err(_) => self.suppressed.put_back(transaction.instructions),
        }
        outcome
    }
}

impl Writer for KafkaWriter {
    type Batch = KafkaBatch;

    async fn position(&self, spool_id: [u8; 16]) -> anyhow::Result<Option<Reached>> {
        if let Some(reached) = self.positions.get(&self.key(spool_id)) {
            return Ok(Some(*reached));
        }
        let is_hits = spool_id == self.spool_id;
        let (progress, index) = match is_hits {
            true => (&self.postgres.0, self.postgres.1),
            false => (&self.instructions, 0),
        };
        let begun = clock::monotonic();
        let reached = loop {
            if let Some(reached) = progress.start(index) {
                break reached;
            }
            ensure!(
                clock::time_since(begun) < START_TIME_MAX,
                "Kafka has no position of this spool yet, and Postgres, where it would begin, is not reached"
            );
            tokio::time::sleep(START_PAUSE).await;
        };
        if is_hits {
            let from = reached.map(|reached| reached.position);
            tracing::info!(
                ?from,
                "Kafka has no position of this spool yet: it begins where Postgres was when [kafka] was first configured"
            );
        }
        // From now on this is where it begins, however soon the process ends.
        let reached = reached.unwrap_or_default();
        let mut transaction = self.transaction(KafkaBatch::default());
        transaction.positions.push((self.key(spool_id), reached));
        let (_, outcome) = self.worker.commit(transaction).await?;
        outcome.map(|_| Some(reached))
    }

    async fn suppress(
        &mut self,
        instructions: &[(VisitorId, Kind)],
        span: &Span,
    ) -> anyhow::Result<()> {
        self.suppressed
            .add_instructions(instructions, self.is_alone);
        self.send(&mut KafkaBatch::default(), std::slice::from_ref(span))
            .await?;
        Ok(())
    }

    async fn commit(
        &mut self,
        batch: &mut KafkaBatch,
        payloads: &[u8],
        _: &(dyn Fn(&[u8]) -> Vec<u8> + Sync),
    ) -> anyhow::Result<Committed> {
        let suppressed = batch.leave_out(&self.suppressed, payloads);
        let spans = std::mem::take(&mut batch.spans);
        let messages = self.send(batch, &spans).await?;
        self.metrics.kafka_messages.increment(messages);
        Ok(Committed {
            rows: batch.rows.len() as u64,
            counted: batch.counts.values().map(|tally| tally.hits).sum(),
            suppressed,
            ..Committed::default()
        })
    }

    fn check(&self) -> anyhow::Result<()> {
        self.worker.check()
    }
}

/// Has nothing to do.
pub(crate) struct KafkaCompanion;

impl Companion for KafkaCompanion {
    type Batch = KafkaBatch;

    async fn settle(&self, _: bool) -> anyhow::Result<()> {
        Ok(())
    }

    async fn make_ready(&self, _: &mut KafkaBatch) -> anyhow::Result<()> {
        Ok(())
    }
}
