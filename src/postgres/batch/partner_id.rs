//! Links of visitors to partners' IDs: an upsert for each batch, in its transaction.
//!
//! A link that its partner signed replaces those that anybody can claim for the same visitor or the
//! same ID, and no such claim is stored beside it. Both statements go in the order of the key: two
//! loaders with the same links wait for each other and do not deadlock.

use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

use super::load::Mark;
use crate::row::Link;

/// Stores the links of the rows that are left. Each link comes with the byte at which its row
/// begins.
pub(crate) async fn upsert(
    transaction: &Transaction<'_>,
    links: &[(usize, Link)],
    marks: &[Mark],
) -> Result<(), Error> {
    // Marks stay in the order of their rows: some are removed, none is moved.
    let is_left = |start: &usize| {
        marks
            .binary_search_by_key(start, |mark| mark.row.start)
            .is_ok()
    };
    let links: Vec<&Link> = links
        .iter()
        .filter(|(start, _)| is_left(start))
        .map(|(_, link)| link)
        .collect();
    if links.is_empty() {
        return Ok(());
    }
    let (proved, unproved): (Vec<&Link>, Vec<&Link>) =
        links.into_iter().partition(|link| link.is_proved);
    for (links, statement) in [
        (proved, include_str!("partner_id/proved.sql")),
        (unproved, include_str!("partner_id/unproved.sql")),
    ] {
        if links.is_empty() {
            continue;
        }
        let visitors: Vec<Uuid> = links
            .iter()
            .map(|link| Uuid::from_bytes(link.visitor.0))
            .collect();
        let partners: Vec<&str> = links.iter().map(|link| &*link.partner).collect();
        let uids: Vec<&str> = links.iter().map(|link| &*link.partner_uid).collect();
        let at: Vec<i64> = links.iter().map(|link| link.at.0).collect();
        transaction
            .execute(statement, &[&visitors, &partners, &uids, &at])
            .await?;
    }
    Ok(())
}
