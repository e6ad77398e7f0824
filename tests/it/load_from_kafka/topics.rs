//! Topics that change while they are read: more partitions, messages that Kafka deletes too soon,
//! and records that are not ours.

use super::*;

#[tokio::test]
async fn partitions_that_are_added_are_read_whether_they_have_hits_or_instructions() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let (of_edge, of_loader) = (edge(&broker).await, loader(&broker, &database).await);
    let mut cookies = Vec::new();
    for _ in 0..12 {
        let reply = of_edge.get("/id?site=open", &[]).await;
        cookies.push(reply.cookie().to_owned());
        hit_of(&of_edge, cookies.last().unwrap()).await;
    }
    of_loader.wait_for(ROWS, 12).await;
    let listed = "select count(*) from avtryck.suppression";
    withdraw(&of_edge, &cookies[0]).await;
    of_loader.wait_for(listed, 1).await;
    broker.add_partitions("avtryck.hit", 8).await;
    broker.add_partitions("avtryck.instruction", 4).await;
    // What is not ours is passed over, also where there is state.
    for topic in ["avtryck.instruction", "avtryck.position"] {
        broker
            .produce_with_keys(topic, &["who:knows", "16 bytes as keys:withdrawal?"])
            .await;
    }
    of_loader
        .until_metric("avtryck_load_partitions", 12.0)
        .await;
    // A producer that begins now knows of all partitions.
    let (_, dir, _) = of_edge.stop().await;
    let of_edge = Collector::start_in(dir).await;
    for cookie in &cookies[1..8] {
        withdraw(&of_edge, cookie).await;
    }
    let erasures = "select count(*) from avtryck.erasure";
    for cookie in &cookies[8..] {
        erase(&of_edge, cookie).await;
    }
    of_loader.wait_for(listed, 12).await;
    of_loader.wait_for(erasures, 4).await;
    of_loader.wait_for(ROWS, 8).await;
    for cookie in &cookies {
        hit_of(&of_edge, cookie).await;
    }
    for hit in 0..40 {
        let target = format!("/p.gif?site=open&e=hit-{hit}");
        assert_eq!(of_edge.get(&target, &[]).await.status, 200);
    }
    // None is of somebody who has asked.
    of_loader.wait_for(ROWS, 48).await;
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    of_loader.wait_for(counted, 12).await;
    let (_, _dir, log) = of_loader.stop().await;
    assert!(log.contains("an instruction is passed over"), "{log}");
}

#[tokio::test]
async fn what_kafka_deleted_before_it_was_loaded_is_counted_once_and_told() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let (of_edge, of_loader) = (edge(&broker).await, loader(&broker, &database).await);
    let send = async |name: &str, hits: usize| {
        for hit in 0..hits {
            let target = format!("/p.gif?site=open&e={name}-{hit}");
            assert_eq!(of_edge.get(&target, &[]).await.status, 200);
        }
        until_produced(&of_edge).await;
    };
    let lost = async |loader: &Collector| loader.metric("avtryck_load_lost_total").await;
    send("first", 20).await;
    of_loader.wait_for(ROWS, 20).await;
    let ready = of_loader.admin("/readyz").await;
    assert!(!ready.body.contains("deleted"), "{}", ready.body);
    // While it stands still, and goes on in the same session if it is quick enough.
    of_loader.signal("STOP");
    send("lost", 40).await;
    broker.delete_records("avtryck.hit", 4).await;
    of_loader.signal("CONT");
    until(async || lost(&of_loader).await >= 40.0).await;
    send("second", 20).await;
    of_loader.wait_for(ROWS, 40).await;
    let ready = of_loader.admin("/readyz").await;
    assert_eq!(ready.status, 200, "it goes on");
    let told = "Kafka deleted up to ";
    assert!(ready.body.contains(told), "{}", ready.body);
    // While it is not there.
    let before = lost(&of_loader).await;
    let (_, dir, log) = of_loader.stop().await;
    assert!(log.contains("messages that were not loaded"), "{log}");
    send("lost-again", 40).await;
    broker.delete_records("avtryck.hit", 4).await;
    let of_loader = loader_in(dir).await;
    until(async || lost(&of_loader).await >= 40.0).await;
    // At most as many more as there were transactions.
    assert!(before < 120.0 && lost(&of_loader).await < 120.0, "{before}");
    // The next process has nothing to tell: the position is after what was deleted.
    of_loader
        .until_metric("avtryck_loader_connected", 1.0)
        .await;
    let (_, dir, log) = of_loader.stop().await;
    assert!(!log.contains("loading into Postgres stopped"), "{log}");
    let of_loader = loader_in(dir).await;
    send("third", 20).await;
    of_loader.wait_for(ROWS, 60).await;
    assert_eq!(lost(&of_loader).await, 0.0);
    assert_eq!(names(&of_loader).await.len(), 60);
}

#[tokio::test]
async fn a_loader_takes_no_hits_from_topics_that_would_keep_them_for_longer_than_it_may() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let of_edge = edge(&broker).await;
    of_edge.get("/p.gif?site=open&e=first", &[]).await;
    until_produced(&of_edge).await;
    broker
        .set_config("avtryck.hit", "retention.ms=1209600001")
        .await;
    let told = "it would keep hits for longer than privacy.retention";
    // Sightings are kept for 14 days, and nothing brings them that is kept for longer.
    for (retention, household) in [("15d", false), ("90d", true)] {
        let dir = tempdir();
        shared(&broker)
            .database_of(&database)
            .set("privacy.retention", retention)
            .set("site.open.household", household)
            .write(&dir)
            .await;
        let of_loader = loader_in(dir).await;
        of_loader.until_logged(told).await;
        assert_eq!(of_loader.number(ROWS).await, 0);
        of_loader.stop().await;
    }
    let of_loader = loader(&broker, &database).await;
    of_loader.wait_for(ROWS, 1).await;
}
