//! What only the parts that use a configuration can tell of it. A start, a reload and
//! `check-config` ask the same functions, so they say the same words.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use super::reload::sources;
use super::{keyrings, manifests};
use crate::config::{Config, ConfigErrors, DatabaseUrl, Mistakes, Site, Unusable};
use crate::edge::transport::tls;
use crate::enrich::{self, LoadError, TableFile};
use crate::loader::check_client;
use crate::postgres;

/// How long loaded chunks are kept where a standby may take over that lacks the last batches.
const KEEP_WITH_STANDBYS: Duration = Duration::from_mins(10);

/// Checks what would prevent a start. Blocks.
///
/// # Errors
/// All mistakes at once.
pub fn check(config: &Config) -> Result<(), ConfigErrors> {
    let mut mistakes = Mistakes::default();
    mistakes.add_unusable(unusable(config), &config.in_force);
    mistakes.into_result()
}

/// Checks what would prevent a start of `avtryck load`. Blocks.
///
/// # Errors
/// All mistakes at once.
pub(crate) fn check_load(config: &Config) -> Result<(), ConfigErrors> {
    let mut mistakes = Mistakes::default();
    if !config.kafka.is_used() {
        let what = "names no broker to load from; HOST:PORT of each would be right".to_owned();
        mistakes.add_unusable(vec![Unusable::new("kafka.brokers", what)], &config.in_force);
    }
    let database = postgres::check(&config.database, &config.in_force).err();
    mistakes.add_unusable(database.into_iter().collect(), &config.in_force);
    mistakes.add_unusable(check_client(&config.kafka), &config.in_force);
    mistakes.into_result()
}

/// Returns the values that would prevent a start. Blocks.
#[must_use]
pub(crate) fn unusable(config: &Config) -> Vec<Unusable> {
    let database = postgres::check(&config.database, &config.in_force);
    database
        .err()
        .into_iter()
        .chain(tls::check(&config.certificates))
        .chain(check_directories(config))
        .chain(keyrings::check(config))
        .chain(check_client(&config.kafka))
        .collect()
}

/// Checks that each directory is one that can be written to, or can be made, and that the spool and
/// the private Postgres have one each: both lock a file `lock` there, and would wait for the other.
fn check_directories(config: &Config) -> Vec<Unusable> {
    let spool = ("spool.dir", &config.spool.dir);
    let is_private = config.database.url == DatabaseUrl::Embedded && config.loads_into_postgres();
    let database = is_private.then_some(("database.dir", &config.database.dir));
    let flaw = |(key, path): (&str, &PathBuf)| {
        let why = flaw_of_directory(path)?;
        let what = format!("{} {why}; a directory would be right", path.display());
        Some(Unusable::new(key, what))
    };
    let is_shared = |(_, path): &(&str, &PathBuf)| whole_path(path) == whole_path(spool.1);
    let shared = database.filter(is_shared).map(|(key, path)| {
        let path = path.display();
        let what = format!("{path} is spool.dir as well; a directory of its own would be right");
        Unusable::new(key, what)
    });
    let each = [Some(spool), database].into_iter().flatten();
    each.filter_map(flaw).chain(shared).collect()
}

/// Returns a path from the root on, without links as far as it exists.
fn whole_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.canonicalize().unwrap_or(path)
}

/// Returns why files cannot be made in a directory. One that does not exist is made, in the nearest
/// directory above it that does.
fn flaw_of_directory(path: &Path) -> Option<String> {
    if path.exists() && !path.is_dir() {
        return Some("is no directory".to_owned());
    }
    let above = path.ancestors().find(|path| path.exists());
    // A relative path ends at the working directory, whose name is empty here.
    let existing = above.unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Some(format!(
            "cannot be made: {} is no directory",
            existing.display()
        ));
    }
    let wanted = AccessFlags::W_OK | AccessFlags::X_OK;
    let error = faccessat(AT_FDCWD, existing, wanted, AtFlags::AT_EACCESS).err()?;
    let error = io::Error::from(error);
    Some(if existing == path {
        format!("cannot be written to ({error})")
    } else {
        format!("cannot be made in {} ({error})", existing.display())
    })
}

/// Tries to listen where the collector would. Returns the addresses where nobody can, and what may
/// be right all the same: a collector that runs has its port, and only the service may be allowed
/// to take a low one.
#[must_use]
pub(crate) fn check_addresses(config: &Config) -> (Vec<Unusable>, Vec<Unusable>) {
    let all = [
        ("http.listen", Some(config.http.listen)),
        ("tls.listen", config.tls.listen),
        ("admin.listen", Some(config.admin.listen)),
    ];
    let mut unusable = Vec::new();
    let mut doubtful = Vec::new();
    for (key, address) in all {
        let Some(address) = address else { continue };
        let Err(error) = TcpListener::bind(address) else {
            continue;
        };
        let found = |what: &str| Unusable::new(key, format!("{address} {what} ({error})"));
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                doubtful.push(found(
                    "is in use, by a collector that runs or by another program",
                ));
            }
            io::ErrorKind::PermissionDenied => {
                doubtful.push(found("cannot be listened on by the user who checks"));
            }
            _ => unusable.push(found(
                "cannot be listened on; an address of this machine would be right",
            )),
        }
    }
    (unusable, doubtful)
}

/// Reads geodata and rules, and returns what is wrong with them: what a start does without, and
/// what it only warns of. Blocks for some seconds.
#[must_use]
pub(crate) fn check_tables(config: &Config) -> (Vec<Unusable>, Vec<Unusable>) {
    let errors = enrich::check(&sources(config));
    let (partial, failed): (Vec<_>, Vec<_>) = errors.iter().partition(|it| it.is_partial());
    let describe = |errors: Vec<&LoadError>| errors.into_iter().map(name_key).collect();
    let mut failed: Vec<Unusable> = describe(failed);
    failed.extend(manifests::check(config));
    (failed, describe(partial))
}

