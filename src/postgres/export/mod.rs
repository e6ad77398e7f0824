//! What partners and webhooks are told, in Postgres: which delivery is next, and that it arrived.
//!
//! | step | where |
//! | --- | --- |
//! | somebody leaves a segment, refuses, withdraws or is erased | triggers write to `export_outbox` in that transaction, for partners that were told of them |
//! | each hour members are compared with what the partner was told | [`MemberComparison`](compare::MemberComparison) |
//! | a delivery is made, with its ID, before it is sent | [`next_for_partner`], [`next_for_webhook`] |
//! | the receiver has it | [`finish`] |
//!
//! A delivery's lines are read anew each time it is sent, just before, of the rows that still have
//! its number: whoever left meanwhile is not among them. The order of a partner's deliveries is
//! removals, then what was begun, then what is new. Nothing else remembers how far a receiver was
//! told, so a process that is killed anywhere goes on where it was.

pub mod compare;
mod delivery;
#[cfg(test)]
mod tests;

pub use delivery::finish;
pub(crate) use delivery::{begin_full, next_for_partner, next_for_webhook, webhook_target};

use tokio_postgres::{Client, Error};

use super::session_lock;

/// The first half of the advisory lock of a target: "expo" in ASCII.
const LOCK: i32 = 0x6578_706f;

/// Takes a target for this session, so that one process sends to it at a time. Returns whether it
/// was free, or became free in time.
///
/// # Errors
/// Where Postgres fails.
pub async fn claim(client: &Client, target: &str) -> Result<bool, Error> {
    if !session_lock::lock(client, LOCK, target).await? {
        return Ok(false);
    }
    // The configuration may be another than at the last comparison.
    let sql = "insert into avtryck.export_target (target) values ($1) \
               on conflict (target) do update set compared_at = null";
    client.execute(sql, &[&target]).await?;
    Ok(true)
}

/// Notes which segments each webhook is told of, and forgets webhooks that are none any more.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn note_webhooks(
    client: &mut Client,
    webhooks: &[(&str, &[String])],
) -> Result<(), Error> {
    let (mut names, mut segments) = (Vec::new(), Vec::new());
    for (name, keys) in webhooks {
        names.extend(std::iter::repeat_n(*name, keys.len()));
        segments.extend(keys.iter().map(String::as_str));
    }
    let all: Vec<&str> = webhooks.iter().map(|(name, _)| *name).collect();
    let transaction = client.transaction().await?;
    let sql = "delete from avtryck.export_webhook where (webhook, segment) not in ( \
                   select name, segment from unnest($1::text[], $2::text[]) as wanted (name, key) \
                   join avtryck.segment using (key))";
    transaction.execute(sql, &[&names, &segments]).await?;
    let sql = "insert into avtryck.export_webhook (webhook, segment) \
               select name, segment from unnest($1::text[], $2::text[]) as wanted (name, key) \
               join avtryck.segment using (key) on conflict do nothing";
    transaction.execute(sql, &[&names, &segments]).await?;
    let sql = "delete from avtryck.webhook_outbox where webhook <> all($1)";
    transaction.execute(sql, &[&all]).await?;
    transaction.commit().await
}
