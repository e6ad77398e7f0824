//! Clusters of Postgres that tests set up, stop, freeze and promote.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use tokio_postgres::{Client, NoTls, Row};

use super::{Dir, free_address, tempdir, until};

/// The superuser of each cluster, who may connect by its socket alone.
const SUPERUSER: &str = "root_of_test";

/// A cluster in a folder of its own. It runs as `postgres` where the tests run as root.
pub(crate) struct Cluster {
    dir: Dir,
    /// Where it listens besides its socket.
    pub(crate) address: SocketAddr,
}

impl Cluster {
    /// Makes and starts one with these settings and lines of `pg_hba.conf`, in which its folder
    /// stands for `{dir}`.
    pub(crate) fn start(settings: &[&str], hba: &[&str]) -> Cluster {
        let cluster = Cluster::place();
        cluster.run(
            "initdb",
            &[
                "-U",
                SUPERUSER,
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
                "-A",
                "trust",
                "-D",
                &cluster.data(),
            ],
        );
        let lines = [
            "local all root_of_test trust",
            "local replication root_of_test trust",
        ];
        let hba: Vec<&str> = lines.iter().chain(hba).copied().collect();
        cluster.write("pg_hba.conf", &hba.join("\n"));
        let own = [
            "fsync = off",
            "full_page_writes = on",
            "max_connections = 60",
            "shared_buffers = 32MB",
            "wal_level = replica",
            "logging_collector = off",
            "timezone = 'UTC'",
        ];
        let settings: Vec<&str> = own.iter().chain(settings).copied().collect();
        cluster.write("postgresql.auto.conf", &settings.join("\n"));
        cluster.write_place();
        cluster.resume();
        cluster
    }

    /// Makes and starts a standby of this one, whose application name is `standby`.
    pub(crate) fn standby(&self) -> Cluster {
        let standby = Cluster::place();
        let data = standby.data();
        standby.run(
            "pg_basebackup",
            &[
                "-h",
                &self.socket(),
                "-p",
                &self.port(),
                "-U",
                SUPERUSER,
                "-X",
                "stream",
                "-c",
                "fast",
                "--no-sync",
                "-D",
                &data,
            ],
        );
        standby.write("standby.signal", "");
        let conninfo = format!(
            "primary_conninfo = 'host={} port={} user={SUPERUSER} application_name=standby'\n",
            self.socket(),
            self.port()
        );
        standby.append("postgresql.auto.conf", &conninfo);
        standby.write_place();
        standby.resume();
        standby
    }

    fn place() -> Cluster {
        let dir = tempdir();
        let folder = dir.path().join("pg");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        if let Some(user) = user() {
            std::os::unix::fs::chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .unwrap();
        }
        Cluster {
            dir,
            address: free_address(),
        }
    }

