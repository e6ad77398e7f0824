//! Reads batches of messages, and makes of each what the loader makes of a hit.
//!
//! A batch has messages of all partitions, in the order in which their hits were received. Within a
//! partition nothing is left out between two positions, so the position after a batch is the offset
//! after its last message.

use std::any::Any;
use std::array;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use spool::{Damage, Position};

use super::group::{HeldConsumer, Positions};
use super::witness::{MadeAnew, Witnesses};
use super::{Partition, partition_id};
use crate::clock::{self, UnixMicros};
use crate::config::KafkaConfig;
use crate::enrich::{DIMENSIONS, DimensionTable, FactReader, Facts};
use crate::hit::{Flags, Hit, Permit};
use crate::keys::epoch_of;
use crate::loader::derive::{Deriver, shorten};
use crate::loader::prepare::{Feed, Prepared};
use crate::loader::sink::kafka::message::SCHEMA;
use crate::loader::sink::kafka::message::read::{self, CountMessage, MessageError, RowMessage};
use crate::loader::sink::kafka::witness::Witness;
use crate::loader::sink::{DerivedHit, Encoder as _, LoadEncoder, Reached, Span, SpoolRecord};
use crate::metrics::{Metrics, gauge_value};
use crate::postgres::Load;
use crate::row::click::ClickMention;
use crate::row::dimension::{Found as _, Keyed, ReadColumns};
use crate::row::exposure::AdContact;
use crate::row::{Ad, Derived, Link, Row, event_key};

/// Payload of a batch, in bytes.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long to wait for the first message of a batch, and for one more.
const FIRST_TIME_MAX: Duration = Duration::from_millis(50);
const NEXT_TIME_MAX: Duration = Duration::from_millis(5);
/// Dimension rows that are kept as they were read.
const READ_MAX: usize = 8_192;
/// How often the ends of the partitions are asked for.
const BACKLOG_PERIOD: Duration = Duration::from_secs(5);

/// A partition as it is read.
struct Reading {
    partition: Partition,
    spool_id: [u8; 16],
    is_of_counts: bool,
    from: Option<Reached>,
    /// The offset after the last message that was read.
    next: i64,
}

/// Reads what a session is assigned.
pub(super) struct GroupFeed {
    member: HeldConsumer,
    readings: Vec<Reading>,
    numbers: BTreeMap<Partition, usize>,
    refused: HashSet<i64>,
    found: FoundRows,
    witnesses: Arc<Witnesses>,
    metrics: Arc<Metrics>,
    backlog_at: Option<Instant>,
    messages: Vec<Read>,
    bytes: Vec<u8>,
}

/// A message of a batch that is read.
struct Read {
    at: i64,
    reading: usize,
    offset: i64,
    at_millis: i64,
    payload: std::ops::Range<usize>,
}

