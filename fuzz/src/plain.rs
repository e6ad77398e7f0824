//! Requests as bytes: what is read without hyper, hyper reads too, and in the same way.

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::OnceLock;

use avtryck::config::Config;
use avtryck::edge::plain::Plain;
use avtryck::edge::transport::target;
use avtryck::protocol::{self, Arrival};
use avtryck::request::Headers;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::sound::{self, NOW};

const CHOICE_COOKIE: &str = "avchoice";
/// Room for a request and its reply on the way to hyper and back.
const STREAM_BYTES: usize = 64 * 1024;

/// A connection's bytes, which begin with a request.
pub fn plain(bytes: &[u8]) {
    mend(bytes);
    static CONFIG: OnceLock<Config> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let text = "[[site]]\nkey = \"site\"\n";
        Config::parse(text, []).expect("a right configuration")
    });
    let Some((plain, length)) = Plain::read(config, bytes) else {
        return;
    };
    assert!(length <= STREAM_BYTES, "a test's limit");
    let mut head = bytes.to_vec();
    target::mend(&mut head);
    assert_eq!(head, bytes, "what is plain needs no mending");
    let seen = read_by_hyper(&bytes[..length]);
    assert_eq!(seen.method, "GET");
    assert_eq!(seen.target, plain.target());
    assert!(!seen.has_body);
    assert_eq!(seen.closes, plain.is_last());
    // The verdict on a request follows from its line and its headers.
    let arrival = plain.arrival(NOW, CHOICE_COOKIE);
    let headers = Headers::read(&seen.headers);
    assert_eq!(format!("{:?}", arrival.headers), format!("{headers:?}"));
    // And so does the hit.
    let (_, query) = seen.target.split_once('?').unwrap_or_default();
    let same = Arrival {
        headers: &headers,
        path: "",
        query,
        ..arrival
    };
    let draft = protocol::read(&arrival).expect("native");
    sound::hit(&draft.hit);
    assert_eq!(Ok(draft), protocol::read(&same));
}

/// To mend changes the target alone, and is done once.
fn mend(bytes: &[u8]) {
    let mut head = bytes.to_vec();
    target::mend(&mut head);
    let once = head.clone();
    target::mend(&mut head);
    assert_eq!(head, once);
    let words = |head: &[u8]| head.split(|byte| *byte == b' ').count();
    assert_eq!(words(&head), words(bytes));
    let lines = |head: &[u8]| head.split(|byte| *byte == b'\n').count();
    assert_eq!(lines(&head), lines(bytes));
    if head != bytes {
        let ends = |head: &[u8]| head.rsplit(|byte| *byte == b' ').next().map(<[u8]>::to_vec);
        assert_eq!(ends(&head), ends(bytes));
    }
}

/// What hyper read.
struct Seen {
    method: String,
    target: String,
    headers: HeaderMap,
    has_body: bool,
    /// Whether hyper ends the connection after its reply.
    closes: bool,
}

/// Has hyper read one request and reply to it.
fn read_by_hyper(bytes: &[u8]) -> Seen {
    let seen = RefCell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let has_body = !request.body().is_end_stream();
        let (parts, _) = request.into_parts();
        let before = seen.replace(Some((parts, has_body)));
        assert!(before.is_none(), "one request is two to hyper");
        async { Ok::<_, Infallible>(Response::new(String::new())) }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let replied = runtime.expect("a runtime").block_on(async {
        let (mut client, server) = tokio::io::duplex(STREAM_BYTES);
        client.write_all(bytes).await.expect("room");
        client.shutdown().await.expect("an open stream");
        let connection = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        connection.await.ok();
        let mut replied = String::new();
        client.read_to_string(&mut replied).await.expect("a reply");
        replied
    });
    let (parts, has_body) = seen
        .into_inner()
        .expect("hyper takes what is read without it");
    let closes = format!("{CONNECTION}: close\r\n");
    Seen {
        method: parts.method.to_string(),
        target: parts
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        headers: parts.headers,
        has_body,
        closes: replied.contains(&closes),
    }
}
