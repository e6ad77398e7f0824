//! Every key, once: its name, type, default and meaning, what is right for it, and whether a change
//! takes effect on a reload or a restart. `table` says what a row is made of and what comes from
//! it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use spool::Ack;

use super::table::keys;
use super::tag_module::{self, TagModule};
use super::value::{
    self, ClientIp, ConsentPlatform, Conversions, DatabaseUrl, HitSink, ProxyHeader,
};
use crate::callback::names::{Fields, Mapping};
use crate::export::ExportId;
use crate::hit::Permit;
use crate::identity::IdType;
use crate::request::CookieNames;

pub(super) const ADDRESS: &str = "an address with a port";
const DIRECTORY: &str = "a directory";
const FILE: &str = "a file";
const FILES: &str = "files";
pub(super) const PEM: &str = "a file in PEM";
const HOSTS: &str = "host names in lower case, without ports";
const COOKIE_NAME: &str = "1 to 64 letters, digits, - . _";
const SIGNING_KEYS: &str = "ID:BASE64, an ID of 0 to 255 and at least 32 bytes";
/// The key of a site or partner.
pub(super) const NAME: &str = "1 to 64 of a-z 0-9 . - _";
const WORDS: &str = "up to 128 bytes of text";
const ALIASES: &str = "texts of 1 to 256 bytes";
pub(super) const SECRET: &str =
    "at least 16 visible ASCII characters, none of which a URL would encode";
pub(super) const PERMITS: &str = "store, measure, profile, match, link, locate";
pub(super) const DELIVERY_URL: &str = "an https URL, or an http URL of this machine";
const VENDOR: &str = "1 to 65535, the ID in the Global Vendor List, or 0 for none";

/// The autonomous systems of hosts that rent out servers and carry no subscribers: DigitalOcean,
/// Amazon (two), OVH, Vultr, Hetzner, Oracle, Alibaba, Linode, Google Cloud. What also carries
/// people (corporate networks, the relays of browsers and phones: 8075, 13335, 36183, 54113) is not
/// listed.
const DATA_CENTRES: [&str; 10] = [
    "14061", "14618", "16509", "16276", "20473", "24940", "31898", "45102", "63949", "396982",
];

keys! {
    /// `[http]`: the public listener.
    #[derive(Clone, Debug)]
    pub struct HttpConfig in [http] {
        /// Where hits arrive.
        restart listen: SocketAddr = one("127.0.0.1:8080", ADDRESS, value::parse);
        /// Edge threads.
        restart threads: usize = one("0", "0 (one per core) to 256", value::whole(0..=256));
        /// Networks of proxies whose forwarding header is believed.
        reload trusted_proxies: Vec<IpNet> = list("networks such as 10.0.0.0/8", value::network);
        /// The header in which these proxies name the client.
        reload forwarded_header: ProxyHeader =
            one("x-forwarded-for", "x-forwarded-for or forwarded", value::proxy_header);
        /// Accepts HTTP/2 without TLS, by prior knowledge.
        reload h2c: bool = flag();
        /// Expects each connection to begin with the PROXY protocol of a trusted proxy, version 1
        /// or 2, and ends those that do not.
        restart proxy_protocol: bool = flag();
        /// Redirects requests for /privacy from http to https. Hits are answered where they arrive.
        reload redirect_to_https: bool = flag();
        /// Whether the simplest requests, a GET of a pixel over HTTP/1.1, are answered without
        /// hyper. The replies are the same.
        reload plain: bool = one("true", "true or false", value::parse);
        /// The most connections open at a time. There are fewer if the limit of open files, which
        /// the collector raises as far as it may, leaves no room for them.
        restart connections_max: usize =
            one("16384", "1 to 1000000", value::whole(1..=1_000_000));
        /// The most connections that one IPv4 address or IPv6 /64 may have open, and an IPv6 /56
        /// four times as many. Trusted proxies are exempt.
        reload connections_per_address_max: usize =
            one("1024", "0 (no limit) to 1000000", value::whole(0..=1_000_000));
        /// The memory for bodies and large headers that are being read. Three quarters of it are
        /// for bodies, and a quarter is the most that one client may use. Bodies beyond it are
        /// refused with 503; pixels need none of it.
        restart body_memory_bytes as "body_memory": u64 =
            one("64MiB", "16MiB to 16GiB", value::bytes_within("16MiB", "16GiB"));
    }
}

