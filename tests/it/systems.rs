//! The operator's own systems, and what proves who is logged in.

mod examples;
mod user_sig;

use std::io::Write as _;
use std::path::Path;

use avtryck::callback::{Destination, Signed};

use crate::support::{Collector, Config, Reply, raw};

const SECRET: &str = "a-secret-of-the-crm-1";
const OLD_SECRET: &str = "a-secret-of-the-crm-0";
const TOKEN: &str = "0123456789abcdef-crm";
/// The key that hashes users, and one with which a site signs them.
const USER_KEY: &str = "1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const SIG_KEY: &str = "3:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

/// Sites and systems: one that permits much, and one that permits nothing by itself.
fn systems() -> Config {
    Config::sites()
        .with(&format!(
            r#"
            [user]
            keys = ["{USER_KEY}"]
            [spool]
            keep = "1d"

            [[system]]
            key = "crm"
            secrets = ["{SECRET}", "{OLD_SECRET}"]
            tokens = ["{TOKEN}"]
            site = "open"
            default_permit = ["store", "measure", "link"]

            [[system]]
            key = "till"
            tokens = ["{TOKEN}"]
            site = "open"
            sites = ["open", "rows-only"]
            "#
        ))
        .set(
            "site.open.user_sig_keys",
            toml::Value::Array(vec![SIG_KEY.into()]),
        )
}

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// What a request of the table differs in from a right one.
struct Signing<'s> {
    secret: &'s str,
    version: u8,
    at: i64,
    host: &'s str,
    target: &'s str,
    content_type: &'s str,
    body: &'s [u8],
}

const RIGHT: Signing<'static> = Signing {
    secret: SECRET,
    version: 2,
    at: 0,
    host: "127.0.0.1",
    target: "/s/crm",
    content_type: "application/json",
    body: br#"{"e":"customer_new"}"#,
};

/// Returns the headers by which that is signed.
fn sign(signing: &Signing<'_>) -> String {
    let timestamp = (now() + signing.at).to_string();
    let signed = Signed {
        timestamp: &timestamp,
        method: "POST",
        target: signing.target,
        body: signing.body,
    };
    let destination = Destination {
        host: signing.host,
        content_type: signing.content_type,
    };
    let secret = signing.secret.as_bytes();
    let signature = match signing.version {
        1 => signed.signature(secret),
        _ => signed.signature_2(&destination, secret),
    };
    format!(
        "Avtryck-Timestamp: {timestamp}\r\nAvtryck-Signature: {}\r\n",
        signature.unwrap()
    )
}

