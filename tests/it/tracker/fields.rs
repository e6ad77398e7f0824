//! Who is logged in, on which device: what the disk holds of it, and how it is found, erased and
//! kept out.

use std::path::Path;

use serde_json::{Value, json};

use crate::consent::{dump, holds};
use crate::support::{Collector, Config, command};

/// Two keys that hash users.
const KEYS: [&str; 2] = [
    "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    "2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
];

/// A third.
const NEWEST: &str = "3:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

fn sites(keys: &[&str]) -> Config {
    Config::sites().set("user.keys", keys.to_vec())
}

/// Sends one event.
async fn send(collector: &Collector, site: &str, event: Value) {
    let target = format!("/e?site={site}");
    let reply = collector.post(&target, &[], &event.to_string()).await;
    assert_eq!(reply.status, 204, "{reply:?}");
}

/// Runs `avtryck subject` beside a collector. Returns what it prints.
async fn subject(dir: &Path, arguments: &[&str]) -> String {
    let output = command(&["subject"])
        .args(arguments)
        .env("AVTRYCK_CONFIG", dir.join("avtryck.toml"))
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// The users of all rows, in the order in which they came.
async fn users(collector: &Collector) -> Vec<Option<String>> {
    let sql = "select user_key::text from avtryck.hit_detail order by received_at, hit_id";
    let rows = collector.rows(sql).await;
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_user_is_a_hash_on_disk_and_in_the_log_and_its_id_is_nowhere() {
    let collector = Collector::start_logging(sites(&KEYS), "debug").await;
    for (number, user) in ["anna-4711", "berta-4712", "anna-4711"].iter().enumerate() {
        let event = json!({"e": "login", "id": format!("login-{number}"), "user": user, "copy": [{"of": user}],
            "u": format!("https://www.open.example/{user}?who={user}")});
        send(&collector, "open", event).await;
    }
    let rows = "select count(*) from avtryck.hit where event_name = 'login'";
    collector.wait_for(rows, 3).await;
    let [anna, berta, again] = users(&collector).await.try_into().unwrap();
    assert_eq!(anna, again);
    assert!(anna.is_some() && berta.is_some() && anna != berta);
    let params = "select params->'copy'->0->>'of', page_url from avtryck.hit_detail order by received_at limit 1";
    let row = &collector.rows(params).await[0];
    let hash = anna.unwrap().replace('-', "");
    assert_eq!(row.get::<_, &str>(0), hash);
    let page = format!("https://www.open.example/{hash}?who={hash}");
    assert_eq!(row.get::<_, &str>(1), page);
    // An address says nothing of it, not even among the parameters.
    let target = "/p.gif?site=open&e=asked&user=anna-4711&x=1";
    assert_eq!(collector.get(target, &[]).await.status, 200);
    let target = "/e?site=open&user=anna-4711";
    let reply = collector.post(target, &[], r#"{"e":"asked"}"#).await;
    assert_eq!(reply.status, 204);
    let asked = "select count(*) from avtryck.hit where event_name = 'asked' and user_key is null";
    collector.wait_for(asked, 2).await;
    let stored = dump(&collector).await;
    let (_, dir, log) = collector.stop().await;
    for text in ["anna-4711", "berta-4712"] {
        assert!(!holds(&dir.path().join("spool"), text.as_bytes()), "{text}");
        assert!(!stored.contains(text) && !log.contains(text), "{text}");
    }
}

#[tokio::test]
async fn without_store_or_without_a_key_nothing_says_who_it_was() {
    let event = json!({"e": "buy", "user": "anna-4711", "did": "device-4711", "v": {"copy": "anna-4711"},
        "traits": {"email": "anna@mail.example"}, "user_id": "customer-4711",
        "u": "https://www.open.example/?gclid=click-4711&page=2&m=anna%40mail.example"});
    for (keys, site, device) in [
        (&KEYS[..], "rows-only", None),
        (&KEYS[..], "shut", None),
        (&[][..], "open", Some("device-4711")),
    ] {
        let collector = Collector::start(sites(keys)).await;
        send(&collector, site, event.clone()).await;
        let all =
            "select (select count(*) from avtryck.hit) + (select count(*) from avtryck.hit_count)";
        collector.wait_for(all, 1).await;
        let sql = "select user_key::text, device_id, page_url from avtryck.hit_detail";
        for row in collector.rows(sql).await {
            assert_eq!(row.get::<_, Option<&str>>(0), None);
            assert_eq!(row.get::<_, Option<&str>>(1), device);
            let page = row.get::<_, &str>(2);
            assert_eq!(page == "https://www.open.example/?page=2", device.is_none());
        }
        let mut secrets = vec!["anna-4711"];
        if device.is_none() {
            secrets.extend(["device-4711", "customer-4711", "click-4711", "mail.example"]);
        }
        let stored = dump(&collector).await;
        let (_, dir, _) = collector.stop().await;
        for text in secrets {
            assert!(!holds(&dir.path().join("spool"), text.as_bytes()), "{text}");
            assert!(!stored.contains(text), "{text} in\n{stored}");
        }
    }
}

#[tokio::test]
async fn a_user_and_a_device_are_exported_erased_and_kept_out_under_every_key() {
    let collector = Collector::start(sites(&KEYS[..1])).await;
    let hit =
        |user: &str, device: &str, name: &str| json!({"e": name, "user": user, "did": device});
    send(&collector, "open", hit("anna", "d-1", "a")).await;
    send(&collector, "open", hit("berta", "d-2", "a")).await;
    let rows = "select count(*) from avtryck.hit";
    collector.wait_for(rows, 2).await;
    // The key has leaked: another one is put before it.
    let (_, dir, _) = collector.stop().await;
    let renewed = [KEYS[1], KEYS[0]].map(toml::Value::from).to_vec();
    Config::read(dir.path())
        .set("user.keys", renewed)
        .write_as_it_is(dir.path());
    let collector = Collector::start_in(dir).await;
    send(&collector, "open", hit("anna", "d-1", "b")).await;
    collector.wait_for(rows, 3).await;
    let [old, _, new] = users(&collector).await.try_into().unwrap();
    assert!(old.is_some() && new.is_some() && old != new);

    let dir = collector.dir.path();
    for (selector, id, hits) in [
        ("--user", "anna", 2),
        ("--did", "d-1", 2),
        ("--did", "d-2", 1),
        ("--user", "Anna", 0),
    ] {
        let held = subject(dir, &["export", selector, id]).await;
        let is_hit = |line: &&str| line.contains("\"table\":\"hit\"");
        assert_eq!(held.lines().filter(is_hit).count(), hits, "{selector} {id}");
    }
    let told = subject(dir, &["erase", "--user", "anna"]).await;
    assert!(told.contains("hit: 2 rows removed"), "{told}");
    let told = subject(dir, &["erase", "--did", "d-2"]).await;
    assert!(told.contains("hit: 1 rows removed"), "{told}");
    // What comes after that is a count.
    send(&collector, "open", hit("anna", "d-3", "c")).await;
    send(&collector, "open", hit("clara", "d-2", "c")).await;
    send(&collector, "open", hit("clara", "d-3", "c")).await;
    collector
        .wait_for(
            "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count",
            2,
        )
        .await;
    collector.wait_for(rows, 1).await;
}

#[tokio::test]
async fn who_was_erased_stays_so_under_each_key_that_is_put_before_the_first() {
    let collector = Collector::start(sites(&KEYS[..1])).await;
    send(&collector, "open", json!({"e": "a", "user": "anna"})).await;
    let rows = "select count(*) from avtryck.hit";
    collector.wait_for(rows, 1).await;
    subject(collector.dir.path(), &["erase", "--user", "anna"]).await;
    collector.wait_for(rows, 0).await;
    let (mut keys, mut erased, mut counts) = (vec![KEYS[0]], vec!["anna"], 0);
    let mut dir = collector.stop().await.1;
    for (newer, user) in [(KEYS[1], "berta"), (NEWEST, "clara")] {
        // The others may come in any order.
        keys.reverse();
        keys.insert(0, newer);
        let config = Config::read(dir.path()).set("user.keys", keys.clone());
        config.write_as_it_is(dir.path());
        let collector = Collector::start_in(dir).await;
        for named in erased.iter().chain(&[user]) {
            send(&collector, "open", json!({"e": "b", "user": named})).await;
        }
        counts += erased.len() as i64;
        let stored = format!("{rows} where event_name = 'b' and user_key is not null");
        collector.wait_for(&stored, 1).await;
        let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
        collector.wait_for(counted, counts).await;
        // Who is erased later is found under the newest, and stays so under the next.
        subject(collector.dir.path(), &["erase", "--user", user]).await;
        collector.wait_for(rows, 0).await;
        erased.push(user);
        counts += 1;
        send(&collector, "open", json!({"e": "c", "user": user})).await;
        let other = format!("doris-{newer}");
        send(&collector, "open", json!({"e": "c", "user": other})).await;
        collector.wait_for(rows, 1).await;
        subject(collector.dir.path(), &["erase", "--user", &other]).await;
        dir = collector.stop().await.1;
    }
}

#[tokio::test]
async fn a_collector_with_another_key_stores_rows_that_say_nothing_of_users() {
    let collector = Collector::start(sites(&KEYS[..1])).await;
    let event = || json!({"e": "login", "user": "anna"});
    send(&collector, "open", event()).await;
    let rows = "select count(*) from avtryck.hit";
    collector.wait_for(rows, 1).await;
    let (_, dir, _) = collector.stop().await;
    let other = vec![toml::Value::from(KEYS[1])];
    Config::read(dir.path())
        .set("user.keys", other)
        .write_as_it_is(dir.path());
    let collector = Collector::start_in(dir).await;
    send(&collector, "open", event()).await;
    collector.wait_for(rows, 2).await;
    let [first, second] = users(&collector).await.try_into().unwrap();
    assert!(first.is_some() && second.is_none());
    assert_eq!(
        collector.metric("avtryck_loader_users_refused_total").await,
        1.0
    );
    let (_, _, log) = collector.stop().await;
    assert!(log.contains("user.keys"), "{log}");
}

/// A call of Segment's SDK that tells of a visit three days ago, sent now.
fn identify(write_key: &str, sent_at: &str) -> Value {
    json!({"type": "identify", "writeKey": write_key, "messageId": "3b241101-e2bb-4255-8caf-4136c566a962",
        "userId": "anna-4711z", "anonymousId": "anon-4711z", "previousId": "former-4711z",
        "timestamp": "2026-01-01T00:00:00.123Z", "sentAt": sent_at,
        "traits": {"email": "anna@mail.example", "plan": "gold", "crm": "anna-4711z"},
        "context": {"sessionId": "session-4711z", "locale": "sv", "location": {"latitude": 64.4711, "city": "Solna"},
            "device": {"id": "vendor-4711z", "model": "x"}, "page": {"url": "https://www.open.example/?gclid=click-4711z"}}})
}

#[tokio::test]
async fn a_tracker_says_who_and_when_and_the_same_event_is_stored_once_for_a_month() {
    let without_place = ["store", "measure"].map(toml::Value::from).to_vec();
    let config = sites(&KEYS).set("site.open.default_permit", without_place);
    let collector = Collector::start(config).await;
    // It is tried again later, and its clock is nearly a year slow.
    for sent_at in ["2026-01-04T00:00:00.123Z", "2026-01-04T01:00:00.123Z"] {
        let body = identify("open", sent_at).to_string();
        let reply = collector.post("/v1/identify", &[], &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let repeated = "avtryck_loader_repeated_total";
    collector.until_metric(repeated, 1.0).await;
    let sql = "select user_key is not null, session_id, device_id, protocol, params::text, \
               extract(epoch from received_at - occurred_at)::float8, flags::text \
               from avtryck.hit_detail";
    let rows = collector.rows(sql).await;
    let [row] = &rows[..] else {
        panic!("{} rows", rows.len())
    };
    assert!(row.get::<_, bool>(0));
    let texts = [1, 2, 3].map(|column| row.get::<_, &str>(column));
    assert_eq!(texts, ["session-4711z", "anon-4711z", "segment"]);
    assert_eq!(row.get::<_, f64>(5), 3.0 * 86_400.0);
    let params = row.get::<_, String>(4);
    for gone in ["anna", "mail.example", "64.4711", "Solna"] {
        assert!(!params.contains(gone), "{gone} in {params}");
    }
    for kept in ["gold", "former-4711z", "\"sv\""] {
        assert!(params.contains(kept), "{kept} in {params}");
    }
    let kept_until =
        "select (seen_on + 7 - (now() at time zone 'UTC')::date)::bigint from avtryck.event_key";
    assert_eq!(collector.number(kept_until).await, 30);
    let (_, dir, _) = collector.stop().await;
    for text in ["anna-4711z", "mail.example"] {
        assert!(!holds(&dir.path().join("spool"), text.as_bytes()), "{text}");
    }
}

#[tokio::test]
async fn without_store_no_byte_of_a_trackers_ids_reaches_the_disk() {
    let collector = Collector::start(sites(&KEYS)).await;
    let body = identify("rows-only", "2026-01-04T00:00:00.123Z").to_string();
    let reply = collector.post("/v1/identify", &[], &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let entity = |name: &str, data: Value| json!({"schema": format!("iglu:com.snowplowanalytics.{name}/jsonschema/1-0-0"), "data": data});
    let contexts = json!({"schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0", "data": [
        entity("snowplow/client_session", json!({"userId": "anon-4711z", "sessionId": "session-4711z", "sessionIndex": 3})),
        entity("snowplow/mobile_context", json!({"osType": "ios", "osVersion": "17", "deviceManufacturer": "Apple",
            "deviceModel": "iPhone", "appleIdfa": "vendor-4711z", "carrier": "Telenor"})),
        entity("snowplow/geolocation_context", json!({"latitude": 64.4711, "longitude": 118.4711})),
    ]});
    let event = json!({"schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4", "data": [{
        "e": "pv", "aid": "rows-only", "p": "mob", "eid": "1", "duid": "anon-4711z", "uid": "anna-4711z", "sid": "session-4711z",
        "tnuid": "former-4711z", "dtm": "1795500000000", "co": contexts.to_string(), "page": "For anna@mail.example",
        "url": "https://rows.example/?_sp=click-4711z&x=1"}]});
    let target = "/com.snowplowanalytics.snowplow/tp2";
    let headers = [("Content-Type", "application/json")];
    let reply = collector.post(target, &headers, &event.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    collector
        .wait_for("select count(*) from avtryck.hit", 2)
        .await;
    let stored = dump(&collector).await;
    assert!(stored.contains("Telenor"), "{stored}");
    let (_, dir, log) = collector.stop().await;
    // No time, number or hash looks like one of these by chance.
    let secrets = ["anna", "mail.example", "4711z", "64.4711", "118.4711"];
    for text in secrets {
        assert!(
            !holds(&dir.path().join("spool"), text.as_bytes()),
            "{text} in the spool"
        );
        assert!(!stored.contains(text), "{text} in\n{stored}");
        assert!(!log.contains(text), "{text} in the log");
    }
}
