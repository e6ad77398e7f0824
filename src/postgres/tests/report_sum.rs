//! Roll-ups of a day that is not over: spans that become one, and sums that late hits take.

use super::report::lines;
use super::*;
use crate::postgres::report::{build_next, take_marks};

/// A hit each seven minutes of a day on two sites, by seven visitors and by nobody, of which some
/// are clicks, page views, events or invalid.
const HITS: &str = "select avtryck.make_hit_day('2026-11-24'); \
    insert into avtryck.site values (1, 'shop', null), (2, 'news', null); \
    insert into avtryck.device (key, class, is_bot) values (1, 'phone', false), (2, 'desktop', false); \
    insert into avtryck.place (key, country, region) values (1, 'SE', 'AB'), (2, 'NO', '03'); \
    insert into avtryck.ad (key, partner, campaign, creative) \
    values (1, 'network', 'spring', 'big'), (2, 'network', 'spring', 'small'); \
    insert into avtryck.hit (received_at, site_key, ad_key, device_key, place_key, flags, kind, permit, consent_source, hit_id, \
        visitor_id, page_url, event_name) \
    select timestamptz '2026-11-24Z' + n * interval '7 minutes', 1 + n % 2, case when kind <> 1 then 1 + n / 3 % 2 end, 1 + n / 5 % 2, \
           1 + n / 11 % 2, case when n % 13 = 0 then 16384 else 0 end, kind, 63, 4, gen_random_uuid(), \
           case when n % 9 > 0 then md5((n * n % 7)::text)::uuid end, 'https://shop.example/' || n % 3, \
           case when kind = 2 then 'viewable' end \
    from generate_series(0, 205) as n \
    cross join lateral (select (array[3, 3, 1, 3, 4, 2, 3, 1])[1 + n % 8]) as of (kind); \
    insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) \
    select timestamptz '2026-11-24Z' + n * interval '1 hour', 1, 1, 3, 2 from generate_series(0, 23) as n";

const LATE: &str = "insert into avtryck.hit (received_at, site_key, ad_key, device_key, place_key, flags, kind, permit, consent_source, \
        hit_id, visitor_id, page_url) \
    select timestamptz '2026-11-24 02:34Z', 1, case kind when 3 then 2 end, 1, 2, 0, kind, 63, 4, gen_random_uuid(), \
           md5('late')::uuid, 'https://shop.example/late' from unnest(array[1, 3]) as kind; \
    insert into avtryck.report_mark values ('2026-11-24 02:30Z', true)";

/// What reports say that read roll-ups of a day that is not over.
const REPORTS: [&str; 9] = [
    "campaign_daily",
    "placement_daily",
    "campaign_hourly",
    "campaign_view",
    "campaign_invalid",
    "web_daily",
    "web_page_daily",
    "reach('2026-11-24', '2026-11-24', null, 'region')",
    "frequency('2026-11-24', '2026-11-24', null)",
];

async fn told(client: &Client) -> Vec<Vec<String>> {
    let mut told = Vec::new();
    for report in REPORTS {
        let sql = format!("select told::text from avtryck.{report} as told order by 1");
        let rows = lines(client, &sql).await;
        assert!(!rows.is_empty(), "{report}");
        told.push(rows);
    }
    told
}

/// What reports say of the hits alone.
async fn told_of_hits(client: &Client) -> Vec<Vec<String>> {
    let sql = "begin; select avtryck.forget_report_of('2026-11-24')";
    client.batch_execute(sql).await.unwrap();
    let told = told(client).await;
    client.batch_execute("rollback").await.unwrap();
    told
}

/// Runs the job as it is run by the clock until a time of the day, each ten minutes.
async fn run_until(client: &Client, from_minute: i64, to_minute: i64) {
    let day = number(
        client,
        "select extract(epoch from timestamptz '2026-11-24Z')::bigint",
    )
    .await;
    for minute in (from_minute..=to_minute).step_by(10) {
        take_marks(client).await.unwrap();
        let as_of = UnixMicros((day + minute * 60 + 30) * 1_000_000);
        while build_next(client, as_of).await.unwrap() {}
    }
}

const SPANS: &str = "select to_char(begins, 'HH24:MI') || to_char(ends, ' HH24:MI') \
    from avtryck.report_span order by begins";

