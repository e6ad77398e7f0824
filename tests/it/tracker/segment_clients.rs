//! The SDKs of Segment and RudderStack for servers, as they are installed.

use std::process::Stdio;

use avtryck::postgres::server::embedded::Embedded;
use tokio::process::{Child, Command};

use super::segment::config;
use crate::support::{Collector, PATIENCE, root, tempdir, until};

/// An SDK that sends a call of each type, until all are taken.
struct Client {
    program: &'static str,
    script: &'static str,
    maker: &'static str,
    /// How the program finds the SDK, and where that is.
    packages: (&'static str, &'static str),
}

const NODE: Client = Client {
    program: "node",
    script: "calls.cjs",
    maker: "",
    packages: ("NODE_PATH", "node_modules"),
};

const PYTHON: Client = Client {
    program: "python3",
    script: "calls.py",
    maker: "",
    packages: ("PYTHONPATH", "python"),
};

const CLIENTS: [Client; 4] = [
    Client {
        maker: "segment",
        ..NODE
    },
    Client {
        maker: "rudderstack",
        ..NODE
    },
    Client {
        maker: "segment",
        ..PYTHON
    },
    Client {
        maker: "rudderstack",
        ..PYTHON
    },
];

/// The calls that each of them sends.
const CALLS: i64 = 6;

impl Client {
    fn start(&self, collector: &Collector) -> Child {
        let (variable, folder) = self.packages;
        let packages = root().join("assets/data/segment").join(folder);
        assert!(
            packages.is_dir(),
            "script/fetch test puts {packages:?} there"
        );
        Command::new(self.program)
            .arg(root().join("tests/it/tracker/client").join(self.script))
            .arg(format!("http://{}", collector.http))
            .arg(self.maker)
            .env(variable, packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Waits for its end. It must have given up no call.
    async fn end(&self, running: Child) {
        let output = tokio::time::timeout(PATIENCE, running.wait_with_output()).await;
        let output = output.expect("the client ends").unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let what = format!("{} {}: {printed} {errors}", self.script, self.maker);
        assert!(output.status.success(), "{what}");
        assert!(!printed.contains("given up"), "{what}");
    }
}

/// Waits until each call is one row.
async fn check_rows(collector: &Collector, client: &Client) {
    let what = format!("{} {}", client.script, client.maker);
    let count = "select count(*) from avtryck.hit_detail where protocol = 'segment'";
    collector.wait_for(count, CALLS).await;
    let whole = "select count(distinct event_id) from avtryck.hit_detail where site = 'cart' \
         and user_key is not null and visitor_id is null";
    assert_eq!(collector.number(whole).await, CALLS, "{what}");
    let order = "select count(*) from avtryck.hit_detail where event_name = 'Order Completed' \
         and device_id = 'device-1' and params->>'value' = '19.99'";
    assert_eq!(collector.number(order).await, 1, "{what}");
}

#[tokio::test]
async fn sdks_of_servers_send_each_call_once_to_a_healthy_collector() {
    for client in &CLIENTS {
        let collector = Collector::start(config()).await;
        client.end(client.start(&collector)).await;
        check_rows(&collector, client).await;
    }
}

#[tokio::test]
async fn sdks_of_servers_send_each_call_once_to_a_full_spool_that_recovers() {
    for client in &CLIENTS {
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
        let running = client.start(&collector);
        until(async || collector.admin("/metrics").await.body.contains(REFUSED)).await;
        let postgres = Embedded::start(&database).await.unwrap();
        client.end(running).await;
        check_rows(&collector, client).await;
        let _dir = collector.kill().await;
        postgres.stop().await.unwrap();
    }
}

/// What the metrics say once a request of theirs found no room.
const REFUSED: &str = "avtryck_http_requests_total{endpoint=\"segment\",status=\"503\"} ";

/// Fills the spool until a small hit has no room.
async fn fill(collector: &Collector) {
    let event = format!(
        r#"{{"site":"cart","u":"https://shop.example/{}"}}"#,
        "x".repeat(1900)
    );
    let events = format!("[{}]", vec![event; 400].join(","));
    while collector.post("/e", &[], &events).await.status != 503 {}
    let pixel = format!("/p.gif?site=cart&u={}", "y".repeat(2000));
    while collector.get(&pixel, &[]).await.status != 503 {}
    while collector.get("/p.gif?site=cart", &[]).await.status != 503 {}
}
