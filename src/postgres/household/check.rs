//! Compares households with what proved logins say.

use tokio_postgres::{Client, Error};

use crate::identity::household::{Agreement, HOUSEHOLD_DEVICES_MAX};

/// What proved logins say of households.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Of pairs of devices of one user, those in one household; the cases are users.
    pub recall: Agreement,
    /// The same of pairs of which both are in a household: they must not be in two.
    pub unity: Agreement,
    /// Of pairs in one household of which both have a user, those that have one in common; the
    /// cases are households.
    pub precision: Agreement,
    /// Users with more devices than a household has, who were left out: accounts for tests, or of
    /// firms.
    pub left_out: u64,
    /// Members of households who refuse to be: always 0.
    pub refusing: u64,
}

/// Reads what proved logins say of households.
///
/// # Errors
/// Where Postgres fails.
pub async fn check(client: &Client) -> Result<Truth, Error> {
    let most = i64::try_from(HOUSEHOLD_DEVICES_MAX).unwrap_or(i64::MAX);
    let row = client
        .query_one(include_str!("check.sql"), &[&most])
        .await?;
    let count = |column: usize| row.try_get(column).map(i64::cast_unsigned);
    let together = count(0)?;
    Ok(Truth {
        recall: Agreement {
            right: together,
            pairs: count(1)?,
            cases: count(2)?,
        },
        unity: Agreement {
            right: together,
            pairs: count(3)?,
            cases: count(4)?,
        },
        precision: Agreement {
            right: count(5)?,
            pairs: count(6)?,
            cases: count(7)?,
        },
        left_out: count(8)?,
        refusing: count(9)?,
    })
}