#[tokio::test]
async fn spans_become_one_when_they_are_settled_and_say_the_same() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client.batch_execute(HITS).await.unwrap();
    let expected = told_of_hits(client).await;
    run_until(client, 10, 820).await;
    let spans = lines(client, SPANS).await;
    let (joined, rest) = spans.split_at(3);
    assert_eq!(joined, ["00:00 06:00", "06:00 12:00", "12:00 12:10"]);
    assert_eq!(rest.len(), 9, "{spans:?}");
    assert_eq!(told(client).await, expected);
    run_until(client, 830, 840).await;
    let spans = lines(client, SPANS).await;
    assert_eq!(spans[2], "12:00 13:00");
    assert_eq!(told(client).await, expected);

    // A span that had to be rolled up anew is let alone for half an hour.
    client.batch_execute(LATE).await.unwrap();
    let expected = told_of_hits(client).await;
    assert_eq!(told(client).await, expected);
    run_until(client, 850, 870).await;
    let again = "select count(*) from avtryck.report_span where begins < '2026-11-24 06:00Z' and built_at > '2026-11-24 14:00Z'";
    assert_eq!(number(client, again).await, 1);
    assert_eq!(told(client).await, expected);

    // The day is stored, and then has one span.
    run_until(client, 1440 + 130, 1440 + 130).await;
    assert_eq!(lines(client, SPANS).await, ["00:00 00:00"]);
    let stored = "select count(*) from avtryck.campaign_day where cardinality(site) > 1";
    assert_eq!(number(client, stored).await, 1);
    assert_eq!(told(client).await, expected);
}

/// When the sums about ads and about sites were begun, and up to when they are.
const SUMS: &str = "select concat_ws(' ', begun_at, known) from avtryck.ad_sum_day \
    union all select concat_ws(' ', begun_at, known) from avtryck.web_sum_day";

#[tokio::test]
async fn late_hits_that_are_copied_leave_the_sums_of_their_day() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client.batch_execute(HITS).await.unwrap();
    run_until(client, 10, 600).await;
    let sums = lines(client, SUMS).await;
    assert_eq!(sums.len(), 2);
    // Of a visitor of that day, of nobody, of a session, of somebody new; and an event.
    for (number, whose) in [
        "md5('4')::uuid, null, 1",
        "null, null, 1",
        "null, 's-1', 1",
        "md5('late')::uuid, null, 1",
        "md5('4')::uuid, null, 2",
        "md5('4')::uuid, null, 3",
    ]
    .into_iter()
    .enumerate()
    {
        let late = format!(
            "with late as ( \
                 insert into avtryck.hit (received_at, site_key, ad_key, device_key, place_key, flags, kind, permit, consent_source, \
                     hit_id, page_url, visitor_id, session_id, event_name, params) \
                 select timestamptz '2026-11-24 02:34Z' + {number} * interval '7 minutes', 1, case kind when 3 then 2 end, 1, 2, 0, kind, \
                        63, 4, gen_random_uuid(), 'https://shop.example/late', visitor::uuid, session::text, case kind when 2 then 'engagement' end, \
                        '{{\"engagement_msec\": 9000}}' \
                 from (values ({whose})) as of (visitor, session, kind) returning *) \
             insert into avtryck.late_hit select * from late; \
             insert into avtryck.hit_count (minute, site_key, kind, hits) values ('2026-11-24 03:00Z', 1, 1, 2) \
             on conflict (minute, site_key, ad_key, kind) do update set hits = hit_count.hits + 2; \
             insert into avtryck.report_mark values ('2026-11-24 02:30Z', true, false), \
                 (avtryck.report_slot(timestamptz '2026-11-24 02:34Z' + {number} * interval '7 minutes'), true, false), \
                 ('2026-11-24 03:00Z', false, false)"
        );
        client.batch_execute(&late).await.unwrap();
        let expected = told_of_hits(client).await;
        assert_eq!(told(client).await, expected, "{whose}");
        take_marks(client).await.unwrap();
        assert_eq!(told(client).await, expected, "{whose}, without their spans");
        run_until(client, 600, 600).await;
        assert_eq!(told(client).await, expected, "{whose}, rolled up");
        assert_eq!(lines(client, SUMS).await, sums, "{whose}");
    }
    let copies = "select count(*) from avtryck.late_hit";
    assert!(number(client, copies).await > 0);
    let expected = told(client).await;
    run_until(client, 610, 620).await;
    assert_ne!(lines(client, SUMS).await, sums);
    assert_eq!(number(client, copies).await, 0);
    assert_eq!(told(client).await, expected);
}

