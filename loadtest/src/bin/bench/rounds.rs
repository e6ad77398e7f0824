//! Sets everything up, measures in turns, and takes it down again.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use avtryck::clock;
use avtryck::enrich;
use avtryck::hit::Hints;
use avtryck::keys::CookieKeyring;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loadtest::corpus::{self, Corpus, REQUESTS};
use loadtest::rig::collector::{Collector, Counters, geodata};
use loadtest::rig::postgres::{Server, number, until};
use loadtest::rig::process::{folder, root};
use loadtest::rig::usage::Root;

use crate::carriers::{Psql, Rsyslog};
use crate::configuration::{NO_DATABASE, start};
use crate::cost::{Cost, Meter};
use crate::figures::{Closed, Course, Device, Drain, EndToEnd, Figures, Handshakes, Open, Tracked};
use crate::floor::Floor;
use crate::nginx::{Log, Nginx};
use crate::plan::Plan;
use crate::segments::Told;
use crate::tables::{FloorCopy, nginx_table, prepare_floor, size};
use crate::tls::Files;
use crate::trackers::Trackers;
use crate::{open_loop, say, segments, tls, wrk};

/// The key of the visitor cookie, the collector's and the corpus's.
const KEY: [u8; 32] = *b"a key for the bench and no other";
const KEY_AGE_SECONDS: i64 = 86_400;
/// The rate of the goals for latency and for draining.
const RATE: u32 = 10_000;
/// What rsyslog gets: more than it could carry would be lost or measure its queue.
const RSYSLOG_RATE: u32 = 3_000;
const SAMPLE_PERIOD: Duration = Duration::from_millis(250);

/// Makes the folder of a run.
fn make_folder() -> anyhow::Result<tempfile::TempDir> {
    // Not where a memory disk may lie: a sync has to reach a disk.
    let dir = tempfile::Builder::new()
        .prefix("avtryck-bench.")
        .tempdir_in("/var/tmp")?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

/// Returns the key of the visitor cookie as the configuration has it.
fn key() -> String {
    format!("1:{}", STANDARD.encode(KEY))
}

fn keyring() -> CookieKeyring {
    CookieKeyring::new([(1, KEY.as_slice())], KEY_AGE_SECONDS)
}

fn make_corpus(seed: u64) -> anyhow::Result<Corpus> {
    let keyring = keyring();
    let source = corpus::Source {
        agents: &root().join("assets/data/test/user-agents.json"),
        keyring: &keyring,
        now: clock::now(),
        seed,
    };
    Corpus::make(&source, REQUESTS)
}

/// Measures what trackers send alone.
pub(crate) async fn run_trackers(plan: &Plan, seed: u64) -> anyhow::Result<Vec<Tracked>> {
    let dir = make_folder()?;
    let certificate = Files::make(dir.path()).await?;
    let mut trackers = Trackers::make(&make_corpus(seed)?, dir.path())?;
    let mut figures = Vec::new();
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        trackers
            .round(plan.tracker, &key(), &certificate, &mut figures)
            .await?;
    }
    Ok(figures)
}

/// Measures what pages are told alone.
pub(crate) async fn run_segments(plan: &Plan, seed: u64, members: u64) -> anyhow::Result<Told> {
    let dir = make_folder()?;
    let server = Server::start(&dir.path().join("postgres")).await?;
    let (corpus, keyring, key) = (make_corpus(seed)?, keyring(), key());
    let measuring = segments::measure(
        (dir.path(), &server),
        (corpus, &keyring, &key),
        members,
        plan.open,
    );
    let told = until_interrupted(measuring).await;
    server.stop().await?;
    told
}

/// Measures everything; whatever comes of it, nothing is left running.
pub(crate) async fn run(plan: &Plan, seed: u64) -> anyhow::Result<Figures> {
    let dir = make_folder()?;
    let server = Server::start(&dir.path().join("postgres")).await?;
    let figures = until_interrupted(measure(plan, seed, dir.path(), &server)).await;
    server.stop().await?;
    figures
}

async fn until_interrupted<T>(
    measuring: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        measured = measuring => measured,
        interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
            Ok(()) => anyhow::anyhow!("interrupted"),
            Err(error) => error.into(),
        }),
    }
}

