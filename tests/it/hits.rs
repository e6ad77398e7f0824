//! Pixels and events: what is sent, answered and stored.

mod mended;

use crate::support::{Collector, Config, raw, tampered};

const SWEDEN: &str = "2.64.0.1";

#[tokio::test]
async fn a_pixel_is_answered_with_a_gif_and_becomes_an_enriched_row() {
    let collector = Collector::start(Config::sites().real_geodata()).await;
    let reply = collector
        .get(
            "/p.gif?site=open&u=https%3A%2F%2Fwww.open.example%2Fa&ref=https%3A%2F%2Fsearch.example%2F&colour=red&cb=77",
            &[("X-Forwarded-Proto", "https")],
        )
        .await;
    assert_eq!((reply.status, reply.bytes.len()), (200, 43));
    assert_eq!(reply.header("content-type"), "image/gif");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert!(reply.header("accept-ch").contains("Sec-CH-UA-Model"));
    assert!(
        reply
            .header("set-cookie")
            .contains("; HttpOnly; SameSite=Lax; Secure"),
        "{reply:?}"
    );
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 1)
        .await;
    let row = &collector
        .rows(
            "select kind, site, page_url, referrer, country, city, device_class, device_brand, \
             device_model, os, os_version, browser, is_bot, permit, consent_source, flags, \
             client_ip::text, params::text, visitor_id is not null as has_visitor, \
             abs(extract(epoch from now() - received_at))::float8 as age \
             from avtryck.hit_detail",
        )
        .await[0];
    let text = |name: &str| row.get::<_, Option<String>>(name).unwrap_or_default();
    assert_eq!(text("kind"), "page_view");
    assert_eq!(text("site"), "open");
    assert_eq!(text("page_url"), "https://www.open.example/a");
    assert_eq!(text("referrer"), "https://search.example/");
    assert_eq!(text("country"), "SE");
    assert_ne!(text("city"), "");
    assert_eq!(text("device_class"), "phone");
    assert_eq!(
        (text("device_brand"), text("device_model")),
        ("Apple".into(), "iPhone".into())
    );
    assert_eq!(
        (text("os"), text("os_version")),
        ("iOS".into(), "17.5".into())
    );
    assert!(text("browser").contains("Safari"));
    assert!(!row.get::<_, bool>("is_bot"));
    assert_eq!(text("consent_source"), "default");
    assert_eq!(row.get::<_, Vec<String>>("permit").len(), 6);
    assert_eq!(row.get::<_, Vec<String>>("flags"), ["new_visitor"]);
    assert_eq!(text("client_ip"), "2.64.0.0/24");
    assert_eq!(text("params"), r#"{"colour": "red"}"#);
    assert!(row.get::<_, bool>("has_visitor"));
    assert!(row.get::<_, f64>("age") < 60.0);
}

