//! Every key: its name, what it means, its default as it would stand in the file, and what is right for it.
//! `s.key` is one that a reload applies, `s.fixed` one that takes a restart. `avtryck.example.toml` is made of this.

use std::sync::Arc;
use std::time::Duration;

use super::read::Section;
use super::value::{self, days};
use spool::Ack;

use super::{
    Admin, Certificate, Click, ClientIp, Cookie, Database, Device, Geoip, Http, Limit, Loader,
    Partner, Paths, Privacy, Site, Spool, Tls, Traffic,
};
use crate::callback::names::{Fields, Mapping};
use crate::hit::Permit;
use crate::request::ForwardedHeader;
use crate::visitor::COOKIE_DAYS_MAX;

const MIB: u64 = 1 << 20;

/// What is right for a key of one of these kinds.
const ADDRESS: &str = "an address with a port";
const DIRECTORY: &str = "a directory";
const FILE: &str = "a file";
const FILES: &str = "files";
const PEM: &str = "a file in PEM";
const HOSTS: &str = "host names in lower case, without ports";
const TRUTH: &str = "true or false";
const KEYS: &str = "ID:BASE64, an ID of 0 to 255 and at least 32 bytes";
/// The key of a site or partner.
const NAME: &str = "1 to 64 of a-z 0-9 . - _";
/// A partner's secret or token.
const SECRET: &str = "at least 16 visible ASCII characters, none of which a URL would encode";

pub(super) fn http(s: &mut Section<'_>) -> Http {
    Http {
        listen: s
            .fixed("listen", "Where hits arrive.")
            .one("127.0.0.1:8080", ADDRESS, value::parsed),
        threads: s
            .fixed("threads", "Edge threads.")
            .one("0", "0 (one per core) to 256", |t| {
                value::whole(t, 0..=256)
            }),
        trusted_proxies: s
            .key(
                "trusted_proxies",
                "Networks of proxies whose forwarding header is believed.",
            )
            .list("networks such as 10.0.0.0/8", value::network),
        forwarded_header: s
            .key("forwarded_header", "The header in which they name the client.")
            .one("x-forwarded-for", "x-forwarded-for or forwarded", |t| match t {
                "x-forwarded-for" => Some(ForwardedHeader::XForwardedFor),
                "forwarded" => Some(ForwardedHeader::Forwarded),
                _ => None,
            }),
        h2c: s
            .key("h2c", "HTTP/2 without TLS, by prior knowledge.")
            .one("false", TRUTH, value::parsed),
        proxy_protocol: proxy_protocol(s),
        redirect_to_https: s
            .key(
                "redirect_to_https",
                "Whether /privacy is sent to https when it is asked for by http. Hits are answered where they arrive.",
            )
            .one("false", TRUTH, value::parsed),
        connections_max: s
            .fixed(
                "connections_max",
                "Open connections in all; fewer where the limit of open files, which the collector raises as far as it may, has no room for them.",
            )
            .one("16384", "1 to 1000000", |t| value::whole(t, 1..=1_000_000)),
        connections_per_address_max: s
            .key(
                "connections_per_address_max",
                "Open connections of one IPv4 address or IPv6 /64, trusted proxies aside.",
            )
            .one("1024", "0 (no limit) to 1000000", |t| {
                value::whole(t, 0..=1_000_000)
            }),
    }
}

pub(super) fn tls(s: &mut Section<'_>) -> Tls {
    Tls {
        listen: s
            .fixed(
                "listen",
                "Where hits arrive over TLS, by HTTP/2 and HTTP/1.1; empty is nowhere. See docs/tls.md.",
            )
            .one("", ADDRESS, |t| {
                if t.is_empty() {
                    return Some(None);
                }
                value::parsed(t).map(Some)
            }),
        proxy_protocol: proxy_protocol(s),
        hsts: s
            .key(
                "hsts",
                "How long browsers are to come by https alone, said in replies over TLS.",
            )
            .one("0s", "0s (nothing is said) to 730d", |t| {
                value::duration(t).filter(|age| *age <= days(730))
            }),
    }
}

fn proxy_protocol(s: &mut Section<'_>) -> bool {
    s.fixed(
        "proxy_protocol",
        "Whether connections begin with the PROXY protocol of a trusted proxy, version 1 or 2; others are ended.",
    )
    .one("false", TRUTH, value::parsed)
}

