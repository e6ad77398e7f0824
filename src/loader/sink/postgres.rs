//! The Postgres sink: a batch is the bytes of a binary COPY and what goes with them ([`Load`]), and
//! one transaction stores it with the position.
//!
//! Rows point to dimension rows by key. The encoder remembers the keys whose rows are in Postgres
//! or on their way there, so that a dimension row is sent once. A key counts as stored from the
//! batch on that brings its row, though that batch may not be committed yet: batches commit in
//! order, and after an error the encoder is dropped. It does so for the day of the hit: on a later
//! day the row is sent again, which notes that it is still in use, so a row that is remembered here
//! is never one that the jobs may delete ([`mod@crate::jobs`]).
//!
//! A name that is one too many for its day ([`new_name`]) was taken for stored until the companion
//! finds that out. It does before the next batch is asked for, and the encoder forgets it then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use quick_cache::unsync::Cache;
use spool::Position;
use tokio::sync::{Notify, OnceCell};
use tokio_postgres::Client;

use super::attributes::CallbackAttributes;
use super::load_encoder::{LoadEncoder, STORED_KEYS_MAX};
use super::sightings::{SightingFinder, SightingRules, Sightings};
use super::ties::{self, SharedTold, TieFinder, TieFolder};
use super::{Committed, Companion, Reached, Sink, SinkBatch, Span, SpoolRecord, Writer};
use crate::clock::{self, UnixMicros};
use crate::enrich::{self, DIMENSIONS, DimensionTable};
use crate::hit::subject::Subject;
use crate::hit::{Flags, Kind, VisitorId};
use crate::identity::TieRules;
use crate::keys::{HouseholdKey, epoch_of};
use crate::metrics::Metrics;
use crate::metrics::shown::Fate;
use crate::postgres::batch::dimension;
use crate::postgres::batch::load::Known;
use crate::postgres::batch::new_name::{self, NameLimit, PassedToday, TableKey};
use crate::postgres::batch::position::{self, SpoolPosition};
use crate::postgres::batch::way;
use crate::postgres::batch::{event_key, exposure};
use crate::postgres::server::silence::SILENCE_MAX;
use crate::postgres::subject::suppression::{self, Listed, Reason};
use crate::postgres::{
    self, CommitError, Database, Load, Payloads, SilenceWatch, segment, user_key,
};
use crate::row::{ChunkOffset, Keyer};

/// How many more devices than ads a site may see for the first time in a day. A site that opens
/// sees each device for the first time.
const DEVICES_PER_NAME: u64 = 10;

/// The sink that is a Postgres database.
pub struct PostgresSink {
    database: Arc<Database>,
    metrics: Arc<Metrics>,
    /// Read once: what is held in memory has keys of it.
    keyer: OnceCell<Arc<Keyer>>,
    silence_max: Duration,
    new_names_max: u64,
    /// The fingerprints of the keys that hash users.
    user_keys: Vec<[u8; 16]>,
    tie_rules: Arc<ArcSwap<TieRules>>,
    sightings: Arc<Sightings>,
    wake: Arc<Notify>,
    forgotten: Forgotten,
    told: SharedTold,
    attributes: Arc<CallbackAttributes>,
}

/// Spools whose hits their own collectors load into this database: a batch that came by way of
/// Kafka has some of them.
#[derive(Debug, thiserror::Error)]
#[error(
    "hits of {0:x?} come by way of Kafka, and their collector loads them into this database itself"
)]
pub(in crate::loader) struct RefusedSpools(pub(in crate::loader) Vec<i64>);

/// The dimension rows that the encoder took for stored, and that were not let pass.
pub(super) type Forgotten = Arc<Mutex<Vec<TableKey>>>;

impl PostgresSink {
    /// Makes a sink of a database.
    #[must_use]
    pub fn new(database: Arc<Database>, metrics: Arc<Metrics>) -> PostgresSink {
        PostgresSink {
            database,
            metrics,
            keyer: OnceCell::new(),
            silence_max: SILENCE_MAX,
            new_names_max: 0,
            user_keys: Vec::new(),
            tie_rules: Arc::default(),
            sightings: Arc::default(),
            wake: Arc::default(),
            forgotten: Forgotten::default(),
            told: SharedTold::default(),
            attributes: Arc::default(),
        }
    }

