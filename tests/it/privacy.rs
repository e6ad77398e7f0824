//! `/privacy`: the visitor's own page, its forms, and their effects.

mod devices;
mod forms;
mod groups;
pub(crate) mod home;

use crate::consent::visitor_of;
use crate::support::{Collector, Config, Reply, tampered};

const OWN: (&str, &str) = ("Origin", "http://127.0.0.1");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const SWEDISH: (&str, &str) = ("Accept-Language", "sv-SE,sv;q=0.9,en;q=0.8");

/// A visitor with the cookie of a first visit.
pub(crate) async fn visitor(collector: &Collector) -> String {
    collector
        .get("/id?site=open", &[])
        .await
        .cookie()
        .to_owned()
}

pub(crate) fn uuid(cookie: &str) -> String {
    let hex: String = visitor_of(cookie)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let (a, b, c) = (&hex[..8], &hex[8..12], &hex[12..16]);
    format!("{a}-{b}-{c}-{}-{}", &hex[16..20], &hex[20..])
}

/// The page, as a browser asks for it.
pub(crate) async fn page(collector: &Collector, headers: &[(&str, &str)]) -> Reply {
    let mut all = vec![
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Mode", "navigate"),
    ];
    all.extend_from_slice(headers);
    collector.get("/privacy?site=open", &all).await
}

/// The sections of the page that its list of contents lacks.
pub(crate) fn unlisted(page: &Reply) -> Vec<&str> {
    let sections = page.body.split("<section aria-labelledby=\"").skip(1);
    let ids = sections.filter_map(|section| section.split('"').next());
    ids.filter(|id| !page.body.contains(&format!("<li><a href=\"#{id}\">")))
        .collect()
}

/// The token in the page's forms.
pub(crate) fn token(page: &Reply) -> &str {
    let (_, rest) = page.body.split_once("name=\"token\" value=\"").unwrap();
    rest.split('"').next().unwrap()
}

/// Sends a form of the page as a browser does.
pub(crate) async fn submit(collector: &Collector, form: &str, cookie: &str, body: &str) -> Reply {
    let headers = [
        OWN,
        FORM,
        ("Sec-Fetch-Site", "same-origin"),
        ("Cookie", cookie),
    ];
    let target = format!("/privacy/{form}?site=open&lang=sv");
    collector.post(&target, &headers, body).await
}

async fn rows_of(collector: &Collector, cookie: &str, number: i64) {
    let sql = format!(
        "select count(*) from avtryck.hit where visitor_id = '{}'",
        uuid(cookie)
    );
    collector.wait_for(&sql, number).await;
}

#[tokio::test]
async fn the_page_is_in_the_readers_language_and_loads_nothing_from_elsewhere() {
    let collector = Collector::open().await;
    for (query, accepted, language, title) in [
        (
            "?site=open",
            "sv-SE,sv;q=0.9,en;q=0.8",
            "sv",
            "Dina uppgifter",
        ),
        ("?site=open", "de,en;q=0.5", "en", "Your data"),
        ("?site=open&lang=en", "sv", "en", "Your data"),
        ("?lang=sv", "en", "sv", "Dina uppgifter"),
        ("?lang=fr", "sv", "sv", "Dina uppgifter"),
    ] {
        let target = format!("/privacy{query}");
        let page = collector
            .get(&target, &[("Accept-Language", accepted)])
            .await;
        assert_eq!(
            (page.status, page.header("content-language")),
            (200, language)
        );
        assert!(
            page.body
                .starts_with(&format!("<!doctype html>\n<html lang=\"{language}\">"))
        );
        assert!(
            page.body.contains(&format!("<h1>{title}</h1>")),
            "{}",
            page.body
        );
        assert_eq!(page.cookies, [""; 0], "looking sets nothing");
        let other = if language == "sv" { "en" } else { "sv" };
        let switch = format!("href=\"/privacy?site=open&#38;lang={other}\"");
        assert!(page.body.contains(&switch), "{}", page.body);
    }
    let page = page(&collector, &[SWEDISH]).await;
    let (_, style) = page.body.split_once("<style>").unwrap();
    let style = style.split("</style>").next().unwrap();
    let hash = {
        use base64::Engine as _;
        use sha2::Digest as _;
        base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style))
    };
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", policy.as_str()),
        ("referrer-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(page.header(name), value, "{name}");
    }
    assert!(!page.body.contains("<script") && !page.body.contains("style=\""));
    assert!(page.body.len() < 30_000, "{} bytes", page.body.len());
    // The site is found by name or by host; without one, the page says so.
    let lost = collector.get("/privacy?site=nowhere", &[SWEDISH]).await;
    assert_eq!(
        (lost.status, lost.header("avtryck-refusal")),
        (400, "site_unknown")
    );
    assert!(lost.body.contains("vilken webbplats"), "{}", lost.body);
    let moved = Config::sites().set("path.privacy", "/integritet");
    let collector = Collector::start(moved).await;
    let page = collector.get("/integritet?site=open", &[]).await;
    assert!(
        page.body.contains("action=\"/integritet/choice?"),
        "{}",
        page.body
    );
    assert_eq!(collector.get("/privacy?site=open", &[]).await.status, 404);
    assert_eq!(
        collector.post("/integritet/choice", &[], "").await.status,
        403
    );
}

