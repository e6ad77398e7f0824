//! `avtryck load`: collectors without Postgres, a real broker, and one row for each hit, whatever
//! is killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use avtryck::hit::VisitorId;

use crate::privacy;
use crate::support::kafka::Broker;
use crate::support::{Collector, Config, Dir, IPHONE, PATIENCE, command, tempdir, until};
use crate::testing::TestDatabase;

/// The configuration that collectors and loaders share.
fn shared(broker: &Broker) -> Config {
    let brokers = vec![broker.address.to_string()];
    Config::sites()
        .set("kafka.brokers", brokers)
        .set("kafka.partitions", 4)
        // Nobody waits long for a member that was killed.
        // Nor for partitions that were added.
        .with("[kafka.client]\n\"session.timeout.ms\" = \"6000\"")
        .with("[kafka.client]\n\"topic.metadata.refresh.interval.ms\" = \"2000\"")
}

/// The same for several brokers.
fn shared_by_all(brokers: &[Broker]) -> Config {
    let addresses = brokers.iter().map(|broker| broker.address.to_string());
    shared(&brokers[0]).set("kafka.brokers", addresses.collect::<Vec<_>>())
}

/// The configuration of a collector that produces to Kafka alone.
fn alone(shared: Config) -> Config {
    shared
        .set("loader.sink", vec!["kafka".to_owned()])
        .set("http.threads", 1)
        .without_postgres()
}

async fn edge(broker: &Broker) -> Collector {
    Collector::start(alone(shared(broker))).await
}

/// A process that loads into a database.
async fn loader(broker: &Broker, database: &TestDatabase) -> Collector {
    let dir = tempdir();
    shared(broker).database_of(database).write(&dir).await;
    loader_in(dir).await
}

async fn loader_in(dir: Dir) -> Collector {
    Collector::start_by(command(&["load"]), dir).await
}

/// Waits until Kafka has all that is in the spool.
async fn until_produced(edge: &Collector) {
    until(async || {
        edge.metric("avtryck_kafka_connected").await == 1.0
            && edge.metric("avtryck_kafka_backlog_bytes").await == 0.0
    })
    .await;
}

const ROWS: &str = "select count(*) from avtryck.hit";

/// The names of what was loaded; each is there once.
async fn names(loader: &Collector) -> BTreeSet<String> {
    let rows = loader.rows("select event_name from avtryck.hit").await;
    let names: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names.len(), rows.len(), "each once");
    names
}

/// Numbers that look random, from a seed that a failure can be repeated with.
struct Dice(u64);

