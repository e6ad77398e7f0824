//! Links of visitors to partners' IDs: one upsert for each batch, in its transaction.

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
    let visitors: Vec<Uuid> = links
        .iter()
        .map(|link| Uuid::from_bytes(link.visitor.0))
        .collect();
    let partners: Vec<&str> = links.iter().map(|link| &*link.partner).collect();
    let uids: Vec<&str> = links.iter().map(|link| &*link.partner_uid).collect();
    let at: Vec<i64> = links.iter().map(|link| link.at.0).collect();
    // In the order of the key: two loaders with the same links wait for each other
    // and do not deadlock.
    transaction
        .execute(
            "insert into avtryck.partner_id (visitor_id, partner, partner_uid, first_seen, last_seen) \
             select visitor, partner, uid, timestamptz 'epoch' + min(at) * interval '1 microsecond', \
                    timestamptz 'epoch' + max(at) * interval '1 microsecond' \
             from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) as new (visitor, partner, uid, at) \
             group by 1, 2, 3 order by 1, 2, 3 \
             on conflict (visitor_id, partner, partner_uid) \
             do update set first_seen = least(partner_id.first_seen, excluded.first_seen), \
                           last_seen = greatest(partner_id.last_seen, excluded.last_seen)",
            &[&visitors, &partners, &uids, &at],
        )
        .await?;
    Ok(())
}
