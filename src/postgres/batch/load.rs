//! A batch on its way to Postgres: its rows, encoded as COPY takes them, and for each what the
//! transaction must know of it.
//!
//! It owns all that it holds, because one thread fills it while another commits the batch before
//! it. Once encoded, a row is a range of bytes and a [`Mark`]: to leave it out is to drop its mark,
//! and to bisect is to halve a list of marks. What only the transaction can find out about a row is
//! written into the bytes, at one of the constant offsets of [`copy`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use tokio_postgres::{Client, Error};

use super::event_key::TIMED_KEY_LATER_DAYS;
use super::new_name::{NewNames, TableKey};
use super::position::{PostgresNow, SpoolPosition};
use super::{copy, dimension, exposure};
use crate::clock::UnixMicros;
use crate::hit::{Flags, Kind, Permit};
use crate::identity::Tie;
use crate::import::CheckedRow;
use crate::postgres::household::part::{Sighting, SightingPart};
use crate::postgres::identity::part::Part;
use crate::postgres::import::part::AttributePart;
use crate::postgres::segment::part::{ProfileFact, ProfilePart};
use crate::row::click::ClickMention;
use crate::row::exposure::{AdContact, EarlierPairs, Exposure, PairTotals};
use crate::row::{
    ChunkOffset, Counts, EventKey, FORMER_FORMS, Keyer, Link, Row, SenderClass, UNKNOWN_KEY,
};

/// The first and the last time (excluded) that a row may have: 1970-01-01 and 10000-01-01. Beyond
/// them the day of a partition has more than four digits of a year, or a sign.
const RECEIVED_AT: Range<i64> = 0..253_402_300_800_000_000;

/// 2026-01-01: no collector ran before that.
const FIRST_HIT: UnixMicros = UnixMicros(1_767_225_600_000_000);

/// How far the clock of a collector and that of Postgres may differ before hits are flagged: one
/// hour, in microseconds.
const DIFFERENCE_MAX_MICROS: i64 = 3_600_000_000;

/// One batch. [`Load::clear`] empties it for the next and keeps its buffers.
#[derive(Debug)]
pub struct Load {
    /// What it has of each spool.
    pub spools: Vec<SpoolSpan>,
    /// A spool whose position the batch before it moves, if that moves any.
    pub follows: Option<[u8; 16]>,
    /// What the collector's clock showed when the batch was read.
    pub read_at: UnixMicros,
    /// Makes the keys of its rows.
    pub keyer: Arc<Keyer>,
    /// The rows.
    pub rows: Rows,
    /// What the database had before the batch, as far as its rows depend on it.
    pub known: Known,
    /// Dimension rows that may be new.
    pub dimensions: dimension::Dimensions,
    /// Those of them that senders name.
    pub names: NewNames,
    /// Hits without the permit to measure.
    pub counts: Counts,
    /// Partners' IDs that rows bring, each with the byte at which its row begins.
    pub(crate) links: Vec<(usize, Link)>,
    /// Clicks, and conversions that name one, each with the byte at which its row begins.
    pub(crate) mentions: Vec<(usize, ClickMention)>,
    /// Who has seen what.
    pub(crate) exposures: Exposures,
    /// Which IDs were seen together, and what their subjects permit.
    pub identity: Part,
    /// Which devices were seen at which addresses.
    pub sightings: SightingPart,
    /// What its subjects did.
    pub profiles: ProfilePart,
    /// What callbacks say of their subjects.
    pub attributes: AttributePart,
    /// What the loader itself rejected.
    pub rejected: Vec<Rejected>,
    /// The spools whose hits came by way of Kafka, by the first halves of their IDs; `None` where
    /// its spools are read by their collector.
    pub by_kafka: Option<BTreeSet<i64>>,
}

/// What a connection knows of its database.
#[derive(Debug, Default)]
pub struct Known {
    /// The last day on which an event may be known by a former key, for each form of them
    /// ([`former_event_keys`](crate::row::former_event_keys)).
    pub former_keys_until: [Option<i32>; FORMER_FORMS],
    /// Of hits that were received before this, an event ID is stored once, whatever they say.
    pub said_counts_from: UnixMicros,
    /// Keys of dimension rows that belong to other content, each with the index of its table.
    pub refused_keys: HashSet<(usize, i64)>,
}

