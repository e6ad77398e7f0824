//! Makes the reports that the admin listener shows: one at a time, on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::admin::ReportQuestion;
use crate::clock;
use crate::postgres::Database;
use crate::report::{Contents, ReportForm};

/// The most questions that wait.
pub(super) const WAITING_MAX: usize = 4;
/// The days of a report.
const DAYS: i32 = 30;
/// How long a report may take.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Answers, as long as it is polled.
pub(super) async fn answer_all(
    database: Arc<Database>,
    mut questions: mpsc::Receiver<ReportQuestion>,
) {
    while let Some(ReportQuestion { campaign, answer }) = questions.recv().await {
        if answer.is_closed() {
            continue;
        }
        let written = tokio::time::timeout(TIME_MAX, write(&database, &campaign)).await;
        match written.context("it took too long").flatten() {
            // The asker may be gone by now.
            Ok(page) => drop(answer.send(page)),
            Err(error) => tracing::warn!("a report was not made: {error:#}"),
        }
    }
}

async fn write(database: &Database, campaign: &str) -> anyhow::Result<String> {
    let client = database.reach_running().await?;
    let limit = format!("set statement_timeout = {}", TIME_MAX.as_millis());
    client.batch_execute(&limit).await?;
    let now = jiff::Timestamp::from_second(clock::now().seconds())?;
    let today = jiff::tz::Offset::UTC.to_datetime(now).date();
    let first = today.checked_sub(jiff::Span::new().days(DAYS - 1))?;
    let contents = Contents::read(&client, campaign, (first, today)).await?;
    contents.write(ReportForm::Html)
}
