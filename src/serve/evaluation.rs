//! Brings segments up to date, each minute.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio_postgres::Client;

use crate::clock::{self, UnixMicros};
use crate::config::Config;
use crate::jobs::{Clocks, Guard};
use crate::metrics::Metrics;
use crate::postgres::segment::status::SegmentStatus;
use crate::postgres::segment::{self, status};
use crate::postgres::server::silence::LONG_SILENCE_MAX;
use crate::postgres::{Database, SilenceWatch};
use crate::segment::{Book, size};

/// The pause between two evaluations.
const PERIOD: Duration = Duration::from_mins(1);
/// How long one may take. What is left, the next one does.
const TIME_MAX: Duration = Duration::from_secs(40);

/// What looks after segments.
pub(super) struct Evaluation {
    /// Exchanged on a reload.
    pub(super) book: Arc<ArcSwap<Book>>,
    metrics: Arc<Metrics>,
    /// What was said last, which is not said again.
    said: String,
    guard: Guard,
}

impl Evaluation {
    pub(super) fn new(config: &Config, metrics: &Arc<Metrics>) -> Evaluation {
        Evaluation {
            book: Arc::new(ArcSwap::from_pointee(book(config))),
            metrics: Arc::clone(metrics),
            said: String::new(),
            guard: Guard::default(),
        }
    }

    /// Evaluates segments, and never returns. Without any in the configuration it does nothing.
    pub(super) async fn run(mut self, database: Arc<Database>) {
        let mut connection: Option<(Client, SilenceWatch)> = None;
        if !self.book.load().segments.is_empty() && self.tell(&database).await.is_err() {
            tracing::debug!("the state of segments is told once they are evaluated");
        }
        loop {
            tokio::time::sleep(PERIOD).await;
            let book = self.book.load_full();
            if book.segments.is_empty() {
                connection = None;
                continue;
            }
            let done = self.evaluate(&database, &mut connection, &book).await;
            if done.is_err() {
                connection = None;
            }
            self.say(done);
        }
    }

    fn say(&mut self, outcome: anyhow::Result<String>) {
        let said = match outcome {
            Ok(failed) => failed,
            Err(error) => format!("segments: {error:#}"),
        };
        if said != self.said && !said.is_empty() {
            tracing::error!("{said}");
        }
        self.said = said;
    }

    /// Tells the state that an earlier run left, so that an alert outlasts a start.
    async fn tell(&self, database: &Arc<Database>) -> anyhow::Result<()> {
        let (client, watch) = SilenceWatch::connect(database, LONG_SILENCE_MAX).await?;
        let read = async { anyhow::Ok(status::read(&client).await?) };
        let (found, now) = watch.watch(read).await?;
        for one in &found {
            self.metrics.segment(&one.key, gauges(one, now));
        }
        Ok(())
    }

    /// Evaluates them once; returns what is to be said of those that failed.
    async fn evaluate(
        &mut self,
        database: &Arc<Database>,
        connection: &mut Option<(Client, SilenceWatch)>,
        book: &Book,
    ) -> anyhow::Result<String> {
        let open = connection.take().filter(|(client, _)| !client.is_closed());
        let (client, watch) = match open {
            Some(open) => connection.insert(open),
            None => connection.insert(SilenceWatch::connect(database, LONG_SILENCE_MAX).await?),
        };
        let begun = clock::monotonic();
        let is_over = move || clock::time_since(begun) >= TIME_MAX;
        let guard = &mut self.guard;
        let work = async {
            let clocks = Clocks::read(client).await?;
            let may_end = guard.check(client, clocks).await?.may_delete();
            let today = clocks.postgres.day();
            let today = i32::try_from(today).context("the clock of Postgres is wrong")?;
            let done = segment::evaluate(client, book, (today, may_end), &is_over).await?;
            anyhow::Ok((done, status::read(client).await?))
        };
        let (done, (found, now)) = watch.watch(work).await?;
        if let Some(done) = done.filter(|done| done.changes > 0) {
            tracing::info!(
                subjects = done.subjects,
                changes = done.changes,
                "segments were evaluated"
            );
        }
        let mut failed = Vec::new();
        for one in &found {
            self.metrics.segment(&one.key, gauges(one, now));
            if let Some(error) = &one.error {
                failed.push(format!(
                    "segment {} cannot be evaluated and keeps its members: {error}",
                    one.key
                ));
            }
        }
        Ok(failed.join("; "))
    }
}

/// Returns the segments of a configuration, which was checked.
pub(super) fn book(config: &Config) -> Book {
    config.book().unwrap_or_default()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric rounds what is beyond 2^52 µs"
)]
fn gauges(one: &SegmentStatus, now: UnixMicros) -> [f64; 4] {
    let age =
        |at: Option<UnixMicros>| at.map_or(-1.0, |at| now.0.saturating_sub(at.0) as f64 / 1e6);
    let members = one
        .size
        .and_then(|members| size::round(members, one.min_size));
    [
        f64::from(u8::from(one.state == "failed")),
        age(one.evaluated_at),
        age(one.full_at),
        members.unwrap_or(0) as f64,
    ]
}