/// What is known of the batch's pairs of subject and creative and, once it is committed, what it
/// added.
#[derive(Debug, Default)]
pub(crate) struct Exposures {
    pub(crate) earlier: EarlierPairs,
    pub(crate) added: PairTotals,
}

impl Load {
    /// Makes an empty batch whose rows point to these dimensions, in the order of their keys.
    #[must_use]
    pub fn new(dimensions: &'static [&'static str], keyer: Arc<Keyer>) -> Load {
        Load {
            spools: Vec::new(),
            follows: None,
            read_at: UnixMicros::default(),
            keyer,
            rows: Rows::default(),
            known: Known::default(),
            dimensions: dimension::Dimensions::new(dimensions),
            names: NewNames::default(),
            counts: Counts::default(),
            links: Vec::new(),
            mentions: Vec::new(),
            exposures: Exposures::default(),
            identity: Part::default(),
            sightings: SightingPart::default(),
            profiles: ProfilePart::default(),
            attributes: AttributePart::default(),
            rejected: Vec::new(),
            by_kafka: None,
        }
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.spools.clear();
        self.rows.bytes.clear();
        self.rows.marks.clear();
        self.dimensions.clear();
        self.names.clear();
        self.counts.0.clear();
        self.links.clear();
        self.mentions.clear();
        self.exposures = Exposures::default();
        self.identity.clear();
        self.sightings.clear();
        self.profiles.clear();
        self.attributes.clear();
        self.rejected.clear();
        self.by_kafka = None;
    }

    /// Looks up what is known of its pairs of subject and creative ([`exposure`]), over a
    /// connection other than that of the batch before.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn look_up(&mut self, client: &Client) -> Result<(), Error> {
        let marks = self.rows.marks.iter();
        let contacts = marks.filter_map(|mark| mark.contact.as_ref());
        let spool_id = self.follows.unwrap_or_default();
        self.exposures.earlier = exposure::look_up(client, spool_id, contacts).await?;
        Ok(())
    }

    /// Takes over what the batch before it, which is committed, added to its pairs.
    pub fn follow(&mut self, before: &Load) {
        let added = &before.exposures.added;
        let mut spools = before.spools.iter();
        if let Some(span) = spools.find(|span| Some(span.spool_id) == self.follows) {
            self.exposures.earlier.complete(added, span.to.position);
        }
    }

    /// Flags the rows whose time may be wrong, as Postgres's clock shows `now` and the collector's
    /// showed `read_at` when they were read:
    ///
    /// | time of the row | because |
    /// | --- | --- |
    /// | before 2026 | there was no collector |
    /// | more than an hour after `now` | it has not come |
    /// | up to `read_at`, where that is more than an hour before `now` | the clock is slow, and stamped it |
    /// | any, while Postgres's clock is in doubt | perhaps all clocks are wrong |
    ///
    /// The row keeps its time. What is derived from it goes by the right one, where that is known.
    /// Returns the days that these rows bear, and what is derived from them.
    pub(crate) fn flag_wrong_clock(&mut self, now: PostgresNow) -> Vec<i32> {
        let latest = now.at.0.saturating_add(DIFFERENCE_MAX_MICROS);
        let behind = now.at.0.saturating_sub(self.read_at.0);
        let is_slow = behind > DIFFERENCE_MAX_MICROS;
        let first = if is_slow {
            self.read_at.max(FIRST_HIT)
        } else {
            FIRST_HIT
        };
        let right = first.0..=latest;
        let Rows { bytes, marks } = &mut self.rows;
        let mut days = BTreeSet::new();
        let mut corrected = HashMap::new();
        for mark in marks {
            let is_right = right.contains(&mark.received_at.0);
            if is_right && !now.is_in_doubt {
                continue;
            }
            set_flags(bytes, mark, Flags::WRONG_CLOCK);
            days.insert(day(mark.received_at));
            if !is_right {
                let at = mark.received_at.0.saturating_add(behind);
                let is_sound = (FIRST_HIT.0..=latest).contains(&at);
                let at = if is_sound { UnixMicros(at) } else { now.at };
                if let Some(contact) = &mut mark.contact {
                    contact.at = at;
                }
                corrected.insert(mark.row.start, at);
            }
        }
        if now.is_in_doubt || !days.is_empty() {
            days.insert(day(now.at));
            let mut events = self.rows.marks.iter().filter_map(|mark| mark.event);
            if events.any(|event| event.is_timed) {
                days.insert(day(now.at).saturating_add(TIMED_KEY_LATER_DAYS));
            }
        }
        let links = self.links.iter_mut().filter(|_| !corrected.is_empty());
        for (start, link) in links {
            if let Some(at) = corrected.get(start) {
                link.at = *at;
            }
        }
        days.into_iter().collect()
    }

    /// Makes dimensions unknown whose keys belong to other content.
    pub(crate) fn forget_refused_keys(&mut self) {
        let refused = self.known.refused_keys.iter();
        let unknown: HashMap<TableKey, i64> = refused.map(|key| (*key, UNKNOWN_KEY)).collect();
        self.replace_keys(&unknown, Flags::default());
    }

    /// Points what points to a row of a dimension to another one, and flags the hits. What has no
    /// ad has no exposure.
    pub(crate) fn replace_keys(&mut self, replaced: &HashMap<TableKey, i64>, flags: Flags) {
        if replaced.is_empty() {
            return;
        }
        let tables = self.dimensions.tables();
        self.profiles.replace_keys(tables, replaced);
        let replace = |name: &str, key: i64| {
            let table = tables.iter().position(|table| *table == name);
            let other = table.and_then(|table| replaced.get(&(table, key)));
            other.copied().unwrap_or(key)
        };
        let Rows { bytes, marks } = &mut self.rows;
        for mark in marks {
            let row = bytes.get_mut(mark.row.clone()).unwrap_or_default();
            let mut is_replaced = false;
            for table in 0..tables.len() {
                let place = copy::place_of_key(row, table);
                let place = place.and_then(|place| row.get_mut(place)?.first_chunk_mut());
                let Some(place): Option<&mut [u8; 8]> = place else {
                    continue;
                };
                if let Some(other) = replaced.get(&(table, i64::from_be_bytes(*place))) {
                    *place = other.to_be_bytes();
                    is_replaced = true;
                }
            }
            if let Some(contact) = &mut mark.contact {
                let other = replace("ad", contact.creative_key);
                is_replaced |= other != contact.creative_key;
                contact.creative_key = other;
            }
            mark.contact = mark
                .contact
                .filter(|contact| contact.creative_key != UNKNOWN_KEY);
            if is_replaced {
                set_flags(bytes, mark, flags);
            }
        }
        for (mut count, hits) in std::mem::take(&mut self.counts.0) {
            count.site_key = replace("site", count.site_key);
            count.ad_key = replace("ad", count.ad_key);
            *self.counts.0.entry(count).or_default() += hits;
        }
    }

    /// Rejects the rows of days that have no partition.
    pub(crate) fn reject_days(&mut self, days: &[i32]) {
        if days.is_empty() {
            return;
        }
        let rejected = &mut self.rejected;
        self.rows.marks.retain(|mark| {
            let is_refused = days.contains(&day(mark.received_at));
            if is_refused {
                rejected.push(Rejected {
                    record: mark.record.clone(),
                    reason: "received_at is far away, and so are too many other days".to_owned(),
                });
            }
            !is_refused
        });
    }

    /// Adds the partner's ID that the row pushed last brings: if the row is left out, so is the
    /// link.
    pub fn link(&mut self, link: Link) {
        if let Some(mark) = self.rows.marks.last() {
            self.links.push((mark.row.start, link));
        }
    }

    /// Returns the byte at which the row pushed last begins.
    #[must_use]
    pub(crate) fn last_start(&self) -> Option<usize> {
        self.rows.marks.last().map(|mark| mark.row.start)
    }

    /// Adds a tie that the row pushed last makes; `forget` is told if it is not stored.
    pub fn tie(&mut self, forget: u64, tie: Tie<'static>) {
        if let Some(mark) = self.rows.marks.last() {
            self.identity.tie(mark.row.start, forget, tie);
        }
    }

    /// Adds a sighting of an epoch that the row pushed last makes, with the hit's permit; `forget`
    /// is told if it is not stored.
    pub fn sighting(&mut self, forget: u64, sighting: Sighting, of: (i32, Permit)) {
        if let Some(mark) = self.rows.marks.last() {
            self.sightings.push((mark.row.start, forget), sighting, of);
        }
    }

    /// Adds what the row pushed last says of its subject.
    pub(crate) fn profile_fact(&mut self, fact: &ProfileFact<'_>) {
        if let Some(mark) = self.rows.marks.last() {
            self.profiles.push(mark.row.start, fact);
        }
    }

    /// Adds the attributes that the row pushed last says of its subject, of an import by number.
    pub fn attributes(&mut self, import: i32, row: CheckedRow) {
        if let Some(mark) = self.rows.marks.last() {
            self.attributes.push(mark.row.start, import, row);
        }
    }

    /// Adds what the row pushed last says of a click.
    pub fn mention(&mut self, mention: ClickMention) {
        if let Some(mark) = self.rows.marks.last() {
            self.mentions.push((mark.row.start, mention));
        }
    }
}

