//! The loader: reads batches from the spool, enriches them, and commits rows and position together.
//!
//! It runs on a thread of its own and may be as slow as Postgres is: what waits stays in the spool.
//! After any error the truth is the position in Postgres; it is read anew and loading goes on from
//! there, so a batch is never loaded twice and never left out. A batch is one transaction; while the
//! loader is behind, batches are up to [`BATCHES_WHEN_BEHIND`] times as large.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use ipnet::IpNet;
use quick_cache::unsync::Cache;
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::clock::{self, UnixMicros};
use crate::config::ClientIp;
use crate::enrich::Tables;
use crate::hit::{self, Flags, Hit, Permit};
use crate::metrics::Metrics;
use crate::postgres::dimension::Dimensions;
use crate::postgres::position::Progress as Progressed;
use crate::postgres::{self, CommitError, Count, Database, Entry, Load, Loaded, Rejected};
use crate::row::{Ad, Dimension, Row, Site};
use crate::spool::{Batch, Position, Reader, Spool};

/// How much larger a batch may be while the loader is behind.
const BATCHES_WHEN_BEHIND: usize = 4;
/// Payload of a batch, in bytes.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Dimension keys that are remembered as stored.
const KNOWN_KEYS_MAX: usize = 262_144;
/// The first and the longest pause after an error.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the loader tells of itself, for metrics and readiness.
#[derive(Debug, Default)]
pub struct Progress {
    /// When the oldest hit that is not loaded was received; 0 when all are loaded.
    oldest_unloaded: AtomicI64,
    connected: AtomicBool,
    position: std::sync::Mutex<Position>,
}

impl Progress {
    /// The age of the oldest hit that is not loaded.
    #[must_use]
    pub fn oldest_unloaded(&self, now: UnixMicros) -> Duration {
        match self.oldest_unloaded.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            at => now.since(UnixMicros(at)),
        }
    }

    /// Whether Postgres took the last batch.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Up to where the spool is loaded.
    #[must_use]
    pub fn position(&self) -> Position {
        *self
            .position
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set_position(&self, position: Position) {
        *self
            .position
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = position;
    }
}

/// What the loader works with.
pub struct Loader {
    /// The spool that it empties.
    pub spool: Spool,
    /// The database that it fills.
    pub database: Arc<Database>,
    /// Places, networks and devices; exchanged on a reload.
    pub tables: Arc<ArcSwap<Tables>>,
    /// Hits of a batch.
    pub batch_rows: usize,
    /// How long it waits for more when there is little.
    pub batch_wait: Duration,
    /// What Postgres gets of an address.
    pub client_ip: ClientIp,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// What it tells of itself.
    pub progress: Arc<Progress>,
}

impl Loader {
    /// Loads until `stop` holds true; then once more what one batch allows.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        while !*stop.borrow() {
            let Err(error) = self.session(&mut stop, &mut pause).await else {
                return;
            };
            if self.progress.connected.swap(false, Ordering::Relaxed) || pause == PAUSE_MIN {
                tracing::warn!("loading stopped, hits wait in the spool: {error:#}");
            }
            self.metrics.postgres_errors.increment(1);
            self.note_oldest();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Where Postgres is not there, the age of the backlog is still to be seen.
    fn note_oldest(&self) {
        if self.progress.oldest_unloaded.load(Ordering::Relaxed) != 0 {
            return;
        }
        let mut batch = Batch::default();
        let mut reader = self.spool.reader(self.progress.position(), 0);
        if reader.read(&mut batch, 1, 1).is_ok() {
            self.note_first(&batch);
        }
    }

    fn note_first(&self, batch: &Batch) {
        let first = batch
            .records()
            .find_map(|(_, payload)| Hit::decode(payload).ok());
        let at = first.map_or(0, |hit| hit.received_at.0);
        self.progress.oldest_unloaded.store(at, Ordering::Relaxed);
    }

