//! The key of households, which follows the days, and the nightly work on them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_postgres::Client;

use super::household_key;
use crate::clock::{self, UnixMicros};
use crate::config::Config;
use crate::jobs::{Clocks, Guard};
use crate::loader::sink::Sightings;
use crate::postgres::server::silence::LONG_SILENCE_MAX;
use crate::postgres::{Database, SilenceWatch, household};

/// How often it looks at the clocks.
const PERIOD: Duration = Duration::from_mins(1);

/// How long a clock has to run evenly before a key is replaced by it, and how even that is.
const EVEN_TIME_MIN: Duration = Duration::from_mins(10);
const DRIFT_MAX: Duration = Duration::from_secs(60);

const MINUTE_MICROS: i64 = 60_000_000;
const MINUTES_OF_DAY: i64 = 24 * 60;

/// What looks after households.
pub(super) struct Households {
    /// The folder of the spool, where the key is.
    spool: PathBuf,
    /// `household.night`.
    night: u16,
    sightings: Arc<Sightings>,
    /// Whether sightings are made here, which takes the key.
    has_key: bool,
    guard: Guard,
    /// Whether the database may have sightings, which go though no site notes any more.
    has_left: bool,
    /// What was said last, which is not said again.
    said: String,
}

impl Households {
    pub(super) fn new(config: &Config, sightings: &Arc<Sightings>) -> Households {
        Households {
            spool: config.spool.dir.clone(),
            night: config.household.night,
            sightings: Arc::clone(sightings),
            has_key: true,
            guard: Guard::default(),
            has_left: true,
            said: String::new(),
        }
    }

    /// The same where sightings are loaded that others have made.
    pub(super) fn without_key(config: &Config, sightings: &Arc<Sightings>) -> Households {
        Households {
            has_key: false,
            ..Households::new(config, sightings)
        }
    }

    /// Keeps the key in step with the days, and works through the nights. Never returns. While no
    /// site has households and there is no sighting, it does nothing. The jobs are to look at the
    /// clocks first, because they tell what became of them while no collector ran.
    pub(super) async fn run(mut self, database: Arc<Database>) {
        let mut connection: Option<(Client, SilenceWatch)> = None;
        loop {
            let is_on = !self.sightings.rules.load().sites.is_empty();
            // Without the key there are no sightings, so it does not wait for Postgres.
            if is_on && self.has_key && self.sightings.key.load().is_none() {
                let found = self.follow_key(i32::MIN, false);
                self.say(found);
            }
            tokio::time::sleep(PERIOD).await;
            if is_on || self.has_left {
                let done = self.tick(&database, &mut connection, is_on).await;
                if done.is_err() || !is_on && !self.has_left {
                    connection = None;
                }
                self.say(done);
            }
        }
    }

