//! `make chaos-kafka`: three brokers, two edges and two loaders, of which a random one falls every
//! few seconds, until `KAFKA_KILLS` have fallen. Sometimes two brokers fall together, and sometimes
//! a loader is frozen for so long that its partitions go to the other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

mod cuts;

/// What was sent to edges that fall.
#[derive(Default)]
struct Sent {
    acknowledged: Mutex<BTreeSet<String>>,
    all: AtomicU64,
    is_over: AtomicBool,
}

/// Sends hits until it is over, and keeps the names of those that were answered.
async fn send(to: SocketAddr, sender: usize, sent: Arc<Sent>) {
    let mut number = 0;
    while !sent.is_over.load(Ordering::Relaxed) {
        let name = format!("hit-{sender}-{number}");
        number += 1;
        sent.all.fetch_add(1, Ordering::Relaxed);
        if is_answered(to, &name).await {
            sent.acknowledged.lock().unwrap().insert(name);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn is_answered(to: SocketAddr, name: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(to).await?;
        let request = format!(
            "GET /p.gif?site=open&e={name} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await?;
        std::io::Result::Ok(reply)
    };
    let reply = tokio::time::timeout(Duration::from_secs(5), ask).await;
    matches!(reply, Ok(Ok(reply)) if reply.starts_with(b"HTTP/1.1 200"))
}

/// Lets one of them fall and come back, or two brokers together.
async fn fall(
    dice: &mut Dice,
    edges: &mut Vec<Collector>,
    loaders: &mut Vec<Collector>,
    brokers: &mut [Broker],
    fallen: &mut [usize; 5],
) {
    let which = dice.roll(2) as usize;
    let away = Duration::from_millis(dice.roll(4_000));
    match dice.roll(5) {
        0 => {
            let dir = edges.remove(which).kill().await;
            edges.insert(which, Collector::start_in(dir).await);
            fallen[0] += 1;
        }
        1 => {
            let dir = loaders.remove(which).kill().await;
            tokio::time::sleep(away).await;
            loaders.insert(which, loader_in(dir).await);
            fallen[1] += 1;
        }
        2 => {
            let which = dice.roll(3) as usize;
            brokers[which].kill().await;
            tokio::time::sleep(away).await;
            brokers[which].resume().await;
            fallen[2] += 1;
        }
        3 => {
            // Nothing is committed while two of the three are away.
            let stays = dice.roll(3) as usize;
            let two: Vec<usize> = (0..3).filter(|which| *which != stays).collect();
            for which in &two {
                brokers[*which].kill().await;
            }
            tokio::time::sleep(away).await;
            for which in &two {
                brokers[*which].resume().await;
            }
            fallen[3] += 1;
        }
        _ => {
            // For longer than the group waits for a member: its partitions go to the other.
            loaders[which].signal("STOP");
            tokio::time::sleep(Duration::from_secs(7)).await;
            loaders[which].signal("CONT");
            fallen[4] += 1;
        }
    }
}

#[tokio::test]
#[ignore = "takes minutes: make chaos-kafka"]
async fn whatever_falls_of_three_brokers_two_edges_and_two_loaders_each_hit_is_one_row() {
    let kills = std::env::var("KAFKA_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let seed = std::env::var("KAFKA_SEED").map_or(1, |seed| seed.parse().unwrap());
    let Some(mut brokers) = Broker::start_cluster::<3>().await else {
        return;
    };
    let addresses: Vec<String> = brokers
        .iter()
        .map(|broker| broker.address.to_string())
        .collect();
    let shared = || shared(&brokers[0]).set("kafka.brokers", addresses.clone());
    let database = TestDatabase::migrated().await;
    let sent = Arc::<Sent>::default();
    let (mut edges, mut loaders, mut senders) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..2 {
        let config = shared().set("loader.sink", vec!["kafka".to_owned()]);
        let edge = Collector::start(config.set("http.threads", 1).without_postgres()).await;
        senders.push(tokio::spawn(send(edge.http, number, Arc::clone(&sent))));
        edges.push(edge);
        let dir = tempdir();
        shared().database_of(&database).write(&dir).await;
        loaders.push(loader_in(dir).await);
    }
    let mut dice = Dice::of(seed);
    let mut fallen = [0; 5];
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(500 + dice.roll(2_500))).await;
        fall(
            &mut dice,
            &mut edges,
            &mut loaders,
            &mut brokers,
            &mut fallen,
        )
        .await;
    }
    sent.is_over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    let all = sent.all.load(Ordering::Relaxed);
    let acknowledged = std::mem::take(&mut *sent.acknowledged.lock().unwrap());
    let begun = Instant::now();
    let mut loaded = BTreeSet::new();
    while !acknowledged.is_subset(&loaded) && begun.elapsed() < Duration::from_secs(180) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        loaded = names(&loaders[0]).await;
    }
    for edge in &edges {
        until_produced(edge).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let loaded = names(&loaders[0]).await;
    let lost = acknowledged.difference(&loaded).count();
    let messages = brokers[0].count("avtryck.hit").await;
    eprintln!(
        "{} edges, {} loaders, {} brokers and {} times two brokers killed, {} loaders frozen; {all} sent, {} acknowledged, {} rows, {lost} lost, 0 twice, {messages} messages",
        fallen[0],
        fallen[1],
        fallen[2],
        fallen[3],
        fallen[4],
        acknowledged.len(),
        loaded.len()
    );
    assert_eq!(lost, 0);
    assert_eq!(
        messages,
        loaded.len(),
        "a consumer of committed messages counts the same"
    );
    assert!(loaded.len() as u64 <= all);
}
