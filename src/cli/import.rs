//! `avtryck import`: takes register data and bought data.
//!
//! A file is read twice. The first time everything is checked and nothing stored: too many wrong
//! rows, and nothing is. The second time its rows are stored, in portions that commit together with
//! how far they reach, so that a run that was cut off goes on where it was.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;

use super::migrate::with_database;
use super::{UsageError, print};
use crate::clock;
use crate::config::Config;
use crate::import::read::{FileError, FileRows};
use crate::import::{CheckedRow, Manifest, input};
use crate::keys::UserKeyring;
use crate::postgres::import::{self, FileStanding, ImportCounts, ImportFile, PORTION_ROWS, known};
use crate::postgres::segment::effect::{Effect, SegmentEffect};
use crate::postgres::user_key;
use crate::segment::Book;

/// The exit status where the data is wrong (EX_DATAERR of sysexits.h).
const EXIT_DATA: u8 = 65;
/// The rows of one transaction of a trial, which also asks what segments would become.
const TRIAL_ROWS: usize = 2_000;
/// How often a line tells how far it is, where no terminal shows it.
const PROGRESS_PERIOD: Duration = Duration::from_secs(10);

/// Take register data or bought data into the database, as its manifest says; or list, show or end
/// what was taken.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct ImportCommand {
    #[command(subcommand)]
    below: Option<Below>,
    /// The files, in the order in which they hold.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the files are and mean: see docs/import.md.
    #[arg(long, required = true, value_name = "NAME.toml")]
    manifest: Option<PathBuf>,
    /// Check everything and count what would change, and store nothing.
    #[arg(long)]
    dry_run: bool,
    /// End the values of subjects whom the files do not name.
    #[arg(long)]
    replace: bool,
    /// How much may be wrong before nothing is taken.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    max_rejects: f64,
    /// How much --replace may end.
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    max_ended: f64,
    /// Where to write which rows are wrong: line, column and reason, before them the FILE where
    /// there are several, and nothing of the rows.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Below {
    /// List what was imported: a JSON object a line.
    List,
    /// Show one import.
    Show {
        /// The name in its manifest.
        name: String,
    },
    /// End an import: its values are used no more, and are deleted.
    End {
        /// The name in its manifest.
        name: String,
    },
}

/// Parses `1%` or `0.01`.
fn share(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    number
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share such as 1% or 0.01 would be right".to_owned())
}

impl ImportCommand {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        match &self.below {
            None => self.take(config),
            Some(Below::List) => show(config, None),
            Some(Below::Show { name }) => show(config, Some(name)),
            Some(Below::End { name }) => end(config, name),
        }
    }

    fn take(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let path = self.manifest.as_deref().unwrap_or(Path::new(""));
        input::check_paths(&self.files, path, self.rejects.as_deref()).map_err(UsageError)?;
        let text = fs::read_to_string(path)
            .map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
        let today = TimeZone::UTC
            .to_datetime(Timestamp::from_microsecond(clock::now().0)?)
            .date();
        let manifest = Manifest::parse(&text, today, &config.import.classes)
            .map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
        let users = UserKeyring::new(&config.user.keys);
        // `check-config` says what is wrong with segments.
        let book = config.book().unwrap_or_default();
        let sha256 = input::identify(&digest(&self.files)?, &manifest)?;
        let mut outcome = Outcome::default();
        with_database(config, async |client| {
            let import = Import {
                command: self,
                book: &book,
                manifest: &manifest,
                users: &users,
            };
            outcome = import.take(client, sha256).await?;
            Ok(())
        })?;
        // A file that was taken before is not read again, so nothing is written of it.
        if outcome.counts.rejected > 0 && outcome.state != "already taken" {
            let path = self.rejects.as_deref();
            outcome.rejects = path.map(|path| path.display().to_string());
        }
        print(&format!("{}\n", serde_json::to_string(&outcome)?));
        Ok(match outcome.state {
            "refused" => ExitCode::from(EXIT_DATA),
            _ => ExitCode::SUCCESS,
        })
    }
}

