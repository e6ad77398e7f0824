//! Measures how fast a backlog is loaded: `cargo bench --bench drain`.
//!
//! It fills a spool with hits as a site with ads sends them, and loads it, each round into an empty
//! database of a Postgres of its own. It prints the hits loaded per second and the CPU time that
//! each took: in the thread that prepares batches, in the thread that commits them, in Postgres's
//! process of that connection, and in the rest of Postgres.
//!
//! | variable | sets |
//! | --- | --- |
//! | `DRAIN_HITS`, `DRAIN_ROUNDS` | the size |
//! | `DRAIN_TABLE_HITS` | the hits after which one database is full that all rounds load new hits into |
//! | `DRAIN_DAY_HITS` | how many of those hits belong to one day |
//! | `DRAIN_SET` | the server in every second round: `wal_compression=lz4;shared_buffers=256MB` |
//! | `DRAIN_SQL` | what runs in the database before every second round |
//! | `DRAIN_EQUAL_HITS` | the hits of each round with equal IDs; 0 for no such rounds |
//! | `DRAIN_COMPARE` | `profiles`, `ties`, `households` or `all`: rounds without that and with it in turn, and nothing else |
//! | `DRAIN_SEEN` | 1: with `DRAIN_COMPARE`, hits of visitors who did the same before, in the same session |
//! | `DRAIN_STATEMENTS` | 1: with `DRAIN_COMPARE`, says what each SQL statement of a round took (`pg_stat_statements`) |
//! | `DRAIN_DIR` | the folder of spool and database |
//!
//! Then come rounds of clicks that have every ID: one in which all are new, and one for each ID in
//! which that one is the same in all hits. What such a round costs, compared with the first, is
//! what a sender can do by repeating an ID.
//!
//! With `DRAIN_COMPARE` every second round loads the same hits with a feature: `profiles` with the
//! permit `profile`, one in fifty of them a signed callback that brings two attributes, into a
//! database that has segments, a partner that is told of them and a webhook; `ties` with MAIDs that
//! are UUIDs in the impressions of known visitors; `households` with households for every site. The
//! last line is what that adds to the loader's CPU time.
//!
//! With `DRAIN_TABLE_HITS` the rounds show what a hit costs as the table grows.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a measurement fails by panicking and prints"
)]

#[path = "drain/compare.rs"]
mod compare;
#[path = "drain/cpu.rs"]
mod cpu;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use avtryck::clock::{self, UnixMicros};
use avtryck::config::ClientIp;
use avtryck::enrich::{self, TableFiles, Tables};
use avtryck::hit::{ConsentSource, Hit, Kind, Permit, VisitorId};
use avtryck::loader::sink::PostgresSink;
use avtryck::loader::{Loader, Progress};
use avtryck::metrics::Metrics;
use avtryck::postgres::Database;
use avtryck::postgres::server::embedded::Embedded;
use spool::{Ack, Observer, Options, Position, RealDisk, Room, Spool};
use tokio::sync::watch;

use compare::Feature;
use cpu::Cpu;

/// That of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The sites of the hits.
const SITES: [&str; 3] = ["telenor.se", "shop.example", "news.example"];
/// The size of the spool's chunks, as it is in use.
const CHUNK_BYTES: u64 = 64 << 20;
/// Hits that are appended at once.
const APPENDED_MAX: u64 = 1_000;

struct Quiet;

impl Observer for Quiet {
    fn note_commit(&self, _: u64, _: Duration, _: Duration) {}
    fn note_failure(&self, _: &std::io::Error) {}
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run());
}

