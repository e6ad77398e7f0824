//! Targets that are no URLs. Over HTTP/1.1 the collector corrects what has one meaning and refuses
//! the rest with a reason; over HTTP/2 the library reads `:path` first, and docs/tls.md says what
//! comes of it.

use super::frames::{Client, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, fields, frame};
use crate::support::tls::Encrypted;

const PROTOCOL_ERROR: u32 = 1;

/// What a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Status(u16),
    /// The stream ends with a code, and the connection goes on.
    Reset(u32),
    /// The connection ends.
    Gone,
}

async fn ask(client: &mut Client, stream: u32, target: &[u8]) -> Seen {
    let mut block = fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "127.0.0.1"),
    ]);
    block.extend([0, 5]);
    block.extend(b":path");
    block.push(u8::try_from(target.len()).unwrap());
    block.extend(target);
    client
        .send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block))
        .await;
    while let Some(frame) = client.frame().await {
        match frame.kind {
            HEADERS if frame.stream == stream => return Seen::Status(frame.status()),
            RST_STREAM if frame.stream == stream => return Seen::Reset(frame.word(0)),
            GOAWAY => break,
            _ => {}
        }
    }
    Seen::Gone
}

#[tokio::test]
async fn a_target_that_is_no_url_is_taken_or_ends_its_stream_alone() {
    let encrypted = Encrypted::open().await;
    let mut client = Client::open(&encrypted).await;
    let reset = Seen::Reset(PROTOCOL_ERROR);
    let taken = Seen::Status(200);
    let mut stream = 1;
    for (written, expected, stored) in [
        (&b"plain"[..], taken, Some("plain")),
        (b"a%22b", taken, Some("a\"b")),
        ("sm\u{f6}r".as_bytes(), taken, Some("sm\u{f6}r")),
        (b"{a}", taken, Some("{a}")),
        (b"a|b^c`d\\e", taken, Some("a|b^c`d\\e")),
        (b"a#b", taken, Some("a")),
        (b"a b", reset, None),
        (b"a\tb", reset, None),
        (b"a\0b", reset, None),
        (b"a\x7fb", reset, None),
        (b"a\"b", reset, None),
        (b"a<b", reset, None),
        (b"a>b", reset, None),
    ] {
        let target = [b"/p.gif?site=open&e=", written].concat();
        let seen = ask(&mut client, stream, &target).await;
        let shown = String::from_utf8_lossy(written).into_owned();
        assert_eq!(seen, expected, "{shown}");
        stream += 2;
        if let Some(name) = stored {
            let sql = format!("select count(*) from avtryck.hit where event_name = '{name}'");
            encrypted.collector.wait_for(&sql, 1).await;
        }
    }
    // The connection has gone on all the time.
    assert_eq!(ask(&mut client, stream, b"/p.gif?site=open").await, taken);
    let target = b"/p.gif?site=open&e=r\xe9gie";
    assert_eq!(ask(&mut client, stream + 2, target).await, Seen::Gone);
}
