//! Matomo's trackers: what they sent once, sent again.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::recorded::{Recorded, recorded};
use crate::support::{Collector, Config, IPHONE, raw, root};

/// A site that the recordings name, which permits all, and two that permit less.
const SITES: &str = r#"
[[site]]
key = "the-shop"
aliases = ["1"]
origins = ["http://shop.example"]
default_permit = ["store", "measure", "profile", "match", "link", "locate"]

[[site]]
key = "measured"
aliases = ["2"]
default_permit = ["measure"]

[[site]]
key = "asking"
aliases = ["3"]

[[site]]
key = "trusting"
aliases = ["4"]
default_permit = ["store", "measure"]
trusted_senders = ["203.0.113.0/24"]
"#;

const ROWS: &str = "select count(*) from avtryck.hit_detail";
/// A recorded file and what becomes of it: its replies, and its rows by kind and name.
type Outcome = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, i64)],
);

const RECORDED: [Outcome; 6] = [
    (
        "matomo-js-5.2.0-b5-beacon.jsdom.json",
        &[
            "204", "204", "204", "204", "204", "204", "204", "204", "204",
        ],
        &[
            ("page_view", 4),
            ("event Play", 1),
            ("event content_impression", 1),
            ("event goal", 1),
            ("event order", 1),
            ("event outlink", 1),
            ("event ping", 1),
            ("event site_search", 1),
        ],
    ),
    (
        "matomo-js-5.2.0-b5-consent-cookieless.jsdom.json",
        &[
            "204", "204", "204", "204", "204", "204", "204", "204", "204",
        ],
        &[
            ("page_view", 1),
            ("event Play", 1),
            ("event content_impression", 1),
            ("event goal", 1),
            ("event order", 1),
            ("event outlink", 1),
            ("event ping", 2),
            ("event site_search", 1),
        ],
    ),
    (
        "matomo-js-5.2.0-b5-image-get.jsdom.json",
        &["gif", "gif", "gif", "gif", "gif", "gif", "gif", "gif"],
        &[
            ("page_view", 1),
            ("event Play", 1),
            ("event content_impression", 1),
            ("event goal", 1),
            ("event order", 1),
            ("event outlink", 1),
            ("event ping", 1),
            ("event site_search", 1),
        ],
    ),
    (
        "matomo-node-matomo-tracker-2.2.4.json",
        &[
            "gif",
            "gif",
            r#"{"invalid":0,"status":"success","tracked":2}"#,
        ],
        &[("page_view", 2), ("event Play", 1), ("event order", 1)],
    ),
    (
        "matomo-node-piwik-tracker-1.1.2.json",
        &["gif", "gif"],
        &[("page_view", 2)],
    ),
    (
        "matomo-python-asgi-matomo-0.8.0.json",
        &["204"],
        &[("page_view", 1)],
    ),
];

pub(super) fn config() -> Config {
    Config::new().with(SITES)
}

async fn collector() -> Collector {
    Collector::start(config()).await
}

/// Sends a request and returns its reply in a word.
async fn send(request: &Recorded, collector: &Collector) -> String {
    let reply = request.send(collector).await;
    assert_eq!(reply.header("avtryck-refusal"), "", "{}", request.target);
    match (reply.status, reply.header("content-type")) {
        (204, _) => {
            assert_eq!(reply.body, "");
            "204".to_owned()
        }
        (200, "image/gif") => "gif".to_owned(),
        (200, "application/json") => reply.body,
        other => panic!("{other:?}"),
    }
}

async fn by_name(collector: &Collector, name: &str) -> i64 {
    let (kind, event_name) = name.split_once(' ').unwrap_or((name, ""));
    let sql = format!(
        "{ROWS} where kind = '{kind}' and coalesce(event_name, '') = '{event_name}' \
         and protocol = 'matomo' and site = 'the-shop'"
    );
    collector.number(&sql).await
}

/// Checks that some bytes are in no file of the spool.
fn assert_spool_lacks(collector: &Collector, texts: &[&str]) {
    let spool = collector.dir.path().join("spool");
    for text in texts {
        assert!(!crate::consent::holds(&spool, text.as_bytes()), "{text}");
    }
}