async fn measure(plan: &Plan, seed: u64, dir: &Path, server: &Server) -> anyhow::Result<Figures> {
    let mut bench = Bench::set_up(seed, dir, server).await?;
    let mut figures = Figures {
        device: bench.device()?,
        started: vec![bench.edge.started, bench.collector.started],
        ..Figures::default()
    };
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        bench.round(plan, &mut figures).await?;
    }
    say("at a fixed rate");
    bench.open_loops(plan, &mut figures).await?;
    say("draining a backlog");
    bench.finish(plan, figures).await
}

struct Bench {
    floor: Floor,
    nginx: Nginx,
    geo_nginx: Nginx,
    log_nginx: Nginx,
    psql: Psql,
    rsyslog: Rsyslog,
    trackers: Trackers,
    edge: Collector,
    /// The edge without its plain way.
    by_hyper: Collector,
    collector: Collector,
    floor_copy: Option<FloorCopy>,
    server: Server,
    corpus: Arc<Corpus>,
    file: PathBuf,
    key: String,
    certificate: Files,
    /// How many loads were sent: none repeats another one's serial numbers.
    sends: u32,
    dir: PathBuf,
}

impl Bench {
    async fn set_up(seed: u64, dir: &Path, server: &Server) -> anyhow::Result<Bench> {
        let corpus = Arc::new(make_corpus(seed)?);
        let file = dir.join("corpus");
        corpus.write(&file)?;
        let key = key();
        let logs = dir.join("nginx-rsyslog");
        folder(&logs)?;
        nginx_table(server, "rsyslog").await?;
        let rsyslog = Rsyslog::start(server, "rsyslog", &logs).await?;
        let copied = dir.join("nginx-copy");
        nginx_table(server, "copy").await?;
        let certificate = Files::make(dir).await?;
        let alone = dir.join("edge");
        let edge = start(&alone, NO_DATABASE, true, &key, &certificate).await?;
        let alone = dir.join("by-hyper");
        let by_hyper = start(&alone, NO_DATABASE, false, &key, &certificate).await?;
        let url = server.url("collector").await?;
        let own = dir.join("collector");
        let collector = start(&own, &url, true, &key, &certificate).await?;
        Ok(Bench {
            floor: Floor::start().await?,
            nginx: Nginx::start(&dir.join("nginx"), Log::Buffered, &certificate).await?,
            geo_nginx: Nginx::start(&copied, Log::Places, &certificate).await?,
            log_nginx: Nginx::start(&logs, Log::Syslog, &certificate).await?,
            psql: Psql::start(server, "copy", dir)?,
            rsyslog,
            trackers: Trackers::make(&corpus, dir)?,
            edge,
            by_hyper,
            collector,
            floor_copy: None,
            server: server.clone(),
            corpus,
            file,
            key,
            certificate,
            sends: 0,
            dir: dir.to_owned(),
        })
    }

    async fn round(&mut self, plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
        let (floor, edge, by_hyper, nginx) = (
            (self.floor.address, self.floor.root()),
            (self.edge.http, self.edge.root()),
            (self.by_hyper.http, self.by_hyper.root()),
            (self.nginx.address, self.nginx.root()),
        );
        figures
            .floor
            .push(self.closed(plan.closed, floor, true).await?);
        figures
            .edge
            .push(self.closed(plan.closed, edge, true).await?);
        figures
            .edge_by_hyper
            .push(self.closed(plan.closed, by_hyper, true).await?);
        figures
            .nginx
            .push(self.closed(plan.closed, nginx, true).await?);
        let end_to_end = self.end_to_end(plan, &mut figures.course).await?;
        figures.collector.push(end_to_end);
        figures.floor_copy.push(self.floor_copy().await?);
        figures.nginx_copy.push(self.nginx_copy(plan.rival).await?);
        figures
            .nginx_rsyslog
            .push(self.nginx_rsyslog(plan.rival).await?);
        let close = plan.closed.min(Duration::from_secs(1));
        figures
            .floor_close
            .push(self.closed(close, floor, false).await?);
        figures
            .edge_close
            .push(self.closed(close, edge, false).await?);
        figures
            .nginx_close
            .push(self.closed(close, nginx, false).await?);
        for by_ticket in [false, true] {
            let edge = handshakes(
                close,
                self.edge.tls.context("no TLS")?,
                self.edge.root(),
                by_ticket,
            )
            .await?;
            let nginx = handshakes(close, self.nginx.tls, self.nginx.root(), by_ticket).await?;
            figures.tls.push(Handshakes {
                by_ticket,
                edge,
                nginx,
            });
        }
        let trackers = &mut figures.trackers;
        self.trackers
            .round(plan.tracker, &self.key, &self.certificate, trackers)
            .await
    }