/// What came of it, as it is printed.
#[derive(Default, serde::Serialize)]
struct Outcome {
    import: String,
    /// `taken`, `already taken`, `trial` or `refused`.
    state: &'static str,
    #[serde(flatten)]
    counts: ImportCounts,
    ended: u64,
    /// How many visitors a trial would reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<u64>,
    /// The segments of which a trial would change more than a tenth.
    #[serde(skip_serializing_if = "Option::is_none")]
    segments: Option<Vec<SegmentEffect>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// Where it stands which rows are wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejects: Option<String>,
}

struct Import<'i> {
    command: &'i ImportCommand,
    book: &'i Book,
    manifest: &'i Manifest,
    users: &'i UserKeyring,
}

impl Import<'_> {
    /// Checks whether the database has hashes of these keys. A trial makes no key that of the
    /// database.
    async fn may_hash(&self, client: &mut Client) -> anyhow::Result<bool> {
        let fingerprints = self.users.fingerprints();
        if fingerprints.is_empty() {
            return Ok(true);
        }
        let transaction = client.transaction().await?;
        let may_hash = user_key::claim(&transaction, &fingerprints).await?;
        match self.command.dry_run {
            true => transaction.rollback().await?,
            false => transaction.commit().await?,
        }
        Ok(may_hash)
    }

    async fn take(&self, client: &mut Client, sha256: [u8; 32]) -> anyhow::Result<Outcome> {
        if !self.may_hash(client).await? {
            bail!(user_key::OTHER_KEY);
        }
        let replaces = self.command.replace;
        let (mut file, standing) = import::begin(client, self.manifest, sha256, replaces).await?;
        let outcome = |state, counts, ended, reason| Outcome {
            import: self.manifest.name.clone(),
            state,
            counts,
            ended,
            reason,
            ..Outcome::default()
        };
        let done = match standing {
            FileStanding::Taken(counts, ended) => {
                return Ok(outcome("already taken", counts, ended, String::new()));
            }
            FileStanding::Begun(counts) => counts.read,
        };
        let (checked, refusal) = match self.check(client, &file).await {
            Ok(checked) => checked,
            Err(error) => match error.downcast_ref() {
                Some(FileError::Format { .. }) => {
                    (ImportCounts::default(), Some(format!("{error:#}")))
                }
                _ if done == 0 => {
                    file.abandon(client).await?;
                    return Err(error);
                }
                _ => return Err(error),
            },
        };
        if let Some(reason) = refusal {
            if done == 0 {
                file.abandon(client).await?;
            }
            return Ok(outcome("refused", checked, 0, reason));
        }
        let mut effect = Effect::default();
        let stored = self.store(client, &mut file, (done, checked.read), &mut effect);
        let ended = match stored.await {
            Ok(ended) => ended,
            Err(error) if done == 0 && file.counts.read == 0 => {
                file.abandon(client).await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let is_all = file.counts.read == checked.read && file.counts.rejected == checked.rejected;
        if !is_all || !file.counts.add_up() {
            let reason = "the counts do not add up: did the file change while it was read?";
            return Ok(outcome("refused", file.counts, ended, reason.to_owned()));
        }
        if !self.command.dry_run {
            return Ok(outcome("taken", file.counts, ended, String::new()));
        }
        let mut outcome = outcome("trial", file.counts, ended, String::new());
        if !self.manifest.key.is_area() {
            outcome.matched = Some(effect.matched);
            outcome.segments = Some(effect.finish(client).await?);
        }
        Ok(outcome)
    }

    /// Reads everything once, without storing a row. Returns what was counted, and why nothing of
    /// it is taken, if that is so.
    async fn check(
        &self,
        client: &mut Client,
        file: &ImportFile,
    ) -> anyhow::Result<(ImportCounts, Option<String>)> {
        let mut rejects = self.command.open_rejects()?;
        let (mut counts, mut named) = (ImportCounts::default(), Vec::new());
        let replaces = self.command.replace;
        if replaces {
            file.forget_named(client).await?;
        }
        let mut progress = Progress::new("checking", None);
        for path in &self.command.files {
            let mut rows = self.open(path)?;
            while let Some(row) = rows
                .next_row()
                .with_context(|| path.display().to_string())?
            {
                counts.read += 1;
                match row.checked {
                    Ok(row) if replaces => named.push(row),
                    Ok(_) => {}
                    Err(reject) => {
                        counts.rejected += 1;
                        if let Some(rejects) = &mut rejects {
                            let line = row.line.to_string();
                            if self.command.has_several() {
                                rejects.write_field(path.display().to_string())?;
                            }
                            rejects.write_record([&line, &reject.column, reject.reason])?;
                        }
                    }
                }
                if named.len() == PORTION_ROWS {
                    file.note_named(client, &named).await?;
                    named.clear();
                }
                progress.tell(&counts);
            }
        }
        file.note_named(client, &named).await?;
        if let Some(mut rejects) = rejects {
            rejects.flush()?;
        }
        progress.end();
        if counts.rejected as f64 > self.command.max_rejects * counts.read as f64 {
            let reason = format!(
                "{} of {} rows are wrong, more than --max-rejects",
                counts.rejected, counts.read
            );
            return Ok((counts, Some(reason)));
        }
        if replaces {
            let (ended, all) = file.count_ended(client).await?;
            if ended as f64 > self.command.max_ended * all as f64 {
                let reason =
                    format!("{ended} of {all} subjects would be ended, more than --max-ended");
                return Ok((counts, Some(reason)));
            }
        }
        Ok((counts, None))
    }

    /// Stores the rows after the first `done`. Returns how many subjects were ended. A trial counts
    /// instead what that would do.
    async fn store(
        &self,
        client: &mut Client,
        file: &mut ImportFile,
        (done, all): (u64, u64),
        effect: &mut Effect,
    ) -> anyhow::Result<u64> {
        let is_trial = self.command.dry_run;
        let mut progress = Progress::new(if is_trial { "comparing" } else { "storing" }, Some(all));
        let rows_max = if is_trial { TRIAL_ROWS } else { PORTION_ROWS };
        let (mut portion, mut rejected, mut at) = (Vec::with_capacity(rows_max), 0, 0);
        let mut paths = self.command.files.iter();
        let mut rows: Option<FileRows<'_>> = None;
        loop {
            let row = match &mut rows {
                Some(open) => open.next_row()?,
                None => None,
            };
            let next = match row {
                Some(row) => row,
                None => match paths.next() {
                    Some(path) => {
                        rows = Some(self.open(path)?);
                        continue;
                    }
                    None => break,
                },
            };
            at += 1;
            if at <= done {
                continue;
            }
            match next.checked {
                Ok(row) => portion.push(row),
                Err(_) => rejected += 1,
            }
            if portion.len() as u64 + rejected >= rows_max as u64 {
                self.store_portion(client, file, (&mut portion, &mut rejected), effect)
                    .await?;
                progress.tell(&file.counts);
            }
        }
        self.store_portion(client, file, (&mut portion, &mut rejected), effect)
            .await?;
        progress.end();
        if is_trial {
            let mut ended = 0;
            if self.command.replace {
                ended = file.count_ended(client).await?.0;
                for subjects in file.find_ended(client).await?.chunks(TRIAL_ROWS) {
                    let mut transaction = file.try_end(client, subjects).await?;
                    effect.add(&mut transaction, self.book, subjects).await?;
                    transaction.rollback().await?;
                }
            }
            if done == 0 {
                file.abandon(client).await?;
            }
            return Ok(ended);
        }
        anyhow::ensure!(
            file.counts.read == all,
            "the file changed while it was read: {} rows were stored of {all}",
            file.counts.read
        );
        file.finish(client, self.manifest).await
    }

    async fn store_portion(
        &self,
        client: &mut Client,
        file: &mut ImportFile,
        (portion, rejected): (&mut Vec<CheckedRow>, &mut u64),
        effect: &mut Effect,
    ) -> anyhow::Result<()> {
        if self.command.dry_run {
            let mut transaction = file.try_store(client, portion, *rejected).await?;
            let subjects = import::subjects(portion);
            effect.add(&mut transaction, self.book, &subjects).await?;
            transaction.rollback().await?;
        } else {
            file.store(client, portion, *rejected).await?;
        }
        portion.clear();
        *rejected = 0;
        Ok(())
    }

    fn open(&self, path: &Path) -> anyhow::Result<FileRows<'_>> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        FileRows::open(file, self.manifest, self.users).with_context(|| path.display().to_string())
    }
}

