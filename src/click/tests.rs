use proptest::prelude::*;

use super::*;

const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

fn ring() -> ClickKeyring {
    ClickKeyring::new([(7, [7; 32].as_slice()), (1, [1; 32].as_slice())])
}

fn hosts() -> Vec<String> {
    ["www.shop.example", "*.shop.example", "[2001:db8::1]"]
        .map(str::to_owned)
        .to_vec()
}

fn location(query: &str) -> Result<String, Flaw> {
    target(query, &ring(), &hosts(), NOW).map(|target| target.location(None))
}

/// Encodes a value as a careful sender does.
fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn signed(rest: &str) -> String {
    ring().sign(rest).expect("a key")
}

#[test]
fn the_signature_is_made_as_the_documentation_says() {
    // echo -ne 'avtryck click 1\nk=7&to=https%3A%2F%2Fx.example%2F' |
    //   openssl dgst -sha256 -mac HMAC -binary \
    //     -macopt hexkey:0707070707070707070707070707070707070707070707070707070707070707 |
    //   base64
    assert_eq!(
        signed("to=https%3A%2F%2Fx.example%2F"),
        "k=7&to=https%3A%2F%2Fx.example%2F&sig=yTezV9HufHw7_cGOd1ZtPFEgM6cpxXDaw_UUfkT4Iw0"
    );
}

#[test]
fn a_signed_target_may_be_anywhere_and_nothing_after_the_signature_changes_it() {
    let query = signed("to=https%3A%2F%2Fx.example%2F");
    let there = Ok("https://x.example/".to_owned());
    assert_eq!(location(&query), there);
    for after in [
        "",
        "&",
        "&to=https%3A%2F%2Fevil.example",
        "&sig=AA",
        "&k=1",
        "&exp=1",
        "&id=1&placement=[X]",
    ] {
        let query = format!("{query}{after}");
        assert_eq!(location(&query), there, "{after}");
        let is_one_time = target(&query, &ring(), &[], NOW).map(|target| target.is_one_time);
        assert_eq!(is_one_time, Ok(false), "{after}");
    }
    for before in ["to=https%3A%2F%2Fevil.example&", "&", "x=1&", "sig=1&"] {
        let query = format!("{before}{query}");
        assert_eq!(location(&query), Err(Flaw::Signature), "{before}");
    }
    // The whole MAC, its first half, and nothing shorter.
    let cut = |characters: usize| &query[..query.len() - 43 + characters];
    assert_eq!(location(cut(43)), there);
    assert_eq!(
        location(cut(22)),
        Err(Flaw::Signature),
        "bits that fill no byte"
    );
    assert_eq!(location(cut(24)), there);
    assert_eq!(location(cut(20)), Err(Flaw::Signature));
    assert_eq!(location(&format!("{query}=")), there);
    // No `to` was signed, so a later one does not count.
    let without = signed("site=a");
    assert_eq!(
        location(&format!("{without}&to=https%3A%2F%2Fwww.shop.example")),
        Err(Flaw::Target)
    );
    let once = target(
        &signed("to=https%3A%2F%2Fx.example&id=5"),
        &ring(),
        &[],
        NOW,
    );
    assert!(once.is_ok_and(|target| target.is_one_time));
}

#[test]
fn a_signature_expires_and_a_listed_host_does_not() {
    let at = |end: &str| {
        let to = format!("exp={end}&to=https%3A%2F%2Fx.example");
        location(&signed(&to))
    };
    assert!(at("1800000001").is_ok());
    for end in ["1800000000", "0", "-1", "", "soon"] {
        assert_eq!(at(end), Err(Flaw::Expired), "{end}");
    }
    let listed = signed("exp=1&to=https%3A%2F%2Fwww.shop.example%2F");
    assert_eq!(
        location(&listed),
        Ok("https://www.shop.example/".to_owned())
    );
    let unknown = ClickKeyring::new([(9, [7; 32].as_slice())])
        .sign("to=https%3A%2F%2Fx.example")
        .expect("a key");
    assert_eq!(location(&unknown), Err(Flaw::Signature));
}

