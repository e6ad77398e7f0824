//! The admin listener: metrics, health, readiness, the live view and the form of tags, never on the
//! public address.

pub(crate) mod board;
mod guard;
pub mod live;
mod seats;
mod today;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use url::form_urlencoded;

use crate::admin::board::Board;
use crate::admin::live::Filter;
use crate::admin::seats::{Seat, Seats};
use crate::admin::today::Today;
use crate::hit::limits::TEXT_BYTES_MAX;

/// What the admin listener reports, asked for at each request.
pub trait Status: 'static {
    /// Returns all metrics in Prometheus's text format.
    fn metrics(&self) -> String;
    /// Returns remarks worth knowing if hits can be kept, or the reason why they cannot.
    ///
    /// # Errors
    /// If hits cannot be kept at the moment.
    fn ready(&self) -> Result<String, String>;
    /// Has a question for a report answered. Returns it where too many wait.
    ///
    /// # Errors
    /// The question that will not be answered.
    fn ask_report(&self, question: ReportQuestion) -> Result<(), ReportQuestion>;
}

/// A question for the report of a campaign's last days.
pub struct ReportQuestion {
    /// The campaign.
    pub campaign: String,
    /// Gets the page, an empty one where no hit names the campaign; dropped where Postgres does
    /// not say.
    pub answer: oneshot::Sender<String>,
}

/// Where reports are.
const REPORT: &str = "/report";
/// A report is one page without a script or anything of another server's.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Age at which a connection is ended, whatever it does: a viewer that does not read its stream
/// would never see the stream's end.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(660);

/// The body of a reply: a text, or the stream of the live view.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves on a local task set. Never returns.
pub async fn serve(listener: TcpListener, status: Arc<impl Status>, board: Arc<Board>) {
    let seats = Seats::default();
    let today = Today::begin();
    tokio::task::spawn_local(today.clone().turn_days(Arc::clone(&status)));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed on the admin listener");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let seat = Rc::new(Seat::default());
        let serve = serve_one(
            stream,
            (seats.clone(), Rc::clone(&seat)),
            Arc::clone(&status),
            (Arc::clone(&board), today.clone()),
        );
        let task = tokio::task::spawn_local(serve);
        seats.take(seat, task.abort_handle());
    }
}

async fn serve_one(
    stream: TcpStream,
    (seats, seat): (Seats, Rc<Seat>),
    status: Arc<impl Status>,
    (board, today): (Arc<Board>, Today),
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let reply = respond(&*status, (&board, &today), &request);
        let is_ok_at = |path| request.uri().path() == path && reply.status() == StatusCode::OK;
        seats.note(&seat, is_ok_at("/live"));
        let asked = is_ok_at(REPORT).then(|| Arc::clone(&status));
        async move {
            let reply = match asked {
                Some(status) => send_report(&*status, &request).await,
                None => reply,
            };
            Ok::<_, Infallible>(reply)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever asked is gone by then, or is to ask again.
    drop(tokio::time::timeout(CONNECTION_TIME_MAX, serving).await);
}

fn respond(
    status: &impl Status,
    (board, today): (&Board, &Today),
    request: &Request<Incoming>,
) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut reply = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET and HEAD only\n".to_owned(),
        );
        reply
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    let (names, headers) = (board.names(), request.headers());
    match request.uri().path() {
        "/metrics" | "/readyz" if !names.admit_monitor(headers) => text(
            StatusCode::FORBIDDEN,
            "metrics and readiness answer to addresses, localhost, names without a dot, reserved names and the \
             names in admin.hosts\n"
                .to_owned(),
        ),
        "/metrics" => text(StatusCode::OK, status.metrics()),
        "/healthz" => text(StatusCode::OK, "alive\n".to_owned()),
        "/readyz" => match status.ready() {
            Ok(remark) => text(StatusCode::OK, format!("ready\n{remark}")),
            Err(reason) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: {reason}\n"),
            ),
        },
        "/" | "/live" | "/today" | "/tags" | REPORT if !names.admit_viewer(headers) => text(
            StatusCode::FORBIDDEN,
            "the live view answers to addresses, localhost and the names in admin.hosts\n"
                .to_owned(),
        ),
        "/live" | "/today" if guard::is_foreign(headers) => text(
            StatusCode::FORBIDDEN,
            "the live view is shown to its own page only\n".to_owned(),
        ),
        "/" => {
            let (page, policy) = board.page();
            send_page(page, policy)
        }
        "/tags" => {
            let query = request.uri().query().unwrap_or_default();
            let (page, policy) = board.tag_page(query);
            send_page(page, &policy)
        }
        // What it says has to be waited for.
        REPORT => text(StatusCode::OK, String::new()),
        "/today" => {
            let report = today.report(&status.metrics()).to_string();
            with_body(StatusCode::OK, "application/json", full(Bytes::from(report)))
        }
        "/live" => {
            let filter = Filter::read(request.uri().query().unwrap_or_default());
            stream_events(board, filter, request.method() == Method::HEAD)
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "/ /tags /report /metrics /healthz /readyz\n".to_owned(),
        ),
    }
}

