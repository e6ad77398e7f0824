//! Where a hit came from, and on what device: [`Tables`] answer from memory.
//!
//! All reading happens in [`load`] and [`reload`]; a lookup does no I/O, reads no clock and cannot
//! fail. A file that is missing or broken costs its own part only: its answers are unknown, and the
//! caller gets a [`LoadError`] that names it. Reloading never makes things worse: for a file that
//! has become unreadable, the part read earlier stays in use.

mod bot;
mod device;
mod geo;
mod hints;
mod rules;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::clock::UnixMicros;
use crate::hit::Hints;
use crate::row::{Device, Dimension, Network, Place};
use bot::Crawlers;
use device::Rules;
use geo::GeoFile;

/// Devices kept by user agent and hints. 10,000 observed page views held 952 distinct user agents.
const DEVICES_CACHED_MAX: usize = 16_384;

/// The files to read, and what stands beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Places, in MaxMind's format; the first that knows an address answers.
    pub city: Vec<PathBuf>,
    /// ASN or ISP data in MaxMind's format; the first that knows an address answers.
    pub network: Vec<PathBuf>,
    /// Device rules: the content of uap-core's `regexes.yaml`, as JSON.
    pub rules: PathBuf,
    /// Crawlers: the JSON of the npm package `crawler-user-agents`.
    pub crawlers: PathBuf,
    /// The numbers of autonomous systems of data centres.
    pub data_centres: Arc<HashSet<u32>>,
}

impl Sources {
    /// Whether a file is one of them.
    #[must_use]
    pub fn name(&self, path: &Path) -> bool {
        let mut geodata = self.city.iter().chain(&self.network);
        geodata.any(|known| known == path) || self.rules == path || self.crawlers == path
    }
}

/// Whose geodata: those who ask for a link wherever places are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// DB-IP's free databases, CC BY 4.0.
    DbIp,
    /// GeoLite2 of MaxMind.
    GeoLite,
}

impl Origin {
    /// All of them.
    pub const ALL: [Origin; 2] = [Origin::DbIp, Origin::GeoLite];

    /// What is in the type or the name of their files.
    fn word(self) -> &'static str {
        match self {
            Origin::DbIp => "dbip",
            Origin::GeoLite => "geolite",
        }
    }
}

/// What a file of geodata holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `places` or `networks`.
    pub about: &'static str,
    /// As the file states it.
    pub database_type: String,
    /// When it was built, in seconds since 1970.
    pub built_seconds: u64,
    /// How many networks of addresses it tells apart.
    pub networks: u64,
}

impl Report {
    /// How long ago the file was built.
    #[must_use]
    pub fn age(&self, now: UnixMicros) -> Duration {
        let now = u64::try_from(now.seconds()).unwrap_or(0);
        Duration::from_secs(now.saturating_sub(self.built_seconds))
    }
}

/// Reads a file of geodata to its end, for whoever is about to put it in the place of another.
///
/// # Errors
/// Where something of it cannot be read, or it is about neither places nor networks.
pub fn verify(path: &Path) -> Result<Report, LoadError> {
    let report = match geo::open_places(path) {
        Ok(file) => file.report("places"),
        Err(Problem::Schema { .. }) => {
            geo::open_networks(path).and_then(|file| file.report("networks"))
        }
        Err(problem) => Err(problem),
    };
    report.map_err(|problem| problem.at(path))
}

/// A value and the key of its dimension row.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyed<T> {
    /// [`Dimension::key`] of the value.
    pub key: i64,
    /// The content of the dimension row.
    pub value: T,
}

impl<T: Dimension> Keyed<T> {
    /// Computes the key of `value`.
    #[must_use]
    pub fn new(value: T) -> Keyed<T> {
        Keyed {
            key: value.key(),
            value,
        }
    }
}

/// What is wrong with one of the [`Sources`].
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// Why it is not used, or not all of it.
    pub problem: Problem,
}