#[test]
fn a_click_goes_to_a_listed_host_as_browsers_would_read_it() {
    for (to, location_is) in [
        ("https://www.shop.example", "https://www.shop.example/"),
        (
            "HTTPS://WWW.SHOP.EXAMPLE:443/a?b=c+d#e",
            "https://www.shop.example/a?b=c+d#e",
        ),
        (
            "http://a.b.shop.example:8080/å b",
            "http://a.b.shop.example:8080/%C3%A5%20b",
        ),
        (
            "http://a.b.shop.example:8080/å",
            "http://a.b.shop.example:8080/%C3%A5",
        ),
        (
            "https://www.shop.example/%0d%0aSet-Cookie",
            "https://www.shop.example/%0d%0aSet-Cookie",
        ),
        ("https://[2001:DB8:0::1]/", "https://[2001:db8::1]/"),
        ("https://www.shop.example./a", "https://www.shop.example./a"),
        (
            "https://a.shop.example.:8443",
            "https://a.shop.example.:8443/",
        ),
        ("https://www。shop。example/", "https://www.shop.example/"),
        ("https://ｗｗｗ.shop.example/", "https://www.shop.example/"),
        ("https://%77ww.shop.example/", "https://www.shop.example/"),
    ] {
        let expected = Ok(location_is.to_owned());
        assert_eq!(location(&format!("to={}", encoded(to))), expected, "{to}");
    }
    // Encoded by hand, not at all, and twice.
    for raw in [
        "https%3A//www.shop.example/?a=1+2",
        "https://www.shop.example/?a=1+2",
        "https%253A%252F%252Fwww.shop.example%252F%253Fa%253D1%2B2",
    ] {
        let there = "https://www.shop.example/?a=1+2".to_owned();
        assert_eq!(location(&format!("to={raw}")), Ok(there), "{raw}");
    }
}

#[test]
fn a_listed_host_is_not_every_service_of_that_host() {
    let list = [
        "shop.example",
        "*.shop.example",
        "a.example:8443",
        "b.example:80",
        "[::1]:81",
    ];
    let list = list.map(str::to_owned);
    let go = |to: &str, is_secure: bool| {
        let target = target(&format!("to={to}"), &ring(), &list, NOW)?;
        let target = if is_secure {
            target.over_https()?
        } else {
            target
        };
        Ok(target.location(None))
    };
    for (to, by_http, by_https) in [
        ("https://shop.example/", Some(""), Some("")),
        (
            "http://shop.example/",
            Some(""),
            Some("https://shop.example/"),
        ),
        (
            "http://shop.example:80/",
            Some("http://shop.example/"),
            Some("https://shop.example/"),
        ),
        ("https://shop.example:1024/", Some(""), Some("")),
        ("https://x.shop.example:65535/", Some(""), Some("")),
        // Where another port speaks http, nobody can tell whether it speaks https.
        ("http://shop.example:8080/", Some(""), None),
        ("http://shop.example:443/", None, None),
        ("https://shop.example:80/", None, None),
        ("https://shop.example:22/", None, None),
        ("https://x.shop.example:25/", None, None),
        ("http://shop.example:1023/", None, None),
        ("https://shop.example:0/", None, None),
        ("https://a.example:8443/", Some(""), Some("")),
        ("http://a.example:8443/", Some(""), Some("")),
        ("https://a.example/", None, None),
        ("https://a.example:8444/", None, None),
        ("http://b.example/", Some(""), Some("")),
        ("https://b.example/", None, None),
        ("http://[::1]:81/", Some(""), Some("")),
        ("http://[::1]/", None, None),
    ] {
        let expected = |is: Option<&str>| {
            let is = is.map(|text| if text.is_empty() { to } else { text }.to_owned());
            is.ok_or(Flaw::Host)
        };
        assert_eq!(go(to, false), expected(by_http), "{to} by http");
        assert_eq!(go(to, true), expected(by_https), "{to} by https");
    }
    for to in [
        "javascript:alert(1)",
        "javascript://shop.example/%250aalert(1)",
        "data:text/html,shop.example",
        "ftp://shop.example/",
        "file://shop.example/etc/passwd",
        "ws://shop.example/",
        "intent://shop.example/#Intent;scheme=http;end",
        "view-source:https://shop.example/",
    ] {
        assert_eq!(go(to, false), Err(Flaw::Target), "{to}");
    }
    // Whoever signs says where.
    let signed = signed("to=http%3A%2F%2Fx.example%3A22%2F");
    let target = target(&signed, &ring(), &[], NOW).and_then(Target::over_https);
    assert_eq!(
        target.map(|target| target.location(None)),
        Ok("http://x.example:22/".to_owned())
    );
}

