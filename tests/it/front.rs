//! What stands in front: load balancers that announce their clients, and browsers that come by
//! http.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::rustls::ALL_VERSIONS;

use crate::support::tls::{Authority, Encrypted};
use crate::support::{Collector, Config, raw, tempdir};

/// A request that says nothing of its client.
const PIXEL: &str =
    "GET /p.gif?site=open&e=NAME HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

fn pixel(name: &str) -> Vec<u8> {
    PIXEL.replace("NAME", name).into_bytes()
}

/// A header of version 2 for TCP over IPv4 (or, with 0x20, of the proxy's own), with an extension
/// behind the addresses.
fn version_2(command: u8, source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, 0x11, 0, 12 + 6]);
    header.extend(source);
    header.extend([127, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb]);
    header.extend([0xe0, 0, 3, b'a', b'b', b'c']);
    header
}

/// Connects from `from`.
async fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::from(from), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// What is answered to bytes that come in parts.
async fn exchange(mut stream: TcpStream, parts: &[&[u8]]) -> Vec<u8> {
    for part in parts {
        drop(stream.write_all(part).await);
        drop(stream.flush().await);
    }
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes).await);
    bytes
}

/// A collector that believes 127.0.0.0/16 and asks for the PROXY protocol on both listeners.
async fn behind_a_balancer(config: Config) -> (Collector, Authority) {
    let authority = Authority::new();
    let dir = tempdir();
    let stem = dir.path().join("localhost");
    authority.issue(&stem, &["localhost"], 2100);
    let config = config
        .tls(&[stem])
        .set("http.trusted_proxies", vec!["127.0.0.0/16"])
        .set("http.proxy_protocol", true)
        .set("tls.proxy_protocol", true);
    config.write(&dir).await;
    (Collector::start_in(dir).await, authority)
}

