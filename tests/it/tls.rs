//! TLS: which certificate is shown, what is spoken, what becomes of files that change, and who is
//! turned away.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ALL_VERSIONS, HandshakeKind, ProtocolVersion};

use crate::support::tls::{Authority, Encrypted};
use crate::support::{Collector, Config, PATIENCE, command, tempdir, until};

/// What a handshake has.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_pixel_over_tls_is_answered_and_its_cookie_is_secure() {
    let encrypted = Encrypted::open().await;
    for version in [&TLS12, &TLS13] {
        let client = encrypted.authority.client(&[version], &[]);
        let reply = client
            .get(encrypted.tls, "localhost", "/p.gif?site=open")
            .await;
        assert_eq!((reply.status, reply.bytes.len()), (200, 43));
        let cookie = &reply.cookies[0];
        assert!(cookie.contains("; Secure"), "{cookie}");
    }
    let plain = encrypted.collector.get("/p.gif?site=open", &[]).await;
    assert!(!plain.cookies[0].contains("Secure"));
    encrypted
        .collector
        .wait_for("select count(*) from avtryck.hit", 3)
        .await;
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name_and_the_first_is_for_everyone_else() {
    let authority = Authority::new();
    let dir = tempdir();
    let stem = |name: &str| dir.path().join(name);
    authority.issue(&stem("one"), &["one.example", "www.one.example"], 2100);
    authority.issue(&stem("two"), &["two.example", "*.two.example"], 2100);
    let shown = |name: &str| {
        let pem = std::fs::read(stem(name).with_extension("pem")).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        pem.contents
    };
    let (one, two) = (shown("one"), shown("two"));
    let config = Config::sites().tls(&[stem("one"), stem("two")]);
    config.write(&dir).await;
    let collector = Collector::start_in(dir).await;
    let client = authority.client(ALL_VERSIONS, &[]);
    for (name, certificate) in [
        ("one.example", &one),
        ("www.one.example", &one),
        ("two.example", &two),
        ("A.two.example", &two),
    ] {
        let stream = client.connect(collector.tls.unwrap(), name).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        assert_eq!(chain[0].as_ref(), certificate, "{name}");
    }
    // Nobody's name: the first certificate is shown, which the client then refuses for its name.
    for name in ["other.example", "a.b.two.example", "127.0.0.1"] {
        let refused = client.connect(collector.tls.unwrap(), name).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("one.example"), "{name}: {error}");
    }
    let failures = "avtryck_tls_handshake_failures_total{reason=\"refused\"}";
    until(async || collector.metric(failures).await == 3.0).await;
}

#[tokio::test]
async fn each_version_of_tls_speaks_both_protocols_and_resumes_by_ticket_without_early_data() {
    let encrypted = Encrypted::open().await;
    for (version, number) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        for (offered, spoken) in [
            (vec!["h2", "http/1.1"], Some("h2")),
            (vec!["http/1.1"], Some("http/1.1")),
            (vec![], None),
        ] {
            let client = encrypted.authority.client(&[version], &offered);
            // The ticket of TLS 1.3 comes behind the handshake, ahead of what a server says first
            // or to an empty line.
            let mut first = client.connect(encrypted.tls, "localhost").await.unwrap();
            first.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            drop(first.read(&mut [0; 100]).await);
            let mut again = client.connect(encrypted.tls, "localhost").await.unwrap();
            let session = again.get_mut().1;
            assert_eq!(session.protocol_version(), Some(number));
            assert_eq!(session.alpn_protocol(), spoken.map(str::as_bytes));
            assert_eq!(session.handshake_kind(), Some(HandshakeKind::Resumed));
            assert!(session.early_data().is_none());
        }
    }
    let count = async |resumed| {
        let name = format!("avtryck_tls_handshakes_total{{resumed=\"{resumed}\"}}");
        encrypted.collector.metric(&name).await
    };
    until(async || (count("false").await, count("true").await) == (6.0, 6.0)).await;
}