async fn run() {
    let hits = variable("DRAIN_HITS", 500_000);
    let rounds = variable("DRAIN_ROUNDS", 4);
    let set = std::env::var("DRAIN_SET").ok();
    let sql = std::env::var("DRAIN_SQL").ok();
    let mut builder = tempfile::Builder::new();
    builder.prefix("drain");
    let dir = match std::env::var_os("DRAIN_DIR") {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    }
    .unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let instructions = spool(&dir.path().join("instruction"), Duration::ZERO, CHUNK_BYTES);
    let tables = Arc::new(ArcSwap::from_pointee(tables()));
    if let Ok(name) = std::env::var("DRAIN_COMPARE") {
        let feature = Feature::parse(&name);
        compare::compare(feature, dir.path(), &instructions, &tables, (hits, rounds)).await;
        return;
    }
    let table_hits = variable("DRAIN_TABLE_HITS", 0);
    if table_hits > 0 {
        grow(dir.path(), &instructions, &tables, hits, table_hits).await;
        return;
    }
    // The next round loads the same hits.
    let spool = spool(
        &dir.path().join("spool"),
        Duration::from_secs(86_400),
        CHUNK_BYTES,
    );
    fill(&spool, 0..hits, clock::now(), 25, Kinds::Usual).await;
    let bytes = spool.used_bytes();
    println!(
        "{hits} hits, {:.0} bytes each in the spool",
        bytes as f64 / hits as f64
    );
    let mut embedded = Embedded::start(&dir.path().join("postgres")).await.unwrap();
    for round in 0..rounds {
        let other = |set: &Option<String>| set.clone().filter(|_| round % 2 == 1);
        if set.is_some() {
            embedded = settings(embedded, dir.path(), other(&set).as_ref()).await;
        }
        let name = format!("drain_{round}");
        let config = embedded.database(&name).await.unwrap();
        let database = Arc::new(Database::at(config));
        let client = database.connect().await.unwrap();
        if let Some(sql) = other(&sql) {
            client.batch_execute(&sql).await.unwrap();
        }
        drop(client);
        let changed = [other(&set), other(&sql)].into_iter().flatten();
        println!("{}", changed.collect::<Vec<_>>().join("; "));
        let spools = (&spool, &instructions);
        println!(
            "{}",
            drain(spools, &tables, &embedded, database, hits).await
        );
        drop_database(&embedded, &name).await;
    }
    spool.close();
    let equal_hits = variable("DRAIN_EQUAL_HITS", 200_000);
    if equal_hits > 0 {
        drain_equal(dir.path(), &instructions, &tables, &embedded, equal_hits).await;
    }
    embedded.stop().await.unwrap();
}

/// Loads hits of which one ID is the same, for each ID, and compares with hits whose IDs are new.
async fn drain_equal(
    dir: &Path,
    instructions: &Spool,
    tables: &Arc<ArcSwap<Tables>>,
    embedded: &Embedded,
    hits: u64,
) {
    let mut new_micros = 0.0;
    for id in ["none", "visitor_id", "partner_uid", "maid", "click_id"] {
        let name = format!("drain_equal_{id}");
        let spool = spool(&dir.join(&name), Duration::ZERO, CHUNK_BYTES);
        fill(&spool, 0..hits, clock::now(), 25, Kinds::Clicks(id)).await;
        let config = embedded.database(&name).await.unwrap();
        let database = Arc::new(Database::at(config));
        let drained = drain((&spool, instructions), tables, embedded, database, hits).await;
        if id == "none" {
            new_micros = drained.micros();
        }
        println!(
            "{hits} clicks, equal: {id}; {drained}; {:.2} times what new IDs cost",
            drained.micros() / new_micros
        );
        spool.close();
        let client = avtryck::postgres::connect(&embedded.config())
            .await
            .unwrap();
        let drop = format!("drop database {name} with (force)");
        client.batch_execute(&drop).await.unwrap();
    }
}

