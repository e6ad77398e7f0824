#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod many;
mod tables;
mod ties;

use std::iter;

use serde_json::json;

use serde_json::Value;
use tokio_postgres::Client;

use super::held::of_recent;
use super::*;
use crate::clock::UnixMicros;
use crate::hit::belief::PageScope;
use crate::hit::subject::{Held, HeldHit};
use crate::hit::{Field, Hit, Kind, Permit, UserKey, VisitorId};
use crate::postgres::server::embedded::testing::TestDatabase;
use crate::postgres::subject::suppression;

/// 2026-11-24T12:34:56Z.
const NOON: UnixMicros = UnixMicros(1_795_523_696_000_000);
const ANNA: VisitorId = VisitorId([0xa1; 16]);
const USER: UserKey = UserKey([0x5e; 16]);
const MAID: &str = "38400000-8cf0-11bd-b23e-10b96e40000d";

fn scope() -> PageScope {
    PageScope {
        site: "shop".to_owned(),
        permit: Permit::ALL,
    }
}

/// Three days with hits of Anna and of others, some of which share the text of a partner's ID.
async fn filled() -> TestDatabase {
    let database = TestDatabase::migrated().await;
    database
        .client
        .batch_execute(include_str!("tests.sql"))
        .await
        .unwrap();
    let mut rejected = Hit::new(NOON, Kind::Event, "shop");
    rejected.permit = Permit::ALL;
    rejected.visitor = Some(ANNA);
    rejected.maid = MAID.into();
    rejected.partner = "adform".into();
    rejected.partner_uid = "7".into();
    rejected.params = "{\"broken\":".into();
    let mut whole = Vec::new();
    rejected.encode(&mut whole);
    // Cut within its last field, and so no hit any more.
    let cut = &whole[..whole.len() - 1];
    rejected.visitor = Some(VisitorId([0xb0; 16]));
    rejected.maid = "another".into();
    rejected.partner = "other".into();
    // Anna's ID in a place where it is not one.
    rejected.params = format!("{{\"seen\":\"{MAID}\"").into();
    let mut another = Vec::new();
    rejected.encode(&mut another);
    for payload in [&whole, cut, &another] {
        database
            .client
            .execute(
                "insert into avtryck.rejected_hit values (now(), gen_random_uuid(), 1, 1, 'bad', $1)",
                &[&payload],
            )
            .await
            .unwrap();
    }
    database
}

async fn exported(database: &mut TestDatabase, subject: &Subject<'_>) -> Vec<Value> {
    // The settings of exports hold for a connection of their own.
    let client = database.connect().await;
    set_up(&client).await.unwrap();
    let mut export = Export::new(*subject);
    let mut lines = Vec::new();
    while let Some(some) = export.next(&client).await.unwrap() {
        let parsed = some.iter().map(|line| serde_json::from_str(line).unwrap());
        lines.extend(parsed);
    }
    lines
}

