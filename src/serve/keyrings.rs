//! The key rings of the visitor cookie and of click URLs: made of the configured keys, or of a key
//! that the collector makes for itself beside the spool.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::{Config, Unusable};
use crate::keys::{ClickKeyring, CookieKeyring};

/// The file of the visitor cookie's own key.
const COOKIE_FILE: &str = "cookie.key";
/// The file of click URLs' own key.
const CLICK_FILE: &str = "click.key";
/// The length of a key that the collector makes, and the least that it accepts, in bytes.
const KEY_BYTES: usize = 32;

/// Returns both key rings.
pub(super) fn both(config: &Config) -> anyhow::Result<(CookieKeyring, ClickKeyring)> {
    Ok((cookie_keyring(config)?, click_keyring(config)?))
}

fn cookie_keyring(config: &Config) -> anyhow::Result<CookieKeyring> {
    let age_seconds_max = i64::try_from(config.cookie.max_age.as_secs()).unwrap_or(i64::MAX);
    let own = own_key(&config.cookie.keys, config, COOKIE_FILE)?;
    let keys = config.cookie.keys.iter().chain(&own);
    Ok(CookieKeyring::new(
        keys.map(|(id, secret)| (*id, secret.as_slice())),
        age_seconds_max,
    ))
}

/// Returns the key ring of the visitor cookie without making a key: `None` if there is none, or if
/// it is damaged.
pub(crate) fn existing_cookie_keyring(config: &Config) -> Option<CookieKeyring> {
    let has_key = !config.cookie.keys.is_empty() || config.spool.dir.join(COOKIE_FILE).exists();
    has_key.then(|| cookie_keyring(config).ok()).flatten()
}

/// Returns the key ring of click URLs.
///
/// # Errors
/// If the collector's own key cannot be read or made.
pub(crate) fn click_keyring(config: &Config) -> anyhow::Result<ClickKeyring> {
    let own = own_key(&config.click.keys, config, CLICK_FILE)?;
    let keys = config.click.keys.iter().chain(&own);
    Ok(ClickKeyring::new(
        keys.map(|(id, secret)| (*id, secret.as_slice())),
    ))
}

/// Checks the keys that the collector made for itself, where it uses them. Makes none.
pub(super) fn check(config: &Config) -> Vec<Unusable> {
    let own = [
        (&config.cookie.keys, COOKIE_FILE),
        (&config.click.keys, CLICK_FILE),
    ];
    let used = own.into_iter().filter(|(keys, _)| keys.is_empty());
    used.filter_map(|(_, file)| {
        let path = config.spool.dir.join(file);
        let error = read_key(&path).with_context(|| describe(&path)).err()?;
        Some(Unusable::new("spool.dir", format!("{error:#}")))
    })
    .collect()
}

fn describe(path: &Path) -> String {
    format!("the key in {}", path.display())
}

/// Returns the key, with ID 0, that the collector makes for itself if none is configured.
fn own_key(
    configured: &[(u8, Vec<u8>)],
    config: &Config,
    file: &str,
) -> anyhow::Result<Option<(u8, Vec<u8>)>> {
    if !configured.is_empty() {
        return Ok(None);
    }
    let path = config.spool.dir.join(file);
    let key = read_or_make_key(&path).with_context(|| describe(&path))?;
    Ok(Some((0, key)))
}

fn read_or_make_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    match read_key(path)? {
        Some(key) => Ok(key),
        None => make_key(path),
    }
}

/// Reads a key; `None` if there is none yet.
fn read_key(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match std::fs::read_to_string(path) {
        Ok(text) => STANDARD
            .decode(text.trim())
            .ok()
            .filter(|key| key.len() >= KEY_BYTES)
            .map(Some)
            .context("it is damaged; 32 bytes in base64 would be right"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn make_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    getrandom::fill(&mut key)?;
    // The file gets its name once it is complete, so that a crash leaves no damaged key.
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    writeln!(file, "{}", STANDARD.encode(&key))?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok(key)
}
