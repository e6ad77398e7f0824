//! What senders send that is not quite right, and what is kept of it.

use std::io::Write as _;

use crate::ads;
use crate::support::Collector;

/// A body packed with gzip.
fn packed(body: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(body.as_bytes()).unwrap();
    packed.finish().unwrap()
}

#[tokio::test]
async fn what_can_be_taken_of_a_body_is_taken_and_what_cannot_is_replaced() {
    let collector = Collector::open().await;
    let good = r#"{"site":"open","e":"good"}"#;
    let utf16: Vec<u8> = format!("\u{feff}{good}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let marked = format!("\u{feff}[{good}]").into_bytes();
    for body in [packed(good), utf16, marked] {
        let reply = collector.post_bytes("/e", &body).await;
        assert_eq!(reply.status, 204, "{reply:?}");
    }
    for content_type in ["", "text/json", "application/x-www-form-urlencoded"] {
        let headers = [("Content-Type", content_type)];
        assert_eq!(collector.post("/e", &headers, good).await.status, 204);
    }
    let odd = [
        &b"[{\"site\":\"open\",\"e\":\"good\"},{\"site\":\"open\",\"e\":\"odd\",\"x\":\"r\xe9d\"},"
            [..],
        br#"{"site":"open","e":"odd","x\ud800":"\udfff","n":[1e400,-1e999]},{"site":"open","#,
        b"\"e\":\"odd\",\"x\":[NaN],\"line\":\"a\nb\"},{\"site\":\"open\",,},7]",
    ]
    .concat();
    let reply = collector.post_bytes("/e", &odd).await;
    let answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let refused = serde_json::json!({"taken": 4, "refused": 2, "first": [
        {"index": 4, "reason": "json"}, {"index": 5, "reason": "json"},
    ]});
    assert_eq!((reply.status, answer), (200, refused));
    let many = format!("[{good}{}]", format!(",{good}").repeat(1000));
    let reply = collector.post("/e", &[], &many).await;
    assert_eq!(reply.header("avtryck-refusal"), "too_many_events");
    let unknown = [("Content-Encoding", "br")];
    let reply = collector.post("/e", &unknown, good).await;
    let told = (reply.status, reply.header("avtryck-refusal"));
    assert_eq!(told, (415, "content_type"));
    let rows = |which: &str| {
        format!("select count(*) from avtryck.hit_detail where event_name = '{which}'")
    };
    collector.wait_for(&rows("good"), 1007).await;
    let flagged = format!("{} and 'cleaned' = any(flags)", rows("odd"));
    collector.wait_for(&flagged, 3).await;
    let unflagged = format!("{} and 'cleaned' = any(flags)", rows("good"));
    assert_eq!(collector.number(&unflagged).await, 0);
    let kept = format!(
        "{} and (params->>'x' = E'r\\uFFFDd' or params->'n'->>0 = '1e400' or params->>'line' = E'a\\nb')",
        rows("odd")
    );
    assert_eq!(collector.number(&kept).await, 3);
}

#[tokio::test]
async fn what_an_address_says_holds_for_each_event_that_does_not_say_otherwise() {
    let collector = Collector::open().await;
    let maid = "38400000-8cf0-11bd-b23e-10b96e40000d";
    let body = format!(
        r#"[{{"e":"plain","maid":"{maid}","own":1}},{{"e":"other","x":2,"utm_source":"app"}}]"#
    );
    let reply = collector
        .post("/e?site=open&utm_source=mail&x=1&lat=1", &[], &body)
        .await;
    assert_eq!(reply.status, 204);
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 2)
        .await;
    let rows = collector
        .rows("select params::text, maid from avtryck.hit_detail order by event_name")
        .await;
    let kept = |row: &tokio_postgres::Row| {
        let params: String = row.get(0);
        let params: serde_json::Value = serde_json::from_str(&params).unwrap();
        (params, row.get::<_, Option<String>>(1))
    };
    let other = serde_json::json!({"x": 2, "utm_source": "app", "lat": "1"});
    let plain = serde_json::json!({"x": "1", "utm_source": "mail", "lat": "1", "own": 1});
    assert_eq!(
        rows.iter().map(kept).collect::<Vec<_>>(),
        [(other, None), (plain, None)]
    );
}

#[tokio::test]
async fn what_stands_behind_a_clicks_signature_replaces_nothing_that_was_signed() {
    let collector = Collector::start(ads::sites()).await;
    let keys = avtryck::keys::ClickKeyring::new([(3, [3; 32].as_slice())]);
    let signed = keys
        .sign("site=open&campaign=spring&price=100&to=https%3A%2F%2Flanding.example%2F")
        .unwrap();
    let added = "&price=1&to=https%3A%2F%2Fevil.example%2F&size=9&campaign=x&placement=top";
    let reply = collector.get(&format!("/c?{signed}{added}"), &[]).await;
    assert_eq!(reply.header("location"), "https://landing.example/");
    let row = "select count(*) from avtryck.hit_detail where campaign = 'spring' and placement = 'top' \
         and params = '{\"price\": \"100\", \"to\": \"https://landing.example/\", \
         \"size\": \"9\", \"unsigned\": {\"price\": \"1\", \"to\": \"https://evil.example/\"}}'";
    collector.wait_for(row, 1).await;
}
