//! What there is of ties and groups: counted for the metrics, and audited.

use tokio_postgres::{Client, Error, Row};

/// The upper ends of the classes of a group's size.
pub(crate) const GROUP_SIZES: [i16; 5] = [1, 2, 5, 10, 20];

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GraphCensus {
    /// Ties: those that nothing proves, and those that something does.
    pub ties: [u64; 2],
    /// Groups, by the classes of their size ([`GROUP_SIZES`]).
    pub groups: [u64; GROUP_SIZES.len()],
    /// Groups from which a tie was left out.
    pub capped: u64,
    /// Groups with several owners.
    pub shared: u64,
    /// IDs with more ties than one device can have.
    pub hubs: u64,
    /// Owners of groups, as the ties.
    pub owners: [u64; 2],
}

/// What the job `link` has not taken yet: parts of batches, new ties, groups to split. Each with
/// the seconds for which the oldest of them has waited; of new ties nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct WaitingParts {
    /// How many batches were not added up.
    pub parts: u64,
    /// For how long the oldest has waited.
    pub parts_seconds: f64,
    /// How many ties are not grouped.
    pub ties: u64,
    /// How many groups have lost a tie.
    pub splits: u64,
    /// For how long the oldest has waited.
    pub splits_seconds: f64,
}

/// Counts what there is. It reads tables whole.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_census(client: &Client) -> Result<GraphCensus, Error> {
    let row = client.query_one(include_str!("census.sql"), &[]).await?;
    let mut next = 0..;
    let mut read = || count(&row, next.next().unwrap_or_default());
    Ok(GraphCensus {
        ties: [read()?, read()?],
        groups: [read()?, read()?, read()?, read()?, read()?],
        capped: read()?,
        shared: read()?,
        hubs: read()?,
        owners: [read()?, read()?],
    })
}

/// Counts what waits.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_waiting(client: &Client) -> Result<WaitingParts, Error> {
    let row = client.query_one(include_str!("waiting.sql"), &[]).await?;
    Ok(WaitingParts {
        parts: count(&row, 0)?,
        parts_seconds: row.try_get(1)?,
        ties: count(&row, 2)?,
        splits: count(&row, 3)?,
        splits_seconds: row.try_get(4)?,
    })
}

/// Looks up for ties picked at random, at most that many, whether a stored hit permitted each.
/// Days are UTC days since 1970: the first of which hits are kept, and today. Returns how many were
/// looked at, and how many of them nothing permitted.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn audit(
    client: &Client,
    most: i32,
    (first_kept, today): (i32, i32),
) -> Result<(u64, u64), Error> {
    let sql = "select count(*), count(*) filter (where not is_permitted) \
               from avtryck.audit_ties($1, date '1970-01-01' + $2::integer, date '1970-01-01' + $3::integer)";
    let row = client.query_one(sql, &[&most, &first_kept, &today]).await?;
    Ok((count(&row, 0)?, count(&row, 1)?))
}

fn count(row: &Row, column: usize) -> Result<u64, Error> {
    row.try_get(column).map(i64::cast_unsigned)
}
