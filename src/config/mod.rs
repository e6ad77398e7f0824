//! Configuration: strings -> checked structs.
//!
//! `keys` is the table of keys: it alone names them. Every key has a default that works, except the
//! few that a `[[table]]` requires, and an environment variable `AVTRYCK_<SECTION>_<KEY>`, which
//! outweighs the file; a list is separated by commas there, and a table is written as in the file.
//! All mistakes are reported at once, each with its file and line, its key, its value and what
//! would be right. Secrets are named, never shown. Nothing is said of a value that stands in for
//! one that is missing or wrong.

mod check;
mod debug;
mod document;
mod household;
mod import;
mod in_force;
mod kafka;
mod keys;
mod mistakes;
mod paths;
mod read;
mod rules;
mod segment;
mod system;
mod table;
mod tag_module;
#[cfg(test)]
mod tests;
mod tls;
mod value;
mod webhook;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::Duration;

pub use household::HouseholdConfig;
pub use import::ImportConfig;
pub use in_force::{InForce, Waiting};
pub use kafka::KafkaConfig;
pub use keys::{
    AdminConfig, CategoryConfig, ClickConfig, CookieConfig, DatabaseConfig, DeviceConfig,
    GeoipConfig, HttpConfig, Limit, LinkConfig, LoaderConfig, Partner, PrivacyConfig,
    ProtocolConfig, SchemaConfig, Site, SpoolConfig, TrafficConfig, UserConfig,
};
pub(crate) use mistakes::Mistakes;
pub use mistakes::Unusable;
pub use paths::Paths;
pub use segment::SegmentConfig;
pub use system::System;
pub use tag_module::TagModule;
pub use tls::{Certificate, TlsConfig};
pub(crate) use value::duration;
pub use value::{
    ClientIp, ConsentPlatform, Conversions, DatabaseUrl, HitSink, KafkaFormat, ProxyHeader,
};
pub use webhook::Webhook;

use document::ConfigText;
pub(crate) use document::suggest;
use in_force::Kept;
use read::ConfigReader;

/// For how long the number of an address can be traced to it: an epoch of 14 days.
const SIGHTING_RETENTION: Duration = Duration::from_hours(14 * 24);

/// The text above the keys in [`Config::example`].
const EXAMPLE_HEAD: &str = "\
# Every key of avtryck, with its default: `avtryck example-config` prints this file.
#
# Each key of a [section] also has an environment variable, which outweighs the file; the values of a
# list are separated by commas there, and a table is written as here. The keys of a [[list]] have none.
# `avtryck check-config` says whether a file is right, what is in force and where each value is from.
# SIGHUP (`systemctl reload avtryck`) reads the file again, and what it refers to; a file with a mistake
# in it changes nothing. What takes a restart says so.
";

/// The tables of lists that [`Config::example`] shows, with what they require.
const EXAMPLE_TABLES: &str = r#"
[[site]]
key = "shop"
hosts = ["px.shop.example"]
[[partner]]
key = "network"
[[system]]
key = "crm"
tokens = ["a-token-of-the-example"]
[[segment]]
key = "loyal"
name_sv = "Trogen kund"
name_en = "Loyal customer"
where = "days_active >= 10"
[[webhook]]
key = "crm"
url = "https://crm.shop.example/avtryck"
secret = "a-secret-of-the-example"
[[certificate]]
chain = "px.pem"
key = "px.key"
"#;

/// The whole configuration.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the sections' own docs say what they are")]
pub struct Config {
    pub http: HttpConfig,
    pub tls: TlsConfig,
    pub limit: Limit,
    pub path: Paths,
    pub admin: AdminConfig,
    pub spool: SpoolConfig,
    pub database: DatabaseConfig,
    pub loader: LoaderConfig,
    pub kafka: KafkaConfig,
    pub geoip: GeoipConfig,
    pub device: DeviceConfig,
    pub schema: SchemaConfig,
    pub category: CategoryConfig,
    pub privacy: PrivacyConfig,
    pub traffic: TrafficConfig,
    pub cookie: CookieConfig,
    pub click: ClickConfig,
    pub user: UserConfig,
    pub link: LinkConfig,
    pub household: HouseholdConfig,
    pub import: ImportConfig,
    pub protocol: ProtocolConfig,
    pub certificates: Vec<Certificate>,
    pub sites: Vec<Site>,
    pub partners: Vec<Partner>,
    pub webhooks: Vec<Webhook>,
    pub systems: Vec<System>,
    pub segments: Vec<SegmentConfig>,
    /// Every key with its value and where that value is from.
    pub in_force: InForce,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is wrong:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Returns whether the collector loads hits into Postgres itself.
    #[must_use]
    pub(crate) fn loads_into_postgres(&self) -> bool {
        let sinks = &self.loader.sink;
        sinks.is_empty() || sinks.contains(&HitSink::Postgres)
    }

