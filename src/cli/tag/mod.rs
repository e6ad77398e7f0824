//! `avtryck tag`: what goes into an ad network's forms, with the network's own macros; and what
//! makes a tracker of another maker send here.

pub(crate) mod form;
mod networks;
mod sheet;
mod trackers;

use std::path::PathBuf;
use std::process::ExitCode;

use super::ad::{AdOptions, Query, check_origin, check_site, find_partner, sign, warn_of_host};
use super::{UsageError, complain, print};
use crate::callback::names::Mapping;
use crate::config::{Config, Partner};
use crate::endpoint::Endpoint;
use crate::keys::ClickKeyring;
use crate::serve::keyrings;
use networks::{AdNetwork, Takes};
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
    /// A file in CSV with an ad a row, which its columns campaign, creative, placement, publisher,
    /// size, click and site name; - reads the standard input. What a row leaves empty is as above.
    /// Prints CSV with the tags of each.
    #[arg(long, value_name = "FILE", conflicts_with = "protocol")]
    csv: Option<PathBuf>,
}

/// The tags of one ad at one network.
struct AdTags {
    network: &'static str,
    /// The pixel's URL, where the network shows pixels.
    impression: Option<String>,
    /// Where a click goes, with what the network puts before it.
    click: Option<String>,
    /// What an auction calls, by its name.
    notices: Vec<(&'static str, String)>,
    /// The part of a VAST document, where the network takes one.
    vast: Option<String>,
}

/// What all tags of one network have in common while they are made.
struct TagMaker<'t> {
    tag: &'t Tag,
    network: &'t AdNetwork,
    /// The pixel's URL up to the query string.
    pixel: String,
    /// The parameters that are the same in every tag.
    fixed: Query,
    /// The consent macros of the network.
    consent: String,
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
        let tags = match &self.csv {
            Some(file) => sheet::fill(file, |row| row.tag(self)?.make(config, partner, &keyring))?,
            None => write_text(&self.make(config, partner, &keyring)?),
        };
        for warning in self.warnings(config, partner) {
            complain(&format!("warning: {warning}"));
        }
        print(&tags);
        Ok(ExitCode::SUCCESS)
    }

    /// Returns what is doubtful about the tags of a partner.
    fn warnings(&self, config: &Config, partner: &Partner) -> Vec<String> {
        let names_site = self.ad.site.is_some() || !partner.site.is_empty();
        let host = (!names_site).then(|| warn_of_host(config, &self.at));
        let host = host.flatten();
        let host = host.map(|said| said.trim_start_matches("warning: ").to_owned());
        let vendor = partner.gvl_id.is_none().then(|| {
            format!(
                "partner {} has no gvl_id, so no consent string permits its hits anything; they go by its default_permit ({})",
                partner.key, partner.default_permit
            )
        });
        host.into_iter().chain(vendor).collect()
    }

    /// Makes the tags of the ad at each network of the partner's mapping.
    fn make(
        &self,
        config: &Config,
        partner: &Partner,
        keyring: &ClickKeyring,
    ) -> Result<Vec<AdTags>, UsageError> {
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
        let make = |network: &AdNetwork| {
            let maker = TagMaker {
                tag: self,
                network,
                pixel: format!("{at}{}", config.path.of(Endpoint::Impression)),
                fixed: self.fixed(partner)?,
                consent: match network.has_consent {
                    true => consent_macros(partner.gvl_id),
                    false => String::new(),
                },
            };
            let click = maker.click_url(at, config, keyring)?;
            Ok(maker.make(click))
        };
        networks::of(mapping).iter().map(make).collect()
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

impl TagMaker<'_> {
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

    fn make(&self, click: Option<String>) -> AdTags {
        let network = self.network;
        let notice = |(name, event): (&'static str, &str)| {
            (name, self.url(&format!("{}{event}", self.consent)))
        };
        let notices = [
            ("nurl", "&ev=win"),
            ("burl", "&ev=billable"),
            ("lurl", "&ev=loss&loss=${AUCTION_LOSS}"),
        ];
        let takes = network.takes;
        AdTags {
            network: network.name,
            impression: (takes != Takes::Nothing).then(|| self.url(&self.consent)),
            notices: match network.has_notices {
                true => notices.map(notice).into(),
                false => Vec::new(),
            },
            vast: (takes == Takes::PixelAndVast).then(|| self.write_vast(click.as_deref())),
            click: click.map(|click| format!("{}{click}", network.click)),
        }
    }

    fn write_vast(&self, click: Option<&str>) -> String {
        let event =
            |more: &str| format!("<![CDATA[{}]]>", self.url(&format!("{VAST_CONSENT}{more}")));
        let mut lines = vec![
            format!("<Impression>{}</Impression>", event("")),
            format!("<Error>{}</Error>", event("&ev=error&err=[ERRORCODE]")),
            "<TrackingEvents>".to_owned(),
        ];
        lines.extend(VAST_EVENTS.map(|name| {
            let url = event(&format!("&ev={name}"));
            format!("  <Tracking event=\"{name}\">{url}</Tracking>")
        }));
        lines.push("</TrackingEvents>\n<VideoClicks>".to_owned());
        lines.push(match click {
            Some(click) => format!("  <ClickThrough><![CDATA[{click}]]></ClickThrough>"),
            None => format!("  <ClickTracking>{}</ClickTracking>", event("&ev=click")),
        });
        lines.push("</VideoClicks>".to_owned());
        lines.join("\n")
    }
}

/// Writes tags for people, with a line above each that says what it is.
fn write_text(all: &[AdTags]) -> String {
    let mut text = String::new();
    for tags in all {
        for (what, tag) in tags.parts() {
            text.push_str(&format!("# {}: {what}\n{tag}\n\n", tags.network));
        }
    }
    text
}

impl AdTags {
    /// Returns each part that there is, with what it is.
    fn parts(&self) -> Vec<(&'static str, String)> {
        let pixel = |url: &String| format!("<img src=\"{url}\" width=\"1\" height=\"1\" alt=\"\">");
        let mut parts = Vec::new();
        parts.extend(
            self.impression
                .as_ref()
                .map(|url| ("impression", pixel(url))),
        );
        parts.extend(self.click.clone().map(|click| ("click", click)));
        parts.extend(self.notices.iter().cloned());
        parts.extend(self.vast.clone().map(|vast| ("VAST 4", vast)));
        parts
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
