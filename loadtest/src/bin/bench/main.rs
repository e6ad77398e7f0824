//! What a hit costs, here and with the alternatives, in one run on one machine.
//!
//! | name | contender |
//! | --- | --- |
//! | edge | the collector with a database that cannot be reached: decides, signs, syncs, answers |
//! | collector | the collector with Postgres: the same, and rows |
//! | floor | a bare hyper server that answers the GIF; and COPY of the collector's very rows from a file |
//! | nginx | `empty_gif`, `userid`, buffered access log |
//! | nginx-copy | the same with `geoip2`, its log loaded by `\copy` once a second |
//! | nginx-rsyslog | nginx -> rsyslog -> Postgres, an insert a hit |
//!
//! The edge and nginx also take new connections with TLS, under one certificate. What other makers'
//! trackers send goes to an edge of its own, beside events and pixels of our own
//! ([`loadtest::trackers`]).
//!
//! `--segments` measures how quick pages are told the segments of their visitors ([`segments`]).
//!
//! Each round measures all of them in turn, so that what changes on the machine meanwhile meets all
//! alike; ratios are taken within a round, and the median of the rounds is what counts. Who is not
//! measured is idle. All share one Postgres: the collector's embedded one, with its settings.

mod carriers;
mod configuration;
mod cost;
mod figures;
mod floor;
mod nginx;
mod open_loop;
mod plan;
mod plot;
mod report;
mod rounds;
mod segments;
mod tables;
mod tls;
mod trackers;
mod wrk;

use std::net::SocketAddr;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what a hit costs, beside the alternatives.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Fewer and shorter rounds: 90 s in all.
    #[arg(long)]
    quick: bool,
    /// One round of a second each: to see that it works.
    #[arg(long, conflicts_with = "quick")]
    trial: bool,
    /// Only what other makers' trackers send, beside our own.
    #[arg(long)]
    trackers: bool,
    /// Only how quick pages are told their segments, beside hits.
    #[arg(long, conflicts_with = "trackers")]
    segments: bool,
    /// How many visitors are in segments then.
    #[arg(long, default_value_t = 1_000_000, requires = "segments")]
    members: u64,
    /// The seed of the requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the report; its plot goes beside it.
    #[arg(long)]
    report: Option<std::path::PathBuf>,
    #[arg(long, hide = true)]
    floor: Option<SocketAddr>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(address) = arguments.floor {
        return Ok(floor::serve(address)?);
    }
    let plan = if arguments.trial {
        plan::Plan::TRIAL
    } else if arguments.quick {
        plan::Plan::QUICK
    } else {
        plan::Plan::FULL
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if arguments.trackers {
        let figures = runtime.block_on(rounds::run_trackers(&plan, arguments.seed))?;
        print(&report::Report::of_trackers(&figures, &plan).terminal());
        return Ok(());
    }
    if arguments.segments {
        let told = rounds::run_segments(&plan, arguments.seed, arguments.members);
        print(&runtime.block_on(told)?.terminal());
        return Ok(());
    }
    let figures = runtime.block_on(rounds::run(&plan, arguments.seed))?;
    let report = report::Report::of(&figures, &plan)?;
    print(&report.terminal());
    if let Some(path) = arguments.report {
        std::fs::write(&path, report.markdown())?;
        std::fs::write(path.with_extension("svg"), plot::svg(&figures.course))?;
    }
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
#[expect(clippy::print_stderr, reason = "the report goes to the other output")]
fn say(text: &str) {
    eprintln!("{text}");
}