    /// Loads over one connection; an error ends it.
    async fn session(
        &self,
        stop: &mut watch::Receiver<bool>,
        pause: &mut Duration,
    ) -> anyhow::Result<()> {
        let mut client = self.database.connect().await?;
        self.metrics.postgres_connects.increment(1);
        let id = self.spool.id().0;
        let mut from = postgres::position::read(&client, id)
            .await
            .context("reading the position")?;
        let start = from.map_or(Position::default(), |from| into_spool(from.position));
        // New hits get chunks with numbers that Postgres takes for loaded: nothing may be skipped.
        anyhow::ensure!(
            start.chunk <= self.spool.committed().chunk,
            "Postgres has loaded this spool up to chunk {}, but it ends in chunk {}: it was restored from an older copy; \
             with the chunks and the file id moved away a new spool would begin",
            start.chunk,
            self.spool.committed().chunk,
        );
        self.progress.set_position(start);
        // What was loaded after that is to be loaded again, if the database was restored from a backup.
        self.spool.release(start).context("releasing chunks")?;
        let mut reader = self
            .spool
            .reader(start, from.map_or(0, |from| from.records));
        let mut batch = Batch::default();
        let mut known = Cache::new(KNOWN_KEYS_MAX);
        let mut rows_max = self.batch_rows;
        loop {
            let last = *stop.borrow();
            self.read(&mut reader, &mut batch, rows_max)?;
            if batch.end != from.map_or(Position::default(), |from| into_spool(from.position)) {
                self.load(&mut client, &batch, &mut from, &mut known)
                    .await?;
                *pause = PAUSE_MIN;
                self.progress.set_position(batch.end);
                if let Err(error) = self.spool.release(batch.end) {
                    tracing::error!(%error, "a loaded chunk cannot be deleted");
                }
            }
            self.progress.connected.store(true, Ordering::Relaxed);
            if last {
                return Ok(());
            }
            let is_behind = batch.len() >= rows_max;
            rows_max = if is_behind {
                self.batch_rows * BATCHES_WHEN_BEHIND
            } else {
                self.batch_rows
            };
            if !is_behind {
                self.progress.oldest_unloaded.store(0, Ordering::Relaxed);
                tokio::select! {
                    () = tokio::time::sleep(self.batch_wait) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
                if client.is_closed() {
                    anyhow::bail!("the connection to Postgres was lost");
                }
            }
        }
    }

    fn read(&self, reader: &mut Reader, batch: &mut Batch, rows_max: usize) -> anyhow::Result<()> {
        reader
            .read(batch, rows_max, BATCH_BYTES_MAX)
            .context("reading the spool")?;
        let damage = batch.damage;
        if damage.is_some() {
            tracing::error!(
                regions = damage.regions,
                bytes = damage.bytes,
                gaps = damage.missing,
                records = damage.records,
                "the spool is damaged or chunks of it are gone; what is sound is loaded"
            );
            self.metrics.spool_damage_bytes.increment(damage.bytes);
            self.metrics.spool_lost_records.increment(damage.records);
        }
        if !batch.is_empty() {
            self.note_first(batch);
        }
        Ok(())
    }

    async fn load(
        &self,
        client: &mut Client,
        batch: &Batch,
        from: &mut Option<Progressed>,
        known: &mut Known,
    ) -> anyhow::Result<()> {
        let started = clock::monotonic();
        let tables = self.tables.load_full();
        let mut prepared = Prepared::default();
        for (position, payload) in batch.records() {
            prepared.take(self, &tables, known, position, payload);
        }
        let to = Progressed {
            position: into_postgres(batch.end),
            records: batch.end_records,
        };
        let load = Load {
            spool_id: self.spool.id().0,
            from: from.map(|from| from.position),
            to,
            entries: &prepared.entries,
            dimensions: &prepared.dimensions,
            counts: &prepared.counts,
            rejected: &prepared.rejected,
            keep: &|payload| self.keep(payload),
        };
        let loaded = match postgres::commit(client, &load).await {
            Ok(loaded) => loaded,
            Err(CommitError::Moved) => anyhow::bail!("another loader has moved the position on"),
            Err(error) => return Err(error.into()),
        };
        *from = Some(to);
        for key in prepared.new_keys {
            known.insert(key, ());
        }
        self.count(&loaded, batch, started.elapsed());
        Ok(())
    }

    fn count(&self, loaded: &Loaded, batch: &Batch, took: Duration) {
        let metrics = &self.metrics;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch holds far fewer than 2^52 hits"
        )]
        metrics.batch_rows.record(batch.len() as f64);
        metrics.batch_seconds.record(took);
        metrics.rows.increment(loaded.rows);
        metrics.counted.increment(loaded.counted);
        metrics.repeated.increment(loaded.repeated);
        metrics.rejected.increment(loaded.rejected);
        if loaded.rejected > 0 {
            tracing::warn!(
                hits = loaded.rejected,
                "hits were set aside in avtryck.rejected_hit"
            );
        }
    }

    /// What of a payload may go into Postgres: its address as the configuration says.
    fn keep(&self, payload: &[u8]) -> Vec<u8> {
        match (self.client_ip, Hit::decode(payload)) {
            (ClientIp::Full, _) => payload.to_vec(),
            (ClientIp::Truncated, Ok(mut hit)) => {
                hit.client_ip = hit
                    .client_ip
                    .and_then(|ip| shorten(ip, ClientIp::Truncated))
                    .map(|network| network.network());
                let mut kept = Vec::with_capacity(payload.len());
                hit.encode(&mut kept);
                kept
            }
            _ => hit::without_client_ip(payload),
        }
    }
}

