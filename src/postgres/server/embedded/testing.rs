//! One Postgres for all tests of a process, with a database of its own for each test.
//!
//! The integration tests include this file as a module of theirs, so it uses public items only.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config};

use crate::postgres::server::embedded::Embedded;
use crate::postgres::{connect, migrate};

static SHARED: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The database that has the schema and no rows; the others are copies of it.
const TEMPLATE: &str = "template_migrated";

/// Settings of the shared server. Its files need not outlive a power cut, and tests that run at the
/// same time open more connections than a collector does. Nothing but the tests themselves takes
/// its time.
const SETTINGS: [&str; 4] = [
    "fsync = off",
    "full_page_writes = off",
    "autovacuum = off",
    "max_connections = 400",
];

/// Reads folders, one a line. At the end of its input, which comes however this process ends, it
/// stops the servers whose clusters lie in a folder or one below it, and deletes the folder.
const CLEAN_UP: &str = r#"
while IFS= read -r folder; do set -- "$@" "$folder"; done
for folder; do
    for file in "$folder"/cluster/postmaster.pid "$folder"/*/cluster/postmaster.pid; do
        pid=$(head -n 1 "$file" 2>/dev/null) || continue
        # The number may be another process's by now.
        [ ! -e /proc/self ] || [ "/proc/$pid/cwd" -ef "${file%/*}" ] || continue
        kill -QUIT "$pid"
        while [ "/proc/$pid/cwd" -ef "${file%/*}" ]; do sleep 0.01; done
    done
    rm -rf "$folder"
done
"#;

/// A process that removes servers and their folders when it is dropped or when this process ends.
pub(crate) struct CleanUp(Child);

impl CleanUp {
    pub(crate) fn start() -> CleanUp {
        let child = Command::new("/bin/sh")
            .args(["-c", CLEAN_UP, "clean-up"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Whoever ends this process group from a terminal does not end it.
            .process_group(0)
            .spawn()
            .unwrap();
        CleanUp(child)
    }

    /// Adds a folder.
    pub(crate) fn add(&mut self, folder: &Path) {
        let input = self.0.stdin.as_mut().unwrap();
        writeln!(input, "{}", folder.display()).unwrap();
    }
}

impl Drop for CleanUp {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// A server that stops, and whose files go, when it is dropped or when this process ends.
pub(crate) struct Server {
    pub(crate) embedded: Embedded,
    _clean_up: CleanUp,
}

impl Server {
    /// Starts a server in a folder made for it, with these permissions above the cluster's own
    /// folder.
    pub(crate) async fn start(mode: u32) -> Server {
        let mut clean_up = CleanUp::start();
        let dir = tempfile::tempdir().unwrap().keep();
        clean_up.add(&dir);
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
        let embedded = Embedded::start(&dir.join("postgres")).await.unwrap();
        // It may lie elsewhere.
        clean_up.add(embedded.dir());
        Server {
            embedded,
            _clean_up: clean_up,
        }
    }

    /// Starts the server that tests share, with the template in it.
    async fn start_shared() -> Server {
        let server = Server::start(0o755).await;
        let client = connect(&server.embedded.config()).await.unwrap();
        for setting in SETTINGS {
            let sql = format!("alter system set {setting}");
            client.batch_execute(&sql).await.unwrap();
        }
        // Some settings take a start.
        server.embedded.clone().stop().await.unwrap();
        Embedded::start(server.embedded.dir()).await.unwrap();
        let template = server.embedded.database(TEMPLATE).await.unwrap();
        migrate(&mut connect(&template).await.unwrap())
            .await
            .unwrap();
        server
    }
}

/// A database on the shared server.
pub(crate) struct TestDatabase {
    pub(crate) config: Config,
    pub(crate) client: Client,
}

impl TestDatabase {
    /// Makes a database without the schema.
    pub(crate) async fn empty() -> TestDatabase {
        TestDatabase::copy("template1").await
    }

    /// Makes a database with the schema.
    pub(crate) async fn migrated() -> TestDatabase {
        TestDatabase::copy(TEMPLATE).await
    }

    async fn copy(template: &str) -> TestDatabase {
        let server = SHARED.get_or_init(Server::start_shared).await;
        let mut config = server.embedded.config();
        let client = connect(&config).await.unwrap();
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        // While somebody is connected to the template, Postgres waits up to five seconds.
        let sql = format!("create database {name} template {template}");
        client.batch_execute(&sql).await.unwrap();
        config.dbname(&name);
        TestDatabase {
            client: connect(&config).await.unwrap(),
            config,
        }
    }

    /// Connects once more.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.config).await.unwrap()
    }
}
