//! What a sender repeats costs what anything else does, however often it was sent before.

use std::time::{Duration, Instant};

use super::*;
use crate::postgres::partition;

/// Equal values that the day has before the batches.
const EQUAL: u64 = 200_000;
/// The rows of a batch.
const ROWS: usize = 3_000;

/// How a row gets a value.
type Set = fn(&mut Row<'static>, String);

/// The values that a sender chooses: the columns that hold them, and how a row gets one.
const CHOSEN: [(&str, Set); 11] = [
    ("visitor_id", |row, value| row.visitor_id = visitor(&value)),
    ("page_url", |row, value| row.page_url = value.into()),
    ("referrer", |row, value| row.referrer = value.into()),
    ("event_name", |row, value| row.event_name = value.into()),
    ("event_id", |row, value| row.event_id = value.into()),
    ("partner_uid", |row, value| row.partner_uid = value.into()),
    ("maid", |row, value| row.maid = value.into()),
    ("device_id", |row, value| row.device_id = value.into()),
    ("click_id", |row, value| row.click_id = value.into()),
    ("session_id", |row, value| row.session_id = value.into()),
    ("user_key", |row, value| row.user_key = user(&value)),
];

/// A visitor for each text.
fn visitor(value: &str) -> Option<VisitorId> {
    let mut id = [0x5a; 16];
    for (to, from) in id.iter_mut().zip(value.bytes().rev()) {
        *to = from;
    }
    Some(VisitorId(id))
}

/// A user for each text.
fn user(value: &str) -> Option<UserKey> {
    visitor(value).map(|visitor| UserKey(visitor.0))
}

/// The same for each number of a kind, or another for each, in no order.
fn value(number: usize, is_equal: bool) -> String {
    let scattered = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if is_equal {
        "constant".to_owned()
    } else {
        format!("{scattered:016x}")
    }
}

/// The event with that key.
fn event(key: [u8; 16]) -> EventKey {
    EventKey {
        key,
        said: Said::default(),
        is_timed: false,
    }
}

/// The least time that a batch of clicks took whose chosen values are all equal, or all different.
async fn time_batches(client: &mut Client, first: &mut usize, is_equal: bool) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..4 {
        let rows = (0..ROWS).map(|number| {
            let mut row = row(*first + number);
            row.kind = Kind::Click;
            for (_, set) in CHOSEN {
                set(&mut row, value(*first + number, is_equal));
            }
            let key = value(*first + number, is_equal).into_bytes();
            let key = visitor(&String::from_utf8(key).unwrap()).unwrap().0;
            (number, row, Some(event(key)).filter(|_| !is_equal))
        });
        let mut load = load(rows);
        let from = position::read(client, SPOOL)
            .await
            .unwrap()
            .map(|at| at.position);
        *first += ROWS;
        load.spools = vec![span(from, progress(*first as u64))];
        let begun = Instant::now();
        assert_eq!(commit(client, load).await.unwrap().rows, ROWS as u64);
        least = least.min(begun.elapsed());
    }
    least
}

#[tokio::test]
async fn a_value_that_a_sender_repeats_costs_no_more_than_one_that_is_new() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let columns = CHOSEN.map(|(column, _)| column);
    let equal = columns.map(|column| match column {
        "visitor_id" | "user_key" => format!(
            "'{}'",
            uuid::Uuid::from_bytes(visitor("constant").unwrap().0)
        ),
        _ => "'constant'".to_owned(),
    });
    let sql = format!(
        "select avtryck.make_hit_day('2026-11-24'); \
         insert into avtryck.hit (received_at, site_key, flags, kind, permit, consent_source, hit_id, {}) \
         select '2026-11-24T12:00Z', 1, 0, 4, 3, 4, gen_random_uuid(), {} from generate_series(1, {EQUAL})",
        columns.join(", "),
        equal.join(", ")
    );
    client.batch_execute(&sql).await.unwrap();
    let mut first = 0;
    let new = time_batches(client, &mut first, false).await;
    let repeated = time_batches(client, &mut first, true).await;
    assert!(
        repeated < 3 * new,
        "{ROWS} rows took {repeated:?} with values that {EQUAL} others have, {new:?} with new ones"
    );
}