pub(super) fn certificate(s: &mut Section<'_>) -> Certificate {
    let chain = "The server's own certificate, and those that lead from it to a root. Certificates are chosen by their names, the first for everyone else, and read again when the files change.";
    Certificate {
        chain: s.key("chain", chain).required(PEM, value::text).into(),
        key: s
            .key("key", "Its private key.")
            .required(PEM, value::text)
            .into(),
    }
}

pub(super) fn limit(s: &mut Section<'_>) -> Limit {
    let within = |text: &str, first: u64, last: u64| {
        value::parsed(text).filter(|number| (first..=last).contains(number))
    };
    Limit {
        hits_per_second: s
            .key(
                "hits_per_second",
                "Hits that one client (an IPv4 address or an IPv6 /64, behind trusted proxies) may send in the long run. The address is kept in memory alone.",
            )
            .one("100", "0 (no limit) to 10000", |t| within(t, 0, 10_000)),
        burst: s
            .key("burst", "Hits that it may send at once.")
            .one("1000", "1 to 1000000", |t| within(t, 1, 1_000_000)),
        drop: s
            .key(
                "drop",
                "Whether hits over the limit are refused with 429; else they are rows flagged `over_limit`. Clicks and callbacks are never refused for it.",
            )
            .one("false", TRUTH, value::parsed),
    }
}

pub(super) fn paths(s: &mut Section<'_>) -> Paths {
    let right = "a path such as /p.gif that is not /demo";
    let mut take = |name: &'static str, means: &'static str, default: &str| {
        s.key(name, means).one(default, right, value::endpoint)
    };
    Paths {
        pixel: take("pixel", "Page views and events from a page.", "/p.gif"),
        event: take("event", "The same as JSON.", "/e"),
        id: take("id", "Sets the visitor cookie.", "/id"),
        impression: take("impression", "Ad impressions.", "/i.gif"),
        click: take("click", "Ad clicks.", "/c"),
        callback: take(
            "callback",
            "Callbacks of partners' servers; behind it the partner.",
            "/cb",
        ),
        sync: take("sync", "Exchange of IDs; behind it the partner.", "/sync"),
        set_uid: take("setuid", "The same, as Prebid asks for it.", "/setuid"),
        consent: take("consent", "The visitor's choice.", "/consent"),
        privacy: take("privacy", "The visitor's own page.", "/privacy"),
        tag: take("tag", "The tag.", "/tag.js"),
    }
}

pub(super) fn admin(s: &mut Section<'_>) -> Admin {
    Admin {
        listen: s
            .fixed(
                "listen",
                "The live view, /metrics (Prometheus), /healthz and /readyz: keep it from the public.",
            )
            .one("127.0.0.1:9090", ADDRESS, value::parsed),
        hosts: s
            .fixed(
                "hosts",
                "Names under which a browser may open the live view, beside addresses and `localhost`.",
            )
            .list("host names without a port", value::host),
    }
}

pub(super) fn spool(s: &mut Section<'_>) -> Spool {
    Spool {
        dir: s
            .fixed("dir", "The log on disk; one process each, which `serve --take-over` takes over from.")
            .one("data/spool", DIRECTORY, value::path),
        ack: s
            .fixed(
                "ack",
                "When a hit is answered: after fdatasync (disk), or once it is in the page cache (memory), which a crash of the machine can lose.",
            )
            .one("disk", "disk or memory", |t| match t {
                "disk" => Some(Ack::Disk),
                "memory" => Some(Ack::Memory),
                _ => None,
            }),
        bytes_max: s
            .fixed("max_bytes", "Disk space of the spool; when it is full, hits get 503.")
            .one("16GiB", "a size such as 16GiB", value::bytes),
        chunk_bytes: s
            .fixed("chunk_bytes", "Size of a file in it.")
            .one("64MiB", "1MiB to 1GiB", |t| {
                value::bytes(t).filter(|bytes| (MIB..=1024 * MIB).contains(bytes))
            }),
        keep: s
            .fixed(
                "keep",
                "How long a file stays after it was loaded, if there is room: a database restored from a backup of that age is loaded again from it. It holds whole client addresses.",
            )
            .one("0s", "0s to 30d", |t| {
                value::duration(t).filter(|keep| *keep <= days(30))
            }),
    }
}

