//! No request hides in another one: alone, and behind a proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::payloads::{Expect, Payload, all};
use crate::support::{Collector, PATIENCE, free_address};

/// Sends a payload and reads until the other side closes.
async fn exchange(address: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut bytes = Vec::new();
        // Whoever refuses what it has not read resets the connection behind its answer.
        drop(stream.write_all(payload).await);
        drop(stream.read_to_end(&mut bytes).await);
        bytes
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("the connection ends")
}

/// Each payload on a connection of its own, side by side, with what was answered.
async fn send_all(address: SocketAddr) -> Vec<(Payload, Vec<u8>)> {
    let mut exchanges = JoinSet::new();
    for (number, payload) in all().into_iter().enumerate() {
        exchanges.spawn(async move {
            let reply = exchange(address, &payload.bytes).await;
            (number, payload, reply)
        });
    }
    let mut done = exchanges.join_all().await;
    done.sort_by_key(|(number, ..)| *number);
    done.into_iter()
        .map(|(_, payload, reply)| (payload, reply))
        .collect()
}

/// The status of each reply on a connection, and whether the last one says that it is the last.
fn replies(bytes: &[u8]) -> (Vec<u16>, bool) {
    let text = String::from_utf8_lossy(bytes);
    // Neither a GIF nor JSON of ours holds this.
    let heads = text.split("HTTP/1.").skip(1);
    let status = |head: &str| head.get(2..5)?.parse().ok();
    let statuses = heads
        .clone()
        .filter_map(status)
        .filter(|status| *status != 100);
    let closes = heads
        .last()
        .is_none_or(|head| head.to_ascii_lowercase().contains("connection: close\r\n"));
    (statuses.collect(), closes)
}

