//! Configuration: strings -> checked structs.
//!
//! Every key has a default that works and an environment variable `AVTRYCK_<SECTION>_<KEY>`, which
//! outweighs the file; a list is separated by commas there. Every mistake is reported at once, each
//! with its key, its value and what would be right. Secrets are named, never shown.

mod key;
mod read;
mod rules;
mod setting;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use spool::Ack;

use crate::callback::names::Fields;
use crate::hit::Permit;
use crate::request::ForwardedHeader;
use read::Reader;
use setting::Kept;
pub use setting::{Settings, Waiting};
pub(crate) use value::duration;

/// What stands above the keys in [`Config::example`].
const EXAMPLE_HEAD: &str = "\
# Every key of avtryck, with its default: `avtryck example-config` prints this file.
#
# Each key of a [section] also has an environment variable, which outweighs the file; the values of a
# list are separated by commas there. `avtryck check-config` says whether a file is right, what is in
# force and where each value is from. SIGHUP (`systemctl reload avtryck`) reads the file again, and what
# it refers to; a file with a mistake in it changes nothing. What takes a restart says so.
";

/// All settings.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the sections' own docs say what they are")]
pub struct Config {
    pub http: Http,
    pub tls: Tls,
    pub limit: Limit,
    pub path: Paths,
    pub admin: Admin,
    pub spool: Spool,
    pub database: Database,
    pub loader: Loader,
    pub geoip: Geoip,
    pub device: Device,
    pub privacy: Privacy,
    pub traffic: Traffic,
    pub cookie: Cookie,
    pub click: Click,
    pub certificates: Vec<Certificate>,
    pub sites: Vec<Site>,
    pub partners: Vec<Partner>,
    /// Every key as it is in force and where its value is from.
    pub in_force: Settings,
}

/// `[http]`: the public listener.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where hits arrive. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// Edge threads; 0, the default, is one per core.
    pub threads: usize,
    /// Networks of proxies whose forwarding header is believed. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they name the client. Default `x-forwarded-for`.
    pub forwarded_header: ForwardedHeader,
    /// HTTP/2 without TLS, by prior knowledge. Default false.
    pub h2c: bool,
    /// Whether connections begin with the PROXY protocol. Default false.
    pub proxy_protocol: bool,
    /// Whether a page that is asked for by http is sent to https. Default false.
    pub redirect_to_https: bool,
    /// Open connections, in all. Default 16384.
    pub connections_max: usize,
    /// Open connections of one IPv4 address or IPv6 /64, proxies aside; 0 is no limit. Default 1024.
    pub connections_per_address_max: usize,
}

impl Http {
    /// How many edge threads there are.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

/// `[tls]`: the public listener for https.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Where hits arrive over TLS. Default nowhere.
    pub listen: Option<SocketAddr>,
    /// Whether connections begin with the PROXY protocol. Default false.
    pub proxy_protocol: bool,
    /// How long browsers are to come by https alone. Default 0: nothing is said.
    pub hsts: Duration,
}

/// `[[certificate]]`: files in PEM; the first is for who asks for no name, or for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The server's own certificate, and those that lead from it to a root.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `[limit]`: how many hits one client may send, an IPv4 address or an IPv6 /64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In the long run; 0 is no limit. Default 100.
    pub hits_per_second: u64,
    /// At once, after a time without any. Default 1000.
    pub burst: u64,
    /// Whether hits over the limit are refused; else they are flagged. Default false.
    pub drop: bool,
}

/// `[path]`: where each endpoint answers.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the path of the endpoint of that name")]
pub struct Paths {
    pub pixel: String,
    pub event: String,
    pub id: String,
    pub impression: String,
    pub click: String,
    pub callback: String,
    pub sync: String,
    pub set_uid: String,
    pub consent: String,
    pub privacy: String,
    pub tag: String,
}

/// `[admin]`: metrics and health.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Default 127.0.0.1:9090.
    pub listen: SocketAddr,
    /// Names under which a browser may open the live view, beside addresses and `localhost`. Default none.
    pub hosts: Vec<String>,
}

