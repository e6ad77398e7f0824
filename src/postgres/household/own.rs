//! What is believed of a visitor's home, and what the visitor says against that.
//!
//! The page shows what has held for 14 days (`avtryck.show_households`), in steps, so that nobody
//! learns from it who came, who left, or when.

use tokio_postgres::{Error, Row, Transaction};
use uuid::Uuid;

use crate::hit::VisitorId;
use crate::hit::belief::{HomeBelief, Wish};
use crate::postgres::identity;

/// Reads what is believed of the home of the visitor `$1`, for the page of the site `$2`.
pub const HOME: &str = include_str!("own/home.sql");

/// Reads a row of [`HOME`].
///
/// # Errors
/// Where it has other columns.
pub(crate) fn read_home(row: &Row) -> Result<HomeBelief, Error> {
    if row.try_get("is_never")? {
        return Ok(HomeBelief::Never);
    }
    let number = |column: &str| {
        let number: Option<i16> = row.try_get(column)?;
        Ok::<_, Error>(number.unwrap_or_default().unsigned_abs())
    };
    let others = u8::try_from(number("others")?).unwrap_or(0);
    Ok(match others {
        0 => HomeBelief::Unknown,
        others => HomeBelief::Shared {
            others,
            days: number("days")?,
            is_several: number("addresses")? > 1,
        },
    })
}

/// Does what a visitor says against what is believed of their home. Returns whether there was
/// anything to do. It is for the caller to commit.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn contradict(
    transaction: &Transaction<'_>,
    (visitor, site): (VisitorId, &str),
    wish: Wish,
) -> Result<bool, Error> {
    identity::lock(transaction).await?;
    let node = Uuid::from_bytes(visitor.0);
    if wish == Wish::NeverHome {
        let stored = transaction
            .execute(include_str!("own/never.sql"), &[&node])
            .await?;
        let forget = "select avtryck.forget_sightings(array[$1]::uuid[])";
        transaction.execute(forget, &[&node]).await?;
        return Ok(stored > 0);
    }
    let row = transaction.query_one(HOME, &[&node, &site]).await?;
    if !matches!(read_home(&row)?, HomeBelief::Shared { .. }) {
        return Ok(false);
    }
    transaction
        .execute(include_str!("own/leave.sql"), &[&node])
        .await?;
    transaction
        .execute("select avtryck.dissolve_households()", &[])
        .await?;
    Ok(true)
}
