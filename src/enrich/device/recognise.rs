//! From user agent and client hints to a device.
//!
//! The user agent goes through the rules of the ua-parser project; their words are kept (`Mac OS
//! X`, `Mobile Safari`), but "Generic" and "Other" mean unknown and become empty. Where browsers
//! have frozen a part of the user agent, that part says nothing:
//!
//! | user agent | says | instead |
//! | --- | --- | --- |
//! | `Android 10; K` | Android, no version, no model | the hints, else unknown |
//! | `Mac OS X 10_15_7`, `10.15` | a Mac, no version | the hints, else unknown |
//! | `CrOS x86_64 14541.0.0` | Chrome OS, no version | the hints, else unknown |
//! | `Windows NT 10.0` | Windows 10 or later | 10 or 11 by the hints, else 10 as the rules say |
//! | `iPhone OS 18_6`, `18_7` with `Version/26` or later | no OS version | Safari's version |
//!
//! Safari's version is that of iOS. An iPad that asks for desktop pages is a Mac, to the last byte.
//!
//! The class comes from the hint Form-Factors, then from the hint Mobile, then from the user agent.
//! Mobile "no" does not tell a desktop from a television or a tablet: then the user agent decides,
//! and of what it takes for a phone, a tablet remains. A bot is a bot whatever else it claims; of
//! its device nothing is kept.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::{LazyLock, OnceLock};

use aho_corasick::AhoCorasick;
use ua_parser::{device, os, user_agent};

use super::{Device, DeviceClass, hints, rules};
use crate::enrich::Problem;
use crate::enrich::agents::{self, AgentKind};
use crate::hit::Hints;

/// The rules of the ua-parser project.
pub(in crate::enrich) struct DeviceRules {
    browsers: rules::RuleList<user_agent::Extractor<'static>>,
    systems: rules::RuleList<os::Extractor<'static>>,
    makes: rules::RuleList<device::Extractor<'static>>,
}

impl DeviceRules {
    /// Reads the rules: the content of uap-core's `regexes.yaml` as JSON.
    pub(in crate::enrich) fn open(path: &Path) -> Result<DeviceRules, Problem> {
        let file: rules::File = serde_json::from_slice(&fs::read(path)?)?;
        Ok(DeviceRules {
            browsers: rules::RuleList::new(file.user_agent_parsers)?,
            systems: rules::RuleList::new(file.os_parsers)?,
            makes: rules::RuleList::new(file.device_parsers)?,
        })
    }

    /// Checks that each rule compiles.
    pub(in crate::enrich) fn check(&self) -> Result<(), Problem> {
        self.browsers.check()?;
        self.systems.check()?;
        self.makes.check()
    }

    fn browser(&self, user_agent: &str) -> (String, String) {
        let found = self
            .browsers
            .first(user_agent, |rule, text| rule.extract(text));
        let user_agent::ValueRef {
            family,
            major,
            minor,
            ..
        } = found.unwrap_or_default();
        let version = hints::short_version([major, minor].into_iter().map_while(|part| part), 2);
        keep_known(&family).map_or_else(Default::default, |family| {
            (into_column(family), into_column(&version))
        })
    }

    fn os(&self, user_agent: &str) -> (String, String) {
        let found = self
            .systems
            .first(user_agent, |rule, text| rule.extract(text));
        let os::ValueRef {
            os,
            major,
            minor,
            patch,
            ..
        } = found.unwrap_or_default();
        let parts = [major.as_deref(), minor.as_deref(), patch.as_deref()];
        let version = hints::short_version(parts.into_iter().map_while(|part| part), 3);
        keep_known(&os).map_or_else(Default::default, |os| {
            (into_column(os), into_column(&version))
        })
    }

    fn make(&self, user_agent: &str) -> Make {
        let found = self
            .makes
            .first(user_agent, |rule, text| rule.extract(text));
        let found = found.unwrap_or_default();
        let brand = found.brand.as_deref().and_then(keep_known).unwrap_or("");
        let model = found.model.as_deref().and_then(keep_known).unwrap_or("");
        Make {
            is_spider: found.device == "Spider",
            brand: into_column(brand),
            model: into_column(model),
        }
    }
}

/// What the device rules say of the device itself.
#[derive(Clone, Default)]
struct Make {
    is_spider: bool,
    brand: String,
    model: String,
}