#[test]
fn what_browsers_mend_is_mended_and_checked_as_it_is_sent() {
    for (to, location_is) in [
        ("https://www.shop.example/a b", "/a%20b"),
        (" https://www.shop.example/a\n", "/a"),
        ("\u{0}\u{1f}\r\nhttps://www.shop.example/ \t", "/"),
        ("https://www.shop\n.example/a\r\nb", "/ab"),
        ("ht\ttps:/\n/www.shop.example", "/"),
        ("https://www.shop.example\t", "/"),
        (
            "https://www.shop.example/\r\nSet-Cookie: a=b",
            "/Set-Cookie:%20a=b",
        ),
        ("https://www.shop.example/\u{1}\u{7f}", "/%01%7F"),
        (
            "https://www.shop.example/\u{85}\u{2028}",
            "/%C2%85%E2%80%A8",
        ),
        ("https://www.shop.example/\u{a0}", "/%C2%A0"),
        ("https://www.shop.example/a\\b?c=\\d", "/a/b?c=\\d"),
        (
            "https://www.shop.example/\\@evil.example",
            "//@evil.example",
        ),
        (
            "https://www.shop.example?q=\"<å>\"#`",
            "/?q=%22%3C%C3%A5%3E%22#%60",
        ),
        ("https://www.shop.example/{a|b}^`", "/%7Ba|b%7D^%60"),
        ("https:www.shop.example/a", "/a"),
        ("https:/www.shop.example/a", "/a"),
        ("https:///www.shop.example/a", "/a"),
        ("https:\\\\www.shop.example/a", "/a"),
        ("https:\\/\\/www.shop.example\\/a", "//a"),
    ] {
        let expected = Ok(format!("https://www.shop.example{location_is}"));
        for query in [
            format!("to={}", encoded(to)),
            format!("to={}", encoded(&encoded(to))),
            signed(&format!("to={}", encoded(to))),
        ] {
            assert_eq!(location(&query), expected, "{query}");
        }
    }
    // Bytes that are not UTF-8, encoded once, by hand and twice.
    for raw in [
        "https%3A%2F%2Fwww.shop.example%2Fcaf%E9",
        "https://www.shop.example/caf%E9",
        "https%253A%252F%252Fwww.shop.example%252Fcaf%25E9",
    ] {
        let there = "https://www.shop.example/caf%E9".to_owned();
        assert_eq!(location(&format!("to={raw}")), Ok(there), "{raw}");
    }
    // A host is checked as it is once all that is gone.
    for to in [
        "https://evil\n.example/",
        "https://evil.example\t/.shop.example",
        " https://evil.example/\\www.shop.example",
        "https:/evil.example/www.shop.example",
        "https:\\/\\/evil.example/https://www.shop.example",
    ] {
        assert_eq!(location(&format!("to={}", encoded(to))), Err(Flaw::Host));
    }
}

