mod page;
mod spelling;
mod template;
mod user;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::parameter::rule;
use super::*;
use crate::callback::names::Mapping;
use crate::clock::UnixMicros;
use crate::consent::Signals;
use crate::endpoint::{BODY_BYTES_MAX, Endpoint};
use crate::hit::Permit;
use crate::hit::limits::{
    CLICK_ID_BYTES_MAX, PARAMS_BYTES_MAX, PARAMS_MAX, TEXT_BYTES_MAX, URL_BYTES_MAX,
};
use crate::protocol::signals;
use crate::request::{ForwardedHeader, Headers, client_ip, forwarded_https};

fn begin(kind: Kind) -> Draft<'static> {
    Draft::new(UnixMicros(0), kind)
}

fn hit_of(text: &str) -> (Hit<'_>, Signals<'_>) {
    let mut draft = begin(Kind::PageView);
    read_query(text, Reading::default(), &mut draft);
    (draft.hit, draft.signals)
}

fn hit_of_headers(map: &HeaderMap) -> Hit<'_> {
    let headers = Headers::read(map);
    let mut draft = begin(Kind::PageView);
    draft.read_browser(&headers, "avchoice");
    draft.hit
}

fn header_map(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).expect("a header value"),
            )
        })
        .collect()
}

#[test]
fn known_parameters_find_their_place_and_others_become_params() {
    let (hit, signals) = hit_of(
        "site=a&u=https%3A%2F%2Fx.se%2F%C3%A5+b&ref=r&cb=1&id=7&x=1&y=%22q%5C&gdpr=1&gdpr_consent=CP",
    );
    assert_eq!(
        (&*hit.site, &*hit.page_url, &*hit.referrer),
        ("a", "https://x.se/å b", "r")
    );
    assert_eq!(&*hit.event_id, "7");
    assert_eq!(&*hit.params, r#"{"x":"1","y":"\"q\\"}"#);
    assert_eq!(signals.tcf.as_deref(), Some("CP"));
    assert_eq!(hit.kind, Kind::PageView);
    assert_eq!(hit.flags, Flags::default());
    assert_eq!(hit_of("e=sold").0.kind, Kind::Event);
    assert_eq!(hit_of("").0.params, "");
    assert_eq!(&*hit_of("site=a&site=b").0.site, "a");
}

#[test]
fn an_unexpanded_macro_counts_as_absent_and_flags_the_hit() {
    for value in [
        "${CAMPAIGN_ID}",
        "%24%7BCAMPAIGN_ID%7D",
        "%%CACHEBUSTER%%",
        "[TIMESTAMP]",
        "%5BGDPRCONSENT%5D",
        "__ADFCAMID__",
    ] {
        let text = format!("campaign={value}&own={value}");
        let (hit, _) = hit_of(&text);
        assert_eq!((&*hit.campaign, &*hit.params), ("", ""), "{value}");
        assert!(hit.flags.has(Flags::MACRO), "{value}");
    }
    assert_eq!(
        hit_of("gdpr_consent=${GDPR_CONSENT_5}").1.tcf.as_deref(),
        Some("")
    );
    for value in ["$5", "[1,2]", "100%25", "__init__", "%%"] {
        let text = format!("own={value}");
        assert!(!hit_of(&text).0.flags.has(Flags::MACRO), "{value}");
    }
}

#[test]
fn what_a_macro_encoded_a_second_time_is_decoded_a_second_time() {
    for (raw, value) in [
        // Once encoded: its own escapes stay.
        ("https%3A%2F%2Fx.se%2Fa%2520b", "https://x.se/a%20b"),
        ("100%25", "100%"),
        ("a%2525%2Fb", "a%25/b"),
        ("50%25+off", "50% off"),
        ("%2541%25", "%41%"),
        ("%25zz", "%zz"),
        // What would be no UTF-8 was encoded once.
        ("r%25E9duction", "r%E9duction"),
        ("%25FF%25FE", "%FF%FE"),
        // Twice.
        (
            "https%253A%252F%252Fx.se%252F%25C3%25A5%2520b",
            "https://x.se/å b",
        ),
        ("https%253A//x.se/a%2520b", "https://x.se/a b"),
        ("HTTP%253a//x.se", "HTTP://x.se"),
        ("sm%25C3%25B6r%2520g%25C3%25A5s", "smör gås"),
        ("a%2526b", "a&b"),
    ] {
        let text = format!("own={raw}&u={raw}");
        let (hit, _) = hit_of(&text);
        assert_eq!(&*hit.page_url, value, "{raw}");
        let params: serde_json::Value = serde_json::from_str(&hit.params).expect("an object");
        assert_eq!(params["own"], *value, "{raw}");
    }
    let (hit, _) = hit_of("campaign=%2524%257BCAMPAIGN_ID%257D&creative=%ecid!");
    assert_eq!((&*hit.campaign, &*hit.creative), ("", ""));
    assert_eq!(hit.flags, Flags::MACRO);
}

fn ad_hit(text: &str) -> Hit<'_> {
    let mut draft = begin(Kind::Impression);
    read_query(text, Reading::default(), &mut draft);
    draft.hit
}

