//! The command line: one file for each command, under the command's name.
//!
//! Exit status: 0 if all went well, 1 after an error, 64 (EX_USAGE of sysexits.h) if the
//! configuration or an argument is wrong, 69 (EX_UNAVAILABLE) if another process has taken over the
//! spool.

mod ad;
mod check_config;
mod click_url;
mod conversion_url;
mod device;
mod example_config;
mod export;
mod geoip;
mod healthy;
mod household;
mod import;
mod keys;
mod link;
mod load;
mod log;
mod migrate;
mod report;
mod schema;
mod segment;
mod serve;
mod signals;
mod spool;
mod subject;
mod tag;
mod user_sig;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nix::sys::prctl::set_thp_disable;

use crate::config::{Config, ConfigErrors};
use crate::serve::SpoolTaken;

/// The exit status for a mistake of whoever called.
const EXIT_USAGE: u8 = 64;

/// The exit status of a collector whose spool another process has taken over (EX_UNAVAILABLE).
/// Starting it again would not help.
const EXIT_TAKEN: u8 = 69;

/// An edge collector for cookies and pixels: keeps each hit on disk before it replies, and makes
/// exactly one row of it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file. Every key can also be set by AVTRYCK_<SECTION>_<KEY>.
    #[arg(long, global = true, env = "AVTRYCK_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    /// Ask the collector at admin.listen whether it can keep hits. Exit status 1 if it cannot.
    Healthy,
    /// Bring the database's schema up to date, then end.
    Migrate {
        /// Then spread the hits over the servers of Citus.
        #[arg(long)]
        distribute: bool,
    },
    /// Check the configuration and the files that it names, and print what is in force and where
    /// each value is from.
    CheckConfig,
    /// Print a configuration file with every key, its default and its meaning.
    ExampleConfig,
    /// Inspect a spool.
    #[command(subcommand)]
    Spool(spool::SpoolCommand),
    /// Inspect geodata.
    #[command(subcommand)]
    Geoip(geoip::Geoip),
    ClickUrl(Box<click_url::ClickUrl>),
    ConversionUrl(Box<conversion_url::ConversionUrl>),
    UserSig(user_sig::UserSig),
    Tag(Box<tag::Tag>),
    Device(device::DeviceCommand),
    /// Manage the keys of the visitor cookie, of click URLs, of users, of their signatures and of
    /// households.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Look at how well households agree with what is known.
    #[command(subcommand)]
    Household(household::HouseholdCommand),
    /// Look at the device groups, or find them anew.
    #[command(subcommand)]
    Link(link::LinkCommand),
    Import(Box<import::ImportCommand>),
    Export(export::ExportCommand),
    /// Load the hits that collectors have produced to Kafka into Postgres.
    Load,
    Report(report::ReportCommand),
    /// Work with the JSON schemas of Snowplow's events.
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    /// Look at the segments, or try one.
    #[command(subcommand)]
    Segment(segment::SegmentCommand),
    /// Export or erase what is held about one visitor, device, user or partner's ID.
    #[command(subcommand)]
    Subject(subject::Command),
}

/// A mistake in what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    // The kernel clears a page before it hands it out. Two megabytes at once keep an edge thread
    // busy for up to 7 ms, during which it answers nobody, and the unused part counts as memory
    // too. Without this the collector still works.
    set_thp_disable(true).ok();
    signals::block_realtime().ok();
    let arguments = Arguments::parse();
    if let Err(mistake) = log::to_stderr() {
        complain(&mistake);
        return ExitCode::from(EXIT_USAGE);
    }
    match arguments.command.run(arguments.config.as_deref()) {
        Ok(code) => code,
        Err(error) if error.is::<ConfigErrors>() || error.is::<UsageError>() => {
            complain(&error.to_string());
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) if error.is::<SpoolTaken>() => {
            tracing::error!("{error:#}");
            ExitCode::from(EXIT_TAKEN)
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn run(self, file: Option<&Path>) -> anyhow::Result<ExitCode> {
        let config = || Config::load(file, std::env::vars_os());
        match self {
            Command::Serve(command) => command.run(config()?, file),
            Command::Healthy => healthy::run(&config()?),
            Command::Migrate { distribute } => migrate::run(&config()?, distribute),
            Command::CheckConfig => check_config::run(file),
            Command::ExampleConfig => Ok(example_config::run()),
            Command::Spool(command) => command.run(),
            Command::Geoip(command) => Ok(command.run()),
            Command::ClickUrl(command) => command.run(&config()?),
            Command::ConversionUrl(command) => command.run(&config()?),
            Command::UserSig(command) => command.run(&config()?),
            Command::Tag(command) => command.run(&config()?),
            Command::Device(command) => command.run(file),
            // Without a file there is nothing that a new key could clash with.
            Command::Keys(keys::Keys::New) if file.is_none() => {
                keys::Keys::New.run(&[], Path::new(""))
            }
            Command::Keys(command) => {
                let config = config()?;
                command.run(&config.cookie.keys, &config.spool.dir)
            }
            Command::Import(command) => command.run(&config()?),
            Command::Export(command) => command.run(&config()?),
            Command::Load => load::run(config()?, file),
            Command::Household(command) => command.run(&config()?),
            Command::Link(command) => command.run(&config()?),
            Command::Report(command) => command.run(&config()?),
            Command::Schema(command) => command.run(),
            Command::Segment(command) => command.run(&config()?),
            Command::Subject(command) => command.run(&config()?),
        }
    }
}

/// Returns 0 for a good answer and 1 for a bad one.
fn exit_code(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints what the command was asked for. Whoever reads it may have had enough (`| head`), which is
/// no mistake; a disk that is full is one.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let printed = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            complain(&format!("writing the answer: {error}"));
            std::process::exit(1);
        }
        Ok(()) => {}
    }
}

/// Tells a mistake. If nobody reads it, the exit status tells.
fn complain(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}
