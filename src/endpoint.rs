//! The endpoints: one table of what clients can ask for.
//!
//! Routes, `Allow`, metric labels, the section `[path]` of the configuration and docs/endpoints.md
//! are all read from it. [`crate::protocol::read`] and [`crate::protocol::read_body`] say what kind
//! of hit an endpoint records; CONTRIBUTING.md lists the rest.

mod protocol;

use std::time::Duration;

pub use protocol::{Ending, Protocol, ProtocolSpec};

/// The longest request target that is accepted, in bytes.
pub const URI_BYTES_MAX: usize = 8 * 1024;
/// The largest header of a request, in bytes, its first line included.
pub(crate) const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The largest body of events, in bytes, packed and unpacked.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The longest request target that trackers of other makers may send, in bytes.
pub const TRACKER_URI_BYTES_MAX: usize = 20 * 1024;
/// Their largest header, in bytes. Every header is read up to this, because its path says whose it
/// is.
pub const TRACKER_HEADER_BYTES_MAX: usize = 28 * 1024;
/// Their largest body, in bytes, packed and unpacked.
pub const TRACKER_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The most events in one body.
pub const EVENTS_MAX: usize = 1000;
/// The largest choice posted to `/consent`, in bytes: six flags take 100.
const CHOICE_BYTES_MAX: usize = 4 * 1024;
/// The largest form of the privacy page, in bytes: six flags and a token take 120.
const FORM_BYTES_MAX: usize = 1024;
/// The largest question for segments, in bytes: a user, a signature and consent strings.
const QUESTION_BYTES_MAX: usize = 16 * 1024;
/// How long a body may take to arrive.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// What the table says about one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct EndpointSpec {
    /// The endpoint that this row describes.
    pub endpoint: Endpoint,
    /// The word in metric labels and in the live view.
    pub name: &'static str,
    /// Where it answers.
    pub path: Path,
    /// The methods that it accepts, in the form that `Allow` has.
    pub methods: &'static str,
    /// The form of its replies to hits and to refused requests.
    pub shape: Shape,
    /// The largest body of a POST, in bytes. No other method may have a body.
    pub body_bytes_max: usize,
    /// Whether a GET is one hit in the query string and nothing else, so that it can be answered
    /// without hyper.
    pub is_plain: bool,
    /// The pages that may read its replies.
    pub readers: Readers,
    /// Whether its hits measure an ad and not the page (purpose 7 of TCF).
    pub is_about_ad: bool,
    /// Whether a server sends the request: its address and cookies do not belong to a visitor.
    pub is_from_server: bool,
    /// The protocol that it speaks.
    pub protocol: Protocol,
    /// The parameter with the address that it redirects to, if it does.
    pub target: Option<&'static str>,
}

/// Where an endpoint answers.
#[derive(Clone, Copy, Debug)]
pub enum Path {
    /// At the path that the configuration gives.
    At(PathKey),
    /// At each of the paths that the configuration gives, which may be none.
    AnyOf(PathsKey),
    /// At a partner's key below the path that the configuration gives.
    AbovePartner(PathKey),
    /// At a system's key below the path that the configuration gives.
    AboveSystem(PathKey),
    /// At one of these segments below the path that the configuration gives; an empty path switches
    /// the endpoint off.
    BelowKey(PathKey, &'static [&'static str]),
    /// At one of these segments below the path of another endpoint.
    Below(Endpoint, &'static [&'static str]),
    /// At each of these where the path of another endpoint has its last segment; nowhere if that is
    /// switched off.
    Beside(Endpoint, &'static [&'static str]),
    /// At any segment between these two, below the path of another endpoint.
    Around(Endpoint, [&'static str; 2]),
    /// At this path, and only while the embedded Postgres runs.
    Demo(&'static str),
    /// At this path, unless the configuration gives it to another endpoint.
    Fixed(&'static str),
    /// At every path that belongs to no other endpoint.
    Elsewhere,
}

/// A key of the section `[path]`.
#[derive(Clone, Copy, Debug)]
pub struct PathKey {
    /// The name of the key.
    pub name: &'static str,
    /// The path without a configuration.
    pub default: &'static str,
    /// What the example configuration says about it.
    pub meaning: &'static str,
}

/// A key of the section `[path]` that has a list of paths; an empty one switches the endpoint off.
#[derive(Clone, Copy, Debug)]
pub struct PathsKey {
    /// The name of the key.
    pub name: &'static str,
    /// The paths without a configuration.
    pub default: &'static [&'static str],
    /// What the example configuration says about it.
    pub meaning: &'static str,
}

/// The form of a reply to a hit or to a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A transparent GIF, with status 200 for a hit.
    Gif,
    /// No body and status 204 for a hit; the reason as text for a refused request.
    Empty,
    /// An HTML page for people, where the reply is not a redirect.
    Page,
}

/// The pages that may read an endpoint's replies from another origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Pages of any configured site.
    AnySite,
    /// Pages of the site that the request is about: a visitor's choice concerns that site alone.
    SiteOfRequest,
    /// No page: what is held about a visitor is shown to that visitor only.
    Nobody,
}

