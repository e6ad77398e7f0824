//! Notices an old primary that comes back after its standby was promoted.
//!
//! A promotion begins a timeline whose number is higher than any before it in that cluster. So once
//! a collector has written to a timeline, a server of the same cluster with a lower one is the
//! former primary, which nobody stopped (or an old copy of the cluster): what is written there is
//! lost to whoever reads the new one. Such a server is passed over.
//!
//! A collector that never saw the new timeline cannot know. Fencing is for whatever promotes.

use std::sync::{Mutex, PoisonError};

use anyhow::ensure;
use tokio_postgres::Client;

/// A cluster of Postgres, at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClusterState {
    /// The number that `initdb` gave it, and which its standbys share.
    system: i64,
    timeline: i32,
}

impl ClusterState {
    /// Reads it; `None` where the server does not tell, as some that only look like Postgres.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub(super) async fn read(client: &Client) -> anyhow::Result<Option<ClusterState>> {
        let row = match client.query_one(include_str!("cluster.sql"), &[]).await {
            Ok(row) => row,
            Err(error) if error.as_db_error().is_some() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let system = row.try_get(0)?;
        let timeline: Option<i32> = row.try_get(1)?;
        Ok(timeline.map(|timeline| ClusterState { system, timeline }))
    }
}

/// The cluster that was connected to last.
#[derive(Debug, Default)]
pub(super) struct ClusterMemory(Mutex<Option<ClusterState>>);

impl ClusterMemory {
    /// Remembers a cluster.
    ///
    /// # Errors
    /// Where it is one that was left behind.
    pub(super) fn accept(&self, now: ClusterState) -> anyhow::Result<()> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some(known) if known.system == now.system => {
                ensure!(
                    now.timeline >= known.timeline,
                    "this Postgres is on timeline {}, and the collector has written to timeline {} of \
                     the same cluster: it is a former primary that runs although a standby took \
                     over, and must be stopped (or a copy that is older; if that is what you want, \
                     restart the collector)",
                    now.timeline,
                    known.timeline
                );
                if now.timeline > known.timeline {
                    tracing::warn!(
                        timeline = now.timeline,
                        before = known.timeline,
                        "another Postgres has become the primary"
                    );
                }
            }
            Some(known) => tracing::warn!(
                before = known.system,
                now = now.system,
                "database.url leads to another cluster than before (its system identifier differs)"
            ),
            None => {}
        }
        *last = Some(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::server::embedded::testing::TestDatabase;

    #[test]
    fn a_lower_timeline_of_a_cluster_is_a_former_primary() {
        let memory = ClusterMemory::default();
        let at = |system, timeline| ClusterState { system, timeline };
        for (state, is_accepted) in [
            (at(7, 1), true),
            (at(7, 1), true),
            (at(7, 3), true),
            (at(7, 2), false),
            (at(7, 3), true),
            // Another cluster begins anew.
            (at(8, 1), true),
            (at(8, 1), true),
        ] {
            assert_eq!(memory.accept(state).is_ok(), is_accepted, "{state:?}");
        }
    }

    #[tokio::test]
    async fn a_role_without_special_rights_can_tell_the_timeline() {
        let database = TestDatabase::empty().await;
        let name = database.config.get_dbname().unwrap_or_default();
        let role = format!("plain_{name}");
        let sql = format!("create role {role}; set role {role}");
        database.client.batch_execute(&sql).await.expect("a role");
        let state = ClusterState::read(&database.client).await;
        let state = state.expect("an answer").expect("a primary");
        assert_eq!(state.timeline, 1);
    }
}
