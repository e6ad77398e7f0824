//! Notices a Postgres that stopped answering: a backend that stands still, or a proxy that takes
//! everything and says nothing. TCP sees neither.
//!
//! Whoever waits for an answer waits within [`SilenceWatch::watch`]. Each byte that moves on the
//! connection is a sign of life ([`Pulse`]). Without one for two thirds of the time, Postgres is
//! asked about the backend over another connection:
//!
//! | found | then |
//! | --- | --- |
//! | the backend works, and what it waits for or how far its COPY is changes | it lives |
//! | it waits for its disk | it lives, for [`DISK_TIME_MAX`] |
//! | nothing changes, it is not at work, it is gone, or there is no answer | it is silent |
//!
//! So a large COPY to a slow disk goes on, and silence ends after the whole time. A statement that
//! waits for a lock ends too: it is tried again, and the error names who holds the lock. The
//! statement is cancelled, in case the backend lives after all.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio_postgres::{CancelToken, Client};

use super::connect::{Connected, open};
use super::database::Database;
use super::servers::OneServer;
use crate::clock;

/// How long Postgres may be silent while a batch waits for it.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long it may be silent while something waits that is not a batch: one delete of an erasure or
/// of a job.
pub(crate) const LONG_SILENCE_MAX: Duration = Duration::from_mins(10);
/// How long a statement may wait for the disk of Postgres without any other sign.
const DISK_TIME_MAX: Duration = Duration::from_mins(10);
/// How long a statement takes to be cancelled.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(5);
/// Looks at the backend before it counts as silent.
const LOOKS: u32 = 10;

/// When something moved on a connection last.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    pub(super) fn new() -> Pulse {
        Pulse(Arc::new(Mutex::new(clock::monotonic())))
    }

    /// Notes that something moves now.
    pub(super) fn beat(&self) -> Instant {
        let now = clock::monotonic();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
        now
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches one connection.
pub(crate) struct SilenceWatch {
    /// The server: another one would know nothing of the backend.
    server: OneServer,
    pulse: Pulse,
    /// The process that serves the connection.
    backend: i32,
    cancel: CancelToken,
    silence_max: Duration,
}

impl SilenceWatch {
    /// Connects as [`Database::connect`] does, and returns with the connection what watches it.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn connect(
        database: &Arc<Database>,
        silence_max: Duration,
    ) -> anyhow::Result<(Client, SilenceWatch)> {
        let Connected {
            client,
            pulse,
            server,
        } = database.open().await?;
        let ask = client.query_one("select pg_backend_pid()", &[]);
        let row = tokio::time::timeout(silence_max, ask)
            .await
            .context("Postgres does not answer on a new connection")??;
        let watch = SilenceWatch {
            server,
            pulse,
            backend: row.try_get(0)?,
            cancel: client.cancel_token(),
            silence_max,
        };
        Ok((client, watch))
    }

    /// Waits for work on the connection, as long as Postgres shows signs of life.
    ///
    /// # Errors
    /// If the work fails, or Postgres is silent. The connection must not be used any more then.
    pub(crate) async fn watch<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut work = pin!(work);
        let mut alive_at = self.pulse.beat();
        loop {
            let quiet = self.silence_max * 2 / 3;
            let until = tokio::time::Instant::from_std(alive_at + quiet);
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep_until(until) => {}
            }
            let moved_at = self.pulse.last();
            if moved_at > alive_at {
                alive_at = moved_at;
                continue;
            }
            let mut seen = "nor over another connection".to_owned();
            let look = tokio::time::timeout(
                self.silence_max.saturating_sub(quiet),
                self.look_for_life(&mut seen, moved_at),
            );
            let is_alive = tokio::select! {
                biased;
                done = &mut work => return done,
                is_alive = look => matches!(is_alive, Ok(Ok(true))),
            };
            if !is_alive && self.pulse.last() == moved_at {
                self.cancel_statement();
                let seconds = self.silence_max.as_secs_f64();
                bail!("Postgres has not answered for {seconds} s, {seen}");
            }
            alive_at = clock::monotonic();
        }
    }

    /// Looks at the backend until there is a sign of life (true), or it is known to be gone.
    /// `seen` says what there was to see.
    async fn look_for_life(&self, seen: &mut String, moved_at: Instant) -> anyhow::Result<bool> {
        let pause = self.silence_max / 3 / LOOKS;
        let client = loop {
            match open(&self.server).await {
                Ok((client, _)) => break client,
                Err(error) => *seen = format!("nor over another connection: {error:#}"),
            }
            tokio::time::sleep(pause).await;
        };
        let mut before: Option<String> = None;
        loop {
            let row = client
                .query_opt(include_str!("backend.sql"), &[&self.backend])
                .await?;
            let Some(row) = row else {
                "and its process is gone".clone_into(seen);
                return Ok(false);
            };
            let [state, waits_for, progress, holders]: [String; 4] = [
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
            ];
            *seen = format!("its process {} is {state}", self.backend);
            if !waits_for.is_empty() {
                seen.push_str(&format!(", waits for {waits_for}"));
            }
            if !holders.is_empty() {
                seen.push_str(&format!(", held up by {holders}"));
            }
            if state == "active" {
                let waits_for_disk = waits_for.starts_with("IO:");
                if waits_for_disk && clock::time_since(moved_at) < DISK_TIME_MAX {
                    return Ok(true);
                }
                let now = format!("{waits_for} {progress}");
                if before
                    .replace(now.clone())
                    .is_some_and(|before| before != now)
                {
                    return Ok(true);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn cancel_statement(&self) {
        let cancel = self.cancel.clone();
        let wrap = self.server.wrap.clone();
        tokio::spawn(async move {
            let cancelled = tokio::time::timeout(CANCEL_TIME_MAX, cancel.cancel_query(wrap)).await;
            if !matches!(cancelled, Ok(Ok(()))) {
                tracing::debug!("a statement could not be cancelled");
            }
        });
    }
}
