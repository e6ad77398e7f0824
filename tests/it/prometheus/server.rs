//! A real Prometheus that scrapes collectors twice a second, and what is asked of it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::support::{Dir, PATIENCE, free_address, raw, root, tempdir, until};

pub(super) const RULES: &str = "ops/prometheus/avtryck.rules.yml";

pub(super) struct Prometheus {
    address: SocketAddr,
    dir: Dir,
    /// Alerts that were waited for and came.
    fired: RefCell<BTreeSet<String>>,
    _child: Child,
}

/// Takes the patience from the rules: what has to hold for minutes has to hold for a second.
fn impatient_rules() -> String {
    let rules = std::fs::read_to_string(root().join(RULES)).unwrap();
    let line = |line: &str| match line.split_once("for: ") {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s\n"),
        _ => format!("{line}\n"),
    };
    rules.lines().map(line).collect()
}

impl Prometheus {
    /// Starts one that knows no collector yet.
    pub(super) async fn start() -> Prometheus {
        let dir = tempdir();
        let config = "global:\n  scrape_interval: 500ms\n  evaluation_interval: 250ms\n\
            rule_files: [rules.yml]\n\
            scrape_configs:\n  - job_name: avtryck\n    file_sd_configs:\n\
            \x20     - { files: [targets.json], refresh_interval: 250ms }\n";
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        std::fs::write(dir.path().join("rules.yml"), impatient_rules()).unwrap();
        std::fs::write(dir.path().join("targets.json"), "[]").unwrap();
        let address = free_address();
        let child = Command::new("prometheus")
            .current_dir(dir.path())
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus is installed by script/setup test");
        until(async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
        let prometheus = Prometheus {
            address,
            dir,
            fired: RefCell::default(),
            _child: child,
        };
        until(async || prometheus.get("/-/ready").await.0 == 200).await;
        prometheus
    }

    /// Names the collectors to scrape, with the address of each admin listener.
    pub(super) fn scrape(&self, collectors: &[(&str, SocketAddr)]) {
        let target = |(name, address): &(&str, SocketAddr)| serde_json::json!({ "targets": [address.to_string()], "labels": { "instance": name } });
        let targets: Vec<Value> = collectors.iter().map(target).collect();
        // Put in place at once, so that it never reads half of it.
        let new = self.dir.path().join("targets.new");
        std::fs::write(&new, Value::from(targets).to_string()).unwrap();
        std::fs::rename(new, self.dir.path().join("targets.json")).unwrap();
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        // In HTTP/1.0 it does not chunk.
        let request = format!("GET {target} HTTP/1.0\r\nHost: prometheus\r\n\r\n");
        let reply = raw(self.address, request.as_bytes()).await;
        let body = serde_json::from_str(&reply.body).unwrap_or_default();
        (reply.status, body)
    }

    /// The numbers that a query answers; those that are none are left out.
    pub(super) async fn query(&self, query: &str) -> Vec<f64> {
        let encoded = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let (status, answer) = self.get(&format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(status, 200, "{query}: {answer}");
        let series = answer["data"]["result"].as_array().unwrap();
        let value = |series: &Value| series["value"][1].as_str()?.parse().ok();
        let numbers = series.iter().filter_map(value);
        numbers.filter(|number: &f64| !number.is_nan()).collect()
    }

    /// Every alert there is.
    pub(super) async fn alerts(&self) -> BTreeSet<String> {
        let (_, answer) = self.get("/api/v1/rules?type=alert").await;
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array());
        rules.flatten().map(|rule| text(&rule["name"])).collect()
    }

    /// The alerts that fire, each with its collector.
    pub(super) async fn firing(&self) -> BTreeSet<(String, String)> {
        let (_, answer) = self.get("/api/v1/alerts").await;
        let alerts = answer["data"]["alerts"].as_array().unwrap();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| {
                for annotation in ["summary", "description"] {
                    let told = text(&alert["annotations"][annotation]);
                    assert!(!told.is_empty() && !told.contains("<error"), "{alert}");
                }
                let labels = &alert["labels"];
                (text(&labels["alertname"]), text(&labels["instance"]))
            })
            .collect()
    }

    /// The alerts that were waited for.
    pub(super) fn fired(&self) -> BTreeSet<String> {
        self.fired.borrow().clone()
    }

    /// Waits until alerts fire for a collector.
    pub(super) async fn until_fires(&self, collector: &str, alerts: &[&str]) {
        let started = Instant::now();
        loop {
            let firing = self.firing().await;
            let is_firing =
                |alert: &&str| firing.contains(&((*alert).to_owned(), collector.to_owned()));
            let missing: Vec<&&str> = alerts.iter().filter(|alert| !is_firing(alert)).collect();
            if missing.is_empty() {
                self.fired
                    .borrow_mut()
                    .extend(alerts.iter().map(|&alert| alert.to_owned()));
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{missing:?} not among {firing:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Has `promtool` look at something, and demands that it finds nothing wrong.
pub(super) async fn promtool(arguments: &[&str], stdin: Option<&Path>) {
    let mut command = Command::new("promtool");
    command
        .args(arguments)
        .current_dir(root().join("ops/prometheus"));
    match stdin {
        Some(path) => command.stdin(std::fs::File::open(path).unwrap()),
        None => command.stdin(Stdio::null()),
    };
    let output = command
        .output()
        .await
        .expect("promtool is installed by script/setup test");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    if stdin.is_some() {
        assert_eq!(text, "", "{arguments:?}");
    }
}
