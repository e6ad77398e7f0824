//! What only the parts that use a configuration can tell of it. A start, a reload and
//! `check-config` ask the same functions, so they say the same words.

use std::net::SocketAddr;
use std::path::Path;

use super::keyrings;
use super::reload::sources;
use crate::config::{Config, ConfigErrors, DatabaseUrl};
use crate::edge::transport::tls;
use crate::enrich::{self, LoadError};
use crate::postgres;

/// Checks what would prevent a start. Blocks.
///
/// # Errors
/// All mistakes at once.
pub fn check(config: &Config) -> Result<(), ConfigErrors> {
    let mut errors = Vec::new();
    for checked in [
        postgres::check(&config.database, &config.in_force),
        tls::check(&config.certificates),
    ] {
        errors.extend(checked.err().into_iter().flat_map(|errors| errors.0));
    }
    errors.extend(check_directories(config));
    errors.extend(keyrings::check(config));
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ConfigErrors(errors))
    }
}

/// Checks that no file has the name of a directory.
fn check_directories(config: &Config) -> Vec<String> {
    let mut directories = vec![("spool.dir", &config.spool.dir)];
    if config.database.url == DatabaseUrl::Embedded {
        directories.push(("database.dir", &config.database.dir));
    }
    let is_file = |path: &Path| path.exists() && !path.is_dir();
    directories
        .into_iter()
        .filter(|(_, path)| is_file(path))
        .map(|(key, path)| {
            let path = path.display();
            let what = format!("{path} is no directory; a directory would be right");
            config.in_force.message(key, &what)
        })
        .collect()
}

/// Reads geodata and rules, and returns what is wrong with them: what a start does without, and
/// what it only warns of. Blocks for some seconds.
#[must_use]
pub fn check_tables(config: &Config) -> (Vec<String>, Vec<String>) {
    let (_, errors) = enrich::load(&sources(config));
    let (partial, failed): (Vec<_>, Vec<_>) = errors.iter().partition(|it| it.is_partial());
    let describe = |errors: Vec<&LoadError>| {
        let described = errors.into_iter().map(|error| describe(config, error));
        described.collect()
    };
    (describe(failed), describe(partial))
}

/// Returns the message about a file of geodata or rules, with the key that names it.
pub(super) fn describe(config: &Config, error: &LoadError) -> String {
    let (geoip, device) = (&config.geoip, &config.device);
    let key = if geoip.city.contains(&error.path) {
        "geoip.city"
    } else if geoip.network.contains(&error.path) {
        "geoip.network"
    } else if device.rules == error.path {
        "device.rules"
    } else {
        "device.crawlers"
    };
    config.in_force.message(key, &error.to_string())
}

/// Returns what works and is probably not meant.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let admin = config.admin.listen;
    if !admin.ip().to_canonical().is_loopback() {
        let what = format!(
            "{admin} is not this machine's own address, and whoever reaches it sees metrics and hits; \
             keep it from the public by a firewall, or use 127.0.0.1:{}",
            admin.port()
        );
        warnings.push(config.in_force.message("admin.listen", &what));
    }
    let everybody = config
        .http
        .trusted_proxies
        .iter()
        .find(|network| network.prefix_len() == 0);
    if let Some(network) = everybody {
        let what = format!(
            "{network} is everybody, so any client can claim any address; the networks of your \
             proxies would be right"
        );
        warnings.push(config.in_force.message("http.trusted_proxies", &what));
    }
    warnings
}

/// Returns in one line what a collector with this configuration does.
#[must_use]
pub fn summary(config: &Config) -> String {
    let at = |address: SocketAddr| address.to_string();
    let https = config.tls.listen.map_or("no https".to_owned(), |address| {
        format!("https on {address}")
    });
    let database = match &config.database.url {
        DatabaseUrl::Embedded => {
            format!("a private Postgres in {}", config.database.dir.display())
        }
        url @ DatabaseUrl::Url(_) => url.to_string(),
    };
    format!(
        "http on {}, {https}, admin on {}; {}, {}; hits are kept in {} and loaded into {database}",
        at(config.http.listen),
        at(config.admin.listen),
        count(config.sites.len(), "site"),
        count(config.partners.len(), "partner"),
        config.spool.dir.display(),
    )
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "[[site]]\nkey = \"a\"\n";

    #[test]
    fn a_database_url_that_postgres_cannot_use_is_reported_like_any_other_mistake() {
        for (url, why) in [
            (
                "postgres://me:hush@db/x?sslmode=require",
                "has sslmode=require, and connections to Postgres are not encrypted; disable and prefer are known",
            ),
            (
                "postgres://me:hush@db:port/x",
                "has a part that cannot be read, such as a port",
            ),
            ("postgres://", "names no host"),
        ] {
            let in_file = format!("{SITE}[database]\nurl = \"{url}\"\n");
            let variable = ("AVTRYCK_DATABASE_URL".into(), url.into());
            for (config, name) in [
                (Config::parse(&in_file, []), "line 4: database.url"),
                (Config::parse(SITE, [variable]), "AVTRYCK_DATABASE_URL"),
            ] {
                let errors = check(&config.unwrap()).unwrap_err();
                let right = "embedded, or a URL such as postgres://user:password@host/database";
                assert_eq!(errors.0, [format!("{name}: {why}; {right} would be right")]);
            }
        }
        let sound = "[database]\nurl = \"postgres://me:hush@a:5432,b/x?sslmode=prefer\"\n";
        let config = Config::parse(&format!("{sound}{SITE}"), []).unwrap();
        assert_eq!(check(&config), Ok(()));
    }

    #[test]
    fn a_summary_says_where_hits_come_and_go_without_a_password() {
        let parse = |text: &str| Config::parse(&format!("{SITE}{text}"), []).unwrap();
        assert_eq!(
            summary(&parse("[database]\nurl = \"postgres://me:hu?sh@db/x\"\n")),
            "http on 127.0.0.1:8080, no https, admin on 127.0.0.1:8090; 1 site, 0 partners; \
             hits are kept in data/spool and loaded into postgres://…"
        );
        let embedded = summary(&parse("[[partner]]\nkey = \"p\"\n"));
        assert!(
            embedded.ends_with("1 site, 1 partner; hits are kept in data/spool and loaded into a private Postgres in data/postgres"),
            "{embedded}"
        );
    }

    #[test]
    fn an_admin_listener_beyond_this_machine_and_a_network_of_everybody_are_warned_of() {
        let warned = |admin: &str, proxies: &str| {
            let text = format!(
                "{SITE}[admin]\nlisten = \"{admin}\"\n[http]\ntrusted_proxies = [{proxies}]\n"
            );
            warnings(&Config::parse(&text, []).unwrap())
        };
        for (admin, proxies, number) in [
            ("127.0.0.1:8090", "", 0),
            ("127.9.9.9:8090", "\"10.0.0.0/8\"", 0),
            ("[::1]:8090", "", 0),
            ("[::ffff:127.0.0.1]:8090", "", 0),
            ("0.0.0.0:8090", "", 1),
            ("[::]:8090", "\"::/0\"", 2),
            ("10.0.0.1:8090", "", 1),
            ("127.0.0.1:8090", "\"0.0.0.0/0\"", 1),
        ] {
            let warned = warned(admin, proxies);
            assert_eq!(warned.len(), number, "{admin} {proxies}: {warned:?}");
            assert!(warned.iter().all(|text| text.starts_with("line ")));
        }
    }
}