/// Loads rounds of `hits` new hits into one database until it holds `table_hits`.
async fn grow(
    dir: &Path,
    instructions: &Spool,
    tables: &Arc<ArcSwap<Tables>>,
    hits: u64,
    table_hits: u64,
) {
    let spool = spool(&dir.join("spool"), Duration::ZERO, CHUNK_BYTES);
    let embedded = Embedded::start(&dir.join("postgres")).await.unwrap();
    let config = embedded.database("drain_table").await.unwrap();
    let database = Arc::new(Database::at(config));
    let begun = clock::now();
    let apart_micros = 86_400_000_000 / variable("DRAIN_DAY_HITS", 5_000_000);
    let mut costs = Vec::new();
    for first in (0..table_hits).step_by(hits as usize) {
        fill(
            &spool,
            first..first + hits,
            begun,
            apart_micros,
            Kinds::Usual,
        )
        .await;
        let spools = (&spool, instructions);
        let drained = drain(spools, tables, &embedded, Arc::clone(&database), hits).await;
        costs.push(drained.micros());
        let client = database.connect().await.unwrap();
        let size = "select sum(pg_total_relation_size(relid))::bigint from pg_partition_tree('avtryck.hit')";
        let bytes: i64 = client.query_one(size, &[]).await.unwrap().get(0);
        println!(
            "{} million hits: {drained}; {:.1} GB of table and indexes",
            (first + hits) / 1_000_000,
            bytes as f64 / 1e9
        );
    }
    let median = |costs: &[f64]| {
        let mut sorted = costs.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let quarter = costs.len().div_ceil(4);
    let [first, last] = [&costs[..quarter], &costs[costs.len() - quarter..]].map(median);
    println!(
        "CPU µs a hit, medians: {first:.2} in the first quarter of the rounds, {last:.2} in the last: {:.2} times",
        last / first
    );
    spool.close();
    embedded.stop().await.unwrap();
}

/// Drops the database of a round, and has its pages written before the next.
async fn drop_database(embedded: &Embedded, name: &str) {
    let client = avtryck::postgres::connect(&embedded.config())
        .await
        .unwrap();
    let drop = format!("drop database {name} with (force)");
    client.batch_execute(&drop).await.unwrap();
    client.batch_execute("checkpoint").await.unwrap();
}

/// Restarts the server with other settings.
async fn settings(embedded: Embedded, dir: &Path, set: Option<&String>) -> Embedded {
    let client = avtryck::postgres::connect(&embedded.config())
        .await
        .unwrap();
    client
        .batch_execute("alter system reset all")
        .await
        .unwrap();
    for setting in set.iter().flat_map(|set| set.split(';')) {
        let (name, value) = setting.split_once('=').unwrap();
        let sql = format!("alter system set {name} = '{value}'");
        client.batch_execute(&sql).await.unwrap();
    }
    drop(client);
    embedded.stop().await.unwrap();
    Embedded::start(&dir.join("postgres")).await.unwrap()
}

fn spool(dir: &Path, keep: Duration, chunk_bytes: u64) -> Spool {
    let options = Options {
        dir: dir.to_owned(),
        ack: Ack::Memory,
        room: Room::new(64 << 30),
        chunk_bytes,
        keep,
    };
    Spool::open(options, Arc::new(RealDisk), Box::new(Quiet)).unwrap()
}

fn tables() -> Tables {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = TableFiles {
        city: ["ipv4", "ipv6"]
            .map(|family| root.join(format!("geoip/data/dbip-city-{family}.mmdb")))
            .into(),
        network: vec![root.join("assets/data/test/mmdb/GeoLite2-ASN-Test.mmdb")],
        rules: root.join("assets/data/rules/regexes.json"),
        crawlers: root.join("assets/data/rules/crawlers.json"),
        ..TableFiles::default()
    };
    let (tables, errors) = enrich::load(&sources);
    for error in errors.iter().filter(|error| !error.is_partial()) {
        println!("without {error}: `make fetch` gets it");
    }
    tables
}

/// Numbers from a seed: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// The user agents of the tests' corpus, or a few hundred made up.
fn agents() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/data/test/user-agents.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        let made = |n| format!("Mozilla/5.0 (Linux; Android 10; K) Chrome/{n}.0.0.0 Mobile");
        return (0..300).map(made).collect();
    };
    let agents: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let agents = agents.iter().map(|agent| agent["userAgent"].as_str());
    agents.map(|agent| agent.unwrap().to_owned()).collect()
}

/// What hits a spool is filled with.
#[derive(Clone, Copy)]
enum Kinds<'k> {
    Usual,
    /// With every ID, of which that one is always the same.
    Clicks(&'k str),
    /// For rounds without a feature or with it.
    Compared(Feature, bool),
}

