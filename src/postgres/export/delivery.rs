//! Makes deliveries and notes that they arrived.

use anyhow::Context as _;
use tokio_postgres::{Client, Error, Row, Transaction};
use uuid::Uuid;

use super::compare::{MemberComparison, ToldPartner};
use crate::export::{Delivery, DeliveryKind, DeliveryLine};

/// Lines of a delivery to a partner, of about 100 bytes each.
const LINES_MAX: i64 = 10_000;
/// Lines of a delivery to a webhook.
const EVENTS_MAX: i64 = 1_000;

/// Returns the target of a webhook.
#[must_use]
pub(crate) fn webhook_target(webhook: &str) -> String {
    format!("webhook/{webhook}")
}

/// A delivery as its row has it.
struct Open {
    number: i64,
    id: Uuid,
    kind: DeliveryKind,
    part: i32,
    is_last: bool,
}

impl Open {
    fn read(row: &Row) -> anyhow::Result<Open> {
        let kind: &str = row.try_get("kind")?;
        Ok(Open {
            number: row.try_get("number")?,
            id: row.try_get("delivery")?,
            kind: DeliveryKind::from_name(kind).context("a delivery of a kind that is unknown")?,
            part: row.try_get("part")?,
            is_last: row.try_get("is_last")?,
        })
    }

    fn with(self, to: &str, lines: Vec<DeliveryLine>) -> Delivery {
        let Open {
            number,
            id,
            kind,
            part,
            is_last,
        } = self;
        Delivery {
            id,
            to: to.to_owned(),
            number,
            kind,
            part,
            is_last,
            lines,
        }
    }
}

/// Makes a delivery without lines.
async fn begin(
    transaction: &Transaction<'_>,
    target: &str,
    kind: DeliveryKind,
    (part, is_last): (i32, bool),
) -> anyhow::Result<Open> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let id = uuid::Builder::from_random_bytes(random).into_uuid();
    let sql = "with taken as (update avtryck.export_target set last_number = last_number + 1 \
                   where target = $1 returning last_number) \
               insert into avtryck.export_delivery (target, number, delivery, kind, part, is_last) \
               select $1, last_number, $2, $3, $4, $5 from taken returning number";
    let row = transaction
        .query_one(sql, &[&target, &id, &kind.name(), &part, &is_last])
        .await?;
    Ok(Open {
        number: row.try_get(0)?,
        id,
        kind,
        part,
        is_last,
    })
}

/// Returns the first delivery that the target is not known to have, of removals or of others.
async fn read_open(
    transaction: &Transaction<'_>,
    target: &str,
    is_removal: bool,
) -> anyhow::Result<Option<Open>> {
    let sql = "select number, delivery, kind, part, is_last from avtryck.export_delivery \
               where target = $1 and delivered_at is null and (kind = 'remove') = $2 \
               order by number limit 1";
    let row = transaction.query_opt(sql, &[&target, &is_removal]).await?;
    row.map(|row| Open::read(&row)).transpose()
}

/// Returns what a partner is to be sent next, if anything. Compares members with what it was told
/// where an hour has passed: `under_way` is the comparison that is not at its end, in which
/// removals come between.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn next_for_partner(
    client: &mut Client,
    partner: &ToldPartner,
    under_way: &mut Option<MemberComparison>,
) -> anyhow::Result<Option<Delivery>> {
    let key = &*partner.key;
    loop {
        if let Some(removal) = next_removal(client, key).await? {
            return Ok(Some(removal));
        }
        if let Some(comparison) = under_way {
            if comparison.step(client, partner).await? {
                *under_way = None;
                let sql = "update avtryck.export_target set compared_at = now(), full_began_at = coalesce(full_began_at, \
                               case when full_at is null or full_at <= now() - interval '7 days' then now() end) \
                           where target = $1";
                client.execute(sql, &[&key]).await?;
            }
            continue;
        }
        let sql = "select compared_at is null, coalesce(compared_at <= now() - interval '1 hour', true) \
                   from avtryck.export_target where target = $1";
        let row = client.query_one(sql, &[&key]).await?;
        let (is_first, is_due): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        // What is under way may be what the configuration no longer allows.
        let open = match is_first {
            true => None,
            false => next_addition(client, key).await?,
        };
        let Some(open) = open else {
            if !is_due {
                return Ok(None);
            }
            *under_way = Some(MemberComparison::default());
            continue;
        };
        if open.kind == DeliveryKind::Delta && open.lines.is_empty() {
            // All of them left before it arrived.
            finish(client, key, &open).await?;
            continue;
        }
        return Ok(Some(open));
    }
}

