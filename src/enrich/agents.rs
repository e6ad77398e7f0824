//! Our own list of user agents, on top of the fetched one: who sends what, as reviewed by hand.
//!
//! | list | what it is for |
//! | --- | --- |
//! | [`MAIL_PROXIES`] | services that fetch a mail's pictures for a reader: how readers appear |
//! | [`MACHINES`] | libraries and monitors that the fetched list misses |
//! | [`APPS`] | words of apps that people use and that the fetched list takes for crawlers |
//!
//! `tests/agents.tsv` holds real agents of each kind; a test checks every one. A mail proxy is
//! looked for first, then our machines. Last, the fetched list sees what is left of an agent
//! without the words of apps: a crawler that names itself beside such a word is still found.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use regex::bytes::{RegexSet, RegexSetBuilder};

/// Who sends a user agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgentKind {
    /// Somebody's browser or app, as far as is known.
    Person,
    /// A service that fetches the pictures of mail for its readers.
    MailProxy,
    /// A program that nobody watches.
    Machine,
}

/// Services that fetch the pictures of mail. The agent says nothing of the reader's device.
const MAIL_PROXIES: [&str; 5] = [
    // Gmail; "via ggpht.com" alone in old ones.
    r"\bGoogleImageProxy\b|\(via ggpht\.com\b",
    r"\bYahooMailProxy\b",
    // Mail Privacy Protection of Apple's Mail sends nothing else.
    r"^Mozilla/5\.0$",
    r"^FastmailUA/",
    r"^Shortwave Image Fetcher",
];

/// Machines that the fetched list misses. A library's own agent begins with its name; a word in the
/// middle of an agent must be one that no browser and no device has.
const MACHINES: [&str; 11] = [
    // JavaScript outside of browsers.
    r"^(?i:node(\.js)?|node-superagent|superagent|undici|deno|bun|phin|needle|ky|wretch|jsdom)([/ ;(]|$)",
    // PHP, Symfony, Perl and Ruby.
    r"^(?i:guzzlehttp|guzzle|php|symfony httpclient|symfony|buzz|zend_http_client|laminas_http_client|cakephp|pecl::http|mojolicious|lwp::simple|ruby|faraday|http\.rb|rest-client|httpclient|httparty|typhoeus|excon|mechanize)([/ ;(]|$)",
    // Rust, Go, C and C++.
    r"^(?i:rust|reqwest(-\w+)?|hyper|hyper-util|ureq|isahc|attohttpc|awc|fasthttp|resty|go-resty|req|imroc-req|gentleman|cpr|libcurl|lua-resty-http|luasocket|libsoup|cpp-httplib|boost\.beast)([/ ;(]|$)",
    // Java and its relatives, but for okhttp, Ktor and Volley, which Android apps have too.
    r"^(?i:java|java-http-client|jakarta commons-httpclient|apache-httpasyncclient|apache-httpclient|apache-cxf|reactornetty|akka-http|pekko-http|armeria|vert\.x-webclient|unirest-java|http4s(-\w+)?|sttp|scalaj-http|play(-ahc)?-ws|clj-http|jersey|resteasy|feign)([/ ;(]|$)",
    // .NET, Python, Erlang, Elixir, R, Julia and tools with a window.
    r"^(?i:restsharp|flurl|dotnet|\.net|python|urllib3?|treq|pycurl|grequests|tornado|twisted|scrapy|hackney|elixir-mint|mint|erlang|ibrowse|httr2?|libcurl-agent|http\.jl|insomnia|postman(runtime)?|bruno-runtime|thunder client|hoppscotch|xh|aria2|axel|lwp-request|powershell)([/ ;(]|$)",
    r"\bWindowsPowerShell/|\bPowerShell/",
    // What asks whether a service is alive.
    r"^(?i:kube-probe|elb-healthchecker|googlehc|amazon-route53-health-check-service|consul health check|envoy/hc|haproxy|traefik|varnish|prometheus|alertmanager|blackbox[ _-]exporter|grafana|datadog|newrelicpinger|new relic|freshping|monit|nagios|icinga2?|sensu|uptime|uptimerobot|statuscake|pulsetic|gatus|statping|cabot|upptime|betterstack|better uptime|cronitor|healthchecks\.io|sentryuptimebot|ohdear|cachet|hetrixtools|zabbix|check_\w+|hyperping|onlineornot|azure traffic manager endpoint monitor|load balancer agent|alwayson|google-cloud-(scheduler|tasks)|nginx|caddy|heroku|jetmon|sitescope|telegraf|vector|cloudwatchsynthetics)([/ ;(.-]|$)",
    r"(?i)\bhealth[-_ ]?(check(er)?s?|probe)\b|\buptime[-_ ]?(probe|robot|bot|check|monitor)|\bsynthetics\b|-heartbeat/",
    r"\bDynatraceSynthetic\b|\bRuxitSynthetic|\bGomezAgent\b|\bKTXN/|\bCatchpoint\b|\bThousandEyes\b|\bCypress/|\bjsdom/|\bSpeedCurve/|\bWebPageTest\b|\bSentryUptimeBot\b|\bAppDynamics\b|\bsplunk-synthetics\b",
    // Load, scans and what an office program does on its own.
    r"^(?i:k6|apachebench|wrk2?|locust|hey|vegeta|siege|jmeter|apache jmeter|gatling|artillery|bombardier|oha|autocannon|nuclei|naabu|ffuf|gobuster|feroxbuster|wfuzz|httpx|microsoft office (existence|protocol) discovery|microsoft bits|microsoft-cryptoapi|microsoft-webdav-miniredir|microsoft\.data\.mashup|microsoft-wns|microsoft url control|winhttp|wininet|go http package|go [\d.]+ package http|feedfetcher-google)([/ ;(]|$)",
    // Gmail looks at pictures before anybody has opened the mail.
    r"\bEdge/12\.246 Mozilla/5\.0$",
];

