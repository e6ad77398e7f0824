//! Measures what exposures cost the loader: `cargo bench --bench exposure`.
//!
//! Two spools hold the same hits. `EXPOSURE_IMPRESSIONS` percent are impressions and one in fifty
//! is a click, spread evenly over 100,000 visitors, and over 200 creatives with Zipf weights. The
//! other hits are page views with event IDs, as the tag sends them. `EXPOSURE_VISITORS` percent of
//! the hits have a visitor. In one of the two spools impressions and clicks are flagged as
//! previews, which are rows like the others and count nowhere.
//!
//! The spools are loaded in turn into one database, which holds `EXPOSURE_PAIRS` pairs of visitor
//! and creative from the start. It never comes to rest, so the rounds include what checkpoints
//! cost. The first round does not count. `EXPOSURE_HITS` and `EXPOSURE_ROUNDS` set the size, and
//! `EXPOSURE_SET='max_wal_size=4GB;…'` sets the server.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a measurement fails by panicking and prints"
)]

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use avtryck::clock::{self, UnixMicros};
use avtryck::config::ClientIp;
use avtryck::enrich::{self, DIMENSIONS, Tables};
use avtryck::hit::{Flags, Hit, Kind, Permit, VisitorId};
use avtryck::loader::sink::PostgresSink;
use avtryck::loader::{Loader, Progress};
use avtryck::metrics::Metrics;
use avtryck::postgres::Database;
use avtryck::postgres::batch::dimension;
use avtryck::postgres::server::embedded::Embedded;
use avtryck::row::{Ad, Keyer};
use spool::{Ack, Observer, Options, RealDisk, Room, Spool};
use tokio::sync::watch;
use tokio_postgres::Client;

const VISITORS: u64 = 100_000;
const CREATIVES: u64 = 200;

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
    let hits = variable("EXPOSURE_HITS", 300_000);
    let rounds = variable("EXPOSURE_ROUNDS", 3);
    let dir = tempfile::Builder::new()
        .prefix("exposure")
        .tempdir()
        .unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let spools = [("without", Flags::PREVIEW), ("with", Flags::default())];
    let mut filled = Vec::new();
    for (name, flags) in spools {
        let spool = spool(&dir.path().join(name));
        fill(&spool, hits, flags).await;
        filled.push((name, spool));
    }
    let instructions = spool(&dir.path().join("instruction"));
    let embedded = Embedded::start(&dir.path().join("postgres")).await.unwrap();
    let embedded = settings(embedded, dir.path()).await;
    prefill(&embedded).await;
    round(&embedded, &filled[1].1, &instructions, hits).await;
    let mut rates: HashMap<&str, Vec<f64>> = HashMap::new();
    for _ in 0..rounds {
        for (name, spool) in &filled {
            let rate = round(&embedded, spool, &instructions, hits).await;
            println!("{name} exposures: {rate:.0} hits/s");
            rates.entry(name).or_default().push(rate);
        }
    }
    let [without, with] = ["without", "with"].map(|name| {
        let mut rates = rates[name].clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!(
        "medians: {without:.0} hits/s without, {with:.0} with: {:.1} % of the throughput, {:.2} µs a hit",
        (1.0 - with / without) * 100.0,
        (1.0 / with - 1.0 / without) * 1e6,
    );
    for (_, spool) in filled {
        spool.close();
    }
    instructions.close();
    embedded.stop().await.unwrap();
}

/// Restarts the server with the settings that are asked for.
async fn settings(embedded: Embedded, dir: &Path) -> Embedded {
    let Ok(set) = std::env::var("EXPOSURE_SET") else {
        return embedded;
    };
    println!("{set}");
    let client = avtryck::postgres::connect(&embedded.config())
        .await
        .unwrap();
    for setting in set.split(';') {
        let (name, value) = setting.split_once('=').unwrap();
        let sql = format!("alter system set {name} = '{value}'");
        client.batch_execute(&sql).await.unwrap();
    }
    drop(client);
    embedded.stop().await.unwrap();
    Embedded::start(&dir.join("postgres")).await.unwrap()
}

fn spool(dir: &Path) -> Spool {
    let options = Options {
        dir: dir.to_owned(),
        ack: Ack::Memory,
        room: Room::new(64 << 30),
        chunk_bytes: 64 << 20,
        // The next round loads the same hits.
        keep: Duration::from_secs(86_400),
    };
    Spool::open(options, Arc::new(RealDisk), Box::new(Quiet)).unwrap()
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

/// A random ID of its own for each visitor.
fn visitor_id(number: u64) -> VisitorId {
    let mut random = Random(number << 1);
    let [high, low] = [random.next(), random.next()].map(u128::from);
    VisitorId((high << 64 | low).to_be_bytes())
}

/// Draws creatives, the nth with a weight of 1/n.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new() -> Zipf {
        let mut sum = 0.0;
        let weights = (1..=CREATIVES).map(|n| {
            sum += 1.0 / n as f64;
            sum
        });
        Zipf(weights.collect())
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let sum = self.0[self.0.len() - 1];
        let at = random.below(1 << 40) as f64 / (1_u64 << 40) as f64 * sum;
        self.0.partition_point(|weight| *weight <= at) as u64
    }
}