#[tokio::test]
async fn events_come_one_by_one_or_as_an_array_and_a_wrong_one_costs_no_good_one() {
    let collector = Collector::open().await;
    let one = r#"{"site":"open","u":"https://www.open.example/","e":"buy","price":12.5,"nested":{"a":[1]}}"#;
    for content_type in ["text/plain;charset=UTF-8", "application/json"] {
        let reply = collector
            .post("/e", &[("Content-Type", content_type)], one)
            .await;
        assert_eq!((reply.status, &*reply.body), (204, ""));
    }
    let many = r#"[{"site":"open","e":"a"}, {"site":"nowhere"}, 7, {"site":"open","e":"b"}]"#;
    let reply = collector.post("/e", &[], many).await;
    assert_eq!(reply.status, 200);
    let answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(
        (&answer["taken"], &answer["refused"]),
        (&2.into(), &2.into())
    );
    assert_eq!(
        answer["first"][0],
        serde_json::json!({"index": 1, "reason": "site_unknown"})
    );
    assert_eq!(reply.header("avtryck-refusal"), "site_unknown");
    let none = collector.post("/e", &[], r#"[{"site":"nowhere"}]"#).await;
    assert_eq!(none.status, 400);
    assert_eq!(
        collector
            .post("/e", &[], "{")
            .await
            .header("avtryck-refusal"),
        "json"
    );
    let form = collector
        .post("/e", &[("Content-Type", "text/html")], one)
        .await;
    assert_eq!(
        (form.status, form.header("avtryck-refusal")),
        (415, "content_type")
    );
    collector
        .wait_for(
            "select count(*) from avtryck.hit_detail where kind = 'event'",
            4,
        )
        .await;
    let row = &collector
        .rows("select event_name, params::text from avtryck.hit_detail where event_name = 'buy'")
        .await[0];
    assert_eq!(
        row.get::<_, String>(1),
        r#"{"price": 12.5, "nested": {"a": [1]}}"#
    );
    // One request is one visitor, however many events it brings.
    let visitors =
        "select count(distinct visitor_id) from avtryck.hit_detail where event_name in ('a', 'b')";
    assert_eq!(collector.number(visitors).await, 1);
}

#[tokio::test]
async fn the_cookie_is_kept_while_it_is_ours_and_replaced_when_it_is_not() {
    let collector = Collector::open().await;
    let first = collector.get("/id?site=open", &[]).await;
    assert_eq!(first.status, 204);
    let cookie = first.cookie().to_owned();
    assert!(
        first.header("set-cookie").contains("Max-Age=33696000"),
        "{first:?}"
    );
    let again = collector
        .get("/p.gif?site=open&e=again", &[("Cookie", &cookie)])
        .await;
    assert_eq!(
        again.header("set-cookie"),
        "",
        "a cookie is not renewed by each hit"
    );
    let forged = tampered(&cookie);
    for foreign in [forged.as_str(), "avid=1234", "avid="] {
        let reply = collector
            .get("/p.gif?site=open&e=new", &[("Cookie", foreign)])
            .await;
        assert!(
            reply.cookie().starts_with("avid=") && reply.cookie() != cookie,
            "{foreign}"
        );
    }
    let image = collector
        .get("/id?site=open&f=i", &[("Cookie", &cookie)])
        .await;
    assert_eq!((image.status, image.bytes.len()), (200, 43));
    // In a page of another site the cookie is that site's alone, and needs https.
    let elsewhere = [
        ("Sec-Fetch-Site", "cross-site"),
        ("X-Forwarded-Proto", "https"),
    ];
    let third = collector.get("/id?site=open", &elsewhere).await;
    assert!(
        third
            .header("set-cookie")
            .ends_with("; SameSite=None; Secure; Partitioned")
    );
    let bare = collector.get("/id?site=open", &elsewhere[..1]).await;
    assert_eq!(bare.header("set-cookie"), "");
    // On the site's own domain the cookie holds for all its hosts.
    let own = [("Host", "px.open.example"), ("X-Forwarded-Proto", "https")];
    let own = collector.get("/id?site=open", &own).await;
    assert!(
        own.header("set-cookie")
            .contains("; Domain=open.example; SameSite=Lax; Secure")
    );
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 4)
        .await;
    let visitors = "select count(distinct visitor_id) from avtryck.hit_detail";
    assert_eq!(collector.number(visitors).await, 4);
}

#[tokio::test]
async fn an_impression_carries_its_ad_and_a_repeated_event_id_is_stored_once() {
    let collector = Collector::open().await;
    let target = "/i.gif?site=open&partner=network&campaign=c1&creative=b%201&placement=top&publisher=paper&uid=u1&maid=m1&did=d1&id=e-1&cat=news";
    for _ in 0..3 {
        assert_eq!(collector.get(target, &[]).await.status, 200);
    }
    let macros = "/i.gif?site=open&partner=network&campaign=${CAMPAIGN_ID}&id=e-2";
    assert_eq!(collector.get(macros, &[]).await.status, 200);
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 2)
        .await;
    let rows = collector
        .rows(
            "select partner, campaign, creative, placement, publisher, partner_uid, maid, event_id, \
             flags from avtryck.hit_detail order by event_id",
        )
        .await;
    let first: Vec<String> = (0..8).map(|column| rows[0].get(column)).collect();
    assert_eq!(
        first,
        ["network", "c1", "b 1", "top", "paper", "u1", "m1", "e-1"]
    );
    assert_eq!(rows[1].get::<_, Option<String>>(1), None);
    assert!(
        rows[1]
            .get::<_, Vec<String>>(8)
            .contains(&"macro".to_owned())
    );
    collector
        .until_metric("avtryck_loader_repeated_total", 2.0)
        .await;
}

