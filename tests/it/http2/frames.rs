//! Frames by hand, so that they can be wrong (RFC 9113, sections 4 and 6).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::PATIENCE;
use crate::support::tls::Encrypted;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

/// A frame's bytes.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A block of header fields: literals without indexing (RFC 7541, section 6.2.2).
pub(super) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // An integer with a prefix of seven bits.
            match text.len() {
                length @ 0..127 => block.push(length as u8),
                length => {
                    block.push(127);
                    let mut rest = length - 127;
                    while rest >= 128 {
                        block.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The fields of a request without a body.
pub(super) fn request(target: &str) -> Vec<u8> {
    fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "127.0.0.1"),
        (":path", target),
    ])
}

/// A request without a body, whole.
pub(super) fn get(stream: u32, target: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request(target))
}

/// A frame as it was read.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The number in the four bytes from `at` on.
    pub(super) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of HEADERS, where the static table has it (RFC 7541, appendix A).
    pub(super) fn status(&self) -> u16 {
        // The table that is in use may change its size first.
        let field = self.payload.iter().find(|byte| **byte & 0xe0 != 0x20);
        match field {
            Some(0x88) => 200,
            Some(0x89) => 204,
            Some(0x8c) => 400,
            Some(0x8d) => 404,
            _ => 0,
        }
    }
}

/// A connection.
pub(super) struct Client {
    stream: TlsStream<TcpStream>,
    pings: u8,
}

impl Client {
    pub(super) fn of(stream: TlsStream<TcpStream>) -> Client {
        Client { stream, pings: 0 }
    }

    /// Connects, and exchanges settings.
    pub(super) async fn open(encrypted: &Encrypted) -> Client {
        let mut client = Client::of(encrypted.connect("h2").await);
        let first = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        client.send(&first).await;
        client.settle().await;
        client.send(&frame(SETTINGS, ACK, 0, &[])).await;
        client
    }

    /// Sends bytes. Whoever ends the connection is heard when reading.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
        drop(self.stream.flush().await);
    }

    /// The next frame; none at the end. The other side's PINGs are answered.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any_frame().await?;
            if frame.kind != PING || frame.flags == ACK {
                return Some(frame);
            }
            self.send(&super::frames::frame(PING, ACK, 0, &frame.payload))
                .await;
        }
    }

    async fn any_frame(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some(Frame {
                kind,
                flags,
                stream: u32::from_be_bytes(stream),
                payload,
            })
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("a frame or the end")
    }

    /// Every frame up to the first of that kind, and whether the connection has ended before.
    pub(super) async fn until(&mut self, kind: u8) -> (Vec<Frame>, bool) {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
            if frames.last().is_some_and(|frame| frame.kind == kind) {
                return (frames, false);
            }
        }
        (frames, true)
    }

    /// Every frame until the connection ends.
    pub(super) async fn until_ended(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }

    /// Every frame until all that was sent has been dealt with, and whether the connection has
    /// ended by then.
    pub(super) async fn settle(&mut self) -> (Vec<Frame>, bool) {
        let mut frames = Vec::new();
        // What a frame leads to is sent at the latest before the second answer.
        for _ in 0..2 {
            self.pings += 1;
            let ping = [self.pings; 8];
            self.send(&frame(PING, 0, 0, &ping)).await;
            loop {
                let Some(frame) = self.frame().await else {
                    return (frames, true);
                };
                if frame.kind == PING && frame.flags == ACK && frame.payload == ping {
                    break;
                }
                frames.push(frame);
            }
        }
        (frames, false)
    }

    /// Both halves, for whoever writes without reading.
    pub(super) fn into_inner(self) -> TlsStream<TcpStream> {
        self.stream
    }
}