/// `[spool]`: the log on disk.
#[derive(Clone, Debug)]
pub struct Spool {
    /// Default data/spool.
    pub dir: PathBuf,
    /// Default disk.
    pub ack: Ack,
    /// Disk space of all chunks. Default 16 GiB.
    pub bytes_max: u64,
    /// Size of a chunk. Default 64 MiB.
    pub chunk_bytes: u64,
    /// How long a chunk stays after it was loaded, if there is room. Default 0.
    pub keep: Duration,
}

/// Which Postgres.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// One of our own, from the binaries installed.
    Embedded,
    /// A `postgres://` URL.
    Url(String),
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DatabaseUrl {
    /// The URL without its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseUrl::Embedded => f.write_str("embedded"),
            DatabaseUrl::Url(url) => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", ""));
                // A URL's parameters may hold a password too.
                let rest = rest.split('?').next().unwrap_or_default();
                match rest.rsplit_once('@') {
                    Some((_, place)) => write!(f, "{scheme}://…@{place}"),
                    None => write!(f, "{scheme}://{rest}"),
                }
            }
        }
    }
}

/// `[database]`.
#[derive(Clone, Debug)]
pub struct Database {
    /// Default embedded.
    pub url: DatabaseUrl,
    /// Where the embedded one lies. Default data/postgres.
    pub dir: PathBuf,
}

/// `[loader]`: from the spool to Postgres.
#[derive(Clone, Debug)]
pub struct Loader {
    /// Hits of a transaction; up to four times as many while it is behind. Default 20000.
    pub batch_rows: usize,
    /// How long hits wait for a batch to fill. Default 500 ms.
    pub batch_wait: Duration,
}

/// `[geoip]`: files in MaxMind's format; the first that knows an address answers.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "what the files are about")]
pub struct Geoip {
    pub city: Vec<PathBuf>,
    pub network: Vec<PathBuf>,
}

/// `[device]`: rules for user agents.
#[derive(Clone, Debug)]
pub struct Device {
    /// uap-core's rules as JSON.
    pub rules: PathBuf,
    /// The list crawler-user-agents.
    pub crawlers: PathBuf,
}

/// How much of a client's address Postgres gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientIp {
    /// Nothing.
    None,
    /// The /24 of an IPv4 address, the /48 of an IPv6 one.
    Truncated,
    /// All of it.
    Full,
}

/// `[privacy]`.
#[derive(Clone, Debug)]
pub struct Privacy {
    /// Default truncated.
    pub client_ip: ClientIp,
    /// Age at which a day of hits is dropped, in whole days. Default 90 d.
    pub retention: Duration,
}

/// `[traffic]`: what is taken for traffic that no person made.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Autonomous systems of data centres. By default those of hosts who rent out servers and carry no
    /// subscribers. What also carries people (corporate networks, the relays of browsers and phones: 8075,
    /// 13335, 36183, 54113) is not among them.
    pub data_centre_asns: Arc<HashSet<u32>>,
}

/// `[cookie]`: the visitor's.
#[derive(Clone)]
pub struct Cookie {
    /// Default avid.
    pub name: String,
    /// The name of the cookie that holds the visitor's choice. Default avchoice.
    pub choice_name: String,
    /// Keys with their IDs: the first signs, each verifies. None: one is made in the data directory.
    pub keys: Vec<(u8, Vec<u8>)>,
    /// At most 396 days (13 months). Default 390 d.
    pub max_age: Duration,
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u8> = self.keys.iter().map(|(id, _)| *id).collect();
        f.debug_struct("Cookie")
            .field("name", &self.name)
            .field("key_ids", &ids)
            .finish()
    }
}

/// `[click]`: signed click URLs.
#[derive(Clone)]
pub struct Click {
    /// Keys with their IDs: the first signs, each verifies. None: one is made in the data directory.
    pub keys: Vec<(u8, Vec<u8>)>,
}

impl fmt::Debug for Click {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u8> = self.keys.iter().map(|(id, _)| *id).collect();
        f.debug_struct("Click").field("key_ids", &ids).finish()
    }
}

