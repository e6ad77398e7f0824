//! The edge's threads: one for each set of entrances.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use arc_swap::ArcSwap;

use super::public::Public;
use crate::edge::{self, CourseReceiver, Edge, Spools};
use crate::metrics::gauge_value;

/// Running edge threads.
pub(super) struct EdgeThreads(Vec<JoinHandle<io::Result<()>>>);

impl EdgeThreads {
    /// Starts to accept.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(super) fn start(
        edge: &Arc<ArcSwap<Edge>>,
        spools: &Spools,
        public: Public,
        course: &CourseReceiver,
    ) -> anyhow::Result<EdgeThreads> {
        let limits = Arc::clone(&public.limits);
        let metrics = Arc::clone(&edge.load().metrics);
        let entrances = public.threads();
        let count = entrances.len();
        metrics.threads.set(gauge_value(entrances.len() as u64));
        let connections_max = limits.all.available_permits();
        metrics
            .connections_max
            .set(gauge_value(connections_max as u64));
        let start = |(index, entrances)| {
            let (edge, spools, limits, course) = (
                Arc::clone(edge),
                spools.clone(),
                Arc::clone(&limits),
                course.clone(),
            );
            thread::Builder::new()
                .name(format!("edge {index}"))
                .spawn(move || edge::run(edge, &spools, entrances, limits, course, (index, count)))
                .context("starting an edge thread")
        };
        let threads: anyhow::Result<Vec<_>> =
            entrances.into_iter().enumerate().map(start).collect();
        Ok(EdgeThreads(threads?))
    }

    /// Waits until every thread has ended. Blocks.
    pub(super) fn join(self) {
        for thread in self.0 {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "an edge thread failed"),
                Err(_) => tracing::error!("an edge thread panicked"),
            }
        }
    }
}
