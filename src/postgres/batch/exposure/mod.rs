//! The SQL of who saw which creative, and how often. A hit is numbered when it is loaded; the
//! totals are kept by pair of subject and creative.
//!
//! A subject is the visitor; without one it is a hash of the mobile advertising ID, or else of the
//! partner's ID ([`Subject::key`](crate::hit::subject::Subject::key)). A batch comes down to its
//! distinct pairs ([`crate::row::exposure`]) and goes through three steps:
//!
//! | step | on which connection |
//! | --- | --- |
//! | [`look_up`] what is known of its pairs, while the batch before it is loaded | another |
//! | number its hits, and [`keep`] what it adds as a row of `exposure_part` | the loader's |
//! | [`add_up`] that row into `exposure`, which has a row for each pair | another |
//!
//! What the batch before it adds is in memory, in case it was not yet committed when the pairs were
//! looked up. Two collectors that load hits of the same pair at the same moment may give out a
//! number twice; the sums are right.
//!
//! A row of `exposure` lies on a page of its own. To find one of 5 million takes 5 µs of CPU time
//! and to add to it 7.5, as much as the rest of a hit takes to load, and twice that where the
//! buffers are small. On a connection of its own the work takes another core (docs/performance.md).

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

use crate::postgres::timestamp::Timestamp;
use crate::row::exposure::{AdContact, EarlierPairs, Pair, PairTotal, PairTotals};

/// Joins of that many pairs are to hash them, in memory. Adding up moves what is durable already,
/// so a crash may undo the last of it: it does not wait for the disk.
const SESSION: &str =
    "set enable_nestloop = off; set work_mem = '32MB'; set synchronous_commit = off";

/// The first change of a page after a checkpoint puts the whole page into the WAL, and here nearly
/// every pair is on a page of its own: that is more WAL than the hits themselves take, and most of
/// what adding up costs.
const COMPRESSION: &str = "set wal_compression = lz4";

/// Prepares a connection for looking up and adding up.
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

/// Returns what is known of the pairs of these contacts of a spool.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn look_up(
    client: &Client,
    spool_id: [u8; 16],
    contacts: impl Iterator<Item = &AdContact>,
) -> Result<EarlierPairs, Error> {
    let mut pairs: Vec<Pair> = contacts.map(AdContact::pair).collect();
    if pairs.is_empty() {
        return Ok(EarlierPairs::default());
    }
    // Neighbours lie on the same pages of the index.
    pairs.sort_unstable();
    pairs.dedup();
    let subjects: Vec<Uuid> = pairs
        .iter()
        .map(|(subject, _)| Uuid::from_bytes(*subject))
        .collect();
    let creatives: Vec<i64> = pairs.iter().map(|(_, creative)| *creative).collect();
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
    let mut earlier = EarlierPairs::default();
    for row in rows {
        let subjects: Option<Vec<Uuid>> = row.try_get(0)?;
        let creatives: Option<Vec<i64>> = row.try_get(1)?;
        let numbers: Option<Vec<i32>> = row.try_get(2)?;
        let last_at: Option<Vec<Timestamp>> = row.try_get(3)?;
        let pairs = subjects.into_iter().flatten().map(Uuid::into_bytes);
        let pairs = pairs.zip(creatives.into_iter().flatten());
        let impressions = numbers.into_iter().flatten();
        let impressions = impressions.zip(last_at.into_iter().flatten());
        for (pair, (number, last_at)) in pairs.zip(impressions) {
            earlier.add(pair, number, last_at.0);
        }
        let [chunk, offset]: [Option<i64>; 2] = [row.try_get(4)?, row.try_get(5)?];
        earlier.position = chunk
            .zip(offset)
            .map(|(chunk, offset)| (chunk.cast_unsigned(), offset.cast_unsigned()));
    }
    Ok(earlier)
}

/// Stores what a batch adds, as one row.
pub(crate) async fn keep(transaction: &Transaction<'_>, added: &PairTotals) -> Result<(), Error> {
    if added.is_empty() {
        return Ok(());
    }
    let mut added: Vec<(&Pair, &PairTotal)> = added.iter().collect();
    added.sort_unstable_by_key(|(pair, _)| **pair);
    let pairs = || added.iter().map(|(pair, _)| **pair);
    let totals = || added.iter().map(|(_, total)| **total);
    let subjects: Vec<Uuid> = pairs()
        .map(|(subject, _)| Uuid::from_bytes(subject))
        .collect();
    let creatives: Vec<i64> = pairs().map(|(_, creative)| creative).collect();
    let first_at: Vec<Timestamp> = totals().map(|total| Timestamp(total.first_at)).collect();
    let last_at: Vec<Timestamp> = totals().map(|total| Timestamp(total.last_at)).collect();
    let impressions: Vec<i32> = totals().map(|total| total.impressions).collect();
    let clicks: Vec<i32> = totals().map(|total| total.clicks).collect();
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

/// Adds to `exposure` what batches have stored beside it, whichever collector loaded them.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn add_up(client: &Client) -> Result<(), Error> {
    client.execute(include_str!("add_up.sql"), &[]).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
