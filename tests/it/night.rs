//! What a night of households costs where there are millions of sightings, beside a load.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use avtryck::postgres::household::night::night;
use homes::{Mobility, Scenario, World};
use loadtest::Outcome;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::chaos::{Load, variable};
use crate::support::{Collector, Config};

/// Hits a second beside the night.
const RATE: f64 = 5000.0;
/// For how long latencies are measured without it.
const ALONE: Duration = Duration::from_secs(60);
/// The goal.
const NIGHT_TIME_MAX: Duration = Duration::from_secs(300);
/// Homes of a region. Regions have nothing in common.
const HOMES: u32 = 10_000;
const EPOCH_DAYS: u16 = 14;
/// Rows of one statement.
const PORTION_ROWS: usize = 100_000;

/// Where a device was on a day: a row of `sighting`.
struct DayRow {
    day: i32,
    address: i64,
    node: Uuid,
    hours: i32,
    is_phone: bool,
}

/// A number of an address, another one in each region.
fn number(address: IpAddr, region: u64) -> i64 {
    let bits = match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64,
    };
    let mixed =
        (bits ^ u128::from(region) << 80).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let [first @ .., _, _, _, _, _, _, _, _] = mixed.to_be_bytes();
    i64::from_be_bytes(first)
}

/// What is noted of a region in an epoch: those who permit it, and no known carrier.
fn rows_of(region: u64, first_day: i32) -> Vec<DayRow> {
    let world = World::new(Scenario {
        homes: HOMES,
        days: EPOCH_DAYS,
        ..Scenario::base(region)
    });
    let mut hours: HashMap<(u16, IpAddr, u32), i32> = HashMap::new();
    for seen in &world.sightings {
        let links = world.devices[seen.device as usize].links;
        if links && !world.is_known_carrier(seen.address) {
            *hours
                .entry((seen.day, seen.address, seen.device))
                .or_default() |= 1 << seen.hour;
        }
    }
    let row = |((day, address, device), hours): ((u16, IpAddr, u32), i32)| DayRow {
        day: first_day + i32::from(day),
        address: number(address, region),
        node: Uuid::from_u64_pair(region, u64::from(device) + 1),
        hours,
        is_phone: world.devices[device as usize].class == Mobility::Phone,
    };
    hours.into_iter().map(row).collect()
}

async fn store(client: &Client, epoch: i32, rows: &[DayRow]) {
    for portion in rows.chunks(PORTION_ROWS) {
        let days: Vec<i32> = portion.iter().map(|row| row.day).collect();
        let addresses: Vec<i64> = portion.iter().map(|row| row.address).collect();
        let nodes: Vec<Uuid> = portion.iter().map(|row| row.node).collect();
        let hours: Vec<i32> = portion.iter().map(|row| row.hours).collect();
        let phones: Vec<bool> = portion.iter().map(|row| row.is_phone).collect();
        let sql = "insert into avtryck.sighting (epoch, day, address, node, hours, is_phone) \
                   select $1, date '1970-01-01' + day, address, node, hours, is_phone \
                   from unnest($2::int[], $3::bigint[], $4::uuid[], $5::int[], $6::bool[]) \
                        as each (day, address, node, hours, is_phone)";
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&epoch, &days, &addresses, &nodes, &hours, &phones];
        client.execute(sql, &row).await.unwrap();
    }
}

fn describe(outcome: &Outcome) -> String {
    let millis = |quantile| outcome.latency.value_at_quantile(quantile) as f64 / 1e3;
    format!(
        "{} hits, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.1} ms",
        outcome.acknowledged.len(),
        millis(0.5),
        millis(0.99),
        millis(0.999)
    )
}

#[tokio::test]
#[ignore = "takes minutes: make bench-night"]
async fn a_night_of_millions_of_sightings_ends_in_time_beside_a_load() {
    let wanted = variable("NIGHT_SIGHTINGS").unwrap_or(8_000_000);
    // The collector's own night is not due.
    let config = Config::sites().embedded().set("household.night", "23:59");
    let collector = Collector::start(config).await;
    collector
        .until_metric("avtryck_loader_connected", 1.0)
        .await;
    let mut client = collector.database().await;
    let today = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    let epoch = i32::try_from(today).unwrap().div_euclid(EPOCH_DAYS.into());
    let first_day = epoch * i32::from(EPOCH_DAYS);
    let (mut stored, begun) = (0, Instant::now());
    for region in 1.. {
        let rows = rows_of(region, first_day);
        store(&client, epoch, &rows).await;
        stored += rows.len() as u64;
        if stored >= wanted {
            break;
        }
    }
    let settle = "analyze avtryck.sighting; checkpoint";
    client.batch_execute(settle).await.unwrap();
    eprintln!(
        "{stored} rows of sightings stored in {:.0?}",
        begun.elapsed()
    );

    let load = || Load::start(collector.http, 32, Some(RATE), 0);
    let alone = load();
    tokio::time::sleep(ALONE).await;
    let alone = alone.stop().await;
    eprintln!("without the night: {}", describe(&alone));
    let beside = load();
    let begun = Instant::now();
    let found = night(&mut client, first_day + i32::from(EPOCH_DAYS) - 1)
        .await
        .unwrap()
        .unwrap();
    let took = begun.elapsed();
    let beside = beside.stop().await;
    let millions = stored as f64 / 1e6;
    eprintln!(
        "the night took {took:.1?}, {:.1} s a million, with {} pairs and {} devices in households; beside it {}",
        took.as_secs_f64() / millions,
        found.pairs,
        found.members,
        describe(&beside)
    );
    for outcome in [&alone, &beside] {
        assert_eq!((outcome.broken, outcome.unconnected), (0, 0));
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
    }
    assert!(took <= NIGHT_TIME_MAX);
    let sent = alone.acknowledged.len() + beside.acknowledged.len();
    collector
        .wait_for("select count(*) from avtryck.hit", sent as i64)
        .await;
}
