//! The second stage: hands prepared batches to the sink, one after the other, until an error.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;

use super::instruction::Overtaking;
use super::prepare::{Prepared, Preparer, Preparing};
use super::sink::{Committed, Companion, Sink, SinkBatch, Writer};
use super::source::{Source, Sources};
use super::{Loader, PAUSE_MIN, derive, start_of};
use crate::clock;
use crate::metrics::Metrics;
use crate::metrics::shown::Fate;

/// How much larger a batch may be while the loader is behind.
pub(super) const BATCHES_WHEN_BEHIND: usize = 4;

/// What the two stages work with: where batches are from, and where they go.
pub(super) trait Stages {
    /// Where batches go.
    type Sink: Sink;
    /// Looks ahead at the instructions.
    type Ahead;

    /// Returns the sink.
    fn sink(&self) -> &Self::Sink;

    /// Returns the hits of a batch, and how long the loader waits for more when there is little.
    fn pace(&self) -> (usize, Duration);

    /// Begins to look ahead at the instructions from where the sink is.
    async fn overtake(&self, writer: &WriterOf<Self>) -> anyhow::Result<Self::Ahead>;

    /// Starts the first stage from where the sink is.
    async fn begin(&self, writer: &WriterOf<Self>) -> anyhow::Result<Preparing<BatchOf<Self>>>;

    /// Commits a batch, once the instructions so far have taken effect.
    async fn load(
        &self,
        writer: &mut WriterOf<Self>,
        ahead: &mut Self::Ahead,
        prepared: &mut Prepared<BatchOf<Self>>,
    ) -> anyhow::Result<()>;
}

type WriterOf<T> = <<T as Stages>::Sink as Sink>::Writer;
type BatchOf<T> = <<T as Stages>::Sink as Sink>::Batch;

