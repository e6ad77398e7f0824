//! The command line: sends load for a time and says what came of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use loadtest::{Outcome, Plan, send};
use tokio::sync::watch;

/// Sends pixels to a collector on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The collector's public address; it has to trust this machine as a proxy.
    #[arg(default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    /// The site's key.
    #[arg(long, default_value = "demo")]
    site: String,
    /// Begins the name of each hit.
    #[arg(long, default_value = "load")]
    prefix: String,
    /// Connections side by side.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests a second; without it as many as are answered.
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes that each page's URL is longer.
    #[arg(long, default_value_t = 0)]
    padding: usize,
    /// How long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Each request over a connection of its own.
    #[arg(long)]
    fresh: bool,
    /// Where to write the names of the acknowledged hits, a line each.
    #[arg(long)]
    acknowledged: Option<PathBuf>,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let plan = Plan {
        address: arguments.address,
        site: arguments.site,
        prefix: arguments.prefix.clone(),
        connections: arguments.connections,
        rate: arguments.rate.filter(|rate| *rate > 0.0),
        fresh: arguments.fresh,
        padding: arguments.padding,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = watch::channel(false);
    let outcome = runtime.block_on(async {
        let sending = tokio::spawn(send(plan, stopped));
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(arguments.seconds)) => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        stop.send_replace(true);
        sending.await.map_err(std::io::Error::other)
    })?;
    print(&outcome);
    if let Some(path) = arguments.acknowledged {
        let names: String = outcome
            .acknowledged
            .iter()
            .map(|number| format!("{}-{number}\n", arguments.prefix))
            .collect();
        std::fs::write(path, names)?;
    }
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "this is what the command was asked for"
)]
fn print(outcome: &Outcome) {
    let acknowledged = outcome.acknowledged.len();
    let seconds = outcome.took.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 hits")]
    let rate = acknowledged as f64 / seconds;
    println!("acknowledged {acknowledged} in {seconds:.1} s: {rate:.0} a second");
    println!(
        "refused {:?}, without a whole reply {}",
        outcome.refused, outcome.broken
    );
    let at = |quantile| outcome.latency.value_at_quantile(quantile);
    println!(
        "latency in µs: p50 {}, p99 {}, p99.9 {}, largest {}",
        at(0.5),
        at(0.99),
        at(0.999),
        outcome.latency.max()
    );
}
