//! Scheduled work on Postgres: one table ([`JOBS`]), which the [`Schedule`] goes through. A job
//! reads no clock: it works as of a time that it is given, which is what the clock of Postgres
//! shows. It may run in several processes at once, and what it leaves undone, its next run does.
//!
//! Jobs that delete do so by age alone, in one way ([`expiry`]), and only while the clock can be
//! believed ([`guard`]).
//!
//! | stays | because |
//! | --- | --- |
//! | `hit_count` | a count per hour, site and kind holds no personal data; minute, ad and category go ([`hit_count`]) |
//! | the sites of `site` | `hit_count` points to them, and the configuration names them |
//! | entries of the list of suppression for other IDs than visitors' | a device keeps its mobile advertising ID, and a partner its ID for a visitor, for as long as they like |

mod device_model;
mod expiry;
mod export;
pub mod guard;
mod hit_count;
mod import;
mod link;
mod partition_ahead;
mod report;
mod run;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio_postgres::Client;

use crate::clock::UnixMicros;
use crate::enrich::DimensionTable;
use crate::postgres::batch::event_key::EVENT_KEY_DAYS;
use crate::postgres::partition;
use crate::postgres::segment::snapshot;
use crate::postgres::subject::suppression;
use crate::visitor::COOKIE_DAYS_MAX;
pub use device_model::Naming;
pub use expiry::Done;
use expiry::{Expiry, Store};
pub(crate) use guard::Guard;
pub use guard::{Clocks, Standing};
pub use link::Graph;
pub use report::TimeZones;
pub use run::{Remark, run};

/// The pause between two looks at the clocks.
const HALF_MINUTE: Duration = Duration::from_secs(30);
/// The pause before a job that failed is tried again.
const MINUTE: Duration = Duration::from_mins(1);
const TEN_MINUTES: Duration = Duration::from_mins(10);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// How long a visitor is suppressed: as long as a cookie with the ID may live, and for a month in
/// which the last hit may wait in a spool.
const SUPPRESSION_DAYS: i32 = COOKIE_DAYS_MAX as i32 + 30;

/// How much longer than the rows that point to them dimension rows are kept: what points to them
/// goes a day's worth at a time.
const DIMENSION_DAYS_LATER: i32 = 7;

/// How much later permits go: a loader does not store again within a week what is stored.
const PERMIT_DAYS_LATER: i32 = 7;

/// The days for which new names are counted. Only today's count limits anything.
const NEW_NAME_DAYS: i32 = 7;

/// For how many days a tie counts after it was seen last, and one to a partner's ID. The day is
/// known to a week.
const TIE_DAYS: i32 = 187;
const PARTNER_TIE_DAYS: i32 = 97;

/// How long an erasure is on record: three years, and longer than any backup that would have to be
/// erased from again.
const ERASURE_DAYS: i32 = 3 * 365;

/// How long what a visitor objected to on their own page holds: as long as the cookie by which they
/// would see it.
const OBJECTION_DAYS: i32 = 400;

/// The job whose outcome is how many figures of roll-ups differ from the hits.
const REPORT_CHECK: &str = "report_check";

/// What the jobs need of the configuration.
#[derive(Clone, Debug)]
pub struct JobLimits {
    /// `privacy.retention`: how long rows are kept.
    pub retention: Duration,
    /// Where names of models are from; `None` without any.
    pub naming: Option<Naming>,
    /// What the jobs on ties need; without it they count nothing.
    pub graph: Option<Graph>,
    /// The time zones of sites; without them those stay that the database has.
    pub time_zones: Option<Arc<ArcSwap<TimeZones>>>,
}

/// One job.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    /// Its name in logs.
    pub name: &'static str,
    /// How often it runs.
    period: Duration,
    work: Work,
}

type Run<T> = for<'a> fn(&'a mut Client, JobLimits, UnixMicros) -> BoxFuture<'a, anyhow::Result<T>>;

/// What a job does.
#[derive(Clone, Copy)]
enum Work {
    /// Makes something.
    Make(Run<u64>),
    /// Removes what has no use any more, and no age that a visitor was promised.
    Tidy(Run<u64>),
    /// Takes the oldest day's worth away from what is old, or details of it.
    Reduce(Run<Done>),
    /// Deletes what is old.
    Expire(Expiry),
}