pub(super) fn database(s: &mut Section<'_>) -> Database {
    let right = "embedded, or a postgres:// URL without sslmode=require";
    Database {
        url: s
            .fixed(
                "url",
                "Which Postgres hits are loaded into; embedded is a private one, from the binaries installed.",
            )
            .secret("embedded", right, value::database_url),
        dir: s
            .fixed("dir", "Where the private one lies.")
            .one("data/postgres", DIRECTORY, value::path),
    }
}

pub(super) fn loader(s: &mut Section<'_>) -> Loader {
    let wait = Duration::from_millis(10)..=Duration::from_secs(60);
    Loader {
        batch_rows: s
            .fixed(
                "batch_rows",
                "Hits of a transaction; up to four times as many while the loader is behind.",
            )
            .one("20000", "1 to 200000", |t| value::whole(t, 1..=200_000)),
        batch_wait: s
            .fixed("batch_wait", "How long hits wait for a batch to fill.")
            .one("500ms", "10ms to 60s", |t| {
                value::duration(t).filter(|d| wait.contains(d))
            }),
    }
}

pub(super) fn geoip(s: &mut Section<'_>) -> Geoip {
    Geoip {
        city: s
            .key(
                "city",
                "Files in MaxMind's format (.mmdb) with places; the first that knows an address answers.",
            )
            .list(FILES, value::path),
        network: s
            .key("network", "The same with ASN or ISP.")
            .list(FILES, value::path),
    }
}

pub(super) fn device(s: &mut Section<'_>) -> Device {
    let rules = "assets/data/rules/regexes.json";
    let crawlers = "assets/data/rules/crawlers.json";
    Device {
        rules: s
            .key("rules", "uap-core's rules for user agents, as JSON.")
            .one(rules, FILE, value::path),
        crawlers: s.key("crawlers", "The list crawler-user-agents.").one(
            crawlers,
            FILE,
            value::path,
        ),
    }
}

pub(super) fn privacy(s: &mut Section<'_>) -> Privacy {
    Privacy {
        client_ip: s
            .fixed("client_ip", "What Postgres gets of a client's address.")
            .one("truncated", "none, truncated or full", |t| match t {
                "none" => Some(ClientIp::None),
                "truncated" => Some(ClientIp::Truncated),
                "full" => Some(ClientIp::Full),
                _ => None,
            }),
        retention: s
            .fixed("retention", "Age at which a day of hits is dropped.")
            .one("90d", "1d to 3650d, in whole days", |t| {
                value::whole_days(t, 1..=3650)
            }),
    }
}

pub(super) fn traffic(s: &mut Section<'_>) -> Traffic {
    // DigitalOcean, Amazon (two), OVH, Vultr, Hetzner, Oracle, Alibaba, Linode, Google Cloud.
    let hosts = [
        "14061", "14618", "16509", "16276", "20473", "24940", "31898", "45102", "63949", "396982",
    ];
    let asns = s
        .key(
            "data_centre_asns",
            "Networks whose hits are flagged `data_centre` and are not net: hosts of servers. Networks that also carry people are not among them.",
        )
        .list_or(&hosts, "numbers of autonomous systems", value::parsed);
    Traffic {
        data_centre_asns: Arc::new(asns.into_iter().collect()),
    }
}

pub(super) fn cookie(s: &mut Section<'_>) -> Cookie {
    let name = "1 to 64 letters, digits, - . _";
    Cookie {
        name: s
            .key("name", "The visitor cookie.")
            .one("avid", name, value::token),
        choice_name: s
            .key("choice_name", "The cookie with the visitor's choice.")
            .one("avchoice", name, value::token),
        keys: s
            .key(
                "keys",
                "Keys of the visitor cookie, made by `avtryck keys new`: the first signs, each verifies. Without one the collector makes its own beside the spool.",
            )
            .secret_list(KEYS, value::key),
        max_age: s
            .key("max_age", "How long the visitor cookie lives.")
            .one("390d", "1d to 396d (13 months)", |t| {
                value::duration(t).filter(|age| (days(1)..=days(COOKIE_DAYS_MAX.into())).contains(age))
            }),
    }
}

pub(super) fn click(s: &mut Section<'_>) -> Click {
    Click {
        keys: s
            .key(
                "keys",
                "Keys of click URLs, as cookie.keys. Without one the collector makes its own beside the spool.",
            )
            .secret_list(KEYS, value::key),
    }
}

