//! What the sender's ID of an event is unique within, and whose hits spend it.

use super::{click_url, sites};
use crate::support::{Collector, Config};

/// Of GeoLite2-ASN-Test.mmdb: a network that this collector takes for a data centre's.
const DATA_CENTRE: (&str, i64) = ("1.128.0.1", 1221);

const ROBOT: (&str, &str) = (
    "User-Agent",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
);

/// The headers of ten machines that fetch a link before the person to whom it was sent does.
const SCANNERS: [(&str, &str); 10] = [
    ROBOT,
    ("X-Forwarded-For", DATA_CENTRE.0),
    ("User-Agent", ""),
    ("User-Agent", "-"),
    ("User-Agent", "Mozilla/5.0"),
    ("User-Agent", "python-requests/2.31.0"),
    ("Sec-Purpose", "prefetch"),
    ("Sec-Purpose", "prefetch;prerender"),
    ("X-Purpose", "preview"),
    ("Purpose", "prefetch"),
];

const ROWS: &str = "select count(*) from avtryck.hit";

fn config() -> Config {
    let partner = r#"
        [[partner]]
        key = "plain"
        token = "0123456789abcdef"
        site = "open"
        default_permit = ["store", "measure"]
    "#;
    sites()
        .set("traffic.data_centre_asns", vec![DATA_CENTRE.1])
        .with(partner)
}

async fn get(collector: &Collector, target: &str, headers: &[(&str, &str)]) {
    let reply = collector.get(target, headers).await;
    assert!([200, 204].contains(&reply.status), "{target}: {reply:?}");
}

#[tokio::test]
async fn an_id_is_that_of_one_thing_that_happened_to_it() {
    let collector = Collector::start(config()).await;
    let targets = [
        "/p.gif?site=open&e=view_item&id=phone-12",
        "/p.gif?site=open&e=add_to_cart&id=phone-12",
        "/p.gif?site=open&e=begin_checkout&id=order-4711",
        "/p.gif?site=open&e=conversion&id=order-4711",
        "/p.gif?site=open&e=refund&id=order-4711",
        "/i.gif?site=open&partner=network&ev=start&id=v-1",
        "/i.gif?site=open&partner=network&ev=complete&id=v-1",
        "/i.gif?site=open&partner=network&id=v-1",
        "/cb/plain?token=0123456789abcdef&ev=win&id=v-1",
        "/cb/plain?token=0123456789abcdef&ev=conversion&id=v-1",
    ];
    for _ in 0..2 {
        for target in targets {
            get(&collector, target, &[]).await;
        }
    }
    let repeated = targets.len() as f64;
    collector
        .until_metric("avtryck_loader_repeated_total", repeated)
        .await;
    assert_eq!(collector.number(ROWS).await, targets.len() as i64);
}

/// As docs/parameters.md says of numbers of things.
#[tokio::test]
async fn of_visitors_who_say_the_same_under_one_id_those_of_other_cookies_are_conflicts() {
    let collector = Collector::start(config()).await;
    let mut cookies = Vec::new();
    for _ in 0..3 {
        let reply = collector.get("/id?site=open", &[]).await;
        cookies.push(reply.cookie().to_owned());
    }
    // Whose hits they are, in order, and how many are conflicts and repeated.
    for (id, visitors, conflicts, repeated) in [
        (
            "known",
            &[Some(0), Some(1), Some(2), Some(1), None][..],
            2,
            2,
        ),
        ("strange", &[None, Some(0), Some(1), None], 0, 3),
    ] {
        let before = collector.metric("avtryck_loader_repeated_total").await;
        for visitor in visitors {
            let target = format!("/p.gif?site=open&e=view_item&id={id}");
            let cookie = visitor.map(|visitor: usize| ("Cookie", cookies[visitor].as_str()));
            get(&collector, &target, cookie.as_slice()).await;
        }
        let repeated_now = before + f64::from(repeated);
        collector
            .until_metric("avtryck_loader_repeated_total", repeated_now)
            .await;
        let rows = format!("select count(*) from avtryck.hit_detail where event_id = '{id}'");
        assert_eq!(collector.number(&rows).await, 1 + conflicts, "{id}");
        let flagged = format!("{rows} and 'id_conflict' = any(flags)");
        assert_eq!(collector.number(&flagged).await, conflicts, "{id}");
    }
}

#[tokio::test]
async fn a_machine_does_not_spend_a_persons_id_nor_a_browser_a_servers() {
    let collector = Collector::start(config()).await;
    let pixel = "/p.gif?site=open&e=conversion&id=order-4711";
    for header in SCANNERS {
        get(&collector, pixel, &[header]).await;
        get(&collector, pixel, &[header]).await;
    }
    // The machines share what they spend, as the readers do whose mail proxy gives no more than
    // `Mozilla/5.0`. They leave the person's and the server's alone.
    get(&collector, pixel, &[]).await;
    get(&collector, pixel, &[]).await;
    get(&collector, pixel, &[ROBOT]).await;
    let callback = "/cb/plain?token=0123456789abcdef&ev=conversion&id=order-4711";
    for header in SCANNERS.iter().take(6) {
        get(&collector, callback, &[*header]).await;
    }
    let repeated = 18 + 1 + 1 + 5;
    collector
        .until_metric("avtryck_loader_repeated_total", f64::from(repeated))
        .await;
    let rows = "select concat_ws(' ', kind, array_to_string(array(select flag from unnest(flags) \
                as flag where flag <> 'new_visitor'), ' ')) from avtryck.hit_detail order by received_at";
    let rows = collector.rows(rows).await;
    let rows: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        rows,
        ["event bot", "event mail_proxy", "event ", "callback "]
    );
}

