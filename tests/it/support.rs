//! A running collector with a database of its own, and what tests ask of it.

pub(crate) mod cluster;
mod config;
pub(crate) mod kafka;
pub(crate) mod relay;
mod reply;
pub(crate) mod tables;
pub(crate) mod tls;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Row};

use crate::testing::CleanUp;
pub(crate) use config::Config;
pub(crate) use reply::{Reply, parse, raw};

/// How long anything may take before a test gives up: longer than until a job that could not run is
/// tried again, which takes a minute.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How long a test waits before it asks again.
const PAUSE: Duration = Duration::from_millis(10);
/// How many of the last lines of a collector's log a test shows that fails.
const LINES_SHOWN: usize = 40;

/// A site that permits all, under the name `open`, one that permits nothing, `shut`, and a partner
/// of each kind. All are vendor 2 to consent strings.
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

/// A folder that goes, with the Postgres that was left running in it, when it is dropped or when
/// this process ends.
pub(crate) struct Dir {
    path: PathBuf,
    _clean_up: CleanUp,
}

impl Dir {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a folder that the `postgres` user can enter.
pub(crate) fn tempdir() -> Dir {
    let mut clean_up = CleanUp::start();
    let dir = tempfile::Builder::new().prefix("avtryck").tempdir();
    let path = dir.unwrap().keep();
    clean_up.add(&path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    Dir {
        path,
        _clean_up: clean_up,
    }
}

/// The top of the source tree.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Chooses addresses for servers that cannot say which ports the system gave them, or that come
/// back on the same ones. All have one IP address that nothing else of the tests uses: on
/// `127.0.0.1` anybody could take a port before its server does.
fn addresses<const NUMBER: usize>() -> [SocketAddr; NUMBER] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let next = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let ip = Ipv4Addr::new(127, 128 | high, low ^ next[0], next[1]);
    // Each port stays taken until the last is chosen.
    let listeners = [(); NUMBER].map(|()| TcpListener::bind((ip, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// Changes what is signed or sealed: in the last character, some bits say nothing.
pub(crate) fn tampered(signed: &str) -> String {
    let (rest, last_two) = signed.split_at(signed.len() - 2);
    let other = if last_two.starts_with('A') { 'B' } else { 'A' };
    format!("{rest}{other}{}", &last_two[1..])
}

/// Chooses one address.
pub(crate) fn free_address() -> SocketAddr {
    let [address] = addresses();
    address
}

pub(crate) struct Collector {
    child: Child,
    pub(crate) http: SocketAddr,
    /// Where it speaks TLS, if it does.
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    /// Where the spool, the configuration and an embedded database lie.
    pub(crate) dir: Dir,
    database: tokio_postgres::Config,
    log: Log,
}

/// What a collector logs, gathered as it comes. A test that fails shows the last of it.
struct Log {
    text: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(text) = self.text.lock()
        {
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.len().saturating_sub(LINES_SHOWN);
            eprintln!("the collector logged last:\n{}", lines[last..].join("\n"));
        }
    }
}

impl Log {
    fn of(stderr: ChildStderr) -> Log {
        let text = Arc::<Mutex<String>>::default();
        let all = Arc::clone(&text);
        let mut reader = BufReader::new(stderr);
        let reading = tokio::spawn(async move {
            let mut line = Vec::new();
            // Bytes that are no UTF-8 are passed over: whoever writes to a pipe that nobody reads
            // waits forever.
            while reader.read_until(b'\n', &mut line).await.unwrap_or(0) > 0 {
                all.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Log { text, reading }
    }

    /// Waits for the end of the process and returns all that it logged.
    async fn end(mut self) -> String {
        (&mut self.reading).await.unwrap();
        std::mem::take(&mut *self.text.lock().unwrap())
    }
}

impl Collector {
    /// Starts one whose sites are [`SITES`].
    pub(crate) async fn open() -> Collector {
        Collector::start(Config::sites()).await
    }

    /// Starts one with a configuration.
    pub(crate) async fn start(config: Config) -> Collector {
        let dir = tempdir();
        config.write(&dir).await;
        Collector::start_in(dir).await
    }

    /// Starts one that logs what is of a level.
    pub(crate) async fn start_logging(config: Config, level: &str) -> Collector {
        let dir = tempdir();
        config.write(&dir).await;
        let mut command = command(&["serve"]);
        command.env("AVTRYCK_LOG", level);
        Collector::start_by(command, dir).await
    }

    /// Starts one in a folder that holds its configuration already.
    pub(crate) async fn start_in(dir: Dir) -> Collector {
        Collector::start_by(command(&["serve"]), dir).await
    }

    /// Starts one in such a folder by a command of the caller's.
    pub(crate) async fn start_by(command: Command, dir: Dir) -> Collector {
        let mut collector = Collector::spawn_by(command, dir);
        collector.until_serving().await;
        collector
    }

    fn spawn_by(mut command: Command, dir: Dir) -> Collector {
        command.env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"));
        Collector::spawn(&Config::read(dir.path()), command, dir)
    }

    /// Starts one by a command that knows its configuration.
    pub(crate) async fn start_with(config: &Config, command: Command, dir: Dir) -> Collector {
        let mut collector = Collector::spawn(config, command, dir);
        collector.until_serving().await;
        collector
    }

    fn spawn(config: &Config, mut command: Command, dir: Dir) -> Collector {
        let mut child = command
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        Collector {
            child,
            http: config.address("http").unwrap(),
            tls: config.address("tls"),
            admin: config.address("admin").unwrap(),
            dir,
            database: config.database(),
            log,
        }
    }

    /// Waits until its admin listener answers, which begins last.
    async fn until_serving(&mut self) {
        let started = Instant::now();
        while !self.is_serving().await {
            let ended = self.child.try_wait().unwrap();
            let waited = started.elapsed();
            assert!(
                ended.is_none() && waited < PATIENCE,
                "{ended:?} after {waited:?}\n{}",
                self.log.text.lock().unwrap()
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn is_serving(&self) -> bool {
        TcpStream::connect(self.admin).await.is_ok() && self.admin("/healthz").await.status == 200
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

    /// Waits until what the start takes is in memory: Postgres is up, and a hit is loaded.
    pub(crate) async fn settle(&self) {
        self.get("/p.gif?site=open&e=settled", &[]).await;
        let loaded = "select count(*) from avtryck.hit where event_name = 'settled'";
        self.wait_for(loaded, 1).await;
    }

    /// Waits until it has logged a text.
    pub(crate) async fn until_logged(&self, part: &str) {
        until(async || self.log.text.lock().unwrap().contains(part)).await;
    }

    /// Sends SIGTERM and waits for the end; the folder and the log are the caller's.
    pub(crate) async fn stop(self) -> (ExitStatus, Dir, String) {
        self.signal("TERM");
        self.end().await
    }

    /// Waits for the end of one that was told to end; the folder and the log are the caller's.
    pub(crate) async fn end(mut self) -> (ExitStatus, Dir, String) {
        let status = wait(&mut self.child).await;
        let log = self.log.end().await;
        (status, self.dir, log)
    }

    /// Starts another that takes over from it, and says how it ended.
    pub(crate) async fn hand_over(self) -> (Collector, ExitStatus, String) {
        self.hand_over_to(command(&["serve", "--take-over"])).await
    }

    /// The same to a process that is started in another way.
    pub(crate) async fn hand_over_to(
        mut self,
        successor: Command,
    ) -> (Collector, ExitStatus, String) {
        let mut next = Collector::spawn_by(successor, self.dir);
        // Both have the same addresses, so the next is asked once this one is gone.
        let status = tokio::select! {
            status = wait(&mut self.child) => status,
            ended = wait(&mut next.child) => panic!("{ended}\n{}", next.log.end().await),
        };
        next.until_serving().await;
        (next, status, self.log.end().await)
    }

    /// Kills it without a warning. Its Postgres stays, as after a crash.
    pub(crate) async fn kill(mut self) -> Dir {
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

    /// Connects to its database.
    pub(crate) async fn database(&self) -> Client {
        self.reach().await.unwrap()
    }

    async fn reach(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.database.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
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
        let mut connected = None;
        let mut last = None;
        while started.elapsed() < PATIENCE {
            // Postgres may go and come back, and the schema may be to come.
            connected = match connected.filter(|client: &Client| !client.is_closed()) {
                Some(client) => Some(client),
                None => self.reach().await.ok(),
            };
            if let Some(client) = &connected {
                let answer = client.query_one(sql, &[]).await.ok();
                last = answer.map(|row| row.get::<_, i64>(0));
                if last == Some(number) {
                    return started.elapsed();
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{sql} answers {last:?} and not {number}");
    }

    /// Waits until its database can be reached.
    pub(crate) async fn until_up(&self) {
        until(async || self.reach().await.is_ok()).await;
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

    /// The value of one metric, by its name with labels as Prometheus writes it; without labels,
    /// the sum of all that have the name.
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
#[track_caller]
pub(crate) fn until(check: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let asked_at = Location::caller();
    async move {
        let started = Instant::now();
        while !check().await {
            let waited = started.elapsed();
            assert!(
                waited < PATIENCE,
                "no after {waited:?}, asked at {asked_at}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Waits until a process ends.
async fn wait(child: &mut Child) -> ExitStatus {
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    ended.expect("it ends").unwrap()
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
