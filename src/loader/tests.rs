//! The loader over a connection to Postgres that breaks at any byte, and beside another loader.

#![allow(
    clippy::cast_possible_truncation,
    reason = "sizes in these tests are small"
)]

mod exposure;
mod growth;
mod households;
mod nights;
mod reports;
mod segments;
mod silence;
mod ties;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio_postgres::Client;

use spool::{Ack, Observer, Options, RealDisk};

use super::sink::PostgresSink;
use super::*;
use crate::clock::{self, UnixMicros};
use crate::hit::{Kind, Permit};
use crate::postgres::Database;
use crate::postgres::server::embedded::testing;

struct Quiet;

impl Observer for Quiet {
    fn note_commit(&self, _: u64, _: Duration, _: Duration) {}
    fn note_failure(&self, _: &std::io::Error) {}
}

pub(super) fn spool(dir: &std::path::Path) -> Spool {
    let options = Options {
        dir: dir.to_owned(),
        ack: Ack::Disk,
        room: spool::Room::new(64 << 20),
        chunk_bytes: 1 << 20,
        keep: Duration::ZERO,
    };
    Spool::open(options, Arc::new(RealDisk), Box::new(Quiet)).unwrap()
}

pub(super) fn loader(
    spool: &Spool,
    instructions: &Spool,
    config: tokio_postgres::Config,
) -> Loader {
    let metrics = Arc::new(Metrics::new().unwrap());
    let database = Arc::new(Database::at(config));
    Loader {
        spools: vec![spool.clone()],
        instructions: instructions.clone(),
        sink: PostgresSink::new(database, Arc::clone(&metrics)),
        tables: Arc::new(ArcSwap::from_pointee(Tables::default())),
        batch_rows: 1000,
        batch_wait: Duration::from_millis(1),
        client_ip: ClientIp::None,
        metrics,
        progress: Arc::default(),
    }
}

/// Waits until something is so, and fails where it never is.
async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let started = std::time::Instant::now();
    while !check().await {
        assert!(started.elapsed().as_secs() < 60, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Loads one batch over one connection.
pub(super) async fn load_once(loader: &Loader) -> anyhow::Result<()> {
    let (_stop, mut stopped) = watch::channel(true);
    session::run(loader, &mut stopped, &mut PAUSE_MIN.clone()).await
}

/// Appends hits named by number, one of them with an event ID, one only to be counted, and one that
/// Postgres refuses.
async fn append(spool: &Spool, numbers: std::ops::Range<u64>) {
    let appender = spool.appender();
    let deliver = tokio::task::spawn_local(appender.deliver());
    let encoders = numbers.map(|number| {
        move |out: &mut Vec<u8>| {
            let mut hit = Hit::new(clock::now(), Kind::Event, "site");
            // A batch brings new dimension rows, and the next may point to them.
            hit.category = format!("{}", number / 10).into();
            if number % 4 != 3 {
                hit.permit = Permit::MEASURE;
                hit.event_name = format!("{number}").into();
            }
            match number % 4 {
                1 => hit.event_id = format!("id-{number}").into(),
                2 => hit.params = "{\"broken\":".into(),
                _ => {}
            }
            hit.encode(out);
        }
    });
    appender.append_all(encoders).unwrap().await.unwrap();
    deliver.abort();
}

/// The direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToPostgres,
    FromPostgres,
}

/// Where the proxy cuts a connection.
#[derive(Default)]
struct Cut {
    /// After that many bytes of the transaction.
    after: AtomicU64,
    /// How many bytes of it there have been.
    seen: AtomicU64,
    /// Whether the loader has begun its transaction: bytes count from then on.
    begun: AtomicBool,
}

/// A proxy in front of Postgres's socket that breaks a connection after that many bytes of the
/// transaction in one way.
async fn proxy(target: std::path::PathBuf, way: Way, cut: Arc<Cut>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((client, _)) = listener.accept().await {
            client.set_nodelay(true).unwrap();
            let server = UnixStream::connect(&target).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let up = Arc::clone(&cut);
            let down = Arc::clone(&cut);
            tokio::task::spawn_local(async move {
                tokio::select! {
                    () = pump(&mut from_client, &mut to_server, &up, way == Way::ToPostgres, true) => {}
                    () = pump(&mut from_server, &mut to_client, &down, way == Way::FromPostgres, false) => {}
                }
            });
        }
    });
    address
}

