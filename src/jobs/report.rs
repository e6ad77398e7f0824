//! Roll-ups of reports: rolls up what is not, and compares what is with the hits.
//!
//! Whatever this job has left to do, reports are right: what is not rolled up, or has changed
//! since, they read from the hits (`V60__rollup.sql`). The job is what makes them quick.

use std::time::Duration;

use tokio_postgres::Client;

use crate::clock::{self, UnixMicros};
use crate::postgres::report;

/// How long a run may take. What is left, the next one does.
const TIME_MAX: Duration = Duration::from_secs(10);

/// How many hours one comparison takes, and after what time it takes no more.
const COMPARED_MAX: usize = 10;
const COMPARE_TIME_MAX: Duration = Duration::from_secs(1);

/// Takes the marks of batches and erasures, and rolls up what then has no roll-up, a span or a day
/// in each transaction. Returns how many.
pub(super) async fn run(client: &Client, as_of: UnixMicros) -> anyhow::Result<u64> {
    let begun = clock::monotonic();
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
