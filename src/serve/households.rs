//! The key of households, which follows the days, and the nightly work on them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_postgres::Client;

use super::household_key;
use crate::clock::UnixMicros;
use crate::config::Config;
use crate::jobs::{Clocks, Guard};
use crate::loader::sink::Sightings;
use crate::postgres::server::silence::LONG_SILENCE_MAX;
use crate::postgres::{Database, SilenceWatch, household};

/// How often it looks at the clocks.
const PERIOD: Duration = Duration::from_mins(1);

const MINUTE_MICROS: i64 = 60_000_000;
const MINUTES_OF_DAY: i64 = 24 * 60;

/// What looks after households.
pub(super) struct Households {
    /// The folder of the spool, where the key is.
    spool: PathBuf,
    /// `household.night`.
    night: u16,
    sightings: Arc<Sightings>,
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
            guard: Guard::default(),
            has_left: true,
            said: String::new(),
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
            if is_on && self.sightings.key.load().is_none() {
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
        let key = if is_on {
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
