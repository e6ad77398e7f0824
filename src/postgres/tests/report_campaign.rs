//! The reports that campaign people ask for, on hits few enough to count by hand.

use super::report::{filled, lines};
use super::*;

/// Visitor 1 also sees the small ad, visitor 8 that of autumn, and the order has a value.
const MORE: &str = "insert into avtryck.hit \
        (received_at, site_key, ad_key, flags, kind, permit, consent_source, hit_id, visitor_id, event_name) \
    select at::timestamptz, 1, ad, flags, kind, 63, 4, gen_random_uuid(), \
           ('aaaaaaaa-0000-0000-0000-' || lpad(visitor::text, 12, '0'))::uuid, event_name \
    from (values ('2026-11-24T09:00Z', 2, 0, 3, 1, null), \
                 ('2026-11-23T09:00Z', 3, 0, 3, 8, null), \
                 ('2026-11-24T10:00Z', 1, 0, 2, 1, 'measurable'), \
                 ('2026-11-24T10:00Z', 1, 0, 2, 1, 'measurable'), \
                 ('2026-11-24T10:00Z', 1, 16384, 2, 1, 'measurable'), \
                 ('2026-11-24T10:00Z', 1, 0, 2, 1, 'first_quartile'), \
                 ('2026-11-24T10:00Z', 1, 0, 2, 1, 'start'), \
                 ('2026-11-24T10:00Z', null, 0, 2, 1, 'start')) \
         as more (at, ad, flags, kind, visitor, event_name); \
    update avtryck.hit set params = '{\"value\": 100, \"currency\": \"sek\"}' \
    where hit_id = '00000000-0000-0000-0000-000000000020'; \
    insert into avtryck.campaign_cost values ('2026-11-24', 'spring', 'SEK', 40), ('2026-11-25', 'autumn', 'SEK', 9)";

/// Checks a query before and after everything is rolled up.
async fn check(sql: &str, expected: &[&str]) {
    let database = filled().await;
    let client = &database.client;
    client.batch_execute(MORE).await.unwrap();
    let sql = format!("select told::text from ({sql}) as told");
    assert_eq!(lines(client, &sql).await, expected, "of the hits: {sql}");
    let later = UnixMicros(NOON.0 + 20 * 86_400_000_000);
    while super::super::report::build_next(client, later)
        .await
        .unwrap()
    {}
    assert_eq!(lines(client, &sql).await, expected, "of roll-ups: {sql}");
}

#[tokio::test]
async fn reach_and_frequency_count_a_subject_once_over_days_and_campaigns() {
    check(
        "select * from avtryck.frequency('2026-11-01', '2026-11-30', array['spring'])",
        &["(1,1)", "(4,1)"],
    )
    .await;
    check(
        "select * from avtryck.frequency('2026-11-24', '2026-11-24', null)",
        &["(1,1)", "(3,1)"],
    )
    .await;
    check(
        "select * from avtryck.reach('2026-11-01', '2026-11-30', null, 'campaign')",
        &["(spring,2,5,2.50)", "(autumn,1,1,1.00)"],
    )
    .await;
    check(
        "select * from avtryck.reach('2026-11-01', '2026-11-30', array['spring', 'autumn'], 'all')",
        &["(,3,6,2.00)"],
    )
    .await;
    check(
        "select * from avtryck.reach('2026-11-24', '2026-11-24', array['spring'], 'hour')",
        &[
            "(\"2026-11-24 09:00\",1,1,1.00)",
            "(\"2026-11-24 10:00\",2,3,1.50)",
        ],
    )
    .await;
    check(
        "select * from avtryck.reach('2026-11-01', '2026-11-30', array['spring'], 'device_class')",
        &["(phone,2,4,2.00)", "(,1,1,1.00)"],
    )
    .await;
}

/// A number has room for 262,143 impressions beside its subject.
#[tokio::test]
async fn a_subject_that_saw_an_ad_hundreds_of_thousands_of_times_a_day_is_counted() {
    let database = filled().await;
    let client = &database.client;
    let later = UnixMicros(NOON.0 + 20 * 86_400_000_000);
    while super::super::report::build_next(client, later)
        .await
        .unwrap()
    {}
    let told = "select told::text from avtryck.frequency('2026-11-01', '2026-11-30', null) as told";
    let added_up = "select (times, count(*))::text from \
        (select sum(coalesce(times, 1)) as times \
         from avtryck.ad_day cross join lateral unnest(subjects, impressions) as each (subject, times) \
         group by subject >> 18) as each group by times order by times";
    for times in [1, 262_142, 262_143, 262_144, 524_286, 524_287, i32::MAX] {
        let sql = format!(
            "update avtryck.ad_day set impressions = array_fill({times}, array[cardinality(subjects)]) where subjects is not null"
        );
        client.batch_execute(&sql).await.unwrap();
        let counted = lines(client, told).await;
        assert!(!counted.is_empty());
        assert_eq!(counted, lines(client, added_up).await, "{times}");
    }
}

