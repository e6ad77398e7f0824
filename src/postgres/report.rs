//! The roll-ups that reports are read from.

use anyhow::Context as _;
use tokio_postgres::Client;

use crate::clock::UnixMicros;

/// How much memory a sort or a hash may take while hits are rolled up: without it the subjects of a
/// large day go to disk.
const SESSION: &str = "set work_mem = '64MB'";
const RESET: &str = "reset work_mem";

/// Takes the marks, and deletes the roll-ups that they show to be wrong.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn take_marks(client: &Client) -> anyhow::Result<()> {
    let take = client.execute("select avtryck.take_report_marks()", &[]);
    take.await.context("taking the marks of reports")?;
    Ok(())
}

/// Makes these the time zones of the sites; the others have UTC. Returns the sites whose time zone
/// Postgres does not know; they keep the one that they had.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn set_time_zones(
    client: &Client,
    sites: &[&str],
    zones: &[Option<&str>],
) -> anyhow::Result<Vec<String>> {
    let sql = "select avtryck.set_time_zones($1, $2)";
    let set = client.query_one(sql, &[&sites, &zones]).await;
    let unknown = set.context("setting the time zones of sites")?.try_get(0)?;
    Ok(unknown)
}

/// Rolls up the next span, or closes the next day, and returns whether there was one.
///
/// # Errors
/// Where Postgres fails.
pub async fn build_next(client: &Client, as_of: UnixMicros) -> anyhow::Result<bool> {
    client.batch_execute(SESSION).await?;
    let sql = "select avtryck.build_report(timestamptz 'epoch' + $1::bigint * interval '1 us')";
    let built = client.query_one(sql, &[&as_of.0]).await;
    client.batch_execute(RESET).await?;
    let built: Option<String> = built.context("rolling up for reports")?.try_get(0)?;
    Ok(built.is_some())
}

/// Compares roll-ups that chance picks with the hits, and returns how many figures differ.
///
/// # Errors
/// Where Postgres fails.
pub async fn compare(client: &Client) -> anyhow::Result<u64> {
    let compare = client.query_one("select avtryck.compare_reports()", &[]);
    let row = compare.await.context("comparing roll-ups with hits")?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}
