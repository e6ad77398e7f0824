//! A batch on its way to Postgres: its rows, encoded as COPY takes them, and beside them what the
//! transaction must know of each.
//!
//! It owns all that it holds, for one thread fills it while another commits the batch before it. Once
//! encoded, a row is a range of bytes and a [`Mark`]: to leave it out is to drop its mark, and to
//! bisect is to halve a list of marks. What the transaction alone can tell of a row is written into
//! the bytes, at one of the constant offsets of [`copy`].

use std::collections::HashMap;
use std::ops::Range;

use bytes::BytesMut;
use tokio_postgres::{Client, Error};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::copy;
use super::dimension::Dimensions;
use super::exposure::{self, Exposure, Known, Parts, Seen};
use super::partner_id::Link;
use super::position::{Position, Progress};
use crate::clock::UnixMicros;
use crate::hit::{Flags, Kind};
use crate::row::Row;

/// The first and the last time (excluded) that a row may have: 2000-01-01 and 2200-01-01. A clock
/// that far off would make partitions without end.
const RECEIVED_AT: Range<i64> = 946_684_800_000_000..7_258_118_400_000_000;

/// Bits of an event key that are of its hash, where its time stands before them.
const HASH_BITS: u32 = 80;
/// Digits of a time in milliseconds, until the year 2286.
const MILLIS_DIGITS: usize = 13;

/// One batch. [`Load::clear`] empties it for the next and keeps its buffers.
#[derive(Debug, Default)]
pub struct Load {
    /// The spool.
    pub spool_id: [u8; 16],
    /// The position that the batch was read from; `None` where
    /// [`position::read`](super::position::read) found none.
    pub from: Option<Position>,
    /// How far the spool is loaded with the batch.
    pub to: Progress,
    /// The rows.
    pub rows: Rows,
    /// Dimension rows that may be new.
    pub dimensions: Dimensions,
    /// Hits without the permit to measure.
    pub counts: Counts,
    /// Partners' IDs that rows bring, each with where its row begins.
    pub(crate) links: Vec<(usize, Link)>,
    /// Who has seen what.
    pub(crate) exposures: Exposures,
    /// What the loader itself rejected.
    pub rejected: Vec<Rejected>,
}

/// What is known of the batch's pairs of subject and creative, and, once it is committed, what it added.
#[derive(Debug, Default)]
pub(crate) struct Exposures {
    pub(crate) known: Known,
    pub(crate) added: Parts,
}

impl Load {
    /// Empties it.
    pub fn clear(&mut self) {
        self.rows.bytes.clear();
        self.rows.marks.clear();
        self.dimensions = Dimensions::default();
        self.counts.0.clear();
        self.links.clear();
        self.exposures = Exposures::default();
        self.rejected.clear();
    }

    /// Looks up what is known of its pairs of subject and creative ([`exposure`]), over a
    /// connection other than that of the batch before.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub async fn look_up(&mut self, client: &Client) -> Result<(), Error> {
        let seen = self.rows.marks.iter().filter_map(|mark| mark.seen.as_ref());
        self.exposures.known = exposure::look_up(client, self.spool_id, seen).await?;
        Ok(())
    }

    /// Takes over what the batch before it, which is committed, added to its pairs.
    pub fn follow(&mut self, before: &Load) {
        let exposures = &mut self.exposures;
        exposures
            .known
            .complete(&before.exposures.added, before.to.position);
    }
}

impl Load {
    /// Adds the partner's ID that the row pushed last brings: if the row is left out, so is the link.
    pub fn link(&mut self, link: Link) {
        if let Some(mark) = self.rows.marks.last() {
            self.links.push((mark.row.start, link));
        }
    }
}

/// Where a hit's record is to be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its place in the spool.
    pub position: Position,
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

/// Rows, one behind the other.
#[derive(Debug, Default)]
pub struct Rows {
    pub(crate) bytes: BytesMut,
    pub(crate) marks: Vec<Mark>,
}