/// What a batch has of one spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolSpan {
    /// The spool.
    pub spool_id: [u8; 16],
    /// The position that the batch was read from; `None` where
    /// [`position::read`](super::position::read) found none.
    pub from: Option<ChunkOffset>,
    /// How far the spool is loaded with the batch.
    pub to: SpoolPosition,
}

impl SpoolSpan {
    /// Returns whether the position moves.
    pub(crate) fn moves(&self) -> bool {
        self.from.unwrap_or_default() != self.to.position
    }
}

/// The payloads of a batch, in which the records' ranges lie.
#[derive(Clone, Copy)]
pub struct Payloads<'a> {
    /// All of them.
    pub bytes: &'a [u8],
    /// Returns what may be stored of a payload. The spool's record holds the whole IP address, of
    /// which Postgres gets only what `privacy.client_ip` says.
    pub keep: &'a (dyn Fn(&[u8]) -> Vec<u8> + Sync),
}

impl<'a> Payloads<'a> {
    /// Returns the payload of a record.
    pub(crate) fn of(&self, record: &Record) -> &'a [u8] {
        self.bytes.get(record.payload.clone()).unwrap_or_default()
    }
}

/// Where to find the record of a hit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its spool, among those of the batch.
    pub spool: usize,
    /// Its place in the spool.
    pub position: ChunkOffset,
    /// Its payload, among the payloads of the batch.
    pub payload: Range<usize>,
}

