//! Brokers that go away while messages are loaded, and topics that are deleted and made anew.

use super::*;

/// How topics of hits and of instructions have to be.
const OF_HITS: &[&str] = &["cleanup.policy=delete", "retention.ms=604800000"];
const OF_STATE: &[&str] = &["cleanup.policy=compact"];

async fn send(edge: &Collector, names: impl IntoIterator<Item = String>) {
    for name in names {
        let target = format!("/p.gif?site=open&e={name}");
        assert_eq!(edge.get(&target, &[]).await.status, 200);
    }
    until_produced(edge).await;
}

#[tokio::test]
async fn a_loader_says_that_brokers_are_away_and_that_they_are_back() {
    let Some(mut broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let (edge, loader) = (edge(&broker).await, loader(&broker, &database).await);
    send(&edge, ["first".to_owned()]).await;
    loader.wait_for(ROWS, 1).await;
    let says = async |what: &str| loader.admin("/readyz").await.body.contains(what);
    until(async || says("loading from Kafka into Postgres").await).await;
    broker.kill().await;
    until(async || says("kafka: not reached").await).await;
    assert_eq!(loader.metric("avtryck_load_connected").await, 0.0);
    assert!(!says("loading from Kafka").await);
    broker.resume().await;
    until(async || says("loading from Kafka into Postgres").await).await;
    send(&edge, ["second".to_owned()]).await;
    loader.wait_for(ROWS, 2).await;
    assert_eq!(loader.metric("avtryck_load_connected").await, 1.0);
    let (_, _dir, log) = loader.stop().await;
    assert!(
        log.contains("Kafka is not reached, hits wait there"),
        "{log}"
    );
    assert!(log.contains("Kafka is reached again"), "{log}");
}

/// What the runbook says to do about a topic of hits that was made anew.
const FORGET: &str = "delete from avtryck.spool_position where spool_id in \
                      (select spool_id from avtryck.kafka_partition where topic = 'avtryck.hit')";

#[tokio::test]
async fn a_topic_of_hits_that_was_made_anew_is_not_passed_over() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let of_edge = edge(&broker).await;
    let of_loader = loader(&broker, &database).await;
    send(&of_edge, (0..20).map(|hit| format!("old-{hit}"))).await;
    of_loader.wait_for(ROWS, 20).await;
    // Once while it loads, and once while nobody does and the new topic grows longer than the old.
    let (_, of_edge, _) = of_edge.stop().await;
    broker.make_anew("avtryck.hit", 4, OF_HITS).await;
    let of_edge = Collector::start_in(of_edge).await;
    send(&of_edge, (0..2).map(|hit| format!("new-{hit}"))).await;
    until(async || of_loader.metric("avtryck_postgres_errors_total").await > 0.0).await;
    let (_, of_loader, log) = of_loader.stop().await;
    assert!(log.contains("the topic was made anew"), "{log}");
    send(&of_edge, (2..80).map(|hit| format!("new-{hit}"))).await;
    let of_loader = loader_in(of_loader).await;
    until(async || of_loader.metric("avtryck_postgres_errors_total").await > 0.0).await;
    assert_eq!(of_loader.number(ROWS).await, 20);
    let (_, of_loader, log) = of_loader.stop().await;
    assert!(log.contains("the topic was made anew"), "{log}");
    // Somebody who has read the runbook.
    database.client.batch_execute(FORGET).await.unwrap();
    let of_loader = loader_in(of_loader).await;
    of_loader.wait_for(ROWS, 100).await;
    assert_eq!(names(&of_loader).await.len(), 100);
}

