#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod growth;
mod links;
mod models;
mod nights;

use super::guard::Fault;
use super::*;
use crate::clock;
use crate::enrich::DIMENSIONS;
use crate::postgres::server::embedded::testing::TestDatabase;

const MICROS: i64 = 1_000_000;
/// 2026-11-24T12:00:00Z.
const NOON: UnixMicros = UnixMicros(1_795_521_600_000_000);

const LIMITS: JobLimits = JobLimits {
    retention: Duration::from_hours(48),
    naming: None,
    graph: None,
    time_zones: None,
};

/// The clocks of a machine on which all is well, that long after noon.
fn sound(after: Duration) -> Clocks {
    let at = UnixMicros(NOON.0 + i64::try_from(after.as_micros()).unwrap());
    Clocks {
        postgres: at,
        collector: at,
        monotonic: clock::monotonic() + after,
    }
}

/// Runs one job, as of a time.
async fn run(client: &mut Client, name: &str, as_of: UnixMicros) -> Done {
    let job = JOBS.iter().find(|job| job.name == name).unwrap();
    job.run(client, &LIMITS, as_of).await.unwrap()
}

/// Runs one job every hour until it holds nothing back; how much it removed in all, and in how
/// many runs.
async fn run_out(client: &mut Client, name: &str) -> (u64, usize) {
    let mut all = 0;
    for hour in 0.. {
        let as_of = UnixMicros(NOON.0 + hour * 3600 * MICROS);
        let done = run(client, name, as_of).await;
        all += done.changed;
        if done.held_back == 0 {
            return (all, usize::try_from(hour).unwrap() + 1);
        }
        assert!(hour < 100, "{done:?}");
    }
    unreachable!()
}

async fn days(client: &Client) -> Vec<String> {
    let sql = "select relname::text from pg_class join pg_inherits on inhrelid = oid \
        where inhparent = 'avtryck.hit'::regclass order by 1";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn count(client: &Client, table: &str) -> i64 {
    let sql = format!("select count(*) from avtryck.{table}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

/// Makes partitions of these days before noon's.
async fn make_days(client: &Client, before: std::ops::RangeInclusive<i32>) {
    let sql =
        "select avtryck.make_hit_day(date '2026-11-24' - n) from generate_series($1::int, $2) as n";
    let (first, last) = before.into_inner();
    client.query(sql, &[&first, &last]).await.unwrap();
}

#[tokio::test]
async fn days_are_made_ahead_and_dropped_when_they_are_entirely_older_than_retention() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let mut schedule = Schedule::default();
    let tick = schedule.tick(client, &LIMITS, sound(Duration::ZERO)).await;
    for outcome in tick.unwrap().outcomes {
        outcome.result.unwrap();
    }
    let first = [
        "hit_20261124",
        "hit_20261125",
        "hit_20261126",
        "hit_20261127",
    ];
    assert_eq!(days(client).await, first);
    let again = schedule.tick(client, &LIMITS, sound(Duration::ZERO)).await;
    assert!(again.unwrap().outcomes.is_empty());

    // Two days later the first day's noon is at the limit: its afternoon must still be kept.
    for (hours, oldest) in [(48, "hit_20261124"), (72, "hit_20261125")] {
        let tick = schedule.tick(client, &LIMITS, sound(Duration::from_hours(hours)));
        assert_eq!(tick.await.unwrap().standing.fault, None);
        assert_eq!(days(client).await[0], oldest);
    }
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
    for job in JOBS.iter() {
        job.run(client, &LIMITS, NOON).await.unwrap();
    }
    for table in ["event_key", "rejected_hit", "partner_id", "hit_count"] {
        assert_eq!(count(client, table).await, 1, "{table}");
    }
}

#[tokio::test]
async fn a_visitor_stays_suppressed_for_as_long_as_a_cookie_may_live_and_other_ids_forever() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client
        .batch_execute(
            "insert into avtryck.clock values (true, now(), now(), null, now(), 1000); \
             insert into avtryck.suppression (key, since, id_kind, reason, day) \
             select gen_random_uuid(), since, id_kind, reason, day from (values \
               ('2025-09-23T23:59Z'::timestamptz, 'visitor', 'withdrawal', 574), \
               ('2025-09-23T23:59Z', 'visitor', 'erasure', 574), \
               ('2025-09-23T23:59Z', 'visitor', 'withdrawal', 575), \
               ('2025-09-24T00:00Z', 'visitor', 'withdrawal', 0), \
               ('2020-01-01T00:00Z', 'maid', 'erasure', 0), \
               ('2020-01-01T00:00Z', 'partner_uid', 'erasure', 0)) as entry (since, id_kind, reason, day)",
        )
        .await
        .unwrap();
    assert_eq!(run_out(client, "suppression").await, (2, 1));
    let sql = "select id_kind from avtryck.suppression order by 1";
    let rows = client.query(sql, &[]).await.unwrap();
    let kinds: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(kinds, ["maid", "partner_uid", "visitor", "visitor"]);
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
    assert_eq!(run_out(client, "erasure").await, (1, 1));
    let sql = "select min(erased_at) = '2023-11-25T00:00Z' from avtryck.erasure";
    let left = client.query_one(sql, &[]).await.unwrap();
    assert!(left.get::<_, bool>(0));
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
    assert_eq!(run_out(client, "exposure").await, (10_000, 1));
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
    make_days(&database.client, 3..=3).await;
    let reading = reader.transaction().await.unwrap();
    reading
        .query("select from avtryck.hit_detail", &[])
        .await
        .unwrap();
    let mut schedule = Schedule::default();
    let client = &mut database.client;
    let tick = schedule.tick(client, &LIMITS, sound(Duration::ZERO)).await;
    let outcomes = tick.unwrap().outcomes;
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err());
    let failed: Vec<&str> = failed.map(|outcome| outcome.name).collect();
    assert_eq!(failed, ["retention"]);
    reading.commit().await.unwrap();
    let clocks = sound(Duration::from_secs(60));
    let tick = schedule.tick(client, &LIMITS, clocks).await.unwrap();
    // The others are due each minute, or more often.
    let names: Vec<&str> = tick.outcomes.iter().map(|outcome| outcome.name).collect();
    let due = [
        "index_days",
        "link",
        "link_count",
        "report",
        "retention",
        "export",
        "device_model",
    ];
    assert_eq!(names, due);
    let outcome = &tick.outcomes[4];
    assert_eq!(outcome.result.as_ref().unwrap().changed, 1);
}