/// Returns whether a hit may have a text. Postgres takes none with NUL, not even to look for it.
fn can_be_stored(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && !text.contains('\0')
}

/// Answers with the report of a campaign's last days.
async fn send_report(status: &impl Status, request: &Request<Incoming>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let campaign = pairs.find_map(|(name, value)| (name == "campaign").then_some(value));
    let Some(campaign) = campaign.filter(|name| can_be_stored(name)) else {
        let words = "which campaign? /report?campaign=NAME\n";
        return text(StatusCode::BAD_REQUEST, words.to_owned());
    };
    let (answer, answered) = oneshot::channel();
    let question = ReportQuestion {
        campaign: campaign.into_owned(),
        answer,
    };
    if status.ask_report(question).is_err() {
        let words = "too many reports are being made: try again in a moment\n";
        return text(StatusCode::SERVICE_UNAVAILABLE, words.to_owned());
    }
    match answered.await {
        Ok(page) if page.is_empty() => text(
            StatusCode::NOT_FOUND,
            "no hit of the last 30 days names this campaign; hits arrive within two seconds\n"
                .to_owned(),
        ),
        Ok(page) => send_page(Bytes::from(page), REPORT_POLICY),
        Err(_) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "Postgres does not say what there is to report: look at the log\n".to_owned(),
        ),
    }
}

fn send_page(page: Bytes, policy: &str) -> Response<Body> {
    let mut reply = with_body(StatusCode::OK, "text/html; charset=utf-8", full(page));
    let headers = reply.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    reply
}

fn stream_events(board: &Board, filter: Filter, is_head: bool) -> Response<Body> {
    let body = if is_head {
        Some(full(Bytes::new()))
    } else {
        board
            .stream(filter)
            .map(|stream| StreamBody::new(stream).boxed_unsync())
    };
    match body {
        Some(body) => with_body(StatusCode::OK, "text/event-stream", body),
        None => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many are watching\n".to_owned(),
        ),
    }
}

fn text(code: StatusCode, body: String) -> Response<Body> {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    with_body(code, content_type, full(Bytes::from(body)))
}

fn full(body: Bytes) -> Body {
    Full::new(body).boxed_unsync()
}

fn with_body(code: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut reply = Response::new(body);
    *reply.status_mut() = code;
    let headers = reply.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_no_hit_can_have_never_reaches_postgres() {
        for (text, is_sound) in [
            ("spring", true),
            ("", true),
            ("\u{1}\u{fffd}", true),
            ("a\0b", false),
            ("\0", false),
        ] {
            assert_eq!(can_be_stored(text), is_sound, "{text:?}");
        }
        assert!(!can_be_stored(&"x".repeat(TEXT_BYTES_MAX + 1)));
    }
}