#[test]
fn ev_says_what_an_ad_did() {
    for (text, kind, name) in [
        ("", Kind::Impression, ""),
        ("ev=impression", Kind::Impression, ""),
        ("ev=[EVENT]", Kind::Impression, ""),
        ("ev=click&ev=win", Kind::Click, ""),
        ("ev=firstQuartile&e=other", Kind::Event, "firstQuartile"),
        ("e=other&ev=error&err=402", Kind::Event, "error"),
    ] {
        let hit = ad_hit(text);
        assert_eq!((hit.kind, &*hit.event_name), (kind, name), "{text}");
        assert!(!hit.params.contains("ev\""), "{text}");
    }
    assert_eq!(&*hit_of("ev=click").0.params, r#"{"ev":"click"}"#);
    assert_eq!(hit_of("ev=click").0.kind, Kind::PageView);
}

#[test]
fn a_preview_and_the_test_of_an_auction_are_flagged() {
    for text in ["preview=1", "preview=true", "price=AUDIT", "loss=AUDIT&x=1"] {
        assert_eq!(ad_hit(text).flags, Flags::PREVIEW, "{text}");
    }
    for text in ["preview=0", "campaign=AUDIT", "size=AUDIT", "is=1"] {
        assert_eq!(ad_hit(text).flags, Flags::default(), "{text}");
    }
    for purpose in ["prefetch", "preview"] {
        let map = header_map(&[("x-purpose", purpose), ("user-agent", "VLC")]);
        let hit = hit_of_headers(&map);
        let flag = if purpose == "preview" {
            Flags::PREVIEW
        } else {
            Flags::PREFETCH
        };
        assert_eq!(hit.flags, flag, "{purpose}");
    }
}

#[test]
fn an_id_that_says_there_is_none_is_none() {
    let maid = "maid=AEBE52E7-03EE-455A-B3C4-E57283966239";
    assert_eq!(&*ad_hit(maid).maid, "aebe52e7-03ee-455a-b3c4-e57283966239");
    let limited = format!("{maid}&lat=1");
    for text in [
        &limited,
        "maid=00000000-0000-0000-0000-000000000000",
        "maid=-1",
    ] {
        assert_eq!(&*ad_hit(text).maid, "", "{text}");
    }
    let hit = ad_hit("uid=-1&did=-2&avclid=abc&click_id=no");
    assert_eq!((&*hit.partner_uid, &*hit.device_id), ("", ""));
    assert_eq!(&*hit.click_id, "abc");
    let long = format!("click_id={}", "x".repeat(100));
    assert_eq!(ad_hit(&long).click_id.len(), CLICK_ID_BYTES_MAX);
}

#[test]
fn what_postgres_cannot_hold_is_replaced_and_flagged() {
    let (hit, _) = hit_of("u=a%00b&x=%ff&%00=1");
    assert_eq!(&*hit.page_url, "a\u{fffd}b");
    assert_eq!(&*hit.params, "{\"x\":\"\u{fffd}\",\"\u{fffd}\":\"1\"}");
    assert_eq!(hit.flags, Flags::CLEANED);
}

#[test]
fn what_is_too_long_is_cut_on_a_characters_border() {
    let text = format!("u={}", "å".repeat(URL_BYTES_MAX));
    let (hit, _) = hit_of(&text);
    assert_eq!(hit.page_url.len(), URL_BYTES_MAX);
    assert_eq!(hit.flags, Flags::TRUNCATED);
    let many: String = (0..10_000).map(|n| format!("&k{n}=v")).collect();
    let (hit, _) = hit_of(&many);
    let params: serde_json::Map<_, _> = serde_json::from_str(&hit.params).expect("an object");
    assert_eq!(params.len(), PARAMS_MAX);
    assert_eq!(hit.flags, Flags::TRUNCATED);
}

#[test]
fn events_are_read_one_by_one_and_a_wrong_one_is_refused_alone() {
    let body = br#"[{"site":"a","e":"buy","price":12.50,"ch":{"model":"SM-S918B","mobile":true},
        "deep":{"\u0000":["x\u0000"]},"uid":7}, 5, {"bad":"\ud800"}, {"n":1e999}]"#;
    let events = split_events(body).expect("an array");
    let read = |at: usize| {
        let mut draft = begin(Kind::PageView);
        read_event(&events[at], "", Reading::default(), &mut draft).then_some(draft.hit)
    };
    let hit = read(0).expect("a sound event");
    assert_eq!(
        (hit.kind, &*hit.event_name, &*hit.partner_uid),
        (Kind::Event, "buy", "7")
    );
    assert_eq!(
        (&*hit.hints.model, hit.hints.mobile),
        ("SM-S918B", Some(true))
    );
    assert_eq!(
        &*hit.params,
        "{\"price\":12.50,\"deep\":{\"\u{fffd}\":[\"x\u{fffd}\"]}}"
    );
    assert!(hit.flags.has(Flags::CLEANED));
    assert!(read(1).is_none());
    for (at, params) in [(2, "{\"bad\":\"\u{fffd}\"}"), (3, r#"{"n":"1e999"}"#)] {
        let hit = read(at).expect("an event with a value that cannot be stored");
        assert_eq!((&*hit.params, hit.flags), (params, Flags::CLEANED));
    }
    assert!(split_events(b"{").is_none());
    assert!(split_events(format!("[{}0]", "0,".repeat(EVENTS_MAX)).as_bytes()).is_none());
    assert!(split_events("[".repeat(100_000).as_bytes()).is_none());
}

