//! `/consent`: the visitor's own choice, told, recorded and withdrawn.

use avtryck::clock::{self, UnixMicros};
use avtryck::hit::VisitorId;
use avtryck::keys::CookieKeyring;
use avtryck::visitor::COOKIE_AGE_SECONDS;
use serde_json::{Value, json};

use crate::privacy;
use crate::support::{Collector, Config, Reply, tampered};

const PAGE: (&str, &str) = ("Origin", "https://www.open.example");
/// The page's host and the collector's lie in one domain.
const SAME_SITE: (&str, &str) = ("Sec-Fetch-Site", "same-site");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const ALL: &str =
    r#"{"store":true,"measure":true,"profile":true,"match":true,"link":true,"locate":true}"#;

fn told(reply: &Reply) -> Value {
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, "application/json")
    );
    assert_eq!(reply.header("cache-control"), "no-store");
    serde_json::from_str(&reply.body).unwrap()
}

fn permit(names: &[&str], source: &str) -> Value {
    let mut permit = json!({ "source": source });
    for flag in ["store", "measure", "profile", "match", "link", "locate"] {
        permit[flag] = names.contains(&flag).into();
    }
    permit
}

#[tokio::test]
async fn a_visitor_is_told_what_holds_now() {
    let collector = Collector::open().await;
    for (site, headers, expected) in [
        ("shut", vec![], permit(&[], "default")),
        (
            "open",
            vec![],
            permit(
                &["store", "measure", "profile", "match", "link", "locate"],
                "default",
            ),
        ),
        ("open", vec![("Sec-GPC", "1")], permit(&[], "gpc")),
        (
            "shut",
            vec![("Cookie", "avchoice=store.profile")],
            permit(&["store", "profile"], "choice"),
        ),
        (
            "shut",
            vec![("Cookie", "avchoice=store.profile"), ("Sec-GPC", "1")],
            permit(&["store"], "choice"),
        ),
        (
            "open",
            vec![("Cookie", "avchoice=none")],
            permit(&[], "choice"),
        ),
    ] {
        let reply = collector
            .get(&format!("/consent?site={site}"), &headers)
            .await;
        assert_eq!(told(&reply), expected, "{site} {headers:?}");
        assert_eq!(reply.cookies, [""; 0], "asking sets nothing");
    }
    // By its host, and under another path where that is asked for.
    assert_eq!(
        told(&collector.get("/consent", &[]).await)["source"],
        "default"
    );
    assert_eq!(
        collector
            .get("/consent?site=nowhere", &[])
            .await
            .header("avtryck-refusal"),
        "site_unknown"
    );
    let moved = Config::sites().set("path.consent", "/val");
    let collector = Collector::start(moved).await;
    assert_eq!(collector.get("/val?site=open", &[]).await.status, 200);
    assert_eq!(collector.get("/consent?site=open", &[]).await.status, 404);
}

