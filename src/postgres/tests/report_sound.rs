//! What reports say of conversions, and what they cost when hits name each other.

use super::report::{filled, lines};
use super::*;

/// How long a query over [`report_hostile.sql`](report_hostile.sql) may take. All take 2 s together
/// on an idle core; the reports of before took minutes each.
const QUERY_TIME_MAX: &str = "set statement_timeout = '25s'";

#[tokio::test]
async fn conversions_follow_the_same_clicks_and_impressions_as_when_each_is_looked_up_by_itself() {
    let database = filled().await;
    let client = &database.client;
    client
        .batch_execute(include_str!("report_plain.sql"))
        .await
        .unwrap();
    let mut linked = 0;
    for seed in 1..=12 {
        client
            .execute("select plain.fill($1)", &[&seed])
            .await
            .unwrap();
        for (day, within) in [
            ("2026-11-23", "30 days"),
            ("2026-11-24", "10 hours"),
            ("2026-11-24", "30 days"),
        ] {
            let start = format!("avtryck.day_start('{day}')");
            let times = format!(
                "{start}, {start} + interval '1 day', {start} - interval '{within}', interval '{within}'"
            );
            for call in [
                format!("conversion({times})"),
                format!("conversion_path_of('{day}', interval '{within}')"),
            ] {
                let rows = async |schema: &str| {
                    let sql =
                        format!("select told::text from {schema}.{call} as told order by hit_id");
                    lines(client, &sql).await
                };
                let told = rows("avtryck").await;
                assert_eq!(told, rows("plain").await, "{call}, seed {seed}");
                linked += told.iter().filter(|row| row.contains("click_id")).count();
            }
        }
    }
    assert!(linked > 50, "{linked}");
}

#[tokio::test]
async fn conversions_that_are_looked_up_in_parts_follow_the_same_as_in_one() {
    let database = filled().await;
    let client = &database.client;
    client
        .batch_execute(include_str!("report_plain.sql"))
        .await
        .unwrap();
    let mut kept = 0;
    for seed in 1..=12_i32 {
        let forget = "truncate avtryck.conversion_link, avtryck.conversion_day";
        client.batch_execute(forget).await.unwrap();
        client
            .execute("select plain.fill($1)", &[&seed])
            .await
            .unwrap();
        let rows = async |schema: &str| {
            let sql = format!(
                "select path::text from unnest(array['2026-11-23', '2026-11-24']::date[]) as day \
                 cross join lateral {schema}.conversion_path_of(day, interval '30 days') as path order by hit_id"
            );
            lines(client, &sql).await
        };
        let plain = rows("plain").await;
        for hour in ["01:00", "05:10", "12:50", "13:00", "19:40", "24:00"] {
            for day in ["2026-11-23", "2026-11-24"] {
                let sql = format!(
                    "select avtryck.build_conversions('{day}', avtryck.day_start('{day}') + interval '{hour}')"
                );
                client.batch_execute(&sql).await.unwrap();
            }
            assert_eq!(rows("avtryck").await, plain, "{hour}, seed {seed}");
        }
        kept += number(client, "select count(*) from avtryck.conversion_link").await;
        // What is deleted before a time leaves what is before that.
        let sql = "with gone as (delete from avtryck.hit where received_at >= '2026-11-24T10:00Z' and kind in (3, 4) \
                                 returning received_at, occurred_at) \
                   select avtryck.mark_paths(array_agg(received_at), array_agg(occurred_at)) from gone; \
                   insert into avtryck.report_mark values ('2026-11-24T10:00Z', true); \
                   select avtryck.take_report_marks()";
        client.batch_execute(sql).await.unwrap();
        assert_eq!(rows("avtryck").await, rows("plain").await, "seed {seed}");
    }
    assert!(kept > 100, "{kept}");
}

#[tokio::test]
async fn every_view_is_read_in_time_whatever_hits_name_each_other() {
    let database = filled().await;
    let client = &database.client;
    client
        .batch_execute(include_str!("report_hostile.sql"))
        .await
        .unwrap();
    let sql = "select viewname::text from pg_views where schemaname = 'avtryck'";
    let views = lines(client, sql).await;
    assert!(views.len() > 8, "{views:?}");
    client.batch_execute(QUERY_TIME_MAX).await.unwrap();
    for statistics in ["select", "analyze"] {
        client.batch_execute(statistics).await.unwrap();
        for view in &views {
            let sql = format!("select count(told::text) from avtryck.{view} as told");
            client.query_one(&sql, &[]).await.expect(view);
        }
    }
    let sql = "select gross_conversions::text || ' ' || net_conversions from ( \
               select sum(gross_conversions) as gross_conversions, sum(net_conversions) as net_conversions \
               from avtryck.campaign_daily where day = '2026-11-24') as sums";
    let most: i64 = number(client, "select avtryck.conversions_max()").await;
    // Those of the visitor count up to the most, and one was there before.
    let told = lines(client, sql).await;
    let (gross, net) = told[0].split_once(' ').unwrap();
    assert_eq!(gross, "20004");
    assert!((most..=most + 1).contains(&net.parse().unwrap()), "{net}");
}

