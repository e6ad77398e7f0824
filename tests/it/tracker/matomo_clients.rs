//! Matomo's tracker for Node.js itself, as it is installed.

use std::process::Stdio;

use avtryck::postgres::server::embedded::Embedded;
use tokio::process::{Child, Command};

use super::matomo::config;
use super::snowplow_clients::fill;
use crate::support::{Collector, PATIENCE, root, tempdir, until};

/// The events that it sends.
const EVENTS: i64 = 4;

/// What the metrics say once a request found no room.
const REFUSED: &str = "avtryck_http_requests_total{endpoint=\"matomo\",status=\"503\"} ";

fn start(collector: &Collector, path: &str, method: &str) -> Child {
    let packages = root().join("assets/data/matomo/node_modules");
    assert!(
        packages.is_dir(),
        "script/fetch test puts {packages:?} there"
    );
    Command::new("node")
        .arg(root().join("tests/it/tracker/client/matomo.cjs"))
        .arg(format!("http://{}{path}", collector.http))
        .arg(method)
        .env("NODE_PATH", packages)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Waits for the end of the tracker. Returns what it printed.
async fn end(running: Child) -> String {
    let output = tokio::time::timeout(PATIENCE, running.wait_with_output()).await;
    let output = output.expect("the client ends").unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed} {errors}");
    printed
}

/// Waits until each event is one row.
async fn check_rows(collector: &Collector) {
    let count = "select count(*) from avtryck.hit_detail where protocol = 'matomo'";
    collector.wait_for(count, EVENTS).await;
    let whole = "select count(distinct event_id) from avtryck.hit_detail where site = 'the-shop' \
         and device_id = 'e7f46de8fb0b1385' and visitor_id is null \
         and params->>'action_name' = 'Räksmörgås & co'";
    assert_eq!(collector.number(whole).await, EVENTS);
    let order = "select count(*) from avtryck.hit_detail where event_name = 'order' \
         and params->>'order_id' = 'order-7' and params->>'value' = '19.99'";
    assert_eq!(collector.number(order).await, 1);
}

#[tokio::test]
async fn the_tracker_for_node_sends_each_event_once_to_a_healthy_collector() {
    for (path, method) in [
        ("/matomo.php", "track"),
        ("/matomo.php", "bulk"),
        ("/piwik.php", "bulk"),
    ] {
        let collector = Collector::start(config()).await;
        assert_eq!(end(start(&collector, path, method)).await, "", "{method}");
        check_rows(&collector).await;
    }
}

#[tokio::test]
async fn the_tracker_for_node_sends_each_event_once_to_a_full_spool_that_recovers() {
    let dir = tempdir();
    let database = dir.path().join("later");
    let config = config()
        .postgres_in(&database)
        .set("spool.chunk_bytes", "1MiB")
        .set("spool.max_bytes", "2MiB")
        .set("limit.hits_per_second", 0);
    config.write(&dir).await;
    let collector = Collector::start_in(dir).await;
    fill(&collector).await;
    let running = start(&collector, "/matomo.php", "bulk");
    until(async || collector.admin("/metrics").await.body.contains(REFUSED)).await;
    let postgres = Embedded::start(&database).await.unwrap();
    let printed = end(running).await;
    assert!(printed.starts_with("failed 503\n"), "{printed}");
    check_rows(&collector).await;
    let _dir = collector.kill().await;
    postgres.stop().await.unwrap();
}