/// Returns the mistake in a file of geodata or rules, with the key that names it.
fn name_key(error: &LoadError) -> Unusable {
    let key = match error.table {
        TableFile::City => "geoip.city",
        TableFile::Network => "geoip.network",
        TableFile::Rules => "device.rules",
        TableFile::Crawlers => "device.crawlers",
        TableFile::Models => "device.models",
        TableFile::Schema => "schema.folders",
        TableFile::Category => "category.lists",
        TableFile::Taxonomy => "category.taxonomy",
    };
    Unusable::new(key, error.to_string())
}

/// Returns the message about a file of geodata or rules.
pub(super) fn describe(config: &Config, error: &LoadError) -> String {
    config.in_force.message(&name_key(error))
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
        warnings.push(Unusable::new("admin.listen", what));
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
        warnings.push(Unusable::new("http.trusted_proxies", what));
    }
    if postgres::has_several_hosts(&config.database) && config.spool.keep < KEEP_WITH_STANDBYS {
        let what = format!(
            "{} s is short with several hosts in database.url: a standby that replicates \
             asynchronously lacks what was committed last, and only what is kept is loaded again when \
             it takes over; more than it may be late, and at least 10m, would be right (nothing is \
             needed where synchronous_standby_names names it)",
            config.spool.keep.as_secs()
        );
        warnings.push(Unusable::new("spool.keep", what));
    }
    let message = |warning| config.in_force.message(warning);
    warnings.iter().map(message).collect()
}

/// Returns what visitors of a site would not be told on their page, because the configuration does
/// not say it.
#[must_use]
pub(crate) fn find_unsaid(config: &Config) -> Vec<Unusable> {
    let of_site = |(at, site): (usize, &Site)| {
        let said = [
            ("name", site.name.is_some()),
            ("controller", site.controller.is_some()),
            ("contact", site.contact.is_some()),
            ("policy", site.policy.is_some()),
        ];
        let missing: Vec<&str> = said
            .iter()
            .filter(|(_, is_said)| !is_said)
            .map(|(name, _)| *name)
            .collect();
        let key = &site.key;
        let what = format!(
            "{key} has no {}, which its visitors are told on their page",
            missing.join(", ")
        );
        (!missing.is_empty()).then(|| Unusable::new(format!("site[{at}].key"), what))
    };
    config
        .sites
        .iter()
        .enumerate()
        .filter_map(of_site)
        .collect()
}

/// Returns in one line what a collector with this configuration does.
#[must_use]
pub fn summary(config: &Config) -> String {
    let at = |address: SocketAddr| address.to_string();
    let https = config.tls.listen.map_or("no https".to_owned(), |address| {
        format!("https on {address}")
    });
    let database = match &config.database.url {
        _ if !config.loads_into_postgres() => "Kafka alone".to_owned(),
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
                "postgres://me:hush@db/x?sslmode=allow",
                "has sslmode=allow, and known are disable, prefer, require, verify-ca, verify-full; allow would go on \
                 in clear text without a word",
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

    #[test]
    fn what_a_site_does_not_tell_its_visitors_is_named_site_by_site() {
        let whole = "[[site]]\nkey = \"b\"\nname = \"Shop B\"\ncontroller = \"B AB\"\n\
                     contact = \"data@b.example\"\npolicy = \"https://b.example/privacy\"\n";
        let config = Config::parse(&format!("{SITE}name = \"A\"\n{whole}"), []).unwrap();
        let said: Vec<String> = find_unsaid(&config)
            .iter()
            .map(|unsaid| config.in_force.message(unsaid))
            .collect();
        assert_eq!(
            said,
            [
                "line 2: site[0].key: a has no controller, contact, policy, which its visitors are told on their page"
            ]
        );
    }

    #[test]
    fn what_the_client_of_kafka_does_not_take_is_named_without_its_value() {
        let found = |said: &str| {
            let text =
                format!("{SITE}[kafka]\nbrokers = [\"127.0.0.1:9092\"]\n[kafka.client]\n{said}");
            check_client(&Config::parse(&text, []).unwrap().kafka)
        };
        assert_eq!(found("\"linger.ms\" = \"20\"\n\"client.rack\" = \"\""), []);
        for name in ["linger.ms", "linger-ms", "ssl.key.password.of.nobody"] {
            let found = found(&format!("\"{name}\" = \"hush\""));
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].key, "kafka.client");
            assert!(found[0].what.starts_with(&format!("{name} ")), "{found:?}");
            assert!(!found[0].what.contains("hush"), "{found:?}");
        }
    }

    #[test]
    fn several_servers_without_chunks_that_are_kept_are_warned_of() {
        let warned = |url: &str, keep: &str| {
            let text = format!(
                "{SITE}[spool]\nkeep = \"{keep}\"\n[database]\nurl = \"postgres://{url}\"\n"
            );
            warnings(&Config::parse(&text, []).unwrap())
        };
        for (url, keep, number) in [
            ("a/x", "0s", 0),
            ("a,b/x", "0s", 1),
            ("a,b/x", "9m", 1),
            ("a,b/x", "10m", 0),
            ("/x?hostaddr=10.0.0.1,10.0.0.2", "0s", 1),
        ] {
            let warned = warned(url, keep);
            assert_eq!(warned.len(), number, "{url} {keep}: {warned:?}");
            assert!(warned.iter().all(|text| text.contains("spool.keep: ")));
        }
    }
}
