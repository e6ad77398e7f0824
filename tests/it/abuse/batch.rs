//! What one request may cost, and what one client may use of the collector.

mod amplification;
mod crowd;

use serde_json::Value;

use crate::support::{Collector, Config, raw};

/// A query of that many bytes, in further parameters that a hit keeps.
fn long_query(bytes: usize) -> String {
    let mut query = "site=open".to_owned();
    for number in 0.. {
        if query.len() + 140 > bytes {
            return query;
        }
        query.push_str(&format!("&k{number}={}", "v".repeat(130)));
    }
    query
}

fn from(address: &str) -> [(&str, &str); 1] {
    [("X-Forwarded-For", address)]
}

fn events(count: usize) -> String {
    format!("[{}]", vec![r#"{"a":1}"#; count].join(","))
}

fn counts(body: &str) -> (i64, i64) {
    let answer: Value = serde_json::from_str(body).unwrap();
    let count = |name: &str| answer[name].as_i64().unwrap();
    (count("taken"), count("refused"))
}

#[tokio::test]
async fn a_long_address_is_stored_for_no_more_events_than_its_client_may_store() {
    let collector = Collector::open().await;
    let target = format!("/e?{}", long_query(7900));
    let reply = collector
        .post(&target, &from("2.64.1.1"), &events(1000))
        .await;
    assert_eq!(
        (reply.status, reply.header("avtryck-refusal")),
        (200, "over_limit")
    );
    let (taken, refused) = counts(&reply.body);
    assert_eq!(taken + refused, 1000);
    // Each record counts as five hits, and a client may send a thousand at once.
    assert!((150..=300).contains(&taken), "{taken}");
    // The same events at a short address are all taken, and so is a long address with few.
    let short = collector
        .post("/e?site=open", &from("2.64.1.2"), &events(1000))
        .await;
    assert_eq!(short.status, 204);
    let few = collector
        .post(&target, &from("2.64.1.3"), &events(10))
        .await;
    assert_eq!(few.status, 204);
    collector
        .wait_for("select count(*) from avtryck.hit", taken + 1010)
        .await;
    let whole =
        "select count(*) from avtryck.hit where params ? 'k0' and params ? 'k50' and params ? 'a'";
    collector.wait_for(whole, taken + 10).await;
}

#[tokio::test]
async fn without_a_limit_one_body_still_makes_records_of_two_mebibytes_at_most() {
    let config = Config::sites().set("limit.hits_per_second", 0);
    let collector = Collector::start(config).await;
    let target = format!("/e?{}", long_query(7900));
    let reply = collector.post(&target, &[], &events(1000)).await;
    let (taken, refused) = counts(&reply.body);
    assert_eq!(taken + refused, 1000);
    assert!((200..=280).contains(&taken), "{taken}");
}

#[tokio::test]
async fn what_is_far_above_the_limit_is_refused_and_a_click_still_leads_on() {
    let config = Config::sites()
        .with("limit = { hits_per_second = 1, burst = 2 }")
        .set("site.open.click_hosts", vec!["www.shop.example"]);
    let collector = Collector::start(config).await;
    let flood = from("2.64.2.1");
    let reply = collector.post("/e?site=open", &flood, &events(200)).await;
    // Two hits are within the limit, and nine times as many beyond it.
    let (taken, refused) = counts(&reply.body);
    assert_eq!(taken + refused, 200);
    assert!((20..30).contains(&taken), "{taken}");
    let pixel = loop {
        let pixel = collector.get("/p.gif?site=open", &flood).await;
        if pixel.status != 200 {
            break pixel;
        }
    };
    assert_eq!((pixel.status, pixel.bytes.len()), (429, 43));
    assert_eq!(pixel.header("avtryck-refusal"), "over_limit");
    // Nothing of a request is read: a site that does not exist makes no difference.
    let broken = loop {
        let reply = collector.post("/e?site=nowhere", &flood, "[[[").await;
        if reply.status != 400 {
            break reply;
        }
    };
    assert_eq!(broken.status, 429);
    let click = loop {
        let target = "/c?site=open&to=https://www.shop.example/x";
        let click = collector.get(target, &flood).await;
        assert_eq!(click.status, 302);
        assert_eq!(click.header("location"), "https://www.shop.example/x");
        if !click.header("avtryck-refusal").is_empty() {
            break click;
        }
    };
    assert_eq!(click.header("avtryck-refusal"), "over_limit");
    // The visitor's page and its forms are refused as well, before cookies and body are read.
    for target in ["/privacy?site=open", "/privacy?site=nowhere"] {
        let page = loop {
            let page = collector.get(target, &flood).await;
            if page.status == 429 {
                break page;
            }
        };
        assert_eq!(page.header("avtryck-refusal"), "over_limit");
    }
    let form = loop {
        let form = collector
            .post("/privacy/choice?site=open", &flood, "token=x")
            .await;
        if form.status == 429 {
            break form;
        }
    };
    assert_eq!(form.header("avtryck-refusal"), "over_limit");
    for target in ["/p.gif?site=open", "/privacy?site=open"] {
        let other = collector.get(target, &from("2.64.2.2")).await;
        assert_eq!(other.status, 200, "{target}");
    }
}

#[tokio::test]
async fn a_visitors_page_is_there_for_a_client_that_is_a_little_over_its_limit() {
    let config = Config::sites().with("limit = { hits_per_second = 1, burst = 2, drop = true }");
    let collector = Collector::start(config).await;
    let client = from("2.64.2.3");
    loop {
        if collector.get("/p.gif?site=open", &client).await.status == 429 {
            break;
        }
    }
    let page = collector.get("/privacy?site=open", &client).await;
    assert_eq!(page.status, 200);
}

#[tokio::test]
async fn the_networks_of_one_ipv6_site_have_an_allowance_together() {
    let limit = "limit = { hits_per_second = 1, burst = 5, drop = true }";
    let collector = Collector::start(Config::sites().with(limit)).await;
    let mut taken = 0;
    for subnet in 0..64 {
        let address = format!("2a00:801:200:{subnet:x}::1");
        let reply = collector.get("/p.gif?site=open", &from(&address)).await;
        taken += u32::from(reply.status == 200);
    }
    // Four times what one network may send, and what comes back meanwhile.
    assert!((20..60).contains(&taken), "{taken}");
    let other = collector
        .get("/p.gif?site=open", &from("2a00:801:200:100::1"))
        .await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn a_body_that_grows_too_much_when_it_is_unpacked_is_refused() {
    use std::io::Write as _;
    let collector = Collector::open().await;
    let text = format!("[{}]", vec![r#"{"e":"bomb"}"#; 40_000].join(","));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() * 50 < text.len(), "{}", packed.len());
    let reply = collector.post_bytes("/e?site=open", &packed).await;
    assert_eq!(
        (reply.status, reply.header("avtryck-refusal")),
        (413, "body_too_large")
    );
    let head = format!(
        "POST /e?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    let pipelined = [head.as_bytes(), &packed].concat();
    assert_eq!(raw(collector.http, &pipelined).await.status, 413);
}
