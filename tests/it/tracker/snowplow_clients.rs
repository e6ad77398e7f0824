//! Snowplow's trackers themselves, as they are installed: for servers, and in Chromium.

use std::process::Stdio;

use avtryck::postgres::server::embedded::Embedded;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::snowplow::config;
use crate::support::{Collector, PATIENCE, root, tempdir};

/// A tracker that sends one event of each type, until all are taken.
struct Client {
    program: &'static str,
    script: &'static str,
    /// How the program finds the tracker's package, and where that is.
    packages: (&'static str, &'static str),
    events: i64,
}

const NODE: Client = Client {
    program: "node",
    script: "snowplow.cjs",
    packages: ("NODE_PATH", "node_modules"),
    events: 6,
};

const PYTHON: Client = Client {
    program: "python3",
    script: "snowplow.py",
    packages: ("PYTHONPATH", "python"),
    events: 4,
};

impl Client {
    fn start(&self, collector: &Collector, method: &str) -> Child {
        let (variable, folder) = self.packages;
        let packages = root().join("assets/data/snowplow").join(folder);
        assert!(
            packages.is_dir(),
            "script/fetch test puts {packages:?} there"
        );
        Command::new(self.program)
            .arg(root().join("tests/it/tracker/client").join(self.script))
            .arg(format!("http://{}", collector.http))
            .arg(method)
            .env(variable, packages)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }
}

/// Waits for the end of a client. Returns what else it printed.
async fn end(mut client: Child) -> String {
    let mut printed = String::new();
    let mut errors = String::new();
    let reading = async {
        let (mut out, mut err) = (client.stdout.take(), client.stderr.take());
        if let Some(out) = &mut out {
            out.read_to_string(&mut printed).await.unwrap();
        }
        if let Some(err) = &mut err {
            err.read_to_string(&mut errors).await.unwrap();
        }
        client.wait().await.unwrap()
    };
    let status = tokio::time::timeout(PATIENCE, reading).await;
    let status = status.expect("the client ends");
    assert!(status.success(), "{status} {printed} {errors}");
    printed
}

/// Waits until each event of a client is one row.
async fn check_rows(collector: &Collector, events: i64) {
    let count = "select count(*) from avtryck.hit_detail where protocol = 'snowplow'";
    collector.wait_for(count, events).await;
    let different = "select count(distinct event_id) from avtryck.hit_detail \
         where protocol = 'snowplow' and site = 'the-shop' and device_id = 'device-1'";
    assert_eq!(collector.number(different).await, events);
}

#[tokio::test]
async fn trackers_of_servers_send_each_event_once_to_a_healthy_collector() {
    for (client, method) in [
        (&NODE, "post"),
        (&NODE, "get"),
        (&PYTHON, "post"),
        (&PYTHON, "get"),
    ] {
        let collector = Collector::start(config()).await;
        let printed = end(client.start(&collector, method)).await;
        assert_eq!(printed, "", "{} {method}", client.script);
        check_rows(&collector, client.events).await;
        let kinds = "select count(*) from avtryck.hit_detail where kind = 'page_view'";
        assert_eq!(collector.number(kinds).await, 1);
        // None of them keeps a cookie.
        let visitors = "select count(*) from avtryck.hit_detail where visitor_id is not null";
        assert_eq!(collector.number(visitors).await, 0);
    }
}

#[tokio::test]
async fn trackers_of_servers_send_each_event_once_to_a_full_spool_that_recovers() {
    for client in [&NODE, &PYTHON] {
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
        let mut running = client.start(&collector, "post");
        let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line.expect("it says that it failed").unwrap();
        assert!(
            line.is_some_and(|line| line.starts_with("failed")),
            "{}",
            client.script
        );
        let postgres = Embedded::start(&database).await.unwrap();
        end(running).await;
        check_rows(&collector, client.events).await;
        let _dir = collector.kill().await;
        postgres.stop().await.unwrap();
    }
}

/// Fills the spool until a small hit has no room.
pub(super) async fn fill(collector: &Collector) {
    let event = format!(
        r#"{{"site":"the-shop","u":"https://shop.example/{}"}}"#,
        "x".repeat(1900)
    );
    let events = format!("[{}]", vec![event; 400].join(","));
    while collector.post("/e", &[], &events).await.status != 503 {}
    let pixel = format!("/p.gif?site=the-shop&u={}", "y".repeat(2000));
    while collector.get(&pixel, &[]).await.status != 503 {}
    while collector.get("/p.gif?site=the-shop", &[]).await.status != 503 {}
}
