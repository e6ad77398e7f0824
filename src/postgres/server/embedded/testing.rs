//! One server shared by the tests that run at the same time, with a database for each test.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Config};

use super::Embedded;

static SHARED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A server that stops, and whose files go, when it is dropped.
pub(crate) struct Server {
    pub(crate) embedded: Embedded,
    _dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.embedded.stop_with("immediate").unwrap();
        if self.embedded.dir().starts_with(super::ELSEWHERE) {
            std::fs::remove_dir_all(self.embedded.dir()).unwrap();
        }
    }
}

impl Server {
    /// A server in a folder made for it, with these permissions above the cluster's own folder.
    pub(crate) async fn start(mode: u32) -> Server {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let embedded = Embedded::start(&dir.path().join("postgres")).await.unwrap();
        Server {
            embedded,
            _dir: dir,
        }
    }
}

/// A database with the schema, on the shared server.
pub(crate) struct Database {
    pub(crate) config: Config,
    pub(crate) client: Client,
    _server: Arc<Server>,
}

impl Database {
    pub(crate) async fn empty() -> Database {
        let mut shared = SHARED.lock().await;
        let server = match shared.upgrade() {
            Some(server) => server,
            None => Arc::new(Server::start(0o755).await),
        };
        *shared = Arc::downgrade(&server);
        drop(shared);
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let config = server.embedded.database(&name).await.unwrap();
        let client = crate::postgres::connect(&config).await.unwrap();
        Database {
            config,
            client,
            _server: server,
        }
    }

    pub(crate) async fn migrated() -> Database {
        let mut database = Database::empty().await;
        crate::postgres::migrate(&mut database.client)
            .await
            .unwrap();
        database
    }

    pub(crate) async fn connect(&self) -> Client {
        crate::postgres::connect(&self.config).await.unwrap()
    }
}