#[test]
fn what_is_not_a_target_is_refused_even_with_a_signature() {
    for to in [
        "",
        "/",
        "//www.shop.example",
        "www.shop.example",
        "https:",
        "https:/",
        "https:\\user@www.shop.example",
        "https://",
        "https://?",
        "javascript:alert(1)",
        "javascript://www.shop.example/%0aalert(1)",
        "data:text/html,x",
        "ftp://www.shop.example",
        "https://user@www.shop.example",
        "https://user:word@www.shop.example",
        "https://@www.shop.example",
        "https://www.shop.example\\@evil.example",
        "https://www.shop.example\\.evil.example/",
        "https://www.shop .example",
        "https://www.shop.example\u{a0}",
        "\u{a0}https://www.shop.example",
        "https://www.shop.example\u{85}",
        "https ://www.shop.example",
        "https:\t/\n/evil.example@www.shop.example",
        "https://www.shop.example\u{0}.evil.example",
        "https://www.shop.example%2f.evil.example",
        "https://www.shop.example:99999",
        "https://[::1",
        "https://evil.example;.shop.example",
        "https://..shop.example",
    ] {
        let to = encoded(to);
        for query in [format!("to={to}"), signed(&format!("to={to}"))] {
            assert_eq!(location(&query), Err(Flaw::Target), "{query}");
        }
    }
    for query in [
        "to=https://www.shop.example%ff/",
        "to=https://www.shop%E9.shop.example/",
        "",
        "To=https://www.shop.example",
        "%74o=https://www.shop.example",
        "to",
    ] {
        assert_eq!(location(query), Err(Flaw::Target), "{query}");
    }
}

#[test]
fn a_host_that_is_not_on_the_list_is_refused() {
    for host in [
        "evil.example",
        "shop.example",
        "www.shop.example.evil.example",
        "wwwshop.example",
        "evilshop.example",
        "shöp.example",
        "[2001:db8::2]",
        "0x7f.1",
    ] {
        let query = format!("to={}", encoded(&format!("https://{host}/")));
        assert_eq!(location(&query), Err(Flaw::Host), "{host}");
    }
    let open = target("to=https://evil.example", &ring(), &[], NOW);
    assert_eq!(open, Err(Flaw::Host));
}

#[test]
fn the_click_id_goes_into_the_query_and_replaces_another_one() {
    for (to, location) in [
        (
            "https://www.shop.example",
            "https://www.shop.example/?avclid=ID",
        ),
        (
            "https://www.shop.example/a?#f",
            "https://www.shop.example/a?avclid=ID#f",
        ),
        (
            "https://www.shop.example/?a=1+2&b=%20#f",
            "https://www.shop.example/?a=1+2&b=%20&avclid=ID#f",
        ),
        (
            "https://www.shop.example/?avclid=old&avclid&avclidx=1",
            "https://www.shop.example/?avclidx=1&avclid=ID",
        ),
    ] {
        let query = format!("to={}", encoded(to));
        let target = target(&query, &ring(), &hosts(), NOW).expect("a target");
        assert_eq!(target.location(Some("ID")), location);
    }
}

proptest! {
    #[test]
    fn no_target_leaves_the_list_and_none_can_break_a_header(
        to in prop_oneof![
            "[a-z/:@.?#%\\\\\\[\\]0-9 \t\r\n]{0,40}",
            "https?:[/\\\\]{0,3}(www\\.shop\\.example|evil\\.example|[.@:%a-f0-9]{0,9}){1,4}[/\\\\@#?:]?.{0,10}",
            ".{0,40}",
        ],
        escapes in any::<bool>(),
    ) {
        let to = if escapes { encoded(&to) } else { to };
        let query = format!("to={to}");
        if let Ok(target) = target(&query, &ring(), &hosts(), NOW) {
            let host = target.host().to_owned();
            let name = host.strip_suffix('.').unwrap_or(&host);
            prop_assert!(name.ends_with(".shop.example") || name == "[2001:db8::1]", "{host}");
            let location = target.location(Some("ID"));
            prop_assert!(location.bytes().all(|byte| (0x21..0x7f).contains(&byte)), "{location}");
            let again = Url::parse(&location).expect("a URL");
            prop_assert_eq!(again.host_str(), Some(host.as_str()));
            prop_assert_eq!(again.as_str(), location.as_str());
        }
    }

    #[test]
    fn no_change_of_what_was_signed_is_accepted(at in 0_usize..60, byte in 0x21_u8..0x7f) {
        let query = signed("exp=1800000060&id=1&to=https%3A%2F%2Fx.example%2F");
        let mut forged = query.clone().into_bytes();
        if let Some(place) = forged.get_mut(at) {
            *place = byte;
        }
        let forged = String::from_utf8(forged).expect("ASCII");
        let found = target(&forged, &ring(), &[], NOW);
        prop_assert!(forged == query || found.is_err(), "{}", forged);
    }
}