keys! {
    /// `[limit]`: how many hits one client may send.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Limit in [limit] {
        /// Hits per second that one client (an IPv4 address or an IPv6 /64, as seen through trusted
        /// proxies) may send in the long run. Its address is kept in memory only.
        reload hits_per_second: u64 = one("100", "0 (no limit) to 10000", value::whole(0..=10_000));
        /// Hits that a client may send at once.
        reload burst: u64 = one("1000", "1 to 1000000", value::whole(1..=1_000_000));
        /// Refuses hits over the limit with 429. Otherwise they become rows flagged `over_limit`.
        /// Clicks, callbacks and systems' events are never refused for it.
        reload drop: bool = flag();
        /// Refuses what comes above that many times the limit, whatever `drop` says and before it
        /// is read. A click still leads to its target. Callbacks and systems' events are exempt.
        reload drop_above: u64 = one("10", "0 (never), or 2 to 100", value::times);
    }
}

keys! {
    /// `[admin]`: metrics, health and the live view.
    #[derive(Clone, Debug)]
    pub struct AdminConfig in [admin] {
        /// The live view, /metrics (Prometheus), /healthz and /readyz: keep it from the public.
        restart listen: SocketAddr = one("127.0.0.1:8090", ADDRESS, value::parse);
        /// Names under which the admin listener answers, besides addresses and `localhost`. Metrics
        /// and readiness also answer to names that nobody can own on the internet: those without a
        /// dot, and those in local, internal, home.arpa, svc and cluster.local.
        restart hosts: Vec<String> = list("host names without a port", value::host);
    }
}

keys! {
    /// `[spool]`: the log on disk.
    #[derive(Clone, Debug)]
    pub struct SpoolConfig in [spool] {
        /// The directory of the log. One process uses it at a time; `serve --take-over` takes it
        /// over.
        restart dir: PathBuf = one("data/spool", DIRECTORY, value::path);
        /// When a hit is answered: after fdatasync (disk), or once it is in the page cache
        /// (memory), which a crash of the machine can lose.
        restart ack: Ack = one("disk", "disk or memory", value::ack);
        /// Disk space of the spool. When it is full, hits get 503.
        restart bytes_max as "max_bytes": u64 = one("16GiB", "a size such as 16GiB", value::bytes);
        /// Size of one of its files.
        restart chunk_bytes: u64 =
            one("64MiB", "1MiB to 1GiB", value::bytes_within("1MiB", "1GiB"));
        /// Spools that share that space. An edge thread that has one to itself commits by itself;
        /// a smaller number makes threads share.
        restart shards: usize = one("0", "0 (one per edge thread) to 256", value::whole(0..=256));
        /// How long a file stays after it was loaded, if there is room: a database restored from a
        /// backup that is at most this old is loaded again from it. It holds whole client
        /// addresses.
        restart keep: Duration = one("0s", "0s to 30d", value::duration_within("0s", "30d"));
    }
}

keys! {
    /// `[database]`: the Postgres that hits are loaded into.
    #[derive(Clone, Debug)]
    pub struct DatabaseConfig in [database] {
        /// The Postgres that hits are loaded into: its URL, or embedded for a private one that is
        /// run from the installed binaries.
        restart url: DatabaseUrl = explained_secret(
            "embedded",
            "embedded, or a URL such as postgres://user:password@host/database",
            value::database_url,
            value::explain_database_url,
        );
        /// The directory of the private one.
        restart dir: PathBuf = one("data/postgres", DIRECTORY, value::path);
    }
}

keys! {
    /// `[loader]`: from the spool to Postgres.
    #[derive(Clone, Debug)]
    pub struct LoaderConfig in [loader] {
        /// Where hits go. Empty: to Postgres, and to Kafka where `kafka.brokers` names any. With
        /// "kafka" alone this collector needs no Postgres, and `avtryck load` loads the hits. What
        /// a spool was begun with it keeps: see docs/kafka.md.
        restart sink: Vec<HitSink> = list("postgres, kafka", value::destination);
        /// Hits in one transaction; up to four times as many while the loader has a backlog.
        restart batch_rows: usize = one("20000", "1 to 200000", value::whole(1..=200_000));
        /// Connections that load side by side, each of them some of the shards.
        restart connections: usize =
            one("0", "0 (one per four cores) to 64", value::whole(0..=64));
        /// How long hits wait for a batch to fill.
        restart batch_wait: Duration =
            one("500ms", "10ms to 60s", value::duration_within("10ms", "60s"));
        /// The ads that may be new in a day, for each site and partner. Beyond that hits become
        /// rows of the ad "other", flagged `other_ad`. As many domains of pages may be new for each
        /// site and partner, as many categories for each site, and ten times as many devices.
        restart new_names_per_day: u64 =
            one("10000", "0 (no limit) to 10000000", value::whole(0..=10_000_000));
    }
}