impl ImportCommand {
    fn has_several(&self) -> bool {
        self.files.len() > 1
    }

    /// Makes the file of what is wrong, which only its owner may read.
    fn open_rejects(&self) -> anyhow::Result<Option<csv::Writer<File>>> {
        let Some(path) = &self.rejects else {
            return Ok(None);
        };
        let open = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path);
        let file = open.with_context(|| format!("--rejects {}", path.display()))?;
        // A run that goes on writes it again, and it may have been another file before.
        // What is no file, as /dev/null, is everybody's.
        if file.metadata()?.is_file() {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        let mut writer = csv::Writer::from_writer(file);
        if self.has_several() {
            writer.write_field("file")?;
        }
        writer.write_record(["line", "column", "reason"])?;
        Ok(Some(writer))
    }
}

/// Returns the digest of a file; of several, that of their digests.
fn digest(files: &[PathBuf]) -> anyhow::Result<[u8; 32]> {
    let of_file = |path: &PathBuf| -> anyhow::Result<[u8; 32]> {
        let mut file =
            File::open(path).map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
        loop {
            let bytes = file
                .read(&mut buffer)
                .with_context(|| path.display().to_string())?;
            let Some(read) = buffer.get(..bytes).filter(|read| !read.is_empty()) else {
                return Ok(hash.finalize().into());
            };
            hash.update(read);
        }
    };
    match files {
        [one] => of_file(one),
        several => {
            let digests: Vec<[u8; 32]> = several.iter().map(of_file).collect::<Result<_, _>>()?;
            Ok(Sha256::digest(digests.concat()).into())
        }
    }
}

