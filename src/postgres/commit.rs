//! Loads one batch: rows, dimensions, counts, rejected hits and the position of the spool, in one
//! transaction.
//!
//! | step | why there |
//! | --- | --- |
//! | the position moves from `from` to `to` | a second loader of the spool waits here, then finds it [`CommitError::Moved`] |
//! | partitions of the batch's days | under a lock, so retention cannot drop one before its rows come |
//! | dimensions | before the rows that point to them |
//! | event IDs | a hit whose ID is known is left out as repeated |
//! | rows by COPY | refused data is bisected by savepoints down to the bad rows |
//! | counts, rejected hits | what is known only now |
//!
//! Postgres refuses a row with an SQLSTATE of class 22 (data), 23 (constraint) or 54 (limit): that
//! row alone becomes a rejected hit. Any other error fails the whole transaction, and so does 22P04
//! (the table's columns are not those that this program writes): setting every hit aside for that
//! would be wrong.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Transaction};
use xxhash_rust::xxh3::Xxh3;

use super::dimension::{self, Dimensions};
use super::position::{self, Position};
use super::uuid::Uuid;
use super::{copy, partition};
use crate::clock::UnixMicros;
use crate::hit::Kind;
use crate::row::Row;

/// The first and the last time (excluded) that a row may have: 2000-01-01 and 2200-01-01. A clock
/// that far off would make partitions without end.
const RECEIVED_AT: Range<i64> = 946_684_800_000_000..7_258_118_400_000_000;

/// A row of the batch, and what is needed to set it aside.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The row.
    pub row: Row<'a>,
    /// See [`event_key`]; `None` where the sender gave no event ID.
    pub event_key: Option<[u8; 16]>,
    /// Where the record stands in the spool.
    pub position: Position,
    /// The record's payload.
    pub payload: &'a [u8],
}

/// Hits without the permit to measure, of one minute and kind, on one site, for one ad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Minutes since 1970.
    pub minute: i64,
    /// Key of the site.
    pub site_key: i64,
    /// Key of the ad, 0 for none.
    pub ad_key: i64,
    /// Kind of the hits.
    pub kind: Kind,
    /// How many.
    pub hits: i64,
}

/// A record that the loader could not make a row of.
#[derive(Clone, Debug)]
pub struct Rejected<'a> {
    /// Where the record stands in the spool.
    pub position: Position,
    /// Why.
    pub reason: Cow<'a, str>,
    /// The record's payload.
    pub payload: &'a [u8],
}

/// One batch.
pub struct Load<'a> {
    /// The spool.
    pub spool_id: [u8; 16],
    /// The position that the batch was read from; `None` where [`position::read`] found none.
    pub from: Option<Position>,
    /// How far the spool is loaded with the batch.
    pub to: position::Progress,
    /// The rows.
    pub entries: &'a [Entry<'a>],
    /// Dimension rows that may be new.
    pub dimensions: &'a Dimensions,
    /// Counts; the same key may come more than once.
    pub counts: &'a [Count],
    /// What the loader itself rejected.
    pub rejected: &'a [Rejected<'a>],
    /// What of a rejected payload may be stored. The spool's record holds the raw IP address, which
    /// Postgres gets only as `privacy.client_ip` says.
    pub keep: &'a (dyn Fn(&[u8]) -> Vec<u8> + Sync),
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Rows stored.
    pub rows: u64,
    /// Hits added to counts.
    pub counted: u64,
    /// Hits set aside, those that the loader rejected among them.
    pub rejected: u64,
    /// Hits left out because their event ID was known.
    pub repeated: u64,
    /// Dimension rows that were new.
    pub new_dimensions: u64,
    /// Partitions that were missing.
    pub new_days: u64,
}

/// Why a batch was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The position was not `from`: someone else loaded, or an earlier commit did go through though
    /// its answer was lost. Read the position anew.
    #[error("the position of the spool has moved")]
    Moved,
    /// Postgres failed. Drop the client (where a COPY is refused before it starts, tokio-postgres
    /// loses count of the answers), connect anew, read the position, for the batch may be committed
    /// all the same, then try again.
    #[error("loading a batch: {0}")]
    Postgres(#[from] Error),
}

/// The key under which an event ID is known: the XXH3 128-bit hash of site, kind, partner and ID.
#[must_use]
pub fn event_key(site: &str, kind: Kind, partner: &str, event_id: &str) -> [u8; 16] {
    let mut hash = Xxh3::new();
    for text in [site, partner, event_id] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(&[kind.number()]);
    hash.digest128().to_be_bytes()
}

