//! Whether the clock of Postgres can be believed, before anything is deleted by it.
//!
//! No clock tells that it is wrong, so this looks at how clocks move, each time that jobs run and
//! once a minute:
//!
//! | fault | found by |
//! | --- | --- |
//! | [`Fault::Differs`] | the clocks of Postgres and of the collector differ by more than an hour |
//! | [`Fault::Jumped`] | Postgres's clock has moved by an hour more or less than the time that passed in this process, or shows a time before what was seen already |
//! | [`Fault::Unwatched`] | no collector has looked for more than a day |
//!
//! After a fault nothing is deleted until the clocks have run in step for [`IN_STEP`], watched all
//! that time. The table `clock` has since when that is, so it survives a restart and holds for all
//! collectors of a database: while one of them finds a fault, none deletes.
//!
//! What remains: both clocks may be set wrong at once, as on one machine, and stay wrong for a day
//! of alerts. Then each run still deletes no more than a day's worth. And while no collector runs,
//! a clock may be set wrong by up to a day unnoticed.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio_postgres::Client;

use crate::clock::{self, UnixMicros};
use crate::postgres::clock::{ClockRecord, read_clock, update_clock};

/// How far the clocks may differ, and how far one may be ahead of the time that passed.
const DIFFERENCE_MAX: Duration = Duration::from_hours(1);
/// How long the clocks must run in step before anything is deleted.
pub(crate) const IN_STEP: Duration = Duration::from_hours(24);
const _: () = assert!(
    IN_STEP.as_secs() == 24 * 3600,
    "the metric of suspended jobs says 24 hours"
);
/// How long nobody may look at the clock. Whatever is due after that time is a day's worth.
const UNWATCHED_MAX: Duration = Duration::from_hours(24);
/// How long the collectors may have been off before hits are flagged as those of a wrong clock.
const ABSENCE_MAX: Duration = Duration::from_hours(24 * 30);

/// What the clocks show at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The clock of Postgres, by which jobs work.
    pub postgres: UnixMicros,
    /// The wall clock of this process.
    pub collector: UnixMicros,
    /// The clock of this process that never jumps.
    pub monotonic: Instant,
}

impl Clocks {
    /// Reads the clocks.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub async fn read(client: &Client) -> anyhow::Result<Clocks> {
        let postgres = read_clock(client).await?;
        Ok(Clocks {
            postgres,
            collector: clock::now(),
            monotonic: clock::monotonic(),
        })
    }
}

/// Why Postgres's clock is not believed. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The collector's clock is that far ahead of Postgres's, or behind it if negative.
    Differs(i64),
    /// Postgres's clock jumped that far ahead, or back if negative.
    Jumped(i64),
    /// Nobody has looked at the clock for that long, as far as that can be known.
    Unwatched(i64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |micros: i64| micros.unsigned_abs() / 3_600_000_000;
        match self {
            Fault::Differs(by) => {
                let way = if *by > 0 { "ahead of" } else { "behind" };
                let by = hours(*by);
                write!(f, "this collector's clock is {by} h {way} Postgres's")
            }
            Fault::Jumped(by) => {
                let way = if *by > 0 { "ahead" } else { "back" };
                write!(f, "Postgres's clock jumped {way} by {} h", hours(*by))
            }
            Fault::Unwatched(by) => {
                let by = hours(*by);
                write!(f, "Postgres's clock moved by {by} h while no collector ran")
            }
        }
    }
}

/// What was found out about the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is wrong right now.
    pub fault: Option<Fault>,
    /// How long nothing is deleted yet, if the clocks run in step from now on.
    pub wait: Duration,
    /// How far the collector's clock is ahead of Postgres's, in microseconds.
    pub difference_micros: i64,
    /// Whether Postgres's clock jumped less than [`IN_STEP`] ago.
    has_jumped: bool,
}

impl Standing {
    /// Checks whether jobs may delete.
    #[must_use]
    pub(crate) fn may_delete(&self) -> bool {
        self.fault.is_none() && self.wait.is_zero()
    }

