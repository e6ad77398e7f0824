//! Encodes batches for Postgres, on the first stage's thread.
//!
//! What it remembers as stored, and why that may be done, is in [`super::postgres`].

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

use super::attributes::CallbackAttributes;
use super::postgres::{Forgotten, into_chunk_offset, into_postgres, into_record};
use super::profiles;
use super::sightings::SightingFinder;
use super::ties::TieFinder;
use super::{DerivedHit, Encoder, Span, SpoolRecord};
use crate::clock::{self, UnixMicros};
use crate::enrich::{DIMENSIONS, DimensionTable, FactVisitor, Facts, NameScope};
use crate::hit::Hit;
use crate::identity::{Ids, Node, NodeKind};
use crate::metrics::Metrics;
use crate::postgres::batch::new_name::TableKey;
use crate::postgres::{Load, Rejected, SpoolSpan};
use crate::row::dimension::Found;
use crate::row::{Count, Keyer};

/// Dimension keys that are remembered as stored.
pub(super) const STORED_KEYS_MAX: usize = 65_536;

/// For how long at most, whatever the collector's clock shows.
const STORED_TIME_MAX: Duration = Duration::from_hours(24);

/// Encodes rows as COPY takes them.
pub struct LoadEncoder {
    pub(super) keyer: Arc<Keyer>,
    /// Whether the database takes users.
    pub(super) takes_users: bool,
    /// Dimension rows that are in Postgres, or on their way there, each with the last day on which
    /// it is known to have been seen.
    pub(super) stored: Cache<TableKey, i32>,
    /// Since when it has remembered them.
    pub(super) begun: Instant,
    /// The day on which the batch was read.
    pub(super) today: i32,
    pub(super) forgotten: Forgotten,
    pub(super) ties: TieFinder,
    pub(super) sightings: SightingFinder,
    pub(super) attributes: Arc<CallbackAttributes>,
    /// A spool whose position the batch before moves.
    pub(super) last_moved: Option<[u8; 16]>,
    pub(super) metrics: Arc<Metrics>,
}

impl Encoder for LoadEncoder {
    type Batch = Load;

    fn keyer(&self) -> Option<Arc<Keyer>> {
        Some(Arc::clone(&self.keyer))
    }

    fn make_batch(&self) -> Load {
        Load::new(&DIMENSIONS, Arc::clone(&self.keyer))
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
        self.today = day(read_at);
        self.ties.begin(read_at);
        self.sightings.begin();
        if clock::time_since(self.begun) >= STORED_TIME_MAX {
            self.stored = Cache::new(STORED_KEYS_MAX);
            self.begun = clock::monotonic();
        }
        let mut forgotten = self
            .forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for key in forgotten.drain(..) {
            self.stored.remove(&key);
        }
    }

    fn add(
        &mut self,
        load: &mut Load,
        mut hit: DerivedHit<'_>,
        record: &SpoolRecord,
    ) -> Result<(), &'static str> {
        if !self.takes_users && hit.row.user_key.take().is_some() {
            self.metrics.users_refused.increment(1);
        }
        let mut dimensions = NewDimensions {
            day: self.today.max(day(hit.row.received_at)),
            named: NameScope::of(hit.facts),
            load,
            encoder: self,
        };
        hit.facts.visit(&mut dimensions);
        if let Some(creative) = &hit.creative {
            dimensions.visit(DimensionTable::Ad, creative);
        }
        let record = into_record(record);
        load.rows
            .push(&hit.row, hit.event_key, hit.contact, &record)?;
        if let Some(link) = hit.link.take() {
            load.link(link);
        }
        if let Some(mention) = hit.mention.take() {
            load.mention(mention);
        }
        self.ties.find(hit.hit, hit.row.flags, load);
        self.add_sighting(&hit, load);
        let page = (hit.facts, hit.is_sensitive_page, &*hit.row.keys);
        let known = (self.ties.rules(), self.takes_users);
        profiles::find(hit.hit, hit.row.flags, page, known, load);
        self.attributes.find(hit.hit, load);
        Ok(())
    }

    fn count(&mut self, load: &mut Load, hit: &Hit<'_>, count: Count, facts: &Facts<'_>) {
        self.count_many(load, (count, 1), facts);
        self.ties.find(hit, hit.flags, load);
    }

    fn reject(&mut self, load: &mut Load, record: &SpoolRecord, reason: String) {
        let record = into_record(record);
        load.rejected.push(Rejected { record, reason });
    }
}

impl LoadEncoder {
    /// Adds the sighting that a hit makes, unless it is stored; the hit's row is the last one.
    fn add_sighting(&mut self, hit: &DerivedHit<'_>, load: &mut Load) {
        let found = match &hit.sighting {
            Some(found) => {
                let forget = self.ties.memory().note_sighting(found.0.node, &found.0);
                forget.zip(Some(*found))
            }
            None => {
                let known = (hit.facts, self.ties.rules());
                let place = self.sightings.place(hit.hit, hit.row.flags, known);
                place.and_then(|place| {
                    let forget = self.ties.memory().note_sighting(place.node, &place)?;
                    Some(forget).zip(self.sightings.sighting(&place))
                })
            }
        };
        if let Some((forget, (sighting, epoch))) = found {
            load.sighting(forget, sighting, (epoch, hit.hit.permit));
        }
    }

    /// Adds hits that are only counted.
    pub(in crate::loader) fn count_many(
        &mut self,
        load: &mut Load,
        (count, hits): (Count, u64),
        facts: &Facts<'_>,
    ) {
        let received_on = i32::try_from(count.minute / MINUTES_OF_DAY).unwrap_or(0);
        facts.visit(&mut NewDimensions {
            day: self.today.max(received_on),
            named: NameScope::of(facts),
            load,
            encoder: self,
        });
        load.counts.add_many(count, hits);
    }

    /// Adds what a hit that is only counted said of one of its IDs.
    pub(in crate::loader) fn note_said(
        &mut self,
        load: &mut Load,
        hit: &Hit<'_>,
        (kind, node): (NodeKind, Node),
    ) {
        let mut ids = Ids::default();
        ids.put(kind, node);
        self.ties.find_ids(hit, hit.flags, ids, load);
    }
}

/// Takes the dimension rows that are not stored.
struct NewDimensions<'a> {
    /// The day of the hit that brings them.
    day: i32,
    named: NameScope<'a>,
    load: &'a mut Load,
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
        let table = dimension as usize;
        let key = (table, found.key(keyer));
        if stored.get(&key).is_some_and(|seen_on| *seen_on >= self.day) {
            metrics.dimension_hits.increment(1);
            return;
        }
        metrics.dimension_misses.increment(1);
        stored.insert(key, self.day);
        let Load {
            dimensions, names, ..
        } = self.load;
        dimensions.note_day(self.day);
        if let Some(rows) = dimensions.of(table) {
            found.add_to(key.1, rows);
        }
        if let Some(other) = dimension.stand_in(&self.named, keyer) {
            names.add(key, other.scope, other.row);
        }
    }
}

const MINUTES_OF_DAY: i64 = 24 * 60;

/// Returns the UTC day since 1970, within what Postgres takes for one.
fn day(at: UnixMicros) -> i32 {
    /// 9999-12-31: rows of later days are rejected.
    const DAY_MAX: i64 = 2_932_896;
    i32::try_from(at.day().clamp(0, DAY_MAX)).unwrap_or(0)
}
