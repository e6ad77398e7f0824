//! What is held about a subject, under one of its IDs: shown, exported, erased.
//!
//! [`TABLES`] is the one list of the tables that hold IDs; `rejected_hit`, whose payloads must be
//! decoded, is handled besides. A table with an ID needs a line there, so that export and erasure
//! cover it.
//!
//! The IDs on one row belong together: with a visitor's rows the partner's IDs on them go, but the
//! same partner's ID on other rows is another subject, which is asked for by itself. `event_key` is
//! left alone: it holds keyed hashes of the senders' event IDs and, of anybody's ID, 16 bits of one,
//! for a week. It keeps an erased event from being recorded again when its sender repeats it.

mod erase;
pub mod suppression;

use std::pin::pin;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, GenericClient, Row};

pub use erase::{AskedBy, Removed, erase, finish, remove};

use crate::clock::UnixMicros;
use crate::hit::subject::{Held, HeldAd, HeldHit, Subject};
use crate::hit::{self, Hit, VisitorId};
use uuid::Uuid;

/// A table that holds IDs, or hashes of them.
struct Table {
    name: &'static str,
    /// What is exported: the table, or the view of it that has words in place of numbers.
    words: &'static str,
    /// The order in which it is exported.
    order: &'static str,
    /// What the conditions need joined to the table, which is named `held`, where only the view
    /// has it.
    joined: &'static str,
    /// Whether it stays when the subject is erased, because it holds only hashes.
    is_kept: bool,
    /// The condition for a row by a visitor's ID, by a MAID, by a partner's ID: `$1` is the
    /// subject's key (uuid), `$2` the ID (text), `$3` the partner (text). Each has an index.
    by: [&'static str; 3],
}

/// Every table that holds IDs, except `rejected_hit`.
const TABLES: [Table; 5] = [
    Table {
        name: "hit",
        words: "avtryck.hit_detail",
        order: "received_at",
        joined: "left join avtryck.ad on ad.key = held.ad_key",
        is_kept: false,
        by: [
            "visitor_id = $2::uuid",
            "lower(maid collate \"C\") = $2",
            "partner_uid collate \"C\" = $2 and coalesce(partner, '') = $3",
        ],
    },
    Table {
        name: "exposure",
        words: "avtryck.exposure_detail",
        order: "first_at",
        joined: "",
        is_kept: false,
        by: ["subject = $2::uuid", "subject = $1", "subject = $1"],
    },
    Table {
        name: "partner_id",
        words: "avtryck.partner_id",
        order: "first_seen",
        joined: "",
        is_kept: false,
        by: [
            "visitor_id = $2::uuid",
            "false",
            "partner_uid = $2 and partner = $3",
        ],
    },
    Table {
        name: "suppression",
        words: "avtryck.suppression",
        order: "since",
        joined: "",
        is_kept: true,
        by: ["key = $1"; 3],
    },
    Table {
        name: "erasure",
        words: "avtryck.erasure",
        order: "erased_at",
        joined: "",
        is_kept: true,
        by: ["key = $1"; 3],
    },
];

/// Turns off compiled plans and parallel workers, which Postgres would use because it expects far
/// more rows under one ID than there are: with both, exporting the rows under one MAID out of 10
/// million in 90 partitions took 1.0 s.
const PLAIN_PLANS: &str = "set jit = off; set max_parallel_workers_per_gather = 0";

const PARAMETERS: [Type; 3] = [Type::UUID, Type::TEXT, Type::TEXT];

/// A subject as the parameters of a condition.
struct Conditions<'s> {
    key: Uuid,
    id: String,
    partner: &'s str,
    by: usize,
}

impl<'s> Conditions<'s> {
    fn new(subject: &'s Subject<'_>) -> Conditions<'s> {
        Conditions {
            key: Uuid::from_bytes(subject.key()),
            id: subject.id(),
            partner: subject.partner(),
            by: match subject {
                Subject::Visitor(_) => 0,
                Subject::Maid(_) => 1,
                Subject::PartnerUid { .. } => 2,
            },
        }
    }

    fn condition(&self, table: &Table) -> &'static str {
        table.by.get(self.by).copied().unwrap_or("false")
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.key, &self.id, &self.partner]
    }
}

