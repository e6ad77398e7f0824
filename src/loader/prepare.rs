//! The first stage: reads a batch, decodes its hits, and has what is derived from them encoded.
//!
//! It runs on a thread of its own, asked for one batch at a time, so that the sink works on one
//! batch while the next is made. What passes between the stages is [`Prepared`]; two of them go
//! round.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustix::process::setpriority_process;
use spool::{Batch, Damage};
use tokio::sync::mpsc as async_mpsc;

use super::derive::Deriver;
use super::sink::{Encoder, Span, SpoolRecord};
use super::source::Sources;
use crate::clock;
use crate::config::ClientIp;
use crate::enrich::{DeviceBudget, Tables};
use crate::hit::Hit;
use crate::metrics::Metrics;
use crate::postgres::server::NICE;

/// A batch on its way to the sink.
pub(super) struct Prepared<B> {
    /// What was read, in the order in which it is loaded.
    pub(super) batch: Batch,
    /// What of it is of which spool.
    pub(super) spans: Vec<Span>,
    /// What was passed over on the way.
    pub(super) damage: Damage,
    /// What was derived from it.
    pub(super) load: B,
    /// Whether there was more to read than a batch may hold.
    pub(super) is_full: bool,
    /// When its reading began.
    pub(super) begun: Instant,
    /// The spool of each record.
    pub(super) origins: Vec<usize>,
}

impl<B> Prepared<B> {
    pub(super) fn new(load: B) -> Prepared<B> {
        Prepared {
            batch: Batch::default(),
            spans: Vec::new(),
            damage: Damage::default(),
            load,
            is_full: false,
            begun: clock::monotonic(),
            origins: Vec::new(),
        }
    }

    /// Returns whether it moves a position.
    pub(super) fn moves_position(&self) -> bool {
        self.spans.iter().any(Span::moves)
    }
}

/// Where the first stage reads batches.
pub(super) trait Feed<E: Encoder>: Send + 'static {
    /// Reads about as many records as a batch may hold.
    fn read(&mut self, into: &mut Prepared<E::Batch>, rows_max: usize) -> anyhow::Result<()>;

    /// Adds what a record says to a batch: that of a spool is a hit.
    ///
    /// # Errors
    /// The reason to reject it.
    fn derive(
        &mut self,
        deriver: &mut Deriver<'_>,
        payload: &[u8],
        record: &SpoolRecord,
        to: (&mut E, &mut E::Batch),
    ) -> Result<(), String> {
        let hit = Hit::decode(payload).map_err(|error| error.to_string())?;
        deriver.derive(&hit, record, to).map_err(str::to_owned)
    }
}

impl<E: Encoder> Feed<E> for Sources {
    fn read(&mut self, into: &mut Prepared<E::Batch>, rows_max: usize) -> anyhow::Result<()> {
        self.read_spools(into, rows_max)
            .context("reading the spool")
    }
}

/// What the first stage works with.
pub(super) struct Preparer<E, F = Sources> {
    pub(super) feed: F,
    pub(super) tables: Arc<ArcSwap<Tables>>,
    pub(super) client_ip: ClientIp,
    pub(super) metrics: Arc<Metrics>,
    pub(super) encoder: E,
}

/// A batch to be filled: one that was used before, if there is one.
type Asked<B> = (Option<Prepared<B>>, usize);

/// The first stage at work on its thread, which ends when this is dropped.
pub(super) struct Preparing<B> {
    ask: mpsc::Sender<Asked<B>>,
    ready: async_mpsc::Receiver<anyhow::Result<Prepared<B>>>,
    spare: Vec<Prepared<B>>,
}

impl<B: Send + 'static, E: Encoder<Batch = B>, F: Feed<E>> Preparer<E, F> {
    /// Starts the thread.
    pub(super) fn start(mut self) -> anyhow::Result<Preparing<B>> {
        let (ask, asked) = mpsc::channel::<Asked<B>>();
        let (give, ready) = async_mpsc::channel(1);
        thread::Builder::new()
            .name("prepare".to_owned())
            .spawn(move || {
                // Where the system refuses, it competes with the edge as an equal.
                setpriority_process(None, NICE).ok();
                for (spare, rows_max) in asked {
                    let mut prepared =
                        spare.unwrap_or_else(|| Prepared::new(self.encoder.make_batch()));
                    let outcome = self.prepare(&mut prepared, rows_max);
                    if give.blocking_send(outcome.map(|()| prepared)).is_err() {
                        return;
                    }
                }
            })
            .context("starting the thread that prepares batches")?;
        Ok(Preparing {
            ask,
            ready,
            spare: Vec::new(),
        })
    }

    pub(super) fn prepare(
        &mut self,
        prepared: &mut Prepared<B>,
        rows_max: usize,
    ) -> anyhow::Result<()> {
        prepared.begun = clock::monotonic();
        self.feed.read(prepared, rows_max)?;
        let Prepared {
            batch,
            spans,
            origins,
            load,
            ..
        } = prepared;
        let encoder = &mut self.encoder;
        encoder.begin(load, spans, clock::now());
        let mut deriver = Deriver {
            keyer: encoder.keyer(),
            spans,
            client_ip: self.client_ip,
            tables: &self.tables.load_full(),
            metrics: &self.metrics,
            devices: DeviceBudget::of_batch(),
        };
        for (index, (position, payload)) in batch.ranges().enumerate() {
            let record = SpoolRecord {
                spool: origins.get(index).copied().unwrap_or_default(),
                position,
                payload: payload.clone(),
            };
            let payload = batch.payload(payload);
            let derived = self
                .feed
                .derive(&mut deriver, payload, &record, (encoder, load));
            if let Err(reason) = derived {
                encoder.reject(load, &record, reason);
            }
        }
        Ok(())
    }
}

impl<B> Preparing<B> {
    /// Asks for the next batch. The batch before it must have been returned by [`Preparing::next`].
    pub(super) fn ask(&mut self, rows_max: usize) {
        // If the thread is gone, `next` says so.
        drop(self.ask.send((self.spare.pop(), rows_max)));
    }

    /// Waits for the batch that was asked for, and returns it.
    pub(super) async fn next(&mut self) -> anyhow::Result<Prepared<B>> {
        self.ready
            .recv()
            .await
            .context("the thread that prepares batches panicked")?
    }

    /// Takes back a batch that is committed, for its buffers.
    pub(super) fn take_back(&mut self, prepared: Prepared<B>) {
        self.spare.push(prepared);
    }
}