    /// Makes it take the attributes that callbacks of these partners bring.
    #[must_use]
    pub fn with_attributes(self, attributes: Arc<CallbackAttributes>) -> PostgresSink {
        PostgresSink { attributes, ..self }
    }

    /// Makes it take that many new names of a site in a day (`loader.new_names_per_day`); 0 for any
    /// number.
    #[must_use]
    pub(crate) fn limit_new_names(self, new_names_max: u64) -> PostgresSink {
        PostgresSink {
            new_names_max,
            ..self
        }
    }

    /// Makes it store users whose keys have these fingerprints, if the database takes the first.
    #[must_use]
    pub(crate) fn with_user_keys(self, user_keys: Vec<[u8; 16]>) -> PostgresSink {
        PostgresSink { user_keys, ..self }
    }

    /// Makes it tie IDs together by these rules, which a reload exchanges.
    #[must_use]
    pub(crate) fn with_tie_rules(self, tie_rules: Arc<ArcSwap<TieRules>>) -> PostgresSink {
        PostgresSink { tie_rules, ..self }
    }

    /// Makes it say when device groups have lost ties and are to be split.
    #[must_use]
    pub(crate) fn with_wake(self, wake: Arc<Notify>) -> PostgresSink {
        PostgresSink { wake, ..self }
    }

    /// Makes it note at which addresses devices are seen, for households of these sites, of hits
    /// that were received in the two weeks of `at`. Anybody may know the key: it is for measuring.
    ///
    /// # Errors
    /// Where the day of `at` cannot be told.
    pub fn with_households_of(
        self,
        sites: &[&str],
        at: UnixMicros,
    ) -> anyhow::Result<PostgresSink> {
        let day = i32::try_from(at.day()).context("a day after the year 5,000,000")?;
        let sightings = Sightings::default();
        sightings.rules.store(Arc::new(SightingRules {
            sites: sites.iter().map(|site| (*site).to_owned()).collect(),
            ..SightingRules::default()
        }));
        let key = HouseholdKey::new(epoch_of(day), day, [3; 32]);
        sightings.key.store(Some(Arc::new(key)));
        Ok(self.with_sightings(Arc::new(sightings)))
    }

    /// Makes it note at which addresses devices are seen.
    #[must_use]
    pub(crate) fn with_sightings(self, sightings: Arc<Sightings>) -> PostgresSink {
        PostgresSink { sightings, ..self }
    }

