//! Consent signals, wherever a request of any protocol may say one: none may get lost on the way.

use std::sync::LazyLock;

use super::*;
use crate::consent::{PermitRules, Strings, decide};
use crate::hit::Permit;
use crate::protocol::system::SystemSender;

/// Strings that no test asks for.
static STRINGS: LazyLock<Strings> = LazyLock::new(Strings::default);

/// What a hit may do that says nothing of consent.
const OPEN: PermitRules = PermitRules {
    gvl_id: Some(2),
    default_permit: Permit::ALL,
    gdpr_0_permit: Permit::ALL,
};

/// A request that says nothing of consent.
#[derive(Clone, Copy, Debug)]
struct Plain {
    endpoint: Endpoint,
    path: &'static str,
    query: &'static str,
    /// A form or JSON; without one it is a GET.
    body: Option<&'static str>,
}

const fn get(endpoint: Endpoint, path: &'static str, query: &'static str) -> Plain {
    Plain {
        endpoint,
        path,
        query,
        body: None,
    }
}

const fn post(
    endpoint: Endpoint,
    path: &'static str,
    query: &'static str,
    body: &'static str,
) -> Plain {
    Plain {
        endpoint,
        path,
        query,
        body: Some(body),
    }
}

/// The requests whose parameters say what happened.
const GETS: [Plain; 13] = [
    get(
        Endpoint::Pixel,
        "/p.gif",
        "site=s&e=buy&x=1&u=https%3A%2F%2Fx.se%2F&rand=7",
    ),
    get(
        Endpoint::Impression,
        "/i.gif",
        "site=s&ev=start&campaign=c&x=1&cb=7",
    ),
    get(
        Endpoint::Click,
        "/c",
        "to=https%3A%2F%2Fx.se%2F&campaign=c&x=1&k=k&exp=9&sig=s&y=1",
    ),
    get(Endpoint::Sync, "/sync/net", "uid=u1&f=i&x=1"),
    get(Endpoint::SetUid, "/setuid", "bidder=net&uid=u1&f=i"),
    get(Endpoint::Id, "/id", "site=s&f=i"),
    get(Endpoint::Segments, "/segments", "site=s"),
    get(
        Endpoint::Callback,
        "/cb/net",
        "ev=win&token=t&click_id=c1&x=1&client_ip=192.0.2.1",
    ),
    get(
        Endpoint::Meta,
        "/tr",
        "id=1&ev=Lead&dl=https%3A%2F%2Fx.se%2F&rl=https%3A%2F%2Fy.se%2F&fbp=fb.1.2.3&eid=e1&\
         cd[value]=1&ud[em]=a&fbc=fb.1.2.x&external_id=x&noscript=1",
    ),
    get(
        Endpoint::Snowplow,
        "/i",
        "e=se&aid=a&p=web&tv=js-3&eid=e1&url=https%3A%2F%2Fx.se%2F&refr=https%3A%2F%2Fy.se%2F&\
         duid=d1&uid=u1&sid=s1&dtm=1795720000000&ip=192.0.2.1&ua=x&nuid=n&fp=1&se_ca=c&tr_id=o1&\
         ue=x",
    ),
    get(
        Endpoint::SnowplowRedirect,
        "/r/tp2",
        "u=https%3A%2F%2Fx.se%2F&e=pv&aid=a&k=k&exp=9&sig=s",
    ),
    get(
        Endpoint::Matomo,
        "/matomo.php",
        "idsite=1&rec=1&url=https%3A%2F%2Fx.se%2F&urlref=https%3A%2F%2Fy.se%2F&_id=0123456789\
         abcdef&uid=u1&cdt=1795720000&e_c=c&e_a=a&e_n=n&r=123456&rand=77&lat=1.5&city=x&cip=192.0.2.1&\
         ua=x&consent=1&uadata=%7B%7D&send_image=0&token_auth=t&pv_id=abc&revenue=1&ec_id=o1",
    ),
    get(
        Endpoint::SegmentPixel,
        "/pixel/v1/track",
        "writeKey=w&event=Order&userId=u1&anonymousId=a1&properties.total=7&context.ip=192.0.2.1",
    ),
];

