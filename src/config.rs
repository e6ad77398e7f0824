//! Configuration: strings -> checked structs.
//!
//! Every key has a default that works and an environment variable `AVTRYCK_<SECTION>_<KEY>`, which
//! outweighs the file; a list is separated by commas there. Every mistake is reported at once, each
//! with its key, its value and what would be right. Secrets are named, never shown.

mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use crate::hit::Permit;
use crate::request::ForwardedHeader;
use read::{Reader, Section};

/// All settings.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the sections' own docs say what they are")]
pub struct Config {
    pub http: Http,
    pub path: Paths,
    pub admin: Admin,
    pub spool: Spool,
    pub database: Database,
    pub loader: Loader,
    pub geoip: Geoip,
    pub device: Device,
    pub privacy: Privacy,
    pub cookie: Cookie,
    pub sites: Vec<Site>,
    pub partners: Vec<Partner>,
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

/// `[path]`: where each endpoint answers.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the path of the endpoint of that name")]
pub struct Paths {
    pub pixel: String,
    pub event: String,
    pub id: String,
    pub impression: String,
    pub tag: String,
}

/// `[admin]`: metrics and health.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Default 127.0.0.1:9090.
    pub listen: SocketAddr,
}

/// What a reply claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The record was synced to the disk.
    Disk,
    /// The record is in the page cache: it survives a crash of the process, not of the machine.
    Memory,
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
                match rest.rsplit_once('@') {
                    Some((_, place)) => write!(f, "{scheme}://…@{}", without_query(place)),
                    None => write!(f, "{scheme}://{}", without_query(rest)),
                }
            }
        }
    }
}

/// A URL's parameters may hold a password too.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
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
}

/// `[[partner]]`: an ad network or other third party.
#[derive(Clone, Debug)]
pub struct Partner {
    /// The name in `partner=`.
    pub key: String,
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
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigErrors> {
        let text = match path {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                ConfigErrors(vec![format!(
                    "{}: cannot be read ({error})",
                    path.display()
                )])
            })?,
        };
        Config::parse(&text, environment)
    }

    /// Reads a configuration's text and the environment.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigErrors> {
        let mut reader = Reader::new(text, environment)?;
        let config = Config {
            http: reader.section("http", http),
            path: reader.section("path", paths),
            admin: reader.section("admin", |s| Admin {
                listen: s.take(
                    "listen",
                    ([127, 0, 0, 1], 9090).into(),
                    "an address with a port",
                    |t| t.parse().ok(),
                ),
            }),
            spool: reader.section("spool", spool),
            database: reader.section("database", |s| Database {
                url: s.take_secret(
                    "url",
                    DatabaseUrl::Embedded,
                    "embedded, or a postgres:// URL without sslmode=require",
                    database_url,
                ),
                dir: s.take("dir", "data/postgres".into(), "a directory", path),
            }),
            loader: reader.section("loader", |s| Loader {
                batch_rows: s.take("batch_rows", 20_000, "1 to 200000", |t| {
                    whole(t, 1..=200_000)
                }),
                batch_wait: s.take(
                    "batch_wait",
                    Duration::from_millis(500),
                    "10ms to 60s",
                    |t| {
                        duration(t).filter(|d| {
                            (Duration::from_millis(10)..=Duration::from_secs(60)).contains(d)
                        })
                    },
                ),
            }),
            geoip: reader.section("geoip", |s| Geoip {
                city: s.take_list("city", "files", path),
                network: s.take_list("network", "files", path),
            }),
            device: reader.section("device", |s| Device {
                rules: s.take(
                    "rules",
                    "assets/data/rules/regexes.json".into(),
                    "a file",
                    path,
                ),
                crawlers: s.take(
                    "crawlers",
                    "assets/data/rules/crawlers.json".into(),
                    "a file",
                    path,
                ),
            }),
            privacy: reader.section("privacy", |s| Privacy {
                client_ip: s.take(
                    "client_ip",
                    ClientIp::Truncated,
                    "none, truncated or full",
                    |t| match t {
                        "none" => Some(ClientIp::None),
                        "truncated" => Some(ClientIp::Truncated),
                        "full" => Some(ClientIp::Full),
                        _ => None,
                    },
                ),
                retention: s.take("retention", days(90), "1d to 3650d, in whole days", |t| {
                    whole_days(t, 1..=3650)
                }),
            }),
            cookie: reader.section("cookie", cookie),
            sites: reader.tables("site", site),
            partners: reader.tables("partner", |s| Partner { key: key(s) }),
        };
        config.check(&mut reader);
        reader.finish(config)
    }

    /// What no key alone can tell.
    fn check(&self, reader: &mut Reader) {
        if self.sites.is_empty() {
            reader.error("site: there is none, so no hit could be recorded; a [[site]] with a key would be right");
        }
        if self.spool.bytes_max < 2 * self.spool.chunk_bytes {
            reader.error("spool.max_bytes: less than two chunks; at least 2 × spool.chunk_bytes would be right");
        }
        if self.admin.listen == self.http.listen && self.http.listen.port() != 0 {
            reader.error("admin.listen: the same as http.listen; an address that the public cannot reach would be right");
        }
        let twice = |values: Vec<&String>| {
            let mut values = values;
            values.sort();
            values.windows(2).find_map(|pair| {
                pair.first()
                    .filter(|_| pair.first() == pair.last())
                    .map(|v| (*v).clone())
            })
        };
        for (name, found) in [
            (
                "site.key",
                twice(self.sites.iter().map(|site| &site.key).collect()),
            ),
            (
                "site.hosts",
                twice(self.sites.iter().flat_map(|site| &site.hosts).collect()),
            ),
            (
                "partner.key",
                twice(self.partners.iter().map(|partner| &partner.key).collect()),
            ),
            (
                "path",
                twice(vec![
                    &self.path.pixel,
                    &self.path.event,
                    &self.path.id,
                    &self.path.impression,
                    &self.path.tag,
                ]),
            ),
        ] {
            if let Some(value) = found {
                reader.error(&format!(
                    "{name}: {value:?} is there twice; each once would be right"
                ));
            }
        }
        let mut ids: Vec<u8> = self.cookie.keys.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair.first() == pair.last()) {
            reader.error(
                "cookie.keys: two keys have one ID; an ID of its own for each would be right",
            );
        }
    }

    /// Every setting as it is in force, a line each, without secrets.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{self:#?}")
    }
}

