//! By which way the hits of a spool come into this database: their collector loads them, or
//! `avtryck load` reads them from Kafka. Never both: each hit would be loaded twice.
//!
//! A spool that its collector loads has a row in `spool_position`, one that comes by Kafka has one
//! in `kafka_spool`. Who adds the first row of a spool holds a lock for it, so that of two that
//! begin at the same moment one finds the other's row. A message names the first half of its
//! spool's ID, which is 64 random bits.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::commit::CommitError;
use super::load::Load;

/// Returns the first half of a spool's ID, as the tables have it.
#[must_use]
pub fn half(spool_id: [u8; 16]) -> i64 {
    let half = spool_id.first_chunk().copied();
    i64::from_be_bytes(half.unwrap_or_default())
}

/// Notes by which way the spools of a batch come, if that is new.
pub(crate) async fn claim(transaction: &Transaction<'_>, load: &Load) -> Result<(), CommitError> {
    match &load.by_kafka {
        Some(spools) => claim_for_kafka(transaction, spools).await,
        None => {
            let begun = load
                .spools
                .iter()
                .filter(|span| span.from.is_none() && span.moves());
            let begun: Vec<i64> = begun.map(|span| half(span.spool_id)).collect();
            claim_for_collector(transaction, begun).await
        }
    }
}

async fn claim_for_kafka(
    transaction: &Transaction<'_>,
    spools: &BTreeSet<i64>,
) -> Result<(), CommitError> {
    if spools.is_empty() {
        return Ok(());
    }
    let spools: Vec<i64> = spools.iter().copied().collect();
    let new = "select half from unnest($1) as named (half) \
               where not exists (select from avtryck.kafka_spool as known where known.half = named.half) \
               order by half";
    let new = transaction
        .query_typed(new, &[(&spools, Type::INT8_ARRAY)])
        .await?;
    let new: Result<Vec<i64>, _> = new.iter().map(|row| row.try_get(0)).collect();
    let new = new?;
    if new.is_empty() {
        return Ok(());
    }
    lock(transaction, &new).await?;
    let taken = "select named.half from unnest($1) as named (half) \
                 join avtryck.spool_position as known on avtryck.spool_half(known.spool_id) = named.half";
    let taken = transaction
        .query_typed(taken, &[(&new, Type::INT8_ARRAY)])
        .await?;
    if !taken.is_empty() {
        let taken: Result<Vec<i64>, _> = taken.iter().map(|row| row.try_get(0)).collect();
        return Err(CommitError::Refused(taken?));
    }
    let insert = "insert into avtryck.kafka_spool (half, since) \
                  select half, now() from unnest($1) as named (half) order by half on conflict do nothing";
    transaction
        .execute_typed(insert, &[(&new, Type::INT8_ARRAY)])
        .await?;
    Ok(())
}

async fn claim_for_collector(
    transaction: &Transaction<'_>,
    mut begun: Vec<i64>,
) -> Result<(), CommitError> {
    if begun.is_empty() {
        return Ok(());
    }
    begun.sort_unstable();
    lock(transaction, &begun).await?;
    let taken = "select half from avtryck.kafka_spool where half = any($1)";
    let taken = transaction
        .query_typed(taken, &[(&begun, Type::INT8_ARRAY)])
        .await?;
    if taken.is_empty() {
        return Ok(());
    }
    let taken: Result<Vec<i64>, _> = taken.iter().map(|row| row.try_get(0)).collect();
    Err(CommitError::Refused(taken?))
}

/// Waits for others that add the first row of one of these spools; they are sorted.
async fn lock(transaction: &Transaction<'_>, spools: &[i64]) -> Result<(), CommitError> {
    for half in spools {
        let lock = "select pg_advisory_xact_lock($1)";
        transaction.query_typed(lock, &[(half, Type::INT8)]).await?;
    }
    Ok(())
}

/// Notes which partitions of which topics the positions of these IDs are of.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn name_partitions(
    client: &Client,
    cluster: &str,
    partitions: &[([u8; 16], String, i32)],
) -> Result<(), tokio_postgres::Error> {
    let ids: Vec<Uuid> = partitions
        .iter()
        .map(|(id, ..)| Uuid::from_bytes(*id))
        .collect();
    let topics: Vec<&str> = partitions.iter().map(|(_, topic, _)| &**topic).collect();
    let numbers: Vec<i32> = partitions.iter().map(|(.., number)| *number).collect();
    let insert = "insert into avtryck.kafka_partition (spool_id, cluster, topic, partition) \
                  select id, $1, topic, number from unnest($2, $3, $4) as named (id, topic, number) \
                  order by id on conflict do nothing";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] = [
        (&cluster, Type::TEXT),
        (&ids, Type::UUID_ARRAY),
        (&topics, Type::TEXT_ARRAY),
        (&numbers, Type::INT4_ARRAY),
    ];
    client.execute_typed(insert, &parameters).await?;
    Ok(())
}

/// Returns a message that was read of each of these partitions, where one is known: its offset and
/// its time, in milliseconds since 1970.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_witnesses(
    client: &Client,
    partitions: &[[u8; 16]],
) -> Result<Vec<(String, i32, (i64, i64))>, tokio_postgres::Error> {
    let ids: Vec<Uuid> = partitions.iter().copied().map(Uuid::from_bytes).collect();
    // Where the position was forgotten by hand, the partition begins anew.
    let read = "select topic, partition, witness_offset, witness_at from avtryck.kafka_partition \
                join avtryck.spool_position using (spool_id) \
                where spool_id = any($1) and witness_offset is not null and witness_at is not null";
    let rows = client
        .query_typed(read, &[(&ids, Type::UUID_ARRAY)])
        .await?;
    let rows = rows.iter().map(|row| {
        let witness = (row.try_get(2)?, row.try_get(3)?);
        Ok((row.try_get(0)?, row.try_get(1)?, witness))
    });
    rows.collect()
}

/// Notes a message that was read of each of these partitions.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn keep_witnesses(
    client: &Client,
    witnesses: &[([u8; 16], (i64, i64))],
) -> Result<(), tokio_postgres::Error> {
    let of = |(id, _): &([u8; 16], _)| Uuid::from_bytes(*id);
    let mut sorted: Vec<_> = witnesses.to_vec();
    sorted.sort_unstable();
    let ids: Vec<Uuid> = sorted.iter().map(of).collect();
    let offsets: Vec<i64> = sorted.iter().map(|(_, (offset, _))| *offset).collect();
    let times: Vec<i64> = sorted.iter().map(|(_, (_, at))| *at).collect();
    let keep = "update avtryck.kafka_partition set witness_offset = new.witness_offset, witness_at = new.witness_at \
                from unnest($1, $2, $3) as new (id, witness_offset, witness_at) where spool_id = new.id";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] = [
        (&ids, Type::UUID_ARRAY),
        (&offsets, Type::INT8_ARRAY),
        (&times, Type::INT8_ARRAY),
    ];
    client.execute_typed(keep, &parameters).await?;
    Ok(())
}