#[tokio::test]
async fn conversions_beyond_what_a_click_or_a_subject_may_have_in_a_day_are_gross() {
    let database = filled().await;
    let client = &database.client;
    let most = number(client, "select avtryck.conversions_max()").await;
    // All but those of the click name a campaign that was shown to them.
    let shown = "insert into avtryck.hit (received_at, site_key, ad_key, flags, kind, permit, consent_source, hit_id, \
                     visitor_id, maid, partner_uid, event_name) \
                 select '2026-11-24T11:30Z', 1, 3, 0, kind, 63, 4, gen_random_uuid(), visitor, maid, uid, 'impression' \
                 from (values (3, 'cccccccc-0000-0000-0000-000000000001'::uuid, null, null), \
                              (5, null, 'abc', null), (5, null, null, 'seven')) as shown (kind, visitor, maid, uid)";
    client.batch_execute(shown).await.unwrap();
    let either = "case when n % 2 = 0 then 'ABC' else 'abc' end";
    let visitor = "'cccccccc-0000-0000-0000-000000000001'";
    for (same, kind, visitor, maid, uid, click_id) in [
        ("click", 5, "gen_random_uuid()", "null", "null", "'k1'"),
        ("visitor", 2, visitor, "null", "null", "null"),
        ("maid", 5, "gen_random_uuid()", either, "null", "null"),
        ("uid", 5, "null", "null", "'seven'", "null"),
    ] {
        // The first ones of a robot take nothing from those that count.
        let sql = format!(
            "begin; delete from avtryck.hit where event_name = 'conversion'; \
             insert into avtryck.hit (received_at, site_key, device_key, place_key, ad_key, flags, kind, permit, \
                 consent_source, hit_id, visitor_id, maid, partner_uid, event_name, event_id, click_id) \
             select day + n * interval '1 minute', 1, 1, 1, 3, case when n <= 5 then 16384 else 0 end, {kind}, 63, 4, \
                    gen_random_uuid(), {visitor}, {maid}, {uid}, 'conversion', day || ' ' || n, {click_id} \
             from generate_series(1, 5 + $most + 3) as n, \
                  unnest(array['2026-11-24T12:00Z', '2026-11-25T12:00Z']::timestamptz[]) as day"
        );
        let sql = sql.replace("$most", &most.to_string());
        client.batch_execute(&sql).await.unwrap();
        let sql = "select concat_ws(' ', sum(gross_conversions), sum(net_conversions)) \
                   from avtryck.campaign_daily where day >= '2026-11-24' group by day";
        let told = format!("{} {most}", most + 8);
        assert_eq!(lines(client, sql).await, [told.clone(), told], "{same}");
        let sql = "select count(*) from avtryck.conversion_path where is_valid";
        assert_eq!(number(client, sql).await, 2 * most, "{same}");
        client.batch_execute("rollback").await.unwrap();
    }
}

#[tokio::test]
async fn a_report_finds_the_clicks_and_impressions_of_earlier_days_by_index() {
    let database = filled().await;
    let client = &database.client;
    let sql = "insert into avtryck.hit (received_at, site_key, device_key, place_key, ad_key, flags, kind, permit, \
                   consent_source, hit_id, visitor_id, click_id) \
               select timestamptz '2026-11-23T10:00Z' + n * interval '1 s', 1, 1, 1, 1, 0, 1 + n % 4, 63, 4, \
                      gen_random_uuid(), gen_random_uuid(), case when n % 4 = 3 then 'k' || n end \
               from generate_series(1, 30000) as n; analyze";
    client.batch_execute(sql).await.unwrap();
    // Building an index counts as a scan, where it is that connection's.
    let reader = database.connect().await;
    reader
        .batch_execute("set max_parallel_workers_per_gather = 0")
        .await
        .unwrap();
    for report in [
        "campaign_daily",
        "placement_daily",
        "conversion_path",
        "campaign_quality",
    ] {
        reader.batch_execute("begin").await.unwrap();
        let sql = format!("select count(*) from avtryck.{report} where day = '2026-11-24'");
        assert!(number(&reader, &sql).await > 0);
        let sql = "select coalesce(seq_scan, 0) from pg_stat_xact_user_tables where relname = 'hit_20261123'";
        assert_eq!(number(&reader, sql).await, 0, "{report}");
        reader.batch_execute("rollback").await.unwrap();
    }
}