#[tokio::test]
async fn who_does_not_shake_hands_is_ended_in_time_and_counted_by_reason() {
    let encrypted = Encrypted::open().await;
    let count = async |reason: &str| {
        let name = format!("avtryck_tls_handshake_failures_total{{reason=\"{reason}\"}}");
        encrypted.collector.metric(&name).await
    };
    let started = Instant::now();
    let mut silent = TcpStream::connect(encrypted.tls).await.unwrap();
    let mut plain = TcpStream::connect(encrypted.tls).await.unwrap();
    plain
        .write_all(b"GET /p.gif?site=open HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    drop(plain.read_to_end(&mut Vec::new()).await);
    assert!(started.elapsed() < HANDSHAKE_TIME_MAX);
    drop(TcpStream::connect(encrypted.tls).await.unwrap());
    let strange = encrypted.authority.client(ALL_VERSIONS, &["spdy/3"]);
    assert!(strange.connect(encrypted.tls, "localhost").await.is_err());
    for reason in ["not_tls", "closed", "incompatible"] {
        until(async || count(reason).await == 1.0).await;
    }
    assert_eq!(count("timeout").await, 0.0);
    drop(silent.read_to_end(&mut Vec::new()).await);
    assert!(started.elapsed() + Duration::from_secs(1) >= HANDSHAKE_TIME_MAX);
    until(async || count("timeout").await == 1.0).await;
    let client = encrypted.authority.client(ALL_VERSIONS, &[]);
    let honest = client
        .get(encrypted.tls, "localhost", "/p.gif?site=open")
        .await;
    assert_eq!(honest.status, 200);
}

#[tokio::test]
async fn renewed_certificates_are_taken_by_themselves_and_broken_ones_leave_the_old_in_use() {
    let encrypted = Encrypted::open().await;
    let collector = &encrypted.collector;
    let stem = collector.dir.path().join("localhost");
    let expiry = format!(
        "avtryck_certificate_expiry_timestamp_seconds{{certificate=\"{}.pem\"}}",
        stem.display()
    );
    let shown = async || {
        // With tickets the certificate would not be shown again.
        let client = encrypted.authority.client(ALL_VERSIONS, &[]);
        let stream = client.connect(encrypted.tls, "localhost").await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown().await;
    assert_eq!(collector.metric(&expiry).await, 4_102_444_800.0);
    let mut kept = encrypted.connect("http/1.1").await;

    encrypted.authority.issue(&stem, &["localhost"], 2101);
    until(async || collector.metric(&expiry).await == 4_133_980_800.0).await;
    let second = shown().await;
    assert_ne!(first, second);
    kept.write_all(
        b"GET /p.gif?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    )
    .await
    .unwrap();
    let mut reply = Vec::new();
    kept.read_to_end(&mut reply).await.unwrap();
    assert!(reply.starts_with(b"HTTP/1.1 200"));

    // A chain that the key does not fit, as for a moment in each renewal.
    let failures = "avtryck_certificate_reload_failures_total";
    let key = std::fs::read(stem.with_extension("key")).unwrap();
    encrypted.authority.issue(&stem, &["localhost"], 2102);
    std::fs::write(stem.with_extension("key"), key).unwrap();
    collector.signal("HUP");
    until(async || collector.metric(failures).await >= 1.0).await;
    assert_eq!(shown().await, second);
    encrypted.authority.issue(&stem, &["localhost"], 2103);
    collector.signal("HUP");
    until(async || collector.metric(&expiry).await == 4_197_052_800.0).await;
    assert_ne!(shown().await, second);
    let (_, _, log) = encrypted.collector.stop().await;
    assert!(
        log.contains("is not the key of the first certificate"),
        "{log}"
    );
}

#[tokio::test]
async fn wrong_certificates_are_named_with_what_would_be_right_before_anything_starts() {
    let authority = Authority::new();
    let dir = tempdir();
    let stem = |name: &str| dir.path().join(name);
    for name in ["sound", "other", "empty", "garbled", "old"] {
        let until = if name == "old" { 2001 } else { 2100 };
        authority.issue(&stem(name), &["a.example"], until);
    }
    std::fs::copy(
        stem("other").with_extension("key"),
        stem("sound").with_extension("key"),
    )
    .unwrap();
    std::fs::copy(
        stem("other").with_extension("key"),
        stem("empty").with_extension("pem"),
    )
    .unwrap();
    std::fs::write(
        stem("garbled").with_extension("key"),
        "-----BEGIN PRIVATE KEY-----\nhush!\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    let path = dir.path().join("avtryck.toml");
    let start = async |names: &[&str], subcommand: &str| {
        let stems: Vec<_> = names.iter().map(|name| stem(name)).collect();
        let config = Config::sites().without_postgres().tls(&stems);
        config.write(&dir).await;
        let mut command = command(&[subcommand]);
        let output = command.env("AVTRYCK_CONFIG", &path).output().await.unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for subcommand in ["check-config", "serve"] {
        let names = ["sound", "empty", "garbled", "none", "old"];
        let (code, text) = start(&names, subcommand).await;
        assert_eq!(code, Some(64), "{text}");
        for wrong in [
            "certificate[0].key: {}/sound.key is not the key of the first certificate in {}/sound.pem; the one that it was issued for would be right",
            "certificate[1].chain: {}/empty.pem holds no certificate; PEM with the server's own certificate first would be right",
            "certificate[2].key: {}/garbled.key is no PEM; PEM with a private key that is not encrypted would be right",
            "certificate[3].chain: {}/none.pem cannot be read (No such file or directory (os error 2)); PEM with",
        ] {
            let wrong = wrong.replace("{}", &dir.path().display().to_string());
            assert!(text.contains(&wrong), "no {wrong} in\n{text}");
        }
        assert!(
            !text.contains("hush") && !text.contains("certificate[4]"),
            "{text}"
        );
    }
    let (code, text) = start(&[], "check-config").await;
    assert_eq!(code, Some(64));
    assert!(
        text.contains("certificate: no [[certificate]] is configured for tls.listen"),
        "{text}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_a_warning() {
    let authority = Authority::new();
    let dir = tempdir();
    let stem = dir.path().join("old");
    authority.issue(&stem, &["old.example"], 2001);
    Config::sites().tls(&[stem]).write(&dir).await;
    let collector = Collector::start_in(dir).await;
    let (status, _, log) = collector.stop().await;
    assert!(status.success());
    assert!(
        log.contains("a certificate has expired: browsers refuse it"),
        "{log}"
    );
}

#[tokio::test]
async fn a_request_in_flight_at_the_stop_is_answered_over_tls_too() {
    let encrypted = Encrypted::open().await;
    let mut stream = encrypted.connect("http/1.1").await;
    let body = r#"{"site":"open","e":"late"}"#;
    let head = format!(
        "POST /e HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Others on both threads have been answered since: the header was read.
    for _ in 0..20 {
        encrypted.collector.get("/id?site=open", &[]).await;
    }
    let silent = TcpStream::connect(encrypted.tls).await.unwrap();
    encrypted.collector.signal("TERM");
    let started = Instant::now();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    assert!(reply.starts_with(b"HTTP/1.1 204"));
    let (status, _, log) = encrypted.collector.stop().await;
    assert!(status.success() && !log.contains("cut off"), "{log}");
    assert!(started.elapsed() < PATIENCE);
    drop(silent);
}

#[tokio::test]
async fn another_certificate_in_the_configuration_is_taken_on_sighup_and_a_wrong_one_refused() {
    let encrypted = Encrypted::open().await;
    let dir = encrypted.collector.dir.path();
    let [localhost, other] = ["localhost", "other"].map(|name| dir.join(name));
    let configure = |stems: &[_]| {
        Config::read(dir).certificates(stems).write_as_it_is(dir);
        encrypted.collector.signal("HUP");
    };
    let reloads = async |outcome: &str| {
        let name = format!("avtryck_config_reloads_total{{outcome=\"{outcome}\"}}");
        encrypted.collector.metric(&name).await
    };
    let client = encrypted.authority.client(ALL_VERSIONS, &[]);
    configure(&[localhost.clone(), other.clone()]);
    until(async || reloads("refused").await == 1.0).await;
    encrypted.authority.issue(&other, &["other.example"], 2100);
    configure(&[localhost, other]);
    until(async || reloads("applied").await == 1.0).await;
    for name in ["localhost", "other.example"] {
        let reply = client.get(encrypted.tls, name, "/p.gif?site=open").await;
        assert_eq!(reply.status, 200);
    }
}

#[tokio::test]
async fn the_process_that_goes_on_has_the_listener_for_https_as_well() {
    let Encrypted {
        collector,
        tls,
        authority,
    } = Encrypted::open().await;
    collector.until_up().await;
    let client = authority.client(ALL_VERSIONS, &[]);
    let (next, status, log) = collector.hand_over().await;
    assert!(status.success(), "{log}");
    assert_eq!(next.tls, Some(tls));
    let reply = client.get(tls, "localhost", "/p.gif?site=open").await;
    assert_eq!(reply.status, 200);
    next.wait_for("select count(*) from avtryck.hit", 1).await;
}
