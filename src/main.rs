//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use avtryck::cli::subject as access;
use avtryck::cli::subject::Given;
use avtryck::cli::tag::{ClickUrl, Tag};
use avtryck::config::{Config, ConfigErrors};
use clap::{Args, Parser, Subcommand};
use nix::sys::prctl::set_thp_disable;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status for a wrong configuration (EX_USAGE of sysexits.h).
const EXIT_CONFIG: u8 = 64;

/// An edge collector for cookies and pixels: durable before the reply, exactly one row.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file; every key can also be set by AVTRYCK_<SECTION>_<KEY>.
    #[arg(long, global = true, env = "AVTRYCK_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Collect: answer hits, keep them, load them into Postgres.
    Serve {
        /// Take over from the process that serves from the same spool, if there is one: no connection is refused, and
        /// that process ends.
        #[arg(long)]
        take_over: bool,
    },
    /// Ask the collector that serves at admin.listen whether it can keep hits. Exit status 1 if not.
    Healthy,
    /// Bring the database's schema up to date, and end.
    Migrate,
    /// Say whether the configuration is right, and what it comes to.
    CheckConfig,
    /// Print a configuration file with every key, its default and what it means.
    ExampleConfig,
    /// Look at a spool.
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Look at geodata.
    #[command(subcommand)]
    Geoip(GeoipCommand),
    /// Print a signed click URL for an ad.
    ClickUrl(Box<ClickUrl>),
    /// Print the tags of an ad with a network's own macros: pixel, click and VAST.
    Tag(Box<Tag>),
    /// Keys of the visitor cookie and of click URLs.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// What is held about one visitor, device or partner's ID.
    #[command(subcommand)]
    Subject(SubjectCommand),
}