    /// Makes an encoder for a database with these keys.
    pub(in crate::loader) fn encoder_with(
        &self,
        keyer: Arc<Keyer>,
        takes_users: bool,
    ) -> LoadEncoder {
        LoadEncoder {
            keyer,
            takes_users,
            stored: Cache::new(STORED_KEYS_MAX),
            last_moved: None,
            begun: clock::monotonic(),
            today: 0,
            forgotten: Arc::clone(&self.forgotten),
            ties: TieFinder::new(&self.tie_rules, &self.told, takes_users),
            sightings: SightingFinder::new(Arc::clone(&self.sightings)),
            attributes: Arc::clone(&self.attributes),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Returns whether the database takes the users that this process hashes.
    async fn claim_users(&self, client: &Client) -> anyhow::Result<bool> {
        let takes_users = user_key::claim(client, &self.user_keys).await;
        let takes_users = takes_users.context("comparing user.keys with those of the database")?;
        if !takes_users && !self.user_keys.is_empty() {
            tracing::error!(
                "the first of user.keys is not the one that other collectors of this database use: \
                 rows say nothing of who is logged in until it is"
            );
        }
        Ok(takes_users)
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
    type Companion = PostgresCompanion;

    const NAME: &'static str = "Postgres";

    async fn open(&self) -> anyhow::Result<(PostgresWriter, PostgresCompanion)> {
        let (client, watch) = SilenceWatch::connect(&self.database, self.silence_max).await?;
        self.metrics.postgres_connects.increment(1);
        let read = async {
            Box::pin(self.attributes.declare(&client)).await?;
            let known = event_key::read_known(&client).await?;
            let keyer = self.read_keyer(&client).await?;
            let takes_users = Box::pin(self.claim_users(&client)).await?;
            anyhow::Ok((known, keyer, takes_users))
        };
        let (known, keyer, takes_users) = watch.watch(read).await?;
        let writer = PostgresWriter {
            takes_users,
            known,
            keyer,
            told: Arc::clone(&self.told),
            wake: Arc::clone(&self.wake),
            client,
            watch,
        };
        let (client, watch) = SilenceWatch::connect(&self.database, self.silence_max).await?;
        self.metrics.postgres_connects.increment(1);
        let set_up = async { Ok(exposure::set_up(&client).await?) };
        watch.watch(set_up).await?;
        let names_max = Some(self.new_names_max).filter(|max| *max > 0);
        let names_max = |times| names_max.and_then(|max| i64::try_from(max * times).ok());
        let companion = PostgresCompanion {
            client,
            watch,
            name_limit: NameLimit {
                names: names_max(1),
                devices: names_max(DEVICES_PER_NAME),
                device_table: DimensionTable::Device as usize,
            },
            passed: tokio::sync::Mutex::default(),
            forgotten: Arc::clone(&self.forgotten),
            ties: TieFolder::new(Arc::clone(&self.told), Arc::clone(&self.wake)),
            attributes: Arc::clone(&self.attributes),
            facts_due: FactsDue::default(),
            metrics: Arc::clone(&self.metrics),
        };
        Ok((writer, companion))
    }

    fn encoder(&self, writer: &PostgresWriter) -> LoadEncoder {
        self.encoder_with(Arc::clone(&writer.keyer), writer.takes_users)
    }

    fn count_error(&self) {
        self.metrics.postgres_errors.increment(1);
    }
}

impl SinkBatch for Load {
    fn follow(&mut self, before: &Load) {
        Load::follow(self, before);
    }

    fn row_flags(&self) -> impl Iterator<Item = Flags> {
        self.rows.flags()
    }

    fn fate(&self, spool: usize, position: Position) -> Option<Fate> {
        let place = into_chunk_offset(position);
        let is_it = |record: &postgres::Record| record.spool == spool && record.position == place;
        if self.rows.records().any(is_it) {
            return Some(Fate::Stored);
        }
        let mut rejected = self.rejected.iter();
        Some(match rejected.any(|rejected| is_it(&rejected.record)) {
            true => Fate::Rejected,
            false => Fate::Repeated,
        })
    }
}

/// A connection that commits batches.
pub struct PostgresWriter {
    client: Client,
    takes_users: bool,
    known: Known,
    keyer: Arc<Keyer>,
    told: SharedTold,
    wake: Arc<Notify>,
    watch: SilenceWatch,
}

impl Writer for PostgresWriter {
    type Batch = Load;

    async fn position(&self, spool_id: [u8; 16]) -> anyhow::Result<Option<Reached>> {
        let read = async { Ok(position::read(&self.client, spool_id).await?) };
        Ok(self.watch.watch(read).await?.map(into_reached))
    }

    async fn suppress(
        &mut self,
        instructions: &[(VisitorId, Kind)],
        _: &Span,
    ) -> anyhow::Result<()> {
        let suppress = suppress(&mut self.client, instructions);
        self.watch.watch(suppress).await?;
        self.wake.notify_one();
        Ok(())
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
                CommitError::Refused(spools) => RefusedSpools(spools).into(),
                error => error.into(),
            })
        };
        let loaded = self.watch.watch(commit).await?;
        self.known = std::mem::take(&mut load.known);
        ties::tell_dropped(&self.told, load);
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

impl PostgresWriter {
    /// Puts IDs on the list of suppression, whose keys are known.
    pub(in crate::loader) async fn suppress_listed(
        &mut self,
        entries: &[Listed],
    ) -> anyhow::Result<()> {
        let add = async {
            let added = suppression::add_listed(&mut self.client, entries).await;
            added.context("adding to the list of suppression")
        };
        self.watch.watch(add).await?;
        self.wake.notify_one();
        Ok(())
    }

    /// Returns those of the entries that the list of suppression does not have.
    pub(in crate::loader) async fn find_missing(
        &self,
        entries: &[Listed],
    ) -> anyhow::Result<Vec<Listed>> {
        let find = async { Ok(suppression::find_missing(&self.client, entries).await?) };
        self.watch.watch(find).await
    }

    /// Notes which partitions the positions of these IDs are of.
    pub(in crate::loader) async fn name_partitions(
        &self,
        cluster: &str,
        partitions: &[([u8; 16], String, i32)],
    ) -> anyhow::Result<()> {
        let name = async { Ok(way::name_partitions(&self.client, cluster, partitions).await?) };
        self.watch.watch(name).await
    }

    /// Returns a message that was read of each of these partitions, where one is known: its offset
    /// and its time.
    pub(in crate::loader) async fn witnesses(
        &self,
        partitions: &[([u8; 16], String, i32)],
    ) -> anyhow::Result<Vec<(String, i32, (i64, i64))>> {
        let ids: Vec<[u8; 16]> = partitions.iter().map(|(id, ..)| *id).collect();
        let read = async { Ok(way::read_witnesses(&self.client, &ids).await?) };
        self.watch.watch(read).await
    }

    /// Notes a message that was read of each of these partitions.
    pub(in crate::loader) async fn keep_witnesses(
        &self,
        witnesses: &[([u8; 16], (i64, i64))],
    ) -> anyhow::Result<()> {
        let keep = async { Ok(way::keep_witnesses(&self.client, witnesses).await?) };
        self.watch.watch(keep).await
    }
}

/// A connection that looks up and adds up exposures, adds up ties, and bounds new names.
pub struct PostgresCompanion {
    attributes: Arc<CallbackAttributes>,
    client: Client,
    watch: SilenceWatch,
    name_limit: NameLimit,
    passed: tokio::sync::Mutex<PassedToday>,
    forgotten: Forgotten,
    ties: TieFolder,
    facts_due: FactsDue,
    metrics: Arc<Metrics>,
}

/// When what subjects did is added up next. What several batches say of one subject is then added
/// at once, and a small batch does not cost what a large one does. Nobody waits for it: segments
/// are evaluated each minute, after it.
#[derive(Default)]
struct FactsDue(Mutex<Option<Instant>>);

impl FactsDue {
    const PERIOD: Duration = Duration::from_secs(5);

    /// Returns whether it is time, and begins anew if so.
    fn take(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| clock::time_since(last) >= FactsDue::PERIOD);
        if is_due {
            *last = Some(clock::monotonic());
        }
        is_due
    }
}

impl PostgresCompanion {
    /// Replaces the names that are too many for today.
    async fn limit_names(&self, load: &mut Load) -> anyhow::Result<()> {
        let mut passed = self.passed.lock().await;
        let replaced = new_name::limit(&self.client, load, &self.name_limit, &mut passed).await?;
        self.metrics.other_names.increment(replaced.len() as u64);
        let forgotten = self.forgotten.lock();
        let mut forgotten = forgotten.unwrap_or_else(PoisonError::into_inner);
        forgotten.extend(replaced);
        Ok(())
    }
}

impl Companion for PostgresCompanion {
    type Batch = Load;

    async fn settle(&self, is_last: bool) -> anyhow::Result<()> {
        let add_up = async { Ok(exposure::add_up(&self.client).await?) };
        let added_up = self.watch.watch(add_up).await;
        added_up.context("adding up exposures")?;
        self.ties.fold(&self.client, &self.watch).await?;
        let fold = async {
            self.attributes.declare(&self.client).await?;
            if self.facts_due.take() || is_last {
                segment::fold(&self.client).await?;
            }
            Ok(())
        };
        let folded = self.watch.watch(fold).await;
        folded.context("adding up what subjects did")
    }

    async fn make_ready(&self, load: &mut Load) -> anyhow::Result<()> {
        let limited = self.watch.watch(self.limit_names(load)).await;
        limited.context("counting new names")?;
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

pub(super) fn into_record(record: &SpoolRecord) -> postgres::Record {
    postgres::Record {
        spool: record.spool,
        position: into_chunk_offset(record.position),
        payload: record.payload.clone(),
    }
}

pub(super) fn into_chunk_offset(position: Position) -> ChunkOffset {
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