/// The job that splits groups, which need not wait for its time.
const LINK: &str = "link";

/// The table of jobs.
const TABLE: &[Job] = &[
    Job {
        name: "partition_ahead",
        period: HOUR,
        work: Work::Make(|client, _, as_of| Box::pin(partition_ahead::run(client, as_of))),
    },
    Job {
        name: "index_days",
        period: MINUTE,
        work: Work::Make(|client, _, _| Box::pin(partition::index_days(client))),
    },
    Job {
        name: LINK,
        period: HALF_MINUTE,
        work: Work::Make(|client, limits, _| Box::pin(link::run(client, limits))),
    },
    Job {
        name: "link_count",
        period: HALF_MINUTE,
        work: Work::Make(|client, limits, _| Box::pin(link::count(client, limits))),
    },
    Job {
        name: "report",
        period: HALF_MINUTE,
        work: Work::Make(|client, limits, as_of| Box::pin(report::run(client, limits, as_of))),
    },
    Job {
        name: REPORT_CHECK,
        period: TEN_MINUTES,
        work: Work::Make(|client, _, _| Box::pin(report::compare(client))),
    },
    Job {
        name: "link_hub",
        period: DAY,
        work: Work::Tidy(|client, limits, as_of| Box::pin(link::free_hubs(client, limits, as_of))),
    },
    Job {
        name: import::NAME,
        period: HOUR,
        work: Work::Reduce(|client, _, as_of| Box::pin(import::run(client, as_of))),
    },
    expire("retention", HOUR, first_retained_day, Store::Partitions),
    expire(
        "link_change",
        DAY,
        first_retained_day,
        rows("link_change", "at"),
    ),
    expire(
        "link_edge",
        HOUR,
        |_, as_of| day(as_of) - TIE_DAYS,
        ties("true"),
    ),
    expire(
        "link_edge_partner",
        HOUR,
        |_, as_of| day(as_of) - PARTNER_TIE_DAYS,
        ties("partner <> ''"),
    ),
    expire(
        "rejected_hit",
        HOUR,
        first_retained_day,
        rows("rejected_hit", "rejected_at"),
    ),
    expire(
        "partner_id",
        DAY,
        first_retained_day,
        rows("partner_id", "last_seen"),
    ),
    expire(
        "subject_permit",
        DAY,
        |limits, as_of| first_retained_day(limits, as_of) - PERMIT_DAYS_LATER,
        rows("subject_permit", "at"),
    ),
    expire(
        "subject_id",
        DAY,
        |limits, as_of| first_retained_day(limits, as_of) - PERMIT_DAYS_LATER,
        rows("subject_id", "last_seen"),
    ),
    Job {
        name: "export",
        period: HALF_MINUTE,
        work: Work::Make(|client, limits, _| Box::pin(export::measure(client, limits))),
    },
    expire(
        "export_past",
        DAY,
        |_, as_of| day(as_of) - ERASURE_DAYS,
        rows("export_past", "ended_at"),
    ),
    expire(
        "export_delivery",
        DAY,
        |_, as_of| day(as_of) - ERASURE_DAYS,
        Store::Rows {
            table: "export_delivery",
            column: "made_at",
            is_date: false,
            condition: "delivered_at is not null",
        },
    ),
    expire(
        "webhook_outbox",
        DAY,
        first_retained_day,
        rows("webhook_outbox", "at"),
    ),
    expire(
        "subject_day",
        HOUR,
        first_retained_day,
        dates("subject_day", "day"),
    ),
    expire(
        "subject_seen",
        DAY,
        first_retained_day,
        dates("subject_seen", "last_day"),
    ),
    expire(
        "segment_change",
        DAY,
        first_retained_day,
        rows("segment_change", "at"),
    ),
    Job {
        name: "segment_touched",
        period: TEN_MINUTES,
        work: Work::Tidy(|client, _, as_of| Box::pin(snapshot::delete_old_notes(client, as_of))),
    },
    expire("exposure", DAY, first_retained_day, Store::Exposures),
    expire(
        "event_key",
        HOUR,
        |_, as_of| day(as_of) - EVENT_KEY_DAYS,
        Store::Rows {
            table: "event_key",
            column: "seen_on",
            is_date: true,
            condition: "true",
        },
    ),
    // A visitor who withdrew must not become a row again because a clock jumped, so an entry also
    // waits until the collectors have seen that many days pass.
    expire(
        "suppression",
        DAY,
        |_, as_of| day(as_of) - SUPPRESSION_DAYS,
        Store::Rows {
            table: "suppression",
            column: "since",
            is_date: false,
            condition: "id_kind = 'visitor' and day + 426 <= (select days from avtryck.clock)",
        },
    ),
    expire(
        "erasure",
        DAY,
        |_, as_of| day(as_of) - ERASURE_DAYS,
        rows("erasure", "erased_at"),
    ),
    expire(
        "household_apart",
        DAY,
        |_, as_of| day(as_of) - OBJECTION_DAYS,
        dates("household_apart", "since"),
    ),
    expire(
        "household_never",
        DAY,
        |_, as_of| day(as_of) - OBJECTION_DAYS,
        dates("household_never", "since"),
    ),
    expire(
        "new_name",
        DAY,
        |_, as_of| day(as_of) - NEW_NAME_DAYS,
        Store::Rows {
            table: "new_name",
            column: "day",
            is_date: true,
            condition: "true",
        },
    ),
    Job {
        name: hit_count::NAME,
        period: DAY,
        work: Work::Reduce(|client, limits, as_of| Box::pin(hit_count::run(client, limits, as_of))),
    },
    Job {
        name: "device_model",
        period: MINUTE,
        work: Work::Make(|client, limits, _| Box::pin(device_model::run(client, limits.naming))),
    },
    Job {
        name: "device_model_unused",
        period: DAY,
        work: Work::Make(|client, _, _| Box::pin(device_model::remove_unused(client))),
    },
    Job {
        name: "link_audit",
        period: DAY,
        work: Work::Make(|client, limits, as_of| Box::pin(link::audit(client, limits, as_of))),
    },
];

