//! Names of models: which devices are looked up, and what is stored of them.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::*;
use crate::enrich::{TableFiles, load};
use crate::metrics::Metrics;

const HEAD: &str = "{\"format\":1}\n{\"source\":\"a\",\"version\":\"1\"}\n";
const ULTRA: &str = "{\"maker\":\"Samsung\",\"name\":\"Galaxy S23 Ultra\",\"released\":2023,\"codes\":[\"SM-S918\"],\"codenames\":[\"dm3q\"]}\n";
const OTHER: &str = "{\"source\":\"b\",\"version\":\"2\"}\n{\"maker\":\"Samsung\",\"name\":\"S23U\",\"whole\":[\"SM-S918B\"]}\n";

/// Makes limits with the names of a file with these lines.
fn limits(lines: &str) -> JobLimits {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().join("models.ndjson");
    std::fs::write(&models, format!("{HEAD}{lines}")).unwrap();
    let files = TableFiles {
        models,
        ..TableFiles::default()
    };
    let (tables, _) = load(&files);
    JobLimits {
        naming: Some(Naming {
            tables: Arc::new(ArcSwap::from_pointee(tables)),
            metrics: Arc::new(Metrics::new().unwrap()),
        }),
        ..LIMITS
    }
}

/// Runs the job, and returns how many devices it looked up.
async fn look_up(client: &mut Client, limits: &JobLimits) -> u64 {
    let job = JOBS.iter().find(|job| job.name == "device_model").unwrap();
    job.run(client, limits, NOON).await.unwrap().changed
}

async fn lines(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

const MODELS: &str = "select concat_ws(' ', brand, model, maker, name, family, released, source, source_version) \
    from avtryck.device_model order by 1";
const ALIASES: &str =
    "select concat_ws(' ', maker, name, alias, kind) from avtryck.device_alias order by 1";

/// Adds devices with these keys, brands and models.
async fn add(client: &Client, devices: &str) {
    let sql =
        format!("insert into avtryck.device (key, class, is_bot, brand, model) values {devices}");
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn a_new_model_gets_its_names_once_and_one_without_a_name_is_not_asked_again() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let names = limits(&format!("{ULTRA}{OTHER}"));
    add(
        client,
        "(1, 'phone', false, 'Samsung', 'SM-S918B'), (2, 'phone', false, 'Samsung', 'SM-S918B'), \
         (3, 'phone', false, null, 'SM-S918U'), (4, 'phone', false, 'Nobody', 'XQ'), \
         (5, 'desktop', false, null, null)",
    )
    .await;
    // A collector without names leaves them to others.
    assert_eq!(look_up(client, &LIMITS).await, 0);
    assert_eq!(look_up(client, &names).await, 4);
    let expect = [
        "Samsung SM-S918B Samsung Galaxy S23 Ultra Galaxy S23 2023 a 1",
        "Samsung SM-S918B Samsung S23U S23U b 2",
        " SM-S918U Samsung Galaxy S23 Ultra Galaxy S23 2023 a 1",
    ];
    let mut expect = expect.map(str::to_owned);
    expect.sort();
    let mut stored = lines(client, MODELS).await;
    stored.sort();
    assert_eq!(stored, expect);
    let aliases = [
        "Samsung Galaxy S23 Ultra Galaxy S23 Ultra name",
        "Samsung Galaxy S23 Ultra SM-S918 code",
        "Samsung Galaxy S23 Ultra dm3q codename",
        "Samsung S23U S23U name",
        "Samsung S23U SM-S918B code",
    ];
    let mut stored = lines(client, ALIASES).await;
    stored.sort();
    assert_eq!(stored, aliases);
    assert_eq!(look_up(client, &names).await, 0);
    add(client, "(6, 'phone', false, 'Samsung', 'SM-S918N')").await;
    assert_eq!(look_up(client, &names).await, 1);
}

#[tokio::test]
async fn another_list_replaces_what_the_one_before_said() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    add(
        client,
        "(1, 'phone', false, 'Samsung', 'SM-S918B'), (2, 'phone', false, 'X', 'XQ')",
    )
    .await;
    look_up(client, &limits(&format!("{ULTRA}{OTHER}"))).await;
    let renamed = ULTRA.replace("dm3q", "dm3").replace("2023", "2024");
    let newer = limits(&format!(
        "{renamed}{{\"maker\":\"X\",\"name\":\"Quick\",\"whole\":[\"XQ\"]}}\n"
    ));
    assert_eq!(look_up(client, &newer).await, 2);
    assert_eq!(look_up(client, &newer).await, 0);
    let models = [
        "Samsung SM-S918B Samsung Galaxy S23 Ultra Galaxy S23 2024 a 1",
        "X XQ X Quick Quick a 1",
    ];
    assert_eq!(lines(client, MODELS).await, models);
    let ultra = "select alias from avtryck.device_alias where name = 'Galaxy S23 Ultra' order by alias collate \"C\"";
    assert_eq!(
        lines(client, ultra).await,
        ["Galaxy S23 Ultra", "SM-S918", "dm3"]
    );

    // What no device is called any more goes, here with the device.
    client
        .batch_execute("delete from avtryck.device where key = 1")
        .await
        .unwrap();
    assert!(run(client, "device_model_unused", NOON).await.changed > 0);
    assert_eq!(lines(client, MODELS).await, ["X XQ X Quick Quick a 1"]);
    assert_eq!(
        lines(client, ALIASES).await,
        ["X Quick Quick name", "X Quick XQ name"]
    );
    assert_eq!(run(client, "device_model_unused", NOON).await.changed, 0);
}

#[tokio::test]
async fn a_run_has_an_end_and_leaves_locked_devices_to_the_next() {
    let mut database = TestDatabase::migrated().await;
    let other = database.connect().await;
    let client = &mut database.client;
    let many = "insert into avtryck.device (key, class, is_bot, brand, model) \
        select n, 'phone', false, 'Samsung', 'SM-S918B-' || n from generate_series(1, 10100) as n";
    client.batch_execute(many).await.unwrap();
    other
        .batch_execute("begin; update avtryck.device set last_seen = last_seen where key = 1")
        .await
        .unwrap();
    let names = limits(ULTRA);
    assert_eq!(look_up(client, &names).await, 10_000);
    assert_eq!(look_up(client, &names).await, 99);
    assert_eq!(look_up(client, &names).await, 0);
    other.batch_execute("commit").await.unwrap();
    assert_eq!(look_up(client, &names).await, 1);
    assert_eq!(count(client, "device_model").await, 10_100);
}
