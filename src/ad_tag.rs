//! What goes into an ad network's forms: signed click URLs, and tags with the network's own macros. Pure.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::click::{self, Keyring};
use crate::clock::UnixMicros;

/// What stays as it is in a value: RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Which ad, where; each is left out where it is not given.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Ad {
    /// The site's key; else the collector goes by its host.
    #[arg(long)]
    pub site: Option<String>,
    /// The campaign.
    #[arg(long)]
    pub campaign: Option<String>,
    /// The creative.
    #[arg(long)]
    pub creative: Option<String>,
    /// The placement.
    #[arg(long)]
    pub placement: Option<String>,
    /// The publisher.
    #[arg(long)]
    pub publisher: Option<String>,
}

impl Ad {
    /// The parameters that say it.
    fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
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

/// `avtryck click-url`.
#[derive(Clone, Debug, clap::Args)]
pub struct ClickUrl {
    /// Where the collector is reached, such as https://px.example.
    #[arg(long)]
    pub at: String,
    /// Where a click goes.
    #[arg(long)]
    pub to: String,
    /// The partner's key.
    #[arg(long)]
    pub partner: Option<String>,
    /// Which ad.
    #[command(flatten)]
    pub ad: Ad,
    /// Further parameters that the signature covers.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub params: Vec<String>,
    /// How long the signature is good for, such as 90d; without it, for ever.
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// Makes it a URL for one use; a later click is flagged `replayed`.
    #[arg(long)]
    pub id: Option<String>,
    /// Tells the target the click's ID, as `avclid`.
    #[arg(long)]
    pub click_id: bool,
}

impl ClickUrl {
    /// The URL.
    ///
    /// # Errors
    /// What is wrong with an argument.
    pub fn text(&self, path: &str, keyring: &Keyring, now: UnixMicros) -> Result<String, String> {
        let mut rest = Query::default();
        if let Some(text) = &self.expires {
            let time = crate::config::duration(text)
                .ok_or_else(|| format!("--expires {text}: a time such as 90d would be right"))?;
            rest.add("exp", &end(now, time).to_string());
        }
        for (name, value) in [("id", &self.id), ("site", &self.ad.site)] {
            if let Some(value) = value {
                rest.add(name, value);
            }
        }
        if let Some(partner) = &self.partner {
            rest.add("partner", partner);
        }
        for (name, value) in self.ad.pairs() {
            rest.add(name, value);
        }
        if self.click_id {
            rest.add("clid", "1");
        }
        for param in &self.params {
            let (name, value) = param
                .split_once('=')
                .ok_or_else(|| format!("--param {param}: NAME=VALUE would be right"))?;
            rest.add(name, value);
        }
        Ok(format!(
            "{}{path}?{}",
            origin(&self.at)?,
            signed(rest, &self.to, keyring)?
        ))
    }
}

fn end(now: UnixMicros, time: Duration) -> i64 {
    now.seconds()
        .saturating_add(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// The query string of a click, signed. What a visitor would be refused is refused here.
fn signed(mut rest: Query, to: &str, keyring: &Keyring) -> Result<String, String> {
    rest.add("to", to);
    let query = keyring
        .sign(&rest.0)
        .ok_or("click.keys: there is none to sign with")?;
    // Before any end: what is wrong then is the target.
    let sound = click::target(&query, keyring, &[], UnixMicros(0));
    sound.map(|_| query).map_err(|_| {
        format!("{to}: no click may go there; an http or https URL without userinfo would be right")
    })
}

/// A URL's origin: no path, no slash at the end.
fn origin(at: &str) -> Result<&str, String> {
    let at = at.trim_end_matches('/');
    let host = at
        .strip_prefix("https://")
        .or_else(|| at.strip_prefix("http://"));
    host.filter(|host| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    })
    .map(|_| at)
    .ok_or_else(|| format!("--at {at}: an origin such as https://px.example would be right"))
}

/// A query string as it grows.
#[derive(Clone, Debug, Default)]
struct Query(String);

impl Query {
    /// Adds a value, encoded.
    fn add(&mut self, name: &str, value: &str) {
        self.add_raw(
            &utf8_percent_encode(name, ENCODED).to_string(),
            &utf8_percent_encode(value, ENCODED).to_string(),
        );
    }

    /// Adds a value as it is.
    fn add_raw(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

    fn arguments() -> ClickUrl {
        ClickUrl {
            at: "https://px.example/".to_owned(),
            to: "https://shop.example/å?a=b&c=d".to_owned(),
            partner: Some("adform".to_owned()),
            ad: Ad {
                site: Some("shop".to_owned()),
                campaign: Some("vår & höst".to_owned()),
                ..Ad::default()
            },
            params: vec!["size=300x250".to_owned()],
            expires: Some("1d".to_owned()),
            id: Some("a1".to_owned()),
            click_id: true,
        }
    }

    #[test]
    fn a_click_url_is_one_that_the_collector_believes() {
        let keyring = Keyring::new([(3, [3; 32].as_slice())]);
        let url = arguments().text("/c", &keyring, NOW).expect("a URL");
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
    fn what_would_lead_nowhere_is_not_signed() {
        let keyring = Keyring::new([(3, [3; 32].as_slice())]);
        let wrong = |change: fn(&mut ClickUrl)| {
            let mut arguments = arguments();
            change(&mut arguments);
            arguments.text("/c", &keyring, NOW).expect_err("a mistake")
        };
        assert!(
            wrong(|a| a.to = "javascript:alert(1)".to_owned()).contains("no click may go there")
        );
        assert!(wrong(|a| a.at = "px.example".to_owned()).contains("--at px.example"));
        assert!(wrong(|a| a.expires = Some("soon".to_owned())).contains("--expires soon"));
        assert!(wrong(|a| a.params = vec!["size".to_owned()]).contains("--param size"));
    }
}
