//! New connections with TLS: a handshake, a pixel, and the end.
//!
//! Every contender shows the same certificate (ECDSA, P-256). The client offers what all of them
//! know (TLS 1.3, X25519), and checks nothing of what it is shown: its own work would only blur
//! what servers differ in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use loadtest::corpus::{HOST, SITE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Threads of the client, and connections of each side by side: as many as of the closed loop.
const THREADS: u64 = 2;
const CONNECTIONS: u64 = crate::wrk::CONNECTIONS / THREADS;

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    /// Makes them in `dir`, for everyone to read.
    pub(crate) async fn make(dir: &Path) -> anyhow::Result<Files> {
        let files = Files {
            chain: dir.join("tls.pem"),
            key: dir.join("tls.key"),
        };
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=bench"])
            .args(["-addext", &format!("subjectAltName=DNS:{HOST}")])
            .arg("-out")
            .arg(&files.chain)
            .arg("-keyout")
            .arg(&files.key);
        let output = openssl.output().await.context("running openssl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "openssl said:\n{errors}");
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&files.key, everyone)?;
        Ok(files)
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) connections: u64,
    pub(crate) rate: f64,
}

/// Connects to `address` for `time`, each time with a whole handshake, or with a ticket of the time
/// before.
pub(crate) async fn run(
    address: SocketAddr,
    time: Duration,
    by_ticket: bool,
) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| tokio::task::spawn_blocking(move || connect_all(address, begun + time, by_ticket)))
        .collect();
    let mut connections = 0;
    for thread in threads {
        connections += thread.await??;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "far fewer than 2^52 connections"
    )]
    let rate = connections as f64 / begun.elapsed().as_secs_f64();
    Ok(Outcome { connections, rate })
}

/// One thread's connections, on a runtime of its own.
fn connect_all(address: SocketAddr, until: Instant, by_ticket: bool) -> anyhow::Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            // Tickets are used once: each keeps its own.
            let connector = TlsConnector::from(Arc::new(client(by_ticket)?));
            running.spawn_local(async move {
                let mut connections = 0;
                while Instant::now() < until {
                    connect(address, &connector).await?;
                    connections += 1;
                }
                anyhow::Ok(connections)
            });
        }
        let mut connections = 0;
        while let Some(done) = running.join_next().await {
            connections += done??;
        }
        Ok(connections)
    })
}

async fn connect(address: SocketAddr, connector: &TlsConnector) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await?;
    // Thousands of closed ones a second would leave no port free.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    stream.set_nodelay(true)?;
    let mut stream = connector
        .connect(ServerName::try_from(HOST)?, stream)
        .await?;
    let request = format!("GET /p.gif?site={SITE} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut reply = Vec::new();
    // The GIF's last byte, which stands in no header of the contenders' as their last.
    while !reply.ends_with(b"\x01\0;") {
        let read = stream.read_buf(&mut reply).await?;
        anyhow::ensure!(read > 0, "no pixel: {}", String::from_utf8_lossy(&reply));
    }
    anyhow::ensure!(reply.starts_with(b"HTTP/1.1 200"), "the reply is no 200");
    Ok(())
}

fn client(by_ticket: bool) -> anyhow::Result<ClientConfig> {
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !by_ticket {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

/// Believes everyone.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