/// Posts JSON from an address and an agent that are to be found nowhere.
async fn post(collector: &Collector, target: &str, headers: &str, body: &[u8]) -> Reply {
    let mut request = format!(
        "POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nUser-Agent: telltale-agent/1\r\n\
         X-Forwarded-For: 2.64.77.99\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    raw(collector.http, &request).await
}

fn bearer() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

fn told(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("avtryck-refusal"))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Every byte below a folder.
fn bytes_below(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(bytes_below(&path));
        } else if path.is_file() {
            all.extend(std::fs::read(&path).unwrap());
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "it is one table of cases and what each gives"
)]
async fn a_request_is_believed_only_with_its_systems_proof() {
    let collector = Collector::start(systems()).await;
    let body = RIGHT.body;
    for signing in [
        RIGHT,
        Signing { at: -290, ..RIGHT },
        Signing { at: 290, ..RIGHT },
        Signing {
            secret: OLD_SECRET,
            ..RIGHT
        },
    ] {
        let reply = post(&collector, "/s/crm", &sign(&signing), body).await;
        assert_eq!(told(&reply), (204, ""), "{}", reply.body);
    }
    for (signing, reason) in [
        (Signing { at: -310, ..RIGHT }, "system_timestamp"),
        (Signing { at: 310, ..RIGHT }, "system_timestamp"),
        (
            Signing {
                secret: "another-secret-of-16",
                ..RIGHT
            },
            "system_signature",
        ),
        (
            Signing {
                secret: TOKEN,
                ..RIGHT
            },
            "system_signature",
        ),
        (
            Signing {
                version: 1,
                ..RIGHT
            },
            "system_signature",
        ),
        (
            Signing {
                host: "px.example",
                ..RIGHT
            },
            "system_signature",
        ),
        (
            Signing {
                target: "/s/till",
                ..RIGHT
            },
            "system_signature",
        ),
        (
            Signing {
                content_type: "text/plain",
                ..RIGHT
            },
            "system_signature",
        ),
        (
            Signing {
                body: b"{}",
                ..RIGHT
            },
            "system_signature",
        ),
    ] {
        let reply = post(&collector, "/s/crm", &sign(&signing), body).await;
        assert_eq!(told(&reply), (403, reason));
    }
    let signed = sign(&Signing {
        target: "/s/till",
        ..RIGHT
    });
    let by_token = bearer();
    for (target, headers, status, reason) in [
        ("/s/crm", &*by_token, 204, ""),
        ("/s/crm", "", 401, "system_unproved"),
        (
            "/s/crm",
            "Authorization: Basic abc\r\n",
            401,
            "system_unproved",
        ),
        (
            "/s/crm",
            "Authorization: Bearer \r\n",
            401,
            "system_unproved",
        ),
        (
            "/s/crm",
            "Authorization: Bearer wrong\r\n",
            403,
            "system_token",
        ),
        (
            "/s/crm",
            "Avtryck-Signature: v2=00\r\n",
            403,
            "system_signature",
        ),
        // It has tokens alone.
        ("/s/till", &*signed, 403, "system_signature"),
        ("/s/nobody", &*by_token, 404, "system_unknown"),
        ("/s/crm/", &*by_token, 404, "system_unknown"),
        ("/s/", &*by_token, 404, "system_unknown"),
        ("/s", &*by_token, 404, "unknown_path"),
        ("/s/crm?token=0123456789abcdef-crm", "", 400, "system_query"),
        (
            "/s/crm?access_token=0123456789abcdef-crm",
            &*by_token,
            400,
            "system_query",
        ),
        ("/s/crm?site=open", &*by_token, 400, "system_query"),
    ] {
        let reply = post(&collector, target, headers, body).await;
        assert_eq!(told(&reply), (status, reason), "{target} {headers}");
    }
    for method in ["GET", "PUT", "OPTIONS"] {
        let reply = collector.request(method, "/s/crm", &[], "").await;
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, "POST"),
            "{method}"
        );
    }
    let rows = "select count(*) from avtryck.hit_detail where event_name = 'customer_new'";
    collector.wait_for(rows, 5).await;
    let (_, dir, log) = collector.stop().await;
    for hidden in [SECRET, TOKEN] {
        assert!(!log.contains(hidden), "{log}");
        assert!(!holds(&bytes_below(&dir.path().join("spool")), hidden));
    }
}

#[tokio::test]
async fn a_request_by_plain_http_comes_from_this_machine_or_through_a_proxy_that_had_it_by_https() {
    let trusting = Collector::start(systems()).await;
    let nobody = toml::Value::Array(Vec::new());
    let wary = Collector::start(systems().set("http.trusted_proxies", nobody)).await;
    let refused = (403, "system_http");
    for (said, by_trusting, by_wary) in [
        ("", (204, ""), (204, "")),
        ("X-Forwarded-Proto: https\r\n", (204, ""), (204, "")),
        ("X-Forwarded-Proto: http\r\n", refused, (204, "")),
        ("X-Forwarded-Proto: https, http\r\n", refused, (204, "")),
    ] {
        let headers = format!("{said}{}", bearer());
        for (collector, expected) in [(&trusting, by_trusting), (&wary, by_wary)] {
            let reply = post(collector, "/s/crm", &headers, RIGHT.body).await;
            assert_eq!(told(&reply), expected, "{said}");
        }
    }
}

