//! The page as its template takes it. Whatever a sender wrote is escaped by the template, cut here,
//! and never becomes a link. It shows every field of [`HeldHit`] and [`HeldAd`]: nothing is read
//! that it does not show.

use askama::Template;

use super::belief::{ShownDevice, ShownHome};
use super::group::ShownGroups;
use super::responsible::Responsible;
use super::time;
use crate::clock::UnixMicros;
use crate::config::{ClientIp, Config};
use crate::edge::endpoint::notice::STYLE;
use crate::edge::text::{Language, Text, fill};
use crate::enrich::Origin;
use crate::hit::subject::{HELD_COUNTED_MAX, HELD_SHOWN_MAX, Held, HeldAd, HeldHit};
use crate::hit::{ConsentSource, Permit};
use crate::visitor::ProvedVisitor;

/// The most characters of a page's address that are shown.
const PAGE_SHOWN: usize = 100;
/// The most characters of another text that are shown.
const TEXT_SHOWN: usize = 60;

#[derive(Template)]
#[template(path = "privacy.html")]
pub(super) struct Page {
    pub(super) t: &'static Text,
    code: &'static str,
    style: &'static str,
    languages: Vec<LanguageLink>,
    pub(super) notices: Vec<Notice>,
    /// Where somebody who gives up what the page is about goes on.
    pub(super) back: Option<String>,
    pub(super) body: Option<Body>,
    pub(super) question: Option<ErasureQuestion>,
}

pub(super) struct Notice {
    pub(super) text: &'static str,
    pub(super) is_good: bool,
}

/// The question whether everything is to be deleted, in place of the body.
pub(super) struct ErasureQuestion {
    pub(super) token: String,
    pub(super) action: String,
}

struct LanguageLink {
    code: &'static str,
    name: &'static str,
    is_current: bool,
    link: String,
}

/// What is between the notices and the footer, unless the page is a refusal.
pub(super) struct Body {
    pub(super) site: String,
    pub(super) lead: String,
    pub(super) responsible: Responsible,
    pub(super) cookies_why: String,
    pub(super) address: &'static str,
    pub(super) browsers: Vec<Browser>,
    pub(super) held: Option<Shown>,
    /// The devices that are believed to be the visitor's, where they may be shown.
    pub(super) devices: Option<Vec<ShownDevice>>,
    pub(super) home: Option<ShownHome>,
    pub(super) groups: Option<ShownGroups>,
    pub(super) now: String,
    pub(super) has_gpc: bool,
    pub(super) token: String,
    pub(super) choice_action: String,
    pub(super) file_action: String,
    /// Leads to the question whether everything is to be deleted.
    pub(super) ask_to_erase: String,
    pub(super) device_action: String,
    pub(super) home_action: String,
    pub(super) group_action: String,
    pub(super) source_action: String,
    pub(super) flags: Vec<Flag>,
    /// Whether the site permits something that no box is ticked for.
    pub(super) is_unticked: bool,
    /// The sources of the geodata.
    pub(super) origins: Vec<Origin>,
    pub(super) retention: String,
}

/// A visitor ID of this browser, which may have one of the site's domain and one of the host.
pub(super) struct Browser {
    number: String,
    made: String,
}

pub(super) struct Flag {
    name: &'static str,
    label: &'static str,
    why: &'static str,
    is_set: bool,
}

/// What is held.
pub(super) struct Shown {
    summary: String,
    hits: Vec<ShownHit>,
    ads: Vec<ShownAd>,
}

struct ShownHit {
    kind: &'static str,
    name: String,
    time: String,
    time_utc: String,
    page: String,
    from: String,
}

struct ShownAd {
    name: String,
    seen: String,
    time: String,
    time_utc: String,
}

impl Page {
    /// Makes a page without a body; `link` gives its address in a language.
    pub(super) fn new(language: Language, link: impl Fn(Language) -> String) -> Page {
        let languages = Language::ALL.map(|other| LanguageLink {
            code: other.code(),
            name: other.name(),
            is_current: other == language,
            link: link(other),
        });
        Page {
            t: language.text(),
            code: language.code(),
            style: STYLE,
            languages: languages.into(),
            notices: Vec::new(),
            back: None,
            body: None,
            question: None,
        }
    }
}

/// Returns what the page says of the cookies, whose names the configuration has.
pub(super) fn cookies_why(t: &Text, config: &Config) -> String {
    let named = fill(t.cookies_why, &config.cookie.name);
    fill(&named, &config.cookie.choice_name)
}

/// Returns what the page says is stored of the client's address.
pub(super) fn address(t: &Text, kept: ClientIp) -> &'static str {
    let [none, part, all] = t.address;
    match kept {
        ClientIp::None => none,
        ClientIp::Truncated => part,
        ClientIp::Full => all,
    }
}

