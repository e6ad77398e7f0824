//! What brings nginx's log into Postgres: `psql` with `\copy` once a second, or rsyslog.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::nginx::Nginx;
use loadtest::rig::postgres::Server;
use loadtest::rig::process::Process;
use loadtest::rig::usage::{Parts, Root};

/// A `psql` that waits for commands.
pub(crate) struct Psql {
    _child: Child,
    pid: u32,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    dir: PathBuf,
    logs: u32,
}

impl Psql {
    pub(crate) fn start(server: &Server, database: &str, dir: &Path) -> anyhow::Result<Psql> {
        let mut command = Command::new("psql");
        command.args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "avtryck",
            "-d",
            database,
        ]);
        command.arg("-h").arg(server.dir());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting psql")?;
        Ok(Psql {
            pid: child.id().context("psql has ended")?,
            commands: child.stdin.take().context("psql's input")?,
            answers: BufReader::new(child.stdout.take().context("psql's output")?).lines(),
            dir: dir.to_owned(),
            logs: 0,
            _child: child,
        })
    }

    pub(crate) fn root(&self) -> Root {
        Root {
            pid: self.pid,
            parts: Parts::One("psql"),
        }
    }

    /// Loads what nginx has logged up to now.
    pub(crate) async fn load(&mut self, nginx: &Nginx) -> anyhow::Result<()> {
        self.logs += 1;
        let log = self.dir.join(format!("access.log.{}", self.logs));
        nginx.rotate(&log).await?;
        let copy = format!(
            "\\copy public.nginx_hit from '{}'\n\\echo loaded\n",
            log.display()
        );
        self.commands.write_all(copy.as_bytes()).await?;
        let answer = self.answers.next_line().await?;
        anyhow::ensure!(answer.as_deref() == Some("loaded"), "psql has ended");
        std::fs::remove_file(&log)?;
        Ok(())
    }

    /// Loads once a second until `is_over` holds true, and then what is left.
    pub(crate) async fn load_each_second(
        &mut self,
        nginx: &Nginx,
        is_over: &Cell<bool>,
    ) -> anyhow::Result<()> {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.tick().await;
        while !is_over.get() {
            second.tick().await;
            self.load(nginx).await?;
        }
        self.load(nginx).await
    }
}

/// A running rsyslog.
pub(crate) struct Rsyslog(Process);

impl Rsyslog {
    /// Starts one that listens on `log.socket` in `dir`.
    pub(crate) async fn start(
        server: &Server,
        database: &str,
        dir: &Path,
    ) -> anyhow::Result<Rsyslog> {
        let own = dir.join("rsyslog");
        std::fs::create_dir_all(&own)?;
        let (uid, gid) = server.user()?;
        std::os::unix::fs::chown(&own, Some(uid), Some(gid))?;
        let socket = dir.join("log.socket");
        let conf = own.join("rsyslog.conf");
        // It makes its socket in a folder of its own; nginx finds it by a link.
        let made = own.join("log.socket");
        std::fs::write(&conf, configuration(server, database, &made, &own))?;
        let mut command = Command::new("/usr/sbin/rsyslogd");
        command.arg("-n").arg("-f").arg(&conf);
        command.arg("-i").arg(own.join("pid"));
        command
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .uid(uid)
            .gid(gid);
        let process = Process::start(&mut command).context("`script/setup bench` installs it")?;
        let started = std::time::Instant::now();
        while !made.exists() {
            anyhow::ensure!(
                started.elapsed() < loadtest::rig::process::PATIENCE,
                "rsyslog does not start"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::os::unix::fs::symlink(&made, &socket)?;
        Ok(Rsyslog(process))
    }

    pub(crate) fn root(&self) -> Root {
        Root {
            pid: self.0.pid,
            parts: Parts::One("rsyslog"),
        }
    }
}

fn configuration(server: &Server, database: &str, socket: &Path, own: &Path) -> String {
    let columns = (1..=6).map(|number| {
        let quote = if number == 1 { "'" } else { "','" };
        format!(
            "  constant(value=\"{quote}\")\n  \
             property(name=\"msg\" field.number=\"{number}\" field.delimiter=\"9\")\n"
        )
    });
    let columns: String = columns.collect();
    format!(
        r#"global(workDirectory="{own}" parser.escapeControlCharactersOnReceive="off" maxMessageSize="16k")
module(load="imuxsock" SysSock.Use="off")
module(load="ompgsql")
input(type="imuxsock" Socket="{socket}" RateLimit.Interval="0")
main_queue(queue.size="1000000" queue.dequeueBatchSize="1000")
template(name="insert" type="list" option.stdsql="on") {{
  constant(value="insert into public.nginx_hit values (")
{columns}  constant(value="')")
}}
action(type="ompgsql" server="{server}" user="avtryck" db="{database}" template="insert")
"#,
        own = own.display(),
        socket = socket.display(),
        server = server.dir().display(),
    )
}