async fn fill(spool: &Spool, hits: u64, flags: Flags) {
    let shares = [
        variable("EXPOSURE_IMPRESSIONS", 50),
        variable("EXPOSURE_VISITORS", 100),
    ];
    let appender = spool.appender();
    let deliver = tokio::task::spawn_local(appender.deliver());
    let (mut random, zipf) = (Random(1), Zipf::new());
    let begun = clock::now();
    for first in (0..hits).step_by(1_000) {
        let encoders = (first..hits.min(first + 1_000)).map(|number| {
            let (seed, zipf) = (random.next(), &zipf);
            move |out: &mut Vec<u8>| {
                let at = UnixMicros(begun.0 + number as i64 * 25);
                let mut hit = hit(at, &mut Random(seed), zipf, shares, flags);
                if hit.kind == Kind::PageView {
                    hit.event_id = format!("{seed:x}-{number}").into();
                }
                hit.encode(out);
            }
        });
        appender.append_all(encoders).unwrap().await.unwrap();
    }
    deliver.abort();
}

fn hit(
    at: UnixMicros,
    random: &mut Random,
    zipf: &Zipf,
    [impressions, visitors]: [u64; 2],
    flags: Flags,
) -> Hit<'static> {
    let kind = match random.below(100) {
        0..2 => Kind::Click,
        n if n < 2 + impressions => Kind::Impression,
        _ => Kind::PageView,
    };
    let mut hit = Hit::new(at, kind, "telenor.se");
    hit.permit = Permit::ALL;
    if random.below(100) < visitors {
        hit.visitor = Some(visitor_id(random.below(VISITORS)));
    }
    hit.client_ip = Some(std::net::Ipv4Addr::from(random.next() as u32).into());
    hit.user_agent = "Mozilla/5.0 (Linux; Android 10; K) Chrome/142.0.0.0 Mobile".into();
    hit.page_url = format!(
        "https://www.telenor.se/mobiltelefoner/samsung/galaxy-{}?from=start&color=black",
        random.below(2_000)
    )
    .into();
    hit.referrer = "https://www.google.com/".into();
    if kind != Kind::PageView {
        let creative = zipf.draw(random);
        hit.flags = flags;
        hit.partner = "adform".into();
        hit.campaign = format!("campaign-{}", creative % 20).into();
        hit.creative = format!("creative-{creative}").into();
        hit.placement = format!("placement-{}", random.below(50)).into();
        hit.publisher = "dn.se".into();
    }
    hit
}