/// Returns how to reach a database through a proxy, and where the proxy cuts.
async fn through_proxy(
    config: &tokio_postgres::Config,
    way: Way,
) -> (tokio_postgres::Config, Arc<Cut>) {
    let socket = match &config.get_hosts()[0] {
        tokio_postgres::config::Host::Unix(dir) => dir.join(".s.PGSQL.5432"),
        tokio_postgres::config::Host::Tcp(host) => panic!("{host} is no socket"),
    };
    let cut = Arc::<Cut>::default();
    let address = proxy(socket, way, Arc::clone(&cut)).await;
    let mut through = tokio_postgres::Config::new();
    through
        .host("127.0.0.1")
        .port(address.port())
        .user(config.get_user().unwrap())
        .dbname(config.get_dbname().unwrap());
    (through, cut)
}

async fn pump(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    cut: &Cut,
    counts: bool,
    is_client: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut bytes = &buffer[..read];
        if is_client && !cut.begun.load(Ordering::Relaxed) {
            let begins = b"START TRANSACTION";
            let found = bytes.windows(begins.len()).any(|part| part == begins);
            cut.begun.store(found, Ordering::Relaxed);
        }
        if counts && cut.begun.load(Ordering::Relaxed) {
            let seen = cut.seen.fetch_add(read as u64, Ordering::Relaxed);
            let room = cut.after.load(Ordering::Relaxed).saturating_sub(seen);
            if room < read as u64 {
                bytes = &bytes[..room as usize];
                // The next connection is sound.
                cut.after.store(u64::MAX, Ordering::Relaxed);
                drop(to.write_all(bytes).await);
                return;
            }
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Returns what became of the hits: rows, distinct names, hits counted, hits set aside.
async fn outcome(client: &Client) -> [i64; 4] {
    let row = client
        .query_one(
            "select (select count(*) from avtryck.hit), \
             (select count(distinct event_name) from avtryck.hit), \
             (select coalesce(sum(hits), 0)::bigint from avtryck.hit_count), \
             (select count(*) from avtryck.rejected_hit)",
            &[],
        )
        .await
        .unwrap();
    [0, 1, 2, 3].map(|column| row.get(column))
}

async fn cut_everywhere(way: Way, step: usize) {
    let postgres = testing::TestDatabase::migrated().await;
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let (config, cut) = through_proxy(&postgres.config, way).await;
    let instructions = super::tests::spool(&dir.path().join("instruction"));
    let loader = loader(&spool, &instructions, config);
    let mut batches = 0;
    let mut whole = 0;
    for after in (0..).step_by(step) {
        append(&spool, 4 * batches..4 * batches + 4).await;
        batches += 1;
        cut.after.store(after, Ordering::Relaxed);
        cut.seen.store(0, Ordering::Relaxed);
        cut.begun.store(false, Ordering::Relaxed);
        let first = load_once(&loader).await;
        if first.is_err() {
            // The truth is in Postgres. A commit whose answer was lost may not be finished yet:
            // then the position is read again.
            while let Err(error) = load_once(&loader).await {
                assert!(format!("{error:#}").contains("another loader"), "{error:#}");
            }
        } else {
            // The cut lies after the transaction.
            whole += 1;
        }
        let batches = batches as i64;
        assert_eq!(
            outcome(&postgres.client).await,
            [2 * batches, 2 * batches, batches, batches],
            "{way:?}, cut after {after} bytes"
        );
        if whole > 3 {
            break;
        }
    }
    eprintln!("{way:?}: {} connections cut", batches - whole);
    spool.close();
}

/// Batches follow each other, so that one is prepared while the one before it commits, and the
/// connection breaks at that many places among them.
async fn cut_between_batches(way: Way, cuts: u64) {
    const HITS: u64 = 40;
    let postgres = testing::TestDatabase::migrated().await;
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let instructions = super::tests::spool(&dir.path().join("instruction"));
    let (config, cut) = through_proxy(&postgres.config, way).await;
    let mut backlog_bytes = 0;
    for backlog in 0..=cuts {
        // The first one is not cut, and tells how many bytes there are.
        let is_sound = backlog == 0;
        let after = if is_sound {
            u64::MAX
        } else {
            backlog_bytes * (backlog - 1) / cuts
        };
        append(&spool, backlog * HITS..(backlog + 1) * HITS).await;
        cut.after.store(after, Ordering::Relaxed);
        cut.seen.store(0, Ordering::Relaxed);
        cut.begun.store(false, Ordering::Relaxed);
        let loader = Loader {
            batch_rows: 4,
            ..loader(&spool, &instructions, config.clone())
        };
        let progress = Arc::clone(&loader.progress);
        let (stop, stopped) = watch::channel(false);
        let loading = tokio::task::spawn_local(loader.run(stopped));
        until("a backlog is loaded", async || {
            progress.position(0) >= spool.committed_position()
        })
        .await;
        if is_sound {
            backlog_bytes = cut.seen.load(Ordering::Relaxed);
        }
        stop.send_replace(true);
        loading.await.unwrap();
        assert_eq!(
            cut.after.load(Ordering::Relaxed),
            u64::MAX,
            "it was not cut"
        );
        let quarter = ((backlog + 1) * HITS) as i64 / 4;
        assert_eq!(
            outcome(&postgres.client).await,
            [2 * quarter, 2 * quarter, quarter, quarter],
            "{way:?}, cut after {after} of {backlog_bytes} bytes"
        );
    }
    let dangling = postgres
        .client
        .query_one(
            "select count(*) from (select site_key from avtryck.hit \
             union all select site_key from avtryck.hit_count) as hit \
             where site_key not in (select key from avtryck.site)",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(dangling.get::<_, i64>(0), 0, "keys without their row");
    eprintln!("{way:?}: {cuts} cuts within {backlog_bytes} bytes");
    spool.close();
}

#[tokio::test]
async fn a_connection_cut_between_batches_loses_nothing_and_loads_nothing_twice() {
    let local = tokio::task::LocalSet::new();
    let cuts = if step() == 1 { 132 } else { 12 };
    let work = async {
        cut_between_batches(Way::ToPostgres, cuts).await;
        cut_between_batches(Way::FromPostgres, cuts).await;
    };
    local.run_until(work).await;
}

/// Returns how many bytes lie between two cuts: `LOADER_CUT_STEP=1` cuts at every byte.
fn step() -> usize {
    let given = std::env::var("LOADER_CUT_STEP");
    given.map_or(41, |step| step.parse().unwrap())
}

#[tokio::test]
async fn a_connection_cut_on_the_way_to_postgres_loses_nothing_and_loads_nothing_twice() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(cut_everywhere(Way::ToPostgres, step()))
        .await;
}

#[tokio::test]
async fn a_connection_cut_on_the_way_from_postgres_loses_nothing_and_loads_nothing_twice() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(cut_everywhere(Way::FromPostgres, step()))
        .await;
}

#[tokio::test]
async fn two_loaders_of_one_spool_load_each_hit_once() {
    let local = tokio::task::LocalSet::new();
    let work = async {
        let postgres = testing::TestDatabase::migrated().await;
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(&dir.path().join("spool"));
        let instructions = super::tests::spool(&dir.path().join("instruction"));
        let [one, two] = [(), ()].map(|()| loader(&spool, &instructions, postgres.config.clone()));
        let mut moved = 0;
        for batch in 0..50 {
            append(&spool, 4 * batch..4 * batch + 4).await;
            let (first, second) = tokio::join!(load_once(&one), load_once(&two));
            for outcome in [&first, &second] {
                if let Err(error) = outcome {
                    assert!(format!("{error:#}").contains("another loader"), "{error:#}");
                    moved += 1;
                }
            }
            assert!(first.is_ok() || second.is_ok());
        }
        assert!(moved > 0, "they never met");
        assert_eq!(outcome(&postgres.client).await, [100, 100, 50, 50]);
        spool.close();
    };
    local.run_until(work).await;
}

#[tokio::test]
async fn a_spool_that_comes_by_kafka_is_not_loaded_by_its_collector_too() {
    let work = async {
        let postgres = testing::TestDatabase::migrated().await;
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(&dir.path().join("spool"));
        let instructions = super::tests::spool(&dir.path().join("instruction"));
        let loader = loader(&spool, &instructions, postgres.config.clone());
        append(&spool, 0..4).await;
        let half = crate::postgres::batch::way::half(spool.id().0);
        let claim = "insert into avtryck.kafka_spool (half, since) values ($1, now())";
        postgres.client.execute(claim, &[&half]).await.unwrap();
        let error = load_once(&loader).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("come by way of Kafka"), "{error}");
        assert_eq!(outcome(&postgres.client).await, [0; 4]);
        let forget = "delete from avtryck.kafka_spool";
        postgres.client.execute(forget, &[]).await.unwrap();
        load_once(&loader).await.unwrap();
        assert_eq!(outcome(&postgres.client).await, [2, 2, 1, 1]);
        // The other way round the collector's row is in the way: tests/it/load_from_kafka.rs.
        spool.close();
    };
    tokio::task::LocalSet::new().run_until(work).await;
}
