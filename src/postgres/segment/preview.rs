//! How large a segment would be, from some of the subjects.
//!
//! Subjects are random numbers, so those whose first byte is one of a few are a sample. Each of the
//! ranges is counted whole, by a query of its own, and the spread between them gives the interval.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error};
use uuid::Uuid;

use super::evaluate::bounds;
use crate::segment::Segment;

/// Of how many ranges.
const RANGES: f64 = 256.0;
/// The value of Student's t with five degrees of freedom that 2.5 % exceed.
const T_OF_FIVE: f64 = 2.571;

/// What a sample says of a segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preview {
    /// How many subjects the sample has that permit profile.
    pub subjects: u64,
    /// How many members there would be, and a bound below and above.
    pub members: [f64; 3],
    /// How many members of the sample are in other segments, by their keys.
    pub overlaps: BTreeMap<String, u64>,
    /// How many members the sample has.
    pub sampled: u64,
    /// The same by class of device.
    pub classes: BTreeMap<String, u64>,
    /// The same by region.
    pub regions: BTreeMap<String, u64>,
}

/// Counts a segment in six ranges of subjects: those of these first bytes.
///
/// # Errors
/// Where Postgres fails.
pub async fn preview(
    client: &mut Client,
    segment: &Segment,
    ranges: [u8; 6],
) -> Result<Preview, Error> {
    let transaction = client.transaction().await?;
    let settings = "set transaction read only; set local statement_timeout = '60s'";
    transaction.batch_execute(settings).await?;
    let subjects =
        "array(select subject from avtryck.subject_permit where subject between $1 and $2)";
    let sql = segment.fill(include_str!("preview.sql"), subjects);
    let statement = transaction.prepare(&sql).await?;
    let mut found = Preview::default();
    let mut counts = Vec::new();
    for range in ranges {
        let (first, last): (Uuid, Uuid) = bounds(range.into());
        let mut members = 0;
        for row in transaction
            .query(&statement, &[&first, &last, &segment.key])
            .await?
        {
            let (what, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let n = row.try_get::<_, i64>(2)?.cast_unsigned();
            match &*what {
                "subjects" => found.subjects += n,
                "members" => members = n,
                "segment" => *found.overlaps.entry(name).or_default() += n,
                "class" => *found.classes.entry(name).or_default() += n,
                _ => *found.regions.entry(name).or_default() += n,
            }
        }
        found.sampled += members;
        counts.push(members);
    }
    transaction.rollback().await?;
    found.members = scale(&counts);
    Ok(found)
}

/// Returns the number of members that ranges with these numbers stand for, with a 95 % interval
/// around it.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub fn scale(counts: &[u64]) -> [f64; 3] {
    let n = counts.len() as f64;
    let mean = counts.iter().sum::<u64>() as f64 / n;
    let squares = counts.iter().map(|count| (*count as f64 - mean).powi(2));
    // Where few were found, chance alone has at least this spread.
    let variance = (squares.sum::<f64>() / (n - 1.0)).max(mean).max(1.0 / n);
    let error = T_OF_FIVE * (variance / n * (1.0 - n / RANGES)).sqrt();
    let least = counts.iter().sum::<u64>() as f64;
    [
        mean * RANGES,
        ((mean - error) * RANGES).max(least),
        (mean + error) * RANGES,
    ]
}
