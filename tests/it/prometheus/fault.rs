//! Collectors, what is sent to them, and the faults that alerts are about.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use avtryck::clock::{self, UnixMicros};
use avtryck::hit::{Hit, Kind, Permit};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::{JoinHandle, JoinSet};

use super::server::Prometheus;
use crate::loading::{encoded, spool};
use crate::support::tls::Authority;
use crate::support::{Collector, Config, IPHONE, raw, root, tables, tempdir, until};

const TOKEN: &str = "token-of-the-ad-server";
const CONNECTIONS_MAX: usize = 64;

/// A request as it is sent.
pub(super) fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX-Forwarded-For: 2.64.0.1\r\n\
         {length}{headers}\r\n{body}"
    )
}

pub(super) fn pixel(site: &str) -> String {
    request(
        "GET",
        &format!("/p.gif?site={site}"),
        &format!("User-Agent: {IPHONE}\r\n"),
        "",
    )
}

/// What a day brings: pages, ads, callbacks, robots, refused tags.
pub(super) fn visits() -> Vec<String> {
    let ad = "/i.gif?site=open&partner=network&campaign=spring&creative=banner&uid=u1";
    let callback = format!("/cb/server?token={TOKEN}&e=sale");
    vec![
        pixel("open"),
        pixel("shut"),
        pixel("nowhere"),
        request("GET", ad, "", ""),
        request("GET", &callback, "", ""),
        request(
            "GET",
            "/p.gif?site=open",
            "User-Agent: Googlebot/2.1\r\n",
            "",
        ),
        request(
            "POST",
            "/e",
            "Content-Type: application/json\r\n",
            r#"{"site":"open","e":"seen"}"#,
        ),
    ]
}

/// Sends requests one after the other, over and over.
pub(super) fn send(address: SocketAddr, requests: Vec<String>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(15));
        for request in requests.iter().cycle() {
            pace.tick().await;
            raw(address, request.as_bytes()).await;
        }
    })
}

/// Has a collector without geodata speak TLS, with a certificate that is valid until a year's first
/// day.
fn encrypted(dir: &Path, until_year: i32) -> Config {
    let stem = dir.join("localhost");
    Authority::new().issue(&stem, &["localhost"], until_year);
    without_geodata().tls(&[stem])
}

fn without_geodata() -> Config {
    let nothing = Vec::<String>::new;
    Config::sites()
        .set("geoip.city", nothing())
        .set("geoip.network", nothing())
}

/// One that has all that it needs.
pub(super) async fn start_well() -> Collector {
    let dir = tempdir();
    let partner = format!(
        r#"
        [[partner]]
        key = "server"
        token = "{TOKEN}"
        site = "open"
        default_permit = ["measure"]

        [[segment]]
        key = "upgrade"
        where = "device_class = 'phone'"
        "#
    );
    let config = encrypted(dir.path(), 2100)
        .with(&partner)
        .set("geoip.city", tables::FEW_NETWORKS.clone())
        .set("http.connections_max", CONNECTIONS_MAX as i64);
    config.write(&dir).await;
    // A segment that was evaluated before, whose state a start tells at once.
    let collector = Collector::start_in(dir).await;
    let sql = "insert into avtryck.segment (key, evaluated_at) values ('upgrade', now())";
    let client = collector.database().await;
    client.batch_execute(sql).await.unwrap();
    let (_, dir, _) = collector.stop().await;
    Collector::start_in(dir).await
}

/// One whose Postgres is not there, and whose certificate has ended.
pub(super) async fn start_alone() -> Collector {
    let dir = tempdir();
    let config = encrypted(dir.path(), 2024).without_postgres();
    config.write(&dir).await;
    Collector::start_in(dir).await
}

/// One that found hits of an hour ago in its spool, and whose Postgres and Kafka are not there; its
/// geodata are old, its rules broken.
pub(super) async fn start_away() -> Collector {
    let dir = tempdir();
    let mut hit = Hit::new(
        UnixMicros(clock::now().0 - 3_600_000_000),
        Kind::Event,
        "open",
    );
    hit.permit = Permit::MEASURE;
    spool(dir.path(), vec![encoded(&hit)]).await;
    let no_rules = root().join("Cargo.toml").display().to_string();
    let config = Config::sites()
        .without_postgres()
        .set("kafka.brokers", vec!["127.0.0.1:1"])
        .set("geoip.city", Vec::<String>::new())
        .set("spool.chunk_bytes", "1MiB")
        .set("spool.max_bytes", "8MiB")
        // One client fills it.
        .set("limit.hits_per_second", 0)
        .set("device.rules", no_rules);
    config.write(&dir).await;
    Collector::start_in(dir).await
}

/// Has Postgres refuse a hit, and a partner's server send what proves nothing.
pub(super) async fn send_what_is_refused(collector: &Collector) {
    let poison = "alter table avtryck.hit add check (event_name is distinct from 'poison')";
    collector
        .database()
        .await
        .batch_execute(poison)
        .await
        .unwrap();
    let poisoned = collector.get("/p.gif?site=open&e=poison", &[]).await;
    assert_eq!(poisoned.status, 200);
    for _ in 0..100 {
        let wrong = collector
            .get("/cb/server?token=another-token-than-that", &[])
            .await;
        assert_eq!(wrong.header("avtryck-refusal"), "callback_token");
    }
}

/// Connections that do nothing, nearly as many as there may be.
pub(super) fn crowd(collector: &Collector) -> JoinSet<()> {
    let crowd = 0..CONNECTIONS_MAX - 2;
    crowd.map(|_| stay(collector.http)).collect()
}

/// Comes back whenever it is shown the door.
async fn stay(address: SocketAddr) {
    loop {
        let mut stream = TcpStream::connect(address).await.unwrap();
        drop(stream.read_to_end(&mut Vec::new()).await);
    }
}