pub(super) fn site(s: &mut Section<'_>) -> Site {
    let origins = "origins such as https://www.telenor.se, as browsers send them";
    let below =
        "host names in lower case, without ports; *.shop.example for all below shop.example";
    Site {
        key: s
            .key(
                "key",
                "The name in `site=`; a site that is not here is refused.",
            )
            .required(NAME, value::name),
        hosts: s
            .key(
                "hosts",
                "Hosts of the collector that stand for the site when a request names none.",
            )
            .list(HOSTS, value::host),
        cookie_domain: s
            .key(
                "cookie_domain",
                "The domain of the visitor cookie. Without one: the collector's host alone.",
            )
            .one("", "a domain such as telenor.se", |t| {
                if t.is_empty() {
                    return Some(None);
                }
                value::domain(t).map(Some)
            }),
        origins: s
            .key("origins", "Origins of pages that may read replies.")
            .list(origins, value::origin),
        default_permit: permit(
            s,
            "default_permit",
            "What is allowed where the visitor has said nothing.",
        ),
        gvl_id: gvl_id(
            s,
            "The operator's vendor ID, which consent strings are read for; without one no string permits anything.",
        ),
        gdpr_0_permit: permit(
            s,
            "gdpr_0_permit",
            "What is allowed where the sender says that the GDPR does not apply (`gdpr=0`). Empty: it is not believed.",
        ),
        click_hosts: s
            .key(
                "click_hosts",
                "Hosts that a click may go to without a signature.",
            )
            .list(below, value::host_or_below),
        click_id: s
            .key(
                "click_id",
                "Whether a click's target is told the click's ID (`avclid`).",
            )
            .one("false", TRUTH, value::parsed),
    }
}

pub(super) fn partner(s: &mut Section<'_>) -> Partner {
    Partner {
        key: s
            .key(
                "key",
                "The name in `partner=`; a partner that is not here is refused.",
            )
            .required(NAME, value::name),
        default_permit: permit(
            s,
            "default_permit",
            "As of a site. The partner's hold, and not the site's, for hits that name the partner.",
        ),
        gvl_id: gvl_id(s, "The vendor ID that the partner's macros are about."),
        gdpr_0_permit: permit(s, "gdpr_0_permit", "As of a site."),
        secret: s
            .key(
                "secret",
                "Signs the partner's callbacks. Without it or a token none is taken.",
            )
            .secret("", SECRET, value::secret),
        token: s
            .key(
                "token",
                "Stands in its callbacks where they are not signed.",
            )
            .secret("", SECRET, value::secret),
        timestamp_window: s
            .key(
                "timestamp_window",
                "How far a signed callback's time may be from now.",
            )
            .one("5m", "1s to 1d", |t| {
                value::duration(t).filter(|d| (Duration::from_secs(1)..=days(1)).contains(d))
            }),
        fields: Fields {
            mapping: s
                .key(
                    "mapping",
                    "Whose macros and names it uses. Without one: ours.",
                )
                .one("", "adform, google, xandr or openrtb", |t| {
                    if t.is_empty() {
                        return Some(None);
                    }
                    Mapping::named(t).map(Some)
                }),
            own: s
                .key("fields", "Its own names for things.")
                .pairs("theirs = \"ours\", ours as in docs/parameters.md"),
        },
        site: s
            .key(
                "site",
                "The site that its callbacks are about when they name none.",
            )
            .one("", NAME, |t| {
                if t.is_empty() {
                    return Some(String::new());
                }
                value::name(t)
            }),
        match_url: s
            .key("match_url", "Where a browser is sent to exchange IDs.")
            .one(
                "",
                "an http or https URL with {uid} in it",
                value::match_url,
            ),
        trusted_client: s
            .key(
                "trusted_client",
                "Whether its callbacks may say the visitor's address and agent.",
            )
            .one("false", TRUTH, value::parsed),
    }
}

fn permit(s: &mut Section<'_>, key: &'static str, means: &'static str) -> Permit {
    s.key(key, means)
        .list(
            "store, measure, profile, match, link, locate",
            Permit::named,
        )
        .into_iter()
        .fold(Permit::NONE, Permit::with)
}

/// 0, the default, is no vendor's ID.
fn gvl_id(s: &mut Section<'_>, means: &'static str) -> Option<u16> {
    let right = "1 to 65535, the ID in the Global Vendor List, or 0 for none";
    let id: u16 = s.key("gvl_id", means).one("0", right, value::parsed);
    (id != 0).then_some(id)
}
