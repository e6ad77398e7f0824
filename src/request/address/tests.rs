use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn trusted() -> Vec<IpNet> {
    ["10.0.0.0/8", "fd00::/8"]
        .iter()
        .map(|net| net.parse().expect("a network"))
        .collect()
}

fn map(name: &'static str, lines: &[Vec<u8>]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines {
        let value = HeaderValue::from_bytes(line).expect("a value that hyper takes");
        map.append(HeaderName::from_static(name), value);
    }
    map
}

fn client(peer: &str, forwarded: &[(&'static str, &str)], header: ForwardedHeader) -> String {
    let peer = peer.parse().expect("an address");
    let lines = forwarded.iter().map(|(_, value)| value.as_bytes().to_vec());
    let name = forwarded.first().map_or("forwarded", |(name, _)| name);
    let map = map(name, &lines.collect::<Vec<_>>());
    client_ip(peer, &Headers::read(&map), header, &trusted()).to_string()
}

#[test]
fn the_client_is_the_rightmost_address_that_is_not_trusted() {
    use ForwardedHeader::{Forwarded, XForwardedFor};
    let xff = |peer, values: &[&str]| {
        let pairs: Vec<_> = values
            .iter()
            .map(|value| ("x-forwarded-for", *value))
            .collect();
        client(peer, &pairs, XForwardedFor)
    };
    assert_eq!(xff("192.0.2.9", &["1.1.1.1"]), "192.0.2.9");
    assert_eq!(xff("10.0.0.1", &[]), "10.0.0.1");
    assert_eq!(xff("10.0.0.1", &["6.6.6.6, 2.2.2.2, 10.0.0.7"]), "2.2.2.2");
    assert_eq!(
        xff("10.0.0.1", &["6.6.6.6", "2.2.2.2:443", "10.0.0.7"]),
        "2.2.2.2"
    );
    assert_eq!(xff("::ffff:10.0.0.1", &["::ffff:2.2.2.2"]), "2.2.2.2");
    assert_eq!(xff("fd00::1", &["[2001:db8::5]:80"]), "2001:db8::5");
    assert_eq!(xff("10.0.0.1", &["6.6.6.6, unknown, 10.0.0.7"]), "10.0.0.7");
    assert_eq!(
        client(
            "10.0.0.1",
            &[(
                "forwarded",
                "for=6.6.6.6, for=\"[2001:db8::5]:1\";proto=https"
            )],
            Forwarded
        ),
        "2001:db8::5"
    );
    assert_eq!(
        client("10.0.0.1", &[("forwarded", "for=6.6.6.6")], XForwardedFor),
        "10.0.0.1"
    );
}

#[test]
fn what_proxies_write_around_an_address_does_not_hide_it() {
    use ForwardedHeader::{Forwarded, XForwardedFor};
    let of = |name, header, lines: &[&str]| {
        let pairs: Vec<_> = lines.iter().map(|line| (name, *line)).collect();
        client("10.0.0.1", &pairs, header)
    };
    for (lines, expected) in [
        (&["2.2.2.2,"][..], "2.2.2.2"),
        (&["2.2.2.2, , 10.0.0.7 ,,"], "2.2.2.2"),
        (&["2.2.2.2", "", "10.0.0.7", " , "], "2.2.2.2"),
        (&["6.6.6.6,,2.2.2.2"], "2.2.2.2"),
        (&[",", ""], "10.0.0.1"),
        (&["2.2.2.2:_x"], "2.2.2.2"),
        (&["2.2.2.2:"], "2.2.2.2"),
        (&["2.2.2.2:99999"], "2.2.2.2"),
        (&["\"2.2.2.2:80\", \"10.0.0.7\""], "2.2.2.2"),
        (&["[2001:db8::5]:_hidden.1-2"], "2001:db8::5"),
        (&["\"[2001:db8::5]\""], "2001:db8::5"),
        (&["[::ffff:2.2.2.2]:80"], "2.2.2.2"),
        (&["fe80::1%eth0"], "fe80::1"),
        (&["[fe80::1%25eth0]:80"], "fe80::1"),
        (&["2.2.2.2\t,\t10.0.0.7"], "2.2.2.2"),
        // A proxy that does not tell its client is the client.
        (&["6.6.6.6, _hidden, 10.0.0.7,"], "10.0.0.7"),
        (&["6.6.6.6, unknown"], "10.0.0.1"),
        (&["6.6.6.6, 2.2.2.2:80:80"], "10.0.0.1"),
        (&["6.6.6.6, 2.2.2.2:a b"], "10.0.0.1"),
        (&["6.6.6.6, [2001:db8::5"], "10.0.0.1"),
        (&["6.6.6.6, [2001:db8::5]80"], "10.0.0.1"),
        (&["6.6.6.6, 010.0.0.7"], "10.0.0.1"),
    ] {
        let found = of("x-forwarded-for", XForwardedFor, lines);
        assert_eq!(found, expected, "{lines:?}");
    }
    for (lines, expected) in [
        (&["for=2.2.2.2,"][..], "2.2.2.2"),
        (&["for=2.2.2.2;proto=https;, , for=10.0.0.7;"], "2.2.2.2"),
        (&["for=\"2.2.2.2:_x\""], "2.2.2.2"),
        (&["for=\"[2001:db8::5]:_x\";by=_y"], "2001:db8::5"),
        (&["FOR = 2.2.2.2"], "2.2.2.2"),
        (&[r#"for="2.2.2.\2""#], "2.2.2.2"),
        (&[r#"for="\[2001\:db8::5]:\_x""#], "2001:db8::5"),
        (&[r#"for=6.6.6.6, for="2.2.2.\\2""#], "10.0.0.1"),
        (&["for=6.6.6.6, for=_hidden"], "10.0.0.1"),
        (&["for=6.6.6.6, proto=https"], "10.0.0.1"),
        (&["for=6.6.6.6, for="], "10.0.0.1"),
    ] {
        let found = of("forwarded", Forwarded, lines);
        assert_eq!(found, expected, "{lines:?}");
    }
}

#[test]
fn bytes_and_quotes_of_an_attacker_do_not_hide_what_a_proxy_wrote_behind_them() {
    use ForwardedHeader::{Forwarded, XForwardedFor};
    let of = |name, header, line: &[u8]| {
        let peer = "10.0.0.1".parse().expect("an address");
        client_ip(
            peer,
            &Headers::read(&map(name, &[line.to_vec()])),
            header,
            &trusted(),
        )
        .to_string()
    };
    let xff = |line: &[u8]| of("x-forwarded-for", XForwardedFor, line);
    assert_eq!(xff(b"\xff\x80, 2.2.2.2, 10.0.0.7"), "2.2.2.2");
    assert_eq!(xff(b"6.6.6.6, \xff, 10.0.0.7"), "10.0.0.7");
    let forwarded = |line: &[u8]| of("forwarded", Forwarded, line);
    assert_eq!(forwarded(b"for=\"6.6.6.6, for=2.2.2.2"), "2.2.2.2");
    // A proxy quotes the host that the client named.
    assert_eq!(
        forwarded(br#"for=2.2.2.2;host="a, for=6.6.6.6""#),
        "2.2.2.2"
    );
    assert_eq!(
        forwarded(br#"host="a;for=6.6.6.6";for=2.2.2.2, for=10.0.0.7"#),
        "2.2.2.2"
    );
    assert_eq!(
        forwarded(br#"for=2.2.2.2;host="a\", for=6.6.6.6;x=\"""#),
        "2.2.2.2"
    );
    let proto = |line: &[u8]| {
        let peer = "10.0.0.1".parse().expect("an address");
        forwarded_https(
            peer,
            &Headers::read(&map("x-forwarded-proto", &[line.to_vec()])),
            &trusted(),
        )
    };
    assert!(proto(b"\xff, https") && !proto(b"https, http") && !proto(b"\xff"));
    assert!(proto(b"http, HTTPS , ") && !proto(b"https, http,") && !proto(b","));
}

/// What an attacker may write: any bytes that hyper takes in a header, and more often pieces that
/// mean something.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"for=",
        b"For =",
        b"by=",
        b"host=",
        b"proto=https",
        b"\"",
        b"\\",
        b"\\\"",
        b",",
        b", ",
        b";",
        b"=",
        b"[",
        b"]",
        b":",
        b":80",
        b"6.6.6.6",
        b"10.0.0.9",
        b"fd00::9",
        b"::ffff:6.6.6.6",
        b"::ffff:10.0.0.9",
        b"[2001:db8::66]:1",
        b"2001:db8::66",
        b"unknown",
        b"_hidden",
        b" ",
        b"\t",
        b"\xff",
        b"\xc3\xa5",
        b"%2c",
        b"0x7f.1",
        b"010.0.0.1",
    ];
    let byte = any::<u8>().prop_map(|byte| match byte {
        0..0x20 | 0x7f => b' ',
        byte => byte,
    });
    prop_oneof![
        3 => prop::collection::vec(select(pieces), 0..12).prop_map(|pieces| pieces.concat()),
        1 => prop::collection::vec(byte, 0..40),
    ]
}

/// The forms in which proxies write an address.
fn written(address: IpAddr, form: u8, header: ForwardedHeader) -> String {
    let text = match (address, form % 3) {
        (IpAddr::V4(ip), 0) => ip.to_string(),
        (IpAddr::V4(ip), 1) => format!("{ip}:4711"),
        (IpAddr::V4(ip), _) => format!("[::ffff:{ip}]"),
        (IpAddr::V6(ip), 0) => format!("[{ip}]"),
        (IpAddr::V6(ip), 1) => format!("[{ip}]:4711"),
        (IpAddr::V6(ip), _) => ip.to_string(),
    };
    match header {
        ForwardedHeader::XForwardedFor => text,
        ForwardedHeader::Forwarded if text.contains(':') => format!("for=\"{text}\""),
        ForwardedHeader::Forwarded => format!("For={text}"),
    }
}

/// A pair that quotes what the client sent to the proxy, as a proxy has to.
fn quoting(noise: &[u8]) -> Vec<u8> {
    let mut pair = b"host=\"".to_vec();
    for byte in noise {
        if matches!(byte, b'"' | b'\\') {
            pair.push(b'\\');
        }
        pair.push(*byte);
    }
    pair.push(b'"');
    pair
}

/// One proxy's hop: whose address, in which form, on a line of its own or behind what is there, and
/// the `Host` that it quotes in front of or behind the address.
type Hop = (u8, bool, Option<(bool, Vec<u8>)>);

fn hop() -> impl Strategy<Value = Hop> {
    let host = prop::option::of((any::<bool>(), noise()));
    (any::<u8>(), any::<bool>(), host)
}

fn append(lines: &mut Vec<Vec<u8>>, address: IpAddr, hop: &Hop, header: ForwardedHeader) {
    let (form, own_line, host) = hop;
    let mut text = written(address, *form, header).into_bytes();
    if let (ForwardedHeader::Forwarded, Some((in_front, host))) = (header, host) {
        let host = quoting(host);
        text = if *in_front {
            [&*host, b";", &text].concat()
        } else {
            [&*text, b";proto=https; ", &host].concat()
        };
    }
    match lines.last_mut() {
        Some(line) if !own_line => {
            line.extend_from_slice(b", ");
            line.extend_from_slice(&text);
        }
        _ => lines.push(text),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nothing_that_an_attacker_puts_in_front_changes_the_client(
        noise in prop::collection::vec(noise(), 0..4),
        is_v6 in any::<bool>(),
        bits in any::<[u8; 8]>(),
        client_hop in hop(),
        proxies in prop::collection::vec((any::<u8>(), hop()), 0..3),
        is_forwarded in any::<bool>(),
    ) {
        let header = if is_forwarded { ForwardedHeader::Forwarded } else { ForwardedHeader::XForwardedFor };
        let name = if is_forwarded { "forwarded" } else { "x-forwarded-for" };
        let client = if is_v6 {
            IpAddr::from(((0x2001_0db8_u128 << 96) | u128::from(u64::from_be_bytes(bits))).to_be_bytes())
        } else {
            IpAddr::from([2, bits[0], bits[1], bits[2]])
        };
        let mut lines = noise.clone();
        append(&mut lines, client, &client_hop, header);
        for (number, hop) in &proxies {
            append(&mut lines, IpAddr::from([10, 0, 0, *number]), hop, header);
        }
        let map = map(name, &lines);
        let peer = "10.0.0.1".parse().expect("an address");
        prop_assert_eq!(client_ip(peer, &Headers::read(&map), header, &trusted()), client);
        // Whom nobody trusts is himself, whatever he writes, in either header.
        let stranger = "192.0.2.9".parse().expect("an address");
        prop_assert_eq!(client_ip(stranger, &Headers::read(&map), header, &trusted()), stranger);
        // A header that the proxies do not set is not read.
        let other = if is_forwarded { ForwardedHeader::XForwardedFor } else { ForwardedHeader::Forwarded };
        prop_assert_eq!(client_ip(peer, &Headers::read(&map), other, &trusted()), peer);
    }
}
