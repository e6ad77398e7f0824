//! Where batches are read from: one spool, or several whose records are loaded in one order.
//!
//! A spool's records are in the order in which they were appended. Those of several spools are
//! merged by the time at which their hits were received, so that a click comes after the impression
//! that it follows whichever thread took which: what one batch counts, and the numbers of
//! exposures, are then those of one spool. Three rules keep that true from batch to batch:
//!
//! | left for the next batch | because |
//! | --- | --- |
//! | what was received after this read began | what caused it may lie in a spool that was read earlier |
//! | what is later than the last record of a spool that has more to read | that may hold an earlier one |
//! | nothing, of a spool with damage, or with times that differ by more than [`ORDER_MICROS_MAX`] | a clock that jumped, or a fault, must not hold hits back |

use spool::{Batch, Damage, Position, ReadError, Reader, Spool};

use super::prepare::Prepared;
use super::sink::{Reached, Span};
use crate::clock;
use crate::hit::Hit;

/// Payload of a batch, in bytes.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The fewest records that are read from one of several spools.
const SHARE_MIN: usize = 64;
/// Times that differ by more say nothing about the order: one hour.
const ORDER_MICROS_MAX: u64 = 3_600_000_000;
/// What a read may take, so that what was received meanwhile is told from a clock that was put
/// back: one second.
const SINCE_MICROS_MAX: i64 = 1_000_000;

/// One spool that is read.
pub(super) struct Source {
    spool: Spool,
    reader: Reader,
    /// How far the sink will be once the batches so far are committed.
    from: Option<Reached>,
    /// What was read of it last, where there are several.
    batch: Batch,
    /// The times of these records: of each the latest up to it.
    times: Vec<i64>,
}

impl Source {
    pub(super) fn new(spool: &Spool, start: Position, from: Option<Reached>) -> Source {
        Source {
            spool: spool.clone(),
            reader: spool.reader(start, from.map_or(0, |from| from.records)),
            from,
            batch: Batch::default(),
            times: Vec::new(),
        }
    }

    /// Returns what a batch that ends there has of it.
    fn span(&mut self, end: Position, records: u64) -> Span {
        let span = Span {
            spool_id: self.spool.id().0,
            from: self.from.map(|from| from.position),
            to: Reached {
                position: end,
                records,
            },
        };
        if span.moves() {
            self.from = Some(span.to);
        }
        span
    }

    fn read_times(&mut self) {
        self.times.clear();
        let mut latest = i64::MIN;
        for (_, payload) in self.batch.records() {
            latest = latest.max(Hit::peek_received_at(payload).map_or(latest, |at| at.0));
            self.times.push(latest);
        }
    }

    /// Leaves for the next read what is later than `limit`, or than `now`.
    fn leave_later(&mut self, limit: i64, now: i64) {
        if self.batch.damage.is_some() {
            return;
        }
        let up_to = |limit| self.times.partition_point(|at| *at <= limit);
        let mut ends = self.times.first().into_iter().chain(self.times.last());
        let mut taken = match ends.all(|at| at.abs_diff(limit) <= ORDER_MICROS_MAX) {
            true => up_to(limit),
            false => self.times.len(),
        };
        let since = up_to(now);
        // Later than that is a time from before the clock was put back.
        if self
            .times
            .get(since)
            .is_some_and(|at| at - now <= SINCE_MICROS_MAX)
        {
            taken = taken.min(since);
        }
        self.times.truncate(taken);
        self.batch.truncate(taken);
        self.reader.go_back(&self.batch);
    }
}

/// The spools of a loader.
pub(super) struct Sources {
    sources: Vec<Source>,
    /// Records in the order in which they are loaded: time, spool, place in its batch.
    order: Vec<(i64, usize, usize)>,
}

impl Sources {
    pub(super) fn new(sources: Vec<Source>) -> Sources {
        Sources {
            sources,
            order: Vec::new(),
        }
    }

    /// Reads about as many records as a batch may hold.
    pub(super) fn read_spools<B>(
        &mut self,
        into: &mut Prepared<B>,
        rows_max: usize,
    ) -> Result<(), ReadError> {
        into.spans.clear();
        into.origins.clear();
        if let [only] = &mut self.sources[..] {
            let batch = &mut into.batch;
            only.reader.read(batch, rows_max, BATCH_BYTES_MAX)?;
            into.is_full = batch.len() >= rows_max || batch.payload_bytes() >= BATCH_BYTES_MAX;
            into.damage = batch.damage;
            into.spans.push(only.span(batch.end, batch.end_records));
            return Ok(());
        }
        into.is_full = self.read_each(rows_max)?;
        self.merge(into);
        Ok(())
    }

    /// Reads of each spool its share, and leaves what is too late for this batch. Returns whether
    /// there is more.
    fn read_each(&mut self, rows_max: usize) -> Result<bool, ReadError> {
        let now = clock::now().0;
        let backlog = |source: &Source| {
            let from = source
                .from
                .map_or_else(Position::default, |from| from.position);
            source.spool.backlog_bytes(from)
        };
        let backlogs: Vec<u64> = self.sources.iter().map(backlog).collect();
        let total = backlogs.iter().sum::<u64>().max(1);
        let mut limit = i64::MAX;
        let mut has_more = false;
        for (source, backlog) in self.sources.iter_mut().zip(backlogs) {
            let share = |most: usize| {
                let share = u128::from(backlog) * most as u128 / u128::from(total);
                usize::try_from(share).unwrap_or(most)
            };
            let rows = share(rows_max).max(SHARE_MIN);
            let bytes = share(BATCH_BYTES_MAX).max(BATCH_BYTES_MAX / 64);
            source.reader.read(&mut source.batch, rows, bytes)?;
            source.read_times();
            if source.batch.len() >= rows || source.batch.payload_bytes() >= bytes {
                has_more = true;
                limit = limit.min(source.times.last().copied().unwrap_or(limit));
            }
        }
        for source in &mut self.sources {
            source.leave_later(limit, now);
        }
        Ok(has_more)
    }

    /// Puts what was read into one batch, in order.
    fn merge<B>(&mut self, into: &mut Prepared<B>) {
        self.order.clear();
        for (spool, source) in self.sources.iter().enumerate() {
            let times = source.times.iter().enumerate();
            self.order
                .extend(times.map(|(index, at)| (*at, spool, index)));
        }
        // What is sorted already in runs takes little.
        self.order.sort();
        into.batch.reset();
        into.damage = Damage::default();
        let ranges: Vec<Vec<_>> = self
            .sources
            .iter()
            .map(|source| source.batch.ranges().collect())
            .collect();
        for (_, spool, index) in &self.order {
            let source = self.sources.get(*spool);
            let range = ranges.get(*spool).and_then(|ranges| ranges.get(*index));
            if let (Some(source), Some((position, range))) = (source, range) {
                into.batch
                    .push(*position, source.batch.payload(range.clone()));
                into.origins.push(*spool);
            }
        }
        for source in &mut self.sources {
            into.damage.add(source.batch.damage);
            let (end, records) = (source.batch.end, source.batch.end_records);
            let span = source.span(end, records);
            into.spans.push(span);
        }
    }
}