#[tokio::test]
async fn instructions_of_a_topic_that_was_made_anew_are_carried_out_from_its_beginning() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let (of_edge, of_loader) = (edge(&broker).await, loader(&broker, &database).await);
    let mut cookies = Vec::new();
    for _ in 0..10 {
        let reply = of_edge.get("/id?site=open", &[]).await;
        let cookie = reply.cookie().to_owned();
        hit_of(&of_edge, &cookie).await;
        cookies.push(cookie);
    }
    of_loader.wait_for(ROWS, 10).await;
    let listed = "select count(*) from avtryck.suppression";
    let erasures = "select count(*) from avtryck.erasure";
    for (number, cookie) in cookies[..3].iter().enumerate() {
        withdraw(&of_edge, cookie).await;
        of_loader.wait_for(listed, number as i64 + 1).await;
    }
    let moved = "select count(*) from avtryck.spool_position \
                 where byte_offset >= 3 and spool_id not in (select spool_id from avtryck.kafka_partition)";
    of_loader.wait_for(moved, 1).await;
    // The new topic ends before the position. One comes before the loader, and one while it runs.
    let (_, dir_of_edge, _) = of_edge.stop().await;
    let (_, dir_of_loader, _) = of_loader.stop().await;
    broker.make_anew("avtryck.instruction", 1, OF_STATE).await;
    let of_edge = Collector::start_in(dir_of_edge).await;
    withdraw(&of_edge, &cookies[3]).await;
    until(async || has_instructions(&broker, 1).await).await;
    let of_loader = loader_in(dir_of_loader).await;
    of_loader.wait_for(listed, 4).await;
    erase(&of_edge, &cookies[4]).await;
    of_loader.wait_for(erasures, 1).await;
    of_loader.wait_for(ROWS, 9).await;
    // The next one ends after the position: what Postgres lacks lies before it.
    let (_, dir_of_edge, _) = of_edge.stop().await;
    let (_, dir_of_loader, log) = of_loader.stop().await;
    let expected = "the topic of instructions was made anew: it ends at";
    assert!(log.contains(expected), "{log}");
    broker.make_anew("avtryck.instruction", 1, OF_STATE).await;
    let of_edge = Collector::start_in(dir_of_edge).await;
    erase(&of_edge, &cookies[5]).await;
    until(async || has_instructions(&broker, 1).await).await;
    for (number, cookie) in cookies[6..].iter().enumerate() {
        withdraw(&of_edge, cookie).await;
        until(async || has_instructions(&broker, number + 2).await).await;
    }
    let of_loader = loader_in(dir_of_loader).await;
    of_loader.wait_for(listed, 10).await;
    of_loader.wait_for(erasures, 2).await;
    of_loader.wait_for(ROWS, 8).await;
    // Everybody has asked by now.
    for cookie in &cookies {
        hit_of(&of_edge, cookie).await;
    }
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    of_loader.wait_for(counted, 10).await;
    assert_eq!(of_loader.number(ROWS).await, 8);
    let (_, _dir, log) = of_loader.stop().await;
    assert!(!log.contains(expected), "{log}");
    let expected = "although its position lies";
    assert!(log.contains(expected), "{log}");
}

async fn has_instructions(broker: &Broker, records: usize) -> bool {
    broker.records("avtryck.instruction", 20).await.len() >= records
}

#[tokio::test]
async fn a_topic_of_instructions_that_is_made_anew_and_grows_within_one_session_is_read_whole() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let (of_edge, of_loader) = (edge(&broker).await, loader(&broker, &database).await);
    let mut cookies = Vec::new();
    for _ in 0..8 {
        let reply = of_edge.get("/id?site=open", &[]).await;
        let cookie = reply.cookie().to_owned();
        hit_of(&of_edge, &cookie).await;
        cookies.push(cookie);
    }
    of_loader.wait_for(ROWS, 8).await;
    let listed = "select count(*) from avtryck.suppression";
    withdraw(&of_edge, &cookies[0]).await;
    of_loader.wait_for(listed, 1).await;
    // It reads on where it was, in a topic that is longer than the one before.
    of_loader.signal("STOP");
    let (_, dir_of_edge, _) = of_edge.stop().await;
    broker.make_anew("avtryck.instruction", 1, OF_STATE).await;
    let of_edge = Collector::start_in(dir_of_edge).await;
    erase(&of_edge, &cookies[1]).await;
    until(async || has_instructions(&broker, 1).await).await;
    for cookie in &cookies[2..] {
        withdraw(&of_edge, cookie).await;
    }
    until(async || has_instructions(&broker, 7).await).await;
    of_loader.signal("CONT");
    of_loader.wait_for(listed, 8).await;
    let erasures = "select count(*) from avtryck.erasure";
    of_loader.wait_for(erasures, 1).await;
    of_loader.wait_for(ROWS, 7).await;
    let (_, _dir, log) = of_loader.stop().await;
    let expected = "does not have what was read of it last";
    assert!(log.contains(expected), "{log}");
}
