//! One round of one attack: a collector of its own, honest hits, the attacker, and what came of it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use loadtest::abuse::cookie::COOKIE_KEY;
use loadtest::abuse::{Attack, Manner, PARTNER, SITE};
use loadtest::rig::collector::{Collector, geodata};
use loadtest::rig::postgres::{Server, number};
use loadtest::rig::process::{PATIENCE, root};
use tokio::process::Command;
use tokio::sync::watch;

use crate::attacker::Done;
use crate::say;

/// Honest hits a second, and their connections.
const HONEST_RATE: f64 = 1000.0;
const HONEST_CONNECTIONS: usize = 32;
/// How often the collector is asked how far it is.
const SAMPLE_PERIOD: Duration = Duration::from_millis(500);
/// What the last hit may take to its row before a round gives up.
const LOADED_TIME_MAX: Duration = Duration::from_secs(600);
/// What a query may take.
const QUERY_TIME_MAX: Duration = Duration::from_secs(60);

/// What one round showed.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) attacker: Done,
    /// How long the attack lasted.
    pub(crate) lasted: Duration,
    /// Of honest hits, in microseconds.
    pub(crate) p99_micros: u64,
    /// Honest hits that were not acknowledged.
    pub(crate) failed: u64,
    /// From the end of the attack to the row of the last honest hit.
    pub(crate) loaded_after: Duration,
    /// The largest age of a hit that was not loaded, as the collector says.
    pub(crate) oldest_seconds: f64,
    /// What the collector's memory has grown by, in bytes.
    pub(crate) memory_bytes: u64,
    /// The largest backlog in the spool, in bytes.
    pub(crate) spool_bytes: u64,
    /// What the database has grown by, in bytes.
    pub(crate) database_bytes: u64,
    /// What the attack's query took afterwards.
    pub(crate) query: Option<Duration>,
}

/// All rounds of an attack.
pub(crate) struct Figures<'a> {
    pub(crate) attack: &'a Attack,
    pub(crate) rounds: Vec<Round>,
}

/// Runs every round of every attack, over one Postgres.
pub(crate) async fn run_all<'a>(
    attacks: &[&'a Attack],
    program: &Path,
    rounds: usize,
    lasts: Duration,
) -> anyhow::Result<Vec<Figures<'a>>> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(&dir.path().join("postgres")).await?;
    let mut all: Vec<Figures<'a>> = attacks
        .iter()
        .map(|attack| Figures {
            attack,
            rounds: Vec::new(),
        })
        .collect();
    for round in 0..rounds {
        for (index, figures) in all.iter_mut().enumerate() {
            let name = format!("round_{round}_{index}");
            let round = run(figures.attack, program, &server, dir.path(), &name, lasts).await;
            let round = round.with_context(|| figures.attack.name)?;
            say(&format!("{}: {round:?}", figures.attack.name));
            figures.rounds.push(round);
        }
    }
    server.stop().await?;
    Ok(all)
}