#[test]
fn a_hint_of_an_event_is_cut_like_one_of_a_query() {
    let model = "m".repeat(TEXT_BYTES_MAX + 1);
    let body = format!("{{\"ch\":{{\"model\":\"{model}\"}}}}");
    let event = split_events(body.as_bytes()).expect("JSON").remove(0);
    let mut draft = begin(Kind::PageView);
    assert!(read_event(&event, "", Reading::default(), &mut draft));
    assert_eq!(draft.hit.hints.model, model[1..]);
    assert!(draft.hit.flags.has(Flags::TRUNCATED));
}

#[test]
fn headers_are_read_in_one_pass() {
    let map = header_map(&[
        ("host", "px.telenor.se"),
        ("user-agent", "UA"),
        ("referer", "https://a.se/"),
        ("cookie", "x=1; avid=one;avid2=no; avchoice=store.measure"),
        ("cookie", "avid=two"),
        ("sec-gpc", "1"),
        ("sec-purpose", "prefetch;prerender"),
        ("sec-ch-ua-mobile", "?1"),
        ("sec-ch-ua-platform", "\"Android\""),
    ]);
    let headers = Headers::read(&map);
    assert_eq!(headers.cookies("avid").collect::<Vec<_>>(), ["one", "two"]);
    let choice = signals(&headers, "avchoice").choice;
    assert_eq!(
        choice.map(|choice| choice.to_string()).as_deref(),
        Some("store.measure")
    );
    assert!(headers.gpc);
    let hit = hit_of_headers(&map);
    assert_eq!((&*hit.user_agent, &*hit.page_url), ("UA", "https://a.se/"));
    assert_eq!(
        (hit.hints.mobile, &*hit.hints.platform),
        (Some(true), "Android")
    );
    assert!(hit.flags.has(Flags::PREFETCH));
}

