//! The reports that web people ask for, on hits few enough to count by hand.

use super::report::lines;
use super::*;

const HITS: &str = "select avtryck.make_hit_day('2026-11-24'); \
    insert into avtryck.site values (1, 'shop', null), (2, 'shop', 'shoes'); \
    insert into avtryck.device (key, class, is_bot) values (1, 'phone', false); \
    insert into avtryck.place (key, country) values (1, 'SE'); \
    insert into avtryck.hit (received_at, occurred_at, site_key, device_key, place_key, flags, kind, permit, consent_source, \
        hit_id, visitor_id, session_id, page_url, referrer, event_name, params) \
    select ('2026-11-24T' || at || 'Z')::timestamptz, ('2026-11-24T' || occurred || 'Z')::timestamptz, site, 1, 1, flags, kind, 63, 4, \
        gen_random_uuid(), ('aaaaaaaa-0000-0000-0000-' || lpad(visitor::text, 12, '0'))::uuid, session, \
        'https://shop.example' || page, referrer, event, params::jsonb \
    from (values \
        ('10:00', null, 1, 0, 1, 1, null, '/?utm_source=News&utm_medium=Email&utm_campaign=nov', null, null, '{}'), \
        ('10:01', null, 2, 0, 1, 1, null, '/shoes?q=Red%20shoes', 'https://shop.example/', null, '{}'), \
        ('10:02', null, 1, 0, 2, 1, null, '/shoes', null, 'engagement', '{\"engagement_msec\": 12500}'), \
        ('10:03', null, 1, 0, 2, 1, null, '/shoes', null, 'signup', '{\"value\": 7}'), \
        ('10:34', null, 1, 0, 1, 1, null, '/pay', null, null, '{}'), \
        ('10:35', null, 1, 0, 1, 2, null, '/shoes', 'https://www.google.se/', null, '{}'), \
        ('10:36', null, 1, 16384, 1, 2, null, '/robot', null, null, '{}'), \
        ('10:37', null, 1, 0, 1, null, 's-1', '/a', 'https://blog.example/x', null, '{}'), \
        ('12:37', '10:30', 1, 0, 1, null, 's-1', '/b', null, null, '{}'), \
        ('10:38', null, 1, 0, 1, null, null, '/nobody', null, null, '{}'), \
        ('10:39', null, 1, 0, 2, 3, null, '/alone', null, 'search', '{\"search_term\": \"RED shoes \"}') \
    ) as hits (at, occurred, site, flags, kind, visitor, session, page, referrer, event, params); \
    insert into avtryck.hit_count (minute, site_key, kind, hits) values ('2026-11-24T10:00Z', 1, 1, 4)";

#[tokio::test]
async fn sessions_pages_events_and_searches_of_a_site_are_counted() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client.batch_execute(HITS).await.unwrap();
    let sessions = "select concat_ws(' ', to_char(begins, 'HH24:MI'), to_char(ends, 'HH24:MI'), entry_page, exit_page, page_views, \
                        events, engagement_seconds, is_bounce, medium, origin, campaign) \
                    from avtryck.web_session order by begins, entry_page";
    let expected = [
        "10:00 10:03 / /shoes 2 1 12.5 f email news nov",
        "10:30 10:37 /b /a 2 0 0.0 f direct",
        "10:34 10:34 /pay /pay 1 0 0.0 t direct",
        "10:35 10:35 /shoes /shoes 1 0 0.0 t search google.se",
    ];
    assert_eq!(lines(client, sessions).await, expected);
    let reports: [(&str, &[&str]); 4] = [
        (
            "select concat_ws(' ', medium, origin, campaign, device_class, country, sessions, visitors, bounces, page_views, \
                 events, engagement_seconds, unmeasured_page_views) from avtryck.web_daily order by 1",
            &[
                "0 0 0 0 0 0.0 4",
                "direct phone SE 2 1 1 3 0 0.0 0",
                "email news nov phone SE 1 1 0 2 1 12.5 0",
                "phone SE 0 0 0 1 0 0.0 0",
                "search google.se phone SE 1 1 1 1 0 0.0 0",
            ],
        ),
        (
            "select concat_ws(' ', page, page_views, visitors, entries, exits, bounces, engagement_seconds) \
             from avtryck.web_page_daily order by 1",
            &[
                "/ 1 1 1 0 0 0.0",
                "/a 1 0 0 1 0 0.0",
                "/b 1 0 1 0 0 0.0",
                "/nobody 1 0 0 0 0 0.0",
                "/pay 1 1 1 1 1 0.0",
                "/shoes 2 2 1 2 1 12.5",
            ],
        ),
        (
            "select concat_ws(' ', event, hits, visitors, value) from avtryck.web_event_daily order by 1",
            &["engagement 1 1", "search 1 1", "signup 1 1 7"],
        ),
        (
            "select concat_ws('|', search, hits, visitors) from avtryck.web_search_daily order by 1",
            &["red shoes|2|2"],
        ),
    ];
    for (sql, expected) in reports {
        assert_eq!(lines(client, sql).await, expected, "of the hits: {sql}");
    }
    let later = UnixMicros(NOON.0 + 3 * 86_400_000_000);
    while super::super::report::build_next(client, later)
        .await
        .unwrap()
    {}
    let stored = "select sum(cardinality(page))::bigint from avtryck.web_page_day";
    assert_eq!(number(client, stored).await, 6);
    for (sql, expected) in reports {
        assert_eq!(lines(client, sql).await, expected, "as stored: {sql}");
    }
}

