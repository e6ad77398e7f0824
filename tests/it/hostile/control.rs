//! Control characters in every place that a client writes reach neither the log nor a reply's
//! headers nor the metrics. Nothing that a client writes is in any of them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{Collector, Config, PATIENCE, until};

/// Stands in all that is sent, so that it is found wherever it gets to.
const MARK: &str = "m4rk5tr4nger";

/// Escape sequences, line's ends and other control characters of ASCII and beyond.
const RAW: [&[u8]; 8] = [
    b"\x1b[31m",
    b"\x1b]0;x\x07",
    b"\r\nX-Injected: 1",
    b"\n",
    b"\0",
    b"\x08\x7f",
    b"\xc2\x9b31m",
    b"\x9b31m",
];

fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}

/// The same as JSON escapes.
fn escaped(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| format!("\\u{:04x}", c as u32))
        .collect()
}

fn request(line: &[u8], headers: &[u8], body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}\r\n", body.len());
    let length = if body.is_empty() { "" } else { &length };
    [
        line,
        b" HTTP/1.1\r\n",
        headers,
        b"Connection: close\r\n",
        length.as_bytes(),
        b"\r\n",
        body,
    ]
    .concat()
}

fn requests() -> Vec<Vec<u8>> {
    const HOST: &[u8] = b"Host: 127.0.0.1\r\n";
    let mut requests = Vec::new();
    for raw in RAW {
        let marked = [MARK.as_bytes(), raw, MARK.as_bytes()].concat();
        let encoded = percent(&marked);
        for target in [
            format!(
                "/p.gif?site=open&e={encoded}&u={encoded}&ref={encoded}&id={encoded}&{encoded}={encoded}"
            ),
            format!("/p.gif?site={encoded}"),
            format!("/p.gif?site=open&partner={encoded}"),
            format!(
                "/i.gif?site=open&partner=network&campaign={encoded}&creative={encoded}&placement={encoded}&publisher={encoded}&uid={encoded}&maid={encoded}&did={encoded}&cat={encoded}"
            ),
            format!(
                "/p.gif?site=open&gdpr={encoded}&gdpr_consent={encoded}&gpp={encoded}&gpp_sid={encoded}&addtl_consent={encoded}&cb={encoded}"
            ),
            format!(
                "/p.gif?site=open&ch_model={encoded}&ch_platform={encoded}&ch_brands={encoded}&ch_mobile={encoded}"
            ),
            format!("/id?site=open&f={encoded}"),
            format!("/tag.js?site={encoded}"),
            format!("/consent?site={encoded}"),
            format!("/{encoded}"),
            format!("/demo?{encoded}"),
        ] {
            requests.push(request(format!("GET {target}").as_bytes(), HOST, b""));
        }
        for part in [&b"GET /p.gif?site=open&e="[..], b"GET /", b""] {
            requests.push(request(&[part, &marked].concat(), HOST, b""));
        }
        for name in [
            "Host",
            "User-Agent",
            "Referer",
            "Cookie",
            "Cookie: avid",
            "Cookie: avchoice",
            "Origin",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "Forwarded",
            "Content-Type",
            "Sec-CH-UA",
            "Sec-CH-UA-Model",
            "Sec-CH-UA-Platform",
            "Sec-GPC",
            "Sec-Purpose",
            "Sec-Fetch-Site",
            "Accept-Language",
            "Upgrade",
            "Expect",
        ] {
            let separator = if name.contains(':') { "=" } else { ": " };
            for value in [&marked[..], encoded.as_bytes()] {
                let header = [name.as_bytes(), separator.as_bytes(), value, b"\r\n"].concat();
                let host = if name == "Host" { b"" } else { HOST };
                requests.push(request(
                    b"GET /p.gif?site=open",
                    &[host, &header].concat(),
                    b"",
                ));
            }
        }
        let name = [HOST, &marked, b": x\r\n"].concat();
        requests.push(request(b"GET /p.gif?site=open", &name, b""));
        let escapes = escaped(&marked);
        for body in [
            format!(r#"{{"site":"open","e":"{escapes}","u":"{escapes}","{escapes}":"{escapes}","ch":{{"model":"{escapes}"}}}}"#).into_bytes(),
            format!(r#"{{"site":"{escapes}"}}"#).into_bytes(),
            format!(r#"{{"site":"open","partner":"{escapes}"}}"#).into_bytes(),
            [br#"{"site":"open","e":""#, &marked[..], br#""}"#].concat(),
            marked.clone(),
        ] {
            requests.push(request(b"POST /e", HOST, &body));
            let own = [HOST, b"Origin: http://127.0.0.1\r\nContent-Type: application/json\r\n"].concat();
            requests.push(request(b"POST /consent?site=open", &own, &body));
        }
    }
    requests
}

/// What a terminal could obey.
fn controls(text: &str, allowed: &str) -> String {
    let is_bad = |c: &char| c.is_control() && !allowed.contains(*c);
    text.chars().filter(is_bad).collect()
}

async fn head_of_reply(address: std::net::SocketAddr, request: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut bytes = Vec::new();
        drop(stream.write_all(request).await);
        drop(stream.read_to_end(&mut bytes).await);
        bytes
    };
    let mut bytes = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}

#[tokio::test]
async fn control_characters_reach_neither_log_nor_headers_nor_metrics() {
    let collector = Collector::start_logging(Config::sites(), "debug").await;
    let requests = requests();
    let mut answered = 0;
    let mut exchanges = JoinSet::new();
    for request in requests.clone() {
        let address = collector.http;
        exchanges.spawn(async move { (head_of_reply(address, &request).await, request) });
    }
    for (head, request) in exchanges.join_all().await {
        let shown = String::from_utf8_lossy(&request);
        let text = str::from_utf8(&head).unwrap_or_else(|_| panic!("{shown:?}"));
        for line in text.split("\r\n") {
            assert_eq!(controls(line, ""), "", "{line:?} to {shown:?}");
        }
        assert!(
            !text.contains(MARK) && !text.contains("X-Injected"),
            "{text:?} to {shown:?}"
        );
        answered += usize::from(text.starts_with("HTTP/1.1 "));
    }
    let recorded = collector.metric("avtryck_hits_total").await;
    let loaded = async || {
        collector.metric("avtryck_loader_rows_total").await
            + collector.metric("avtryck_loader_counted_total").await
            + collector.metric("avtryck_loader_repeated_total").await
            + collector.metric("avtryck_loader_rejected_total").await
    };
    until(async || loaded().await >= recorded).await;
    assert!(recorded > 200.0 && answered > 500, "{recorded} {answered}");
    // Rows are for people's terminals as well.
    let dirty = "select count(*) from avtryck.hit_detail where \
                 concat(page_url, referrer, event_name, event_id, partner_uid, campaign, params::text) ~ '[\\x01-\\x1f\\x7f-\\x9f]'";
    assert_eq!(collector.number(dirty).await, 0);
    let metrics = collector.admin("/metrics").await.body;
    assert_eq!(controls(&metrics, "\n"), "");
    assert!(!metrics.contains(MARK));
    let (status, _, log) = collector.stop().await;
    assert!(status.success(), "{log}");
    assert_eq!(controls(&log, "\n"), "");
    assert!(!log.contains(char::REPLACEMENT_CHARACTER), "{log}");
    for line in log.lines() {
        assert!(!line.contains(MARK) && !line.contains("\\u00"), "{line}");
    }
    eprintln!(
        "{} requests, {answered} answered, {recorded} recorded",
        requests.len()
    );
}