keys! {
    /// `[geoip]`: files in MaxMind's format.
    #[derive(Clone, Debug)]
    pub struct GeoipConfig in [geoip] {
        /// Files in MaxMind's format (.mmdb) with places. The first that knows an address is used.
        reload city: Vec<PathBuf> = list(FILES, value::path);
        /// The same with ASN or ISP.
        reload network: Vec<PathBuf> = list(FILES, value::path);
    }
}

keys! {
    /// `[device]`: rules for user agents.
    #[derive(Clone, Debug)]
    pub struct DeviceConfig in [device] {
        /// uap-core's rules for user agents, as JSON.
        reload rules: PathBuf = one("assets/data/rules/regexes.json", FILE, value::path);
        /// The list crawler-user-agents.
        reload crawlers: PathBuf = one("assets/data/rules/crawlers.json", FILE, value::path);
        /// The names of models that `script/fetch models` makes. Without the file, models have no
        /// names.
        reload models: PathBuf = one("assets/data/models/models.ndjson", FILE, value::path);
    }
}

keys! {
    /// `[schema]`: what events of Snowplow's trackers should be like.
    #[derive(Clone, Debug)]
    pub struct SchemaConfig in [schema] {
        /// Folders of JSON schemas with files at VENDOR/NAME/jsonschema/VERSION. A row whose
        /// documents break their schema is kept, with the flag `schema` and the first error in
        /// `params.schema_error`. Without a folder nothing is checked.
        reload folders: Vec<PathBuf> = list("folders", value::path);
    }
}

keys! {
    /// `[category]`: what pages are about.
    #[derive(Clone, Debug)]
    pub struct CategoryConfig in [category] {
        /// Lists of domains with categories; the first that knows a domain is used. A file .csv
        /// has lines `domain,category`, a folder has files CATEGORY/domains, and any other file is
        /// a hosts file or has a domain a line; its name is the category. See docs/categories.md.
        reload lists: Vec<PathBuf> = list("files and folders", value::path);
        /// The names of IAB Tech Lab's Content Taxonomy, of which lists may give the IDs.
        reload taxonomy: PathBuf = one("assets/data/rules/taxonomy.json", FILE, value::path);
        /// Categories that are sensitive besides those that docs/categories.md names.
        reload sensitive: Vec<String> = list("names of categories", value::category);
    }
}

keys! {
    /// `[privacy]`: what is kept, and for how long.
    #[derive(Clone, Debug)]
    pub struct PrivacyConfig in [privacy] {
        /// How much of a client's address Postgres gets.
        restart client_ip: ClientIp =
            one("truncated", "none, truncated or full", value::client_ip);
        /// The age at which a day of hits is dropped.
        restart retention: Duration =
            one("90d", "1d to 3650d, in whole days", value::whole_days_within("1d", "3650d"));
    }
}

keys! {
    /// `[traffic]`: what counts as traffic that no person made.
    #[derive(Clone, Debug)]
    pub struct TrafficConfig in [traffic] {
        /// Networks whose hits are flagged `data_centre` and do not count as net: those of server
        /// hosts. Networks that also carry people are not listed.
        reload data_centre_asns: HashSet<u32> =
            list_or(&DATA_CENTRES, "numbers of autonomous systems", value::parse);
    }
}

keys! {
    /// `[cookie]`: the visitor's.
    #[derive(Clone)]
    pub struct CookieConfig in [cookie] {
        /// The visitor cookie. With the prefix __Host-, browsers let no other host and nobody on
        /// the way set it: it is for https, and for sites without cookie_domain. __Secure- is for
        /// https alone.
        reload name: String = one("avid", COOKIE_NAME, value::token);
        /// Its name before it was renamed. A cookie of that name still proves its visitor, and the
        /// next reply moves it.
        reload former_name: Option<String> = optional(COOKIE_NAME, value::token);
        /// The cookie with the visitor's choice. The prefixes mean the same.
        reload choice_name: String = one("avchoice", COOKIE_NAME, value::token);
        /// Its name before it was renamed. A choice of that name still holds.
        reload former_choice_name: Option<String> = optional(COOKIE_NAME, value::token);
        /// Keys of the visitor cookie, made by `avtryck keys new`: the first signs, each verifies.
        /// Without one the collector makes its own beside the spool.
        reload keys: Vec<(u8, Vec<u8>)> = secret_list(SIGNING_KEYS, value::signing_key);
        /// How long the visitor cookie lives.
        reload max_age: Duration =
            one("390d", "1d to 396d (13 months)", value::duration_within("1d", "396d"));
    }
}

