//! The cases of frames, streams and connections.

use super::{Case, Right, messages};
use crate::http2::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, fields, frame, get, request,
};
use Right::{Connection, Fine, Stream, StreamAtTimes};

/// Of a request that is one frame.
pub(super) const ENDS: u8 = END_HEADERS | END_STREAM;

pub(super) const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

const PROTOCOL: Right = Connection(&[PROTOCOL_ERROR]);
const SIZE: Right = Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]);
pub(super) const BLOCK: Right = Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]);
pub(super) const TARGET: &str = "/p.gif?site=open";

/// The start of a POST whose body is to follow.
pub(super) fn post(stream: u32) -> Vec<u8> {
    post_with(stream, &[])
}

pub(super) fn post_with(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "127.0.0.1"),
        (":path", "/e"),
    ];
    frame(
        HEADERS,
        END_HEADERS,
        stream,
        &fields(&[&pseudo, more].concat()),
    )
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(
        SETTINGS,
        0,
        0,
        &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat(),
    )
}

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(super) fn all() -> Vec<Case> {
    [
        framing(),
        states(),
        frames(),
        settings(),
        flow(),
        continuation(),
        messages::messages(),
        messages::compression(),
    ]
    .into_iter()
    .flatten()
    .map(|(section, parts, right)| Case {
        section,
        bytes: parts.concat(),
        right,
    })
    .collect()
}

