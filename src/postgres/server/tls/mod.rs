//! TLS between a collector and Postgres, by rustls.
//!
//! | `sslmode` | the connection | the certificate | the name |
//! | --- | --- | --- | --- |
//! | `disable` | is plain | | |
//! | `prefer` | is plain if the server has no TLS, and the log says so | is not checked | |
//! | `require` | is encrypted | is checked if `sslrootcert` is given | |
//! | `verify-ca` | is encrypted | is checked | is not checked |
//! | `verify-full` | is encrypted | is checked | is checked |
//!
//! Without `sslmode`, a Unix socket or a loopback address is reached in clear text, unless another
//! option is about TLS; every other server as by `verify-full`. A server that has no TLS where the
//! table says "is encrypted" is an error before anything is sent to it.
//!
//! The client's own negotiation is not used, since it would also go on in clear text: it is told
//! that TLS begins at once, and [`Wrap`] asks for TLS as Postgres wants it.

mod verify;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Once, OnceLock};

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::clear_text::Watched;
use verify::{Roots, ServerVerifier};

/// The message by which a client asks Postgres for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How far a connection is protected. The order is that of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    /// Each with its name.
    pub(super) const ALL: [(SslMode, &str); 5] = [
        (SslMode::Disable, "disable"),
        (SslMode::Prefer, "prefer"),
        (SslMode::Require, "require"),
        (SslMode::VerifyCa, "verify-ca"),
        (SslMode::VerifyFull, "verify-full"),
    ];

    pub(super) fn name(self) -> &'static str {
        let named = SslMode::ALL.iter().find(|(mode, _)| *mode == self);
        named.map_or("", |(_, name)| name)
    }
}

/// Who may have signed a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RootCertificates {
    /// Whom the operating system trusts.
    System,
    /// Those in a file.
    File(PathBuf),
}

/// The options of a URL that are about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsOptions {
    pub(super) mode: Option<SslMode>,
    pub(super) roots: Option<RootCertificates>,
    /// The client's certificate and its key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
    /// Whether the password must be bound to the connection.
    pub(super) is_bound: bool,
}

impl TlsOptions {
    /// Returns what holds for a server that is on this machine, or is not.
    pub(super) fn mode_at(&self, is_here: bool) -> SslMode {
        let is_about_tls = self.roots.is_some() || self.client.is_some() || self.is_bound;
        match self.mode {
            Some(SslMode::Require) if self.roots.is_some() => SslMode::VerifyCa,
            Some(mode) => mode,
            None if is_here && !is_about_tls => SslMode::Disable,
            None => SslMode::VerifyFull,
        }
    }

    /// Says what of the options contradicts each other, as the rest of a sentence about the URL.
    pub(super) fn find_contradiction(&self) -> Option<String> {
        let mode = self.mode?;
        let name = mode.name();
        let useless =
            |option: &str| Some(format!("has {option}, which sslmode={name} has no use for"));
        match mode {
            SslMode::Disable if self.is_bound => useless("channel_binding=require"),
            SslMode::Disable if self.client.is_some() => useless("sslcert"),
            SslMode::Disable | SslMode::Prefer if self.roots.is_some() => useless("sslrootcert"),
            SslMode::Require | SslMode::VerifyCa
                if self.roots == Some(RootCertificates::System) =>
            {
                Some(format!(
                    "has sslrootcert=system and sslmode={name}: anybody can have a certificate that \
                     the system trusts; only sslmode=verify-full looks whose it is"
                ))
            }
            _ => None,
        }
    }

