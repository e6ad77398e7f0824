//! The admin listener: metrics, health and readiness, never on the public address.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What the admin listener tells; asked for on each request.
pub trait Status: 'static {
    /// All metrics in Prometheus's text form.
    fn metrics(&self) -> String;
    /// Ready for hits, with what else is worth knowing; or why not.
    ///
    /// # Errors
    /// The reason why hits cannot be kept at the moment.
    fn ready(&self) -> Result<String, String>;
}

/// Connections at one time: scrapers and probes, no crowd.
const CONNECTIONS_MAX: usize = 64;
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);

/// Serves for ever, on a local task set.
pub async fn serve(listener: TcpListener, status: Arc<impl Status>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed on the admin listener");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let status = Arc::clone(&status);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let reply = answer(&*status, &request);
                async move { Ok::<_, Infallible>(reply) }
            });
            drop(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIME_MAX)
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
            drop(permit);
        });
    }
}

fn answer(status: &impl Status, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (code, body) = match request.uri().path() {
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => (
            StatusCode::METHOD_NOT_ALLOWED,
            "GET and HEAD only\n".to_owned(),
        ),
        "/metrics" => (StatusCode::OK, status.metrics()),
        "/healthz" => (StatusCode::OK, "alive\n".to_owned()),
        "/readyz" => match status.ready() {
            Ok(remark) => (StatusCode::OK, format!("ready\n{remark}")),
            Err(reason) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: {reason}\n"),
            ),
        },
        _ => (
            StatusCode::NOT_FOUND,
            "/metrics /healthz /readyz\n".to_owned(),
        ),
    };
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = code;
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    if code == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    reply
}
