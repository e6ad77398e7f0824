//! Who saw which creative, and how often: kept up in the transaction that loads the hits.
//!
//! A subject is the visitor; without one a hash of the mobile advertising ID, else of the partner's ID
//! ([`Subject::key`]). A batch comes down to its distinct pairs of subject and creative, and one upsert
//! of these, in the order of their keys: loaders wait for each other instead of deadlocking. What it gives
//! back and the order of the hits tell each hit's number as it was at that time.
//!
//! It is the dearest step of the transaction: 14 µs a pair in a table of 5 million, each row of which is on a
//! page of its own (docs/performance.md).
//!
//! Where a click comes before the first impression of its pair in the batch, it is to be judged by the
//! impression before the batch, whose time the batch's own would overwrite: such a pair's first clicks
//! go in first, and the rest of it by a second upsert.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};

use super::timestamp::Timestamp;
use super::uuid::Uuid;
use crate::clock::UnixMicros;
use crate::hit::{Flags, Hit, Kind};
use crate::subject::Subject;

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

/// What one upsert adds to a pair.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    impressions: i32,
    clicks: i32,
    /// Of the impressions; where there are none, of the clicks.
    first_at: UnixMicros,
    last_at: UnixMicros,
}

impl Part {
    fn is_empty(&self) -> bool {
        self.impressions + self.clicks == 0
    }

    fn add(&mut self, seen: &Seen) {
        match seen.act {
            Act::Impression if self.impressions == 0 => {
                (self.first_at, self.last_at) = (seen.at, seen.at);
            }
            Act::Click(_) if self.is_empty() => {
                (self.first_at, self.last_at) = (seen.at, seen.at);
            }
            Act::Click(_) if self.impressions > 0 => {}
            _ => {
                self.first_at = self.first_at.min(seen.at);
                self.last_at = self.last_at.max(seen.at);
            }
        }
        match seen.act {
            Act::Impression => self.impressions += 1,
            Act::Click(_) => self.clicks += 1,
        }
    }
}

/// A pair in the batch.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    first: Part,
    second: Part,
    /// Impressions so far: at first those before the batch.
    impressions: i32,
    last_impression_at: Option<UnixMicros>,
}

impl Pair {
    fn add(&mut self, seen: &Seen) {
        let clicks_first = self.first.impressions == 0 && self.first.clicks > 0;
        let goes_on = !self.second.is_empty() || (clicks_first && seen.act == Act::Impression);
        let part = if goes_on {
            &mut self.second
        } else {
            &mut self.first
        };
        part.add(seen);
    }

    /// Counts one hit after the other, once what was before is known.
    fn next(&mut self, seen: &Seen) -> Exposure {
        let mut flags = Flags::default();
        match seen.act {
            Act::Impression => {
                self.impressions = self.impressions.saturating_add(1);
                self.last_impression_at = self.last_impression_at.max(Some(seen.at));
            }
            Act::Click(may) => {
                let since = |last: UnixMicros| seen.at.0.checked_sub(last.0);
                let since = self.last_impression_at.and_then(since);
                let fast = 0..i64::try_from(FAST_CLICK.as_micros()).unwrap_or(i64::MAX);
                if self.impressions == 0 {
                    flags = Flags::NO_IMPRESSION.and(may);
                } else if since.is_some_and(|since| fast.contains(&since)) {
                    flags = Flags::FAST_CLICK.and(may);
                }
            }
        }
        Exposure {
            number: self.impressions,
            flags,
        }
    }
}

/// Counts the hits of a batch, which come in their order; what each then is.
pub(super) async fn count(
    transaction: &Transaction<'_>,
    seen: &[Seen],
) -> Result<Vec<Exposure>, Error> {
    let mut pairs: HashMap<Key, Pair> = HashMap::new();
    for one in seen {
        let pair = pairs.entry((one.subject, one.creative_key)).or_default();
        pair.add(one);
    }
    let mut keys: Vec<Key> = pairs.keys().copied().collect();
    keys.sort_unstable();
    upsert(transaction, &keys, &mut pairs, |pair| pair.first).await?;
    keys.retain(|key| pairs.get(key).is_some_and(|pair| !pair.second.is_empty()));
    if !keys.is_empty() {
        // What the first upsert told of these is what holds: they are only added to.
        let added = keys.iter().filter_map(|key| Some((*key, *pairs.get(key)?)));
        let mut added = added.collect();
        upsert(transaction, &keys, &mut added, |pair| pair.second).await?;
    }
    let next = |one: &Seen| {
        let pair = pairs.get_mut(&(one.subject, one.creative_key));
        pair.map_or_else(Exposure::default, |pair| pair.next(one))
    };
    Ok(seen.iter().map(next).collect())
}

/// Adds a part of each pair, and notes what was before it.
async fn upsert(
    transaction: &Transaction<'_>,
    keys: &[Key],
    pairs: &mut HashMap<Key, Pair>,
    part: impl Fn(&Pair) -> Part,
) -> Result<(), Error> {
    let parts = || keys.iter().filter_map(|key| pairs.get(key)).map(&part);
    let subjects: Vec<Uuid> = keys.iter().map(|(subject, _)| Uuid(*subject)).collect();
    let creatives: Vec<i64> = keys.iter().map(|(_, creative)| *creative).collect();
    let first_at: Vec<Timestamp> = parts().map(|part| Timestamp(part.first_at)).collect();
    let last_at: Vec<Timestamp> = parts().map(|part| Timestamp(part.last_at)).collect();
    let impressions: Vec<i32> = parts().map(|part| part.impressions).collect();
    let clicks: Vec<i32> = parts().map(|part| part.clicks).collect();
    let rows = transaction
        .query_typed(
            include_str!("exposure/upsert.sql"),
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
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let subjects: Vec<Uuid> = row.try_get(0)?;
    let creatives: Vec<i64> = row.try_get(1)?;
    let impressions: Vec<i32> = row.try_get(2)?;
    let last_at: Vec<Timestamp> = row.try_get(3)?;
    let known = subjects.iter().zip(creatives).zip(impressions).zip(last_at);
    for (((subject, creative), impressions), last_at) in known {
        let Some(pair) = pairs.get_mut(&(subject.0, creative)) else {
            continue;
        };
        let added = part(pair);
        pair.impressions = impressions.saturating_sub(added.impressions);
        // With no impression in the part the time is that of the last one before it.
        if added.impressions == 0 && pair.impressions > 0 {
            pair.last_impression_at = Some(last_at.0);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
