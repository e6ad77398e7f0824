//! Bodies of many streams, none of which ends.

use super::frames::{Client, DATA, END_HEADERS, HEADERS, WINDOW_UPDATE, fields, frame};
use crate::support::tls::Encrypted;
use crate::support::{Config, until};

const CLIENTS: u32 = 12;
const STREAMS: u32 = 100;
/// What one frame may hold, and how many each stream has: fewer than its window takes.
const FRAME_BYTES: usize = 16 * 1024;
const FRAMES: usize = 3;
/// What all bodies may take, as it is configured, and what else all connections may.
const BUDGET_BYTES: u64 = 16 << 20;
const SLACK_BYTES: u64 = 20 << 20;

/// Sends a part of a body on each stream, as fast as the connection's window lets it.
async fn hold_bodies(encrypted: &Encrypted, number: u32) -> Client {
    let mut client = Client::open(encrypted).await;
    let address = format!("2.66.0.{number}");
    let request = fields(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "127.0.0.1"),
        (":path", "/e?site=open"),
        ("x-forwarded-for", &address),
    ]);
    let piece = vec![b' '; FRAME_BYTES];
    // Opening the connection has read how far its window was enlarged.
    let mut window: usize = 256 * 1024;
    for stream in (0..STREAMS).map(|index| 2 * index + 1) {
        let head = frame(HEADERS, END_HEADERS, stream, &request);
        client.send(&head).await;
        for _ in 0..FRAMES {
            while window < FRAME_BYTES {
                let Some(frame) = client.frame().await else {
                    return client;
                };
                if frame.kind == WINDOW_UPDATE && frame.stream == 0 {
                    window += frame.word(0) as usize;
                }
            }
            window -= FRAME_BYTES;
            client.send(&frame(DATA, 0, stream, &piece)).await;
        }
    }
    client
}

#[tokio::test]
async fn the_bodies_of_all_streams_have_one_budget_of_memory() {
    let config = Config::sites().set("http.body_memory", "16MiB");
    let encrypted = Encrypted::start(config).await;
    let collector = &encrypted.collector;
    collector.settle().await;
    let before = collector.resident_bytes();
    let mut held = Vec::new();
    let mut most = 0;
    for number in 0..CLIENTS {
        held.push(hold_bodies(&encrypted, number).await);
        most = most.max(collector.resident_bytes());
    }
    let sent = u64::from(CLIENTS * STREAMS) * (FRAMES * FRAME_BYTES) as u64;
    assert!(
        most - before <= BUDGET_BYTES + SLACK_BYTES,
        "{} MiB for {} MiB of bodies",
        (most - before) >> 20,
        sent >> 20
    );
    let refused = "avtryck_refusals_total{reason=\"crowded\"}";
    until(async || collector.metric(refused).await > 0.0).await;
    let pixel = collector.get("/p.gif?site=open", &[]).await;
    assert_eq!(pixel.status, 200);
    let event = collector
        .post("/e", &[], r#"{"site":"open","e":"honest"}"#)
        .await;
    assert_eq!(event.status, 204);
    drop(held);
}
