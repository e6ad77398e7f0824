//! The loader's first stage without a spool to read and a sink to commit to, so that what it costs
//! can be counted.

use std::sync::Arc;

use arc_swap::ArcSwap;
use spool::{Batch, Damage, Position};

use super::prepare::{Feed, Prepared, Preparer};
use super::sink::{Encoder as _, LoadEncoder, PostgresSink, Reached, Span};
use crate::clock::UnixMicros;
use crate::config::ClientIp;
use crate::enrich::Tables;
use crate::metrics::Metrics;
use crate::postgres::{Database, Load};
use crate::row::Keyer;

/// Makes batches of the payloads that it is given, as they go to Postgres.
pub struct OfflineLoader {
    preparer: Preparer<LoadEncoder, Given>,
    prepared: Prepared<Load>,
}

/// The payloads of the next batch.
#[derive(Default)]
struct Given {
    batch: Batch,
    place: Position,
}

impl OfflineLoader {
    /// Makes one with these tables, and keys that anybody may know. Households are computed for
    /// `sites`, of hits that were received in the two weeks of `at`.
    ///
    /// # Errors
    /// Where a day of `at` cannot be told, or metrics cannot be registered.
    pub fn new(tables: Tables, sites: &[&str], at: UnixMicros) -> anyhow::Result<OfflineLoader> {
        let metrics = Arc::new(Metrics::new()?);
        let database = Arc::new(Database::at(tokio_postgres::Config::new()));
        let sink =
            PostgresSink::new(database, Arc::clone(&metrics)).with_households_of(sites, at)?;
        let encoder = sink.encoder_with(Arc::new(Keyer::new([4; 32])), true);
        let prepared = Prepared::new(encoder.make_batch());
        Ok(OfflineLoader {
            preparer: Preparer {
                feed: Given::default(),
                tables: Arc::new(ArcSwap::from_pointee(tables)),
                client_ip: ClientIp::Truncated,
                metrics,
                encoder,
            },
            prepared,
        })
    }

    /// Adds a payload to the next batch.
    pub fn push(&mut self, payload: &[u8]) {
        let Given { batch, place } = &mut self.preparer.feed;
        batch.push(*place, payload);
        place.offset += 1;
    }

    /// Makes the batch. Returns how many rows it has, and how many payloads were rejected.
    ///
    /// # Errors
    /// Those of the first stage, which has none where there is no spool to read.
    pub fn make(&mut self) -> anyhow::Result<(usize, usize)> {
        self.preparer.prepare(&mut self.prepared, usize::MAX)?;
        let Load { rows, rejected, .. } = &self.prepared.load;
        Ok((rows.flags().count(), rejected.len()))
    }
}

impl Feed<LoadEncoder> for Given {
    fn read(&mut self, into: &mut Prepared<Load>, _: usize) -> anyhow::Result<()> {
        std::mem::swap(&mut into.batch, &mut self.batch);
        self.batch.reset();
        into.origins.clear();
        into.damage = Damage::default();
        into.spans.clear();
        into.spans.push(Span {
            spool_id: [1; 16],
            from: None,
            to: Reached {
                position: self.place,
                records: self.place.offset,
            },
        });
        Ok(())
    }
}