/// Every job: those of the table, and one for each dimension.
pub(crate) static JOBS: LazyLock<Vec<Job>> = LazyLock::new(|| {
    let dimensions = DimensionTable::ALL.map(delete_dimension);
    TABLE.iter().copied().chain(dimensions).collect()
});

const _: () = assert!(SUPPRESSION_DAYS == 426, "the condition above has it too");
const _: () = assert!(
    suppression::VISITOR_DAYS_MIN == COOKIE_DAYS_MAX,
    "whoever reads old instructions relies on it"
);

const fn expire(
    name: &'static str,
    period: Duration,
    first_kept: fn(&JobLimits, UnixMicros) -> i32,
    store: Store,
) -> Job {
    Job {
        name,
        period,
        work: Work::Expire(Expiry { first_kept, store }),
    }
}

/// Deletes the rows of a dimension to which nothing points any more. A row's last day is never
/// before that of a hit, a count or an exposure that points to it, so its age is enough to tell.
fn delete_dimension(dimension: DimensionTable) -> Job {
    expire(
        dimension.table(),
        DAY,
        |limits, as_of| first_retained_day(limits, as_of) - DIMENSION_DAYS_LATER,
        Store::Dimension {
            table: dimension.table(),
            condition: dimension.deleted(),
        },
    )
}

/// Deletes ties by the last day on which they were seen. A trigger notes the groups that lose one.
const fn ties(condition: &'static str) -> Store {
    Store::Rows {
        table: expiry::TIES,
        column: "last_day",
        is_date: true,
        condition,
    }
}

const fn rows(table: &'static str, column: &'static str) -> Store {
    Store::Rows {
        table,
        column,
        is_date: false,
        condition: "true",
    }
}

const fn dates(table: &'static str, column: &'static str) -> Store {
    Store::Rows {
        table,
        column,
        is_date: true,
        condition: "true",
    }
}

