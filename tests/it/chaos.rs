//! The promise under kills, outages and full disks: a hit whose reply was read is one row.
//!
//! The load remembers what was acknowledged; Postgres is asked for each of it in the end. `make
//! chaos` runs the same with larger figures (`CHAOS_KILLS`, `CHAOS_OUTAGE_BYTES`) and compares
//! rates, which other tests that run at the same time would change; `CHAOS_SEED` replays a run's
//! choices.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use avtryck::postgres::server::embedded::Embedded;
use loadtest::{Outcome, Plan};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::{Collector, Config, PATIENCE, tempdir, until};

const MIB: u64 = 1 << 20;
/// Kills in `make test`.
const KILLS: u64 = 12;
/// Hits that are sent in a second between them.
const KILLS_RATE: f64 = 4000.0;
/// What waits after the outage in `make test`.
const OUTAGE_BYTES: u64 = 32 * MIB;
/// How long after a kill a pixel may go unanswered.
const READY_TIME_MAX: Duration = Duration::from_secs(2);

/// Reads a number from the environment.
pub(crate) fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Numbers from a seed: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Load that runs until it is stopped.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    sending: JoinHandle<Outcome>,
}

impl Load {
    pub(crate) fn start(
        address: SocketAddr,
        connections: usize,
        rate: Option<f64>,
        padding: usize,
    ) -> Load {
        Load::of(Plan {
            address,
            site: "open".to_owned(),
            prefix: "hit".to_owned(),
            connections,
            rate,
            fresh: false,
            padding,
        })
    }

    pub(crate) fn of(plan: Plan) -> Load {
        let (stop, stopped) = watch::channel(false);
        Load {
            stop,
            sending: tokio::spawn(loadtest::send(plan, stopped)),
        }
    }

    pub(crate) async fn stop(self) -> Outcome {
        self.stop.send_replace(true);
        self.sending.await.unwrap()
    }
}

/// Waits until all that was recorded is loaded, then looks for each acknowledged hit.
async fn check(client: &tokio_postgres::Client, outcome: &Outcome, patience: Duration) {
    check_names(client, "hit", outcome, patience).await;
}

