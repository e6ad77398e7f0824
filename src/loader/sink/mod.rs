//! Where the loader puts batches: a [`Sink`].
//!
//! A sink stores batches, each from one position of every spool to the next and together with these
//! positions, and can tell the positions again after an error. Everything else about loading is the
//! loader's.
//!
//! | part | lives | does |
//! | --- | --- | --- |
//! | [`Encoder`] | in the first stage, for one session | encodes what is derived from hits |
//! | [`SinkBatch`] | goes from stage to stage and back | holds what the encoder made |
//! | [`Writer`] | in the second stage, for one session | commits batches, reads the position |
//! | [`Companion`] | beside the writer | prepares a batch while the writer commits |
//!
//! What crosses the seam is plain data ([`DerivedHit`], [`Count`], [`SpoolRecord`], positions); how
//! a batch holds it is the sink's. The encoder belongs to the sink, and not the bytes to the seam,
//! because encoding is the first stage's work: a row borrows its texts from the payload that it was
//! read from, so a seam that passed rows from stage to stage would copy every text of every hit
//! once more. With Postgres a batch holds the bytes of a binary COPY, with Kafka it holds
//! messages.

mod attributes;
pub mod kafka;
mod load_encoder;
mod postgres;
mod profiles;
mod sightings;
mod ties;

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use anyhow::anyhow;
use spool::Position;

use crate::clock::UnixMicros;
use crate::enrich::Facts;
use crate::hit::{Flags, Hit, Kind, VisitorId};
use crate::metrics::shown::Fate;
use crate::postgres::household::part::Sighting;
use crate::row::click::ClickMention;
use crate::row::dimension::Keyed;
use crate::row::exposure::AdContact;
use crate::row::{Ad, Count, EventKey, Keyer, Link, Row};
pub use attributes::{CallbackAttributes, NamedManifests};
pub(crate) use kafka::KafkaSink;
pub(super) use load_encoder::LoadEncoder;
pub use postgres::PostgresSink;
pub(super) use postgres::{PostgresWriter, RefusedSpools, into_postgres, into_reached, suppress};
pub(crate) use sightings::{SightingRules, Sightings};

/// How far a sink has a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The place after the last record.
    pub position: Position,
    /// How many records precede it in the whole life of the spool.
    pub records: u64,
}

impl Reached {
    /// Returns it as text: chunk, offset and the number of records before it.
    pub(in crate::loader) fn to_text(self) -> String {
        let Position { chunk, offset } = self.position;
        format!("{chunk} {offset} {}", self.records)
    }

    /// Reads such a text.
    pub(in crate::loader) fn parse(text: &str) -> anyhow::Result<Reached> {
        let wrong = || anyhow!("{text} is no position");
        let numbers: Result<Vec<u64>, _> = text.split(' ').map(str::parse).collect();
        let numbers = numbers.map_err(|_| wrong())?;
        let [chunk, offset, records] = numbers.try_into().map_err(|_| wrong())?;
        Ok(Reached {
            position: Position { chunk, offset },
            records,
        })
    }
}

/// What a batch has of one spool: from one position to the next.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The spool.
    pub spool_id: [u8; 16],
    /// The position that the sink must be at; `None` if it has nothing of the spool.
    pub from: Option<Position>,
    /// How far the sink is with the batch.
    pub to: Reached,
}

impl Span {
    /// Returns whether the position moves.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.from.unwrap_or_default() != self.to.position
    }
}

/// Where to find the record of a hit.
#[derive(Clone, Debug)]
pub struct SpoolRecord {
    /// Its spool, among those of the batch.
    pub spool: usize,
    /// Its place in the spool.
    pub position: Position,
    /// Its payload, among the payloads of the batch.
    pub payload: Range<usize>,
}

/// Everything that is derived from a hit that becomes a row.
pub struct DerivedHit<'a> {
    /// The hit.
    pub hit: &'a Hit<'a>,
    /// Its row.
    pub row: Row<'a>,
    /// The rows of dimensions that its keys point to.
    pub facts: &'a Facts<'a>,
    /// The creative that it is about, without where that was placed.
    pub creative: Option<Keyed<Ad<&'a str>>>,
    /// What it is to that creative, if its exposures are counted.
    pub contact: Option<AdContact>,
    /// The key of its event ID, with what it says; `None` where the sender gave none.
    pub event_key: Option<EventKey>,
    /// The partner's ID that it brings.
    pub link: Option<Link>,
    /// What it says of a click.
    pub mention: Option<ClickMention>,
    /// Whether its page is of a sensitive category; looked up where it permits profile alone.
    pub is_sensitive_page: bool,
    /// The sighting that it makes, with its epoch, where that is known already.
    pub sighting: Option<(Sighting, i32)>,
}