#[tokio::test]
async fn a_refusal_says_why_and_is_counted() {
    let collector = Collector::open().await;
    let long = format!("/p.gif?site=open&u={}", "x".repeat(9000));
    for (method, target, headers, status, reason) in [
        ("GET", "/nowhere", vec![], 404, "unknown_path"),
        ("GET", "/favicon.png?p.gif", vec![], 404, "unknown_path"),
        ("POST", "/p.gif", vec![], 405, "method"),
        ("GET", "/e", vec![], 405, "method"),
        ("DELETE", "/id", vec![], 405, "method"),
        ("GET", "/p.gif?site=nowhere", vec![], 400, "site_unknown"),
        (
            "GET",
            "/p.gif",
            vec![("Host", "other.example")],
            400,
            "site_missing",
        ),
        (
            "GET",
            "/i.gif?site=open&partner=nobody",
            vec![],
            400,
            "partner_unknown",
        ),
        (
            "GET",
            "/p.gif?site=open",
            vec![("Host", "a b")],
            400,
            "host",
        ),
        (
            "GET",
            "/p.gif?site=open",
            vec![("Content-Length", "3")],
            400,
            "unexpected_body",
        ),
        ("GET", &long, vec![], 414, "uri_too_long"),
    ] {
        let reply = collector.request(method, target, &headers, "").await;
        assert_eq!(
            (reply.status, reply.header("avtryck-refusal")),
            (status, reason),
            "{target}"
        );
        let label = format!("avtryck_refusals_total{{reason=\"{reason}\"}}");
        assert!(collector.metric(&label).await >= 1.0);
        if status == 405 {
            assert!(!reply.header("allow").is_empty());
        }
    }
    assert_eq!(
        collector
            .request("HEAD", "/p.gif?site=open", &[], "")
            .await
            .status,
        200
    );
    for broken in [
        "GET /p.gif?site=open HTTP/1.1\r\n\r\n",
        "GET /p.gif?site=open HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /p.gif?site=open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET http://a@a/p.gif?site=open HTTP/1.1\r\nHost: b\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let reply = raw(collector.http, broken.as_bytes()).await;
        assert_eq!(reply.status, 400, "{broken}");
    }
    let huge = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    assert_eq!(raw(collector.http, huge.as_bytes()).await.status, 431);
    let (_, dir, _) = collector.stop().await;
    let collector = Collector::start_in(dir).await;
    collector.get("/p.gif?site=open", &[]).await;
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 1)
        .await;
}

#[tokio::test]
async fn only_origins_of_the_configuration_may_read_replies() {
    let collector = Collector::open().await;
    let known = [("Origin", "https://www.open.example")];
    let preflight = collector.request("OPTIONS", "/e", &known, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        "https://www.open.example"
    );
    assert_eq!(preflight.header("access-control-allow-credentials"), "true");
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        "content-type"
    );
    assert_eq!(preflight.header("vary"), "Origin");
    let posted = collector
        .post("/e", &known, r#"{"site":"open","e":"own"}"#)
        .await;
    assert_eq!(
        posted.header("access-control-allow-origin"),
        "https://www.open.example"
    );
    for foreign in [
        "https://evil.example",
        "null",
        "https://www.open.example.evil.example",
    ] {
        let origin = [("Origin", foreign)];
        let preflight = collector.request("OPTIONS", "/e", &origin, "").await;
        assert_eq!(
            (preflight.status, preflight.header("avtryck-refusal")),
            (403, "origin")
        );
        let posted = collector
            .post("/e", &origin, r#"{"site":"open","e":"foreign"}"#)
            .await;
        assert_eq!(
            (posted.status, posted.header("access-control-allow-origin")),
            (204, "")
        );
    }
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 4)
        .await;
    let flagged = "select count(*) from avtryck.hit_detail where 'foreign_origin' = any(flags) and event_name = 'foreign'";
    assert_eq!(collector.number(flagged).await, 3);
}

#[tokio::test]
async fn the_client_is_believed_from_trusted_proxies_only_and_ipv6_is_cut_at_48_bits() {
    let collector = Collector::start(Config::sites().real_geodata()).await;
    let forwarded = format!("6.6.6.6, 2001:9b0:4:2601::5, {SWEDEN}");
    let at = |value: &'static str| [("X-Forwarded-For", value)];
    collector
        .get("/p.gif?site=open&e=v6", &at("2a00:801:200::17"))
        .await;
    collector
        .get(
            "/p.gif?site=open&e=chain",
            &[("X-Forwarded-For", &forwarded)],
        )
        .await;
    collector
        .get(
            "/p.gif?site=open&e=mapped",
            &at("::ffff:2.64.0.9, 127.0.0.9"),
        )
        .await;
    collector
        .get("/p.gif?site=open&e=own", &at("nonsense"))
        .await;
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 4)
        .await;
    let rows = collector
        .rows("select event_name, client_ip::text, country from avtryck.hit_detail order by 1")
        .await;
    let got: Vec<(String, String, Option<String>)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let sweden = || Some("SE".to_owned());
    assert_eq!(got[0], ("chain".into(), "2.64.0.0/24".into(), sweden()));
    assert_eq!(got[1], ("mapped".into(), "2.64.0.0/24".into(), sweden()));
    assert_eq!(got[2], ("own".into(), "127.0.0.0/24".into(), None));
    assert_eq!(got[3], ("v6".into(), "2a00:801:200::/48".into(), sweden()));
}

#[tokio::test]
async fn http2_by_prior_knowledge_is_there_when_asked_for_and_off_otherwise() {
    let collector = Collector::start(Config::sites().set("http.h2c", true)).await;
    // The preface, an empty SETTINGS frame, and what a server has to answer: its own SETTINGS.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(collector.http)
        .await
        .unwrap();
    stream.write_all(&preface[..10]).await.unwrap();
    stream.write_all(&preface[10..]).await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "the first frame is SETTINGS");
    assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
    let plain = Collector::open().await;
    assert_ne!(raw(plain.http, preface).await.status, 200);
}
