//! Carries out what visitors ask for: withdrawals and erasures, from the spool of instructions.
//!
//! That spool is read twice. [`Overtaking`] is the loader's: before each batch of hits it puts the IDs of
//! what is new there on the list of suppression, so that no hit which waited is loaded behind the reply
//! that its visitor got. [`Instructions`] works beside the loader over a connection of its own: it
//! erases, which may take long, and moves the spool's position on. Each does what it finds as if the
//! other were not there, for everything here may be done twice.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_postgres::Client;

use super::{PAUSE_MAX, PAUSE_MIN, Progress, into_postgres, start_of};
use crate::hit::subject::Subject;
use crate::hit::{Hit, Kind, VisitorId};
use crate::metrics::Metrics;
use crate::postgres::Database;
use crate::postgres::batch::position;
use crate::postgres::batch::position::Progress as Progressed;
use crate::postgres::subject;
use crate::postgres::subject::suppression;
use crate::postgres::subject::suppression::Reason;
use spool::{Batch, Reader, Spool};

/// Instructions that go on the list at one time.
const OVERTAKING_MAX: usize = 1000;
/// Instructions between two moves of the position: what a crash makes to be done again.
const CARRIED_OUT_MAX: usize = 100;
/// Their payload, in bytes: far more than so many take.
const BYTES_MAX: usize = 1 << 20;

/// The loader's look ahead at the instructions.
pub(super) struct Overtaking {
    reader: Reader,
    batch: Batch,
}

impl Overtaking {
    /// Begins where Postgres is.
    pub(super) async fn new(spool: &Spool, client: &Client) -> anyhow::Result<Overtaking> {
        let (_, reader) = reader(spool, client).await?;
        Ok(Overtaking {
            reader,
            batch: Batch::default(),
        })
    }

    /// Puts on the list whom the instructions name that were kept since the last call.
    pub(super) async fn take(&mut self, client: &mut Client) -> anyhow::Result<()> {
        loop {
            read(&mut self.reader, &mut self.batch, OVERTAKING_MAX)?;
            if self.batch.is_empty() {
                return Ok(());
            }
            suppress(client, &instructions(&self.batch)).await?;
        }
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
    /// Carries out what comes until `stop` holds true. What is under way then is begun again at the next
    /// start.
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
        let mut client = self.database.connect().await?;
        self.metrics.postgres_connects.increment(1);
        let (mut from, mut reader) = reader(&self.spool, &client).await?;
        let mut batch = Batch::default();
        loop {
            let start = start_of(&self.spool, from)?;
            self.progress.set_position(start);
            if let Err(error) = self.spool.release(start) {
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
            let to = Progressed {
                position: into_postgres(batch.end),
                records: batch.end_records,
            };
            let erased = self.carry_out(&mut client, &batch).await?;
            let id = self.spool.id().0;
            subject::finish(&mut client, id, from.map(|from| from.position), to, &erased).await?;
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
            // Asked for again in one batch: nothing new was loaded in between.
            let is_done = erased.iter().any(|(done, _)| *done == visitor);
            if kind == Kind::Erasure && !is_done {
                let removed = subject::remove(client, &Subject::Visitor(visitor)).await?;
                erased.push((visitor, removed));
            }
        }
        Ok(erased)
    }
}

async fn reader(spool: &Spool, client: &Client) -> anyhow::Result<(Option<Progressed>, Reader)> {
    let from = position::read(client, spool.id().0)
        .await
        .context("reading the position of the instructions")?;
    let start = start_of(spool, from)?;
    let reader = spool.reader(start, from.map_or(0, |from| from.records));
    Ok((from, reader))
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

/// Who asks for what. A record that is none of ours is logged and passed over: nobody can be named by it.
fn instructions(batch: &Batch) -> Vec<(VisitorId, Kind)> {
    let mut instructions = Vec::with_capacity(batch.len());
    for (position, payload) in batch.records() {
        match Hit::decode(payload) {
            Ok(Hit {
                kind,
                visitor: Some(visitor),
                ..
            }) if kind.is_instruction() => instructions.push((visitor, kind)),
            _ => tracing::error!(?position, "a record among the instructions is none"),
        }
    }
    instructions
}

async fn suppress(client: &mut Client, instructions: &[(VisitorId, Kind)]) -> anyhow::Result<()> {
    let entry = |(visitor, kind): &(VisitorId, Kind)| {
        let reason = match kind {
            Kind::Erasure => Reason::Erasure,
            _ => Reason::Withdrawal,
        };
        (Subject::Visitor(*visitor), reason)
    };
    let entries: Vec<_> = instructions.iter().map(entry).collect();
    suppression::add(client, &entries)
        .await
        .context("adding to the list of suppression")
}

#[cfg(test)]
mod tests;