/// What most rows have.
const USUAL: EndpointSpec = EndpointSpec {
    endpoint: Endpoint::Unknown,
    name: "",
    path: Path::Elsewhere,
    methods: "GET, HEAD, OPTIONS",
    shape: Shape::Empty,
    body_bytes_max: 0,
    is_plain: false,
    readers: Readers::AnySite,
    is_about_ad: false,
    is_from_server: false,
    protocol: Protocol::Native,
    target: None,
};

/// Makes [`PathKey`]s short to write.
const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> PathKey {
    PathKey {
        name,
        default,
        meaning,
    }
}

/// Defines [`Endpoint`] and the table from one list of rows.
macro_rules! endpoints {
    ($($(#[doc = $meaning:literal])+ $endpoint:ident { $($column:tt)* })+) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Endpoint {
            $($(#[doc = $meaning])+ $endpoint,)+
        }

        impl Endpoint {
            /// Every endpoint, in the order of the enum.
            pub const ALL: [Endpoint; [$(Endpoint::$endpoint),+].len()] = [$(Endpoint::$endpoint),+];

            /// Returns the endpoint's row of the table.
            #[must_use]
            pub const fn spec(self) -> &'static EndpointSpec {
                match self {
                    $(Endpoint::$endpoint => const {
                        &EndpointSpec { endpoint: Endpoint::$endpoint, $($column)*, ..USUAL }
                    },)+
                }
            }

            /// Returns what the endpoint is for, as docs/endpoints.md says it.
            #[cfg(test)]
            pub(crate) fn meaning(self) -> &'static str {
                match self {
                    $(Endpoint::$endpoint => concat!($($meaning),+).trim_ascii(),)+
                }
            }
        }

        /// The table: a row for each endpoint, in the order of the enum.
        pub(crate) const ENDPOINTS: [&EndpointSpec; Endpoint::ALL.len()] = [$(Endpoint::$endpoint.spec()),+];
    };
}

endpoints! {
    /// Records a page view, or an event of a page, from the query string.
    Pixel {
        name: "pixel",
        path: Path::At(key("pixel", "/p.gif", "Page views and events from a page.")),
        shape: Shape::Gif,
        is_plain: true
    }
    /// Records page views and events from JSON.
    Event {
        name: "event",
        path: Path::At(key("event", "/e", "The same as JSON.")),
        methods: "POST, OPTIONS",
        body_bytes_max: BODY_BYTES_MAX
    }
    /// Sets the visitor cookie and records nothing.
    Id {
        name: "id",
        path: Path::At(key("id", "/id", "Sets the visitor cookie."))
    }
    /// Records that an ad was shown, or what else it did.
    Impression {
        name: "impression",
        path: Path::At(key("impression", "/i.gif", "Ad impressions.")),
        shape: Shape::Gif,
        is_plain: true,
        is_about_ad: true
    }
    /// Records the click on an ad and redirects to its target.
    Click {
        name: "click",
        path: Path::At(key("click", "/c", "Ad clicks.")),
        shape: Shape::Page,
        is_about_ad: true,
        target: Some("to")
    }
    /// Records what a partner's server reports.
    Callback {
        name: "callback",
        path: Path::AbovePartner(key(
            "callback",
            "/cb",
            "Callbacks of partners' servers. The partner's key follows it in the URL."
        )),
        methods: "GET, POST",
        body_bytes_max: BODY_BYTES_MAX,
        is_about_ad: true,
        is_from_server: true
    }
    /// Records what one of the operator's own systems reports.
    System {
        name: "system",
        path: Path::AboveSystem(key(
            "system",
            "/s",
            "Events of your own systems. The system's key follows it in the URL."
        )),
        methods: "POST",
        body_bytes_max: BODY_BYTES_MAX,
        readers: Readers::Nobody,
        is_from_server: true
    }
    /// Exchanges IDs with a partner.
    Sync {
        name: "sync",
        path: Path::AbovePartner(key(
            "sync",
            "/sync",
            "Exchange of IDs. The partner's key follows it in the URL."
        )),
        shape: Shape::Gif
    }
    /// Exchanges IDs with a partner, in Prebid's form.
    SetUid {
        name: "setuid",
        path: Path::At(key("setuid", "/setuid", "The same, as Prebid asks for it.")),
        shape: Shape::Gif
    }
    /// Records the events of Snowplow's trackers.
    Snowplow {
        name: "snowplow",
        path: Path::AnyOf(PathsKey {
            name: "snowplow",
            default: &[
                "/i",
                "/ice.png",
                "/com.snowplowanalytics.snowplow/tp2",
                "/com.snowplowanalytics.iglu/v1",
            ],
            meaning: "Snowplow's trackers, a postPath of theirs too, and Iglu's webhook.",
        }),
        methods: "GET, HEAD, POST, OPTIONS",
        shape: Shape::Gif,
        body_bytes_max: TRACKER_BODY_BYTES_MAX,
        protocol: Protocol::Snowplow
    }
    /// Records that a link was followed, as Snowplow's collector does, and redirects to its target.
    SnowplowRedirect {
        name: "snowplow_redirect",
        path: Path::AnyOf(PathsKey {
            name: "snowplow_redirect",
            default: &["/r/tp2"],
            meaning: "Links through Snowplow's collector: u has the target.",
        }),
        shape: Shape::Page,
        protocol: Protocol::Snowplow,
        target: Some("u")
    }
    /// Records the calls of the SDKs of Segment and RudderStack.
    Segment {
        name: "segment",
        path: Path::BelowKey(
            key("segment", "/v1", "SDKs of Segment and RudderStack, at paths below it."),
            &[
                "batch", "b", "import", "track", "t", "page", "p", "screen", "s", "identify", "i",
                "group", "g", "alias", "a", "merge", "m",
            ]
        ),
        methods: "POST, OPTIONS",
        body_bytes_max: TRACKER_BODY_BYTES_MAX,
        protocol: Protocol::Segment
    }
    /// Records the calls that RudderStack's SDK sends while a page is left.
    SegmentBeacon {
        name: "segment_beacon",
        path: Path::Beside(Endpoint::Segment, &["beacon/v1/batch"]),
        methods: "POST, OPTIONS",
        body_bytes_max: TRACKER_BODY_BYTES_MAX,
        protocol: Protocol::Segment
    }
    /// Records a call from the query string of a picture.
    SegmentPixel {
        name: "segment_pixel",
        path: Path::Beside(Endpoint::Segment, &["pixel/v1/track", "pixel/v1/page"]),
        shape: Shape::Gif,
        protocol: Protocol::Segment
    }
    /// Tells Segment's SDKs where to send their calls.
    SegmentSettings {
        name: "segment_settings",
        path: Path::Around(Endpoint::Segment, ["projects", "settings"]),
        protocol: Protocol::Segment
    }
    /// Tells RudderStack's SDK that its source takes calls.
    RudderstackConfig {
        name: "rudderstack_config",
        path: Path::Beside(Endpoint::Segment, &["sourceConfig/"]),
        protocol: Protocol::Segment
    }
    /// Records the requests of Matomo's trackers.
    Matomo {
        name: "matomo",
        path: Path::AnyOf(PathsKey {
            name: "matomo",
            default: &["/matomo.php", "/piwik.php"],
            meaning: "Matomo's trackers.",
        }),
        methods: "GET, HEAD, POST, OPTIONS",
        shape: Shape::Gif,
        body_bytes_max: TRACKER_BODY_BYTES_MAX,
        protocol: Protocol::Matomo
    }
    /// Records the events of Plausible's script.
    Plausible {
        name: "plausible",
        path: Path::AnyOf(PathsKey {
            name: "plausible",
            default: &["/api/event"],
            meaning: "Plausible's script.",
        }),
        methods: "POST, OPTIONS",
        body_bytes_max: TRACKER_BODY_BYTES_MAX,
        protocol: Protocol::Plausible
    }
    /// Records what an image in the form of Meta's pixel tells.
    Meta {
        name: "meta",
        path: Path::AnyOf(PathsKey {
            name: "meta",
            default: &["/tr"],
            meaning: "Images in the form of Meta's pixel.",
        }),
        shape: Shape::Gif
    }
    /// Tells, keeps and withdraws the visitor's choice on a site.
    Consent {
        name: "consent",
        path: Path::At(key("consent", "/consent", "The visitor's choice.")),
        methods: "GET, HEAD, POST, DELETE, OPTIONS",
        body_bytes_max: CHOICE_BYTES_MAX,
        readers: Readers::SiteOfRequest
    }
    /// Tells a page in which segments its visitor is.
    Segments {
        name: "segments",
        path: Path::At(key("segments", "/segments", "The visitor's segments, for pages of the site.")),
        methods: "GET, HEAD, POST, OPTIONS",
        body_bytes_max: QUESTION_BYTES_MAX,
        readers: Readers::SiteOfRequest
    }
    /// Gives a page of the site a token for a link to another site.
    Link {
        name: "link",
        path: Path::At(key("link", "/link", "Tokens for links to other sites.")),
        readers: Readers::SiteOfRequest
    }
    /// Shows visitors what is held about them.
    Privacy {
        name: "privacy",
        path: Path::At(key("privacy", "/privacy", "The visitor's own page.")),
        readers: Readers::Nobody
    }
    /// Takes a form of the privacy page.
    PrivacyForm {
        name: "privacy_form",
        path: Path::Below(Endpoint::Privacy, &["choice", "file", "erasure", "device", "home", "group", "source"]),
        methods: "POST, OPTIONS",
        body_bytes_max: FORM_BYTES_MAX,
        readers: Readers::Nobody
    }
    /// Serves the tag.
    Tag {
        name: "tag",
        path: Path::At(key("tag", "/tag.js", "The tag."))
    }
    /// Tells load balancers that the collector answers.
    Health {
        name: "health",
        path: Path::AnyOf(PathsKey {
            name: "health",
            default: &["/health", "/sink-health"],
            meaning: "Where load balancers of the collectors of other makers ask whether it answers.",
        })
    }
    /// Tells crawlers to stay away.
    Robots {
        name: "robots",
        path: Path::AnyOf(PathsKey {
            name: "robots",
            default: &["/robots.txt"],
            meaning: "Tells crawlers to stay away.",
        })
    }
    /// Serves a page to try the tag on.
    Demo {
        name: "demo",
        path: Path::Demo("/demo")
    }
    /// Tells people who open the collector's address what it is.
    Root {
        name: "root",
        path: Path::Fixed("/"),
        readers: Readers::Nobody
    }
    /// Says that Global Privacy Control is honoured.
    Gpc {
        name: "gpc",
        path: Path::Fixed("/.well-known/gpc.json")
    }
    /// Serves the icon that browsers show beside a page's title.
    Icon {
        name: "icon",
        path: Path::Fixed("/favicon.ico")
    }
    /// Refuses every other request.
    Unknown {
        name: "unknown"
    }
}

impl Endpoint {
    /// Returns the word in metric labels and in the live view.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.spec().name
    }
}

