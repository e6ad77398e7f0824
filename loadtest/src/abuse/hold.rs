//! Connections that are held: they say nothing, or not all, or do not read what they asked for.

use std::io::Write as _;

use avtryck::hit::VisitorId;

use super::{Attack, Manner, SITE, cookie};

/// Bytes of a body of which the last one never comes.
const BODY_BYTES: usize = 1 << 20;
/// What fits into a header beside the request line.
const HEADER_BYTES: usize = 15 << 10;
/// Rows of a visitor whose file nobody reads, and bytes of the page of each.
const FILE_ROWS: usize = 400;
const PAGE_BYTES: usize = 4_000;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "silent connections",
        aim: "all places for connections: sixteen addresses connect and say nothing",
        connections: 16 * 1_024,
        request: |_, _| (),
        manner: Manner::Holds {
            addresses: 16,
            h2c: false,
        },
        query: None,
    },
    Attack {
        name: "headers without end",
        aim: "memory: 15 KiB of a header on each of a thousand connections",
        connections: 1_024,
        request: begin_header,
        manner: Manner::Holds {
            addresses: 1,
            h2c: false,
        },
        query: None,
    },
    Attack {
        name: "bodies without end",
        aim: "memory: a megabyte less a byte on each of 400 connections",
        connections: 400,
        request: begin_body,
        manner: Manner::Holds {
            addresses: 1,
            h2c: false,
        },
        query: None,
    },
    Attack {
        name: "HTTP/2 bodies without end",
        aim: "memory: 100 bodies on each of 64 connections, as far as their windows go",
        connections: 64,
        request: begin_bodies,
        manner: Manner::Holds {
            addresses: 1,
            h2c: true,
        },
        query: None,
    },
    Attack {
        name: "files that nobody reads",
        aim: "retention and the loader: visitors ask for their rows and do not read them",
        connections: 16,
        request: ask_for_file,
        manner: Manner::Holds {
            addresses: 1,
            h2c: false,
        },
        query: None,
    },
];

fn begin_header(_: u64, out: &mut Vec<u8>) {
    let head = format!("GET /p.gif?site={SITE} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Pad: ");
    out.extend_from_slice(head.as_bytes());
    out.resize(out.len() + HEADER_BYTES, b'a');
}

fn begin_body(_: u64, out: &mut Vec<u8>) {
    let head = format!(
        "POST /e?site={SITE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    out.resize(out.len() + BODY_BYTES - 1, b' ');
}

/// Begins bodies on as many streams as a client may open (RFC 9113).
fn begin_bodies(_: u64, out: &mut Vec<u8>) {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const DATA: u8 = 0;
    const END_HEADERS: u8 = 4;
    // The window of a connection that has not been enlarged, over its streams.
    const STREAMS: u32 = 100;
    const STREAM_BYTES: usize = 65_535 / STREAMS as usize;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>| {
        // The largest payload here has less than a kilobyte.
        let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        out.extend_from_slice(&length[1..]);
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(payload);
    };
    out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(SETTINGS, 0, 0, &[], out);
    // HPACK (RFC 7541): `:method: POST` and `:scheme: http` by their index, `:path` and
    // `:authority` by that of their name and a text.
    let mut fields = vec![0x83, 0x86];
    for (name, text) in [
        (0x04, format!("/e?site={SITE}")),
        (0x01, "127.0.0.1".to_owned()),
    ] {
        fields.extend([name, u8::try_from(text.len()).unwrap_or(0)]);
        fields.extend_from_slice(text.as_bytes());
    }
    for stream in 0..STREAMS {
        let stream = 2 * stream + 1;
        frame(HEADERS, END_HEADERS, stream, &fields, out);
        frame(DATA, 0, stream, &[b' '; STREAM_BYTES], out);
    }
}

/// Sends a visitor's hits and asks for the file of them.
fn ask_for_file(number: u64, out: &mut Vec<u8>) {
    let mut id = [0xcd; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let visitor = VisitorId(id);
    let cookie = format!("avid={}", cookie::sign(visitor));
    let page = "p".repeat(PAGE_BYTES);
    for row in 0..FILE_ROWS {
        // Writing to memory cannot fail.
        write!(
            out,
            "GET /p.gif?site={SITE}&url=https://shop.example/{row}{page} HTTP/1.1\r\n\
             Host: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"
        )
        .ok();
    }
    let body = format!("token={}", cookie::form_token(visitor));
    write!(
        out,
        "POST /privacy/file?site={SITE} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nCookie: {cookie}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok();
}