keys! {
    /// `[click]`: signed click URLs.
    #[derive(Clone)]
    pub struct ClickConfig in [click] {
        /// Keys of click URLs, like cookie.keys. Without one the collector makes its own beside the
        /// spool.
        reload keys: Vec<(u8, Vec<u8>)> = secret_list(SIGNING_KEYS, value::signing_key);
    }
}

keys! {
    /// `[user]`: who is logged in.
    #[derive(Clone)]
    pub struct UserConfig in [user] {
        /// Keys of the hashes that stand for users, made by `avtryck keys new`, the same on every
        /// collector: the first hashes, and subjects are looked up under each. Without one no hit
        /// says who is logged in. Replace a key only if it has leaked; see docs/consent.md.
        restart keys: Vec<(u8, Vec<u8>)> = secret_list(SIGNING_KEYS, value::signing_key);
    }
}

keys! {
    /// `[link]`: which IDs are tied together.
    #[derive(Clone, Debug)]
    pub struct LinkConfig in [link] {
        /// IDs that tie nothing, beside those that many devices have as known: values of `maid`,
        /// `did`, `uid` and `user`, in any case. See docs/consent.md.
        reload blocked: Vec<String> = list(ALIASES, value::alias);
    }
}

keys! {
    /// `[protocol]`: what trackers of other makers send.
    #[derive(Clone, Debug)]
    pub struct ProtocolConfig in [protocol] {
        /// Traits that are stored although they identify a person directly, such as email. Without
        /// it e-mail addresses, phone numbers, names, streets and birthdays are left out of traits,
        /// and without the permit store all traits are.
        reload keep_traits: Vec<String> = list("names of traits such as email", value::trait_name);
        /// What images in the form of Meta's pixel call things, beside Meta's own names and before
        /// them.
        reload meta_names: Vec<(String, String)> =
            list("theirs=ours, ours as in docs/parameters.md", value::parse_renaming);
    }
}

