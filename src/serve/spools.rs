//! The spools of a collector, hits in shards and instructions, and the metrics of each.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::edge::{Shards, Spools};
use crate::metrics::Metrics;
use crate::whole;
use anyhow::Context as _;
use spool::{self, RealDisk, Room, Spool};

/// The directory of all shards but the first, in `spool.dir`.
const SHARD_DIR: &str = "shard";
/// The directory of the spool of instructions, in `spool.dir`.
const INSTRUCTION_DIR: &str = "instruction";
const INSTRUCTION_CHUNK_BYTES: u64 = 1 << 20;
/// An instruction takes some 50 bytes, so 300,000 visitors may withdraw while Postgres is away.
const INSTRUCTION_BYTES_MAX: u64 = 16 << 20;

/// Opens all of them for this process alone.
pub(super) fn open(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Spools> {
    metrics
        .spool_bytes_max
        .set(crate::metrics::gauge_value(config.spool.bytes_max));
    let room = Room::new(config.spool.bytes_max);
    let shard = |dir| spool::Options {
        dir,
        ack: config.spool.ack,
        room: room.clone(),
        chunk_bytes: config.spool.chunk_bytes,
        keep: config.spool.keep,
    };
    // What a visitor asks for is always synced, even if `spool.ack` spares hits the sync.
    let instructions = spool::Options {
        dir: config.spool.dir.join(INSTRUCTION_DIR),
        ack: spool::Ack::Disk,
        room: Room::new(INSTRUCTION_BYTES_MAX),
        chunk_bytes: INSTRUCTION_CHUNK_BYTES,
        keep: config.spool.keep,
    };
    let way = Way::of(config);
    let written = config.spool.shard_count(config.http.thread_count());
    let dirs = shard_dirs(&config.spool.dir, written)?;
    let hits: anyhow::Result<Vec<Spool>> = dirs
        .into_iter()
        .map(|dir| open_one(shard(dir), SpoolMetrics(Arc::clone(metrics))))
        .collect();
    let hits = hits?;
    way.keep(&config.spool.dir, hits.iter().all(Spool::began_empty))?;
    let instructions = open_one(instructions, InstructionMetrics(Arc::clone(metrics)))?;
    let hits = Shards {
        spools: hits,
        written,
    };
    Ok(Spools { hits, instructions })
}

/// Returns the directories of the shards that are written to, and of those that are left from a run
/// with more. The first shard lies in the spool's own directory, where a collector without shards
/// looks for it.
pub(crate) fn shard_dirs(dir: &Path, written: usize) -> anyhow::Result<Vec<PathBuf>> {
    let shards = dir.join(SHARD_DIR);
    let mut numbers: BTreeSet<usize> = (1..written).collect();
    match std::fs::read_dir(&shards) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.with_context(|| shards.display().to_string())? {
                let name = entry?.file_name();
                let number = name.to_str().and_then(|name| name.parse::<usize>().ok());
                numbers.extend(number.filter(|number| *number > 0));
            }
        }
    }
    let others = numbers
        .into_iter()
        .map(|number| shards.join(number.to_string()));
    Ok(std::iter::once(dir.to_owned()).chain(others).collect())
}

/// Who loads the hits of a spool into Postgres: a spool keeps what it was begun with, or hits would
/// be loaded by both or by nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The collector itself.
    Collector,
    /// `avtryck load`, from Kafka.
    Kafka,
}

/// The file in `spool.dir` that says so.
const WAY_FILE: &str = "way";

impl Way {
    fn of(config: &Config) -> Way {
        match config.loads_into_postgres() {
            true => Way::Collector,
            false => Way::Kafka,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Way::Collector => "postgres",
            Way::Kafka => "kafka",
        }
    }

    /// Notes the way of a spool that is empty and never was in use, and compares that of any other.
    fn keep(self, dir: &Path, is_new: bool) -> anyhow::Result<()> {
        let path = dir.join(WAY_FILE);
        let known = match std::fs::read_to_string(&path) {
            Ok(known) => known.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Those from before there was another way.
                let known = if is_new { self } else { Way::Collector };
                write_way(dir, known)?;
                known.name().to_owned()
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        anyhow::ensure!(
            known == self.name(),
            "the hits of the spool in {} were begun to be loaded {}, and loader.sink says otherwise: each would be loaded \
             twice or never; let the old configuration empty the spool, then give spool.dir an empty folder",
            dir.display(),
            match known.as_str() {
                "kafka" => "from Kafka by avtryck load",
                _ => "into Postgres by this collector",
            }
        );
        Ok(())
    }
}

fn write_way(dir: &Path, way: Way) -> anyhow::Result<()> {
    let written = whole::write(dir, WAY_FILE, &format!("{}\n", way.name()));
    written.with_context(|| dir.join(WAY_FILE).display().to_string())
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
    fn note_commit(&self, records: u64, append_wait: Duration, sync: Duration) {
        self.0.spool_commit(records, append_wait, sync);
    }

    fn note_failure(&self, _: &io::Error) {
        self.0.spool_io_errors.increment(1);
    }
}

/// Counts instructions separately: they are few, and would blur the times of hits.
struct InstructionMetrics(Arc<Metrics>);

impl spool::Observer for InstructionMetrics {
    fn note_commit(&self, records: u64, _: Duration, _: Duration) {
        self.0.instructions.increment(records);
    }

    fn note_failure(&self, _: &io::Error) {
        self.0.spool_io_errors.increment(1);
    }
}
