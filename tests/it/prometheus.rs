//! What watches a collector: the metrics as Debian's Prometheus reads them, the rules and alerts,
//! the queries of the dashboard, and the runbook behind them.

mod fault;
mod server;

use std::time::Instant;

use serde_json::Value;

use crate::support::{Collector, PATIENCE, root, until};
use fault::{
    crowd, damage, doubt_the_clock, fill, pixel, send, send_what_is_refused,
    slow_down_and_fail_the_disk, start_alone, start_away, start_over, start_well, visits,
};
use server::{Prometheus, RULES, promtool};

/// What who sends hits can bring about.
const FROM_OUTSIDE: [&str; 3] = [
    "AvtryckRejectedHits",
    "AvtryckCallbacksRefused",
    "AvtryckConnectionsNearlyFull",
];
/// What a Postgres and a Kafka that are away bring about, and files that are old or broken.
const OF_AN_OUTAGE: [&str; 8] = [
    "AvtryckKafkaStuck",
    "AvtryckLoaderStuck",
    "AvtryckBacklogAge",
    "AvtryckSpoolNearlyFull",
    "AvtryckPixelErrors",
    "AvtryckInstructionsWaiting",
    "AvtryckGeodataOld",
    "AvtryckReloadFailed",
];

#[tokio::test]
async fn promtool_finds_nothing_wrong() {
    promtool(&["check", "rules", "avtryck.rules.yml"], None).await;
    promtool(&["check", "config", "prometheus.yml"], None).await;
    promtool(
        &["test", "rules", "avtryck.test.yml", "geodata.test.yml"],
        None,
    )
    .await;
    let collector = Collector::open().await;
    collector.get("/p.gif?site=open", &[]).await;
    let scraped = collector.dir.path().join("metrics");
    std::fs::write(&scraped, collector.admin("/metrics").await.body).unwrap();
    promtool(&["check", "metrics"], Some(&scraped)).await;
}

#[test]
fn each_alert_has_a_severity_and_its_entry_in_the_runbook_and_each_entry_its_alert() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let rules = read(RULES);
    let mut alerts = Vec::new();
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let anchor = format!("runbook_url: docs/runbook.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&anchor), "{name}");
        assert!(alert.contains("severity: critical }") || alert.contains("severity: warning }"));
        alerts.push(name);
    }
    let runbook = read("docs/runbook.md");
    let entries: Vec<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## Avtryck"))
        .collect();
    let of_alerts: Vec<&str> = alerts
        .iter()
        .filter_map(|name| name.strip_prefix("Avtryck"))
        .collect();
    assert_eq!(
        entries, of_alerts,
        "the entries of the runbook, in the order of the rules"
    );
    for entry in runbook.split("\n## Avtryck").skip(1) {
        for part in ["**It means**", "**Look at**", "**Do**", "**Over when**"] {
            assert!(entry.contains(part), "no {part} in {entry}");
        }
    }
    for name in entries {
        let is_tested = ["avtryck.test.yml", "geodata.test.yml"]
            .map(|file| read(&format!("ops/prometheus/{file}")))
            .concat()
            .contains(&format!("alertname=\"Avtryck{name}\""));
        assert!(is_tested, "{name}");
    }
}

#[tokio::test]
async fn every_panel_has_data_and_every_alert_fires_once_its_fault_is_there() {
    let well = start_well().await;
    let prometheus = Prometheus::start().await;
    prometheus.scrape(&[("well", well.admin)]);
    let load = [send(well.http, visits()), send(well.http, visits())];
    until_panels_have_data(&prometheus).await;
    until(async || prometheus.firing().await.is_empty()).await;

    let (slow, away) = (start_alone().await, start_away().await);
    let lasting = [("well", well.admin), ("slow", slow.admin)];
    prometheus.scrape(&[lasting[0], lasting[1], ("away", away.admin)]);
    fill(&away).await;
    let lost = send(away.http, vec![pixel("open")]);
    slow_down_and_fail_the_disk(&prometheus, &slow).await;
    prometheus
        .until_fires("slow", &["AvtryckCertificateExpiring"])
        .await;
    send_what_is_refused(&well).await;
    let crowd = crowd(&well);
    prometheus.until_fires("well", &FROM_OUTSIDE).await;
    drop(crowd);
    prometheus.until_fires("away", &OF_AN_OUTAGE).await;
    for load in load.iter().chain([&lost]) {
        load.abort();
    }
    start_over(&prometheus, "away", away, &lasting).await;
    prometheus
        .until_fires("away", &["AvtryckRestarting", "AvtryckDown"])
        .await;

    let well = damage(well).await;
    prometheus.scrape(&[("well", well.admin)]);
    let of_damage = [
        "AvtryckSpoolDamaged",
        "AvtryckJobsFailing",
        "AvtryckRetentionBehind",
        "AvtryckReportsDiffer",
        "AvtryckSegmentFailed",
        "AvtryckRemovalsWaiting",
        "AvtryckTiesUnpermitted",
        "AvtryckSplitsWaiting",
    ];
    prometheus.until_fires("well", &of_damage).await;
    let well = doubt_the_clock(well).await;
    prometheus.scrape(&[("well", well.admin)]);
    prometheus.until_fires("well", &["AvtryckClockWrong"]).await;
    // These take a broker; the test of the rules has them.
    let of_brokers = [
        "AvtryckKafkaFenced",
        "AvtryckLoadLeavesOut",
        "AvtryckLoadStuck",
        "AvtryckLoadUnassigned",
    ];
    let mut alerts = prometheus.alerts().await;
    alerts.retain(|alert| !of_brokers.contains(&alert.as_str()));
    assert_eq!(prometheus.fired(), alerts);
}

/// Asks what the panels of the dashboard ask until each has a number to show.
async fn until_panels_have_data(prometheus: &Prometheus) {
    let text = std::fs::read_to_string(root().join("ops/grafana/avtryck.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut queries = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        for part in ["title", "description"] {
            assert!(
                panel[part].as_str().is_some_and(|text| !text.is_empty()),
                "{panel}"
            );
        }
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        assert!(unit.is_string(), "{panel}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            let query = expression
                .replace("$instance", ".+")
                .replace("$__rate_interval", "5m");
            assert!(!query.contains('$'), "{query}");
            queries.push(query);
        }
    }
    let started = Instant::now();
    while !queries.is_empty() {
        let mut empty = Vec::new();
        for query in queries {
            if prometheus.query(&query).await.is_empty() {
                empty.push(query);
            }
        }
        queries = empty;
        assert!(started.elapsed() < PATIENCE, "no data: {queries:#?}");
    }
}
