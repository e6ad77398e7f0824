//! Days of sites that name a time zone.

use std::collections::BTreeMap;

use jiff::civil::date;
use jiff::tz::TimeZone;

use super::report::lines;
use super::*;
use crate::postgres::report::{build_next, set_time_zones, take_marks};

/// An impression each half hour on two sites, by one visitor, from `$first` to `$last` (UTC).
const HALF_HOURS: &str = "select avtryck.make_hit_day(day::date) from generate_series(timestamptz '$first', '$last', '1 day') as day; \
    insert into avtryck.site values (1, 'shop', null), (2, 'shop', 'shoes'), (3, 'news', null) on conflict do nothing; \
    insert into avtryck.ad (key, partner, campaign) values (1, 'network', 'spring') on conflict do nothing; \
    insert into avtryck.hit (received_at, site_key, ad_key, flags, kind, permit, consent_source, hit_id, visitor_id, page_url) \
    select at, case when site = 3 then 3 else 1 + extract(minute from at)::int / 30 end, case when kind = 3 then 1 end, 0, kind, 63, 4, \
           gen_random_uuid(), 'aaaaaaaa-0000-0000-0000-000000000001', 'https://shop.example/' \
    from generate_series(timestamptz '$first', timestamptz '$last' - interval '1 us', '30 minutes') as at, unnest(array[1, 3]) as site, \
         unnest(array[1, 3]) as kind";

async fn filled(first: &str, last: &str) -> TestDatabase {
    let database = TestDatabase::migrated().await;
    let sql = HALF_HOURS.replace("$first", first).replace("$last", last);
    database.client.batch_execute(&sql).await.unwrap();
    database
}

async fn roll_up(client: &Client, as_of: &str) {
    let sql = format!("select (extract(epoch from timestamptz '{as_of}') * 1000000)::bigint");
    let as_of = UnixMicros(number(client, &sql).await);
    take_marks(client).await.unwrap();
    while build_next(client, as_of).await.unwrap() {}
}

#[tokio::test]
async fn a_day_begins_when_the_library_of_civil_time_says_so() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    // Havana's clocks go back to midnight, those of Santiago and Beirut from midnight on, those of
    // Lord Howe by half an hour; days of Kathmandu and Chatham begin at quarters; and there is each
    // side of the date line.
    for name in [
        "UTC",
        "Europe/Stockholm",
        "Europe/London",
        "Atlantic/Azores",
        "America/Havana",
        "America/Santiago",
        "Asia/Beirut",
        "Africa/Cairo",
        "Africa/Casablanca",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "Asia/Kathmandu",
        "Pacific/Chatham",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
        "America/Los_Angeles",
    ] {
        let zone = TimeZone::get(name).unwrap();
        let sql = format!(
            "select array_agg(extract(epoch from avtryck.zone_start(day::date, '{name}'))::bigint order by day) \
             from generate_series('2023-01-01'::timestamp, '2025-12-31', '1 day') as day"
        );
        let row = client.query_one(&sql, &[]).await.unwrap();
        let told: Vec<i64> = row.get(0);
        let mut day = date(2023, 1, 1);
        for second in told {
            let midnight = zone.to_timestamp(day.at(0, 0, 0, 0)).unwrap();
            let expected = midnight.as_second();
            assert_eq!(second, expected, "{name}, {day}");
            day = day.tomorrow().unwrap();
        }
        assert_eq!(day, date(2026, 1, 1));
    }
    // Samoa left out a day.
    let sql = "select (avtryck.zone_start('2011-12-31', 'Pacific/Apia') - avtryck.zone_start('2011-12-30', 'Pacific/Apia'))::text";
    assert_eq!(lines(client, sql).await, ["00:00:00"]);
}

/// What a report sums up by day on either site.
fn by_day(of: &str, from: &str) -> String {
    format!(
        "select concat_ws(' ', day, sum({of}) filter (where site = 'shop'), sum({of}) filter (where site = 'news')) \
         from avtryck.{from} group by day order by day"
    )
}

const COUNTED: [(&str, &str); 7] = [
    ("net_impressions", "campaign_daily"),
    ("net_impressions", "placement_daily"),
    ("net_impressions", "campaign_hourly"),
    ("net_hits", "campaign_quality"),
    ("page_views", "web_daily"),
    ("page_views", "web_page_daily"),
    ("page_views", "web_session"),
];

async fn set(client: &Client, shop: Option<&str>) {
    let unknown = set_time_zones(client, &["shop"], &[shop]).await.unwrap();
    assert_eq!(unknown, [""; 0]);
}