#[tokio::test]
async fn a_stranger_cannot_make_reports_grow_without_end() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client.batch_execute(HITS).await.unwrap();
    let many = "create or replace function avtryck.web_rows_max() returns bigint language sql immutable parallel safe return 3; \
                insert into avtryck.hit (received_at, site_key, flags, kind, permit, consent_source, hit_id, visitor_id, page_url, \
                    event_name) \
                select '2026-11-24T12:00Z', 1, 0, kind, 63, 4, gen_random_uuid(), gen_random_uuid(), \
                       'https://shop.example/' || n || '?q=' || n || '&utm_source=' || n, case when kind = 2 then 'e' || n end \
                from generate_series(1, 50) as n, unnest(array[1, 2]) as kind";
    client.batch_execute(many).await.unwrap();
    for (report, rows) in [
        ("web_page_daily", 4),
        ("web_event_daily", 4),
        ("web_search_daily", 4),
    ] {
        let sql = format!("select count(*) from avtryck.{report}");
        assert_eq!(number(client, &sql).await, rows, "{report}");
    }
    let sql = "select count(distinct origin) from avtryck.web_daily";
    assert!(number(client, sql).await <= 4);
    let sql = "select sum(page_views)::bigint from avtryck.web_page_daily";
    assert_eq!(number(client, sql).await, 57);
}

#[tokio::test]
async fn how_somebody_came_is_told_by_the_address_and_the_referrer() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    for (url, referrer, expected) in [
        ("https://a.se/", "", "direct "),
        ("https://a.se/", "https://a.se/x", "internal a.se"),
        ("https://www.a.se/", "https://a.se/x", "internal a.se"),
        (
            "https://a.se/",
            "https://www.google.co.uk/",
            "search google.co.uk",
        ),
        (
            "https://a.se/",
            "https://duckduckgo.com/?q=x",
            "search duckduckgo.com",
        ),
        (
            "https://a.se/",
            "https://notgoogle.example/",
            "referral notgoogle.example",
        ),
        (
            "https://a.se/",
            "https://l.facebook.com/",
            "social l.facebook.com",
        ),
        (
            "https://a.se/",
            "https://mail.google.com/",
            "mail mail.google.com",
        ),
        (
            "https://a.se/?gclid=x",
            "https://www.google.se/",
            "paid google",
        ),
        ("https://a.se/?x=1&fbclid=y", "", "paid meta"),
        ("https://a.se/?utm_source=News&gclid=x", "", "campaign news"),
        ("https://a.se/?utm_source=n&utm_medium=CPC", "", "cpc n"),
        ("https://a.se/?gclidx=1", "", "direct "),
        ("not a url", "neither", "direct "),
    ] {
        let sql = "select avtryck.medium_of($1, avtryck.host_of($1), avtryck.host_of($2)) || ' ' \
                   || coalesce(avtryck.origin_of($1, avtryck.host_of($2)), '')";
        let row = client.query_one(sql, &[&url, &referrer]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), expected, "{url} {referrer}");
    }
    for (url, path) in [
        ("https://a.se", "/"),
        ("https://a.se/", "/"),
        ("https://a.se/b/c?d=/e#f", "/b/c"),
        ("https://a.se?d=/e", "/"),
        ("https://a.se/x://y", "/x://y"),
        ("/b?c", "/b"),
        ("", "/"),
    ] {
        let sql = "select avtryck.path_of($1)";
        let row = client.query_one(sql, &[&url]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), path, "{url}");
    }
    for (value, plain) in [
        ("a%20b+c", "a b c"),
        ("%C3%A5%c3%a4", "åä"),
        ("%ff", "%ff"),
        ("%00", "%00"),
        ("100%", "100%"),
        ("%zz%41", "%zzA"),
        ("%ed%a0%80", "%ed%a0%80"),
    ] {
        let sql = "select avtryck.unescape($1)";
        let row = client.query_one(sql, &[&value]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), plain, "{value}");
    }
}
