//! A private Postgres, run from the programs installed on the machine.
//!
//! It listens on a unix socket only, which lies beside the cluster in a folder that its user alone
//! may enter; so local connections are trusted. It writes durably (fsync, synchronous_commit). It
//! outlives a collector that was killed: the next start adopts it.
//!
//! ```text
//! data/postgres/cluster      the cluster; made as `new`, then renamed, so it is never half made
//! data/postgres/.s.PGSQL.5432
//! data/postgres/server.log
//! data/postgres/lock         held while starting
//! ```
//!
//! Postgres refuses to run as root. There it runs as the user `postgres`, or as the owner of a
//! cluster that exists. Where that user cannot enter the folder, or the socket's path would be too
//! long for the system, all of this lies in `/var/lib/avtryck/<hash of the folder>` instead.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use nix::sys::sysinfo::sysinfo;
use nix::unistd::{Uid, User};
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;
use xxhash_rust::xxh3::xxh3_64;

use super::connect::connect;
use super::installation::{self, Installation};
use crate::clock;

/// The role that owns everything, and the name of the database.
const NAME: &str = "avtryck";
/// The connections that its server allows: enough for the most loaders that can be configured,
/// twice during an upgrade, and for a few people. Each costs about 20 KiB of memory that is not
/// touched before it is used.
const CONNECTIONS_MAX: u32 = 300;

/// The folder of clusters that cannot lie where they are configured.
const ELSEWHERE: &str = "/var/lib/avtryck";

/// Unix socket paths end at 107 bytes on Linux, 103 on macOS.
const SOCKET_PATH_BYTES_MAX: usize = 100;

const SOCKET: &str = ".s.PGSQL.5432";

/// The file that every cluster has.
const VERSION: &str = "cluster/PG_VERSION";

/// How long a server may take to start: it may have to replay a day's WAL.
const START_SECONDS_MAX: u64 = 300;

/// Runs a program with its arguments, and closes the files that a calling shell left open: the
/// server outlives the collector, and would hold a script's lock for as long. The collector's own
/// files close by themselves. (Shells name descriptors by one digit.)
const WITHOUT_INHERITED_FILES: &str = r#"exec "$0" "$@" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-"#;

/// A running private Postgres.
#[derive(Clone, Debug)]
pub struct Embedded {
    place: Place,
    installation: Installation,
    /// Whether it ran before this process looked for it.
    was_running: bool,
}

/// Where the cluster lies and as which user it runs.
#[derive(Clone, Debug)]
struct Place {
    dir: PathBuf,
    /// User and group, if they are not this process's own.
    user: Option<(u32, u32)>,
}

/// What becomes of a cluster that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    IsMade,
    IsRefused,
}

impl Embedded {
    /// Starts the cluster in `dir`, which is made if absent, or adopts the server that runs there.
    /// Then makes the database `avtryck` if absent.
    ///
    /// # Errors
    /// Where no Postgres is installed, or it does not start; the error says what to do.
    pub async fn start(dir: &Path) -> anyhow::Result<Embedded> {
        Embedded::start_by(dir, Absent::IsMade).await
    }

    /// Starts or adopts the cluster in `dir` as [`Embedded::start`] does, but makes none: in a
    /// wrong folder an empty database would answer for the collector's.
    ///
    /// # Errors
    /// As there, and where there is no cluster.
    pub async fn start_existing(dir: &Path) -> anyhow::Result<Embedded> {
        Embedded::start_by(dir, Absent::IsRefused).await
    }

    async fn start_by(dir: &Path, absent: Absent) -> anyhow::Result<Embedded> {
        let dir = dir.to_owned();
        let embedded = tokio::task::spawn_blocking(move || start(&dir, absent)).await??;
        embedded.database(NAME).await?;
        Ok(embedded)
    }