#[tokio::test]
async fn days_of_23_and_25_hours_have_each_hit_once_whether_they_are_stored_or_not() {
    for (first, rolled, last, expected) in [
        (
            "2026-10-24Z",
            "2026-10-26 03:00Z",
            "2026-10-27Z",
            [
                "2026-10-24 44 48",
                "2026-10-25 50 48",
                "2026-10-26 48 48",
                "2026-10-27 2",
            ],
        ),
        (
            "2026-03-27Z",
            "2026-03-29 03:00Z",
            "2026-03-30Z",
            [
                "2026-03-27 46 48",
                "2026-03-28 48 48",
                "2026-03-29 46 48",
                "2026-03-30 4",
            ],
        ),
    ] {
        let database = filled(first, last).await;
        let client = &database.client;
        set(client, Some("Europe/Stockholm")).await;
        let days = "select count(*) from avtryck.report_day";
        // Computed of the hits, rolled up in part, and stored.
        for (as_of, stored) in [(None, 0), (Some(rolled), 2), (Some("2027-01-01Z"), 4)] {
            if let Some(as_of) = as_of {
                roll_up(client, as_of).await;
            }
            assert!(number(client, days).await >= stored, "{as_of:?}");
            for (of, from) in COUNTED {
                let told = lines(client, &by_day(of, from)).await;
                assert_eq!(told, expected, "{from}, {as_of:?}");
            }
        }
        let spans = "select count(*) from avtryck.report_span as span join avtryck.hit_day on true \
                     cross join lateral avtryck.zone_day(day) as own \
                     where own.begins > span.begins and own.begins < span.ends";
        assert_eq!(number(client, spans).await, 0);
    }
}

#[tokio::test]
async fn a_time_zone_that_is_changed_holds_for_all_days_that_are_kept() {
    let database = filled("2026-11-20Z", "2026-11-22Z").await;
    let client = &database.client;
    roll_up(client, "2026-12-01Z").await;
    let stored = "select coalesce(sum(cardinality(site)), 0)::bigint from avtryck.campaign_day";
    for (zone, expected) in [
        (None, &["2026-11-20 48 48", "2026-11-21 48 48"][..]),
        (
            Some("Asia/Kathmandu"),
            &["2026-11-20 37 48", "2026-11-21 48 48", "2026-11-22 11"],
        ),
        (
            Some("Pacific/Pago_Pago"),
            &["2026-11-19 22", "2026-11-20 48 48", "2026-11-21 26 48"],
        ),
        (None, &["2026-11-20 48 48", "2026-11-21 48 48"]),
    ] {
        let before = number(client, stored).await;
        set(client, zone).await;
        assert_eq!(
            number(client, stored).await > 0,
            zone.is_none() && before == 4
        );
        for is_stored in [false, true] {
            if is_stored {
                roll_up(client, "2026-12-01Z").await;
                assert!(number(client, stored).await >= 4);
            }
            for (of, from) in COUNTED {
                let told = lines(client, &by_day(of, from)).await;
                assert_eq!(told, expected, "{from}, {zone:?}, {is_stored}");
            }
        }
    }
}

/// Time zones in which days begin at half hours, or have 23, 23.5, 24.5 or 25 hours.
const ZONES: [&str; 6] = [
    "Europe/Stockholm",
    "America/St_Johns",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Havana",
    "UTC",
];

/// An impression and a page view each half hour on a site for each of [`ZONES`].
const EACH_ZONE: &str = "select avtryck.make_hit_day(day::date) from generate_series(timestamptz '$first', '$last', '1 day') as day; \
    insert into avtryck.site (key, site) select n, 'site-' || n from generate_series(1, 6) as n; \
    insert into avtryck.ad (key, partner, campaign) values (1, 'network', 'spring'); \
    insert into avtryck.hit (received_at, site_key, ad_key, flags, kind, permit, consent_source, hit_id, visitor_id, page_url) \
    select at, site, case when kind = 3 then 1 end, 0, kind, 63, 4, gen_random_uuid(), 'aaaaaaaa-0000-0000-0000-000000000001', \
           'https://shop.example/' \
    from generate_series(timestamptz '$first', timestamptz '$last' - interval '1 us', '30 minutes') as at, \
         generate_series(1, 6) as site, unnest(array[1, 3]) as kind";

/// What reports have to say of [`EACH_ZONE`], where `late` more hits came a second after `$first`.
fn days_of_each_zone(first: &str, last: &str, turn: usize, late: u32) -> Vec<String> {
    let [first, last]: [jiff::Timestamp; 2] =
        [first, last].map(|day| day.replace('Z', "T00:00Z").parse().unwrap());
    let mut hits = BTreeMap::<_, u32>::new();
    for site in 0..ZONES.len() {
        let zone = TimeZone::get(ZONES[(site + turn) % ZONES.len()]).unwrap();
        let mut at = first;
        while at < last {
            let number = if at == first { 1 + late } else { 1 };
            let day = zone.to_datetime(at).date();
            *hits.entry((day, site + 1)).or_default() += number;
            at += jiff::SignedDuration::from_mins(30);
        }
    }
    let line = |((day, site), hits)| format!("{day} site-{site} {hits}");
    hits.into_iter().map(line).collect()
}

