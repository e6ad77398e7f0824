//! The Postgres sink: a batch is the bytes of a binary COPY and what goes with them ([`Load`]), and
//! one transaction stores it with the position.
//!
//! Rows point to dimension rows by key. The encoder remembers the keys whose rows are in Postgres
//! or on their way there, so that a dimension row is sent once. A key counts as stored from the
//! batch on that brings its row, though that batch may not be committed yet: batches commit in
//! order, and after an error the encoder is dropped.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use quick_cache::unsync::Cache;
use spool::Position;
use tokio_postgres::Client;

use super::{
    Committed, Companion, DerivedHit, Encoder, Reached, Sink, SinkBatch, Span, SpoolRecord, Writer,
};
use crate::enrich::{DIMENSIONS, DimensionTable, FactVisitor, Facts};
use crate::hit::subject::Subject;
use crate::hit::{Flags, Kind, VisitorId};
use crate::metrics::Metrics;
use crate::postgres::batch::dimension::Dimensions;
use crate::postgres::batch::position::{self, SpoolPosition};
use crate::postgres::batch::{event_key, exposure};
use crate::postgres::server::silence::SILENCE_MAX;
use crate::postgres::subject::suppression::{self, Reason};
use crate::postgres::{self, CommitError, Database, Load, Payloads, Rejected, SilenceWatch};
use crate::row::dimension::Found;
use crate::row::{ChunkOffset, Count};

/// Dimension keys that are remembered as stored.
const STORED_KEYS_MAX: usize = 65_536;

/// The sink that is a Postgres database.
pub struct PostgresSink {
    database: Arc<Database>,
    metrics: Arc<Metrics>,
    silence_max: Duration,
}

impl PostgresSink {
    /// Makes a sink of a database.
    #[must_use]
    pub fn new(database: Arc<Database>, metrics: Arc<Metrics>) -> PostgresSink {
        PostgresSink {
            database,
            metrics,
            silence_max: SILENCE_MAX,
        }
    }

    /// Makes it give up on a Postgres that has been silent for that long.
    #[cfg(test)]
    pub(in crate::loader) fn give_up_after(self, silence_max: Duration) -> PostgresSink {
        PostgresSink {
            silence_max,
            ..self
        }
    }
}

impl Sink for PostgresSink {
    type Batch = Load;
    type Encoder = LoadEncoder;
    type Writer = PostgresWriter;
    type Companion = ExposureCompanion;

    async fn open(&self) -> anyhow::Result<(PostgresWriter, ExposureCompanion)> {
        let (client, watch) = SilenceWatch::connect(&self.database, self.silence_max).await?;
        self.metrics.postgres_connects.increment(1);
        let read = async { Ok(event_key::former_keys_until(&client).await?) };
        let writer = PostgresWriter {
            former_keys_until: watch.watch(read).await?,
            client,
            watch,
        };
        let (client, watch) = SilenceWatch::connect(&self.database, self.silence_max).await?;
        self.metrics.postgres_connects.increment(1);
        let set_up = async { Ok(exposure::set_up(&client).await?) };
        watch.watch(set_up).await?;
        Ok((writer, ExposureCompanion { client, watch }))
    }

    fn encoder(&self) -> LoadEncoder {
        LoadEncoder {
            stored: Cache::new(STORED_KEYS_MAX),
            metrics: Arc::clone(&self.metrics),
        }
    }
}

impl SinkBatch for Load {
    fn follow(&mut self, before: &Load) {
        Load::follow(self, before);
    }

    fn row_flags(&self) -> impl Iterator<Item = Flags> {
        self.rows.flags()
    }
}

/// Encodes rows as COPY takes them.
pub struct LoadEncoder {
    /// Dimension rows that are in Postgres, or on their way there.
    stored: Cache<(DimensionTable, i64), ()>,
    metrics: Arc<Metrics>,
}

impl Encoder for LoadEncoder {
    type Batch = Load;

    fn make_batch(&self) -> Load {
        Load::new(&DIMENSIONS)
    }

    fn begin(&mut self, load: &mut Load, span: Span) {
        load.clear();
        load.spool_id = span.spool_id;
        load.from = span.from.map(into_chunk_offset);
        load.to = into_postgres(span.to);
        load.read_at = span.read_at;
    }

    fn add(
        &mut self,
        load: &mut Load,
        hit: DerivedHit<'_>,
        record: &SpoolRecord,
    ) -> Result<(), &'static str> {
        let mut dimensions = NewDimensions {
            new: &mut load.dimensions,
            encoder: self,
        };
        hit.facts.visit(&mut dimensions);
        if let Some(creative) = &hit.creative {
            dimensions.visit(DimensionTable::Ad, creative);
        }
        let record = into_record(record);
        load.rows
            .push(&hit.row, hit.event_key, hit.contact, &record)?;
        if let Some(link) = hit.link {
            load.link(link);
        }
        Ok(())
    }

    fn count(&mut self, load: &mut Load, count: Count, facts: &Facts<'_>) {
        facts.visit(&mut NewDimensions {
            new: &mut load.dimensions,
            encoder: self,
        });
        load.counts.add(count);
    }

    fn reject(&mut self, load: &mut Load, record: &SpoolRecord, reason: String) {
        let record = into_record(record);
        load.rejected.push(Rejected { record, reason });
    }
}

