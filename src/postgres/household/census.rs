//! What there is of households: counted for the metrics.

use tokio_postgres::{Client, Error, Row};

/// The classes of a household's size: 2, 3, 4, 5 to 8, more.
pub(crate) const HOUSEHOLD_SIZES: usize = 5;

/// What there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HouseholdCensus {
    /// Devices in households.
    pub members: u64,
    /// Households, by the classes of their size.
    pub households: [u64; HOUSEHOLD_SIZES],
    /// The seconds since the end of the last night that was worked through; 0 without one.
    pub night_seconds: f64,
    /// Sightings that wait to be added to the others.
    pub waiting: u64,
    /// For how long the oldest has waited.
    pub waiting_seconds: f64,
}

/// Counts what there is.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_census(client: &Client) -> Result<HouseholdCensus, Error> {
    let row = client.query_one(include_str!("census.sql"), &[]).await?;
    let count = |row: &Row, column: usize| row.try_get(column).map(i64::cast_unsigned);
    Ok(HouseholdCensus {
        members: count(&row, 0)?,
        households: [
            count(&row, 1)?,
            count(&row, 2)?,
            count(&row, 3)?,
            count(&row, 4)?,
            count(&row, 5)?,
        ],
        night_seconds: row.try_get(6)?,
        waiting: count(&row, 7)?,
        waiting_seconds: row.try_get(8)?,
    })
}
