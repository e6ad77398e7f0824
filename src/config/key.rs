//! Every key: its name, its default as it would stand in the file, and what is right for it.

use std::sync::Arc;
use std::time::Duration;

use super::read::Section;
use super::value::{self, days};
use super::{
    Ack, Admin, Click, ClientIp, Cookie, Database, Device, Geoip, Http, Limit, Loader, Partner,
    Paths, Privacy, Site, Spool, Traffic,
};
use crate::hit::Permit;
use crate::request::{Fields, ForwardedHeader, Mapping};

const MIB: u64 = 1 << 20;

pub(super) fn http(s: &mut Section<'_>) -> Http {
    const ADDRESS: &str = "an address with a port";
    Http {
        listen: s.take("listen", "127.0.0.1:8080", ADDRESS, value::parsed),
        threads: s.take("threads", "0", "0 (one per core) to 256", |t| {
            value::whole(t, 0..=256)
        }),
        trusted_proxies: s.list(
            "trusted_proxies",
            "networks such as 10.0.0.0/8",
            value::network,
        ),
        forwarded_header: s.take(
            "forwarded_header",
            "x-forwarded-for",
            "x-forwarded-for or forwarded",
            |t| match t {
                "x-forwarded-for" => Some(ForwardedHeader::XForwardedFor),
                "forwarded" => Some(ForwardedHeader::Forwarded),
                _ => None,
            },
        ),
        h2c: s.take("h2c", "false", "true or false", value::parsed),
        connections_max: s.take("connections_max", "16384", "1 to 1000000", |t| {
            value::whole(t, 1..=1_000_000)
        }),
        connections_per_address_max: s.take(
            "connections_per_address_max",
            "1024",
            "0 (no limit) to 1000000",
            |t| value::whole(t, 0..=1_000_000),
        ),
    }
}

pub(super) fn limit(s: &mut Section<'_>) -> Limit {
    let within = |text: &str, first: u64, last: u64| {
        value::parsed(text).filter(|number| (first..=last).contains(number))
    };
    Limit {
        hits_per_second: s.take("hits_per_second", "100", "0 (no limit) to 10000", |t| {
            within(t, 0, 10_000)
        }),
        burst: s.take("burst", "1000", "1 to 1000000", |t| within(t, 1, 1_000_000)),
        drop: s.take("drop", "false", "true or false", value::parsed),
    }
}

pub(super) fn paths(s: &mut Section<'_>) -> Paths {
    let right = "a path such as /p.gif that is not /demo";
    let mut take = |name: &str, default: &str| s.take(name, default, right, value::endpoint);
    Paths {
        pixel: take("pixel", "/p.gif"),
        event: take("event", "/e"),
        id: take("id", "/id"),
        impression: take("impression", "/i.gif"),
        click: take("click", "/c"),
        callback: take("callback", "/cb"),
        sync: take("sync", "/sync"),
        set_uid: take("setuid", "/setuid"),
        consent: take("consent", "/consent"),
        privacy: take("privacy", "/privacy"),
        tag: take("tag", "/tag.js"),
    }
}

pub(super) fn admin(s: &mut Section<'_>) -> Admin {
    Admin {
        listen: s.take(
            "listen",
            "127.0.0.1:9090",
            "an address with a port",
            value::parsed,
        ),
        hosts: s.list("hosts", "host names without a port", value::host),
    }
}

pub(super) fn spool(s: &mut Section<'_>) -> Spool {
    Spool {
        dir: s.take("dir", "data/spool", "a directory", value::path),
        ack: s.take("ack", "disk", "disk or memory", |t| match t {
            "disk" => Some(Ack::Disk),
            "memory" => Some(Ack::Memory),
            _ => None,
        }),
        bytes_max: s.take("max_bytes", "16GiB", "a size such as 16GiB", value::bytes),
        chunk_bytes: s.take("chunk_bytes", "64MiB", "1MiB to 1GiB", |t| {
            value::bytes(t).filter(|bytes| (MIB..=1024 * MIB).contains(bytes))
        }),
        keep: s.take("keep", "0s", "0s to 30d", |t| {
            value::duration(t).filter(|keep| *keep <= days(30))
        }),
    }
}

pub(super) fn database(s: &mut Section<'_>) -> Database {
    let right = "embedded, or a postgres:// URL without sslmode=require";
    Database {
        url: s.secret("url", "embedded", right, value::database_url),
        dir: s.take("dir", "data/postgres", "a directory", value::path),
    }
}

pub(super) fn loader(s: &mut Section<'_>) -> Loader {
    let wait = Duration::from_millis(10)..=Duration::from_secs(60);
    Loader {
        batch_rows: s.take("batch_rows", "20000", "1 to 200000", |t| {
            value::whole(t, 1..=200_000)
        }),
        batch_wait: s.take("batch_wait", "500ms", "10ms to 60s", |t| {
            value::duration(t).filter(|d| wait.contains(d))
        }),
    }
}

pub(super) fn geoip(s: &mut Section<'_>) -> Geoip {
    Geoip {
        city: s.list("city", "files", value::path),
        network: s.list("network", "files", value::path),
    }
}

