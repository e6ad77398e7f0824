//! `avtryck user-sig`.

use std::process::ExitCode;

use super::ad::check_site;
use super::{UsageError, print};
use crate::callback::user::{UserClaim, VALID_SECONDS_MAX};
use crate::clock::{self, UnixMicros};
use crate::config::{self, Config, Site};

/// Print what the site's server signs of who is logged in, to try it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct UserSig {
    /// The site's key.
    #[arg(long)]
    site: String,
    /// The user, as the event names it.
    #[arg(long)]
    user: String,
    /// How long the signature is valid: at most 24h.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    expires: String,
}

impl UserSig {
    pub(super) fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        check_site(config, "--site ", &self.site)?;
        let mut sites = config.sites.iter();
        let site = sites.find(|site| site.key == self.site);
        print(&self.sign(site, clock::now())?);
        Ok(ExitCode::SUCCESS)
    }

    fn sign(&self, site: Option<&Site>, now: UnixMicros) -> Result<String, UsageError> {
        let seconds = config::duration(&self.expires)
            .and_then(|time| i64::try_from(time.as_secs()).ok())
            .filter(|seconds| (1..=VALID_SECONDS_MAX).contains(seconds))
            .ok_or_else(|| {
                UsageError(format!(
                    "--expires {}: a time of 1s to 24h would be right",
                    self.expires
                ))
            })?;
        let claim = UserClaim {
            site: &self.site,
            user: &self.user,
        };
        site.and_then(|site| site.user_sig_keys.first())
            .and_then(|(id, secret)| claim.sign((*id, secret), now.seconds() + seconds))
            .ok_or_else(|| {
                UsageError(format!(
                    "site {}, user_sig_keys: there is no key to sign with",
                    self.site
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

    fn sign(expires: &str, keys: &str) -> Result<String, String> {
        let text = format!("[[site]]\nkey = \"shop\"\n{keys}");
        let config = Config::parse(&text, []).expect("a right configuration");
        let arguments = UserSig {
            site: "shop".to_owned(),
            user: "anna".to_owned(),
            expires: expires.to_owned(),
        };
        let signature = arguments.sign(config.sites.first(), NOW);
        signature.map_err(|UsageError(mistake)| mistake)
    }

    #[test]
    fn the_collector_believes_the_signature_and_no_other_is_printed() {
        let keys = "user_sig_keys = [\"3:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\"]";
        let claim = UserClaim {
            site: "shop",
            user: "anna",
        };
        for expires in ["1s", "1h", "24h"] {
            let signature = sign(expires, keys).expect("a signature");
            assert!(claim.is_proved_by(&signature, &[(3, vec![3; 32])], NOW));
        }
        for (expires, keys, mistake) in [
            ("25h", keys, "--expires 25h"),
            ("0s", keys, "--expires 0s"),
            ("soon", keys, "--expires soon"),
            ("1h", "", "site shop, user_sig_keys"),
        ] {
            let told = sign(expires, keys).expect_err("a mistake");
            assert!(told.starts_with(mistake), "{told}");
        }
    }
}