/// Takes the dimension rows that are not stored.
struct NewDimensions<'a> {
    new: &'a mut Dimensions,
    encoder: &'a mut LoadEncoder,
}

impl FactVisitor for NewDimensions<'_> {
    fn visit(&mut self, dimension: DimensionTable, found: &impl Found) {
        let LoadEncoder { stored, metrics } = self.encoder;
        let key = (dimension, found.key());
        if stored.get(&key).is_some() {
            metrics.dimension_hits.increment(1);
            return;
        }
        metrics.dimension_misses.increment(1);
        stored.insert(key, ());
        if let Some(rows) = self.new.of(dimension as usize) {
            found.add_to(rows);
        }
    }
}

/// A connection that commits batches.
pub struct PostgresWriter {
    client: Client,
    /// See [`Load::former_keys_until`].
    former_keys_until: Option<i32>,
    watch: SilenceWatch,
}

impl Writer for PostgresWriter {
    type Batch = Load;

    async fn position(&self, spool_id: [u8; 16]) -> anyhow::Result<Option<Reached>> {
        let read = async { Ok(position::read(&self.client, spool_id).await?) };
        Ok(self.watch.watch(read).await?.map(into_reached))
    }

    async fn suppress(&mut self, instructions: &[(VisitorId, Kind)]) -> anyhow::Result<()> {
        let suppress = suppress(&mut self.client, instructions);
        self.watch.watch(suppress).await
    }

    async fn commit(
        &mut self,
        load: &mut Load,
        payloads: &[u8],
        keep: &(dyn Fn(&[u8]) -> Vec<u8> + Sync),
    ) -> anyhow::Result<Committed> {
        let payloads = Payloads {
            bytes: payloads,
            keep,
        };
        load.former_keys_until = self.former_keys_until;
        let commit = postgres::commit(&mut self.client, load, payloads);
        let commit = async {
            commit.await.map_err(|error| match error {
                CommitError::Moved => anyhow!("another loader has moved the position on"),
                error @ CommitError::Postgres(_) => error.into(),
            })
        };
        let loaded = self.watch.watch(commit).await?;
        Ok(Committed {
            rows: loaded.rows,
            counted: loaded.counted,
            rejected: loaded.rejected,
            refused: loaded.refused,
            repeated: loaded.repeated,
            suppressed: loaded.suppressed,
        })
    }

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.client.is_closed(),
            "the connection to Postgres was lost"
        );
        Ok(())
    }
}

/// A connection that looks up and adds up exposures.
pub struct ExposureCompanion {
    client: Client,
    watch: SilenceWatch,
}

impl Companion for ExposureCompanion {
    type Batch = Load;

    async fn settle(&self) -> anyhow::Result<()> {
        let add_up = async { Ok(exposure::add_up(&self.client).await?) };
        let added_up = self.watch.watch(add_up).await;
        added_up.context("adding up exposures")
    }

    async fn make_ready(&self, load: &mut Load) -> anyhow::Result<()> {
        let look_up = async { Ok(load.look_up(&self.client).await?) };
        let looked_up = self.watch.watch(look_up).await;
        looked_up.context("looking up exposures")
    }
}

/// Puts on the list of suppression the visitors whom instructions name.
pub(in crate::loader) async fn suppress(
    client: &mut Client,
    instructions: &[(VisitorId, Kind)],
) -> anyhow::Result<()> {
    let entry = |(visitor, kind): &(VisitorId, Kind)| {
        let reason = match kind {
            Kind::Erasure => Reason::Erasure,
            _ => Reason::Withdrawal,
        };
        (Subject::Visitor(*visitor), reason)
    };
    let entries: Vec<_> = instructions.iter().map(entry).collect();
    suppression::add(client, &entries)
        .await
        .context("adding to the list of suppression")
}

fn into_record(record: &SpoolRecord) -> postgres::Record {
    postgres::Record {
        position: into_chunk_offset(record.position),
        payload: record.payload.clone(),
    }
}

fn into_chunk_offset(position: Position) -> ChunkOffset {
    (position.chunk, position.offset)
}

pub(in crate::loader) fn into_postgres(reached: Reached) -> SpoolPosition {
    SpoolPosition {
        position: into_chunk_offset(reached.position),
        records: reached.records,
    }
}

pub(in crate::loader) fn into_reached(position: SpoolPosition) -> Reached {
    let (chunk, offset) = position.position;
    Reached {
        position: Position { chunk, offset },
        records: position.records,
    }
}
