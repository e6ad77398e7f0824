//! A consent signal, or a partner, that was meant in a spelling that is not its own.

use crate::ads;
use crate::support::{Collector, Reply};

const TOKEN: &str = "0123456789abcdef";
const TARGET: &str = "to=https://www.shop.example/";

fn sites() -> crate::support::Config {
    ads::sites().with(&format!(
        r#"
        [[partner]]
        key = "reporting"
        token = "{TOKEN}"
        site = "open"
        default_permit = ["store", "measure", "profile", "match", "link", "locate"]
        "#
    ))
}

/// Sends a query in each way that hits come, and events with a member; says how many are counted.
async fn send_everywhere(collector: &Collector, pair: &str, event: &str) -> i64 {
    for path in [
        "/p.gif?",
        "/i.gif?",
        "/i.gif?partner=network&",
        "/sync/network?",
    ] {
        let target = format!("{path}site=open{pair}");
        let reply = collector.get(&target, &[]).await;
        assert_eq!((reply.status, reply.bytes.len()), (200, 43), "{target}");
        sets_nothing(&reply, &target);
    }
    let click = format!("/c?site=open&{TARGET}{pair}");
    let reply = collector.get(&click, &[]).await;
    assert_eq!(reply.status, 302, "{click}");
    assert!(!reply.header("location").contains("avclid"), "{click}");
    sets_nothing(&reply, &click);
    let id = collector.get(&format!("/id?site=open{pair}"), &[]).await;
    assert_eq!(id.status, 204, "{pair}");
    sets_nothing(&id, pair);
    let address = format!("/e?site=open{pair}");
    let callback = format!("/cb/reporting?token={TOKEN}");
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    for (target, headers, body) in [
        (address.as_str(), &[][..], r#"[{"e":"buy"}]"#),
        ("/e?site=open", &[], event),
        (callback.as_str(), &[form], &format!("ev=win{pair}")),
        (callback.as_str(), &[], event),
    ] {
        let reply = collector.post(target, headers, body).await;
        assert_eq!(reply.status, 204, "{target} {body} {reply:?}");
        sets_nothing(&reply, target);
    }
    9
}

fn sets_nothing(reply: &Reply, target: &str) {
    assert_eq!(reply.header("set-cookie"), "", "{target}");
}

#[tokio::test]
async fn a_signal_in_another_spelling_leaves_a_count_and_no_cookie_at_every_endpoint() {
    for plain in [true, false] {
        let collector = Collector::start(sites().set("http.plain", plain)).await;
        let mut hits = 0;
        for (pair, event) in [
            ("&GDPR=1", r#"{"GDPR":1}"#),
            ("&gdpr[]=1", r#"{"gdpr[]":1}"#),
            ("&%20gdpr=1", r#"{" gdpr":1}"#),
            ("&+gdpr_consent=", r#"{"consent":{"gdpr":"1"}}"#),
            ("&x=1%26gdpr%3D1", r#"{"gdprApplies":true}"#),
            ("&x=1;gdpr=1", r#"{"gdpr-consent":""}"#),
            ("&%252567dpr=1", r#"{"Gpp_Sid":[7]}"#),
            ("&amp%3Bgpp=x", r#"{"amp;gpp":"x"}"#),
            ("&LAT=1", r#"{"device":{"lmt":1}}"#),
            ("&usPrivacy=1YYN", r#"{"us_privacy":"1YYN"}"#),
            ("&consent=", r#"{"consent":""}"#),
            ("&consent=${CONSENT}", r#"{"adStorage":"denied"}"#),
            ("&gcs=G110", r#"{"permit":"none"}"#),
            ("&no_consent=1", r#"{"att_status":"restricted"}"#),
            ("&x=1%E2%80%8B&%E2%80%8Bgpp=1", "{\"\u{200b}gpp\":\"1\"}"),
        ] {
            hits += send_everywhere(&collector, pair, event).await;
        }
        for target in [
            "/i.gif?site=open&Partner=network",
            "/i.gif?site=open&partner[]=network",
            "/i.gif?site=open&partner=${PARTNER}",
            "/p.gif?site=open&x=1%26partner%3Dnetwork",
            "/p.gif?site%3Dopen%26gdpr%3D1",
            "/p.gif?site=open&x=1#gdpr%5B%5D=1",
        ] {
            let reply = collector.get(target, &[]).await;
            assert_eq!(reply.status, 200, "{target}");
            sets_nothing(&reply, target);
            hits += 1;
        }
        let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
        collector.wait_for(counted, hits).await;
        let rows = collector.number("select count(*) from avtryck.hit").await;
        assert_eq!(rows, 0, "plain {plain}");
        let metric = "avtryck_hits_total{consent_source=\"unclear\",outcome=\"count\"}";
        assert_eq!(collector.metric(metric).await, hits as f64, "plain {plain}");
    }
}

#[tokio::test]
async fn what_a_tracker_says_of_consent_beside_its_own_words_leaves_a_count_and_no_cookie() {
    let names = ["7", "open.example"].map(toml::Value::from).to_vec();
    let collector = Collector::start(sites().set("site.open.aliases", names)).await;
    let mut hits = 0;
    for target in [
        "/tr?id=7&ev=PageView&gdpr_consent=",
        "/tr?id=7&ev=PageView&GDPR=",
        "/tr?id=7&ev=PageView&fbc=1;gdpr=1",
        "/tr?id=7&ev=Lead&dl=https%3A%2F%2Fx.se%2F%23a;gdpr=1",
        "/i?e=pv&aid=7&tv=js-3&gdpr_consent=",
        "/i?e=pv&aid=7&tv=js-3&nuid=1%26gdpr%3D1",
        "/i?e=pv&aid=7&tv=js-3&gpp_sid=%5B2%5D",
        "/matomo.php?idsite=7&rec=1&cookie=1&rand=7;gdpr=1",
        "/matomo.php?idsite=7&rec=1&cookie=1&gpp=",
        "/pixel/v1/track?writeKey=7&event=a&anonymousId=a1&gdpr=${GDPR}",
        "/pixel/v1/track?writeKey=7&event=a&anonymousId=a1&gdpr=0&gdpr=1",
    ] {
        let reply = collector.get(target, &[]).await;
        assert_eq!(reply.status, 200, "{target}");
        sets_nothing(&reply, target);
        hits += 1;
    }
    let schema = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";
    let snowplow = |member: &str, around: &str| {
        format!(r#"{{"schema":"{schema}","data":[{{"e":"pv","aid":"7"{member}}}]{around}}}"#)
    };
    let call = |member: &str| format!(r#"{{"type":"page","anonymousId":"a1"{member}}}"#);
    let tp2 = "/com.snowplowanalytics.snowplow/tp2";
    for (target, body) in [
        (tp2, snowplow(r#","gdpr_consent":"""#, "")),
        (tp2, snowplow("", r#","gdpr":1"#)),
        ("/v1/page?writeKey=7&gdpr=1", call("")),
        ("/v1/page?writeKey=7", call(r#","gdpr_consent":"""#)),
        ("/v1/page?writeKey=7", call(r#","properties":"a;gdpr=1""#)),
        (
            "/v1/batch?writeKey=7",
            format!(r#"{{"batch":[{}],"gpp":""}}"#, call("")),
        ),
        (
            "/api/event?gdpr=1",
            r#"{"n":"pageview","u":"https://x.se/","d":"7"}"#.to_owned(),
        ),
        (
            "/api/event",
            r#"{"n":"buy","d":"7","p":"a;gdpr=1"}"#.to_owned(),
        ),
        (
            "/matomo.php?GDPR=",
            r#"{"requests":["?idsite=7&rec=1&rand=1"]}"#.to_owned(),
        ),
        (
            "/matomo.php",
            r#"{"requests":["?idsite=7&rec=1&rand=1;gdpr=1"]}"#.to_owned(),
        ),
    ] {
        let json = ("Content-Type", "application/json");
        let reply = collector.post(target, &[json], &body).await;
        assert!(reply.status < 300, "{target} {body} {reply:?}");
        sets_nothing(&reply, target);
        hits += 1;
    }
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    collector.wait_for(counted, hits).await;
    let rows = collector.number("select count(*) from avtryck.hit").await;
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn separators_that_a_page_escaped_for_html_separate_at_every_endpoint() {
    let collector = Collector::start(sites()).await;
    let mut counted = 0;
    for separator in [
        "&amp;",
        "&AMP;",
        "&;",
        "&#38;",
        "&#x26;",
        "&%2338;",
        "&amp;#038;",
        "&amp;amp;",
    ] {
        let query = ["site=open", "gdpr=1", "gdpr_consent="].join(separator);
        for path in ["/p.gif?", "/i.gif?", "/sync/network?"] {
            let reply = collector.get(&format!("{path}{query}"), &[]).await;
            assert_eq!(reply.status, 200, "{separator}");
            sets_nothing(&reply, separator);
            counted += 1;
        }
        let clear = ["site=open", "x=1", "y=2"].join(separator);
        let reply = collector.get(&format!("/p.gif?{clear}"), &[]).await;
        assert!(reply.cookie().starts_with("avid="), "{separator}");
        let own = ["site=telling", TARGET, "clid=0"].join(separator);
        let reply = collector.get(&format!("/c?{own}"), &[]).await;
        assert_eq!(reply.header("location"), "https://www.shop.example/");
    }
    let asked = "avtryck_hits_total{consent_source=\"tcf\",outcome=\"count\"}";
    assert_eq!(collector.metric(asked).await, f64::from(counted));
    let rows = "select count(*) from avtryck.hit where params @> '{\"x\": \"1\", \"y\": \"2\"}'";
    collector.wait_for(rows, 8).await;
}

#[tokio::test]
async fn a_signed_url_that_a_page_escaped_for_html_is_still_signed() {
    let collector = Collector::start(sites()).await;
    let url = ads::click_url(
        &collector,
        &["--to", "https://landing.example", "--site", "open"],
    )
    .await;
    let escaped = url.replace('&', "&amp;");
    let reply = collector
        .get(&format!("{escaped}&amp;placement=top"), &[])
        .await;
    assert_eq!(reply.header("location"), "https://landing.example/");
    let row = "select count(*) from avtryck.hit_detail where kind = 'click' and placement = 'top'";
    collector.wait_for(row, 1).await;
}