/// `[[site]]`: whose pages the hits are from.
#[derive(Clone, Debug)]
pub struct Site {
    /// The name in `site=`.
    pub key: String,
    /// Hosts of the collector that stand for this site when a request does not name one.
    pub hosts: Vec<String>,
    /// The domain of the visitor cookie; none: the collector's host alone.
    pub cookie_domain: Option<String>,
    /// Origins of pages that may read replies.
    pub origins: Vec<String>,
    /// What is allowed where the visitor said nothing. Default nothing.
    pub default_permit: Permit,
    /// The site's vendor ID in the Global Vendor List. Default none: no TC string permits anything.
    pub gvl_id: Option<u16>,
    /// What is allowed where the sender says that the GDPR does not apply (`gdpr=0`). Default nothing:
    /// it is not believed.
    pub gdpr_0_permit: Permit,
    /// Hosts that a click may go to without a signature, `*.` before one for all below it. Default none.
    pub click_hosts: Vec<String>,
    /// Whether the target of a click is told the click's ID. Default false.
    pub click_id: bool,
}

/// `[[partner]]`: an ad network or other third party.
#[derive(Clone)]
pub struct Partner {
    /// The name in `partner=`.
    pub key: String,
    /// As for a site, for the hits that name the partner.
    pub default_permit: Permit,
    /// The vendor ID that the partner's macros are about. As for a site.
    pub gvl_id: Option<u16>,
    /// As for a site.
    pub gdpr_0_permit: Permit,
    /// Signs the partner's callbacks. Default none.
    pub secret: String,
    /// Stands in for a signature. Default none; without either no callback is taken.
    pub token: String,
    /// How far a signed callback's timestamp may be from now. Default 5 m.
    pub timestamp_window: Duration,
    /// What the partner calls things. Default what we do.
    pub fields: Fields,
    /// The key of the site that its callbacks are about when they name none.
    pub site: String,
    /// Where a visitor's browser is sent to exchange IDs. Default nowhere.
    pub match_url: String,
    /// Whether its callbacks may say the visitor's address and agent. Default false.
    pub trusted_client: bool,
}

