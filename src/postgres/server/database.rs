//! The database of a collector: an embedded one, or the operator's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Config};

use super::cluster::{ClusterMemory, Remembers};
use super::connect::{Connected, connect, connect_watched};
use super::distribute;
use super::embedded::Embedded;
use super::migrate::{is_current, migrate};
use super::requirements::{self, needed_connections};
use super::servers::Servers;
use super::silence::SILENCE_MAX;
use super::url;
use crate::config::{DatabaseConfig, DatabaseUrl, InForce, Unusable};

/// The database of a collector.
pub enum Database {
    /// A private one, started when it is first needed, and again after it has ended.
    Embedded {
        /// The folder of its files.
        dir: PathBuf,
        /// Whether it is made where it is absent.
        is_made: bool,
        /// The server that was started or adopted.
        server: Mutex<Option<Embedded>>,
        /// The command line that opens it, once it runs.
        psql: Arc<OnceLock<String>>,
    },
    /// The operator's.
    Url(Box<Servers>),
}

/// Checks the URL of the operator's Postgres, if one is configured.
///
/// # Errors
/// The mistake, with its key and what would be right.
pub fn check(config: &DatabaseConfig, in_force: &InForce) -> Result<(), Unusable> {
    match &config.url {
        DatabaseUrl::Url(url) => url::parse(url)
            .and_then(|servers| servers.check_files())
            .map_err(|why| {
                let key = "database.url";
                Unusable::new(
                    key,
                    format!("{why}; {} would be right", in_force.right(key)),
                )
            }),
        DatabaseUrl::Embedded => Ok(()),
    }
}

/// Returns whether the URL of the operator's Postgres names several servers.
#[must_use]
pub(crate) fn has_several_hosts(config: &DatabaseConfig) -> bool {
    match &config.url {
        DatabaseUrl::Embedded => false,
        DatabaseUrl::Url(url) => url::parse(url).is_ok_and(|servers| {
            let config = servers.config;
            config.get_hosts().len().max(config.get_hostaddrs().len()) > 1
        }),
    }
}

impl Database {
    /// Returns the database that the configuration names.
    ///
    /// # Errors
    /// If the URL cannot be used, which [`check`] finds out earlier.
    pub fn new(config: &DatabaseConfig) -> anyhow::Result<Database> {
        Ok(match &config.url {
            DatabaseUrl::Embedded => Database::Embedded {
                dir: config.dir.clone(),
                is_made: true,
                server: Mutex::new(None),
                psql: Arc::default(),
            },
            DatabaseUrl::Url(url) => {
                let servers = url::parse(url);
                let servers = servers.map_err(|why| anyhow::anyhow!("database.url {why}"))?;
                Database::Url(Box::new(servers))
            }
        })
    }

    /// Makes no embedded database where there is none: connecting fails then. This is for commands
    /// that ask or change what a collector has stored, because an empty database, made in a wrong
    /// folder, would answer that nothing is held.
    #[must_use]
    pub(crate) fn existing(mut self) -> Database {
        if let Database::Embedded { is_made, .. } = &mut self {
            *is_made = false;
        }
        self
    }

    /// Sets how many connections the collector may have open at once. If Postgres allows fewer, the
    /// log says so.
    #[must_use]
    pub(crate) fn needing(mut self, connections: i32) -> Database {
        if let Database::Url(servers) = &mut self {
            servers.connections = connections;
        }
        self
    }

    /// Passes over a former primary of the cluster that a collector with this `spool.dir` has
    /// written to.
    #[must_use]
    pub(crate) fn remembering(mut self, spool_dir: &Path, remembers: Remembers) -> Database {
        if let Database::Url(servers) = &mut self {
            servers.memory = ClusterMemory::beside(spool_dir, remembers);
        }
        self
    }

    /// Returns the database of a server.
    #[must_use]
    pub fn at(config: Config) -> Database {
        Database::Url(Box::new(config.into()))
    }

