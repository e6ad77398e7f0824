//! Links from one site to another: a token where the link is followed, two visitors where it leads.

use serde_json::json;

use crate::support::{Collector, Config, IPHONE, Reply, tampered};

const SITES: &str = r#"
[[site]]
key = "shop"
hosts = ["px.shop.example"]
origins = ["https://www.shop.example"]
links = ["www.news.example", "m.news.example:8443"]
default_permit = ["store", "measure", "profile", "match", "link", "locate"]

[[site]]
key = "news"
hosts = ["px.news.example"]
origins = ["https://www.news.example", "https://m.news.example:8443"]
default_permit = ["store", "measure", "profile", "match", "link", "locate"]

[[site]]
key = "open"
default_permit = ["measure"]
"#;
const SHOP: &str = "https://www.shop.example";
const NEWS: &str = "https://www.news.example";
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
const EDGES: &str = "select count(*) from avtryck.link_edge";
const SYNCS: &str = "select count(*) from avtryck.hit_detail where kind = 'sync'";

/// A browser at the collector of one of the sites.
struct Visitor<'c> {
    collector: &'c Collector,
    site: &'static str,
    host: &'static str,
    cookie: String,
}

impl<'c> Visitor<'c> {
    async fn new(collector: &'c Collector, site: &'static str) -> Visitor<'c> {
        let host = match site {
            "shop" => "px.shop.example",
            _ => "px.news.example",
        };
        let headers = [
            ("Host", host),
            ("User-Agent", AGENT),
            ("Sec-Fetch-Site", "same-site"),
        ];
        let target = format!("/id?site={site}");
        let cookie = collector.get(&target, &headers).await.cookie().to_owned();
        Visitor {
            collector,
            site,
            host,
            cookie,
        }
    }

    /// Asks for a token with these headers in place of the usual ones.
    async fn ask(&self, to: &str, changed: &[(&str, &str)]) -> Reply {
        let usual = [
            ("Host", self.host),
            ("User-Agent", AGENT),
            ("Sec-Fetch-Site", "same-site"),
            ("Origin", SHOP),
            ("Cookie", &*self.cookie),
        ];
        let headers = merge(&usual, changed);
        let target = format!("/link?site={}&to={to}", self.site);
        self.collector.get(&target, &headers).await
    }

    async fn token(&self) -> String {
        let reply = self.ask("www.news.example", &[]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body
    }

    /// Sends the token that came with a link.
    async fn send(&self, token: &str, from: &str, changed: &[(&str, &str)]) -> Reply {
        let usual = [
            ("Host", self.host),
            ("User-Agent", AGENT),
            ("Sec-Fetch-Site", "same-site"),
            ("Origin", NEWS),
            ("Cookie", &*self.cookie),
            ("Content-Type", "text/plain"),
        ];
        let headers = merge(&usual, changed);
        let body = json!({
            "site": self.site, "e": "", "u": "https://www.news.example/a", "ref": from, "avlink": token,
            "user": "customer-4711", "uid": "theirs", "params": { "plan": "pro" },
        });
        self.collector.post("/e", &headers, &body.to_string()).await
    }
}

/// Returns headers with those of the same name changed; an empty value takes one away.
fn merge<'h>(
    usual: &[(&'h str, &'h str)],
    changed: &[(&'h str, &'h str)],
) -> Vec<(&'h str, &'h str)> {
    let is_kept = |(name, _): &&(&str, &str)| !changed.iter().any(|(other, _)| other == name);
    let kept = usual.iter().filter(is_kept);
    let new = changed.iter().filter(|(_, value)| !value.is_empty());
    kept.chain(new).copied().collect()
}

fn reason(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("avtryck-refusal"))
}

#[tokio::test]
async fn a_link_ties_two_visitors_once_and_neither_id_is_seen_on_the_way() {
    let collector = Collector::start(Config::new().with(SITES)).await;
    let anna = Visitor::new(&collector, "shop").await;
    let there = Visitor::new(&collector, "news").await;
    let given = anna.ask("www.news.example", &[]).await;
    assert_eq!((given.status, given.body.len()), (200, 66), "{given:?}");
    assert_eq!(given.header("access-control-allow-origin"), SHOP);
    assert_eq!(given.header("access-control-allow-credentials"), "true");
    assert_eq!(given.header("cache-control"), "no-store");
    assert_eq!(given.header("set-cookie"), "");
    assert_ne!(anna.token().await, given.body, "each is another one");

    assert_eq!(there.send(&given.body, SHOP, &[]).await.status, 204);
    collector.wait_for(EDGES, 1).await;
    let named = "select count(*) from avtryck.hit_detail as hit \
                 join avtryck.link_edge as edge on edge.a_kind = 1 and edge.b_kind = 1 and edge.source = 1 \
                      and edge.proved_day is null and edge.permit & 19 = 19 \
                      and hit.visitor_id in (edge.a, edge.b) and hit.partner_uid::uuid in (edge.a, edge.b) \
                 where kind = 'sync' and site = 'news' and hit.partner is null and event_name is null \
                       and user_key is null and params is null and not flags @> '{replayed}' \
                       and page_url = 'https://www.news.example/a' and occurred_at <= received_at";
    assert_eq!(collector.number(named).await, 1);

    // Again, and by somebody who saw the address within the minute.
    let carl = Visitor::new(&collector, "news").await;
    for visitor in [&there, &carl] {
        assert_eq!(visitor.send(&given.body, SHOP, &[]).await.status, 204);
    }
    let replayed = format!("{SYNCS} and flags @> '{{replayed}}'");
    collector.wait_for(&replayed, 2).await;
    collector.settle().await;
    assert_eq!(collector.number(EDGES).await, 1);
}