impl GroupFeed {
    pub(super) fn new(
        (member, positions): (HeldConsumer, Positions),
        config: &KafkaConfig,
        refused: HashSet<i64>,
        (witnesses, metrics): (&Arc<Witnesses>, &Arc<Metrics>),
    ) -> GroupFeed {
        let Positions {
            cluster,
            partitions,
        } = positions;
        let reading = |(partition, (from, next)): (Partition, (Option<Reached>, i64))| Reading {
            spool_id: partition_id(&cluster, &partition.topic, partition.number),
            is_of_counts: partition.topic == config.count_topic,
            next,
            from,
            partition,
        };
        let readings: Vec<Reading> = partitions.into_iter().map(reading).collect();
        let numbers = readings.iter().enumerate();
        let numbers = numbers.map(|(number, reading)| (reading.partition.clone(), number));
        GroupFeed {
            member,
            numbers: numbers.collect(),
            readings,
            refused,
            found: FoundRows::default(),
            witnesses: Arc::clone(witnesses),
            metrics: Arc::clone(metrics),
            backlog_at: None,
            messages: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Takes messages as they come. Returns whether there are more.
    fn take(&mut self, rows_max: usize) -> anyhow::Result<bool> {
        let mut time = FIRST_TIME_MAX;
        while self.messages.len() < rows_max && self.bytes.len() < BATCH_BYTES_MAX {
            let polled = self.member.consumer()?.poll(time);
            self.member.check()?;
            match polled {
                None => return Ok(false),
                Some(Ok(message)) => {
                    check_schema(&message)?;
                    let partition = Partition {
                        topic: message.topic().to_owned(),
                        number: message.partition(),
                    };
                    let Some(number) = self.numbers.get(&partition).copied() else {
                        continue;
                    };
                    let Some(reading) = self.readings.get_mut(number) else {
                        continue;
                    };
                    if message.offset() < reading.next {
                        let (next, at) = (reading.next, message.offset());
                        return Err(MadeAnew::new(&partition, next, at).into());
                    }
                    reading.next = message.offset() + 1;
                    let payload = message.payload().unwrap_or_default();
                    let start = self.bytes.len();
                    self.bytes.extend_from_slice(payload);
                    let at = match reading.is_of_counts {
                        true => None,
                        false => Hit::peek_received_at(payload),
                    };
                    self.messages.push(Read {
                        at: at.map_or(i64::MIN, |at| at.0),
                        reading: number,
                        offset: message.offset(),
                        at_millis: message.timestamp().to_millis().unwrap_or_default(),
                        payload: start..self.bytes.len(),
                    });
                    time = NEXT_TIME_MAX;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    // Which topic's, it does not say: the ends are asked for.
                    self.backlog_at = None;
                }
                Some(Err(error)) if has_no_offset(&error) => {
                    self.backlog_at = None;
                    self.note_backlog()?;
                    anyhow::bail!("Kafka deleted messages that were about to be read");
                }
                Some(Err(error)) => self.member.explain(&error)?,
            }
        }
        Ok(true)
    }

    /// Asks how much there is after what was read, now and then.
    ///
    /// # Errors
    /// Where a partition ends before what was read.
    fn note_backlog(&mut self) -> anyhow::Result<()> {
        let now = clock::monotonic();
        if self.backlog_at.is_some_and(|at| now - at < BACKLOG_PERIOD) {
            return Ok(());
        }
        self.backlog_at = Some(now);
        let Some(ends) = self.member.read_ends() else {
            return Ok(());
        };
        let mut backlog = 0;
        for (partition, end) in ends {
            let number = self.numbers.get(&partition).copied();
            let Some(reading) = number.and_then(|number| self.readings.get(number)) else {
                continue;
            };
            if end < reading.next {
                return Err(MadeAnew::new(&partition, reading.next, end).into());
            }
            backlog += (end - reading.next).unsigned_abs();
        }
        // The ends of transactions take offsets too: where nothing comes, nothing is left.
        let is_idle = self.messages.is_empty();
        let backlog = if is_idle { 0 } else { backlog };
        self.metrics.load_backlog.set(gauge_value(backlog));
        Ok(())
    }

    /// Notes the messages that were read. Within a partition they are in their order.
    fn note_witnesses(&self) {
        let mut newest = BTreeMap::new();
        for message in &self.messages {
            let witness = Witness {
                offset: message.offset,
                at_millis: message.at_millis,
            };
            newest.insert(message.reading, witness);
        }
        for (number, witness) in newest {
            if let Some(reading) = self.readings.get(number) {
                self.witnesses.note(&reading.partition, witness);
            }
        }
    }

    /// Notes how old what was read is.
    fn note_age(&self) {
        let times = self.messages.iter().map(|message| message.at);
        let oldest = times.filter(|at| *at > i64::MIN).min();
        let age = oldest.map(|at| clock::now().since(UnixMicros(at)));
        let seconds = age.unwrap_or_default().as_secs_f64();
        self.metrics.load_oldest_seconds.set(seconds);
    }
}

/// Returns whether a partition has nothing at the offset where it was to be read.
fn has_no_offset(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset)
}

/// Fails where a message needs a newer reader.
fn check_schema(message: &BorrowedMessage<'_>) -> anyhow::Result<()> {
    let headers = message.headers();
    let schema = headers.and_then(|headers| {
        let mut named = headers.iter().filter(|header| header.key == "schema");
        let schema = str::from_utf8(named.next()?.value?).ok()?;
        schema.parse::<u32>().ok()
    });
    let known = SCHEMA.parse().unwrap_or(0);
    anyhow::ensure!(
        schema.is_none_or(|schema| schema <= known),
        "a message is of a newer version, which this one cannot read: partition {} of {}, offset {}; upgrade avtryck load \
         before the collectors",
        message.partition(),
        message.topic(),
        message.offset()
    );
    Ok(())
}

impl Feed<LoadEncoder> for GroupFeed {
    fn read(&mut self, into: &mut Prepared<Load>, rows_max: usize) -> anyhow::Result<()> {
        self.messages.clear();
        self.bytes.clear();
        into.is_full = self.take(rows_max)?;
        self.note_backlog()?;
        self.note_age();
        self.note_witnesses();
        // A stable order: messages of the same time stay as they were.
        self.messages.sort_by_key(|message| message.at);
        into.batch.reset();
        into.damage = Damage::default();
        into.origins.clear();
        for message in &self.messages {
            let payload = self.bytes.get(message.payload.clone());
            let position = Position {
                chunk: 0,
                offset: message.offset.cast_unsigned(),
            };
            into.batch.push(position, payload.unwrap_or_default());
            into.origins.push(message.reading);
        }
        into.spans.clear();
        for reading in &mut self.readings {
            let next = reading.next.cast_unsigned();
            let span = Span {
                spool_id: reading.spool_id,
                from: reading.from.map(|from| from.position),
                to: Reached {
                    position: Position {
                        chunk: 0,
                        offset: next,
                    },
                    records: next,
                },
            };
            if span.moves() {
                reading.from = Some(span.to);
            }
            into.spans.push(span);
        }
        Ok(())
    }