#[tokio::test]
async fn a_choice_is_kept_in_a_cookie_that_each_hit_brings_back() {
    let collector = Collector::open().await;
    let own_host = [
        ("Host", "px.open.example"),
        ("X-Forwarded-Proto", "https"),
        ("Sec-Fetch-Site", "same-site"),
        PAGE,
        JSON,
    ];
    let reply = collector
        .post(
            "/consent?site=open",
            &own_host,
            r#"{"store":true,"measure":true,"profile":false}"#,
        )
        .await;
    assert_eq!(told(&reply), permit(&["store", "measure"], "choice"));
    let ended = |name: &str, more: &str| {
        let end = format!("{name}=; Path=/; Max-Age=0{more}");
        ["SameSite=Lax; Secure", "SameSite=None; Secure; Partitioned"]
            .map(|jar| {
                ["; Domain=open.example", "; Domain=px.open.example", ""]
                    .map(|domain| format!("{end}{domain}; {jar}"))
            })
            .concat()
    };
    // Every other cookie of that name ends first: one of a former domain must not hold beside it.
    let kept = |choice: &str| {
        let mut cookies = ended("avchoice", "");
        cookies.remove(0);
        cookies.push(format!(
            "avchoice={choice}; Path=/; Max-Age=33696000; Domain=open.example; SameSite=Lax; Secure"
        ));
        cookies
    };
    assert_eq!(reply.cookies, kept("store.measure"));
    // Without `store` the visitor cookie ends, wherever it was set.
    let reply = collector
        .post("/consent?site=open", &own_host, r#"{"measure":true}"#)
        .await;
    let all = [kept("measure"), ended("avid", "; HttpOnly")].concat();
    assert_eq!(reply.cookies, all);
    // With GPC the reply says what the choice comes to.
    let with_gpc = [PAGE, SAME_SITE, JSON, ("Sec-GPC", "1")];
    let reply = collector.post("/consent?site=open", &with_gpc, ALL).await;
    assert_eq!(
        told(&reply),
        permit(&["store", "measure", "locate"], "choice")
    );
    // In a page of another site it is that site's alone.
    let framed = [
        PAGE,
        JSON,
        ("X-Forwarded-Proto", "https"),
        ("Sec-Fetch-Site", "cross-site"),
    ];
    let reply = collector.post("/consent?site=open", &framed, ALL).await;
    assert!(
        reply.cookies[0].ends_with("Max-Age=33696000; SameSite=None; Secure; Partitioned"),
        "{reply:?}"
    );
    // Over http a browser would not keep that, and the reply does not claim that it did.
    let plain = [PAGE, JSON, ("Sec-Fetch-Site", "cross-site")];
    let reply = collector.post("/consent?site=open", &plain, "{}").await;
    assert_eq!(
        (told(&reply)["source"].as_str(), reply.cookies.len()),
        (Some("default"), 0)
    );
    let bad = collector
        .post(
            "/consent?site=open",
            &[PAGE, JSON],
            r#"{"everything":true}"#,
        )
        .await;
    assert_eq!((bad.status, bad.header("avtryck-refusal")), (400, "json"));
    let long = format!("{{\"store\":true{}}}", " ".repeat(5000));
    let long = collector
        .post("/consent?site=open", &[PAGE, JSON], &long)
        .await;
    assert_eq!(
        (long.status, long.header("avtryck-refusal")),
        (413, "body_too_large")
    );
}

#[tokio::test]
async fn of_several_choices_only_what_all_of_them_permit_holds() {
    let collector = Collector::open().await;
    let both = &["store", "measure"][..];
    for (cookies, allowed) in [
        (&["avchoice=store.measure; avchoice=none"][..], &[][..]),
        (&["avchoice=none; avchoice=store.measure"], &[]),
        (&["avchoice=store.measure", "avchoice=none"], &[]),
        (
            &["avchoice=store.measure; x=y; avchoice=measure.link"],
            &["measure"],
        ),
        (&["avchoice=\"store.measure\""], both),
        (&["avchoice=store.measure, avchoice=store"], &["store"]),
        (&["avchoice=store.measure; AvChoice=store"], &["store"]),
        (&["avchoice =store.measure;avchoice= store "], &["store"]),
        (&["avchoice=store.measure; avchoice=st\u{f6}re"], &[]),
        (&["avchoice=store.measure; avchoice=\"store"], &[]),
        (&["avchoice=store.measure; avchoice="], &[]),
        (&["avchoice=store.measure; avchoice2=none"], both),
    ] {
        let headers: Vec<_> = cookies.iter().map(|cookie| ("Cookie", *cookie)).collect();
        for site in ["open", "shut"] {
            let target = format!("/consent?site={site}");
            let reply = collector.get(&target, &headers).await;
            assert_eq!(told(&reply), permit(allowed, "choice"), "{cookies:?}");
        }
    }
}

#[tokio::test]
async fn a_choice_without_store_withdraws_wherever_it_is_made() {
    let careful = "[[site]]\nkey = \"careful\"\nsnowplow_consent_narrows = true\n";
    let collector = Collector::start(Config::sites().with(careful)).await;
    let permits = "select count(distinct subject) from avtryck.subject_permit";
    let mut cookies = Vec::new();
    for _ in 0..4 {
        let cookie = collector
            .get("/id?site=open", &[])
            .await
            .cookie()
            .to_owned();
        let headers = [("Cookie", &*cookie)];
        collector.get("/p.gif?site=open", &headers).await;
        cookies.push(cookie);
    }
    collector.wait_for(permits, 4).await;
    let [anna, berta, carla, doris] = &cookies[..] else {
        panic!("{cookies:?}")
    };
    // With `store` the visitor stays, and what it refuses it says with each hit.
    for (choice, cookie) in [(r#"["store"]"#, doris), ("[]", anna)] {
        let headers = [PAGE, JSON, SAME_SITE, ("Cookie", &**cookie)];
        let reply = collector.post("/consent?site=open", &headers, choice).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let page = privacy::page(&collector, &[("Cookie", berta)]).await;
    let body = format!("token={}&measure=on", privacy::token(&page));
    let reply = privacy::submit(&collector, "choice", berta, &body).await;
    assert_eq!(reply.status, 303, "{reply:?}");
    let schema = "iglu:com.snowplowanalytics.snowplow/consent_withdrawn/jsonschema/1-0-0";
    let document = json!({"schema": schema, "data": {"all": true}});
    let record = json!({"schema": "s", "data": document}).to_string();
    let event = json!({"e": "ue", "aid": "careful", "tv": "js-4.10.1", "ue_pr": record});
    let body =
        json!({"schema": "iglu:x/payload_data/jsonschema/1-0-4", "data": [event]}).to_string();
    let target = "/com.snowplowanalytics.snowplow/tp2";
    let reply = collector.post(target, &[("Cookie", carla)], &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    // What is loaded next has the list.
    let listed = "select count(*) from avtryck.suppression where reason = 'withdrawal'";
    collector.wait_for(listed, 3).await;
    collector.wait_for(permits, 1).await;
    let hit = [("Cookie", &**anna)];
    collector.get("/p.gif?site=open&e=suppressed", &hit).await;
    collector.get("/p.gif?site=open&e=last", &[]).await;
    let rows = "select count(*) from avtryck.hit where event_name";
    collector.wait_for(&format!("{rows} = 'last'"), 1).await;
    assert_eq!(collector.number(&format!("{rows} = 'suppressed'")).await, 0);
}

/// Makes a visitor cookie of that many days ago with the key of the test below.
fn cookie_of(id: u8, days: i64) -> String {
    let keys = CookieKeyring::new([(1, &[7; 32][..])], COOKIE_AGE_SECONDS);
    let made_at = UnixMicros(clock::now().0 - days * 86_400_000_000);
    let value = keys.sign(VisitorId([id; 16]), made_at).unwrap();
    format!("avid={value}")
}

#[tokio::test]
async fn a_cookie_that_the_clock_takes_for_expired_can_still_be_withdrawn_by_and_is_not_replaced() {
    let key = "1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let collector = Collector::start(Config::sites().set("cookie.keys", vec![key])).await;
    let expired = cookie_of(3, 400);
    let reply = collector
        .get("/p.gif?site=open&e=late", &[("Cookie", &expired)])
        .await;
    assert_eq!(reply.cookies, [""; 0]);
    let headers = [PAGE, SAME_SITE, ("Cookie", &*expired)];
    let reply = collector
        .request("DELETE", "/consent?site=open", &headers, "")
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let suppressed = "select count(*) from avtryck.suppression";
    collector.wait_for(suppressed, 1).await;
    collector.get("/p.gif?site=open&e=last", &[]).await;
    collector
        .wait_for(
            "select count(*) from avtryck.hit where event_name = 'last'",
            1,
        )
        .await;
    assert_eq!(
        collector.number("select count(*) from avtryck.hit").await,
        1
    );
}

#[tokio::test]
async fn a_cookie_from_before_a_shorter_age_was_configured_is_replaced() {
    let key = "1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let config = Config::sites().set("cookie.keys", vec![key]);
    let collector = Collector::start(config.set("cookie.max_age", "30d")).await;
    let old = cookie_of(4, 100);
    let reply = collector
        .get("/p.gif?site=open&e=old", &[("Cookie", &old)])
        .await;
    assert!(reply.cookies[0].starts_with("avid="), "{reply:?}");
    assert!(!reply.cookies[0].starts_with(&old), "{reply:?}");
    let rows = "select count(*) from avtryck.hit where event_name = 'old'";
    collector.wait_for(rows, 1).await;
}

#[tokio::test]
async fn of_two_ids_the_older_holds_and_a_withdrawal_is_about_both() {
    let key = "1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let collector = Collector::start(Config::sites().set("cookie.keys", vec![key])).await;
    let (older, newer) = (cookie_of(1, 100), cookie_of(2, 1));
    for (cookies, kept) in [
        (format!("{newer}; {older}"), Some(&older)),
        (format!("{older}; {newer}"), Some(&older)),
        (format!("{newer}; {newer}"), None),
        (format!("avid=forged; {newer}"), None),
    ] {
        let headers = [
            ("Host", "px.open.example"),
            ("X-Forwarded-Proto", "https"),
            ("Sec-Fetch-Site", "same-site"),
            ("Cookie", &*cookies),
        ];
        let reply = collector.get("/p.gif?site=open&e=both", &headers).await;
        let last = reply
            .cookies
            .last()
            .map(|cookie| cookie.split(';').next().unwrap());
        assert_eq!(last, kept.map(String::as_str), "{cookies}");
        let ended = reply
            .cookies
            .iter()
            .filter(|cookie| cookie.contains("Max-Age=0;"));
        assert_eq!(ended.count(), if kept.is_some() { 5 } else { 0 });
        // It ends when it said that it would.
        if let Some(last) = reply.cookies.last() {
            let age = last.split("Max-Age=").nth(1).unwrap();
            let left: i64 = age.split(';').next().unwrap().parse().unwrap();
            let expected = COOKIE_AGE_SECONDS - 100 * 86_400;
            assert!((expected - 300..=expected).contains(&left), "{last}");
        }
    }
    let both = "select count(*), count(distinct visitor_id) from avtryck.hit_detail where event_name = 'both'";
    collector
        .wait_for(
            "select count(*) from avtryck.hit where event_name = 'both'",
            4,
        )
        .await;
    let row = &collector.rows(both).await[0];
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (4, 2));
    let cookies = format!("{newer}; {older}");
    let headers = [PAGE, SAME_SITE, ("Cookie", &*cookies)];
    let reply = collector
        .request("DELETE", "/consent?site=open", &headers, "")
        .await;
    assert_eq!(reply.status, 200);
    let spool = collector.dir.path().join("spool/instruction");
    for cookie in [&newer, &older] {
        let visitor = super::consent::visitor_of(cookie);
        assert!(super::consent::holds(&spool, &visitor));
    }
}

/// A method, its headers, and the status and reason that it gets.
type Attempt = (
    &'static str,
    Vec<(&'static str, &'static str)>,
    u16,
    &'static str,
);

fn attempts() -> Vec<Attempt> {
    vec![
        ("POST", vec![JSON], 403, "origin"),
        ("DELETE", vec![], 403, "origin"),
        (
            "POST",
            vec![JSON, ("Origin", "https://evil.example")],
            403,
            "origin",
        ),
        (
            "DELETE",
            vec![("Origin", "https://evil.example")],
            403,
            "origin",
        ),
        ("DELETE", vec![("Origin", "null")], 403, "origin"),
        ("DELETE", vec![("Origin", "https://")], 403, "origin"),
        // Another site of the same collector is another site.
        (
            "DELETE",
            vec![("Origin", "https://www.shut.example")],
            403,
            "origin",
        ),
        (
            "DELETE",
            vec![("Origin", "http://www.open.example")],
            403,
            "origin",
        ),
        // The collector's own pages.
        ("DELETE", vec![("Origin", "http://127.0.0.1")], 200, ""),
        ("DELETE", vec![("Origin", "https://127.0.0.1")], 200, ""),
        (
            "DELETE",
            vec![("Origin", "http://127.0.0.1:81")],
            403,
            "origin",
        ),
        (
            "DELETE",
            vec![
                ("Origin", "http://127.0.0.1"),
                ("X-Forwarded-Proto", "https"),
            ],
            403,
            "origin",
        ),
        ("DELETE", vec![PAGE], 200, ""),
        // What a form can send.
        ("POST", vec![PAGE], 415, "content_type"),
        (
            "POST",
            vec![PAGE, ("Content-Type", "text/plain")],
            415,
            "content_type",
        ),
        (
            "POST",
            vec![PAGE, ("Content-Type", "application/x-www-form-urlencoded")],
            415,
            "content_type",
        ),
        ("POST", vec![PAGE, JSON], 200, ""),
        ("PUT", vec![PAGE, JSON], 405, "method"),
    ]
}

#[tokio::test]
async fn no_other_site_can_change_a_choice() {
    let collector = Collector::open().await;
    for (method, headers, status, reason) in attempts() {
        let body = if method == "POST" { ALL } else { "" };
        let reply = collector
            .request(method, "/consent?site=open", &headers, body)
            .await;
        assert_eq!(
            (reply.status, reply.header("avtryck-refusal")),
            (status, reason),
            "{method} {headers:?}"
        );
        if status != 200 {
            assert_eq!(reply.cookies, [""; 0]);
            let metric = format!("avtryck_refusals_total{{reason=\"{reason}\"}}");
            assert!(collector.metric(&metric).await >= 1.0);
        }
    }
}

#[tokio::test]
async fn only_pages_of_the_site_itself_may_read_its_choice() {
    let collector = Collector::open().await;
    let allowed = async |method: &str, origin: &str| {
        let headers = [("Origin", origin)];
        let reply = collector
            .request(method, "/consent?site=open", &headers, "")
            .await;
        (
            reply.status,
            reply.header("access-control-allow-origin").to_owned(),
            reply.header("access-control-allow-credentials").to_owned(),
        )
    };
    let none = || (String::new(), String::new());
    let own = || (PAGE.1.to_owned(), "true".to_owned());
    for (method, origin, status, (by_origin, by_credentials)) in [
        ("GET", PAGE.1, 200, own()),
        ("OPTIONS", PAGE.1, 204, own()),
        ("GET", "https://www.shut.example", 200, none()),
        ("OPTIONS", "https://www.shut.example", 403, none()),
        ("OPTIONS", "https://evil.example", 403, none()),
    ] {
        assert_eq!(
            allowed(method, origin).await,
            (status, by_origin, by_credentials),
            "{method} {origin}"
        );
    }
    let preflight = collector
        .request("OPTIONS", "/consent?site=open", &[PAGE], "")
        .await;
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        "GET, HEAD, POST, DELETE, OPTIONS"
    );
}

#[tokio::test]
async fn a_withdrawal_is_on_disk_before_its_reply_and_is_no_hit() {
    let collector = Collector::open().await;
    let cookie = collector
        .get("/id?site=open", &[])
        .await
        .cookie()
        .to_owned();
    let other = collector
        .get("/id?site=open", &[])
        .await
        .cookie()
        .to_owned();
    let forged = tampered(&other);
    let spool = collector.dir.path().join("spool");
    let in_spool =
        |cookie: &str| super::consent::holds(&spool, &super::consent::visitor_of(cookie));

    // A cookie that is not ours names nobody: nothing is recorded, the choice is set all the same.
    let reply = collector
        .request(
            "DELETE",
            "/consent?site=open",
            &[PAGE, SAME_SITE, ("Cookie", &forged)],
            "",
        )
        .await;
    assert_eq!(told(&reply), permit(&[], "choice"));
    assert!(!in_spool(&forged));

    let cookies = format!("{cookie}; avchoice=store.measure; {forged}");
    let reply = collector
        .request(
            "DELETE",
            "/consent?site=open",
            &[PAGE, SAME_SITE, ("Cookie", &cookies)],
            "",
        )
        .await;
    assert!(in_spool(&cookie), "the record is there once the reply is");
    assert!(!in_spool(&forged));
    assert_eq!(told(&reply), permit(&[], "choice"));
    assert_eq!(
        reply.cookies,
        [
            "avchoice=none; Path=/; Max-Age=33696000; SameSite=Lax",
            "avid=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
        ]
    );
    // What the browser sends from now on is a count, even if it kept the old ID.
    let kept = format!("{cookie}; avchoice=none");
    assert_eq!(
        collector
            .get("/p.gif?site=open", &[("Cookie", &kept)])
            .await
            .cookies,
        [""; 0]
    );
    collector
        .wait_for(
            "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count",
            1,
        )
        .await;
    assert_eq!(
        collector
            .number("select count(*) from avtryck.hit_detail")
            .await,
        0
    );
    assert_eq!(
        collector
            .number("select count(*) from avtryck.rejected_hit")
            .await,
        0
    );
}
