//! Checks what no key alone can tell.

use std::net::SocketAddr;
use std::time::Duration;

use super::document::suggest;
use super::read::{ConfigReader, name_table, report_repeats};
use super::{ClientIp, Config};
use crate::hit::UserKey;
use crate::identity::household::EPOCH_DAYS;
use crate::request::Prefix;

/// For how long an address keeps its number.
const EPOCH: Duration = Duration::from_hours(24 * EPOCH_DAYS as u64);

/// Reports every contradiction between keys.
pub(super) fn check(config: &Config, reader: &mut ConfigReader) {
    if config.sites.is_empty() {
        reader.add_error("site", "site: no [[site]] is configured, so no hit could be recorded; a [[site]] with a key would be right");
    }
    let shards = config.spool.shards.max(1) as u64;
    let is_size_known = !["spool.chunk_bytes", "spool.shards"]
        .map(|key| reader.is_stood_in(key))
        .contains(&true);
    if is_size_known && config.spool.bytes_max / 2 / config.spool.chunk_bytes < shards {
        reader.add_error(
            "spool.max_bytes",
            "spool.max_bytes: less than two chunks for each shard; at least 2 × spool.chunk_bytes × spool.shards would be right",
        );
    }
    check_listeners(config, reader);
    check_households(config, reader);
    super::kafka::check(config, reader);
    check_cookies(config, reader);
    let keys = |section: &str, keys: Vec<String>| {
        let named = keys.into_iter().enumerate();
        named
            .filter(|(_, key)| !key.is_empty())
            .map(|(index, key)| (format!("{section}[{index}].key"), key))
            .collect::<Vec<_>>()
    };
    let sites = config.sites.iter().map(|site| site.key.clone());
    report_repeats(reader, "site.key", keys("site", sites.collect()));
    let hosts = config.sites.iter().enumerate().flat_map(|(at, site)| {
        let hosts = site.hosts.iter().enumerate();
        hosts.map(move |(index, host)| (format!("site[{at}].hosts[{index}]"), host.clone()))
    });
    report_repeats(reader, "site.hosts", hosts.collect());
    check_aliases(config, reader);
    let partners = config.partners.iter().map(|partner| partner.key.clone());
    report_repeats(reader, "partner.key", keys("partner", partners.collect()));
    let systems = config.systems.iter().map(|system| system.key.clone());
    report_repeats(reader, "system.key", keys("system", systems.collect()));
    let segments = config.segments.iter().map(|segment| segment.key.clone());
    report_repeats(reader, "segment.key", keys("segment", segments.collect()));
    super::segment::check(config, reader);
    let webhooks = config.webhooks.iter().map(|webhook| webhook.key.clone());
    report_repeats(reader, "webhook.key", keys("webhook", webhooks.collect()));
    super::webhook::check(config, reader);
    check_paths(config, reader);
    check_sites_of_senders(config, reader);
    check_systems(config, reader);
    check_user_sig_keys(config, reader);
    for (name, keys) in [
        ("cookie.keys", &config.cookie.keys),
        ("click.keys", &config.click.keys),
        ("user.keys", &config.user.keys),
    ] {
        let ids = keys.iter().enumerate();
        let ids = ids.map(|(index, (id, _))| (format!("{name}[{index}]"), *id));
        report_repeats(reader, &format!("{name}, the ID"), ids.collect());
    }
    check_user_keys(config, reader);
}

/// Reports more keys of users than a hit carries hashes by, and a key that is there twice: it would
/// replace nothing.
fn check_user_keys(config: &Config, reader: &mut ConfigReader) {
    const KEYS_MAX: usize = 1 + UserKey::OLDER_MAX;
    let keys = &config.user.keys;
    if keys.len() > KEYS_MAX {
        let count = keys.len();
        let error = format!(
            "user.keys: {count} keys; at most {KEYS_MAX}, the newest first, would be right"
        );
        reader.add_error("user.keys", &error);
    }
    for (index, (id, secret)) in keys.iter().enumerate() {
        let mut before = keys.iter().take(index);
        if let Some((other, _)) = before.find(|(_, other)| other == secret) {
            let error = format!(
                "user.keys: {id} is the key {other} once more; a key of its own would be right"
            );
            reader.add_error(&format!("user.keys[{index}]"), &error);
        }
    }
}