    /// The folder in which its socket, and files of a test, lie.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("pg")
    }

    fn socket(&self) -> String {
        self.folder().display().to_string()
    }

    fn port(&self) -> String {
        self.address.port().to_string()
    }

    fn data(&self) -> String {
        self.folder().join("cluster").display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        let text = text.replace("{dir}", &self.socket());
        std::fs::write(Path::new(&self.data()).join(name), format!("{text}\n")).unwrap();
        self.own(&Path::new(&self.data()).join(name));
    }

    fn append(&self, name: &str, text: &str) {
        let old = std::fs::read_to_string(Path::new(&self.data()).join(name)).unwrap();
        self.write(name, &(old + text));
    }

    fn write_place(&self) {
        let (ip, port, socket) = (self.address.ip(), self.address.port(), self.socket());
        self.append(
            "postgresql.auto.conf",
            &format!(
                "listen_addresses = '{ip}'\nport = {port}\nunix_socket_directories = '{socket}'\n"
            ),
        );
    }

    /// Gives a file to the cluster's user alone.
    pub(crate) fn own(&self, file: &Path) {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(user) = user() {
            std::os::unix::fs::chown(file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .unwrap();
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(bin().join(program));
        command.args(arguments);
        self.as_user(&mut command);
        // What a server inherits it would hold open: its log is a file.
        let log = std::fs::File::create(self.folder().join(format!("{program}.out"))).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let status = command.status().unwrap();
        let said = std::fs::read_to_string(self.folder().join(format!("{program}.out")));
        assert!(status.success(), "{program}: {said:?} {:?}", self.log());
    }

    /// Makes a command run as the cluster's user, in its folder.
    pub(crate) fn as_user<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.current_dir(self.folder());
        command.env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(user) = user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// What the server logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("server.log")).unwrap_or_default()
    }

    fn control(&self, what: &[&str]) {
        let log = self.folder().join("server.log").display().to_string();
        let data = self.data();
        let arguments = ["-D", &data, "-w", "-t", "60", "-l", &log];
        self.run("pg_ctl", &[&arguments[..], what].concat());
    }

    /// Starts it again.
    pub(crate) fn resume(&self) {
        self.control(&["start"]);
    }

    /// Stops it as a crash would.
    pub(crate) fn crash(&self) {
        self.control(&["stop", "-m", "immediate"]);
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        self.control(&["promote"]);
    }

    /// Adds settings, and reads them.
    pub(crate) fn set(&self, settings: &[&str]) {
        self.append(
            "postgresql.auto.conf",
            &format!("{}\n", settings.join("\n")),
        );
        self.reload();
    }

    /// Adds settings to one that does not run.
    pub(crate) fn set_offline(&self, settings: &[&str]) {
        self.append(
            "postgresql.auto.conf",
            &format!("{}\n", settings.join("\n")),
        );
    }

    /// Reads its settings and certificates again.
    pub(crate) fn reload(&self) {
        self.control(&["reload"]);
    }

    fn signal(&self, signal: Signal) {
        let file = Path::new(&self.data()).join("postmaster.pid");
        let Ok(text) = std::fs::read_to_string(file) else {
            return;
        };
        let main = text.lines().next().unwrap();
        let path = format!("/proc/{main}/task/{main}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        for pid in [main].into_iter().chain(children.split_whitespace()) {
            // A child may have ended.
            let _gone = kill(Pid::from_raw(pid.parse().unwrap()), signal);
        }
    }

    /// Stops all its processes where they are, as a machine that stands still.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Connects to a database as the superuser.
    pub(crate) async fn client(&self, database: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.folder()).port(self.address.port());
        config.user(SUPERUSER).dbname(database);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Makes the role `me` and its database `hits`.
    pub(crate) async fn prepare(&self) {
        let client = self.client("postgres").await;
        let role = "create role me login password 'hush'";
        client.batch_execute(role).await.unwrap();
        let database = "create database hits owner me";
        client.batch_execute(database).await.unwrap();
    }

    /// The rows of a query of that database.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Row> {
        self.client("hits").await.query(sql, &[]).await.unwrap()
    }

    /// The one number that a query answers.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.rows(sql).await[0].get(0)
    }

    /// Waits until a query that may fail at first answers a number.
    pub(crate) async fn wait_for(&self, sql: &str, number: i64) {
        until(async || {
            let answer = self.client("hits").await.query_one(sql, &[]).await;
            answer.is_ok_and(|row| row.get::<_, i64>(0) == number)
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Who is frozen cannot be ended.
        self.thaw();
    }
}

/// The user that servers run as: `postgres` for root.
fn user() -> Option<User> {
    Uid::effective()
        .is_root()
        .then(|| User::from_name("postgres").unwrap().unwrap())
}

/// The folder of Postgres's programs: on PATH, or as Debian has them, the newest.
pub(crate) fn bin() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::env::split_paths(&path).map(|bin| bin.join("initdb"));
    // It may be a link from a folder that has not all of them.
    let found = programs.filter_map(|program| program.canonicalize().ok());
    let on_path = found
        .filter_map(|program| Some(program.parent()?.to_owned()))
        .next();
    let debian = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").unwrap();
        versions
            .map(|version| version.unwrap().path().join("bin"))
            .max()
    };
    on_path.or_else(debian).unwrap()
}