/// The sum of the counters of that name whose labels hold `label`.
fn sum(metrics: &str, name: &str, label: &str) -> u64 {
    metrics
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

async fn names(collector: &Collector) -> BTreeMap<String, i64> {
    collector
        .rows("select coalesce(event_name, ''), count(*) from avtryck.hit group by 1")
        .await
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

#[tokio::test]
async fn each_payload_is_refused_and_closed_or_is_exactly_one_record_and_nothing_hides_in_it() {
    let collector = Collector::open().await;
    let exchanges = send_all(collector.http).await;
    assert!(exchanges.len() >= 100);
    let metrics = collector.admin("/metrics").await.body;
    let recorded = sum(&metrics, "avtryck_hits_total", "");
    collector
        .wait_for("select count(*) from avtryck.hit", recorded as i64)
        .await;
    let names = names(&collector).await;
    let mut wrong = Vec::new();
    let (mut refused, mut one) = (0, 0);
    for (number, (payload, reply)) in exchanges.iter().enumerate() {
        let (statuses, closes) = replies(reply);
        let seen = names.get(&format!("s{number:03}")).copied().unwrap_or(0);
        let hidden = names.get(&format!("h{number:03}")).copied().unwrap_or(0);
        let taken = statuses.iter().filter(|status| **status < 300).count();
        let as_it_should = match payload.expect {
            Expect::Refused => {
                refused += 1;
                let is_refused = statuses.iter().all(|status| (400..500).contains(status));
                seen == 0 && statuses.len() <= 1 && is_refused && closes
            }
            Expect::One => {
                one += 1;
                seen == 1 && taken == 1
            }
        };
        if !as_it_should || hidden != 0 {
            wrong.push(format!(
                "{number} {:?} {}: statuses {statuses:?}, closes {closes}, recorded {seen}, hidden {hidden}",
                payload.expect, payload.what
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(recorded, one);
    let answered = |status| sum(&metrics, "avtryck_http_requests_total", status);
    assert_eq!(answered("status=\"200\"") + answered("status=\"204\""), one);
    eprintln!(
        "{} payloads: {refused} refused and closed, {one} one record each, 0 hidden",
        exchanges.len()
    );
}

/// Debian's nginx in front of a collector, with connections to it that are kept and shared.
struct Proxy {
    child: Child,
    address: SocketAddr,
    log: std::path::PathBuf,
}

impl Proxy {
    async fn start(dir: &Path, upstream: SocketAddr) -> Proxy {
        let address = free_address();
        let log = dir.join("access.log");
        let config = format!(
            r#"
daemon off;
master_process off;
pid {dir}/pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    log_format hits '$arg_e|$request_method|$upstream_status';
    access_log {log} hits;
    keepalive_timeout 2s;
    client_header_timeout 2s;
    client_body_timeout 2s;
    lingering_timeout 1s;
    upstream collector {{ server {upstream}; keepalive 8; keepalive_timeout 5s; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://collector;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host 127.0.0.1;
            proxy_next_upstream off;
        }}
    }}
}}
"#,
            dir = dir.display(),
            log = log.display(),
        );
        let path = dir.join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let nginx = ["/usr/sbin/nginx", "nginx"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or("nginx");
        let mut command = Command::new(nginx);
        command
            .args(["-e", "stderr", "-p"])
            .arg(dir)
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if nix::unistd::geteuid().is_root() {
            // As root it would ask for another user's rights: it gets them at once.
            let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
            let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
            std::os::unix::fs::chown(dir, Some(uid), Some(gid)).unwrap();
            command.uid(uid).gid(gid);
        }
        let child = command
            .spawn()
            .expect("nginx is installed by script/setup test");
        let started = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Proxy {
            child,
            address,
            log,
        }
    }

    /// Ends it once it has answered what it has, and reads its log: name, method and the
    /// collector's status.
    async fn stop(mut self) -> Vec<[String; 3]> {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-QUIT", &pid])
            .status()
            .unwrap();
        assert!(sent.success());
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap()
            .unwrap();
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines()
            .map(|line| {
                let mut parts = line.split('|').map(str::to_owned);
                [(); 3].map(|()| parts.next().unwrap())
            })
            .collect()
    }
}

#[tokio::test]
async fn a_proxy_in_front_counts_the_requests_that_the_collector_counts() {
    let collector = Collector::open().await;
    let dir = crate::support::tempdir();
    let proxy = Proxy::start(dir.path(), collector.http).await;
    let sent = send_all(proxy.address).await.len();
    let log = proxy.stop().await;
    let passed_on: Vec<_> = log.iter().filter(|[_, _, status]| status != "-").collect();
    let metrics = collector.admin("/metrics").await.body;
    let recorded = sum(&metrics, "avtryck_hits_total", "");
    // What is malformed is no request, and any other one is counted.
    let ours = sum(&metrics, "avtryck_http_requests_total", "")
        + sum(&metrics, "avtryck_refusals_total", "malformed");
    assert_eq!(passed_on.len() as u64, ours, "{passed_on:?}\n{metrics}");
    let taken = |line: &&&[String; 3]| {
        line[2].starts_with('2') && line[1] != "HEAD" && line[1] != "OPTIONS"
    };
    assert_eq!(
        passed_on.iter().filter(taken).count() as u64,
        recorded,
        "{passed_on:?}"
    );
    collector
        .wait_for("select count(*) from avtryck.hit", recorded as i64)
        .await;
    // What is a request of its own to the proxy is one here; what is none there is none here.
    let names = names(&collector).await;
    for number in 0..sent {
        let name = format!("h{number:03}");
        let by_proxy = passed_on
            .iter()
            .filter(|[e, _, status]| *e == name && status == "200");
        let by_proxy = by_proxy.count() as i64;
        assert_eq!(names.get(&name).copied().unwrap_or(0), by_proxy, "{name}");
    }
    eprintln!(
        "{sent} payloads: nginx passed on {} requests and the collector counts {ours}, {recorded} of them recorded",
        passed_on.len()
    );
    assert!(recorded > 10);
}