/// Why a file is not used, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is no sound file of MaxMind's format.
    #[error("broken geodata: {0}")]
    Geodata(#[from] maxminddb::MaxMindDbError),
    /// It is of MaxMind's format, but about something else.
    #[error("its records (type {database_type:?}) hold no {wanted}")]
    Schema {
        /// The type that the file states.
        database_type: String,
        /// What was looked for.
        wanted: &'static str,
    },
    /// It is not the JSON that was expected.
    #[error("not the expected JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The device rules do not compile.
    #[error("the device rules do not compile: {0}")]
    Rules(#[from] ua_parser::Error),
    /// The crawler patterns do not compile.
    #[error("the crawler patterns do not compile: {0}")]
    Crawlers(#[source] ua_parser::Error),
    /// It is used, except for patterns that the regex engine cannot take.
    #[error("{skipped} of {total} crawler patterns skipped, the first is {first:?}: {why}")]
    Skipped {
        /// How many patterns are not used.
        skipped: usize,
        /// How many patterns the file has.
        total: usize,
        /// The first that is not used.
        first: String,
        /// What the engine says of it.
        why: String,
    },
}

impl LoadError {
    /// Whether the file is in use all the same.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        matches!(self.problem, Problem::Skipped { .. })
    }
}

/// Everything that lookups answer from.
pub struct Tables {
    places: Vec<Arc<GeoFile<Place>>>,
    networks: Vec<Arc<GeoFile<Network>>>,
    rules: Option<Arc<Rules>>,
    crawlers: Option<Arc<Crawlers>>,
    data_centres: Arc<HashSet<u32>>,
    devices: Cache<u128, Arc<Keyed<Device>>>,
    /// What hashes in the cache begin with: nobody outside knows which devices share one.
    seed: u64,
}

impl Default for Tables {
    /// Tables that know nothing.
    fn default() -> Tables {
        Tables {
            places: Vec::new(),
            networks: Vec::new(),
            rules: None,
            crawlers: None,
            data_centres: Arc::default(),
            devices: Cache::new(DEVICES_CACHED_MAX),
            seed: RandomState::new().hash_one(()),
        }
    }
}

/// Reads every file of `sources`. What could not be read is absent and has an error.
#[must_use]
pub fn load(sources: &Sources) -> (Tables, Vec<LoadError>) {
    reload(sources, &Tables::default())
}

/// Reads every file of `sources` anew. What could not be read stays as it is in `old` (a geodata
/// file: if `old` has read that path) and has an error.
#[must_use]
pub fn reload(sources: &Sources, old: &Tables) -> (Tables, Vec<LoadError>) {
    let mut errors = Vec::new();
    let places = geo_files(&sources.city, &old.places, geo::open_places, &mut errors);
    let networks = geo_files(
        &sources.network,
        &old.networks,
        geo::open_networks,
        &mut errors,
    );
    let rules = Rules::open(&sources.rules)
        .map(Arc::new)
        .map_err(|problem| errors.push(problem.at(&sources.rules)))
        .ok()
        .or_else(|| old.rules.clone());
    let crawlers = match Crawlers::open(&sources.crawlers) {
        Ok((crawlers, skipped)) => {
            errors.extend(skipped.map(|problem| problem.at(&sources.crawlers)));
            Some(Arc::new(crawlers))
        }
        Err(problem) => {
            errors.push(problem.at(&sources.crawlers));
            old.crawlers.clone()
        }
    };
    let tables = Tables {
        places,
        networks,
        rules,
        crawlers,
        data_centres: Arc::clone(&sources.data_centres),
        ..Tables::default()
    };
    (tables, errors)
}

fn geo_files<T>(
    paths: &[PathBuf],
    old: &[Arc<GeoFile<T>>],
    open: fn(&Path) -> Result<GeoFile<T>, Problem>,
    errors: &mut Vec<LoadError>,
) -> Vec<Arc<GeoFile<T>>> {
    let read = paths.iter().filter_map(|path| match open(path) {
        Ok(file) => Some(Arc::new(file)),
        Err(problem) => {
            errors.push(problem.at(path));
            old.iter().find(|file| file.path() == path).cloned()
        }
    });
    read.collect()
}

impl Problem {
    fn at(self, path: &Path) -> LoadError {
        LoadError {
            path: path.to_owned(),
            problem: self,
        }
    }
}

impl Tables {
    /// The place of an address; `None` if no file knows it.
    #[must_use]
    pub fn place(&self, ip: IpAddr) -> Option<Arc<Keyed<Place>>> {
        let ip = ip.to_canonical();
        self.places.iter().find_map(|file| file.lookup(ip))
    }

    /// The network of an address; `None` if no file knows it.
    #[must_use]
    pub fn network(&self, ip: IpAddr) -> Option<Arc<Keyed<Network>>> {
        let ip = ip.to_canonical();
        self.networks.iter().find_map(|file| file.lookup(ip))
    }

    /// When the oldest file of places and of networks was built, in seconds since 1970; 0 without one.
    #[must_use]
    pub fn built(&self) -> [u64; 2] {
        let places = self.places.iter().map(|file| file.built()).min();
        let networks = self.networks.iter().map(|file| file.built()).min();
        [places, networks].map(Option::unwrap_or_default)
    }

    /// Whose geodata are in use, of those who ask for a link.
    #[must_use]
    pub fn origins(&self) -> Vec<Origin> {
        let places = self.places.iter().filter_map(|file| file.origin());
        let networks = self.networks.iter().filter_map(|file| file.origin());
        let found: Vec<Origin> = places.chain(networks).collect();
        let is_found = |origin: &Origin| found.contains(origin);
        Origin::ALL.into_iter().filter(is_found).collect()
    }

    /// Whether an autonomous system is a data centre's.
    #[must_use]
    pub fn is_data_centre(&self, asn: u32) -> bool {
        self.data_centres.contains(&asn)
    }

    /// The device behind a user agent and client hints. What neither tells is empty.
    #[must_use]
    pub fn device(&self, user_agent: &str, hints: &Hints<'_>) -> Arc<Keyed<Device>> {
        let seen = seen(user_agent, hints, self.seed);
        if let Some(device) = self.devices.get(&seen) {
            return device;
        }
        let is_crawler = self
            .crawlers
            .as_ref()
            .is_some_and(|crawlers| crawlers.knows(user_agent));
        let device = device::recognise(self.rules.as_deref(), is_crawler, user_agent, hints);
        let device = Arc::new(Keyed::new(device));
        self.devices.insert(seen, Arc::clone(&device));
        device
    }
}

/// What a device is recognised by, in short: 128 bits for the agent, which 64 for the hints begin. Two that share them by
/// chance are one pair in 2^64, and nobody outside knows the seed. No text is kept or compared, each of which would be fetched
/// from elsewhere in memory.
fn seen(user_agent: &str, hints: &Hints<'_>, seed: u64) -> u128 {
    let mobile: &[u8] = match hints.mobile {
        None => b"",
        Some(false) => b"0",
        Some(true) => b"1",
    };
    let texts = [
        hints.brands.as_bytes(),
        mobile,
        hints.platform.as_bytes(),
        hints.platform_version.as_bytes(),
        hints.model.as_bytes(),
        hints.form_factors.as_bytes(),
    ];
    let seed = texts
        .iter()
        .fold(seed, |seed, text| xxh3_64_with_seed(text, seed));
    xxh3_128_with_seed(user_agent.as_bytes(), seed)
}
