//! Which certificates a server may show.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{
    VerifierBuilderError, WebPkiServerVerifier, verify_server_name,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Who may have signed a certificate, and which certificates a server may show itself.
pub(super) type Roots = (Arc<RootCertStore>, Vec<CertificateDer<'static>>);

/// Checks the certificate of a server as far as `sslmode` asks for it.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    /// Who may have signed it; `None` for anybody.
    chain: Option<(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>)>,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    /// Makes one. A server may also show a root itself: Postgres's documentation makes a
    /// certificate that is its own root.
    pub(super) fn new(
        roots: Option<Roots>,
        checks_name: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ServerVerifier, VerifierBuilderError> {
        let chain = match roots {
            Some((roots, own)) => {
                let provider = Arc::clone(provider);
                let inner = WebPkiServerVerifier::builder_with_provider(roots, provider);
                Some((inner.build()?, own))
            }
            None => None,
        };
        Ok(ServerVerifier {
            chain,
            checks_name,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some((inner, own)) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        if own.iter().any(|own| own == shown) {
            check_time(shown, now)?;
            if self.checks_name {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match inner.verify_server_cert(shown, between, name, ocsp, now) {
            // The name is looked at last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn check_time(shown: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(shown)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let valid = parsed.validity();
    if at < valid.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if at > valid.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}