/// A record that does not become a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The record.
    pub record: Record,
    /// Why.
    pub reason: String,
}

/// Rows, one after the other.
#[derive(Debug, Default)]
pub struct Rows {
    pub(crate) bytes: Vec<u8>,
    pub(crate) marks: Vec<Mark>,
}

/// What the transaction must know of an encoded row.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// Its bytes.
    pub(crate) row: Range<usize>,
    /// Rows with similar IDs have similar numbers.
    pub(crate) neighbourhood: u64,
    /// When its hit was received, by the collector's clock.
    pub(crate) received_at: UnixMicros,
    /// When it happened, where its sender says so.
    pub(crate) occurred_at: Option<UnixMicros>,
    /// See [`event_key`](crate::row::event_key); `None` where the sender gave no event ID.
    pub(crate) event: Option<EventKey>,
    /// Its kind.
    pub(crate) kind: Kind,
    /// Flags of the hit that decide what its event ID does.
    pub(crate) flags: Flags,
    /// Who sent it.
    pub(crate) class: SenderClass,
    /// What it is to a creative; such a row has an exposure number.
    pub(crate) contact: Option<AdContact>,
    /// The record that it was made from.
    pub(crate) record: Record,
}

impl Rows {
    /// Encodes a row.
    ///
    /// # Errors
    /// The reason to reject the record, for what Postgres would refuse and is cheap to see here,
    /// without a round of bisecting.
    pub fn push(
        &mut self,
        row: &Row<'_>,
        event: Option<EventKey>,
        contact: Option<AdContact>,
        record: &Record,
    ) -> Result<(), &'static str> {
        if !RECEIVED_AT.contains(&row.received_at.0) {
            return Err("received_at lies before 1970 or after 9999");
        }
        if row.texts().iter().any(|text| text.as_bytes().contains(&0)) {
            return Err("a text holds NUL, which Postgres cannot store");
        }
        let start = self.bytes.len();
        copy::encode(row, contact.is_some(), &mut self.bytes);
        self.marks.push(Mark {
            row: start..self.bytes.len(),
            neighbourhood: neighbourhood(row),
            received_at: row.received_at,
            occurred_at: row.occurred_at,
            event,
            kind: row.kind,
            flags: row.flags,
            class: SenderClass::of(row.kind, row.flags),
            contact,
            record: record.clone(),
        });
        Ok(())
    }

    /// Returns the record of each row.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.marks.iter().map(|mark| &mark.record)
    }

    /// Returns the flags of each row.
    pub fn flags(&self) -> impl Iterator<Item = Flags> {
        self.marks.iter().filter_map(|mark| self.flags_of(mark))
    }

    /// Returns what tells the flags of the row that begins at a byte, if it is left. It is asked
    /// for one row after the other, in their order, so that each mark is passed once.
    pub(crate) fn flags_in_order(&self) -> impl FnMut(usize) -> Option<Flags> {
        let mut marks = self.marks.iter().peekable();
        let mut last = 0;
        move |start| {
            debug_assert!(last <= start, "{start} after {last}");
            last = start;
            while marks.next_if(|mark| mark.row.start < start).is_some() {}
            let mark = marks.peek().filter(|mark| mark.row.start == start)?;
            self.flags_of(mark)
        }
    }

    /// Returns the rows that are left, encoded, each with the byte at which it begins, in the order
    /// in which they were pushed.
    pub(crate) fn each(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let row = move |mark: &Mark| Some((mark.row.start, self.bytes.get(mark.row.clone())?));
        self.marks.iter().filter_map(row)
    }

    /// Returns the flags of an encoded row.
    pub(crate) fn flags_in(row: &[u8]) -> Flags {
        let flags = row.get(copy::FLAGS_OFFSET..).and_then(<[u8]>::first_chunk);
        Flags::from_bits(flags.map_or(0, |flags| u32::from_be_bytes(*flags)))
    }

    fn flags_of(&self, mark: &Mark) -> Option<Flags> {
        Some(Rows::flags_in(self.bytes.get(mark.row.clone())?))
    }
}

