//! What goes into an ad network's forms: signed click URLs, and tags with the network's own macros. Pure.

mod networks;

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::callback::names::Mapping;
use crate::click;
use crate::clock::UnixMicros;
use crate::config::{Config, Partner};
use crate::keys::ClickKeyring;
use networks::Network;

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
    pub fn text(
        &self,
        path: &str,
        keyring: &ClickKeyring,
        now: UnixMicros,
    ) -> Result<String, String> {
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

/// `avtryck tag`.
#[derive(Clone, Debug, clap::Args)]
pub struct Tag {
    /// Where the collector is reached, such as https://px.example.
    #[arg(long)]
    pub at: String,
    /// The partner's key in the configuration; its mapping says whose macros are used.
    #[arg(long)]
    pub partner: String,
    /// Which ad; what is given stands in the place of the network's macro.
    #[command(flatten)]
    pub ad: Ad,
    /// The size of the creative, such as 300x250.
    #[arg(long, value_name = "WxH")]
    pub size: Option<String>,
    /// Where a click goes; without it there is no click URL.
    #[arg(long, value_name = "URL")]
    pub click: Option<String>,
    /// Tells the click's target its ID, as `avclid`.
    #[arg(long)]
    pub click_id: bool,
}

/// VAST events that every player tells.
const VAST_EVENTS: [&str; 10] = [
    "start",
    "firstQuartile",
    "midpoint",
    "thirdQuartile",
    "complete",
    "mute",
    "unmute",
    "pause",
    "resume",
    "skip",
];

impl Tag {
    /// The tags, with a line above each that says what it is.
    ///
    /// # Errors
    /// What is wrong with an argument, or an unknown partner.
    pub fn text(&self, config: &Config, keyring: &ClickKeyring) -> Result<String, String> {
        let partner = self.partner(config)?;
        let mapping = partner.fields.mapping.ok_or_else(|| {
            let names = Mapping::ALL.map(Mapping::name).join(", ");
            format!(
                "partner {}: it has no mapping; one of {names} would be right",
                partner.key
            )
        })?;
        let mut text = String::new();
        for network in networks::of(mapping) {
            self.write(&mut text, network, partner, config, keyring)?;
        }
        Ok(text)
    }

    fn partner<'c>(&self, config: &'c Config) -> Result<&'c Partner, String> {
        let found = config
            .partners
            .iter()
            .find(|known| known.key == self.partner);
        found.ok_or_else(|| {
            let keys: Vec<&str> = config.partners.iter().map(|known| &*known.key).collect();
            let keys = if keys.is_empty() {
                "a [[partner]] in the configuration".to_owned()
            } else {
                format!("one of {}", keys.join(", "))
            };
            format!(
                "--partner {}: is not in the configuration; {keys} would be right",
                self.partner
            )
        })
    }

    fn write(
        &self,
        text: &mut String,
        network: &Network,
        partner: &Partner,
        config: &Config,
        keyring: &ClickKeyring,
    ) -> Result<(), String> {
        let at = origin(&self.at)?;
        let fixed = self.fixed(partner)?;
        let consent = consent(partner.gvl_id);
        let pixel = format!("{at}{}?", config.path.impression);
        let url = |more: &str| format!("{pixel}{}", self.filled(&fixed, network, more).0);
        let mut add = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        add(&format!("# {}: impression", network.name));
        let impression = url(&consent);
        add(&format!(
            "<img src=\"{impression}\" width=\"1\" height=\"1\" alt=\"\">\n"
        ));
        let click = self.click_url(at, &fixed, network, &consent, config, keyring)?;
        if let Some(click) = &click {
            add(&format!(
                "# {}: click\n{}{click}\n",
                network.name, network.click
            ));
        }
        if network.has_notices {
            for (notice, more) in [
                ("nurl", "&ev=win"),
                ("burl", "&ev=billable"),
                ("lurl", "&ev=loss&loss=${AUCTION_LOSS}"),
            ] {
                add(&format!(
                    "# {}: {notice}\n{}\n",
                    network.name,
                    url(&format!("{consent}{more}"))
                ));
            }
        }
        let vast = "&gdpr_consent=[GDPRCONSENT]&gpp=[GPPSTRING]&gpp_sid=[GPPSECTIONID]&lat=[LIMITADTRACKING]";
        let event = |name: &str| format!("<![CDATA[{}]]>", url(&format!("{vast}{name}")));
        add(&format!("# {}: VAST 4", network.name));
        add(&format!("<Impression>{}</Impression>", event("")));
        add(&format!(
            "<Error>{}</Error>",
            event("&ev=error&err=[ERRORCODE]")
        ));
        add("<TrackingEvents>");
        for name in VAST_EVENTS {
            add(&format!(
                "  <Tracking event=\"{name}\">{}</Tracking>",
                event(&format!("&ev={name}"))
            ));
        }
        add("</TrackingEvents>\n<VideoClicks>");
        match &click {
            Some(click) => add(&format!(
                "  <ClickThrough><![CDATA[{click}]]></ClickThrough>"
            )),
            None => add(&format!(
                "  <ClickTracking>{}</ClickTracking>",
                event("&ev=click")
            )),
        }
        add("</VideoClicks>\n");
        Ok(())
    }

    /// What every tag says in the same words.
    fn fixed(&self, partner: &Partner) -> Result<Query, String> {
        let mut query = Query::default();
        let site = self.ad.site.as_deref().unwrap_or(&partner.site);
        if !site.is_empty() {
            query.add("site", site);
        }
        query.add("partner", &partner.key);
        for (name, value) in self.ad.pairs() {
            query.add(name, value);
        }
        if let Some(size) = &self.size {
            let is_size = size.split_once('x').is_some_and(|(width, height)| {
                [width, height]
                    .iter()
                    .all(|side| side.parse::<u16>().is_ok())
            });
            if !is_size {
                return Err(format!(
                    "--size {size}: a size such as 300x250 would be right"
                ));
            }
            query.add("size", size);
        }
        Ok(query)
    }

    /// That, what the network fills in of the rest, and more.
    fn filled(&self, fixed: &Query, network: &Network, more: &str) -> Query {
        let mut query = fixed.clone();
        for (name, value) in network.macros {
            if !self.says(name) {
                query.add_raw(name, value);
            }
        }
        query.0.push_str(more);
        query
    }

    fn says(&self, name: &str) -> bool {
        self.ad.pairs().any(|(said, _)| said == name) || (name == "size" && self.size.is_some())
    }

    /// The click URL: signed, with the network's macros behind the signature.
    fn click_url(
        &self,
        at: &str,
        fixed: &Query,
        network: &Network,
        consent: &str,
        config: &Config,
        keyring: &ClickKeyring,
    ) -> Result<Option<String>, String> {
        let Some(to) = &self.click else {
            return Ok(None);
        };
        let mut rest = fixed.clone();
        if self.click_id {
            rest.add("clid", "1");
        }
        let query = Query(signed(rest, to, keyring)?);
        let query = self.filled(&query, network, consent).0;
        Ok(Some(format!("{at}{}?{query}", config.path.click)))
    }
}

/// The consent macros of IAB Europe and IAB Tech Lab, which each network knows, about a vendor. Without one no string
/// would permit anything.
fn consent(gvl_id: Option<u16>) -> String {
    gvl_id.map_or_else(String::new, |id| {
        format!(
            "&gdpr=${{GDPR}}&gdpr_consent=${{GDPR_CONSENT_{id}}}&gpp=${{GPP_STRING_{id}}}&gpp_sid=${{GPP_SID}}"
        )
    })
}

fn end(now: UnixMicros, time: Duration) -> i64 {
    now.seconds()
        .saturating_add(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// The query string of a click, signed. What a visitor would be refused is refused here.
fn signed(mut rest: Query, to: &str, keyring: &ClickKeyring) -> Result<String, String> {
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
        let keyring = ClickKeyring::new([(3, [3; 32].as_slice())]);
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
        let keyring = ClickKeyring::new([(3, [3; 32].as_slice())]);
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
