//! The two spools of a collector, hits and instructions, and the metrics of each.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::edge::Spools;
use crate::metrics::Metrics;
use spool::{self, RealDisk, Spool};

/// The directory of the spool of instructions, in `spool.dir`.
const INSTRUCTION_DIR: &str = "instruction";
const INSTRUCTION_CHUNK_BYTES: u64 = 1 << 20;
/// An instruction takes some 50 bytes, so 300,000 visitors may withdraw while Postgres is away.
const INSTRUCTION_BYTES_MAX: u64 = 16 << 20;

/// Opens both for this process alone.
pub(super) fn open(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Spools> {
    metrics
        .spool_bytes_max
        .set(crate::metrics::gauge_value(config.spool.bytes_max));
    let hits = spool::Options {
        dir: config.spool.dir.clone(),
        ack: config.spool.ack,
        bytes_max: config.spool.bytes_max,
        chunk_bytes: config.spool.chunk_bytes,
        keep: config.spool.keep,
    };
    // What a visitor asks for is always synced, even if `spool.ack` spares hits the sync.
    let instructions = spool::Options {
        dir: config.spool.dir.join(INSTRUCTION_DIR),
        ack: spool::Ack::Disk,
        bytes_max: INSTRUCTION_BYTES_MAX,
        chunk_bytes: INSTRUCTION_CHUNK_BYTES,
        keep: config.spool.keep,
    };
    let hits = open_one(hits, SpoolMetrics(Arc::clone(metrics)))?;
    let instructions = open_one(instructions, InstructionMetrics(Arc::clone(metrics)))?;
    Ok(Spools { hits, instructions })
}

fn open_one(settings: spool::Options, observer: impl spool::Observer) -> anyhow::Result<Spool> {
    let dir = settings.dir.clone();
    let spool = Spool::open(settings, Arc::new(RealDisk), Box::new(observer))?;
    let torn_bytes = spool.torn_bytes();
    if torn_bytes > 0 {
        tracing::warn!(
            torn_bytes,
            "an unfinished write was cut off the spool in {}",
            dir.display()
        );
    }
    Ok(spool)
}

struct SpoolMetrics(Arc<Metrics>);

impl spool::Observer for SpoolMetrics {
    fn committed(&self, records: u64, append_wait: Duration, sync: Duration) {
        self.0.spool_commit(records, append_wait, sync);
    }

    fn failed(&self, _: &io::Error) {
        self.0.spool_io_errors.increment(1);
    }
}

/// Counts instructions separately: they are few, and would blur the times of hits.
struct InstructionMetrics(Arc<Metrics>);

impl spool::Observer for InstructionMetrics {
    fn committed(&self, records: u64, _: Duration, _: Duration) {
        self.0.instructions.increment(records);
    }

    fn failed(&self, _: &io::Error) {
        self.0.spool_io_errors.increment(1);
    }
}
