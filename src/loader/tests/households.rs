//! From hits to sightings.

use std::net::IpAddr;
use std::sync::Arc;

use super::ties::append_all;
use super::*;
use crate::hit::{Flags, VisitorId};
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
