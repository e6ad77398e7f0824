//! Device groups: follows new ties, lost ones and stricter rules, lets hubs back, counts what there
//! is, and looks up whether each tie was permitted.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use metrics::Gauge;
use tokio::sync::Notify;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{JobLimits, day, first_retained_day};
use crate::clock::{self, UnixMicros};
use crate::identity::TieRules;
use crate::metrics::{Metrics, gauge_value};
use crate::postgres::household::census as household_census;
use crate::postgres::identity::rule::{Forbidden, forget_forbidden};
use crate::postgres::identity::{Loss, census, group};

/// How long a run may take. What is left, the next one does.
const TIME_MAX: Duration = Duration::from_secs(20);

/// How many ties an audit looks at.
const AUDITED_MAX: i32 = 10_000;

/// Counting reads tables whole, so it may take a hundredth of the time.
const CENSUS_PAUSE_TIMES: u32 = 100;

/// What the jobs on ties need of the collector.
#[derive(Clone)]
pub struct Graph {
    /// Which IDs are tied together, as the configuration in force says.
    pub rules: Arc<ArcSwap<TieRules>>,
    /// Where counts go.
    pub metrics: Arc<Metrics>,
    /// Wakes the job that splits groups.
    pub wake: Arc<Notify>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// When the tables are counted again.
    census_due: Option<Instant>,
    /// Since when there have been ties that are not grouped.
    behind_since: Option<Instant>,
}

impl Graph {
    /// Brings them together.
    #[must_use]
    pub fn new(rules: Arc<ArcSwap<TieRules>>, metrics: Arc<Metrics>, wake: Arc<Notify>) -> Graph {
        Graph {
            rules,
            metrics,
            wake,
            state: Arc::default(),
        }
    }

    fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn forbidden(&self) -> Forbidden {
        let rules = self.rules.load();
        Forbidden {
            uniting: rules.uniting_partners().map(str::to_owned).collect(),
            nodes: rules
                .blocked_nodes()
                .map(|node| Uuid::from_bytes(node.0))
                .collect(),
        }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}

/// Brings groups into step with ties, and ties with the rules. Returns how many IDs came to another
/// group.
pub(super) async fn run(client: &mut Client, limits: JobLimits) -> anyhow::Result<u64> {
    let begun = clock::monotonic();
    if let Some(graph) = &limits.graph {
        let forbidden = graph.forbidden();
        while forget_forbidden(client, &forbidden).await? > 0 && clock::time_since(begun) < TIME_MAX
        {
        }
    }
    let mut moved = 0;
    loop {
        let grouped = group::settle_some(client).await?;
        if let Some(Graph { metrics, .. }) = &limits.graph {
            metrics.graph.merges.increment(grouped.merged);
            for (loss, groups) in Loss::ALL.into_iter().zip(grouped.loose) {
                metrics.graph.split(loss.name(), groups);
            }
        }
        moved += grouped.merged + grouped.split + grouped.hubs;
        let is_done = !grouped.is_full();
        if is_done || clock::time_since(begun) >= TIME_MAX {
            if let Some(graph) = limits.graph.filter(|_| is_done) {
                graph.with_state(|state| state.behind_since = None);
            }
            return Ok(moved);
        }
    }
}

/// Lets hubs back that have few ties left.
pub(super) async fn free_hubs(
    client: &Client,
    _: JobLimits,
    as_of: UnixMicros,
) -> anyhow::Result<u64> {
    Ok(group::free_hubs(client, day(as_of)).await?)
}

/// Says in metrics what waits, and what there is.
pub(super) async fn count(client: &Client, limits: JobLimits) -> anyhow::Result<u64> {
    let Some(graph) = limits.graph else {
        return Ok(0);
    };
    let begun = clock::monotonic();
    let waiting = census::read_waiting(client).await?;
    let is_due = graph.with_state(|state| {
        if waiting.ties == 0 {
            state.behind_since = None;
        } else {
            state.behind_since.get_or_insert(begun);
        }
        state.census_due.is_none_or(|due| due <= begun)
    });
    let behind = graph.with_state(|state| state.behind_since);
    let metrics = &graph.metrics.graph;
    let behind = behind.map_or(0.0, |since| (begun - since).as_secs_f64());
    let counts = [waiting.parts, waiting.ties, waiting.splits];
    set(&metrics.waiting, &counts);
    let ages = [waiting.parts_seconds, behind, waiting.splits_seconds];
    for (gauge, age) in metrics.waiting_seconds.iter().zip(ages) {
        gauge.set(age);
    }
    if !is_due {
        return Ok(0);
    }
    let found = census::read_census(client).await?;
    set(&metrics.ties, &found.ties);
    set(&metrics.groups, &found.groups);
    set(&metrics.owners, &found.owners);
    metrics.capped.set(gauge_value(found.capped));
    metrics.shared.set(gauge_value(found.shared));
    metrics.hubs.set(gauge_value(found.hubs));
    let found = household_census::read_census(client).await?;
    metrics.members.set(gauge_value(found.members));
    set(&metrics.households, &found.households);
    metrics.night_seconds.set(found.night_seconds);
    let ([.., waiting], [.., seconds]) = (&metrics.waiting, &metrics.waiting_seconds);
    waiting.set(gauge_value(found.waiting));
    seconds.set(found.waiting_seconds);
    let ended = clock::monotonic();
    let due = ended + (ended - begun) * CENSUS_PAUSE_TIMES;
    graph.with_state(|state| state.census_due = Some(due));
    Ok(0)
}

fn set(gauges: &[Gauge], counts: &[u64]) {
    for (gauge, count) in gauges.iter().zip(counts) {
        gauge.set(gauge_value(*count));
    }
}

/// Looks up for some ties whether a hit permitted them. Returns how many nothing permitted.
pub(super) async fn audit(
    client: &Client,
    limits: JobLimits,
    as_of: UnixMicros,
) -> anyhow::Result<u64> {
    let days = (first_retained_day(&limits, as_of), day(as_of));
    let (looked_at, unpermitted) = census::audit(client, AUDITED_MAX, days).await?;
    if let Some(graph) = &limits.graph {
        graph.metrics.graph.audited.increment(looked_at);
        graph.metrics.graph.unpermitted.increment(unpermitted);
    }
    if unpermitted > 0 {
        tracing::error!(
            looked_at,
            unpermitted,
            "there are ties that no hit permitted"
        );
    }
    Ok(unpermitted)
}
