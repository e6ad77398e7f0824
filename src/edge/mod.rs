//! The public side: accepts connections, limits them, routes requests and answers.
//!
//! Each edge `thread` has entrances of its own; `listener` accepts connections at them, plain or
//! with TLS, until the `course` says stop. A `connection` is ended by the limits in `transport`, or
//! while it waits, if the `crowd` needs its place.
//! Hits by the pixel are answered by `plain`, all other requests by hyper. `router` finds the
//! endpoint, and each endpoint has a file of its own. Nothing here knows Postgres: a hit is
//! answered once the spool holds it.

mod connection;
mod course;
mod crowd;
mod current;
mod endpoint;
pub(crate) mod exchange;
mod listener;
pub mod plain;
mod router;
mod text;
mod thread;
pub mod transport;
mod unread;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use hyper::header::HeaderValue;

pub(crate) use crate::refusal::Refusal;
pub use course::Course;
pub(crate) use course::CourseReceiver;
pub use thread::run;
pub(crate) use transport::entrance::bind_alone;
pub use transport::entrance::{Entrance, Preamble};
pub use transport::limits::Limits;

use current::Current;
use endpoint::{privacy, tag};
use exchange::allowance::{Allowances, HitAllowances};
use exchange::https;
use exchange::instruction::{self, KnownInstructions};
use exchange::mint::Mint;
use transport::memory::{Arrivals, Memory};

use crate::admin::live::Live;

use crate::clock;
use crate::config::{self, Config};
use crate::consent::Strings;
use crate::enrich::Tables;
use crate::import::callback::CallbackManifests;
use crate::inquiry::Inquirer;
use crate::keys::{ClickKeyring, CookieKeyring, UserKeyring};
use crate::metrics::Metrics;
use crate::segment::snapshot::Snapshot;
use spool::{Appender, Spool};

/// What all edge threads share, by the configuration in force. A reload exchanges it whole, and a
/// request keeps the one that it began with.
pub struct Edge {
    /// The configuration.
    pub config: Config,
    /// The keys of the visitor cookie.
    pub keyring: CookieKeyring,
    /// The keys of click URLs.
    pub click_keyring: ClickKeyring,
    /// The keys of the hashes that stand for users.
    pub(crate) user_keyring: UserKeyring,
    /// What partners' callbacks bring besides.
    pub(crate) manifests: Arc<CallbackManifests>,
    /// Whose geodata are shown, for the privacy page to say.
    pub(crate) tables: Arc<ArcSwap<Tables>>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// What `psql` needs to reach the embedded Postgres; the demo page is served where it is
    /// there.
    pub demo_psql: Option<Arc<OnceLock<String>>>,
    /// What viewers of the live view are shown.
    pub(crate) live: Arc<Live>,
    /// Consent strings that were read.
    pub(crate) strings: Arc<Strings>,
    /// Who is in which segments.
    pub(crate) segments: Arc<Snapshot>,
    /// Where the privacy page asks what is held.
    pub(crate) inquirer: Inquirer,
    /// How often each client may still ask that.
    pub(crate) views: Option<Arc<Allowances>>,
    /// How many instructions each client may give: as many, beside the views.
    pub(crate) instructions: Option<Arc<Allowances>>,
    /// How many each network may have recorded.
    pub(crate) instruction_networks: Option<Arc<Allowances>>,
    /// Those that are recorded already.
    pub(crate) known_instructions: Arc<KnownInstructions>,
    /// What each client may still send; none where there is no limit.
    allowances: Option<Arc<HitAllowances>>,
    scripts: tag::Scripts,
    /// What replies over TLS say of https.
    hsts: Option<HeaderValue>,
}

