//! The loader: reads batches from the spool, derives their rows, and commits rows and position
//! together.
//!
//! It works in two stages: one thread prepares a batch ([`mod@prepare`]) while the sink works on
//! the one before it ([`session`]). It may be as slow as the sink is: what waits stays in the
//! spool. After any error the batches in hand are dropped. The truth is the position in the sink:
//! it is read again and loading goes on from there, so a batch is never loaded twice and never left
//! out. A batch is one transaction; while the loader is behind, batches are up to
//! [`session::BATCHES_WHEN_BEHIND`] times as large.

mod derive;
pub(crate) mod from_kafka;
mod instruction;
mod offline;
mod prepare;
mod progress;
mod session;
pub mod sink;
mod source;
mod start;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use spool::{Batch, Position, Spool};
use tokio::sync::watch;

use crate::clock::UnixMicros;
use crate::config::ClientIp;
use crate::enrich::Tables;
use crate::hit::Hit;
use crate::metrics::Metrics;
use from_kafka::Rebalanced;
pub use instruction::Instructions;
pub use offline::OfflineLoader;
pub use progress::{Floor, Progress};
use session::Stages;
use sink::kafka::Fenced;
pub(crate) use sink::kafka::client::check_client;
use sink::{PostgresSink, Reached, Sink};
pub(crate) use start::{FILE as KAFKA_START_FILE, StartFile};

/// The first and the longest pause after an error.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the loader works with.
pub struct Loader<S = PostgresSink> {
    /// The spools that it empties.
    pub spools: Vec<Spool>,
    /// What visitors ask for, which takes effect before their hits are loaded.
    pub instructions: Spool,
    /// Where batches go.
    pub sink: S,
    /// Places, networks and devices; exchanged on a reload.
    pub tables: Arc<ArcSwap<Tables>>,
    /// Hits of a batch.
    pub batch_rows: usize,
    /// How long it waits for more when there is little.
    pub batch_wait: Duration,
    /// What the sink gets of an address.
    pub client_ip: ClientIp,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// How far it is.
    pub progress: Arc<Progress>,
}

impl<S: Sink> Loader<S> {
    /// Loads until `stop` holds true; then once more as much as one batch holds.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        run(&self, &self.progress, stop).await;
    }
}

/// Loads until `stop` holds true; then once more as much as one batch holds.
async fn run<T: Stages>(stages: &T, progress: &Progress, mut stop: watch::Receiver<bool>) {
    let sink = <T::Sink as Sink>::NAME;
    let mut pause = PAUSE_MIN;
    let mut last = String::new();
    while !*stop.borrow() {
        let Err(error) = session::run(stages, &mut stop, &mut pause).await else {
            return;
        };
        if error.chain().any(|error| error.is::<Rebalanced>()) {
            tracing::info!("{error:#}");
            tokio::time::sleep(PAUSE_MIN).await;
            continue;
        }
        let reason = format!("{error:#}");
        stages.sink().count_error();
        if error.chain().any(|error| error.is::<Fenced>()) {
            progress.set_connected(false);
            progress.set_fenced();
            tracing::error!("no more hits go to {sink} from here: {reason}");
            return;
        }
        if progress.set_connected(false) || pause == PAUSE_MIN || reason != last {
            tracing::warn!("loading into {sink} stopped, hits wait: {reason}");
        }
        last = reason;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Returns when the first hit after a position was received: read from the spool itself, whatever
/// the loader and the sink do. Records that are no hits are skipped.
#[must_use]
pub(crate) fn oldest_after(spool: &Spool, position: Position) -> Option<UnixMicros> {
    /// Records that are looked at.
    const RECORDS_MAX: usize = 16;
    const BYTES_MAX: usize = 64 * 1024;
    let mut batch = Batch::default();
    let mut reader = spool.reader(position, 0);
    reader.read(&mut batch, RECORDS_MAX, BYTES_MAX).ok()?;
    let mut hits = batch
        .records()
        .filter_map(|(_, payload)| Hit::decode(payload).ok());
    hits.next().map(|hit| hit.received_at)
}

/// Returns where the reading of a spool begins, from how far the sink says it is loaded.
fn start_of(sink: &str, spool: &Spool, from: Option<Reached>) -> anyhow::Result<Position> {
    let start = from.map_or(Position::default(), |from| from.position);
    spool.check_start(start).map_err(|end| {
        anyhow::anyhow!(
            "{sink} has loaded the spool {} up to chunk {}, but it ended in chunk {} when it was opened: it was restored \
             from an older copy; with the chunks and the file id moved away a new spool would begin",
            spool.id(),
            start.chunk,
            end.chunk,
        )
    })?;
    Ok(start)
}

#[cfg(test)]
mod tests;
