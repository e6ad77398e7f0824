#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::postgres::server::clear_text::REQUEST;
use crate::postgres::server::tls::{RootCertificates, SslMode};

/// A server that sends these pieces, one after the other, and returns what it received after the
/// first message.
async fn serve(pieces: &'static [&'static [u8]]) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut first = [0; 4];
        stream.read_exact(&mut first).await.unwrap();
        let length = usize::try_from(u32::from_be_bytes(first)).unwrap();
        let mut rest = vec![0; length - 4];
        stream.read_exact(&mut rest).await.unwrap();
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut received = Vec::new();
        // The client may cut the connection.
        drop(stream.read_to_end(&mut received).await);
        received
    });
    (address, serving)
}

/// Connects to a server on this machine as if it were at `place`.
async fn connect_as_if(place: &ServerPlace, address: SocketAddr) -> String {
    let mut config = Config::new();
    config.user("me").password("hush").host("db");
    config.hostaddr(address.ip()).port(address.port());
    let tls = TlsOptions {
        mode: Some(SslMode::Disable),
        ..TlsOptions::default()
    };
    let server = prepare(&tls, place, config, 0).unwrap();
    match server.config.connect(server.wrap).await {
        Ok(_) => "connected".to_owned(),
        Err(error) => format!("{:#}", anyhow::Error::from(error)),
    }
}

const ELSEWHERE: ServerPlace = ServerPlace::Address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
const HERE: ServerPlace = ServerPlace::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

#[tokio::test]
async fn a_password_in_clear_text_is_sent_within_this_machine_alone() {
    const WHOLE: &[&[u8]] = &[&REQUEST];
    const IN_PIECES: &[&[u8]] = &[b"R\0\0", b"\0\x08\0\0", b"\0", b"\x03"];
    for pieces in [WHOLE, IN_PIECES] {
        let (address, serving) = serve(pieces).await;
        let error = connect_as_if(&ELSEWHERE, address).await;
        assert!(error.contains("in clear text"), "{error}");
        assert_eq!(serving.await.unwrap(), b"", "nothing was sent");
    }
    let (address, serving) = serve(WHOLE).await;
    let connecting = tokio::time::timeout(
        std::time::Duration::from_millis(200),
        connect_as_if(&HERE, address),
    );
    assert!(connecting.await.is_err(), "the server says nothing more");
    assert_eq!(serving.await.unwrap(), b"p\0\0\0\thush\0");
}

#[tokio::test]
async fn a_password_that_is_proved_or_not_asked_for_is_no_obstacle() {
    const MD5: &[&[u8]] = &[
        b"R\0\0\0\x0c\0\0\0\x05salt",
        b"R\0\0\0\x08\0\0\0\0",
        b"Z\0\0\0\x05I",
    ];
    const TRUST: &[&[u8]] = &[b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"];
    for place in [ELSEWHERE, HERE] {
        for pieces in [MD5, TRUST] {
            let (address, serving) = serve(pieces).await;
            assert_eq!(connect_as_if(&place, address).await, "connected");
            let received = serving.await.unwrap();
            let text = String::from_utf8_lossy(&received);
            assert!(!text.contains("hush"), "{text}");
        }
    }
}

#[test]
fn loopback_and_sockets_are_this_machine() {
    assert!(ServerPlace::Socket.is_here());
    for (ip, is_here) in [
        ("127.0.0.1", true),
        ("127.9.9.9", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("10.0.0.1", false),
        ("0.0.0.0", false),
        ("::", false),
        ("fe80::1", false),
        ("192.168.1.1", false),
        ("2a00::1", false),
        ("::ffff:10.0.0.1", false),
    ] {
        let place = ServerPlace::Address(ip.parse().unwrap());
        assert_eq!(place.is_here(), is_here, "{ip}");
    }
}

#[tokio::test]
async fn each_server_of_a_url_is_tried_by_its_own_address() {
    let places = async |url: &str| {
        let servers = resolve_places(&url.parse().unwrap()).await.unwrap();
        let mut places = Vec::new();
        for (place, config) in servers {
            assert_eq!(config.get_hosts().len(), 1);
            assert_eq!(
                (config.get_user(), config.get_dbname()),
                (Some("me"), Some("x"))
            );
            places.push((place, config.get_ports().to_vec()));
        }
        places
    };
    let at = |ip: &str, port| (ServerPlace::Address(ip.parse().unwrap()), vec![port]);
    assert_eq!(
        places("postgres://me@10.0.0.1,10.0.0.2:6432/x").await,
        [at("10.0.0.1", 5432), at("10.0.0.2", 6432)]
    );
    assert_eq!(
        places("postgres://me@db/x?hostaddr=10.0.0.3").await,
        [at("10.0.0.3", 5432)]
    );
    assert_eq!(
        places("postgres://me@/x?hostaddr=::1").await,
        [at("::1", 5432)]
    );
    assert_eq!(
        places("postgres://me@%2Frun,127.0.0.1:1/x").await,
        [(ServerPlace::Socket, vec![5432]), at("127.0.0.1", 1)]
    );
    let mut random = places("postgres://me@10.0.0.1,10.0.0.2/x?load_balance_hosts=random").await;
    random.sort_by_key(|(place, _)| format!("{place:?}"));
    assert_eq!(random, [at("10.0.0.1", 5432), at("10.0.0.2", 5432)]);
    let url = "postgres://me@a,b/x?hostaddr=10.0.0.3";
    assert!(resolve_places(&url.parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn to_a_server_elsewhere_nothing_is_said_in_clear_text_unless_the_url_asks_for_it() {
    let unnamed = TlsOptions::default();
    assert_eq!(unnamed.mode_at(false), SslMode::VerifyFull);
    assert_eq!(unnamed.mode_at(true), SslMode::Disable);
    let with = |change: fn(&mut TlsOptions)| {
        let mut tls = TlsOptions::default();
        change(&mut tls);
        [true, false].map(|is_here| tls.mode_at(is_here))
    };
    let roots = |tls: &mut TlsOptions| tls.roots = Some(RootCertificates::System);
    assert_eq!(with(roots), [SslMode::VerifyFull; 2]);
    assert_eq!(with(|tls| tls.is_bound = true), [SslMode::VerifyFull; 2]);
    // A server that answers that it has no TLS: there is no second try without it.
    let (address, serving) = serve(&[b"N"]).await;
    let mut config = Config::new();
    config.user("me").password("hush").host("db");
    config.hostaddr(address.ip()).port(address.port());
    let server = prepare(&unnamed, &ELSEWHERE, config, 0).unwrap();
    assert!(server.config.connect(server.wrap).await.is_err());
    assert_eq!(serving.await.unwrap(), b"", "nothing was sent");
}
