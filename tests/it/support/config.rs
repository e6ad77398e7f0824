//! A configuration as a value.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Dir, addresses, root, tables};
use crate::testing::TestDatabase;

/// A URL of a Postgres that does not exist.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/none";

/// The configuration of a collector. Every test has the same one but for what it names.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    table: Table,
    postgres: Postgres,
}

/// The database of a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Postgres {
    /// A new one on the server that the tests share.
    Shared,
    /// Whatever the configuration says.
    Configured,
}

impl Config {
    /// Makes a configuration that takes no hits: it has no site. Few networks have a
    /// place and few models a name: to read the real files is most of a collector's start.
    pub(crate) fn new() -> Config {
        let root = root();
        let root = root.display();
        Config {
            postgres: Postgres::Shared,
            table: parse(&format!(
                r#"
                http = {{ listen = "127.0.0.1:0", threads = 2, trusted_proxies = ["127.0.0.0/8"] }}
                admin.listen = "127.0.0.1:0"
                spool.chunk_bytes = "4MiB"
                loader.batch_wait = "50ms"
                [geoip]
                city = {:?}
                network = ["{root}/assets/data/test/mmdb/GeoLite2-ASN-Test.mmdb"]
                [device]
                rules = "{root}/assets/data/rules/regexes.json"
                crawlers = "{root}/assets/data/rules/crawlers.json"
                models = {:?}
                "#,
                *tables::FEW_NETWORKS,
                *tables::FEW_MODELS
            )),
        }
    }

    /// Makes one with [`super::SITES`].
    pub(crate) fn sites() -> Config {
        Config::new().with(super::SITES)
    }

    /// Takes the geodata that operators have.
    pub(crate) fn real_geodata(self) -> Config {
        self.set("geoip.city", tables::real_geodata())
    }

    /// Reads the file in a folder.
    pub(crate) fn read(dir: &Path) -> Config {
        let text = std::fs::read_to_string(dir.join("avtryck.toml")).unwrap();
        Config {
            table: parse(&text),
            postgres: Postgres::Configured,
        }
    }

    /// Adds what a text says. Lists of tables grow; any other value takes the place of the one
    /// before.
    pub(crate) fn with(mut self, text: &str) -> Config {
        merge(&mut self.table, parse(text));
        self
    }

    /// Sets a value. The path names tables, and entries of a list by their keys:
    /// `site.open.gvl_id`.
    pub(crate) fn set(mut self, path: &str, value: impl Into<Value>) -> Config {
        let (tables, key) = path.rsplit_once('.').unwrap();
        self.table_at(tables).insert(key.to_owned(), value.into());
        self
    }

    fn table_at(&mut self, path: &str) -> &mut Table {
        let mut table = &mut self.table;
        let mut segments = path.split('.');
        while let Some(segment) = segments.next() {
            let value = table.entry(segment).or_insert_with(|| Table::new().into());
            let value = match value {
                Value::Array(list) => {
                    let key = segments.next().unwrap();
                    let is_it = |entry: &&mut Value| entry["key"].as_str() == Some(key);
                    list.iter_mut().find(is_it)
                }
                value => Some(value),
            };
            table = value
                .and_then(Value::as_table_mut)
                .unwrap_or_else(|| panic!("there is no table {path}"));
        }
        table
    }

    /// Adds a listener for TLS, with certificates by the stems of their files.
    pub(crate) fn tls(self, stems: &[PathBuf]) -> Config {
        self.set("tls.listen", "127.0.0.1:0").certificates(stems)
    }

    /// Names certificates in place of those before.
    pub(crate) fn certificates(mut self, stems: &[PathBuf]) -> Config {
        let certificate = |stem: &PathBuf| {
            let file = |extension| Value::from(format!("{}.{extension}", stem.display()));
            let files = [("chain", file("pem")), ("key", file("key"))];
            let files = files.map(|(key, value)| (key.to_owned(), value));
            Value::from(files.into_iter().collect::<Table>())
        };
        let certificates: Vec<Value> = stems.iter().map(certificate).collect();
        self.table
            .insert("certificate".to_owned(), certificates.into());
        self
    }

