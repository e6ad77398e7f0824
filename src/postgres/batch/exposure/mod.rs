//! Who saw which creative, and how often: told to each hit as it was when it was loaded, and kept.
//!
//! A subject is the visitor; without one a hash of the mobile advertising ID, else of the partner's ID
//! ([`Subject::key`]). A batch comes down to its distinct pairs of subject and creative, and goes three steps:
//!
//! | step | on which connection |
//! | --- | --- |
//! | [`look_up`] what is known of its pairs, while the batch before it is still being loaded | another |
//! | number its hits, and keep what it adds as one row of `exposure_part`, in its transaction | the loader's |
//! | [`add_up`] that row into `exposure`, a row a pair | another |
//!
//! What the batch before it adds is in memory, for where it was not yet committed when its pairs were looked up. Two
//! collectors that load hits of the same pair at the same moment may give out a number twice; the sums are right.
//!
//! A row of `exposure` lies on a page of its own: to find one of 5 million takes 5 µs of CPU time and to add to it 7.5, as
//! much as the rest of a hit takes to load, and twice that where the buffers are small. On a connection of its own it
//! takes another core (docs/performance.md).

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Transaction};

use super::position::Position;
use crate::clock::UnixMicros;
use crate::hit::subject::Subject;
use crate::hit::{Flags, Hit, Kind};
use crate::postgres::timestamp::Timestamp;
use uuid::Uuid;

/// A click so soon after its impression is no person's: nobody sees and decides faster.
pub const FAST_CLICK: Duration = Duration::from_millis(100);

/// An impression or a click of somebody on a creative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whose.
    pub subject: [u8; 16],
    /// The row of `ad` that has the partner, campaign and creative alone.
    pub creative_key: i64,
    /// When it was received.
    pub at: UnixMicros,
    /// Which of the two.
    pub act: Act,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It was shown.
    Impression,
    /// It was clicked. The flags are those that the click may get.
    Click(Flags),
}

/// What is known of a pair when one of its hits has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Impressions so far, an impression itself included.
    pub number: i32,
    /// Of [`Flags::NO_IMPRESSION`] and [`Flags::FAST_CLICK`] those that the hit has earned.
    pub flags: Flags,
}

impl Seen {
    /// What a hit, which may be stored, is to a creative. `None` where it counts nowhere, shows nothing, or
    /// is nobody's.
    ///
    /// A click whose cookie belongs to one embedding site cannot be expected to know of impressions
    /// elsewhere, and a network that reports clicks tells neither when nor by whom impressions were: those
    /// get no flag.
    #[must_use]
    pub fn of(hit: &Hit<'_>, creative_key: i64) -> Option<Seen> {
        let act = match (hit.kind, &*hit.event_name) {
            (Kind::Impression, _) | (Kind::Callback, "impression") => Act::Impression,
            (Kind::Click, _) if hit.flags.has(Flags::THIRD_PARTY) => Act::Click(Flags::FAST_CLICK),
            (Kind::Click, _) => Act::Click(Flags::FAST_CLICK.with(Flags::NO_IMPRESSION)),
            (Kind::Callback, "click") => Act::Click(Flags::default()),
            _ => return None,
        };
        if hit.flags.has_any(Flags::UNCOUNTED) {
            return None;
        }
        let subject = match (hit.visitor, &*hit.maid, &*hit.partner_uid) {
            (Some(visitor), _, _) => visitor.0,
            (None, "", "") => return None,
            (None, "", uid) => {
                let partner = &*hit.partner;
                Subject::PartnerUid { partner, uid }.key()
            }
            (None, maid, _) => Subject::Maid(maid).key(),
        };
        Some(Seen {
            subject,
            creative_key,
            at: hit.received_at,
            act,
        })
    }
}

type Key = ([u8; 16], i64);

/// What a batch adds to a pair.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    impressions: i32,
    clicks: i32,
    /// Of the impressions; where there are none, of the clicks.
    first_at: UnixMicros,
    last_at: UnixMicros,
}

