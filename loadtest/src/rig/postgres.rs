//! A Postgres for measuring: the collector's embedded one with its settings, and a database for
//! each that needs one.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use avtryck::postgres::server::embedded::Embedded;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::Client;

use super::usage::{Parts, Root};

/// A carrier that brought nothing for so long has lost the rest.
const STILL_TIME: Duration = Duration::from_secs(2);

/// The running server.
#[derive(Clone)]
pub struct Server {
    embedded: Embedded,
}

impl Server {
    /// Starts it, with its files in `dir`.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(dir: &Path) -> anyhow::Result<Server> {
        let embedded = Embedded::start(dir).await?;
        Ok(Server { embedded })
    }

    /// The URL of a database, made if it is absent.
    pub async fn url(&self, name: &str) -> anyhow::Result<String> {
        self.embedded.database(name).await?;
        let dir = self.dir().to_str().context("a path is not UTF-8")?;
        let dir = utf8_percent_encode(dir, NON_ALPHANUMERIC);
        Ok(format!("postgres://avtryck@{dir}/{name}"))
    }

    /// Connects to a database, made if it is absent.
    ///
    /// # Errors
    /// Postgres refuses.
    pub async fn client(&self, name: &str) -> anyhow::Result<Client> {
        let config = self.embedded.database(name).await?;
        avtryck::postgres::connect(&config).await
    }

    /// Where its socket lies.
    pub fn dir(&self) -> &Path {
        self.embedded.dir()
    }

    /// The user and group that it runs as.
    pub fn user(&self) -> anyhow::Result<(u32, u32)> {
        let cluster = std::fs::metadata(self.dir().join("cluster"))?;
        Ok((cluster.uid(), cluster.gid()))
    }

    /// Returns where its CPU time is counted, a part for each kind of process.
    ///
    /// # Errors
    /// It does not run.
    pub fn root(&self) -> anyhow::Result<Root> {
        let pid = std::fs::read_to_string(self.dir().join("cluster/postmaster.pid"))?;
        let pid = pid.lines().next().and_then(|line| line.trim().parse().ok());
        Ok(Root {
            pid: pid.context("postmaster.pid names no process")?,
            parts: Parts::Titles,
        })
    }

    /// Writes out what is dirty: nobody pays for pages that another one dirtied.
    pub async fn checkpoint(&self) -> anyhow::Result<()> {
        let client = self.client("postgres").await?;
        client.batch_execute("checkpoint").await?;
        Ok(())
    }

    /// Stops it.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.embedded.stop().await
    }
}

/// The one number that a query answers.
pub async fn number(client: &Client, sql: &str) -> anyhow::Result<u64> {
    let row = client
        .query_one(sql, &[])
        .await
        .context("asking Postgres")?;
    Ok(u64::try_from(row.get::<_, i64>(0))?)
}

/// Waits until a query answers `wanted` or, for [`STILL_TIME`], nothing new; what it answered last.
pub async fn until(client: &Client, sql: &str, wanted: u64) -> anyhow::Result<u64> {
    let mut last = (0, Instant::now());
    loop {
        let found = number(client, sql).await?;
        if found != last.0 {
            last = (found, Instant::now());
        }
        if found == wanted || last.1.elapsed() > STILL_TIME {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
