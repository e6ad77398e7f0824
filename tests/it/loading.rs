//! From the spool to Postgres, through trouble.

use avtryck::clock;
use avtryck::hit::{Hit, Kind, Permit};
use spool::{Ack, Observer, Options, RealDisk, Spool};

use crate::support::{Collector, Config, tempdir};

struct Quiet;

impl Observer for Quiet {
    fn note_commit(&self, _: u64, _: std::time::Duration, _: std::time::Duration) {}
    fn note_failure(&self, _: &std::io::Error) {}
}

/// Puts payloads into the spool of a collector that does not run.
pub(crate) async fn spool(dir: &std::path::Path, payloads: Vec<Vec<u8>>) {
    let options = Options {
        dir: dir.join("spool"),
        ack: Ack::Disk,
        room: spool::Room::new(1 << 30),
        chunk_bytes: 4 << 20,
        keep: std::time::Duration::ZERO,
    };
    let spool = Spool::open(options, std::sync::Arc::new(RealDisk), Box::new(Quiet)).unwrap();
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

pub(crate) fn encoded(hit: &Hit<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    hit.encode(&mut bytes);
    bytes
}

#[tokio::test]
async fn one_bad_hit_is_set_aside_with_its_reason_and_the_rest_of_its_batch_is_loaded() {
    let dir = tempdir();
    Config::sites().write(&dir).await;
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
    // Counted once the loader has heard of its commit.
    for (who, hits) in [("loader", 2.0), ("postgres", 1.0)] {
        let name = format!("avtryck_loader_rejected_total{{by=\"{who}\"}}");
        collector.until_metric(&name, hits).await;
    }
}

#[tokio::test]
async fn while_postgres_is_not_there_hits_are_answered_and_kept() {
    let collector = Collector::start(Config::sites().without_postgres()).await;
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
    Config::sites().write(&dir).await;
    let collector = Collector::start_in(dir).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 20)
        .await;
    collector
        .until_metric("avtryck_spool_backlog_bytes", 0.0)
        .await;
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

#[tokio::test]
async fn a_batch_of_twenty_thousand_with_many_bad_hits_loads_all_the_others() {
    let dir = tempdir();
    Config::sites().write(&dir).await;
    let is_bad = |n: usize| n % 331 == 17 || (9000..9020).contains(&n) || n == 19_999;
    let payloads = (0..20_000).map(|n| {
        let mut hit = Hit::new(clock::now(), Kind::Event, "open");
        hit.permit = Permit::MEASURE;
        hit.event_name = format!("{n}").into();
        if is_bad(n) {
            match n % 4 {
                0 => hit.page_url = "a\0b".into(),
                1 => hit.params = "{\"broken\":".into(),
                2 => hit.params = "{\"lone\":\"\\ud800\"}".into(),
                _ => hit.received_at = clock::UnixMicros(i64::MAX),
            }
        }
        encoded(&hit)
    });
    spool(dir.path(), payloads.collect()).await;
    let bad = (0..20_000).filter(|n| is_bad(*n)).count();
    let collector = Collector::start_in(dir).await;
    let sound = 20_000 - bad as i64;
    collector
        .wait_for("select count(*) from avtryck.hit", sound)
        .await;
    for (sql, number) in [
        ("select count(distinct event_name) from avtryck.hit", sound),
        ("select count(*) from avtryck.rejected_hit", bad as i64),
    ] {
        assert_eq!(collector.number(sql).await, number, "{sql}");
    }
}

#[tokio::test]
async fn hostile_values_cost_no_good_hit_and_never_stop_the_loader() {
    let collector = Collector::open().await;
    let deep = format!(
        "{{\"site\":\"open\",\"x\":{}{}}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let members: String = (0..4_000).map(|n| format!(",\"k{n}\":{n}")).collect();
    let long = "å".repeat(30_000);
    // Each body, and whether its event is taken; what is taken is a row.
    let bodies: Vec<(Vec<u8>, bool)> = vec![
        (br#"{"site":"open","e":"nul \u0000 inside"}"#.to_vec(), true),
        (
            b"{\"site\":\"open\",\"e\":\"raw \xff\xfe bytes\"}".to_vec(),
            true,
        ),
        (
            br#"{"site":"open","e":"lone \ud800 surrogate"}"#.to_vec(),
            true,
        ),
        (
            br#"{"site":"open","p":"lone \udc00 surrogate"}"#.to_vec(),
            true,
        ),
        (br#"{"site":"open","price":1e400}"#.to_vec(), true),
        (br#"{"site":"open","price":-1e308}"#.to_vec(), true),
        (
            br#"{"site":"open","n":123456789012345678901234567890}"#.to_vec(),
            true,
        ),
        (br#"{"site":"open","e":{"an":"object"}}"#.to_vec(), true),
        (br#"{"site":"open","":"", "k":"\u0000"}"#.to_vec(), true),
        (br#"{"site":"open","k\u0000":1}"#.to_vec(), true),
        (
            br#"{"site":"open","e":"\u202e\ufeff\u0007"}"#.to_vec(),
            true,
        ),
        (
            format!(r#"{{"site":"open","u":"{long}"}}"#).into_bytes(),
            true,
        ),
        (
            format!(r#"{{"site":"open","{long}":1}}"#).into_bytes(),
            true,
        ),
        (format!(r#"{{"site":"open"{members}}}"#).into_bytes(), true),
        (deep.into_bytes(), false),
        (br#"{"site":"open","site":"open"}"#.to_vec(), true),
        (b"[]".to_vec(), false),
        (b"".to_vec(), false),
        (b"null".to_vec(), false),
    ];
    let mut rows = 0;
    for (body, is_taken) in &bodies {
        let reply = collector.post_bytes("/e", body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let expected: &[u16] = if *is_taken { &[204] } else { &[204, 400] };
        assert!(expected.contains(&reply.status), "{shown}: {reply:?}");
        assert!(*is_taken || reply.status == 400 || body == b"[]", "{shown}");
        rows += i64::from(*is_taken);
    }
    for target in [
        "/p.gif?site=open&e=%00",
        "/p.gif?site=open&e=%ff%fe",
        "/p.gif?site=open&e=%ed%a0%80",
        "/p.gif?site=open&%00=%00",
        "/p.gif?site=open&e=%",
        "/p.gif?site=open&e=%zz&&&===",
        "/p.gif?site=open&id=%00%00",
        "/p.gif?site=open&ch_model=%22%00",
    ] {
        let reply = collector.get(target, &[]).await;
        assert_eq!(reply.status, 200, "{target}");
        rows += 1;
    }
    collector.get("/p.gif?site=open&e=last", &[]).await;
    collector
        .wait_for(
            "select count(*) from avtryck.hit where event_name = 'last'",
            1,
        )
        .await;
    assert_eq!(
        collector.number("select count(*) from avtryck.hit").await,
        rows + 1
    );
    assert_eq!(
        collector
            .number("select count(*) from avtryck.rejected_hit")
            .await,
        0
    );
}