async fn next_removal(client: &mut Client, partner: &str) -> anyhow::Result<Option<Delivery>> {
    let transaction = client.transaction().await?;
    let open = match read_open(&transaction, partner, true).await? {
        Some(open) => open,
        None => {
            let sql = "select exists (select from avtryck.export_outbox where partner = $1 and number is null)";
            let has_any: bool = transaction.query_one(sql, &[&partner]).await?.try_get(0)?;
            if !has_any {
                return Ok(None);
            }
            let open = begin(&transaction, partner, DeliveryKind::Remove, (1, true)).await?;
            let sql = "update avtryck.export_outbox set number = $2 where removal = any(array( \
                           select removal from avtryck.export_outbox \
                           where partner = $1 and number is null order by removal limit $3))";
            transaction
                .execute(sql, &[&partner, &open.number, &LINES_MAX])
                .await?;
            open
        }
    };
    transaction.commit().await?;
    let sql = "select segment.key, waiting.id from avtryck.export_outbox as waiting \
               join avtryck.segment using (segment) \
               where waiting.partner = $1 and waiting.number = $2 order by waiting.removal";
    let rows = client.query(sql, &[&partner, &open.number]).await?;
    let lines = members(&rows, "remove")?;
    Ok(Some(open.with(partner, lines)))
}

/// Returns what was begun and may not have arrived, or what is new.
async fn next_addition(client: &mut Client, partner: &str) -> anyhow::Result<Option<Delivery>> {
    let transaction = client.transaction().await?;
    let open = match read_open(&transaction, partner, false).await? {
        Some(open) => Some(open),
        None => match begin_part(&transaction, partner).await? {
            Some(open) => Some(open),
            None => begin_delta(&transaction, partner).await?,
        },
    };
    let Some(open) = open else {
        return Ok(None);
    };
    transaction.commit().await?;
    let rows = match open.kind {
        DeliveryKind::Full => {
            let sql = "select segment.key, told.id from avtryck.export_delivery as part \
                       join avtryck.export_told as told on told.partner = part.target \
                       join avtryck.segment on segment.segment = told.segment \
                       where part.target = $1 and part.number = $2 and told.number is not null \
                         and (part.from_segment is null or (told.segment, told.id) > (part.from_segment, part.from_id)) \
                         and (part.until_segment is null or (told.segment, told.id) <= (part.until_segment, part.until_id)) \
                       order by told.segment, told.id";
            client.query(sql, &[&partner, &open.number]).await?
        }
        _ => {
            let sql = "select segment.key, told.id from avtryck.export_told as told \
                       join avtryck.segment using (segment) \
                       where told.partner = $1 and told.number = $2 order by told.segment, told.id";
            client.query(sql, &[&partner, &open.number]).await?
        }
    };
    let lines = members(&rows, "add")?;
    Ok(Some(open.with(partner, lines)))
}