/// Words of apps anywhere in an agent: okhttp carries most Android apps, and the build of Android
/// 15 is that of every phone of three makers.
const APPS: &str = r"(?i)\bokhttp(/[\w.-]+)?|\bBuild/AP3A\.240617\.008\b";

/// Words of apps that show pages, in the agent of a whole browser or of a phone's app. Alone each
/// of them is what looks at a link for its preview.
const APPS_WITH_BROWSER: &str = r"\bSonic( Slack_SSB\S*)?|\bMetaIAB \w+|\b(Viber|ViberDesktop|WhatsApp)\b(/\S+)?|\b(Notion|Code|Trae|Asana|Tumblr|upday|PayPal|Instapaper|Feedly|Goodreads|Fluid|Overcast|PocketCasts|Podimo|Bluesky|Grammarly|Mastodon|Nextcloud|NextCloud|Discourse|HubSpot|Splunk|Daum|DaumApps|Hotjar)/[\w.]+|\bSogou(MobileBrowser|MSE|Search)?\b(/[\w.,]+)?";

static OWN: LazyLock<OwnAgents> =
    LazyLock::new(|| OwnAgents::compile().expect("each list compiles: a test compiles them all"));

/// The lists, compiled.
struct OwnAgents {
    mail_proxies: RegexSet,
    machines: RegexSet,
    apps: Regex,
    apps_with_browser: Regex,
}

impl OwnAgents {
    fn compile() -> Result<OwnAgents, regex::Error> {
        Ok(OwnAgents {
            mail_proxies: in_ascii(&MAIL_PROXIES)?,
            machines: in_ascii(&MACHINES)?,
            apps: Regex::new(APPS)?,
            apps_with_browser: Regex::new(APPS_WITH_BROWSER)?,
        })
    }
}

/// Compiles patterns for texts in ASCII.
fn in_ascii(patterns: &[&str]) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns).unicode(false).build()
}

/// Returns who sends a user agent in ASCII. `is_crawler` asks the fetched list.
pub(super) fn sender_of(user_agent: &str, is_crawler: impl Fn(&str) -> bool) -> AgentKind {
    let agent = user_agent.trim();
    if OWN.mail_proxies.is_match(agent.as_bytes()) {
        AgentKind::MailProxy
    } else if (OWN.machines.is_match(agent.as_bytes()) && !is_app(agent))
        || is_crawler(&without_apps(agent))
    {
        AgentKind::Machine
    } else {
        AgentKind::Person
    }
}

/// Returns whether an agent is that of an app on a phone, whose name may be that of a library.
fn is_app(agent: &str) -> bool {
    let platforms = [
        "CFNetwork/",
        "Darwin/",
        "iPhone",
        "iPad",
        "iOS",
        "Android",
        "okhttp",
    ];
    platforms.iter().any(|platform| agent.contains(platform))
}

/// Returns an agent without the words of apps that people use.
fn without_apps(agent: &str) -> Cow<'_, str> {
    match without_apps_with_browser(agent) {
        Cow::Borrowed(agent) => OWN.apps.replace_all(agent, ""),
        Cow::Owned(agent) => Cow::Owned(OWN.apps.replace_all(&agent, "").into_owned()),
    }
}

/// Returns the agent of a browser or app without the word of the app that shows pages.
pub(super) fn without_apps_with_browser(agent: &str) -> Cow<'_, str> {
    if !shows_pages(agent) {
        return Cow::Borrowed(agent);
    }
    OWN.apps_with_browser.replace_all(agent, "")
}

/// Returns whether an agent is that of a whole browser or a phone's app, and does not say that it
/// is a robot: robots add `compatible` or where to read about them.
fn shows_pages(agent: &str) -> bool {
    let is_browser = agent.starts_with("Mozilla/5.0 (") && agent.contains("AppleWebKit/");
    (is_browser || is_app(agent)) && !agent.contains("compatible;") && !agent.contains("://")
}
