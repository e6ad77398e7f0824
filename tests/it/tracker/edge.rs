//! What holds for the trackers of every maker: limits, replies, sites, visitors, preflights.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use crate::support::{Collector, Config, Reply, raw};

const TP2: &str = "/com.snowplowanalytics.snowplow/tp2";
const ROWS: &str = "select count(*) from avtryck.hit_detail";

/// A collector whose site `open` has names in every protocol.
async fn start(more: &str) -> Collector {
    Collector::start(config(more)).await
}

fn config(more: &str) -> Config {
    let names: toml::Value = toml::Value::Array(
        ["shop-app", "7", "KEY", "open.example"]
            .map(toml::Value::from)
            .to_vec(),
    );
    Config::sites().with(more).set("site.open.aliases", names)
}

fn outcome(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("avtryck-refusal"))
}

/// A body of Snowplow's with these events.
fn payload(events: &[&str]) -> String {
    let schema = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";
    format!(r#"{{"schema":"{schema}","data":[{}]}}"#, events.join(","))
}

/// A page view of Snowplow's whose event ID ends with a number.
fn page_view(number: u32) -> String {
    format!(
        r#"{{"e":"pv","aid":"shop-app","eid":"5c4c7d3e-1111-4222-8333-{number:012}","url":"https://www.open.example/{number}"}}"#
    )
}

/// Sends a header as it is and no body.
async fn send_head(collector: &Collector, line: &str, lines: &str) -> Reply {
    let head = format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n");
    raw(collector.http, head.as_bytes()).await
}

#[tokio::test]
async fn a_snowplow_tracker_is_never_told_of_what_it_cannot_mend() {
    let collector = start("").await;
    let long = format!(
        "/i?e=pv&tv=js-4.10.1&aid=shop-app&page={}",
        "x".repeat(20 * 1024)
    );
    let cookies = format!("Cookie: {}\r\n", "c".repeat(29 * 1024));
    let lines = "X: y\r\n".repeat(101);
    for (line, more, reason) in [
        (
            "GET /i?e=pv&aid=nowhere",
            "Connection: close\r\n",
            "site_unknown",
        ),
        ("PUT /i", "", "method"),
        ("DELETE /ice.png?e=pv", "", "method"),
        (&format!("GET {long}"), "", "uri_too_long"),
        ("GET /i?e=pv", &cookies, "header_too_large"),
        ("GET /i?e=pv", &lines, "header_too_large"),
        ("POST /i", "Content-Length: 2097153\r\n", "body_too_large"),
        ("GET /i", "Content-Length: 1\r\n", "unexpected_body"),
        ("GET /i?e=p v", "Bad Header: x\r\n", "malformed"),
    ] {
        let reply = send_head(&collector, line, more).await;
        assert_eq!(outcome(&reply), (200, reason), "{line}");
        let metric = format!("avtryck_refusals_total{{reason=\"{reason}\"}}");
        assert!(collector.metric(&metric).await >= 1.0, "{reason}");
    }
    for (headers, body, reason) in [
        (vec![], "no JSON", "json"),
        (vec![], "", "json"),
        (vec![("Content-Encoding", "br")], "{}", "content_type"),
        (vec![("Content-Encoding", "gzip")], "\u{1f}", "body_broken"),
    ] {
        let reply = collector.post(TP2, &headers, body).await;
        assert_eq!(outcome(&reply), (200, reason), "{body}");
        assert_eq!(reply.header("content-type"), "text/plain");
        assert_eq!(reply.body, "ok");
    }
    let other = collector.get("/p.gif?site=nowhere", &[]).await;
    assert_eq!(outcome(&other), (400, "site_unknown"));
    let gone = collector.get("/ii", &[]).await;
    assert_eq!(outcome(&gone), (404, "unknown_path"));
}

#[tokio::test]
async fn a_bad_event_costs_no_other_of_its_batch() {
    let collector = start("").await;
    let large = format!(
        r#"{{"e":"pv","aid":"shop-app","page":"{}"}}"#,
        "x".repeat(100_000)
    );
    let unknown = r#"{"e":"pv","aid":"nowhere"}"#;
    let (first, last) = (page_view(1), page_view(2));
    let body = payload(&[&first, unknown, &large, "7", r#"{"e":"pv""#, &last]);
    let reply = collector.post(TP2, &[], &body).await;
    assert_eq!(outcome(&reply), (200, "site_unknown"));
    assert_eq!(reply.body, "ok");
    collector.wait_for(ROWS, 2).await;
    for reason in ["site_unknown", "hit_too_large"] {
        let metric = format!("avtryck_refusals_total{{reason=\"{reason}\"}}");
        assert_eq!(collector.metric(&metric).await, 1.0, "{reason}");
    }
    let many: Vec<String> = (100..1101).map(page_view).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let reply = collector.post(TP2, &[], &payload(&many)).await;
    assert_eq!(outcome(&reply), (200, "too_many_events"));
    collector.wait_for(ROWS, 1002).await;
    assert_eq!(
        collector
            .number(&format!("{ROWS} where site = 'open'"))
            .await,
        1002
    );
}

#[tokio::test]
async fn trackers_have_room_that_other_endpoints_have_not() {
    let collector = start("limit.hits_per_second = 0").await;
    let fits = format!(
        "/i?e=pv&tv=js-4.10.1&aid=shop-app&page={}",
        "x".repeat(19 * 1024)
    );
    let cookies = format!("a={}", "c".repeat(7 * 1024));
    let reply = collector.get(&fits, &[("Cookie", &cookies)]).await;
    assert_eq!(outcome(&reply), (200, ""));
    assert_eq!(
        (reply.header("content-type"), reply.bytes.len()),
        ("image/gif", 43)
    );
    let long = format!("/p.gif?site=open&a={}", "x".repeat(9 * 1024));
    assert_eq!(
        outcome(&collector.get(&long, &[]).await),
        (414, "uri_too_long")
    );
    for path in ["/p.gif?site=open", "/id?site=open", "/tag.js"] {
        let cookies = format!("a={}", "c".repeat(17 * 1024));
        let reply = collector.get(path, &[("Cookie", &cookies)]).await;
        assert_eq!(outcome(&reply), (431, "header_too_large"), "{path}");
    }
    let events: Vec<String> = (0..40)
        .map(|number| {
            page_view(number).replace(
                r#""e":"pv""#,
                &format!(r#""e":"pv","page":"{}""#, "x".repeat(50_000)),
            )
        })
        .collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let body = payload(&events);
    assert!(body.len() > 1 << 20 && body.len() < 2 << 20);
    let reply = collector.post(TP2, &[], &body).await;
    assert_eq!(outcome(&reply), (200, ""));
    collector.wait_for(ROWS, 41).await;
    let whole = "length(params ->> 'page') = 50000";
    assert_eq!(collector.number(&format!("{ROWS} where {whole}")).await, 40);
    let native = collector
        .post("/e", &[], &format!("[{}]", "0".repeat(1 << 20)))
        .await;
    assert_eq!(native.status, 413);
}

#[tokio::test]
async fn a_body_is_read_by_what_it_is_whatever_its_type() {
    let collector = start("").await;
    let pack = |format: &str, text: &str| {
        let level = Compression::default();
        let mut gzip = GzEncoder::new(Vec::new(), level);
        let mut zlib = ZlibEncoder::new(Vec::new(), level);
        let mut raw = DeflateEncoder::new(Vec::new(), level);
        gzip.write_all(text.as_bytes()).unwrap();
        zlib.write_all(text.as_bytes()).unwrap();
        raw.write_all(text.as_bytes()).unwrap();
        match format {
            "gzip" => gzip.finish().unwrap(),
            "zlib" => zlib.finish().unwrap(),
            "raw" => raw.finish().unwrap(),
            _ => text.as_bytes().to_vec(),
        }
    };
    let mut number = 0;
    for (format, encoding, content_type) in [
        ("gzip", "gzip", "application/json"),
        ("gzip", "", "application/x-www-form-urlencoded"),
        ("gzip", "gzip", "application/x-www-form-urlencoded"),
        ("zlib", "deflate", "text/plain"),
        ("raw", "deflate", "image/gif"),
        ("", "", "application/x-www-form-urlencoded"),
        ("", "", ""),
    ] {
        number += 1;
        let body = pack(format, &payload(&[&page_view(number)]));
        let mut request =
            format!("POST {TP2} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
        for (name, value) in [
            ("Content-Encoding", encoding),
            ("Content-Type", content_type),
        ] {
            if !value.is_empty() {
                request += &format!("{name}: {value}\r\n");
            }
        }
        request += &format!("Content-Length: {}\r\n\r\n", body.len());
        let mut request = request.into_bytes();
        request.extend_from_slice(&body);
        let reply = raw(collector.http, &request).await;
        assert_eq!(
            outcome(&reply),
            (200, ""),
            "{format} {encoding} {content_type}"
        );
    }
    collector.wait_for(ROWS, i64::from(number)).await;
    let bomb = pack("gzip", &payload(&[&"0".repeat(3 << 20)]));
    let reply = collector.post_bytes(TP2, &bomb).await;
    assert_eq!(outcome(&reply), (200, "body_too_large"));
}

#[tokio::test]
async fn each_protocol_gets_the_replies_that_its_clients_need() {
    let collector = start("").await;
    let image = collector.get("/i?e=pv&aid=shop-app", &[]).await;
    assert_eq!(
        (image.status, image.header("content-type")),
        (200, "image/gif")
    );
    let head = collector.request("HEAD", "/i?e=pv&aid=open", &[], "").await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    collector.wait_for(ROWS, 2).await;

    let call = r#"{"messageId":"m1","anonymousId":"a","event":"buy","writeKey":"KEY"}"#;
    let told = collector.post("/v1/track", &[], call).await;
    assert_eq!((told.status, &*told.body), (200, r#"{"success":true}"#));
    assert_eq!(told.header("content-type"), "application/json");
    let unknown = call.replace("KEY", "other");
    let told = collector.post("/v1/track", &[], &unknown).await;
    assert_eq!(outcome(&told), (401, "site_unknown"));
    for (path, body) in [("/v1/track", "7"), ("/v1/batch", "{"), ("/v1/batch", "")] {
        let told = collector
            .post(path, &[("Authorization", "Basic S0VZOg==")], body)
            .await;
        assert_eq!(outcome(&told), (200, "json"), "{path} {body}");
        assert_eq!(told.body, r#"{"success":false}"#);
    }
    let told = collector.post("/v1/m", &[], r#"{"series":[]}"#).await;
    assert_eq!((told.status, &*told.body), (200, r#"{"success":true}"#));
    collector.wait_for(ROWS, 3).await;
}

#[tokio::test]
async fn a_page_may_send_what_its_tracker_sends_if_its_origin_is_a_sites() {
    let collector = start("").await;
    let ours = ("Origin", "https://www.open.example");
    for (path, requested, allowed) in [
        (
            TP2,
            "content-type,sp-anonymous",
            "content-type, sp-anonymous",
        ),
        (
            "/v1/batch",
            "authorization,content-type",
            "authorization, content-type",
        ),
        (
            "/v1/page",
            "anonymousid,authorization,content-type,rsa-retry-attempt,sentat",
            "anonymousid, authorization, content-type, rsa-retry-attempt, sentat",
        ),
        ("/matomo.php", "x-other", "content-type"),
    ] {
        let asks = |origin| [origin, ("Access-Control-Request-Headers", requested)];
        let reply = collector.request("OPTIONS", path, &asks(ours), "").await;
        assert!((200..300).contains(&reply.status), "{path}");
        assert_eq!(
            reply.header("access-control-allow-headers"),
            allowed,
            "{path}"
        );
        assert_eq!(reply.header("access-control-allow-origin"), ours.1);
        assert_eq!(reply.header("access-control-allow-credentials"), "true");
        let theirs = ("Origin", "https://other.example");
        let reply = collector.request("OPTIONS", path, &asks(theirs), "").await;
        assert_eq!(outcome(&reply), (200, "origin"), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), "", "{path}");
        assert_eq!(reply.header("access-control-allow-headers"), "", "{path}");
    }
    let counted = collector
        .metric("avtryck_refusals_total{reason=\"origin\"}")
        .await;
    assert_eq!(counted, 4.0);
}

#[tokio::test]
async fn an_anonymous_hit_has_neither_visitor_nor_address() {
    let collector = start("").await;
    let first = collector.get("/p.gif?site=open", &[]).await;
    let cookie = first.cookie().to_owned();
    let event = page_view(1).replace(r#""e":"pv""#, r#""e":"pv","duid":"telltale","url2":"x""#);
    let reply = collector
        .post(
            TP2,
            &[("SP-Anonymous", "*"), ("Cookie", &cookie)],
            &payload(&[&event]),
        )
        .await;
    assert_eq!(outcome(&reply), (200, ""));
    assert!(!reply.cookies.is_empty());
    for cookie in &reply.cookies {
        assert!(
            cookie.starts_with("avid=; ") && cookie.contains("Max-Age=0"),
            "{cookie}"
        );
    }
    let fresh = collector
        .post(TP2, &[("SP-Anonymous", "*")], &payload(&[&page_view(2)]))
        .await;
    assert!(fresh.cookies.is_empty(), "{fresh:?}");
    collector.wait_for(ROWS, 3).await;
    let bare = "visitor_id is null and device_id is null and client_ip is null \
                and permit = '{measure}' and country = 'SE'";
    assert_eq!(collector.number(&format!("{ROWS} where {bare}")).await, 2);
}

#[tokio::test]
async fn a_refusal_or_a_signal_without_a_value_leaves_a_count_in_every_protocol() {
    let collector = start("").await;
    let page = "http%3A%2F%2Fopen.example%2F";
    let send = async |name: &str, value: &str| {
        for target in [
            format!("/i?e=pv&aid=shop-app&tv=js-4&url={page}&{name}={value}"),
            format!("/matomo.php?idsite=7&rec=1&url={page}&{name}={value}"),
            format!("/tr?id=7&ev=PageView&dl={page}&{name}={value}"),
        ] {
            assert_eq!(collector.get(&target, &[]).await.status, 200, "{target}");
        }
        let event = format!(r#"{{"e":"pv","aid":"shop-app","{name}":"{value}"}}"#);
        let call = r#""type":"page","anonymousId":"a","writeKey":"KEY""#;
        for (path, body) in [
            (TP2, payload(&[&event])),
            ("/v1/page", format!(r#"{{{call},"{name}":"{value}"}}"#)),
            (
                "/v1/page",
                format!(r#"{{{call},"context":{{"{name}":"{value}"}}}}"#),
            ),
        ] {
            let reply = collector.post(path, &[], &body).await;
            assert_eq!(reply.status, 200, "{path} {body}");
        }
    };
    let said = [
        ("gdpr", "1"),
        ("gdpr", ""),
        ("gdpr_consent", ""),
        ("gpp", ""),
        ("consent", "0"),
        ("ad_storage", "denied"),
        ("us_privacy", "1YYN"),
        ("gcs", "G100"),
    ];
    for (name, value) in said {
        send(name, value).await;
    }
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    collector.wait_for(counted, 6 * 8).await;
    assert_eq!(collector.number(ROWS).await, 0);
    for (name, value) in [("x", "0"), ("gcs", "G111"), ("gpp_sid", "-1")] {
        send(name, value).await;
    }
    collector.wait_for(ROWS, 6 * 3).await;
}

#[tokio::test]
async fn only_clients_that_keep_cookies_get_one() {
    let collector = start("").await;
    let browser = collector
        .get("/i?e=pv&aid=shop-app&tv=js-4.10.1", &[])
        .await;
    assert!(browser.cookie().starts_with("avid="), "{browser:?}");
    let call = r#"{"messageId":"m1","anonymousId":"a","event":"buy","writeKey":"KEY"}"#;
    let server = collector.post("/v1/track", &[], call).await;
    assert!(server.cookies.is_empty(), "{server:?}");
    let known = collector
        .post(
            "/v1/track",
            &[("Cookie", browser.cookie())],
            &call.replace("m1", "m2"),
        )
        .await;
    assert_eq!(known.status, 200);
    collector.wait_for(ROWS, 3).await;
    let with = format!("{ROWS} where visitor_id is not null");
    assert_eq!(collector.number(&with).await, 2);
}

#[tokio::test]
async fn address_and_agent_are_believed_of_trusted_senders_alone() {
    let trusted = config("").set(
        "site.open.trusted_senders",
        toml::Value::Array(vec!["192.0.2.0/24".into()]),
    );
    let collector = Collector::start(trusted.real_geodata()).await;
    let told = "ip=2.64.0.9&ua=Mozilla%2F5.0%20%28Windows%20NT%2010.0%3B%20Win64%3B%20x64%29%20AppleWebKit%2F537.36%20%28KHTML%2C%20like%20Gecko%29%20Chrome%2F131.0.0.0%20Safari%2F537.36";
    for (sender, target) in [
        (
            "192.0.2.1",
            format!("/i?e=pv&tv=js-4.10.1&aid=shop-app&page=told&{told}"),
        ),
        (
            "192.0.2.1",
            "/i?e=pv&tv=js-4.10.1&aid=shop-app&page=silent".to_owned(),
        ),
        (
            "175.16.199.1",
            format!("/i?e=pv&tv=js-4.10.1&aid=shop-app&page=stranger&{told}"),
        ),
    ] {
        let headers = [("X-Forwarded-For", sender), ("User-Agent", "node-fetch")];
        let reply = collector.get(&target, &headers).await;
        assert_eq!(outcome(&reply), (200, ""));
        let makes_visitor = sender != "192.0.2.1";
        assert_eq!(reply.cookies.is_empty(), !makes_visitor, "{reply:?}");
    }
    collector.wait_for(ROWS, 3).await;
    let rows = collector
        .rows(
            "select params ->> 'page' as page, host(client_ip) as ip, country, browser \
             from avtryck.hit_detail order by 1",
        )
        .await;
    let shown: Vec<[Option<String>; 3]> = rows
        .iter()
        .map(|row| [row.get("page"), row.get("ip"), row.get("country")])
        .collect();
    let texts = |texts: [Option<&str>; 3]| texts.map(|text| text.map(str::to_owned));
    assert_eq!(
        shown,
        [
            texts([Some("silent"), None, None]),
            texts([Some("stranger"), Some("175.16.199.0"), Some("CN")]),
            texts([Some("told"), Some("2.64.0.0"), Some("SE")]),
        ]
    );
    let browser: Option<String> = rows[2].get("browser");
    assert!(browser.unwrap_or_default().contains("Chrome"));
}

#[tokio::test]
async fn a_full_spool_asks_trackers_to_come_back() {
    let full = config("")
        .without_postgres()
        .set("spool.chunk_bytes", "1MiB")
        .set("spool.max_bytes", "2MiB")
        .set("limit.hits_per_second", 0);
    let collector = Collector::start(full).await;
    let event = page_view(1).replace(
        r#""e":"pv""#,
        &format!(r#""e":"pv","page":"{}""#, "x".repeat(40_000)),
    );
    let body = payload(&[&*event; 10]);
    let mut reply = collector.post(TP2, &[], &body).await;
    while reply.status == 200 {
        assert_eq!(outcome(&reply), (200, ""));
        reply = collector.post(TP2, &[], &body).await;
    }
    for (path, body) in [
        (TP2, &*body),
        (
            "/v1/track",
            r#"{"anonymousId":"a","event":"buy","writeKey":"KEY","properties":{"a":1}}"#,
        ),
    ] {
        let mut reply = collector.post(path, &[], body).await;
        // What is small may still have room.
        while reply.status == 200 {
            reply = collector.post(path, &[], body).await;
        }
        assert_eq!(outcome(&reply), (503, "spool_full"), "{path}");
        assert_eq!(reply.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn a_client_over_its_limit_is_asked_to_come_back() {
    let strict = config("")
        .set("limit.hits_per_second", 1)
        .set("limit.burst", 1)
        .set("limit.drop", true);
    let collector = Collector::start(strict).await;
    let mut replies = Vec::new();
    for number in 0..4 {
        let body = payload(&[&page_view(number)]);
        replies.push(collector.post(TP2, &[], &body).await);
    }
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
    assert!(!refused.is_empty());
    for reply in refused {
        assert_eq!(outcome(reply), (503, "over_limit"));
        assert_eq!(reply.header("retry-after"), "1");
    }
    let call = r#"{"anonymousId":"a","event":"buy","writeKey":"KEY"}"#;
    let mut reply = collector.post("/v1/track", &[], call).await;
    while reply.status == 200 {
        reply = collector.post("/v1/track", &[], call).await;
    }
    assert_eq!(outcome(&reply), (429, "over_limit"));
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn load_balancers_and_crawlers_find_what_they_ask_for_and_a_protocol_can_be_switched_off() {
    let collector = start("").await;
    for path in ["/health", "/sink-health"] {
        let reply = collector.get(path, &[]).await;
        assert_eq!((reply.status, &*reply.body), (200, "ok\n"), "{path}");
    }
    let robots = collector.get("/robots.txt", &[]).await;
    assert_eq!(robots.body, "User-agent: *\nDisallow: /\n");
    let off = "[path]\nsnowplow = [\"/shop/t\"]\nsegment = \"\"\nmatomo = []\nhealth = []\n";
    let collector = start(off).await;
    for path in ["/i?e=pv", "/v1/track", "/matomo.php", "/health"] {
        let reply = collector.get(path, &[]).await;
        assert_eq!(outcome(&reply), (404, "unknown_path"), "{path}");
    }
    let reply = collector
        .post("/shop/t", &[], &payload(&[&page_view(1)]))
        .await;
    assert_eq!((outcome(&reply), &*reply.body), ((200, ""), "ok"));
}