/// What became of the hits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Rows stored.
    pub rows: u64,
    /// Hits added to counts.
    pub counted: u64,
    /// Hits set aside, those that the loader rejected among them.
    pub rejected: u64,
    /// Those of them that the sink refused.
    pub refused: u64,
    /// Hits left out because their event ID was stored already.
    pub repeated: u64,
    /// Hits of visitors who withdrew, or of erased subjects: those that could have been rows are
    /// among the counted.
    pub suppressed: u64,
    /// Keys of dimension rows that were found to belong to other content.
    pub refused_dimensions: u64,
}

/// Where batches go.
pub trait Sink {
    /// A batch on its way.
    type Batch: SinkBatch;
    /// Fills batches.
    type Encoder: Encoder<Batch = Self::Batch>;
    /// Commits them.
    type Writer: Writer<Batch = Self::Batch>;
    /// Works beside the writer.
    type Companion: Companion<Batch = Self::Batch>;

    /// What it is called in the log.
    const NAME: &'static str;

    /// Connects.
    fn open(&self) -> impl Future<Output = anyhow::Result<(Self::Writer, Self::Companion)>>;

    /// Makes an encoder for the session of a writer. After an error it is dropped with all that it
    /// knows of the sink, because the batches that told it may not have been committed.
    fn encoder(&self, writer: &Self::Writer) -> Self::Encoder;

    /// Counts a session that an error ended.
    fn count_error(&self);
}

/// A batch on its way to the sink. It owns all that it holds.
pub trait SinkBatch: Send + 'static {
    /// Takes over what it must know of the batch before it, which is committed.
    fn follow(&mut self, before: &Self);

    /// Returns the flags of each row. After the commit these are the rows that were stored.
    fn row_flags(&self) -> impl Iterator<Item = Flags>;

    /// Returns what became of a record that could be a row, after the commit; `None` where that is
    /// decided elsewhere. One that the sink left out counts as repeated.
    fn fate(&self, _spool: usize, _position: Position) -> Option<Fate> {
        None
    }
}

/// Fills batches with what is derived from hits.
pub trait Encoder: Send + 'static {
    /// What it fills.
    type Batch;

    /// Returns what makes the keys of dimension rows and of event IDs there; `None` where rows have
    /// no keys. A process knows one keyer.
    fn keyer(&self) -> Option<Arc<Keyer>>;

    /// Makes a batch.
    fn make_batch(&self) -> Self::Batch;

    /// Empties a batch, and begins it with what it has of each spool. It is read at `read_at`, by
    /// the collector's clock.
    fn begin(&mut self, batch: &mut Self::Batch, spans: &[Span], read_at: UnixMicros);

    /// Adds a hit that becomes a row.
    ///
    /// # Errors
    /// The reason to reject the hit.
    fn add(
        &mut self,
        batch: &mut Self::Batch,
        hit: DerivedHit<'_>,
        record: &SpoolRecord,
    ) -> Result<(), &'static str>;

    /// Adds a hit that is only counted.
    fn count(&mut self, batch: &mut Self::Batch, hit: &Hit<'_>, count: Count, facts: &Facts<'_>);

    /// Adds a record that is set aside, with the reason.
    fn reject(&mut self, batch: &mut Self::Batch, record: &SpoolRecord, reason: String);
}

/// Commits batches over one connection. After an error it is dropped.
pub trait Writer {
    /// What it commits.
    type Batch;

    /// Returns how far the sink has a spool; `None` where it has nothing of it.
    fn position(&self, spool_id: [u8; 16])
    -> impl Future<Output = anyhow::Result<Option<Reached>>>;

    /// Keeps hits of these visitors, who withdrew or asked for their erasure, out of every batch
    /// that is committed after this returns. `span` is where the instructions come from.
    fn suppress(
        &mut self,
        instructions: &[(VisitorId, Kind)],
        span: &Span,
    ) -> impl Future<Output = anyhow::Result<()>>;

    /// Stores a batch and moves the position of each spool to its end, all or nothing. It fails if
    /// a position is not where the batch begins. `payloads` are those of the batch's records, and
    /// `keep` returns what may be stored of one.
    fn commit(
        &mut self,
        batch: &mut Self::Batch,
        payloads: &[u8],
        keep: &(dyn Fn(&[u8]) -> Vec<u8> + Sync),
    ) -> impl Future<Output = anyhow::Result<Committed>>;

    /// Fails if the connection is lost.
    ///
    /// # Errors
    /// Where it is.
    fn check(&self) -> anyhow::Result<()>;
}

/// Does what a batch needs of the sink while the batch before it is committed.
pub trait Companion {
    /// What it makes ready.
    type Batch;

    /// Finishes what committed batches left to be done; all of it after the last batch.
    fn settle(&self, is_last: bool) -> impl Future<Output = anyhow::Result<()>>;

    /// Looks up what a batch must know before it is committed.
    fn make_ready(&self, batch: &mut Self::Batch) -> impl Future<Output = anyhow::Result<()>>;
}
