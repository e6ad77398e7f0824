//! Nights against Postgres, with the pure functions as the oracle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use homes::{Mobility, Observation, Scenario, SimulatedDevice, World};
use tokio_postgres::Client;
use uuid::Uuid;

use super::check::{Truth, check};
use super::night;
use crate::identity::household::{
    CASES_MIN, PairScore, Stay, cluster, fold, is_home_hour, pairs_of_epoch,
};
use crate::postgres::identity::{self, Removal};
use crate::postgres::server::embedded::testing::TestDatabase;

/// An epoch of 2026. It begins on a Thursday, as all do.
const EPOCH: i32 = 1_470;
const FIRST_DAY: i32 = EPOCH * 14;

fn world() -> World {
    World::new(Scenario {
        homes: 150,
        days: 28,
        ..Scenario::base(5)
    })
}

fn node(device: i64) -> Uuid {
    Uuid::from_u128(u128::try_from(device).unwrap() + 1)
}

/// What is noted of a device, with its day.
fn sightings(world: &World) -> impl Iterator<Item = (&Observation, &SimulatedDevice, i32)> {
    let noted = world.noted();
    noted.map(|(seen, device)| (seen, device, FIRST_DAY + i32::from(seen.day)))
}

fn number(seen: &Observation, epoch: i32) -> i64 {
    seen.number(epoch.cast_unsigned())
}

fn is_phone(device: &SimulatedDevice) -> bool {
    device.class == Mobility::Phone
}

/// Stores sightings as batches do.
async fn store(client: &Client, world: &World) {
    type Columns = (Vec<i64>, Vec<Uuid>, Vec<i32>, Vec<i16>);
    let mut parts: BTreeMap<i32, Columns> = BTreeMap::new();
    for (seen, device, day) in sightings(world) {
        let epoch = day.div_euclid(14);
        let part = parts.entry(epoch).or_default();
        part.0.push(number(seen, epoch));
        part.1.push(node(seen.device.into()));
        part.2.push(day);
        let phone = if is_phone(device) { 32 } else { 0 };
        part.3.push(i16::from(seen.hour) | phone);
    }
    for (epoch, (addresses, nodes, days, hours)) in parts {
        let sql = "insert into avtryck.sighting_part (epoch, permit, address, node, day, hour) \
                   select $1::int, 63, $2::bigint[], $3::uuid[], \
                          array_agg(date '1970-01-01' + day order by at), $5::smallint[] \
                   from unnest($4::int[]) with ordinality as days (day, at)";
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&epoch, &addresses, &nodes, &days, &hours];
        client.execute(sql, &row).await.unwrap();
    }
}

fn stays_of(world: &World, epoch: i32) -> Vec<Stay> {
    let of_epoch = sightings(world).filter(|(.., day)| day.div_euclid(14) == epoch);
    let hours: BTreeSet<(i64, i64, i32, u8)> = of_epoch
        .map(|(seen, _, day)| (number(seen, epoch), seen.device.into(), day, seen.hour))
        .collect();
    let mut stays: HashMap<(i64, i64), Stay> = HashMap::new();
    for (address, device, day, hour) in hours {
        let stay = stays.entry((address, device)).or_insert(Stay {
            address,
            device,
            is_phone: is_phone(&world.devices[usize::try_from(device).unwrap()]),
            ..Stay::default()
        });
        let bit = 1 << (day - epoch * 14);
        stay.days |= bit;
        // 1970-01-01 was a Thursday.
        if is_home_hour(hour, (day + 3) % 7 >= 5) {
            stay.home_days |= bit;
            stay.other_hours += 1;
        } else {
            stay.work_hours += 1;
        }
    }
    stays.into_values().collect()
}

