//! Kafka beside Postgres: each hit is one message, whatever is killed, and no other reader gets
//! more than Postgres does.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::support::kafka::Broker;
use crate::support::{Collector, Config, tempdir, until};

/// A collector that produces JSON to a broker.
fn producing(broker: &Broker) -> Config {
    let brokers = vec![broker.address.to_string()];
    Config::sites()
        .set("kafka.brokers", brokers)
        .set("kafka.format", "json")
        .set("kafka.partitions", 2)
}

/// Waits until Kafka has all that is in the spool.
async fn until_produced(collector: &Collector) {
    until(async || {
        collector.metric("avtryck_kafka_connected").await == 1.0
            && collector.metric("avtryck_kafka_backlog_bytes").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn each_hit_is_one_message_through_kills_of_the_collector_and_of_the_broker() {
    const ROUNDS: usize = 4;
    const HITS: usize = 25;
    let Some(mut broker) = Broker::start().await else {
        return;
    };
    let mut collector = Collector::start(producing(&broker)).await;
    // It begins where Postgres was when it first reached Kafka.
    until_produced(&collector).await;
    for round in 0..ROUNDS {
        for hit in 0..HITS {
            let target = format!("/p.gif?site=open&e=hit-{round}-{hit}");
            assert_eq!(collector.get(&target, &[]).await.status, 200);
            let is_half = hit == HITS / 2;
            if is_half && round == 1 {
                broker.kill().await;
            }
            // A transaction may be anywhere.
            if is_half || hit == HITS - 1 {
                let dir = collector.kill().await;
                collector = Collector::start_in(dir).await;
            }
        }
        if round == 2 {
            broker.resume().await;
        }
    }
    let all = (ROUNDS * HITS) as i64;
    let rows = "select count(*) from avtryck.hit";
    collector.wait_for(rows, all).await;
    until_produced(&collector).await;
    let messages = broker.documents("avtryck.hit", 1000).await;
    let ids: Vec<String> = messages
        .iter()
        .map(|message| message["hit_id"].as_str().unwrap().to_owned())
        .collect();
    let stored = collector.rows("select hit_id::text from avtryck.hit").await;
    let stored: BTreeSet<String> = stored.iter().map(|row| row.get(0)).collect();
    assert_eq!(ids.len() as i64, all, "each once");
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), stored);
    assert_eq!(messages[0]["client_ip"], "2.64.0.0/24");
    assert_eq!(messages[0]["place"]["country"], "SE");
    assert_eq!(messages[0]["device"]["brand"], "Apple");
    assert!(
        messages
            .iter()
            .all(|message| message.get("user_agent").is_none())
    );
}

/// The cookie of a new visitor, of whom there is a hit.
async fn new_visitor(collector: &Collector) -> String {
    let reply = collector.get("/id?site=open", &[]).await;
    let cookie = reply.cookie().to_owned();
    hit(collector, &cookie, "first").await;
    cookie
}

async fn hit(collector: &Collector, cookie: &str, name: &str) {
    let target = format!("/p.gif?site=open&e={name}");
    let reply = collector.get(&target, &[("Cookie", cookie)]).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_withdrawal_overtakes_what_waits_for_a_broker_and_postgres_does_not_wait() {
    let Some(mut broker) = Broker::start().await else {
        return;
    };
    // A shard without hits so far would begin where Postgres is once the broker is there.
    let collector = Collector::start(producing(&broker).set("http.threads", 1)).await;
    let [anna, berta, carla] = [
        new_visitor(&collector).await,
        new_visitor(&collector).await,
        new_visitor(&collector).await,
    ];
    until_produced(&collector).await;
    broker.kill().await;
    // A new session cannot begin, so all that follows waits.
    let collector = Collector::start_in(collector.kill().await).await;
    for name in ["one", "two", "three"] {
        for cookie in [&anna, &berta, &carla] {
            hit(&collector, cookie, name).await;
        }
    }
    // Postgres has everything meanwhile.
    collector
        .wait_for("select count(*) from avtryck.hit", 12)
        .await;
    assert!(collector.metric("avtryck_kafka_backlog_bytes").await > 0.0);
    let ready = collector.admin("/readyz").await;
    assert!(ready.body.contains("kafka: not reached"), "{}", ready.body);
    let page = ("Origin", "https://www.open.example");
    let headers = [page, ("Sec-Fetch-Site", "same-site"), ("Cookie", &*anna)];
    let reply = collector
        .request("DELETE", "/consent?site=open", &headers, "")
        .await;
    assert_eq!(reply.status, 200);
    let visitor = |cookie: &str| {
        let visitor = crate::consent::visitor_of(cookie);
        avtryck::hit::VisitorId(visitor).to_string()
    };
    // What is asked on the command line reaches Kafka by way of Postgres.
    let dir = collector.kill().await;
    let erased = crate::support::command(&["subject", "erase", "--visitor", &visitor(&carla)])
        .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"))
        .output()
        .await
        .unwrap();
    assert!(erased.status.success(), "{erased:?}");
    let collector = Collector::start_in(dir).await;
    collector
        .until_metric("avtryck_instruction_backlog_bytes", 0.0)
        .await;
    broker.resume().await;
    until_produced(&collector).await;

    let is_all = |messages: &[_]| messages.len() >= 6;
    let messages = broker.documents_until("avtryck.hit", is_all).await;
    let of = |cookie: &str| {
        let id = visitor(cookie);
        let of = messages
            .iter()
            .filter(|message| message["visitor_id"] == *id);
        of.map(|message| message["event_name"].as_str().unwrap())
            .collect::<BTreeSet<_>>()
    };
    // The first hits were there before.
    assert_eq!(of(&anna), ["first"].into());
    assert_eq!(of(&carla), ["first"].into());
    let all = ["first", "one", "two", "three"];
    if of(&berta) != all.into() {
        let (_, _dir, log) = collector.stop().await;
        panic!("{:?} of {all:?}: {messages:?}\n{log}", of(&berta));
    }
    let sum = |counts: &[Json]| -> i64 {
        let hits = counts.iter().map(|count| count["hits"].as_i64());
        hits.map(Option::unwrap).sum()
    };
    let counts = broker
        .documents_until("avtryck.count", |counts| sum(counts) >= 6)
        .await;
    assert_eq!(sum(&counts), 6, "{counts:?}");
    let instructions = broker.records("avtryck.instruction", 1000).await;
    let mut instructions: Vec<String> = instructions.into_iter().map(|(_, said)| said).collect();
    instructions.sort();
    assert_eq!(instructions, ["erasure", "withdrawal"]);
}

#[tokio::test]
async fn a_topic_that_keeps_hits_for_longer_than_postgres_gets_none() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let collector = Collector::start(producing(&broker)).await;
    collector.get("/p.gif?site=open&e=first", &[]).await;
    until_produced(&collector).await;
    let (_, dir, _) = collector.stop().await;
    let shorter = Config::read(dir.path()).set("privacy.retention", "2d");
    shorter.write_as_it_is(dir.path());
    let collector = Collector::start_in(dir).await;
    collector.get("/p.gif?site=open&e=second", &[]).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 2)
        .await;
    until(async || collector.metric("avtryck_kafka_errors_total").await > 0.0).await;
    let (_, _dir, log) = collector.stop().await;
    let expected = "retention.ms = 604800000: it would keep hits for longer than privacy.retention";
    assert!(log.contains(expected), "{log}");
    assert_eq!(broker.records("avtryck.hit", 1000).await.len(), 1);
}

#[tokio::test]
async fn a_producer_whose_spool_was_copied_ends_when_the_copy_begins() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let config = producing(&broker).set("http.threads", 1);
    let collector = Collector::start(config.clone()).await;
    collector.get("/p.gif?site=open&e=first", &[]).await;
    until_produced(&collector).await;
    let dir = tempdir();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(collector.dir.path().join("spool"))
        .arg(dir.path())
        .status();
    assert!(copied.unwrap().success());
    config.without_postgres().write(&dir).await;
    let copy = Collector::start_in(dir).await;
    copy.get("/p.gif?site=open&e=of-the-copy", &[]).await;
    until_produced(&copy).await;
    collector.get("/p.gif?site=open&e=too-late", &[]).await;
    collector.until_metric("avtryck_kafka_connected", 0.0).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 2)
        .await;
    let (status, _dir, log) = collector.stop().await;
    assert!(status.success());
    assert!(log.contains("no more hits go to Kafka from here"), "{log}");
    let names: BTreeSet<String> = broker
        .documents("avtryck.hit", 1000)
        .await
        .iter()
        .map(|message| message["event_name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["first", "of-the-copy"].map(str::to_owned).into());
}