    /// Returns whether it produces hits to Kafka.
    #[must_use]
    pub(crate) fn produces_to_kafka(&self) -> bool {
        let sinks = &self.loader.sink;
        self.kafka.is_used() && (sinks.is_empty() || sinks.contains(&HitSink::Kafka))
    }

    /// For how long a topic may keep hits: as long as rows are kept and, where hits have sightings
    /// of households with them, no longer than these can be traced.
    #[must_use]
    pub(crate) fn topic_retention(&self) -> Duration {
        match self.loads_into_postgres() {
            true => self.privacy.retention,
            false => self.topic_retention_of_load(),
        }
    }

    /// The same for the process that loads from the topic.
    #[must_use]
    pub(crate) fn topic_retention_of_load(&self) -> Duration {
        match self.sites.iter().any(|site| site.household) {
            true => self.privacy.retention.min(SIGHTING_RETENTION),
            false => self.privacy.retention,
        }
    }

    /// Reads a file, if one is named, and the environment.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, ConfigErrors> {
        Config::read(&ConfigText::read(path), environment, Kept::new())
    }

    /// Reads a file, if one is named, and the environment, as far as they can be read. Where they
    /// are wrong, the default stands.
    pub(crate) fn examine(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> (Config, Mistakes) {
        Config::read_all(&ConfigText::read(path), environment, Kept::new())
    }

    /// Reads a configuration's text and the environment.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, ConfigErrors> {
        Config::read(&ConfigText::of(text), environment, Kept::new())
    }

    /// Reads file and environment again for a collector that runs with `self`. The keys that a
    /// reload applies get their new values; the others keep theirs and are named. `check` sees the
    /// whole new configuration: what waits for the restart has to be right too, or the restart
    /// would fail.
    ///
    /// # Errors
    /// All mistakes at once; then nothing changes.
    pub fn reload(
        &self,
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)> + Clone,
        check: impl FnOnce(&Config) -> Result<(), ConfigErrors>,
    ) -> Result<(Config, Vec<Waiting>), ConfigErrors> {
        let text = ConfigText::read(path);
        let wanted = Config::read(&text, environment.clone(), Kept::new())?;
        check(&wanted)?;
        let config = Config::read(&text, environment, self.in_force.collect_kept())?;
        let waiting = self.in_force.find_waiting(&wanted.in_force);
        Ok((config, waiting))
    }

    /// Returns a configuration file with every key, its default and its meaning.
    #[must_use]
    pub fn example() -> String {
        let defaults =
            Config::parse(EXAMPLE_TABLES, []).expect("defaults are right: a test reads them all");
        format!("{EXAMPLE_HEAD}{}", defaults.in_force.example())
    }

    fn read(
        text: &ConfigText,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        kept: Kept,
    ) -> Result<Config, ConfigErrors> {
        let (config, mistakes) = Config::read_all(text, environment, kept);
        mistakes.into_result().map(|()| config)
    }

    fn read_all(
        text: &ConfigText,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        kept: Kept,
    ) -> (Config, Mistakes) {
        let mut reader = ConfigReader::new(text, environment, kept);
        let mut config = Config {
            http: reader.section(),
            tls: reader.section(),
            limit: reader.section(),
            path: reader.section(),
            admin: reader.section(),
            spool: reader.section(),
            database: reader.section(),
            loader: reader.section(),
            kafka: reader.section(),
            geoip: reader.section(),
            device: reader.section(),
            schema: reader.section(),
            category: reader.section(),
            privacy: reader.section(),
            traffic: reader.section(),
            cookie: reader.section(),
            click: reader.section(),
            user: reader.section(),
            link: reader.section(),
            household: reader.section(),
            import: reader.section(),
            protocol: reader.section(),
            certificates: reader.tables(),
            sites: reader.tables(),
            partners: reader.tables(),
            systems: reader.tables(),
            segments: reader.tables(),
            webhooks: reader.tables(),
            in_force: InForce::default(),
        };
        if reader.file_was_read() {
            check::check(&config, &mut reader);
        }
        let (in_force, mistakes) = reader.finish();
        config.in_force = in_force;
        (config, mistakes)
    }
}
