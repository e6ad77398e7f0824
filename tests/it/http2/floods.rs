//! Frames without end: each kind is ended, costs little memory, and others are served.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::frames::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, fields, frame, get, request,
};
use crate::support::PATIENCE;
use crate::support::tls::Encrypted;

/// Clients of each kind, side by side.
const CLIENTS: usize = 4;
/// What all of them may add to the memory that is held.
const GROWTH_BYTES_MAX: u64 = 32 << 20;
/// What nobody gets to send.
const SENT_BYTES_MAX: usize = 256 << 20;

/// A flood: what it begins with, and what then comes for each number of a stream.
struct Flood {
    name: &'static str,
    first: Vec<u8>,
    then: fn(u32) -> Vec<u8>,
}

fn floods() -> Vec<Flood> {
    let open = |target| {
        let block = fields(&[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "127.0.0.1"),
            (":path", target),
        ]);
        frame(HEADERS, END_HEADERS, 1, &block)
    };
    let flood = |name, first, then| Flood { name, first, then };
    // An entry of 3,800 bytes in the table, named by one byte.
    let value = "x".repeat(3800);
    let mut entry = fields(&[("bomb", &value)]);
    entry[0] = 0x40;
    let bomb = [request("/id"), entry].concat();
    vec![
        flood("rapid reset", Vec::new(), |stream| {
            [
                get(stream, "/id?site=open"),
                frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
            ]
            .concat()
        }),
        flood("resets that we are made to send", Vec::new(), |stream| {
            [
                get(stream, "/id?site=open"),
                frame(WINDOW_UPDATE, 0, stream, &[0; 4]),
            ]
            .concat()
        }),
        flood(
            "CONTINUATION",
            frame(HEADERS, 0, 1, &request("/id")),
            |_| frame(CONTINUATION, 0, 1, &fields(&[("a", "b")])),
        ),
        flood(
            "large CONTINUATION",
            frame(HEADERS, 0, 1, &request("/id")),
            |_| frame(CONTINUATION, 0, 1, &fields(&[("a", &"b".repeat(16_000))])),
        ),
        flood(
            "empty CONTINUATION",
            frame(HEADERS, 0, 1, &request("/id")),
            |_| frame(CONTINUATION, 0, 1, &[]),
        ),
        flood(
            "header bomb",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb),
            |stream| {
                let block = [request("/id"), vec![0xbe; 8000]].concat();
                frame(HEADERS, END_HEADERS | END_STREAM, stream + 2, &block)
            },
        ),
        flood("SETTINGS", Vec::new(), |_| frame(SETTINGS, 0, 0, &[])),
        flood("changing SETTINGS", Vec::new(), |number| {
            let size = (number % 60_000).to_be_bytes();
            frame(
                SETTINGS,
                0,
                0,
                &[&[0, 1], &size[..], &[0, 4], &size[..]].concat(),
            )
        }),
        flood("PING", Vec::new(), |_| frame(PING, 0, 0, &[7; 8])),
        flood("PRIORITY", Vec::new(), |stream| {
            frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1])
        }),
        flood("WINDOW_UPDATE", open("/e"), |_| {
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])
        }),
        flood("empty DATA", open("/e"), |_| frame(DATA, 0, 1, &[])),
        flood("DATA of a byte", open("/e"), |_| frame(DATA, 0, 1, b" ")),
        flood(
            "empty DATA that nobody reads",
            open("/p.gif?site=open"),
            |_| frame(DATA, 0, 1, &[]),
        ),
        flood("unknown frames", Vec::new(), |_| {
            frame(0xbe, 0xff, 0, &[0; 64])
        }),
    ]
}

/// Sends a flood until the other side ends the connection; how many bytes that took.
async fn send(client: Client, flood: Arc<Flood>, reads: bool) -> usize {
    let (mut read, mut write) = tokio::io::split(client.into_inner());
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        while reads && read.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        read
    });
    let mut sent = flood.first.len();
    let mut result = write.write_all(&flood.first).await;
    let mut stream = 1;
    while result.is_ok() && sent < SENT_BYTES_MAX {
        let mut chunk = Vec::new();
        for _ in 0..64 {
            chunk.extend((flood.then)(stream));
            stream += 2;
        }
        sent += chunk.len();
        result = write.write_all(&chunk).await;
    }
    assert!(result.is_err(), "{}: {sent} bytes were taken", flood.name);
    drop(reading.await);
    sent
}

/// The most memory that was held since the last call, in bytes.
fn peak_bytes(encrypted: &Encrypted) -> u64 {
    let process = format!("/proc/{}", encrypted.collector.pid());
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    // 5 begins anew (proc(5)).
    std::fs::write(format!("{process}/clear_refs"), "5").unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn floods_are_ended_take_less_than_32_mib_and_others_are_served() {
    let encrypted = Encrypted::open().await;
    // With Postgres up and a hit loaded, what the start takes is in memory.
    encrypted.collector.get("/p.gif?site=open", &[]).await;
    encrypted
        .collector
        .wait_for("select count(*) from avtryck.hit", 1)
        .await;
    peak_bytes(&encrypted);
    let before = encrypted.collector.resident_bytes();
    let unread = |flood: &Flood| ["rapid reset", "SETTINGS", "PING"].contains(&flood.name);
    let unread = floods().into_iter().filter(unread).collect();
    // Those whose replies nobody reads come side by side: each has the time to write.
    let read = floods().into_iter().map(|flood| (vec![flood], true));
    for (floods, reads) in read.chain([(unread, false)]) {
        let mut clients = JoinSet::new();
        let names: Vec<_> = floods.iter().map(|flood| flood.name).collect();
        for flood in floods.into_iter().map(Arc::new) {
            for _ in 0..CLIENTS {
                let client = Client::open(&encrypted).await;
                clients.spawn(send(client, Arc::clone(&flood), reads));
            }
        }
        let mut honest = Client::open(&encrypted).await;
        honest.send(&get(1, "/p.gif?site=open")).await;
        let (frames, ended) = honest.until(HEADERS).await;
        assert!(
            !ended && frames.last().unwrap().status() == 200,
            "{names:?}"
        );
        let sent = tokio::time::timeout(PATIENCE, clients.join_all())
            .await
            .unwrap();
        let growth = peak_bytes(&encrypted).saturating_sub(before);
        eprintln!(
            "{names:?}, read {reads}: ended after {sent:?} bytes; {growth} bytes more at the peak"
        );
        assert!(growth <= GROWTH_BYTES_MAX, "{names:?}: {growth}");
    }
}
