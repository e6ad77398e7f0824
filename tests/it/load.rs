//! Load from outside: every acknowledged pixel is one row.

use std::fmt::Write as _;

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
    let output = Command::new("wrk")
        .args([
            "--threads",
            "2",
            "--connections",
            "32",
            "--duration",
            "300s",
            "--script",
        ])
        .arg(root().join("loadtest/pixels.lua"))
        .arg(format!("http://{}", collector.http))
        .arg("--")
        .arg(dir.path().join("agents"))
        .arg((PIXELS / 2).to_string())
        .output()
        .await
        .expect("wrk is installed by script/setup test");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "{text}"
    );
    let took = collector
        .wait_for("select count(*) from avtryck.hit", PIXELS)
        .await;
    eprintln!("{text}\nloaded {took:?} after the last reply");
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
