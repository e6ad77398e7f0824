//! From hits to sightings.

use std::net::IpAddr;
use std::sync::Arc;

use super::ties::append_all;
use super::*;
use crate::hit::{ConsentSource, Flags, VisitorId};
use crate::keys::{HouseholdKey, epoch_of};
use crate::loader::sink::{SightingRules, Sightings};

const ADDRESS: &str = "192.0.2.77";

fn seen(at: UnixMicros) -> Hit<'static> {
    let mut hit = Hit::new(at, Kind::PageView, "shop");
    hit.permit = Permit::ALL;
    hit.visitor = Some(VisitorId([7; 16]));
    hit.client_ip = ADDRESS.parse().ok();
    hit
}

fn key(day: i64) -> HouseholdKey {
    let day = i32::try_from(day).unwrap();
    HouseholdKey::new(epoch_of(day), day, [3; 32])
}

/// Hits that are no sightings, each with the reason.
fn others(now: UnixMicros) -> Vec<(&'static str, Hit<'static>)> {
    let mut others = Vec::new();
    let mut add = |reason, change: &dyn Fn(&mut Hit<'static>)| {
        let mut hit = seen(now);
        change(&mut hit);
        others.push((reason, hit));
    };
    for lacks in [Permit::MEASURE, Permit::STORE, Permit::LINK, Permit::LOCATE] {
        add("a permit is missing", &|hit| {
            hit.permit = Permit::ALL.without(lacks)
        });
    }
    for flag in [
        Flags::BOT,
        Flags::BAD_AGENT,
        Flags::DATA_CENTRE,
        Flags::OVER_LIMIT,
        Flags::PREFETCH,
        Flags::PREVIEW,
        Flags::THIRD_PARTY,
        Flags::ANONYMOUS,
        Flags::MAIL_PROXY,
        Flags::SYSTEM,
    ] {
        add("it is flagged", &|hit| hit.flags.set(flag));
    }
    add("a server sent it", &|hit| hit.kind = Kind::Callback);
    add("its address is unknown", &|hit| hit.client_ip = None);
    add("it is of a carrier", &|hit| {
        hit.client_ip = "198.51.100.9".parse().ok()
    });
    add("its site has no households", &|hit| {
        hit.site = "news".into()
    });
    add("nobody knows whose it is", &|hit| hit.visitor = None);
    add("its epoch is over", &|hit| {
        hit.received_at = UnixMicros(now.0 - 15 * 86_400_000_000);
    });
    others
}

async fn see_devices() {
    let postgres = testing::TestDatabase::migrated().await;
    let dir = tempfile::tempdir().unwrap();
    let instructions = spool(&dir.path().join("instruction"));
    let hits = spool(&dir.path().join("hits"));
    let now = clock::now();
    let key = key(now.day());
    let sightings = Arc::new(Sightings::default());
    sightings.rules.store(Arc::new(SightingRules {
        sites: ["shop".to_owned()].into(),
        mobile_networks: vec!["198.51.100.0/24".parse().unwrap()],
        ..SightingRules::default()
    }));
    let loader = loader(&hits, &instructions, postgres.config.clone());
    let sink = loader.sink.with_sightings(Arc::clone(&sightings));
    let loader = Loader { sink, ..loader };
    let count = async || -> i64 {
        let sql = "select coalesce(sum(cardinality(node)), 0) from avtryck.sighting_part";
        postgres.client.query_one(sql, &[]).await.unwrap().get(0)
    };
    // Without a key there is none.
    append_all(&hits, &[seen(now)]).await;
    load_once(&loader).await.unwrap();
    assert_eq!(count().await, 0);

    sightings.key.store(Some(Arc::new(key.clone())));
    for (reason, hit) in others(now) {
        append_all(&hits, &[hit]).await;
        load_once(&loader).await.unwrap();
        assert_eq!(count().await, 0, "{reason}");
    }
    append_all(&hits, &[seen(now), seen(now)]).await;
    load_once(&loader).await.unwrap();
    assert_eq!(count().await, 1, "the same hour is noted once");
    let sql = "select address[1], node[1], epoch from avtryck.sighting_part";
    let row = postgres.client.query_one(sql, &[]).await.unwrap();
    let (address, node): (i64, uuid::Uuid) = (row.get(0), row.get(1));
    assert_eq!(node.into_bytes(), [7; 16]);
    assert_eq!(row.get::<_, i32>(2), key.epoch());

    // With the key of the epoch the address is found by trying; with the next one it is not.
    let found = |key: &HouseholdKey| {
        let mut all =
            (0..=u16::MAX).map(|low| IpAddr::from((0xc000_0000 | u32::from(low)).to_be_bytes()));
        all.find(|ip| key.number(*ip, false) == address)
    };
    assert_eq!(found(&key), ADDRESS.parse().ok());
    let next = key.due((key.epoch() + 1) * 14).unwrap();
    assert_eq!(found(&next), None);
    // A hit of the epoch that is loaded after it is no sighting.
    sightings.key.store(Some(Arc::new(next)));
    append_all(&hits, &[seen(now)]).await;
    load_once(&loader).await.unwrap();
    assert_eq!(count().await, 1);
    hits.close();
    instructions.close();
}

#[tokio::test]
async fn a_sighting_is_made_of_hits_that_permit_it_and_of_no_others() {
    tokio::task::LocalSet::new().run_until(see_devices()).await;
}

