//! What makes a tracker of another maker send to the collector: the lines that change, for each
//! way in which the tracker is installed.

use std::fmt::Write as _;

use super::UsageError;
use crate::config::{Config, Site};
use crate::endpoint::Endpoint;

/// Whose tracker it is.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Tracker {
    /// Snowplow's trackers.
    Snowplow,
    /// The SDKs of Segment and RudderStack.
    Segment,
    /// Matomo's trackers.
    Matomo,
    /// Plausible's script.
    Plausible,
}

impl Tracker {
    fn endpoint(self) -> Endpoint {
        match self {
            Tracker::Snowplow => Endpoint::Snowplow,
            Tracker::Segment => Endpoint::Segment,
            Tracker::Matomo => Endpoint::Matomo,
            Tracker::Plausible => Endpoint::Plausible,
        }
    }

    /// Returns the ways in which it is installed, each with the lines that change. `{at}` stands
    /// for the collector's origin, `{path}` for the path, `{site}` for what the tracker calls the
    /// site, and `{options}` for what else it has to be told.
    fn lines(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Tracker::Snowplow => &[
                (
                    "in the page",
                    "snowplow('newTracker', 'sp', '{at}', { appId: '{site}'{options} });",
                ),
                (
                    "@snowplow/browser-tracker",
                    "newTracker('sp', '{at}', { appId: '{site}'{options} });",
                ),
                (
                    "@snowplow/node-tracker",
                    "newTracker({ namespace: 'sp', appId: '{site}' }, { endpoint: '{at}' });",
                ),
                (
                    "snowplow-tracker (Python)",
                    "Tracker('sp', [Emitter('{at}')], app_id='{site}')",
                ),
            ],
            Tracker::Segment => &[
                (
                    "@segment/analytics-next",
                    "AnalyticsBrowser.load({ writeKey: '{site}', cdnURL: '{at}' });",
                ),
                (
                    "@segment/analytics-node",
                    "new Analytics({ writeKey: '{site}', host: '{at}', path: '{path}/batch' });",
                ),
                (
                    "segment-analytics-python",
                    "analytics.write_key, analytics.host = '{site}', '{at}'",
                ),
                (
                    "@rudderstack/analytics-js",
                    "rudderAnalytics.load('{site}', '{at}', { configUrl: '{at}' });",
                ),
                (
                    "@rudderstack/rudder-sdk-node",
                    "new Analytics('{site}', { dataPlaneUrl: '{at}' });",
                ),
            ],
            Tracker::Matomo => &[
                (
                    "in the page, in place of the old collector",
                    "_paq.push(['setTrackerUrl', '{at}{path}']);\n_paq.push(['setSiteId', '{site}']);",
                ),
                (
                    "in the page, beside the old collector",
                    "_paq.push(['addTracker', '{at}{path}', '{site}']);",
                ),
                (
                    "without scripts",
                    "<img src=\"{at}{path}?idsite={site}&amp;rec=1\" style=\"border:0\" alt=\"\">",
                ),
                (
                    "matomo-tracker (Node.js)",
                    "new MatomoTracker('{site}', '{at}{path}', true);",
                ),
            ],
            Tracker::Plausible => &[
                (
                    "in the page",
                    "<script defer data-domain=\"{site}\" data-api=\"{at}{path}\" src=\"https://plausible.io/js/script.js\"></script>",
                ),
                (
                    "@plausible-analytics/tracker",
                    "init({ domain: '{site}', endpoint: '{at}{path}' });",
                ),
            ],
        }
    }
}

/// Returns the lines that make a tracker send to the collector at `at`, as hits of a site. Without
/// a site's key there must be one site only.
pub(super) fn write_lines(
    tracker: Tracker,
    at: &str,
    site: Option<&str>,
    config: &Config,
) -> Result<String, UsageError> {
    let path = path_of(tracker, config)?;
    let site = find_site(site, config)?;
    let alias = site.aliases.first().unwrap_or(&site.key);
    let mut text = String::new();
    if site.default_permit.bits() == 0 {
        text.push_str(
            "# default_permit is empty: without a visitor's choice or a consent string, hits are \
             only counted.\n\n",
        );
    }
    for (way, lines) in tracker.lines() {
        let lines = lines
            .replace("{options}", &options(tracker, path))
            .replace("{at}", at)
            .replace("{path}", path)
            .replace("{site}", alias);
        let _written = writeln!(text, "# {way}\n{lines}\n");
    }
    Ok(text)
}