    /// Reads the files, and returns how a connection is encrypted; `None` if it is not. They are
    /// read for each connection, so a renewed certificate needs no restart.
    ///
    /// # Errors
    /// What is wrong with a file, as the rest of a sentence about the URL.
    pub(super) fn read(&self, is_here: bool) -> Result<Option<TlsSettings>, String> {
        let mode = self.mode_at(is_here);
        if mode == SslMode::Disable {
            return Ok(None);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = match mode {
            SslMode::VerifyCa | SslMode::VerifyFull => Some(self.read_roots()?),
            _ => None,
        };
        let verifier = ServerVerifier::new(roots, mode == SslMode::VerifyFull, &provider)
            .map_err(|error| format!("has roots that cannot be used ({error})"))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("cannot be used with TLS ({error})"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &self.client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = read_certificates("sslcert", certificate)?;
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| flaw_of_file("sslkey", key, &error))?;
                config
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| {
                        format!(
                            "has sslcert={} and sslkey={}, which do not go together ({error})",
                            certificate.display(),
                            key.display()
                        )
                    })?
            }
        };
        Ok(Some(TlsSettings {
            config: Arc::new(config),
            mode,
        }))
    }

    /// Returns the roots, and those of them that a server may show itself.
    fn read_roots(&self) -> Result<Roots, String> {
        static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
        let Some(RootCertificates::File(path)) = &self.roots else {
            let system = SYSTEM.get_or_init(|| {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Arc::new(roots)
            });
            return match system.is_empty() {
                true => Err(
                    "needs certificates to check the server's by, and this machine has \
                             none: install ca-certificates, or name a file by sslrootcert"
                        .to_owned(),
                ),
                false => Ok((Arc::clone(system), Vec::new())),
            };
        };
        let mut roots = RootCertStore::empty();
        let named = read_certificates("sslrootcert", path)?;
        for certificate in &named {
            roots.add(certificate.clone()).map_err(|error| {
                let path = path.display();
                format!("has sslrootcert={path}, with a certificate that cannot be used ({error})")
            })?;
        }
        Ok((Arc::new(roots), named))
    }
}

fn read_certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| flaw_of_file(option, path, &error))?;
    if certificates.is_empty() {
        return Err(flaw_of_file(option, path, &pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn flaw_of_file(option: &str, path: &Path, error: &pem::Error) -> String {
    let holds = |what: &str| fs::read_to_string(path).is_ok_and(|text| text.contains(what));
    let why = match error {
        pem::Error::Io(error) => format!("cannot be read ({error})"),
        pem::Error::NoItemsFound if holds("ENCRYPTED PRIVATE KEY") => {
            "holds a key under a password; one without would be right".to_owned()
        }
        pem::Error::NoItemsFound => "holds none in PEM".to_owned(),
        error => format!("is no PEM ({error})"),
    };
    format!("has {option}={}, which {why}", path.display())
}

/// How a connection is encrypted.
#[derive(Clone, Debug)]
pub(super) struct TlsSettings {
    config: Arc<ClientConfig>,
    mode: SslMode,
}

/// Wraps a stream before the client uses it.
#[derive(Clone, Debug)]
pub(super) struct Wrap {
    /// `None` for a plain connection.
    tls: Option<TlsSettings>,
    /// Whether the server is on this machine.
    is_here: bool,
}

impl Wrap {
    pub(super) fn new(tls: Option<TlsSettings>, is_here: bool) -> Wrap {
        Wrap { tls, is_here }
    }

    /// Returns whether the stream is left as it is.
    pub(super) fn is_bare(&self) -> bool {
        self.tls.is_none() && self.is_here
    }
}

impl MakeTlsConnect<Socket> for Wrap {
    type Stream = Watched<Socket>;
    type TlsConnect = WrapOne;
    type Error = io::Error;

    fn make_tls_connect(&mut self, name: &str) -> io::Result<WrapOne> {
        Ok(WrapOne {
            wrap: self.clone(),
            name: name.to_owned(),
        })
    }
}

/// Wraps the stream to the server of a name.
pub(super) struct WrapOne {
    wrap: Wrap,
    name: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for WrapOne {
    type Stream = Watched<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Watched<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let is_here = self.wrap.is_here;
            let Some(tls) = self.wrap.tls else {
                return Ok(Watched::new(PostgresStream::Plain(stream), is_here));
            };
            let is_checked = tls.mode >= SslMode::VerifyCa;
            let stream = negotiate(tls, &self.name, stream).await?;
            Ok(Watched::new(stream, is_here || is_checked))
        })
    }
}

/// Asks a server for TLS, and does the handshake.
async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    tls: TlsSettings,
    name: &str,
    mut stream: S,
) -> io::Result<PostgresStream<S>> {
    stream.write_all(&SSL_REQUEST).await?;
    stream.flush().await?;
    let mode = tls.mode.name();
    match stream.read_u8().await? {
        b'S' => {}
        b'N' if tls.mode == SslMode::Prefer => {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| {
                tracing::warn!(
                    "the connection to Postgres is not encrypted: the server has no TLS, and \
                     sslmode=prefer goes on without"
                );
            });
            return Ok(PostgresStream::Plain(stream));
        }
        b'N' => {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!(
                    "the server does not encrypt this connection (ssl = off?), and sslmode={mode} \
                     asks for it; nothing was sent"
                ),
            ));
        }
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server did not answer the request for TLS as Postgres does",
            ));
        }
    }
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no name for a certificate"))?;
    let handshake = TlsConnector::from(tls.config).connect(name, stream).await;
    let stream = handshake.map_err(|error| explain(mode, error))?;
    Ok(PostgresStream::Tls(Box::new(stream)))
}

