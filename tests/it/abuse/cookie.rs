//! Cookies that somebody else planted, withdrawals that are repeated, and what reaches the admin
//! listener.

use std::collections::HashSet;

use avtryck::callback::{Destination, Signed};
use avtryck::clock::{self, UnixMicros};
use avtryck::hit::VisitorId;
use avtryck::keys::CookieKeyring;
use avtryck::visitor::COOKIE_AGE_SECONDS;
use tokio::net::TcpStream;

use crate::consent::holds;
use crate::support::{Collector, Config, Reply, raw, root, tempdir};

const KEY: &str = "1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const HOST: &str = "px.open.example";
const DOMAIN: Option<&str> = Some("open.example");
const SECURE: (&str, &str) = ("X-Forwarded-Proto", "https");
const SAME_SITE: (&str, &str) = ("Sec-Fetch-Site", "same-site");
const PAGE: (&str, &str) = ("Origin", "https://www.open.example");

fn keyring() -> CookieKeyring {
    CookieKeyring::new([(1, &[7; 32][..])], COOKIE_AGE_SECONDS)
}

fn config() -> Config {
    Config::sites().set("cookie.keys", vec![KEY])
}

fn id(number: u32) -> VisitorId {
    let mut id = [0xab; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    VisitorId(id)
}

fn days_ago(days: i64) -> UnixMicros {
    UnixMicros(clock::now().0 - days * 86_400_000_000)
}

/// Makes a value that was made that many days ago at a host.
fn value_at(host: &str, domain: Option<&str>, number: u32, days: i64) -> String {
    let keyring = keyring();
    let value = keyring.at(host).sign(id(number), domain, days_ago(days));
    value.unwrap()
}

fn value(number: u32, days: i64) -> String {
    value_at(HOST, DOMAIN, number, days)
}

/// Joins values to the cookies of one name.
fn line(name: &str, values: &[String]) -> String {
    let each = values.iter().map(|value| format!("{name}={value}"));
    each.collect::<Vec<_>>().join("; ")
}

/// Sends a page view with cookies, over https to the site's host.
async fn hit(collector: &Collector, name: &str, cookies: &str) -> Reply {
    let target = format!("/p.gif?site=open&e={name}");
    let headers = [("Host", HOST), SECURE, SAME_SITE, ("Cookie", cookies)];
    let reply = collector.get(&target, &headers).await;
    assert_eq!(reply.status, 200, "{name}");
    reply
}

/// Whose rows the hits of a name became.
async fn visitors_of(collector: &Collector, name: &str, number: i64) -> Vec<String> {
    let count = format!("select count(*) from avtryck.hit where event_name = '{name}'");
    collector.wait_for(&count, number).await;
    let sql = format!(
        "select distinct visitor_id::text from avtryck.hit_detail where event_name = '{name}' order by 1"
    );
    let rows = collector.rows(&sql).await;
    rows.iter().map(|row| row.get(0)).collect()
}

async fn withdraw(collector: &Collector, client: &str, cookies: &str) -> Reply {
    let headers = [
        ("Host", HOST),
        SECURE,
        SAME_SITE,
        PAGE,
        ("X-Forwarded-For", client),
        ("Cookie", cookies),
    ];
    let target = "/consent?site=open";
    collector.request("DELETE", target, &headers, "").await
}

#[tokio::test]
async fn ids_that_were_planted_beside_a_visitors_own_change_nothing_and_end_nothing() {
    let collector = Collector::start(config()).await;
    let own = value(0, 100);
    let mut cases = 0;
    for number in [1, 2, 7, 199] {
        let mut planted: Vec<String> = (1..=number)
            .map(|at| value(at, i64::from(at % 90)))
            .collect();
        // From another host of the domain, from another site, forged, expired.
        planted.push(value_at("www.open.example", None, 901, 300));
        planted.push(value_at("px.else.example", Some("else.example"), 902, 300));
        planted.push(own.replace('A', "B"));
        planted.push(value(903, 389 + 11));
        for at in [0, planted.len() / 2, planted.len()] {
            let mut values = planted.clone();
            values.insert(at, own.clone());
            let reply = hit(&collector, "planted", &line("avid", &values)).await;
            assert_eq!(reply.cookies, [""; 0], "{number} at {at}");
            cases += 1;
        }
    }
    let visitors = visitors_of(&collector, "planted", cases).await;
    assert_eq!(visitors, [id(0).to_string()]);
}

#[tokio::test]
async fn a_cookie_of_another_host_or_site_is_nobody_here() {
    let collector = Collector::start(config()).await;
    for foreign in [
        value_at("www.open.example", None, 1, 9),
        value_at("px.else.example", Some("else.example"), 2, 9),
        value_at("open.example", None, 3, 9),
    ] {
        let reply = hit(&collector, "foreign", &format!("avid={foreign}")).await;
        assert!(reply.cookies[0].starts_with("avid="), "{reply:?}");
        assert!(!reply.cookies[0].contains(&foreign));
        let withdrawn = withdraw(&collector, "2.64.0.1", &format!("avid={foreign}")).await;
        assert_eq!(withdrawn.status, 200);
    }
    assert_eq!(collector.metric("avtryck_instructions_total").await, 0.0);
    // One that the collector itself set for another of its hosts.
    let elsewhere = [("Host", "px.else.example"), SECURE, SAME_SITE];
    let set = collector.get("/p.gif?site=open", &elsewhere).await;
    let reply = hit(&collector, "foreign", set.cookie()).await;
    assert_ne!(reply.cookie(), "");
    // A value from before they were bound proves its visitor until it expires.
    let unbound = keyring().sign(id(4), days_ago(9)).unwrap();
    let reply = hit(&collector, "unbound", &format!("avid={unbound}")).await;
    assert_eq!(reply.cookies, [""; 0]);
    let visitors = visitors_of(&collector, "unbound", 1).await;
    assert_eq!(visitors, [id(4).to_string()]);
}

#[tokio::test]
async fn a_withdrawal_takes_as_many_ids_as_a_header_holds_and_each_once() {
    let collector = Collector::start(config().without_postgres()).await;
    let values: Vec<String> = (0..200).map(|at| value(at, 9)).collect();
    let cookies = line("avid", &values);
    let instructions = "avtryck_instructions_total";
    for client in ["2.64.0.1", "2.64.0.2", "2.64.9.9"] {
        let reply = withdraw(&collector, client, &cookies).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(
            reply
                .cookies
                .iter()
                .any(|cookie| cookie.starts_with("avchoice=none"))
        );
        assert_eq!(collector.metric(instructions).await, 200.0);
    }
    let spool = collector.dir.path().join("spool/instruction");
    for number in 0..200 {
        assert!(holds(&spool, &id(number).0), "{number}");
    }
    // One of them again, beside one that is new.
    let two = line("avid", &[values[7].clone(), value(200, 9)]);
    assert_eq!(withdraw(&collector, "2.64.0.3", &two).await.status, 200);
    assert_eq!(collector.metric(instructions).await, 201.0);
    assert!(holds(&spool, &id(200).0));
}

#[tokio::test]
async fn what_is_carried_out_may_be_asked_for_again() {
    let collector = Collector::start(config()).await;
    let cookie = format!("avid={}", value(1, 9));
    assert_eq!(withdraw(&collector, "2.64.0.1", &cookie).await.status, 200);
    let suppressed = "select count(*) from avtryck.suppression";
    collector.wait_for(suppressed, 1).await;
    let again = async || {
        withdraw(&collector, "2.64.0.1", &cookie).await;
        collector.metric("avtryck_instructions_total").await > 1.0
    };
    // The edge hears of it within a second or two; one client may ask once a second for long.
    for _ in 0..20 {
        if again().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    panic!("an instruction that is carried out is never forgotten");
}

#[tokio::test]
async fn one_network_cannot_fill_the_spool_of_instructions_and_no_other_pays_for_it() {
    let collector = Collector::start(config().without_postgres()).await;
    let unrecorded = "avtryck_instructions_unrecorded_total";
    for (network, elsewhere) in [
        ("203.0.113.", "203.0.114.7"),
        ("2a00:801:1:", "2a00:801:2::7"),
    ] {
        let mut next = 0;
        let mut recorded = 0;
        let refused = loop {
            let values: Vec<String> = (next..next + 200).map(|at| value(at, 9)).collect();
            next += 200;
            // Each from an address of its own, in IPv6 from a /64 of its own.
            let client = match network.contains(':') {
                true => format!("{network}{next:x}::1"),
                false => format!("{network}{}", next / 200),
            };
            let reply = withdraw(&collector, &client, &line("avid", &values)).await;
            if reply.status != 200 {
                break reply;
            }
            recorded += 200;
            assert!(recorded <= 2000, "{recorded}");
        };
        assert_eq!(
            (
                refused.status,
                refused.header("avtryck-refusal"),
                refused.cookies.len()
            ),
            (429, "over_limit", 0)
        );
        assert!(recorded >= 1000, "{recorded}");
        // A choice without `store` is kept, and the cookie of the ID that is not withdrawn stays.
        let before = collector.metric(unrecorded).await;
        assert!(before >= 1.0, "{before}");
        let client = elsewhere
            .replace("114.7", "113.99")
            .replace("2::7", "1:99::1");
        let values: Vec<String> = (next..next + 200).map(|at| value(at, 9)).collect();
        let headers = [
            ("Host", HOST),
            SECURE,
            SAME_SITE,
            PAGE,
            ("Content-Type", "application/json"),
            ("X-Forwarded-For", &*client),
            ("Cookie", &*line("avid", &values)),
        ];
        let reply = collector.post("/consent?site=open", &headers, "[]").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let set = |name: &str| reply.cookies.iter().any(|cookie| cookie.starts_with(name));
        assert!(set("avchoice=none") && !set("avid="), "{reply:?}");
        assert_eq!(collector.metric(unrecorded).await, before + 1.0);
        let one = format!("avid={}", value(1_000_000 + next, 9));
        let honest = withdraw(&collector, elsewhere, &one).await;
        assert_eq!(honest.status, 200);
        // A repeat of what waits costs the network nothing.
        let known = format!("avid={}", value(next - 400, 9));
        let client = elsewhere
            .replace("114.7", "113.200")
            .replace("2::7", "1:ffff::1");
        assert_eq!(withdraw(&collector, &client, &known).await.status, 200);
    }
}

fn prefixed() -> Config {
    Config::new().with(&format!(
        r#"
        [[site]]
        key = "open"
        hosts = ["{HOST}"]
        origins = ["https://www.open.example"]
        default_permit = ["store", "measure"]
        [cookie]
        keys = ["{KEY}"]
        name = "__Host-avid"
        former_name = "avid"
        choice_name = "__Secure-avchoice"
        former_choice_name = "avchoice"
        "#
    ))
}

#[tokio::test]
async fn a_renamed_cookie_moves_once_and_its_prefix_outweighs_whatever_is_planted() {
    let collector = Collector::start(prefixed()).await;
    let former = keyring().sign(id(1), days_ago(100)).unwrap();
    let moved = hit(&collector, "moved", &format!("avid={former}")).await;
    let set = moved.cookies.last().unwrap();
    assert!(set.starts_with("__Host-avid="), "{moved:?}");
    assert!(set.ends_with("; HttpOnly; SameSite=Lax; Secure") && !set.contains("Domain"));
    let left = COOKIE_AGE_SECONDS - 100 * 86_400;
    let age = set
        .split("Max-Age=")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    assert!((left - 300..=left).contains(&age.parse().unwrap()), "{set}");
    let ended = "avid=; Path=/; Max-Age=0; HttpOnly; Domain=open.example; SameSite=Lax; Secure";
    assert!(
        moved.cookies.iter().any(|cookie| cookie == ended),
        "{moved:?}"
    );
    let own = set.split(';').next().unwrap();
    // An older ID that is planted, in every disguise that a browser lets another host set.
    let older = keyring().sign(id(2), days_ago(300)).unwrap();
    for planted in [
        format!("avid={older}"),
        format!("__host-avid={older}"),
        format!("x=y,__Host-avid={older}"),
        format!("x=, __Host-avid={older}"),
    ] {
        for cookies in [format!("{planted}; {own}"), format!("{own}; {planted}")] {
            let reply = hit(&collector, "moved", &cookies).await;
            assert_eq!(reply.cookies, [""; 0], "{cookies}");
        }
    }
    let visitors = visitors_of(&collector, "moved", 9).await;
    assert_eq!(visitors, [id(1).to_string()]);
    // A withdrawal is about all of them, and ends both names.
    let both = format!("avid={older}; {own}");
    let reply = withdraw(&collector, "2.64.0.1", &both).await;
    assert_eq!(reply.status, 200);
    for start in [
        "avid=;",
        "__Host-avid=;",
        "avchoice=;",
        "__Secure-avchoice=none;",
    ] {
        assert!(
            reply.cookies.iter().any(|cookie| cookie.starts_with(start)),
            "{start}"
        );
    }
    let spool = collector.dir.path().join("spool/instruction");
    assert!(holds(&spool, &id(1).0) && holds(&spool, &id(2).0));
    // Over http a browser would keep neither.
    let plain = [("Host", HOST), ("Sec-Fetch-Site", "same-site")];
    let reply = collector.get("/p.gif?site=open", &plain).await;
    assert_eq!((reply.status, reply.cookies.len()), (200, 0));
}

#[tokio::test]
async fn a_planted_choice_only_narrows_under_every_name() {
    let collector = Collector::start(prefixed()).await;
    let permitted = async |cookies: &str| {
        let headers = [("Host", HOST), SECURE, SAME_SITE, ("Cookie", cookies)];
        let reply = collector.get("/consent?site=open", &headers).await;
        let told: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        let names = ["store", "measure", "profile"];
        let given = names.into_iter().filter(|name| told[name] == true);
        given.collect::<HashSet<_>>()
    };
    let (own, all) = ("__Secure-avchoice=measure", "store.measure.profile");
    assert_eq!(permitted(own).await, ["measure"].into());
    for planted in [
        format!("avchoice={all}"),
        format!("AvChoice={all}"),
        format!("__secure-avchoice={all}"),
        format!("x=y,__Secure-avchoice={all}"),
        "avchoice=none".to_owned(),
        "__Secure-avchoice=store".to_owned(),
    ] {
        for cookies in [format!("{own}; {planted}"), format!("{planted}; {own}")] {
            let permit = permitted(&cookies).await;
            assert!(
                permit.is_subset(&["measure"].into()),
                "{cookies}: {permit:?}"
            );
        }
    }
    // A choice that was made under the former name still holds; a lookalike permits nothing.
    assert_eq!(permitted("avchoice=measure").await, ["measure"].into());
    assert_eq!(permitted("avchoice=none").await, HashSet::new());
    let lookalike = format!("x=y,__Secure-avchoice={all}");
    assert_eq!(permitted(&lookalike).await, HashSet::new());
}

const SECRET: &str = "a-secret-of-the-partner";

fn callback(
    target: &str,
    content_type: &str,
    body: &str,
    signature: &str,
    timestamp: &str,
) -> Vec<u8> {
    format!(
        "POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAvtryck-Timestamp: {timestamp}\r\n\
         Avtryck-Signature: {signature}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn told(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("avtryck-refusal"))
}

#[tokio::test]
async fn a_signed_callback_is_for_one_host_and_counts_once_however_often_it_is_sent() {
    let config = Config::sites().with(&format!(
        r#"
        [[partner]]
        key = "signing"
        secret = "{SECRET}"
        sites = ["open"]
        default_permit = ["store", "measure"]
        "#
    ));
    let collector = Collector::start(config).await;
    let timestamp = clock::now().seconds().to_string();
    let sign = |target: &str, body: &str, host: Option<&str>| {
        let signed = Signed {
            timestamp: &timestamp,
            method: "POST",
            target,
            body: body.as_bytes(),
        };
        let secret = SECRET.as_bytes();
        let content_type = "application/json";
        let signature = match host {
            Some(host) => signed.signature_2(&Destination { host, content_type }, secret),
            None => signed.signature(secret),
        };
        signature.unwrap()
    };
    let send = async |target: &str, content_type: &str, body: &str, signature: &str| {
        let request = callback(target, content_type, body, signature, &timestamp);
        raw(collector.http, &request).await
    };
    let (target, json) = ("/cb/signing?site=open", "application/json");
    let one = r#"{"ev":"conversion","campaign":"replayed"}"#;
    let two =
        r#"[{"ev":"conversion","campaign":"replayed"},{"ev":"conversion","campaign":"replayed"}]"#;
    for host in [None, Some("127.0.0.1")] {
        for body in [one, two] {
            let signature = sign(target, body, host);
            for _ in 0..3 {
                assert_eq!(told(&send(target, json, body, &signature).await), (204, ""));
            }
            let upper = signature.to_ascii_uppercase().replace("V2=", "v2=");
            assert_eq!(told(&send(target, json, body, &upper).await), (204, ""));
        }
    }
    let body = r#"{"ev":"conversion","campaign":"last"}"#;
    let signature = sign(target, body, Some("127.0.0.1"));
    let refused = (403, "callback_signature");
    assert_eq!(
        told(&send(target, "text/plain", body, &signature).await),
        refused
    );
    let elsewhere = sign(target, body, Some("px.else.example"));
    assert_eq!(told(&send(target, json, body, &elsewhere).await), refused);
    let shut = "/cb/signing?site=shut";
    let signature_of_shut = sign(shut, body, None);
    let of_shut = send(shut, json, body, &signature_of_shut).await;
    assert_eq!(told(&of_shut), (403, "partner_site"));
    assert_eq!(told(&send(target, json, body, &signature).await), (204, ""));
    let last = "select count(*) from avtryck.hit_detail where campaign = 'last'";
    collector.wait_for(last, 1).await;
    let replayed = "select count(*) from avtryck.hit_detail where campaign = 'replayed'";
    assert_eq!(collector.number(replayed).await, 6);
}

#[tokio::test]
async fn a_partner_writes_for_its_sites_alone_and_a_click_still_leads_on() {
    let config = crate::ads::sites().with(
        r#"
        [[partner]]
        key = "bound"
        sites = ["open"]
        default_permit = ["store", "measure"]
        "#,
    );
    let collector = Collector::start(config).await;
    for (target, status, reason) in [
        ("/i.gif?site=open&partner=bound", 200, ""),
        ("/i.gif?site=telling&partner=bound", 403, "partner_site"),
        ("/p.gif?site=telling&partner=bound", 403, "partner_site"),
        ("/sync/bound?site=telling&uid=1", 403, "partner_site"),
        ("/i.gif?site=telling&partner=network", 200, ""),
        (
            "/c?site=telling&partner=bound&to=https%3A%2F%2Fwww.shop.example%2F",
            302,
            "partner_site",
        ),
    ] {
        let reply = collector.get(target, &[]).await;
        assert_eq!(told(&reply), (status, reason), "{target}");
    }
    let events = r#"[{"site":"open","partner":"bound"},{"site":"telling","partner":"bound"}]"#;
    let reply = collector.post("/e", &[], events).await;
    assert_eq!(told(&reply), (200, "partner_site"));
}

#[tokio::test]
async fn a_click_by_https_leads_neither_down_to_http_nor_to_other_services_of_a_host() {
    let collector = Collector::start(crate::ads::sites()).await;
    for (to, location) in [
        (
            "https%3A%2F%2Fwww.shop.example%2F",
            "https://www.shop.example/",
        ),
        (
            "http%3A%2F%2Fwww.shop.example%2Fa",
            "https://www.shop.example/a",
        ),
        ("https%3A%2F%2Fwww.shop.example%3A22%2F", ""),
        ("http%3A%2F%2Fwww.shop.example%3A8080%2F", ""),
        ("javascript%3Aalert(1)", ""),
    ] {
        let target = format!("/c?site=open&to={to}");
        let reply = collector.get(&target, &[SECURE]).await;
        assert_eq!(reply.header("location"), location, "{to}");
        assert_eq!(reply.status, if location.is_empty() { 400 } else { 302 });
    }
}

#[tokio::test]
async fn the_admin_listener_answers_no_page_of_a_stranger_and_is_not_held_by_idle_connections() {
    let collector = Collector::start(Config::sites().set("admin.hosts", vec!["ops.example"])).await;
    let ask = async |path: &str, headers: &str| {
        let request = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        raw(collector.admin, request.as_bytes()).await.status
    };
    for path in ["/metrics", "/readyz"] {
        for host in [
            "127.0.0.1:8090",
            "[::1]",
            "avtryck:8090",
            "a.b.svc:8090",
            "ops.example",
        ] {
            assert_eq!(ask(path, &format!("Host: {host}\r\n")).await, 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8090",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert_eq!(ask(path, &format!("Host: {host}\r\n")).await, 403, "{host}");
        }
    }
    assert_eq!(ask("/healthz", "Host: evil.example\r\n").await, 200);
    for headers in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
    ] {
        let headers = format!("Host: 127.0.0.1:8090\r\n{headers}");
        assert_eq!(ask("/live", &headers).await, 403, "{headers}");
    }
    // Twice as many as it has places for.
    let mut idle = Vec::new();
    for _ in 0..128 {
        idle.push(TcpStream::connect(collector.admin).await.unwrap());
    }
    let began = std::time::Instant::now();
    assert_eq!(collector.admin("/readyz").await.status, 200);
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    drop(idle);
}

#[tokio::test]
async fn a_check_of_the_dependencies_that_is_required_fails_without_its_tool() {
    let dir = tempdir();
    let script = dir.path().join("script");
    std::fs::create_dir(&script).unwrap();
    for name in ["deny", "lib.sh"] {
        std::fs::copy(root().join("script").join(name), script.join(name)).unwrap();
    }
    for (variables, is_required) in [
        (&[][..], false),
        (&[("CI", "true")], true),
        (&[("CI", "true"), ("DENY_REQUIRED", "0")], false),
        (&[("CI", ""), ("DENY_REQUIRED", "1")], true),
    ] {
        let output = tokio::process::Command::new(script.join("deny"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(variables.iter().copied())
            .output()
            .await
            .unwrap();
        assert_eq!(
            output.status.success(),
            !is_required,
            "{variables:?}: {output:?}"
        );
    }
}