#[tokio::test]
async fn nothing_of_who_sends_is_kept_and_the_user_is_a_hash() {
    let collector = Collector::start(systems()).await;
    let body = br#"[
        {"e":"store_visit","id":"v-1","user":"telltale-user","did":"device-of-anna","store":"Karlstad",
         "maid":"38400000-8cf0-11bd-b23e-10b96e40000d","note":"telltale-user"},
        {"e":"store_visit","id":"v-2",
        {"e":"purchase","id":"o-1","value":899,"client_ip":"2.64.77.99","user_agent":"telltale-agent/2"},
        {"id":"nameless"},
        {"e":"purchase","site":"nowhere"}
    ]"#;
    let headers = format!("{}Cookie: avid=telltale-cookie\r\nSec-GPC: 1\r\n", bearer());
    let reply = post(&collector, "/s/crm", &headers, body).await;
    let refused: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let expected = serde_json::json!({"taken": 2, "refused": 3, "first": [
        {"index": 1, "reason": "json"},
        {"index": 3, "reason": "system_event"},
        {"index": 4, "reason": "site_unknown"},
    ]});
    assert_eq!((reply.status, refused), (200, expected));
    assert!(reply.cookies.is_empty());
    let packed = gzip(br#"{"e":"purchase","id":"o-2"}"#);
    let headers = format!("{}Content-Encoding: gzip\r\n", bearer());
    let reply = post(&collector, "/s/crm", &headers, &packed).await;
    assert_eq!(reply.status, 204);
    collector
        .wait_for("select count(*) from avtryck.hit", 3)
        .await;
    let rows = collector
        .rows(
            "select event_name, flags::text, kind, site, country, network, client_ip::text, visitor_id::text, \
             user_key is not null, params::text, consent_source, permit::text \
             from avtryck.hit_detail order by event_id",
        )
        .await;
    let texts =
        |index: usize| -> Vec<Option<String>> { rows.iter().map(|row| row.get(index)).collect() };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        texts(0),
        [some("purchase"), some("purchase"), some("store_visit")]
    );
    for (index, expected) in [
        (1, some("{system,proved}")),
        (2, some("event")),
        (3, some("open")),
        (4, None),
        (5, None),
        (6, None),
        (7, None),
        (10, some("default")),
        (11, some("{store,measure,link}")),
    ] {
        assert_eq!(texts(index), vec![expected; 3], "{index}");
    }
    let has_user: Vec<bool> = rows.iter().map(|row| row.get(8)).collect();
    assert_eq!(has_user, [false, false, true]);
    let database = collector.rows("select hit::text from avtryck.hit").await;
    let database: String = database.iter().map(|row| row.get::<_, String>(0)).collect();
    assert!(
        !database.contains("telltale") && !database.contains("2.64."),
        "{database}"
    );
    let (_, dir, log) = collector.stop().await;
    let spool = bytes_below(&dir.path().join("spool"));
    assert!(holds(&spool, "Karlstad"));
    let address = [2, 64, 77, 99];
    for hidden in ["telltale", "2.64.77", str::from_utf8(&address).unwrap()] {
        assert!(!holds(&spool, hidden) && !log.contains(hidden), "{hidden}");
    }
}

