//! What happens after the reply: hits and instructions go from the spools to Postgres, and jobs
//! run.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use spool::Spool;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::evaluation::Evaluation;
use super::health::Shard;
use super::households::Households;
use super::kafka::Kafka;
use super::manifests;
use super::reload::Reload;
use crate::config::Config;
use crate::edge::Spools;
use crate::edge::exchange::instruction::KnownInstructions;
use crate::enrich::Tables;
use crate::identity::TieRules;
use crate::import::callback::CallbackManifests;
use crate::jobs;
use crate::keys::UserKeyring;
use crate::loader::sink::kafka::Alone;
use crate::loader::sink::{CallbackAttributes, PostgresSink, SightingRules, Sightings};
use crate::loader::{Instructions, Loader, Progress};
use crate::metrics::Metrics;
use crate::postgres::{Database, needed_connections};

/// What loading may take when the collector stops. What is left waits in the spool.
const LAST_BATCH_TIME_MAX: Duration = Duration::from_secs(3);
/// How often the edge forgets the instructions that are carried out.
const FOLLOW_PERIOD: Duration = Duration::from_secs(1);

/// How often shards that nobody writes to are looked at.
const REMOVE_PERIOD: Duration = Duration::from_secs(1);

/// The parts that load, before they start.
pub(super) struct Parts {
    loaders: Vec<Loader>,
    /// What produces to Kafka, beside them.
    pub(super) kafka: Kafka,
    /// Which IDs the loaders tie together; exchanged on a reload.
    pub(super) tie_rules: Arc<ArcSwap<TieRules>>,
    /// Has the job on ties run at once.
    pub(super) wake: Arc<Notify>,
    /// How the loaders note at which addresses devices are seen.
    pub(super) sightings: Arc<Sightings>,
    /// Which attributes callbacks bring; exchanged on a reload.
    pub(super) attributes: Arc<CallbackAttributes>,
    /// What the edge takes out of callbacks for that.
    pub(super) manifests: Arc<CallbackManifests>,
    /// The shards that nobody writes to any more.
    left: Vec<Shard>,
    pub(super) instructions: Instructions,
    jobs: jobs::JobLimits,
    households: Households,
    pub(super) segments: Evaluation,
    /// Whether this process works on Postgres: not where hits go to Kafka alone.
    has_postgres: bool,
}