/// Fills the spool with hits that are `apart_micros` apart.
async fn fill(
    spool: &Spool,
    numbers: Range<u64>,
    begun: UnixMicros,
    apart_micros: u64,
    kinds: Kinds<'_>,
) {
    let agents = agents();
    let appender = spool.appender();
    let deliver = tokio::task::spawn_local(appender.deliver());
    let mut random = Random(numbers.start);
    for first in numbers.clone().step_by(APPENDED_MAX as usize) {
        let encoders = (first..numbers.end.min(first + APPENDED_MAX)).map(|number| {
            let (seed, agents) = (random.next(), &agents);
            move |out: &mut Vec<u8>| {
                let at = UnixMicros(begun.0 + (number * apart_micros) as i64);
                let mut hit = hit(at, number, &mut Random(seed), agents);
                match kinds {
                    Kinds::Usual => {}
                    Kinds::Clicks(equal) => identify(&mut hit, number, equal),
                    Kinds::Compared(feature, is_on) => feature.change(&mut hit, number, is_on),
                }
                hit.encode(out);
            }
        });
        appender.append_all(encoders).unwrap().await.unwrap();
    }
    deliver.abort();
}

/// A hit of a shop with ads: half page views, three in ten events, two in ten impressions
/// elsewhere. Seven in ten come with a cookie. Half of the visitors have a consent string, always
/// the same one, and one in ten of those refuses. What the tag sends has an event ID.
fn hit<'a>(
    received_at: UnixMicros,
    number: u64,
    random: &mut Random,
    agents: &'a [String],
) -> Hit<'a> {
    let kind = match random.below(10) {
        0..5 => Kind::PageView,
        5..8 => Kind::Event,
        _ => Kind::Impression,
    };
    let site = SITES[random.below(3) as usize];
    let mut hit = Hit::new(received_at, kind, site);
    // One visitor in about five hits, and each keeps to its choice.
    let is_known = random.below(10) < 7;
    let mut visitor = Random(if is_known {
        random.below(1 + number / 5)
    } else {
        random.next()
    });
    let visitor_id = visitor.next();
    hit.consent_source = [ConsentSource::Default, ConsentSource::Tcf][visitor.below(2) as usize];
    hit.permit = Permit::ALL;
    if hit.consent_source == ConsentSource::Tcf {
        hit.permit = match visitor.below(10) {
            0 => Permit::NONE,
            1..5 => Permit::ALL.without(Permit::LOCATE),
            _ => Permit::ALL,
        };
    }
    if is_known && hit.permit.allows(Permit::STORE) {
        hit.visitor = Some(VisitorId((u128::from(visitor_id) << 64 | 7).to_be_bytes()));
    }
    let address = random.next();
    hit.client_ip = Some(if random.below(4) == 0 {
        let parts = (0x2a01_0000 | address as u128 & 0xffff) << 96 | address as u128;
        IpAddr::from(Ipv6Addr::from(parts))
    } else {
        IpAddr::from(Ipv4Addr::from(0x0200_0000 | address as u32 & 0x3fff_ffff))
    });
    hit.user_agent = agents[random.below(agents.len() as u64) as usize]
        .as_str()
        .into();
    hit.page_url = format!(
        "https://www.{site}/mobiltelefoner/samsung/galaxy-{}?from=start&color=black",
        random.below(2_000)
    )
    .into();
    hit.referrer = "https://www.google.com/".into();
    if kind == Kind::Impression {
        hit.partner = "adform".into();
        hit.campaign = format!("campaign-{}", random.below(20)).into();
        hit.creative = format!("creative-{}", random.below(200)).into();
        hit.placement = format!("placement-{}", random.below(50)).into();
        hit.publisher = "dn.se".into();
        hit.partner_uid = format!("{:016x}", random.below(100_000)).into();
    } else if hit.permit.allows(Permit::MEASURE) {
        // The tag makes IDs like this.
        let [time, a, b] = [
            received_at.0 as u64 / 1_000,
            random.below(1 << 32),
            random.below(1 << 32),
        ];
        hit.event_id = format!("{time}-{a},{b}").into();
    }
    if kind == Kind::Event {
        hit.event_name = "add_to_cart".into();
        hit.params = format!(
            "{{\"sku\":\"{}\",\"value\":\"{}.00\",\"currency\":\"SEK\"}}",
            random.below(5_000),
            random.below(10_000)
        )
        .into();
    }
    hit
}

/// The advertising ID of a device.
fn maid(device: u64) -> String {
    uuid::Uuid::from_u64_pair(0x3840_0000_8cf0_41bd, device).to_string()
}