#[tokio::test]
async fn what_an_event_may_say_is_decided_by_its_system_and_by_what_it_says_of_consent() {
    let collector = Collector::start(systems().with(
        r#"
        [[system]]
        key = "shop"
        tokens = ["0123456789abcdef-crm"]
        site = "shut"
        default_permit = ["measure"]
        "#,
    ))
    .await;
    let consent = crate::support::consent_string("policy 5, few, as bits, all disclosed");
    let with_string = format!(r#"{{"e":"by_string","gdpr":1,"gdpr_consent":"{consent}"}}"#);
    for (system, event) in [
        // Nothing is permitted where nothing is said.
        ("till", r#"{"e":"silent","user":"anna"}"#),
        (
            "till",
            r#"{"e":"chosen","user":"anna","permit":["store","measure"]}"#,
        ),
        ("till", r#"{"e":"refused","user":"anna","permit":[]}"#),
        ("till", r#"{"e":"broken","user":"anna","gdpr":1}"#),
        ("till", &*with_string),
        (
            "crm",
            r#"{"e":"narrowed","user":"anna","permit":["measure"]}"#,
        ),
        ("shop", r#"{"e":"of_system","user":"anna"}"#),
    ] {
        let target = format!("/s/{system}");
        let reply = post(&collector, &target, &bearer(), event.as_bytes()).await;
        assert_eq!(reply.status, 204, "{event}: {}", reply.body);
    }
    // Each event of a list stands for itself, whatever the one before it permits.
    for list in [
        r#"[{"e":"list_1","permit":["store","measure"]},{"e":"list_2","user":"anna","permit":[]},{"e":"list_3"}]"#,
        r#"[{"e":"list_4","permit":["measure"]},{"e":"list_5","permit":["store","measure"]}]"#,
    ] {
        let reply = post(&collector, "/s/shop", &bearer(), list.as_bytes()).await;
        assert_eq!(reply.status, 204, "{}", reply.body);
    }
    let elsewhere = post(
        &collector,
        "/s/till",
        &bearer(),
        br#"{"e":"x","site":"shut"}"#,
    )
    .await;
    assert_eq!(told(&elsewhere), (403, "system_site"));
    collector
        .wait_for("select count(*) from avtryck.hit", 8)
        .await;
    let counted = "select sum(hits)::bigint from avtryck.hit_count where kind = 2";
    collector.wait_for(counted, 4).await;
    let rows = collector
        .rows(
            "select event_name, permit::text, consent_source, user_key is not null from avtryck.hit_detail \
             order by event_name",
        )
        .await;
    let rows: Vec<(String, String, String, bool)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let row = |name: &str, permit: &str, source: &str, has_user| {
        (
            name.to_owned(),
            permit.to_owned(),
            source.to_owned(),
            has_user,
        )
    };
    let all = "{store,measure,profile,match,link,locate}";
    assert_eq!(
        rows,
        [
            row("by_string", all, "tcf", false),
            row("chosen", "{store,measure}", "choice", true),
            row("list_1", "{store,measure}", "choice", false),
            row("list_3", "{measure}", "default", false),
            row("list_4", "{measure}", "choice", false),
            row("list_5", "{store,measure}", "choice", false),
            row("narrowed", "{measure}", "choice", false),
            row("of_system", "{measure}", "default", false),
        ]
    );
}

#[tokio::test]
async fn a_conversion_that_a_system_reports_counts_where_conversions_must_be_signed() {
    let collector = Collector::start(systems().set("site.open.conversions", "signed")).await;
    let body = br#"{"e":"conversion","id":"o-1","avclid":"a-click-of-somebody"}"#;
    let reply = post(&collector, "/s/crm", &bearer(), body).await;
    assert_eq!(reply.status, 204);
    let by_pixel = "/p.gif?site=open&e=conversion&id=o-2";
    assert_eq!(collector.get(by_pixel, &[]).await.status, 200);
    let rows = "select count(*) from avtryck.hit_detail where event_name = 'conversion'";
    collector.wait_for(rows, 2).await;
    let flags = "select flags::text from avtryck.hit_detail where event_id = 'o-1'";
    let flags: String = collector.rows(flags).await[0].get(0);
    assert_eq!(flags, "{system,proved,signed_only,signed}");
}

#[tokio::test]
async fn a_time_goes_back_to_the_age_at_which_rows_are_dropped() {
    let config = systems().set("privacy.retention", "40d");
    let collector = Collector::start(config).await;
    let day = 86_400;
    let events: Vec<String> = [
        ("now", 0),
        ("old", 40 * day - 60),
        ("older", 40 * day + 60),
        ("later", -60),
    ]
    .map(|(name, ago)| format!(r#"{{"e":"{name}","occurred_at":{}}}"#, now() - ago))
    .to_vec();
    let body = events.join("\n");
    let reply = post(&collector, "/s/crm", &bearer(), body.as_bytes()).await;
    assert_eq!(reply.status, 204, "{}", reply.body);
    collector
        .wait_for("select count(*) from avtryck.hit", 4)
        .await;
    let rows = collector
        .rows(
            "select event_name, 'clock' = any (flags), \
             extract(epoch from received_at - occurred_at)::bigint from avtryck.hit_detail order by event_name",
        )
        .await;
    let rows: Vec<(String, bool, i64)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    for (name, is_clamped, ago) in [
        ("later", true, 0),
        ("now", false, 0),
        ("old", false, 40 * day - 60),
        ("older", true, 40 * day),
    ] {
        let (_, was_clamped, was) = rows.iter().find(|row| row.0 == name).unwrap();
        assert_eq!(*was_clamped, is_clamped, "{name}");
        assert!((was - ago).abs() < 30, "{name}: {was}");
    }
}

#[tokio::test]
async fn an_event_that_is_sent_again_is_one_row_also_after_a_kill() {
    let collector = Collector::start(systems()).await;
    let event = |at: i64| {
        format!(r#"{{"e":"account_created","id":"a-1","user":"anna","occurred_at":{at}}}"#)
    };
    let first = event(now() - 100);
    let reply = post(&collector, "/s/crm", &bearer(), first.as_bytes()).await;
    assert_eq!(reply.status, 204);
    let dir = collector.kill().await;
    let collector = Collector::start_in(dir).await;
    // The sender may say another time each time.
    for again in [first, event(now())] {
        let reply = post(&collector, "/s/crm", &bearer(), again.as_bytes()).await;
        assert_eq!(reply.status, 204);
    }
    // A request that was signed is itself when it is repeated, and stands for no other one.
    let signed = sign(&RIGHT);
    for _ in 0..3 {
        let reply = post(&collector, "/s/crm", &signed, RIGHT.body).await;
        assert_eq!(reply.status, 204);
    }
    // A browser that knows the ID takes nothing from the system.
    let own = "/p.gif?site=open&e=account_created&id=a-1";
    assert_eq!(collector.get(own, &[]).await.status, 200);
    collector
        .wait_for("select count(*) from avtryck.hit where event_id = 'a-1'", 2)
        .await;
    collector
        .wait_for(
            "select count(*) from avtryck.hit where event_name = 'customer_new'",
            1,
        )
        .await;
    let days = "select (max(seen_on) - current_date)::bigint from avtryck.event_key";
    assert!(collector.number(days).await > 0);
}

#[tokio::test]
async fn attempts_cost_their_client_and_a_proved_system_costs_nothing() {
    let config = systems().with("[limit]\nhits_per_second = 1\nburst = 2\ndrop_above = 2\n");
    let collector = Collector::start(config).await;
    let wrong = "Authorization: Bearer wrong\r\n";
    let mut reasons = Vec::new();
    for _ in 0..8 {
        let reply = post(&collector, "/s/crm", wrong, RIGHT.body).await;
        reasons.push(reply.header("avtryck-refusal").to_owned());
    }
    assert_eq!(reasons.first().map(String::as_str), Some("system_token"));
    assert_eq!(reasons.last().map(String::as_str), Some("over_limit"));
    let of_client = ("X-Forwarded-For", "2.64.77.99");
    let page = collector.get("/p.gif?site=open", &[of_client]).await;
    assert_eq!(told(&page), (429, "over_limit"));
    for _ in 0..8 {
        let reply = post(&collector, "/s/crm", &bearer(), RIGHT.body).await;
        assert_eq!(told(&reply), (204, ""));
    }
    let rows = "select count(*) from avtryck.hit_detail where flags = '{system,proved}'";
    collector.wait_for(rows, 8).await;
}
