//! Links of visitors to partners' IDs: one upsert a batch, in its transaction.

use tokio_postgres::{Error, Transaction};

use super::load::Mark;
use crate::clock::UnixMicros;
use crate::hit::{Hit, Kind, Permit, VisitorId};
use uuid::Uuid;

/// What a link takes.
const PERMIT: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::MATCH);

/// A visitor and a partner's ID for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    visitor: VisitorId,
    partner: String,
    partner_uid: String,
    at: UnixMicros,
}

impl Link {
    /// The link that a hit makes, if it makes one.
    #[must_use]
    pub fn of(hit: &Hit<'_>) -> Option<Link> {
        let is_whole = hit.kind == Kind::Sync
            && hit.permit.allows(PERMIT)
            && !hit.partner.is_empty()
            && !hit.partner_uid.is_empty();
        Some(Link {
            visitor: hit.visitor.filter(|_| is_whole)?,
            partner: hit.partner.to_string(),
            partner_uid: hit.partner_uid.to_string(),
            at: hit.received_at,
        })
    }
}

/// Stores the links of the rows that are left. Each is named by where its row begins.
pub(crate) async fn upsert(
    transaction: &Transaction<'_>,
    links: &[(usize, Link)],
    marks: &[Mark],
) -> Result<(), Error> {
    // In order: rows are only ever left out.
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
    // In the order of the key: two loaders with the same links wait for each other, no deadlock.
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