#[test]
fn bytes_that_are_no_text_hide_neither_the_client_nor_a_cookie() {
    let bytes = |name, value: &[u8]| {
        let mut map = HeaderMap::new();
        map.append(name, HeaderValue::from_bytes(value).expect("a value"));
        map
    };
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let peer = "10.0.0.1".parse().expect("an address");
    for (header, name, value) in [
        (
            ForwardedHeader::XForwardedFor,
            "x-forwarded-for",
            &b"\xff, 2.2.2.2"[..],
        ),
        (
            ForwardedHeader::Forwarded,
            "forwarded",
            &b"for=\xff, for=2.2.2.2"[..],
        ),
    ] {
        let client = client_ip(peer, &Headers::read(&bytes(name, value)), header, &trusted);
        assert_eq!(client.to_string(), "2.2.2.2");
    }
    let proto = bytes("x-forwarded-proto", b"\xff, https");
    assert!(forwarded_https(peer, &Headers::read(&proto), &trusted));
    let map = bytes("cookie", b"name=\xc3\xa5\xff; avid=value");
    let headers = Headers::read(&map);
    assert_eq!(headers.cookies("avid").collect::<Vec<_>>(), ["value"]);
}

proptest! {
    #[test]
    fn no_query_makes_it_panic_and_params_are_always_json(text in ".{0,300}", raw in "[%&=+a-f0-9\\[\\]]{0,300}") {
        for text in [text, raw] {
            let (hit, _) = hit_of(&text);
            if !hit.params.is_empty() {
                let object: Result<serde_json::Map<String, serde_json::Value>, _> =
                    serde_json::from_str(&hit.params);
                prop_assert!(object.is_ok(), "{}", hit.params);
            }
        }
    }
}

#[test]
fn what_a_callback_says_of_the_visitor_beside_our_names_becomes_no_parameter() {
    let fields = Fields {
        mapping: Some(Mapping::OpenRtb),
        ..Fields::default()
    };
    let event = r#"{"ev":"impression","cur":"SEK","x":1,"device":{"ifa":"38400000-8cf0-11bd-b23e-10b96e40000d",
        "ip":"192.0.2.77","ipv6":"2001:db8::77","didsha1":"telltale","geo":{"lat":59.3},"make":"telltale"},
        "user":{"id":"telltale","buyeruid":"uid-1","eids":[{"source":"telltale"}]},"IPv6":"2001:db8::77"}"#;
    let query = "ev=impression&cur=SEK&x=1&device.ipv6=2001:db8::77&user.id=telltale&geo=telltale&buyeruid=uid-1";
    for fields in [Some(fields), None] {
        let reading = Reading {
            fields,
            ..Reading::default()
        };
        let check = |draft: Draft<'_>| {
            let params = &*draft.hit.params;
            for hidden in ["telltale", "192.0.2", "2001:db8", "59.3", "geo"] {
                assert!(!params.contains(hidden), "{params}");
            }
            assert!(params.contains("\"x\":"), "{params}");
        };
        let mut draft = begin(Kind::Callback);
        assert!(read_event(event, "", reading, &mut draft));
        check(draft);
        let mut draft = begin(Kind::Callback);
        read_query(query, reading, &mut draft);
        check(draft);
    }
}

