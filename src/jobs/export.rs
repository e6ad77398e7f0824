//! How long partners have not been told whom they are to forget.

use tokio_postgres::Client;

use super::JobLimits;

/// Measures how old the oldest removal is that a partner does not have, and how many wait. Changes
/// nothing.
pub(super) async fn measure(client: &Client, limits: JobLimits) -> anyhow::Result<u64> {
    let Some(graph) = &limits.graph else {
        return Ok(0);
    };
    let sql = "select coalesce(extract(epoch from clock_timestamp() - min(due)), 0)::float8, \
               (select count(*) from (select from avtryck.export_outbox limit 100000) as waiting) \
               from avtryck.export_outbox";
    let row = client.query_one(sql, &[]).await?;
    let (age, waiting): (f64, i64) = (row.try_get(0)?, row.try_get(1)?);
    graph.metrics.export_removal_seconds.set(age.max(0.0));
    graph
        .metrics
        .export_removals
        .set(f64::from(u32::try_from(waiting)?));
    Ok(0)
}
