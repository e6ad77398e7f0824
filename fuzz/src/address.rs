//! The headers by which proxies name the client.

use std::net::IpAddr;

use avtryck::request::{ForwardedHeader, Headers, client_ip, forwarded_https};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

/// Whom the trusted proxies of the target saw.
const SEEN: &str = "203.0.113.9";

/// What a client wrote into the header, a value a line, before trusted proxies added theirs.
pub fn address(bytes: &[u8]) {
    let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
        .iter()
        .map(|network| network.parse().expect("a network"))
        .collect();
    let seen: IpAddr = SEEN.parse().expect("an address");
    for (header, name, hop) in [
        (ForwardedHeader::XForwardedFor, "x-forwarded-for", ""),
        (ForwardedHeader::Forwarded, "forwarded", "for="),
    ] {
        let client = |peer: &str, map: &HeaderMap| {
            let peer = peer.parse().expect("an address");
            client_ip(peer, &Headers::read(map), header, &trusted)
        };
        let written = values(name, bytes);
        for peer in [SEEN, "::ffff:203.0.113.9"] {
            assert_eq!(client(peer, &written), seen, "nobody was asked");
        }
        let found = client("::ffff:10.0.0.1", &written);
        assert_eq!(found, found.to_canonical());
        for hops in [
            format!("{hop}{SEEN}"),
            format!("{hop}{SEEN}, {hop}10.1.2.3"),
            format!("{hop}{SEEN},{hop}\"[fd00::7]:80\""),
            format!("{hop}\"{SEEN}:_hidden\", , {hop}10.1.2.3:_x,"),
        ] {
            // A proxy writes behind the last value, or a line of its own.
            let mut line = bytes.to_vec();
            line.extend_from_slice(format!("\n{hops}").as_bytes());
            assert_eq!(client("10.0.0.1", &values(name, &line)), seen, "{hops}");
            let mut joined = bytes.to_vec();
            joined.extend_from_slice(format!(", {hops}").as_bytes());
            let joined = values(name, &joined);
            let is_whole = joined.get_all(name).iter().count() == lines(bytes).count();
            if is_whole {
                assert_eq!(client("fd00::1", &joined), seen, "{hops}");
            }
        }
    }
    https(bytes, &trusted);
}

/// The nearest proxy says how the client came.
fn https(bytes: &[u8], trusted: &[IpNet]) {
    for (proto, secure) in [("https", true), ("http", false)] {
        let mut written = bytes.to_vec();
        written.extend_from_slice(format!("\nx, {proto}").as_bytes());
        let map = values("x-forwarded-proto", &written);
        let says = |peer: [u8; 4]| forwarded_https(peer.into(), &Headers::read(&map), trusted);
        assert_eq!(says([10, 0, 0, 1]), secure);
        assert!(!says([203, 0, 113, 9]));
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

/// Each line as a value of the header; what is none the HTTP parser does not let through.
fn values(name: &'static str, bytes: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for value in lines(bytes).filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        map.append(HeaderName::from_static(name), value);
    }
    map
}
