//! Much work, much storage and much memory for few bytes.

use super::{Attack, Manner, SITE};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "batch-parameters",
        aim: "an edge thread: thousands of parameters for each of a thousand empty events",
        connections: 2,
        request: parameters,
        manner: Manner::Exchanges,
        query: None,
    },
    Attack {
        name: "batch-address",
        aim: "the spool: eight kilobytes of address for each of a thousand events",
        connections: 4,
        request: address,
        manner: Manner::Exchanges,
        query: Some("select count(*) from avtryck.hit"),
    },
    Attack {
        name: "batch-events",
        aim: "an edge thread and the spool: a thousand short events in each request",
        connections: 4,
        request: events,
        manner: Manner::Exchanges,
        query: None,
    },
    Attack {
        name: "batch-body",
        aim: "memory: bodies of a megabyte that hold nothing",
        connections: 400,
        request: body,
        manner: Manner::Exchanges,
        query: None,
    },
    Attack {
        name: "batch-pixels",
        aim: "everything: one address sends pixels as fast as it can",
        connections: 16,
        request: pixel,
        manner: Manner::Exchanges,
        query: None,
    },
];

fn post(query: &str, body: &[u8], out: &mut Vec<u8>) {
    let head = format!(
        "POST /e?site={SITE}&{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

fn array(event: &str) -> String {
    format!("[{}]", vec![event; 1000].join(","))
}

fn parameters(_: u64, out: &mut Vec<u8>) {
    post(&"a&".repeat(3900), array("{}").as_bytes(), out);
}

fn address(number: u64, out: &mut Vec<u8>) {
    let pair = format!("&n{number}={}", "v".repeat(130));
    let pairs: Vec<String> = (0..52).map(|at| format!("{pair}{at}")).collect();
    post(&pairs.join(""), array(r#"{"a":1}"#).as_bytes(), out);
}

fn events(number: u64, out: &mut Vec<u8>) {
    post(&format!("e=n{number}"), array(r#"{"a":1}"#).as_bytes(), out);
}

fn body(_: u64, out: &mut Vec<u8>) {
    post("", &vec![b' '; 1 << 20], out);
}

fn pixel(number: u64, out: &mut Vec<u8>) {
    let text = format!("GET /p.gif?site={SITE}&e=n{number} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    out.extend_from_slice(text.as_bytes());
}
