//! Deliveries by POST, signed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use super::Delivery;
use crate::callback::{Destination, Signed};
use crate::clock;

/// How long a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a delivery may take, with its answer.
const TIME_MAX: Duration = Duration::from_secs(60);
const CONTENT_TYPE: &str = "application/x-ndjson";

/// The receiver answers that it does not have a delivery.
#[derive(Debug, thiserror::Error)]
#[error("the answer was {status}")]
pub(crate) struct NotTaken {
    status: StatusCode,
    /// How long it asks to be left alone (`Retry-After`).
    pub retry_after: Option<Duration>,
}

/// Where deliveries go, and what signs them.
pub(crate) struct HttpsPost {
    url: Url,
    secret: String,
    tls: Option<TlsConnector>,
}

/// Checks that a URL is one that deliveries may go to: https, or http on this machine.
#[must_use]
pub(crate) fn is_delivery_url(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else {
        return false;
    };
    let is_here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return false,
    };
    let is_bare = url.username().is_empty() && url.password().is_none();
    is_bare && (url.scheme() == "https" || url.scheme() == "http" && is_here)
}

impl HttpsPost {
    /// Makes one. Servers are checked by the certificates that the operating system trusts.
    ///
    /// # Errors
    /// If the URL cannot be read, or the machine trusts no certificate authority.
    pub(crate) fn new(url: &str, secret: &str) -> anyhow::Result<HttpsPost> {
        ensure!(is_delivery_url(url), "{url} is no https URL");
        let url = Url::parse(url)?;
        let tls = match url.scheme() {
            "https" => Some(tls_connector()?),
            _ => None,
        };
        Ok(HttpsPost {
            url,
            secret: secret.to_owned(),
            tls,
        })
    }

    /// Sends a delivery, and waits until the receiver says that it has it.
    ///
    /// # Errors
    /// Where it does not. It may have it nevertheless.
    pub(crate) async fn send(&self, delivery: &Delivery) -> anyhow::Result<()> {
        let sent = tokio::time::timeout(TIME_MAX, self.try_to_send(delivery)).await;
        let (status, retry_after) = sent.context("no answer in time")??;
        match status.is_success() {
            true => Ok(()),
            false => Err(NotTaken {
                status,
                retry_after,
            }
            .into()),
        }
    }

    async fn try_to_send(&self, delivery: &Delivery) -> anyhow::Result<Reply> {
        let stream = tokio::time::timeout(CONNECT_TIME_MAX, self.connect()).await;
        let stream = stream.context("no connection in time")??;
        let request = self.request(delivery)?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let name = match self.host()? {
                    Host::Domain(name) => ServerName::try_from(name.to_owned())?,
                    Host::Ipv4(address) => ServerName::from(IpAddr::from(address)),
                    Host::Ipv6(address) => ServerName::from(IpAddr::from(address)),
                };
                let stream = tls.connect(name, stream).await?;
                exchange(stream, request).await
            }
        }
    }

    fn host(&self) -> anyhow::Result<Host<&str>> {
        self.url.host().context("the URL has no host")
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let port = self.url.port_or_known_default().unwrap_or(443);
        let connected = match self.host()? {
            Host::Domain(name) => TcpStream::connect((name, port)).await,
            Host::Ipv4(address) => TcpStream::connect((address, port)).await,
            Host::Ipv6(address) => TcpStream::connect((address, port)).await,
        };
        let stream = connected.with_context(|| {
            format!(
                "no connection to {}",
                self.url.host_str().unwrap_or_default()
            )
        })?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn request(&self, delivery: &Delivery) -> anyhow::Result<Request<Full<Bytes>>> {
        let body = delivery.to_bytes()?;
        let mut host = self.host()?.to_string();
        if let Some(port) = self.url.port() {
            host = format!("{host}:{port}");
        }
        let target = match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        };
        let timestamp = clock::now().seconds().to_string();
        let signed = Signed {
            timestamp: &timestamp,
            method: "POST",
            target: &target,
            body: &body,
        };
        let destination = Destination {
            host: &host,
            content_type: CONTENT_TYPE,
        };
        let Some(signature) = signed.signature_2(&destination, self.secret.as_bytes()) else {
            bail!("the secret cannot sign");
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(target)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .header("avtryck-delivery", delivery.id.to_string())
            .header("avtryck-timestamp", timestamp)
            .header("avtryck-signature", signature)
            .body(Full::new(Bytes::from(body)))?;
        Ok(request)
    }
}

/// The status of an answer, and how long it asks to be left alone.
type Reply = (StatusCode, Option<Duration>);

/// Sends a request over a connection of its own. Of the answer no body is read, and no other place
/// that it names is asked.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Reply> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let answered = sender.send_request(request).await;
    driven.abort();
    let answer = answered?;
    let retry_after = answer.headers().get(header::RETRY_AFTER);
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Ok((answer.status(), seconds.map(Duration::from_secs)))
}

fn tls_connector() -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ensure!(
        !roots.is_empty(),
        "this machine has no certificates to check the receiver's by: install ca-certificates"
    );
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_machine_without_tls() {
        for (url, is_right) in [
            ("https://receiver.example/in?x=1", true),
            ("https://192.0.2.7:8443/in", true),
            ("http://127.0.0.1:9000/in", true),
            ("http://[::1]:9000/in", true),
            ("http://localhost/in", true),
            ("http://receiver.example/in", false),
            ("http://192.0.2.7/in", false),
            ("https://user:password@receiver.example/in", false),
            ("ftp://127.0.0.1/in", false),
            ("/in", false),
            ("", false),
        ] {
            assert_eq!(is_delivery_url(url), is_right, "{url}");
        }
    }
}