/// Twenty days' worth of what goes by other columns than most.
const OTHERS_OLD: &str = "\
    insert into avtryck.household_apart \
    select gen_random_uuid(), gen_random_uuid(), date '2026-11-24' - n from generate_series(401, 420) as n; \
    insert into avtryck.household_never \
    select gen_random_uuid(), date '2026-11-24' - n from generate_series(401, 420) as n; \
    insert into avtryck.hit_count (minute, site_key, kind, hits) \
    select timestamptz '2026-11-24T12:01Z' - n * interval '1 day', 1, 1, 1 from generate_series(3, 22) as n; \
    with made as (insert into avtryck.import \
    (name, supplier, legal_basis, purposes, key_kind, partner, columns, valid_from, valid_until) \
    select n::text, 'register', 'consent', '{}', 'maid', '', '{}', '2026-01-01', date '2026-11-24' - n \
    from generate_series(0, 19) as n returning import) \
    insert into avtryck.attribute_value \
    select import, gen_random_uuid(), gen_random_uuid(), '{}', now() from made;";

#[tokio::test]
async fn a_run_deletes_a_days_worth_and_says_what_it_holds_back() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    make_days(client, 0..=22).await;
    client
        .batch_execute(
            "insert into avtryck.event_key select gen_random_uuid(), date '2026-11-24' - n from generate_series(8, 27) as n; \
             insert into avtryck.rejected_hit \
               select timestamptz '2026-11-24T12:00Z' - n * interval '1 day', gen_random_uuid(), 1, 1, 'bad', '' \
               from generate_series(3, 22) as n; \
             insert into avtryck.partner_id \
               select gen_random_uuid(), '2020-01-01', timestamptz '2026-11-24T12:00Z' - n * interval '1 day', 'adform', 'u' \
               from generate_series(3, 22) as n; \
             insert into avtryck.link_change (at, node, reason) \
               select timestamptz '2026-11-24T12:00Z' - n * interval '1 day', gen_random_uuid(), 'merge' \
               from generate_series(3, 22) as n; \
             insert into avtryck.link_edge (a, b, a_kind, b_kind, partner, first_day, last_day, permit, consent_source, source) \
               select md5('a' || n)::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff', 1, 4, partner, '2026-01-01', \
                      date '2026-11-24' - n, 63, 2, 0 \
               from (select n, '' as partner from generate_series(188, 207) as n \
                     union all select n, 'adform' from generate_series(98, 117) as n) as tie; \
             insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
               select gen_random_uuid(), 'shop', '', 3, 2, timestamptz '2026-11-24T12:00Z' - n * interval '1 day' \
               from generate_series(10, 29) as n; \
             insert into avtryck.subject_day \
               select gen_random_uuid(), date '2026-11-24' - n, 'shop', '', 'event', 'read', 1, 7 \
               from generate_series(3, 22) as n; \
             insert into avtryck.subject_seen \
               select gen_random_uuid(), 0, 0, '2026-01-01', date '2026-11-24' - n, 7 from generate_series(3, 22) as n; \
             insert into avtryck.segment_change \
               select timestamptz '2026-11-24T12:00Z' - n * interval '1 day', 1, gen_random_uuid(), true, 'rule' \
               from generate_series(3, 22) as n; \
             insert into avtryck.subject_id \
               select gen_random_uuid(), 2, '', 'x', 15, timestamptz '2026-11-24T12:00Z' - n * interval '1 day' \
               from generate_series(10, 29) as n; \
             insert into avtryck.export_past \
               select 'adform', 1, gen_random_uuid(), gen_random_uuid(), 1, '2020-01-01', \
                      timestamptz '2026-11-24T12:00Z' - n * interval '1 day' \
               from generate_series(1096, 1115) as n; \
             insert into avtryck.export_delivery (target, number, delivery, kind, part, is_last, made_at, delivered_at) \
               select 'adform', n, gen_random_uuid(), 'delta', 1, true, \
                      timestamptz '2026-11-24T12:00Z' - n * interval '1 day', now() \
               from generate_series(1096, 1115) as n; \
             insert into avtryck.webhook_outbox (webhook, segment, subject, is_entry, reason, at) \
               select 'crm', 1, gen_random_uuid(), true, 'rule', timestamptz '2026-11-24T12:00Z' - n * interval '1 day' \
               from generate_series(3, 22) as n; \
             insert into avtryck.exposure \
               select gen_random_uuid(), n, '2026-01-01', timestamptz '2026-11-24T12:00Z' - n * interval '1 day', 1, 0 \
               from generate_series(3, 22) as n; \
             insert into avtryck.erasure \
               select timestamptz '2026-11-24T12:00Z' - n * interval '1 day', gen_random_uuid(), 'maid', 'cli', '{}' \
               from generate_series(1096, 1115) as n; \
             insert into avtryck.clock values (true, now(), now(), null, now(), 1000); \
             insert into avtryck.suppression \
               select gen_random_uuid(), timestamptz '2026-11-24T12:00Z' - n * interval '1 day', 'visitor', 'withdrawal', 0 \
               from generate_series(427, 446) as n; \
             insert into avtryck.new_name \
               select date '2026-11-24' - n, 'ad', 'demo', 1 from generate_series(8, 27) as n",
        )
        .await
        .unwrap();
    client.batch_execute(OTHERS_OLD).await.unwrap();
    // What hubs, notes and dimensions lose has tests of its own.
    let others = [&["link_hub", "segment_touched"][..], &DIMENSIONS[..]].concat();
    let by_day = |job: &&Job| job.deletes() && !others.contains(&job.name);
    for job in JOBS.iter().filter(by_day) {
        let done = run(client, job.name, NOON).await;
        assert_eq!((done.changed, done.held_back), (1, 19), "{}", job.name);
        // A second run, perhaps of another collector, comes too soon.
        let soon = UnixMicros(NOON.0 + 50 * 60 * MICROS);
        let done = run(client, job.name, soon).await;
        assert_eq!((done.changed, done.held_back), (0, 19), "{}", job.name);
        // A clock that was set back does not stop the jobs until it is there again.
        let back = UnixMicros(NOON.0 - 2 * 3600 * MICROS);
        let done = run(client, job.name, back).await;
        assert_eq!(done.changed, 1, "{}", job.name);
    }
    for job in JOBS.iter().filter(by_day) {
        // At midnight one more partition is due.
        let all = 18 + u64::from(job.name == "retention");
        let (removed, runs) = run_out(client, job.name).await;
        assert_eq!((removed, runs as u64), (all, all), "{}", job.name);
    }
    assert_eq!(days(client).await.len(), 2);
}