impl Dice {
    /// Any seed will do, 0 too.
    fn of(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[tokio::test]
async fn each_hit_of_two_edges_is_one_row_by_two_loaders_through_kills_of_any_of_them() {
    let Some(mut broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let mut edges = Vec::new();
    let mut loaders = Vec::new();
    for _ in 0..2 {
        edges.push(edge(&broker).await);
        loaders.push(loader(&broker, &database).await);
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut expected = BTreeSet::new();
    for round in 0..8 {
        for hit in 0..30 {
            let name = format!("hit-{round}-{hit}");
            let edge = &edges[hit % 2];
            let reply = edge.get(&format!("/p.gif?site=open&e={name}"), &[]).await;
            assert_eq!(reply.status, 200);
            expected.insert(name);
        }
        tokio::time::sleep(Duration::from_millis(dice.roll(400))).await;
        match (round == 4, dice.roll(2)) {
            (true, _) => {
                broker.kill().await;
                broker.resume().await;
            }
            (_, 0) => {
                let dir = edges.remove(0).kill().await;
                edges.push(Collector::start_in(dir).await);
            }
            _ => {
                let dir = loaders.remove(0).kill().await;
                loaders.push(loader_in(dir).await);
            }
        }
    }
    for edge in &edges {
        until_produced(edge).await;
    }
    loaders[0].wait_for(ROWS, expected.len() as i64).await;
    assert_eq!(names(&loaders[0]).await, expected);
    // Nothing comes after that either.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(loaders[0].number(ROWS).await, expected.len() as i64);
}

/// Withdraws, as the page of a site does.
async fn withdraw(edge: &Collector, cookie: &str) {
    let page = ("Origin", "https://www.open.example");
    let headers = [page, ("Sec-Fetch-Site", "same-site"), ("Cookie", cookie)];
    let withdrawn = edge.request("DELETE", "/consent?site=open", &headers, "");
    assert_eq!(withdrawn.await.status, 200);
}

async fn erase(edge: &Collector, cookie: &str) {
    let page = privacy::page(edge, &[("Cookie", cookie)]).await;
    let body = format!("token={}", privacy::token(&page));
    let erased = privacy::submit(edge, "erasure", cookie, &body).await;
    assert_eq!(erased.status, 303, "{}", erased.body);
}

async fn hit_of(edge: &Collector, cookie: &str) {
    let headers = [("Cookie", cookie)];
    let reply = edge.get("/p.gif?site=open&e=hit", &headers).await;
    assert_eq!(reply.status, 200);
}

/// What becomes of the same hits by the one way and the other. Counts are added up: a minute may
/// end between two hits of the one way and not between the same two of the other.
const OUTCOME: &str = "select coalesce(string_agg(line, chr(10) order by line), '') from (
    select jsonb_build_array(kind, site, site_category, event_name, event_id, partner, campaign, creative, country, city, asn,
        device_class, device_brand, os, browser, permit, consent_source, flags, exposure_number, page_url, referrer, maid, device_id,
        partner_uid, click_id, client_ip, params, protocol, page_domain)::text as line
    from avtryck.hit_detail
    union all
    select jsonb_build_array('count', kind, site, campaign, sum(hits))::text
    from avtryck.hit_count join avtryck.site on site.key = site_key left join avtryck.ad on ad.key = ad_key
    group by kind, site, campaign
    union all
    select jsonb_build_array('exposure', campaign, creative, impressions, clicks)::text from avtryck.exposure_detail
    union all
    select jsonb_build_array('partner_id', partner, partner_uid)::text from avtryck.partner_id
    union all
    select jsonb_build_array('edge', least(a_kind, b_kind), greatest(a_kind, b_kind), partner)::text from avtryck.link_edge
    union all
    select jsonb_build_array('permit', site, partner, permit)::text from avtryck.subject_permit_detail
) as all_of_it";

/// Hits of every kind: ads that are seen and clicked, an event that is sent twice, IDs that belong
/// together, hits that are only counted, one that refuses.
async fn send_each_kind(edge: &Collector) {
    let reply = edge.get("/id?site=open", &[]).await;
    let cookie = reply.cookie().to_owned();
    let maid = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
    let targets = [
        "/p.gif?site=open&u=https%3A%2F%2Fwww.open.example%2Fa&cat=news".to_owned(),
        "/i.gif?site=open&partner=network&campaign=spring&creative=one".to_owned(),
        "/i.gif?site=open&partner=network&campaign=spring&creative=one".to_owned(),
        "/p.gif?site=open&e=purchase&id=order-1&value=3".to_owned(),
        "/p.gif?site=open&e=purchase&id=order-1&value=3".to_owned(),
        "/p.gif?site=open&e=purchase&id=order-1&value=4".to_owned(),
        format!("/p.gif?site=open&e=app&maid={maid}&did=device-4711"),
        "/sync/network?site=open&uid=uid-4711-of-the-network".to_owned(),
        "/p.gif?site=shut&e=counted".to_owned(),
        "/p.gif?site=shut&e=counted".to_owned(),
        "/p.gif?site=rows-only&e=anonymous".to_owned(),
        format!("/p.gif?site=open&e=refused&maid={maid}&permit=store"),
    ];
    for target in targets {
        let reply = edge.get(&target, &[("Cookie", &cookie)]).await;
        assert!(reply.status < 400, "{target}: {}", reply.status);
        // The order of what is received is that of what is loaded.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

#[tokio::test]
async fn what_comes_by_kafka_is_what_a_collector_with_postgres_loads() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let direct = Collector::open().await;
    let database = TestDatabase::migrated().await;
    let (edge, loader) = (edge(&broker).await, loader(&broker, &database).await);
    send_each_kind(&direct).await;
    send_each_kind(&edge).await;
    until_produced(&edge).await;
    let outcome = async |collector: &Collector| -> String {
        let rows = collector.rows(OUTCOME).await;
        rows[0].get(0)
    };
    let last = "select count(*) from avtryck.hit where event_name = 'refused'";
    direct.wait_for(last, 1).await;
    loader.wait_for(last, 1).await;
    let expected = outcome(&direct).await;
    let started = Instant::now();
    while outcome(&loader).await != expected && started.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(outcome(&loader).await, expected);
    for part in [
        "\"count\"",
        "\"exposure\"",
        "\"partner_id\"",
        "\"edge\"",
        "\"permit\"",
    ] {
        assert!(expected.contains(part), "{part} is not in\n{expected}");
    }
    until(async || loader.metric("avtryck_loader_repeated_total").await >= 1.0).await;
}

fn visitor(cookie: &str) -> VisitorId {
    VisitorId(crate::consent::visitor_of(cookie))
}

#[tokio::test]
async fn a_withdrawal_and_an_erasure_overtake_the_hits_that_wait_in_kafka() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let (edge, first) = (edge(&broker).await, loader(&broker, &database).await);
    let mut cookies = Vec::new();
    for _ in 0..3 {
        let cookie = edge.get("/id?site=open", &[]).await.cookie().to_owned();
        let headers = [("Cookie", &*cookie)];
        assert_eq!(
            edge.get("/p.gif?site=open&e=first", &headers).await.status,
            200
        );
        cookies.push(cookie);
    }
    first.wait_for(ROWS, 3).await;
    let dir = first.kill().await;
    for cookie in &cookies {
        let headers = [("Cookie", &**cookie)];
        assert_eq!(
            edge.get("/p.gif?site=open&e=waits", &headers).await.status,
            200
        );
    }
    until_produced(&edge).await;
    let [anna, berta, carla] = &cookies[..] else {
        panic!("{cookies:?}")
    };
    withdraw(&edge, anna).await;
    erase(&edge, berta).await;
    until(async || edge.metric("avtryck_instruction_backlog_bytes").await == 0.0).await;

    let second = loader_in(dir).await;
    let of = |cookie: &str| {
        let id = visitor(cookie);
        format!("select count(*) from avtryck.hit where visitor_id = '{id}'")
    };
    second.wait_for(&of(carla), 2).await;
    second.wait_for(&of(berta), 0).await;
    second
        .wait_for("select count(*) from avtryck.erasure", 1)
        .await;
    // What was loaded before stays after a withdrawal, and what waited is a count.
    assert_eq!(second.number(&of(anna)).await, 1);
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    second.wait_for(counted, 2).await;
    let listed = "select count(*) from avtryck.suppression";
    assert_eq!(second.number(listed).await, 2);

    // What is asked on the command line reaches the collector without Postgres.
    let id = visitor(carla).to_string();
    let asked = command(&["subject", "erase", "--visitor", &id])
        .env("AVTRYCK_CONFIG", second.dir.path().join("avtryck.toml"))
        .output();
    assert!(asked.await.unwrap().status.success());
    until(async || broker.records("avtryck.instruction", 100).await.len() >= 3).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_set_aside_and_the_others_are_loaded() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let (edge, loader) = (edge(&broker).await, loader(&broker, &database).await);
    edge.get("/p.gif?site=open&e=before", &[]).await;
    loader.wait_for(ROWS, 1).await;
    broker
        .produce("avtryck.hit", &["poison", "more poison"])
        .await;
    broker.produce("avtryck.count", &["poison"]).await;
    edge.get("/p.gif?site=open&e=after", &[]).await;
    loader.wait_for(ROWS, 2).await;
    let set_aside = "select count(*) from avtryck.rejected_hit \
                     join avtryck.kafka_partition using (spool_id) where reason <> ''";
    loader.wait_for(set_aside, 3).await;
    assert!(loader.metric("avtryck_loader_rejected_total").await >= 3.0);
}

#[tokio::test]
async fn partitions_go_to_whoever_is_there_and_a_loader_that_was_frozen_stores_nothing_twice() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let edge = edge(&broker).await;
    let one = loader(&broker, &database).await;
    one.until_metric("avtryck_load_partitions", 8.0).await;
    assert_eq!(one.metric("avtryck_load_running").await, 1.0);
    let other = loader(&broker, &database).await;
    until(async || {
        let one = one.metric("avtryck_load_partitions").await;
        let other = other.metric("avtryck_load_partitions").await;
        one > 0.0 && other > 0.0 && one + other == 8.0
    })
    .await;
    let mut sent = 0;
    let mut send = async |hits| {
        for _ in 0..hits {
            let target = format!("/p.gif?site=open&e=hit-{sent}");
            assert_eq!(edge.get(&target, &[]).await.status, 200);
            sent += 1;
        }
        sent
    };
    let all = send(40).await;
    other.wait_for(ROWS, all).await;
    one.signal("STOP");
    let all = send(40).await;
    // The group gives its partitions to the other.
    other.until_metric("avtryck_load_partitions", 8.0).await;
    other.wait_for(ROWS, all).await;
    one.signal("CONT");
    let all = send(40).await;
    other.wait_for(ROWS, all).await;
    until(async || one.metric("avtryck_load_partitions").await > 0.0).await;
    let all = send(10).await;
    one.wait_for(ROWS, all).await;
    assert_eq!(names(&one).await.len() as i64, all);
}

#[tokio::test]
async fn a_restored_database_gets_what_it_lacks_from_kafka() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let (edge, loader) = (edge(&broker).await, loader(&broker, &database).await);
    for hit in 0..20 {
        edge.get(&format!("/p.gif?site=open&e=hit-{hit}"), &[])
            .await;
    }
    loader.wait_for(ROWS, 20).await;
    let (_, dir, _) = loader.stop().await;
    // As a backup from before the last hits would have it.
    let back = "create temp table offsets as select spool_id from avtryck.kafka_partition; \
                truncate avtryck.hit; \
                delete from avtryck.spool_position where spool_id in (select spool_id from offsets)";
    database.client.batch_execute(back).await.unwrap();
    let loader = loader_in(dir).await;
    loader.wait_for(ROWS, 20).await;
    assert_eq!(names(&loader).await.len(), 20);
}

#[tokio::test]
async fn what_a_collector_loads_itself_is_not_loaded_again_from_kafka() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let both = Collector::start(shared(&broker).database_of(&database)).await;
    for hit in 0..10 {
        both.get(&format!("/p.gif?site=open&e=hit-{hit}"), &[])
            .await;
    }
    both.get("/p.gif?site=shut&e=counted", &[]).await;
    both.wait_for(ROWS, 10).await;
    until_produced(&both).await;
    let (edge, loader) = (edge(&broker).await, loader(&broker, &database).await);
    edge.get("/p.gif?site=open&e=of-the-edge", &[]).await;
    loader.wait_for(ROWS, 11).await;
    until(async || loader.metric("avtryck_load_refused_total").await >= 11.0).await;
    assert_eq!(names(&loader).await.len(), 11);
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    assert_eq!(loader.number(counted).await, 1);
}