/// The requests whose bodies do.
const POSTS: [Plain; 12] = [
    post(
        Endpoint::Event,
        "/e",
        "site=s&x=1",
        r#"{"e":"buy","u":"https://x.se/","x":"1"}"#,
    ),
    post(
        Endpoint::Segments,
        "/segments",
        "site=s",
        r#"{"user":"u1"}"#,
    ),
    post(
        Endpoint::Callback,
        "/cb/net",
        "token=t&x=1",
        r#"{"ev":"win","click_id":"c1","x":"1"}"#,
    ),
    post(
        Endpoint::Snowplow,
        "/com.snowplowanalytics.snowplow/tp2",
        "aid=a",
        r#"{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[{"e":"pv","p":"web","url":"https://x.se/"}]}"#,
    ),
    post(
        Endpoint::Snowplow,
        "/com.snowplowanalytics.iglu/v1",
        "schema=iglu%3Acom.acme%2Fbuy%2Fjsonschema%2F1-0-0&aid=a",
        r#"{"price":"1"}"#,
    ),
    post(
        Endpoint::Snowplow,
        "/com.snowplowanalytics.iglu/v1",
        "aid=a",
        r#"{"schema":"iglu:com.acme/buy/jsonschema/1-0-0","data":[{"price":"1"}]}"#,
    ),
    post(
        Endpoint::Matomo,
        "/matomo.php",
        "x=1",
        r#"{"requests":["?idsite=1&rec=1&x=1&rand=3"],"token_auth":"t"}"#,
    ),
    post(
        Endpoint::Matomo,
        "/matomo.php",
        "x=1",
        r#"{"requests":[{"idsite":"1","rec":"1","e_a":"a","rand":"3"}],"token_auth":"t"}"#,
    ),
    post(
        Endpoint::Segment,
        "/v1/batch",
        "writeKey=w",
        r#"{"batch":[{"type":"track","event":"Order","userId":"u1","properties":{"total":7},"context":{"page":{"url":"https://x.se/"}},"integrations":{"a":"1"}}],"sentAt":"2026-11-26T17:48:11Z","context":{"x":1}}"#,
    ),
    post(
        Endpoint::Segment,
        "/v1/track",
        "",
        r#"{"writeKey":"w","event":"Order","anonymousId":"a1","properties":{"total":7},"context":{"traits":{"a":1}}}"#,
    ),
    post(
        Endpoint::Plausible,
        "/api/event",
        "x=1",
        r#"{"n":"buy","u":"https://x.se/","d":"a.se,b.se","p":{"a":"1"},"props":{"b":"1"},"$":{"amount":"1"}}"#,
    ),
    post(
        Endpoint::System,
        "/s/shop",
        "",
        r#"[{"e":"buy","site":"s","x":{"a":1}}]"#,
    ),
];