#[tokio::test]
async fn the_page_says_who_is_responsible_and_ticks_no_box_for_the_visitor() {
    let config = Config::sites()
        .set("site.open.name", "Open & Co")
        .set("site.open.controller", "Open AB")
        .set("site.open.contact", "data@open.example")
        .set("site.open.authority", "Integritetsskyddsmyndigheten")
        .set("site.open.policy", "https://open.example/policy");
    let collector = Collector::start(config).await;
    let cookie = visitor(&collector).await;
    let seen = page(&collector, &[("Cookie", &cookie), SWEDISH]).await;
    for said in [
        "vad Open &#38; Co sparar",
        "<p>Open AB är personuppgiftsansvarig.</p>",
        "href=\"mailto:data@open.example\"",
        "klaga hos Integritetsskyddsmyndigheten.",
        "href=\"https://open.example/policy\"",
        "<li><a href=\"#choose\">",
        "id=\"unticked\"",
    ] {
        assert!(seen.body.contains(said), "no {said} in {}", seen.body);
    }
    assert!(
        !seen.body.contains(" checked"),
        "the site permits, not the visitor"
    );
    let chosen = format!("{cookie}; avchoice=store.measure");
    let seen = page(&collector, &[("Cookie", &chosen)]).await;
    assert_eq!(seen.body.matches(" checked").count(), 2);
    assert!(!seen.body.contains("id=\"unticked\""));
    // Without a visitor there is nothing to delete, so nothing is asked.
    let asked = "/privacy?site=open&ask=erasure";
    let seen = collector.get(asked, &[("Cookie", &cookie)]).await;
    assert!(seen.body.contains("id=\"confirm\"") && !seen.body.contains("id=\"save\""));
    let nobody = collector.get(asked, &[]).await;
    assert!(!nobody.body.contains("id=\"confirm\"") && nobody.body.contains("id=\"save\""));
    // Without a word about it, the page still says whom to complain to.
    let plain = Collector::open().await;
    let seen = page(&plain, &[]).await;
    assert!(
        seen.body
            .contains("the data protection authority of your country")
    );
}

#[tokio::test]
async fn a_browser_is_shown_what_is_held_about_it_and_about_nobody_else() {
    let collector = Collector::open().await;
    let (anna, bo) = (visitor(&collector).await, visitor(&collector).await);
    for (who, page) in [(&anna, "annas-page"), (&bo, "bos-page")] {
        let view = format!("/p.gif?site=open&u=https%3A%2F%2Fopen.example%2F{page}");
        let ad = "/i.gif?site=open&partner=network&campaign=spring&creative=banner-1";
        for target in [view.as_str(), ad, ad] {
            collector.get(target, &[("Cookie", who)]).await;
        }
        rows_of(&collector, who, 3).await;
    }
    let seen = page(&collector, &[("Cookie", &anna), SWEDISH]).await;
    let id = uuid(&anna);
    for text in [
        id.as_str(),
        "https://open.example/annas-page",
        "Sidvisning",
        "mobil, Apple, iPhone, iOS",
        "SE",
        "Annons visad: <bdi>spring · banner-1</bdi>",
        "<bdi>spring · banner-1 · network</bdi>",
        "Visad 2 gånger",
        "Visar 3 av 3.",
        "(i dag)",
        "Just nu tillåtet: igenkänning, mätning, anpassning, jämförelse med partner, koppling av enheter, ort. \
         Det är webbplatsens grundinställning",
    ] {
        assert!(seen.body.contains(text), "{text} in {}", seen.body);
    }
    assert!(!seen.body.contains("bos-page") && !seen.body.contains(&uuid(&bo)));

    // A cookie that proves nobody shows nothing, and asks Postgres nothing.
    for forged in [
        tampered(&anna),
        format!("avid={}", uuid(&anna)),
        format!("avid={}", "A".repeat(44)),
        "avid=".to_owned(),
        format!("other{anna}"),
    ] {
        let seen = page(&collector, &[("Cookie", &forged), SWEDISH]).await;
        assert_eq!(seen.status, 200);
        assert!(!seen.body.contains("annas-page") && !seen.body.contains(&id));
        assert!(seen.body.contains("ingen kaka"), "{}", seen.body);
        assert!(!seen.body.contains("id=\"erase\"") && !seen.body.contains("id=\"file\""));
    }
    // Neither a frame nor another page's script may read anything.
    for destination in [
        "iframe", "frame", "object", "embed", "empty", "script", "image",
    ] {
        let headers = [("Cookie", anna.as_str()), ("Sec-Fetch-Dest", destination)];
        let seen = collector.get("/privacy?site=open", &headers).await;
        assert_eq!(
            (seen.status, seen.header("avtryck-refusal")),
            (403, "framed")
        );
        assert!(!seen.body.contains("annas-page") && !seen.body.contains(&id));
    }
    let site = ("Origin", "https://www.open.example");
    let seen = page(&collector, &[("Cookie", &anna), site]).await;
    assert_eq!(seen.header("access-control-allow-origin"), "");
    let asked = collector
        .request("OPTIONS", "/privacy?site=open", &[site], "")
        .await;
    assert_eq!(
        (asked.status, asked.header("avtryck-refusal")),
        (403, "origin")
    );
    // The page names the signals that decide.
    let refused = format!("{anna}; avchoice=none");
    let seen = page(&collector, &[("Cookie", &refused), SWEDISH]).await;
    assert!(
        seen.body
            .contains("Just nu tillåtet: ingenting. Det har du själv valt.")
    );
    let seen = page(&collector, &[("Sec-GPC", "1"), ("Accept-Language", "en")]).await;
    assert!(
        seen.body
            .contains("Allowed now: nothing. Your browser decided that"),
        "{}",
        seen.body
    );
}

