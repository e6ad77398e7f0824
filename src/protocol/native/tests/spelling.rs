//! Every name by which a consent signal or a partner may be meant, in every spelling that is not
//! its own: none of them may leave a hit the permit that it would have without it.

use std::sync::LazyLock;

use super::*;
use crate::consent::names::{Meaning, NAMES};
use crate::consent::{PermitRules, Strings, decide, strip};
use crate::hit::{ConsentSource, Permit};

/// Strings that no test asks for.
fn strings() -> &'static Strings {
    static STRINGS: LazyLock<Strings> = LazyLock::new(Strings::default);
    &STRINGS
}

/// What a hit may do that says nothing of consent.
const OPEN: PermitRules = PermitRules {
    gvl_id: Some(2),
    default_permit: Permit::ALL,
    gdpr_0_permit: Permit::ALL,
};

/// The names as their senders write them.
const WRITTEN: [(&str, Meaning); 14] = [
    ("gdpr", Meaning::Signal),
    ("gdpr_consent", Meaning::Signal),
    ("gpp", Meaning::Signal),
    ("gpp_sid", Meaning::Signal),
    ("addtl_consent", Meaning::Signal),
    ("tc_string", Meaning::Signal),
    ("consent", Meaning::ConsentString),
    ("att_status", Meaning::AppTracking),
    ("lat", Meaning::Objection),
    ("limit_ad_tracking", Meaning::Objection),
    ("us_privacy", Meaning::Objection),
    ("npa", Meaning::Objection),
    ("dnt", Meaning::Objection),
    ("partner", Meaning::Partner),
];

/// A value that says no under each name.
fn refusing_value(meaning: Meaning) -> &'static str {
    match meaning {
        Meaning::Objection => "1",
        Meaning::ConsentString => "CPc_aUAPc_aUAAGABBENC0CgAP_AAE_AAAAAHtNf",
        Meaning::AppTracking => "2",
        Meaning::Signal | Meaning::Partner | Meaning::Site => "net",
    }
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

/// Writes a text in fullwidth characters.
fn wide(text: &str) -> String {
    let widen = |c: char| char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c);
    text.chars().map(widen).collect()
}

/// Other spellings of a name, decoded: as a parameter of a query, a field of a form or a member of
/// an event.
fn spellings(name: &str) -> Vec<String> {
    let words: Vec<&str> = name.split('_').collect();
    let capitals: Vec<String> = words.iter().map(|word| capital(word)).collect();
    let mut all = vec![
        name.to_uppercase(),
        capital(name),
        capitals.concat(),
        format!("{name}[]"),
        format!("{name}[0]"),
        format!("{name}."),
        format!(" {name}"),
        format!("{name} "),
        format!("\t{name}"),
        format!("{name}\u{a0}"),
        format!("\u{200b}{name}"),
        format!("\u{feff}{name}"),
        format!("{name}:"),
        format!("?{name}"),
        format!("\"{name}\""),
        format!("'{name}'"),
        format!("amp;{name}"),
        format!("amp{name}"),
        format!("&{name}"),
        wide(name),
        format!("amp;amp;{name}"),
        format!("\u{2060}{name}"),
        format!("\u{3000}{name}"),
        format!("{name}\0"),
        format!("`{name}`"),
        format!("({name})"),
        format!("${{{name}}}"),
        format!("{{{{{name}}}}}"),
        format!("%26{name}"),
        format!("%25{:02x}{}", name.as_bytes()[0], &name[1..]),
    ];
    if words.len() > 1 {
        all.extend(["", "-", ".", " ", "__"].map(|joint| words.join(joint)));
        all.push(words[0].to_owned() + &capitals[1..].concat());
    }
    all
}

/// Ways in which a parameter may stand in a query string, of which none is right.
fn queries(name: &str, value: &str) -> Vec<String> {
    let escaped = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let mut all: Vec<String> = spellings(name)
        .iter()
        .map(|spelling| format!("x=1&{}={value}", escaped(spelling)))
        .collect();
    let pair = format!("{name}={value}");
    all.extend([
        format!("x=1;{pair}"),
        format!("x=1;y=2;{pair};z=3"),
        format!("campaign=a;{pair}"),
        format!("x=1%26{pair}"),
        format!("x=1{}", escaped(&format!("&{pair}"))),
        format!("x=1{}", escaped(&escaped(&format!("&{pair}")))),
        format!("campaign=a{}&y=1", escaped(&format!("&{pair}"))),
        format!("x=1{}", escaped(&format!("&amp;{pair}"))),
        format!("x=1{}", escaped(&format!("#{pair}"))),
        format!("x=a+b{}", escaped(&escaped(&format!("&{pair}")))),
        format!(
            "x=a%20b{}",
            escaped(&escaped(&escaped(&format!(";{pair}"))))
        ),
        format!("u=https%3A%2F%2Fx.se%2F%23{pair}"),
        format!("x=1+{pair}"),
        format!("%24%7BX%7D=1;{pair}"),
        format!("x=1%20{pair}"),
        format!("x=1%0A{pair}"),
        format!("x=1,{pair}"),
        format!("x=1?{pair}"),
        format!("x=1{}", escaped(&wide(&format!("&{pair}")))),
        format!("x=%C3%A5{}", escaped(&wide(&format!(";{pair}")))),
        format!("{}&x=1", escaped(&format!("x=1&{pair}"))),
        escaped(&format!("x=1&y={}&{pair}", "y".repeat(500))),
        format!(
            "x={}{}",
            "y".repeat(PARAMS_BYTES_MAX),
            escaped(&format!("&{pair}"))
        ),
        format!("+{name}+={value}"),
    ]);
    all
}

