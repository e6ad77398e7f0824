//! `avtryck keys`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::print;
use crate::clock;
use crate::serve::household_key;

#[derive(clap::Subcommand)]
pub(super) enum Keys {
    /// Make a key and print it in the form that cookie.keys, click.keys, user.keys and
    /// user_sig_keys take, with an ID that the configuration (if one is named) does not use. The
    /// first key in the list signs, every one verifies. To change keys of cookies and clicks, add
    /// the new one at the end on every collector, then move it to the front on every collector, and
    /// remove the old one once cookie.max_age has passed.
    New,
    /// Make the first key of households beside the spool, or say how another collector gets the
    /// one that is there: all collectors of a database need the same. The key changes every 14
    /// days, and the one before is gone then: keep it out of backups.
    Household,
}

impl Keys {
    /// `known` are the keys of the cookie, `spool` the folder of the spool.
    pub(super) fn run(&self, known: &[(u8, Vec<u8>)], spool: &Path) -> anyhow::Result<ExitCode> {
        match self {
            Keys::New => print(&make_key(known)?),
            Keys::Household => print(&make_or_find_household_key(spool)?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn make_or_find_household_key(spool: &Path) -> anyhow::Result<String> {
    let found = household_key::read(spool)?;
    let is_new = found.is_none();
    if is_new {
        let day = i32::try_from(clock::now().day()).context("the clock is wrong")?;
        household_key::make(spool, day)?;
    }
    let path = household_key::path(spool);
    let path = path.display();
    let made = if is_new { "made" } else { "is there" };
    Ok(format!(
        "{path}: {made}\n\
         Another collector of this database needs the same file. Copy it from a collector that runs, to\n\
         the folder of its spool, by a way that keeps no copy, for example:\n\
         ssh THIS cat {path} | (umask 077; cat > SPOOL/household.key)\n\
         Leave it out of backups: with it the addresses of 14 days can be found."
    ))
}

/// Makes a key, `ID:BASE64`, with the lowest ID from 1 on that no known key has. ID 0 is the one
/// that a collector makes for itself.
fn make_key(known: &[(u8, Vec<u8>)]) -> anyhow::Result<String> {
    let id = (1..=u8::MAX)
        .find(|id| known.iter().all(|(used, _)| used != id))
        .context("every ID from 1 to 255 is taken; fewer keys would be right")?;
    let mut key = [0; 32];
    getrandom::fill(&mut key).context("making a key")?;
    Ok(format!("{id}:{}", STANDARD.encode(key)))
}