/// Loads a batch in one transaction.
///
/// # Errors
/// [`CommitError`]; nothing is stored then, but see [`CommitError::Postgres`].
pub async fn commit(client: &mut Client, load: &Load<'_>) -> Result<Loaded, CommitError> {
    let mut transaction = client.transaction().await?;
    if !position::advance(&transaction, load.spool_id, load.from, load.to).await? {
        return Err(CommitError::Moved);
    }
    let mut loaded = Loaded::default();
    let mut rejected: Vec<Rejected<'_>> = load.rejected.to_vec();
    let mut entries = Vec::with_capacity(load.entries.len());
    for entry in load.entries {
        match flaw(&entry.row) {
            None => entries.push(entry),
            Some(reason) => rejected.push(reject(entry, reason)),
        }
    }
    loaded.new_days = partition::make_days(&transaction, &days(&entries)).await?;
    loaded.new_dimensions = dimension::insert(&transaction, load.dimensions).await?;
    let before = entries.len();
    leave_out_repeated(&transaction, &mut entries).await?;
    loaded.repeated = (before - entries.len()) as u64;

    let refused = load_rows(&mut transaction, &entries).await?;
    loaded.rows = (entries.len() - refused.len()) as u64;
    forget_event_keys(&transaction, &refused).await?;
    rejected.extend(
        refused
            .into_iter()
            .map(|(entry, reason)| reject(entry, reason)),
    );
    loaded.counted = add_counts(&transaction, load.counts).await?;
    loaded.rejected = set_aside(&transaction, load, &rejected).await?;
    transaction.commit().await?;
    Ok(loaded)
}

fn reject<'a>(entry: &Entry<'a>, reason: impl Into<Cow<'a, str>>) -> Rejected<'a> {
    Rejected {
        position: entry.position,
        reason: reason.into(),
        payload: entry.payload,
    }
}