#[tokio::test]
async fn an_event_id_that_a_sender_repeats_costs_no_more_than_new_ones() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let mut took = [Duration::MAX; 2];
    for batch in 0..8 {
        let is_equal = batch % 2 == 1;
        let first = batch * ROWS;
        let key = |number| visitor(&value(number, is_equal)).map(|visitor| event(visitor.0));
        let mut load = load((0..ROWS).map(|n| (n, row(first + n), key(first + n))));
        let from = position::read(client, SPOOL)
            .await
            .unwrap()
            .map(|at| at.position);
        load.spools = vec![span(from, progress((first + ROWS) as u64))];
        let begun = Instant::now();
        let loaded = commit(client, load).await.unwrap();
        let least = &mut took[usize::from(is_equal)];
        *least = begun.elapsed().min(*least);
        assert_eq!(loaded.rows + loaded.repeated, ROWS as u64);
        assert_eq!(loaded.repeated > 0, is_equal);
    }
    let [new, repeated] = took;
    assert!(repeated < 2 * new, "{repeated:?}, {new:?}");
}

/// The indexes of the schema that are neither of a kind that orders equal values by their place nor
/// of one that has no entry for each row.
async fn unsound(client: &Client) -> Vec<String> {
    let sql = "select indexrelid::regclass::text from pg_index \
        join pg_class on pg_class.oid = indexrelid join pg_am on pg_am.oid = relam \
        where relnamespace = 'avtryck'::regnamespace and amname not in ('btree', 'brin')";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn no_table_has_an_index_with_chains_of_equal_values() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client
        .batch_execute("select avtryck.make_hit_day('2026-11-24')")
        .await
        .unwrap();
    assert_eq!(unsound(client).await, [""; 0]);
    client
        .batch_execute("create index on avtryck.hit using hash (event_id)")
        .await
        .unwrap();
    assert_eq!(unsound(client).await.len(), 2);
}

/// The partitions that lack an index.
async fn lacking(client: &Client) -> Vec<String> {
    let sql =
        "select distinct right(partition::text, 8) from avtryck.missing_hit_index order by 1 desc";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn an_upgrade_indexes_the_days_that_are_loaded_and_a_job_the_others() {
    let mut database = TestDatabase::empty().await;
    let client = &mut database.client;
    client.batch_execute("create schema avtryck").await.unwrap();
    let mut runner = schema::migrations::runner().set_target(refinery::Target::Version(20));
    runner.set_migration_table_name("avtryck.migration");
    runner.run_async(client).await.unwrap();
    let sql = "select avtryck.make_hit_day((now() at time zone 'UTC')::date - n) from generate_series(-1, 9) as n";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(unsound(client).await.len(), 4 * 12);

    migrate(client).await.unwrap();
    assert_eq!(unsound(client).await, [""; 0]);
    let days = lacking(client).await;
    assert_eq!(days.len(), 8, "{days:?}");
    // Somebody loads hits of the second of them.
    let mut loader = database.connect().await;
    let load = loader.transaction().await.unwrap();
    let lock = format!("lock table avtryck.hit_{} in row exclusive mode", days[1]);
    load.batch_execute(&lock).await.unwrap();
    let client = &mut database.client;
    partition::index_days(client).await.unwrap_err();
    assert_eq!(lacking(client).await, days[1..]);
    load.rollback().await.unwrap();
    assert!(partition::index_days(client).await.unwrap() > 0);
    assert_eq!(lacking(client).await, [""; 0]);
    assert_eq!(partition::index_days(client).await.unwrap(), 0);
    let invalid = "select count(*) from pg_index where not indisvalid";
    assert_eq!(number(client, invalid).await, 0);

    // The next index that a migration brings goes the same way.
    client
        .batch_execute(
            "create index hit_next on only avtryck.hit (event_id) where event_id is not null",
        )
        .await
        .unwrap();
    assert_eq!(lacking(client).await.len(), 11);
    assert_eq!(partition::index_days(client).await.unwrap(), 11);
    assert_eq!(lacking(client).await, [""; 0]);
}
