//! What a night of households costs where there are millions of sightings, beside a load.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use avtryck::postgres::household::night::night;
use homes::{Mobility, Scenario, World};
use loadtest::{Outcome, Plan};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::chaos::variable;
use crate::support::{Collector, Config};

/// Hits a second beside the night.
const RATE: f64 = 5000.0;
/// For how long latencies are measured without it.
const ALONE: Duration = Duration::from_secs(60);
/// The goal.
const NIGHT_TIME_MAX: Duration = Duration::from_secs(300);
/// For how long a night may keep what else its thread does: the loader's commits, when a collector
/// works through it.
const PAUSE_MAX: Duration = Duration::from_secs(1);
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

/// What is noted of a region in an epoch. Its addresses have numbers of their own.
fn rows_of(region: u32, first_day: i32) -> Vec<DayRow> {
    let world = World::new(Scenario {
        homes: HOMES,
        days: EPOCH_DAYS,
        ..Scenario::base(region.into())
    });
    let mut rows: HashMap<(u16, i64, u32), DayRow> = HashMap::new();
    for (seen, device) in world.noted() {
        let address = seen.number(region);
        let row = rows.entry((seen.day, address, seen.device));
        let row = row.or_insert_with(|| DayRow {
            day: first_day + i32::from(seen.day),
            address,
            node: Uuid::from_u64_pair(region.into(), u64::from(seen.device) + 1),
            hours: 0,
            is_phone: device.class == Mobility::Phone,
        });
        row.hours |= 1 << seen.hour;
    }
    rows.into_values().collect()
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

/// Notes how long a task that only sleeps for a moment has to wait for its thread, as a loader in
/// that thread would.
async fn watch_thread(longest: &Cell<Duration>) {
    loop {
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        longest.set(longest.get().max(begun.elapsed()));
    }
}

/// A load with a thread of its own, so that what holds up the night's does not look like a reply
/// that is late.
struct Load {
    stop: watch::Sender<bool>,
    sending: JoinHandle<Outcome>,
}

impl Load {
    fn start(address: SocketAddr) -> Load {
        let (stop, stopped) = watch::channel(false);
        let plan = Plan {
            address,
            site: "open".to_owned(),
            prefix: "hit".to_owned(),
            connections: 32,
            rate: Some(RATE),
            fresh: false,
            padding: 0,
        };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let sending = thread::spawn(move || runtime.block_on(loadtest::send(plan, stopped)));
        Load { stop, sending }
    }

    fn stop(self) -> Outcome {
        self.stop.send_replace(true);
        self.sending.join().unwrap()
    }
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

    let alone = Load::start(collector.http);
    tokio::time::sleep(ALONE).await;
    let alone = alone.stop();
    eprintln!("without the night: {}", describe(&alone));
    let beside = Load::start(collector.http);
    let begun = Instant::now();
    let pause = Cell::new(Duration::ZERO);
    let found = tokio::select! {
        found = night(&mut client, first_day + i32::from(EPOCH_DAYS) - 1) => found.unwrap().unwrap(),
        () = watch_thread(&pause) => unreachable!(),
    };
    let took = begun.elapsed();
    let beside = beside.stop();
    let millions = stored as f64 / 1e6;
    eprintln!(
        "the night took {took:.1?}, {:.1} s a million, with {} pairs and {} devices in households, and held up its thread for up to {:.0?}; \
         beside it {}",
        took.as_secs_f64() / millions,
        found.pairs,
        found.members,
        pause.get(),
        describe(&beside)
    );
    for outcome in [&alone, &beside] {
        assert_eq!((outcome.broken, outcome.unconnected), (0, 0));
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
    }
    assert!(took <= NIGHT_TIME_MAX);
    assert!(pause.get() <= PAUSE_MAX);
    let sent = alone.acknowledged.len() + beside.acknowledged.len();
    collector
        .wait_for("select count(*) from avtryck.hit", sent as i64)
        .await;
}