/// Makes a click of a hit, with every ID: `equal` is the same in all, the others are new.
fn identify(hit: &mut Hit<'_>, number: u64, equal: &str) {
    let id = |name: &str| Random(if name == equal { 0 } else { number + 1 }).next();
    hit.kind = Kind::Click;
    hit.permit = Permit::ALL;
    hit.partner = "adform".into();
    hit.event_id = "".into();
    let visitor = u128::from(id("visitor_id")) << 64 | 7;
    hit.visitor = Some(VisitorId(visitor.to_be_bytes()));
    hit.partner_uid = format!("{:016x}", id("partner_uid")).into();
    hit.maid = maid(id("maid")).into();
    hit.click_id = format!("{:022x}", id("click_id")).into();
}

async fn drain(
    spools: (&Spool, &Spool),
    tables: &Arc<ArcSwap<Tables>>,
    embedded: &Embedded,
    database: Arc<Database>,
    hits: u64,
) -> Drained {
    let change = |sink| sink;
    let job = (hits, Position::default(), &change as _);
    drain_with(spools, tables, embedded, database, job).await
}

/// Loads hits into a sink that is changed first, and measures those after a position.
async fn drain_with(
    (spool, instructions): (&Spool, &Spool),
    tables: &Arc<ArcSwap<Tables>>,
    embedded: &Embedded,
    database: Arc<Database>,
    (hits, after, change): (u64, Position, &dyn Fn(PostgresSink) -> PostgresSink),
) -> Drained {
    let progress = Arc::new(Progress::default());
    let metrics = Arc::new(Metrics::new().unwrap());
    let loader = Loader {
        spools: vec![spool.clone()],
        instructions: instructions.clone(),
        sink: change(
            PostgresSink::new(database, Arc::clone(&metrics))
                .with_attributes(compare::attributes()),
        ),
        tables: Arc::clone(tables),
        batch_rows: 20_000,
        batch_wait: Duration::from_millis(10),
        client_ip: ClientIp::Truncated,
        metrics,
        progress: Arc::clone(&progress),
    };
    let (stop, stopping) = watch::channel(false);
    let cluster = embedded.dir().join("cluster/postmaster.pid");
    let mut before = Cpu::now(&cluster);
    let mut started = Instant::now();
    let loading = tokio::task::spawn_local(loader.run(stopping));
    let mut hits = hits as f64;
    if after > Position::default() {
        let reached = loop {
            let reached = progress.position(0);
            if reached >= after {
                break reached;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        (before, started) = (Cpu::now(&cluster), Instant::now());
        // Batches do not end where the measured hits begin.
        let left = |from: Position| (spool.committed_position().offset - from.offset) as f64;
        hits *= left(reached) / left(after);
    }
    let mut resident_bytes_max = 0;
    while progress.position(0) < spool.committed_position() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        resident_bytes_max = resident_bytes_max.max(resident_bytes());
    }
    let seconds = started.elapsed().as_secs_f64();
    // Once: what reading takes counts as the loader's.
    let loaded = Cpu::now(&cluster);
    stop.send_replace(true);
    loading.await.unwrap();
    // What batches left is added up now, and what the closed connections took is the postmaster's.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let settled = Cpu::now(&cluster);
    let cpu = Cpu {
        prepare: loaded.prepare,
        main: settled.main,
        connection: settled.connection + settled.rest - loaded.rest,
        rest: loaded.rest,
    };
    let micros = |of: fn(&Cpu) -> f64| (of(&cpu) - of(&before)) * 1e6 / hits;
    Drained {
        hits_per_second: hits / seconds,
        prepare: micros(|cpu| cpu.prepare),
        commit: micros(|cpu| cpu.main),
        connection: micros(|cpu| cpu.connection),
        rest: micros(|cpu| cpu.rest),
        resident_bytes_max,
    }
}

/// The CPU time that loading took, in µs for each hit.
struct Drained {
    hits_per_second: f64,
    prepare: f64,
    commit: f64,
    connection: f64,
    rest: f64,
    resident_bytes_max: u64,
}

impl Drained {
    fn micros(&self) -> f64 {
        self.prepare + self.commit + self.connection + self.rest
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} hits/s; CPU µs a hit: prepare {:.2}, commit {:.2}, postgres: connection {:.2}, rest {:.2}; \
             resident at most {} MiB",
            self.hits_per_second,
            self.prepare,
            self.commit,
            self.connection,
            self.rest,
            self.resident_bytes_max >> 20,
        )
    }
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
