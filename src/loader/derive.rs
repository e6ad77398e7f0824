//! The first stage: reads a batch, decodes and enriches its hits, and encodes their rows.
//!
//! It runs on a thread of its own, asked for one batch at a time, so that Postgres works on one batch
//! while the next is made. What passes between the stages is [`Prepared`]; two of them go round.
//!
//! A dimension key counts as known from the batch on that brings its row, though that batch may still
//! be on its way: batches commit in order, and after an error this stage is dropped with all that it
//! knows.

use std::net::IpAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use ipnet::IpNet;
use quick_cache::unsync::Cache;
use rustix::process::setpriority_process;
use tokio::sync::mpsc as async_mpsc;

use super::keys::{KNOWN_KEYS_MAX, Keys, Known};
use crate::clock::{self, UnixMicros};
use crate::config::ClientIp;
use crate::enrich::Tables;
use crate::hit::{self, Flags, Hit, Kind, Outcome};
use crate::metrics::Metrics;
use crate::postgres::batch::exposure::Seen;
use crate::postgres::batch::partner_id::Link;
use crate::postgres::batch::position::Progress as Progressed;
use crate::postgres::{self, Count, Load, Record, Rejected};
use crate::row::Row;
use spool::{Batch, Position, Reader};

/// Payload of a batch, in bytes.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A batch on its way to Postgres.
pub(super) struct Prepared {
    /// What was read.
    pub(super) batch: Batch,
    /// What was made of it.
    pub(super) load: Load,
    /// When its first hit was received.
    pub(super) first_received_at: Option<UnixMicros>,
    /// Whether there was more to read than a batch may hold.
    pub(super) is_full: bool,
    /// When its reading began.
    pub(super) begun: Instant,
}

impl Prepared {
    fn new() -> Prepared {
        Prepared {
            batch: Batch::default(),
            load: Load::default(),
            first_received_at: None,
            is_full: false,
            begun: clock::monotonic(),
        }
    }

    /// Whether it moves the position.
    pub(super) fn is_some(&self) -> bool {
        self.load.from.unwrap_or_default() != self.load.to.position
    }
}

/// What the first stage works with.
pub(super) struct Preparer {
    pub(super) reader: Reader,
    pub(super) spool_id: [u8; 16],
    /// How far Postgres will be once the batches so far are committed.
    pub(super) from: Option<Progressed>,
    pub(super) tables: Arc<ArcSwap<Tables>>,
    pub(super) client_ip: ClientIp,
    pub(super) metrics: Arc<Metrics>,
}

/// The first stage at work on its thread, which ends when this is dropped.
pub(super) struct Preparing {
    ask: mpsc::Sender<(Prepared, usize)>,
    ready: async_mpsc::Receiver<anyhow::Result<Prepared>>,
    spare: Vec<Prepared>,
}

impl Preparer {
    /// Starts the thread.
    pub(super) fn start(mut self) -> anyhow::Result<Preparing> {
        let (ask, asked) = mpsc::channel::<(Prepared, usize)>();
        let (give, ready) = async_mpsc::channel(1);
        thread::Builder::new()
            .name("prepare".to_owned())
            .spawn(move || {
                // Where the system refuses, it competes with the edge as an equal.
                setpriority_process(None, postgres::NICE).ok();
                let mut known = Cache::new(KNOWN_KEYS_MAX);
                for (mut prepared, rows_max) in asked {
                    let outcome = self.prepare(&mut prepared, rows_max, &mut known);
                    if give.blocking_send(outcome.map(|()| prepared)).is_err() {
                        return;
                    }
                }
            })
            .context("starting the thread that prepares batches")?;
        Ok(Preparing {
            ask,
            ready,
            spare: Vec::new(),
        })
    }

