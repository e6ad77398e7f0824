//! `avtryck subject export` and `avtryck subject erase`: what an operator does when somebody asks for
//! their data, or for their end.

use std::fmt;
use std::io::Write;

use anyhow::Context as _;

use crate::clock;
use crate::config::Config;
use crate::hit::VisitorId;
use crate::hit::limits::TEXT_BYTES_MAX;
use crate::hit::subject::Subject;
use crate::postgres::{Database, subject};
use crate::serve;

/// An ID as it was given on the command line.
#[derive(Clone, Debug)]
pub enum Given {
    /// `--visitor`: a UUID or the value of the visitor cookie.
    Visitor(String),
    /// `--maid`: a mobile advertising ID.
    Maid(String),
    /// `--partner-uid`: a partner's key, a colon, and the partner's ID for the visitor.
    PartnerUid(String),
}

/// Why what was given is no ID.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {what}; {right} would be right")]
pub struct BadId {
    option: &'static str,
    what: &'static str,
    right: &'static str,
}

impl Given {
    /// The subject that is meant.
    ///
    /// # Errors
    /// Where it cannot be one.
    pub fn subject(&self, config: &Config) -> Result<Subject<'_>, BadId> {
        match self {
            Given::Visitor(text) => visitor(text, config).map(Subject::Visitor),
            Given::Maid(maid) => {
                let right = "an ID such as 38400000-8cf0-11bd-b23e-10b96e40000d";
                sound("--maid", maid, right).map(Subject::Maid)
            }
            Given::PartnerUid(text) => {
                let (option, right) = ("--partner-uid", "PARTNER:ID, such as adform:4711");
                let (partner, uid) = text.split_once(':').ok_or(BadId {
                    option,
                    what: "there is no colon in it",
                    right,
                })?;
                let uid = sound(option, uid, right)?;
                Ok(Subject::PartnerUid { partner, uid })
            }
        }
    }
}

fn sound<'a>(option: &'static str, id: &'a str, right: &'static str) -> Result<&'a str, BadId> {
    let what = if id.is_empty() {
        "the ID is empty"
    } else if id.len() > TEXT_BYTES_MAX {
        "the ID is longer than any that is held"
    } else if id.chars().any(char::is_control) {
        "the ID holds control characters"
    } else {
        return Ok(id);
    };
    Err(BadId {
        option,
        what,
        right,
    })
}

/// A UUID is what `hit_detail` shows. A cookie's value counts only where it verifies: whoever asks with it
/// has shown that it is theirs.
fn visitor(text: &str, config: &Config) -> Result<VisitorId, BadId> {
    if let Some(visitor) = VisitorId::from_uuid(text) {
        return Ok(visitor);
    }
    let keyring = serve::existing_keyring(config);
    keyring
        .and_then(|keyring| keyring.verify(text, clock::now()))
        .ok_or(BadId {
            option: "--visitor",
            what: "neither a UUID nor the value of a visitor cookie that verifies under the keys of this configuration",
            right: "the visitor_id of hit_detail or the value of the cookie",
        })
}

/// Writes everything that is held about a subject, a JSON object a line.
///
/// # Errors
/// Where Postgres or `out` fails.
pub fn export(config: &Config, subject: &Subject<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    with_database(config, async |client| {
        subject::export(client, subject, async |line| {
            writeln!(out, "{line}").context("writing what is held")
        })
        .await?;
        out.flush().context("writing what is held")
    })
}

/// Erases a subject, and says what was removed.
///
/// # Errors
/// Where Postgres or `out` fails; the same command finishes then.
pub fn erase(config: &Config, subject: &Subject<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    with_database(config, async |client| {
        let removed = subject::erase(client, subject, subject::AskedBy::Cli).await?;
        report(out, &removed).context("saying what was removed")
    })
}

fn report(out: &mut impl Write, removed: &impl fmt::Display) -> std::io::Result<()> {
    writeln!(out, "{removed}")?;
    writeln!(
        out,
        "hits of this ID that still wait in a spool, or that come, will be counts and no rows"
    )?;
    out.flush()
}

/// Works on the database, and leaves an embedded server as it was: running where a collector has it.
fn with_database(
    config: &Config,
    work: impl AsyncFnOnce(&mut tokio_postgres::Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let database = Database::new(&config.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let worked = match database.connect().await {
            Ok(mut client) => work(&mut client).await,
            Err(error) => Err(error),
        };
        database.leave().await;
        worked
    })
}