    /// Returns how to reach the database `avtryck`.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config_of(NAME)
    }

    /// Returns the same as a connection string, for `psql`.
    #[must_use]
    pub fn conninfo(&self) -> String {
        let dir = self.place.dir.display().to_string();
        let dir = dir.replace('\\', "\\\\").replace('\'', "\\'");
        format!("host='{dir}' user={NAME} dbname={NAME}")
    }

    /// Returns the folder in which the cluster and its socket lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// Makes a database if it is absent, and returns how to reach it.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub async fn database(&self, name: &str) -> anyhow::Result<Config> {
        let client = connect(&self.config_of("postgres")).await?;
        let known = client
            .query_opt("select from pg_database where datname = $1", &[&name])
            .await?;
        if known.is_none() {
            let quoted = name.replace('"', "\"\"");
            let made = client
                .batch_execute(&format!("create database \"{quoted}\""))
                .await;
            // Another process may have made it since the query.
            if let Err(error) = made
                && error.code() != Some(&SqlState::DUPLICATE_DATABASE)
                && error.code() != Some(&SqlState::UNIQUE_VIOLATION)
            {
                return Err(error).with_context(|| format!("creating the database {name}"));
            }
        }
        Ok(self.config_of(name))
    }

    fn config_of(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.place.dir)
            .user(NAME)
            .dbname(database);
        config.application_name(NAME);
        config
    }

    /// Stops the server, unless it was adopted: a collector may be using it.
    ///
    /// # Errors
    /// Where it does not stop.
    pub async fn leave(self) -> anyhow::Result<()> {
        if self.was_running {
            return Ok(());
        }
        self.stop().await
    }

    /// Stops the server; open transactions are rolled back.
    ///
    /// # Errors
    /// Where it does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        tokio::task::spawn_blocking(move || self.stop_with("fast")).await?
    }

    /// Stops the server in one of `pg_ctl`'s modes.
    fn stop_with(&self, mode: &str) -> anyhow::Result<()> {
        if !is_running(&self.place.cluster()) {
            return Ok(());
        }
        let mut command = self.place.command(&self.installation.program("pg_ctl"));
        command.arg("stop").arg("-D").arg(self.place.cluster());
        command.args(["-w", "-m", mode]);
        run(command)
    }
}

