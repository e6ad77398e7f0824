//! Agents and hints that are dear to recognise, and names that nobody had before.

use super::{Attack, Manner, PARTNER, SITE};

/// Agents that were found to be dear, one a line (`make abuse-agents`).
const AGENTS: &str = include_str!("agents.txt");

/// What is seen of the rows that they leave.
const ROWS: &str = "select (select count(*) from avtryck.device) + (select count(*) from avtryck.ad) \
    + (select count(*) from avtryck.site)";

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "dear agents",
        aim: "the time that a new device costs the loader",
        connections: 16,
        request: dear_agent,
        manner: Manner::Exchanges,
        query: Some(ROWS),
    },
    Attack {
        name: "hints of a batch",
        aim: "a thousand new devices in one request",
        connections: 2,
        request: hints,
        manner: Manner::Exchanges,
        query: Some(ROWS),
    },
    Attack {
        name: "new names",
        aim: "rows of ads and categories that stay",
        connections: 16,
        request: names,
        manner: Manner::Exchanges,
        query: Some(ROWS),
    },
];

/// Each agent ends differently, so that nothing is remembered of it.
fn dear_agent(number: u64, out: &mut Vec<u8>) {
    let agents = AGENTS.lines().count() as u64;
    let place = usize::try_from(number % agents.max(1)).unwrap_or(0);
    let agent = AGENTS.lines().nth(place).unwrap_or("");
    let head = format!(
        "GET /p.gif?site={SITE} HTTP/1.1\r\nhost: localhost\r\nuser-agent: {agent} {number:x}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
}

/// Models that no device has, in a batch of events.
fn hints(number: u64, out: &mut Vec<u8>) {
    let events: Vec<String> = (0..1_000)
        .map(|event| format!(r#"{{"ch_model":"{number:x}-{event:x}"}}"#))
        .collect();
    let body = format!("[{}]", events.join(","));
    let head = format!(
        "POST /e?site={SITE} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         user-agent: Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
}

/// An ad and a category, of the longest names.
fn names(number: u64, out: &mut Vec<u8>) {
    let long = |letter: &str| format!("{number:016x}{}", letter.repeat(200));
    let head = format!(
        "GET /i.gif?site={SITE}&partner={PARTNER}&campaign={}&creative={}&placement={}&publisher={}&cat={} HTTP/1.1\r\n\
         host: localhost\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64; rv:129.0) Gecko/20100101 Firefox/129.0\r\n\r\n",
        long("c"),
        long("r"),
        long("p"),
        long("u"),
        long("k"),
    );
    out.extend_from_slice(head.as_bytes());
}
