//! Connections to the broker that are reset, closed, left half open or stalled for longer than any
//! time limit, those of edges and those of loaders, also while a partition goes from one loader to
//! another. The oracle is what the senders were answered.

use super::*;
use crate::support::relay::{Cut, Relay};

/// Time limits that a stall of some seconds goes beyond: of a request, of a transaction, of the
/// group's patience with a member; and how long a member waits for its place in the group.
const LIMITS: &str = "[kafka.client]\n\
                      \"socket.timeout.ms\" = \"2000\"\n\
                      \"transaction.timeout.ms\" = \"4000\"\n\
                      \"session.timeout.ms\" = \"6000\"\n\
                      \"max.poll.interval.ms\" = \"8000\"\n\
                      \"topic.metadata.refresh.interval.ms\" = \"2000\"";
/// Longer than each of them.
const STALL: Duration = Duration::from_millis(6_500);

/// What was done to connections.
#[derive(Debug, Default)]
struct Done {
    cuts: usize,
    stalls: usize,
    hand_overs: usize,
}

/// Cuts connections of edges or of loaders in one of the ways, or stalls them for a time.
async fn disturb(dice: &mut Dice, relays: &[Relay; 2], done: &mut Done) {
    let relay = &relays[dice.roll(2) as usize];
    let how = match dice.roll(4) {
        0 => Cut::Reset,
        1 => Cut::Close,
        2 => Cut::HalfOpen,
        _ => {
            done.stalls += 1;
            relay.stall(true);
            tokio::time::sleep(Duration::from_millis(dice.roll(3_000))).await;
            return relay.stall(false);
        }
    };
    done.cuts += 1;
    relay.cut(how);
}

/// Stalls both sides for longer than every time limit.
async fn stall_for_long(relays: &[Relay; 2], done: &mut Done) {
    for relay in relays {
        relay.stall(true);
    }
    tokio::time::sleep(STALL).await;
    for relay in relays {
        relay.stall(false);
    }
    done.stalls += 1;
}

/// Sends hits while connections are cut, that many times, by random numbers from a seed. Returns
/// the broker, and how many hits there are, unless there is no Kafka.
async fn each_answered_hit_is_one_row(cuts: usize, seed: u64) -> Option<(Broker, usize)> {
    let (broker, relays) = Broker::start_behind_relays().await?;
    let database = TestDatabase::migrated().await;
    let through = |relay: &Relay| {
        let config = shared(&broker).with(LIMITS);
        config.set("kafka.brokers", vec![relay.address.to_string()])
    };
    let edge = Collector::start(alone(through(&relays[0]))).await;
    let mut loaders = Vec::new();
    for _ in 0..2 {
        let dir = tempdir();
        through(&relays[1]).database_of(&database).write(&dir).await;
        loaders.push(loader_in(dir).await);
    }
    let clock = Instant::now();
    let sent = Arc::<Sent>::default();
    let sender = tokio::spawn(send(edge.http, 0, Arc::clone(&sent)));
    until(async || {
        loaders[0].metric("avtryck_load_messages_total").await > 0.0
            || loaders[1].metric("avtryck_load_messages_total").await > 0.0
    })
    .await;
    let (mut dice, mut done) = (Dice::of(seed), Done::default());
    for number in 0..cuts {
        tokio::time::sleep(Duration::from_millis(dice.roll(400))).await;
        disturb(&mut dice, &relays, &mut done).await;
        if number == cuts / 2 {
            stall_for_long(&relays, &mut done).await;
        }
        // The group is about to give the partitions of one loader to the other, and back.
        if number % 6 == 2 {
            let which = dice.roll(2) as usize;
            let dir = match dice.roll(2) {
                0 => loaders.remove(which).kill().await,
                _ => loaders.remove(which).stop().await.1,
            };
            relays[1].cut(Cut::Reset);
            loaders.push(loader_in(dir).await);
            relays[1].cut(Cut::HalfOpen);
            done.hand_overs += 1;
        }
    }
    sent.is_over.store(true, Ordering::Relaxed);
    sender.await.unwrap();
    until_produced(&edge).await;
    let acknowledged = std::mem::take(&mut *sent.acknowledged.lock().unwrap());
    let all = sent.all.load(Ordering::Relaxed);
    assert_eq!(acknowledged.len() as u64, all, "the edge is not cut off");
    let begun = Instant::now();
    while loaders[0].number(ROWS).await < acknowledged.len() as i64 {
        if begun.elapsed() > Duration::from_secs(90) {
            let mut logs = String::new();
            for loader in loaders {
                logs.push_str(&loader.stop().await.2);
            }
            panic!("seed {seed}, {done:?}: rows are missing\n{logs}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Nothing comes after that either.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cut: usize = relays.iter().map(Relay::count).sum();
    eprintln!(
        "seed {seed}: {} cuts of {cut} connections, {} stalls, {} hand-overs: {all} hits acknowledged, {all} rows, {:.1?}",
        done.cuts,
        done.stalls,
        done.hand_overs,
        clock.elapsed()
    );
    assert_eq!(names(&loaders[0]).await, acknowledged);
    assert!(cut > 0 && done.stalls > 0 && (done.hand_overs > 0 || cuts < 3));
    Some((broker, acknowledged.len()))
}

#[tokio::test]
async fn each_hit_is_one_row_however_connections_to_the_broker_are_cut() {
    each_answered_hit_is_one_row(5, 7).await;
}

#[tokio::test]
#[ignore = "takes minutes: make chaos-kafka"]
async fn each_hit_is_one_row_however_often_connections_to_the_broker_are_cut() {
    let cuts = std::env::var("KAFKA_CUTS").map_or(60, |cuts| cuts.parse().unwrap());
    let seed = std::env::var("KAFKA_SEED").map_or(1, |seed| seed.parse().unwrap());
    if let Some((broker, hits)) = each_answered_hit_is_one_row(cuts, seed).await {
        // So does any other consumer.
        assert_eq!(broker.count("avtryck.hit").await, hits);
    }
}
