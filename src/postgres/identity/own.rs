//! The devices that are believed to be a visitor's, and what the visitor says against that.
//!
//! Only proved ties lead to them, so nobody is shown a device by naming an ID of somebody else.

use tokio_postgres::{Client, Error, Row, Transaction};
use uuid::Uuid;

use super::Removal;
use super::group::settle_within;
use crate::hit::VisitorId;
use crate::hit::belief::{DEVICES_SHOWN_MAX, TiedDevice};

/// Reads the devices that are believed to be a visitor's: `$1` is the visitor, `$2` the site, `$3`
/// how many.
pub(crate) const DEVICES: &str = include_str!("own/devices.sql");

/// Reads what the visitor `$1` has said in the last minutes.
pub(crate) const LATELY: &str = "select coalesce(bool_or(reason = 'not_mine'), false) as has_parted, \
            coalesce(bool_or(reason = 'forgotten'), false) as has_forgotten \
     from avtryck.link_change where node = $1 and at > now() - interval '5 minutes'";

/// The most portions of what waits to be grouped that a contradiction goes through.
const PORTIONS_MAX: usize = 4;

/// Reads a row of [`DEVICES`].
///
/// # Errors
/// Where it has other columns.
pub(crate) fn read_device(row: &Row) -> Result<TiedDevice, Error> {
    Ok(TiedDevice {
        node: row.try_get::<_, Uuid>("node")?.into_bytes(),
        kind: row.try_get("kind")?,
        partner: row.try_get("partner")?,
        reasons: row.try_get("reasons")?,
        days: (row.try_get("first_day")?, row.try_get("last_day")?),
    })
}

/// Does what a visitor says against one of the devices that are believed to be theirs, the one that
/// `is_meant` names, and splits the groups at once. Returns whether there is such a device. It is
/// for the caller to commit.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn contradict(
    transaction: &Transaction<'_>,
    (visitor, site): (VisitorId, &str),
    reason: Removal,
    is_meant: &(dyn Fn(VisitorId, [u8; 16]) -> bool + Send),
) -> Result<bool, Error> {
    super::lock(transaction).await?;
    let node = Uuid::from_bytes(visitor.0);
    let rows = transaction
        .query(DEVICES, &[&node, &site, &DEVICES_SHOWN_MAX])
        .await?;
    let devices = rows
        .iter()
        .map(read_device)
        .collect::<Result<Vec<_>, Error>>()?;
    let meant = devices
        .into_iter()
        .find(|device| is_meant(visitor, device.node));
    let Some(meant) = meant else {
        return Ok(false);
    };
    let other = Uuid::from_bytes(meant.node);
    // Whatever else notes why ties are lost has it from here.
    let sql = "select set_config('avtryck.reason', $1, true)";
    transaction.execute(sql, &[&reason.name()]).await?;
    let sql = include_str!("own/loosen.sql");
    let rows = transaction.query(sql, &[&node, &other]).await?;
    let groups: Vec<i64> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, Error>>()?;
    let sql = match reason {
        Removal::Forgotten => include_str!("own/forget.sql"),
        _ => include_str!("own/part.sql"),
    };
    transaction.execute(sql, &[&node, &other]).await?;
    // Where more waits than that, the job does the rest.
    for _ in 0..PORTIONS_MAX {
        settle_within(transaction).await?;
        let sql = "select exists (select from avtryck.link_regroup where device_group = any($1))";
        if !transaction.query_one(sql, &[&groups]).await?.try_get(0)? {
            break;
        }
    }
    let sql = include_str!("own/note.sql");
    transaction
        .execute(sql, &[&node, &reason.name(), &groups])
        .await?;
    Ok(true)
}

/// Limits how long a connection's statements take, and how long they wait for others; and has them
/// find the few rows that they need by index, however many Postgres expects.
///
/// # Errors
/// Where Postgres fails.
pub async fn set_up(client: &Client, millis: u128) -> Result<(), Error> {
    let sql = format!(
        "set statement_timeout = {millis}; set lock_timeout = {millis}; \
         set enable_seqscan = off"
    );
    client.batch_execute(&sql).await
}
