//! What the URLs of an ad have in common: who the ad is, the collector's origin, the signed query.
//! Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::UsageError;
use crate::click;
use crate::clock::UnixMicros;
use crate::config::{Config, Partner, suggest};
use crate::keys::ClickKeyring;

/// What stays unencoded in a value: RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Which ad, and where. What is not given is left out.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct AdOptions {
    /// The site's key. Without it the collector goes by its host.
    #[arg(long)]
    pub(super) site: Option<String>,
    /// The campaign.
    #[arg(long)]
    campaign: Option<String>,
    /// The creative.
    #[arg(long)]
    creative: Option<String>,
    /// The placement.
    #[arg(long)]
    placement: Option<String>,
    /// The publisher.
    #[arg(long)]
    publisher: Option<String>,
}

impl AdOptions {
    /// Sets the option of that name, and returns whether there is one. An empty value leaves what
    /// was given before.
    pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
        let option = match name {
            "site" => &mut self.site,
            "campaign" => &mut self.campaign,
            "creative" => &mut self.creative,
            "placement" => &mut self.placement,
            "publisher" => &mut self.publisher,
            _ => return false,
        };
        if !value.is_empty() {
            *option = Some(value.to_owned());
        }
        true
    }

    /// Returns the parameters that name it.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("campaign", &self.campaign),
            ("creative", &self.creative),
            ("placement", &self.placement),
            ("publisher", &self.publisher),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Checks that a site of the configuration has this key: hits that name another one are refused.
pub(super) fn check_site(config: &Config, option: &str, key: &str) -> Result<(), UsageError> {
    let keys = config.sites.iter().map(|site| site.key.as_str());
    find(keys, option, key, "[[site]]").map(drop)
}

/// Returns a warning if a URL names no site and its host stands for none: the collector would
/// refuse what comes by it.
pub(super) fn warn_of_host(config: &Config, at: &str) -> Option<String> {
    let (_, authority) = at.split_once("://")?;
    let authority = authority.trim_end_matches('/');
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    let mut hosts = config.sites.iter().flat_map(|site| &site.hosts);
    if hosts.any(|known| known.eq_ignore_ascii_case(host)) {
        return None;
    }
    Some(format!(
        "warning: --site is not given and {host} is among the hosts of no site, so no hit by this URL would be recorded"
    ))
}

/// Finds the partner with this key.
pub(super) fn find_partner<'c>(
    config: &'c Config,
    option: &str,
    key: &str,
) -> Result<&'c Partner, UsageError> {
    let keys = config.partners.iter().map(|partner| partner.key.as_str());
    let at = find(keys, option, key, "[[partner]]")?;
    let found = config.partners.get(at);
    found.ok_or_else(|| UsageError(format!("{option}{key}: is not in the configuration")))
}

/// Returns where a key is among those of the configuration. `option` is what was written before the
/// key, such as `--site `.
fn find<'c>(
    mut keys: impl Iterator<Item = &'c str> + Clone,
    option: &str,
    key: &str,
    table: &str,
) -> Result<usize, UsageError> {
    let all = keys.clone();
    keys.position(|known| known == key).ok_or_else(|| {
        let known: Vec<&str> = all.clone().collect();
        let right = if known.is_empty() {
            format!("a {table} in it")
        } else {
            format!("one of {}", known.join(", "))
        };
        let hint =
            suggest(all, key).map_or(String::new(), |near| format!("; did you mean {near}?"));
        let what = format!("is not in the configuration; {right} would be right{hint}");
        UsageError(format!("{option}{key}: {what}"))
    })
}

/// Signs the query string of a click that leads to `to`. A target that a visitor would be refused
/// is refused here.
pub(super) fn sign(
    mut query: Query,
    to: &str,
    keyring: &ClickKeyring,
) -> Result<Query, UsageError> {
    query.add("to", to);
    let signed = keyring
        .sign(&query.0)
        .ok_or_else(|| UsageError("click.keys: there is no key to sign with".to_owned()))?;
    // At time 0 no signature has expired, so what is wrong is the target.
    if click::target(&signed, keyring, &[], UnixMicros(0)).is_err() {
        return Err(UsageError(format!(
            "{to}: no click may go there; an http or https URL without userinfo would be right"
        )));
    }
    Ok(Query(signed))
}

/// Checks a URL's origin, and returns it without a slash at the end.
pub(super) fn check_origin(at: &str) -> Result<&str, UsageError> {
    let origin = at.trim_end_matches('/');
    let host = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    let is_sound = host.is_some_and(|host| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    });
    if is_sound {
        return Ok(origin);
    }
    Err(UsageError(format!(
        "--at {origin}: an origin such as https://px.example would be right"
    )))
}

/// A query string as it grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(pub(super) String);

impl Query {
    /// Adds a value, encoded.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.add_raw(
            &utf8_percent_encode(name, ENCODED).to_string(),
            &utf8_percent_encode(value, ENCODED).to_string(),
        );
    }

    /// Adds a value as it is.
    pub(super) fn add_raw(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(value);
    }
}

#[cfg(test)]
impl AdOptions {
    pub(super) fn example() -> AdOptions {
        AdOptions {
            site: Some("shop".to_owned()),
            campaign: Some("vår & höst".to_owned()),
            ..AdOptions::default()
        }
    }
}