/// Events that name it in a way that is not right.
fn events(name: &str, meaning: Meaning) -> Vec<String> {
    let value = refusing_value(meaning);
    let own = |name: &String| serde_json::json!({ name: value }).to_string();
    let mut all: Vec<String> = spellings(name).iter().map(own).collect();
    all.extend([
        serde_json::json!({"consent": {name: value}}).to_string(),
        serde_json::json!({"regs": {name: value}, "x": []}).to_string(),
        serde_json::json!({"a": {"privacy": {name: value}}}).to_string(),
        serde_json::json!({"x": format!("1;{name}={value}")}).to_string(),
        serde_json::json!({"x": wide(&format!("1;{name}={value}"))}).to_string(),
        serde_json::json!({"x": [wide(&format!("{name}={value}"))]}).to_string(),
        serde_json::json!({"campaign": format!("a&{name}={value}")}).to_string(),
        serde_json::json!({"x": {"a": [format!("{name}={value}")]}}).to_string(),
        serde_json::json!({"x": [[{"a": format!("1\n{name}={value}")}]]}).to_string(),
        serde_json::json!({"x": ["a b%26".to_owned() + name + "%3D" + value]}).to_string(),
    ]);
    // In an object of the page's own a partner may be anybody's.
    if meaning == Meaning::Partner {
        return all;
    }
    all.extend([
        serde_json::json!({"regs": {"ext": {name: value}, "x": []}}).to_string(),
        format!(r#"{{"a":{{"{}":"{value}"}}}}"#, name.to_uppercase()),
        serde_json::json!({"ch": {name: value}}).to_string(),
        serde_json::json!({"a": [{name: value}]}).to_string(),
        serde_json::json!({"x": [serde_json::json!({name: value}).to_string()]}).to_string(),
        format!(
            r#"{{"a":{{"\u{:04x}{}": "{value}"}}}}"#,
            name.as_bytes()[0],
            &name[1..]
        ),
    ]);
    all
}

/// Checks that a hit is only counted, and that the spool still knows why.
fn check(draft: Draft<'_>, text: &str) {
    let Draft {
        mut hit, signals, ..
    } = draft;
    for kind in [hit.kind, Kind::Impression] {
        let decided = decide(&signals, &OPEN, kind, strings());
        assert_eq!(decided, (Permit::NONE, ConsentSource::Unclear), "{text}");
    }
    hit.permit = Permit::NONE;
    strip(&mut hit);
    assert_eq!(hit.flags, Flags::UNCLEAR_CONSENT, "{text}");
}

#[test]
fn a_signal_that_was_meant_in_another_spelling_is_no_consent() {
    for (name, meaning) in WRITTEN {
        let value = refusing_value(meaning);
        // Within JSON text a partner may be anybody's.
        let text = format!("x=%7B%22{name}%22%3A%20%22{value}%22%7D");
        let is_member = (meaning != Meaning::Partner).then_some(text);
        for query in queries(name, value).into_iter().chain(is_member) {
            for kind in [Kind::PageView, Kind::Impression, Kind::Click] {
                let mut draft = begin(kind);
                read_query(&query, Reading::default(), &mut draft);
                check(draft, &query);
            }
            let mut form = begin(Kind::PageView);
            read_form(&query, "x=2", Reading::default(), &mut form);
            check(form, &query);
            let mut address = begin(Kind::PageView);
            assert!(read_event("{}", &query, Reading::default(), &mut address));
            check(address, &query);
        }
        for event in events(name, meaning) {
            let mut draft = begin(Kind::PageView);
            assert!(
                read_event(&event, "", Reading::default(), &mut draft),
                "{event}"
            );
            check(draft, &event);
        }
    }
}

#[test]
fn every_name_of_the_table_has_a_spelling_among_these() {
    let bare = |name: &str| name.replace('_', "");
    for (name, meaning) in NAMES {
        let is_like = |(written, of): &(&str, Meaning)| *of == meaning && bare(written) == name;
        let stands_for = NAMES.iter().find(|(known, of)| {
            *of == meaning && WRITTEN.iter().any(|(written, _)| bare(written) == *known)
        });
        assert!(
            WRITTEN.iter().any(is_like) || stands_for.is_some() || meaning == Meaning::Site,
            "{name}"
        );
    }
}

#[test]
fn the_signals_of_an_auction_are_signals_without_a_mapping() {
    let string = refusing_value(Meaning::ConsentString);
    for event in [
        serde_json::json!({"user": {"consent": string}}),
        serde_json::json!({"user": {"ext": {"consent": string}}}),
        serde_json::json!({"regs": {"gdpr": 1}}),
        serde_json::json!({"regs": {"ext": {"gdpr": 1}}}),
        serde_json::json!({"regs": {"gpp": "DBAA", "gpp_sid": [2]}}),
        serde_json::json!({"regs": {"us_privacy": "1YYN"}, "imp": []}),
        serde_json::json!({"user.consent": string}),
        serde_json::json!({"request": {"user": {"consent": string}}}),
        serde_json::json!({"bids": [{"user": {"consent": string}}]}),
    ] {
        let event = event.to_string();
        let mut draft = begin(Kind::PageView);
        assert!(read_event(&event, "", Reading::default(), &mut draft));
        check(draft, &event);
    }
    for query in ["user.consent", "user%5Bconsent%5D", "user[ext][consent]"] {
        let query = format!("x=1&{query}={string}");
        let mut draft = begin(Kind::PageView);
        read_query(&query, Reading::default(), &mut draft);
        check(draft, &query);
    }
}

#[test]
fn a_choice_cookie_that_lost_its_equals_sign_permits_nothing() {
    let choice = |cookie: &str| {
        let map = header_map(&[("cookie", cookie)]);
        let headers = Headers::read(&map);
        signals(&headers, "avchoice").choice
    };
    for cookie in [
        "avchoice",
        "avchoice=",
        "x=1; AVCHOICE ; y=2",
        "avchoice:none",
        "avchoice none",
        "avchoice%3Dnone",
        "avchoice[]=store.measure",
        "avchoice=store.measure; avchoice",
        "avchoice=store.measure; avchoice=none",
        "avchoice=none; avchoice=store.measure",
        "avchoice=store.measure;avchoice=\"none\"",
        "avchoice=store.measure, AvChoice = none ",
        "avchoice=store.measure; \"avchoice\"=none",
        "avchoice=store.measure; \"avchoice=none\"",
        "avchoice=store.measure; 'avchoice'=none",
        "avchoice=store.measure;\t\"avchoice\" = \"none\"",
        "avchoice=store.measure; \"avchoice=store.measure\"",
        "avchoice=store.measure;\u{a0}avchoice=none",
        "avchoice=store.measure; x=\"a; avchoice=none\"",
        "avchoice=store.measure avchoice=none",
        "avchoice=store.measure&avchoice=none",
        "avchoice=store.measure; avchoice%20=none",
        "avchoice=store.measure;; ;avchoice==none",
        "$Version=1; avchoice=\"store.measure\"; $Path=\"/\"; avchoice=\"none\"",
    ] {
        assert_eq!(choice(cookie), Some(Permit::NONE), "{cookie}");
    }
    for cookie in [
        "\"avchoice2\"=none",
        "x\"avchoice\"=none",
        "avchoice2",
        "avchoice_old=1",
        "myavchoice=none",
        "x=avchoice",
        "avchoic",
    ] {
        assert_eq!(choice(cookie), None, "{cookie}");
    }
    let both = Permit::STORE.with(Permit::MEASURE);
    assert_eq!(choice("avchoice = \"store.measure\""), Some(both));
}

#[test]
fn a_repeated_signal_that_contradicts_itself_is_no_consent() {
    for query in [
        "gdpr=0&gdpr=1",
        "gdpr=1&gdpr=0",
        "gdpr_consent=A&gdpr_consent=B",
        "gpp=A&gpp=",
    ] {
        let mut draft = begin(Kind::PageView);
        read_query(query, Reading::default(), &mut draft);
        check(draft, query);
    }
    for event in [r#"{"gdpr":0,"gdpr":1}"#, r#"{"gdpr":1,"gdpr":"0"}"#] {
        let mut draft = begin(Kind::PageView);
        assert!(read_event(event, "", Reading::default(), &mut draft));
        check(draft, event);
    }
    let (_, signals) = hit_of("gdpr=0&gdpr=0");
    assert!(!signals.is_unclear);
}

#[test]
fn a_partner_that_nobody_named_is_no_partner_with_rules_of_its_own() {
    for query in [
        "partner=",
        "partner=${PARTNER}",
        "partner",
        "[PARTNER]=1",
        "parnter=net",
    ] {
        let mut draft = begin(Kind::Impression);
        read_query(query, Reading::default(), &mut draft);
        check(draft, query);
    }
    let mut draft = begin(Kind::Callback);
    let fields = Fields {
        mapping: Some(Mapping::OpenRtb),
        ..Fields::default()
    };
    let reading = Reading {
        fields: Some(fields),
        ..Reading::default()
    };
    let event = r#"{"ev":"win","device":{"ifa":"x","dnt":1},"regs":{"gpp":"x"}}"#;
    assert!(read_event(event, "", reading, &mut draft));
    assert!(draft.signals.is_unclear, "{event}");
    for kind in [Kind::Callback, Kind::Sync] {
        let mut draft = begin(kind);
        read_query(
            "partner=&Partner=net&x=1%26partner%3Da",
            Reading::default(),
            &mut draft,
        );
        assert!(!draft.signals.is_unclear, "the path names it");
    }
}

#[test]
fn separators_that_were_escaped_for_html_are_separators() {
    for separator in ["&amp;", "&#38;", "&#x26;", "&AMP;", "&;", "&amp;amp;"] {
        let query = ["site=s", "partner=net", "gdpr=1", "gdpr_consent="].join(separator);
        let (hit, signals) = hit_of(&query);
        assert_eq!((&*hit.site, &*hit.partner), ("s", "net"), "{separator}");
        let said = (signals.gdpr.as_deref(), signals.tcf.as_deref());
        assert_eq!(said, (Some("1"), Some("")), "{separator}");
        assert!(!signals.is_unclear, "{separator}");
        let decided = decide(&signals, &OPEN, hit.kind, strings());
        assert_eq!(decided, (Permit::NONE, ConsentSource::Tcf), "{separator}");
    }
}

#[test]
fn what_is_said_in_other_words_is_clear() {
    for query in [
        "",
        "site=s&u=https%3A%2F%2Fx.se%2F%3Fgdpr%3D1%26partner%3Da&ref=https%3A%2F%2Fx.se%2F%3Fgpp%3D1",
        "u=https://x.se/?gdpr=1&x=1",
        "search=%3Futm_source%3Da%26gdpr%3D1",
        "next=%2Flogin%3Fgdpr%3D1",
        "title=GDPR%3A+what+to+know&q=is+it+gdpr%3F",
        "partner_type=2&partners=3&business_partner=x&3gpp=15&latency=7&lon=18.06&Lat=59.33",
        "us_privacy=1---&npa=0&dnt=unspecified&lmt=0&US_PRIVACY=1YNN",
        "gdpr=0&gdpr_consent=CP&partner=net&gpp=&gpp_sid=2&addtl_consent=1~&lat=0",
        "Site=x&site=s",
        "items=%5B%7B%22partner%22%3A%22a%22%7D%5D",
        "a=b=c&d=e;f=g&h=i%26j%3Dk&l=%7B%22m%22%3A1%7D",
        "has_consent=true&analytics_storage=granted&gcs=G111&do_not_sell=0&tfcd=0&cookie_consent=allow",
        "consent=granted&user.consent=1&x=50%25+off+%2526+more&y=a+b%2526c%253D1",
    ] {
        let (_, signals) = hit_of(query);
        assert!(!signals.is_unclear, "{query}");
    }
    for event in [
        r#"{"items":[{"partner":"a"}],"site":"s","text":"GDPR: x","GDPR":null}"#,
        r#"{"u":"https://x.se/?gdpr=1","items":"[{\"partner\":\"a\"}]"}"#,
        r#"{"place":{"lat":59.33,"lon":18.06},"deep":{"site":"x","npa":false}}"#,
        r#"{"product":{"partner":"x"},"a":{"b":{"Partner":"y","site":"z"}},"ch":{"partner":1}}"#,
        r#"{"user":{"consent":"granted","ext":{"consent":true}},"consent":{"ads":"granted"}}"#,
        r#"{"x":["see https://x.se/?gdpr=1 first","GDPR: what to know","a=b","/x?gdpr=1"]}"#,
    ] {
        let mut draft = begin(Kind::PageView);
        assert!(read_event(event, "", Reading::default(), &mut draft));
        assert!(!draft.signals.is_unclear, "{event}");
    }
    let (_, signals) = hit_of("Site=s");
    assert!(signals.is_unclear, "whose rules hold is not known");
}