/// The same for hits with another prefix.
pub(crate) async fn check_names(
    client: &tokio_postgres::Client,
    prefix: &str,
    outcome: &Outcome,
    patience: Duration,
) {
    let sql = format!(
        "select substr(event_name, {})::bigint from avtryck.hit where event_name like '{prefix}-%'",
        prefix.len() + 2
    );
    let started = Instant::now();
    let mut rows: HashMap<u64, u64> = HashMap::new();
    loop {
        rows.clear();
        let names = client.query(&sql, &[]).await;
        // The schema may be to come yet.
        for name in names.unwrap_or_default() {
            *rows.entry(name.get::<_, i64>(0) as u64).or_default() += 1;
        }
        let missing = outcome
            .acknowledged
            .iter()
            .filter(|number| !rows.contains_key(number))
            .count();
        if missing == 0 || started.elapsed() > patience {
            let twice = rows.values().filter(|times| **times > 1).count();
            assert_eq!(
                (missing, twice),
                (0, 0),
                "acknowledged and lost, and rows twice"
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn kill(pid: u32) {
    // It may be gone already.
    std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
}

/// The main process of the embedded Postgres, if it runs, or one of its children.
pub(crate) fn postgres_pid(dir: &Path, child: Option<u64>) -> Option<u32> {
    let file = dir.join("postgres/cluster/postmaster.pid");
    let text = std::fs::read_to_string(file).ok()?;
    let main = text.lines().next()?.parse().ok()?;
    let Some(child) = child else {
        return Some(main);
    };
    let path = format!("/proc/{main}/task/{main}/children");
    let children = std::fs::read_to_string(path).ok()?;
    let children: Vec<u32> = children
        .split(' ')
        .filter_map(|pid| pid.parse().ok())
        .collect();
    let index = child as usize % children.len().max(1);
    children.get(index).copied()
}

/// How long until a pixel is answered.
async fn until_answered(address: SocketAddr) -> Duration {
    let started = Instant::now();
    let one = || loadtest::one(address, "open");
    while one().await != Some(200) {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    started.elapsed()
}

#[tokio::test]
async fn whatever_is_killed_each_acknowledged_hit_is_one_row() {
    let kills = variable("CHAOS_KILLS").unwrap_or(KILLS);
    let seed = variable("CHAOS_SEED").unwrap_or_else(|| avtryck::clock::now().0 as u64 % 1_000_000);
    eprintln!("CHAOS_SEED={seed}");
    let mut random = Random(seed);
    let mut collector = Collector::start(Config::sites().embedded()).await;
    let address = collector.http;
    let load = Load::start(address, 32, Some(KILLS_RATE), 0);
    let mut slowest = Duration::ZERO;
    let mut of_collector = 0;
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(20 + random.below(700))).await;
        let what = random.below(4);
        let child = (random.below(2) == 0).then(|| random.below(64));
        if what != 0
            && let Some(pid) = postgres_pid(collector.dir.path(), child)
        {
            kill(pid);
        }
        if what != 1 {
            let started = Instant::now();
            let dir = collector.kill().await;
            collector = Collector::start_in(dir).await;
            until_answered(address).await;
            slowest = slowest.max(started.elapsed());
            of_collector += 1;
        }
    }
    let outcome = load.stop().await;
    let acknowledged = outcome.acknowledged.len();
    collector.until_up().await;
    check(&collector.database().await, &outcome, PATIENCE * 10).await;
    eprintln!(
        "{kills} kills, {of_collector} of them of the collector, {acknowledged} hits acknowledged, {} without a whole \
         reply, 0 lost, 0 twice; answering again after at most {slowest:?}",
        outcome.broken
    );
    assert!(acknowledged > 1000);
    assert!(slowest <= READY_TIME_MAX, "ready only after {slowest:?}");
}

#[tokio::test]
async fn a_long_outage_of_postgres_costs_disk_and_no_memory_and_is_caught_up_with() {
    let bytes = variable("CHAOS_OUTAGE_BYTES");
    let dir = tempdir();
    let database = dir.path().join("later");
    Config::sites().postgres_in(&database).write(&dir).await;
    let collector = Collector::start_in(dir).await;
    let address = collector.http;
    let warm = Load::start(address, 32, Some(2000.0), 1500);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut outcome = warm.stop().await;
    // The loader looks for Postgres once geodata and rules are in memory.
    until(async || collector.metric("avtryck_postgres_errors_total").await > 0.0).await;
    let before = collector.resident_bytes();
    let started = Instant::now();
    let load = Load::start(address, 32, None, 1500);
    let goal = bytes.unwrap_or(OUTAGE_BYTES) as f64;
    while collector.metric("avtryck_spool_backlog_bytes").await < goal {
        assert!(started.elapsed() < PATIENCE * 10);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let filled = load.stop().await;
    let fill_seconds = started.elapsed().as_secs_f64();
    let grown = collector.resident_bytes().saturating_sub(before);
    assert!(
        collector
            .metric("avtryck_spool_oldest_unloaded_seconds")
            .await
            > 0.0
    );
    // The warm-up's names come again: a row each.
    let hits = outcome.acknowledged.len() + filled.acknowledged.len();
    outcome.acknowledged = filled.acknowledged;
    let restart = Instant::now();
    let dir = collector.kill().await;
    let collector = Collector::start_in(dir).await;
    until_answered(address).await;
    let restart = restart.elapsed();
    let postgres = Embedded::start(&database).await.unwrap();
    let client = avtryck::postgres::connect(&postgres.config())
        .await
        .unwrap();
    let rows = "avtryck_loader_rows_total";
    let begun = Instant::now();
    while collector.metric(rows).await == 0.0 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = collector.metric(rows).await;
    let started = Instant::now();
    let mut peak = 0;
    while collector.metric("avtryck_spool_backlog_bytes").await > 0.0
        || collector.metric(rows).await < hits as f64
    {
        peak = peak.max(collector.resident_bytes());
        assert!(started.elapsed() < PATIENCE * 10);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let drain_seconds = started.elapsed().as_secs_f64();
    let count = client
        .query_one(
            "select count(*), count(distinct hit_id) from avtryck.hit",
            &[],
        )
        .await
        .unwrap();
    assert!(count.get::<_, i64>(0) >= hits as i64);
    assert_eq!(count.get::<_, i64>(0), count.get::<_, i64>(1));
    let fill_rate = hits as f64 / fill_seconds;
    let drain_rate = (hits as f64 - first) / drain_seconds;
    eprintln!(
        "{hits} hits, {goal:.0} bytes: memory grew by {} KiB while they were kept and by {} KiB at most while they \
         were loaded; restart with them {restart:?}; recorded at {fill_rate:.0} a second, loaded at {drain_rate:.0}",
        grown / 1024,
        peak.saturating_sub(before) / 1024,
    );
    assert!(grown <= (64 * MIB).min(goal as u64 / 2), "{grown}");
    let _dir = collector.kill().await;
    postgres.stop().await.unwrap();
    assert!(restart <= Duration::from_secs(5), "{restart:?}");
    assert!(
        bytes.is_none() || drain_rate > fill_rate,
        "recorded at {fill_rate:.0} a second, loaded at {drain_rate:.0}"
    );
}

#[tokio::test]
async fn a_full_spool_refuses_counts_and_recovers_by_itself() {
    let dir = tempdir();
    let database = dir.path().join("later");
    let config = Config::sites()
        .postgres_in(&database)
        .set("spool.chunk_bytes", "1MiB")
        .set("spool.max_bytes", "8MiB");
    config.write(&dir).await;
    let collector = Collector::start_in(dir).await;
    let load = Load::start(collector.http, 16, Some(4000.0), 1500);
    let refused = "avtryck_http_requests_total{endpoint=\"pixel\",status=\"503\"}";
    until(async || collector.metric(refused).await >= 100.0).await;
    until(async || collector.admin("/readyz").await.status == 503).await;
    let postgres = Embedded::start(&database).await.unwrap();
    let started = Instant::now();
    until(async || collector.admin("/readyz").await.status == 200).await;
    let recovered = started.elapsed();
    let outcome = load.stop().await;
    assert_eq!(outcome.broken, 0);
    let counted = collector.metric(refused).await as u64;
    assert_eq!(outcome.refused, [(503, counted)].into());
    let client = avtryck::postgres::connect(&postgres.config())
        .await
        .unwrap();
    check(&client, &outcome, PATIENCE).await;
    eprintln!(
        "{} hits taken, {counted} refused; taken again {recovered:?} after Postgres came back",
        outcome.acknowledged.len()
    );
    let _dir = collector.kill().await;
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn twenty_stops_under_load_answer_every_request_that_is_in_flight() {
    let mut collector = Collector::open().await;
    let address = collector.http;
    let load = Load::start(address, 32, Some(2000.0), 0);
    for _ in 0..20 {
        until_answered(address).await;
        // Some hundred hits are on their way by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (status, dir, log) = collector.stop().await;
        assert!(status.success(), "{log}");
        assert!(!log.contains("cut off"), "{log}");
        collector = Collector::start_in(dir).await;
    }
    let outcome = load.stop().await;
    collector.until_up().await;
    check(&collector.database().await, &outcome, PATIENCE).await;
    eprintln!(
        "{} hits acknowledged over 20 stops, {} without a whole reply",
        outcome.acknowledged.len(),
        outcome.broken
    );
    assert_eq!((outcome.broken, outcome.refused.len()), (0, 0));
}

#[tokio::test]
async fn a_database_restored_from_a_backup_is_loaded_again_from_what_was_kept() {
    for (keep, is_kept) in [("24h", true), ("0s", false)] {
        let config = Config::sites()
            .set("spool.chunk_bytes", "1MiB")
            .set("spool.keep", keep);
        let collector = Collector::start(config).await;
        let load = Load::start(collector.http, 16, Some(3000.0), 1800);
        let sql = "select count(*) from avtryck.hit";
        until(async || collector.metric("avtryck_loader_rows_total").await >= 3000.0).await;
        let outcome = load.stop().await;
        let all = outcome.acknowledged.len() as i64;
        collector.wait_for(sql, all).await;
        // As a backup from before the first hit would have it.
        collector
            .database()
            .await
            .batch_execute(
                "begin; delete from avtryck.hit; delete from avtryck.spool_position; commit",
            )
            .await
            .unwrap();
        let (_, dir, _) = collector.stop().await;
        let collector = Collector::start_in(dir).await;
        let lost = "avtryck_spool_lost_records_total";
        if is_kept {
            collector.wait_for(sql, all).await;
            assert_eq!(collector.metric(lost).await, 0.0);
            continue;
        }
        until(async || collector.metric(lost).await > 0.0).await;
        let missing = collector.metric(lost).await as i64;
        collector.wait_for(sql, all - missing).await;
        let (_, _, log) = collector.stop().await;
        assert!(log.contains(&format!("\"records\":{missing}")), "{log}");
    }
}
