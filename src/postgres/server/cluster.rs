//! Notices an old primary that comes back after its standby was promoted.
//!
//! A promotion begins a timeline whose number is higher than any before it in that cluster. So once
//! a collector has written to a timeline, a server of the same cluster with a lower one is the
//! former primary, which nobody stopped (or an old copy of the cluster): what is written there is
//! lost to whoever reads the new one. Such a server is passed over.
//!
//! What a collector has written to last is kept beside its spool, so that the next process knows it
//! as well. One that never saw the new timeline cannot know. Fencing is for whatever promotes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::ensure;
use tokio_postgres::Client;

use crate::whole;

/// The name of the file, which holds the two numbers of a [`ClusterState`] as text.
const FILE: &str = "cluster";

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

impl ClusterState {
    fn to_text(self) -> String {
        format!("{} {}\n", self.system, self.timeline)
    }

    fn parse(text: &str) -> Option<ClusterState> {
        let (system, timeline) = text.trim().split_once(' ')?;
        Some(ClusterState {
            system: system.parse().ok()?,
            timeline: timeline.parse().ok()?,
        })
    }
}

/// Who may write down which cluster was connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remembers {
    /// The collector, which owns the folder of its spool.
    Writes,
    /// A command, which may be run by another user.
    Reads,
}

/// The cluster that was connected to last, by this process or one before it.
#[derive(Debug, Default)]
pub(super) struct ClusterMemory {
    last: Mutex<Option<ClusterState>>,
    /// The folder of the spool, beside which it is kept.
    dir: Option<PathBuf>,
    is_written: bool,
}

impl ClusterMemory {
    /// Reads what the processes before this one wrote to. A file that cannot be read counts as
    /// absent, and the log says so: hits are worth more than what it would tell.
    pub(super) fn beside(dir: &Path, remembers: Remembers) -> ClusterMemory {
        let path = dir.join(FILE);
        let known = match std::fs::read_to_string(&path) {
            Ok(text) => {
                let known = ClusterState::parse(&text);
                if known.is_none() {
                    let path = path.display();
                    tracing::error!("{path} does not say which Postgres was written to last");
                }
                known
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "{} cannot be read", path.display());
                }
                None
            }
        };
        ClusterMemory {
            last: Mutex::new(known),
            dir: Some(dir.to_owned()),
            is_written: remembers == Remembers::Writes,
        }
    }

    /// Remembers a cluster.
    ///
    /// # Errors
    /// Where it is one that was left behind.
    pub(super) fn accept(&self, now: ClusterState) -> anyhow::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == Some(now) {
            return Ok(());
        }
        match *last {
            Some(known) if known.system == now.system => {
                ensure!(
                    now.timeline >= known.timeline,
                    "this Postgres is on timeline {}, and the collector has written to timeline {} of \
                     the same cluster: it is a former primary that runs although a standby took \
                     over, and must be stopped (or a copy that is older; if that is what you want, \
                     {})",
                    now.timeline,
                    known.timeline,
                    self.advice()
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
        self.write(now);
        Ok(())
    }

    /// What makes it forget, as the rest of a sentence.
    fn advice(&self) -> String {
        match &self.dir {
            Some(dir) => format!(
                "delete {} and start the collector again",
                dir.join(FILE).display()
            ),
            None => "restart the collector".to_owned(),
        }
    }

    /// Keeps it for the processes after this one. If that fails, only this one knows.
    fn write(&self, now: ClusterState) {
        let Some(dir) = self.dir.as_ref().filter(|_| self.is_written) else {
            return;
        };
        if let Err(error) = whole::write(dir, FILE, &now.to_text()) {
            let path = dir.join(FILE);
            tracing::error!(%error, "which Postgres was written to cannot be kept in {}", path.display());
        }
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

    #[test]
    fn what_one_process_wrote_to_the_next_one_knows() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |system, timeline| ClusterState { system, timeline };
        let collector = || ClusterMemory::beside(dir.path(), Remembers::Writes);
        let command = || ClusterMemory::beside(dir.path(), Remembers::Reads);
        // A command has nothing to say of what is not known.
        assert!(command().accept(at(-7, 9)).is_ok());
        assert!(collector().accept(at(-7, 2)).is_ok());
        for memory in [collector(), command()] {
            let error = memory.accept(at(-7, 1)).expect_err("a former primary");
            let file = dir.path().join(FILE).display().to_string();
            assert!(error.to_string().contains(&file), "{error}");
        }
        // A command changes nothing; a collector that was refused does not either.
        assert!(command().accept(at(-7, 4)).is_ok());
        assert!(collector().accept(at(-7, 3)).is_ok());
        assert!(collector().accept(at(-7, 2)).is_err());
        // Another cluster is accepted, as is any where the file was deleted or does not say.
        assert!(collector().accept(at(8, 1)).is_ok());
        for text in ["", "8", "8 x", "8 1 1", "\0\0\0", "99999999999999999999 1"] {
            std::fs::write(dir.path().join(FILE), text).expect("a file");
            assert!(command().accept(at(8, 0)).is_ok(), "{text:?}");
        }
        std::fs::remove_file(dir.path().join(FILE)).expect("a file");
        assert!(collector().accept(at(8, 0)).is_ok());
        // Where it cannot be kept, hits are loaded.
        let nowhere = dir.path().join("nowhere");
        let memory = ClusterMemory::beside(&nowhere, Remembers::Writes);
        assert!(memory.accept(at(8, 2)).is_ok() && memory.accept(at(8, 1)).is_err());
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
