//! TLS 1.2 and 1.3 by rustls, with the cipher suites that it considers safe, for both protocols.
//!
//! A client that returns shows a ticket instead of doing the whole handshake. Tickets are sealed
//! with keys that exist only in this process, each for half a day: no session is kept here, and a
//! restart costs a client one whole handshake. There is no early data, because replaying it would
//! send a hit twice. `certificates` chooses the certificate.

mod certificates;

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::aws_lc_rs::{self, Ticketer, kx_group};
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, HandshakeKind, ServerConfig};
use tokio_rustls::server::TlsStream;

pub use certificates::{Certificates, check};

use super::socket::Socket;
use crate::metrics::{HandshakeFailure, Metrics};

/// The protocols over TLS, as ALPN names them, in our order of preference.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Prepares the settings that all handshakes share.
///
/// # Errors
/// If the operating system gives no entropy for the keys of tickets.
pub fn acceptor(certificates: Arc<Certificates>) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    config.ticketer = Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Returns AWS's library. A client that offers a key exchange that resists quantum computers gets
/// it, whatever other crates enable.
fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// Counts how a handshake ends. Returns `None` if it fails.
pub(crate) async fn count_handshake(
    handshake: impl Future<Output = io::Result<TlsStream<Socket>>>,
    metrics: &Metrics,
) -> Option<Box<TlsStream<Socket>>> {
    match handshake.await {
        Ok(stream) => {
            let kind = stream.get_ref().1.handshake_kind();
            metrics.handshake(kind == Some(HandshakeKind::Resumed));
            Some(Box::new(stream))
        }
        Err(error) => {
            metrics.handshake_failure(failure(&error));
            None
        }
    }
}

/// Checks whether the client chose HTTP/2.
pub(crate) fn is_http2(stream: &TlsStream<Socket>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}

fn failure(error: &io::Error) -> HandshakeFailure {
    if error.kind() == io::ErrorKind::TimedOut {
        return HandshakeFailure::Timeout;
    }
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    match error {
        None => HandshakeFailure::Closed,
        Some(rustls::Error::AlertReceived(_)) => HandshakeFailure::Refused,
        Some(rustls::Error::InvalidMessage(_)) => HandshakeFailure::NotTls,
        Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => {
            HandshakeFailure::Incompatible
        }
        Some(_) => HandshakeFailure::Protocol,
    }
}
