//! Cookies that somebody planted, and withdrawals that are repeated.
//!
//! The IDs are signed: the collector that is attacked has [`COOKIE_KEY`].

use std::io::Write as _;
use std::sync::OnceLock;

use avtryck::clock::UnixMicros;
use avtryck::hit::VisitorId;
use avtryck::keys::CookieKeyring;
use avtryck::visitor::COOKIE_AGE_SECONDS;

use super::{Attack, Manner, SITE};

/// `cookie.keys` of the collector: the key that signs the IDs here.
pub const COOKIE_KEY: &str = "1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// The same, as bytes.
const KEY: [u8; 32] = [7; 32];
/// When the IDs were made: long ago, and no longer than cookies live.
const AGE_SECONDS: i64 = 100 * 86_400;
/// About as many IDs as a header holds.
const IDS: u64 = 200;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "200 planted IDs",
        aim: "the MACs that a page view with 200 visitor cookies costs",
        connections: 8,
        request: |number, out| put("GET", "/p.gif", (number * IDS, IDS), out),
        manner: Manner::Exchanges,
        query: None,
    },
    Attack {
        name: "one withdrawal, repeated",
        aim: "the spool of instructions, by what is in it already",
        connections: 8,
        request: |_, out| put("DELETE", "/consent", (0, IDS), out),
        manner: Manner::Exchanges,
        query: None,
    },
    Attack {
        name: "withdrawals of ever new IDs",
        aim: "the spool of instructions, and the suppressions in Postgres",
        connections: 8,
        request: |number, out| put("DELETE", "/consent", (number * IDS, IDS), out),
        manner: Manner::Exchanges,
        query: Some("select count(*) from avtryck.suppression"),
    },
];

/// The keys of the collector that is attacked, and when the IDs were made.
fn keyring() -> &'static (CookieKeyring, UnixMicros) {
    static RING: OnceLock<(CookieKeyring, UnixMicros)> = OnceLock::new();
    RING.get_or_init(|| {
        let ring = CookieKeyring::new([(1, &KEY[..])], COOKIE_AGE_SECONDS);
        let now = avtryck::clock::now();
        (ring, UnixMicros(now.0 - AGE_SECONDS * 1_000_000))
    })
}

/// Returns the cookie of a visitor.
pub(super) fn sign(visitor: VisitorId) -> String {
    let (ring, made_at) = keyring();
    ring.sign(visitor, *made_at).unwrap_or_default()
}

/// Returns the token that the page of a visitor has in its forms.
pub(super) fn form_token(visitor: VisitorId) -> String {
    keyring().0.form_token(visitor).unwrap_or_default()
}

/// Writes a request with signed IDs: that many, from a number on.
fn put(method: &str, path: &str, (first, ids): (u64, u64), out: &mut Vec<u8>) {
    let mut cookies = String::new();
    for number in first..first + ids {
        let mut id = [0xab; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let separator = if cookies.is_empty() { "" } else { "; " };
        cookies.push_str(separator);
        cookies.push_str("avid=");
        cookies.push_str(&sign(VisitorId(id)));
    }
    // Writing to memory cannot fail.
    write!(
        out,
        "{method} {path}?site={SITE} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nCookie: {cookies}\r\n\r\n"
    )
    .ok();
}
