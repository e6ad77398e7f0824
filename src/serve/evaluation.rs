//! Brings segments up to date, each minute.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::time::MissedTickBehavior;
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

/// From the beginning of an evaluation to that of the next.
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
        let mut turn = tokio::time::interval(PERIOD);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
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

    /// Evaluates them once, unless a clock is wrong; returns what is to be said of those that
    /// failed or wait.
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
            let standing = guard.check(client, clocks).await?;
            let today = clocks.postgres.day();
            let today = i32::try_from(today).context("the clock of Postgres is wrong")?;
            let by_clock = (today, standing.may_delete());
            let done = if standing.may_evaluate() {
                segment::evaluate(client, book, by_clock, &is_over).await?
            } else {
                None
            };
            let is_held = !standing.may_evaluate();
            anyhow::Ok((is_held, done, status::read(client).await?))
        };
        let (is_held, done, (found, now)) = watch.watch(work).await?;
        if let Some(done) = done.filter(|done| done.changes > 0) {
            tracing::info!(
                subjects = done.subjects,
                changes = done.changes,
                "segments were evaluated"
            );
        }
        let mut failed = Vec::new();
        if is_held {
            failed.push("segments keep their members until clocks run in step".to_owned());
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::postgres::server::embedded::testing::TestDatabase;
    use crate::segment::{Segment, Words};

    /// A segment of whoever was seen today.
    fn seen_today() -> Book {
        Book {
            segments: vec![Segment {
                key: "today".to_owned(),
                names: ["today".to_owned(), "today".to_owned()],
                sql: "profile.days_since_last < 1".to_owned(),
                digest: String::new(),
                min_size: 50,
                last_day: None,
                words: Words::default(),
            }],
        }
    }

    #[tokio::test]
    async fn a_wrong_clock_moves_no_member_and_a_day_after_it_is_right_they_move_again() {
        let TestDatabase { config, client } = TestDatabase::migrated().await;
        let change = async |sql: &str| client.batch_execute(sql).await.unwrap();
        let database = Arc::new(Database::at(config));
        let evaluation = || Evaluation {
            book: Arc::default(),
            metrics: Arc::new(Metrics::new().unwrap()),
            said: String::new(),
            guard: Guard::default(),
        };
        let mut connection = None;
        let book = seen_today();
        let members = async |said: &str, evaluation: &mut Evaluation, connection: &mut _| {
            let found = evaluation.evaluate(&database, connection, &book).await;
            assert_eq!(found.unwrap(), said);
            let sql = "select count(*) from avtryck.segment_member";
            client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
        };
        // 60 visitors were seen today. The next night finds that they were not.
        change(
            "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
             select md5(n::text)::uuid, 'shop', '', 7, 2, now() from generate_series(1, 60) as n; \
             insert into avtryck.subject_seen \
             select md5(n::text)::uuid, 0, 0, current_date, current_date, 7 from generate_series(1, 60) as n",
        )
        .await;
        assert_eq!(members("", &mut evaluation(), &mut connection).await, 60);
        change(
            "update avtryck.subject_seen set first_day = current_date - 30, last_day = current_date - 30; \
             update avtryck.segment set full_began_at = now() - interval '2 days'",
        )
        .await;

        // A collector starts, and what was seen of Postgres's clock lies in the future.
        change("update avtryck.clock set seen_at = now() + interval '40 days'").await;
        let held = "segments keep their members until clocks run in step";
        let mut process = evaluation();
        assert_eq!(members(held, &mut process, &mut connection).await, 60);
        assert_eq!(members(held, &mut process, &mut connection).await, 60);
        assert_eq!(members(held, &mut evaluation(), &mut connection).await, 60);

        change(
            "update avtryck.clock set wrong_at = wrong_at - interval '1 day', \
             in_step_since = in_step_since - interval '1 day'",
        )
        .await;
        assert_eq!(members("", &mut process, &mut connection).await, 0);
    }
}
