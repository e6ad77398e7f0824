//! `avtryck tag`: what goes into an ad network's forms, with the network's own macros; and what
//! makes a tracker of another maker send here.

mod networks;
mod trackers;

use std::process::ExitCode;

use super::ad::{AdOptions, Query, check_origin, check_site, find_partner, sign, warn_of_host};
use super::{UsageError, complain, print};
use crate::callback::names::Mapping;
use crate::config::{Config, Partner};
use crate::endpoint::Endpoint;
use crate::keys::ClickKeyring;
use crate::serve::keyrings;
use networks::AdNetwork;
use trackers::{Tracker, write_lines};

/// VAST events that every player reports.
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
/// The consent macros of VAST.
const VAST_CONSENT: &str =
    "&gdpr_consent=[GDPRCONSENT]&gpp=[GPPSTRING]&gpp_sid=[GPPSECTIONID]&lat=[LIMITADTRACKING]";

/// Print the tags of an ad with a network's own macros: pixel, click and VAST; or the lines that
/// make a tracker of another maker send to the collector.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Tag {
    /// Where the collector is reached, such as https://px.example.
    #[arg(long)]
    at: String,
    /// The partner's key in the configuration; its mapping says whose macros are used.
    #[arg(long, required_unless_present = "protocol")]
    partner: Option<String>,
    /// Whose tracker is to send to the collector.
    #[arg(long, conflicts_with_all = ["partner", "size", "click", "click_id"])]
    protocol: Option<Tracker>,
    // What is given takes the place of the network's macro.
    #[command(flatten)]
    ad: AdOptions,
    /// The size of the creative, such as 300x250.
    #[arg(long, value_name = "WxH")]
    size: Option<String>,
    /// Where a click goes. Without it there is no click URL.
    #[arg(long, value_name = "URL")]
    click: Option<String>,
    /// Tells the click's target its ID, as `avclid`.
    #[arg(long)]
    click_id: bool,
}

/// The tags of one network while they are written.
struct Tags<'t> {
    tag: &'t Tag,
    network: &'t AdNetwork,
    /// The pixel's URL up to the query string.
    pixel: String,
    /// The parameters that are the same in every tag.
    fixed: Query,
    /// The consent macros of the network.
    consent: String,
    text: String,
}

impl Tag {
    pub(super) fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        if let Some(tracker) = self.protocol {
            let at = check_origin(&self.at)?;
            let lines = write_lines(tracker, at, self.ad.site.as_deref(), config)?;
            print(lines.trim_end());
            return Ok(ExitCode::SUCCESS);
        }
        let keyring = keyrings::click_keyring(config)?;
        let key = self.partner.as_deref().unwrap_or_default();
        let partner = find_partner(config, "--partner ", key)?;
        let tags = self.tags(config, partner, &keyring)?;
        if self.ad.site.is_none()
            && partner.site.is_empty()
            && let Some(warning) = warn_of_host(config, &self.at)
        {
            complain(&warning);
        }
        print(&tags);
        Ok(ExitCode::SUCCESS)
    }

    /// Returns the tags, with a line above each that says what it is.
    fn tags(
        &self,
        config: &Config,
        partner: &Partner,
        keyring: &ClickKeyring,
    ) -> Result<String, UsageError> {
        if let Some(site) = &self.ad.site {
            check_site(config, "--site ", site)?;
        }
        let mapping = partner.mapping.ok_or_else(|| {
            let names = Mapping::ALL.map(Mapping::name).join(", ");
            UsageError(format!(
                "partner {}: it has no mapping; one of {names} would be right",
                partner.key
            ))
        })?;
        let at = check_origin(&self.at)?;
        let mut text = String::new();
        for network in networks::of(mapping) {
            let mut tags = Tags {
                tag: self,
                network,
                pixel: format!("{at}{}", config.path.of(Endpoint::Impression)),
                fixed: self.fixed(partner)?,
                consent: consent_macros(partner.gvl_id),
                text,
            };
            let click = tags.click_url(at, config, keyring)?;
            tags.write(click.as_deref());
            text = tags.text;
        }
        Ok(text)
    }

    /// Returns the parameters that are the same in every tag.
    fn fixed(&self, partner: &Partner) -> Result<Query, UsageError> {
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
            if !is_size(size) {
                return Err(UsageError(format!(
                    "--size {size}: a size such as 300x250 would be right"
                )));
            }
            query.add("size", size);
        }
        Ok(query)
    }

    /// Whether an argument takes the place of the network's macro for this parameter.
    fn has(&self, name: &str) -> bool {
        self.ad.pairs().any(|(given, _)| given == name) || (name == "size" && self.size.is_some())
    }
}

