#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

use super::part::{declare, fold};
use super::*;
use crate::keys::UserKeyring;
use crate::postgres::server::embedded::testing::TestDatabase;

/// 2026-11-27, as days since 1970.
const TODAY: i32 = 20_784;

fn manifest(valid_until: &str) -> Manifest {
    named_manifest("register", valid_until)
}

fn named_manifest(name: &str, valid_until: &str) -> Manifest {
    let text = format!(
        "name = \"{name}\"\nsupplier = \"a register\"\nlegal_basis = \"consent\"\npurpose = [\"profile\"]\n\
         key = {{ kind = \"device_id\", column = \"nr\" }}\nvalid_from = \"2020-01-01\"\nvalid_until = \"{valid_until}\"\n\
         [column.typ]\nattribute = \"housing_type\"\n[column.kr]\nattribute = \"income_band\"\n"
    );
    Manifest::parse(&text, "2026-11-27".parse().unwrap(), &[]).unwrap()
}

fn rows(manifest: &Manifest, rows: &[(&str, &str, &str)]) -> Vec<CheckedRow> {
    let users = UserKeyring::new(&[]);
    let check = |(nr, typ, kr): &(&str, &str, &str)| {
        let value = |name: &str| {
            let text = match name {
                "nr" => nr,
                "typ" => typ,
                _ => kr,
            };
            Some((*text).to_owned().into())
        };
        manifest.check(value, &users).unwrap()
    };
    rows.iter().map(check).collect()
}

/// Takes a file; returns what was new, changed and unchanged, or `None` where it was taken before.
async fn take(
    client: &mut Client,
    manifest: &Manifest,
    file: u8,
    said: &[(&str, &str, &str)],
) -> Option<[u64; 3]> {
    let (mut taken, standing) = begin(client, manifest, [file; 32], false).await.unwrap();
    let outcome = match standing {
        FileStanding::Taken(..) => None,
        FileStanding::Begun(_) => {
            let checked = rows(manifest, said);
            taken.store(client, &checked, 0).await.unwrap();
            taken.finish(client, manifest).await.unwrap();
            let ImportCounts {
                new,
                changed,
                unchanged,
                ..
            } = taken.counts;
            Some([new, changed, unchanged])
        }
    };
    let sql = "select pg_advisory_unlock_all()";
    client.query_one(sql, &[]).await.unwrap();
    outcome
}

/// The values that are stored and when they end, by subject; `-` for none.
async fn stored(client: &Client, names: &[&str]) -> BTreeMap<String, String> {
    let manifest = manifest("2027-11-01");
    let mut found = BTreeMap::new();
    for name in names {
        let RowKey::Subject(subject, _) = rows(&manifest, &[(name, "", "")])[0].key else {
            panic!("a device");
        };
        let sql = "select array_to_string(array(select coalesce(value, '-') || ' ' || coalesce(until, valid_until)::text \
                       from unnest(\"values\", untils) with ordinality as each (value, until, place) \
                       where value is not null order by place), ', ') \
                   from avtryck.attribute_value where subject = $1";
        let row = client.query_opt(sql, &[&Uuid::from_bytes(subject)]).await;
        if let Some(row) = row.unwrap() {
            found.insert((*name).to_owned(), row.get(0));
        }
    }
    found
}

fn expected(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, said): &(&str, &str)| ((*name).to_owned(), (*said).to_owned());
    values.iter().map(owned).collect()
}