/// What the transaction must know of an encoded row.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// Its bytes.
    pub(crate) row: Range<usize>,
    /// The UTC day of its partition, since 1970.
    pub(crate) day: i32,
    /// See [`event_key`]; `None` where the sender gave no event ID.
    pub(crate) event_key: Option<[u8; 16]>,
    /// Whether a repeated event ID makes it a replay, which is stored, and nothing to be left out.
    pub(crate) is_one_time: bool,
    /// What it is to a creative; such a row has an exposure number.
    pub(crate) seen: Option<Seen>,
    /// The record that it was made of.
    pub(crate) record: Record,
}

impl Rows {
    /// Encodes a row.
    ///
    /// # Errors
    /// What Postgres would refuse and is cheap to see here, without a round of bisecting: the reason to
    /// reject the record with.
    pub fn push(
        &mut self,
        row: &Row<'_>,
        event_key: Option<[u8; 16]>,
        seen: Option<Seen>,
        record: &Record,
    ) -> Result<(), &'static str> {
        if !RECEIVED_AT.contains(&row.received_at.0) {
            return Err("received_at lies before 2000 or after 2199");
        }
        if row.texts().iter().any(|text| text.as_bytes().contains(&0)) {
            return Err("a text holds NUL, which Postgres cannot store");
        }
        let start = self.bytes.len();
        copy::encode(row, seen.is_some(), &mut self.bytes);
        self.marks.push(Mark {
            row: start..self.bytes.len(),
            day: day(row.received_at),
            event_key,
            is_one_time: row.flags.has(Flags::ONE_TIME),
            seen,
            record: record.clone(),
        });
        Ok(())
    }
}

impl Rows {
    /// The flags of each row.
    pub fn flags(&self) -> impl Iterator<Item = Flags> {
        let bytes = self.marks.iter().map(|mark| {
            let row = self.bytes.get(mark.row.clone())?;
            row.get(copy::FLAGS_OFFSET..)?.first_chunk()
        });
        bytes
            .flatten()
            .map(|flags| Flags::from_bits(u32::from_be_bytes(*flags)))
    }
}

/// Sets flags in an encoded row.
pub(crate) fn set_flags(bytes: &mut [u8], mark: &Mark, set: Flags) {
    write_flags(bytes, mark, Flags::default(), set);
}

/// Writes into an encoded row what is known of its exposure. Written twice, the second holds.
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

/// The day since 1970, UTC. [`RECEIVED_AT`] fits an i32 many times over.
fn day(at: UnixMicros) -> i32 {
    i32::try_from(at.day()).unwrap_or(i32::MAX)
}

/// The key under which an event ID is known: the XXH3 128-bit hash of site, kind, partner and ID, begun with the time that
/// the ID begins with, if it does. So the keys of one moment lie beside each other in the index, where others each take a page
/// of their own.
#[must_use]
pub fn event_key(site: &str, kind: Kind, partner: &str, event_id: &str) -> [u8; 16] {
    let mut hash = Xxh3::new();
    for text in [site, partner, event_id] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(&[kind.number()]);
    let hash = hash.digest128();
    let key = match time_of(event_id) {
        Some(millis) => u128::from(millis) << HASH_BITS | hash & ((1 << HASH_BITS) - 1),
        None => hash,
    };
    key.to_be_bytes()
}

/// The milliseconds since 1970 that an event ID begins with: a UUID of version 7 (RFC 9562, section 5.7), or thirteen digits as
/// `Date.now()` gives them.
fn time_of(event_id: &str) -> Option<u64> {
    if let Ok(uuid) = Uuid::try_parse(event_id) {
        let [a, b, c, d, e, f, ..] = *uuid.as_bytes();
        return (uuid.get_version_num() == 7).then(|| u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
    }
    let digits = event_id.get(..MILLIS_DIGITS)?;
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then(|| digits.parse().ok()).flatten()
}

/// Hits of one minute and kind, on one site, for one ad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Count {
    /// Minutes since 1970.
    pub minute: i64,
    /// Key of the site.
    pub site_key: i64,
    /// Key of the ad, 0 for none.
    pub ad_key: i64,
    /// Kind of the hits.
    pub kind: Kind,
}

/// How many hits there are of each [`Count`].
#[derive(Debug, Default)]
pub struct Counts(pub(crate) HashMap<Count, i64>);

impl Counts {
    /// Counts one hit.
    pub fn add(&mut self, count: Count) {
        *self.0.entry(count).or_default() += 1;
    }
}