keys! {
    /// `[[site]]`: whose pages the hits are from.
    #[derive(Clone)]
    pub struct Site in [site] {
        /// The name in `site=`. A site that is not listed here is refused.
        reload key: String = required(NAME, value::name);
        /// What visitors know the site as, on their page /privacy. Without it: its key.
        reload name: Option<String> = optional(WORDS, value::title);
        /// Who is responsible for the personal data, as visitors are told: the controller.
        reload controller: Option<String> = optional(WORDS, value::title);
        /// Where visitors turn to with questions about their data.
        reload contact: Option<String> =
            optional("an e-mail address, or an address with https://", value::contact);
        /// The authority that visitors may complain to. Without it: that of their country.
        reload authority: Option<String> = optional(WORDS, value::title);
        /// The site's privacy policy.
        reload policy: Option<String> = optional("an address with https://", value::page_url);
        /// What trackers of other makers call the site: Snowplow's app ID, Segment's write key,
        /// Matomo's number, Plausible's domain. Its key is one of them too. A tracker that names
        /// another one is refused; where it names none, the host decides.
        reload aliases: Vec<String> = list(ALIASES, value::alias);
        /// Hosts of the collector that stand for the site when a request names none.
        reload hosts: Vec<String> = list(HOSTS, value::host);
        /// The domain of the visitor cookie. Without one: the collector's host only.
        reload cookie_domain: Option<String> = optional("a domain such as telenor.se", value::domain);
        /// Origins of pages that may read replies.
        reload origins: Vec<String> =
            list("origins such as https://www.telenor.se, as browsers send them", value::origin);
        /// What is allowed where the visitor has said nothing.
        reload default_permit: Permit = permits(PERMITS);
        /// The operator's vendor ID, which consent strings are read for. Without one no string
        /// permits anything.
        reload gvl_id: Option<u16> = one("0", VENDOR, value::vendor_id);
        /// What is allowed where the sender says that the GDPR does not apply (`gdpr=0`). Empty:
        /// that is not believed.
        reload gdpr_0_permit: Permit = permits(PERMITS);
        /// What each category of a consent tool allows, as the events of Segment's and
        /// RudderStack's SDKs name them. An event that names categories is allowed what those with
        /// consent allow together, and never more than it would be without them. Where this is
        /// empty, an event with a refused category is only counted.
        reload consent_categories: Vec<(String, Permit)> =
            permits_by_name("category = [\"store\", \"measure\"], with permits as in default_permit");
        /// What is allowed instead of default_permit where Matomo's tracker says that it has
        /// consent (`consent=1`). Empty: that is not believed.
        reload matomo_consent_permit: Permit = permits(PERMITS);
        /// Takes it for the visitor's choice where Snowplow's tracker records that consent was
        /// refused, withdrawn or has expired: the event is only counted, and the choice cookie says
        /// none from then on. Nothing that it records ever permits more.
        reload snowplow_consent_narrows: bool = flag();
        /// Networks of your servers that send events by a tracker: they may name the visitor's
        /// address and agent, and their own stand for no visitor. From anywhere else these claims
        /// are dropped.
        reload trusted_senders: Vec<IpNet> = list("networks such as 10.0.0.0/8", value::network);
        /// Which conversions count as net. With signed, only those that a partner's callback
        /// reports and those whose pixel is signed (`avtryck conversion-url`). The others count as
        /// gross.
        reload conversions: Conversions = one("any", "any or signed", value::conversions);
        /// The time zone whose days are the site's in reports. Without one: UTC. A change holds for
        /// all days that are kept; see docs/reports.md.
        reload time_zone: Option<String> = optional(
            "a time zone of the IANA such as Europe/Stockholm",
            value::time_zone,
        );
        /// Keys with which the site's server signs who is logged in (`user_sig`), made by `avtryck
        /// keys new`: each verifies. Without one no browser proves its user; see docs/systems.md.
        reload user_sig_keys: Vec<(u8, Vec<u8>)> = secret_list(SIGNING_KEYS, value::signing_key);
        /// Hosts that a click may go to without a signature: by http or https, at the scheme's own
        /// port or one from 1024 on. With a port, at that port alone. A click by https does not
        /// lead to http, except at a port that is listed.
        reload click_hosts: Vec<String> = list(
            "host names in lower case; *.shop.example for all below shop.example; shop.example:8443",
            value::host_or_below,
        );
        /// Tells a click's target the click's ID (`avclid`).
        reload click_id: bool = flag();
        /// Notes at which addresses devices are seen, as numbers that nobody can turn back after 14
        /// days, to find those that share a home. It needs the permits link and locate, and the
        /// key that `avtryck keys household` makes; see docs/households.md.
        reload household: bool = flag();
        /// The consent platform that the tag waits for, however late it loads. Without one it waits
        /// for those that are on the page when it runs.
        reload wait_for: Option<ConsentPlatform> =
            optional("tcf or gpp", value::consent_platform);
        /// Modules of the tag that are in its file; see docs/tag.md.
        reload modules: Vec<TagModule> = list(tag_module::NAMES, TagModule::from_name);
        /// Hosts of pages on other sites that visitors are known again on where a link leads to
        /// them, as long as both sites are allowed store, measure and link. The tag's file then
        /// has the module links here, and linked on the site whose origins have that host; see
        /// docs/tag.md.
        reload links: Vec<String> = list(
            "host names in lower case, with a port only if the address of the page has one",
            value::host_and_port,
        );
        /// Where the tag sends hits. Without it: to where the tag itself came from, which a page
        /// that bundles the tag or pastes it in cannot tell.
        reload collector: Option<String> =
            optional("an origin such as https://px.example", value::origin);
    }
}