    /// A closed loop of who has no database to wait for.
    async fn closed(
        &mut self,
        time: Duration,
        (address, root): (std::net::SocketAddr, Root),
        keep_alive: bool,
    ) -> anyhow::Result<Closed> {
        self.sends += 1;
        let before = self.edge.counters().await?;
        let meter = Meter::start([root]);
        let sent = wrk::run(address, &self.file, self.sends, time, keep_alive).await?;
        let cost = meter.stop(sent.answered);
        if address == self.edge.http {
            let answered = self.edge.counters().await?.answered - before.answered;
            same(answered, &sent)?;
        }
        Ok(Closed {
            rate: sent.rate(),
            cost,
        })
    }

    async fn end_to_end(&mut self, plan: &Plan, course: &mut Course) -> anyhow::Result<EndToEnd> {
        self.sends += 1;
        self.server.checkpoint().await?;
        let before = self.collector.counters().await?;
        let meter = Meter::start([self.collector.root(), self.server.root()?]);
        let begun = Instant::now();
        let offset = course.0.last().map_or(Duration::ZERO, |(at, _)| *at);
        let collector = &self.collector;
        let work = async {
            let time = plan.end_to_end;
            let sent = wrk::run(collector.http, &self.file, self.sends, time, true).await?;
            let after = collector.until_loaded(0).await?;
            anyhow::Ok((sent, after, begun.elapsed()))
        };
        let (sent, after, took) = tokio::select! {
            done = work => done?,
            failed = sample(collector, begun, offset, course) => return Err(failed),
        };
        course.0.push((offset + took, after));
        self.server.checkpoint().await?;
        let hits = after.answered - before.answered;
        let cost = meter.stop(hits);
        same(hits, &sent)?;
        self.verify(&after).await?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 hits")]
        Ok(EndToEnd {
            answered_rate: sent.rate(),
            rate: hits as f64 / took.as_secs_f64(),
            lost: 0,
            cost,
        })
    }

    /// Each hit that was answered is in Postgres once.
    async fn verify(&self, counters: &Counters) -> anyhow::Result<()> {
        let client = self.server.client("collector").await?;
        let rows = number(&client, "select count(*) from avtryck.hit").await?;
        let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
        let counted = number(&client, counted).await?;
        anyhow::ensure!(
            rows + counted == counters.answered && rows == counters.rows,
            "{rows} rows and {counted} counted are not {counters:?}"
        );
        Ok(())
    }

    async fn floor_copy(&mut self) -> anyhow::Result<Cost> {
        let copy = match &self.floor_copy {
            Some(copy) => copy,
            None => {
                let prepared = prepare_floor(&self.server, "collector").await?;
                self.floor_copy.insert(prepared)
            }
        };
        copy.empty().await?;
        self.server.checkpoint().await?;
        let meter = Meter::start([self.server.root()?]);
        copy.run().await?;
        self.server.checkpoint().await?;
        let cost = meter.stop(copy.rows);
        copy.empty().await?;
        Ok(cost)
    }

