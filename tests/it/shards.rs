//! Several spools: one for each edge thread, loaded as one.

use crate::support::{Collector, Config, command, tempdir, until};

/// A hit over a connection of its own, so that the kernel chooses its thread.
async fn send(collector: &Collector, from: usize, count: usize) {
    for n in from..from + count {
        let target = format!("/p.gif?site=open&e=n{n}");
        assert_eq!(collector.get(&target, &[]).await.status, 200);
    }
}

/// The records that `avtryck spool verify` counts in each chunk.
async fn verified(dir: &std::path::Path) -> Vec<u64> {
    let spool = dir.join("spool");
    let output = command(&["spool", "verify", spool.to_str().unwrap()])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text.lines()
        .filter_map(|line| {
            let (before, _) = line.split_once(" records")?;
            before.rsplit(' ').next()?.parse().ok()
        })
        .collect()
}

#[tokio::test]
async fn each_edge_thread_keeps_its_hits_in_a_shard_of_its_own_and_all_are_loaded() {
    const HITS: usize = 90;
    let away = Config::sites().without_postgres().set("http.threads", 3);
    let collector = Collector::start(away).await;
    send(&collector, 0, HITS).await;
    let backlog = collector.metric("avtryck_spool_backlog_bytes").await;
    assert!(backlog > 90.0 * 50.0, "{backlog}");
    let dir = collector.kill().await;
    let shards = ["", "shard/1", "shard/2"].map(|shard| dir.path().join("spool").join(shard));
    assert!(shards.iter().all(|shard| shard.join("id").is_file()));
    let records = verified(dir.path()).await;
    assert_eq!(records.iter().sum::<u64>(), HITS as u64);
    assert!(records.len() > 1, "one thread took all: {records:?}");

    // A killed collector's hits are all there, and with fewer threads what is left is loaded.
    let config = Config::sites().set("http.threads", 2);
    config.write(&dir).await;
    let collector = Collector::start_in(dir).await;
    send(&collector, HITS, 10).await;
    let distinct = "select count(distinct event_name) from avtryck.hit";
    collector.wait_for(distinct, HITS as i64 + 10).await;
    let all = collector.number("select count(*) from avtryck.hit").await;
    assert_eq!(all, HITS as i64 + 10);
    let [_, second, third] = shards;
    until(async || !third.exists()).await;
    assert!(second.join("id").is_file());
}

#[tokio::test]
async fn threads_can_share_a_shard() {
    let config = Config::sites()
        .set("http.threads", 4)
        .set("spool.shards", 1);
    let collector = Collector::start(config).await;
    send(&collector, 0, 40).await;
    let distinct = "select count(distinct event_name) from avtryck.hit";
    collector.wait_for(distinct, 40).await;
    assert!(!collector.dir.path().join("spool/shard").exists());
}

#[tokio::test]
async fn shards_that_leave_no_room_for_two_chunks_each_are_refused() {
    let dir = tempdir();
    let config = Config::sites()
        .set("spool.shards", 4)
        .set("spool.max_bytes", "16MiB");
    config.write(&dir).await;
    let config = dir.path().join("avtryck.toml");
    let output = command(&["--config", config.to_str().unwrap(), "check-config"])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        text.contains("less than two chunks for each shard"),
        "{text}"
    );
}
