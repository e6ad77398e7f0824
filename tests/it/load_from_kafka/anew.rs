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
    for _ in 0..6 {
        let reply = of_edge.get("/id?site=open", &[]).await;
        let cookie = reply.cookie().to_owned();
        let headers = [("Cookie", &*cookie)];
        of_edge.get("/p.gif?site=open&e=first", &headers).await;
        cookies.push(cookie);
    }
    of_loader.wait_for(ROWS, 6).await;
    let withdraw = async |edge: &Collector, cookie: &str| {
        let page = ("Origin", "https://www.open.example");
        let headers = [page, ("Sec-Fetch-Site", "same-site"), ("Cookie", cookie)];
        let withdrawn = edge
            .request("DELETE", "/consent?site=open", &headers, "")
            .await;
        assert_eq!(withdrawn.status, 200);
    };
    let listed = "select count(*) from avtryck.suppression";
    for (number, cookie) in cookies[..3].iter().enumerate() {
        withdraw(&of_edge, cookie).await;
        of_loader.wait_for(listed, number as i64 + 1).await;
    }
    let moved = "select count(*) from avtryck.spool_position \
                 where byte_offset >= 3 and spool_id not in (select spool_id from avtryck.kafka_partition)";
    of_loader.wait_for(moved, 1).await;
    let (_, dir_of_edge, _) = of_edge.stop().await;
    let (_, dir_of_loader, _) = of_loader.stop().await;
    broker.make_anew("avtryck.instruction", 1, OF_STATE).await;
    let of_edge = Collector::start_in(dir_of_edge).await;
    // One is carried out that was there before the loader, and one that came while it ran.
    withdraw(&of_edge, &cookies[3]).await;
    until(async || broker.records("avtryck.instruction", 10).await.len() == 1).await;
    let of_loader = loader_in(dir_of_loader).await;
    of_loader.wait_for(listed, 4).await;
    let page = privacy::page(&of_edge, &[("Cookie", &cookies[4])]).await;
    let body = format!("token={}", privacy::token(&page));
    let erased = privacy::submit(&of_edge, "erasure", &cookies[4], &body).await;
    assert_eq!(erased.status, 303, "{}", erased.body);
    of_loader.wait_for(listed, 5).await;
    let erasures = "select count(*) from avtryck.erasure";
    of_loader.wait_for(erasures, 1).await;
    of_loader.wait_for(ROWS, 5).await;
    for cookie in &cookies[3..] {
        let headers = [("Cookie", &**cookie)];
        of_edge.get("/p.gif?site=open&e=second", &headers).await;
    }
    // Of the three one may still become a row.
    of_loader.wait_for(ROWS, 6).await;
    let (_, _dir, log) = of_loader.stop().await;
    assert!(
        log.contains("the topic of instructions was made anew"),
        "{log}"
    );
}