pub(super) fn browser(proved: &ProvedVisitor, now: UnixMicros, language: Language) -> Browser {
    let (day, ago) = (
        time::day(proved.made_at, language),
        time::ago(proved.made_at, now, language),
    );
    Browser {
        number: proved.visitor.to_string(),
        made: format!("{day} ({ago})"),
    }
}

/// Returns whether a signal is the visitor's own yes or no. A box is ticked only by it: what a site
/// permits by itself is not consent.
pub(super) fn is_own_word(source: ConsentSource) -> bool {
    match source {
        ConsentSource::Choice | ConsentSource::Tcf | ConsentSource::Gpp => true,
        ConsentSource::Default
        | ConsentSource::Gpc
        | ConsentSource::Gdpr0
        | ConsentSource::Unclear => false,
    }
}

/// Returns what is allowed now, in words, and the signal that decided it.
pub(super) fn describe_choice(t: &Text, permit: Permit, source: ConsentSource) -> String {
    let allowed: Vec<String> = flags(t, permit)
        .iter()
        .filter(|flag| flag.is_set)
        .map(|flag| flag.label.to_lowercase())
        .collect();
    let allowed = if allowed.is_empty() {
        t.now_nothing.to_owned()
    } else {
        allowed.join(", ")
    };
    let source = match source {
        ConsentSource::Default => t.by_default,
        ConsentSource::Choice => t.by_choice,
        ConsentSource::Gpc => t.by_gpc,
        ConsentSource::Tcf | ConsentSource::Gpp | ConsentSource::Gdpr0 | ConsentSource::Unclear => {
            t.by_platform
        }
    };
    fill(&fill(t.now, &allowed), source)
}

pub(super) fn flags(t: &Text, permit: Permit) -> Vec<Flag> {
    let flag = |(name, label, why)| Flag {
        name,
        label,
        why,
        is_set: Permit::from_name(name).is_some_and(|flag| permit.allows(flag)),
    };
    t.flags.map(flag).into()
}

/// Merges what is held about each visitor of a browser.
pub(super) fn show_held(held: Vec<Held>, language: Language) -> Shown {
    let all: u64 = held.iter().map(|held| held.hits).sum();
    let (mut hits, mut ads) = (Vec::new(), Vec::new());
    for one in held {
        hits.extend(one.last);
        ads.extend(one.ads);
    }
    hits.sort_by_key(|hit| std::cmp::Reverse(hit.received_at));
    hits.truncate(HELD_SHOWN_MAX);
    ads.sort_by_key(|ad| std::cmp::Reverse(ad.last_at));
    let t = language.text();
    let summary = fill(t.hits_shown, &hits.len().to_string());
    let summary = if all > HELD_COUNTED_MAX {
        let [number, of_ads] = t.more_than;
        format!("{} {of_ads}", fill(&summary, number))
    } else {
        fill(&summary, &all.to_string())
    };
    Shown {
        summary,
        hits: hits
            .iter()
            .map(|hit| show_held_hit(hit, language))
            .collect(),
        ads: ads.iter().map(|ad| show_ad(ad, language)).collect(),
    }
}

fn show_held_hit(hit: &HeldHit, language: Language) -> ShownHit {
    let t = language.text();
    let word = |words: &[(&str, &'static str)], of: &str| {
        let found = words.iter().find(|(name, _)| *name == of);
        found.map_or("", |(_, word)| word)
    };
    let names = [&hit.event_name, &hit.campaign, &hit.creative].map(String::as_str);
    let place = [&hit.city, &hit.region, &hit.country].map(String::as_str);
    let device = [
        word(&t.devices, &hit.device_class),
        &hit.device_brand,
        &hit.device_model,
        &hit.os,
        &hit.browser,
    ];
    let network = [&hit.network, &hit.client_ip].map(String::as_str);
    let from = [
        join(&place, ", "),
        join(&device, ", "),
        join(&network, ", "),
    ];
    ShownHit {
        kind: word(&t.kinds, &hit.kind),
        name: join(&names, " · "),
        time: time::minute(hit.received_at, language),
        time_utc: time::utc(hit.received_at),
        page: cut(&hit.page_url, PAGE_SHOWN),
        from: from
            .iter()
            .filter(|text| !text.is_empty())
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" · "),
    }
}

