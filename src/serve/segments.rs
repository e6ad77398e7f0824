//! Keeps the edge's snapshot of segments in step with Postgres.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_postgres::Client;

use crate::clock;
use crate::config::{Config, Site};
use crate::edge::Edge;
use crate::metrics::{Metrics, gauge_value};
use crate::postgres::segment::snapshot::{ExposedSegments, SnapshotReader};
use crate::postgres::server::silence::SILENCE_MAX;
use crate::postgres::{Database, SilenceWatch};
use crate::segment::snapshot::{ShownBySite, SnapshotWriter};

/// How often the snapshot is refreshed.
const PERIOD: Duration = Duration::from_secs(5);

/// Refreshes the snapshot, again and again. Never returns. While no site may be told of a segment,
/// it does nothing.
pub(super) async fn keep_up(
    edge: Arc<ArcSwap<Edge>>,
    database: Arc<Database>,
    metrics: Arc<Metrics>,
) {
    let snapshot = Arc::clone(&edge.load().segments);
    let mut reader = SnapshotReader::new(SnapshotWriter::new(Arc::clone(&snapshot)));
    let mut connection: Option<(Client, SilenceWatch)> = None;
    let mut refreshed_at = clock::monotonic();
    let mut said = String::new();
    loop {
        let exposed = exposures(&edge.load().config);
        if exposed.is_empty() {
            connection = None;
            snapshot.show(ShownBySite::default());
            refreshed_at = clock::monotonic();
        } else {
            let refreshed = refresh(&mut reader, &mut connection, &database, &exposed).await;
            let error = refreshed
                .err()
                .map(|error| format!("{error:#}"))
                .unwrap_or_default();
            if error.is_empty() {
                refreshed_at = clock::monotonic();
            } else {
                connection = None;
            }
            if !error.is_empty() && error != said {
                tracing::error!(
                    "segments cannot be read, so pages are told what they were before: {error}"
                );
            }
            said = error;
        }
        let subjects = snapshot.members() as u64;
        metrics.segment_subjects.set(gauge_value(subjects));
        metrics
            .segment_bytes
            .set(gauge_value(snapshot.bytes() as u64));
        let age = clock::time_since(refreshed_at);
        metrics.segment_age_seconds.set(age.as_secs_f64());
        tokio::time::sleep(PERIOD).await;
    }
}

async fn refresh(
    reader: &mut SnapshotReader,
    connection: &mut Option<(Client, SilenceWatch)>,
    database: &Arc<Database>,
    exposed: &ExposedSegments,
) -> anyhow::Result<()> {
    let open = connection.take().filter(|(client, _)| !client.is_closed());
    let (client, watch) = match open {
        Some(open) => connection.insert(open),
        None => connection.insert(SilenceWatch::connect(database, SILENCE_MAX).await?),
    };
    watch.watch(reader.refresh(client, exposed)).await
}

/// Returns the segments that each site may be told by the configuration.
fn exposures(config: &Config) -> ExposedSegments {
    let of_site = |site: &Site| {
        let shown = config.segments.iter();
        let shown = shown.filter(|segment| segment.expose.contains(&site.key));
        let keys: Vec<String> = shown.map(|segment| segment.key.clone()).collect();
        (!keys.is_empty()).then(|| (site.key.clone(), keys))
    };
    config.sites.iter().filter_map(of_site).collect()
}
