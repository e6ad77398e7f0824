//! Ties that the rules of today would not make: what is stored follows the configuration.

use tokio_postgres::{Client, Error};
use uuid::Uuid;

use super::lock;
use super::loss::Loss;

/// The most ties of a portion.
const PORTION: i64 = 1_000;

/// What ties must not have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forbidden {
    /// The partners whose IDs unite a device: another partner's ID ties nothing.
    pub uniting: Vec<String>,
    /// IDs that tie nothing.
    pub nodes: Vec<Uuid>,
}

/// Deletes a portion of the ties that are forbidden, and returns how many. Their groups are split
/// by the job `link`.
///
/// # Errors
/// Where Postgres fails; nothing is changed then.
pub(crate) async fn forget_forbidden(
    client: &mut Client,
    forbidden: &Forbidden,
) -> Result<u64, Error> {
    let rows = client
        .query(include_str!("rule.sql"), &[&forbidden.uniting])
        .await?;
    let partners: Result<Vec<String>, Error> = rows.iter().map(|row| row.try_get(0)).collect();
    let partners = partners?;
    let sql = "select exists (select from avtryck.link_edge where a = any($1)) \
               or exists (select from avtryck.link_edge where b = any($1))";
    let has_node = !forbidden.nodes.is_empty()
        && client
            .query_one(sql, &[&forbidden.nodes])
            .await?
            .try_get(0)?;
    if partners.is_empty() && !has_node {
        return Ok(0);
    }
    let transaction = client.transaction().await?;
    lock(&transaction).await?;
    Loss::Rule.note(&transaction).await?;
    let sql = "delete from avtryck.link_edge where ctid = any(array( \
                   select ctid from avtryck.link_edge where partner <> '' and partner = any($1) \
                   union select ctid from avtryck.link_edge where a = any($2) \
                   union select ctid from avtryck.link_edge where b = any($2) limit $3))";
    let deleted = transaction
        .execute(sql, &[&partners, &forbidden.nodes, &PORTION])
        .await?;
    transaction.commit().await?;
    Ok(deleted)
}
