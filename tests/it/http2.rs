//! HTTP/2 over TLS: what RFC 9113 asks of a server, other implementations of it, and clients that
//! send frames without end.

mod bodies;
mod conformance;
mod floods;
mod frames;
mod targets;

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::support::PATIENCE;
use crate::support::tls::Encrypted;
use frames::{CONTINUATION, Client, END_HEADERS, END_STREAM, GOAWAY, HEADERS, fields, frame, get};

/// The most bytes of one frame, unless the server has said otherwise (RFC 9113, section 6.5.2).
const HEADER_FRAME_BYTES: usize = 16 * 1024;

/// Runs a program of Debian's nghttp2-client.
async fn nghttp2(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    output
        .expect("it ends")
        .expect("script/setup test installs nghttp2-client")
}

#[tokio::test]
async fn nghttp2_is_answered_with_settings_that_bound_it() {
    let encrypted = Encrypted::open().await;
    let at = |target: &str| format!("https://{}{target}", encrypted.tls);
    let (pixel, tag) = (at("/p.gif?site=open&e=nghttp"), at("/tag.js?site=open"));
    let output = nghttp2("nghttp", &["-v", "-n", &pixel, &tag]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "The negotiated protocol: h2",
        "SETTINGS_MAX_CONCURRENT_STREAMS(0x03):100",
        "SETTINGS_INITIAL_WINDOW_SIZE(0x04):65536",
        "SETTINGS_MAX_HEADER_LIST_SIZE(0x06):28672",
        "content-type: image/gif",
        "content-type: text/javascript",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    assert_eq!(text.matches(":status: 200").count(), 2, "{text}");
    let load = [
        "-n",
        "4000",
        "-c",
        "8",
        "-m",
        "50",
        &at("/p.gif?site=open&e=load"),
    ];
    let output = nghttp2("h2load", &load).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("4000 succeeded, 0 failed"), "{text}");
    assert!(text.contains("4000 2xx"), "{text}");
    let sql = "select count(*) from avtryck.hit where event_name in ('nghttp', 'load')";
    encrypted.collector.wait_for(sql, 4001).await;
}

#[tokio::test]
async fn a_connection_takes_ten_thousand_requests_and_is_told_to_go() {
    let encrypted = Encrypted::open().await;
    let mut client = Client::open(&encrypted).await;
    let (mut sent, mut replies, mut last) = (0_u32, 0_u32, None);
    while last.is_none() {
        let batch: Vec<u8> = (0..50)
            .flat_map(|index| get(2 * (sent + index) + 1, "/id?site=open"))
            .collect();
        client.send(&batch).await;
        sent += 50;
        while replies < sent && last.is_none() {
            let frame = client.frame().await.expect("it is told first");
            match frame.kind {
                HEADERS => replies += 1,
                GOAWAY => last = Some(frame.word(0)),
                _ => {}
            }
        }
    }
    // hyper names the largest number first, so that requests on their way are answered too, and
    // then the last that was.
    while let Some(frame) = client.frame().await {
        match frame.kind {
            HEADERS => replies += 1,
            GOAWAY => last = Some(frame.word(0)),
            _ => {}
        }
    }
    assert!((10_000..10_050).contains(&replies), "{replies} of {sent}");
    assert_eq!(last, Some(2 * replies - 1));
}

#[tokio::test]
async fn a_connection_that_rests_is_told_to_go_and_a_silent_one_is_ended() {
    let encrypted = Encrypted::open().await;
    let started = Instant::now();
    let resting = async {
        let mut client = Client::open(&encrypted).await;
        client.send(&get(1, "/id?site=open")).await;
        let frames = client.until_ended().await;
        assert!(
            frames
                .iter()
                .any(|frame| frame.kind == GOAWAY && frame.word(4) == 0)
        );
        started.elapsed()
    };
    let silent = async {
        let stream = encrypted.connect("h2").await;
        Client::of(stream).until_ended().await;
        started.elapsed()
    };
    let (resting, silent) = tokio::join!(resting, silent);
    let seconds = Duration::from_secs;
    assert!((seconds(15)..seconds(40)).contains(&resting), "{resting:?}");
    assert!((seconds(4)..seconds(15)).contains(&silent), "{silent:?}");
}

#[tokio::test]
async fn streams_in_flight_at_the_stop_are_answered_and_the_client_told_to_go() {
    let encrypted = Encrypted::open().await;
    let mut client = Client::open(&encrypted).await;
    let body = br#"{"site":"open","e":"late"}"#;
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "127.0.0.1"),
        (":path", "/e"),
    ]);
    client.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    client.settle().await;
    encrypted.collector.signal("TERM");
    client.send(&frame(frames::DATA, END_STREAM, 1, body)).await;
    let frames = client.until_ended().await;
    let status = |frame: &&frames::Frame| frame.kind == HEADERS;
    assert_eq!(frames.iter().find(status).unwrap().status(), 204);
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY));
    let (status, _, log) = encrypted.collector.stop().await;
    assert!(status.success() && !log.contains("cut off"), "{log}");
}

/// Sends a request whose header has about so many bytes, in as many frames as it takes. Returns the
/// status, or 0 where the reply has none or is one of the rarer ones.
async fn send_header(encrypted: &Encrypted, target: &str, bytes: usize) -> u16 {
    let mut client = Client::open(encrypted).await;
    let cookie = "c".repeat(bytes);
    let block = fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "127.0.0.1"),
        (":path", target),
        ("cookie", &cookie),
    ]);
    let mut pieces = block.chunks(HEADER_FRAME_BYTES).peekable();
    let (mut kind, mut stream_flags) = (HEADERS, END_STREAM);
    while let Some(piece) = pieces.next() {
        let end = if pieces.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        client
            .send(&frame(kind, stream_flags | end, 1, piece))
            .await;
        (kind, stream_flags) = (CONTINUATION, 0);
    }
    while let Some(frame) = client.frame().await {
        if frame.stream == 1 && frame.kind == HEADERS {
            return frame.status();
        }
        if frame.kind == GOAWAY || frame.stream == 1 {
            break;
        }
    }
    0
}

#[tokio::test]
async fn a_header_of_a_trackers_size_is_taken_where_trackers_send_and_nowhere_else() {
    let encrypted = Encrypted::open().await;
    let kib = |count: usize| count * 1024;
    for (target, bytes, is_taken) in [
        ("/i?e=pv&aid=open&page=h2", kib(15), true),
        ("/i?e=pv&aid=open&page=h2", kib(17), true),
        ("/i?e=pv&aid=open&page=h2", kib(27), true),
        ("/i?e=pv&aid=open&page=h2", kib(29), false),
        ("/p.gif?site=open&page=h2", kib(15), true),
        ("/p.gif?site=open&page=h2", kib(17), false),
        ("/p.gif?site=open&page=h2", kib(27), false),
    ] {
        let status = send_header(&encrypted, target, bytes).await;
        assert_eq!(status == 200, is_taken, "{target} {bytes}: {status}");
    }
    let rows = "select count(*) from avtryck.hit_detail where params ->> 'page' = 'h2'";
    encrypted.collector.wait_for(rows, 4).await;
}
