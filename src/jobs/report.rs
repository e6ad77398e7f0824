//! Roll-ups of reports: rolls up what is not, and compares what is with the hits.
//!
//! Whatever this job has left to do, reports are right: what is not rolled up, or has changed
//! since, they read from the hits (`V60__rollup.sql`). The job is what makes them quick.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::Client;

use super::JobLimits;
use crate::clock::{self, UnixMicros};
use crate::postgres::report;

/// How long a run may take. What is left, the next one does.
const TIME_MAX: Duration = Duration::from_secs(10);

/// How many hours one comparison takes, and after what time it takes no more.
const COMPARED_MAX: usize = 10;
const COMPARE_TIME_MAX: Duration = Duration::from_secs(1);

/// The time zones whose days are those of sites in reports, as the configuration has them.
///
/// Collectors that share a database share its reports. Each tells the database once, so the last
/// that started or read its configuration again decides, and two that differ do not undo each
/// other's work all day.
#[derive(Debug, Default)]
pub struct TimeZones {
    of_sites: Vec<(String, Option<String>)>,
    is_set: AtomicBool,
}

impl TimeZones {
    /// Returns the time zones of sites; `None` is UTC.
    pub fn new(of_sites: impl IntoIterator<Item = (String, Option<String>)>) -> TimeZones {
        TimeZones {
            of_sites: of_sites.into_iter().collect(),
            is_set: AtomicBool::new(false),
        }
    }

    async fn set(&self, client: &Client) -> anyhow::Result<()> {
        if self.is_set.load(Ordering::Relaxed) {
            return Ok(());
        }
        let sites: Vec<&str> = self.of_sites.iter().map(|(site, _)| &**site).collect();
        let zones: Vec<_> = self
            .of_sites
            .iter()
            .map(|(_, zone)| zone.as_deref())
            .collect();
        let unknown = report::set_time_zones(client, &sites, &zones).await?;
        if !unknown.is_empty() {
            let sites = unknown.join(", ");
            tracing::error!(
                sites,
                "Postgres does not know the time zone of these sites: update its time zones"
            );
        }
        self.is_set.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Takes the marks of batches and erasures, and rolls up what then has no roll-up, a span or a day
/// in each transaction. Returns how many.
pub(super) async fn run(
    client: &Client,
    limits: JobLimits,
    as_of: UnixMicros,
) -> anyhow::Result<u64> {
    let begun = clock::monotonic();
    if let Some(time_zones) = &limits.time_zones {
        time_zones.load_full().set(client).await?;
    }
    report::take_marks(client).await?;
    let mut built = 0;
    while clock::time_since(begun) < TIME_MAX && report::build_next(client, as_of).await? {
        built += 1;
    }
    Ok(built)
}

/// Compares some hours of roll-ups, which chance picks, with the hits, and all of their days with
/// each other. Returns how many figures differ; then the roll-ups of such a day are gone, and the
/// next run makes them again.
pub(super) async fn compare(client: &Client) -> anyhow::Result<u64> {
    let begun = clock::monotonic();
    let mut differences = 0;
    for _ in 0..COMPARED_MAX {
        differences += report::compare(client).await?;
        if clock::time_since(begun) >= COMPARE_TIME_MAX {
            break;
        }
    }
    if differences > 0 {
        tracing::error!(differences, "roll-ups of reports differ from the hits");
    }
    Ok(differences)
}
