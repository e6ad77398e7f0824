//! `avtryck conversion-url`.

use std::process::ExitCode;
use std::time::Duration;

use super::ad::{Query, check_origin, check_site};
use super::{UsageError, print};
use crate::click::{VALID_SECONDS_MAX, is_signed_conversion};
use crate::clock::{self, UnixMicros};
use crate::config::{self, Config};
use crate::endpoint::Endpoint;
use crate::hit::CONVERSION;
use crate::keys::ClickKeyring;
use crate::serve::keyrings;

/// Print the signed address of a conversion's pixel.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ConversionUrl {
    /// Where the collector is reached, such as https://px.example.
    #[arg(long)]
    at: String,
    /// The site's key.
    #[arg(long)]
    site: String,
    /// The ID of the conversion, such as the order's number. The conversion counts once.
    #[arg(long)]
    id: String,
    /// Further parameters that the signature covers.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// How long the signature is valid: at most 7d.
    #[arg(long, value_name = "TIME", default_value = "1d")]
    expires: String,
}

impl ConversionUrl {
    pub(super) fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        check_site(config, "--site ", &self.site)?;
        let keyring = keyrings::click_keyring(config)?;
        print(&self.url(config.path.of(Endpoint::Pixel), &keyring, clock::now())?);
        Ok(ExitCode::SUCCESS)
    }

    fn url(
        &self,
        path: &str,
        keyring: &ClickKeyring,
        now: UnixMicros,
    ) -> Result<String, UsageError> {
        let valid = config::duration(&self.expires)
            .filter(|time| is_valid_for(*time))
            .ok_or_else(|| {
                UsageError(format!(
                    "--expires {}: a time of 1s to 7d would be right",
                    self.expires
                ))
            })?;
        let end = now.seconds() + i64::try_from(valid.as_secs()).unwrap_or(VALID_SECONDS_MAX);
        let mut query = Query::default();
        query.add("exp", &end.to_string());
        for (name, value) in [("site", &*self.site), ("e", CONVERSION), ("id", &*self.id)] {
            query.add(name, value);
        }
        for param in &self.params {
            let (name, value) = param
                .split_once('=')
                .ok_or_else(|| UsageError(format!("--param {param}: NAME=VALUE would be right")))?;
            query.add(name, value);
        }
        let signed = keyring
            .sign_conversion(&query.0)
            .ok_or_else(|| UsageError("click.keys: there is no key to sign with".to_owned()))?;
        if !is_signed_conversion(&signed, keyring, &self.site, now) {
            return Err(UsageError(format!(
                "--id {}: an ID of the conversion would be right",
                self.id
            )));
        }
        Ok(format!("{}{path}?{signed}", check_origin(&self.at)?))
    }
}

fn is_valid_for(time: Duration) -> bool {
    i64::try_from(time.as_secs()).is_ok_and(|seconds| (1..=VALID_SECONDS_MAX).contains(&seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

    fn url(id: &str, expires: &str, param: &str) -> Result<String, String> {
        let keyring = ClickKeyring::new([(3, [3; 32].as_slice())]);
        let arguments = ConversionUrl {
            at: "https://px.example/".to_owned(),
            site: "shop".to_owned(),
            id: id.to_owned(),
            params: vec![param.to_owned()],
            expires: expires.to_owned(),
        };
        let url = arguments.url("/p.gif", &keyring, NOW);
        url.map_err(|UsageError(mistake)| mistake)
    }

    #[test]
    fn the_collector_believes_the_conversion_url() {
        let url = url("order 1", "7d", "value=899").expect("a URL");
        let start = "https://px.example/p.gif?k=3&exp=1800604800&site=shop&e=conversion\
                     &id=order%201&value=899&sig=";
        assert!(url.starts_with(start), "{url}");
    }

    #[test]
    fn what_would_not_be_believed_is_not_printed() {
        for (id, expires, param, mistake) in [
            ("1", "8d", "value=1", "--expires 8d"),
            ("1", "0s", "value=1", "--expires 0s"),
            ("1", "soon", "value=1", "--expires soon"),
            ("1", "1d", "value", "--param value"),
            ("", "1d", "value=1", "--id"),
        ] {
            let told = url(id, expires, param).expect_err("a mistake");
            assert!(told.starts_with(mistake), "{told}");
        }
    }
}