/// Says what to do about a certificate that was refused.
fn explain(mode: &str, error: io::Error) -> io::Error {
    use tokio_rustls::rustls::CertificateError::{
        NotValidForName, NotValidForNameContext, UnknownIssuer,
    };
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let advice = match cause {
        Some(Error::InvalidCertificate(UnknownIssuer)) => {
            "sslrootcert would name the file with the certificate of who signed it"
        }
        Some(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
            "the host of database.url must be among the names (subjectAltName) of the certificate"
        }
        Some(_) => "",
        None => return error,
    };
    let advice = match advice {
        "" => String::new(),
        advice => format!("; {advice}"),
    };
    io::Error::new(error.kind(), format!("sslmode={mode}: {error}{advice}"))
}

/// A stream to Postgres, plain or encrypted.
pub(super) enum PostgresStream<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

impl<S> PostgresStream<S> {
    /// Returns what binds a password to this connection.
    pub(super) fn channel_binding(&self) -> ChannelBinding {
        let PostgresStream::Tls(stream) = self else {
            return ChannelBinding::none();
        };
        let shown = stream.get_ref().1.peer_certificates();
        let certificate = shown.and_then(|shown| shown.first());
        certificate
            .and_then(|certificate| hash_certificate(certificate))
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// Returns the hash of a certificate that `tls-server-end-point` (RFC 5929, 4.1) takes: by the
/// function of its signature, where that is no weaker than SHA-256. A signature without such a
/// function (Ed25519) has none.
fn hash_certificate(der: &[u8]) -> Option<Vec<u8>> {
    use x509_parser::signature_algorithm::SignatureAlgorithm;
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let algorithm = &certificate.signature_algorithm;
    let mut oid = algorithm.algorithm.to_id_string();
    // RSASSA-PSS says its hash function beside.
    if oid == "1.2.840.113549.1.1.10"
        && let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = algorithm.try_into()
    {
        oid = parameters.hash_algorithm_oid().to_id_string();
    }
    Some(match oid.as_str() {
        // MD5 and SHA-1 with RSA or ECDSA, SHA-256 with each, and SHA-256 itself.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2"
        | "1.3.14.3.2.26"
        | "2.16.840.1.101.3.4.2.1" => Sha256::digest(der).to_vec(),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            Sha384::digest(der).to_vec()
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            Sha512::digest(der).to_vec()
        }
        _ => return None,
    })
}
