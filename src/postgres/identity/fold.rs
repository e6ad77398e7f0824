//! Adds what batches saw of permits and ties to their tables, and tells what others added.

use std::collections::HashMap;

use tokio_postgres::{Client, Error, GenericClient};
use uuid::Uuid;

use crate::hit::{ConsentSource, Permit};
use crate::identity::Node;

/// A permit that became another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The subject.
    pub node: Node,
    /// The site.
    pub site: String,
    /// The partner; empty where the site's own rules decided.
    pub partner: String,
    /// What is permitted now.
    pub permit: Permit,
    /// The signal that decided it.
    pub consent_source: ConsentSource,
}

/// Adds what batches saw to `subject_permit` and `link_edge`, whichever collector loaded them.
/// Returns whether groups are to be split, because somebody refused ties.
///
/// # Errors
/// Where Postgres fails.
pub async fn fold(client: &impl GenericClient) -> Result<bool, Error> {
    let sql =
        "select exists (select from avtryck.link_part) or exists (select from avtryck.permit_part)";
    let has_any: bool = client.query_one(sql, &[]).await?.try_get(0)?;
    if !has_any {
        return Ok(false);
    }
    client.batch_execute(include_str!("fold.sql")).await?;
    let sql = "select exists (select from avtryck.link_regroup)";
    client.query_one(sql, &[]).await?.try_get(0)
}

/// Follows the permits that others change.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    /// Up to when changes were read, in microseconds since 1970 by the clock of Postgres.
    until: Option<i64>,
    /// What was read of the last minute: a transaction may have taken so long to commit.
    known: HashMap<(Node, String, String), i64>,
}

/// How long after its time a change may become visible: one minute, in microseconds.
const LATE_MICROS: i64 = 60_000_000;

/// The most changes that are read at once. More of them would mean that nearly every subject
/// changed, and what is remembered of permits is forgotten within a week anyway.
const CHANGES_MAX: i64 = 10_000;

impl Follower {
    /// Returns what changed since the last call; nothing the first time.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn read(&mut self, client: &Client) -> Result<Vec<Changed>, Error> {
        let Some(until) = self.until else {
            let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
            self.until = Some(client.query_one(sql, &[]).await?.try_get(0)?);
            return Ok(Vec::new());
        };
        let since = until - LATE_MICROS;
        let rows = client
            .query(include_str!("changed.sql"), &[&since, &CHANGES_MAX])
            .await?;
        self.known.retain(|_, at| *at >= since);
        let mut changed = Vec::new();
        for row in rows {
            let node = Node(row.try_get::<_, Uuid>("subject")?.into_bytes());
            let (site, partner): (String, String) = (row.try_get("site")?, row.try_get("partner")?);
            let at: i64 = row.try_get("changed_at")?;
            self.until = Some(until.max(at).max(self.until.unwrap_or(at)));
            let key = (node, site.clone(), partner.clone());
            if self.known.insert(key, at) == Some(at) {
                continue;
            }
            let number = |column: &str| row.try_get(column).map(i16::cast_unsigned);
            changed.push(Changed {
                node,
                site,
                partner,
                permit: Permit::from_bits(number("permit")?.into()),
                consent_source: ConsentSource::from_number(number("consent_source")?.into())
                    .unwrap_or_default(),
            });
        }
        Ok(changed)
    }
}