/// Returns a word of the rules, unless it means that they do not know.
fn keep_known(word: &str) -> Option<&str> {
    let unknown = word.is_empty()
        || word == "Other"
        || word.starts_with("Generic")
        || ["Smartphone", "Feature Phone", "Tablet", "iOS-Device", "K"].contains(&word);
    (!unknown).then_some(word)
}

/// What a user agent says by itself, whatever the hints are.
pub(super) struct Agent {
    /// The agent in ASCII ([`in_ascii`]).
    text: String,
    sender: AgentKind,
    os: String,
    os_version: String,
    browser: String,
    browser_version: String,
    /// What the device is, which is looked for once it is asked for.
    make: OnceLock<Make>,
}

impl Agent {
    /// Reads an agent. `sender_of` tells who sends one.
    pub(super) fn read(
        rules: Option<&DeviceRules>,
        user_agent: &str,
        sender_of: impl Fn(&str) -> AgentKind,
    ) -> Agent {
        let text = cut(&in_ascii(user_agent), MATCHED_BYTES_MAX).to_owned();
        let sender = sender_of(&text);
        let (os, os_version) = rules.map(|rules| rules.os(&text)).unwrap_or_default();
        let (browser, browser_version) =
            rules.map(|rules| rules.browser(&text)).unwrap_or_default();
        Agent {
            text,
            sender,
            os,
            os_version,
            browser,
            browser_version,
            make: OnceLock::new(),
        }
    }

    fn make(&self, rules: Option<&DeviceRules>) -> Make {
        self.make.get_or_init(|| make(rules, &self.text)).clone()
    }
}

/// Returns a text with one character of ASCII, which means nothing, in place of each that is not:
/// on other texts the engines of the rules leave their cheapest way, and a text in ASCII is enough
/// to tell every device that is known.
fn in_ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(|c: char| !c.is_ascii(), STAND_IN))
}

/// How much of an agent is matched, in bytes. Of 3,000 real ones none has more than 285.
const MATCHED_BYTES_MAX: usize = 320;

/// The control character that means "substitute".
const STAND_IN: &str = "\x1a";

/// Returns the beginning of a text, up to that many bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max))
        .unwrap_or(text)
}

/// Returns a text as a column of `device` has it.
fn into_column(text: &str) -> String {
    cut(text, TEXT_BYTES_MAX).replace(STAND_IN, "\u{fffd}")
}

/// The longest text of a device, in bytes: twice as long as the longest that 3,000 real agents
/// have.
const TEXT_BYTES_MAX: usize = 64;

/// Returns the device that an agent and `hints` describe. Without rules it is what can be told
/// without them. `None` if the rules would have to be asked again, because the hints name a model,
/// and `may_ask` says no.
pub(super) fn recognise(
    rules: Option<&DeviceRules>,
    agent: &Agent,
    hints: &Hints<'_>,
    may_ask: impl FnOnce() -> bool,
) -> Option<Device> {
    let user_agent = agent.text.as_str();
    let hinted_model = hints::model(&hints.model);
    let hinted_os = hints::os(&hints.platform);
    let os = match agent.os.as_str() {
        "" => into_column(hinted_os),
        os => os.to_owned(),
    };
    let platform_version = match hinted_os.is_empty() || hinted_os == os {
        true => &*hints.platform_version,
        false => "",
    };
    let os_version = true_os_version(user_agent, &os, &agent.os_version, platform_version);
    let os_version = into_column(&os_version);
    let (browser, browser_version) = fuller_browser(agent, &hints.brands);
    if agent.sender == AgentKind::MailProxy {
        return Some(Device {
            class: DeviceClass::MailProxy,
            browser,
            browser_version,
            ..Device::default()
        });
    }

    let mut make = match with_model(user_agent, hinted_model, &os_version) {
        None => agent.make(rules),
        Some(_) if !may_ask() => return None,
        Some(text) => make(rules, &text),
    };
    if make.model.is_empty() {
        make.model = into_column(hinted_model);
    }
    name_brand(user_agent, &mut make);
    let is_bot = agent.sender == AgentKind::Machine || make.is_spider;
    let class = if is_bot {
        make = Make::default();
        DeviceClass::Bot
    } else {
        class(user_agent, &os, hints)
    };
    Some(Device {
        class,
        brand: make.brand,
        model: make.model,
        os,
        os_version,
        browser,
        browser_version,
        is_bot,
    })
}