impl Part {
    fn add(&mut self, seen: &Seen) {
        let is_first = match seen.act {
            Act::Impression => self.impressions == 0,
            Act::Click(_) => self.impressions + self.clicks == 0,
        };
        if is_first {
            (self.first_at, self.last_at) = (seen.at, seen.at);
        } else if seen.act == Act::Impression || self.impressions == 0 {
            self.first_at = self.first_at.min(seen.at);
            self.last_at = self.last_at.max(seen.at);
        }
        match seen.act {
            Act::Impression => self.impressions += 1,
            Act::Click(_) => self.clicks += 1,
        }
    }
}

/// What a batch adds.
#[derive(Debug, Default)]
pub(crate) struct Parts(HashMap<Key, Part>);

/// The impressions of a pair.
#[derive(Clone, Copy, Debug, Default)]
struct Impressions {
    number: i32,
    last_at: Option<UnixMicros>,
}

impl Impressions {
    fn add(&mut self, number: i32, last_at: UnixMicros) {
        self.number = self.number.saturating_add(number);
        self.last_at = self.last_at.max(Some(last_at));
    }

    /// Counts one hit; what it then is.
    fn next(&mut self, seen: &Seen) -> Exposure {
        let mut flags = Flags::default();
        match seen.act {
            Act::Impression => self.add(1, seen.at),
            Act::Click(may) => {
                let since = |last: UnixMicros| seen.at.0.checked_sub(last.0);
                let since = self.last_at.and_then(since);
                let fast = 0..i64::try_from(FAST_CLICK.as_micros()).unwrap_or(i64::MAX);
                if self.number == 0 {
                    flags = Flags::NO_IMPRESSION.and(may);
                } else if since.is_some_and(|since| fast.contains(&since)) {
                    flags = Flags::FAST_CLICK.and(may);
                }
            }
        }
        Exposure {
            number: self.number,
            flags,
        }
    }
}

/// What is known of a batch's pairs before it: those that had an impression.
#[derive(Debug, Default)]
pub struct Known {
    pairs: HashMap<Key, Impressions>,
    /// How far the spool was loaded when they were looked up.
    position: Option<Position>,
}

impl Known {
    /// Adds what the batch before this one, which ends at `to`, added, unless that was looked up as well.
    pub(crate) fn complete(&mut self, parts: &Parts, to: Position) {
        if self.position >= Some(to) {
            return;
        }
        for (key, part) in parts.0.iter().filter(|(_, part)| part.impressions > 0) {
            let pair = self.pairs.entry(*key).or_default();
            pair.add(part.impressions, part.last_at);
        }
    }

    /// Numbers the hits of a batch, which come in their order; what each then is, and what they add.
    pub(crate) fn number(&self, seen: &[Seen]) -> (Vec<Exposure>, Parts) {
        let mut pairs: HashMap<Key, (Impressions, Part)> = HashMap::new();
        let next = |one: &Seen| {
            let key = (one.subject, one.creative_key);
            let known = || self.pairs.get(&key).copied().unwrap_or_default();
            let (impressions, part) = pairs
                .entry(key)
                .or_insert_with(|| (known(), Part::default()));
            part.add(one);
            impressions.next(one)
        };
        let exposures = seen.iter().map(next).collect();
        let parts = pairs.into_iter().map(|(key, (_, part))| (key, part));
        (exposures, Parts(parts.collect()))
    }
}

/// Joins of so many pairs are to hash them, in memory. Adding up moves what is durable already, so a crash may undo the last
/// of it: it need not wait for the disk.
const SESSION: &str =
    "set enable_nestloop = off; set jit = off; set work_mem = '32MB'; set synchronous_commit = off";

/// The first change of a page behind a checkpoint puts the whole page into the WAL, and here nearly each pair is on a page
/// of its own: that is more WAL than the hits themselves take, and most of what adding up costs.
const COMPRESSION: &str = "set wal_compression = lz4";

/// Sets a connection up that looks up and adds up.
///
/// # Errors
/// Where Postgres fails.
pub async fn set_up(client: &Client) -> Result<(), Error> {
    client.batch_execute(SESSION).await?;
    // Not every role may set it, and not every server knows it: those go without.
    match client.batch_execute(COMPRESSION).await {
        Err(error) if error.as_db_error().is_none() => Err(error),
        _ => Ok(()),
    }
}

