//! Load from outside: every acknowledged pixel is one row. `make chaos` sends more of them
//! (`LOAD_PIXELS`).

use std::fmt::Write as _;

use tokio::process::Command;

use crate::chaos::variable;
use crate::support::{Collector, Config, root, tempdir};

/// Pixels in `make test`.
const PIXELS: u64 = 20_000;

#[tokio::test]
async fn pixels_from_wrk_are_as_many_enriched_rows() {
    let pixels = variable("LOAD_PIXELS").unwrap_or(PIXELS) as i64;
    let collector = Collector::start(Config::sites().real_geodata()).await;
    let dir = tempdir();
    let agents = std::fs::read_to_string(root().join("assets/data/test/user-agents.json")).unwrap();
    let agents: Vec<serde_json::Value> = serde_json::from_str(&agents).unwrap();
    let agents = agents.iter().fold(String::new(), |mut text, agent| {
        writeln!(text, "{}", agent["userAgent"].as_str().unwrap()).unwrap();
        text
    });
    std::fs::write(dir.path().join("agents"), agents).unwrap();
    let senders = ["a", "b"].map(|prefix| {
        Command::new("wrk")
            .args(["-t", "1", "-c", "16", "-d", "300s", "-s"])
            .arg(root().join("loadtest/pixels.lua"))
            .arg(format!("http://{}", collector.http))
            .arg("--")
            .arg(dir.path().join("agents"))
            .args([&(pixels / 2).to_string(), prefix])
            .kill_on_drop(true)
            .output()
    });
    let [a, b] = senders;
    let (a, b) = tokio::join!(a, b);
    for output in [a, b] {
        let output = output.expect("wrk is installed by script/setup test");
        assert!(output.status.success(), "{output:?}");
    }
    collector
        .wait_for("select count(*) from avtryck.hit", pixels)
        .await;
    for (sql, number) in [
        ("select count(distinct hit_id) from avtryck.hit", pixels),
        ("select count(distinct event_name) from avtryck.hit", pixels),
        (
            "select count(*) from avtryck.hit_detail where device_class is not null and browser is not null and country is not null",
            pixels,
        ),
        ("select count(*) from avtryck.rejected_hit", 0),
    ] {
        assert_eq!(collector.number(sql).await, number, "{sql}");
    }
    assert_eq!(
        collector
            .metric("avtryck_http_requests_total{endpoint=\"pixel\",status=\"200\"}")
            .await,
        pixels as f64
    );
}
