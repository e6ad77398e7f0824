//! Processes that the bench starts, and ends.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::process::{Child, Command};

/// How long anything may take to end or to catch up.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to start.
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// How long it may take to end once nobody asks for it any more.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// The user of what need not be root: `nobody` on Debian.
const NOBODY: u32 = 65_534;

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A process of ours, killed when it is dropped.
pub struct Process {
    child: Child,
    /// Its process ID.
    pub pid: u32,
}

impl Process {
    /// Starts `command` without any input.
    pub fn start(command: &mut Command) -> anyhow::Result<Process> {
        let name = command.as_std().get_program().display().to_string();
        let child = command
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let pid = child.id().with_context(|| format!("{name} has ended"))?;
        Ok(Process { child, pid })
    }

    /// What it writes to its error output.
    pub fn stderr(&mut self) -> Option<tokio::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// Sends a signal by its name.
    pub async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let mut kill = Command::new("kill");
        let status = kill.arg(format!("-{name}")).arg(self.pid.to_string());
        let status = status.status().await.context("kill")?;
        anyhow::ensure!(status.success(), "kill -{name}: {status}");
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.signal("TERM").await?;
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .context("a process does not end")??;
        Ok(())
    }
}

impl Drop for Process {
    /// Asks it to end before it is killed: nginx's workers outlive a master that could not tell
    /// them.
    fn drop(&mut self) {
        let mut kill = std::process::Command::new("kill");
        if matches!(self.child.try_wait(), Ok(None))
            && kill.arg("-TERM").arg(self.pid.to_string()).status().is_ok()
        {
            let until = Instant::now() + END_TIME_MAX;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// A command that runs as `nobody` where the bench runs as root.
pub fn unprivileged(program: &str) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Makes a folder that [`unprivileged`] commands may write to.
pub fn folder(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// An address of this machine that nothing listens on.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Waits until a pixel is answered at `address`.
pub async fn until_answered(address: SocketAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    while crate::one(address, crate::corpus::SITE).await.is_none() {
        anyhow::ensure!(
            started.elapsed() < START_TIME_MAX,
            "nothing answers at {address}"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