#[tokio::test]
async fn ten_minutes_of_a_large_day_that_late_hits_come_to_are_a_span_by_themselves() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client.batch_execute(HITS).await.unwrap();
    run_until(client, 10, 600).await;
    let large = "create or replace function avtryck.web_begin_max() returns bigint language sql immutable parallel safe return 0; \
                 discard plans";
    for sql in large.split("; ") {
        client.batch_execute(sql).await.unwrap();
    }
    client.batch_execute(LATE).await.unwrap();
    let expected = told_of_hits(client).await;
    run_until(client, 610, 610).await;
    let spans = lines(client, SPANS).await;
    for span in ["02:00 02:30", "02:30 02:40", "02:40 03:40"] {
        assert!(spans.iter().any(|other| other == span), "{span} {spans:?}");
    }
    assert_eq!(told(client).await, expected);
    // They become one again once nothing has changed for half an hour.
    client
        .batch_execute("update avtryck.late_slot set marked_at = marked_at - interval '1 hour'")
        .await
        .unwrap();
    run_until(client, 620, 650).await;
    let spans = lines(client, SPANS).await;
    assert!(spans.iter().any(|span| span == "00:00 06:00"), "{spans:?}");
    assert_eq!(told(client).await, expected);
    assert_eq!(
        number(client, "select count(*) from avtryck.late_slot").await,
        0
    );
}

#[tokio::test]
async fn sums_about_ads_have_no_row_of_hits_that_are_gone() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client.batch_execute(HITS).await.unwrap();
    client.batch_execute(LATE).await.unwrap();
    run_until(client, 10, 600).await;
    let gone = "delete from avtryck.hit where received_at >= '2026-11-24 02:30Z' and received_at < '2026-11-24 02:40Z' \
                    and (visitor_id = md5('late')::uuid or place_key = 1); \
                insert into avtryck.report_mark values ('2026-11-24 02:30Z', true)";
    client.batch_execute(gone).await.unwrap();
    let expected = told_of_hits(client).await;
    assert_eq!(told(client).await, expected);
    for take in ["take_report_marks(true)", "take_report_marks()"] {
        let sql = format!("begin; select avtryck.{take}");
        client.batch_execute(&sql).await.unwrap();
        assert_eq!(told(client).await, expected, "{take}");
        run_until(client, 610, 630).await;
        assert_eq!(told(client).await, expected, "{take}");
        client.batch_execute("rollback").await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_copies_its_late_page_views_and_events_while_there_is_room() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let kinds = [Kind::PageView, Kind::Event, Kind::Impression, Kind::Click];
    for (batch, max, copied) in [(0, 20_000, 2), (1, 3, 2), (2, 4, 4)] {
        let bound = format!(
            "truncate avtryck.report_mark; create or replace function avtryck.late_hits_max() returns bigint \
             language sql immutable parallel safe return {max}"
        );
        client.batch_execute(&bound).await.unwrap();
        let rows = kinds.iter().enumerate().map(|(at, kind)| {
            let mut row = row(batch * 10 + at);
            row.kind = *kind;
            row.received_at = UnixMicros(NOON.0 + batch as i64 * 600_000_000);
            (batch * 10 + at, row, None)
        });
        let mut load = load(rows);
        let from = position::read(client, SPOOL).await.unwrap();
        load.spools = vec![span(
            from.map(|at| at.position),
            progress((batch as u64 + 1) * 10),
        )];
        assert_eq!(commit(client, load).await.unwrap().rows, 4);
        let copies = "select count(*) from avtryck.late_hit";
        assert_eq!(number(client, copies).await, copied, "batch {batch}");
        let other =
            "select count(*) from (table avtryck.late_hit except table avtryck.hit) as other";
        assert_eq!(number(client, other).await, 0);
        let marked = "select changes_web::text from avtryck.report_mark";
        let expected = (batch == 1).to_string();
        assert_eq!(lines(client, marked).await, [expected], "batch {batch}");
    }
}

#[tokio::test]
async fn changes_that_nothing_is_known_of_take_the_sums_about_sites_only_so_often() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client.batch_execute(HITS).await.unwrap();
    let known = "select count(*) from avtryck.web_sum_day where known > '2026-11-24Z'";
    run_until(client, 10, 600).await;
    assert_eq!(number(client, known).await, 1);
    client.batch_execute(LATE).await.unwrap();
    let expected = told_of_hits(client).await;
    // A small day is summed up again at once.
    run_until(client, 610, 610).await;
    assert_eq!(number(client, known).await, 1);
    assert_eq!(told(client).await, expected);

    let large = "create or replace function avtryck.web_begin_max() returns bigint language sql immutable parallel safe return 0";
    client.batch_execute(large).await.unwrap();
    // What is immutable is a constant in plans that are kept.
    client.batch_execute("discard plans").await.unwrap();
    for (ago, took, are_known) in [
        ("9 minutes", "1 second", 0),
        ("11 minutes", "1 hour", 0),
        ("19 minutes", "1 minute", 0),
        ("11 minutes", "1 second", 1),
        ("21 minutes", "1 minute", 1),
    ] {
        let begun = format!(
            "update avtryck.web_sum_day set begun_at = clock_timestamp() - interval '{ago}', took = '{took}'"
        );
        client.batch_execute(&begun).await.unwrap();
        client.batch_execute(LATE).await.unwrap();
        let expected = told_of_hits(client).await;
        assert_eq!(told(client).await, expected, "{ago} {took}");
        // Sums are brought up to date where a span is rolled up.
        run_until(client, 620, 620).await;
        assert_eq!(number(client, known).await, are_known, "{ago} {took}");
        assert_eq!(told(client).await, expected, "{ago} {took}");
    }
}