    /// Connects, brings the schema up to date, and starts the embedded server where it does not
    /// run.
    ///
    /// # Errors
    /// Where Postgres cannot be started or reached, or a migration fails.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        Ok(self.open().await?.client)
    }

    /// Connects in the same way, and returns when something moves on the connection.
    pub(super) async fn open(&self) -> anyhow::Result<Connected> {
        let connected = self.open_any_layout().await?;
        distribute::check(&connected.client).await?;
        Ok(connected)
    }

    /// Connects as [`Database::connect`] does to a database whose tables are to be distributed.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn connect_to_distribute(&self) -> anyhow::Result<Client> {
        Ok(self.open_any_layout().await?.client)
    }

    async fn open_any_layout(&self) -> anyhow::Result<Connected> {
        let mut connected = self.reach().await?;
        let connections = match self {
            Database::Url(servers) => servers.connections,
            // Its server allows what the configuration can ask for.
            Database::Embedded { .. } => needed_connections(1),
        };
        let look = async {
            requirements::check(&connected.client, connections).await?;
            is_current(&connected.client).await
        };
        let is_current = tokio::time::timeout(SILENCE_MAX, look)
            .await
            .context("Postgres does not answer while the schema is looked at")??;
        // A migration takes the time that it takes.
        if !is_current {
            migrate(&mut connected.client).await?;
        }
        Ok(connected)
    }

    /// Connects to a server that runs already, without looking at its schema: for questions that
    /// are not worth waiting for.
    ///
    /// # Errors
    /// Where Postgres does not run or cannot be reached.
    pub(crate) async fn reach_running(&self) -> anyhow::Result<Client> {
        let config = match self {
            Database::Url(servers) => return Ok(connect_watched(servers).await?.client),
            Database::Embedded { server, .. } => {
                let server = server
                    .try_lock()
                    .context("the embedded Postgres is starting")?;
                let running = server
                    .as_ref()
                    .context("the embedded Postgres does not run")?;
                running.config()
            }
        };
        connect(&config).await
    }

    async fn reach(&self) -> anyhow::Result<Connected> {
        match self {
            Database::Url(servers) => {
                let connected = connect_watched(servers).await;
                connected.context("connecting to Postgres")
            }
            Database::Embedded {
                dir,
                is_made,
                server,
                psql,
            } => {
                let mut server = server.lock().await;
                if let Some(running) = &*server
                    && let Ok(connected) = connect_watched(&running.config().into()).await
                {
                    return Ok(connected);
                }
                let started = match is_made {
                    true => Embedded::start(dir).await,
                    false => Embedded::start_existing(dir).await,
                };
                let started = started.context("starting the embedded Postgres")?;
                let connected = connect_watched(&started.config().into()).await;
                psql.get_or_init(|| format!("psql \"{}\"", started.conninfo()));
                *server = Some(started);
                connected.context("connecting to Postgres")
            }
        }
    }

    /// Returns the command line that opens the embedded database, which is set once that runs.
    #[must_use]
    pub fn psql(&self) -> Option<Arc<OnceLock<String>>> {
        match self {
            Database::Embedded { psql, .. } => Some(Arc::clone(psql)),
            Database::Url(_) => None,
        }
    }

    /// Stops the embedded server, if it was started or adopted.
    pub async fn stop(&self) {
        if let Some(server) = self.take_server().await
            && let Err(error) = server.stop().await
        {
            tracing::error!("the embedded Postgres did not stop: {error:#}");
        }
    }

    /// Stops the embedded server if it was started, but not if it was adopted. A command that runs
    /// beside a collector calls this.
    pub async fn leave(&self) {
        if let Some(server) = self.take_server().await
            && let Err(error) = server.leave().await
        {
            tracing::error!("the embedded Postgres did not stop: {error:#}");
        }
    }

    async fn take_server(&self) -> Option<Embedded> {
        match self {
            Database::Embedded { server, .. } => server.lock().await.take(),
            Database::Url(_) => None,
        }
    }
}