keys! {
    /// `[[partner]]`: an ad network or other third party.
    #[derive(Clone)]
    pub struct Partner in [partner] {
        /// The name in `partner=`. A partner that is not listed here is refused.
        reload key: String = required(NAME, value::name);
        /// As for a site. For ads, clicks, callbacks and exchanges of IDs that name the partner,
        /// its own setting counts, not the site's. For page views and events that name it, both
        /// have to allow.
        reload default_permit: Permit = permits(PERMITS);
        /// The vendor ID that the partner's macros are about.
        reload gvl_id: Option<u16> = one("0", VENDOR, value::vendor_id);
        /// As for a site.
        reload gdpr_0_permit: Permit = permits(PERMITS);
        /// Signs the partner's callbacks. Callbacks are accepted only with this or a token.
        reload secret: String = secret("", SECRET, value::secret);
        /// Stands in the partner's callbacks if they are not signed.
        reload token: String = secret("", SECRET, value::secret);
        /// How far a signed callback's time may be from now.
        reload timestamp_window: Duration =
            one("5m", "1s to 1d", value::duration_within("1s", "1d"));
        /// Whose macros and names the partner uses. Without one: ours.
        reload mapping: Option<Mapping> =
            optional("adform, google, xandr, openrtb, cm360, ttd, meta or revive", Mapping::from_name);
        /// The partner's own names for things.
        reload fields: Vec<(String, String)> =
            pairs("theirs = \"ours\", ours as in docs/parameters.md");
        /// The site that the partner's callbacks are about when they name none.
        reload site: String = one("", NAME, value::name_or_none);
        /// The sites that the partner may write for. Empty: every site. Hits that name the partner
        /// and another site are refused; a click still leads on.
        reload sites: Vec<String> = list("keys of sites", value::name);
        /// Where a browser is sent to exchange IDs.
        reload match_url: String = one("", "an http or https URL with {uid} in it", value::match_url);
        /// Lets the partner's callbacks name the visitor's address and agent.
        reload trusted_client: bool = flag();
        /// What the partner's IDs stand for: a browser or a device, then visitors with the same ID
        /// are on one device; a person, who has many; or none of them as far as is known.
        reload id_type: IdType =
            one("none", "browser, device, person or none", IdType::from_name);
        /// A manifest, as imports have one, that names parameters of the partner's callbacks that
        /// are attributes. See docs/import.md.
        reload attributes: Option<PathBuf> = optional(FILE, value::path);
        /// What `avtryck export` names subjects to the partner by: its own IDs, MAIDs, or a keyed
        /// hash of users. With none it is told nothing. See docs/export.md.
        reload export_id: ExportId =
            one("none", "partner, maid, user or none", ExportId::from_name);
        /// The key of its IDs of users. No two partners have the same.
        reload export_key: String = secret("", SECRET, value::secret);
        /// Where deliveries are sent.
        reload export_url: String = one("", DELIVERY_URL, value::delivery_url_or_none);
        /// Signs what is sent there.
        reload export_secret: String = secret("", SECRET, value::secret);
        /// The folder that deliveries are put into instead.
        reload export_dir: Option<PathBuf> = optional(DIRECTORY, value::path);
    }
}

impl HttpConfig {
    /// Returns the number of edge threads.
    #[must_use]
    pub(crate) fn thread_count(&self) -> usize {
        match self.threads {
            0 => cores(),
            threads => threads,
        }
    }
}

impl CookieConfig {
    /// Returns the names of the visitor cookie.
    #[must_use]
    pub fn names(&self) -> CookieNames<'_> {
        CookieNames {
            name: &self.name,
            former: self.former_name.as_deref(),
        }
    }

    /// Returns the names of the cookie with the visitor's choice.
    #[must_use]
    pub(crate) fn choice_names(&self) -> CookieNames<'_> {
        CookieNames {
            name: &self.choice_name,
            former: self.former_choice_name.as_deref(),
        }
    }
}

impl SpoolConfig {
    /// Returns how many shards so many edge threads write to: one each, if the space is enough for
    /// two chunks in each.
    #[must_use]
    pub(crate) fn shard_count(&self, threads: usize) -> usize {
        let room = usize::try_from(self.bytes_max / 2 / self.chunk_bytes).unwrap_or(usize::MAX);
        let wanted = match self.shards {
            0 => threads.min(room),
            shards => shards.min(threads),
        };
        wanted.max(1)
    }
}

impl LoaderConfig {
    /// Returns the number of connections that load.
    #[must_use]
    pub(crate) fn connection_count(&self) -> usize {
        match self.connections {
            0 => (cores() / 4).max(1),
            connections => connections,
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Partner {
    /// Returns whether the partner may write for the site of that key.
    #[must_use]
    pub(crate) fn may_write_for(&self, site: &str) -> bool {
        self.sites.is_empty() || self.sites.iter().any(|known| known == site)
    }

    /// Returns what the partner calls things.
    #[must_use]
    pub fn names(&self) -> Fields<'_> {
        Fields {
            own: &self.fields,
            mapping: self.mapping,
        }
    }
}
