//! Event IDs that a stranger uses first, and keys of dimension rows that one would like to choose.

use crate::ads::sites;
use crate::support::{Collector, Config, until};

const ROWS: &str = "select count(*) from avtryck.hit";
const CONFLICTS: &str = "select count(*) from avtryck.hit \
    left join avtryck.hit_detail using (hit_id) where hit.flags & 2097152 <> 0";
const NET: &str = "select count(*) from avtryck.hit \
    where avtryck.is_counted(flags) and avtryck.is_valid(flags)";
const REPEATED: &str = "avtryck_loader_repeated_total";

fn config() -> Config {
    let partner = r#"
        [[partner]]
        key = "plain"
        token = "0123456789abcdef"
        site = "open"
        default_permit = ["store", "measure"]
    "#;
    sites().with(partner)
}

/// A request: its target, headers and body; without a body it is a GET.
#[derive(Clone)]
struct Sent {
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
}

fn pixel(target: &str) -> Sent {
    Sent {
        target: target.to_owned(),
        headers: Vec::new(),
        body: None,
    }
}

fn event(body: &str) -> Sent {
    Sent {
        body: Some(body.to_owned()),
        ..pixel("/e")
    }
}

impl Sent {
    fn with(mut self, name: &'static str, value: &str) -> Sent {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends it, and returns the cookie of the reply.
    async fn send(&self, collector: &Collector) -> String {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let reply = match &self.body {
            Some(body) => collector.post(&self.target, &headers, body).await,
            None => collector.get(&self.target, &headers).await,
        };
        let is_taken = [200, 204, 302].contains(&reply.status);
        assert!(is_taken, "{}: {reply:?}", self.target);
        let cookie = reply.cookie().split(';').next();
        cookie.unwrap_or_default().to_owned()
    }
}

/// Pairs of a request and what may follow where no reply came; all of them have IDs of their own.
fn retries() -> Vec<(Sent, Sent)> {
    let order = |id: &str, more: &str| {
        pixel(&format!(
            "/p.gif?site=open&e=conversion&id={id}&value=899&currency=SEK{more}"
        ))
    };
    let json = |id: &str, more: &str| {
        event(&format!(
            r#"{{"site":"open","e":"conversion","id":"{id}","u":"https://www.open.example/thanks"{more}}}"#
        ))
    };
    let page = "&u=https%3A%2F%2Fwww.open.example%2Fthanks";
    let callback = |id: &str, more: &str| {
        pixel(&format!(
            "/cb/plain?token=0123456789abcdef&ev=conversion&id={id}&value=899{more}"
        ))
    };
    vec![
        (order("same", ""), order("same", "")),
        (
            order("buster", "&cb=1"),
            order("buster", "&cb=2&_=17&rnd=0.5"),
        ),
        (
            order("agent", "").with("Referer", "https://www.open.example/a"),
            order("agent", "")
                .with("Referer", "https://www.open.example/")
                .with("Sec-CH-UA-Platform", "\"iOS\"")
                .with("X-Forwarded-For", "2.64.0.9"),
        ),
        (
            json("beacon", r#","value":899,"big":1e2,"list":[1,2]"#),
            pixel(&format!(
                "/p.gif?site=open&e=conversion&id=beacon&big=1e2&value=899&list=%5B1%2C2%5D{page}"
            )),
        ),
        (
            json("rescued", r#","params":{"value":899,"text":"long"}"#),
            pixel(
                "/p.gif?json=%7B%22truncated%22%3A1%2C%22site%22%3A%22open%22%2C%22e%22%3A%22conversion%22%2C%22id%22%3A%22rescued%22%2C%22u%22%3A%22https%3A%2F%2Fwww.open.example%2Fthanks%22%2C%22params%22%3A%7B%22value%22%3A899%7D%7D",
            ),
        ),
        (
            json(
                "queued",
                r#","avclid":"AAAAAAAAAAAAAAAAAAAAAA","ref":"https://a.example/""#,
            ),
            json("queued", r#","ref":"","ch":{"model":"SM-S918B"}"#),
        ),
        (
            order("scheme", "&u=http%3A%2F%2Fwww.open.example%2Fa%3Fb%3Dc"),
            order(
                "scheme",
                "&u=https%3A%2F%2Fwww.open.example%2Fa%3Fb%3Dc%23top",
            ),
        ),
        (
            order("consent", page),
            order("consent", page).with("Cookie", "avchoice=measure"),
        ),
        (
            callback("server", ""),
            callback("server", "&retry=1&sent_at=5"),
        ),
    ]
}

#[tokio::test]
async fn what_is_sent_again_is_stored_once_whatever_a_sender_changes() {
    let collector = Collector::start(config()).await;
    let retries = retries();
    for (first, retry) in &retries {
        let cookie = first.send(&collector).await;
        retry.send(&collector).await;
        // The first reply arrived, and with it the cookie.
        if !cookie.is_empty() && retry.headers.is_empty() {
            retry.clone().with("Cookie", &cookie).send(&collector).await;
        } else {
            retry.send(&collector).await;
        }
    }
    let number = retries.len();
    collector.until_metric(REPEATED, 2.0 * number as f64).await;
    assert_eq!(collector.number(ROWS).await, number as i64);
    assert_eq!(collector.number(CONFLICTS).await, 0);
}

#[tokio::test]
async fn an_id_that_a_stranger_used_first_costs_no_hit_and_gives_no_figure() {
    let collector = Collector::start(config()).await;
    let order = |id: u32, more: &str| {
        pixel(&format!(
            "/p.gif?site=open&e=conversion&id=order-{id}{more}"
        ))
    };
    let honest = "&value=899&u=https%3A%2F%2Fwww.open.example%2Fthanks";
    let burnt = [
        "",
        "&value=1",
        "&value=8990&u=https%3A%2F%2Fwww.open.example%2Fthanks",
        "&value=899&u=https%3A%2F%2Fwww.open.example%2Fother",
        "&value=899&campaign=x&u=https%3A%2F%2Fwww.open.example%2Fthanks",
        "&value=899&cat=x&u=https%3A%2F%2Fwww.open.example%2Fthanks",
        "&value=1&avclid=AAAAAAAAAAAAAAAAAAAAAA&uid=1&truncated=1",
    ];
    for (id, first) in (1..).zip(burnt) {
        order(id, first).send(&collector).await;
        let honest = order(id, honest);
        let cookie = honest.send(&collector).await;
        honest.with("Cookie", &cookie).send(&collector).await;
        order(id, first).send(&collector).await;
    }
    let number = burnt.len() as i64;
    collector.until_metric(REPEATED, 2.0 * number as f64).await;
    assert_eq!(collector.number(ROWS).await, 2 * number);
    let whole = format!(
        "{CONFLICTS} and hit.params->>'value' = '899' and site_category is null and campaign is null \
         and hit.page_url = 'https://www.open.example/thanks'"
    );
    assert_eq!(collector.number(&whole).await, number);
    assert_eq!(collector.number(NET).await, number);
    let flagged = "avtryck_loader_flagged_total{flag=\"id_conflict\"}";
    assert!((collector.metric(flagged).await - number as f64).abs() < 0.5);
}

#[tokio::test]
async fn another_visitor_who_sends_the_same_id_is_no_retry() {
    let collector = Collector::start(config()).await;
    let mut cookies = Vec::new();
    for _ in 0..3 {
        cookies.push(pixel("/p.gif?site=open").send(&collector).await);
    }
    let order = pixel("/p.gif?site=open&e=conversion&id=order-1&value=1");
    for _ in 0..2 {
        for cookie in &cookies {
            order.clone().with("Cookie", cookie).send(&collector).await;
        }
    }
    collector.until_metric(REPEATED, 3.0).await;
    assert_eq!(collector.number(CONFLICTS).await, 2);
    assert_eq!(collector.number(NET).await, 3 + 1);
}

#[tokio::test]
async fn hits_that_do_not_count_use_up_no_id() {
    let limit = "limit = { hits_per_second = 1, burst = 1 }";
    let collector = Collector::start(config().with(limit)).await;
    let from = |address: &str, sent: Sent| sent.with("X-Forwarded-For", address);
    let order = |more: &str| {
        pixel(&format!(
            "/p.gif?site=open&e=conversion&id=order-1&value=899{more}"
        ))
    };
    // More than its limit, from one address; but for the first, each is the same event.
    let same = r#"{"site":"open","e":"conversion","id":"order-1","value":899}"#;
    let flood = format!(r#"[{{"site":"open","e":"other"}},{same},{same},{same}]"#);
    from("2.64.0.1", event(&flood)).send(&collector).await;
    let macros = from("2.64.0.2", order("&more=%24%7BMORE%7D"));
    macros.send(&collector).await;
    let ahead = from("2.64.0.3", order("")).with("Sec-Purpose", "prefetch");
    ahead.send(&collector).await;
    // No row comes of it at all.
    let shut = "/p.gif?site=shut&e=conversion&id=order-1&value=899";
    from("2.64.0.4", pixel(shut)).send(&collector).await;
    collector
        .wait_for(
            "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count",
            1,
        )
        .await;
    collector
        .wait_for(&format!("{ROWS} where not avtryck.is_valid(flags)"), 1)
        .await;
    let honest = from("2.64.0.5", order(""));
    honest.send(&collector).await;
    let net = format!("{NET} and event_id = 'order-1'");
    collector.wait_for(&net, 1).await;
    // Now it is known, and what does not count is left out as well.
    let repeated = collector.metric(REPEATED).await;
    honest.send(&collector).await;
    from("2.64.0.6", order("&more=%24%7BMORE%7D"))
        .send(&collector)
        .await;
    collector.until_metric(REPEATED, repeated + 2.0).await;
    assert_eq!(collector.number(&net).await, 1);
    assert_eq!(collector.number(CONFLICTS).await, 0);
}

#[tokio::test]
async fn impressions_whose_id_belongs_to_another_are_no_exposures() {
    let collector = Collector::start(config()).await;
    let cookie = pixel("/p.gif?site=open").send(&collector).await;
    let ad = "/i.gif?site=open&partner=network&campaign=spring&creative=banner";
    for (more, exposures, conflicts) in [
        ("&id=1&size=a", 1, 0),
        ("&id=1&size=b", 1, 1),
        ("&id=2&size=b", 2, 1),
        ("&id=2&size=c&ev=impression", 2, 2),
    ] {
        let shown = pixel(&format!("{ad}{more}")).with("Cookie", &cookie);
        shown.send(&collector).await;
        collector
            .wait_for(&format!("{ROWS} where kind = 3"), exposures + conflicts)
            .await;
        let seen = "select sum(impressions)::bigint from avtryck.exposure_detail";
        assert_eq!(collector.number(seen).await, exposures, "{more}");
        assert_eq!(collector.number(CONFLICTS).await, conflicts, "{more}");
    }
    let last = "select exposure_number::bigint from avtryck.hit where kind = 3 order by received_at desc limit 1";
    assert_eq!(collector.number(last).await, 2);
}

#[tokio::test]
async fn one_content_has_one_key_whichever_process_loads_it() {
    let hit = pixel(
        "/i.gif?site=open&cat=news&partner=network&campaign=spring&creative=banner&placement=top",
    );
    let collector = Collector::start(config()).await;
    hit.send(&collector).await;
    collector.wait_for(ROWS, 1).await;
    let (status, dir, log) = collector.stop().await;
    assert!(status.success(), "{log}");
    let collector = Collector::start_in(dir).await;
    hit.send(&collector).await;
    collector.wait_for(ROWS, 2).await;
    for table in ["site", "ad", "device"] {
        let keys = format!("select count(distinct {table}_key) from avtryck.hit");
        assert_eq!(collector.number(&keys).await, 1, "{table}");
    }
    let keyed = "select count(*) from avtryck.ad where is_keyed";
    assert_eq!(collector.number(keyed).await, 2);
}

#[tokio::test]
async fn a_key_that_belongs_to_other_content_is_refused_and_the_hit_kept() {
    let collector = Collector::start(config()).await;
    let ad = "/i.gif?site=open&partner=network&campaign=spring&creative=banner";
    let shown = pixel(ad);
    let cookie = shown.send(&collector).await;
    collector.wait_for(ROWS, 1).await;
    let database = collector.database().await;
    let forge =
        "update avtryck.ad set campaign = 'forged'; update avtryck.site set site = 'forged'";
    database.batch_execute(forge).await.unwrap();
    let (status, dir, log) = collector.stop().await;
    assert!(status.success(), "{log}");
    let collector = Collector::start_in(dir).await;
    for hits in 2..4 {
        shown.clone().with("Cookie", &cookie).send(&collector).await;
        collector.wait_for(ROWS, hits).await;
    }
    let unknown = "select count(*) from avtryck.hit_detail where site is null and campaign is null";
    assert_eq!(collector.number(unknown).await, 2);
    let known = "select count(*) from avtryck.hit_detail where device_class = 'phone'";
    assert_eq!(collector.number(known).await, 3);
    // The ad and the creative are one row, because the ad has no placement.
    let refused = collector
        .metric("avtryck_loader_dimensions_refused_total")
        .await;
    assert!((refused - 2.0).abs() < 0.5, "{refused}");
    let seen = "select sum(impressions)::bigint from avtryck.exposure_detail";
    assert_eq!(collector.number(seen).await, 1);
}

#[tokio::test]
async fn a_collector_that_cannot_read_the_secret_loads_nothing() {
    let collector = Collector::start(config()).await;
    let hit = pixel("/p.gif?site=open");
    hit.send(&collector).await;
    collector.wait_for(ROWS, 1).await;
    let database = collector.database().await;
    let hide = "alter table avtryck.secret rename column value to hidden";
    database.batch_execute(hide).await.unwrap();
    let (status, dir, log) = collector.stop().await;
    assert!(status.success(), "{log}");
    let collector = Collector::start_in(dir).await;
    hit.send(&collector).await;
    until(async || collector.metric("avtryck_postgres_errors_total").await >= 2.0).await;
    assert_eq!(collector.number(ROWS).await, 1);
    let show = "alter table avtryck.secret rename column hidden to value";
    database.batch_execute(show).await.unwrap();
    collector.wait_for(ROWS, 2).await;
}