/// What a request would do if nothing were known of its sender: each hit's permit.
fn permits(plain: Plain, query: &str, body: Option<&str>) -> Vec<Permit> {
    let headers = Headers::default();
    let arrival = Arrival {
        endpoint: plain.endpoint,
        at: UnixMicros(1_795_720_000_000_000),
        headers: &headers,
        path: plain.path,
        query,
        choice_cookie: "avchoice".into(),
        meta_names: &[],
    };
    let bytes = body.unwrap_or_default().as_bytes();
    let drafts = match (plain.endpoint, body) {
        (Endpoint::Callback, _) => {
            let sender = Sender {
                key: "net",
                site: "",
                fields: Fields::default(),
                trusts_client: false,
                proof: None,
            };
            partner::read(&arrival, sender, bytes)
        }
        (Endpoint::System, _) => {
            let sender = SystemSender {
                site: "s",
                past: std::time::Duration::from_secs(60),
                proof: crate::callback::Proof::Token,
            };
            system::read(&arrival, sender, bytes)
        }
        (_, None) => read(&arrival).map(Drafts::One),
        (_, Some(_)) => read_body(&arrival, bytes),
    };
    let permit = |draft: &Draft<'_>| decide(&draft.signals, &OPEN, draft.hit.kind, &STRINGS).0;
    match drafts {
        Ok(Drafts::One(draft)) => vec![permit(&draft)],
        Ok(Drafts::Each(events)) => events
            .iter()
            .flatten()
            .map(|draft| permit(&draft))
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Parameters that refuse, or that only show that something was meant.
const PAIRS: [&str; 19] = [
    "gdpr_consent=",
    "gdpr=1",
    "gdpr=true",
    "gdpr=01",
    "gdpr=${GDPR}",
    "gpp=",
    "gpp_sid=2",
    "gpp_sid=%5B2%5D",
    "gpp_sid=7%2C02",
    "gpp_sid=2.7",
    "GDPR=",
    "gdpr%5B%5D=1",
    "us_privacy=1YYN",
    "consent=denied",
    "has_consent=false",
    "analytics_storage=denied",
    "gcs=G100",
    "do_not_sell=1",
    "gdpr=0&gdpr=1",
];

/// The same pair where a query has it, in ways that are right and in ways that are not.
fn in_query(query: &str, pair: &str) -> Vec<String> {
    let encode = |text: &str| super::encode(text.as_bytes());
    let mut all = vec![
        format!("{query}&{pair}"),
        format!("{pair}&{query}"),
        format!("{query}&amp;amp;{pair}"),
        format!("{query}&amp%3B{pair}"),
    ];
    // A value that was escaped once too often, or behind a separator that is none of ours.
    let decoded = pair
        .replace("%5B", "[")
        .replace("%5D", "]")
        .replace("%2C", ",");
    for (at, _) in query.match_indices('&').chain([(query.len(), "")]) {
        let (before, after) = query.split_at(at);
        all.extend([
            format!("{before};{pair}{after}"),
            format!("{before}{}{after}", encode(&format!("&{decoded}"))),
            format!("{before}{}{after}", encode(&encode(&format!("&{decoded}")))),
            format!("{before}{}{after}", encode(&format!("&amp;{decoded}"))),
        ]);
    }
    all
}

/// Members that refuse, or that only show that something was meant.
const MEMBERS: [&str; 12] = [
    r#""gdpr_consent":"""#,
    r#""gdpr":1"#,
    r#""gdpr":true"#,
    r#""gdpr":"01""#,
    r#""gdpr":1.0"#,
    r#""gpp":"""#,
    r#""gpp_sid":[2]"#,
    r#""gpp_sid":"[2, 7]""#,
    r#""GDPR":"""#,
    r#""us_privacy":"1YYN""#,
    r#""consent":"denied""#,
    r#""gdpr":0,"gdpr":1"#,
];

/// The same member in each object of a body.
fn in_body(body: &str, member: &str) -> Vec<String> {
    let places = body.match_indices('{').map(|(at, _)| at + 1);
    let at = |place: usize| {
        let (before, after) = body.split_at(place);
        format!("{before}{member},{after}")
    };
    places.map(at).collect()
}

#[test]
fn no_signal_is_lost_wherever_a_request_of_any_protocol_says_it() {
    let mut lost = Vec::new();
    let mut check = |plain: Plain, query: &str, body: Option<&str>| {
        let permits = permits(plain, query, body);
        if permits.iter().any(|permit| *permit != Permit::NONE) {
            lost.push(format!(
                "{:?} {query} {}",
                plain.endpoint,
                body.unwrap_or_default()
            ));
        }
    };
    for plain in GETS.into_iter().chain(POSTS) {
        let own = permits(plain, plain.query, plain.body);
        assert!(
            !own.is_empty() && own.iter().all(|permit| *permit == Permit::ALL),
            "{plain:?}"
        );
        for pair in PAIRS {
            for query in in_query(plain.query, pair) {
                // A system's address may not say anything.
                if plain.endpoint != Endpoint::System {
                    check(plain, &query, plain.body);
                }
            }
        }
        for member in MEMBERS {
            for body in plain
                .body
                .map(|body| in_body(body, member))
                .unwrap_or_default()
            {
                check(plain, plain.query, Some(&body));
            }
        }
    }
    assert!(lost.is_empty(), "{} lost:\n{}", lost.len(), lost.join("\n"));
}