#[tokio::test]
async fn recorded_requests_are_answered_as_their_clients_expect_and_become_rows() {
    for (file, replies, rows) in RECORDED {
        let collector = collector().await;
        let mut told = Vec::new();
        for request in &recorded(file) {
            told.push(send(request, &collector).await);
        }
        assert_eq!(told, replies, "{file}");
        let all: i64 = rows.iter().map(|(_, number)| number).sum();
        let others = i64::from(file.contains("beacon"));
        collector.wait_for(ROWS, all + others).await;
        for (name, number) in rows {
            assert_eq!(by_name(&collector, name).await, *number, "{file} {name}");
        }
        let token = "33dc3f2536d3025974cccb4b4d2d98f4";
        assert_spool_lacks(&collector, &[token, "token_auth"]);
    }
}

#[tokio::test]
async fn a_replay_adds_no_row_where_a_request_can_be_told_from_another() {
    let collector = collector().await;
    let files = [
        "matomo-js-5.2.0-b5-beacon.jsdom.json",
        "matomo-js-5.2.0-b5-consent-cookieless.jsdom.json",
        "matomo-js-5.2.0-b5-image-get.jsdom.json",
        "matomo-python-asgi-matomo-0.8.0.json",
    ];
    for _ in 0..2 {
        for file in files {
            for request in &recorded(file) {
                send(request, &collector).await;
            }
        }
    }
    // A hit that comes after all of them.
    send(
        &recorded("matomo-node-piwik-tracker-1.1.2.json")[0],
        &collector,
    )
    .await;
    let last = format!("{ROWS} where page_url = 'https://shop.example/p/1'");
    collector.wait_for(&last, 1).await;
    assert_eq!(collector.number(ROWS).await, 12 + 9 + 8 + 1 + 1);
}

#[tokio::test]
async fn what_a_proxy_refused_and_comes_again_as_an_image_is_one_row() {
    for site in ["1", "2"] {
        let collector = collector().await;
        let query = format!(
            "idsite={site}&rec=1&r=863735&h=17&m=38&s=55&_id=e7f46de8fb0b1385&pv_id=AaHUu1\
             &url=https%3A%2F%2Fshop.example%2Fp&uid=user-42"
        );
        let posted = collector
            .post(&format!("/matomo.php?{query}&send_image=0"), &[], "")
            .await;
        assert_eq!(posted.status, 204);
        let image = collector
            .get(&format!("/matomo.php?{query}&send_image=1"), &[])
            .await;
        assert_eq!(
            (image.status, image.header("content-type")),
            (200, "image/gif")
        );
        let other = query.replace("863735", "863736");
        collector.get(&format!("/matomo.php?{other}"), &[]).await;
        collector.wait_for(ROWS, 2).await;
        assert_eq!(
            collector
                .number(&format!("{ROWS} where event_id <> ''"))
                .await,
            2
        );
    }
}

#[tokio::test]
async fn images_that_are_the_same_for_all_visitors_are_a_row_each() {
    let collector = collector().await;
    for _ in 0..3 {
        let reply = collector.get("/matomo.php?idsite=1&rec=1", &[]).await;
        assert_eq!(reply.status, 200);
    }
    collector.wait_for(ROWS, 3).await;
}

#[tokio::test]
async fn what_is_no_request_of_a_known_site_is_taken_and_counted_and_no_row() {
    let collector = collector().await;
    for (query, status) in [
        ("idsite=1", 200),
        ("idsite=1&rec=0&send_image=0", 204),
        ("idsite=99&rec=1&r=123456", 200),
        ("idsite=99&rec=1&send_image=0", 204),
    ] {
        let reply = collector.get(&format!("/matomo.php?{query}"), &[]).await;
        let outcome = (reply.status, reply.header("avtryck-refusal"));
        assert_eq!(outcome, (status, "site_unknown"), "{query}");
    }
    let bulk = r#"{"requests":["?idsite=1","?idsite=99&rec=1",17]}"#;
    let reply = collector.post("/piwik.php", &[], bulk).await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.body,
        r#"{"invalid":3,"status":"success","tracked":0}"#
    );
    let refused = r#"avtryck_refusals_total{reason="site_unknown"}"#;
    assert_eq!(collector.metric(refused).await, 6.0);
    collector.get("/matomo.php?idsite=1&rec=1", &[]).await;
    collector.wait_for(ROWS, 1).await;
}

