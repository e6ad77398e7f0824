//! What the admin listener reports: metrics that are sampled when they are asked for, and whether
//! the collector can keep hits.

use std::sync::Arc;

use crate::admin::Status;
use crate::clock;
use crate::edge::Spools;
use crate::loader::Progress;
use crate::metrics::{Metrics, gauge_value};

/// The state of the running parts.
pub(super) struct Health {
    pub(super) spools: Spools,
    pub(super) metrics: Arc<Metrics>,
    /// How far hits are loaded.
    pub(super) hits: Arc<Progress>,
    /// How far instructions are carried out.
    pub(super) instructions: Arc<Progress>,
}

impl Status for Health {
    fn metrics(&self) -> String {
        let Spools { hits, instructions } = &self.spools;
        let metrics = &self.metrics;
        let backlog = hits.backlog_bytes(self.hits.position());
        let oldest = self.hits.oldest_unloaded(clock::now());
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
        Ok(if self.hits.is_connected() {
            "postgres: loading\n".to_owned()
        } else {
            "postgres: not reached; hits are kept in the spool\n".to_owned()
        })
    }
}