    fn derive(
        &mut self,
        deriver: &mut Deriver<'_>,
        payload: &[u8],
        record: &SpoolRecord,
        to: (&mut LoadEncoder, &mut Load),
    ) -> Result<(), String> {
        let of_counts = self.readings.get(record.spool);
        match of_counts.is_some_and(|reading| reading.is_of_counts) {
            true => self.derive_count(deriver, payload, to),
            false => self.derive_row(deriver, payload, record, to),
        }
    }
}

impl GroupFeed {
    /// Returns whether the hits of a spool come by way of Kafka alone; notes it in the batch.
    fn admit(&self, half: [u8; 8], batch: &mut Load) -> bool {
        let half = i64::from_be_bytes(half);
        if self.refused.contains(&half) {
            self.metrics.load_refused.increment(1);
            return false;
        }
        batch.by_kafka.get_or_insert_default().insert(half);
        true
    }

    fn derive_row(
        &mut self,
        deriver: &mut Deriver<'_>,
        payload: &[u8],
        record: &SpoolRecord,
        (encoder, batch): (&mut LoadEncoder, &mut Load),
    ) -> Result<(), String> {
        let message = RowMessage::decode(payload).map_err(|error| error.to_string())?;
        let half = message.hit_id.first_chunk().copied().unwrap_or_default();
        if !self.admit(half, batch) {
            return Ok(());
        }
        let hit = &message.hit;
        if !hit.permit.allows(Permit::MEASURE) || hit.kind.is_instruction() {
            return Err("its permit lacks measure: it may not be a row".to_owned());
        }
        let facts = Facts::read(
            hit,
            &mut MessageFacts {
                dimensions: &message.dimensions,
                found: &mut self.found,
            },
        );
        let facts = facts.map_err(|error| error.to_string())?;
        let creative = Ad::creative_of(hit).map(Keyed::new);
        let keyer = deriver.keyer.as_deref();
        let contact = creative
            .as_ref()
            .zip(keyer)
            .and_then(|(creative, keyer)| AdContact::of(hit, creative.key(keyer)));
        let derived = Derived {
            hit_id: message.hit_id,
            keys: &keyer.map_or([None; DIMENSIONS.len()], |keyer| facts.keys(keyer)),
            flags: Flags::default(),
            client_ip: message
                .client_ip
                .and_then(|network| shorten(network, deriver.client_ip)),
        };
        let today = i32::try_from(clock::now().day()).unwrap_or(0);
        let derived = DerivedHit {
            hit,
            row: Row::new(hit, derived),
            facts: &facts,
            creative,
            contact,
            event_key: keyer.and_then(|keyer| event_key(hit, hit.flags, keyer)),
            link: Link::of(hit),
            mention: ClickMention::of(hit),
            is_sensitive_page: message.is_sensitive_page,
            // Those of an epoch that has ended are nobody's any more.
            sighting: message
                .sighting
                .filter(|(_, epoch)| *epoch == epoch_of(today)),
        };
        encoder.add(batch, derived, record).map_err(str::to_owned)
    }

