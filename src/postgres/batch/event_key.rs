//! Event IDs that were seen before: of a batch's rows, those are left out.
//!
//! Release 0.1.0 made other keys ([`former_event_key`]). They are looked up as well until they are
//! deleted, so that an event that was counted before the upgrade is not counted again after it.

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

use super::load::{self, Load, Mark, Payloads};
use crate::hit::{Flags, Hit};
use crate::row::{SenderClass, former_event_key};

/// How long after the upgrade a former key may be there: a key is deleted once it is older than
/// seven days, by a job that runs every hour.
const FORMER_KEY_DAYS: i32 = 8;

/// Returns the last UTC day since 1970 on which a former key may be there; `None` where there
/// never was one.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn former_keys_until(client: &Client) -> Result<Option<i32>, Error> {
    let sql = "select max(last_made_on) - date '1970-01-01' + $1::int from avtryck.event_key_form";
    client.query_one(sql, &[&FORMER_KEY_DAYS]).await?.try_get(0)
}

/// Leaves out the rows whose event ID is in Postgres already or earlier in the batch. A later click
/// on a URL for one use is stored, as a replay if a person made it.
pub(crate) async fn leave_out_repeated(
    transaction: &Transaction<'_>,
    load: &mut Load,
    payloads: Payloads<'_>,
) -> Result<(), Error> {
    let former = find_former(transaction, load, payloads).await?;
    let marks = &mut load.rows.marks;
    let keys = marks.iter().filter_map(|mark| mark.event_key);
    let keys: HashSet<[u8; 16]> = keys.filter(|key| !former.contains(key)).collect();
    let mut unseen = insert(transaction, keys).await?;
    let bytes = &mut load.rows.bytes;
    marks.retain_mut(|mark| {
        let is_new = mark.event_key.is_none_or(|key| unseen.remove(&key));
        if !is_new && mark.is_one_time {
            if mark.class == SenderClass::Person {
                load::set_flags(bytes, mark, Flags::REPLAYED);
            }
            // The ID belongs to another row.
            mark.event_key = None;
        }
        is_new || mark.is_one_time
    });
    Ok(())
}

/// Inserts keys as seen on this day by Postgres's clock, by which they are deleted. Returns those
/// that were not there.
async fn insert(
    transaction: &Transaction<'_>,
    keys: HashSet<[u8; 16]>,
) -> Result<HashSet<[u8; 16]>, Error> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let keys: Vec<Uuid> = keys.into_iter().map(Uuid::from_bytes).collect();
    // In the order of the keys: two loaders with the same IDs wait for each other and do not
    // deadlock.
    let rows = transaction
        .query(
            "insert into avtryck.event_key (key, seen_on) \
             select key, (now() at time zone 'UTC')::date from unnest($1::uuid[]) as new (key) \
             order by key on conflict do nothing returning key",
            &[&keys],
        )
        .await?;
    rows.iter().map(read_key).collect()
}

/// Returns the keys of the events whose former key is in Postgres.
async fn find_former(
    transaction: &Transaction<'_>,
    load: &Load,
    payloads: Payloads<'_>,
) -> Result<HashSet<[u8; 16]>, Error> {
    let may_have_one = |mark: &&Mark| {
        let until = load.former_keys_until;
        until.is_some_and(|until| load::day(mark.received_at) <= until)
    };
    let mut keys: HashMap<[u8; 16], HashSet<[u8; 16]>> = HashMap::new();
    for mark in load.rows.marks.iter().filter(may_have_one) {
        let hit = Hit::decode(payloads.of(&mark.record)).ok();
        let former = hit.as_ref().and_then(former_event_key);
        if let Some((former, key)) = former.zip(mark.event_key) {
            keys.entry(former).or_default().insert(key);
        }
    }
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let former: Vec<Uuid> = keys.keys().copied().map(Uuid::from_bytes).collect();
    let sql = "select key from avtryck.event_key where key = any($1)";
    let rows = transaction.query(sql, &[&former]).await?;
    let mut found = HashSet::new();
    for row in &rows {
        found.extend(keys.remove(&read_key(row)?).unwrap_or_default());
    }
    Ok(found)
}

fn read_key(row: &tokio_postgres::Row) -> Result<[u8; 16], Error> {
    row.try_get::<_, Uuid>(0).map(Uuid::into_bytes)
}

/// Deletes the event keys of refused hits: they must not stand in the way of a hit that becomes a
/// row.
pub(crate) async fn forget(
    transaction: &Transaction<'_>,
    refused: &[(Mark, String)],
) -> Result<(), Error> {
    let keys: Vec<Uuid> = refused
        .iter()
        .filter_map(|(mark, _)| mark.event_key.map(Uuid::from_bytes))
        .collect();
    if !keys.is_empty() {
        transaction
            .execute(
                "delete from avtryck.event_key where key = any($1)",
                &[&keys],
            )
            .await?;
    }
    Ok(())
}