impl Place {
    fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// Returns a command that runs a program as the cluster's user, in its folder, with English
    /// messages.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // The service manager is told of the collector alone; Postgres would tell it too.
        command
            .current_dir(&self.dir)
            .env("LC_ALL", "C")
            .env_remove("NOTIFY_SOCKET");
        if let Some((uid, gid)) = self.user {
            // The standard library drops root's other groups too when it sets another user.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes the folder, for the cluster's user alone.
    fn make(&self) -> anyhow::Result<()> {
        let context = || format!("making the folder {}", self.dir.display());
        fs::create_dir_all(&self.dir).with_context(context)?;
        if let Some((uid, gid)) = self.user {
            std::os::unix::fs::chown(&self.dir, Some(uid), Some(gid)).with_context(context)?;
        }
        fs::set_permissions(&self.dir, Permissions::from_mode(0o700)).with_context(context)
    }

    /// Returns whether the cluster's user can work in the folder.
    fn is_enterable(&self) -> anyhow::Result<bool> {
        if self.user.is_none() {
            return Ok(true);
        }
        match self
            .command(Path::new("/bin/sh"))
            .args(["-c", ":"])
            .status()
        {
            Ok(status) => Ok(status.success()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(error).context("running a program as the user of Postgres"),
        }
    }
}

fn start(dir: &Path, absent: Absent) -> anyhow::Result<Embedded> {
    let is_made = absent == Absent::IsMade;
    // Before anything is made.
    if !is_made && !has_cluster(dir)? {
        return Err(no_cluster(dir));
    }
    let place = find_place(dir)?;
    // Two collectors on one folder: the second waits here, then adopts the first one's server.
    let lock = File::create(place.dir.join("lock")).context("opening the lock file")?;
    lock.lock().context("locking the lock file")?;

    let version = fs::read_to_string(place.dir.join(VERSION)).ok();
    let installation = installation::find(version.as_deref().and_then(installation::major_of))?;
    let embedded = Embedded {
        was_running: is_running(&place.cluster()),
        place,
        installation,
    };
    if version.is_none() {
        if !is_made {
            return Err(no_cluster(dir));
        }
        embedded.make_cluster()?;
    }
    embedded.start_server()?;
    Ok(embedded)
}

/// Returns whether the cluster of `dir` is there, in one of the places where it may lie.
fn has_cluster(dir: &Path) -> anyhow::Result<bool> {
    let absolute = std::path::absolute(dir).context("database.dir")?;
    let version = absolute.join(VERSION);
    match fs::metadata(&version) {
        Ok(_) => return Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
            _ => return Err(error).with_context(|| format!("database.dir: {}", version.display())),
        },
    }
    Ok(place_elsewhere(&absolute).join(VERSION).exists())
}

fn no_cluster(dir: &Path) -> anyhow::Error {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    anyhow!(
        "database.dir: {} holds no database; the folder of the collector would be right",
        absolute.display()
    )
}

/// Returns where the cluster of a folder lies that cannot lie there.
fn place_elsewhere(absolute: &Path) -> PathBuf {
    let hash = xxh3_64(absolute.as_os_str().as_bytes());
    Path::new(ELSEWHERE).join(format!("{hash:016x}"))
}

/// Returns where the cluster of `dir` lies, and makes its folder.
fn find_place(dir: &Path) -> anyhow::Result<Place> {
    let absolute = std::path::absolute(dir).context("database.dir")?;
    let user = user_of(&absolute)?;
    let wanted = Place {
        dir: absolute,
        user,
    };
    let long = wanted.dir.join(SOCKET).as_os_str().len() > SOCKET_PATH_BYTES_MAX;
    let reason = if long {
        "its path is too long for a socket"
    } else {
        let existed = wanted.dir.exists();
        wanted.make()?;
        if wanted.is_enterable()? {
            return Ok(wanted);
        }
        if !existed {
            fs::remove_dir(&wanted.dir).context("removing the folder that is not used")?;
        }
        "the user of Postgres cannot enter it"
    };
    let elsewhere = place_elsewhere(&wanted.dir);
    tracing::info!(
        configured = %wanted.dir.display(),
        used = %elsewhere.display(),
        reason,
        "the cluster lies elsewhere"
    );
    let place = Place {
        user: user_of(&elsewhere)?,
        dir: elsewhere,
    };
    place.make()?;
    ensure!(
        place.is_enterable()?,
        "{} cannot be used for the cluster ({reason}), and the user of Postgres cannot enter {}: \
         set database.dir to a folder that it can enter",
        wanted.dir.display(),
        place.dir.display()
    );
    Ok(place)
}

/// Returns the user and group to run as: none, unless this process is root; then the owner of the
/// cluster, or `postgres` for a new one.
fn user_of(dir: &Path) -> anyhow::Result<Option<(u32, u32)>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    if let Ok(owned) = fs::metadata(dir.join(VERSION))
        && owned.uid() != 0
    {
        return Ok(Some((owned.uid(), owned.gid())));
    }
    let user = User::from_name("postgres")
        .context("looking up the user postgres")?
        .context(
            "Postgres does not run as root, and there is no user postgres: \
             `apt-get install postgresql` makes it",
        )?;
    Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
}