fn creative_key(creative: u64, keyer: &Keyer) -> i64 {
    let [campaign, name] = [
        format!("campaign-{}", creative % 20),
        format!("creative-{creative}"),
    ];
    let ad = Ad {
        partner: "adform",
        campaign: &*campaign,
        creative: &*name,
        placement: "",
        publisher: "",
    };
    keyer.key(&ad)
}

/// Fills the database, pair by pair in the order in which they are drawn.
async fn prefill(embedded: &Embedded) {
    let pairs = variable("EXPOSURE_PAIRS", 5_000_000) as usize;
    let client = database(embedded, "filled").await.1;
    let (mut random, zipf) = (Random(2), Zipf::new());
    let former = DIMENSIONS.into_iter().zip(enrich::new_keys());
    let keyer = dimension::read_keyer(&client, former).await.unwrap();
    let keys: Vec<i64> = (0..CREATIVES)
        .map(|creative| creative_key(creative, &keyer))
        .collect();
    let mut known = HashSet::with_capacity(pairs);
    let (mut subjects, mut creatives) = (Vec::new(), Vec::new());
    while known.len() < pairs {
        let pair = (random.below(VISITORS) as u32, zipf.draw(&mut random) as u8);
        if known.insert(pair) {
            subjects.push(visitor_id(pair.0.into()).0.to_vec());
            creatives.push(keys[usize::from(pair.1)]);
        }
        if subjects.len() == 100_000 || known.len() == pairs {
            let sql = "insert into avtryck.exposure \
                select encode(subject, 'hex')::uuid, creative_key, now(), now(), 1, 0 \
                from unnest($1::bytea[], $2::bigint[]) as new (subject, creative_key)";
            client.execute(sql, &[&subjects, &creatives]).await.unwrap();
            (subjects, creatives) = (Vec::new(), Vec::new());
        }
    }
    client
        .batch_execute("vacuum analyze avtryck.exposure")
        .await
        .unwrap();
    let sql = "select pg_total_relation_size('avtryck.exposure') / count(*)::float8 from avtryck.exposure";
    let bytes: f64 = client.query_one(sql, &[]).await.unwrap().get(0);
    println!("{pairs} pairs, {bytes:.0} bytes each with their index");
}

async fn database(embedded: &Embedded, name: &str) -> (Arc<Database>, Client) {
    let config = embedded.database(name).await.unwrap();
    let database = Arc::new(Database::at(config));
    let client = database.connect().await.unwrap();
    (database, client)
}

/// Loads a spool into the emptied database, and returns the hits loaded per second.
async fn round(embedded: &Embedded, spool: &Spool, instructions: &Spool, hits: u64) -> f64 {
    let (database, client) = database(embedded, "filled").await;
    client
        .batch_execute(
            "truncate avtryck.hit, avtryck.event_key; delete from avtryck.spool_position",
        )
        .await
        .unwrap();
    let progress = Arc::new(Progress::default());
    let metrics = Arc::new(Metrics::new().unwrap());
    let loader = Loader {
        spools: vec![spool.clone()],
        instructions: instructions.clone(),
        sink: PostgresSink::new(database, Arc::clone(&metrics)),
        tables: Arc::new(ArcSwap::from_pointee(Tables::default())),
        batch_rows: 20_000,
        batch_wait: Duration::from_millis(10),
        client_ip: ClientIp::Truncated,
        metrics,
        progress: Arc::clone(&progress),
    };
    let (stop, stopping) = watch::channel(false);
    let sql = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8";
    let wal: f64 = client.query_one(sql, &[]).await.unwrap().get(0);
    let started = Instant::now();
    let loading = tokio::task::spawn_local(loader.run(stopping));
    while progress.position(0) < spool.committed_position() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send_replace(true);
    loading.await.unwrap();
    // The last exposures are added up by now, too.
    let seconds = started.elapsed().as_secs_f64();
    let wal = client.query_one(sql, &[]).await.unwrap().get::<_, f64>(0) - wal;
    println!("{:.0} bytes of WAL a hit", wal / hits as f64);
    hits as f64 / seconds
}
