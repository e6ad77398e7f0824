//! How far a spool is loaded: read at start and after a lost connection, and moved by compare and
//! swap within the transaction that stores the rows.

use tokio_postgres::{Client, Error, Row, Transaction};
use uuid::Uuid;

use super::load::SpoolSpan;
use crate::clock::UnixMicros;
use crate::postgres::timestamp::Timestamp;
use crate::row::ChunkOffset;

/// How far a spool is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolPosition {
    /// The place after the last record.
    pub position: ChunkOffset,
    /// How many records precede it in the whole life of the spool.
    pub records: u64,
}

/// Returns how far the spool is loaded; `None` where nothing of it ever was.
///
/// # Errors
/// Where Postgres fails.
pub async fn read(client: &Client, spool_id: [u8; 16]) -> Result<Option<SpoolPosition>, Error> {
    let row = client
        .query_opt(
            "select chunk, byte_offset, records from avtryck.spool_position where spool_id = $1",
            &[&Uuid::from_bytes(spool_id)],
        )
        .await?;
    row.map(|row| {
        let [chunk, offset, records] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?]
            .map(|number: i64| number.cast_unsigned());
        Ok(SpoolPosition {
            position: (chunk, offset),
            records,
        })
    })
    .transpose()
}

/// The clock of Postgres.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PostgresNow {
    /// What it shows.
    pub(crate) at: UnixMicros,
    /// Whether it was wrong within the last 24 hours, or may have been.
    pub(crate) is_in_doubt: bool,
}

/// The SQL of [`PostgresNow`]: what jobs found out about the clock, and what they will.
const NOW: &str = "now(), \
     coalesce((select wrong_at > now() - interval '24 hours' from avtryck.clock), false) \
     or exists (select from avtryck.clock \
                where seen_at not between now() - interval '30 days' and now() + interval '1 hour')";

/// Moves the position of every spool of a batch, in the order of their IDs, and returns Postgres's
/// clock; `None` if one of them was elsewhere, or none moves.
pub(crate) async fn advance(
    transaction: &Transaction<'_>,
    spools: &[SpoolSpan],
) -> Result<Option<PostgresNow>, Error> {
    let mut moving: Vec<&SpoolSpan> = spools.iter().filter(|span| span.moves()).collect();
    moving.sort_unstable_by_key(|span| span.spool_id);
    let mut now = None;
    for span in moving {
        now = advance_one(transaction, span.spool_id, span.from, span.to).await?;
        if now.is_none() {
            break;
        }
    }
    Ok(now)
}

/// Moves the position from `from` (`None`: there is none yet) to `to`, and returns Postgres's
/// clock; `None` if the position was elsewhere. The row stays locked until the transaction ends, so
/// of two loaders of one spool one waits here and then finds the position moved.
pub(crate) async fn advance_one(
    transaction: &Transaction<'_>,
    spool_id: [u8; 16],
    from: Option<ChunkOffset>,
    to: SpoolPosition,
) -> Result<Option<PostgresNow>, Error> {
    let spool_id = Uuid::from_bytes(spool_id);
    let [chunk, offset, records] = [to.position.0, to.position.1, to.records].map(u64::cast_signed);
    let moved = match from {
        None => {
            transaction
                .query_opt(
                    &format!(
                        "insert into avtryck.spool_position (spool_id, chunk, byte_offset, records, updated_at) \
                         values ($1, $2, $3, $4, now()) on conflict do nothing returning {NOW}"
                    ),
                    &[&spool_id, &chunk, &offset, &records],
                )
                .await?
        }
        Some((from_chunk, from_offset)) => {
            transaction
                .query_opt(
                    &format!(
                        "update avtryck.spool_position \
                         set chunk = $2, byte_offset = $3, records = $4, updated_at = now() \
                         where spool_id = $1 and chunk = $5 and byte_offset = $6 returning {NOW}"
                    ),
                    &[
                        &spool_id,
                        &chunk,
                        &offset,
                        &records,
                        &from_chunk.cast_signed(),
                        &from_offset.cast_signed(),
                    ],
                )
                .await?
        }
    };
    moved.as_ref().map(to_now).transpose()
}

/// Returns Postgres's clock.
pub(crate) async fn read_now(client: &Client) -> Result<PostgresNow, Error> {
    to_now(&client.query_one(&format!("select {NOW}"), &[]).await?)
}

fn to_now(row: &Row) -> Result<PostgresNow, Error> {
    Ok(PostgresNow {
        at: row.try_get::<_, Timestamp>(0)?.0,
        is_in_doubt: row.try_get(1)?,
    })
}