impl Edge {
    /// Prepares what is the same for every request.
    #[must_use]
    pub fn new(
        config: Config,
        (keyring, click_keyring): (CookieKeyring, ClickKeyring),
        tables: Arc<ArcSwap<Tables>>,
        metrics: Arc<Metrics>,
        demo_psql: Option<Arc<OnceLock<String>>>,
        live: Arc<Live>,
        inquirer: Inquirer,
    ) -> Edge {
        Edge {
            scripts: tag::Scripts::new(&config),
            allowances: hit_allowances(&config.limit),
            hsts: https::hsts(config.tls.hsts),
            user_keyring: UserKeyring::new(&config.user.keys),
            manifests: Arc::default(),
            config,
            keyring,
            click_keyring,
            tables,
            metrics,
            demo_psql,
            live,
            strings: Arc::default(),
            segments: Arc::default(),
            inquirer,
            views: allowances(&privacy::VIEWS),
            instructions: allowances(&privacy::VIEWS),
            instruction_networks: allowances(&instruction::NETWORK),
            known_instructions: Arc::default(),
        }
    }

    /// The same with the manifests of partners' callbacks.
    #[must_use]
    pub(crate) fn with_manifests(self, manifests: Arc<CallbackManifests>) -> Edge {
        Edge { manifests, ..self }
    }

    /// The same by another configuration. What clients have used up stays so, unless the limit is
    /// another one.
    #[must_use]
    pub fn with(
        &self,
        config: Config,
        (keyring, click_keyring): (CookieKeyring, ClickKeyring),
    ) -> Edge {
        let is_same_limit = self.config.limit == config.limit;
        Edge {
            scripts: tag::Scripts::new(&config),
            hsts: https::hsts(config.tls.hsts),
            allowances: if is_same_limit {
                self.allowances.clone()
            } else {
                hit_allowances(&config.limit)
            },
            user_keyring: UserKeyring::new(&config.user.keys),
            manifests: Arc::clone(&self.manifests),
            config,
            keyring,
            click_keyring,
            tables: Arc::clone(&self.tables),
            metrics: Arc::clone(&self.metrics),
            demo_psql: self.demo_psql.clone(),
            live: Arc::clone(&self.live),
            strings: Arc::clone(&self.strings),
            segments: Arc::clone(&self.segments),
            inquirer: self.inquirer.clone(),
            views: self.views.clone(),
            instructions: self.instructions.clone(),
            instruction_networks: self.instruction_networks.clone(),
            known_instructions: Arc::clone(&self.known_instructions),
        }
    }
}

fn allowances(limit: &config::Limit) -> Option<Arc<Allowances>> {
    Allowances::new(limit, clock::monotonic()).map(Arc::new)
}

fn hit_allowances(limit: &config::Limit) -> Option<Arc<HitAllowances>> {
    HitAllowances::new(limit, clock::monotonic()).map(Arc::new)
}

/// One edge thread's own.
pub(crate) struct Worker {
    /// By the configuration in force.
    pub(crate) edge: Current<Edge>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) appender: Appender,
    /// The way into the spool of instructions.
    pub(crate) instructions: Appender,
    pub(crate) mint: Mint,
    pub(crate) replies: plain::Replies,
    /// The memory for bodies, which all threads share.
    pub(crate) memory: Arc<Memory>,
    pub(crate) arrivals: Arrivals,
}

/// Where the edge keeps what it takes.
#[derive(Clone)]
pub struct Spools {
    /// Hits.
    pub hits: Shards,
    /// What visitors ask for: small, and read before the hits, so that a withdrawal overtakes what
    /// waits there.
    pub instructions: Spool,
}

/// The spools of hits: one for each edge thread, or fewer.
#[derive(Clone)]
pub struct Shards {
    /// All of them: first those that edge threads write to, then those that earlier runs, with
    /// more of them, left.
    pub spools: Vec<Spool>,
    /// How many are written to.
    pub written: usize,
}

impl Shards {
    /// Returns the appender of edge thread `thread` of `threads`, which must be the calling one. A
    /// thread that has a shard to itself commits by itself.
    fn appender(&self, thread: usize, threads: usize) -> Option<Appender> {
        let written = self.spools.get(..self.written)?;
        let spool = written.get(thread % written.len().max(1))?;
        Some(if threads <= written.len() {
            spool.committing_appender()
        } else {
            spool.appender()
        })
    }
}

/// Who sent a request, as far as the connection tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    pub(crate) tls: bool,
}
