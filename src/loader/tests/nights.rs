//! From hits to households: a simulated country through the loader into Postgres, night by night.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use homes::{Scenario, World};
use uuid::Uuid;

use super::ties::append_all;
use super::*;
use crate::hit::{ConsentSource, VisitorId};
use crate::keys::{HouseholdKey, epoch_of};
use crate::loader::sink::{SightingRules, Sightings};
use crate::postgres::household::{check, night};

const DAY_MICROS: i64 = 86_400_000_000;
const HOUR_MICROS: i64 = 3_600_000_000;
/// Up to the end of the second epoch.
const DAYS: u16 = 24;
/// The night before which somebody refuses.
const REFUSAL: u16 = 20;

fn visitor(device: u32) -> VisitorId {
    VisitorId((u128::from(device) + 1).to_be_bytes())
}

/// The Monday of an epoch that has ended, and of which the second next has ended as well.
fn first_day() -> i32 {
    let today = i32::try_from(clock::now().day()).unwrap();
    (epoch_of(today) - 4) * 14 + 4
}

/// Makes the hits of a day: with every permit, or without that to link.
fn hits(world: &World, day: u16) -> Vec<Hit<'static>> {
    let start = (i64::from(first_day()) + i64::from(day)) * DAY_MICROS;
    let seen = world.sightings.iter().filter(|seen| seen.day == day);
    let mut hits: Vec<Hit<'static>> = seen
        .map(|seen| {
            let at = UnixMicros(start + i64::from(seen.hour) * HOUR_MICROS);
            let mut hit = Hit::new(at, Kind::PageView, "shop");
            hit.permit = match world.devices[seen.device as usize].links {
                true => Permit::ALL,
                false => Permit::ALL.without(Permit::LINK),
            };
            hit.visitor = Some(visitor(seen.device));
            hit.client_ip = Some(seen.address);
            hit
        })
        .collect();
    hits.sort_by_key(|hit| hit.received_at);
    hits
}

struct Country {
    postgres: testing::TestDatabase,
    spool: Spool,
    loader: Loader,
    sightings: Arc<Sightings>,
    key: HouseholdKey,
    _dir: tempfile::TempDir,
}

impl Country {
    async fn new(world: &World) -> Country {
        let carriers = world.sightings.iter().map(|seen| seen.address);
        let carriers: BTreeSet<IpAddr> =
            carriers.filter(|ip| world.is_known_carrier(*ip)).collect();
        let sightings = Arc::new(Sightings::default());
        sightings.rules.store(Arc::new(SightingRules {
            sites: ["shop".to_owned()].into(),
            mobile_networks: carriers
                .iter()
                .map(|ip| format!("{ip}/32").parse().unwrap())
                .collect(),
            ..SightingRules::default()
        }));
        let dir = tempfile::tempdir().unwrap();
        let [hits, instructions] =
            ["hits", "instruction"].map(|name| spool(&dir.path().join(name)));
        let postgres = testing::TestDatabase::migrated().await;
        let loader = loader(&hits, &instructions, postgres.config.clone());
        let sink = loader.sink.with_sightings(Arc::clone(&sightings));
        Country {
            postgres,
            spool: hits,
            loader: Loader { sink, ..loader },
            sightings,
            key: HouseholdKey::new(epoch_of(first_day()), first_day(), [3; 32]),
            _dir: dir,
        }
    }

    /// Loads the hits of a day, and works through its night.
    async fn live(&mut self, day: u16, hits: &[Hit<'static>]) {
        let today = first_day() + i32::from(day);
        if let Some(next) = self.key.due(today) {
            self.key = next;
        }
        let key = Arc::new(self.key.clone());
        self.sightings.key.store(Some(key));
        append_all(&self.spool, hits).await;
        while self.loader.progress.position(0) != self.spool.committed_position() {
            load_once(&self.loader).await.unwrap();
        }
        night(&mut self.postgres.client, today).await.unwrap();
    }

    async fn households(&self) -> Vec<Vec<u32>> {
        let sql =
            "select household, node from avtryck.household_member where household is not null";
        let mut households: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for row in self.postgres.client.query(sql, &[]).await.unwrap() {
            let device = row.get::<_, Uuid>(1).as_u128() - 1;
            let of = households.entry(row.get(0)).or_default();
            of.push(u32::try_from(device).unwrap());
        }
        households.into_values().collect()
    }
}

async fn live_for_weeks() {
    let world = World::new(Scenario {
        homes: 150,
        days: DAYS,
        ..Scenario::base(7)
    });
    let mut country = Country::new(&world).await;
    let mut gone = None;
    for day in 0..DAYS {
        let mut today = hits(&world, day);
        if day == REFUSAL {
            let members = country.households().await.concat();
            gone = members.first().copied();
            let mut no = Hit::new(today[0].received_at, Kind::PageView, "shop");
            no.permit = Permit::ALL.without(Permit::LOCATE);
            no.consent_source = ConsentSource::Choice;
            no.visitor = gone.map(visitor);
            today.insert(0, no);
        }
        // Whoever refused goes on to refuse.
        if let Some(gone) = gone {
            today.retain(|hit| {
                hit.consent_source == ConsentSource::Choice || hit.visitor != Some(visitor(gone))
            });
        }
        country.live(day, &today).await;
        let members: BTreeSet<u32> = country.households().await.concat().into_iter().collect();
        assert!(
            members
                .iter()
                .all(|device| world.devices[*device as usize].links)
        );
        assert!(
            gone.is_none_or(|gone| !members.contains(&gone)),
            "day {day}"
        );
    }
    assert!(gone.is_some(), "there was a member to refuse");
    let score = world.score(&country.households().await);
    eprintln!("{score:?}");
    assert!(score.precision >= 0.9 && score.recall >= 0.7, "{score:?}");
    let client = &country.postgres.client;
    let without_link: Vec<Uuid> = (0..)
        .zip(&world.devices)
        .filter(|(_, device)| !device.links)
        .map(|(device, _)| Uuid::from_bytes(visitor(device).0))
        .collect();
    for table in ["sighting", "household_member"] {
        let sql = format!("select count(*) from avtryck.{table} where node = any($1)");
        let row = client.query_one(&sql, &[&without_link]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 0, "{table}");
    }
    assert_eq!(check::check(client).await.unwrap().refusing, 0);
    // Nothing is left of the epochs that have ended.
    let sql = "select count(distinct epoch) from avtryck.sighting";
    let epochs: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(epochs, 1);
    country.spool.close();
}

#[tokio::test]
async fn weeks_of_hits_become_the_households_of_a_simulated_country() {
    tokio::task::LocalSet::new()
        .run_until(live_for_weeks())
        .await;
}