    fn prepare(
        &mut self,
        prepared: &mut Prepared,
        rows_max: usize,
        known: &mut Known,
    ) -> anyhow::Result<()> {
        let Prepared { batch, load, .. } = prepared;
        prepared.begun = clock::monotonic();
        prepared.first_received_at = None;
        load.clear();
        self.reader
            .read(batch, rows_max, BATCH_BYTES_MAX)
            .context("reading the spool")?;
        prepared.is_full = batch.len() >= rows_max || batch.payload_bytes() >= BATCH_BYTES_MAX;
        load.spool_id = self.spool_id;
        load.from = self.from.map(|from| from.position);
        load.to = Progressed {
            position: super::into_postgres(batch.end),
            records: batch.end_records,
        };
        if load.from.unwrap_or_default() != load.to.position {
            self.from = Some(load.to);
        }
        let tables = self.tables.load_full();
        for (position, payload) in batch.ranges() {
            let record = Record {
                position: super::into_postgres(position),
                payload: payload.clone(),
            };
            let rejected = match Hit::decode(batch.payload(payload)) {
                Ok(hit) => {
                    prepared.first_received_at.get_or_insert(hit.received_at);
                    self.take(load, hit, &record, position, &tables, known)
                        .map_err(str::to_owned)
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = rejected {
                load.rejected.push(Rejected { record, reason });
            }
        }
        Ok(())
    }

    /// Makes a row or a count of a hit; an error is the reason to reject it.
    fn take(
        &self,
        load: &mut Load,
        hit: Hit<'_>,
        record: &Record,
        position: Position,
        tables: &Tables,
        known: &mut Known,
    ) -> Result<(), &'static str> {
        let outcome = hit.outcome();
        if outcome == Outcome::Nothing {
            return Ok(());
        }
        let mut keys = Keys {
            new: &mut load.dimensions,
            known,
            metrics: &self.metrics,
        };
        let site_key = keys.site(&hit);
        let ad_key = keys.ad(&hit);
        if outcome == Outcome::Count {
            load.counts.add(Count {
                minute: hit.received_at.seconds().div_euclid(60),
                site_key,
                ad_key: ad_key.unwrap_or(0),
                kind: hit.kind,
            });
            return Ok(());
        }
        let (network_key, asn) = keys.network(tables, &hit);
        let (device_key, is_bot) = keys.device(tables, &hit);
        let mut flags = hit.flags;
        // A callback comes from its network's server, unless it names the client.
        if hit.kind != Kind::Callback || !hit.user_agent.is_empty() {
            if is_bot {
                flags.set(Flags::BOT);
            }
            if asn.is_some_and(|asn| tables.is_data_centre(asn)) {
                flags.set(Flags::DATA_CENTRE);
            }
        }
        let seen = keys
            .creative(&hit)
            .and_then(|creative| Seen::of(&hit, creative));
        let link = Link::of(&hit);
        let row = Row {
            received_at: hit.received_at,
            site_key,
            place_key: keys.place(tables, &hit),
            network_key,
            device_key: Some(device_key),
            ad_key,
            flags,
            kind: hit.kind,
            permit: hit.permit,
            consent_source: hit.consent_source,
            hit_id: hit_id(self.spool_id, position),
            visitor_id: hit.visitor,
            page_url: hit.page_url,
            referrer: hit.referrer,
            event_name: hit.event_name,
            event_id: hit.event_id,
            partner_uid: hit.partner_uid,
            maid: hit.maid,
            device_id: hit.device_id,
            click_id: hit.click_id,
            client_ip: hit.client_ip.and_then(|ip| shorten(ip, self.client_ip)),
            params: hit.params,
        };
        // A URL for one use is signed with its ID, but perhaps with neither site nor partner: whoever adds
        // another makes no other URL of it.
        let scope = match hit.flags.has(Flags::ONE_TIME) {
            true => ("", ""),
            false => (&*hit.site, &*hit.partner),
        };
        let event_key = (!row.event_id.is_empty())
            .then(|| postgres::event_key(scope.0, hit.kind, scope.1, &row.event_id));
        load.rows.push(&row, event_key, seen, record)?;
        if let Some(link) = link {
            load.link(link);
        }
        Ok(())
    }
}

impl Preparing {
    /// Asks for the next batch. At most one may be asked for and not yet had.
    pub(super) fn ask(&mut self, rows_max: usize) {
        let prepared = self.spare.pop().unwrap_or_else(Prepared::new);
        // Where the thread is gone, `next` says so.
        drop(self.ask.send((prepared, rows_max)));
    }

    /// The batch that was asked for.
    pub(super) async fn next(&mut self) -> anyhow::Result<Prepared> {
        self.ready
            .recv()
            .await
            .context("the thread that prepares batches panicked")?
    }

    /// Takes back a batch that is committed, for its buffers.
    pub(super) fn take_back(&mut self, prepared: Prepared) {
        self.spare.push(prepared);
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

/// What of a payload may go into Postgres: its address as the configuration says.
pub(super) fn keep(payload: &[u8], client_ip: ClientIp) -> Vec<u8> {
    match (client_ip, Hit::decode(payload)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMicros;
    use crate::hit::Kind;

    #[test]
    fn postgres_gets_of_an_address_what_the_configuration_says_also_where_a_hit_is_set_aside() {
        for (ip, truncated) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("255.255.255.255", "255.255.255.0/24"),
            ("2001:db8:abcd:12:3456:789a:bcde:f012", "2001:db8:abcd::/48"),
            ("::1", "::/48"),
        ] {
            let ip: IpAddr = ip.parse().expect("an address");
            let truncated: IpNet = truncated.parse().expect("a network");
            let mut hit = Hit::new(UnixMicros(0), Kind::PageView, "shop");
            hit.client_ip = Some(ip);
            let mut payload = Vec::new();
            hit.encode(&mut payload);
            for (config, shortened, kept) in [
                (ClientIp::None, None, None),
                (
                    ClientIp::Truncated,
                    Some(truncated),
                    Some(truncated.network()),
                ),
                (ClientIp::Full, Some(IpNet::from(ip)), Some(ip)),
            ] {
                assert_eq!(shorten(ip, config), shortened);
                let set_aside = keep(&payload, config);
                assert_eq!(Hit::decode(&set_aside).map(|hit| hit.client_ip), Ok(kept));
            }
        }
    }
}
