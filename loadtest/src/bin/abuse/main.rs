//! What a stranger can do: each attack of [`ATTACKS`] for a time, beside honest hits.
//!
//! Each round has a collector, a spool and a database of its own. The attacker is a process of its
//! own at nice 19, with one address; the honest hits come from many. What is shown is what the
//! honest notice, and what the attack leaves behind.

mod attacker;
mod report;
mod stage;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use loadtest::abuse::{ATTACKS, Attack};
use loadtest::rig::process::root;

/// Attacks a release build, beside honest hits, and prints what those notice.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Attacks whose name contains one of these; all without any.
    names: Vec<String>,
    /// How long each attack lasts.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Rounds of each, of which the median is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The collector that is attacked.
    #[arg(long, default_value_os_t = root().join("target/release/avtryck"))]
    collector: PathBuf,
    #[arg(long, hide = true)]
    attack: Option<std::net::SocketAddr>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let lasts = Duration::from_secs(arguments.seconds);
    let chosen: Vec<&Attack> = ATTACKS
        .iter()
        .copied()
        .flatten()
        .filter(|attack| {
            let mut names = arguments.names.iter();
            arguments.names.is_empty() || names.any(|name| attack.name.contains(name.as_str()))
        })
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "no attack has such a name");
    if let (Some(address), Some(attack)) = (arguments.attack, chosen.first()) {
        let done = runtime.block_on(attacker::attack(attack, address, lasts));
        print(&serde_json::to_string(&done)?);
        return Ok(());
    }
    let figures = runtime.block_on(stage::run_all(
        &chosen,
        &arguments.collector,
        arguments.rounds,
        lasts,
    ))?;
    print(&report::table(&figures));
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "this is what the command was asked for"
)]
fn print(text: &str) {
    println!("{text}");
}

/// Says what goes on, to whoever waits.
#[expect(clippy::print_stderr, reason = "the table goes to the other output")]
fn say(text: &str) {
    eprintln!("{text}");
}
