//! The Postgres that all contenders share: the collector's embedded one with its settings, a
//! database for each, none of them at work while another is measured.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use avtryck::postgres::server::embedded::Embedded;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::Client;

use crate::usage::{Parts, Root};

/// Rows of the floor's COPY.
const FLOOR_ROWS_MAX: u32 = 400_000;

/// A carrier that brought nothing for so long has lost the rest.
const STILL_TIME: Duration = Duration::from_secs(2);

/// What nginx logs, as columns. The last seven are of the log with places alone.
const NGINX_TABLE: &str = "create table nginx_hit (received_at timestamptz, client_ip inet, uid text, \
    request_uri text, referer text, user_agent text, country text, region text, city text, \
    postal_code text, latitude text, longitude text, time_zone text)";

/// The running server.
#[derive(Clone)]
pub(crate) struct Server {
    embedded: Embedded,
}

impl Server {
    pub(crate) async fn start(dir: &Path) -> anyhow::Result<Server> {
        let embedded = Embedded::start(dir).await?;
        Ok(Server { embedded })
    }

    /// The URL of a database, made if it is absent.
    pub(crate) async fn url(&self, name: &str) -> anyhow::Result<String> {
        self.embedded.database(name).await?;
        let dir = self.dir().to_str().context("a path is not UTF-8")?;
        let dir = utf8_percent_encode(dir, NON_ALPHANUMERIC);
        Ok(format!("postgres://avtryck@{dir}/{name}"))
    }

    pub(crate) async fn client(&self, name: &str) -> anyhow::Result<Client> {
        let config = self.embedded.database(name).await?;
        avtryck::postgres::connect(&config).await
    }

    /// Where its socket lies.
    pub(crate) fn dir(&self) -> &Path {
        self.embedded.dir()
    }

    /// The user and group that it runs as.
    pub(crate) fn user(&self) -> anyhow::Result<(u32, u32)> {
        let cluster = std::fs::metadata(self.dir().join("cluster"))?;
        Ok((cluster.uid(), cluster.gid()))
    }

    pub(crate) fn root(&self) -> anyhow::Result<Root> {
        let pid = std::fs::read_to_string(self.dir().join("cluster/postmaster.pid"))?;
        let pid = pid.lines().next().and_then(|line| line.trim().parse().ok());
        Ok(Root {
            pid: pid.context("postmaster.pid names no process")?,
            parts: Parts::Titles,
        })
    }

    /// Writes out what is dirty: nobody pays for pages that another one dirtied.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        let client = self.client("postgres").await?;
        client.batch_execute("checkpoint").await?;
        Ok(())
    }

    /// The table that nginx's log is loaded into, empty. Without indexes and vacuum: as cheap as
    /// can be.
    pub(crate) async fn nginx_table(&self, name: &str) -> anyhow::Result<Client> {
        let client = self.client(name).await?;
        client
            .batch_execute(&format!(
                "set client_min_messages = warning; drop table if exists nginx_hit; \
                 {NGINX_TABLE} with (autovacuum_enabled = off)"
            ))
            .await?;
        Ok(client)
    }

    /// Puts rows that the collector has loaded into a file, and makes a table of the same columns
    /// and indexes.
    pub(crate) async fn prepare_floor(&self, name: &str) -> anyhow::Result<FloorCopy> {
        let client = self.client(name).await?;
        let file = self.dir().join("floor.rows");
        let rows = client
            .execute(
                &format!(
                    "copy (select * from avtryck.hit limit {FLOOR_ROWS_MAX}) to '{}' (format binary)",
                    file.display()
                ),
                &[],
            )
            .await
            .context("writing the rows of the floor")?;
        client
            .batch_execute(
                "create table floor_hit (like avtryck.hit including all) with (autovacuum_enabled = off)",
            )
            .await?;
        Ok(FloorCopy { client, file, rows })
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.embedded.stop().await
    }
}

/// The floor of loading: COPY of rows that are ready, into an identical table.
pub(crate) struct FloorCopy {
    client: Client,
    file: PathBuf,
    pub(crate) rows: u64,
}

impl FloorCopy {
    pub(crate) async fn empty(&self) -> anyhow::Result<()> {
        self.client.batch_execute("truncate floor_hit").await?;
        Ok(())
    }

    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let copy = format!(
            "copy floor_hit from '{}' (format binary)",
            self.file.display()
        );
        let copied = self.client.execute(&copy, &[]).await?;
        anyhow::ensure!(copied == self.rows, "{copied} of {} rows", self.rows);
        Ok(())
    }
}

/// The one number that a query answers.
pub(crate) async fn number(client: &Client, sql: &str) -> anyhow::Result<u64> {
    let row = client
        .query_one(sql, &[])
        .await
        .context("asking Postgres")?;
    Ok(u64::try_from(row.get::<_, i64>(0))?)
}

/// Waits until a query answers `wanted` or, for [`STILL_TIME`], nothing new; what it answered last.
pub(crate) async fn until(client: &Client, sql: &str, wanted: u64) -> anyhow::Result<u64> {
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

/// What a hit takes in Postgres.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    /// Of the partitions of `hit` with their indexes, for each row.
    pub(crate) row_bytes: f64,
    /// Of every table with its indexes, for each row.
    pub(crate) all_bytes: f64,
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 bytes")]
pub(crate) async fn size(client: &Client) -> anyhow::Result<Size> {
    let rows = number(client, "select count(*) from avtryck.hit").await?;
    let hits = number(
        client,
        "select sum(pg_total_relation_size(inhrelid))::bigint from pg_inherits \
         where inhparent = 'avtryck.hit'::regclass",
    )
    .await?;
    let all = number(
        client,
        "select sum(pg_total_relation_size(oid))::bigint from pg_class \
         where relnamespace = 'avtryck'::regnamespace and relkind = 'r'",
    )
    .await?;
    let of = |bytes: u64| bytes as f64 / rows.max(1) as f64;
    Ok(Size {
        row_bytes: of(hits),
        all_bytes: of(all),
    })
}