#[tokio::test]
async fn what_a_renewed_manifest_does_not_bring_again_ends_when_it_was_to_end() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let (first, renewed) = (manifest("2027-06-01"), manifest("2028-06-01"));
    let all = [
        ("a", "house", "low"),
        ("b", "flat", "low"),
        ("c", "flat", "high"),
    ];
    assert_eq!(take(client, &first, 1, &all).await, Some([3, 0, 0]));
    assert_eq!(take(client, &first, 1, &all).await, None);
    let some = [
        ("a", "house", "low"),
        ("b", "farm", "low"),
        ("d", "flat", ""),
    ];
    assert_eq!(take(client, &renewed, 2, &some).await, Some([1, 1, 1]));
    let names = ["a", "b", "c", "d"];
    let now = expected(&[
        ("a", "house 2028-06-01, low 2028-06-01"),
        ("b", "farm 2028-06-01, low 2028-06-01"),
        ("c", "flat 2027-06-01, high 2027-06-01"),
        ("d", "flat 2028-06-01"),
    ]);
    assert_eq!(stored(client, &names).await, now);
    let sql = "select string_agg(distinct valid_until::text, ' ') from avtryck.attribute_detail";
    let ends: String = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(ends, "2027-06-01 2028-06-01");
    // The same file by another manifest is another word on the same values.
    assert_eq!(take(client, &renewed, 2, &some).await, None);
    let shorter = manifest("2027-01-01");
    assert_eq!(take(client, &shorter, 2, &some).await, Some([0, 0, 3]));
    assert_eq!(take(client, &renewed, 2, &some).await, Some([0, 0, 3]));
    assert_eq!(stored(client, &names).await, now);

    let day_of_end = TODAY + 186;
    assert_eq!(
        known::delete_expired(client, day_of_end - 1).await.unwrap(),
        0
    );
    assert_eq!(known::delete_expired(client, day_of_end).await.unwrap(), 1);
    assert!(!stored(client, &names).await.contains_key("c"));
    // What a run of `import end` left that was cut off goes as well.
    client
        .batch_execute("update avtryck.import set ended_at = now()")
        .await
        .unwrap();
    assert_eq!(known::delete_expired(client, TODAY).await.unwrap(), 3);
}

#[tokio::test]
async fn values_that_have_expired_are_used_no_more_before_they_are_deleted() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let said = [("a", "house", "low"), ("b", "flat", "low")];
    take(client, &manifest("2027-06-01"), 1, &said).await;
    let used = async |client: &Client| -> i64 {
        let sql = "select count(*) from avtryck.attribute_now";
        client.query_one(sql, &[]).await.unwrap().get(0)
    };
    // The clock of this machine may be anywhere.
    let sql = "update avtryck.import set valid_until = current_date + 9; \
               update avtryck.attribute_value set valid_until = current_date + 9";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(used(client).await, 4);
    for (change, left) in [
        ("untils = array[current_date + 1, current_date - 1]", 2),
        ("valid_until = current_date - 1, untils = null", 0),
    ] {
        let sql = format!("update avtryck.attribute_value set {change}");
        client.batch_execute(&sql).await.unwrap();
        assert_eq!(used(client).await, left, "{change}");
    }
}

/// Says something of a device as a batch does, and adds it up.
async fn say(client: &mut Client, manifest: &Manifest, said: (&str, &str, &str)) {
    let import = declare(client, manifest).await.unwrap();
    let row = rows(manifest, &[said]).remove(0);
    let RowKey::Subject(subject, key) = row.key else {
        panic!("a device");
    };
    let values = serde_json::to_string(&row.values).unwrap();
    let sql = "insert into avtryck.attribute_part (imports, subjects, keys, \"values\") values ($1, $2, $3, $4)";
    client
        .execute_typed(
            sql,
            &[
                (&vec![import], Type::INT4_ARRAY),
                (&vec![Uuid::from_bytes(subject)], Type::UUID_ARRAY),
                (&vec![Uuid::from_bytes(key)], Type::UUID_ARRAY),
                (&vec![values], Type::TEXT_ARRAY),
            ],
        )
        .await
        .unwrap();
    fold(client).await.unwrap();
}

