//! What the admin listener reports: metrics that are sampled when they are asked for, and whether
//! the collector can keep hits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spool::Position;

use crate::admin::Status;
use crate::clock;
use crate::edge::Spools;
use crate::jobs;
use crate::loader::{self, Progress};
use crate::metrics::{Metrics, gauge_value};

/// From when on the readiness says how long hits have waited.
const WAIT_SHOWN_MIN: Duration = Duration::from_secs(10);

/// The state of the running parts.
pub(super) struct Health {
    pub(super) spools: Spools,
    pub(super) metrics: Arc<Metrics>,
    /// How far hits are loaded.
    pub(super) hits: Arc<Progress>,
    /// How far instructions are carried out.
    pub(super) instructions: Arc<Progress>,
    /// What the jobs have to say.
    pub(super) jobs: Arc<jobs::Remark>,
    /// Since when the loader has stood where it stands, as far as anybody asked.
    pub(super) standstill: Mutex<Option<(Position, Instant)>>,
}

impl Health {
    /// Returns the age of the oldest hit that is not loaded: by the time that it was stamped with
    /// or, as the clock may have been wrong then, by how long the loader has stood before it.
    fn oldest_unloaded(&self, backlog: u64) -> Duration {
        let mut standstill = self
            .standstill
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if backlog == 0 {
            *standstill = None;
            return Duration::ZERO;
        }
        let position = self.hits.position();
        let now = clock::monotonic();
        let since = match *standstill {
            Some((at, since)) if at == position => since,
            _ => now,
        };
        *standstill = Some((position, since));
        let stood = now.saturating_duration_since(since);
        let received_at = loader::oldest_after(&self.spools.hits, position);
        received_at.map_or(stood, |at| clock::now().since(at).max(stood))
    }
}

impl Status for Health {
    fn metrics(&self) -> String {
        let Spools { hits, instructions } = &self.spools;
        let metrics = &self.metrics;
        let backlog = hits.backlog_bytes(self.hits.position());
        let oldest = self.oldest_unloaded(backlog);
        metrics.spool_bytes.set(gauge_value(hits.used_bytes()));
        metrics.spool_backlog_bytes.set(gauge_value(backlog));
        metrics.spool_oldest_seconds.set(oldest.as_secs_f64());
        let backlog = instructions.backlog_bytes(self.instructions.position());
        metrics.instruction_backlog_bytes.set(gauge_value(backlog));
        let is_connected = self.hits.is_connected();
        metrics.loader_connected.set(u8::from(is_connected));
        metrics.render()
    }

    fn ready(&self) -> Result<String, String> {
        if self.spools.hits.is_full() {
            return Err("the spool is full".to_owned());
        }
        if self.spools.hits.is_failing() {
            return Err("the spool's disk fails".to_owned());
        }
        let mut remarks = if self.hits.is_connected() {
            "postgres: loading".to_owned()
        } else {
            "postgres: not reached; hits are kept in the spool".to_owned()
        };
        let backlog = self.spools.hits.backlog_bytes(self.hits.position());
        let oldest = self.oldest_unloaded(backlog);
        if oldest >= WAIT_SHOWN_MIN {
            let seconds = oldest.as_secs();
            remarks.push_str(&format!("; the oldest hit has waited for {seconds} s"));
        }
        remarks.push('\n');
        remarks.push_str(&self.jobs.read());
        Ok(remarks)
    }
}