async fn stored_pairs(client: &Client, is_open: bool) -> Vec<(Uuid, Uuid, f64)> {
    let sql = "select a, b, score from avtryck.household_pair where is_open = $1 order by a, b";
    let rows = client.query(sql, &[&is_open]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

fn assert_same(stored: &[(Uuid, Uuid, f64)], pure: &[PairScore]) {
    assert!(pure.len() > 100, "{} pairs", pure.len());
    assert_eq!(stored.len(), pure.len());
    for ((a, b, score), pair) in stored.iter().zip(pure) {
        assert_eq!((*a, *b), (node(pair.a), node(pair.b)));
        assert!((score - pair.score).abs() < 1e-9, "{score} {pair:?}");
    }
}

async fn households(client: &Client) -> Vec<Vec<Uuid>> {
    let sql = "select array_agg(node order by node) from avtryck.household_member \
               where household is not null group by household order by 1";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn count(client: &Client, table: &str) -> i64 {
    let sql = format!("select count(*) from avtryck.{table}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn nights_find_the_pairs_and_the_households_of_the_pure_functions() {
    let mut postgres = TestDatabase::migrated().await;
    let client = &mut postgres.client;
    let world = world();
    store(client, &world).await;
    let first = pairs_of_epoch(&stays_of(&world, EPOCH), 14);
    night(client, FIRST_DAY + 13).await.unwrap().unwrap();
    assert_same(&stored_pairs(client, true).await, &first);
    assert_eq!(night(client, FIRST_DAY + 13).await.unwrap(), None);

    night(client, FIRST_DAY + 27).await.unwrap().unwrap();
    assert_same(&stored_pairs(client, false).await, &fold(&[], &first));
    let second = pairs_of_epoch(&stays_of(&world, EPOCH + 1), 14);
    assert_same(&stored_pairs(client, true).await, &second);
    // Two nights, and the addresses of both epochs are gone.
    for later in [28, 29] {
        night(client, FIRST_DAY + later).await.unwrap().unwrap();
    }
    let folded = fold(&fold(&[], &first), &second);
    assert_same(&stored_pairs(client, false).await, &folded);
    for table in ["sighting", "sighting_part", "address_kind"] {
        assert_eq!(count(client, table).await, 0, "{table}");
    }
    let pure: Vec<Vec<Uuid>> = cluster(&folded)
        .into_iter()
        .map(|household| household.into_iter().map(node).collect())
        .collect();
    let found = households(client).await;
    let same = pure
        .iter()
        .filter(|household| found.contains(household))
        .count();
    // A pair at the threshold may have lost the weight of a day or two.
    assert!(same * 10 >= pure.len() * 9, "{same} of {}", pure.len());
    let score = |households: &[Vec<Uuid>]| {
        let device = |node: &Uuid| u32::try_from(node.as_u128() - 1).unwrap();
        let devices = households.iter();
        let devices = devices.map(|household| household.iter().map(device).collect());
        world.score(&devices.collect::<Vec<_>>())
    };
    let (score, expected) = (score(&found), score(&pure));
    let is_near = |one: f64, other: f64| (one - other).abs() <= 0.03;
    assert!(
        is_near(score.precision, expected.precision) && is_near(score.recall, expected.recall),
        "{score:?}, {expected:?}"
    );
}

#[tokio::test]
async fn whoever_refuses_leaves_a_trace_only_where_a_night_could_bring_them_back() {
    let postgres = TestDatabase::migrated().await;
    let client = &postgres.client;
    let refuse = async |first: i32| {
        let sql = "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
                   select md5(n::text)::uuid, 'shop', '', 31, 2, now() from generate_series($1::int, $1 + 99) as n";
        client.execute(sql, &[&first]).await.unwrap();
        let gone = "select count(*) from avtryck.household_gone";
        client.query_one(gone, &[]).await.unwrap().get::<_, i64>(0)
    };
    assert_eq!(refuse(0).await, 0);
    let sighting = "insert into avtryck.sighting_part \
                    values (1, 63, '{1}', array[gen_random_uuid()], array[current_date], '{20}')";
    client.batch_execute(sighting).await.unwrap();
    assert_eq!(refuse(100).await, 100);
}

#[tokio::test]
async fn whoever_leaves_is_out_at_once_and_no_night_brings_them_back() {
    let mut postgres = TestDatabase::migrated().await;
    let client = &mut postgres.client;
    let world = world();
    store(client, &world).await;
    for day in [12, 13] {
        night(client, FIRST_DAY + day).await.unwrap().unwrap();
    }
    let before = households(client).await;
    let pair = before
        .iter()
        .find(|household| household.len() == 2)
        .unwrap()
        .clone();
    let larger = before
        .iter()
        .find(|household| household.len() > 2)
        .unwrap()
        .clone();
    // Sightings that no night has added yet go as well.
    store(client, &world).await;
    let transaction = client.transaction().await.unwrap();
    identity::remove(&transaction, &pair[..1], Removal::Withdrawal)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    // The other refuses the permit locate, by its own choice.
    let refuse = "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
                  values ($1, 'shop', '', 31, 2, now())";
    client.execute(refuse, &[&larger[0]]).await.unwrap();
    let gone = [pair[0], larger[0]];
    for when in ["at once", "after a night"] {
        let found = households(client).await;
        let left = found.concat();
        assert!(!left.iter().any(|node| gone.contains(node)), "{when}");
        let has_others = |household: &Vec<Uuid>| {
            let mut others = larger[1..].iter();
            others.all(|node| household.contains(node))
        };
        assert!(found.iter().any(has_others), "{when}");
        assert!(when != "at once" || !left.contains(&pair[1]));
        for (table, column) in [
            ("sighting", "node"),
            ("household_pair", "a"),
            ("household_pair", "b"),
            ("household_member", "node"),
        ] {
            let sql = format!("select count(*) from avtryck.{table} where {column} = any($1)");
            let left: i64 = client.query_one(&sql, &[&&gone[..]]).await.unwrap().get(0);
            assert_eq!(left, 0, "{when}: {table}.{column}");
        }
        if when == "at once" {
            night(client, FIRST_DAY + 14).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn no_sighting_is_kept_without_each_of_its_permits() {
    let postgres = TestDatabase::migrated().await;
    for permit in 0..64_i16 {
        let sql = "insert into avtryck.sighting_part values (1, $1, '{}', '{}', '{}', '{}')";
        let is_kept = postgres.client.execute(sql, &[&permit]).await.is_ok();
        assert_eq!(is_kept, permit & 51 == 51, "{permit}");
    }
}

#[tokio::test]
async fn proved_logins_say_how_many_devices_of_one_home_were_found_and_too_few_say_nothing() {
    let mut postgres = TestDatabase::migrated().await;
    let client = &mut postgres.client;
    let world = world();
    store(client, &world).await;
    for day in [12, 13] {
        night(client, FIRST_DAY + day).await.unwrap().unwrap();
    }
    assert_eq!(check(client).await.unwrap(), Truth::default());
    // Somebody logs in on each device of a home; of every other home nobody vouches for it.
    let mut devices = BTreeMap::<u32, Vec<u32>>::new();
    for (device, of) in (0..).zip(&world.devices) {
        devices.entry(of.home).or_default().push(device);
    }
    let sql = "insert into avtryck.link_edge \
               (a, b, a_kind, b_kind, first_day, last_day, proved_day, permit, consent_source, source) \
               values ($1, $2, 1, 5, '2026-01-01', '2026-01-01', case when $3 then date '2026-01-01' end, 63, 2, 0)";
    for (home, devices) in &devices {
        let user = Uuid::from_u128(u128::MAX - u128::from(*home));
        for device in devices {
            let is_proved = home % 2 == 0;
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&node((*device).into()), &user, &is_proved];
            client.execute(sql, &values).await.unwrap();
        }
    }
    let truth = check(client).await.unwrap();
    let found = households(client).await;
    let home = |node: &Uuid| {
        let device = usize::try_from(node.as_u128() - 1).unwrap();
        world.devices[device].home
    };
    let (mut right, mut pairs) = (0, 0);
    for household in &found {
        let known: Vec<u32> = household
            .iter()
            .map(home)
            .filter(|home| home % 2 == 0)
            .collect();
        for (at, one) in known.iter().enumerate() {
            for other in &known[at + 1..] {
                pairs += 1;
                right += u64::from(one == other);
            }
        }
    }
    assert_eq!(
        (truth.precision.right, truth.precision.pairs),
        (right, pairs)
    );
    assert!(
        truth.unity.right == right && truth.recall.right == right,
        "{truth:?}"
    );
    assert!(
        truth.recall.pairs > truth.unity.pairs && truth.unity.pairs >= right,
        "{truth:?}"
    );
    let recall = truth.recall.estimate().unwrap();
    assert!(
        truth.recall.cases >= CASES_MIN && recall.low < recall.share,
        "{truth:?}"
    );
    assert_eq!((truth.left_out, truth.refusing), (0, 0));
    // An account that is on more devices than a home has is no home.
    let all = "insert into avtryck.link_edge \
               (a, b, a_kind, b_kind, first_day, last_day, proved_day, permit, consent_source, source) \
               select node, 'ffffffff-0000-ffff-ffff-ffffffffffff', 1, 5, '2026-01-01', '2026-01-01', '2026-01-01', 63, 2, 0 \
               from avtryck.household_member order by node limit 16";
    client.batch_execute(all).await.unwrap();
    let with_account = check(client).await.unwrap();
    assert_eq!(
        (with_account.left_out, with_account.recall),
        (1, truth.recall)
    );
}
