//! Checks what no key alone can tell.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use super::Config;
use super::document::suggest;
use super::read::ConfigReader;
use crate::request::Prefix;

/// Reports every contradiction between keys.
pub(super) fn check(config: &Config, reader: &mut ConfigReader) {
    if config.sites.is_empty() {
        reader.add_error("site", "site: no [[site]] is configured, so no hit could be recorded; a [[site]] with a key would be right");
    }
    let shards = config.spool.shards.max(1) as u64;
    if config.spool.bytes_max / 2 / config.spool.chunk_bytes < shards {
        reader.add_error(
            "spool.max_bytes",
            "spool.max_bytes: less than two chunks for each shard; at least 2 × spool.chunk_bytes × spool.shards would be right",
        );
    }
    check_listeners(config, reader);
    check_cookies(config, reader);
    let keys = |section: &str, keys: Vec<String>| {
        let named = keys.into_iter().enumerate();
        named
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
    check_paths(config, reader);
    check_sites_of_partners(config, reader);
    for (name, keys) in [
        ("cookie.keys", &config.cookie.keys),
        ("click.keys", &config.click.keys),
        ("user.keys", &config.user.keys),
    ] {
        let ids = keys.iter().enumerate();
        let ids = ids.map(|(index, (id, _))| (format!("{name}[{index}]"), *id));
        report_repeats(reader, &format!("{name}, the ID"), ids.collect());
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
                    "site {}, aliases: {alias} is the key of another site; a name of its own would be right",
                    site.key
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
        .collect();
    let domain_site = config
        .sites
        .iter()
        .find(|site| site.cookie_domain.is_some());
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
        if let Some(site) = domain_site.filter(|_| is_host_only) {
            let error = format!(
                "{key}: browsers keep {name} on no domain, and site {} has a cookie_domain; the prefix __Secure- would be right",
                site.key
            );
            reader.add_error(key, &error);
        }
    }
}

fn check_listeners(config: &Config, reader: &mut ConfigReader) {
    let (http, tls, admin) = (&config.http, &config.tls, &config.admin);
    if clash(admin.listen, http.listen) {
        reader.add_error("admin.listen", "admin.listen: the same as http.listen; an address that the public cannot reach would be right");
    }
    let expects_proxy = http.proxy_protocol || tls.proxy_protocol;
    if expects_proxy && http.trusted_proxies.is_empty() {
        reader.add_error("http.trusted_proxies", "http.trusted_proxies: the list is empty, so no PROXY protocol would be believed; the load balancer's network would be right");
    }
    let Some(listen) = tls.listen else {
        return;
    };
    if config.certificates.is_empty() {
        reader.add_error("tls.listen", "certificate: no [[certificate]] is configured for tls.listen; one with chain and key would be right");
    }
    for (name, other) in [("http", http.listen), ("admin", admin.listen)] {
        if clash(listen, other) {
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

fn check_sites_of_partners(config: &Config, reader: &mut ConfigReader) {
    for (index, partner) in config.partners.iter().enumerate() {
        let own = (!partner.site.is_empty()).then_some(("site".to_owned(), &partner.site));
        let listed = partner.sites.iter().enumerate();
        let listed = listed.map(|(at, site)| (format!("sites[{at}]"), site));
        for (field, site) in own.into_iter().chain(listed) {
            let keys = || config.sites.iter().map(|site| site.key.as_str());
            if !keys().any(|key| key == site) {
                let what = match suggest(keys(), site) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => "the key of one would be right".to_owned(),
                };
                let (key, name) = (&partner.key, field.split('[').next().unwrap_or_default());
                let error = format!("partner {key}, {name}: {site} is no site; {what}");
                reader.add_error(&format!("partner[{index}].{field}"), &error);
            }
        }
        if !partner.site.is_empty() && !partner.may_write_for(&partner.site) {
            let (key, site) = (&partner.key, &partner.site);
            let error = format!(
                "partner {key}, site: {site} is not among its sites; one of them would be right"
            );
            reader.add_error(&format!("partner[{index}].site"), &error);
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

/// Reports each value that occurs again, at the second place, or the first if only that is in the
/// file.
fn report_repeats<T: Ord + fmt::Display>(
    reader: &mut ConfigReader,
    name: &str,
    values: Vec<(String, T)>,
) {
    let mut earlier = BTreeMap::new();
    for (path, value) in values {
        if let Some(first) = earlier.get(&value) {
            let error = format!("{name}: {value} is there twice; each once would be right");
            let place = if reader.has_line(&path) { &path } else { first };
            reader.add_error(place, &error);
        } else {
            earlier.insert(value, path);
        }
    }
}
