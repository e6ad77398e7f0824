//! `avtryck subject export` and `avtryck subject erase`: what an operator runs when somebody asks
//! for their data, or for its end.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use tokio_postgres::Client;

use super::UsageError;
use super::migrate::with_database;
use crate::clock;
use crate::config::Config;
use crate::hit::limits::TEXT_BYTES_MAX;
use crate::hit::subject::Subject;
use crate::hit::{Flags, VisitorId, whole};
use crate::keys::{CookieKeyring, UserKeyring};
use crate::postgres::{subject, user_key};
use crate::protocol::text::{ValueKind, ValueRule, take};
use crate::serve::keyrings;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Write everything that is held under an ID: one JSON object a line, with its table and
    /// columns.
    Export(Selector),
    /// Delete everything that is held under an ID, and load nothing more under it. Prints how many
    /// rows were removed, by table; ties, permits, groups and households only where there were any.
    Erase(Selector),
}

/// The ID.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Selector {
    /// The visitor: the UUID in visitor_id of hit_detail, or the value of the visitor cookie. Where
    /// no site of the configuration has the host that set the cookie, it follows: VALUE@HOST.
    #[arg(long, value_name = "ID")]
    visitor: Option<String>,
    /// A mobile advertising ID, in upper or lower case.
    #[arg(long, value_name = "ID")]
    maid: Option<String>,
    /// A partner's ID for the visitor. With nothing before the colon: the ID in hits that name no
    /// partner.
    #[arg(long, value_name = "PARTNER:ID")]
    partner_uid: Option<String>,
    /// A device ID, as its sender writes it.
    #[arg(long, value_name = "ID")]
    did: Option<String>,
    /// A user, by the sender's ID of who is logged in. It is looked up under every key of
    /// user.keys.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
}

impl Command {
    pub(super) fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let (Command::Export(selector) | Command::Erase(selector)) = self;
        let selector = selector.clean();
        let subjects = selector.subjects(config)?;
        let mut out = BufWriter::new(io::stdout().lock());
        match self {
            Command::Export(_) => export(config, &subjects, &mut out)?,
            Command::Erase(_) => erase(config, &subjects, &mut out)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Selector {
    /// Returns the same with IDs as hits hold them.
    fn clean(&self) -> Selector {
        let partner_uid = self.partner_uid.as_deref();
        Selector {
            visitor: self.visitor.clone(),
            maid: self.maid.as_deref().map(clean_id),
            did: self.did.as_deref().map(clean_id),
            user: self.user.as_deref().map(clean_id),
            partner_uid: partner_uid.map(|text| match text.split_once(':') {
                Some((partner, uid)) => format!("{partner}:{}", clean_id(uid)),
                None => text.to_owned(),
            }),
        }
    }

    /// Returns the subject, or each hash that may stand for the user.
    fn subjects(&self, config: &Config) -> Result<Vec<Subject<'_>>, UsageError> {
        let Some(user) = &self.user else {
            return self.subject(config).map(|subject| vec![subject]);
        };
        let user = check_id("--user", user, "the ID that the sender gives the user")?;
        let keyring = UserKeyring::new(&config.user.keys);
        let subjects: Vec<Subject<'_>> = keyring.hashes(user).map(Subject::User).collect();
        if subjects.is_empty() {
            return Err(UsageError(
                "user.keys: there is no key, so no user is known; the keys that hits were hashed with would be right"
                    .to_owned(),
            ));
        }
        Ok(subjects)
    }

    fn subject(&self, config: &Config) -> Result<Subject<'_>, UsageError> {
        if let Some(text) = &self.visitor {
            return find_visitor(text, config).map(Subject::Visitor);
        }
        if let Some(maid) = &self.maid {
            let right = "an ID such as 38400000-8cf0-11bd-b23e-10b96e40000d";
            return check_id("--maid", maid, right).map(Subject::Maid);
        }
        if let Some(device) = &self.did {
            return check_id("--did", device, "an ID as hits have it").map(Subject::DeviceId);
        }
        let (option, right) = ("--partner-uid", "PARTNER:ID, such as adform:4711");
        let text = self.partner_uid.as_deref().unwrap_or_default();
        let (partner, uid) = text
            .split_once(':')
            .ok_or_else(|| bad_id(option, "there is no colon in it", right))?;
        let uid = check_id(option, uid, right)?;
        let mut known = config.partners.iter();
        if !partner.is_empty() && known.all(|known| known.key != partner) {
            // It may have been one, or hits name it all the same.
            tracing::warn!("--partner-uid: {partner} is the key of no [[partner]] here");
        }
        Ok(Subject::PartnerUid { partner, uid })
    }
}

