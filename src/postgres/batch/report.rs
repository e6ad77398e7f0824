//! Marks of what a batch changes in roll-ups.
//!
//! Reports are read from roll-ups of spans of time, made of the hits by the job `report`. A batch
//! that brings hits of a span that is rolled up already makes it wrong, so it marks the ten minutes
//! of its hits in the same transaction. Reports read what is marked from the hits, until the job
//! has taken the mark and made the roll-up again (`V60__rollup.sql`).
//!
//! What a conversion followed is decided by the times at which hits happened, which may be long
//! before they were received: the batch also marks when its clicks and impressions happened
//! (`V106__path_order.sql`).

use std::collections::BTreeMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};

use super::load::Mark;
use crate::clock::UnixMicros;
use crate::hit::Kind;
use crate::row::Counts;

/// The minutes of a mark; `avtryck.report_slot` has them too.
const SLOT_MINUTES: i64 = 10;

/// What a batch changes: the marks, by their number since 1970, and whether there are rows among
/// the hits that conversions can follow from, or be.
type Slots = BTreeMap<i64, bool>;

/// Marks the ten minutes of the rows and counts.
pub(super) async fn mark(
    transaction: &Transaction<'_>,
    rows: &[Mark],
    counts: &Counts,
) -> Result<(), Error> {
    let slots = find_slots(rows, counts);
    if slots.is_empty() {
        return Ok(());
    }
    let minutes: Vec<i64> = slots.keys().map(|slot| slot * SLOT_MINUTES).collect();
    let moves_conversions: Vec<bool> = slots.values().copied().collect();
    transaction
        .execute_typed(
            "insert into avtryck.report_mark (at, moves_conversions) \
             select to_timestamp(minute * 60), moves from unnest($1, $2) as slot (minute, moves)",
            &[
                (&minutes, Type::INT8_ARRAY),
                (&moves_conversions, Type::BOOL_ARRAY),
            ],
        )
        .await?;
    mark_paths(transaction, rows).await
}

/// Marks when the hits happened that conversions can follow.
async fn mark_paths(transaction: &Transaction<'_>, rows: &[Mark]) -> Result<(), Error> {
    let (received, occurred): (Vec<i64>, Vec<i64>) = rows.iter().filter_map(find_delay).unzip();
    if received.is_empty() {
        return Ok(());
    }
    transaction
        .execute_typed(
            "select avtryck.mark_paths(array_agg(to_timestamp(received)), array_agg(to_timestamp(occurred))) \
             from unnest($1, $2) as hit (received, occurred)",
            &[(&received, Type::INT8_ARRAY), (&occurred, Type::INT8_ARRAY)],
        )
        .await?;
    Ok(())
}

/// Returns when a hit was received and when it happened, in seconds, if a conversion can follow it
/// and it happened in earlier ten minutes.
fn find_delay(row: &Mark) -> Option<(i64, i64)> {
    let may_lead = matches!(row.kind, Kind::Impression | Kind::Click | Kind::Callback);
    let slot = |time: UnixMicros| time.seconds() / (SLOT_MINUTES * 60);
    let occurred = row.occurred_at.filter(|_| may_lead)?;
    (slot(occurred) < slot(row.received_at))
        .then(|| (row.received_at.seconds(), occurred.seconds()))
}

fn find_slots(rows: &[Mark], counts: &Counts) -> Slots {
    let mut slots = Slots::new();
    for count in counts.0.keys() {
        slots.entry(count.minute / SLOT_MINUTES).or_default();
    }
    // Neighbours are mostly of the same ten minutes.
    let mut last: Option<(i64, bool)> = None;
    for row in rows {
        let slot = row.received_at.seconds() / (SLOT_MINUTES * 60);
        let moves = !matches!(row.kind, Kind::PageView | Kind::Sync);
        match &mut last {
            Some((number, any_moves)) if *number == slot => *any_moves |= moves,
            _ => {
                if let Some((number, any_moves)) = last.replace((slot, moves)) {
                    *slots.entry(number).or_default() |= any_moves;
                }
            }
        }
    }
    if let Some((number, any_moves)) = last {
        *slots.entry(number).or_default() |= any_moves;
    }
    slots
}