#[tokio::test]
async fn whatever_a_sender_wrote_is_shown_as_text() {
    let collector = Collector::open().await;
    let cookie = visitor(&collector).await;
    let hostile = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E%3Cimg%20src=x%20onerror=alert(1)%3E";
    let target = format!(
        "/p.gif?site=open&u=javascript:{hostile}&e={hostile}&campaign={hostile}&creative={hostile}"
    );
    let agent = "Mozilla/5.0 (Linux; Android 14; <script>alert(1)</script>) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36";
    let hints = ("Sec-CH-UA-Model", "\"<script>alert(1)</script>\"");
    collector
        .get(
            &target,
            &[("Cookie", &cookie), ("User-Agent", agent), hints],
        )
        .await;
    collector
        .get(
            &format!("/i.gif?site=open&campaign={hostile}"),
            &[("Cookie", &cookie)],
        )
        .await;
    rows_of(&collector, &cookie, 2).await;
    let seen = page(&collector, &[("Cookie", &cookie)]).await;
    assert!(
        seen.body
            .contains("javascript:&#34;&#62;&#60;script&#62;alert(1)"),
        "{}",
        seen.body
    );
    for tag in ["<script", "<img", "href=\"javascript"] {
        assert!(!seen.body.contains(tag), "{tag} in {}", seen.body);
    }
}

#[tokio::test]
async fn the_page_says_what_becomes_of_data_in_words_that_people_use() {
    let collector = Collector::open().await;
    let cookie = visitor(&collector).await;
    let view = "/p.gif?site=open&u=https://www.open.example/";
    for _ in 0..4 {
        collector.get(view, &[("Cookie", &cookie)]).await;
    }
    rows_of(&collector, &cookie, 4).await;
    for (language, said, wrong) in [
        (
            "sv",
            [
                "Visar 4 av 4. Tiderna är i svensk tid.",
                "får kopplas ihop",
                "raderas automatiskt efter 90 dagar",
                "beräknat utifrån IP-adressen",
                "inget mer sparas",
                "vad vi ska betala för den",
            ],
            "Något blev fel, och inget har ändrats.",
        ),
        (
            "da",
            [
                "Viser 4 af 4. Tiderne er svensk tid,",
                "må forbindes",
                "slettes automatisk efter 90 dage",
                "beregnet ud fra IP-adressen",
                "der gemmes ikke mere",
                "hvad vi skal betale for den",
            ],
            "Noget gik galt, og intet er ændret.",
        ),
        (
            "nb",
            [
                "Viser 4 av 4. Tidene er svensk tid,",
                "kan kobles sammen",
                "slettes automatisk etter 90 dager",
                "beregnet ut fra IP-adressen",
                "mer lagres. Det kan ikke angres",
                "hva vi skal betale for den",
            ],
            "gikk galt, og ingenting er endret.",
        ),
        (
            "fi",
            [
                "Näytetään 4, yhteensä 4. Ajat ovat Ruotsin aikaa,",
                "saa yhdistää",
                "poistetaan automaattisesti 90 päivän kuluttua",
                "IP-osoitteesta laskettuna",
                "eikä mitään enää tallenneta",
                "mitä siitä pitää maksaa",
            ],
            "vikaan, eikä mitään ole muutettu.",
        ),
    ] {
        let target = format!("/privacy?site=open&lang={language}");
        let seen = collector.get(&target, &[("Cookie", &cookie)]).await;
        for words in said {
            assert!(
                seen.body.contains(words),
                "{language}: no {words} in {}",
                seen.body
            );
        }
        for former in [
            "hörande ihop",
            "av sig själva",
            "De senaste 4",
            "uppslaget",
            "mer får sparas",
            "betalar rätt",
        ] {
            assert!(!seen.body.contains(former), "{language}: {former}");
        }
        let form = format!("/privacy/choice?site=open&lang={language}");
        let headers = [
            OWN,
            FORM,
            ("Sec-Fetch-Site", "same-origin"),
            ("Cookie", &*cookie),
        ];
        let failed = collector.post(&form, &headers, "store").await;
        assert_eq!(failed.status, 400, "{language}");
        assert!(failed.body.contains(wrong), "{language}: {}", failed.body);
    }
}