async fn addresses(collector: &Collector) -> Vec<(String, String)> {
    let sql = "select event_name, coalesce(host(client_ip), '') from avtryck.hit_detail order by 1";
    let rows = collector.rows(sql).await;
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn the_announced_client_is_the_client_over_http_and_ahead_of_tls() {
    let (collector, authority) = behind_a_balancer(Config::sites()).await;
    let proxy = async || connect([127, 0, 0, 1], collector.http).await;
    let v1 = b"PROXY TCP4 2.64.9.9 127.0.0.1 12345 443\r\n";
    let v6 = b"PROXY TCP6 2a00:801:200::9 ::1 12345 443\r\n";
    for (name, parts) in [
        ("v1", vec![&v1[..], &pixel("v1")]),
        (
            "v1-at-once",
            vec![&[&v1[..], &pixel("v1-at-once")].concat()[..]],
        ),
        (
            "v1-in-parts",
            vec![&v1[..3], &v1[3..20], &v1[20..], &pixel("v1-in-parts")],
        ),
        ("v1-v6", vec![v6, &pixel("v1-v6")]),
        (
            "v1-unknown",
            vec![b"PROXY UNKNOWN\r\n", &pixel("v1-unknown")],
        ),
        ("v2", vec![&version_2(0x21, [2, 64, 7, 7]), &pixel("v2")]),
        (
            "v2-in-parts",
            vec![
                &version_2(0x21, [2, 64, 7, 7])[..20],
                &version_2(0x21, [2, 64, 7, 7])[20..],
                &pixel("v2-in-parts"),
            ],
        ),
        (
            "v2-local",
            vec![&version_2(0x20, [2, 64, 7, 7]), &pixel("v2-local")],
        ),
    ] {
        let reply = exchange(proxy().await, &parts).await;
        assert!(reply.starts_with(b"HTTP/1.1 200"), "{name}");
    }
    let mut stream = connect([127, 0, 0, 1], collector.tls.unwrap()).await;
    stream.write_all(v1).await.unwrap();
    let client = authority.client(ALL_VERSIONS, &[]);
    let mut stream = client.over(stream, "localhost").await.unwrap();
    stream.write_all(&pixel("tls")).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    assert!(String::from_utf8_lossy(&reply).contains("; Secure"));
    collector
        .wait_for("select count(*) from avtryck.hit", 9)
        .await;
    let expected = [
        ("tls", "2.64.9.0"),
        ("v1", "2.64.9.0"),
        ("v1-at-once", "2.64.9.0"),
        ("v1-in-parts", "2.64.9.0"),
        ("v1-unknown", "127.0.0.0"),
        ("v1-v6", "2a00:801:200::"),
        ("v2", "2.64.7.0"),
        ("v2-in-parts", "2.64.7.0"),
        ("v2-local", "127.0.0.0"),
    ];
    let expected = expected.map(|(name, ip)| (name.to_owned(), ip.to_owned()));
    assert_eq!(addresses(&collector).await, expected);
}

#[tokio::test]
async fn who_is_no_trusted_proxy_or_announces_nothing_sound_is_ended_and_counted() {
    let (collector, _) = behind_a_balancer(Config::sites()).await;
    let v1 = b"PROXY TCP4 2.64.9.9 127.0.0.1 12345 443\r\n";
    let stranger = connect([127, 9, 0, 1], collector.http).await;
    assert!(
        exchange(stranger, &[v1, &pixel("stranger")])
            .await
            .is_empty()
    );
    let silent = connect([127, 0, 0, 1], collector.http).await;
    let started = Instant::now();
    let silent = tokio::spawn(async move {
        assert!(exchange(silent, &[b"PROXY TCP4"]).await.is_empty());
        started.elapsed()
    });
    let long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    let huge = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 5000]].concat();
    for wrong in [
        &pixel("none")[..],
        b"PROXY TCP4 2.64.9.9\r\n",
        b"PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n",
        &long,
        &huge,
    ] {
        let proxy = connect([127, 0, 0, 1], collector.http).await;
        assert!(exchange(proxy, &[wrong]).await.is_empty());
    }
    let took = silent.await.unwrap();
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(9)).contains(&took),
        "{took:?}"
    );
    assert_eq!(
        collector
            .metric("avtryck_proxy_protocol_errors_total")
            .await,
        7.0
    );
    let honest = connect([127, 0, 0, 1], collector.http).await;
    let reply = exchange(honest, &[v1, &pixel("honest")]).await;
    assert!(reply.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn who_is_ended_before_the_first_request_leaves_the_place_to_others() {
    let config = Config::sites()
        .set("http.connections_max", 2)
        .set("http.threads", 1);
    let (collector, _) = behind_a_balancer(config).await;
    let v1 = b"PROXY TCP4 2.64.9.9 127.0.0.1 12345 443\r\n";
    for number in 0..20 {
        for (from, sent) in [
            ([127, 9, 0, 1], &v1[..]),
            ([127, 0, 0, 1], b"PROXY TCP5 \r\n"),
        ] {
            let ended = connect(from, collector.http).await;
            assert!(exchange(ended, &[sent]).await.is_empty(), "{number}");
        }
        let honest = connect([127, 0, 0, 1], collector.http).await;
        let reply = exchange(honest, &[v1, &pixel("honest")]).await;
        assert!(reply.starts_with(b"HTTP/1.1 200"), "{number}");
    }
}

#[tokio::test]
async fn connections_are_limited_by_the_announced_address() {
    let config = Config::sites().set("http.connections_per_address_max", 1);
    let (collector, _) = behind_a_balancer(config).await;
    let hold = async |address: &str| {
        let mut stream = connect([127, 0, 0, 1], collector.http).await;
        let header = format!("PROXY TCP4 {address} 127.0.0.1 1 443\r\n");
        stream.write_all(header.as_bytes()).await.unwrap();
        let request = "GET /id?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        let answered = stream.read_exact(&mut first).await.is_ok();
        (stream, answered)
    };
    let (_kept, first) = hold("2.64.9.9").await;
    let (_, second) = hold("2.64.9.9").await;
    let (_, other) = hold("2.64.9.8").await;
    assert_eq!((first, second, other), (true, false, true));
    let refused = collector
        .metric("avtryck_http_connections_refused_total")
        .await;
    assert_eq!(refused, 1.0);
}

#[tokio::test]
async fn the_privacy_page_over_http_is_sent_to_https_where_that_is_asked_for_and_hits_are_answered()
{
    let config = Config::sites().set("http.redirect_to_https", true);
    let collector = Collector::start(config).await;
    let host = ("Host", "shut.example");
    let page = collector.get("/privacy?lang=sv", &[host]).await;
    assert_eq!(page.status, 308);
    assert_eq!(
        page.header("location"),
        "https://shut.example/privacy?lang=sv"
    );
    assert_eq!(page.header("cache-control"), "no-store");
    // A proxy that ends TLS says so.
    let https = collector
        .get("/privacy?lang=sv", &[host, ("X-Forwarded-Proto", "https")])
        .await;
    assert_eq!(https.status, 200);
    for target in ["/p.gif?site=open", "/i.gif?site=open", "/tag.js?site=open"] {
        assert_eq!(collector.get(target, &[]).await.status, 200, "{target}");
    }
    let count = "avtryck_http_requests_total{endpoint=\"privacy\",status=\"308\"}";
    assert_eq!(collector.metric(count).await, 1.0);
    let plain = Collector::open().await;
    assert_eq!(plain.get("/privacy?lang=sv", &[host]).await.status, 200);
}

#[tokio::test]
async fn browsers_are_told_to_stay_with_https_over_tls_alone_and_where_that_is_asked_for() {
    let header = "strict-transport-security";
    let asked = Encrypted::start(Config::sites().set("tls.hsts", "365d")).await;
    let client = asked.authority.client(ALL_VERSIONS, &[]);
    for target in ["/p.gif?site=open", "/nowhere"] {
        let reply = client.get(asked.tls, "localhost", target).await;
        assert_eq!(reply.header(header), "max-age=31536000");
    }
    let plain = raw(asked.collector.http, &pixel("plain")).await;
    assert_eq!((plain.status, plain.header(header)), (200, ""));
    let silent = Encrypted::open().await;
    let client = silent.authority.client(ALL_VERSIONS, &[]);
    let reply = client
        .get(silent.tls, "localhost", "/p.gif?site=open")
        .await;
    assert_eq!(reply.header(header), "");
}