fn http(s: &mut Section<'_>) -> Http {
    Http {
        listen: s.take(
            "listen",
            ([127, 0, 0, 1], 8080).into(),
            "an address with a port",
            |t| t.parse().ok(),
        ),
        threads: s.take("threads", 0, "0 (one per core) to 256", |t| {
            whole(t, 0..=256)
        }),
        trusted_proxies: s.take_list("trusted_proxies", "networks such as 10.0.0.0/8", |t| {
            t.parse()
                .ok()
                .or_else(|| t.parse::<IpAddr>().ok().map(IpNet::from))
        }),
        forwarded_header: s.take(
            "forwarded_header",
            ForwardedHeader::XForwardedFor,
            "x-forwarded-for or forwarded",
            |t| match t {
                "x-forwarded-for" => Some(ForwardedHeader::XForwardedFor),
                "forwarded" => Some(ForwardedHeader::Forwarded),
                _ => None,
            },
        ),
        h2c: s.take("h2c", false, "true or false", |t| t.parse().ok()),
        connections_max: s.take("connections_max", 16_384, "1 to 1000000", |t| {
            whole(t, 1..=1_000_000)
        }),
        connections_per_address_max: s.take(
            "connections_per_address_max",
            1024,
            "0 (no limit) to 1000000",
            |t| whole(t, 0..=1_000_000),
        ),
    }
}

fn paths(s: &mut Section<'_>) -> Paths {
    let mut take = |name: &str, default: &str| {
        s.take(
            name,
            default.to_owned(),
            "a path such as /p.gif, not /demo",
            |t| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
                (t.starts_with('/') && t != "/demo" && t.bytes().all(plain)).then(|| t.to_owned())
            },
        )
    };
    Paths {
        pixel: take("pixel", "/p.gif"),
        event: take("event", "/e"),
        id: take("id", "/id"),
        impression: take("impression", "/i.gif"),
        tag: take("tag", "/tag.js"),
    }
}