/// Reports each alias that stands for more than one site.
fn check_aliases(config: &Config, reader: &mut ConfigReader) {
    let mut aliases = Vec::new();
    for (at, site) in config.sites.iter().enumerate() {
        let keys = || config.sites.iter().map(|site| &site.key);
        for (index, alias) in site.aliases.iter().enumerate() {
            let place = format!("site[{at}].aliases[{index}]");
            if *alias != site.key && keys().any(|key| key == alias) {
                let error = format!(
                    "{}, aliases: {alias} is the key of another site; a name of its own would be right",
                    name_table("site", at, &site.key)
                );
                reader.add_error(&place, &error);
            }
            aliases.push((place, alias.clone()));
        }
    }
    report_repeats(reader, "site.aliases", aliases);
}

fn check_cookies(config: &Config, reader: &mut ConfigReader) {
    let cookie = &config.cookie;
    let names = [
        ("cookie.name", Some(&cookie.name)),
        ("cookie.former_name", cookie.former_name.as_ref()),
        ("cookie.choice_name", Some(&cookie.choice_name)),
        (
            "cookie.former_choice_name",
            cookie.former_choice_name.as_ref(),
        ),
    ];
    let names: Vec<_> = names
        .into_iter()
        .filter_map(|(key, name)| Some((key, name?)))
        .filter(|(key, _)| !reader.is_stood_in(key))
        .collect();
    let domain_site = config
        .sites
        .iter()
        .enumerate()
        .find(|(_, site)| site.cookie_domain.is_some());
    for (index, (key, name)) in names.iter().enumerate() {
        // Cookies are found whatever their case.
        let same = names
            .iter()
            .take(index)
            .find(|(_, other)| other.eq_ignore_ascii_case(name));
        if let Some((other, _)) = same {
            let error = format!("{key}: the same as {other}; another name would be right");
            reader.add_error(key, &error);
        }
        if key.contains("former") {
            continue;
        }
        let lower = name.to_ascii_lowercase();
        let is_host_only = lower.starts_with("__host-");
        if (is_host_only || lower.starts_with("__secure-")) && Prefix::of(name) == Prefix::None {
            let error = format!(
                "{key}: not every browser knows the prefix of {name} in this case; __Host- or __Secure- would be right"
            );
            reader.add_error(key, &error);
        }
        if let Some((at, site)) = domain_site.filter(|_| is_host_only) {
            let error = format!(
                "{key}: browsers keep {name} on no domain, and {} has a cookie_domain; the prefix __Secure- would be right",
                name_table("site", at, &site.key)
            );
            reader.add_error(key, &error);
        }
    }
}

/// Reports what would keep the addresses of which households keep numbers only.
fn check_households(config: &Config, reader: &mut ConfigReader) {
    let mut sites = config.sites.iter().enumerate();
    let Some((at, site)) = sites.find(|(_, site)| site.household) else {
        return;
    };
    let name = name_table("site", at, &site.key);
    if config.privacy.client_ip == ClientIp::Full {
        let error = format!(
            "privacy.client_ip: {name} has household = true, whose numbers whole addresses in Postgres would tell; truncated would be right"
        );
        reader.add_error("privacy.client_ip", &error);
    }
    if config.spool.keep > EPOCH {
        let error = format!(
            "spool.keep: {name} has household = true, and the spool holds addresses; at most 14d would be right"
        );
        reader.add_error("spool.keep", &error);
    }
}

fn check_listeners(config: &Config, reader: &mut ConfigReader) {
    let (http, tls, admin) = (&config.http, &config.tls, &config.admin);
    // An address that stands in for a wrong one clashes with nobody.
    let knows_http = !reader.is_stood_in("http.listen");
    let knows_admin = !reader.is_stood_in("admin.listen");
    if knows_http && clash(admin.listen, http.listen) {
        reader.add_error("admin.listen", "admin.listen: the same as http.listen; an address that the public cannot reach would be right");
    }
    let expects_proxy = http.proxy_protocol || tls.proxy_protocol;
    if expects_proxy && http.trusted_proxies.is_empty() {
        reader.add_error("http.trusted_proxies", "http.trusted_proxies: the list is empty, so no PROXY protocol would be believed; the load balancer's network would be right");
    }
    let Some(listen) = tls.listen else {
        return;
    };
    if config.certificates.is_empty() && !reader.is_stood_in("certificate") {
        reader.add_error("tls.listen", "certificate: no [[certificate]] is configured for tls.listen; one with chain and key would be right");
    }
    for (name, other, is_known) in [
        ("http", http.listen, knows_http),
        ("admin", admin.listen, knows_admin),
    ] {
        if is_known && clash(listen, other) {
            let error =
                format!("tls.listen: the same as {name}.listen; another port would be right");
            reader.add_error("tls.listen", &error);
        }
    }
}