    /// Checks whether it may be decided anew of whom something was seen "in the last 30 days".
    /// A right clock mends what a wrong one decided, unlike what was deleted. So this waits while
    /// clocks differ and for [`IN_STEP`] after a jump, but not after a weekend without a collector.
    #[must_use]
    pub(crate) fn may_evaluate(&self) -> bool {
        self.fault.is_none() && (self.wait.is_zero() || !self.has_jumped)
    }
}

/// Watches Postgres's clock for one process.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// The clocks when they began to run in step, as this process saw it.
    base: Option<Clocks>,
}

impl Guard {
    /// Compares the clocks with each other, with what this process saw and with what the database
    /// knows, and stores what there is to know now.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn check(
        &mut self,
        client: &mut Client,
        now: Clocks,
    ) -> anyhow::Result<Standing> {
        let base = self.base;
        let record = update_clock(client, |known| judge(known, base, now).1);
        let (before, after) = record.await.context("comparing the clocks")?;
        let (fault, _) = judge(before, base, now);
        if fault.is_some() || base.is_none() {
            self.base = Some(now);
        }
        Ok(Standing {
            fault,
            wait: IN_STEP.saturating_sub(now.postgres.since(after.in_step_since)),
            difference_micros: difference(now.collector, now.postgres),
            has_jumped: after
                .wrong_at
                .is_some_and(|wrong_at| now.postgres.since(wrong_at) < IN_STEP),
        })
    }
}

/// Judges the clocks, and returns with the fault what the database is to know.
fn judge(
    known: Option<ClockRecord>,
    base: Option<Clocks>,
    now: Clocks,
) -> (Option<Fault>, ClockRecord) {
    let at = now.postgres;
    // A database that nobody has used has nothing to lose.
    let known = known.unwrap_or(ClockRecord {
        seen_at: at,
        in_step_since: before(at, IN_STEP),
        wrong_at: None,
        day_at: at,
        days: 0,
    });
    let moved = difference(at, known.seen_at);
    let fault = find_fault(moved, base, now);
    let is_watched = base.is_some() || moved <= micros(DIFFERENCE_MAX);
    let in_step_since = match fault {
        Some(_) => at,
        None if is_watched => known.in_step_since.min(at),
        None => UnixMicros(known.in_step_since.0.saturating_add(moved)).min(at),
    };
    let wrong_at = match fault {
        // Hits of a clock that differs are known by their own time.
        None | Some(Fault::Differs(_)) => known.wrong_at,
        Some(Fault::Unwatched(by)) if by <= micros(ABSENCE_MAX) => known.wrong_at,
        Some(_) => Some(at),
    };
    let mut record = ClockRecord {
        seen_at: at,
        in_step_since,
        wrong_at,
        ..known
    };
    if fault.is_none() && at.since(in_step_since) >= IN_STEP {
        record.count_day(at);
    }
    (fault, record)
}

fn find_fault(moved: i64, base: Option<Clocks>, now: Clocks) -> Option<Fault> {
    let limit = micros(DIFFERENCE_MAX);
    let differs = difference(now.collector, now.postgres);
    if differs.abs() > limit {
        return Some(Fault::Differs(differs));
    }
    let Some(base) = base else {
        return match moved {
            _ if moved > micros(UNWATCHED_MAX) => Some(Fault::Unwatched(moved)),
            _ if moved < -limit => Some(Fault::Jumped(moved)),
            _ => None,
        };
    };
    let passed = now.monotonic.saturating_duration_since(base.monotonic);
    let jumped = difference(now.postgres, base.postgres).saturating_sub(micros(passed));
    let jumped = if jumped.abs() > limit {
        jumped
    } else {
        moved.min(0)
    };
    (jumped.abs() > limit).then_some(Fault::Jumped(jumped))
}

impl ClockRecord {
    /// Counts a day, at most one for each 24 hours that the clock shows.
    fn count_day(&mut self, at: UnixMicros) {
        if at < self.day_at {
            self.day_at = at;
        } else if at.since(self.day_at) >= Duration::from_hours(24) {
            self.day_at = at;
            self.days = self.days.saturating_add(1);
        }
    }
}

fn difference(one: UnixMicros, other: UnixMicros) -> i64 {
    one.0.saturating_sub(other.0)
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn before(at: UnixMicros, span: Duration) -> UnixMicros {
    UnixMicros(at.0.saturating_sub(micros(span)))
}