pub(super) fn device(s: &mut Section<'_>) -> Device {
    let rules = "assets/data/rules/regexes.json";
    let crawlers = "assets/data/rules/crawlers.json";
    Device {
        rules: s.take("rules", rules, "a file", value::path),
        crawlers: s.take("crawlers", crawlers, "a file", value::path),
    }
}

pub(super) fn privacy(s: &mut Section<'_>) -> Privacy {
    Privacy {
        client_ip: s.take(
            "client_ip",
            "truncated",
            "none, truncated or full",
            |t| match t {
                "none" => Some(ClientIp::None),
                "truncated" => Some(ClientIp::Truncated),
                "full" => Some(ClientIp::Full),
                _ => None,
            },
        ),
        retention: s.take("retention", "90d", "1d to 3650d, in whole days", |t| {
            value::whole_days(t, 1..=3650)
        }),
    }
}

pub(super) fn traffic(s: &mut Section<'_>) -> Traffic {
    // DigitalOcean, Amazon (two), OVH, Vultr, Hetzner, Oracle, Alibaba, Linode, Google Cloud.
    let hosts = [
        "14061", "14618", "16509", "16276", "20473", "24940", "31898", "45102", "63949", "396982",
    ];
    let right = "numbers of autonomous systems";
    let asns = s.list_or("data_centre_asns", &hosts, right, value::parsed);
    Traffic {
        data_centre_asns: Arc::new(asns.into_iter().collect()),
    }
}

pub(super) fn cookie(s: &mut Section<'_>) -> Cookie {
    let name = "1 to 64 letters, digits, - . _";
    Cookie {
        name: s.take("name", "avid", name, value::token),
        choice_name: s.take("choice_name", "avchoice", name, value::token),
        keys: s.secret_list("keys", KEYS, value::key),
        max_age: s.take("max_age", "390d", "1d to 396d (13 months)", |t| {
            value::duration(t).filter(|age| (days(1)..=days(396)).contains(age))
        }),
    }
}

pub(super) fn click(s: &mut Section<'_>) -> Click {
    Click {
        keys: s.secret_list("keys", KEYS, value::key),
    }
}

pub(super) fn site(s: &mut Section<'_>) -> Site {
    let origins = "origins such as https://www.telenor.se, as browsers send them";
    Site {
        key: s.require("key", NAME, value::name),
        hosts: s.list(
            "hosts",
            "host names in lower case, without ports",
            value::host,
        ),
        cookie_domain: s.take("cookie_domain", "", "a domain such as telenor.se", |t| {
            if t.is_empty() {
                return Some(None);
            }
            value::domain(t).map(Some)
        }),
        origins: s.list("origins", origins, value::origin),
        default_permit: permit(s, "default_permit"),
        gvl_id: gvl_id(s),
        gdpr_0_permit: permit(s, "gdpr_0_permit"),
        click_hosts: s.list(
            "click_hosts",
            "host names in lower case, without ports; *.shop.example for all below shop.example",
            value::host_or_below,
        ),
        click_id: s.take("click_id", "false", "true or false", value::parsed),
    }
}

pub(super) fn partner(s: &mut Section<'_>) -> Partner {
    Partner {
        key: s.require("key", NAME, value::name),
        default_permit: permit(s, "default_permit"),
        gvl_id: gvl_id(s),
        gdpr_0_permit: permit(s, "gdpr_0_permit"),
        secret: s.secret("secret", "", SECRET, value::secret),
        token: s.secret("token", "", SECRET, value::secret),
        timestamp_window: s.take("timestamp_window", "5m", "1s to 1d", |t| {
            value::duration(t).filter(|d| (Duration::from_secs(1)..=days(1)).contains(d))
        }),
        fields: Fields {
            mapping: s.take("mapping", "", "adform, google, xandr or openrtb", |t| {
                if t.is_empty() {
                    return Some(None);
                }
                Mapping::named(t).map(Some)
            }),
            own: s.pairs("fields", "theirs = \"ours\", ours as in docs/parameters.md"),
        },
        site: s.take("site", "", NAME, |t| {
            if t.is_empty() {
                return Some(String::new());
            }
            value::name(t)
        }),
        match_url: s.take(
            "match_url",
            "",
            "an http or https URL with {uid} in it",
            value::match_url,
        ),
        trusted_client: s.take("trusted_client", "false", "true or false", value::parsed),
    }
}

/// What is right for a partner's secret or token.
const SECRET: &str = "at least 16 visible ASCII characters, none of which a URL would encode";

fn permit(s: &mut Section<'_>, key: &str) -> Permit {
    let right = "store, measure, profile, match, link, locate";
    s.list(key, right, Permit::named)
        .into_iter()
        .fold(Permit::NONE, Permit::with)
}

/// 0, the default, is no vendor's ID.
fn gvl_id(s: &mut Section<'_>) -> Option<u16> {
    let right = "1 to 65535, the ID in the Global Vendor List, or 0 for none";
    let id: u16 = s.take("gvl_id", "0", right, value::parsed);
    (id != 0).then_some(id)
}

/// What is right for a list of keys.
const KEYS: &str = "ID:BASE64, an ID of 0 to 255 and at least 32 bytes";
/// What is right for the key of a site or partner.
const NAME: &str = "1 to 64 of a-z 0-9 . - _";