async fn run(
    attack: &Attack,
    program: &Path,
    server: &Server,
    dir: &Path,
    name: &str,
    lasts: Duration,
) -> anyhow::Result<Round> {
    let dir = dir.join(name);
    let (fresh, h2c) = match attack.manner {
        Manner::Exchanges => (false, false),
        Manner::Holds { h2c, .. } => (true, h2c),
    };
    let configuration = configuration(&dir, &server.url(name).await?, h2c)?;
    let collector = Collector::start(program, &dir, &configuration).await?;
    let client = server.client(name).await?;
    let database_bytes = "select pg_database_size(current_database())";
    let database_before = number(&client, database_bytes).await?;
    let memory_before = collector.memory_bytes_max()?;

    let (stop, stopped) = watch::channel(false);
    let honest = loadtest::Plan {
        address: collector.http,
        site: SITE.to_owned(),
        prefix: "honest".to_owned(),
        connections: HONEST_CONNECTIONS,
        rate: Some(HONEST_RATE),
        // Those who want a place where others hold them.
        fresh,
        padding: 0,
    };
    let honest = tokio::spawn(loadtest::send(honest, stopped));
    let attacker = spawn(attack, collector.http, lasts)?;
    let waiting = attacker.wait_with_output();
    tokio::pin!(waiting);
    let (mut oldest_seconds, mut spool_bytes) = (0.0_f64, 0);
    let output = loop {
        tokio::select! {
            output = &mut waiting => break output?,
            () = tokio::time::sleep(SAMPLE_PERIOD) => {
                // A collector whose admin listener is late is asked again.
                if let Ok(counters) = collector.counters().await {
                    oldest_seconds = oldest_seconds.max(counters.oldest_seconds);
                    spool_bytes = spool_bytes.max(counters.backlog_bytes);
                }
            }
        }
    };
    anyhow::ensure!(output.status.success(), "the attacker: {}", output.status);
    stop.send_replace(true);
    let honest = honest.await?;

    let ended = Instant::now();
    let rows = "select count(*) from avtryck.hit where event_name like 'honest-%'";
    let expected = honest.acknowledged.len() as u64;
    while number(&client, rows).await? < expected {
        anyhow::ensure!(ended.elapsed() < LOADED_TIME_MAX, "not loaded in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let loaded_after = ended.elapsed();
    let query = match attack.query {
        Some(sql) => Some(time_of(&client, sql).await?),
        None => None,
    };
    let database_after = number(&client, database_bytes).await?;
    let round = Round {
        attacker: serde_json::from_slice(&output.stdout).context("the attacker's report")?,
        lasted: lasts,
        p99_micros: honest.latency.value_at_quantile(0.99),
        failed: honest.refused.values().sum::<u64>() + honest.broken + honest.unconnected,
        loaded_after,
        oldest_seconds,
        memory_bytes: collector.memory_bytes_max()?.saturating_sub(memory_before),
        spool_bytes,
        database_bytes: database_after.saturating_sub(database_before),
        query,
    };
    drop(client);
    collector.stop().await?;
    drop_database(server, name).await?;
    Ok(round)
}

/// Starts the attacker: this program, at nice 19.
fn spawn(
    attack: &Attack,
    address: std::net::SocketAddr,
    lasts: Duration,
) -> anyhow::Result<tokio::process::Child> {
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(std::env::current_exe()?);
    command.arg(attack.name).arg("--attack");
    command.arg(address.to_string()).arg("--seconds");
    command.arg(lasts.as_secs().to_string());
    let spawned = command
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    spawned.context("starting the attacker")
}

/// Returns what a query takes; at most [`QUERY_TIME_MAX`], at which it is ended.
async fn time_of(client: &tokio_postgres::Client, sql: &str) -> anyhow::Result<Duration> {
    let limit = format!("set statement_timeout = {}", QUERY_TIME_MAX.as_millis());
    client.batch_execute(&limit).await?;
    let begun = Instant::now();
    let answer = client.batch_execute(sql).await;
    let took = begun.elapsed();
    client.batch_execute("reset statement_timeout").await?;
    if took < QUERY_TIME_MAX {
        answer.context("the attack's query")?;
    }
    Ok(took)
}

async fn drop_database(server: &Server, name: &str) -> anyhow::Result<()> {
    let client = server.client("postgres").await?;
    let started = Instant::now();
    let sql = format!("drop database {name} with (force)");
    while let Err(error) = client.batch_execute(&sql).await {
        anyhow::ensure!(started.elapsed() < PATIENCE, "dropping {name}: {error}");
        tokio::time::sleep(SAMPLE_PERIOD).await;
    }
    Ok(())
}

/// Writes the configuration: whatever can be left at its default is.
fn configuration(dir: &Path, database_url: &str, h2c: bool) -> anyhow::Result<String> {
    let path = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.context("a path is not UTF-8")
    };
    let [ipv4, ipv6] = geodata();
    let all = r#"["store", "measure", "profile", "match", "link", "locate"]"#;
    Ok(format!(
        r#"[http]
listen = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1"]
h2c = {h2c}
[admin]
listen = "127.0.0.1:0"
[spool]
dir = "{dir}/spool"
[database]
url = "{database_url}"
[geoip]
city = ["{ipv4}", "{ipv6}"]
[device]
rules = "{root}/assets/data/rules/regexes.json"
crawlers = "{root}/assets/data/rules/crawlers.json"
[cookie]
keys = ["{COOKIE_KEY}"]
[[site]]
key = "{SITE}"
hosts = ["127.0.0.1"]
default_permit = {all}
[[partner]]
key = "{PARTNER}"
default_permit = {all}
"#,
        dir = path(dir)?,
        root = path(&root())?,
        ipv4 = path(&ipv4)?,
        ipv6 = path(&ipv6)?,
    ))
}
