//! What a transaction that is taken back would have done to segments.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

use super::evaluate::SUBJECTS_MAX;
use super::status;
use crate::segment::{Book, Segment, size};

/// A segment is told of if more than this share of it changes.
const SHARE_MIN: f64 = 0.1;

/// What several transactions would do together.
#[derive(Debug, Default)]
pub(crate) struct Effect {
    /// How many visitors they reach, whom profile is permitted of.
    pub(crate) matched: u64,
    /// How many would come in and how many would leave, by segment.
    changes: BTreeMap<String, [u64; 2]>,
    /// Why segments cannot be evaluated.
    failed: BTreeMap<String, String>,
}

/// A segment that would change much.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct SegmentEffect {
    /// Its key.
    pub(crate) segment: String,
    /// How many members it had when everybody was evaluated last, rounded as everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<String>,
    /// How many would come in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enter: Option<String>,
    /// How many would leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leave: Option<String>,
    /// Why it cannot be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Effect {
    /// Adds what a transaction would do that changed what is known of some IDs. The caller takes it
    /// back.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn add(
        &mut self,
        transaction: &mut Transaction<'_>,
        book: &Book,
        changed: &[Uuid],
    ) -> Result<(), Error> {
        // An import prefers plans for many rows of a file.
        let settings = "set local enable_hashjoin = on; set local enable_mergejoin = on; \
                        set local statement_timeout = '60s'";
        transaction.batch_execute(settings).await?;
        let sql = "select reached.subject from avtryck.subjects_touched_with($1) as reached (subject) \
                   where exists (select from avtryck.profile where profile.subject = reached.subject)";
        for changed in changed.chunks(SUBJECTS_MAX) {
            let changed = changed.to_vec();
            let rows = transaction
                .query_typed(sql, &[(&changed, Type::UUID_ARRAY)])
                .await?;
            let reached: Vec<Uuid> = rows
                .iter()
                .map(|row| row.try_get(0))
                .collect::<Result<_, _>>()?;
            self.matched += reached.len() as u64;
            for reached in reached.chunks(SUBJECTS_MAX) {
                for segment in &book.segments {
                    self.add_one(transaction, segment, reached).await?;
                }
            }
        }
        Ok(())
    }

    async fn add_one(
        &mut self,
        transaction: &mut Transaction<'_>,
        segment: &Segment,
        reached: &[Uuid],
    ) -> Result<(), Error> {
        if self.failed.contains_key(&segment.key) {
            return Ok(());
        }
        let reached = reached.to_vec();
        let sql = segment.fill(include_str!("effect.sql"), "$1");
        let attempt = transaction.transaction().await?;
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&reached, Type::UUID_ARRAY), (&segment.key, Type::TEXT)];
        match attempt.query_typed(&sql, &parameters).await {
            Ok(rows) => {
                let changes = self.changes.entry(segment.key.clone()).or_default();
                for row in &rows {
                    for (at, sum) in changes.iter_mut().enumerate() {
                        *sum += row.try_get::<_, i64>(at)?.cast_unsigned();
                    }
                }
                attempt.commit().await
            }
            Err(error) => {
                let Some(text) = error.as_db_error().map(|error| error.message().to_owned()) else {
                    return Err(error);
                };
                self.failed.insert(segment.key.clone(), text);
                attempt.rollback().await
            }
        }
    }

    #[cfg(test)]
    pub(super) fn changes(&self, segment: &str) -> [u64; 2] {
        self.changes.get(segment).copied().unwrap_or_default()
    }

    /// Returns the segments of which more than a tenth would change, and those that cannot be
    /// evaluated.
    ///
    /// # Errors
    /// Where Postgres fails.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(crate) async fn finish(self, client: &Client) -> Result<Vec<SegmentEffect>, Error> {
        let (held, _) = status::read(client).await?;
        let mut told = Vec::new();
        for (segment, [enter, leave]) in self.changes {
            // One that was never evaluated has nothing to change.
            let Some(held) = held.iter().find(|held| held.key == segment) else {
                continue;
            };
            let Some(members) = held.size else {
                continue;
            };
            if (enter + leave) as f64 > SHARE_MIN * members as f64 {
                let shown = |number| Some(size::show(number, held.min_size));
                told.push(SegmentEffect {
                    members: shown(members),
                    enter: shown(enter),
                    leave: shown(leave),
                    error: None,
                    segment,
                });
            }
        }
        let failed = self.failed.into_iter();
        told.extend(failed.map(|(segment, error)| SegmentEffect {
            segment,
            error: Some(error),
            ..SegmentEffect::default()
        }));
        Ok(told)
    }
}