#[tokio::test]
async fn an_item_of_a_list_that_is_broken_costs_only_itself() {
    let collector = collector().await;
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let body = r#"{"requests":["?idsite=1&rec=1&e_a=a",{"idsite":1},{"idsite":1,"rec":1,"e_a":"b"},"?idsite=1&rec=1&e_a=c"],"token_auth":"0123456789abcdef"}"#;
    let reply = collector.post("/matomo.php", &[form], body).await;
    assert_eq!(
        reply.body,
        r#"{"invalid":1,"status":"success","tracked":3}"#
    );
    collector.wait_for(ROWS, 3).await;
    assert_spool_lacks(&collector, &["0123456789abcdef"]);
}

#[tokio::test]
async fn the_form_and_the_address_are_one_request_and_the_address_outweighs() {
    let collector = collector().await;
    let reply = collector
        .post(
            "/matomo.php?e_a=address&send_image=0",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            "idsite=1&rec=1&e_a=form&e_c=c&send_image=1&token_auth=0123456789abcdef",
        )
        .await;
    assert_eq!(reply.status, 204);
    let sql = format!("{ROWS} where event_name = 'address' and params->>'e_c' = 'c'");
    collector.wait_for(&sql, 1).await;
    assert_spool_lacks(&collector, &["0123456789abcdef"]);
}

#[tokio::test]
async fn without_consent_to_store_no_id_of_the_tracker_is_kept() {
    let collector = collector().await;
    let ids = ["e7f46de8fb0b1385", "user-42"];
    for site in ["2", "3"] {
        let query = format!(
            "idsite={site}&rec=1&r=863735&h=17&m=38&s=55&_id={}&uid={}&e_a=x&cip=198.51.100.7",
            ids[0], ids[1]
        );
        let reply = collector.get(&format!("/matomo.php?{query}"), &[]).await;
        assert_eq!((reply.status, reply.header("set-cookie")), (200, ""));
    }
    // Nothing tells two visitors of one moment apart but an ID that is not kept.
    let moment = "idsite=2&rec=1&cdt=2026-11-26+10:00:00&h=1&m=2&s=3&e_a=y";
    for id in ["e7f46de8fb0b1385", "e7f46de8fb0b1386"] {
        let target = format!("/matomo.php?{moment}&_id={id}");
        collector.get(&target, &[]).await;
    }
    collector.wait_for(ROWS, 3).await;
    let personal = format!("{ROWS} where event_name = 'y' and event_id <> ''");
    assert_eq!(collector.number(&personal).await, 0);
    assert_spool_lacks(&collector, &ids);
    assert_spool_lacks(&collector, &["198.51.100.7", "e7f46de8fb0b1386"]);
}

#[tokio::test]
async fn a_visitor_is_made_for_browsers_that_keep_cookies_only() {
    let collector = collector().await;
    let page = ("Referer", "http://shop.example/");
    for (query, headers, is_made) in [
        ("_id=e7f46de8fb0b1385&cookie=1", vec![], true),
        ("_id=e7f46de8fb0b1385&cookie=0", vec![page], false),
        ("_id=&cookie=1", vec![page], false),
        ("", vec![page], true),
        ("url=https%3A%2F%2Fshop.example%2F", vec![], false),
    ] {
        let target = format!("/matomo.php?idsite=1&rec=1&{query}");
        let https = ("X-Forwarded-Proto", "https");
        let reply = collector
            .get(&target, &[headers, vec![https]].concat())
            .await;
        assert_eq!(!reply.cookies.is_empty(), is_made, "{query}");
    }
}

