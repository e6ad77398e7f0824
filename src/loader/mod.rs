//! The loader: reads batches from the spool, enriches them, and commits rows and position together.
//!
//! It works in two stages: one thread prepares a batch ([`mod@derive`]) while Postgres works on the one
//! before it. It may be as slow as Postgres is: what waits stays in the spool. After any error what is
//! under way is dropped and the truth is the position in Postgres; it is read anew and loading goes on
//! from there, so a batch is never loaded twice and never left out. A batch is one transaction; while
//! the loader is behind, batches are up to [`BATCHES_WHEN_BEHIND`] times as large.

mod derive;
mod instruction;
mod keys;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::clock::UnixMicros;
use crate::config::ClientIp;
use crate::enrich::Tables;
use crate::hit::Hit;
use crate::metrics::Metrics;
use crate::postgres;
use crate::postgres::batch::exposure;
use crate::postgres::batch::position::Progress as Progressed;
use crate::postgres::{CommitError, Database, Loaded, Payloads};
use derive::{Prepared, Preparer, Preparing};
pub use instruction::Instructions;
use instruction::Overtaking;
use spool::{Batch, Position, Spool};

/// How much larger a batch may be while the loader is behind.
const BATCHES_WHEN_BEHIND: usize = 4;
/// The first and the longest pause after an error.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the loader tells of itself, for metrics and readiness.
#[derive(Debug, Default)]
pub struct Progress {
    /// When the oldest hit that is not loaded was received; 0 when all are loaded.
    oldest_unloaded: AtomicI64,
    connected: AtomicBool,
    position: std::sync::Mutex<Position>,
}

impl Progress {
    /// The age of the oldest hit that is not loaded.
    #[must_use]
    pub fn oldest_unloaded(&self, now: UnixMicros) -> Duration {
        match self.oldest_unloaded.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            at => now.since(UnixMicros(at)),
        }
    }

    /// Whether Postgres took the last batch.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Up to where the spool is loaded.
    #[must_use]
    pub fn position(&self) -> Position {
        *self
            .position
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set_position(&self, position: Position) {
        *self
            .position
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = position;
    }
}

/// What the loader works with.
pub struct Loader {
    /// The spool that it empties.
    pub spool: Spool,
    /// What visitors ask for, which is known before their hits are loaded.
    pub instructions: Spool,
    /// The database that it fills.
    pub database: Arc<Database>,
    /// Places, networks and devices; exchanged on a reload.
    pub tables: Arc<ArcSwap<Tables>>,
    /// Hits of a batch.
    pub batch_rows: usize,
    /// How long it waits for more when there is little.
    pub batch_wait: Duration,
    /// What Postgres gets of an address.
    pub client_ip: ClientIp,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// What it tells of itself.
    pub progress: Arc<Progress>,
}

impl Loader {
    /// Loads until `stop` holds true; then once more what one batch allows.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        while !*stop.borrow() {
            let Err(error) = self.session(&mut stop, &mut pause).await else {
                return;
            };
            if self.progress.connected.swap(false, Ordering::Relaxed) || pause == PAUSE_MIN {
                tracing::warn!("loading stopped, hits wait in the spool: {error:#}");
            }
            self.metrics.postgres_errors.increment(1);
            self.note_oldest();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Where Postgres is not there, the age of the backlog is still to be seen.
    fn note_oldest(&self) {
        if self.progress.oldest_unloaded.load(Ordering::Relaxed) != 0 {
            return;
        }
        let mut batch = Batch::default();
        let mut reader = self.spool.reader(self.progress.position(), 0);
        if reader.read(&mut batch, 1, 1).is_ok() {
            let first = batch
                .records()
                .find_map(|(_, payload)| Hit::decode(payload).ok());
            self.note_first(first.map(|hit| hit.received_at));
        }
    }

    fn note_first(&self, received_at: Option<UnixMicros>) {
        let at = received_at.map_or(0, |at| at.0);
        self.progress.oldest_unloaded.store(at, Ordering::Relaxed);
    }