/// Returns where the tracker posts to.
fn path_of(tracker: Tracker, config: &Config) -> Result<&str, UsageError> {
    let endpoint = tracker.endpoint();
    let paths = config.path.all_of(endpoint);
    // Snowplow's trackers post to a path of two segments.
    let posts = |path: &&String| path.trim_start_matches('/').contains('/');
    let path = match tracker {
        Tracker::Snowplow => paths.iter().find(posts),
        _ => paths.first(),
    };
    path.map(String::as_str).ok_or_else(|| {
        let name = endpoint.name();
        UsageError(format!(
            "path.{name}: no path is given, so nothing could be sent"
        ))
    })
}

/// Returns what Snowplow's trackers have to be told of a path of their own.
fn options(tracker: Tracker, path: &str) -> String {
    const USUAL: &str = "/com.snowplowanalytics.snowplow/tp2";
    match tracker {
        Tracker::Snowplow if path != USUAL => format!(", postPath: '{path}'"),
        _ => String::new(),
    }
}

fn find_site<'c>(key: Option<&str>, config: &'c Config) -> Result<&'c Site, UsageError> {
    match (key, config.sites.as_slice()) {
        (None, [site]) => Ok(site),
        (None, _) => Err(UsageError(
            "--site: it says which site's name the tracker sends".to_owned(),
        )),
        (Some(key), sites) => sites
            .iter()
            .find(|site| site.key == key)
            .ok_or_else(|| UsageError(format!("--site {key}: is not in the configuration"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn lines(tracker: Tracker, config: &str) -> Result<String, String> {
        let config = Config::parse(config, []).unwrap();
        let written = write_lines(tracker, "https://px.example", Some("shop"), &config);
        written.map_err(|UsageError(text)| text)
    }

    #[test]
    fn each_tracker_is_told_the_collector_and_its_own_name_of_the_site() {
        let config =
            "[[site]]\nkey = \"shop\"\naliases = [\"7\"]\ndefault_permit = [\"measure\"]\n";
        for (tracker, expected) in [
            (
                Tracker::Snowplow,
                "snowplow('newTracker', 'sp', 'https://px.example', { appId: '7' });",
            ),
            (
                Tracker::Segment,
                "new Analytics({ writeKey: '7', host: 'https://px.example', path: '/v1/batch' });",
            ),
            (
                Tracker::Matomo,
                "_paq.push(['addTracker', 'https://px.example/matomo.php', '7']);",
            ),
            (
                Tracker::Plausible,
                "init({ domain: '7', endpoint: 'https://px.example/api/event' });",
            ),
        ] {
            let text = lines(tracker, config).unwrap();
            assert!(text.lines().any(|line| line == expected), "{text}");
            for mark in ["{at}", "{path}", "{site}", "{options}"] {
                assert!(!text.contains(mark), "{text}");
            }
            assert!(!text.contains("default_permit"), "{text}");
        }
    }

    #[test]
    fn paths_of_the_configuration_are_told_and_what_makes_counts_only() {
        let site = "[[site]]\nkey = \"shop\"\n";
        let own = format!("[path]\nsnowplow = [\"/i\", \"/shop/t\"]\n{site}");
        let text = lines(Tracker::Snowplow, &own).unwrap();
        assert!(
            text.contains("{ appId: 'shop', postPath: '/shop/t' }"),
            "{text}"
        );
        assert!(text.starts_with("# default_permit is empty"), "{text}");
        let none = format!("[path]\nmatomo = []\n{site}");
        let told = lines(Tracker::Matomo, &none).unwrap_err();
        assert_eq!(
            told,
            "path.matomo: no path is given, so nothing could be sent"
        );
    }
}