fn check_paths(config: &Config, reader: &mut ConfigReader) {
    let paths = &config.path;
    let all = paths.all();
    let named = all.map(|(key, path)| (format!("path.{key}"), path.to_owned()));
    report_repeats(reader, "path", named.collect());
    for (base, what) in paths.parents() {
        let lies_below = |(_, path): &(&str, &str)| {
            let rest = path.strip_prefix(base);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        for (key, path) in paths.all().filter(lies_below) {
            let error = format!(
                "path.{key}: {path} lies below {base}, where {what} are; another path would be right"
            );
            reader.add_error(&format!("path.{key}"), &error);
        }
    }
}

/// Reports each system that nothing proves.
fn check_systems(config: &Config, reader: &mut ConfigReader) {
    for (index, system) in config.systems.iter().enumerate() {
        let is_unknown = ["secrets", "tokens"]
            .map(|key| reader.is_stood_in(&format!("system[{index}].{key}")))
            .contains(&true);
        if system.secrets.is_empty() && system.tokens.is_empty() && !is_unknown {
            let error = format!(
                "{}: has nothing to prove its requests with; secrets or tokens would be right",
                name_table("system", index, &system.key)
            );
            reader.add_error(&format!("system[{index}]"), &error);
        }
    }
}

/// Reports each key of a site's signatures whose ID is not its own, or that makes hashes of users:
/// the site's server is to have no key to those.
fn check_user_sig_keys(config: &Config, reader: &mut ConfigReader) {
    for (at, site) in config.sites.iter().enumerate() {
        let place = |index| format!("site[{at}].user_sig_keys[{index}]");
        let ids = site.user_sig_keys.iter().enumerate();
        let ids = ids.map(|(index, (id, _))| (place(index), *id));
        let site_name = name_table("site", at, &site.key);
        let name = format!("{site_name}, user_sig_keys, the ID");
        report_repeats(reader, &name, ids.collect());
        for (index, (id, secret)) in site.user_sig_keys.iter().enumerate() {
            if config.user.keys.iter().any(|(_, other)| other == secret) {
                let error = format!(
                    "{site_name}, user_sig_keys: {id} is one of user.keys; a key of its own would be right"
                );
                reader.add_error(&place(index), &error);
            }
        }
    }
}

/// A sender: its place in the configuration, its own site, and the sites that it may write for.
struct SiteSender<'c> {
    table: &'static str,
    index: usize,
    key: &'c str,
    site: &'c str,
    sites: &'c [String],
}

fn senders(config: &Config) -> impl Iterator<Item = SiteSender<'_>> {
    let partners = config.partners.iter().enumerate();
    let partners = partners.map(|(index, partner)| SiteSender {
        table: "partner",
        index,
        key: &partner.key,
        site: &partner.site,
        sites: &partner.sites,
    });
    let systems = config.systems.iter().enumerate();
    partners.chain(systems.map(|(index, system)| SiteSender {
        table: "system",
        index,
        key: &system.key,
        site: &system.site,
        sites: &system.sites,
    }))
}

fn check_sites_of_senders(config: &Config, reader: &mut ConfigReader) {
    let knows_sites = reader.knows_all("site", config.sites.iter().map(|site| &*site.key));
    for sender in senders(config) {
        let SiteSender {
            table,
            index,
            key,
            site: own_site,
            sites,
        } = sender;
        let name = name_table(table, index, key);
        let own = (!own_site.is_empty()).then_some(("site".to_owned(), own_site));
        let listed = sites.iter().enumerate();
        let listed = listed.map(|(at, site)| (format!("sites[{at}]"), site.as_str()));
        for (field, site) in own.into_iter().chain(listed) {
            let keys = || config.sites.iter().map(|site| site.key.as_str());
            if knows_sites && !keys().any(|key| key == site) {
                let what = match suggest(keys(), site) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => "the key of one would be right".to_owned(),
                };
                let of_key = field.split('[').next().unwrap_or_default();
                let error = format!("{name}, {of_key}: {site} is no site; {what}");
                reader.add_error(&format!("{table}[{index}].{field}"), &error);
            }
        }
        let is_among = sites.is_empty() || sites.iter().any(|site| site == own_site);
        let knows_own = !reader.is_stood_in(&format!("{table}[{index}].sites"));
        if !own_site.is_empty() && !is_among && knows_own {
            let error = format!(
                "{name}, site: {own_site} is not among its sites; one of them would be right"
            );
            reader.add_error(&format!("{table}[{index}].site"), &error);
        }
    }
}

/// Whether two listeners cannot exist at the same time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    // An IPv4 address may be written as an IPv6 one.
    let (first, second) = (one.ip().to_canonical(), other.ip().to_canonical());
    let same_place = first == second || first.is_unspecified() || second.is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_place
}
