//! Up to where a spool is loaded: read at start and after a lost connection, moved by comparing
//! and swapping within the transaction that stores the rows.

use tokio_postgres::{Client, Error, Transaction};

use super::uuid::Uuid;

/// A place in a spool: chunk and byte offset.
pub type Position = (u64, u64);

/// Up to where the spool is loaded; `None` where nothing of it ever was.
///
/// # Errors
/// Where Postgres fails.
pub async fn read(client: &Client, spool_id: [u8; 16]) -> Result<Option<Position>, Error> {
    let row = client
        .query_opt(
            "select chunk, byte_offset from avtryck.spool_position where spool_id = $1",
            &[&Uuid(spool_id)],
        )
        .await?;
    row.map(|row| {
        let chunk: i64 = row.try_get(0)?;
        let offset: i64 = row.try_get(1)?;
        Ok((chunk.cast_unsigned(), offset.cast_unsigned()))
    })
    .transpose()
}

/// Moves the position from `from` (`None`: there is none yet) to `to`; false if it was elsewhere.
/// The row stays locked until the transaction ends, so of two loaders of one spool one waits here
/// and then finds the position moved.
pub(super) async fn advance(
    transaction: &Transaction<'_>,
    spool_id: [u8; 16],
    from: Option<Position>,
    to: Position,
) -> Result<bool, Error> {
    let spool_id = Uuid(spool_id);
    let (chunk, offset) = (to.0.cast_signed(), to.1.cast_signed());
    let changed =
        match from {
            None => transaction
                .execute(
                    "insert into avtryck.spool_position (spool_id, chunk, byte_offset, updated_at) \
                     values ($1, $2, $3, now()) on conflict do nothing",
                    &[&spool_id, &chunk, &offset],
                )
                .await?,
            Some((from_chunk, from_offset)) => {
                transaction
                    .execute(
                        "update avtryck.spool_position \
                     set chunk = $2, byte_offset = $3, updated_at = now() \
                     where spool_id = $1 and chunk = $4 and byte_offset = $5",
                        &[
                            &spool_id,
                            &chunk,
                            &offset,
                            &from_chunk.cast_signed(),
                            &from_offset.cast_signed(),
                        ],
                    )
                    .await?
            }
        };
    Ok(changed == 1)
}