fn bad_id(option: &str, mistake: &str, right: &str) -> UsageError {
    UsageError(format!("{option}: {mistake}; {right} would be right"))
}

fn check_id<'a>(option: &str, id: &'a str, right: &str) -> Result<&'a str, UsageError> {
    match id.is_empty() {
        true => Err(bad_id(option, "the ID is empty", right)),
        false => Ok(id),
    }
}

/// Returns an ID as hits hold it, and as users are hashed: cleaned, and shortened, with a digest of
/// what was sent.
fn clean_id(id: &str) -> String {
    // It may be copied from a hit, where it ends with the digest already.
    if whole::has_digest(id, TEXT_BYTES_MAX) && !id.contains(char::is_control) {
        return whole::shorten(id, TEXT_BYTES_MAX);
    }
    let rule = ValueRule {
        bytes_max: TEXT_BYTES_MAX,
        kind: ValueKind::Id,
    };
    let cleaned = take(Cow::Borrowed(id), None, rule, &mut Flags::default());
    // What says that there is no ID is one in no hit, but may be one in a file that was imported.
    cleaned.map_or_else(|| whole::shorten(id, TEXT_BYTES_MAX), Cow::into_owned)
}

/// Finds the visitor that a UUID, as `hit_detail` shows it, or a cookie's value names. A cookie's
/// value counts only if it verifies: whoever asks with it has shown that it is theirs.
fn find_visitor(text: &str, config: &Config) -> Result<VisitorId, UsageError> {
    if let Some(visitor) = VisitorId::from_uuid(text) {
        return Ok(visitor);
    }
    let (value, host) = text.split_once('@').unwrap_or((text, ""));
    // A host stands for itself, and for the domain that it lies in.
    let sites = config.sites.iter();
    let known = sites.flat_map(|site| site.hosts.iter().chain(&site.cookie_domain));
    let hosts: Vec<&str> = [host]
        .into_iter()
        .chain(known.map(String::as_str))
        .collect();
    let proves = |keyring: CookieKeyring| {
        let read = |host: &&str| keyring.at(host).read(value, clock::now());
        hosts.iter().find_map(read)
    };
    keyrings::existing_cookie_keyring(config)
        .and_then(proves)
        .filter(|proved| !proved.is_expired)
        .map(|proved| proved.visitor)
        .ok_or_else(|| bad_id(
            "--visitor",
            "neither a UUID nor the value of a visitor cookie that verifies under the keys of this configuration",
            "the visitor_id of hit_detail or the value of the cookie",
        ))
}

/// Checks that users are looked up under the key by which collectors hash them now: under others
/// nobody would be found, and what is held would seem to be nothing.
///
/// # Errors
/// If the keys are others, or Postgres fails.
async fn check_user_keys(
    client: &Client,
    config: &Config,
    subjects: &[Subject<'_>],
) -> anyhow::Result<()> {
    let is_user = |subject: &Subject<'_>| matches!(subject, Subject::User(_));
    if !subjects.iter().any(is_user) {
        return Ok(());
    }
    let fingerprints = UserKeyring::new(&config.user.keys).fingerprints();
    let knows = user_key::knows(client, &fingerprints).await?;
    ensure!(knows, user_key::OTHER_KEY);
    Ok(())
}

/// Writes everything that is held about a subject, a JSON object a line.
///
/// # Errors
/// If Postgres or `out` fails.
fn export(config: &Config, subjects: &[Subject<'_>], out: &mut impl Write) -> anyhow::Result<()> {
    with_database(config, async |client| {
        check_user_keys(client, config, subjects).await?;
        subject::set_up(client).await?;
        for subject in subjects {
            let mut export = subject::Export::new(*subject);
            // Nothing is locked while the reader of the lines makes this wait.
            while let Some(lines) = export.next(client).await? {
                for line in lines {
                    writeln!(out, "{line}").context("writing what is held")?;
                }
            }
        }
        out.flush().context("writing what is held")
    })
}

/// Erases a subject, and says what was removed.
///
/// # Errors
/// If Postgres or `out` fails; running the command again completes the erasure.
fn erase(config: &Config, subjects: &[Subject<'_>], out: &mut impl Write) -> anyhow::Result<()> {
    with_database(config, async |client| {
        check_user_keys(client, config, subjects).await?;
        let mut removed = subject::Removed::default();
        for subject in subjects {
            removed.add(subject::erase(client, subject, subject::AskedBy::Cli).await?);
        }
        report(out, &removed).context("saying what was removed")
    })
}

fn report(out: &mut impl Write, removed: &impl fmt::Display) -> io::Result<()> {
    writeln!(out, "{removed}")?;
    writeln!(
        out,
        "hits of this ID that still wait in a spool, or that come, will be counts and no rows"
    )?;
    out.flush()
}