#[tokio::test]
async fn a_trusted_sender_says_the_visitors_address_and_agent_and_a_time_long_ago() {
    let collector = collector().await;
    let now = "select extract(epoch from now())::bigint";
    let two_days_ago = collector.number(now).await - 2 * 24 * 60 * 60;
    let agent = percent_encode(IPHONE.as_bytes(), NON_ALPHANUMERIC);
    for (site, sender, name) in [
        ("4", "203.0.113.9", "trusted"),
        ("4", "192.0.2.9", "stranger"),
        ("1", "203.0.113.9", "elsewhere"),
    ] {
        let target = format!(
            "/matomo.php?idsite={site}&rec=1&cdt={two_days_ago}&e_a={name}&cip=2.64.0.9&ua={agent}"
        );
        let headers = [("X-Forwarded-For", sender), ("User-Agent", "python")];
        assert_eq!(collector.get(&target, &headers).await.status, 200);
    }
    collector.wait_for(ROWS, 3).await;
    let trusted = format!(
        "{ROWS} where event_name = 'trusted' and extract(epoch from occurred_at) = {two_days_ago} \
         and 'clock' <> all(flags) and country = 'SE' and os = 'iOS' and visitor_id is null"
    );
    assert_eq!(collector.number(&trusted).await, 1);
    let others = format!(
        "{ROWS} where event_name <> 'trusted' and occurred_at is null and 'clock' = any(flags) \
         and country is null and os is distinct from 'iOS'"
    );
    assert_eq!(collector.number(&others).await, 2);
}

#[tokio::test]
async fn the_query_that_compares_two_collectors_counts_rows_and_counts() {
    let collector = collector().await;
    for (site, name) in [("1", "page"), ("1", "page"), ("3", "page")] {
        let target = format!("/matomo.php?idsite={site}&rec=1&action_name={name}");
        collector.get(&target, &[]).await;
    }
    collector.wait_for(ROWS, 2).await;
    let page = std::fs::read_to_string(root().join("docs/migrate.md")).unwrap();
    let start = page.find("-- Ours").unwrap();
    let sql = page[start..].split("```").next().unwrap();
    for (site, expected) in [("the-shop", (2, 0)), ("asking", (0, 1))] {
        let sql = sql.replace("'shop'", &format!("'{site}'"));
        let sql = sql.trim().trim_end_matches(';');
        let sql = format!("select rows::bigint, counted::bigint from ({sql}) as compared");
        let rows = collector.rows(&sql).await;
        let told: Vec<(i64, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(told, [expected], "{site}");
    }
}

#[tokio::test]
async fn an_image_in_the_form_of_metas_pixel_is_a_row() {
    let collector = collector().await;
    let target = "/tr?id=1&ev=Purchase&cd[value]=0.50&cd[currency]=USD&ud[em]=f660ab912ec121d1";
    let reply = collector.get(target, &[]).await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, "image/gif")
    );
    let sql = format!(
        "{ROWS} where site = 'the-shop' and event_name = 'Purchase' \
         and params->>'value' = '0.50' and params->>'currency' = 'USD'"
    );
    collector.wait_for(&sql, 1).await;
    assert_spool_lacks(&collector, &["f660ab912ec121d1"]);
}

#[tokio::test]
async fn a_packed_list_is_read_as_any_other() {
    let collector = collector().await;
    let items: Vec<String> = (0..3)
        .map(|number| {
            format!("\"?idsite=1&rec=1&e_a=packed&rand={number}&_id=e7f46de8fb0b138{number}\"")
        })
        .collect();
    let list = format!("{{\"requests\":[{},\"?idsite=1\"]}}", items.join(","));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(list.as_bytes()).unwrap();
    let body = gzip.finish().unwrap();
    let head = format!(
        "POST /matomo.php HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let reply = raw(collector.http, &[head.as_bytes(), &body].concat()).await;
    let told = r#"{"invalid":1,"status":"success","tracked":3}"#;
    assert_eq!((reply.status, &*reply.body), (200, told));
    let packed = format!("{ROWS} where event_name = 'packed'");
    collector.wait_for(&packed, 3).await;
}
