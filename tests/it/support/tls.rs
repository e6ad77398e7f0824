//! Certificates of a test's own authority, and a client that trusts it alone.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ALL_VERSIONS, ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::reply::parse;
use super::{Collector, Config, PATIENCE, Reply, tempdir};

/// The authority.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // Each has a name of its own.
        let name = uuid::Uuid::from_bytes(std::array::from_fn(|at| key.public_key_raw()[at + 1]));
        params
            .distinguished_name
            .push(DnType::CommonName, name.to_string());
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Writes a certificate for `names` that is valid until a year's first day, and its key, to
    /// `<stem>.pem` and `<stem>.key`.
    pub(crate) fn issue(&self, stem: &Path, names: &[&str], until_year: i32) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        write_both(stem, &certificate.pem(), &key);
    }

    /// Writes its own certificate.
    pub(crate) fn write(&self, file: &Path) {
        std::fs::write(file, &self.pem).unwrap();
    }

    /// Writes a certificate for a client of that name, and its key.
    pub(crate) fn issue_named(&self, stem: &Path, name: &str) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        write_both(stem, &certificate.pem(), &key);
    }

    /// Writes a certificate that is its own authority, and its key.
    pub(crate) fn sign_itself(stem: &Path, name: &str) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        write_both(stem, &certificate.pem(), &key);
    }

    /// A client that offers these versions and protocols, and keeps its tickets.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        config.enable_early_data = true;
        Client(TlsConnector::from(Arc::new(config)))
    }
}

/// A server's side, by a certificate with its key.
pub(crate) fn acceptor(stem: &Path) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(stem.with_extension("pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(stem.with_extension("key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn write_both(stem: &Path, certificate: &str, key: &KeyPair) {
    // As those who renew do it: each file is replaced at once.
    for (extension, text) in [("pem", certificate), ("key", &key.serialize_pem())] {
        let new = stem.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, stem.with_extension(extension)).unwrap();
    }
}

/// A client.
#[derive(Clone)]
pub(crate) struct Client(TlsConnector);

impl Client {
    /// Connects to `address` and asks for `name`.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(address).await?, name).await
    }

    /// The same over a connection that is there.
    pub(crate) async fn over(
        &self,
        stream: TcpStream,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        self.0.connect(name, stream).await
    }

    /// Sends a request on a connection of its own and reads until the other side closes.
    pub(crate) async fn get(&self, address: SocketAddr, name: &str, target: &str) -> Reply {
        let exchange = async {
            let mut stream = self.connect(address, name).await.unwrap();
            let request =
                format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            parse(&bytes)
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("the connection ends")
    }
}

/// A collector that speaks TLS with a certificate for `localhost`.
pub(crate) struct Encrypted {
    pub(crate) collector: Collector,
    pub(crate) tls: SocketAddr,
    pub(crate) authority: Authority,
}

impl Encrypted {
    /// Starts one with [`super::SITES`].
    pub(crate) async fn open() -> Encrypted {
        Encrypted::start(Config::sites()).await
    }

    /// Starts one with a configuration that need not name certificates.
    pub(crate) async fn start(config: Config) -> Encrypted {
        let authority = Authority::new();
        let dir = tempdir();
        let stem = dir.path().join("localhost");
        authority.issue(&stem, &["localhost"], 2100);
        config.tls(&[stem]).write(&dir).await;
        let collector = Collector::start_in(dir).await;
        Encrypted {
            tls: collector.tls.unwrap(),
            collector,
            authority,
        }
    }

    /// Connects with every version, for one protocol.
    pub(crate) async fn connect(&self, protocol: &str) -> TlsStream<TcpStream> {
        let client = self.authority.client(ALL_VERSIONS, &[protocol]);
        client.connect(self.tls, "localhost").await.unwrap()
    }
}