impl EndpointSpec {
    /// Returns whether the endpoint accepts a method.
    #[must_use]
    pub fn accepts(&self, method: &str) -> bool {
        self.methods.split(", ").any(|known| known == method)
    }

    /// Returns the longest request target that it accepts, in bytes.
    #[must_use]
    pub(crate) fn uri_bytes_max(&self) -> usize {
        match self.protocol {
            Protocol::Native => URI_BYTES_MAX,
            _ => TRACKER_URI_BYTES_MAX,
        }
    }

    /// Returns the largest header that it accepts, in bytes.
    #[must_use]
    pub(crate) fn header_bytes_max(&self) -> usize {
        match self.protocol {
            Protocol::Native => HEADER_BYTES_MAX,
            _ => TRACKER_HEADER_BYTES_MAX,
        }
    }

    /// Returns the name of the key of `[path]` that says where the endpoint answers, if one does.
    #[must_use]
    pub(crate) fn path_key(&self) -> Option<&'static str> {
        match self.path {
            Path::At(key)
            | Path::AbovePartner(key)
            | Path::AboveSystem(key)
            | Path::BelowKey(key, _) => Some(key.name),
            Path::AnyOf(key) => Some(key.name),
            Path::Below(..)
            | Path::Beside(..)
            | Path::Around(..)
            | Path::Demo(_)
            | Path::Fixed(_)
            | Path::Elsewhere => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_are_given_once() {
        let names = ENDPOINTS.map(|spec| spec.name);
        let keys = ENDPOINTS.map(EndpointSpec::path_key);
        for (at, spec) in ENDPOINTS.iter().enumerate() {
            assert_eq!(spec.endpoint, Endpoint::ALL[at]);
            assert_eq!(names.iter().position(|name| *name == spec.name), Some(at));
            let key = keys[at];
            assert!(key.is_none() || keys.iter().position(|other| *other == key) == Some(at));
        }
    }

    #[test]
    fn only_an_endpoint_that_takes_a_post_has_room_for_a_body() {
        for spec in ENDPOINTS {
            let takes_post = spec.accepts("POST");
            assert_eq!(takes_post, spec.body_bytes_max > 0, "{}", spec.name);
            assert!(!spec.accepts("") && !spec.accepts("GET,"), "{}", spec.name);
        }
    }

    #[test]
    fn a_plain_endpoint_takes_a_get() {
        for spec in ENDPOINTS.iter().filter(|spec| spec.is_plain) {
            let takes_get = spec.accepts("GET") && spec.body_bytes_max == 0;
            assert!(takes_get, "{}", spec.name);
        }
    }
}
