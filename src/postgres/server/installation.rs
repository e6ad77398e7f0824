//! The Postgres that is installed on this machine: its programs and its major version.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Programs that a private cluster needs.
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Where packages put the programs of each major version: the folder, and what follows the version.
const PACKAGED: [(&str, &str, &str); 3] = [
    // Debian and Ubuntu.
    ("/usr/lib/postgresql", "", "bin"),
    // The PostgreSQL project's packages for Red Hat and similar systems.
    ("/usr", "pgsql-", "bin"),
    // Homebrew.
    ("/opt/homebrew/opt", "postgresql@", "bin"),
];

/// A folder with the programs of one Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    bin: PathBuf,
    major: u32,
}

impl Installation {
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    fn at(bin: &Path) -> Option<Installation> {
        if !PROGRAMS.iter().all(|name| bin.join(name).is_file()) {
            return None;
        }
        let output = Command::new(bin.join("postgres"))
            .arg("--version")
            .current_dir("/")
            .output()
            .ok()?;
        let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
        Some(Installation {
            bin: bin.to_owned(),
            major,
        })
    }
}

/// Finds the Postgres to run: that of `major` if a cluster of it exists; otherwise the first on
/// PATH, or the highest version that a package installed.
pub(crate) fn find(major: Option<u32>) -> anyhow::Result<Installation> {
    let found = find_installations();
    let Some(wanted) = major else {
        return found.into_iter().next().context(
            "no Postgres is installed: `apt-get install postgresql`, or set database.url to a \
             postgres:// URL",
        );
    };
    let others: Vec<String> = found.iter().map(|other| other.major.to_string()).collect();
    match found.into_iter().find(|other| other.major == wanted) {
        Some(installation) => Ok(installation),
        None => bail!(
            "the cluster was made by Postgres {wanted}, installed is {}: \
             `apt-get install postgresql-{wanted}`",
            if others.is_empty() {
                "none".to_owned()
            } else {
                others.join(", ")
            }
        ),
    }
}

fn find_installations() -> Vec<Installation> {
    let mut packaged: Vec<Installation> = list_packaged()
        .iter()
        .filter_map(|bin| Installation::at(bin))
        .collect();
    packaged.sort_by_key(|installation| std::cmp::Reverse(installation.major));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<Installation> = env::split_paths(&path)
        .filter_map(|bin| Installation::at(&bin))
        .collect();
    found.extend(packaged);
    found.extend(by_pg_config());
    found
}

fn list_packaged() -> Vec<PathBuf> {
    let mut bins = Vec::new();
    for (folder, prefix, bin) in PACKAGED {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix));
            if version.is_some_and(|version| version.parse::<f32>().is_ok()) {
                bins.push(entry.path().join(bin));
            }
        }
    }
    bins
}

fn by_pg_config() -> Option<Installation> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .current_dir("/")
        .output()
        .ok()?;
    Installation::at(Path::new(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Returns the major version in `postgres (PostgreSQL) 15.12 (Debian 15.12-1)` and in `PG_VERSION`.
pub(crate) fn major_of(version: &str) -> Option<u32> {
    version.split_whitespace().find_map(|word| {
        word.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    })
}