/// Returns what the device of an agent is.
fn make(rules: Option<&DeviceRules>, user_agent: &str) -> Make {
    let text = agents::without_apps_with_browser(user_agent);
    rules.map(|rules| rules.make(&text)).unwrap_or_default()
}

/// Returns whether Chrome has reduced this user agent to one that all Android devices share.
fn is_reduced_android(user_agent: &str) -> bool {
    user_agent.contains("Android 10; K)") || user_agent.contains("Android 10; K;")
}

/// Returns the user agent as it would be if the browser had put the hinted model into it: the
/// device rules are written for that. `None` if it is as it is. A model that is not in ASCII is in
/// no rule.
fn with_model(user_agent: &str, model: &str, os_version: &str) -> Option<String> {
    if model.is_empty() || !model.is_ascii() {
        return None;
    }
    let version = if os_version.is_empty() {
        "10"
    } else {
        os_version
    };
    let text = if is_reduced_android(user_agent) {
        let full = format!("Android {version}; {model}");
        user_agent.replacen("Android 10; K", &full, 1)
    } else if user_agent.contains("Android") {
        return None;
    } else {
        format!(
            "Mozilla/5.0 (Linux; Android {version}; {model}) AppleWebKit/537.36 (KHTML, like Gecko)"
        )
    };
    Some(cut(&in_ascii(&text), MATCHED_BYTES_MAX).to_owned())
}

/// Returns the OS version by the hint, by the user agent where it is not frozen, or "".
fn true_os_version(user_agent: &str, os: &str, stated: &str, platform_version: &str) -> String {
    let hinted = hints::os_version(os, platform_version);
    if !hinted.is_empty() {
        return hinted;
    }
    match os {
        "Android" if is_reduced_android(user_agent) => String::new(),
        "Mac OS X" if stated == "10.15.7" || stated == "10.15" => String::new(),
        "Chrome OS" if stated == "14541" => String::new(),
        "iOS" if stated == "18.6" || stated == "18.7" => {
            let safari = user_agent.split_once("Version/").map_or("", |(_, rest)| {
                rest.split([' ', ';', ')']).next().unwrap_or("")
            });
            let version = hints::short_version(safari.split('.'), 3);
            let major = version.split('.').next().map(str::parse::<u32>);
            if matches!(major, Some(Ok(26..))) {
                version
            } else {
                stated.to_owned()
            }
        }
        _ => stated.to_owned(),
    }
}

/// Returns the browser by the user agent, unless the hinted brands say more: a version where it has
/// none, or the name of one of the many browsers whose user agent is Chrome's.
fn fuller_browser(agent: &Agent, brands: &str) -> (String, String) {
    let (browser, version) = (&agent.browser, &agent.browser_version);
    let stated = || (browser.clone(), version.clone());
    let Some((brand, brand_version)) = hints::browser(brands) else {
        return stated();
    };
    let is_anonymous = ["", "Chrome", "Chrome Mobile", "Chromium"].contains(&browser.as_str());
    let says_more = !["Chrome", "Chromium"].contains(&brand);
    if browser.is_empty() || (is_anonymous && says_more) {
        (into_column(brand), into_column(&brand_version))
    } else if version.is_empty() && browser.starts_with(brand) {
        (browser.clone(), into_column(&brand_version))
    } else {
        stated()
    }
}

/// Names two brands that the rules miss: Samsung where the model has four characters (`SM-X910`,
/// most tablets), and the Xbox, which Edge names among Windows' words.
fn name_brand(user_agent: &str, make: &mut Make) {
    if !make.brand.is_empty() {
        return;
    }
    if make.model.starts_with("SM-") {
        "Samsung".clone_into(&mut make.brand);
    } else if make.model.is_empty() {
        let models = ["Xbox Series X", "Xbox One", "Xbox"];
        if let Some(model) = models.into_iter().find(|model| user_agent.contains(*model)) {
            "Microsoft".clone_into(&mut make.brand);
            model.clone_into(&mut make.model);
        }
    }
}

fn class(user_agent: &str, os: &str, hints: &Hints<'_>) -> DeviceClass {
    if let Some(class) = hints::class(&hints.form_factors) {
        return class;
    }
    if hints.mobile == Some(true) {
        return DeviceClass::Phone;
    }
    match class_by_user_agent(user_agent, os) {
        DeviceClass::Phone if hints.mobile == Some(false) => DeviceClass::Tablet,
        class => class,
    }
}