/// Returns when a hit was received by the clock of Postgres, as [`Load::flag_wrong_clock`] corrects
/// it, and never later than `now`.
pub(crate) fn right_time(at: UnixMicros, now: PostgresNow, read_at: UnixMicros) -> UnixMicros {
    let behind = now.at.0.saturating_sub(read_at.0);
    let right = match behind > DIFFERENCE_MAX_MICROS {
        true => UnixMicros(at.0.saturating_add(behind)),
        false => at,
    };
    match right < FIRST_HIT {
        true => now.at,
        false => right.min(now.at),
    }
}

/// Returns the first bytes of the ID by which the row is found: the visitor's or, without one, the
/// partner's or the device's.
fn neighbourhood(row: &Row<'_>) -> u64 {
    let id = match &row.visitor_id {
        Some(visitor) => &visitor.0[..],
        None if !row.partner_uid.is_empty() => row.partner_uid.as_bytes(),
        None => row.maid.as_bytes(),
    };
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(id) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}

/// Sets flags in an encoded row.
pub(crate) fn set_flags(bytes: &mut [u8], mark: &Mark, set: Flags) {
    write_flags(bytes, mark, Flags::default(), set);
}

/// Writes the exposure of an encoded row into it. A second call overwrites what the first wrote.
pub(crate) fn write_exposure(bytes: &mut [u8], mark: &Mark, exposure: Exposure) {
    let earned = Flags::NO_IMPRESSION.with(Flags::FAST_CLICK);
    write_flags(bytes, mark, earned, exposure.flags);
    if let Some(number) = int_at(bytes, mark, copy::EXPOSURE_NUMBER_OFFSET) {
        *number = exposure.number.to_be_bytes();
    }
}

fn write_flags(bytes: &mut [u8], mark: &Mark, clear: Flags, set: Flags) {
    if let Some(flags) = int_at(bytes, mark, copy::FLAGS_OFFSET) {
        let others = u32::from_be_bytes(*flags) & !clear.bits();
        *flags = (others | set.bits()).to_be_bytes();
    }
}

fn int_at<'b>(bytes: &'b mut [u8], mark: &Mark, offset: usize) -> Option<&'b mut [u8; 4]> {
    let row = bytes.get_mut(mark.row.clone())?;
    row.get_mut(offset..)?.first_chunk_mut()
}

/// Returns the UTC day since 1970. [`RECEIVED_AT`] fits an i32 many times over.
pub(crate) fn day(at: UnixMicros) -> i32 {
    i32::try_from(at.day()).unwrap_or(i32::MAX)
}