    async fn nginx_copy(&mut self, time: Duration) -> anyhow::Result<EndToEnd> {
        self.sends += 1;
        // What was asked for at the start is not to count.
        self.psql.load(&self.geo_nginx).await?;
        let client = self.server.client("copy").await?;
        client.batch_execute("truncate public.nginx_hit").await?;
        self.server.checkpoint().await?;
        let (nginx, psql) = (&self.geo_nginx, &mut self.psql);
        let meter = Meter::start([nginx.root(), psql.root(), self.server.root()?]);
        let begun = Instant::now();
        let is_over = Cell::new(false);
        let sending = async {
            let sent = wrk::run(nginx.address, &self.file, self.sends, time, true).await;
            is_over.set(true);
            sent
        };
        let (sent, loaded) = tokio::join!(sending, psql.load_each_second(nginx, &is_over));
        let sent = sent?;
        loaded?;
        let took = begun.elapsed();
        self.server.checkpoint().await?;
        let rows = number(&client, "select count(*) from public.nginx_hit").await?;
        let cost = meter.stop(rows);
        same(rows, &sent)?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 hits")]
        Ok(EndToEnd {
            answered_rate: sent.rate(),
            rate: rows as f64 / took.as_secs_f64(),
            lost: 0,
            cost,
        })
    }

    async fn nginx_rsyslog(&mut self, time: Duration) -> anyhow::Result<EndToEnd> {
        let client = self.server.client("rsyslog").await?;
        client.batch_execute("truncate public.nginx_hit").await?;
        self.server.checkpoint().await?;
        let nginx = &self.log_nginx;
        let meter = Meter::start([nginx.root(), self.rsyslog.root(), self.server.root()?]);
        let begun = Instant::now();
        let address = nginx.address;
        let sent = self.open(address, RSYSLOG_RATE, time).await?;
        anyhow::ensure!(sent.failed == 0, "{} pixels failed", sent.failed);
        let hits = sent.latency.len();
        let rows = until(&client, "select count(*) from public.nginx_hit", hits).await?;
        let took = begun.elapsed();
        self.server.checkpoint().await?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 hits")]
        Ok(EndToEnd {
            answered_rate: f64::from(RSYSLOG_RATE),
            rate: rows as f64 / took.as_secs_f64(),
            lost: hits - rows,
            cost: meter.stop(rows),
        })
    }

    async fn open(
        &mut self,
        address: std::net::SocketAddr,
        rate: u32,
        time: Duration,
    ) -> anyhow::Result<open_loop::Outcome> {
        self.sends += 1;
        // Below the numbers of wrk's script, which have their first digit above 0.
        let first = u64::from(self.sends) * 1_000_000;
        open_loop::run(address, Arc::clone(&self.corpus), first, rate, time).await
    }

    async fn open_loops(&mut self, plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
        let floor = ("floor", self.floor.address, vec![self.floor.root()]);
        let nginx = ("nginx", self.nginx.address, vec![self.nginx.root()]);
        let roots = vec![self.collector.root(), self.server.root()?];
        let collector = ("collector", self.collector.http, roots);
        let rates = std::iter::once(&RATE).chain(plan.rates);
        let loops = rates.map(|rate| (collector.clone(), *rate));
        for ((name, address, roots), rate) in loops.chain([(floor, RATE), (nginx, RATE)]) {
            let meter = Meter::start(roots);
            let outcome = self.open(address, rate, plan.open).await?;
            self.collector.until_loaded(0).await?;
            figures.open.push(Open {
                name,
                rate,
                cost: meter.stop(outcome.latency.len()),
                outcome,
            });
        }
        Ok(())
    }

    /// Memory and sizes; then the edge's backlog is drained while more arrives, and everything
    /// ends.
    async fn finish(mut self, plan: &Plan, mut figures: Figures) -> anyhow::Result<Figures> {
        let geodata_bytes = geodata()
            .iter()
            .map(|file| Ok(std::fs::metadata(file)?.len()))
            .sum::<std::io::Result<u64>>()?;
        figures.geodata_bytes = geodata_bytes;
        figures.size = size(&self.server.client("collector").await?).await?;
        let backlog = self.edge.counters().await?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 bytes")]
        {
            figures.spool_bytes = backlog.backlog_bytes as f64 / backlog.answered.max(1) as f64;
        }
        for (name, collector) in [("edge alone", &self.edge), ("collector", &self.collector)] {
            let beyond = collector.memory_bytes_max()?.cast_signed() - geodata_bytes.cast_signed();
            figures.memory_bytes.push((name, beyond));
        }
        let collector = self.swap_edge().await?;
        let sending = self.open(collector.http, RATE, plan.drain);
        let (sent, rate) = tokio::join!(sending, drained(&collector, backlog.answered, plan.drain));
        let failed = sent?.failed;
        anyhow::ensure!(failed == 0, "{failed} pixels failed");
        figures.drain = Drain {
            backlog: backlog.answered,
            arriving_rate: RATE,
            rate: rate?,
        };
        let beyond = collector.memory_bytes_max()?.cast_signed() - geodata_bytes.cast_signed();
        figures.memory_bytes.push(("draining a backlog", beyond));
        collector.stop().await?;
        self.by_hyper.stop().await?;
        self.collector.stop().await?;
        Ok(figures)
    }