#[tokio::test]
async fn each_value_of_a_callback_ends_by_the_manifest_under_which_it_was_said_last() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let (first, renewed) = (manifest("2027-06-01"), manifest("2028-06-01"));
    say(client, &first, ("a", "house", "low")).await;
    say(client, &first, ("a", "", "high")).await;
    let now = expected(&[("a", "house 2027-06-01, high 2027-06-01")]);
    assert_eq!(stored(client, &["a"]).await, now);
    say(client, &renewed, ("a", "", "high")).await;
    let now = expected(&[("a", "house 2027-06-01, high 2028-06-01")]);
    assert_eq!(stored(client, &["a"]).await, now);
    let day_of_end = TODAY + 186;
    assert_eq!(known::delete_expired(client, day_of_end).await.unwrap(), 0);
    let now = expected(&[("a", "high 2028-06-01")]);
    assert_eq!(stored(client, &["a"]).await, now);
    say(client, &renewed, ("a", "flat", "")).await;
    let now = expected(&[("a", "flat 2028-06-01, high 2028-06-01")]);
    assert_eq!(stored(client, &["a"]).await, now);
    // What a file ended does not come back with what a callback says.
    client
        .batch_execute("update avtryck.attribute_value set ended_at = now()")
        .await
        .unwrap();
    say(client, &renewed, ("a", "farm", "")).await;
    let now = expected(&[("a", "farm 2028-06-01")]);
    assert_eq!(stored(client, &["a"]).await, now);
    assert_eq!(
        known::delete_expired(client, day_of_end + 366)
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn what_is_held_serves_no_purpose_that_it_was_not_imported_for() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let mut manifest = manifest("2027-06-01");
    manifest.purposes = vec!["profile".to_owned(), "export".to_owned()];
    begin(client, &manifest, [1; 32], false).await.unwrap();
    // Nothing is held yet.
    manifest.purposes.push("measure".to_owned());
    let taken = take(client, &manifest, 1, &[("a", "house", "low")]).await;
    assert_eq!(taken, Some([1, 0, 0]));
    manifest.purposes = vec!["profile".to_owned()];
    let taken = take(client, &manifest, 2, &[("a", "house", "low")]).await;
    assert_eq!(taken, Some([0, 0, 1]));
    manifest.purposes.push("export".to_owned());
    for outcome in [
        begin(client, &manifest, [3; 32], false).await.map(drop),
        declare(client, &manifest).await.map(drop),
    ] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("was imported for profile"), "{error}");
    }
    let sql = "select string_agg(array_to_string(purposes, ' '), '') from avtryck.import";
    let purposes: String = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(purposes, "profile");
    begin(client, &manifest, [3; 32], true).await.unwrap();
}

#[tokio::test]
async fn rows_of_one_subject_hold_in_their_order_and_take_no_statement_each() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let once = manifest("2027-06-01");
    let names: Vec<String> = (0..500).map(|number| format!("n{number}")).collect();
    let said: Vec<(&str, &str, &str)> = names
        .iter()
        .flat_map(|name| [(&**name, "house", "low"), (&**name, "flat", "")])
        .collect();
    assert_eq!(merge::rounds(rows(&once, &said).iter()).len(), 2);
    assert_eq!(take(client, &once, 1, &said).await, Some([500, 500, 0]));
    let now = stored(client, &["n0", "n499"]).await;
    assert!(
        now.values().all(|said| said == "flat 2027-06-01"),
        "{now:?}"
    );
}

#[tokio::test]
async fn rows_of_a_new_import_are_found_one_by_one_beside_an_earlier_one_that_is_analysed() {
    const ROWS: usize = 60_000;
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let names: Vec<String> = (0..ROWS).map(|n| format!("device-{n}")).collect();
    let said: Vec<_> = names.iter().map(|name| (&**name, "flat", "low")).collect();
    let [first, second] = ["first", "second"].map(|name| named_manifest(name, "2027-11-01"));
    assert_eq!(
        take(client, &first, 1, &said).await,
        Some([ROWS as u64, 0, 0])
    );
    let analyze = "analyze avtryck.attribute_value; set statement_timeout = '15s'";
    client.batch_execute(analyze).await.unwrap();
    // By import, the last of these portions would read 40,000 rows for each of its 20,000.
    let (mut taken, _) = begin(client, &second, [2; 32], false).await.unwrap();
    for portion in rows(&second, &said).chunks(PORTION_ROWS) {
        taken.store(client, portion, 0).await.unwrap();
    }
    taken.finish(client, &second).await.unwrap();
    assert_eq!(taken.counts.new, ROWS as u64);
}

#[tokio::test]
async fn an_import_waits_for_the_process_before_to_be_gone_and_not_for_one_that_is_at_work() {
    let mut database = TestDatabase::migrated().await;
    let mut other = database.connect().await;
    let register = manifest("2027-11-01");
    begin(&mut other, &register, [1; 32], false).await.unwrap();
    let client = &mut database.client;
    let refused = begin(client, &register, [2; 32], false).await.err();
    assert_eq!(
        refused.unwrap().to_string(),
        "another process takes a file of register"
    );
    // Other imports do not wait.
    let elsewhere = named_manifest("elsewhere", "2027-11-01");
    begin(client, &elsewhere, [3; 32], false).await.unwrap();
    let ends = "select pg_sleep(0.2), pg_advisory_unlock_all()";
    let (begun, ended) = tokio::join!(
        begin(client, &register, [2; 32], false),
        other.query_one(ends, &[])
    );
    assert!(begun.is_ok() && ended.is_ok());
}
