//! `avtryck click-url`.

use std::process::ExitCode;
use std::time::Duration;

use super::ad::{AdOptions, Query, check_origin, check_site, find_partner, sign, warn_of_host};
use super::{UsageError, complain, print};
use crate::clock::{self, UnixMicros};
use crate::config::{self, Config};
use crate::endpoint::Endpoint;
use crate::keys::ClickKeyring;
use crate::serve::keyrings;

/// Print a signed click URL for an ad.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ClickUrl {
    /// Where the collector is reached, such as https://px.example.
    #[arg(long)]
    at: String,
    /// Where a click goes.
    #[arg(long)]
    to: String,
    /// The partner's key.
    #[arg(long)]
    partner: Option<String>,
    #[command(flatten)]
    ad: AdOptions,
    /// Further parameters that the signature covers.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// How long the signature is valid, such as 90d. Without it, forever.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Makes it a URL for one use: a later click is flagged `replayed`.
    #[arg(long)]
    id: Option<String>,
    /// Tells the target the click's ID, as `avclid`.
    #[arg(long)]
    click_id: bool,
}

impl ClickUrl {
    pub(super) fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        self.check_names(config)?;
        let names_site = self.params.iter().any(|param| param.starts_with("site="));
        if self.ad.site.is_none()
            && !names_site
            && let Some(warning) = warn_of_host(config, &self.at)
        {
            complain(&warning);
        }
        let keyring = keyrings::click_keyring(config)?;
        print(&self.url(config.path.of(Endpoint::Click), &keyring, clock::now())?);
        Ok(ExitCode::SUCCESS)
    }

    /// Checks that the site and the partner are in the configuration, whichever way they are given.
    fn check_names(&self, config: &Config) -> Result<(), UsageError> {
        let params = self.params.iter().filter_map(|param| param.split_once('='));
        let params = params.map(|(name, value)| (format!("--param {name}="), name, value));
        let site = self.ad.site.iter();
        let site = site.map(|key| ("--site ".to_owned(), "site", key.as_str()));
        let partner = self.partner.iter();
        let partner = partner.map(|key| ("--partner ".to_owned(), "partner", key.as_str()));
        for (option, name, value) in site.chain(partner).chain(params) {
            match name {
                "site" => check_site(config, &option, value)?,
                "partner" => drop(find_partner(config, &option, value)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn url(
        &self,
        path: &str,
        keyring: &ClickKeyring,
        now: UnixMicros,
    ) -> Result<String, UsageError> {
        let mut query = Query::default();
        if let Some(text) = &self.expires {
            let time = config::duration(text).ok_or_else(|| {
                UsageError(format!(
                    "--expires {text}: a time such as 90d would be right"
                ))
            })?;
            query.add("exp", &end(now, time).to_string());
        }
        let named = [
            ("id", &self.id),
            ("site", &self.ad.site),
            ("partner", &self.partner),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                query.add(name, value);
            }
        }
        for (name, value) in self.ad.pairs() {
            query.add(name, value);
        }
        if self.click_id {
            query.add("clid", "1");
        }
        for param in &self.params {
            let (name, value) = param
                .split_once('=')
                .ok_or_else(|| UsageError(format!("--param {param}: NAME=VALUE would be right")))?;
            query.add(name, value);
        }
        let origin = check_origin(&self.at)?;
        let Query(query) = sign(query, &self.to, keyring)?;
        Ok(format!("{origin}{path}?{query}"))
    }
}

/// Returns the second at which a signature expires.
fn end(now: UnixMicros, time: Duration) -> i64 {
    now.seconds()
        .saturating_add(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::click;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

    fn arguments() -> ClickUrl {
        ClickUrl {
            at: "https://px.example/".to_owned(),
            to: "https://shop.example/å?a=b&c=d".to_owned(),
            partner: Some("adform".to_owned()),
            ad: AdOptions::example(),
            params: vec!["size=300x250".to_owned()],
            expires: Some("1d".to_owned()),
            id: Some("a1".to_owned()),
            click_id: true,
        }
    }

    #[test]
    fn the_collector_accepts_the_click_url() {
        let keyring = ClickKeyring::new([(3, [3; 32].as_slice())]);
        let url = arguments().url("/c", &keyring, NOW).expect("a URL");
        let query = url
            .strip_prefix("https://px.example/c?")
            .expect("the origin and the path");
        assert!(
            query.starts_with(
                "k=3&exp=1800086400&id=a1&site=shop&partner=adform\
                 &campaign=v%C3%A5r%20%26%20h%C3%B6st&clid=1&size=300x250&to=https%3A%2F%2Fshop.example%2F%C3%A5%3Fa%3Db%26c%3Dd&sig="
            ),
            "{url}"
        );
        let target = click::target(query, &keyring, &[], NOW).expect("a target");
        assert!(target.is_one_time);
        assert_eq!(target.location(None), "https://shop.example/%C3%A5?a=b&c=d");
    }

    #[test]
    fn a_url_that_would_lead_nowhere_is_not_signed() {
        let keyring = ClickKeyring::new([(3, [3; 32].as_slice())]);
        let mistake = |change: fn(&mut ClickUrl)| {
            let mut arguments = arguments();
            change(&mut arguments);
            let error = arguments.url("/c", &keyring, NOW).expect_err("a mistake");
            error.to_string()
        };
        assert!(
            mistake(|a| a.to = "javascript:alert(1)".to_owned()).contains("no click may go there")
        );
        assert!(mistake(|a| a.at = "px.example".to_owned()).contains("--at px.example"));
        assert!(mistake(|a| a.expires = Some("soon".to_owned())).contains("--expires soon"));
        assert!(mistake(|a| a.params = vec!["size".to_owned()]).contains("--param size"));
    }
}
