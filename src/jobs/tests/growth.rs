//! What is left of old hits: rows of dimensions, and counts.

use super::*;

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn dimension_rows_go_a_week_after_all_that_points_to_them() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    // The last day that goes is 2026-11-14: two days of retention, and a week.
    client
        .batch_execute(
            "insert into avtryck.ad (key, campaign, last_seen) values \
               (1, 'old', '2026-11-13'), (2, 'last', '2026-11-14'), (3, 'kept', '2026-11-15'), (4, 'new', '2026-11-24'); \
             insert into avtryck.site (key, site, category, last_seen) values \
               (1, 'shop', 'old', '2026-11-14'), (2, 'shop', null, '2020-01-01'), (3, 'shop', 'new', '2026-11-24'); \
             insert into avtryck.device (key, class, is_bot, last_seen) values (1, 'phone', false, '2026-11-14'); \
             insert into avtryck.place (key, country, last_seen) values (1, 'SE', '2026-11-14'); \
             insert into avtryck.network (key, asn, last_seen) values (1, 2119, '2026-11-14'); \
             insert into avtryck.page_domain (key, domain, is_sensitive, last_seen) values (1, 'a.se', false, '2026-11-14')",
        )
        .await
        .unwrap();
    // A day of hits that is due, or an exposure: the rows that they point to wait.
    make_days(client, 12..=12).await;
    assert_eq!(run(client, "ad", NOON).await, Done::default());
    run(client, "retention", NOON).await;
    client
        .batch_execute(
            "insert into avtryck.exposure values (gen_random_uuid(), 1, '2026-11-01', '2026-11-01', 1, 0)",
        )
        .await
        .unwrap();
    assert_eq!(run(client, "ad", NOON).await, Done::default());
    run(client, "exposure", NOON).await;
    assert_eq!(run_out(client, "ad").await, (2, 2));
    for name in ["site", "device", "place", "network", "page_domain"] {
        assert_eq!(run_out(client, name).await, (1, 1), "{name}");
    }
    let ads = "select campaign from avtryck.ad order by key";
    assert_eq!(texts(client, ads).await, ["kept", "new"]);
    let sites = "select coalesce(category, '') from avtryck.site order by key";
    assert_eq!(texts(client, sites).await, ["", "new"]);
}

#[tokio::test]
async fn counts_lose_minutes_then_ad_and_category_and_no_hit() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client
        .batch_execute(
            "insert into avtryck.ad (key, campaign) values (7, 'spring'), (8, 'autumn'); \
             insert into avtryck.site (key, site, category) values (1, 'shop', null), (2, 'shop', 'shoes'), (3, 'bare', 'x'); \
             insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) values \
               ('2026-11-10T10:00Z', 1, 0, 1, 1), ('2026-11-10T10:01Z', 1, 7, 1, 2), ('2026-11-10T10:59Z', 2, 8, 1, 4), \
               ('2026-11-10T10:59Z', 2, 8, 3, 8), ('2026-11-10T11:00Z', 3, 7, 1, 16), ('2026-11-22T09:30Z', 2, 7, 1, 32), \
               ('2026-11-24T09:31Z', 2, 7, 1, 64)",
        )
        .await
        .unwrap();
    let shown = "select concat_ws(' ', to_char(minute at time zone 'UTC', 'MM-DD HH24:MI'), site, site_category, kind, campaign, hits) \
        from avtryck.hit_count_detail order by minute, site, kind, campaign";
    let limits = JobLimits {
        retention: Duration::from_hours(20 * 24),
        ..LIMITS
    };
    let job = JOBS.iter().find(|job| job.name == "hit_count").unwrap();
    job.run(client, &limits, NOON).await.unwrap();
    let hours = [
        "11-10 10:00 shop shoes impression autumn 8",
        "11-10 10:00 shop shoes page_view autumn 4",
        "11-10 10:00 shop page_view spring 2",
        "11-10 10:00 shop page_view 1",
        "11-10 11:00 bare x page_view spring 16",
        "11-22 09:30 shop shoes page_view spring 32",
        "11-24 09:31 shop shoes page_view spring 64",
    ];
    assert_eq!(texts(client, shown).await, hours);
    // A second run, perhaps of another collector, comes too soon.
    let done = job.run(client, &LIMITS, NOON).await.unwrap();
    assert_eq!((done.changed, done.held_back), (0, 12));
    let hour = 3600 * MICROS;
    let later = UnixMicros(NOON.0 + hour);
    job.run(client, &LIMITS, later).await.unwrap();
    let bare = [
        "11-10 10:00 shop impression 8",
        "11-10 10:00 shop page_view 7",
        "11-10 11:00 bare page_view 16",
        "11-22 09:30 shop shoes page_view spring 32",
        "11-24 09:31 shop shoes page_view spring 64",
    ];
    assert_eq!(texts(client, shown).await, bare);
    // One that was loaded late.
    client
        .batch_execute(
            "insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) values ('2026-11-10T10:30Z', 2, 7, 1, 128)",
        )
        .await
        .unwrap();
    let later = UnixMicros(NOON.0 + 2 * hour);
    assert_eq!(run(client, "hit_count", later).await.changed, 2);
    assert_eq!(
        texts(client, shown).await[1],
        "11-10 10:00 shop page_view 135"
    );
    let later = UnixMicros(NOON.0 + 3 * hour);
    assert_eq!(run(client, "hit_count", later).await.changed, 0);
}