fn tables(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["table"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_visitor_gets_every_row_of_their_own_in_words_and_no_other() {
    let mut database = filled().await;
    let lines = exported(&mut database, &Subject::Visitor(ANNA)).await;
    assert_eq!(
        tables(&lines),
        ["hit", "hit", "hit", "rejected_hit", "rejected_hit"]
    );
    let first = &lines[0];
    for (column, value) in [
        ("received_at", json!("2026-11-22T10:00:00+00:00")),
        ("kind", json!("impression")),
        ("site", json!("shop")),
        ("visitor_id", json!(ANNA.to_string())),
        ("city", json!("Solna")),
        ("device_class", json!("phone")),
        ("partner", json!("adform")),
        ("partner_uid", json!("7")),
        ("permit", json!(["store", "measure"])),
        ("event_name", Value::Null),
        ("params", json!({ "plan": 1 })),
    ] {
        assert_eq!(first[column], value, "{column}");
    }
    // What no longer decodes is exported as bytes.
    let (whole, cut) = (&lines[3], &lines[4]);
    assert_eq!(whole["reason"], "bad");
    assert_eq!(whole["hit"]["maid"], MAID);
    assert_eq!(cut["hit"], Value::Null);
    assert!(cut["payload"].as_str().unwrap().starts_with("\\x"));
    let nobody = exported(&mut database, &Subject::Visitor(VisitorId([0; 16]))).await;
    assert!(nobody.is_empty());
}

#[tokio::test]
async fn other_ids_find_their_rows_by_partner_and_in_either_case() {
    let mut database = filled().await;
    for maid in [MAID.to_owned(), MAID.to_uppercase()] {
        let lines = exported(&mut database, &Subject::Maid(&maid)).await;
        assert_eq!(
            tables(&lines),
            ["hit", "hit", "rejected_hit", "rejected_hit"],
            "{maid}"
        );
    }
    for (partner, uid, hits) in [
        ("adform", "7", vec!["hit", "rejected_hit", "rejected_hit"]),
        ("other", "7", vec!["hit", "rejected_hit"]),
        ("", "7", vec!["hit"]),
        ("adform", "8", vec![]),
        ("adform", "", vec![]),
    ] {
        let lines = exported(&mut database, &Subject::PartnerUid { partner, uid }).await;
        assert_eq!(tables(&lines), hits, "{partner}:{uid}");
    }
}

#[tokio::test]
async fn a_device_and_a_user_are_found_by_their_own_ids_in_rows_and_in_rejected_hits() {
    let mut database = filled().await;
    let sql = "insert into avtryck.hit \
               (received_at, site_key, flags, kind, permit, consent_source, hit_id, device_id, user_key) \
               values ('2026-11-24T12:04Z', 1, 0, 2, 3, 4, gen_random_uuid(), 'd-1', \
                       '5e5e5e5e-5e5e-5e5e-5e5e-5e5e5e5e5e5e'), \
                      ('2026-11-24T12:05Z', 1, 0, 2, 3, 4, gen_random_uuid(), 'D-1', null)";
    database.client.batch_execute(sql).await.unwrap();
    let mut rejected = Hit::new(NOON, Kind::Event, "shop");
    (rejected.device_id, rejected.user_key) = ("d-1".into(), Some(USER));
    let mut payload = Vec::new();
    rejected.encode(&mut payload);
    let insert =
        "insert into avtryck.rejected_hit values (now(), gen_random_uuid(), 1, 1, 'bad', $1)";
    database.client.execute(insert, &[&payload]).await.unwrap();
    let subjects = [Subject::DeviceId("d-1"), Subject::User(USER)];
    for subject in &subjects {
        let lines = exported(&mut database, subject).await;
        assert_eq!(tables(&lines), ["hit", "rejected_hit"], "{subject:?}");
        assert_eq!(lines[0]["user_key"], "5e5e5e5e-5e5e-5e5e-5e5e-5e5e5e5e5e5e");
    }
    for (subject, expected) in subjects.iter().zip([removed(1, 1), removed(0, 0)]) {
        let done = erase(&mut database.client, subject, AskedBy::Cli).await;
        assert_eq!(done.unwrap(), expected, "{subject:?}");
    }
    let lines = exported(&mut database, &Subject::DeviceId("D-1")).await;
    assert_eq!(tables(&lines), ["hit"], "it is written as it was sent");
}

#[tokio::test]
async fn an_id_needs_the_permit_to_store_whatever_program_writes() {
    let database = filled().await;
    for (ids, is_taken) in [
        ("null, null, null", true),
        ("gen_random_uuid(), null, null", false),
        ("null, 's', null", false),
        ("null, null, 'd'", false),
    ] {
        let sql = format!(
            "insert into avtryck.hit (received_at, site_key, flags, kind, permit, consent_source, hit_id, \
                 user_key, session_id, device_id) \
             values ('2026-11-24T12:04Z', 1, 0, 2, 2, 4, gen_random_uuid(), {ids})"
        );
        let done = database.client.batch_execute(&sql).await;
        assert_eq!(done.is_ok(), is_taken, "{ids}: {done:?}");
    }
}

#[tokio::test]
async fn the_page_reads_no_column_that_it_does_not_show() {
    let database = TestDatabase::migrated().await;
    let last = of_recent(include_str!("last.sql"));
    let statement = database.client.prepare(&last).await.unwrap();
    let read: Vec<&str> = statement
        .columns()
        .iter()
        .map(|column| column.name())
        .collect();
    let shown = HeldHit::COLUMNS.iter().copied();
    let shown: Vec<&str> = iter::once("received_at").chain(shown).collect();
    assert_eq!(read, shown);
    for (sql, shown) in [
        (
            include_str!("ads.sql"),
            // The fields of `HeldAd`.
            vec![
                "partner", "campaign", "creative", "seen", "clicked", "last_at",
            ],
        ),
        (include_str!("sum.sql"), vec!["hits"]),
    ] {
        let statement = database.client.prepare(&of_recent(sql)).await;
        let statement = statement.unwrap();
        let columns = statement.columns().iter();
        let read: Vec<&str> = columns.map(|column| column.name()).collect();
        assert_eq!(read, shown);
    }
}

#[tokio::test]
async fn every_field_of_a_rejected_hit_is_exported() {
    let mut database = TestDatabase::migrated().await;
    let hit = Hit::sample(|field| format!("value of {field}"));
    let mut payload = Vec::new();
    hit.encode(&mut payload);
    let insert =
        "insert into avtryck.rejected_hit values (now(), gen_random_uuid(), 1, 1, 'bad', $1)";
    database.client.execute(insert, &[&payload]).await.unwrap();
    let visitor = Subject::Visitor(hit.visitor.unwrap());
    let lines = exported(&mut database, &visitor).await;
    assert_eq!(tables(&lines), ["rejected_hit"]);
    let line = lines[0]["hit"].as_object().unwrap();
    for field in Field::ALL {
        let value = &line[field.word];
        let is_empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(names) => names.is_empty(),
            _ => false,
        };
        assert!(!is_empty, "{}", field.word);
    }
    assert_eq!(line["click_id"], "value of click_id");
    assert_eq!(line["hint_model"], "value of hint_model");
    assert_eq!(line["kind"], "callback");
    assert_eq!(line.len(), Field::ALL.len());
}

#[tokio::test]
async fn what_is_held_about_a_visitor_is_read_for_their_page() {
    let database = filled().await;
    let reader = HeldReader::new(database.connect().await).await.unwrap();
    let held = reader.read(ANNA, &scope(), 2).await.unwrap();
    assert_eq!(held.hits, 3);
    let last: Vec<&str> = held.last.iter().map(|hit| hit.kind.as_str()).collect();
    assert_eq!(last, ["page_view", "click"]);
    assert_eq!(held.last[1].client_ip, "192.0.2.0");
    assert_eq!(held.last[1].page_url, "");
    let nothing = reader.read(VisitorId([0; 16]), &scope(), 2).await;
    assert_eq!(nothing.unwrap(), Held::default());
}

/// The plan of a query with its parameters as constants. The planner reads a table whole only where
/// no index has what is asked for.
async fn plan(client: &Client, subject: &Subject<'_>, sql: &str) -> String {
    let conditions = Conditions::new(subject);
    let sql = sql
        .replace("$1", &format!("'{}'", conditions.key))
        .replace("$2", &format!("'{}'", conditions.id))
        .replace("$3", &format!("'{}'", conditions.partner));
    client
        .batch_execute("set enable_seqscan = off")
        .await
        .unwrap();
    let rows = client.query(&format!("explain {sql}"), &[]).await.unwrap();
    let lines: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    lines.join("\n")
}

#[tokio::test]
async fn every_query_for_a_subject_finds_its_rows_by_index() {
    let database = filled().await;
    let client = &database.client;
    // So many that no index but that of subjects does.
    let imported = "insert into avtryck.import \
             (name, supplier, legal_basis, purposes, key_kind, partner, columns, valid_from, valid_until) \
             values ('a', 'b', 'consent', '{}', 'user', '', '{1}', current_date, current_date + 9); \
         insert into avtryck.attribute_value (import, subject, key, \"values\", changed_at) \
             select 1, md5(n::text)::uuid, md5(n::text)::uuid, '{house}', now() from generate_series(1, 2000) as n";
    client.batch_execute(imported).await.unwrap();
    client.batch_execute("analyze").await.unwrap();
    let uid = Subject::PartnerUid {
        partner: "adform",
        uid: "7",
    };
    let subjects = [
        Subject::Visitor(ANNA),
        Subject::Maid(MAID),
        uid,
        Subject::DeviceId("d-1"),
        Subject::User(USER),
    ];
    assert_eq!(subjects.len(), Subject::KINDS);
    for subject in subjects {
        let conditions = Conditions::new(&subject);
        for table in &TABLES {
            let Table {
                name,
                words,
                joined,
                ..
            } = table;
            let condition = conditions.condition(table);
            let export = format!("select * from {words} as held where {condition}");
            let delete =
                format!("select held.ctid from avtryck.{name} as held {joined} where {condition}");
            let deletes = table.end != End::GoneWithList;
            for sql in iter::once(export).chain(deletes.then_some(delete)) {
                let plan = plan(client, &subject, &sql).await;
                let (whole, found) = ("Seq Scan on ", "Index Cond: (");
                let is_read_whole = plan.lines().any(|line| {
                    let read = line.split_once(whole).map(|(_, table)| table);
                    read.is_some_and(|table| table.starts_with("hit") || table.starts_with(name))
                        && !line.contains("exposure_part")
                });
                let is_found = condition == "false" || plan.contains(found);
                assert!(is_found && !is_read_whole, "{sql}\n{plan}");
            }
        }
    }
    let of_the_page = [
        include_str!("sum.sql"),
        include_str!("last.sql"),
        include_str!("ads.sql"),
    ];
    for sql in of_the_page {
        let sql = of_recent(sql);
        let sql = sql.replace("$1", &format!("'{ANNA}'")).replace("$2", "5");
        let plan = plan(client, &Subject::Visitor(ANNA), &sql).await;
        assert!(plan.contains("Index Cond: (visitor_id"), "{sql}\n{plan}");
        assert!(!plan.contains("Seq Scan on hit"), "{sql}\n{plan}");
    }
}

/// Every row of every table as text.
async fn dump(client: &Client) -> String {
    let tables = client
        .query(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'avtryck'",
            &[],
        )
        .await
        .unwrap();
    let mut dump = String::new();
    for table in tables {
        let table: String = table.get(0);
        let sql = format!("select t::text from {table} t");
        for row in client.query(&sql, &[]).await.unwrap() {
            dump.push_str(row.get(0));
            dump.push('\n');
        }
    }
    dump
}

fn removed(hit: u64, rejected_hit: u64) -> Removed {
    Removed(
        [
            ("attribute_value", 0),
            ("exposure", 0),
            ("hit", hit),
            ("objection", 0),
            ("partner_id", 0),
            ("rejected_hit", rejected_hit),
        ]
        .into(),
    )
}

#[tokio::test]
async fn an_erasure_leaves_nothing_but_hashes_and_a_second_one_is_on_record_too() {
    let mut database = filled().await;
    let hex = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
    let before = dump(&database.client).await;
    assert!(before.contains(&ANNA.to_string()) && before.contains(hex));
    let anna = Subject::Visitor(ANNA);
    for (asked_by, expected) in [
        (AskedBy::Visitor, removed(3, 2)),
        (AskedBy::Cli, removed(0, 0)),
    ] {
        let removed = erase(&mut database.client, &anna, asked_by).await.unwrap();
        assert_eq!(removed, expected);
    }
    let after = dump(&database.client).await;
    assert!(
        !after.contains(&ANNA.to_string()) && !after.contains(hex),
        "{after}"
    );
    // Everybody else's is still there, her MAID on a row of its own too: it is another subject.
    let left = exported(&mut database, &Subject::Maid(MAID)).await;
    assert_eq!(tables(&left), ["hit"]);
    let lines = exported(&mut database, &anna).await;
    assert_eq!(tables(&lines), ["suppression", "erasure", "erasure"]);
    assert_eq!(lines[0]["reason"], "erasure");
    assert_eq!(lines[1]["asked_by"], "visitor");
    assert_eq!(
        lines[1]["removed"],
        json!({ "attribute_value": 0, "exposure": 0, "hit": 3, "objection": 0, "partner_id": 0, "rejected_hit": 2 })
    );
    assert_eq!(
        lines[2]["removed"],
        json!({ "attribute_value": 0, "exposure": 0, "hit": 0, "objection": 0, "partner_id": 0, "rejected_hit": 0 })
    );
    // A withdrawal that comes later does not make less of it.
    suppression::add(
        &mut database.client,
        &[(anna, suppression::Reason::Withdrawal)],
    )
    .await
    .unwrap();
    let lines = exported(&mut database, &anna).await;
    assert_eq!(lines[0]["reason"], "erasure");
}

#[tokio::test]
async fn other_ids_are_erased_in_either_case_and_of_one_partner_alone() {
    let mut database = filled().await;
    let client = &mut database.client;
    let maid = MAID.to_uppercase();
    let uid = |partner, uid| Subject::PartnerUid { partner, uid };
    for (subject, expected) in [
        (Subject::Maid(&maid), removed(2, 2)),
        (uid("adform", "7"), removed(1, 0)),
        (uid("other", "8"), removed(0, 0)),
        (uid("", "7"), removed(1, 0)),
    ] {
        let removed = erase(client, &subject, AskedBy::Cli).await.unwrap();
        assert_eq!(removed, expected, "{subject:?}");
    }
    let left = client
        .query_one(
            "select count(*) from avtryck.hit where partner_uid = '7'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(left.get::<_, i64>(0), 1, "the other partner's");
}

#[tokio::test]
async fn more_rejected_hits_than_go_at_once_are_all_erased() {
    let mut database = filled().await;
    database
        .client
        .execute(
            "insert into avtryck.rejected_hit \
             select now(), gen_random_uuid(), 1, 1, 'bad', \
                    '\\x3a10'::bytea || decode(repeat('a1', 16), 'hex') || int4send(n) \
             from generate_series(1, 2500) as n",
            &[],
        )
        .await
        .unwrap();
    let done = erase(&mut database.client, &Subject::Visitor(ANNA), AskedBy::Cli).await;
    assert_eq!(done.unwrap(), removed(3, 2502));
}
