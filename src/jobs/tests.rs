#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::postgres::server::embedded::testing::TestDatabase;

const DAY: i64 = 86_400_000_000;
/// 2026-11-24T12:00:00Z.
const NOON: UnixMicros = UnixMicros(1_795_521_600_000_000);

const SETTINGS: Settings = Settings {
    retention: Duration::from_hours(48),
};

async fn days(client: &Client) -> Vec<String> {
    let sql = "select relname::text from pg_class join pg_inherits on inhrelid = oid \
        where inhparent = 'avtryck.hit'::regclass order by 1";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn days_are_made_ahead_and_dropped_when_they_are_entirely_older_than_retention() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let mut schedule = Schedule::default();
    for outcome in schedule.tick(client, &SETTINGS, NOON).await {
        outcome.result.unwrap();
    }
    let first = [
        "hit_20261124",
        "hit_20261125",
        "hit_20261126",
        "hit_20261127",
    ];
    assert_eq!(days(client).await, first);
    assert!(schedule.tick(client, &SETTINGS, NOON).await.is_empty());
    assert!(schedule.next() > NOON);

    // Two days later the first day's noon is at the limit: its afternoon must still be kept.
    let later = UnixMicros(NOON.0 + 2 * DAY);
    run(client, &SETTINGS, later).await.unwrap();
    assert_eq!(days(client).await[0], "hit_20261124");
    let later = UnixMicros(NOON.0 + 3 * DAY);
    run(client, &SETTINGS, later).await.unwrap();
    let kept = days(client).await;
    assert_eq!((kept[0].as_str(), kept.len()), ("hit_20261125", 6));
}

#[tokio::test]
async fn old_event_ids_rejected_hits_and_partners_ids_are_deleted_and_counts_stay() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client
        .batch_execute(
            "insert into avtryck.event_key \
               select gen_random_uuid(), date '2026-11-16' from generate_series(1, 25000); \
             insert into avtryck.event_key values (gen_random_uuid(), '2026-11-17'); \
             insert into avtryck.rejected_hit \
               select t, gen_random_uuid(), 1, 1, 'bad', '' from \
               unnest(array['2026-11-21T23:59Z', '2026-11-22T00:00Z']::timestamptz[]) as t; \
             insert into avtryck.partner_id \
               select gen_random_uuid(), '2020-01-01', t, 'adform', 'u' from \
               unnest(array['2026-11-21T23:59Z', '2026-11-22T00:00Z']::timestamptz[]) as t; \
             insert into avtryck.hit_count (minute, site_key, kind, hits) values ('2020-01-01', 1, 1, 1)",
        )
        .await
        .unwrap();
    run(client, &SETTINGS, NOON).await.unwrap();
    for table in ["event_key", "rejected_hit", "partner_id", "hit_count"] {
        let sql = format!("select count(*) from avtryck.{table}");
        let left: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(left, 1, "{table}");
    }
}

#[tokio::test]
async fn a_visitor_stays_suppressed_for_as_long_as_a_cookie_may_live_and_other_ids_forever() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client
        .batch_execute(
            "insert into avtryck.suppression (key, since, id_kind, reason) \
             select gen_random_uuid(), since, id_kind, reason from (values \
               ('2025-09-23T23:59Z'::timestamptz, 'visitor', 'withdrawal'), \
               ('2025-09-23T23:59Z', 'visitor', 'erasure'), \
               ('2025-09-24T00:00Z', 'visitor', 'withdrawal'), \
               ('2020-01-01T00:00Z', 'maid', 'erasure'), \
               ('2020-01-01T00:00Z', 'partner_uid', 'erasure')) as entry (since, id_kind, reason)",
        )
        .await
        .unwrap();
    run(client, &SETTINGS, NOON).await.unwrap();
    let sql = "select id_kind from avtryck.suppression order by 1";
    let rows = client.query(sql, &[]).await.unwrap();
    let kinds: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(kinds, ["maid", "partner_uid", "visitor"]);
}

#[tokio::test]
async fn an_erasure_is_on_record_for_three_years() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client
        .batch_execute(
            "insert into avtryck.erasure (erased_at, key, id_kind, asked_by, removed) \
             select erased_at, gen_random_uuid(), 'maid', 'cli', '{}' \
             from unnest(array['2023-11-24T23:59Z', '2023-11-25T00:00Z']::timestamptz[]) as erased_at",
        )
        .await
        .unwrap();
    run(client, &SETTINGS, NOON).await.unwrap();
    let sql = "select count(*), min(erased_at) = '2023-11-25T00:00Z' from avtryck.erasure";
    let left = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((left.get(0), left.get(1)), (1_i64, true));
}

#[tokio::test]
async fn old_exposures_are_deleted_wherever_they_lie_in_the_table() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    // More pages than a stretch has, old rows among new ones, and rows on both sides of the limit.
    client
        .batch_execute(
            "insert into avtryck.exposure \
               select gen_random_uuid(), n, '2026-01-01', \
                      case n % 10 when 0 then timestamptz '2026-11-21T23:59:59Z' else '2026-11-22T00:00Z' end, 1, 0 \
               from generate_series(1, 100000) as n",
        )
        .await
        .unwrap();
    run(client, &SETTINGS, NOON).await.unwrap();
    let sql = "select count(*), min(last_at) = '2026-11-22T00:00Z', \
               pg_relation_size('avtryck.exposure') > 1000 * 8192 from avtryck.exposure";
    let left = client.query_one(sql, &[]).await.unwrap();
    assert_eq!(
        (left.get(0), left.get(1), left.get(2)),
        (90_000_i64, true, true)
    );
}

#[tokio::test]
async fn a_reader_delays_retention_and_the_job_runs_again_in_a_minute() {
    let mut database = TestDatabase::migrated().await;
    let mut reader = database.connect().await;
    run(&mut database.client, &SETTINGS, NOON).await.unwrap();
    let reading = reader.transaction().await.unwrap();
    reading
        .query("select from avtryck.hit_detail", &[])
        .await
        .unwrap();
    let later = UnixMicros(NOON.0 + 3 * DAY);
    let mut schedule = Schedule::default();
    let outcomes = schedule.tick(&mut database.client, &SETTINGS, later).await;
    let failed: Vec<&str> = outcomes
        .iter()
        .filter(|outcome| outcome.result.is_err())
        .map(|outcome| outcome.name)
        .collect();
    assert_eq!(failed, ["retention"]);
    assert_eq!(schedule.next(), UnixMicros(later.0 + 60_000_000));
    reading.commit().await.unwrap();
    let outcomes = schedule
        .tick(&mut database.client, &SETTINGS, schedule.next())
        .await;
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
}