fn into_spool(position: postgres::Position) -> Position {
    Position {
        chunk: position.0,
        offset: position.1,
    }
}

fn into_postgres(position: Position) -> postgres::Position {
    (position.chunk, position.offset)
}

/// What Postgres gets of an address: nothing, its /24 or /48, or all of it.
fn shorten(ip: IpAddr, client_ip: ClientIp) -> Option<IpNet> {
    match client_ip {
        ClientIp::None => None,
        ClientIp::Full => Some(IpNet::from(ip)),
        ClientIp::Truncated => {
            let bits = if ip.is_ipv4() { 24 } else { 48 };
            IpNet::new(ip, bits).ok().map(|network| network.trunc())
        }
    }
}

/// Dimension rows that are known to be in Postgres: the table and the key.
type Known = Cache<(Table, i64), ()>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Table {
    Place,
    Network,
    Device,
    Ad,
    Site,
}

/// A batch on its way to Postgres.
#[derive(Default)]
struct Prepared<'a> {
    entries: Vec<Entry<'a>>,
    dimensions: Dimensions,
    new_keys: HashSet<(Table, i64)>,
    counts: Vec<Count>,
    rejected: Vec<Rejected<'a>>,
}

impl<'a> Prepared<'a> {
    fn take(
        &mut self,
        loader: &Loader,
        tables: &Tables,
        known: &mut Known,
        position: Position,
        payload: &'a [u8],
    ) {
        let hit = match Hit::decode(payload) {
            Ok(hit) => hit,
            Err(error) => {
                self.rejected.push(Rejected {
                    position: into_postgres(position),
                    reason: Cow::Owned(error.to_string()),
                    payload,
                });
                return;
            }
        };
        // No hit: nothing to count and nothing to store.
        if hit.kind.is_instruction() {
            return;
        }
        // Neither a row nor to be counted.
        if !hit.permit.allows(Permit::MEASURE) && hit.flags.has_any(Flags::UNCOUNTED) {
            return;
        }
        let mut keys = Keys {
            prepared: self,
            known,
            metrics: &loader.metrics,
        };
        let site = Site {
            site: hit.site.to_string(),
            category: hit.category.to_string(),
        };
        let site_key = keys.of(Table::Site, site, |new| &mut new.sites);
        let ad_key = keys.ad(&hit);
        if !hit.permit.allows(Permit::MEASURE) {
            self.counts.push(Count {
                minute: hit.received_at.seconds().div_euclid(60),
                site_key,
                ad_key: ad_key.unwrap_or(0),
                kind: hit.kind,
                hits: 1,
            });
            return;
        }
        let place_key = keys.place(tables, &hit);
        let network_key = keys.network(tables, &hit);
        let device_key = keys.device(tables, &hit);
        let event_key = (!hit.event_id.is_empty())
            .then(|| postgres::event_key(&hit.site, hit.kind, &hit.partner, &hit.event_id));
        let row = Row {
            received_at: hit.received_at,
            site_key,
            place_key,
            network_key,
            device_key,
            ad_key,
            flags: hit.flags,
            kind: hit.kind,
            permit: hit.permit,
            consent_source: hit.consent_source,
            hit_id: hit_id(loader.spool.id().0, position),
            visitor_id: hit.visitor,
            page_url: hit.page_url,
            referrer: hit.referrer,
            event_name: hit.event_name,
            event_id: hit.event_id,
            partner_uid: hit.partner_uid,
            maid: hit.maid,
            device_id: hit.device_id,
            client_ip: hit.client_ip.and_then(|ip| shorten(ip, loader.client_ip)),
            params: hit.params,
        };
        self.entries.push(Entry {
            row,
            event_key,
            position: into_postgres(position),
            payload,
        });
    }
}

