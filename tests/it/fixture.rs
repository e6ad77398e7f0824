//! Upgrades from each release, and from schemas between releases: this build takes over the
//! database and the spool that the release left, as `script/fixture` froze them, and finds in them
//! what the release itself found.
//!
//! The test looks at both by SQL alone, so it shares no decoding with what it tests.
//!
//! Hits keep the day of their fixture, and no configuration keeps hits for more than ten years: a
//! fixture is of use for that long.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Map, Value};
use tokio::process::Command;
use tokio_postgres::Client;

use crate::support::{Collector, Config, root, tempdir};
use crate::testing::TestDatabase;

/// The oldest release that has a fixture, and the newest schema. The test fails if the search does
/// not find them.
const FIRST: &str = "0.1.0";
const LAST: &str = "schema-84";

const HIT_DETAIL: &str = "select * from avtryck.hit_detail order by hit_id";

#[tokio::test]
async fn a_database_and_a_spool_of_each_release_are_taken_over_whole() {
    let mut releases: Vec<PathBuf> = std::fs::read_dir(root().join("tests/fixture"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    releases.sort();
    for known in [FIRST, LAST] {
        assert!(releases.iter().any(|path| path.ends_with(known)), "{known}");
    }
    for release in releases {
        eprintln!("the fixture of {}", release.display());
        take_over(&release).await;
    }
}

async fn take_over(release: &Path) {
    let expected = std::fs::read(release.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let database = TestDatabase::empty().await;
    let client = restore(release, &database, &expected).await;
    assert_answers(&client, &expected, "before").await;
    let old = rows(&client, HIT_DETAIL).await;

    let dir = tempdir();
    unpack(release, &dir.path().join("spool")).await;
    configuration(release, &database).write(&dir).await;
    let collector = Collector::start_in(dir).await;
    for position in rows_of(&expected["checks"]["positions"]["after"]) {
        let spool_id = position["spool_id"].as_str().unwrap();
        let sql =
            format!("select records from avtryck.spool_position where spool_id = '{spool_id}'");
        let records = position["records"].as_i64().unwrap();
        collector.wait_for(&sql, records).await;
    }
    let lacking = "select count(*) from avtryck.missing_hit_index";
    collector.wait_for(lacking, 0).await;
    for sql in expected["added_up"].as_array().into_iter().flatten() {
        collector.wait_for(sql.as_str().unwrap(), 0).await;
    }
    assert_answers(&client, &expected, "after").await;
    assert_unchanged(&old, &rows(&client, HIT_DETAIL).await, &expected["erased"]);
    assert_click(&collector, &expected["click"]).await;

    let (status, _dir, log) = collector.stop().await;
    assert!(status.success(), "{log}");
}

/// Reads the configuration of a release, and adds what belongs to this run and not to the release.
fn configuration(release: &Path, database: &TestDatabase) -> Config {
    let file = |name: &str| release.join(name).display().to_string();
    Config::read(release)
        .set("http.listen", "127.0.0.1:0")
        .set("admin.listen", "127.0.0.1:0")
        .set("device.rules", file("regexes.json"))
        .set("device.crawlers", file("crawlers.json"))
        .set("privacy.retention", "3650d")
        .database_of(database)
}

/// Restores the release's dump into an empty database, and moves times to today in the tables that
/// jobs clear by age. Returns a connection that knows by how many days.
async fn restore(release: &Path, database: &TestDatabase, expected: &Value) -> Client {
    let mut dump = String::new();
    let packed = std::fs::File::open(release.join("database.sql.gz")).unwrap();
    GzDecoder::new(packed).read_to_string(&mut dump).unwrap();
    // A dump changes the settings of its session, which is why the queries have another.
    database.client.batch_execute(&dump).await.unwrap();

    let client = database.connect().await;
    let made_on = expected["made_on"].as_str().unwrap();
    let days =
        format!("select set_config('fixture.days', (current_date - '{made_on}')::text, false)");
    client.batch_execute(&days).await.unwrap();
    for sql in rows_of(&expected["shift"]) {
        client.batch_execute(sql.as_str().unwrap()).await.unwrap();
    }
    client
}

async fn unpack(release: &Path, spool: &Path) {
    std::fs::create_dir(spool).unwrap();
    let unpacked = Command::new("tar")
        .args(["-xz", "--no-same-owner", "-f"])
        .arg(release.join("spool.tar.gz"))
        .arg("-C")
        .arg(spool)
        .status()
        .await
        .unwrap();
    assert!(unpacked.success());
}

/// Asserts that each query has the answer that the release gave; a later build may add columns.
async fn assert_answers(client: &Client, expected: &Value, moment: &str) {
    let mut asked = 0;
    for (name, check) in expected["checks"].as_object().unwrap() {
        let Some(expected) = check.get(moment) else {
            continue;
        };
        let found = rows(client, check["sql"].as_str().unwrap()).await;
        let expected = rows_of(expected);
        for (found, expected) in found.iter().zip(expected) {
            assert_columns(found, expected, &format!("{moment}, {name}"));
        }
        assert_eq!(found.len(), expected.len(), "{moment}, {name}: {found:#?}");
        asked += 1;
    }
    assert!(asked > 10);
}

/// Asserts that every old row is unchanged in every column, except that those whose erasure was
/// pending are gone.
fn assert_unchanged(old: &[Map<String, Value>], new: &[Map<String, Value>], erased: &Value) {
    let mut gone = Vec::new();
    for before in old {
        let id = &before["hit_id"];
        match new.iter().find(|row| row["hit_id"] == *id) {
            Some(after) => assert_columns(after, &Value::Object(before.clone()), "unchanged"),
            None => gone.push(id.clone()),
        }
    }
    assert_eq!(Value::Array(gone), *erased);
}

fn assert_columns(found: &Map<String, Value>, expected: &Value, what: &str) {
    for (column, value) in expected.as_object().unwrap() {
        assert_eq!(
            found.get(column),
            Some(value),
            "{what}: {column}\nfound: {found:#?}\nexpected: {expected:#}"
        );
    }
}

/// Asserts that a click URL which the release signed still leads to its target. Ads carry such URLs
/// for months.
async fn assert_click(collector: &Collector, click: &Value) {
    let reply = collector.get(click["target"].as_str().unwrap(), &[]).await;
    assert_eq!((reply.status, reply.header("avtryck-refusal")), (302, ""));
    assert_eq!(reply.header("location"), click["location"]);
}

fn rows_of(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// The rows of a query, as Postgres writes them in JSON.
async fn rows(client: &Client, sql: &str) -> Vec<Map<String, Value>> {
    let sql = format!("select to_jsonb(found)::text from ({sql}) as found");
    let rows = client.query(&sql, &[]).await;
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let parse = |row: &tokio_postgres::Row| serde_json::from_str(row.get(0)).unwrap();
    rows.iter().map(parse).collect()
}
