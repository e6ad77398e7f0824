//! How segments stand.

use tokio_postgres::{Client, Error};

use crate::clock::UnixMicros;
use crate::postgres::timestamp::Timestamp;

/// How a segment stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentStatus {
    /// Its key.
    pub key: String,
    /// `fresh`, `behind` or `failed`.
    pub state: String,
    /// How many members it had when everybody was evaluated last.
    pub size: Option<u64>,
    /// With fewer nobody is told of it.
    pub min_size: u64,
    /// Whether pages and partners may be told of it.
    pub is_exposed: bool,
    /// What happened before that is in its members.
    pub evaluated_at: Option<UnixMicros>,
    /// When everybody was evaluated last.
    pub full_at: Option<UnixMicros>,
    /// How many of the 256 ranges an evaluation of everybody has done that is under way.
    pub ranges_done: Option<i16>,
    /// Why its last evaluation failed.
    pub error: Option<String>,
}

/// Reads how each segment stands that has not ended, and what the clock of Postgres shows.
///
/// # Errors
/// Where Postgres fails.
pub async fn read(client: &Client) -> Result<(Vec<SegmentStatus>, UnixMicros), Error> {
    let now: Timestamp = client.query_one("select now()", &[]).await?.try_get(0)?;
    let sql = "select key, state, size, min_size, is_exposed, evaluated_at, full_at, next_range, error \
               from avtryck.segment where ended_at is null order by key";
    let time = |time: Option<Timestamp>| time.map(|time| time.0);
    let mut found = Vec::new();
    for row in client.query(sql, &[]).await? {
        found.push(SegmentStatus {
            key: row.try_get(0)?,
            state: row.try_get(1)?,
            size: row.try_get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
            min_size: row.try_get::<_, i64>(3)?.cast_unsigned(),
            is_exposed: row.try_get(4)?,
            evaluated_at: time(row.try_get(5)?),
            full_at: time(row.try_get(6)?),
            ranges_done: row.try_get(7)?,
            error: row.try_get(8)?,
        });
    }
    Ok((found, now.0))
}