/// What is known of the pairs of these hits of a spool.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn look_up(
    client: &Client,
    spool_id: [u8; 16],
    seen: impl Iterator<Item = &Seen>,
) -> Result<Known, Error> {
    let mut keys: Vec<Key> = seen.map(|one| (one.subject, one.creative_key)).collect();
    if keys.is_empty() {
        return Ok(Known::default());
    }
    // Neighbours lie on the same pages of the index.
    keys.sort_unstable();
    keys.dedup();
    let subjects: Vec<Uuid> = keys
        .iter()
        .map(|(subject, _)| Uuid::from_bytes(*subject))
        .collect();
    let creatives: Vec<i64> = keys.iter().map(|(_, creative)| *creative).collect();
    let rows = client
        .query_typed(
            include_str!("look_up.sql"),
            &[
                (&subjects, Type::UUID_ARRAY),
                (&creatives, Type::INT8_ARRAY),
                (&Uuid::from_bytes(spool_id), Type::UUID),
            ],
        )
        .await?;
    let mut known = Known::default();
    for row in rows {
        let subjects: Option<Vec<Uuid>> = row.try_get(0)?;
        let creatives: Option<Vec<i64>> = row.try_get(1)?;
        let numbers: Option<Vec<i32>> = row.try_get(2)?;
        let last_at: Option<Vec<Timestamp>> = row.try_get(3)?;
        let keys = subjects.into_iter().flatten().map(Uuid::into_bytes);
        let keys = keys.zip(creatives.into_iter().flatten());
        let impressions = numbers.into_iter().flatten();
        let impressions = impressions.zip(last_at.into_iter().flatten());
        for (key, (number, last_at)) in keys.zip(impressions) {
            let pair: &mut Impressions = known.pairs.entry(key).or_default();
            pair.add(number, last_at.0);
        }
        let [chunk, offset]: [Option<i64>; 2] = [row.try_get(4)?, row.try_get(5)?];
        known.position = chunk
            .zip(offset)
            .map(|(chunk, offset)| (chunk.cast_unsigned(), offset.cast_unsigned()));
    }
    Ok(known)
}

/// Keeps what a batch adds.
pub(crate) async fn keep(transaction: &Transaction<'_>, parts: &Parts) -> Result<(), Error> {
    if parts.0.is_empty() {
        return Ok(());
    }
    let mut parts: Vec<(&Key, &Part)> = parts.0.iter().collect();
    parts.sort_unstable_by_key(|(key, _)| **key);
    let keys = || parts.iter().map(|(key, _)| **key);
    let values = || parts.iter().map(|(_, part)| **part);
    let subjects: Vec<Uuid> = keys()
        .map(|(subject, _)| Uuid::from_bytes(subject))
        .collect();
    let creatives: Vec<i64> = keys().map(|(_, creative)| creative).collect();
    let first_at: Vec<Timestamp> = values().map(|part| Timestamp(part.first_at)).collect();
    let last_at: Vec<Timestamp> = values().map(|part| Timestamp(part.last_at)).collect();
    let impressions: Vec<i32> = values().map(|part| part.impressions).collect();
    let clicks: Vec<i32> = values().map(|part| part.clicks).collect();
    transaction
        .execute_typed(
            "insert into avtryck.exposure_part values ($1, $2, $3, $4, $5, $6)",
            &[
                (&subjects, Type::UUID_ARRAY),
                (&creatives, Type::INT8_ARRAY),
                (&first_at, Type::TIMESTAMPTZ_ARRAY),
                (&last_at, Type::TIMESTAMPTZ_ARRAY),
                (&impressions, Type::INT4_ARRAY),
                (&clicks, Type::INT4_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

/// Adds what batches have kept to `exposure`, whichever collector loaded them.
///
/// # Errors
/// Where Postgres fails.
pub async fn add_up(client: &Client) -> Result<(), Error> {
    client.execute(include_str!("add_up.sql"), &[]).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
