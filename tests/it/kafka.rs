//! Kafka beside Postgres: each hit is one message, whatever is killed, and no other reader gets
//! more than Postgres does.

use std::collections::BTreeSet;

use avtryck::loader::sink::kafka::{VACANT_AGE, clear_vacant};
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
    let headers = broker.headers("avtryck.hit").await;
    assert_eq!(headers, vec!["schema:1,kind:event,site:open"; all as usize]);
}

#[tokio::test]
async fn what_processes_gave_to_postgres_before_kafka_was_first_reached_reaches_kafka_later() {
    let Some(mut broker) = Broker::start().await else {
        return;
    };
    broker.kill().await;
    let rows = "select count(*) from avtryck.hit";
    // A shard that nothing was written to gets another ID at each start.
    let mut collector = Collector::start(producing(&broker).set("http.threads", 3)).await;
    let mut all = 0;
    for process in 0..3 {
        for hit in 0..2 {
            let target = format!("/p.gif?site=open&e=hit-{process}-{hit}");
            assert_eq!(collector.get(&target, &[]).await.status, 200);
            all += 1;
        }
        collector.wait_for(rows, all).await;
        collector = Collector::start_in(collector.kill().await).await;
    }
    broker.resume().await;
    until_produced(&collector).await;
    let is_all = |messages: &[_]| messages.len() as i64 >= all;
    let messages = broker.documents_until("avtryck.hit", is_all).await;
    assert_eq!(messages.len() as i64, all, "{messages:?}");
    // Without [kafka] nothing is kept for it, so it begins where Postgres is then.
    let dir = collector.kill().await;
    assert!(dir.path().join("spool/kafka").exists());
    let with = Config::read(dir.path());
    let without = with.clone().set("loader.sink", vec!["postgres".to_owned()]);
    without.write_as_it_is(dir.path());
    let collector = Collector::start_in(dir).await;
    let (status, dir, _) = collector.stop().await;
    assert!(status.success());
    assert!(!dir.path().join("spool/kafka").exists());
}

#[tokio::test]
async fn a_producer_that_stood_still_for_longer_than_its_transaction_may_take_goes_on() {
    const HITS: usize = 600;
    let Some(mut broker) = Broker::start().await else {
        return;
    };
    broker.kill().await;
    let config = producing(&broker)
        .set("http.threads", 1)
        // Many transactions, so that it is stopped within one.
        .set("loader.batch_rows", 1)
        .with("[kafka.client]\n\"transaction.timeout.ms\" = \"2000\"");
    let collector = Collector::start(config).await;
    for hit in 0..HITS {
        let target = format!("/p.gif?site=open&e=hit-{hit}");
        assert_eq!(collector.get(&target, &[]).await.status, 200);
    }
    broker.resume().await;
    until(async || collector.metric("avtryck_kafka_messages_total").await > 5.0).await;
    let before = collector.metric("avtryck_kafka_errors_total").await;
    let mut waits = true;
    while waits && collector.metric("avtryck_kafka_errors_total").await == before {
        collector.signal("STOP");
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        collector.signal("CONT");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        waits = collector.metric("avtryck_kafka_backlog_bytes").await > 0.0;
    }
    until_produced(&collector).await;
    assert_eq!(collector.metric("avtryck_kafka_fenced").await, 0.0);
    assert!(collector.metric("avtryck_kafka_errors_total").await > before);
    let is_all = |messages: &[_]| messages.len() >= HITS;
    let messages = broker.documents_until("avtryck.hit", is_all).await;
    let names = messages
        .iter()
        .map(|message| message["event_name"].as_str());
    let names: BTreeSet<&str> = names.map(Option::unwrap).collect();
    assert_eq!((messages.len(), names.len()), (HITS, HITS), "each once");
}

#[tokio::test]
async fn a_producer_whose_transaction_kafka_ended_knows_that_nobody_else_has_its_spool() {
    const ROUNDS: usize = 3;
    let Some(broker) = Broker::start().await else {
        return;
    };
    let collector = Collector::start(producing(&broker).set("http.threads", 1)).await;
    until_produced(&collector).await;
    let id = std::fs::read_to_string(collector.dir.path().join("spool/id")).unwrap();
    let transactional_id = format!("avtryck-{}", id.trim());
    for round in 0..ROUNDS {
        broker.supersede(&transactional_id).await;
        let target = format!("/p.gif?site=open&e=hit-{round}");
        assert_eq!(collector.get(&target, &[]).await.status, 200);
        let errors = (round + 1) as f64;
        until(async || collector.metric("avtryck_kafka_errors_total").await >= errors).await;
        until_produced(&collector).await;
    }
    assert_eq!(collector.metric("avtryck_kafka_fenced").await, 0.0);
    let is_all = |messages: &[_]| messages.len() >= ROUNDS;
    let messages = broker.documents_until("avtryck.hit", is_all).await;
    assert_eq!(messages.len(), ROUNDS, "each once");
    let (_, _dir, log) = collector.stop().await;
    assert_eq!(
        log.matches("this process still has the spool").count(),
        ROUNDS,
        "{log}"
    );
}