#[tokio::test]
async fn counts_lose_one_days_details_in_a_run_and_none_of_a_day_whose_clock_was_wrong() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client
        .batch_execute(
            "insert into avtryck.site (key, site) values (1, 'shop'); \
             insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) \
               select timestamptz '2026-11-10T10:01Z' + n * interval '1 day', 1, 0, 1, 1 from generate_series(0, 3) as n; \
             insert into avtryck.clock values (true, now(), now(), null, now(), 7); \
             insert into avtryck.wrong_clock_day (day, lived_day) values ('2026-11-10', 7)",
        )
        .await
        .unwrap();
    let minutes = "select to_char(minute at time zone 'UTC', 'MM-DD HH24:MI') from avtryck.hit_count order by minute";
    let hour = 3600 * MICROS;
    for (run_at, held_back) in [(0, 10), (1, 9), (2, 0)] {
        let as_of = UnixMicros(NOON.0 + run_at * hour);
        let done = run(client, "hit_count", as_of).await;
        assert_eq!((done.changed, done.held_back), (1, held_back), "{run_at}");
    }
    assert_eq!(
        texts(client, minutes).await,
        ["11-10 10:01", "11-11 10:00", "11-12 10:00", "11-13 10:00"]
    );
    // Once that many days have been lived through, it is a day like others.
    client
        .batch_execute("update avtryck.clock set days = 9")
        .await
        .unwrap();
    let as_of = UnixMicros(NOON.0 + 3 * hour);
    assert_eq!(run(client, "hit_count", as_of).await.changed, 1);
    assert_eq!(texts(client, minutes).await[0], "11-10 10:00");
}

#[tokio::test]
async fn a_count_stays_in_the_day_of_its_site_where_that_begins_within_an_hour() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    // In Kathmandu the 11th begins at 18:15.
    let counts = "select avtryck.make_hit_day('2026-11-10'); insert into avtryck.site values (1, 'shop', null); \
        insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) values \
          ('2026-11-10T18:14Z', 1, 0, 3, 1), ('2026-11-10T18:16Z', 1, 0, 3, 2), ('2026-11-10T18:15Z', 1, 0, 3, 4), \
          ('2026-11-10T19:30Z', 1, 0, 3, 8); \
        select avtryck.set_time_zones(array['shop'], array['Asia/Kathmandu'])";
    client.batch_execute(counts).await.unwrap();
    let days =
        "select concat_ws(' ', day, unmeasured_impressions) from avtryck.campaign_daily order by 1";
    let expected = ["2026-11-10 1", "2026-11-11 14"];
    assert_eq!(texts(client, days).await, expected);
    assert_eq!(run(client, "hit_count", NOON).await.changed, 3);
    let minutes = "select to_char(minute at time zone 'UTC', 'HH24:MI') || ' ' || hits from avtryck.hit_count order by 1";
    assert_eq!(
        texts(client, minutes).await,
        ["18:00 1", "18:15 6", "19:00 8"]
    );
    assert_eq!(texts(client, days).await, expected);
    assert_eq!(run(client, "hit_count", NOON).await.changed, 0);
}

#[tokio::test]
async fn notes_of_changed_segments_go_after_an_hour_whoever_reads_them() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client
        .batch_execute(
            "insert into avtryck.segment_touched (prefix, at) \
               select n, timestamptz '2026-11-24T12:00Z' - interval '61 minutes' from generate_series(1, 20001) as n; \
             insert into avtryck.segment_touched (prefix, at) values \
               (-1, timestamptz '2026-11-24T12:00Z' - interval '59 minutes'), (-2, timestamptz '2026-11-24T12:00Z')",
        )
        .await
        .unwrap();
    assert_eq!(run(client, "segment_touched", NOON).await.changed, 20_001);
    assert_eq!(run(client, "segment_touched", NOON).await, Done::default());
    let left =
        "select prefix::text from avtryck.segment_touched order by segment_touched.prefix desc";
    assert_eq!(texts(client, left).await, ["-1", "-2"]);
}