#[tokio::test]
async fn a_view_says_how_much_of_an_ad_was_seen() {
    check(
        "select day, creative, net_impressions, measurable, viewable, viewable_share, started, first_quartile, completed_share \
         from avtryck.campaign_view where day = '2026-11-24' and campaign = 'spring' order by creative",
        &[
            "(2026-11-24,big,4,2,1,0.5000,1,1,)",
            "(2026-11-24,small,1,0,0,,0,0,)",
        ],
    )
    .await;
    check(
        "select act, reason, hits from avtryck.campaign_invalid where day = '2026-11-24' order by 1",
        &["(click,no_impression,1)", "(impression,bot,1)"],
    )
    .await;
    check(
        "select hour, creative, gross_impressions, net_clicks, unmeasured_clicks from avtryck.campaign_hourly \
         where day = '2026-11-24' and creative = 'big' and campaign = 'spring' order by 1",
        &[
            "(\"2026-11-24 00:00:00+00\",big,0,0,0)",
            "(\"2026-11-24 10:00:00+00\",big,5,1,0)",
            "(\"2026-11-24 23:00:00+00\",big,0,0,1)",
        ],
    )
    .await;
}

#[tokio::test]
async fn conversions_are_told_apart_by_click_and_view_within_their_windows() {
    check(
        "select * from avtryck.campaign_value where day >= '2026-11-24' order by day, currency",
        &[
            "(2026-11-24,spring,SEK,1,0,100,40,2.50)",
            "(2026-11-25,autumn,SEK,0,0,,9,)",
        ],
    )
    .await;
    // The click was 58 minutes before. The visitor who was shown the ad an hour before is a robot,
    // and a person in what follows.
    for (windows, expected) in [
        ("'1 hour', '1 hour'", vec!["(click)"]),
        ("'57 minutes', '1 hour'", vec![]),
    ] {
        let sql = format!(
            "select through from avtryck.conversions_through({windows}) where day = '2026-11-24' order by 1"
        );
        check(&sql, &expected).await;
    }
    let database = filled().await;
    let client = &database.client;
    let person = "update avtryck.hit set flags = 0 where flags = 16384";
    client.batch_execute(person).await.unwrap();
    for (windows, expected) in [
        ("'1 hour', '1 hour'", vec!["click", "view"]),
        ("'1 hour', '59 minutes'", vec!["click"]),
    ] {
        let sql = format!(
            "select through from avtryck.conversions_through({windows}) where day = '2026-11-24' order by 1"
        );
        assert_eq!(lines(client, &sql).await, expected);
    }
}

#[tokio::test]
async fn a_funnel_counts_visitors_who_take_the_steps_in_their_order_and_in_time() {
    let funnel = |steps: &str, within: &str| {
        format!(
            "select * from avtryck.funnel('2026-11-23', '2026-11-24', array[{steps}], '{within}')"
        )
    };
    check(
        &funnel("'impression', 'click', 'conversion'", "1 day"),
        &[
            "(1,impression,2,1.0000)",
            "(2,click,1,0.5000)",
            "(3,conversion,1,0.5000)",
        ],
    )
    .await;
    check(
        &funnel("'impression', 'click', 'conversion'", "1 hour"),
        &[
            "(1,impression,2,1.0000)",
            "(2,click,0,0.0000)",
            "(3,conversion,0,0.0000)",
        ],
    )
    .await;
    check(
        &funnel("'conversion', 'click'", "1 day"),
        &["(1,conversion,5,1.0000)", "(2,click,0,0.0000)"],
    )
    .await;
    // A hit is one step.
    let database = filled().await;
    let times = "select concat_ws(',', count(*) filter (where n >= 1), count(*) filter (where n >= 2), count(*) filter (where n >= 3)) \
                 from (select count(*) as n from avtryck.hit \
                       where kind = 3 and visitor_id is not null and avtryck.is_counted(flags) and avtryck.is_valid(flags) \
                         and received_at >= '2026-11-23Z' and received_at < '2026-11-25Z' group by visitor_id) as each";
    let steps = funnel("'impression', 'impression', 'impression'", "3 days");
    let steps = steps.replace(
        "select *",
        "select string_agg(subjects::text, ',' order by step)",
    );
    let [expected, taken] = [times, &steps].map(|sql| lines(&database.client, sql));
    let expected = expected.await;
    assert_eq!(taken.await, expected);
    assert_ne!(expected, ["2,2,2"], "somebody saw fewer");
}