/// Withdraws a visitor, and fills the spool.
pub(super) async fn fill(collector: &Collector) {
    let new = collector.get("/id?site=open", &[]).await;
    let of_the_page = [
        ("Origin", "https://www.open.example"),
        ("Cookie", new.cookie()),
    ];
    let withdrawn = collector
        .request("DELETE", "/consent?site=open", &of_the_page, "")
        .await;
    assert_eq!(withdrawn.status, 200);
    let event = format!(
        r#"{{"site":"open","u":"https://www.open.example/{}"}}"#,
        "x".repeat(1900)
    );
    let events = format!("[{}]", vec![event; 100].join(","));
    while collector.post("/e", &[], &events).await.status == 204 {}
}

/// Changes what the disk answers a running collector.
async fn meddle(collector: &Collector, how: &str) -> Child {
    let pid = collector.pid().to_string();
    let meddling = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync",
            "-e",
        ])
        .arg(format!("inject=fdatasync:{how}"))
        .args(["-p", &pid])
        .kill_on_drop(true)
        .spawn()
        .expect("strace is installed by script/setup test");
    let tracer = format!("TracerPid:\t{}\n", meddling.id().unwrap());
    until(async || {
        let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads.all(|thread| {
            let status = thread.unwrap().path().join("status");
            std::fs::read_to_string(status).unwrap().contains(&tracer)
        })
    })
    .await;
    meddling
}

/// Has it let go of the collector, which a kill would not.
async fn end(meddling: &mut Child) {
    let pid = meddling.id().unwrap().to_string();
    let told = Command::new("kill").arg(pid).status().await.unwrap();
    assert!(told.success());
    meddling.wait().await.unwrap();
}

/// Has the disk take 0.3 s for each sync, and then fail.
pub(super) async fn slow_down_and_fail_the_disk(prometheus: &Prometheus, collector: &Collector) {
    let mut meddling = meddle(collector, "delay_enter=300000").await;
    let load = send(collector.http, vec![pixel("open")]);
    prometheus.until_fires("slow", &["AvtryckSlow"]).await;
    end(&mut meddling).await;
    let _failing = meddle(collector, "error=EIO").await;
    prometheus
        .until_fires("slow", &["AvtryckSpoolDiskErrors"])
        .await;
    load.abort();
}

/// Kills it and starts it three times, and kills it for good.
pub(super) async fn start_over(
    prometheus: &Prometheus,
    name: &str,
    mut collector: Collector,
    others: &[(&str, SocketAddr)],
) {
    for times in 1..=3 {
        // The metric counts whole seconds, so two starts within one look like one.
        tokio::time::sleep(Duration::from_secs(1)).await;
        collector = Collector::start_in(collector.kill().await).await;
        prometheus.scrape(&[others, &[(name, collector.admin)]].concat());
        let query =
            format!("changes(process_start_time_seconds{{instance=\"{name}\"}}[15m]) >= {times}");
        until(async || !prometheus.query(&query).await.is_empty()).await;
    }
    collector.kill().await;
}

/// Stops it, damages a record that waits in its spool, takes a table away from a job, has another
/// fail to split a group, adds a tie that no hit permitted, and starts it again.
pub(super) async fn damage(collector: Collector) -> Collector {
    let away = "alter table avtryck.rejected_hit rename to rejected_hit_away; \
        select avtryck.make_hit_day(current_date - n) from generate_series(5000, 5002) as n; \
        update avtryck.segment set state = 'failed', error = 'division by zero', failed_at = now(); \
        insert into avtryck.report_span \
        select avtryck.day_start(current_date - n), avtryck.day_start(current_date - n + 1) \
        from generate_series(5000, 5002) as n; \
        insert into avtryck.ad_day select begins, 1, null, 7, 0 from avtryck.report_span; \
        create function avtryck.refuse() returns trigger language plpgsql as 'begin raise ''no''; end'; \
        create trigger refuse before delete on avtryck.link_regroup execute function avtryck.refuse(); \
        insert into avtryck.link_regroup (device_group, since) values (1, now() - interval '1 hour'); \
        insert into avtryck.export_outbox (partner, segment, id, id_key, subject_key, due) \
        values ('away', 1, 'x', md5('1')::uuid, md5('2')::uuid, now() - interval '2 hours'); \
        insert into avtryck.link_edge \
            (a, b, a_kind, b_kind, first_day, last_day, permit, consent_source, source) \
        values (md5('1')::uuid, md5('2')::uuid, 1, 2, current_date, current_date, 63, 2, 0)";
    collector
        .database()
        .await
        .batch_execute(away)
        .await
        .unwrap();
    let (_, dir, _) = collector.stop().await;
    let mut hit = Hit::new(clock::now(), Kind::Event, "open");
    hit.permit = Permit::MEASURE;
    hit.event_name = "to be damaged".into();
    spool(dir.path(), vec![encoded(&hit); 2]).await;
    let folder = std::fs::read_dir(dir.path().join("spool")).unwrap();
    let last = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "chunk")
        })
        .max()
        .unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    let text = b"to be damaged";
    let at = bytes
        .windows(text.len())
        .position(|window| window == text)
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(last, bytes).unwrap();
    Collector::start_in(dir).await
}

/// Starts a collector anew on a database whose clock was wrong a moment ago.
pub(super) async fn doubt_the_clock(collector: Collector) -> Collector {
    let doubt = "update avtryck.clock set in_step_since = now()";
    let database = collector.database().await;
    database.batch_execute(doubt).await.unwrap();
    let (_, dir, _) = collector.stop().await;
    Collector::start_in(dir).await
}