pub(super) type Row = (&'static str, Vec<Vec<u8>>, Right);

fn framing() -> Vec<Row> {
    let half = request(TARGET);
    let (start, end) = half.split_at(20);
    vec![
        (
            "4.1 a frame of an unknown kind is ignored",
            vec![frame(0xee, 0, 0, b"x"), get(1, TARGET)],
            Fine(1),
        ),
        (
            "4.1 an unknown flag is ignored",
            vec![frame(PING, 0x16, 0, &[0; 8]), get(1, TARGET)],
            Fine(1),
        ),
        (
            "4.1 the reserved bit is ignored",
            vec![frame(PING, 0, 1 << 31, &[0; 8]), get(1, TARGET)],
            Fine(1),
        ),
        (
            "4.2 DATA beyond the largest size",
            vec![post(1), frame(DATA, END_STREAM, 1, &[b' '; 16_385])],
            SIZE,
        ),
        (
            "4.2 HEADERS beyond the largest size",
            vec![frame(HEADERS, ENDS, 1, &[0; 16_385])],
            SIZE,
        ),
        (
            "4.3 a block that is none",
            vec![frame(HEADERS, ENDS, 1, &[0x40])],
            BLOCK,
        ),
        (
            "4.3 another kind of frame inside a block",
            vec![
                frame(HEADERS, END_STREAM, 1, start),
                frame(PRIORITY, 0, 1, &[0; 5]),
                frame(CONTINUATION, END_HEADERS, 1, end),
            ],
            PROTOCOL,
        ),
        (
            "4.3 another stream inside a block",
            vec![frame(HEADERS, END_STREAM, 1, start), get(3, TARGET)],
            PROTOCOL,
        ),
        (
            "5.5 an unknown frame inside a block",
            vec![frame(HEADERS, END_STREAM, 1, start), frame(0xee, 0, 0, b"")],
            PROTOCOL,
        ),
    ]
}

fn states() -> Vec<Row> {
    let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let many = (0..101).map(|index| post(2 * index + 1)).collect();
    vec![
        (
            "5.1 idle: DATA",
            vec![frame(DATA, END_STREAM, 1, b"x")],
            PROTOCOL,
        ),
        ("5.1 idle: RST_STREAM", vec![reset(1)], PROTOCOL),
        ("5.1 idle: WINDOW_UPDATE", vec![window(1, 100)], PROTOCOL),
        (
            "5.1 idle: CONTINUATION",
            vec![frame(CONTINUATION, END_HEADERS, 1, &request(TARGET))],
            PROTOCOL,
        ),
        (
            "5.1 half-closed: DATA",
            vec![get(1, TARGET), frame(DATA, END_STREAM, 1, b"x")],
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        (
            "5.1 half-closed: HEADERS",
            vec![get(1, TARGET), get(1, TARGET)],
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        (
            "5.1 half-closed: CONTINUATION",
            vec![
                get(1, TARGET),
                frame(CONTINUATION, END_HEADERS, 1, &request(TARGET)),
            ],
            Connection(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        (
            "5.1 half-closed: WINDOW_UPDATE, RST_STREAM and PRIORITY are fine",
            vec![
                get(1, TARGET),
                window(1, 1),
                frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
                get(3, TARGET),
                reset(1),
            ],
            Fine(1),
        ),
        ("5.1.1 an even number", vec![get(2, TARGET)], PROTOCOL),
        (
            "5.1.1 a smaller number",
            vec![get(5, TARGET), get(3, TARGET)],
            Connection(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        (
            "5.1.2 a stream more than there may be",
            many,
            Stream(&[REFUSED_STREAM, PROTOCOL_ERROR]),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn frames() -> Vec<Row> {
    vec![
        (
            "6.1 DATA of no stream",
            vec![frame(DATA, 0, 0, b"x")],
            PROTOCOL,
        ),
        (
            "6.1 DATA with more padding than there is",
            vec![post(1), frame(DATA, PADDED | END_STREAM, 1, &[6, 1, 2])],
            PROTOCOL,
        ),
        (
            "6.2 HEADERS of no stream",
            vec![frame(HEADERS, ENDS, 0, &request(TARGET))],
            PROTOCOL,
        ),
        (
            "6.2 HEADERS with more padding than there is",
            vec![frame(HEADERS, PADDED | ENDS, 1, &[200, 1, 2])],
            PROTOCOL,
        ),
        (
            "6.2 HEADERS with padding",
            vec![frame(
                HEADERS,
                PADDED | ENDS,
                1,
                &[&[3][..], &request(TARGET), &[0; 3]].concat(),
            )],
            Fine(1),
        ),
        (
            "6.3 PRIORITY of no stream",
            vec![frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1])],
            PROTOCOL,
        ),
        (
            "6.3 PRIORITY of another size",
            vec![get(1, TARGET), frame(PRIORITY, 0, 3, &[0; 4])],
            Stream(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        (
            "6.4 RST_STREAM of no stream",
            vec![frame(RST_STREAM, 0, 0, &[0; 4])],
            PROTOCOL,
        ),
        (
            "6.4 RST_STREAM of another size",
            vec![post(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            SIZE,
        ),
        (
            "6.6 PUSH_PROMISE of a client",
            vec![
                get(1, TARGET),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    &[&[0, 0, 0, 2][..], &request(TARGET)].concat(),
                ),
            ],
            PROTOCOL,
        ),
        (
            "6.7 PING is answered, with ACK it is not",
            vec![
                frame(PING, ACK, 0, b"strange."),
                frame(PING, 0, 0, b"question"),
                get(1, TARGET),
            ],
            Fine(1),
        ),
        (
            "6.7 PING of a stream",
            vec![frame(PING, 0, 1, &[0; 8])],
            PROTOCOL,
        ),
        (
            "6.7 PING of another size",
            vec![frame(PING, 0, 0, &[0; 6])],
            SIZE,
        ),
        (
            "6.8 GOAWAY of a stream",
            vec![frame(GOAWAY, 0, 1, &[0; 8])],
            PROTOCOL,
        ),
        (
            "7 an unknown code of RST_STREAM",
            vec![post(1), frame(RST_STREAM, 0, 1, &[0xff; 4]), get(3, TARGET)],
            Fine(1),
        ),
    ]
}

fn settings() -> Vec<Row> {
    vec![
        (
            "6.5 SETTINGS with ACK and more",
            vec![frame(SETTINGS, ACK, 0, &[0])],
            SIZE,
        ),
        (
            "6.5 SETTINGS of a stream",
            vec![frame(SETTINGS, 0, 1, &[])],
            PROTOCOL,
        ),
        (
            "6.5 SETTINGS of another size",
            vec![frame(SETTINGS, 0, 0, &[0; 5])],
            SIZE,
        ),
        ("6.5.2 ENABLE_PUSH of 2", vec![setting(2, 2)], PROTOCOL),
        (
            "6.5.2 INITIAL_WINDOW_SIZE of 2^31",
            vec![setting(4, 1 << 31)],
            Connection(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
        ),
        (
            "6.5.2 MAX_FRAME_SIZE below 2^14",
            vec![setting(5, 16_383)],
            PROTOCOL,
        ),
        (
            "6.5.2 MAX_FRAME_SIZE of 2^24",
            vec![setting(5, 1 << 24)],
            PROTOCOL,
        ),
        (
            "6.5.2 an unknown setting is ignored",
            vec![setting(0xee, 1), get(1, TARGET)],
            Fine(1),
        ),
    ]
}

fn flow() -> Vec<Row> {
    let full = 0x7fff_ffff;
    vec![
        ("6.9 WINDOW_UPDATE of 0", vec![window(0, 0)], PROTOCOL),
        (
            "6.9 WINDOW_UPDATE of 0 for a stream",
            vec![post(1), window(1, 0)],
            Stream(&[PROTOCOL_ERROR]),
        ),
        (
            "6.9 WINDOW_UPDATE of another size",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            SIZE,
        ),
        (
            "6.9.1 a window beyond 2^31 - 1",
            vec![window(0, full), window(0, full)],
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "6.9.1 a stream's window beyond 2^31 - 1",
            vec![post(1), window(1, full), window(1, full)],
            Stream(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "6.9.1 more DATA than the stream's window",
            {
                let data = frame(DATA, 0, 1, &[b' '; 16_384]);
                vec![post(1), data.repeat(20)]
            },
            StreamAtTimes(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "6.9.2 a stream waits for its window, which may be below 0",
            vec![
                setting(4, 1),
                get(1, TARGET),
                setting(4, 0),
                setting(4, 65_535),
                window(1, 100),
            ],
            Fine(1),
        ),
    ]
}

fn continuation() -> Vec<Row> {
    let block = request(TARGET);
    let (a, rest) = block.split_at(10);
    let (b, c) = rest.split_at(10);
    vec![
        (
            "6.10 a block in three frames",
            vec![
                frame(HEADERS, END_STREAM, 1, a),
                frame(CONTINUATION, 0, 1, b),
                frame(CONTINUATION, END_HEADERS, 1, c),
            ],
            Fine(1),
        ),
        (
            "6.10 CONTINUATION of no stream",
            vec![
                frame(HEADERS, END_STREAM, 1, a),
                frame(CONTINUATION, END_HEADERS, 0, rest),
            ],
            PROTOCOL,
        ),
        (
            "6.10 CONTINUATION of another stream",
            vec![
                frame(HEADERS, END_STREAM, 1, a),
                frame(CONTINUATION, END_HEADERS, 3, rest),
            ],
            PROTOCOL,
        ),
        (
            "6.10 CONTINUATION behind the end",
            vec![
                frame(HEADERS, END_STREAM, 1, a),
                frame(CONTINUATION, END_HEADERS, 1, rest),
                frame(CONTINUATION, END_HEADERS, 1, &[]),
            ],
            PROTOCOL,
        ),
        (
            "6.10 CONTINUATION behind DATA",
            vec![
                post(1),
                frame(DATA, 0, 1, b"x"),
                frame(CONTINUATION, END_HEADERS, 1, rest),
            ],
            PROTOCOL,
        ),
    ]
}