    fn derive_count(
        &mut self,
        deriver: &mut Deriver<'_>,
        payload: &[u8],
        (encoder, batch): (&mut LoadEncoder, &mut Load),
    ) -> Result<(), String> {
        let message = CountMessage::decode(payload).map_err(|error| error.to_string())?;
        // A collector that does not say its spool loads into Postgres itself.
        let Some(half) = message.spool else {
            self.metrics.load_refused.increment(1);
            return Ok(());
        };
        if !self.admit(half, batch) {
            return Ok(());
        }
        let CountMessage { key, hits, .. } = &message;
        let minute_micros = key.minute.saturating_mul(60_000_000);
        let mut hit = Hit::new(UnixMicros(minute_micros), key.kind, &*key.site.site);
        hit.category = (&*key.site.category).into();
        hit.partner = (&*key.ad.partner).into();
        hit.campaign = (&*key.ad.campaign).into();
        hit.creative = (&*key.ad.creative).into();
        hit.placement = (&*key.ad.placement).into();
        hit.publisher = (&*key.ad.publisher).into();
        let facts = Facts::of_hit(&hit);
        let count = deriver.count(&hit, &facts);
        encoder.count_many(batch, (count, *hits), &facts);
        for said in &message.said {
            hit.permit = said.permit;
            hit.consent_source = said.consent_source;
            encoder.note_said(batch, &hit, (said.kind, said.node));
        }
        Ok(())
    }
}

/// Dimension rows by the bytes that they were read from, in the order of [`DIMENSIONS`]: most
/// messages repeat a few of them.
struct FoundRows([RowsByBytes; DIMENSIONS.len()]);

/// Rows of one dimension: `Keyed<D>`.
type RowsByBytes = Cache<Box<[u8]>, Arc<dyn Any + Send + Sync>>;

impl Default for FoundRows {
    fn default() -> FoundRows {
        FoundRows(array::from_fn(|_| Cache::new(READ_MAX)))
    }
}

/// Reads what was found of a hit from its message.
struct MessageFacts<'a> {
    dimensions: &'a [Option<&'a [u8]>; DIMENSIONS.len()],
    found: &'a mut FoundRows,
}

impl FactReader for MessageFacts<'_> {
    type Error = MessageError;

    fn read<D: ReadColumns + Send + Sync + 'static>(
        &mut self,
        dimension: DimensionTable,
    ) -> Result<Option<Arc<Keyed<D>>>, MessageError> {
        let at = dimension as usize;
        let bytes = self.dimensions.get(at).copied().flatten();
        let (Some(bytes), Some(field)) = (bytes, dimension.field()) else {
            return Ok(None);
        };
        let mut known = self.found.0.get_mut(at);
        let row = known.as_mut().and_then(|known| known.get(bytes)).cloned();
        if let Some(Ok(row)) = row.map(Arc::downcast) {
            return Ok(Some(row));
        }
        let row = Arc::new(Keyed::new(read::dimension(field, bytes)?));
        if let Some(known) = known {
            known.insert(bytes.into(), Arc::<Keyed<D>>::clone(&row));
        }
        Ok(Some(row))
    }
}
