//! What the admin listener reports: metrics that are sampled when they are asked for, and whether
//! the collector can keep hits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spool::{Position, Spool, SpoolId};
use tokio::sync::mpsc;

use crate::admin::{ReportQuestion, Status};
use crate::clock;
use crate::jobs;
use crate::loader::{self, Progress};
use crate::metrics::{Metrics, gauge_value};

/// From when on the readiness says how long hits have waited.
const WAIT_SHOWN_MIN: Duration = Duration::from_secs(10);

/// The state of the running parts.
pub(super) struct Health {
    pub(super) metrics: Arc<Metrics>,
    pub(super) shards: Vec<Shard>,
    /// The same spools, and how far Kafka has them; none without `[kafka]`.
    pub(super) kafka: Vec<Shard>,
    /// Whether hits are loaded into Postgres from here.
    pub(super) has_postgres: bool,
    pub(super) instructions: Spool,
    /// How far instructions are carried out.
    pub(super) carried_out: Arc<Progress>,
    /// What the jobs have to say.
    pub(super) jobs: Arc<jobs::Remark>,
    /// Where reports are asked for.
    pub(super) reports: mpsc::Sender<ReportQuestion>,
}

/// A spool of hits, and how far it is loaded.
pub(super) struct Shard {
    spool: Spool,
    progress: Arc<Progress>,
    /// Its place among the spools of its loader.
    index: usize,
    /// Since when the loader has stood where it stands, as far as anybody asked.
    standstill: Mutex<Option<(Position, Instant)>>,
}

impl Shard {
    pub(super) fn new(spool: Spool, progress: Arc<Progress>, index: usize) -> Shard {
        Shard {
            spool,
            progress,
            index,
            standstill: Mutex::default(),
        }
    }

    pub(super) fn id(&self) -> SpoolId {
        self.spool.id()
    }

    /// Removes it if all of it is loaded, and returns whether it did.
    pub(super) fn remove_if_loaded(&self) -> std::io::Result<bool> {
        self.spool.close();
        let end = self.progress.releasable(self.index);
        self.spool.remove(end, &[loader::KAFKA_START_FILE])
    }

    fn backlog_bytes(&self) -> u64 {
        self.spool.backlog_bytes(self.progress.position(self.index))
    }

    /// Returns the age of the oldest hit that is not loaded: by the time that it was stamped with
    /// or, as the clock may have been wrong then, by how long the loader has stood before it.
    fn oldest_unloaded(&self) -> Duration {
        let mut standstill = self
            .standstill
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.backlog_bytes() == 0 {
            *standstill = None;
            return Duration::ZERO;
        }
        let position = self.progress.position(self.index);
        let now = clock::monotonic();
        let since = match *standstill {
            Some((at, since)) if at == position => since,
            _ => now,
        };
        *standstill = Some((position, since));
        let stood = now.saturating_duration_since(since);
        let received_at = loader::oldest_after(&self.spool, position);
        received_at.map_or(stood, |at| clock::now().since(at).max(stood))
    }
}

impl Health {
    fn backlog_bytes(&self) -> u64 {
        self.shards.iter().map(Shard::backlog_bytes).sum()
    }

    fn oldest_unloaded(&self) -> Duration {
        let ages = self.shards.iter().map(Shard::oldest_unloaded);
        ages.max().unwrap_or_default()
    }

    fn oldest_unproduced(&self) -> Duration {
        let ages = self.kafka.iter().map(Shard::oldest_unloaded);
        ages.max().unwrap_or_default()
    }

    fn is_kafka_connected(&self) -> bool {
        let mut shards = self.kafka.iter();
        shards.all(|shard| shard.progress.is_connected())
    }

    fn is_connected(&self) -> bool {
        self.shards
            .iter()
            .all(|shard| shard.progress.is_connected())
    }
}

impl Status for Health {
    fn ask_report(&self, question: ReportQuestion) -> Result<(), ReportQuestion> {
        self.reports
            .try_send(question)
            .map_err(mpsc::error::TrySendError::into_inner)
    }

    fn metrics(&self) -> String {
        let metrics = &self.metrics;
        let backlog = self.backlog_bytes();
        let oldest = self.oldest_unloaded();
        let used = self.shards.iter().map(|shard| shard.spool.used_bytes());
        metrics.spool_bytes.set(gauge_value(used.sum()));
        metrics.spool_backlog_bytes.set(gauge_value(backlog));
        metrics.spool_oldest_seconds.set(oldest.as_secs_f64());
        let carried_out = self.carried_out.position(0);
        let backlog = self.instructions.backlog_bytes(carried_out);
        metrics.instruction_backlog_bytes.set(gauge_value(backlog));
        metrics.loader_connected.set(u8::from(self.is_connected()));
        let backlog = self.kafka.iter().map(Shard::backlog_bytes).sum();
        metrics.kafka_backlog_bytes.set(gauge_value(backlog));
        let oldest = self.oldest_unproduced();
        metrics.kafka_oldest_seconds.set(oldest.as_secs_f64());
        let is_connected = !self.kafka.is_empty() && self.is_kafka_connected();
        metrics.kafka_connected.set(u8::from(is_connected));
        metrics.render()
    }

    fn ready(&self) -> Result<String, String> {
        if self.shards.iter().any(|shard| shard.spool.is_full()) {
            return Err("the spool is full".to_owned());
        }
        if self.shards.iter().any(|shard| shard.spool.is_failing()) {
            return Err("the spool's disk fails".to_owned());
        }
        let postgres = match (self.has_postgres, self.is_connected()) {
            (false, _) => "postgres: not used here",
            (true, true) => "postgres: loading",
            (true, false) => "postgres: not reached; hits are kept in the spool",
        };
        let mut remarks = postgres.to_owned();
        if self.kafka.iter().any(|shard| shard.progress.is_fenced()) {
            remarks.push_str("; kafka: another process produces what is in this spool");
        }
        let oldest = self.oldest_unloaded();
        if oldest >= WAIT_SHOWN_MIN {
            let seconds = oldest.as_secs();
            remarks.push_str(&format!("; the oldest hit has waited for {seconds} s"));
        }
        if !self.is_kafka_connected() {
            remarks.push_str("; kafka: not reached; hits are kept in the spool");
        }
        remarks.push('\n');
        remarks.push_str(&self.jobs.read());
        Ok(remarks)
    }
}
