//! From the spool to Postgres, through trouble.

use avtryck::clock;
use avtryck::hit::{Hit, Kind, Permit};
use avtryck::spool::{Ack, Observer, RealDisk, Settings, Spool};

use crate::support::{Collector, SITES, config, tempdir};

struct Quiet;

impl Observer for Quiet {
    fn committed(&self, _: u64, _: std::time::Duration, _: std::time::Duration) {}
    fn failed(&self, _: &std::io::Error) {}
}

/// Puts payloads into the spool of a collector that does not run.
async fn spool(dir: &std::path::Path, payloads: Vec<Vec<u8>>) {
    let settings = Settings {
        dir: dir.join("spool"),
        ack: Ack::Disk,
        bytes_max: 1 << 30,
        chunk_bytes: 4 << 20,
        keep: std::time::Duration::ZERO,
    };
    let spool = Spool::open(settings, std::sync::Arc::new(RealDisk), Box::new(Quiet)).unwrap();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let appender = spool.appender();
            tokio::task::spawn_local(appender.deliver());
            for part in payloads.chunks(1000) {
                let part = part
                    .iter()
                    .map(|payload| |out: &mut Vec<u8>| out.extend_from_slice(payload));
                appender.append_all(part).unwrap().await.unwrap();
            }
        })
        .await;
    spool.close();
}

fn encoded(hit: &Hit<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    hit.encode(&mut bytes);
    bytes
}

#[tokio::test]
async fn one_bad_hit_is_set_aside_with_its_reason_and_the_rest_of_its_batch_is_loaded() {
    let dir = tempdir();
    std::fs::write(dir.path().join("avtryck.toml"), config(dir.path(), SITES)).unwrap();
    let mut payloads: Vec<Vec<u8>> = (0..2000)
        .map(|n| {
            let mut hit = Hit::new(clock::now(), Kind::Event, "open");
            hit.permit = Permit::MEASURE;
            hit.client_ip = Some([2, 64, 0, 77].into());
            hit.page_url = format!("https://www.open.example/{n}").into();
            match n {
                700 => hit.page_url = "a\0b".into(),
                1300 => hit.params = "{\"broken\":".into(),
                _ => {}
            }
            encoded(&hit)
        })
        .collect();
    payloads[1500] = b"no hit at all".to_vec();
    spool(dir.path(), payloads).await;
    let collector = Collector::start_in(dir).await;
    collector
        .wait_for("select count(*) from avtryck.rejected_hit", 3)
        .await;
    collector
        .wait_for("select count(distinct hit_id) from avtryck.hit", 1997)
        .await;
    assert_eq!(
        collector.number("select count(*) from avtryck.hit").await,
        1997
    );
    let rejected = collector
        .rows("select reason, payload from avtryck.rejected_hit order by byte_offset")
        .await;
    assert!(rejected[0].get::<_, &str>(0).contains("NUL"));
    assert!(rejected[1].get::<_, &str>(0).contains("json"));
    for row in &rejected[..2] {
        let payload: Vec<u8> = row.get(1);
        let hit = Hit::decode(&payload).unwrap();
        assert_eq!(
            hit.client_ip,
            Some([2, 64, 0, 0].into()),
            "no more of the address than a row has"
        );
    }
    assert_eq!(collector.metric("avtryck_loader_rejected_total").await, 3.0);
}

#[tokio::test]
async fn while_postgres_is_not_there_hits_are_answered_and_kept() {
    let down = "\n[database]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n";
    let dir = tempdir();
    let text = config(dir.path(), SITES);
    let without = text.replacen("[database]\n", down, 1);
    std::fs::write(dir.path().join("avtryck.toml"), &without).unwrap();
    let collector = Collector::start_in(dir).await;
    for n in 0..20 {
        assert_eq!(
            collector
                .get(&format!("/p.gif?site=open&id={n}"), &[])
                .await
                .status,
            200
        );
    }
    let ready = collector.admin("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("not reached"));
    assert!(collector.metric("avtryck_spool_backlog_bytes").await > 0.0);
    let (status, dir, _) = collector.stop().await;
    assert!(status.success());
    std::fs::write(dir.path().join("avtryck.toml"), text).unwrap();
    let collector = Collector::start_in(dir).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 20)
        .await;
    assert_eq!(collector.metric("avtryck_spool_backlog_bytes").await, 0.0);
}

#[tokio::test]
async fn hits_of_a_killed_collector_are_loaded_once_by_the_next() {
    let mut collector = Collector::open().await;
    for round in 1..=3 {
        for _ in 0..25 {
            assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
        }
        collector = Collector::start_in(collector.kill().await).await;
        collector
            .wait_for("select count(*) from avtryck.hit", 25 * round)
            .await;
    }
    assert_eq!(
        collector
            .number("select count(distinct hit_id) from avtryck.hit")
            .await,
        75
    );
}