/// Reads what a visitor's page shows: how much is held, and at most `last_max` hits and ads.
///
/// # Errors
/// Where Postgres fails.
pub async fn held(client: &Client, visitor: VisitorId, last_max: usize) -> Result<Held, Error> {
    let visitor = Uuid::from_bytes(visitor.0);
    let limit = i64::try_from(last_max).unwrap_or(i64::MAX);
    let sum = client
        .query_one(include_str!("sum.sql"), &[&visitor])
        .await?;
    let last = client
        .query(include_str!("last.sql"), &[&visitor, &limit])
        .await?;
    let ads = client
        .query(include_str!("ads.sql"), &[&visitor, &limit])
        .await?;
    Ok(Held {
        hits: sum.try_get("hits").map(i64::cast_unsigned)?,
        last: last.iter().map(held_hit).collect::<Result<_, Error>>()?,
        ads: ads.iter().map(held_ad).collect::<Result<_, Error>>()?,
    })
}

/// Returns a text of a row, empty where it is null.
fn text(row: &Row, column: &str) -> Result<String, Error> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.unwrap_or_default())
}

fn held_ad(row: &Row) -> Result<HeldAd, Error> {
    let number = |column: &str| row.try_get(column).map(i64::cast_unsigned);
    Ok(HeldAd {
        partner: text(row, "partner")?,
        campaign: text(row, "campaign")?,
        creative: text(row, "creative")?,
        seen: number("seen")?,
        clicked: number("clicked")?,
        last_at: UnixMicros(row.try_get("last_at")?),
    })
}

fn held_hit(row: &Row) -> Result<HeldHit, Error> {
    let received_at = UnixMicros(row.try_get("received_at")?);
    HeldHit::read(received_at, |column| text(row, column))
}

/// Exports everything that is held under an ID: `line` gets one JSON object for each row, without a
/// newline, with the name of the table in `table` and the columns in words. All lines are of one
/// moment. Returns how many there were.
///
/// # Errors
/// Where Postgres or `line` fails.
pub async fn export(
    client: &mut Client,
    subject: &Subject<'_>,
    mut line: impl AsyncFnMut(String) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let transaction = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    transaction
        .batch_execute(&format!("set local time zone 'UTC'; {PLAIN_PLANS}"))
        .await?;
    let conditions = Conditions::new(subject);
    let mut lines = 0;
    for table in &TABLES {
        let Table {
            name, words, order, ..
        } = table;
        let sql = format!(
            "select row_to_json(line)::text from \
             (select '{name}' as \"table\", held.* from {words} as held where {} order by {order}) as line",
            conditions.condition(table)
        );
        let statement = transaction.prepare_typed(&sql, &PARAMETERS).await?;
        let rows = transaction
            .query_raw(&statement, conditions.parameters())
            .await;
        let mut rows = pin!(rows.with_context(|| format!("reading avtryck.{name}"))?);
        while let Some(row) = rows.try_next().await? {
            line(row.try_get(0)?).await?;
            lines += 1;
        }
    }
    read_rejected(&transaction, subject, async |rejected| {
        line(rejected.to_line()?).await?;
        lines += 1;
        Ok(true)
    })
    .await?;
    transaction.commit().await?;
    Ok(lines)
}

/// A rejected hit that names the subject.
struct RejectedHit {
    /// Its columns, as one JSON object.
    columns: String,
    payload: Vec<u8>,
}

impl RejectedHit {
    /// Returns the columns, with the hit where the payload decodes.
    fn to_line(&self) -> anyhow::Result<String> {
        let mut line: serde_json::Map<String, Value> = serde_json::from_str(&self.columns)?;
        let hit = Hit::decode(&self.payload).map_or(Value::Null, |hit| hit.export().into());
        line.insert("hit".to_owned(), hit);
        Ok(Value::Object(line).to_string())
    }
}

/// Passes the rejected hits that name a subject to `found`, until it returns false. The whole table
/// is read: it has no index for what is in payloads, and seldom many rows.
async fn read_rejected(
    client: &impl GenericClient,
    subject: &Subject<'_>,
    mut found: impl AsyncFnMut(RejectedHit) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    // Any encoding that names the subject has it; bytes, because a payload need not be text.
    let needle = match subject {
        Subject::Visitor(visitor) => visitor.0.to_vec(),
        _ => subject.id().into_bytes(),
    };
    let sql = match subject {
        // The case of a MAID may differ.
        Subject::Maid(_) => include_str!("rejected_maid.sql"),
        _ => include_str!("rejected.sql"),
    };
    let rows = client.query_raw(sql, [needle]).await?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await? {
        let payload: Vec<u8> = row.try_get("payload")?;
        let named = hit::subjects(&payload);
        if named.iter().flatten().any(|named| named.is(subject)) {
            let columns = row.try_get("columns")?;
            if !found(RejectedHit { columns, payload }).await? {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