impl Tags<'_> {
    /// Returns the query with what the network fills in, followed by `more`.
    fn fill(&self, query: &Query, more: &str) -> String {
        let mut query = query.clone();
        for (name, value) in self.network.macros {
            if !self.tag.has(name) {
                query.add_raw(name, value);
            }
        }
        query.0.push_str(more);
        query.0
    }

    fn url(&self, more: &str) -> String {
        format!("{}?{}", self.pixel, self.fill(&self.fixed, more))
    }

    /// Returns the signed click URL, with the network's macros after the signature.
    fn click_url(
        &self,
        at: &str,
        config: &Config,
        keyring: &ClickKeyring,
    ) -> Result<Option<String>, UsageError> {
        let Some(to) = &self.tag.click else {
            return Ok(None);
        };
        let mut query = self.fixed.clone();
        if self.tag.click_id {
            query.add("clid", "1");
        }
        let query = self.fill(&sign(query, to, keyring)?, &self.consent);
        Ok(Some(format!(
            "{at}{}?{query}",
            config.path.of(Endpoint::Click)
        )))
    }

    fn add(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn write(&mut self, click: Option<&str>) {
        let name = self.network.name;
        let impression = self.url(&self.consent);
        self.add(&format!("# {name}: impression"));
        self.add(&format!(
            "<img src=\"{impression}\" width=\"1\" height=\"1\" alt=\"\">\n"
        ));
        if let Some(click) = click {
            let prefix = self.network.click;
            self.add(&format!("# {name}: click\n{prefix}{click}\n"));
        }
        if self.network.has_notices {
            for (notice, event) in [
                ("nurl", "&ev=win"),
                ("burl", "&ev=billable"),
                ("lurl", "&ev=loss&loss=${AUCTION_LOSS}"),
            ] {
                let url = self.url(&format!("{}{event}", self.consent));
                self.add(&format!("# {name}: {notice}\n{url}\n"));
            }
        }
        self.write_vast(click);
    }

    fn write_vast(&mut self, click: Option<&str>) {
        let event = |tags: &Self, more: &str| {
            format!("<![CDATA[{}]]>", tags.url(&format!("{VAST_CONSENT}{more}")))
        };
        self.add(&format!("# {}: VAST 4", self.network.name));
        self.add(&format!("<Impression>{}</Impression>", event(self, "")));
        let error = event(self, "&ev=error&err=[ERRORCODE]");
        self.add(&format!("<Error>{error}</Error>"));
        self.add("<TrackingEvents>");
        for name in VAST_EVENTS {
            let url = event(self, &format!("&ev={name}"));
            self.add(&format!("  <Tracking event=\"{name}\">{url}</Tracking>"));
        }
        self.add("</TrackingEvents>\n<VideoClicks>");
        let clicks = match click {
            Some(click) => format!("  <ClickThrough><![CDATA[{click}]]></ClickThrough>"),
            None => format!(
                "  <ClickTracking>{}</ClickTracking>",
                event(self, "&ev=click")
            ),
        };
        self.add(&clicks);
        self.add("</VideoClicks>\n");
    }
}

fn is_size(text: &str) -> bool {
    text.split_once('x').is_some_and(|(width, height)| {
        [width, height]
            .iter()
            .all(|side| side.parse::<u16>().is_ok())
    })
}

/// Returns the consent macros of IAB Europe and IAB Tech Lab, which each network knows, for a
/// vendor. Without a vendor's ID no consent string would permit anything.
fn consent_macros(gvl_id: Option<u16>) -> String {
    gvl_id.map_or_else(String::new, |id| {
        format!(
            "&gdpr=${{GDPR}}&gdpr_consent=${{GDPR_CONSENT_{id}}}&gpp=${{GPP_STRING_{id}}}&gpp_sid=${{GPP_SID}}"
        )
    })
}
