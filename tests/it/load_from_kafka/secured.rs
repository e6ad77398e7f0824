//! Brokers that speak TLS and ask who comes.

use super::*;
use crate::support::tls::Authority;

#[tokio::test]
async fn over_tls_with_scram_hits_go_to_kafka_and_from_there_and_not_with_a_wrong_password_or_authority()
 {
    let authority = Authority::new();
    let Some((broker, secure)) = Broker::start_secured(&authority, "avtryck", "of-the-test").await
    else {
        return;
    };
    let dir = tempdir();
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let with = |ca: &std::path::Path, password: &str| {
        shared(&broker)
            .set("kafka.brokers", vec![secure.to_string()])
            .set("kafka.tls", true)
            .set("kafka.ca", ca.display().to_string())
            .set("kafka.sasl_mechanism", "SCRAM-SHA-512")
            .set("kafka.sasl_username", "avtryck")
            .set("kafka.sasl_password", password)
    };
    let alone = |config: Config| {
        let config = config.set("loader.sink", vec!["kafka".to_owned()]);
        config.set("http.threads", 1).without_postgres()
    };
    let database = TestDatabase::migrated().await;
    let edge = Collector::start(alone(with(&ca, "of-the-test"))).await;
    edge.get("/p.gif?site=open&e=secured", &[]).await;
    until_produced(&edge).await;
    let of_loader = tempdir();
    with(&ca, "of-the-test")
        .database_of(&database)
        .write(&of_loader)
        .await;
    let loader = loader_in(of_loader).await;
    loader.wait_for(ROWS, 1).await;

    let other = dir.path().join("other.pem");
    Authority::new().write(&other);
    for (wrong, expected) in [
        (with(&ca, "of-somebody"), "uthentication"),
        (with(&other, "of-the-test"), "certificate"),
    ] {
        let edge = Collector::start(alone(wrong)).await;
        edge.get("/p.gif?site=open&e=waits", &[]).await;
        until(async || edge.metric("avtryck_kafka_errors_total").await > 0.0).await;
        let (_, _dir, log) = edge.stop().await;
        assert!(log.contains(expected), "{log}");
    }
    assert_eq!(loader.number(ROWS).await, 1);
}