    /// Gives the collector an embedded Postgres.
    pub(crate) fn embedded(mut self) -> Config {
        self.postgres = Postgres::Configured;
        self
    }

    /// Names a Postgres that is not there.
    pub(crate) fn without_postgres(self) -> Config {
        self.set("database.url", NOWHERE)
    }

    /// Names an embedded Postgres that another process is to start in a folder.
    pub(crate) fn postgres_in(self, dir: &Path) -> Config {
        let dir = dir.display().to_string().replace('/', "%2F");
        self.set("database.url", format!("postgres://avtryck@{dir}/avtryck"))
    }

    /// Names a database of the server that the tests share.
    pub(crate) fn database_of(self, database: &TestDatabase) -> Config {
        let config = &database.config;
        let [tokio_postgres::config::Host::Unix(socket)] = config.get_hosts() else {
            panic!("{config:?}")
        };
        let url = format!(
            "postgres://{}@{}/{}",
            config.get_user().unwrap(),
            socket.display().to_string().replace('/', "%2F"),
            config.get_dbname().unwrap()
        );
        self.set("database.url", url)
    }

    /// Puts the file into a folder, with addresses and a database of its own where none are named.
    pub(crate) async fn write(mut self, dir: &Dir) {
        let at = |name: &str| dir.path().join(name).display().to_string();
        for (section, folder) in [("spool", "spool"), ("database", "postgres")] {
            let table = self.table_at(section);
            table.entry("dir").or_insert_with(|| at(folder).into());
        }
        let is_named = self.table_at("database").contains_key("url");
        if self.postgres == Postgres::Shared && !is_named {
            self = self.database_of(&TestDatabase::migrated().await);
        }
        self.at_free_addresses().write_as_it_is(dir.path());
    }

    /// Puts the file into a folder whose addresses and database stay those of before.
    pub(crate) fn write_as_it_is(&self, dir: &Path) {
        std::fs::write(dir.join("avtryck.toml"), self.table.to_string()).unwrap();
    }

    /// Chooses an address for each listener that has none.
    pub(crate) fn at_free_addresses(mut self) -> Config {
        let free = addresses::<3>();
        for (section, free) in ["http", "tls", "admin"].into_iter().zip(free) {
            let section = self.table.get_mut(section).and_then(Value::as_table_mut);
            if let Some(listen) = section.and_then(|section| section.get_mut("listen"))
                && listen.as_str().is_some_and(|text| text == "127.0.0.1:0")
            {
                *listen = free.to_string().into();
            }
        }
        self
    }

    /// The address that a listener has.
    pub(crate) fn address(&self, section: &str) -> Option<SocketAddr> {
        let listen = self.table.get(section)?.get("listen")?.as_str();
        listen.map(|text| text.parse().unwrap())
    }

    /// How its database is reached.
    pub(crate) fn database(&self) -> tokio_postgres::Config {
        let database = &self.table["database"];
        if let Some(url) = database.get("url").and_then(Value::as_str) {
            // The client reads no options of TLS; a test that has them looks by another way.
            let bare = url.split('?').next().unwrap();
            return url.parse().or_else(|_| bare.parse()).unwrap();
        }
        let mut config = tokio_postgres::Config::new();
        let dir = database["dir"].as_str().unwrap();
        config.host_path(dir).user("avtryck").dbname("avtryck");
        config
    }
}

fn parse(text: &str) -> Table {
    text.parse()
        .unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

fn merge(table: &mut Table, more: Table) {
    for (key, value) in more {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(table)), Value::Table(more)) => merge(table, more),
            (Some(Value::Array(list)), Value::Array(more)) if more.iter().all(Value::is_table) => {
                list.extend(more);
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}