/// The keys of the topic of positions that mean something, and of how many spools they are.
async fn positions(broker: &Broker) -> (BTreeSet<Vec<u8>>, usize) {
    let mut keys = BTreeSet::new();
    for (key, value) in broker.records("avtryck.position", 10_000).await {
        match value.as_str() {
            "null" => keys.remove(&key),
            _ => keys.insert(key),
        };
    }
    let spools: BTreeSet<&[u8]> = keys.iter().map(|key| &key[..32]).collect();
    let spools = spools.len();
    (keys, spools)
}

#[tokio::test]
async fn what_empty_spools_leave_in_kafka_goes_and_a_spool_that_is_in_use_loses_nothing() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let mut collector = Collector::start(producing(&broker).set("http.threads", 3)).await;
    let of_spools = "select count(*) from avtryck.spool_position";
    // Three shards that nothing is written to, under other IDs each time.
    for _ in 0..3 {
        until_produced(&collector).await;
        assert_eq!(collector.number(of_spools).await, 0, "Postgres has none");
        let (_, dir, _) = collector.stop().await;
        collector = Collector::start_in(dir).await;
    }
    until_produced(&collector).await;
    assert_eq!(positions(&broker).await.1, 12);
    let text = std::fs::read_to_string(collector.dir.path().join("avtryck.toml")).unwrap();
    let config = avtryck::config::Config::parse(&text, []).unwrap();
    let config = std::sync::Arc::new(config.kafka);
    let clear = async |age| clear_vacant(&config, BTreeSet::new(), age).await;
    assert_eq!(clear(VACANT_AGE).await.unwrap(), 0);
    assert_eq!(positions(&broker).await.1, 12);
    // As a collector would whose clock has jumped: those in use are taken for vacant, too.
    let cleared = clear(std::time::Duration::ZERO).await.unwrap();
    assert_eq!(cleared, 12);
    assert_eq!(positions(&broker).await, (BTreeSet::new(), 0));
    assert_eq!(clear(std::time::Duration::ZERO).await.unwrap(), 0);
    for hit in 0..30 {
        let target = format!("/p.gif?site=open&e=hit-{hit}");
        assert_eq!(collector.get(&target, &[]).await.status, 200);
    }
    until_produced(&collector).await;
    let (keys, _) = positions(&broker).await;
    assert!(!keys.is_empty());
    // What was produced stays known, whatever the clock shows.
    let used = BTreeSet::from_iter(used_spools(&collector));
    assert!(!used.is_empty());
    clear(std::time::Duration::ZERO).await.unwrap();
    let (keys, _) = positions(&broker).await;
    let left: BTreeSet<String> = keys
        .iter()
        .map(|key| String::from_utf8_lossy(&key[..32]).into_owned())
        .collect();
    assert!(used.is_subset(&left), "{used:?} {left:?}");
    let collector = Collector::start_in(collector.kill().await).await;
    for hit in 30..60 {
        let target = format!("/p.gif?site=open&e=hit-{hit}");
        assert_eq!(collector.get(&target, &[]).await.status, 200);
    }
    until_produced(&collector).await;
    assert_eq!(collector.metric("avtryck_kafka_fenced").await, 0.0);
    let is_all = |messages: &[_]| messages.len() >= 60;
    let messages = broker.documents_until("avtryck.hit", is_all).await;
    let names = messages
        .iter()
        .map(|message| message["event_name"].as_str());
    let names: BTreeSet<&str> = names.map(Option::unwrap).collect();
    assert_eq!((messages.len(), names.len()), (60, 60), "each once");
}

/// The IDs of those spools of a collector that have a chunk.
fn used_spools(collector: &Collector) -> Vec<String> {
    let spool = collector.dir.path().join("spool");
    let shards = [spool.clone(), spool.join("shard/1"), spool.join("shard/2")];
    let has_chunk = |dir: &std::path::PathBuf| {
        let mut files = std::fs::read_dir(dir).unwrap();
        files.any(|file| {
            file.unwrap()
                .path()
                .extension()
                .is_some_and(|of| of == "chunk")
        })
    };
    let used = shards.iter().filter(|dir| has_chunk(dir));
    let id = |dir: &std::path::PathBuf| std::fs::read_to_string(dir.join("id")).unwrap();
    used.map(|dir| id(dir).trim().to_owned()).collect()
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
    let collector = Collector::start(producing(&broker).set("http.threads", 2)).await;
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
    let expected = "retention.ms = 604800000 and segment.ms = 86400000: it would keep hits for longer than privacy.retention";
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
    collector.until_metric("avtryck_kafka_fenced", 1.0).await;
    // Nothing waits for a producer that has ended, whatever comes.
    let backlog = "avtryck_kafka_backlog_bytes";
    collector.until_metric(backlog, 0.0).await;
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
