//! Marks of what a batch changes in roll-ups, and copies of hits that come late.
//!
//! Reports are read from roll-ups of spans of time, made of the hits by the job `report`. A batch
//! that brings hits of a span that is rolled up already makes it wrong, so it marks the ten minutes
//! of its hits in the same transaction. Reports read what is marked from the hits, until the job
//! has taken the mark and made the roll-up again (`V60__rollup.sql`).
//!
//! Sums about sites are of visitors and not of spans. To add a late hit to them is to take off what
//! its visitor had without it, which nothing can tell once the hit is among the others. So a batch
//! copies its late page views and events to `late_hit` (`V111__late_hit.sql`). Where there are too
//! many, the mark says that they are not there, and the sums are made anew.
//!
//! What a conversion followed is decided by the times at which hits happened, which may be long
//! before they were received: the batch also marks when its clicks and impressions happened
//! (`V106__path_order.sql`).

use std::collections::BTreeMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};

use super::copy;
use super::load::{Load, Mark, Rows};
use crate::clock::UnixMicros;
use crate::hit::Kind;
use crate::row::Counts;

/// The minutes of a mark; `avtryck.report_slot` has them too.
const SLOT_MINUTES: i64 = 10;

/// How long after the end of its ten minutes a hit is late. Sums have a time ten minutes after its
/// end at the earliest (`avtryck.build_sums`); hits that are neither late by this clock nor before
/// what is summed up by the job's cost nothing, and those that are both not late and before it take
/// the sums.
const LATE_AFTER_SECONDS: i64 = 300;

/// How many late hits of a batch are copied; where there are more, none is. Whoever catches up
/// after a failure brings far more.
const LATE_ROWS_MAX: usize = 2_000;

/// What changes in ten minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Change {
    /// There are hits that conversions can follow from, or be.
    moves_conversions: bool,
    /// There are page views or events that are not copied.
    changes_web: bool,
}

/// What a batch changes, by the number of the ten minutes since 1970.
type Slots = BTreeMap<i64, Change>;

/// Marks the ten minutes of the rows and counts, and copies the rows that are late.
pub(super) async fn mark(
    transaction: &Transaction<'_>,
    load: &Load,
    now: UnixMicros,
) -> Result<(), Error> {
    let mut slots = find_slots(&load.rows.marks, &load.counts);
    if slots.is_empty() {
        return Ok(());
    }
    if copy_late(transaction, &load.rows, load.dimensions.tables(), now).await? {
        for (_, change) in slots.iter_mut().filter(|(slot, _)| is_late(**slot, now)) {
            change.changes_web = false;
        }
    }
    let minutes: Vec<i64> = slots.keys().map(|slot| slot * SLOT_MINUTES).collect();
    let moves_conversions: Vec<bool> = slots.values().map(|slot| slot.moves_conversions).collect();
    let changes_web: Vec<bool> = slots.values().map(|slot| slot.changes_web).collect();
    transaction
        .execute_typed(
            "insert into avtryck.report_mark (at, moves_conversions, changes_web) \
             select to_timestamp(minute * 60), moves, web from unnest($1, $2, $3) as slot (minute, moves, web)",
            &[
                (&minutes, Type::INT8_ARRAY),
                (&moves_conversions, Type::BOOL_ARRAY),
                (&changes_web, Type::BOOL_ARRAY),
            ],
        )
        .await?;
    mark_paths(transaction, &load.rows.marks).await
}

/// Copies the late rows that sums about sites may have. Returns whether `late_hit` has all of them;
/// where there is no room it gets none.
async fn copy_late(
    transaction: &Transaction<'_>,
    rows: &Rows,
    dimensions: &[&str],
    now: UnixMicros,
) -> Result<bool, Error> {
    let is_copied = |mark: &&Mark| is_of_site(mark.kind) && is_late(slot(mark.received_at), now);
    let late: Vec<&Mark> = rows.marks.iter().filter(is_copied).collect();
    if late.is_empty() {
        return Ok(true);
    }
    if late.len() > LATE_ROWS_MAX {
        return Ok(false);
    }
    let sql = "select count(*) + $1 <= avtryck.late_hits_max() from avtryck.late_hit";
    let number = i64::try_from(late.len()).unwrap_or(i64::MAX);
    let room = transaction
        .query_typed_one(sql, &[(&number, Type::INT8)])
        .await?;
    if !room.try_get(0)? {
        return Ok(false);
    }
    let statement = copy::statement("late_hit", dimensions);
    let encoded = late
        .iter()
        .filter_map(|mark| rows.bytes.get(mark.row.clone()));
    copy::load(transaction, &statement, encoded).await?;
    Ok(true)
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
    let occurred = row.occurred_at.filter(|_| may_lead)?;
    (slot(occurred) < slot(row.received_at))
        .then(|| (row.received_at.seconds(), occurred.seconds()))
}

/// Returns the number of the ten minutes that a time lies in.
fn slot(at: UnixMicros) -> i64 {
    at.seconds() / (SLOT_MINUTES * 60)
}

/// Returns whether hits of ten minutes are late.
fn is_late(slot: i64, now: UnixMicros) -> bool {
    (slot + 1) * SLOT_MINUTES * 60 + LATE_AFTER_SECONDS <= now.seconds()
}

/// Returns whether reports about sites may count hits of a kind.
fn is_of_site(kind: Kind) -> bool {
    matches!(kind, Kind::PageView | Kind::Event)
}

fn find_slots(rows: &[Mark], counts: &Counts) -> Slots {
    let mut slots = Slots::new();
    // Sums about sites have no counts.
    for count in counts.0.keys() {
        slots.entry(count.minute / SLOT_MINUTES).or_default();
    }
    // Neighbours are mostly of the same ten minutes.
    let mut last: Option<(i64, Change)> = None;
    let add = |slots: &mut Slots, (slot, change): (i64, Change)| {
        let all = slots.entry(slot).or_default();
        all.moves_conversions |= change.moves_conversions;
        all.changes_web |= change.changes_web;
    };
    for row in rows {
        let number = slot(row.received_at);
        let (_, change) = match &mut last {
            Some(same) if same.0 == number => same,
            other => {
                if let Some(before) = other.take() {
                    add(&mut slots, before);
                }
                other.insert((number, Change::default()))
            }
        };
        change.moves_conversions |= !matches!(row.kind, Kind::PageView | Kind::Sync);
        change.changes_web |= is_of_site(row.kind);
    }
    if let Some(before) = last {
        add(&mut slots, before);
    }
    slots
}