fn show_ad(ad: &HeldAd, language: Language) -> ShownAd {
    let t = language.text();
    let name = join(&[&ad.campaign, &ad.creative, &ad.partner], " · ");
    let times = |number: u64, [once, more]: [&str; 2]| match number {
        0 => None,
        1 => Some(once.to_owned()),
        _ => Some(fill(more, &number.to_string())),
    };
    let seen = [times(ad.seen, t.seen), times(ad.clicked, t.clicked)];
    ShownAd {
        name: if name.is_empty() {
            t.ad_without_name.to_owned()
        } else {
            name
        },
        seen: capitalize(&seen.into_iter().flatten().collect::<Vec<_>>().join(", ")),
        time: time::minute(ad.last_at, language),
        time_utc: time::utc(ad.last_at),
    }
}

/// Makes the first letter a capital.
fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase());
    first.into_iter().flatten().chain(characters).collect()
}

/// Joins the texts that are not empty, each once, cut.
fn join(texts: &[&str], separator: &str) -> String {
    let mut there: Vec<String> = Vec::new();
    for text in texts {
        let text = cut(text, TEXT_SHOWN);
        if !text.is_empty() && !there.contains(&text) {
            there.push(text);
        }
    }
    there.join(separator)
}

fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::VisitorId;

    const NOW: UnixMicros = UnixMicros(1_790_000_000_000_000);

    fn page(language: Language, held: Vec<Held>) -> Page {
        let t = language.text();
        let proved = ProvedVisitor {
            visitor: VisitorId(*b"0123456789abcdef"),
            made_at: UnixMicros(NOW.0 - 3 * 86_400_000_000),
            is_expired: false,
            is_bound: true,
        };
        let mut page = Page::new(language, |language| {
            format!("/privacy?lang={}", language.code())
        });
        page.notices.push(Notice {
            text: t.done_choice,
            is_good: true,
        });
        page.body = Some(Body {
            site: "shop".to_owned(),
            lead: fill(t.lead, "shop"),
            responsible: Responsible::default(),
            cookies_why: fill(&fill(t.cookies_why, "avid"), "avchoice"),
            address: address(t, ClientIp::Truncated),
            browsers: vec![browser(&proved, NOW, language)],
            held: Some(show_held(held, language)),
            now: describe_choice(
                t,
                Permit::STORE.with(Permit::MEASURE),
                ConsentSource::Choice,
            ),
            has_gpc: true,
            token: "token".to_owned(),
            choice_action: "/privacy/choice".to_owned(),
            file_action: "/privacy/file".to_owned(),
            ask_to_erase: "/privacy?ask=erasure".to_owned(),
            device_action: "/privacy/device".to_owned(),
            home_action: "/privacy/home".to_owned(),
            group_action: "/privacy/group".to_owned(),
            source_action: "/privacy/source".to_owned(),
            devices: None,
            home: None,
            groups: None,
            flags: flags(t, Permit::STORE.with(Permit::MEASURE)),
            is_unticked: false,
            origins: Origin::ALL.to_vec(),
            retention: fill(t.retention, "90"),
        });
        page
    }

    fn hit(text: &str) -> HeldHit {
        let text = || text.to_owned();
        HeldHit {
            received_at: NOW,
            kind: "impression".to_owned(),
            page_url: text(),
            event_name: text(),
            country: text(),
            city: text(),
            device_class: "phone".to_owned(),
            device_model: text(),
            browser: text(),
            campaign: text(),
            creative: text(),
            ..HeldHit::default()
        }
    }

    fn held(text: &str, hits: usize) -> Held {
        let ad = HeldAd {
            campaign: text.to_owned(),
            creative: text.to_owned(),
            seen: 3,
            clicked: 1,
            last_at: NOW,
            ..HeldAd::default()
        };
        Held {
            hits: 1234,
            last: vec![hit(text); hits],
            ads: vec![ad; 5],
            ..Held::default()
        }
    }

    /// The words under which the page shows a kind and a class of device.
    const KIND: &str = "callback";
    const DEVICE_CLASS: &str = "console";

    #[test]
    fn the_page_shows_every_field_that_it_reads() {
        let marker = |column: &str| match column {
            "kind" => KIND.to_owned(),
            "device_class" => DEVICE_CLASS.to_owned(),
            column => format!("marker-{column}-end"),
        };
        let hit = HeldHit::read(NOW, |column| Ok::<_, ()>(marker(column)));
        let ad = HeldAd {
            partner: marker("ad-partner"),
            campaign: marker("ad-campaign"),
            creative: marker("ad-creative"),
            seen: 77,
            clicked: 88,
            last_at: UnixMicros(NOW.0 - 86_400_000_000),
        };
        let held = Held {
            hits: 6_543,
            last: vec![hit.expect("each column has a value")],
            ads: vec![ad.clone()],
            ..Held::default()
        };
        let html = page(Language::English, vec![held]).render();
        let html = html.expect("the page is written");
        let shown = |text: &str| assert!(html.contains(text), "{text} is not shown");
        for column in HeldHit::COLUMNS {
            match *column {
                "kind" => shown("Report from an ad network"),
                "device_class" => shown("games console"),
                column => shown(&marker(column)),
            }
        }
        let HeldAd {
            partner,
            campaign,
            creative,
            seen,
            clicked,
            last_at,
        } = ad;
        for text in [partner, campaign, creative] {
            shown(&text);
        }
        shown(&format!("Shown {seen} times, clicked {clicked} times"));
        shown(&time::utc(last_at));
        shown(&time::utc(NOW));
        shown("of 6543.");
    }

    #[test]
    fn whatever_a_sender_wrote_is_plain_text_on_the_page() {
        for hostile in [
            "<script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "javascript:alert(1)",
            "' onfocus='alert(1)' autofocus='",
            "</style><svg/onload=alert(1)>",
            "{{ t.title }}{% if %}",
            "&lt;script&gt;",
            "\u{202e}gpj.exe",
        ] {
            let html = page(Language::Swedish, vec![held(hostile, 2)]).render();
            let html = html.expect("the page is written");
            let escaped: String = hostile
                .chars()
                .map(|character| match character {
                    '<' => "&#60;".to_owned(),
                    '>' => "&#62;".to_owned(),
                    '&' => "&#38;".to_owned(),
                    '"' => "&#34;".to_owned(),
                    '\'' => "&#39;".to_owned(),
                    other => other.to_string(),
                })
                .collect();
            assert!(
                html.contains(&format!("<p><bdi>{escaped}</bdi></p>")),
                "{html}"
            );
            if escaped != hostile {
                assert!(!html.contains(hostile), "{hostile}");
            }
            assert_eq!(
                html.matches("href=").count(),
                18,
                "seven links to sources, four languages, six parts of the page, and the question"
            );
        }
    }

    #[test]
    fn a_page_that_shows_as_much_as_it_can_is_small() {
        let usual = "https://www.shop.example/mobiltelefoner/apple/iphone-17?ref=start";
        for language in Language::ALL {
            let all = |text: &str| {
                let page = page(
                    language,
                    vec![held(text, HELD_SHOWN_MAX), held(text, HELD_SHOWN_MAX)],
                );
                page.render().expect("the page is written").len()
            };
            assert!(all(usual) < 30_000, "{}", all(usual));
            assert!(
                all(&"&".repeat(8192)) < 60_000,
                "{}",
                all(&"&".repeat(8192))
            );
        }
    }

    #[test]
    fn the_hits_of_two_cookies_are_one_list_the_newest_first() {
        let at = |seconds: i64| HeldHit {
            received_at: UnixMicros(seconds * 1_000_000),
            ..hit("")
        };
        let of = |seconds: &[i64]| Held {
            hits: 100,
            last: seconds.iter().map(|seconds| at(*seconds)).collect(),
            ..Held::default()
        };
        let shown = show_held(vec![of(&[9, 5]), of(&[7])], Language::English);
        let times: Vec<&str> = shown.hits.iter().map(|hit| hit.time_utc.as_str()).collect();
        let second = |second| format!("1970-01-01T00:00:0{second}Z");
        assert_eq!(times, [second(9), second(7), second(5)]);
        assert!(
            shown.summary.starts_with("Shows 3 of 200."),
            "{}",
            shown.summary
        );
    }

    #[test]
    fn of_more_hits_than_are_counted_the_page_says_how_many_those_are() {
        for language in Language::ALL {
            let of = |hits| {
                let last = vec![hit("")];
                let held = Held {
                    hits,
                    last,
                    ..Held::default()
                };
                show_held(vec![held], language).summary
            };
            let counted = HELD_COUNTED_MAX.to_string();
            let many = of(HELD_COUNTED_MAX + 1);
            for text in language.text().more_than {
                let digits = text.chars().filter(char::is_ascii_digit);
                assert_eq!(digits.collect::<String>(), counted);
                assert!(many.contains(text), "{many}");
            }
            assert!(of(HELD_COUNTED_MAX).contains(&counted));
        }
    }

    #[test]
    fn a_sentence_begins_with_a_capital_and_names_what_happened() {
        let of = |seen, clicked| {
            let ad = HeldAd {
                seen,
                clicked,
                ..HeldAd::default()
            };
            show_ad(&ad, Language::Swedish).seen
        };
        assert_eq!(of(1, 0), "Visad en gång");
        assert_eq!(of(0, 2), "Klickad 2 gånger");
        assert_eq!(of(7, 1), "Visad 7 gånger, klickad en gång");
    }
}