/// What Postgres would refuse and is cheap to see here, without a round of bisecting.
fn flaw(row: &Row<'_>) -> Option<&'static str> {
    if !RECEIVED_AT.contains(&row.received_at.0) {
        return Some("received_at lies before 2000 or after 2199");
    }
    let nul = row.texts().iter().any(|text| text.as_bytes().contains(&0));
    nul.then_some("a text holds NUL, which Postgres cannot store")
}

/// The day since 1970, UTC. [`RECEIVED_AT`] fits an i32 many times over.
fn day(at: UnixMicros) -> i32 {
    i32::try_from(at.day()).unwrap_or(i32::MAX)
}

fn days(entries: &[&Entry<'_>]) -> Vec<i32> {
    let mut days: Vec<i32> = Vec::new();
    for entry in entries {
        let day = day(entry.row.received_at);
        if !days.contains(&day) {
            days.push(day);
        }
    }
    days.sort_unstable();
    days
}

/// Leaves out the entries whose event ID is in Postgres already or earlier in the batch.
async fn leave_out_repeated(
    transaction: &Transaction<'_>,
    entries: &mut Vec<&Entry<'_>>,
) -> Result<(), Error> {
    let mut first: HashMap<[u8; 16], i32> = HashMap::new();
    for entry in entries.iter() {
        if let Some(key) = entry.event_key {
            first
                .entry(key)
                .or_insert_with(|| day(entry.row.received_at));
        }
    }
    if first.is_empty() {
        return Ok(());
    }
    let (keys, seen_on): (Vec<Uuid>, Vec<i32>) =
        first.into_iter().map(|(key, day)| (Uuid(key), day)).unzip();
    // In the order of the keys: two loaders with the same IDs wait for each other, no deadlock.
    let rows = transaction
        .query(
            "insert into avtryck.event_key (key, seen_on) \
             select key, date '1970-01-01' + day from unnest($1::uuid[], $2::int[]) as new (key, day) \
             order by key on conflict do nothing returning key",
            &[&keys, &seen_on],
        )
        .await?;
    let mut unseen = HashSet::with_capacity(rows.len());
    for row in rows {
        unseen.insert(row.try_get::<_, Uuid>(0)?.0);
    }
    entries.retain(|entry| entry.event_key.is_none_or(|key| unseen.remove(&key)));
    Ok(())
}

/// A hit that did not become a row must not stand in the way of one that would.
async fn forget_event_keys(
    transaction: &Transaction<'_>,
    refused: &[(&Entry<'_>, String)],
) -> Result<(), Error> {
    let keys: Vec<Uuid> = refused
        .iter()
        .filter_map(|(entry, _)| entry.event_key.map(Uuid))
        .collect();
    if !keys.is_empty() {
        transaction
            .execute(
                "delete from avtryck.event_key where key = any($1)",
                &[&keys],
            )
            .await?;
    }
    Ok(())
}

/// Loads the rows, each or none of a range at a time; returns those that Postgres refused, with its
/// message.
async fn load_rows<'e, 'a>(
    transaction: &mut Transaction<'_>,
    entries: &[&'e Entry<'a>],
) -> Result<Vec<(&'e Entry<'a>, String)>, Error> {
    let mut refused = Vec::new();
    let (bytes, ends) = encode(entries);
    let mut ranges = Vec::from([Range {
        start: 0,
        end: entries.len(),
    }]);
    while let Some(range) = ranges.pop() {
        let start = range.start.checked_sub(1).and_then(|last| ends.get(last));
        let end = range.end.checked_sub(1).and_then(|last| ends.get(last));
        let (Some(entry), Some(&end)) = (entries.get(range.start), end) else {
            continue;
        };
        let savepoint = transaction.savepoint("rows").await?;
        match copy::load(&savepoint, bytes.slice(start.copied().unwrap_or(0)..end)).await {
            Ok(_) => savepoint.commit().await?,
            Err(error) => {
                let Some(reason) = data_refused(&error) else {
                    return Err(error);
                };
                savepoint.rollback().await?;
                if range.len() == 1 {
                    refused.push((*entry, reason));
                } else {
                    let middle = range.start.midpoint(range.end);
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
            }
        }
    }
    Ok(refused)
}

/// The rows as COPY takes them, and where each ends.
fn encode(entries: &[&Entry<'_>]) -> (Bytes, Vec<usize>) {
    /// What a row takes without its texts, and some for them: few batches grow the buffer twice.
    const ROW_BYTES_TYPICAL: usize = 320;
    let mut bytes = BytesMut::with_capacity(entries.len() * ROW_BYTES_TYPICAL);
    let ends = entries
        .iter()
        .map(|entry| {
            copy::encode(&entry.row, &mut bytes);
            bytes.len()
        })
        .collect();
    (bytes.freeze(), ends)
}

/// The server's message, if it refused the data of a row. Its detail, which may repeat values, is
/// left out.
fn data_refused(error: &Error) -> Option<String> {
    let error = error.as_db_error()?;
    let code = error.code();
    let data = ["22", "23", "54"]
        .iter()
        .any(|class| code.code().starts_with(class));
    (data && *code != SqlState::BAD_COPY_FILE_FORMAT)
        .then(|| format!("{}: {}", code.code(), error.message()))
}

/// Adds to the counts, in the order of their key; the number of hits.
async fn add_counts(transaction: &Transaction<'_>, counts: &[Count]) -> Result<u64, Error> {
    if counts.is_empty() {
        return Ok(0);
    }
    let minutes: Vec<i64> = counts.iter().map(|count| count.minute).collect();
    let sites: Vec<i64> = counts.iter().map(|count| count.site_key).collect();
    let ads: Vec<i64> = counts.iter().map(|count| count.ad_key).collect();
    let kinds: Vec<i16> = counts
        .iter()
        .map(|count| count.kind.number().into())
        .collect();
    let hits: Vec<i64> = counts.iter().map(|count| count.hits).collect();
    transaction
        .execute(
            "insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) \
             select to_timestamp(minute * 60), site_key, ad_key, kind, sum(hits)::bigint \
             from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[]) \
                  as new (minute, site_key, ad_key, kind, hits) \
             group by 1, 2, 3, 4 order by 1, 2, 3, 4 \
             on conflict (minute, site_key, ad_key, kind) \
             do update set hits = hit_count.hits + excluded.hits",
            &[&minutes, &sites, &ads, &kinds, &hits],
        )
        .await?;
    Ok(hits.iter().sum::<i64>().cast_unsigned())
}

/// Stores the rejected hits; how many.
async fn set_aside(
    transaction: &Transaction<'_>,
    load: &Load<'_>,
    rejected: &[Rejected<'_>],
) -> Result<u64, Error> {
    /// Rejected hits in one statement: bounds what is held of them at once.
    const REJECTED_MAX: usize = 1_000;
    for some in rejected.chunks(REJECTED_MAX) {
        let chunks: Vec<i64> = some
            .iter()
            .map(|hit| hit.position.0.cast_signed())
            .collect();
        let offsets: Vec<i64> = some
            .iter()
            .map(|hit| hit.position.1.cast_signed())
            .collect();
        let reasons: Vec<String> = some
            .iter()
            .map(|hit| hit.reason.replace('\0', "\u{fffd}"))
            .collect();
        let payloads: Vec<Vec<u8>> = some.iter().map(|hit| (load.keep)(hit.payload)).collect();
        transaction
            .execute(
                "insert into avtryck.rejected_hit \
                 (rejected_at, spool_id, chunk, byte_offset, reason, payload) \
                 select now(), $1, chunk, byte_offset, reason, payload \
                 from unnest($2::bigint[], $3::bigint[], $4::text[], $5::bytea[]) \
                      as new (chunk, byte_offset, reason, payload)",
                &[&Uuid(load.spool_id), &chunks, &offsets, &reasons, &payloads],
            )
            .await?;
    }
    Ok(rejected.len() as u64)
}
