//! Load from outside: every acknowledged pixel is one row.

use std::fmt::Write as _;
use std::time::Instant;

use tokio::process::Command;

use crate::support::{Collector, root, tempdir};

const PIXELS: i64 = 100_000;

#[tokio::test]
async fn a_hundred_thousand_pixels_from_wrk_are_as_many_enriched_rows() {
    let collector = Collector::open().await;
    let dir = tempdir();
    let agents = std::fs::read_to_string(root().join("assets/data/test/user-agents.json")).unwrap();
    let agents: Vec<serde_json::Value> = serde_json::from_str(&agents).unwrap();
    let agents = agents.iter().fold(String::new(), |mut text, agent| {
        writeln!(text, "{}", agent["userAgent"].as_str().unwrap()).unwrap();
        text
    });
    std::fs::write(dir.path().join("agents"), agents).unwrap();
    let started = Instant::now();
    let senders = ["a", "b"].map(|prefix| {
        Command::new("wrk")
            .args(["-t", "1", "-c", "16", "-d", "300s", "-s"])
            .arg(root().join("loadtest/pixels.lua"))
            .arg(format!("http://{}", collector.http))
            .arg("--")
            .arg(dir.path().join("agents"))
            .args([&(PIXELS / 2).to_string(), prefix])
            .kill_on_drop(true)
            .output()
    });
    let [a, b] = senders;
    let (a, b) = tokio::join!(a, b);
    let answered = started.elapsed();
    for output in [a, b] {
        let output = output.expect("wrk is installed by script/setup test");
        assert!(output.status.success(), "{output:?}");
    }
    let loaded = collector
        .wait_for("select count(*) from avtryck.hit", PIXELS)
        .await;
    eprintln!("answered in {answered:?}, loaded {loaded:?} later");
    for (sql, number) in [
        ("select count(distinct hit_id) from avtryck.hit", PIXELS),
        ("select count(distinct event_name) from avtryck.hit", PIXELS),
        (
            "select count(*) from avtryck.hit_detail where device_class is not null and browser is not null and country is not null",
            PIXELS,
        ),
        ("select count(*) from avtryck.rejected_hit", 0),
    ] {
        assert_eq!(collector.number(sql).await, number, "{sql}");
    }
    assert_eq!(
        collector
            .metric("avtryck_http_requests_total{endpoint=\"pixel\",status=\"200\"}")
            .await,
        PIXELS as f64
    );
}
