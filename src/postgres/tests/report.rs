//! The reports, on hits few enough to count by hand.

use super::*;

pub(super) async fn filled() -> TestDatabase {
    let database = TestDatabase::migrated().await;
    database
        .client
        .batch_execute(include_str!("report.sql"))
        .await
        .unwrap();
    database
}

/// The rows of a query, each a text.
pub(super) async fn lines(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_campaigns_day_adds_up_gross_and_net_by_device_class_and_region() {
    let database = filled().await;
    let sql = "select report::text from avtryck.campaign_daily as report where day = '2026-11-24' \
               order by campaign desc nulls last, device_class desc nulls last";
    assert_eq!(
        lines(&database.client, sql).await,
        [
            // Shown: 2 to visitor 1, 1 to nobody, 1 to u1. Clicked: k1, and k4 without an
            // impression.
            "(2026-11-24,shop,adform,spring,phone,SE,AB,4,4,2,1.50,2,1,0.2500,2,1,0,0)",
            "(2026-11-24,shop,adform,spring,desktop,NO,03,1,0,0,,0,0,,0,0,0,0)",
            "(2026-11-24,shop,adform,spring,,,,0,0,0,,0,0,,0,0,5,1)",
            "(2026-11-24,shop,adform,autumn,phone,SE,AB,0,0,0,,0,0,,1,0,0,0)",
            "(2026-11-24,shop,adform,autumn,,,,0,0,0,,0,0,,1,0,0,0)",
        ]
    );
    let sql = "select report::text from avtryck.campaign_daily as report where day < '2026-11-24' \
               order by day desc, device_class nulls last";
    assert_eq!(
        lines(&database.client, sql).await,
        [
            "(2026-11-23,shop,adform,spring,phone,SE,AB,1,1,1,1.00,0,0,0.0000,0,0,0,0)",
            "(2026-11-23,shop,adform,spring,,,,0,0,0,,0,0,,0,0,7,0)",
            "(2026-10-15,shop,adform,spring,phone,SE,AB,0,0,0,,1,1,,0,0,0,0)",
        ]
    );
}

#[tokio::test]
async fn a_placements_day_adds_up_by_creative() {
    let database = filled().await;
    let sql = "select report::text from avtryck.placement_daily as report where day = '2026-11-24' \
               order by campaign desc, creative";
    assert_eq!(
        lines(&database.client, sql).await,
        [
            "(2026-11-24,shop,adform,dn.se,top,spring,big,5,4,2,1.50,1,1,0.2500,1,1,5,1)",
            "(2026-11-24,shop,adform,dn.se,side,spring,small,0,0,0,,1,0,,1,0,0,0)",
            "(2026-11-24,shop,adform,dn.se,top,autumn,big,0,0,0,,0,0,,2,0,0,0)",
        ]
    );
}

#[tokio::test]
async fn a_conversion_is_shown_with_its_click_and_impression() {
    let database = filled().await;
    let path = |from: &str| {
        format!(
            "select concat_ws(' ', right(hit_id::text, 2), linked_by, campaign, creative, \
                 case when is_valid then 'valid' else 'invalid' end, 'click', right(click_hit_id::text, 2), click_id, \
                 'impression', right(impression_hit_id::text, 2), exposure_number) \
             from {from} where day = '2026-11-24' order by hit_id"
        )
    };
    let known = [
        "20 click_id spring big valid click 05 k1 impression 04 3",
        "21 visitor spring small invalid click 11 k4 impression",
        "22 ad autumn big invalid click impression",
        "23 impression spring big valid click impression 06 1",
    ];
    let rest = ["26 ad autumn big invalid click impression"];
    let lines_of = async |from: &str| lines(&database.client, &path(from)).await;
    assert_eq!(
        lines_of("avtryck.conversion_path").await,
        [&known[..], &rest[..]].concat()
    );
    let old = ["25 click_id spring big invalid click 01 old impression"];
    assert_eq!(
        lines_of("avtryck.conversion_path(interval '60 days')").await,
        [&known[..], &old[..], &rest[..]].concat()
    );
    // The click was 58 minutes before.
    let short = lines_of("avtryck.conversion_path(interval '50 minutes')").await;
    assert_eq!(short.len(), 2, "{short:?}");
}

#[tokio::test]
async fn a_report_of_a_day_leaves_the_partitions_of_other_days_alone() {
    let mut database = filled().await;
    let reader = database.connect().await;
    // A partition that is not even opened can be locked against everybody.
    let other = database.client.transaction().await.unwrap();
    other
        .batch_execute("lock table only avtryck.hit_20261015, only avtryck.hit_20261125 in access exclusive mode")
        .await
        .unwrap();
    reader
        .batch_execute("set lock_timeout = '10s'")
        .await
        .unwrap();
    for report in [
        "campaign_daily",
        "placement_daily",
        "conversion_path",
        "campaign_quality",
        "web_daily",
        "web_event_daily",
    ] {
        for day in [
            "day = '2026-11-24'",
            // What is known only once the query runs.
            "day between (now() - (now() - timestamptz '2026-11-23Z'))::date and '2026-11-24'",
        ] {
            let sql = format!("select count(*) from avtryck.{report} where {day}");
            assert!(number(&reader, &sql).await > 0, "{sql}");
        }
    }
    other.rollback().await.unwrap();
}

#[tokio::test]
async fn every_flag_has_its_name_and_the_invalid_ones_are_not_net() {
    let database = TestDatabase::migrated().await;
    let names = [
        (Flags::CLEANED, "cleaned", ""),
        (Flags::TRUNCATED, "truncated", ""),
        (Flags::MACRO, "macro", "invalid"),
        (Flags::PREFETCH, "prefetch", "uncounted"),
        (Flags::NEW_VISITOR, "new_visitor", ""),
        (Flags::FOREIGN_ORIGIN, "foreign_origin", ""),
        (Flags::THIRD_PARTY, "third_party", ""),
        (Flags::OVER_LIMIT, "over_limit", "invalid"),
        (Flags::PREVIEW, "preview", "uncounted"),
        (Flags::BAD_AGENT, "bad_agent", "invalid"),
        (Flags::DATA_CENTRE, "data_centre", "invalid"),
        (Flags::NO_IMPRESSION, "no_impression", "invalid"),
        (Flags::FAST_CLICK, "fast_click", "invalid"),
        (Flags::REPLAYED, "replayed", "invalid"),
        (Flags::BOT, "bot", "invalid"),
        (Flags::WRONG_CLOCK, "wrong_clock", ""),
    ];
    for (flag, name, worth) in names {
        let sql = "select avtryck.flag_names($1), \
                   case when not avtryck.is_counted($1) then 'uncounted' \
                        when not avtryck.is_valid($1) then 'invalid' else '' end";
        let bits = flag.bits().cast_signed();
        let row = database.client.query_one(sql, &[&bits]).await.unwrap();
        assert_eq!(row.get::<_, Vec<String>>(0), [name]);
        assert_eq!(row.get::<_, &str>(1), worth, "{name}");
    }
}