/// Returns the first day that `privacy.retention` keeps: the one in which the limit falls, for only
/// the days before it are old as a whole.
fn first_retained_day(limits: &JobLimits, as_of: UnixMicros) -> i32 {
    let micros = i64::try_from(limits.retention.as_micros()).unwrap_or(i64::MAX);
    day(UnixMicros(as_of.0.saturating_sub(micros)))
}

impl Job {
    /// Runs it once.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn run(
        &self,
        client: &mut Client,
        limits: &JobLimits,
        as_of: UnixMicros,
    ) -> anyhow::Result<Done> {
        match &self.work {
            Work::Make(run) | Work::Tidy(run) => Ok(Done {
                changed: run(client, limits.clone(), as_of).await?,
                held_back: 0,
            }),
            Work::Reduce(run) => run(client, limits.clone(), as_of).await,
            Work::Expire(expiry) => expiry.run(client, self.name, limits, as_of).await,
        }
    }

    fn deletes(&self) -> bool {
        !matches!(self.work, Work::Make(_))
    }
}

/// When each job is due, by the clock that never jumps. At first every job is.
#[derive(Debug)]
pub struct Schedule {
    due: Vec<Option<Instant>>,
    checked: Option<Instant>,
    guard: Guard,
    held_back: Vec<u64>,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            due: vec![None; JOBS.len()],
            checked: None,
            guard: Guard::default(),
            held_back: vec![0; JOBS.len()],
        }
    }
}

/// What a tick found and did.
#[derive(Debug)]
pub struct Tick {
    /// How the clocks stand.
    pub standing: Standing,
    /// The jobs that ran.
    pub outcomes: Vec<JobOutcome>,
    /// The most days' worth that a job holds back.
    pub held_back: u64,
}

/// The result of one job.
#[derive(Debug)]
pub struct JobOutcome {
    /// The job's name.
    pub name: &'static str,
    /// What it did, or why it failed; then it is due again in a minute.
    pub result: anyhow::Result<Done>,
}

impl Schedule {
    /// Compares the clocks, and runs the jobs that are due, in the order of the table, as of what
    /// Postgres's clock shows. While that cannot be believed, jobs that delete stay due.
    ///
    /// # Errors
    /// Where Postgres fails before a job has run.
    pub async fn tick(
        &mut self,
        client: &mut Client,
        limits: &JobLimits,
        clocks: Clocks,
    ) -> anyhow::Result<Tick> {
        let standing = self.guard.check(client, clocks).await?;
        self.checked = Some(clocks.monotonic);
        let mut outcomes = Vec::new();
        let slots = self.due.iter_mut().zip(&mut self.held_back);
        for (job, (due, held_back)) in JOBS.iter().zip(slots) {
            if due.is_some_and(|due| clocks.monotonic < due)
                || job.deletes() && !standing.may_delete()
            {
                continue;
            }
            let result = job.run(client, limits, clocks.postgres).await;
            let pause = match &result {
                Ok(done) => {
                    *held_back = done.held_back;
                    if done.held_back > 0 { HOUR } else { job.period }
                }
                Err(_) => MINUTE,
            };
            *due = Some(clocks.monotonic + pause);
            outcomes.push(JobOutcome {
                name: job.name,
                result,
            });
        }
        Ok(Tick {
            standing,
            outcomes,
            held_back: self.held_back.iter().copied().max().unwrap_or(0),
        })
    }

    /// Checks whether a tick is due: twice a minute, as the jobs that run most often.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.checked
            .is_none_or(|checked| now.saturating_duration_since(checked) >= HALF_MINUTE)
    }
}

/// Runs the job [`LINK`] before its time.
async fn run_link(client: &mut Client, limits: &JobLimits) -> anyhow::Result<Done> {
    let changed = link::run(client, limits.clone()).await?;
    Ok(Done {
        changed,
        held_back: 0,
    })
}

/// Returns the UTC day since 1970, within what a `date` of Postgres can hold.
fn day(at: UnixMicros) -> i32 {
    /// The year 4707 before and after 1970: inside the range of `date`.
    const DAYS_MAX: i64 = 1_000_000;
    i32::try_from(at.day().clamp(-DAYS_MAX, DAYS_MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