#[tokio::test]
async fn a_spool_keeps_the_way_that_it_was_begun_with() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let edge = edge(&broker).await;
    edge.get("/p.gif?site=open&e=first", &[]).await;
    until_produced(&edge).await;
    let (status, dir, _) = edge.stop().await;
    assert!(status.success());
    let both = Config::read(dir.path()).set("loader.sink", vec!["postgres".to_owned()]);
    both.write_as_it_is(dir.path());
    let refused = command(&["serve"])
        .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"))
        .output();
    let refused = refused.await.unwrap();
    let log = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(
        log.contains("loaded from Kafka by avtryck load, and loader.sink says otherwise"),
        "{log}"
    );
}

#[tokio::test]
async fn a_collector_without_postgres_whose_spool_was_copied_ends_and_says_so() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let first = edge(&broker).await;
    first.get("/p.gif?site=open&e=first", &[]).await;
    until_produced(&first).await;
    let dir = tempdir();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(first.dir.path().join("spool"))
        .arg(dir.path())
        .status();
    assert!(copied.unwrap().success());
    alone(shared(&broker)).write(&dir).await;
    let copy = Collector::start_in(dir).await;
    copy.get("/p.gif?site=open&e=of-the-copy", &[]).await;
    until_produced(&copy).await;
    first.get("/p.gif?site=open&e=too-late", &[]).await;
    let (status, _dir, log) = first.end().await;
    assert_eq!(status.code(), Some(69), "{log}");
    assert!(
        log.contains("another process has a copy of this spool"),
        "{log}"
    );
}

mod anew;
mod chaos;
mod cost;
mod households;
mod secured;
mod topics;
