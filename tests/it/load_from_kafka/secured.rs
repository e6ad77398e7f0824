//! Brokers that speak TLS and ask who comes.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::support::kafka::User;
use crate::support::tls::Authority;

/// What edges and loaders share where brokers speak TLS.
fn over_tls(broker: &Broker, secure: SocketAddr, ca: &Path) -> Config {
    shared(broker)
        .set("kafka.brokers", vec![secure.to_string()])
        .set("kafka.tls", true)
        .set("kafka.ca", ca.display().to_string())
}

/// Has a hit go to Kafka and from there, and none by configurations that are wrong. Each error is
/// as expected.
async fn goes_through_unless_wrong(right: Config, wrong: &[(Config, &str)]) {
    let database = TestDatabase::migrated().await;
    let edge = Collector::start(alone(right.clone())).await;
    edge.get("/p.gif?site=open&e=secured", &[]).await;
    until_produced(&edge).await;
    let of_loader = tempdir();
    right.database_of(&database).write(&of_loader).await;
    let loader = loader_in(of_loader).await;
    loader.wait_for(ROWS, 1).await;
    for (wrong, expected) in wrong {
        let edge = Collector::start(alone(wrong.clone())).await;
        edge.get("/p.gif?site=open&e=waits", &[]).await;
        until(async || edge.metric("avtryck_kafka_errors_total").await > 0.0).await;
        let (_, _dir, log) = edge.stop().await;
        assert!(log.contains(expected), "{log}");
    }
    assert_eq!(loader.number(ROWS).await, 1);
}

#[tokio::test]
async fn over_tls_with_a_password_hits_go_to_kafka_and_from_there_and_not_with_a_wrong_one_or_authority()
 {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let dir = tempdir();
    let (ca, other) = (dir.path().join("ca.pem"), dir.path().join("other.pem"));
    authority.write(&ca);
    stranger.write(&other);
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
        let user = User::Password(mechanism);
        let Some((broker, secure)) = Broker::start_secured(&authority, user).await else {
            return;
        };
        let with = |ca: &Path, password: &str| {
            over_tls(&broker, secure, ca)
                .set("kafka.sasl_mechanism", mechanism)
                .set("kafka.sasl_username", User::NAME)
                .set("kafka.sasl_password", password)
        };
        let wrong = [
            (with(&ca, "of-somebody"), "uthentication"),
            (with(&other, User::PASSWORD), "certificate"),
        ];
        goes_through_unless_wrong(with(&ca, User::PASSWORD), &wrong).await;
    }
}

#[tokio::test]
async fn with_a_certificate_hits_go_to_kafka_and_from_there_and_not_without_or_by_another_authority()
 {
    let [authority, clients] = [Authority::new(), Authority::new()];
    let user = User::Certificate(&clients);
    let Some((broker, secure)) = Broker::start_secured(&authority, user).await else {
        return;
    };
    let dir = tempdir();
    let [ca, own, foreign] = ["ca.pem", "own", "foreign"].map(|name| dir.path().join(name));
    authority.write(&ca);
    clients.issue_named(&own, User::NAME);
    authority.issue_named(&foreign, User::NAME);
    let without = || over_tls(&broker, secure, &ca);
    let with = |stem: &Path| {
        let file = |extension| stem.with_extension(extension).display().to_string();
        without()
            .set("kafka.certificate", file("pem"))
            .set("kafka.key", file("key"))
    };
    let wrong = [(without(), "certificate"), (with(&foreign), "certificate")];
    goes_through_unless_wrong(with(&own), &wrong).await;
}

/// Writes a token that is good for some time, as whatever gets tokens does.
fn write_token(file: &Path, good_for: Duration) {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let ends = now + good_for.as_secs();
    let [header, claims] = [
        "{\"alg\":\"none\"}".to_owned(),
        format!("{{\"sub\":\"avtryck\",\"iat\":{now},\"exp\":{ends}}}"),
    ]
    .map(|part| URL_SAFE_NO_PAD.encode(part));
    let unfinished = file.with_extension("new");
    std::fs::write(&unfinished, format!("{header}.{claims}.\n")).unwrap();
    std::fs::rename(unfinished, file).unwrap();
}

#[tokio::test]
async fn with_a_token_hits_go_to_kafka_and_from_there_and_the_next_token_is_read_from_the_file() {
    const GOOD_FOR: Duration = Duration::from_secs(20);
    let authority = Authority::new();
    let Some((broker, secure)) = Broker::start_secured(&authority, User::Token).await else {
        return;
    };
    let dir = tempdir();
    let (ca, token) = (dir.path().join("ca.pem"), dir.path().join("token"));
    authority.write(&ca);
    let with = || {
        over_tls(&broker, secure, &ca)
            .set("kafka.sasl_mechanism", "OAUTHBEARER")
            .set("kafka.oauth_token_file", token.display().to_string())
    };
    // The client for administration takes no token: topics are made by somebody else.
    write_token(&token, GOOD_FOR);
    let edge = Collector::start(alone(with())).await;
    until(async || edge.metric("avtryck_kafka_errors_total").await > 0.0).await;
    let (_, _dir, log) = edge.stop().await;
    assert!(log.contains("is missing, and with OAUTHBEARER"), "{log}");
    for topic in ["avtryck.hit", "avtryck.count"] {
        let keep = ["cleanup.policy=delete", "retention.ms=604800000"];
        broker.make(topic, 4, &keep).await;
    }
    for topic in ["avtryck.instruction", "avtryck.position"] {
        broker.make(topic, 1, &["cleanup.policy=compact"]).await;
    }
    write_token(&token, GOOD_FOR);
    let begun = Instant::now();
    let edge = Collector::start(alone(with())).await;
    let database = TestDatabase::migrated().await;
    let of_loader = tempdir();
    with().database_of(&database).write(&of_loader).await;
    let loader = loader_in(of_loader).await;
    let mut sent = 0;
    // The first token ends meanwhile.
    while begun.elapsed() < 2 * GOOD_FOR {
        edge.get(&format!("/p.gif?site=open&e=hit-{sent}"), &[])
            .await;
        sent += 1;
        write_token(&token, GOOD_FOR);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    until_produced(&edge).await;
    loader.wait_for(ROWS, sent).await;
    assert_eq!(names(&loader).await.len() as i64, sent);

    // Nobody writes the next one.
    write_token(&token, Duration::from_secs(0));
    let late = Collector::start(alone(with())).await;
    until(async || late.metric("avtryck_kafka_errors_total").await > 0.0).await;
    let (_, _dir, log) = late.stop().await;
    assert!(log.contains("whatever writes it is late"), "{log}");
    assert!(log.contains("the token in"), "{log}");
}