/// The ID of a hit is its place in its spool: the first half of the spool's ID, then chunk and
/// offset. Loading a record again would give the same ID.
fn hit_id(spool_id: [u8; 16], position: Position) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, ..] = spool_id;
    let place = (position.chunk << 32 | position.offset & 0xffff_ffff).to_be_bytes();
    let [i, j, k, l, m, n, o, p] = place;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Finds the key of each dimension, and gathers the rows that Postgres may not have.
struct Keys<'k, 'a> {
    prepared: &'k mut Prepared<'a>,
    known: &'k mut Known,
    metrics: &'k Metrics,
}

impl Keys<'_, '_> {
    fn of<T: Dimension>(
        &mut self,
        table: Table,
        content: T,
        rows: impl FnOnce(&mut Dimensions) -> &mut Vec<(i64, T)>,
    ) -> i64 {
        let key = content.key();
        self.with_key(table, key, || content, rows);
        key
    }

    fn with_key<T>(
        &mut self,
        table: Table,
        key: i64,
        content: impl FnOnce() -> T,
        rows: impl FnOnce(&mut Dimensions) -> &mut Vec<(i64, T)>,
    ) {
        if self.known.get(&(table, key)).is_some() {
            self.metrics.dimension_hits.increment(1);
        } else if self.prepared.new_keys.insert((table, key)) {
            self.metrics.dimension_misses.increment(1);
            rows(&mut self.prepared.dimensions).push((key, content()));
        }
    }

    fn ad(&mut self, hit: &Hit<'_>) -> Option<i64> {
        let texts = [
            &hit.partner,
            &hit.campaign,
            &hit.creative,
            &hit.placement,
            &hit.publisher,
        ];
        if texts.iter().all(|text| text.is_empty()) {
            return None;
        }
        let [partner, campaign, creative, placement, publisher] =
            texts.map(|text| text.to_string());
        let ad = Ad {
            partner,
            campaign,
            creative,
            placement,
            publisher,
        };
        Some(self.of(Table::Ad, ad, |new| &mut new.ads))
    }

    fn place(&mut self, tables: &Tables, hit: &Hit<'_>) -> Option<i64> {
        let Some(place) = hit.client_ip.and_then(|ip| tables.place(ip)) else {
            self.metrics.place_misses.increment(1);
            return None;
        };
        if !hit.permit.allows(Permit::LOCATE) {
            return Some(self.of(Table::Place, place.value.coarse(), |new| &mut new.places));
        }
        self.with_key(
            Table::Place,
            place.key,
            || place.value.clone(),
            |new| &mut new.places,
        );
        Some(place.key)
    }

    fn network(&mut self, tables: &Tables, hit: &Hit<'_>) -> Option<i64> {
        let Some(network) = hit.client_ip.and_then(|ip| tables.network(ip)) else {
            self.metrics.network_misses.increment(1);
            return None;
        };
        self.with_key(
            Table::Network,
            network.key,
            || network.value.clone(),
            |new| &mut new.networks,
        );
        Some(network.key)
    }

    fn device(&mut self, tables: &Tables, hit: &Hit<'_>) -> Option<i64> {
        let device = tables.device(&hit.user_agent, &hit.hints);
        if device.value == crate::row::Device::default() {
            self.metrics.device_misses.increment(1);
        }
        self.with_key(
            Table::Device,
            device.key,
            || device.value.clone(),
            |new| &mut new.devices,
        );
        Some(device.key)
    }
}

#[cfg(test)]
mod tests;
