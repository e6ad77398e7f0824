//! Partners' servers and what they report.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;

use avtryck::callback::Signed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::sites;
use crate::support::{Collector, Config, Reply, consent_string, raw};

const SECRET: &str = "a-secret-of-the-partner";
const TOKEN: &str = "0123456789abcdef";

fn partners() -> Config {
    let all = r#"["store", "measure", "profile", "match", "link", "locate"]"#;
    sites().with(&format!(
        r#"
        [[partner]]
        key = "signing"
        secret = "{SECRET}"
        mapping = "openrtb"
        site = "open"
        default_permit = {all}
        fields = {{ foo = "campaign" }}

        [[partner]]
        key = "adform"
        token = "{TOKEN}"
        mapping = "adform"
        site = "open"
        trusted_client = true
        gvl_id = 2

        [[partner]]
        key = "plain"
        token = "{TOKEN}"
        site = "open"
        default_permit = {all}
        "#
    ))
}

fn now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_secs()
}

/// A request as a partner signs it.
fn signed(target: &str, headers: &str, body: &[u8], timestamp: u64) -> Vec<u8> {
    let timestamp = timestamp.to_string();
    let method = "POST";
    let signature = Signed {
        timestamp: &timestamp,
        method,
        target,
        body,
    }
    .signature(SECRET.as_bytes())
    .unwrap();
    let mut request = format!(
        "POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nUser-Agent: partner/1\r\nAvtryck-Timestamp: {timestamp}\r\n\
         Avtryck-Signature: {signature}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

async fn send(collector: &Collector, request: Vec<u8>) -> (u16, String, String) {
    told(raw(collector.http, &request).await)
}

fn told(reply: Reply) -> (u16, String, String) {
    (
        reply.status,
        reply.header("avtryck-refusal").to_owned(),
        reply.body,
    )
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of requests")]
async fn a_callback_is_believed_only_from_its_partner() {
    let collector = Collector::start(partners()).await;
    let body = b"{\"event\":\"conversion\",\"eventid\":\"1\"}";
    let ok = (204, String::new(), String::new());
    assert_eq!(
        send(&collector, signed("/cb/signing", "", body, now())).await,
        ok
    );
    assert_eq!(
        send(&collector, signed("/cb/signing", "", body, now() - 290)).await,
        ok
    );
    let refused = async |request: Vec<u8>, status, reason: &str| {
        let (was, why, _) = send(&collector, request).await;
        assert_eq!((was, why.as_str()), (status, reason));
    };
    refused(
        signed("/cb/signing", "", body, now() - 310),
        403,
        "callback_timestamp",
    )
    .await;
    refused(
        signed("/cb/signing", "", body, now() + 400),
        403,
        "callback_timestamp",
    )
    .await;
    let text = String::from_utf8(signed("/cb/signing", "", body, now())).unwrap();
    for (from, to) in [
        ("conversion", "conversioN"),
        ("POST /cb/signing ", "POST /cb/signing?site=open "),
        ("Avtryck-Signature: ", "Avtryck-Signature: 00"),
    ] {
        let status_reason = (403, "callback_signature");
        refused(
            text.replace(from, to).into_bytes(),
            status_reason.0,
            status_reason.1,
        )
        .await;
    }
    refused(
        signed("/cb/plain", "", body, now()),
        403,
        "callback_signature",
    )
    .await;
    refused(
        signed("/cb/network", "", body, now()),
        403,
        "callback_closed",
    )
    .await;
    refused(
        signed("/cb/nobody", "", body, now()),
        400,
        "partner_unknown",
    )
    .await;
    for (target, headers, status, reason) in [
        ("/cb/plain", &[][..], 401, "callback_unproved"),
        (
            "/cb/plain?token=0123456789abcdee",
            &[],
            403,
            "callback_token",
        ),
        ("/cb/plain?token=", &[], 403, "callback_token"),
        (
            "/cb/plain",
            &[("Authorization", "Bearer nonsense")],
            403,
            "callback_token",
        ),
        (
            "/cb/signing?token=0123456789abcdef",
            &[],
            403,
            "callback_token",
        ),
    ] {
        let (was, why, _) = told(collector.get(target, headers).await);
        assert_eq!((was, why.as_str()), (status, reason), "{target}");
    }
    let by_query = format!("/cb/plain?ev=click&id=a&token={TOKEN}");
    assert_eq!(told(collector.get(&by_query, &[]).await), ok);
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("Authorization", bearer.as_str())];
    let by_header = collector.get("/cb/plain?ev=click&id=b", &headers);
    assert_eq!(told(by_header.await), ok);
    assert_eq!(
        collector.request("PUT", "/cb/plain", &[], "").await.status,
        405
    );
    // The second was the first again.
    collector
        .wait_for("select count(*) from avtryck.hit where kind = 5", 3)
        .await;
    let leaks = "select count(*) from avtryck.hit where params::text like '%0123456789%' or client_ip is not null \
         or visitor_id is not null or device_key is null";
    assert_eq!(collector.number(leaks).await, 0);
    let (_, dir, log) = collector.stop().await;
    assert!(!log.contains(TOKEN) && !log.contains(SECRET), "{log}");
    for file in std::fs::read_dir(dir.path().join("spool")).unwrap() {
        let path = file.unwrap().path();
        let bytes = if path.is_file() {
            std::fs::read(path).unwrap()
        } else {
            Vec::new()
        };
        assert!(
            !bytes
                .windows(TOKEN.len())
                .any(|part| part == TOKEN.as_bytes())
        );
    }
}

#[tokio::test]
async fn callbacks_come_in_each_form_under_the_partners_own_names() {
    let collector = Collector::start(partners()).await;
    let taken = async |request: Vec<u8>| {
        let told = send(&collector, request).await;
        assert_eq!(told.0, 204, "{told:?}");
    };
    let json = r#"{"event":"conversion","eventid":"o-1","foo":"spring","crid":"c1","tagid":"top","seat":"s",
        "price":1.25,"cur":"SEK","device":{"ifa":"AEBE52E7-03EE-455A-B3C4-E57283966239","ua":"VLC","w":5},"user":{"buyeruid":"u1"},
        "site":{"publisher":{"id":"news"}},"click_id":"abc"}"#;
    // A site's object is no site's key: it goes by the partner's own.
    taken(signed(
        "/cb/signing",
        "Content-Type: application/json\r\n",
        json.as_bytes(),
        now(),
    ))
    .await;
    let form = format!(
        "eventtype=click&eventid=f-1&campaignid=spring&bannerid=c2&cookieid=u2&consentstring={}",
        consent_string("made since TCF 2.3, disclosed")
    );
    let target =
        format!("/cb/adform?token={TOKEN}&ipaddress=2.64.0.1&useragent=Roku%2FDVP-12.5&gdpr=1");
    let form_type = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(collector.post(&target, &form_type, &form).await.status, 204);
    let packed =
        gzip(format!("[{json},{{\"event\":\"impression\",\"eventid\":\"o-2\"}}]").as_bytes());
    taken(signed(
        "/cb/signing",
        "Content-Encoding: gzip\r\n",
        &packed,
        now(),
    ))
    .await;
    collector
        .wait_for("select count(*) from avtryck.hit where kind = 5", 3)
        .await;
    let conversion = "select count(*) from avtryck.hit_detail where kind = 'callback' and event_name = 'conversion' and event_id = 'o-1' \
         and site = 'open' and partner = 'signing' and campaign = 'spring' and creative = 'c1' and placement = 'top' and publisher = 'news' \
         and partner_uid = 'u1' and maid = 'aebe52e7-03ee-455a-b3c4-e57283966239' and params->>'price' = '1.25' and params->>'currency' = 'SEK' \
         and params->>'seat_id' = 's' and not params ? 'device.w' and params::text not like '%VLC%'";
    assert_eq!(collector.number(conversion).await, 1);
    let click = "select count(*) from avtryck.hit_detail where event_name = 'click' and campaign = 'spring' and creative = 'c2' \
         and partner_uid = 'u2' and client_ip = '2.64.0.0/24' and country = 'SE' and params is null and consent_source = 'tcf'";
    assert_eq!(collector.number(click).await, 1);
    let impression = "select count(*) from avtryck.hit_detail where event_name = 'impression' and client_ip is null";
    assert_eq!(collector.number(impression).await, 1);
}

#[tokio::test]
async fn an_arrays_items_are_refused_one_by_one_and_nothing_grows_without_a_limit() {
    let collector = Collector::start(partners()).await;
    let json = "Content-Type: application/json\r\n";
    let some = br#"[{"event":"click","eventid":"1"}, 7, {"site":"nowhere"}, {"event":"click","eventid":"2"}]"#;
    let (status, reason, body) = send(&collector, signed("/cb/signing", json, some, now())).await;
    assert_eq!((status, reason.as_str()), (200, "json"));
    assert_eq!(
        body,
        r#"{"first":[{"index":1,"reason":"json"},{"index":2,"reason":"site_unknown"}],"refused":2,"taken":2}"#
    );
    let none = send(&collector, signed("/cb/signing", json, b"[1]", now())).await;
    assert_eq!(
        none,
        (
            400,
            "json".to_owned(),
            r#"{"first":[{"index":0,"reason":"json"}],"refused":1,"taken":0}"#.to_owned()
        )
    );
    for (headers, body, status, reason) in [
        (json, b"{".to_vec(), 400, "json"),
        (
            "Content-Type: image/png\r\n",
            b"x".to_vec(),
            415,
            "content_type",
        ),
        (
            "Content-Encoding: br\r\n",
            b"x".to_vec(),
            415,
            "content_type",
        ),
        (
            "Content-Encoding: gzip\r\n",
            b"no gzip".to_vec(),
            400,
            "body_broken",
        ),
        (
            "Content-Encoding: gzip\r\n",
            gzip(&vec![b' '; 100 << 20]),
            413,
            "body_too_large",
        ),
        ("", vec![b'x'; (1 << 20) + 1], 413, "body_too_large"),
    ] {
        let told = send(&collector, signed("/cb/signing", headers, &body, now())).await;
        assert_eq!((told.0, told.1.as_str()), (status, reason), "{headers}");
    }
    assert!(collector.resident_bytes() < 400 << 20);
    collector
        .wait_for("select count(*) from avtryck.hit where kind = 5", 2)
        .await;
}

/// Sends one callback; `None` where no whole reply came.
async fn report(address: SocketAddr, id: u32) -> Option<u16> {
    let body = format!("{{\"event\":\"conversion\",\"eventid\":\"order-{id}\"}}");
    let request = signed("/cb/signing", "", body.as_bytes(), now());
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(&request).await.ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.ok()?;
    reply.split(' ').nth(1)?.parse().ok()
}

#[tokio::test]
async fn callbacks_that_are_repeated_through_kills_are_stored_once_each() {
    const CALLBACKS: u32 = 400;
    const ROUNDS: u32 = 5;
    let mut collector = Collector::start(partners()).await;
    let mut open: BTreeSet<u32> = (1..=CALLBACKS).collect();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut sending = JoinSet::new();
        // Each that was not acknowledged, and of those that were every third all the same.
        for id in (1..=CALLBACKS).filter(|id| open.contains(id) || id % 3 == round % 3) {
            let address = collector.http;
            sending.spawn(async move { (id, report(address, id).await) });
        }
        let mut replies = 0;
        while let Some(outcome) = sending.join_next().await {
            let (id, status) = outcome.unwrap();
            if status == Some(204) {
                open.remove(&id);
                acknowledged += 1;
            }
            replies += 1;
            if replies == 100 && round + 1 < ROUNDS {
                break;
            }
        }
        if round + 1 < ROUNDS {
            let dir = collector.kill().await;
            sending.join_all().await;
            collector = Collector::start_in(dir).await;
        }
    }
    assert_eq!(open, BTreeSet::new(), "acknowledged in the end");
    assert!(acknowledged > CALLBACKS);
    let stored = "select count(distinct event_id) from avtryck.hit where kind = 5 and event_id like 'order-%'";
    collector.wait_for(stored, i64::from(CALLBACKS)).await;
    assert_eq!(
        collector.number("select count(*) from avtryck.hit").await,
        i64::from(CALLBACKS)
    );
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of requests")]
async fn ids_are_exchanged_with_the_permit_and_in_one_bounce() {
    let match_url = "https://match.partner.example/m?id={uid}&consent={gdpr_consent}&r=https%3A%2F%2Fpx.example%2Fsync%2Fmatching%3Fbounced%3D1%26uid%3D%24UID";
    let config = sites().with(&format!(
        r#"
        [[partner]]
        key = "matching"
        match_url = "{match_url}"
        site = "open"
        default_permit = ["store", "measure", "match"]
        gvl_id = 2

        [[partner]]
        key = "unmatched"
        site = "open"
        default_permit = ["store", "measure"]
        "#
    ));
    let collector = Collector::start(config).await;
    let first = collector.get("/sync/matching?site=open", &[]).await;
    assert_eq!(first.status, 302);
    let cookie = first.cookie().to_owned();
    assert!(cookie.starts_with("avid="));
    let location = first.header("location");
    let visitor = location
        .split("id=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap()
        .replace("%2D", "-");
    assert_eq!(visitor.len(), 36, "{location}");
    let cookies = [("Cookie", cookie.as_str())];
    let back = collector
        .get("/sync/matching?bounced=1&uid=p-1&site=open", &cookies)
        .await;
    assert_eq!(
        (back.status, back.bytes.len(), back.cookies.len()),
        (200, 43, 0)
    );
    // An ID is taken without a bounce, and with one where it is asked for.
    assert_eq!(
        collector
            .get("/sync/matching?uid=p-1&site=open", &cookies)
            .await
            .status,
        200
    );
    assert_eq!(
        collector
            .get("/sync/matching?uid=p-2&bounce=1&site=open", &cookies)
            .await
            .status,
        302
    );
    assert_eq!(
        collector
            .get(
                "/sync/matching?bounced=1&bounce=1&uid=%24UID&site=open",
                &cookies
            )
            .await
            .status,
        200
    );
    let prebid = collector
        .get("/setuid?bidder=matching&uid=p-3&f=i&site=open", &cookies)
        .await;
    assert_eq!((prebid.status, prebid.bytes.len()), (200, 43));
    let blank = collector
        .get("/setuid?bidder=matching&uid=p-3&f=b&site=open", &cookies)
        .await;
    assert_eq!(
        (
            blank.status,
            blank.bytes.len(),
            blank.header("content-type")
        ),
        (200, 0, "text/html")
    );
    // Without the permit nothing is exchanged, and nobody is sent on.
    let store = consent_string("store alone");
    for target in [
        "/sync/unmatched?uid=u-1&site=open".to_owned(),
        format!("/sync/matching?uid=u-2&bounce=1&gdpr=1&gdpr_consent={store}&site=open"),
        "/setuid?bidder=matching&uid=u-3&gdpr=1&site=open".to_owned(),
    ] {
        assert_eq!(
            collector.get(&target, &cookies).await.status,
            200,
            "{target}"
        );
    }
    for target in [
        "/sync/nobody?uid=1",
        "/setuid?bidder=nobody&uid=1",
        "/setuid?uid=1",
    ] {
        let reply = collector.get(target, &cookies).await;
        assert_eq!(
            (reply.status, reply.header("avtryck-refusal")),
            (400, "partner_unknown"),
            "{target}"
        );
        assert_eq!(reply.bytes.len(), 43);
    }
    let links = format!(
        "select count(*) from avtryck.partner_id where visitor_id = '{visitor}' and partner = 'matching' \
         and partner_uid in ('p-1', 'p-2', 'p-3') and first_seen <= last_seen"
    );
    collector.wait_for(&links, 3).await;
    collector
        .wait_for("select count(*) from avtryck.hit where kind = 6", 8)
        .await;
    assert_eq!(
        collector
            .number("select count(*) from avtryck.partner_id")
            .await,
        3
    );
    let told = "select count(*) from avtryck.hit where partner_uid like 'u-%'";
    assert_eq!(collector.number(told).await, 0);

    // 500 partner IDs, and the cookie stays what it was.
    for id in 0..500 {
        let target = format!("/setuid?bidder=matching&uid=many-{id}&site=open");
        assert_eq!(collector.get(&target, &cookies).await.cookies.len(), 0);
    }
    let many = format!("select count(*) from avtryck.partner_id where visitor_id = '{visitor}'");
    collector.wait_for(&many, 503).await;
}
