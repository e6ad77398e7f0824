//! Naming a partner gives nobody more than the site allows its own visitors.

use crate::support::{Collector, Config, Reply, consent_string};

/// What a request asks for; `{site}` and `{partner}` stand for their keys.
const PAGES: [&str; 6] = [
    "/p.gif?site={site}&partner={partner}",
    "/p.gif?site={site}&partner={partner}&e=view",
    "/p.gif?site={site}&partner={partner}&e=conversion&cat=news",
    "/p.gif?site={site}&json=%7B%22partner%22%3A%22{partner}%22%2C%22e%22%3A%22view%22%7D",
    "/id?site={site}&partner={partner}",
    "/i.gif?site={site}&partner={partner}&ev=conversion",
];
const ADS: [&str; 5] = [
    "/i.gif?site={site}&partner={partner}",
    "/i.gif?site={site}&partner={partner}&ev=click",
    "/i.gif?site={site}&partner={partner}&ev=firstQuartile",
    "/c?site={site}&partner={partner}&to=https://www.shop.example/",
    "/sync/{partner}?site={site}&uid=u-1",
];

/// Sites and partners by whether they allow anything.
const SITES: [(&str, bool); 2] = [("open", true), ("shut", false)];
const PARTNERS: [(&str, bool); 2] = [("network", true), ("asking-network", false)];

fn fill(target: &str, site: &str, partner: &str) -> String {
    target.replace("{site}", site).replace("{partner}", partner)
}

/// Whether the visitor got an ID: what is refused leaves none.
fn allows(reply: &Reply) -> bool {
    assert!([200, 204, 302].contains(&reply.status), "{reply:?}");
    !reply.cookies.is_empty()
}

async fn start() -> Collector {
    let hosts = vec!["www.shop.example"];
    let config = Config::sites()
        .set("site.open.click_hosts", hosts.clone())
        .set("site.shut.click_hosts", hosts);
    Collector::start(config).await
}

#[tokio::test]
async fn a_page_needs_its_sites_rule_and_that_of_the_partner_it_names() {
    let collector = start().await;
    for (site, site_allows) in SITES {
        for (partner, partner_allows) in PARTNERS {
            let both = site_allows && partner_allows;
            let pages = PAGES.map(|target| (target, both));
            let ads = ADS.map(|target| (target, partner_allows));
            for (target, expected) in pages.into_iter().chain(ads) {
                let target = fill(target, site, partner);
                let reply = collector.get(&target, &[]).await;
                assert_eq!(allows(&reply), expected, "{target}");
            }
            for (target, body) in [
                (
                    "/e",
                    r#"{"site": "{site}", "partner": "{partner}", "e": "view"}"#,
                ),
                ("/e?partner={partner}", r#"[{"site": "{site}"}]"#),
                (
                    "/e?site={site}",
                    r#"{"partner": "{partner}", "params": {"a": 1}}"#,
                ),
            ] {
                let (target, body) = (fill(target, site, partner), fill(body, site, partner));
                let reply = collector.post(&target, &[], &body).await;
                assert_eq!(allows(&reply), both, "{target} {body}");
            }
        }
    }
}

#[tokio::test]
async fn no_spelling_of_a_partner_and_no_second_one_lifts_a_sites_rule() {
    let collector = start().await;
    for more in [
        "Partner=network",
        "partner[]=network",
        "parnter=network",
        "%70artner=network",
        "partner=network&partner=asking-network",
        "partner=asking-network&partner=network",
        "x=1;partner=network",
        "amp;partner=network",
        "cat=network&site=open&partner=network",
        "partner=network&gdpr=0",
        "json=%7B%22partner%22%3A%22network%22%7D",
    ] {
        let target = format!("/p.gif?site=shut&{more}");
        let reply = collector.get(&target, &[]).await;
        assert!(!allows(&reply), "{more}");
    }
    for body in [
        r#"{"site": "shut", "context": {"partner": "network"}}"#,
        r#"{"site": "shut", "params": {"partner": "network"}}"#,
        r#"{"site": "shut", "partner": "network", "site": "open"}"#,
        r#"[{"site": "shut", "partner": ["network"]}]"#,
    ] {
        let reply = collector.post("/e?partner=network", &[], body).await;
        assert!(reply.cookies.is_empty(), "{body}: {reply:?}");
    }
    let counts =
        "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count_detail where site = 'shut'";
    collector.wait_for(counts, 14).await;
    let rows = "select count(*) from avtryck.hit";
    assert_eq!(collector.number(rows).await, 0);
}

#[tokio::test]
async fn both_vendors_of_a_string_have_to_be_allowed() {
    // The recorded strings are about vendor 2.
    let string = consent_string("policy 4, few, as bits, all disclosed");
    let partner = "[[partner]]\nkey = \"other\"\ngvl_id = 3\n\
                   [[site]]\nkey = \"vendorless\"\n";
    let collector = Collector::start(Config::sites().with(partner)).await;
    for (site, partner, expected) in [
        ("shut", "asking-network", true),
        ("shut", "other", false),
        ("vendorless", "asking-network", false),
    ] {
        let target = format!("/p.gif?site={site}&partner={partner}&gdpr=1&gdpr_consent={string}");
        let reply = collector.get(&target, &[]).await;
        assert_eq!(allows(&reply), expected, "{target}");
    }
}