#[test]
fn what_an_address_says_holds_for_a_form_and_an_event_that_do_not_say_otherwise() {
    let query = "site=a&e=buy&utm_source=mail&x=1&y=1&lat=1&gdpr=1&gdpr_consent=CP";
    for (form, event) in [
        ("", "{}"),
        ("x=2&maid=abc", r#"{"x":"2","maid":"abc"}"#),
        (
            "site=b&gdpr_consent=CQ",
            r#"{"site":"b","gdpr_consent":"CQ"}"#,
        ),
        ("e=&x=", r#"{"e":"","x":""}"#),
        ("x=2&&x=3", r#"{"x":"2","x":"3"}"#),
    ] {
        let mut of_form = begin(Kind::PageView);
        read_form(form, query, Reading::default(), &mut of_form);
        let mut of_event = begin(Kind::PageView);
        assert!(read_event(event, query, Reading::default(), &mut of_event));
        let mut of_query = begin(Kind::PageView);
        let text = [form, query].join("&");
        read_query(&text, Reading::default(), &mut of_query);
        let differs = of_query.signals.is_unclear;
        assert_eq!(differs, form.contains("CQ"), "said twice in one place");
        of_query.signals.is_unclear = false;
        of_query.hit.flags = Flags::default();
        for draft in [of_form, of_event] {
            assert_eq!(draft, of_query, "{form}");
            assert_eq!(&*draft.hit.maid, "", "{form}");
            assert!(
                draft.hit.params.contains(r#""utm_source":"mail""#),
                "{form}"
            );
        }
    }
}

#[test]
fn the_first_of_a_repeated_parameter_counts_in_params_too() {
    let (hit, _) = hit_of("price=1&size=s&price=2&%70rice=3&size=&to=a&to=b&price=${X}");
    assert_eq!(&*hit.params, r#"{"price":"1","size":"s","to":"a"}"#);
    let mut draft = begin(Kind::PageView);
    let event = r#"{"e":"a","price":1,"price":2,"e":"b","price":[3]}"#;
    assert!(read_event(event, "price=4", Reading::default(), &mut draft));
    assert_eq!(
        (&*draft.hit.event_name, &*draft.hit.params),
        ("a", r#"{"price":1}"#)
    );
}

#[test]
fn what_a_clicks_signature_does_not_cover_replaces_nothing_that_it_covers() {
    let mut draft = begin(Kind::Click);
    let query = "k=1&price=1&to=a&campaign=c&sig=x&price=2&to=b&size=9&campaign=d&placement=p";
    read_query(query, Reading::default(), &mut draft);
    let Draft { hit, .. } = draft;
    assert_eq!(
        &*hit.params,
        r#"{"price":"1","to":"a","size":"9","unsigned":{"price":"2","to":"b"}}"#
    );
    assert_eq!((&*hit.campaign, &*hit.placement), ("c", "p"));
    let long = format!("price=1&sig=x&price={}", "y".repeat(PARAMS_BYTES_MAX - 20));
    let mut draft = begin(Kind::Click);
    read_query(&long, Reading::default(), &mut draft);
    assert_eq!(
        &*draft.hit.params, r#"{"price":"1"}"#,
        "what is signed comes first"
    );
    assert!(draft.hit.flags.has(Flags::TRUNCATED));
}

#[test]
fn a_body_gives_the_events_that_can_be_taken() {
    let read = |body: &[u8]| {
        let map = header_map(&[("user-agent", "VLC"), ("content-type", "")]);
        let headers = Headers::read(&map);
        let arrival = Arrival {
            endpoint: Endpoint::Event,
            at: UnixMicros(7),
            headers: &headers,
            path: "",
            query: "",
            choice_cookie: "avchoice".into(),
            meta_names: &[],
        };
        let Drafts::Each(drafts) = read_body(&arrival, body).expect("events") else {
            panic!("a body of events is a list");
        };
        let told = drafts.iter().map(|draft| {
            draft.map(|Draft { hit, .. }| {
                let params = hit.params.into_owned();
                (params, hit.flags)
            })
        });
        told.collect::<Vec<_>>()
    };
    let sound = |params: &str| Ok((params.to_owned(), Flags::default()));
    let mended = |params: &str| Ok((params.to_owned(), Flags::CLEANED));
    for (body, events) in [
        (&b"\xef\xbb\xbf{\"a\":1}"[..], vec![sound(r#"{"a":1}"#)]),
        (
            b"[{\"a\":1},{\"b\":\"r\xe9duction\"}]",
            vec![sound(r#"{"a":1}"#), mended("{\"b\":\"r\u{fffd}duction\"}")],
        ),
        (
            br#"[{"a":1},{"b\ud800":"\ud800 "},{"c":[1e400]}]"#,
            vec![
                sound(r#"{"a":1}"#),
                mended("{\"b\u{fffd}\":\"\u{fffd} \"}"),
                mended(r#"{"c":["1e400"]}"#),
            ],
        ),
        (
            b"[{\"a\":1},{\"b\":[NaN],\"x\":-Infinity},{\"c\":\"x\ny\"}]",
            vec![
                sound(r#"{"a":1}"#),
                mended(r#"{"b":[null]}"#),
                mended(r#"{"c":"x\ny"}"#),
            ],
        ),
        (
            br#"[{"a":1},{"b":},{"c":2},]"#,
            vec![sound(r#"{"a":1}"#), Err(Reason::Json), sound(r#"{"c":2}"#)],
        ),
        (
            br#"[{"a":1},{"c":2},{"d":"cut"#,
            vec![sound(r#"{"a":1}"#), sound(r#"{"c":2}"#), Err(Reason::Json)],
        ),
        (
            b"{\"a\":1}\n{\"b\":2}\n",
            vec![sound(r#"{"a":1}"#), sound(r#"{"b":2}"#)],
        ),
    ] {
        assert_eq!(read(body), events, "{}", body.escape_ascii());
    }
    let many = format!("[{}{{\"a\":2}}]", r#"{"a":1},"#.repeat(EVENTS_MAX + 7));
    let read = read(many.as_bytes());
    assert_eq!(read.len(), EVENTS_MAX + 1);
    assert_eq!(read.last(), Some(&Err(Reason::TooManyEvents)));
    assert!(read.iter().take(EVENTS_MAX).all(Result::is_ok));
}

#[test]
fn each_event_has_what_the_headers_and_the_query_say() {
    let map = header_map(&[("user-agent", "UA"), ("cookie", "avchoice=none")]);
    let headers = Headers::read(&map);
    let arrival = Arrival {
        endpoint: Endpoint::Event,
        at: UnixMicros(7),
        headers: &headers,
        path: "",
        query: "site=a&gdpr=1",
        choice_cookie: "avchoice".into(),
        meta_names: &[],
    };
    let drafts = read_body(&arrival, br#"[{"e":"buy"}, 7, {"site":"b"}]"#).expect("an array");
    let Drafts::Each(drafts) = drafts else {
        panic!("a body of events is a list");
    };
    let read: Vec<_> = drafts
        .iter()
        .map(|draft| {
            let Draft { hit, signals, .. } = draft?;
            assert_eq!((hit.received_at, &*hit.user_agent), (UnixMicros(7), "UA"));
            assert_eq!(
                (signals.gdpr.as_deref(), signals.choice),
                (Some("1"), Some(Permit::NONE))
            );
            Ok((hit.site.into_owned(), hit.kind))
        })
        .collect();
    assert_eq!(
        read,
        [
            Ok(("a".to_owned(), Kind::Event)),
            Err(Reason::Json),
            Ok(("b".to_owned(), Kind::PageView))
        ]
    );
    assert_eq!(read_body(&arrival, b" ").err(), Some(Reason::Json));
}

/// Writes a number as docs/parameters.md does.
fn grouped(number: usize) -> String {
    let (thousands, rest) = (number / 1000, number % 1000);
    if thousands == 0 {
        return number.to_string();
    }
    format!("{thousands},{rest:03}")
}

#[test]
fn the_documentation_lists_every_parameter_with_its_limit() {
    let page = include_str!("../../../docs/parameters.md");
    let table = page.split("| --- | --- | --- |\n").nth(1).expect("a table");
    let mut listed = 0;
    for row in table.lines().take_while(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let bytes = cells
            .last()
            .expect("a cell")
            .trim()
            .trim_end_matches(" each");
        // Every other part is between backquotes.
        for name in cells[0].split('`').skip(1).step_by(2) {
            assert_eq!(
                bytes,
                grouped(rule(Parameter::from_name(name), name).bytes_max),
                "{name}"
            );
            listed |= Parameter::from_name(name).map_or(0, Parameter::bit);
        }
    }
    // Trackers alone name a visit.
    let all = Parameter::ALL.iter();
    let all = all.fold(0, |bits, parameter| bits | parameter.bit());
    let named = all & !Parameter::Session.bit();
    assert_eq!(listed, named, "{listed:b}");
    for limit in [
        format!(
            "{PARAMS_MAX} keys, and {} bytes as JSON",
            grouped(PARAMS_BYTES_MAX)
        ),
        format!(
            "`User-Agent` ({USER_AGENT_BYTES_MAX} bytes), `Referer` ({})",
            grouped(URL_BYTES_MAX)
        ),
        format!("an array of at most {}", grouped(EVENTS_MAX)),
        format!("of at most {} MiB", BODY_BYTES_MAX >> 20),
    ] {
        assert!(page.contains(&limit), "{limit}");
    }
}