impl Parts {
    pub(super) fn new(
        config: &Config,
        spools: &Spools,
        database: &Arc<Database>,
        tables: &Arc<ArcSwap<Tables>>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Parts> {
        let tie_rules = Arc::new(ArcSwap::from_pointee(tie_rules(config)));
        let sightings = Arc::new(Sightings::default());
        sightings.rules.store(Arc::new(sighting_rules(config)));
        let wake = Arc::<Notify>::default();
        let user_keys = UserKeyring::new(&config.user.keys).fingerprints();
        let attributes = Arc::<CallbackAttributes>::default();
        let manifests = Arc::new(manifests::read(config));
        let named = manifests::for_loader(config, &manifests);
        attributes.named.store(Arc::new(named));
        let make_sink = || {
            PostgresSink::new(Arc::clone(database), Arc::clone(metrics))
                .limit_new_names(config.loader.new_names_per_day)
                .with_user_keys(user_keys.clone())
                .with_tie_rules(Arc::clone(&tie_rules))
                .with_wake(Arc::clone(&wake))
                .with_sightings(Arc::clone(&sightings))
                .with_attributes(Arc::clone(&attributes))
        };
        let loaders = loaders(config, spools, make_sink, tables, metrics);
        let carried_out = Arc::<Progress>::default();
        let has_postgres = config.loads_into_postgres();
        let alone = Alone {
            tie_rules: Arc::clone(&tie_rules),
            sightings: Arc::clone(&sightings),
        };
        let alone = Some(&alone).filter(|_| !has_postgres);
        let kafka = Kafka::new(config, (&loaders, &carried_out), alone, database, metrics)?;
        let shards = match has_postgres {
            true => shards(&loaders),
            false => kafka.shards(),
        };
        let shards = shards.into_iter();
        let left = spools.hits.spools.get(spools.hits.written..);
        let left: Vec<_> = left.into_iter().flatten().map(Spool::id).collect();
        Ok(Parts {
            left: shards.filter(|shard| left.contains(&shard.id())).collect(),
            loaders,
            kafka,
            tie_rules: Arc::clone(&tie_rules),
            wake: Arc::clone(&wake),
            has_postgres,
            households: Households::new(config, &sightings),
            segments: Evaluation::new(config, metrics),
            sightings,
            attributes,
            manifests,
            instructions: Instructions {
                spool: spools.instructions.clone(),
                database: Arc::clone(database),
                wait: config.loader.batch_wait,
                metrics: Arc::clone(metrics),
                progress: carried_out,
            },
            jobs: job_limits(config, tables, metrics, (tie_rules, wake)),
        })
    }

    /// Returns what a reload exchanges the time zones of sites in.
    pub(super) fn time_zones(&self) -> Option<Arc<ArcSwap<jobs::TimeZones>>> {
        self.jobs.time_zones.clone()
    }

    /// Returns every shard.
    pub(super) fn shards(&self) -> Vec<Shard> {
        match self.has_postgres {
            true => shards(&self.loaders),
            false => self.kafka.shards(),
        }
    }

    /// Starts to load. Hits and jobs wait until geodata and rules have been read.
    pub(super) fn start(
        self,
        reload: &Rc<Reload>,
        database: &Arc<Database>,
        metrics: &Arc<Metrics>,
        remark: &Arc<jobs::Remark>,
    ) -> Loading {
        let (stop, stopping) = watch::channel(false);
        let fenced = self.kafka.fence_notice();
        if !self.has_postgres {
            let (reload, kafka) = (Rc::clone(reload), self.kafka);
            let hits = tokio::task::spawn_local(async move {
                reload.read_tables().await;
                kafka.run(stopping).await;
            });
            tokio::task::spawn_local(remove_drained(self.left));
            tokio::task::spawn_local(self.households.follow_key_alone());
            return Loading {
                stop,
                hits,
                instructions: None,
                fenced,
            };
        }
        let instructions = tokio::task::spawn_local(self.instructions.run(stopping.clone()));
        let (loaders, reload) = (self.loaders, Rc::clone(reload));
        let kafka = self.kafka;
        let jobs = jobs::run(
            Arc::clone(database),
            self.jobs,
            Arc::clone(metrics),
            Arc::clone(remark),
        );
        let hits = tokio::task::spawn_local(async move {
            reload.read_tables().await;
            // One of them looks models up in the tables.
            tokio::task::spawn_local(jobs);
            let loaders = loaders.into_iter();
            let loaders = join_all(loaders.map(|loader| loader.run(stopping.clone())));
            tokio::join!(loaders, kafka.run(stopping.clone()));
        });
        tokio::task::spawn_local(remove_drained(self.left));
        tokio::task::spawn_local(self.households.run(Arc::clone(database)));
        tokio::task::spawn_local(self.segments.run(Arc::clone(database)));
        Loading {
            stop,
            hits,
            instructions: Some(instructions),
            fenced,
        }
    }
}

/// Returns what the jobs need.
pub(super) fn job_limits(
    config: &Config,
    tables: &Arc<ArcSwap<Tables>>,
    metrics: &Arc<Metrics>,
    (tie_rules, wake): (Arc<ArcSwap<TieRules>>, Arc<Notify>),
) -> jobs::JobLimits {
    jobs::JobLimits {
        retention: config.privacy.retention,
        naming: Some(jobs::Naming {
            tables: Arc::clone(tables),
            metrics: Arc::clone(metrics),
        }),
        graph: Some(jobs::Graph::new(tie_rules, Arc::clone(metrics), wake)),
        time_zones: Some(Arc::new(ArcSwap::from_pointee(time_zones(config)))),
    }
}

/// Returns the time zones whose days are those of sites in reports.
pub(super) fn time_zones(config: &Config) -> jobs::TimeZones {
    let sites = config.sites.iter();
    jobs::TimeZones::new(sites.map(|site| (site.key.clone(), site.time_zone.clone())))
}

/// Returns which IDs are tied together.
pub(super) fn tie_rules(config: &Config) -> TieRules {
    let partners = config.partners.iter();
    let id_types = partners.map(|partner| (partner.key.clone(), partner.id_type));
    let users = UserKeyring::new(&config.user.keys);
    let blocked = &config.link.blocked;
    let hashes = blocked.iter().map(|user| users.hashes(user));
    TieRules::new(id_types, blocked, hashes.flatten())
}

/// Returns which hits are sightings.
pub(super) fn sighting_rules(config: &Config) -> SightingRules {
    let sites = config.sites.iter().filter(|site| site.household);
    let household = &config.household;
    SightingRules {
        sites: sites.map(|site| site.key.clone()).collect(),
        mobile_asns: household.mobile_asns.clone(),
        mobile_networks: household.mobile_networks.clone(),
        ipv6_56_asns: household.ipv6_56_asns.clone(),
    }
}

fn loader_count(config: &Config, spools: &Spools) -> usize {
    let shards = spools.hits.spools.len().max(1);
    config.loader.connection_count().clamp(1, shards)
}

/// Returns how many connections to Postgres a collector has at one time.
pub(super) fn count_connections(config: &Config, spools: &Spools) -> i32 {
    let reads_for_kafka = !config.kafka.brokers.is_empty();
    needed_connections(loader_count(config, spools)) + i32::from(reads_for_kafka)
}

/// Returns the loaders, each of which has a connection and some of the shards.
fn loaders(
    config: &Config,
    spools: &Spools,
    make_sink: impl Fn() -> PostgresSink,
    tables: &Arc<ArcSwap<Tables>>,
    metrics: &Arc<Metrics>,
) -> Vec<Loader> {
    let all = &spools.hits.spools;
    let count = loader_count(config, spools);
    let of = |loader| all.iter().skip(loader).step_by(count).cloned().collect();
    let make = |loader| Loader {
        spools: of(loader),
        instructions: spools.instructions.clone(),
        sink: make_sink(),
        tables: Arc::clone(tables),
        batch_rows: config.loader.batch_rows,
        batch_wait: config.loader.batch_wait,
        client_ip: config.privacy.client_ip,
        metrics: Arc::clone(metrics),
        progress: Arc::default(),
    };
    (0..count).map(make).collect()
}

/// Returns every spool of hits with its loader's progress.
pub(super) fn shards<S>(loaders: &[Loader<S>]) -> Vec<Shard> {
    let shards = |loader: &Loader<S>| {
        let progress = Arc::clone(&loader.progress);
        let spools = loader.spools.clone().into_iter().enumerate();
        spools.map(move |(index, spool)| Shard::new(spool, Arc::clone(&progress), index))
    };
    loaders.iter().flat_map(shards).collect()
}

/// Removes the shards that nobody writes to once they are loaded, and ends with the last of them.
async fn remove_drained(mut left: Vec<Shard>) {
    while !left.is_empty() {
        tokio::time::sleep(REMOVE_PERIOD).await;
        left.retain(|shard| match shard.remove_if_loaded() {
            Ok(is_removed) => !is_removed,
            Err(error) => {
                tracing::error!(%error, "a shard that was loaded cannot be removed");
                true
            }
        });
    }
}

/// The tasks that load.
pub(super) struct Loading {
    stop: watch::Sender<bool>,
    hits: JoinHandle<()>,
    instructions: Option<JoinHandle<()>>,
    /// Notified when another process has taken over the spool.
    pub(super) fenced: Arc<Notify>,
}

impl Loading {
    /// Loads one more batch, if there is time, and stops Postgres if it is the collector's own.
    pub(super) async fn stop(self, database: &Database) {
        self.stop.send_replace(true);
        let last = tokio::time::timeout(LAST_BATCH_TIME_MAX, self.hits).await;
        if last.is_err() {
            tracing::warn!("the last batch was not loaded in time; it waits in the spool");
        }
        database.stop().await;
    }

    /// Ends at once. What is in hand waits in the spool.
    pub(super) async fn abort(self) {
        for task in std::iter::once(self.hits).chain(self.instructions) {
            task.abort();
            drop(task.await);
        }
    }
}

/// Lets the edge forget the instructions that are carried out. Never returns.
pub(super) async fn follow_instructions(
    known: Arc<KnownInstructions>,
    spool: Spool,
    progress: Arc<Progress>,
) {
    loop {
        tokio::time::sleep(FOLLOW_PERIOD).await;
        known.forget(progress.position(0), || spool.committed_position());
    }
}