/// Begins the next part of the full list that is under way, if one is.
async fn begin_part(transaction: &Transaction<'_>, partner: &str) -> anyhow::Result<Option<Open>> {
    let sql = "select full_parts, full_segment, full_id from avtryck.export_target \
               where target = $1 and full_began_at is not null";
    let Some(row) = transaction.query_opt(sql, &[&partner]).await? else {
        return Ok(None);
    };
    let parts: i32 = row.try_get(0)?;
    let (from_segment, from_id): (Option<i16>, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
    let sql = "select told, segment, id from avtryck.export_told \
               where partner = $1 and ($2::smallint is null or (segment, id) > ($2, $3::text)) \
               order by segment, id limit $4";
    let rows = transaction
        .query(sql, &[&partner, &from_segment, &from_id, &(LINES_MAX + 1)])
        .await?;
    let is_last = i64::try_from(rows.len())? <= LINES_MAX;
    let lines = rows.get(..rows.len().min(usize::try_from(LINES_MAX)?));
    let lines = lines.unwrap_or_default();
    let open = begin(
        transaction,
        partner,
        DeliveryKind::Full,
        (parts + 1, is_last),
    )
    .await?;
    let told: Vec<i64> = lines
        .iter()
        .map(|row| row.try_get("told"))
        .collect::<Result<_, _>>()?;
    number(transaction, &told, open.number).await?;
    let (until_segment, until_id): (Option<i16>, Option<String>) = match lines.last() {
        Some(last) if !is_last => (Some(last.try_get("segment")?), Some(last.try_get("id")?)),
        _ => (None, None),
    };
    let sql = "update avtryck.export_delivery set from_segment = $3, from_id = $4, until_segment = $5, until_id = $6 \
               where target = $1 and number = $2";
    transaction
        .execute(
            sql,
            &[
                &partner,
                &open.number,
                &from_segment,
                &from_id,
                &until_segment,
                &until_id,
            ],
        )
        .await?;
    let sql = "update avtryck.export_target set full_parts = full_parts + 1, full_segment = $2, full_id = $3 \
               where target = $1";
    transaction
        .execute(sql, &[&partner, &until_segment, &until_id])
        .await?;
    Ok(Some(open))
}

/// Begins a delivery of members that the partner was not told of.
async fn begin_delta(transaction: &Transaction<'_>, partner: &str) -> anyhow::Result<Option<Open>> {
    let sql = "select told from avtryck.export_told where partner = $1 and number is null \
               order by told limit $2";
    let rows = transaction.query(sql, &[&partner, &LINES_MAX]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let told: Vec<i64> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    let open = begin(transaction, partner, DeliveryKind::Delta, (1, true)).await?;
    number(transaction, &told, open.number).await?;
    Ok(Some(open))
}

/// Notes the delivery that tells rows for the first time. From here on the partner may know them.
async fn number(transaction: &Transaction<'_>, told: &[i64], number: i64) -> Result<(), Error> {
    let sql = "update avtryck.export_told set number = $2, told_at = now() \
               where told = any($1) and number is null";
    transaction.execute(sql, &[&told, &number]).await?;
    Ok(())
}

/// Returns what a webhook is to be sent next, if anything.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn next_for_webhook(
    client: &mut Client,
    webhook: &str,
) -> anyhow::Result<Option<Delivery>> {
    let target = webhook_target(webhook);
    loop {
        let transaction = client.transaction().await?;
        let open = match read_open(&transaction, &target, false).await? {
            Some(open) => open,
            None => match begin_events(&transaction, webhook, &target).await? {
                Some(open) => open,
                None => return Ok(None),
            },
        };
        transaction.commit().await?;
        let sql = "select segment.key, waiting.subject, waiting.is_entry, waiting.reason, \
                       to_char(waiting.at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
                   from avtryck.webhook_outbox as waiting join avtryck.segment using (segment) \
                   where waiting.webhook = $1 and waiting.number = $2 order by waiting.event";
        let rows = client.query(sql, &[&webhook, &open.number]).await?;
        let lines = rows
            .iter()
            .map(event)
            .collect::<Result<Vec<DeliveryLine>, _>>()?;
        let delivery = open.with(webhook, lines);
        if !delivery.lines.is_empty() {
            return Ok(Some(delivery));
        }
        finish(client, &target, &delivery).await?;
    }
}

/// Begins a delivery of events. Who came into a segment is not told before the segment is large
/// enough.
async fn begin_events(
    transaction: &Transaction<'_>,
    webhook: &str,
    target: &str,
) -> anyhow::Result<Option<Open>> {
    let sql = "select waiting.event from avtryck.webhook_outbox as waiting join avtryck.segment using (segment) \
               where waiting.webhook = $1 and waiting.number is null and (not waiting.is_entry or segment.is_exposed) \
               order by waiting.event limit $2";
    let rows = transaction.query(sql, &[&webhook, &EVENTS_MAX]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let events: Vec<i64> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    let open = begin(transaction, target, DeliveryKind::Event, (1, true)).await?;
    let sql = "update avtryck.webhook_outbox set number = $2 where event = any($1)";
    transaction.execute(sql, &[&events, &open.number]).await?;
    Ok(Some(open))
}

/// Notes that the target has a delivery.
///
/// # Errors
/// Where Postgres fails. The delivery is then sent again, under the same ID.
pub async fn finish(client: &mut Client, target: &str, delivery: &Delivery) -> Result<(), Error> {
    let number = delivery.number;
    let lines = i32::try_from(delivery.lines.len()).unwrap_or(i32::MAX);
    let transaction = client.transaction().await?;
    let sql = "update avtryck.export_delivery set delivered_at = now(), lines = $3, from_id = null, until_id = null \
               where target = $1 and number = $2";
    transaction
        .execute(sql, &[&target, &number, &lines])
        .await?;
    match delivery.kind {
        DeliveryKind::Remove => {
            let sql = "delete from avtryck.export_outbox where partner = $1 and number = $2";
            transaction.execute(sql, &[&target, &number]).await?;
        }
        DeliveryKind::Event => {
            let sql = "delete from avtryck.webhook_outbox where webhook = $1 and number = $2";
            transaction.execute(sql, &[&delivery.to, &number]).await?;
        }
        DeliveryKind::Full if delivery.is_last => {
            let sql = "update avtryck.export_target set full_at = full_began_at, full_began_at = null, full_parts = 0, \
                       full_segment = null, full_id = null where target = $1";
            transaction.execute(sql, &[&target]).await?;
        }
        DeliveryKind::Full | DeliveryKind::Delta => {}
    }
    transaction.commit().await
}

/// Has the next comparison be followed by a full list, whenever the last one was.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn begin_full(client: &Client, partner: &str) -> Result<(), Error> {
    let sql =
        "update avtryck.export_target set full_at = null, compared_at = null where target = $1";
    client.execute(sql, &[&partner]).await?;
    Ok(())
}

fn members(rows: &[Row], op: &'static str) -> Result<Vec<DeliveryLine>, Error> {
    let line = |row: &Row| {
        Ok(DeliveryLine::Member {
            op,
            segment: row.try_get(0)?,
            id: row.try_get(1)?,
        })
    };
    rows.iter().map(line).collect()
}

fn event(row: &Row) -> Result<DeliveryLine, Error> {
    Ok(DeliveryLine::Event {
        segment: row.try_get(0)?,
        subject: row.try_get::<_, Uuid>(1)?.to_string(),
        event: if row.try_get(2)? { "entry" } else { "exit" },
        reason: row.try_get(3)?,
        at: row.try_get(4)?,
    })
}