impl fmt::Debug for Partner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partner")
            .field("key", &self.key)
            .field("mapping", &self.fields.mapping)
            .field("has_secret", &!self.secret.is_empty())
            .field("has_token", &!self.token.is_empty())
            .finish()
    }
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
    /// Reads a file, where there is one, and the environment.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, ConfigErrors> {
        Config::read(text(path), environment, Kept::new())
    }

    /// Reads a configuration's text and the environment.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, ConfigErrors> {
        Config::read(Ok(text.to_owned()), environment, Kept::new())
    }

    /// Reads file and environment again for a collector that runs with `self`: what it can take is taken,
    /// the rest stays and is named.
    ///
    /// # Errors
    /// All mistakes at once; then nothing is taken.
    pub fn reload(
        &self,
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)> + Clone,
    ) -> Result<(Config, Vec<Waiting>), ConfigErrors> {
        let text = text(path);
        // What waits for the restart has to be right too, or the restart would fail.
        let wanted = Config::read(text.clone(), environment.clone(), Kept::new())?;
        let config = Config::read(text, environment, self.in_force.kept())?;
        let waiting = self.in_force.waiting(&wanted.in_force);
        Ok((config, waiting))
    }

    /// A configuration file with every key, its default and what it means.
    #[must_use]
    pub fn example() -> String {
        let tables = "[[site]]\nkey = \"shop\"\nhosts = [\"px.shop.example\"]\n[[partner]]\nkey = \"network\"\n[[certificate]]\nchain = \"px.pem\"\nkey = \"px.key\"\n";
        let defaults =
            Config::parse(tables, []).expect("defaults are right: a test reads them all");
        format!("{EXAMPLE_HEAD}{}", defaults.in_force.example())
    }

    fn read(
        text: Result<String, String>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        kept: Kept,
    ) -> Result<Config, ConfigErrors> {
        let mut reader = Reader::new(text, environment, kept);
        let mut config = Config {
            http: reader.section("http", key::http),
            tls: reader.section("tls", key::tls),
            limit: reader.section("limit", key::limit),
            path: reader.section("path", key::paths),
            admin: reader.section("admin", key::admin),
            spool: reader.section("spool", key::spool),
            database: reader.section("database", key::database),
            loader: reader.section("loader", key::loader),
            geoip: reader.section("geoip", key::geoip),
            device: reader.section("device", key::device),
            privacy: reader.section("privacy", key::privacy),
            traffic: reader.section("traffic", key::traffic),
            cookie: reader.section("cookie", key::cookie),
            click: reader.section("click", key::click),
            certificates: reader.tables("certificate", key::certificate),
            sites: reader.tables("site", key::site),
            partners: reader.tables("partner", key::partner),
            in_force: Settings::default(),
        };
        if reader.file_was_read() {
            config.check(&mut reader);
        }
        config.in_force = reader.finish()?;
        Ok(config)
    }

    /// What no key alone can tell.
    fn check(&self, reader: &mut Reader) {
        if self.sites.is_empty() {
            reader.error("site: there is none, so no hit could be recorded; a [[site]] with a key would be right");
        }
        if self.spool.bytes_max < 2 * self.spool.chunk_bytes {
            reader.error("spool.max_bytes: less than two chunks; at least 2 × spool.chunk_bytes would be right");
        }
        if clash(self.admin.listen, self.http.listen) {
            reader.error("admin.listen: the same as http.listen; an address that the public cannot reach would be right");
        }
        self.check_tls(reader);
        if self.cookie.name == self.cookie.choice_name {
            reader
                .error("cookie.choice_name: the same as cookie.name; another name would be right");
        }
        let paths = &self.path;
        once(reader, "site.key", self.sites.iter().map(|site| &site.key));
        once(
            reader,
            "site.hosts",
            self.sites.iter().flat_map(|site| &site.hosts),
        );
        once(
            reader,
            "partner.key",
            self.partners.iter().map(|partner| &partner.key),
        );
        let all = [
            &paths.pixel,
            &paths.event,
            &paths.id,
            &paths.impression,
            &paths.click,
            &paths.callback,
            &paths.sync,
            &paths.set_uid,
            &paths.consent,
            &paths.privacy,
            &paths.tag,
        ];
        once(reader, "path", all);
        let lies_below = |path: &&String| {
            let rest = path.strip_prefix(&paths.privacy);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        if let Some(path) = all.into_iter().find(lies_below) {
            reader.error(&format!(
                "path.privacy: {path} lies below it, where its forms are; another path would be right"
            ));
        }
        once(
            reader,
            "cookie.keys, the ID",
            self.cookie.keys.iter().map(|(id, _)| id),
        );
        for partner in &self.partners {
            let is_known = self.sites.iter().any(|site| site.key == partner.site);
            if !partner.site.is_empty() && !is_known {
                let (key, site) = (&partner.key, &partner.site);
                reader.error(&format!(
                    "partner {key}, site: {site} is no site; the key of one would be right"
                ));
            }
        }
        once(
            reader,
            "click.keys, the ID",
            self.click.keys.iter().map(|(id, _)| id),
        );
    }

    fn check_tls(&self, reader: &mut Reader) {
        let speaks_proxy = self.http.proxy_protocol || self.tls.proxy_protocol;
        if speaks_proxy && self.http.trusted_proxies.is_empty() {
            reader.error("http.trusted_proxies: there is none, so no PROXY protocol would be believed; the load balancer's network would be right");
        }
        let Some(listen) = self.tls.listen else {
            return;
        };
        if self.certificates.is_empty() {
            reader.error("certificate: there is none for tls.listen; a [[certificate]] with chain and key would be right");
        }
        for (name, other) in [("http", self.http.listen), ("admin", self.admin.listen)] {
            if clash(listen, other) {
                reader.error(&format!(
                    "tls.listen: the same as {name}.listen; another port would be right"
                ));
            }
        }
    }
}

/// The text of a file; none where there is none.
fn text(path: Option<&Path>) -> Result<String, String> {
    let Some(path) = path else {
        return Ok(String::new());
    };
    std::fs::read_to_string(path)
        .map_err(|error| format!("{}: cannot be read ({error})", path.display()))
}

/// Whether two listeners cannot both be had.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_place =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_place
}

/// Reports each value that is there twice.
fn once<T: Ord + fmt::Display>(
    reader: &mut Reader,
    name: &str,
    values: impl IntoIterator<Item = T>,
) {
    let mut seen = BTreeSet::new();
    for value in values {
        if seen.contains(&value) {
            reader.error(&format!(
                "{name}: {value} is there twice; each once would be right"
            ));
        }
        seen.insert(value);
    }
}