/// The parts of reach, each with what names them in a query of hits.
const PARTS: [(&str, &str); 11] = [
    ("all", "null::text"),
    ("site", "site.site"),
    ("partner", "ad.partner"),
    ("campaign", "ad.campaign"),
    ("creative", "ad.creative"),
    ("placement", "ad.placement"),
    ("publisher", "ad.publisher"),
    ("day", "(received_at at time zone 'UTC')::date::text"),
    ("device_class", "device.class"),
    ("country", "place.country"),
    ("region", "place.region"),
];

/// Checks reach by each part with hits that are added up in plain SQL.
async fn check_reach(client: &Client, state: &str) {
    for (part, value) in PARTS {
        let plain = format!(
            "select row(value, count(*), sum(times), round(sum(times) / count(*), 2))::text \
             from (select {value} as value, visitor_id, count(*) as times \
                   from avtryck.hit left join avtryck.site on site.key = site_key left join avtryck.ad on ad.key = ad_key \
                   left join avtryck.device on device.key = device_key left join avtryck.place on place.key = place_key \
                   where hit.kind = 3 and flags = 0 and visitor_id is not null group by 1, 2) as each \
             group by value order by count(*) desc, value"
        );
        let reach = format!(
            "select told::text from avtryck.reach('2026-11-20', '2026-11-30', null, '{part}') as told"
        );
        let expected = lines(client, &plain).await;
        assert!(!expected.is_empty());
        assert_eq!(lines(client, &reach).await, expected, "{part}, {state}");
    }
}

#[tokio::test]
async fn reach_by_each_part_is_what_plain_sql_adds_up() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client.batch_execute(HITS).await.unwrap();
    // What is unknown is a value like any other, and some are reached on two days.
    let more = "insert into avtryck.hit (received_at, site_key, ad_key, device_key, place_key, flags, kind, permit, consent_source, \
            hit_id, visitor_id) \
        select received_at - interval '20 hours', site_key % 2, case when n % 3 = 0 then ad_key end, \
               nullif(device_key, 1), nullif(place_key, 2), flags, kind, permit, consent_source, gen_random_uuid(), visitor_id \
        from (select *, row_number() over (order by received_at) as n from avtryck.hit) as hit where kind = 3";
    let day = "select avtryck.make_hit_day('2026-11-23')";
    client.batch_execute(day).await.unwrap();
    client.batch_execute(more).await.unwrap();
    check_reach(client, "of the hits").await;
    run_until(client, 820, 820).await;
    check_reach(client, "of roll-ups and hits").await;
    run_until(client, 3_000, 3_000).await;
    check_reach(client, "of roll-ups").await;
}

/// A number has room for 262,144 values beside its subject.
#[tokio::test]
async fn reach_by_more_creatives_than_a_number_can_tell_apart() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    let many = "select avtryck.make_hit_day('2026-11-24'); \
        insert into avtryck.site values (1, 'shop', null); \
        insert into avtryck.report_span (begins, ends) values ('2026-11-24Z', '2026-11-25Z'); \
        insert into avtryck.ad (key, creative) select n, to_char(n, '000000') from generate_series(1, 262150) as n; \
        insert into avtryck.ad_day (span, site_key, ad_key, unmeasured_impressions, unmeasured_clicks, subjects) \
        select '2026-11-24Z', 1, n, 0, 0, case when n % 2 = 0 then array[5 << 18, n << 18] else array[5 << 18] end \
        from generate_series(1::bigint, 262150) as n";
    client.batch_execute(many).await.unwrap();
    let told = "select row(count(*), sum(reach), sum(impressions), count(distinct value), max(value) filter (where reach = 2))::text \
        from avtryck.reach('2026-11-24', '2026-11-24', null, 'creative')";
    let expected = "(262150,393225,393225,262150,\" 262150\")";
    assert_eq!(lines(client, told).await, [expected]);
}