#[tokio::test]
async fn only_a_page_of_the_site_gets_a_token_and_only_for_hosts_that_are_listed() {
    let collector = Collector::start(Config::new().with(SITES)).await;
    let anna = Visitor::new(&collector, "shop").await;
    let origin = |value| vec![("Origin", value)];
    for (to, changed, expected) in [
        ("www.news.example", origin(NEWS), (403, "origin")),
        ("www.news.example", origin("null"), (403, "origin")),
        (
            "www.news.example",
            origin("https://evil.example"),
            (403, "origin"),
        ),
        (
            "www.news.example",
            origin("http://www.shop.example"),
            (403, "origin"),
        ),
        ("www.news.example", origin(""), (403, "origin")),
        ("evil.example", origin(SHOP), (403, "link_host")),
        ("m.news.example", origin(SHOP), (403, "link_host")),
        (
            "www.news.example.evil.example",
            origin(SHOP),
            (403, "link_host"),
        ),
        ("", origin(SHOP), (403, "link_host")),
        ("m.news.example%3A8443", origin(SHOP), (200, "")),
        (
            "www.news.example&gdpr=1&gdpr_consent=broken",
            vec![],
            (204, ""),
        ),
        ("www.news.example", vec![("Sec-GPC", "1")], (204, "")),
        ("www.news.example", vec![("Cookie", "")], (204, "")),
        (
            "www.news.example",
            vec![("Sec-Fetch-Site", "cross-site")],
            (204, ""),
        ),
    ] {
        let reply = anna.ask(to, &changed).await;
        assert_eq!(reason(&reply), expected, "{to} {changed:?}");
        assert_eq!(reply.body.is_empty(), expected.0 == 204, "{reply:?}");
        assert_eq!(reply.header("set-cookie"), "", "{to} {changed:?}");
    }
    for (choice, status) in [
        ("store.measure.link", 200),
        ("store.measure", 204),
        ("measure.link", 204),
        ("store.link", 204),
        ("none", 204),
    ] {
        let cookies = format!("{}; avchoice={choice}", anna.cookie);
        let reply = anna.ask("www.news.example", &[("Cookie", &cookies)]).await;
        assert_eq!(reply.status, status, "{choice}");
    }
    // Where the collector has the page's own origin, browsers name none.
    let here = [("Origin", ""), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(
        reason(&anna.ask("www.news.example", &here).await),
        (403, "origin")
    );
    let own = [&here[..], &[("Host", "www.shop.example")]].concat();
    let status = anna.ask("www.news.example", &own).await.status;
    assert_eq!(status, 204, "the cookie is another host's");
    collector.settle().await;
    assert_eq!(
        collector.number("select count(*) from avtryck.hit").await,
        1
    );
}

#[tokio::test]
async fn a_token_counts_on_its_host_from_its_page_and_in_its_browser_alone() {
    let collector = Collector::start(Config::new().with(SITES)).await;
    let mallory = Visitor::new(&collector, "shop").await;
    let there = Visitor::new(&collector, "news").await;
    let token = mallory.token().await;
    let forged = tampered(&token);
    let mobile = mallory.ask("m.news.example:8443", &[]).await.body;
    for (token, from, changed, expected) in [
        // A link in a mail, on a page of the planter's own, or on another page of the same site.
        (&*token, "", vec![], (400, "link_token")),
        (&token, "https://evil.example/", vec![], (400, "link_token")),
        (&token, NEWS, vec![], (400, "link_token")),
        // In another browser, on another host, and on somebody else's.
        (
            &token,
            SHOP,
            vec![("User-Agent", IPHONE)],
            (400, "link_token"),
        ),
        (&mobile, SHOP, vec![], (400, "link_token")),
        (
            &token,
            SHOP,
            vec![("Origin", "https://m.news.example:8443")],
            (400, "link_token"),
        ),
        (
            &token,
            SHOP,
            vec![("Origin", "https://evil.example")],
            (403, "origin"),
        ),
        (&token, SHOP, vec![("Origin", "null")], (403, "origin")),
        (&token, SHOP, vec![("Origin", "")], (403, "origin")),
        // Made up, or somebody's cookie.
        (&forged, SHOP, vec![], (400, "link_token")),
        ("x", SHOP, vec![], (400, "link_token")),
        (
            there.cookie.split_once('=').unwrap().1,
            SHOP,
            vec![],
            (400, "link_token"),
        ),
    ] {
        let reply = there.send(token, from, &changed).await;
        assert_eq!(reason(&reply), expected, "{token} {from} {changed:?}");
    }
    // An address brings none to a list of events, and a system names no visitor by it.
    let headers = [
        ("Host", "px.news.example"),
        ("Origin", NEWS),
        ("User-Agent", AGENT),
        ("Content-Type", "text/plain"),
    ];
    let target = format!("/e?site=news&avlink={token}");
    let body = json!([{ "e": "plain", "ref": SHOP }]).to_string();
    assert_eq!(collector.post(&target, &headers, &body).await.status, 204);
    // A picture may bring it, whose page its referrer says.
    let mut headers = vec![
        ("Host", "px.news.example"),
        ("User-Agent", AGENT),
        ("Sec-Fetch-Site", "same-site"),
        ("Cookie", &*there.cookie),
        ("Referer", "https://evil.example/"),
    ];
    let event = json!({ "site": "news", "ref": SHOP, "avlink": token }).to_string();
    let event: String = url::form_urlencoded::byte_serialize(event.as_bytes()).collect();
    let target = format!("/p.gif?json={event}");
    assert_eq!(
        reason(&collector.get(&target, &headers).await),
        (403, "origin")
    );
    headers.pop();
    headers.push(("Referer", "https://www.news.example/"));
    assert_eq!(collector.get(&target, &headers).await.status, 200);
    collector.wait_for(EDGES, 1).await;
    assert_eq!(collector.number(SYNCS).await, 1);
    let plain = "select count(*) from avtryck.hit_detail where event_name = 'plain' and partner_uid is null";
    assert_eq!(collector.number(plain).await, 1);
}

#[tokio::test]
async fn both_sides_have_to_permit_a_link_and_either_of_them_ends_it() {
    let collector = Collector::start(Config::new().with(SITES)).await;
    let there = Visitor::new(&collector, "news").await;
    for choice in [
        "store.measure",
        "store.measure.match",
        "measure.link",
        "store.link",
        "none",
    ] {
        let anna = Visitor::new(&collector, "shop").await;
        let cookies = format!("{}; avchoice={choice}", there.cookie);
        let reply = there
            .send(&anna.token().await, SHOP, &[("Cookie", &cookies)])
            .await;
        assert_eq!(reply.status, 204, "{choice}");
    }
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count where kind = 6";
    collector.wait_for(counted, 2).await;
    collector
        .wait_for(&format!("{SYNCS} and partner_uid is null"), 3)
        .await;
    assert_eq!(collector.number(SYNCS).await, 3);
    assert_eq!(collector.number(EDGES).await, 0);

    // What was refused after the link was followed, and loaded before it led anywhere. Where links
    // lead, somebody else: a token knows its second only, and what was refused in that second
    // counts as refused after it.
    let there = Visitor::new(&collector, "news").await;
    let berta = Visitor::new(&collector, "shop").await;
    let token = berta.token().await;
    let cookies = format!("{}; avchoice=store.measure", berta.cookie);
    let headers = [
        ("Host", "px.shop.example"),
        ("User-Agent", AGENT),
        ("Sec-Fetch-Site", "same-site"),
        ("Cookie", &*cookies),
    ];
    collector.get("/p.gif?site=shop", &headers).await;
    let refused = "select count(*) from avtryck.subject_permit where site = 'shop' and permit = 3";
    collector.wait_for(refused, 1).await;
    assert_eq!(there.send(&token, SHOP, &[]).await.status, 204);
    collector
        .wait_for(&format!("{SYNCS} and partner_uid is not null"), 1)
        .await;
    collector.settle().await;
    assert_eq!(collector.number(EDGES).await, 0);

    // A visitor who withdraws takes along what another site's row says of them.
    let carl = Visitor::new(&collector, "shop").await;
    let token = carl.token().await;
    assert_eq!(there.send(&token, SHOP, &[]).await.status, 204);
    collector.wait_for(EDGES, 1).await;
    let headers = [
        ("Host", "px.shop.example"),
        ("Origin", SHOP),
        ("Sec-Fetch-Site", "same-site"),
        ("Cookie", &*carl.cookie),
    ];
    let later = carl.token().await;
    let target = "/consent?site=shop";
    assert_eq!(
        collector
            .request("DELETE", target, &headers, "")
            .await
            .status,
        200
    );
    collector.wait_for(EDGES, 0).await;
    // The link that they had followed before ends as a count.
    assert_eq!(there.send(&later, SHOP, &[]).await.status, 204);
    collector.wait_for(counted, 3).await;
    assert_eq!(collector.number(EDGES).await, 0);
}