    /// Keeps the key in step with the days where there is no Postgres to compare clocks with: by
    /// this machine's, once that has run evenly for a while. Never returns.
    pub(super) async fn follow_key_alone(mut self) {
        let begun = (clock::now(), clock::monotonic());
        loop {
            if !self.sightings.rules.load().sites.is_empty() {
                let (now, ran) = (clock::now(), clock::time_since(begun.1));
                let drift = now.since(begun.0).abs_diff(ran);
                let may_step = now >= begun.0 && ran >= EVEN_TIME_MIN && drift < DRIFT_MAX;
                let today = i32::try_from(now.day()).unwrap_or(i32::MIN);
                let found = self.follow_key(today, may_step);
                self.say(found);
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn say(&mut self, outcome: anyhow::Result<()>) {
        let said = outcome
            .err()
            .map_or(String::new(), |error| format!("{error:#}"));
        if said != self.said && !said.is_empty() {
            tracing::error!("households: {said}");
        }
        self.said = said;
    }

    async fn tick(
        &mut self,
        database: &Arc<Database>,
        connection: &mut Option<(Client, SilenceWatch)>,
        is_on: bool,
    ) -> anyhow::Result<()> {
        let open = connection.take().filter(|(client, _)| !client.is_closed());
        let (client, watch) = match open {
            Some(open) => connection.insert(open),
            None => connection.insert(SilenceWatch::connect(database, LONG_SILENCE_MAX).await?),
        };
        let guard = &mut self.guard;
        let check = async {
            let clocks = Clocks::read(client).await?;
            let standing = guard.check(client, clocks).await?;
            anyhow::Ok((clocks.postgres, standing.may_delete()))
        };
        let (now, may_step) = watch.watch(check).await?;
        let today = i32::try_from(now.day()).context("the clock of Postgres is wrong")?;
        let key = if is_on && self.has_key {
            self.follow_key(today, may_step)
        } else {
            Ok(())
        };
        watch.watch(household::fold(client)).await?;
        if may_step && minute_of_day(now) >= i64::from(self.night) {
            let found = watch.watch(household::night(client, today)).await?;
            if let Some(household::Night { pairs, members }) = found {
                tracing::info!(pairs, members, "households were computed");
            }
        }
        self.has_left = watch.watch(household::has_sightings(client)).await?;
        if !is_on && !self.has_left {
            watch.watch(household::clear(client)).await?;
        }
        key
    }

    /// Replaces the key where the next one is due, and gives the loaders the one in force.
    fn follow_key(&self, today: i32, may_step: bool) -> anyhow::Result<()> {
        let key = household_key::keep_up(&self.spool, today, may_step).inspect_err(|_| {
            self.sightings.key.store(None);
        })?;
        let is_missing = key.is_none();
        self.sightings.key.store(key.map(Arc::new));
        anyhow::ensure!(
            !is_missing,
            "there is no key in {}, so no sighting is noted; `avtryck keys household` makes one",
            household_key::path(&self.spool).display()
        );
        Ok(())
    }
}

fn minute_of_day(at: UnixMicros) -> i64 {
    at.0.div_euclid(MINUTE_MICROS).rem_euclid(MINUTES_OF_DAY)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::keys::epoch_of;
    use crate::loader::sink::SightingRules;
    use crate::postgres::server::embedded::testing::TestDatabase;

    struct Home {
        database: Arc<Database>,
        postgres: TestDatabase,
        spool: tempfile::TempDir,
        households: Households,
        today: i32,
    }

    impl Home {
        /// Looks after households whose night is always due.
        async fn new() -> Home {
            let postgres = TestDatabase::migrated().await;
            let spool = tempfile::tempdir().unwrap();
            let sightings = Arc::new(Sightings::default());
            sightings.rules.store(Arc::new(SightingRules {
                sites: ["shop".to_owned()].into(),
                ..SightingRules::default()
            }));
            let today = "select (now() at time zone 'UTC')::date - date '1970-01-01'";
            let today = postgres.client.query_one(today, &[]).await.unwrap().get(0);
            Home {
                database: Arc::new(Database::at(postgres.config.clone())),
                households: Households {
                    spool: spool.path().to_owned(),
                    night: 0,
                    sightings,
                    has_key: true,
                    guard: Guard::default(),
                    has_left: true,
                    said: String::new(),
                },
                postgres,
                spool,
                today,
            }
        }

        async fn tick(&mut self, is_on: bool) -> anyhow::Result<()> {
            let mut connection = None;
            let ticked = self.households.tick(&self.database, &mut connection, is_on);
            ticked.await
        }

        fn epoch(&self) -> Option<i32> {
            let key = self.households.sightings.key.load();
            key.as_ref().map(|key| key.epoch())
        }

        async fn nights(&self) -> i64 {
            let sql = "select count(*) from avtryck.household_night where night > '-infinity'";
            self.postgres
                .client
                .query_one(sql, &[])
                .await
                .unwrap()
                .get(0)
        }
    }

    #[tokio::test]
    async fn the_key_steps_once_a_day_and_the_night_is_worked_through_once() {
        let mut home = Home::new().await;
        let made_on = home.today - 3 * 14;
        household_key::make(home.spool.path(), made_on).unwrap();
        for _ in 0..2 {
            home.tick(true).await.unwrap();
            assert_eq!(home.epoch(), Some(epoch_of(made_on) + 1));
            assert_eq!(home.nights().await, 1);
        }
    }

    #[tokio::test]
    async fn while_a_clock_is_doubted_no_key_steps_and_no_night_is_worked_through() {
        let mut home = Home::new().await;
        let made_on = home.today - 14;
        household_key::make(home.spool.path(), made_on).unwrap();
        let doubt = "insert into avtryck.clock values (true, now(), now(), null, now(), 1000)";
        home.postgres.client.batch_execute(doubt).await.unwrap();
        home.tick(true).await.unwrap();
        // The key of the epoch that has ended makes no sighting of a hit of this one.
        assert_eq!(home.epoch(), Some(epoch_of(made_on)));
        assert_eq!(home.nights().await, 0);
        // Postgres's clock was years ahead, and has been set right.
        let ahead = "update avtryck.clock set seen_at = now() + interval '3 years', in_step_since = '2020-01-01'";
        home.postgres.client.batch_execute(ahead).await.unwrap();
        home.households.guard = Guard::default();
        home.tick(true).await.unwrap();
        assert_eq!(
            (home.epoch(), home.nights().await),
            (Some(epoch_of(made_on)), 0)
        );
        let right =
            "update avtryck.clock set seen_at = now(), in_step_since = now() - interval '25 hours'";
        home.postgres.client.batch_execute(right).await.unwrap();
        home.tick(true).await.unwrap();
        assert_eq!(
            (home.epoch(), home.nights().await),
            (Some(epoch_of(home.today)), 1)
        );
    }

    #[tokio::test]
    async fn without_a_key_or_with_one_that_others_may_read_no_sighting_is_made() {
        use std::os::unix::fs::PermissionsExt as _;
        let mut home = Home::new().await;
        let error = home.tick(true).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`avtryck keys household` makes one")
        );
        household_key::make(home.spool.path(), home.today).unwrap();
        home.tick(true).await.unwrap();
        assert!(home.epoch().is_some());
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(household_key::path(home.spool.path()), open).unwrap();
        assert!(home.tick(true).await.is_err());
        assert_eq!(home.epoch(), None);
    }

    #[tokio::test]
    async fn what_is_left_goes_after_the_last_site_has_no_households_any_more() {
        let mut home = Home::new().await;
        let old = "insert into avtryck.sighting_part values \
                   (($1::int - 28) / 14, 63, '{1}', array[gen_random_uuid()], array[date '1970-01-01' + $1 - 28], '{20}')";
        home.postgres
            .client
            .execute(old, &[&home.today])
            .await
            .unwrap();
        let found = "insert into avtryck.household_pair values (md5('1')::uuid, md5('2')::uuid, false, 9, 9, 3); \
                     insert into avtryck.household_member \
                     select md5(n::text)::uuid, 1, null, 9, 9, 3, current_date, current_date \
                     from generate_series(1, 2) as n; \
                     insert into avtryck.household_gone values (gen_random_uuid()); \
                     insert into avtryck.household_never values (gen_random_uuid())";
        home.postgres.client.batch_execute(found).await.unwrap();
        home.tick(false).await.unwrap();
        assert!(!home.households.has_left, "the night dropped the epoch");
        assert_eq!(home.nights().await, 1);
        let left = "select array[(select count(*) from avtryck.household_pair), \
                                 (select count(*) from avtryck.household_member), \
                                 (select count(*) from avtryck.household_shown), \
                                 (select count(*) from avtryck.household_gone), \
                                 (select count(*) from avtryck.household_never)]";
        let left = home.postgres.client.query_one(left, &[]).await.unwrap();
        assert_eq!(left.get::<_, Vec<i64>>(0), [0, 0, 0, 0, 1]);
    }
}
