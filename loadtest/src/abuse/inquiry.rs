//! What visitors ask on their own page.

use super::{Attack, Manner, SITE};

/// Kinds of abuse of `/privacy`.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "privacy-flood",
        aim: "the page, asked for with planted cookies of which each has to be checked",
        connections: 16,
        request: ask_for_page,
        manner: Manner::Exchanges,
        query: None,
    },
    Attack {
        name: "other-floods",
        aim: "an edge thread: segments, choice and tag, asked for with planted cookies",
        connections: 16,
        request: ask_for_others,
        manner: Manner::Exchanges,
        query: None,
    },
];

/// The cookies of one request.
const PLANTED: u64 = 64;

/// Asks for the page.
fn ask_for_page(number: u64, bytes: &mut Vec<u8>) {
    ask("/privacy", number, bytes);
}

/// Asks for segments, for the choice and for the tag in turn.
fn ask_for_others(number: u64, bytes: &mut Vec<u8>) {
    let path = match number % 3 {
        0 => "/segments",
        1 => "/consent",
        _ => "/tag.js",
    };
    ask(path, number, bytes);
}

/// Asks as a browser with many cookies of the visitor's name.
fn ask(path: &str, number: u64, bytes: &mut Vec<u8>) {
    let head = format!("GET {path}?site={SITE} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: ");
    bytes.extend_from_slice(head.as_bytes());
    for planted in 0..PLANTED {
        let cookie = format!("avid={:044x}; ", number * PLANTED + planted);
        bytes.extend_from_slice(cookie.as_bytes());
    }
    bytes.extend_from_slice(b"last=1\r\nSec-Fetch-Dest: document\r\n\r\n");
}