#[tokio::test]
async fn attribution_shares_a_conversion_out_among_what_its_subject_met() {
    let attribution = |model: &str| {
        format!(
            "select campaign, creative, conversions, value from avtryck.attribution('2026-11-24', '2026-11-24', '{model}', '30 days')"
        )
    };
    for model in ["last_click", "first_click"] {
        check(&attribution(model), &["(spring,big,1.0000,100.00)"]).await;
    }
    check(
        &attribution("linear"),
        &["(spring,big,0.8000,80.00)", "(spring,small,0.2000,20.00)"],
    )
    .await;
    check(
        &attribution("position"),
        &["(spring,big,0.9333,93.33)", "(spring,small,0.0667,6.67)"],
    )
    .await;
    let database = filled().await;
    let client = &database.client;
    client.batch_execute(MORE).await.unwrap();
    let group = "insert into avtryck.link_node (node, kind, device_group, proved_group, degree, first_day, last_day) \
                 select ('aaaaaaaa-0000-0000-0000-00000000000' || n)::uuid, 1, 7, 0, 1, '2026-11-23', '2026-11-23' \
                 from unnest(array[1, 8]) as n";
    client.batch_execute(group).await.unwrap();
    let sql = format!("select told::text from ({}) as told", attribution("linear"));
    assert_eq!(
        lines(client, &sql).await,
        [
            "(spring,big,0.6667,66.67)",
            "(autumn,big,0.1667,16.67)",
            "(spring,small,0.1667,16.67)"
        ]
    );
    // All of it happened within two days, so it weighs nearly the same.
    let decay = format!(
        "select round(conversions, 1)::text from ({}) as told where creative = 'small'",
        attribution("time_decay")
    );
    assert_eq!(lines(client, &decay).await, ["0.2"]);
    for wrong in [
        "select * from avtryck.attribution('2026-11-24', '2026-11-24', 'best', '1 day')",
        "select * from avtryck.reach('2026-11-24', '2026-11-24', null, 'colour')",
        "select * from avtryck.reach('2026-11-17', '2026-11-24', null, 'hour')",
    ] {
        assert!(client.query(wrong, &[]).await.is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn who_may_read_reports_may_not_read_hits() {
    let database = filled().await;
    let client = &database.client;
    let ask = async |role: &str, from: &str| {
        let sql = format!("begin; set local role {role}; select * from {from}; commit");
        let asked = client.batch_execute(&sql).await;
        if asked.is_err() {
            client.batch_execute("rollback").await.unwrap();
        }
        asked.is_ok()
    };
    let reports = [
        "avtryck.campaign_daily",
        "avtryck.placement_daily",
        "avtryck.campaign_quality",
        "avtryck.campaign_hourly",
        "avtryck.campaign_view",
        "avtryck.campaign_invalid",
        "avtryck.campaign_value",
        "avtryck.ad_hour_detail",
        "avtryck.hit_count_detail",
        "avtryck.frequency('2026-11-01', '2026-11-30', null)",
        "avtryck.reach('2026-11-01', '2026-11-30', null, 'all')",
        "avtryck.funnel('2026-11-01', '2026-11-30', array['click'], '1 day')",
        "avtryck.attribution('2026-11-01', '2026-11-30', 'linear', '1 day')",
    ];
    let persons = [
        "avtryck.hit_detail",
        "avtryck.conversion_path",
        "avtryck.exposure_detail",
        "avtryck.ad_day_detail",
    ];
    for report in reports {
        for role in ["avtryck_reader", "avtryck_analyst"] {
            assert!(ask(role, report).await, "{role}: {report}");
        }
    }
    for person in persons {
        assert!(ask("avtryck_analyst", person).await, "{person}");
        assert!(!ask("avtryck_reader", person).await, "{person}");
    }
    for secret in ["avtryck.hit", "avtryck.ad_day", "avtryck.secret"] {
        assert!(!ask("avtryck_reader", secret).await, "{secret}");
    }
    assert!(!ask("avtryck_analyst", "avtryck.secret").await);
}