#[tokio::test]
async fn sites_of_many_time_zones_have_each_hit_once_also_if_zones_change_and_hits_are_late() {
    // The clocks go forward in Newfoundland and Cuba; back on Lord Howe; back in Sweden.
    for (first, rolled, last) in [
        ("2026-03-07Z", "2026-03-08 07:00Z", "2026-03-10Z"),
        ("2026-04-04Z", "2026-04-04 16:00Z", "2026-04-06Z"),
        ("2026-10-24Z", "2026-10-25 01:40Z", "2026-10-26Z"),
    ] {
        let database = TestDatabase::migrated().await;
        let client = &database.client;
        let fill = EACH_ZONE.replace("$first", first).replace("$last", last);
        client.batch_execute(&fill).await.unwrap();
        let names: Vec<String> = (1..=ZONES.len())
            .map(|site| format!("site-{site}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut late = 0;
        for turn in 0..2 {
            let zones: Vec<Option<&str>> = (0..ZONES.len())
                .map(|site| Some(ZONES[(site + turn) % ZONES.len()]))
                .collect();
            let unknown = set_time_zones(client, &names, &zones).await.unwrap();
            assert_eq!(unknown, [""; 0]);
            for as_of in [None, Some(rolled), Some("2026-12-24Z")] {
                if let Some(as_of) = as_of {
                    roll_up(client, as_of).await;
                    let late_hits = format!(
                        "insert into avtryck.hit select (jsonb_populate_record(hit, jsonb_build_object( \
                             'received_at', timestamptz '{first}' + interval '1 second', 'hit_id', gen_random_uuid()))).* \
                         from avtryck.hit where received_at = '{first}'; \
                         insert into avtryck.report_mark values ('{first}', true)"
                    );
                    client.batch_execute(&late_hits).await.unwrap();
                    late += 1;
                }
                let expected = days_of_each_zone(first, last, turn, late);
                for (of, from) in COUNTED {
                    let sql = format!(
                        "select concat_ws(' ', day, site, sum({of})) from avtryck.{from} \
                         group by day, site having sum({of}) > 0 order by day, site"
                    );
                    let told = lines(client, &sql).await;
                    assert_eq!(told, expected, "{from}, turn {turn}, {as_of:?}");
                }
            }
        }
    }
}

/// As where the key of a site belonged to other content: see [`crate::row::UNKNOWN_KEY`].
#[tokio::test]
async fn hits_whose_site_is_unknown_count_in_utc_days_also_where_there_is_no_site() {
    let forget = "update avtryck.hit set site_key = 0 where site_key = 3; delete from avtryck.site where key = 3; \
                  insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) values ('2026-11-21 23:50Z', 0, 1, 3, 7)";
    let alone = "delete from avtryck.hit where site_key > 0; delete from avtryck.site";
    for also in ["", alone] {
        let database = filled("2026-11-20Z", "2026-11-22Z").await;
        let client = &database.client;
        client.batch_execute(forget).await.unwrap();
        client.batch_execute(also).await.unwrap();
        set(client, Some("Asia/Kathmandu")).await;
        for as_of in [None, Some("2026-11-21 12:00Z"), Some("2026-12-01Z")] {
            if let Some(as_of) = as_of {
                roll_up(client, as_of).await;
            }
            let unmeasured = ("unmeasured_impressions", "campaign_daily");
            for (of, from) in COUNTED[..4].iter().chain(&[unmeasured]) {
                let sql = format!(
                    "select concat_ws(' ', day, sum({of})) from avtryck.{from} where site is null group by day order by day"
                );
                let expected = match *of {
                    "unmeasured_impressions" => ["2026-11-20 0", "2026-11-21 7"],
                    _ => ["2026-11-20 48", "2026-11-21 48"],
                };
                assert_eq!(lines(client, &sql).await, expected, "{from}, {as_of:?}");
            }
            let whom = "select concat_ws(' ', reach, frequency) from avtryck.reach('2026-11-20', '2026-11-21', null, 'site') \
                        where value is null";
            assert_eq!(lines(client, whom).await, ["1 96.00"], "{as_of:?}");
            let funnel = "select subjects::text from avtryck.funnel('2026-11-20', '2026-11-21', array['impression'], '1 hour')";
            assert_eq!(lines(client, funnel).await, ["1"], "{as_of:?}");
            for (_, of_sites) in &COUNTED[4..] {
                let sql = format!("select count(*) from avtryck.{of_sites} where site is null");
                assert_eq!(number(client, &sql).await, 0, "{of_sites}");
            }
        }
    }
}

#[tokio::test]
async fn a_time_zone_that_postgres_does_not_know_changes_nothing() {
    let database = filled("2026-11-20Z", "2026-11-21Z").await;
    let client = &database.client;
    set(client, Some("Europe/Stockholm")).await;
    let zones = [Some("Europe/Atlantis"), Some("Asia/Kathmandu")];
    let unknown = set_time_zones(client, &["shop", "news"], &zones).await;
    assert_eq!(unknown.unwrap(), ["shop"]);
    let sql = "select concat_ws(' ', site, time_zone) from avtryck.site_zone order by site";
    let expected = ["news Asia/Kathmandu", "shop Europe/Stockholm"];
    assert_eq!(lines(client, sql).await, expected);
}