/// Words of a user agent, in any case, that tell the class. The first class with a word that is
/// found counts.
const CLASS_WORDS: [(DeviceClass, &[&str]); 6] = [
    (DeviceClass::Console, &["playstation", "nintendo ", "xbox"]),
    (
        DeviceClass::Tv,
        &[
            "smart-tv",
            "smarttv",
            "smart tv",
            "hbbtv",
            "web0s",
            "netcast",
            "bravia",
            "google tv",
            "googletv",
            "android tv",
            "appletv",
            "apple tv",
            "roku/",
            "crkey",
            "; aft",
            "viera",
            "inettv",
            "netrange",
            "mitv",
            "opera tv",
        ],
    ),
    (
        DeviceClass::Watch,
        &["apple watch", "watchos", "wear os", "smartwatch", "; sm-r"],
    ),
    (
        DeviceClass::Car,
        &["qtcarbrowser", "tesla/", "automotive", "android auto"],
    ),
    (
        DeviceClass::Tablet,
        &[
            "ipad",
            "tablet",
            "playbook",
            "kindle",
            "; kf",
            "nexus 7",
            "nexus 9",
            "nexus 10",
            "pixel c",
            "; sm-t",
            "; sm-x",
            "; sm-p",
            "; tb-",
            "mediapad",
            "galaxy tab",
        ],
    ),
    (
        DeviceClass::Phone,
        &[
            "iphone",
            "ipod",
            "windows phone",
            "iemobile",
            "blackberry",
            "bb10",
            "symbian",
            "series60",
            "series40",
            "kaios",
            "opera mini",
            "opera mobi",
            "midp",
        ],
    ),
];

/// Operating systems whose remaining user agents are taken for desktops.
const DESKTOPS: [&str; 21] = [
    "Windows",
    "Mac OS X",
    "Mac OS",
    "Chrome OS",
    "Linux",
    "Ubuntu",
    "Kubuntu",
    "Linux Mint",
    "Debian",
    "Fedora",
    "Red Hat",
    "CentOS",
    "SUSE",
    "Mageia",
    "Mandriva",
    "Arch Linux",
    "Gentoo",
    "Slackware",
    "FreeBSD",
    "OpenBSD",
    "NetBSD",
];

/// The word of browsers on phones.
const MOBILE: &str = "mobile";

/// Finds [`CLASS_WORDS`] and, last, [`MOBILE`].
static WORDS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = CLASS_WORDS.into_iter().flat_map(|(_, words)| words);
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(words.chain([&MOBILE]))
        .expect("they compile: a test compiles them")
});

/// The class of each word of [`CLASS_WORDS`], as its place there.
static CLASSES: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let words = CLASS_WORDS.iter().enumerate();
    let classes = words.flat_map(|(class, (_, words))| words.iter().map(move |_| class));
    classes.collect()
});

fn class_by_user_agent(user_agent: &str, os: &str) -> DeviceClass {
    let mut first = CLASS_WORDS.len();
    let mut is_mobile = false;
    for found in WORDS.find_overlapping_iter(user_agent) {
        let Some(class) = CLASSES.get(found.pattern().as_usize()) else {
            is_mobile = true;
            continue;
        };
        // "Windows … Tablet PC 2.0" is a component that every Windows 7 had.
        let word = user_agent.get(found.range()).unwrap_or_default();
        if !(word.eq_ignore_ascii_case("tablet") && os == "Windows") {
            first = first.min(*class);
        }
    }
    if let Some((class, _)) = CLASS_WORDS.get(first) {
        return *class;
    }
    let is_browser = user_agent
        .get(.."mozilla/".len())
        .is_some_and(|start| start.eq_ignore_ascii_case("mozilla/"));
    match os {
        "tvOS" | "ATV OS X" | "FireHbbTV" | "webOS" => DeviceClass::Tv,
        "WatchOS" => DeviceClass::Watch,
        "iOS" => DeviceClass::Phone,
        // Browsers on Android say "Mobile" on phones only; apps never do.
        "Android" if is_browser && !is_mobile => DeviceClass::Tablet,
        "Android" => DeviceClass::Phone,
        _ if is_mobile => DeviceClass::Phone,
        _ if DESKTOPS.contains(&os) => DeviceClass::Desktop,
        _ => DeviceClass::Other,
    }
}
