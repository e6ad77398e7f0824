//! The closed loop: Debian's `wrk`, which sends the next request of a connection once the one
//! before is answered.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use tokio::process::Command;

/// Threads of wrk: the two of the machine that the goals were set on.
const THREADS: usize = 2;
/// Connections side by side.
pub(crate) const CONNECTIONS: u64 = 64;

/// What `corpus.lua` prints at the end.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Outcome {
    /// Whole replies.
    pub(crate) answered: u64,
    /// Requests that failed on their connection.
    pub(crate) errors: u64,
    /// Replies with another status than 2xx and 3xx.
    pub(crate) wrong: u64,
    micros: u64,
}

impl Outcome {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 hits")]
    pub(crate) fn rate(&self) -> f64 {
        self.answered as f64 / Duration::from_micros(self.micros).as_secs_f64()
    }
}

/// Sends the corpus to `address` for `time`, over kept connections or with one for each request.
pub(crate) async fn run(
    address: SocketAddr,
    corpus: &Path,
    run: u32,
    time: Duration,
    keep_alive: bool,
) -> anyhow::Result<Outcome> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus.lua");
    let output = Command::new("wrk")
        .args(["-t", &THREADS.to_string(), "-c", &CONNECTIONS.to_string()])
        .args(["-d", &format!("{}s", time.as_secs()), "--timeout", "10s"])
        .arg("-s")
        .arg(script)
        .arg(format!("http://{address}"))
        .arg("--")
        .arg(corpus)
        .arg(run.to_string())
        .args((!keep_alive).then_some("close"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("running wrk, which `script/setup bench` installs")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with('{'));
    let outcome: Option<Outcome> = line.and_then(|line| serde_json::from_str(line).ok());
    let outcome = outcome.with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("wrk said:\n{text}{errors}")
    })?;
    anyhow::ensure!(
        outcome.wrong == 0,
        "{} of {} replies were no success",
        outcome.wrong,
        outcome.answered
    );
    Ok(outcome)
}