/// Tells how far it is: a bar on a terminal, else a line of JSON now and then.
struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    told_at: Instant,
}

impl Progress {
    fn new(what: &'static str, all: Option<u64>) -> Progress {
        let bar = io::stderr().is_terminal().then(|| match all {
            Some(all) => ProgressBar::new(all),
            None => ProgressBar::new_spinner(),
        });
        let template = match all {
            Some(_) => {
                "{prefix} {bar:30} {human_pos} of {human_len} rows, {per_sec}, {eta} left {msg}"
            }
            None => "{prefix} {spinner} {human_pos} rows, {per_sec} {msg}",
        };
        if let (Some(bar), Ok(style)) = (&bar, ProgressStyle::with_template(template)) {
            bar.set_style(style);
            bar.set_prefix(what);
        }
        Progress {
            what,
            bar,
            told_at: clock::monotonic(),
        }
    }

    fn tell(&mut self, counts: &ImportCounts) {
        if let Some(bar) = &self.bar {
            bar.set_position(counts.read);
            if counts.rejected > 0 {
                bar.set_message(format!("({} wrong)", counts.rejected));
            }
        } else if clock::time_since(self.told_at) >= PROGRESS_PERIOD {
            self.told_at = clock::monotonic();
            let line = serde_json::json!({"progress": self.what, "counts": counts});
            // Nobody may read it.
            writeln!(io::stderr(), "{line}").ok();
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn show(config: &Config, name: Option<&str>) -> anyhow::Result<ExitCode> {
    let mut found = 0;
    with_database(config, async |client| {
        for summary in known::list(client, name).await? {
            found += 1;
            print(&match name {
                None => format!("{}\n", serde_json::to_string(&summary)?),
                Some(_) => format!("{}\n", serde_json::to_string_pretty(&summary)?),
            });
        }
        Ok(())
    })?;
    match name {
        Some(name) if found == 0 => Err(unknown(name).into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn unknown(name: &str) -> UsageError {
    UsageError(format!(
        "{name} is no import; `avtryck import list` has their names"
    ))
}

fn end(config: &Config, name: &str) -> anyhow::Result<ExitCode> {
    let mut deleted = None;
    with_database(config, async |client| {
        deleted = known::end(client, name).await?;
        Ok(())
    })?;
    let deleted = deleted.ok_or_else(|| unknown(name))?;
    print(&format!(
        "{name} is ended; the values of {deleted} subjects were deleted\n"
    ));
    Ok(ExitCode::SUCCESS)
}