/// Hits of three visitors at three addresses in two hours, many times and in other orders: as they
/// permit it, as a machine, and of others without `locate`. The sightings are each visitor's at
/// each address in each hour.
async fn note_each_once() {
    const NOON: i64 = 12 * 3_600_000_000;
    let postgres = testing::TestDatabase::migrated().await;
    let dir = tempfile::tempdir().unwrap();
    let instructions = spool(&dir.path().join("instruction"));
    let hits = spool(&dir.path().join("hits"));
    let day = clock::now().day() - 1;
    let sightings = Arc::new(Sightings::default());
    sightings.rules.store(Arc::new(SightingRules {
        sites: ["shop".to_owned()].into(),
        ..SightingRules::default()
    }));
    sightings.key.store(Some(Arc::new(key(day))));
    let mut all = Vec::new();
    for number in 0..54_u8 {
        let hour = UnixMicros(day * 86_400_000_000 + NOON + i64::from(number % 2) * 3_600_000_000);
        let mut hit = seen(hour);
        hit.visitor = Some(VisitorId([number / 2 % 3; 16]));
        hit.client_ip = Some(IpAddr::from([192, 0, 2, number / 6 % 3]));
        match number / 18 {
            0 => {}
            1 => hit.flags.set(Flags::BOT),
            // Of others: who takes it back is noted anew once it is there again.
            _ => {
                hit.visitor = Some(VisitorId([number / 2 % 3 + 10; 16]));
                hit.permit = Permit::ALL.without(Permit::LOCATE);
            }
        }
        all.push(hit);
    }
    for _ in 0..5 {
        append_all(&hits, &all).await;
        all.rotate_left(7);
    }
    let loader = loader(&hits, &instructions, postgres.config.clone());
    let loader = Loader {
        sink: loader.sink.with_sightings(sightings),
        batch_rows: 10,
        ..loader
    };
    let progress = Arc::clone(&loader.progress);
    let (stop, stopping) = watch::channel(false);
    let running = tokio::task::spawn_local(loader.run(stopping));
    until("all is loaded", async || {
        progress.position(0) == hits.committed_position()
    })
    .await;
    stop.send_replace(true);
    running.await.unwrap();
    let sql = "select (select count(*) from avtryck.hit), count(distinct seen), count(*), \
                      (select count(*) from avtryck.sighting_part) \
               from (select row(one.address, one.node, one.day, one.hour) as seen \
                     from avtryck.sighting_part as part, \
                          unnest(part.address, part.node, part.day, part.hour) \
                              as one (address, node, day, hour)) as noted";
    let row = postgres.client.query_one(sql, &[]).await.unwrap();
    let [loaded, seen, noted, parts]: [i64; 4] = std::array::from_fn(|column| row.get(column));
    assert_eq!((loaded, seen, noted), (5 * 54, 18, 18));
    assert!(parts > 1, "{parts} batches had sightings");
    hits.close();
    instructions.close();
}

#[tokio::test]
async fn each_hour_of_a_device_at_an_address_is_noted_once_over_the_batches_of_a_session() {
    tokio::task::LocalSet::new()
        .run_until(note_each_once())
        .await;
}

/// What is stored no more is noted again, in the same hour: what a refusal deletes, and what a
/// transaction left out because the hit was repeated.
async fn note_again() {
    const HOUR_MICROS: i64 = 3_600_000_000;
    let postgres = testing::TestDatabase::migrated().await;
    let dir = tempfile::tempdir().unwrap();
    let instructions = spool(&dir.path().join("instruction"));
    let hits = spool(&dir.path().join("hits"));
    // One hour, in which each hit comes after the one before.
    let hour = clock::now().0.div_euclid(HOUR_MICROS) * HOUR_MICROS;
    let ticks = std::cell::Cell::new(hour);
    let seen = || seen(UnixMicros(ticks.replace(ticks.get() + 1_000)));
    let sightings = Arc::new(Sightings::default());
    sightings.rules.store(Arc::new(SightingRules {
        sites: ["shop".to_owned()].into(),
        ..SightingRules::default()
    }));
    sightings
        .key
        .store(Some(Arc::new(key(UnixMicros(hour).day()))));
    let loader = loader(&hits, &instructions, postgres.config.clone());
    let loader = Loader {
        sink: loader.sink.with_sightings(sightings),
        ..loader
    };
    let progress = Arc::clone(&loader.progress);
    let (stop, stopping) = watch::channel(false);
    let running = tokio::task::spawn_local(loader.run(stopping));
    // A permit that changes has the hour noted once more, so it is the addresses that count.
    let count = async || -> i64 {
        let sql = "select count(distinct one) from avtryck.sighting_part as part, unnest(part.address) as one";
        postgres.client.query_one(sql, &[]).await.unwrap().get(0)
    };
    let noted = async |hit: Hit<'static>| -> i64 {
        append_all(&hits, &[hit]).await;
        let is_loaded = async || progress.position(0) == hits.committed_position();
        until("it is loaded", is_loaded).await;
        count().await
    };
    let named = |address: &str| {
        let mut hit = seen();
        hit.event_id = "once".into();
        hit.client_ip = address.parse().ok();
        hit
    };
    let refused = || {
        let mut hit = seen();
        hit.permit = Permit::ALL.without(Permit::LINK);
        hit.consent_source = ConsentSource::Choice;
        hit
    };
    assert_eq!(noted(named(ADDRESS)).await, 1);
    assert_eq!(noted(named("192.0.2.200")).await, 1, "its row is left out");
    let elsewhere = || Hit {
        event_id: "".into(),
        ..named("192.0.2.200")
    };
    assert_eq!(noted(elsewhere()).await, 2);
    noted(refused()).await;
    until("they are deleted", async || count().await == 0).await;
    assert_eq!(noted(seen()).await, 1);
    assert_eq!(noted(elsewhere()).await, 2);
    stop.send_replace(true);
    running.await.unwrap();
    hits.close();
    instructions.close();
}

#[tokio::test]
async fn a_device_is_noted_again_in_an_hour_that_was_left_out_or_deleted() {
    tokio::task::LocalSet::new().run_until(note_again()).await;
}