    /// Loads over one connection, with another for exposures; an error ends both.
    async fn session(
        &self,
        stop: &mut watch::Receiver<bool>,
        pause: &mut Duration,
    ) -> anyhow::Result<()> {
        let mut client = self.database.connect().await?;
        self.metrics.postgres_connects.increment(1);
        let beside = self.database.connect().await?;
        self.metrics.postgres_connects.increment(1);
        exposure::set_up(&beside).await?;
        let mut overtaking = Overtaking::new(&self.instructions, &client).await?;
        let mut preparing = self.begin(&client).await?;
        // Whether the batch that is asked for is to be the last: then it holds what was there at the stop.
        let mut is_last = *stop.borrow();
        preparing.ask(self.batch_rows);
        let mut prepared = upcoming(&mut preparing, &beside).await?;
        loop {
            let ends = is_last;
            let is_behind = prepared.is_full && !ends;
            if is_behind {
                is_last = *stop.borrow();
                preparing.ask(self.batch_rows * BATCHES_WHEN_BEHIND);
            }
            let load = self.load(&mut client, &mut overtaking, &mut prepared);
            let next = async {
                match is_behind {
                    true => upcoming(&mut preparing, &beside).await.map(Some),
                    false => Ok(None),
                }
            };
            let ((), next) = tokio::try_join!(load, next)?;
            *pause = PAUSE_MIN;
            if ends {
                return Ok(exposure::add_up(&beside).await?);
            }
            let loaded = match next {
                Some(mut next) => {
                    next.load.follow(&prepared.load);
                    std::mem::replace(&mut prepared, next)
                }
                None => {
                    self.progress.oldest_unloaded.store(0, Ordering::Relaxed);
                    tokio::select! {
                        () = tokio::time::sleep(self.batch_wait) => {}
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                    if client.is_closed() {
                        anyhow::bail!("the connection to Postgres was lost");
                    }
                    is_last = *stop.borrow();
                    preparing.ask(self.batch_rows);
                    let next = upcoming(&mut preparing, &beside).await?;
                    std::mem::replace(&mut prepared, next)
                }
            };
            preparing.take_back(loaded);
        }
    }

    /// Starts the first stage from where Postgres is.
    async fn begin(&self, client: &Client) -> anyhow::Result<Preparing> {
        let spool_id = self.spool.id().0;
        let from = postgres::batch::position::read(client, spool_id)
            .await
            .context("reading the position")?;
        let start = start_of(&self.spool, from)?;
        self.progress.set_position(start);
        // What was loaded after that is to be loaded again, if the database was restored from a backup.
        self.spool.release(start).context("releasing chunks")?;
        let preparer = Preparer {
            reader: self
                .spool
                .reader(start, from.map_or(0, |from| from.records)),
            spool_id,
            from,
            tables: Arc::clone(&self.tables),
            client_ip: self.client_ip,
            metrics: Arc::clone(&self.metrics),
        };
        preparer.start()
    }

    async fn load(
        &self,
        client: &mut Client,
        overtaking: &mut Overtaking,
        prepared: &mut Prepared,
    ) -> anyhow::Result<()> {
        overtaking.take(client).await?;
        if prepared.is_some() {
            if !prepared.batch.is_empty() {
                self.note_first(prepared.first_received_at);
            }
            let (batch, load) = (&prepared.batch, &mut prepared.load);
            let payloads = Payloads {
                bytes: batch.payloads(),
                keep: &|payload| derive::keep(payload, self.client_ip),
            };
            let loaded = match postgres::commit(client, load, payloads).await {
                Ok(loaded) => loaded,
                Err(CommitError::Moved) => {
                    anyhow::bail!("another loader has moved the position on")
                }
                Err(error) => return Err(error.into()),
            };
            self.count(&loaded, prepared);
            self.progress.set_position(prepared.batch.end);
            if let Err(error) = self.spool.release(prepared.batch.end) {
                tracing::error!(%error, "a loaded chunk cannot be deleted");
            }
        }
        self.progress.connected.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn count(&self, loaded: &Loaded, prepared: &Prepared) {
        let metrics = &self.metrics;
        let damage = prepared.batch.damage;
        if damage.is_some() {
            tracing::error!(
                regions = damage.regions,
                bytes = damage.bytes,
                gaps = damage.missing,
                records = damage.records,
                "the spool is damaged or chunks of it are gone; what is sound is loaded"
            );
            metrics.spool_damage_bytes.increment(damage.bytes);
            metrics.spool_lost_records.increment(damage.records);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch holds far fewer than 2^52 hits"
        )]
        metrics.batch_rows.record(prepared.batch.len() as f64);
        metrics
            .batch_seconds
            .record(prepared.begun.elapsed().as_secs_f64());
        metrics.rows.increment(loaded.rows);
        metrics.flags(prepared.load.rows.flags());
        metrics.counted.increment(loaded.counted);
        metrics.repeated.increment(loaded.repeated);
        metrics.suppressed.increment(loaded.suppressed);
        metrics.rejected_by_postgres.increment(loaded.refused);
        metrics
            .rejected_by_loader
            .increment(loaded.rejected - loaded.refused);
        if loaded.rejected > 0 {
            tracing::warn!(
                hits = loaded.rejected,
                "hits were set aside in avtryck.rejected_hit"
            );
        }
    }
}

/// The batch that was asked for, with what is known of whom its ads were shown to. Meanwhile what the batches
/// before it added is added up.
async fn upcoming(preparing: &mut Preparing, beside: &Client) -> anyhow::Result<Prepared> {
    exposure::add_up(beside)
        .await
        .context("adding up exposures")?;
    let mut prepared = preparing.next().await?;
    prepared
        .load
        .look_up(beside)
        .await
        .context("looking up exposures")?;
    Ok(prepared)
}

/// Where the reading of a spool begins, from what Postgres says of it.
fn start_of(spool: &Spool, from: Option<Progressed>) -> anyhow::Result<Position> {
    let start = from.map_or(Position::default(), |from| into_spool(from.position));
    spool.check_start(start).map_err(|end| {
        anyhow::anyhow!(
            "Postgres has loaded the spool {} up to chunk {}, but it ended in chunk {} when it was opened: it was restored \
             from an older copy; with the chunks and the file id moved away a new spool would begin",
            spool.id(),
            start.chunk,
            end.chunk,
        )
    })?;
    Ok(start)
}

fn into_spool(position: postgres::Position) -> Position {
    Position {
        chunk: position.0,
        offset: position.1,
    }
}

fn into_postgres(position: Position) -> postgres::Position {
    (position.chunk, position.offset)
}

#[cfg(test)]
mod tests;
