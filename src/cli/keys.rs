//! `avtryck keys new`.

use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::print;

#[derive(clap::Subcommand)]
pub(super) enum Keys {
    /// Make a key and print it in the form that cookie.keys, click.keys, user.keys and
    /// user_sig_keys take, with an ID that the configuration (if one is named) does not use. The
    /// first key in the list signs, every one verifies. To change keys of cookies and clicks, add
    /// the new one at the end on every collector, then move it to the front on every collector, and
    /// remove the old one once cookie.max_age has passed.
    New,
}

impl Keys {
    pub(super) fn run(&self, known: &[(u8, Vec<u8>)]) -> anyhow::Result<ExitCode> {
        let Keys::New = self;
        print(&make_key(known)?);
        Ok(ExitCode::SUCCESS)
    }
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