impl Embedded {
    fn make_cluster(&self) -> anyhow::Result<()> {
        let new = self.place.dir.join("new");
        if new.exists() {
            // A start that was killed left this folder.
            fs::remove_dir_all(&new).context("removing a half-made cluster")?;
        }
        let mut command = self.place.command(&self.installation.program("initdb"));
        command.arg("-D").arg(&new).args(["-U", NAME, "-E", "UTF8"]);
        command.args(["--locale=C", "--auth-local=trust", "--auth-host=reject"]);
        run(command)?;
        let conf = new.join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).context("reading postgresql.conf")?;
        text.push_str("\n# Written at each start. What follows this line wins.\n");
        text.push_str("include_if_exists 'avtryck.conf'\n");
        fs::write(&conf, text).context("writing postgresql.conf")?;
        fs::rename(&new, self.place.cluster()).context("naming the new cluster")
    }

    fn settings(&self) -> anyhow::Result<String> {
        let dir = self
            .place
            .dir
            .to_str()
            .context("database.dir is not UTF-8")?;
        // Commas separate folders, so double quotes within the single ones enclose the folder.
        let quoted = dir
            .replace('\\', "\\\\")
            .replace('\'', "''")
            .replace('"', "\"\"");
        Ok(format!(
            "listen_addresses = ''\n\
             port = 5432\n\
             unix_socket_directories = '\"{quoted}\"'\n\
             unix_socket_permissions = 0700\n\
             max_connections = {CONNECTIONS_MAX}\n\
             shared_buffers = {}MB\n\
             max_wal_size = 2GB\n\
             fsync = on\n\
             synchronous_commit = on\n\
             timezone = 'UTC'\n\
             log_timezone = 'UTC'\n\
             logging_collector = off\n",
            buffer_mebibytes()
        ))
    }

    /// Starts the server unless it runs, and returns when it takes connections.
    fn start_server(&self) -> anyhow::Result<()> {
        let cluster = self.place.cluster();
        let until = clock::monotonic() + Duration::from_secs(START_SECONDS_MAX);
        loop {
            if !is_running(&cluster) {
                self.start_stopped(&cluster)?;
            }
            let mut ready = self.place.command(&self.installation.program("pg_ctl"));
            ready.arg("status").arg("-D").arg(&cluster);
            if is_running(&cluster) && run(ready).is_ok() && is_ready(&cluster) {
                return Ok(());
            }
            ensure!(
                clock::monotonic() < until,
                "Postgres in {} does not become ready; its log is server.log there",
                self.place.dir.display()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn start_stopped(&self, cluster: &Path) -> anyhow::Result<()> {
        // A machine that lost power leaves this file, and another process may have its ID now.
        match fs::remove_file(cluster.join("postmaster.pid")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context("removing a stale postmaster.pid");
            }
            _ => {}
        }
        let conf = cluster.join("avtryck.conf");
        fs::write(&conf, self.settings()?).context("writing avtryck.conf")?;
        // Root wrote it, perhaps under a umask that hides it from the server.
        fs::set_permissions(&conf, Permissions::from_mode(0o644))
            .context("making avtryck.conf readable")?;
        let log = self.place.dir.join("server.log");
        let mut command = self.place.command(Path::new("/bin/sh"));
        command.args(["-c", WITHOUT_INHERITED_FILES]);
        command
            .arg("nice")
            .arg("-n")
            .arg(crate::postgres::server::NICE.to_string());
        command.arg(self.installation.program("pg_ctl"));
        command.arg("start").arg("-D").arg(cluster);
        command
            .arg("-w")
            .arg("-t")
            .arg(START_SECONDS_MAX.to_string());
        command.arg("-l").arg(&log);
        run(command).with_context(|| {
            format!(
                "starting Postgres; the last lines of {}:\n{}",
                log.display(),
                tail(&log)
            )
        })
    }
}

/// Returns the size of Postgres's buffers, a sixteenth of the memory within limits: in 64 MiB the
/// pages of `exposure` evict each other, and adding to one takes twice as long
/// (docs/performance.md). Buffers that are not used take no memory.
fn buffer_mebibytes() -> u64 {
    const MEBIBYTES: std::ops::RangeInclusive<u64> = 64..=1024;
    let memory = sysinfo().map_or(0, |system| system.ram_total());
    (memory / 16 / (1 << 20)).clamp(*MEBIBYTES.start(), *MEBIBYTES.end())
}

/// Returns whether the process that `postmaster.pid` names is the server of this cluster, whose
/// working directory is the cluster. A check that the process lives would not be enough: another
/// process may have the ID.
fn is_running(cluster: &Path) -> bool {
    let Some(pid) = pid_line(cluster, 0).and_then(|line| line.parse::<u32>().ok()) else {
        return false;
    };
    if cfg!(not(target_os = "linux")) {
        return true;
    }
    let works_in = fs::read_link(format!("/proc/{pid}/cwd"));
    let cluster = fs::canonicalize(cluster);
    matches!((works_in, cluster), (Ok(there), Ok(here)) if there == here)
}

/// Returns whether the server says in `postmaster.pid` (its eighth line) that it takes connections.
fn is_ready(cluster: &Path) -> bool {
    pid_line(cluster, 7).is_some_and(|status| status == "ready")
}

fn pid_line(cluster: &Path, line: usize) -> Option<String> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    Some(text.lines().nth(line)?.trim().to_owned())
}

/// Runs a program to its end. An error contains what it printed.
fn run(mut command: Command) -> anyhow::Result<()> {
    let name = command.get_program().display().to_string();
    let output = command
        .output()
        .with_context(|| format!("running {name}"))?;
    if !output.status.success() {
        bail!(
            "{name}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn tail(log: &Path) -> String {
    const LINES: usize = 10;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
