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
use tokio::sync::OnceCell;
use tokio_postgres::Client;

use super::{
    Committed, Companion, DerivedHit, Encoder, Reached, Sink, SinkBatch, Span, SpoolRecord, Writer,
};
use crate::clock::UnixMicros;
use crate::enrich::{self, DIMENSIONS, DimensionTable, FactVisitor, Facts};
use crate::hit::subject::Subject;
use crate::hit::{Flags, Kind, VisitorId};
use crate::metrics::Metrics;
use crate::postgres::batch::dimension::{self, Dimensions};
use crate::postgres::batch::load::Known;
use crate::postgres::batch::position::{self, SpoolPosition};
use crate::postgres::batch::{event_key, exposure};
use crate::postgres::server::silence::SILENCE_MAX;
use crate::postgres::subject::suppression::{self, Reason};
use crate::postgres::{
    self, CommitError, Database, Load, Payloads, Rejected, SilenceWatch, SpoolSpan,
};
use crate::row::dimension::Found;
use crate::row::{ChunkOffset, Count, Keyer};

/// Dimension keys that are remembered as stored.
const STORED_KEYS_MAX: usize = 65_536;

/// The sink that is a Postgres database.
pub struct PostgresSink {
    database: Arc<Database>,
    metrics: Arc<Metrics>,
    /// Read once: what is held in memory has keys of it.
    keyer: OnceCell<Arc<Keyer>>,
    silence_max: Duration,
}

impl PostgresSink {
    /// Makes a sink of a database.
    #[must_use]
    pub fn new(database: Arc<Database>, metrics: Arc<Metrics>) -> PostgresSink {
        PostgresSink {
            database,
            metrics,
            keyer: OnceCell::new(),
            silence_max: SILENCE_MAX,
        }
    }

    /// Returns what makes the keys of the database, of which a client is connected.
    async fn read_keyer(&self, client: &Client) -> anyhow::Result<Arc<Keyer>> {
        let former = DIMENSIONS.into_iter().zip(enrich::new_keys());
        let read = self.keyer.get_or_try_init(|| async {
            let keyer = dimension::read_keyer(client, former).await?;
            anyhow::Ok(Arc::new(keyer))
        });
        read.await.cloned()
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
        let read = async {
            let known = event_key::read_known(&client).await?;
            anyhow::Ok((known, self.read_keyer(&client).await?))
        };
        let (known, keyer) = watch.watch(read).await?;
        let writer = PostgresWriter {
            known,
            keyer,
            client,
            watch,
        };
        let (client, watch) = SilenceWatch::connect(&self.database, self.silence_max).await?;
        self.metrics.postgres_connects.increment(1);
        let set_up = async { Ok(exposure::set_up(&client).await?) };
        watch.watch(set_up).await?;
        Ok((writer, ExposureCompanion { client, watch }))
    }

    fn encoder(&self, writer: &PostgresWriter) -> LoadEncoder {
        LoadEncoder {
            keyer: Arc::clone(&writer.keyer),
            stored: Cache::new(STORED_KEYS_MAX),
            last_moved: None,
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
    keyer: Arc<Keyer>,
    /// Dimension rows that are in Postgres, or on their way there.
    stored: Cache<(DimensionTable, i64), ()>,
    /// A spool whose position the batch before moves.
    last_moved: Option<[u8; 16]>,
    metrics: Arc<Metrics>,
}

impl Encoder for LoadEncoder {
    type Batch = Load;

    fn keyer(&self) -> Arc<Keyer> {
        Arc::clone(&self.keyer)
    }

    fn make_batch(&self) -> Load {
        Load::new(&DIMENSIONS, self.keyer())
    }

    fn begin(&mut self, load: &mut Load, spans: &[Span], read_at: UnixMicros) {
        load.clear();
        load.spools.extend(spans.iter().map(|span| SpoolSpan {
            spool_id: span.spool_id,
            from: span.from.map(into_chunk_offset),
            to: into_postgres(span.to),
        }));
        load.read_at = read_at;
        load.follows = self.last_moved;
        let moved = spans.iter().find(|span| span.moves());
        self.last_moved = moved.map(|span| span.spool_id);
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
        let LoadEncoder {
            keyer,
            stored,
            metrics,
            ..
        } = self.encoder;
        let key = found.key(keyer);
        if stored.get(&(dimension, key)).is_some() {
            metrics.dimension_hits.increment(1);
            return;
        }
        metrics.dimension_misses.increment(1);
        stored.insert((dimension, key), ());
        if let Some(rows) = self.new.of(dimension as usize) {
            found.add_to(key, rows);
        }
    }
}

/// A connection that commits batches.
pub struct PostgresWriter {
    client: Client,
    known: Known,
    keyer: Arc<Keyer>,
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
        load.known = std::mem::take(&mut self.known);
        let commit = postgres::commit(&mut self.client, load, payloads);
        let commit = async {
            commit.await.map_err(|error| match error {
                CommitError::Moved => anyhow!("another loader has moved the position on"),
                error @ CommitError::Postgres(_) => error.into(),
            })
        };
        let loaded = self.watch.watch(commit).await?;
        self.known = std::mem::take(&mut load.known);
        Ok(Committed {
            rows: loaded.rows,
            counted: loaded.counted,
            rejected: loaded.rejected,
            refused: loaded.refused,
            repeated: loaded.repeated,
            suppressed: loaded.suppressed,
            refused_dimensions: loaded.refused_dimensions,
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
        spool: record.spool,
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
