//! What a server has to answer to frames that are odd or wrong: a table by section of RFC 9113 (and
//! 7541 where a block of header fields is meant), after the cases of h2spec.
//!
//! An error of the connection is a GOAWAY with its code and the end of the connection. An error of
//! a stream is a RST_STREAM with its code, or that of the connection: a server may take it as
//! seriously (section 5.4.2).
//!
//! hyper's library says PROTOCOL_ERROR for some errors that have a code of their own. The
//! connection ends all the same, which is what protects: both codes pass where this is so.

mod messages;
mod table;

use std::sync::Arc;

use tokio::task::JoinSet;

use super::frames::{Client, Frame, GOAWAY, HEADERS, PREFACE, RST_STREAM};
use crate::support::tls::Encrypted;

/// Attempts at what the server does at times: of 72 one in a dozen was without the error.
const ATTEMPTS_MAX: usize = 20;

/// What is right.
#[derive(Clone, Copy, Debug)]
enum Right {
    /// The connection goes on, and every stream's request is answered with 200.
    Fine(usize),
    /// The connection ends with one of these codes.
    Connection(&'static [u32]),
    /// The stream, or the connection, ends with one of these codes.
    Stream(&'static [u32]),
    /// The same in one of [`ATTEMPTS_MAX`] attempts: it is an error only where the server does not
    /// read as fast as bytes come.
    StreamAtTimes(&'static [u32]),
    /// The request is refused with 400, or its stream ended as malformed.
    Malformed,
}

struct Case {
    section: &'static str,
    bytes: Vec<u8>,
    right: Right,
}

/// What came back.
#[derive(Debug, Default)]
struct Outcome {
    goaway: Option<u32>,
    reset: Option<u32>,
    statuses: Vec<u16>,
    ended: bool,
}

impl Outcome {
    fn take(&mut self, frames: &[Frame]) {
        for frame in frames {
            match frame.kind {
                GOAWAY => self.goaway = Some(frame.word(4)),
                RST_STREAM => self.reset = Some(frame.word(0)),
                HEADERS => self.statuses.push(frame.status()),
                _ => {}
            }
        }
    }

    fn is(&self, right: Right) -> bool {
        let of = |codes: &[u32], code: Option<u32>| code.is_some_and(|code| codes.contains(&code));
        match right {
            Right::Fine(count) => {
                let is_error = self.goaway.or(self.reset).is_some_and(|code| code != 0);
                !is_error && !self.ended && self.statuses == vec![200; count]
            }
            Right::Connection(codes) => self.ended && of(codes, self.goaway),
            Right::Stream(codes) | Right::StreamAtTimes(codes) => {
                of(codes, self.reset) || (self.ended && of(codes, self.goaway))
            }
            Right::Malformed => self.statuses == [400] || of(&[1], self.reset.or(self.goaway)),
        }
    }
}

async fn run(encrypted: &Encrypted, case: &Case) -> Outcome {
    let mut client = Client::open(encrypted).await;
    client.send(&case.bytes).await;
    let mut outcome = Outcome::default();
    let (frames, ended) = client.settle().await;
    outcome.take(&frames);
    outcome.ended = ended;
    let replies = match case.right {
        Right::Fine(count) => count,
        Right::Malformed => 1,
        Right::Connection(_) | Right::Stream(_) | Right::StreamAtTimes(_) => 0,
    };
    // A reply takes until its hit is on disk.
    while !outcome.ended && outcome.reset.is_none() && outcome.statuses.len() < replies {
        let (frames, ended) = client.until(HEADERS).await;
        outcome.take(&frames);
        outcome.ended = ended;
    }
    if outcome.goaway.is_some_and(|code| code != 0) {
        outcome.take(&client.until_ended().await);
        outcome.ended = true;
    }
    outcome
}

#[tokio::test]
async fn each_odd_or_wrong_frame_is_answered_as_the_standard_says() {
    let encrypted = Arc::new(Encrypted::open().await);
    let mut running = JoinSet::new();
    for case in table::all() {
        let encrypted = Arc::clone(&encrypted);
        running.spawn(async move {
            let mut outcome = run(&encrypted, &case).await;
            if matches!(case.right, Right::StreamAtTimes(_)) {
                for _ in 1..ATTEMPTS_MAX {
                    if outcome.is(case.right) {
                        break;
                    }
                    outcome = run(&encrypted, &case).await;
                }
            }
            (case, outcome)
        });
    }
    let done = running.join_all().await;
    assert!(done.len() > 80, "{} cases", done.len());
    let wrong: Vec<String> = done
        .iter()
        .filter(|(case, outcome)| !outcome.is(case.right))
        .map(|(case, outcome)| {
            format!(
                "{}: {:?} would be right, and not {outcome:?}",
                case.section, case.right
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        done.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn who_has_chosen_http2_and_does_not_begin_it_is_ended() {
    let encrypted = Encrypted::open().await;
    let mut wrong = PREFACE.to_vec();
    wrong[20] = b'X';
    for first in [
        &wrong[..],
        b"GET /p.gif?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ] {
        let mut client = Client::of(encrypted.connect("h2").await);
        client.send(first).await;
        assert!(client.until_ended().await.is_empty());
    }
}