/// Loads over one connection to the sink; an error ends it.
pub(super) async fn run<T: Stages>(
    stages: &T,
    stop: &mut watch::Receiver<bool>,
    pause: &mut Duration,
) -> anyhow::Result<()> {
    let (mut writer, companion) = stages.sink().open().await?;
    let mut ahead = stages.overtake(&writer).await?;
    let mut preparing = stages.begin(&writer).await?;
    let (batch_rows, batch_wait) = stages.pace();
    // The last batch is asked for after the stop, so it holds what was there at the stop.
    let mut is_last = *stop.borrow();
    preparing.ask(batch_rows);
    let mut prepared = next_batch(&mut preparing, &companion).await?;
    loop {
        let ends = is_last;
        let is_behind = prepared.is_full && !ends;
        if is_behind {
            is_last = *stop.borrow();
            preparing.ask(batch_rows * BATCHES_WHEN_BEHIND);
        }
        let load = stages.load(&mut writer, &mut ahead, &mut prepared);
        let next = async {
            match is_behind {
                true => next_batch(&mut preparing, &companion).await.map(Some),
                false => Ok(None),
            }
        };
        let ((), next) = tokio::try_join!(load, next)?;
        *pause = PAUSE_MIN;
        if ends {
            return companion.settle(true).await;
        }
        let loaded = match next {
            Some(mut next) => {
                next.load.follow(&prepared.load);
                std::mem::replace(&mut prepared, next)
            }
            None => {
                tokio::select! {
                    () = tokio::time::sleep(batch_wait) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
                writer.check()?;
                is_last = *stop.borrow();
                preparing.ask(batch_rows);
                let next = next_batch(&mut preparing, &companion).await?;
                std::mem::replace(&mut prepared, next)
            }
        };
        preparing.take_back(loaded);
    }
}

impl<S: Sink> Stages for Loader<S> {
    type Sink = S;
    type Ahead = Overtaking;

    fn sink(&self) -> &S {
        &self.sink
    }

    fn pace(&self) -> (usize, Duration) {
        (self.batch_rows, self.batch_wait)
    }

    async fn overtake(&self, writer: &S::Writer) -> anyhow::Result<Overtaking> {
        let overtaking = Overtaking::new(S::NAME, &self.instructions, writer).await?;
        self.progress
            .set_position(self.spools.len(), overtaking.position());
        Ok(overtaking)
    }

    async fn begin(&self, writer: &S::Writer) -> anyhow::Result<Preparing<S::Batch>> {
        let mut sources = Vec::with_capacity(self.spools.len());
        for (index, spool) in self.spools.iter().enumerate() {
            let position = writer.position(spool.id().0).await;
            let from = position.context("reading the position")?;
            let start = start_of(S::NAME, spool, from)?;
            self.progress.set_start(index, from);
            self.progress.set_position(index, start);
            // The chunks after that are loaded again if the database was restored from a backup.
            let end = self.progress.releasable(index);
            spool.release(end).context("releasing chunks")?;
            sources.push(Source::new(spool, start, from));
        }
        let preparer = Preparer {
            feed: Sources::new(sources),
            tables: Arc::clone(&self.tables),
            client_ip: self.client_ip,
            metrics: Arc::clone(&self.metrics),
            encoder: self.sink.encoder(writer),
        };
        preparer.start()
    }

    async fn load(
        &self,
        writer: &mut S::Writer,
        overtaking: &mut Overtaking,
        prepared: &mut Prepared<S::Batch>,
    ) -> anyhow::Result<()> {
        overtaking.suppress_new(writer).await?;
        let overtaken = overtaking.position();
        self.progress.set_position(self.spools.len(), overtaken);
        if prepared.moves_position() {
            let (batch, load) = (&prepared.batch, &mut prepared.load);
            let client_ip = self.client_ip;
            let keep = |payload: &[u8]| derive::keep(payload, client_ip);
            let committed = writer.commit(load, batch.payloads(), &keep).await?;
            count(&self.metrics, &committed, prepared);
            self.tell_fates(&committed, prepared);
            for (index, (spool, span)) in self.spools.iter().zip(&prepared.spans).enumerate() {
                self.progress.set_position(index, span.to.position);
                if let Err(error) = spool.release(self.progress.releasable(index)) {
                    tracing::error!(%error, "a loaded chunk cannot be deleted");
                }
            }
        }
        if !self.progress.set_connected(true) {
            tracing::info!("loading hits into {}", S::NAME);
        }
        Ok(())
    }
}

impl<S: Sink> Loader<S> {
    /// Says what became of those hits of a committed batch that the live view shows.
    fn tell_fates(&self, committed: &Committed, prepared: &Prepared<S::Batch>) {
        let shown = &self.metrics.shown;
        if !shown.is_awaited() {
            return;
        }
        for (index, (position, payload)) in prepared.batch.ranges().enumerate() {
            let number = shown.number(prepared.batch.payload(payload));
            shown.settle(number, || {
                let spool = prepared.origins.get(index).copied().unwrap_or_default();
                let fate = prepared.load.fate(spool, position)?;
                // Of a visitor who withdrew since, nothing is said.
                let is_unsaid = fate == Fate::Repeated && committed.suppressed > 0;
                (!is_unsaid).then_some(fate)
            });
        }
    }
}

/// Counts what became of a batch.
pub(super) fn count<B: SinkBatch>(
    metrics: &Metrics,
    committed: &Committed,
    prepared: &Prepared<B>,
) {
    let damage = prepared.damage;
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
        .record(clock::time_since(prepared.begun).as_secs_f64());
    metrics.rows.increment(committed.rows);
    metrics.flags(prepared.load.row_flags());
    metrics.counted.increment(committed.counted);
    metrics.repeated.increment(committed.repeated);
    metrics.suppressed.increment(committed.suppressed);
    metrics
        .dimensions_refused
        .increment(committed.refused_dimensions);
    metrics.rejected_by_postgres.increment(committed.refused);
    metrics
        .rejected_by_loader
        .increment(committed.rejected - committed.refused);
    if committed.rejected > 0 {
        tracing::warn!(
            hits = committed.rejected,
            "hits were set aside in avtryck.rejected_hit"
        );
    }
}

/// Returns the batch that was asked for, once its companion has made it ready. While it is
/// prepared, the companion settles what the batches before it left.
pub(super) async fn next_batch<B>(
    preparing: &mut Preparing<B>,
    companion: &impl Companion<Batch = B>,
) -> anyhow::Result<Prepared<B>> {
    companion.settle(false).await?;
    let mut prepared = preparing.next().await?;
    companion.make_ready(&mut prepared.load).await?;
    Ok(prepared)
}
