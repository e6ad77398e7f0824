//! The tables that contenders load into, in the one Postgres that all of them share: none is at
//! work while another is measured.

use std::path::PathBuf;

use anyhow::Context as _;
use loadtest::rig::postgres::{Server, number};
use tokio_postgres::Client;

/// Rows of the floor's COPY.
const FLOOR_ROWS_MAX: u32 = 400_000;

/// What nginx logs, as columns. The last seven are of the log with places alone.
const NGINX_TABLE: &str = "create table public.nginx_hit (received_at timestamptz, client_ip inet, uid text, \
    request_uri text, referer text, user_agent text, country text, region text, city text, \
    postal_code text, latitude text, longitude text, time_zone text)";

/// The table that nginx's log is loaded into, empty. Without indexes and vacuum: as cheap as
/// can be.
pub(crate) async fn nginx_table(server: &Server, name: &str) -> anyhow::Result<Client> {
    let client = server.client(name).await?;
    client
        .batch_execute(&format!(
            "set client_min_messages = warning; drop table if exists public.nginx_hit; \
             {NGINX_TABLE} with (autovacuum_enabled = off)"
        ))
        .await?;
    Ok(client)
}

/// Puts rows that the collector has loaded into a file, and makes a table of the same columns
/// and indexes.
pub(crate) async fn prepare_floor(server: &Server, name: &str) -> anyhow::Result<FloorCopy> {
    let client = server.client(name).await?;
    let file = server.dir().join("floor.rows");
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
            "create table public.floor_hit (like avtryck.hit including all) with (autovacuum_enabled = off)",
        )
        .await?;
    Ok(FloorCopy { client, file, rows })
}

/// The floor of loading: COPY of rows that are ready, into an identical table.
pub(crate) struct FloorCopy {
    client: Client,
    file: PathBuf,
    pub(crate) rows: u64,
}

impl FloorCopy {
    pub(crate) async fn empty(&self) -> anyhow::Result<()> {
        self.client
            .batch_execute("truncate public.floor_hit")
            .await?;
        Ok(())
    }

    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let copy = format!(
            "copy public.floor_hit from '{}' (format binary)",
            self.file.display()
        );
        let copied = self.client.execute(&copy, &[]).await?;
        anyhow::ensure!(copied == self.rows, "{copied} of {} rows", self.rows);
        Ok(())
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
