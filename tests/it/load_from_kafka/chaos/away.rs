//! All brokers away for `KAFKA_AWAY_SECONDS`, while hits go on at `KAFKA_RATE` a second.

use crate::chaos::{Load, check_names};

use super::*;

fn given(name: &str, or: u64) -> u64 {
    std::env::var(name).map_or(or, |value| value.parse().unwrap())
}

#[tokio::test]
#[ignore = "takes minutes: make chaos-kafka"]
async fn while_all_brokers_are_away_hits_are_answered_and_then_each_is_one_row() {
    let away = Duration::from_secs(given("KAFKA_AWAY_SECONDS", 20));
    let rate = given("KAFKA_RATE", 500) as f64;
    let Some(mut brokers) = Broker::start_cluster::<3>().await else {
        return;
    };
    let shared = shared_by_all(&brokers);
    let edge = Collector::start(alone(shared.clone())).await;
    let database = TestDatabase::migrated().await;
    let dir = tempdir();
    shared.clone().database_of(&database).write(&dir).await;
    let loader = loader_in(dir).await;
    let load = Load::start(edge.http, 16, Some(rate), 0);
    until(async || loader.number(ROWS).await as f64 > rate).await;

    let before = edge.resident_bytes();
    for broker in &mut brokers {
        broker.kill().await;
    }
    let begun = Instant::now();
    let mut peak = 0;
    while begun.elapsed() < away {
        tokio::time::sleep(Duration::from_secs(1)).await;
        peak = peak.max(edge.resident_bytes());
    }
    let waits = edge.metric("avtryck_kafka_backlog_bytes").await;
    Broker::resume_all(&mut brokers).await;
    let outcome = load.stop().await;
    let sent = outcome.acknowledged.len();
    let begun = Instant::now();
    check_names(
        &database.client,
        "hit",
        &outcome,
        2 * away + Duration::from_secs(120),
    )
    .await;
    let late = begun.elapsed().as_secs_f64();
    until_produced(&edge).await;
    let messages = brokers[0].count("avtryck.hit").await;
    let latency = |quantile| outcome.latency.value_at_quantile(quantile) as f64 / 1e3;
    eprintln!(
        "brokers away for {away:?}: {sent} acknowledged in {:.0?}, {} broken, replies p50 {:.1} ms, p99.9 {:.1} ms; \
         {:.0} MB waited, {:.0} MB more memory; all rows there {late:.0} s later, 0 lost, 0 twice, {messages} messages",
        outcome.took,
        outcome.broken,
        latency(0.5),
        latency(0.999),
        waits / 1e6,
        peak.saturating_sub(before) as f64 / 1e6,
    );
    assert_eq!((outcome.broken, outcome.unconnected), (0, 0));
    assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
    assert!(sent as f64 >= 0.95 * rate * away.as_secs_f64());
    assert_eq!(messages, sent);
    assert_eq!(loader.number(ROWS).await, sent as i64);
}