#[tokio::test]
async fn a_link_for_one_use_that_machines_fetched_first_is_the_persons_to_use() {
    let collector = Collector::start(config()).await;
    let url = click_url(
        &collector,
        &["--to", "https://landing.example", "--id", "7"],
    )
    .await;
    let url = format!("{url}&site=open");
    for header in SCANNERS.into_iter().chain([ROBOT]) {
        assert_eq!(collector.get(&url, &[header]).await.status, 302);
    }
    let clicks = "select count(*) from avtryck.hit_detail where kind = 'click' and event_id = '7'";
    let replayed = format!("{clicks} and 'replayed' = any(flags)");
    collector.wait_for(clicks, 11).await;
    assert_eq!(collector.number(&replayed).await, 0);
    for (headers, clicked, after) in [
        (&[][..], 12, 0),
        (&[ROBOT], 13, 0),
        (&[], 14, 1),
        (&[], 15, 2),
    ] {
        // Nor does a name make it another link.
        let again = format!("{url}&e=again");
        assert_eq!(collector.get(&again, headers).await.status, 302);
        collector.wait_for(clicks, clicked).await;
        assert_eq!(collector.number(&replayed).await, after, "{clicked}");
    }
}

/// Posts an event for each ID, twice, and checks that each is one row with an ID of its own.
async fn post_each_twice(ids: impl Iterator<Item = String>) -> Collector {
    let collector = Collector::start(config()).await;
    let event = |id| format!("{{\"site\":\"open\",\"e\":\"buy\",\"id\":{id},\"uid\":{id}}}");
    let events: Vec<String> = ids.map(event).collect();
    let body = format!("[{}]", events.join(","));
    for _ in 0..2 {
        assert_eq!(collector.post("/e", &[], &body).await.status, 204);
    }
    collector
        .until_metric("avtryck_loader_repeated_total", events.len() as f64)
        .await;
    for column in ["*", "distinct event_id", "distinct partner_uid"] {
        let sql = format!("select count({column}) from avtryck.hit");
        let found = collector.number(&sql).await;
        assert_eq!(found, events.len() as i64, "{column}");
    }
    collector
}

#[tokio::test]
async fn events_are_one_only_if_their_ids_are_equal_as_sent() {
    let long = "x1".repeat(200);
    let ids = [
        format!("\"{long}1\""),
        format!("\"{long}2\""),
        format!("\"{long}\""),
        "\"a1\\u0001\"".to_owned(),
        "\"a1\\u0002\"".to_owned(),
        "\"a1\\ufffd\"".to_owned(),
        "\"a1\\ud800\"".to_owned(),
        "\"a1\\ud801\"".to_owned(),
        "\"a1\"".to_owned(),
        "\"A1\"".to_owned(),
        "\"a1 \"".to_owned(),
    ];
    post_each_twice(ids.into_iter()).await;
}

#[tokio::test]
async fn numbers_are_compared_as_they_are_written() {
    let numbers = [
        "1",
        "1.0",
        "1.1",
        "1.10",
        "1e2",
        "1E2",
        "100",
        "9007199254740992",
        "9007199254740993",
        "18446744073709551616",
        "18446744073709551617",
        "123456789012345678901234567890",
        "123456789012345678901234567891",
        "1e400",
        "1e401",
    ];
    let collector = post_each_twice(numbers.iter().map(ToString::to_string)).await;
    for number in numbers {
        let sql = format!("select count(*) from avtryck.hit where event_id = '{number}'");
        assert_eq!(collector.number(&sql).await, 1, "{number}");
    }
}

#[tokio::test]
async fn hits_without_an_id_are_not_one_however_they_say_so() {
    let collector = Collector::start(config()).await;
    let mut hits = 0;
    for id in [
        "null",
        "0",
        "%7B%7BORDER_ID%7D%7D",
        "[ORDER_ID_1]",
        "d41d8cd98f00b204e9800998ecf8427e",
    ] {
        for _ in 0..2 {
            let ids = format!("id={id}&uid={id}&maid={id}&did={id}&avclid={id}");
            get(
                &collector,
                &format!("/p.gif?site=open&e=conversion&{ids}"),
                &[],
            )
            .await;
            get(&collector, &format!("/sync/network?uid={id}"), &[]).await;
            let event =
                format!("{{\"site\":\"open\",\"e\":\"buy\",\"id\":\"{id}\",\"uid\":\"{id}\"}}");
            assert_eq!(collector.post("/e", &[], &event).await.status, 204);
            hits += 3;
        }
    }
    collector.wait_for(ROWS, hits).await;
    let none = format!(
        "{ROWS} where event_id is null and partner_uid is null and maid is null and \
         device_id is null and click_id is null"
    );
    assert_eq!(collector.number(&none).await, hits);
    let links = "select count(*) from avtryck.partner_id";
    assert_eq!(collector.number(links).await, 0);
}