fn spool(s: &mut Section<'_>) -> Spool {
    const MIB: u64 = 1 << 20;
    Spool {
        dir: s.take("dir", "data/spool".into(), "a directory", path),
        ack: s.take("ack", Ack::Disk, "disk or memory", |t| match t {
            "disk" => Some(Ack::Disk),
            "memory" => Some(Ack::Memory),
            _ => None,
        }),
        bytes_max: s.take("max_bytes", 16 << 30, "a size such as 16GiB", bytes),
        chunk_bytes: s.take("chunk_bytes", 64 * MIB, "1MiB to 1GiB", |t| {
            bytes(t).filter(|bytes| (MIB..=1024 * MIB).contains(bytes))
        }),
    }
}

fn cookie(s: &mut Section<'_>) -> Cookie {
    // RFC 6265, section 4.1.1: a cookie's name is a token.
    let token = |t: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        (!t.is_empty() && t.len() <= 64 && t.bytes().all(plain)).then(|| t.to_owned())
    };
    Cookie {
        name: s.take("name", "avid".to_owned(), "letters, digits, - . _", token),
        choice_name: s.take(
            "choice_name",
            "avchoice".to_owned(),
            "letters, digits, - . _",
            token,
        ),
        keys: s.take_secret_list(
            "keys",
            "ID:BASE64, an ID of 0 to 255 and at least 32 bytes",
            |t| {
                let (id, secret) = t.split_once(':')?;
                let secret = STANDARD
                    .decode(secret)
                    .ok()
                    .filter(|secret| secret.len() >= 32)?;
                Some((id.parse().ok()?, secret))
            },
        ),
        max_age: s.take("max_age", days(390), "1d to 396d (13 months)", |t| {
            duration(t).filter(|age| (days(1)..=days(396)).contains(age))
        }),
    }
}

fn key(s: &mut Section<'_>) -> String {
    s.require("key", "1 to 64 of a-z 0-9 . - _", |t| {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        ((1..=64).contains(&t.len()) && t.bytes().all(plain)).then(|| t.to_owned())
    })
}

fn site(s: &mut Section<'_>) -> Site {
    let host = |t: &str| {
        let plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte)
        };
        (!t.is_empty() && t.bytes().all(plain)).then(|| t.to_owned())
    };
    Site {
        key: key(s),
        hosts: s.take_list("hosts", "host names in lower case", host),
        cookie_domain: s.take("cookie_domain", None, "a domain such as telenor.se", |t| {
            host(t)
                .filter(|t| t.contains('.') && !t.starts_with('.'))
                .map(Some)
        }),
        origins: s.take_list("origins", "origins such as https://www.telenor.se", |t| {
            let (scheme, rest) = t.split_once("://")?;
            (matches!(scheme, "http" | "https") && host(rest).is_some()).then(|| t.to_owned())
        }),
        default_permit: s
            .take_list(
                "default_permit",
                "store, measure, profile, match, link, locate",
                Permit::named,
            )
            .into_iter()
            .fold(Permit::NONE, Permit::with),
    }
}

fn database_url(text: &str) -> Option<DatabaseUrl> {
    if text == "embedded" {
        return Some(DatabaseUrl::Embedded);
    }
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return None;
    }
    let parsed: tokio_postgres::Config = text.parse().ok()?;
    let plain = parsed.get_ssl_mode() != tokio_postgres::config::SslMode::Require;
    plain.then(|| DatabaseUrl::Url(text.to_owned()))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it stands where parsers stand that can fail"
)]
fn path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text))
}

fn whole(text: &str, range: std::ops::RangeInclusive<usize>) -> Option<usize> {
    text.parse().ok().filter(|number| range.contains(number))
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

fn whole_days(text: &str, range: std::ops::RangeInclusive<u64>) -> Option<Duration> {
    duration(text).filter(|d| d.as_secs() % 86_400 == 0 && range.contains(&(d.as_secs() / 86_400)))
}

/// `500ms`, `10s`, `5m`, `24h`, `90d`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// `4096`, `64MiB`, `1GB`.
fn bytes(text: &str) -> Option<u64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}