    /// Ends the edge that was alone, and starts a collector with a database on its spool.
    async fn swap_edge(&mut self) -> anyhow::Result<Collector> {
        let url = self.server.url("drain").await?;
        let dir = self.dir.join("edge");
        let alone = start(
            &self.dir.join("idle"),
            NO_DATABASE,
            true,
            &self.key,
            &self.certificate,
        )
        .await?;
        std::mem::replace(&mut self.edge, alone).stop().await?;
        start(&dir, &url, true, &self.key, &self.certificate).await
    }

    /// How long a device takes, of the corpus's user agents.
    fn device(&self) -> anyhow::Result<Device> {
        let rules = root().join("assets/data/rules");
        let sources = enrich::TableFiles {
            rules: rules.join("regexes.json"),
            crawlers: rules.join("crawlers.json"),
            ..enrich::TableFiles::default()
        };
        let (tables, errors) = enrich::load(&sources);
        if let Some(error) = errors.iter().find(|error| !error.is_partial()) {
            anyhow::bail!("{error}");
        }
        let mut agents: Vec<&str> = self
            .corpus
            .requests
            .iter()
            .filter_map(|request| {
                request
                    .text
                    .split_once("User-Agent: ")?
                    .1
                    .split("\r\n")
                    .next()
            })
            .collect();
        agents.sort_unstable();
        agents.dedup();
        let once = || {
            let begun = Instant::now();
            for agent in &agents {
                std::hint::black_box(tables.device(agent, &Hints::default()));
            }
            begun.elapsed().as_secs_f64() * 1e6
                / f64::from(u32::try_from(agents.len()).unwrap_or(1))
        };
        let new = once();
        let cached = (0..20).map(|_| once());
        Ok(Device {
            cached: crate::cost::median(cached),
            new,
        })
    }
}

/// New connections with TLS, a pixel each.
async fn handshakes(
    time: Duration,
    address: std::net::SocketAddr,
    root: Root,
    by_ticket: bool,
) -> anyhow::Result<Closed> {
    let meter = Meter::start([root]);
    let made = tls::run(address, time, by_ticket).await?;
    Ok(Closed {
        rate: made.rate,
        cost: meter.stop(made.connections),
    })
}

/// Hits loaded a second, from the first batch until a backlog is gone or `time` is over.
async fn drained(collector: &Collector, backlog: u64, time: Duration) -> anyhow::Result<f64> {
    let mut first = None;
    loop {
        let loaded = collector.counters().await?.loaded;
        if loaded > 0 {
            let (begun, before) = *first.get_or_insert((Instant::now(), loaded));
            let took = begun.elapsed();
            if loaded > before && (loaded >= backlog || took >= time) {
                #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 hits")]
                return Ok((loaded - before) as f64 / took.as_secs_f64());
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Notes the counters until one cannot be had.
async fn sample(
    collector: &Collector,
    begun: Instant,
    offset: Duration,
    course: &mut Course,
) -> anyhow::Error {
    loop {
        match collector.counters().await {
            Ok(counters) => course.0.push((offset + begun.elapsed(), counters)),
            Err(error) => return error,
        }
        tokio::time::sleep(SAMPLE_PERIOD).await;
    }
}

/// What was recorded is what wrk has read replies to, and up to as many as were under way at its
/// end.
fn same(recorded: u64, sent: &wrk::Outcome) -> anyhow::Result<()> {
    let beyond = recorded.checked_sub(sent.answered);
    anyhow::ensure!(
        sent.errors == 0 && beyond.is_some_and(|beyond| beyond <= wrk::CONNECTIONS),
        "{recorded} were recorded, of {sent:?}"
    );
    Ok(())
}
