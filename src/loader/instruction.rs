//! Carries out what visitors ask for: withdrawals and erasures, from the spool of instructions.
//!
//! That spool is read twice. [`Overtaking`] is the loader's: before each batch of hits it has the
//! sink suppress the visitors of new instructions, so that no hit that waited is loaded after its
//! visitor got the reply. [`Instructions`] works beside the loader over a connection of its own: it
//! erases, which may take long, and moves the spool's position. Each works as if the other did not
//! exist, because everything here may be done twice.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_postgres::Client;

use super::sink::{PostgresSink, Reached, Sink as _, Span, Writer};
use super::sink::{into_postgres, into_reached, suppress};
use super::{PAUSE_MAX, PAUSE_MIN, Progress, start_of};
use crate::hit::subject::Subject;
use crate::hit::{Hit, Kind, VisitorId};
use crate::metrics::Metrics;
use crate::postgres::batch::position;
use crate::postgres::server::silence::LONG_SILENCE_MAX;
use crate::postgres::{Database, SilenceWatch, subject};
use spool::{Batch, Position, Reader, Spool};

/// Instructions that are handed to the sink at one time.
const OVERTAKING_MAX: usize = 1000;
/// Instructions between two moves of the position: as many are done again after a crash.
const CARRIED_OUT_MAX: usize = 100;
/// Their payload, in bytes: far more than that many take.
const BYTES_MAX: usize = 1 << 20;

/// The loader's look ahead at the instructions.
pub(super) struct Overtaking {
    spool_id: [u8; 16],
    from: Option<Reached>,
    reader: Reader,
    batch: Batch,
}

impl Overtaking {
    /// Begins where the sink is.
    pub(super) async fn new(
        sink: &str,
        spool: &Spool,
        writer: &impl Writer,
    ) -> anyhow::Result<Overtaking> {
        let from = writer.position(spool.id().0).await;
        let from = from.context("reading the position of the instructions")?;
        let reader = reader(sink, spool, from)?;
        Ok(Overtaking {
            spool_id: spool.id().0,
            from,
            reader,
            batch: Batch::default(),
        })
    }

    /// Suppresses the visitors whom the instructions since the last call name.
    pub(super) async fn suppress_new(&mut self, writer: &mut impl Writer) -> anyhow::Result<()> {
        loop {
            read(&mut self.reader, &mut self.batch, OVERTAKING_MAX)?;
            if self.batch.is_empty() {
                return Ok(());
            }
            let span = Span {
                spool_id: self.spool_id,
                from: self.from.map(|from| from.position),
                to: Reached {
                    position: self.batch.end,
                    records: self.batch.end_records,
                },
            };
            writer.suppress(&instructions(&self.batch), &span).await?;
            self.from = Some(span.to);
        }
    }

    /// Returns how far it is.
    pub(super) fn position(&self) -> Position {
        self.from.unwrap_or_default().position
    }
}

/// Carries out the instructions of a spool.
pub struct Instructions {
    /// The spool that is emptied.
    pub spool: Spool,
    /// The database.
    pub database: Arc<Database>,
    /// How long it waits for more.
    pub wait: Duration,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// Up to where instructions are carried out.
    pub progress: Arc<Progress>,
}

impl Instructions {
    /// Carries out what comes until `stop` holds true. What is not finished then begins again at
    /// the next start.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        let work = async {
            loop {
                let Err(error) = self.session(&mut pause).await;
                if pause == PAUSE_MIN {
                    tracing::warn!(
                        "withdrawals are kept, and erasures wait in the spool: {error:#}"
                    );
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Works over one connection until an error ends it.
    async fn session(&self, pause: &mut Duration) -> anyhow::Result<std::convert::Infallible> {
        let (mut client, watch) = SilenceWatch::connect(&self.database, LONG_SILENCE_MAX).await?;
        self.metrics.postgres_connects.increment(1);
        let id = self.spool.id().0;
        let read_position = async { Ok(position::read(&client, id).await?) };
        let from = watch.watch(read_position).await;
        let from = from.context("reading the position of the instructions")?;
        let mut from = from.map(into_reached);
        self.progress.set_start(0, from);
        let mut reader = reader(PostgresSink::NAME, &self.spool, from)?;
        let mut batch = Batch::default();
        loop {
            let start = start_of(PostgresSink::NAME, &self.spool, from)?;
            self.progress.set_position(0, start);
            if let Err(error) = self.spool.release(self.progress.releasable(0)) {
                tracing::error!(%error, "a chunk of instructions that were carried out cannot be deleted");
            }
            read(&mut reader, &mut batch, CARRIED_OUT_MAX)?;
            self.metrics
                .spool_lost_records
                .increment(batch.damage.records);
            if batch.end == start {
                *pause = PAUSE_MIN;
                tokio::time::sleep(self.wait).await;
                anyhow::ensure!(!client.is_closed(), "the connection to Postgres was lost");
                continue;
            }
            let to = Reached {
                position: batch.end,
                records: batch.end_records,
            };
            let place = from.map(|from| into_postgres(from).position);
            let carry_out = async {
                let erased = self.carry_out(&mut client, &batch).await?;
                subject::finish(&mut client, id, place, into_postgres(to), &erased).await
            };
            watch.watch(carry_out).await?;
            from = Some(to);
        }
    }

    async fn carry_out(
        &self,
        client: &mut Client,
        batch: &Batch,
    ) -> anyhow::Result<Vec<(VisitorId, subject::Removed)>> {
        let instructions = instructions(batch);
        suppress(client, &instructions).await?;
        let mut erased: Vec<(VisitorId, subject::Removed)> = Vec::new();
        for (visitor, kind) in instructions {
            // The second request of one batch: nothing was loaded since the first.
            let is_done = erased.iter().any(|(done, _)| *done == visitor);
            if kind == Kind::Erasure && !is_done {
                let subject = Subject::Visitor(visitor);
                let removed = Box::pin(subject::remove(client, &subject)).await?;
                erased.push((visitor, removed));
            }
        }
        Ok(erased)
    }
}

fn reader(sink: &str, spool: &Spool, from: Option<Reached>) -> anyhow::Result<Reader> {
    let start = start_of(sink, spool, from)?;
    Ok(spool.reader(start, from.map_or(0, |from| from.records)))
}

fn read(reader: &mut Reader, batch: &mut Batch, instructions_max: usize) -> anyhow::Result<()> {
    reader
        .read(batch, instructions_max, BYTES_MAX)
        .context("reading the spool of instructions")?;
    let damage = batch.damage;
    if damage.is_some() {
        tracing::error!(
            regions = damage.regions,
            bytes = damage.bytes,
            gaps = damage.missing,
            records = damage.records,
            "the spool of instructions is damaged or chunks of it are gone: visitors who withdrew or asked to be erased \
             are unknown"
        );
    }
    Ok(())
}

/// Returns who asks for what. A record that is not an instruction is logged and skipped: it names
/// nobody.
fn instructions(batch: &Batch) -> Vec<(VisitorId, Kind)> {
    let mut instructions = Vec::with_capacity(batch.len());
    for (position, payload) in batch.records() {
        match Hit::decode(payload) {
            Ok(Hit {
                kind,
                visitor: Some(visitor),
                ..
            }) if kind.is_instruction() => instructions.push((visitor, kind)),
            _ => tracing::error!(
                ?position,
                "a record in the spool of instructions is not one"
            ),
        }
    }
    instructions
}

#[cfg(test)]
mod tests;