#[derive(Subcommand)]
enum SubjectCommand {
    /// Write everything that is held under an ID: a JSON object a line, with the table and its columns.
    Export(Selector),
    /// Delete everything that is held under an ID, and load nothing of it any more. Says what was removed.
    Erase(Selector),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Selector {
    /// The visitor: the UUID in visitor_id of hit_detail, or the value of the visitor cookie.
    #[arg(long, value_name = "ID")]
    visitor: Option<String>,
    /// A mobile advertising ID, in upper or lower case.
    #[arg(long, value_name = "ID")]
    maid: Option<String>,
    /// A partner's ID for the visitor. Nothing before the colon: the ID in hits that name no partner.
    #[arg(long, value_name = "PARTNER:ID")]
    partner_uid: Option<String>,
}

impl Selector {
    fn given(&self) -> Option<Given> {
        let visitor = self.visitor.clone().map(Given::Visitor);
        let maid = self.maid.clone().map(Given::Maid);
        let uid = self.partner_uid.clone().map(Given::PartnerUid);
        visitor.or(maid).or(uid)
    }
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make a key and print it as cookie.keys and click.keys take it, with an ID that the configuration (if one is
    /// named) does not use. The first key in the list signs, every one verifies: put the new one last,
    /// everywhere; then first, everywhere; and take an old one out when cookie.max_age has passed.
    New,
}

#[derive(Subcommand)]
enum GeoipCommand {
    /// Read files in MaxMind's format to their end; a line for each. Exit status 1 where one is not sound.
    Verify {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Subcommand)]
enum SpoolCommand {
    /// Read every record; a line for each chunk. Exit status 1 where something is damaged.
    Verify {
        /// The spool's directory.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    // The system clears a page before it gives it out. Two megabytes at once take an edge thread up to 7 ms, in which it
    // answers nobody; and what is not used of them counts as well. Where it refuses, that is how it stays.
    set_thp_disable(true).ok();
    let arguments = Arguments::parse();
    if let Err(wrong) = log_to_stderr() {
        complain(&wrong);
        return ExitCode::from(EXIT_CONFIG);
    }
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => match error.downcast::<ConfigErrors>() {
            Ok(errors) => {
                complain(&errors.to_string());
                ExitCode::from(EXIT_CONFIG)
            }
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Command::Spool(SpoolCommand::Verify { dir }) = &arguments.command {
        return verify(dir);
    }
    if let Command::Geoip(GeoipCommand::Verify { files }) = &arguments.command {
        return Ok(verify_geodata(files));
    }
    if let Command::ExampleConfig = arguments.command {
        print(Config::example().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    if let (Command::Keys(KeysCommand::New), None) = (&arguments.command, &arguments.config) {
        print(&avtryck::serve::new_key(&[])?);
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(arguments.config.as_deref(), std::env::vars_os())?;
    match &arguments.command {
        Command::Serve { take_over } => {
            avtryck::serve::serve(config, arguments.config.clone(), *take_over)?;
        }
        Command::Healthy => return healthy(&config),
        Command::Migrate => avtryck::serve::migrate(&config)?,
        Command::CheckConfig => {
            avtryck::edge::transport::tls::check(&config.certificates)?;
            print(config.in_force.to_string().trim_end());
        }
        Command::Keys(KeysCommand::New) => print(&avtryck::serve::new_key(&config.cookie.keys)?),
        Command::ClickUrl(click_url) => {
            let keyring = avtryck::serve::click_keyring(&config)?;
            let text = click_url.text(&config.path.click, &keyring, avtryck::clock::now());
            return Ok(answer(text));
        }
        Command::Subject(command) => return subject(&config, command),
        Command::Tag(tag) => {
            let keyring = avtryck::serve::click_keyring(&config)?;
            return Ok(answer(tag.text(&config, &keyring)));
        }
        Command::ExampleConfig | Command::Geoip(_) | Command::Spool(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn healthy(config: &Config) -> anyhow::Result<ExitCode> {
    let (is_ready, said) = avtryck::cli::healthy::ask(config.admin.listen)
        .with_context(|| format!("nobody answers at {}", config.admin.listen))?;
    print(said.trim_end());
    Ok(if is_ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints what was asked for, or what is wrong with how it was asked.
fn answer(text: Result<String, String>) -> ExitCode {
    match text {
        Ok(text) => {
            print(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            complain(&wrong);
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn subject(config: &Config, command: &SubjectCommand) -> anyhow::Result<ExitCode> {
    let (SubjectCommand::Export(selector) | SubjectCommand::Erase(selector)) = command;
    let given = selector.given().context("no ID was given")?;
    let subject = match given.subject(config) {
        Ok(subject) => subject,
        Err(error) => {
            complain(&error.to_string());
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match command {
        SubjectCommand::Export(_) => access::export(config, &subject, &mut out)?,
        SubjectCommand::Erase(_) => access::erase(config, &subject, &mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(dir: &std::path::Path) -> anyhow::Result<ExitCode> {
    let reports = spool::verify(dir, &spool::RealDisk)
        .with_context(|| format!("cannot read the spool in {}", dir.display()))?;
    let mut damaged = false;
    for report in &reports {
        print(&report.to_string());
        damaged |= report.is_damaged();
    }
    Ok(if damaged {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn verify_geodata(files: &[PathBuf]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        match avtryck::enrich::verify(file) {
            Ok(report) => {
                let days = report.age(avtryck::clock::now()).as_secs() / 86_400;
                print(&format!(
                    "{}: {}, {}, built {days} days ago, {} networks",
                    file.display(),
                    report.about,
                    report.database_type,
                    report.networks,
                ));
            }
            Err(error) => {
                complain(&error.to_string());
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

#[expect(
    clippy::print_stdout,
    reason = "this is what the command was asked for"
)]
fn print(text: &str) {
    println!("{text}");
}

#[expect(
    clippy::print_stderr,
    reason = "what is wrong is the answer to the command"
)]
fn complain(text: &str) {
    eprintln!("{text}");
}

/// Logs to stderr, for people on a terminal and as JSON elsewhere. AVTRYCK_LOG is the level of our own words
/// alone: of what we are made of only warnings are heard, for below that tokio-postgres logs the parameters
/// of statements, which are IDs.
fn log_to_stderr() -> Result<(), String> {
    use std::io::IsTerminal as _;
    let level = match std::env::var("AVTRYCK_LOG") {
        Err(_) => LevelFilter::INFO,
        Ok(text) => text.parse().map_err(|_| {
            format!("AVTRYCK_LOG: {text:?} is wrong; off, error, warn, info, debug or trace would be right")
        })?,
    };
    let heard = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("avtryck", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let lines = if std::io::stderr().is_terminal() {
        lines.boxed()
    } else {
        lines.json().boxed()
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(heard)
        .init();
    Ok(())
}
