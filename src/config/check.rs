//! Checks what no key alone can tell.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use super::Config;
use super::read::ConfigReader;
use crate::endpoint::Endpoint;

/// Reports every contradiction between keys.
pub(super) fn check(config: &Config, reader: &mut ConfigReader) {
    if config.sites.is_empty() {
        reader.add_error("site: there is none, so no hit could be recorded; a [[site]] with a key would be right");
    }
    if config.spool.bytes_max < 2 * config.spool.chunk_bytes {
        reader.add_error(
            "spool.max_bytes: less than two chunks; at least 2 × spool.chunk_bytes would be right",
        );
    }
    check_listeners(config, reader);
    if config.cookie.name == config.cookie.choice_name {
        reader
            .add_error("cookie.choice_name: the same as cookie.name; another name would be right");
    }
    let sites = &config.sites;
    report_repeats(reader, "site.key", sites.iter().map(|site| &site.key));
    report_repeats(
        reader,
        "site.hosts",
        sites.iter().flat_map(|site| &site.hosts),
    );
    let partners = config.partners.iter().map(|partner| &partner.key);
    report_repeats(reader, "partner.key", partners);
    check_paths(config, reader);
    let ids = config.cookie.keys.iter().map(|(id, _)| id);
    report_repeats(reader, "cookie.keys, the ID", ids);
    check_sites_of_partners(config, reader);
    let ids = config.click.keys.iter().map(|(id, _)| id);
    report_repeats(reader, "click.keys, the ID", ids);
}

fn check_listeners(config: &Config, reader: &mut ConfigReader) {
    let (http, tls, admin) = (&config.http, &config.tls, &config.admin);
    if clash(admin.listen, http.listen) {
        reader.add_error("admin.listen: the same as http.listen; an address that the public cannot reach would be right");
    }
    let expects_proxy = http.proxy_protocol || tls.proxy_protocol;
    if expects_proxy && http.trusted_proxies.is_empty() {
        reader.add_error("http.trusted_proxies: there is none, so no PROXY protocol would be believed; the load balancer's network would be right");
    }
    let Some(listen) = tls.listen else {
        return;
    };
    if config.certificates.is_empty() {
        reader.add_error("certificate: there is none for tls.listen; a [[certificate]] with chain and key would be right");
    }
    for (name, other) in [("http", http.listen), ("admin", admin.listen)] {
        if clash(listen, other) {
            reader.add_error(&format!(
                "tls.listen: the same as {name}.listen; another port would be right"
            ));
        }
    }
}

fn check_paths(config: &Config, reader: &mut ConfigReader) {
    let paths = &config.path;
    report_repeats(reader, "path", paths.all());
    let is_form = |path: &&str| {
        let rest = path.strip_prefix(paths.of(Endpoint::Privacy));
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    if let Some(path) = paths.all().find(is_form) {
        reader.add_error(&format!(
            "path.privacy: {path} lies below it, where its forms are; another path would be right"
        ));
    }
}

fn check_sites_of_partners(config: &Config, reader: &mut ConfigReader) {
    for partner in &config.partners {
        let is_known = config.sites.iter().any(|site| site.key == partner.site);
        if !partner.site.is_empty() && !is_known {
            let (key, site) = (&partner.key, &partner.site);
            reader.add_error(&format!(
                "partner {key}, site: {site} is no site; the key of one would be right"
            ));
        }
    }
}

/// Whether two listeners cannot exist at the same time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_place =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_place
}

/// Reports each value that occurs again.
fn report_repeats<T: Ord + fmt::Display>(
    reader: &mut ConfigReader,
    name: &str,
    values: impl IntoIterator<Item = T>,
) {
    let mut earlier = BTreeSet::new();
    for value in values {
        if earlier.contains(&value) {
            reader.add_error(&format!(
                "{name}: {value} is there twice; each once would be right"
            ));
        }
        earlier.insert(value);
    }
}
