//! What is held about somebody, under one of their IDs: told, handed out, erased.
//!
//! [`TABLES`] is the one list of the tables that hold IDs; `rejected_hit`, whose payloads have to be
//! decoded, comes on top. Whoever adds a table with an ID adds a line there, and export and erasure
//! cover it.
//!
//! The IDs on one row belong together: with a visitor's rows the partner's IDs on them go, but the same
//! partner's ID on other rows is another subject, which is asked for by itself.
//! `event_key` stays as it is: it holds hashes of the senders' event IDs, of nobody's ID, for a week, and
//! keeps an event that was erased from being recorded anew when its sender repeats it.

mod erase;
pub mod suppression;

use std::pin::pin;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
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
    /// What is handed out: the table, or the view of it that says in words what it holds in numbers.
    words: &'static str,
    /// The order in which it is handed out.
    order: &'static str,
    /// What the conditions need beside the table, which goes by the name `held`, where the view has it.
    joined: &'static str,
    /// Whether it stays when the subject is erased: it holds hashes alone.
    is_kept: bool,
    /// The condition for a row by a visitor's ID, a MAID, a partner's ID: `$1` is the key of the subject
    /// (uuid), `$2` the ID (text), `$3` the partner (text). Each has its index.
    by: [&'static str; 3],
}

/// Every table that holds IDs, but for `rejected_hit`.
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
            "partner_uid = $2 and coalesce(partner, '') = $3",
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

/// Postgres expects far more rows under one ID than there are, and would compile the plan and start workers
/// for them: of 10 million rows in 90 partitions those under one MAID took 1.0 s to export with both.
const PLAIN_PLANS: &str = "set jit = off; set max_parallel_workers_per_gather = 0";

const PARAMETERS: [Type; 3] = [Type::UUID, Type::TEXT, Type::TEXT];

/// A subject as parameters of a condition.
struct Wanted<'s> {
    key: Uuid,
    id: String,
    partner: &'s str,
    by: usize,
}

impl<'s> Wanted<'s> {
    fn new(subject: &'s Subject<'_>) -> Wanted<'s> {
        Wanted {
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

/// What is held about a visitor, in short, with their last hits and ads.
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
    let number = |column: &str| sum.try_get(column).map(i64::cast_unsigned);
    let first_at: Option<i64> = sum.try_get("first_at")?;
    Ok(Held {
        hits: number("hits")?,
        first_at: first_at.map(UnixMicros),
        ads_seen: number("ads_seen")?,
        ads_clicked: number("ads_clicked")?,
        last: last.iter().map(held_hit).collect::<Result<_, Error>>()?,
        ads: ads.iter().map(held_ad).collect::<Result<_, Error>>()?,
    })
}

/// A text of a row, empty where it is null.
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
    let text = |column: &str| text(row, column);
    Ok(HeldHit {
        received_at: UnixMicros(row.try_get("received_at")?),
        kind: text("kind")?,
        site: text("site")?,
        page_url: text("page_url")?,
        referrer: text("referrer")?,
        event_name: text("event_name")?,
        country: text("country")?,
        region: text("region")?,
        city: text("city")?,
        network: text("network")?,
        device_class: text("device_class")?,
        device_brand: text("device_brand")?,
        device_model: text("device_model")?,
        os: text("os")?,
        browser: text("browser")?,
        client_ip: text("client_ip")?,
        partner: text("partner")?,
        partner_uid: text("partner_uid")?,
        maid: text("maid")?,
        campaign: text("campaign")?,
        creative: text("creative")?,
        placement: text("placement")?,
        publisher: text("publisher")?,
    })
}

/// Hands out everything that is held under an ID: `line` gets one JSON object a row, without its newline,
/// with the name of the table in `table` and the columns in words. All lines are of one moment. How many
/// there were.
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
    let wanted = Wanted::new(subject);
    let mut lines = 0;
    for table in &TABLES {
        let Table {
            name, words, order, ..
        } = table;
        let sql = format!(
            "select row_to_json(line)::text from \
             (select '{name}' as \"table\", held.* from {words} as held where {} order by {order}) as line",
            wanted.condition(table)
        );
        let statement = transaction.prepare_typed(&sql, &PARAMETERS).await?;
        let rows = transaction.query_raw(&statement, wanted.parameters()).await;
        let mut rows = pin!(rows.with_context(|| format!("reading avtryck.{name}"))?);
        while let Some(row) = rows.try_next().await? {
            line(row.try_get(0)?).await?;
            lines += 1;
        }
    }
    each_rejected(&transaction, subject, async |rejected| {
        line(rejected.line()?).await?;
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
    /// The columns, and what the payload says as far as it decodes.
    fn line(&self) -> anyhow::Result<String> {
        let mut line: serde_json::Map<String, Value> = serde_json::from_str(&self.columns)?;
        let hit = Hit::decode(&self.payload).map_or(Value::Null, |hit| words(&hit));
        line.insert("hit".to_owned(), hit);
        Ok(Value::Object(line).to_string())
    }
}

/// Gives out the rejected hits that name a subject, until `found` answers false. Their table is read from
/// end to end: it has no index for what stands in payloads, and seldom many rows.
async fn each_rejected(
    client: &impl GenericClient,
    subject: &Subject<'_>,
    mut found: impl AsyncFnMut(RejectedHit) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    // What any encoding that names the subject holds; bytes, so that a payload need not be text.
    let needle = match subject {
        Subject::Visitor(visitor) => visitor.0.to_vec(),
        _ => subject.id().into_bytes(),
    };
    let sql = match subject {
        // Of a MAID the case may differ.
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

/// A hit as `hit_detail` would say it, as far as the record tells.
fn words(hit: &Hit<'_>) -> Value {
    let permit: Vec<&str> = crate::hit::Permit::NAMED
        .iter()
        .filter(|(_, flag)| hit.permit.allows(*flag))
        .map(|(name, _)| *name)
        .collect();
    json!({
        "received_at_unix_micros": hit.received_at,
        "site": hit.site,
        "permit": permit,
        "consent_source": hit.consent_source.name(),
        "visitor_id": hit.visitor.map(|visitor| visitor.to_string()),
        "client_ip": hit.client_ip,
        "user_agent": hit.user_agent,
        "page_url": hit.page_url,
        "referrer": hit.referrer,
        "event_name": hit.event_name,
        "event_id": hit.event_id,
        "partner": hit.partner,
        "partner_uid": hit.partner_uid,
        "maid": hit.maid,
        "device_id": hit.device_id,
        "campaign": hit.campaign,
        "creative": hit.creative,
        "placement": hit.placement,
        "publisher": hit.publisher,
        "site_category": hit.category,
        "params": hit.params,
    })
}

#[cfg(test)]
mod tests;
