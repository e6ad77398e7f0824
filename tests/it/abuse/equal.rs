//! One sender repeats every ID: the hits are loaded at once, and reports of them are read at once.

use loadtest::abuse::{ATTACKS, Attack, PARTNER, SITE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::Collector;

/// Hits of each attack, and those that are sent together.
const HITS: u64 = 2_000;
const TOGETHER: u64 = 100;

/// Rows that have the same IDs already: with as many in indexes with chains a batch of 2,000 took
/// half a second, and each later one longer. Their site is unknown, as where its key was refused.
const EQUAL_ROWS: u32 = 100_000;

/// Returns requests of an attack, for the site and the partner of these tests.
fn requests(attack: &Attack, numbers: std::ops::Range<u64>) -> String {
    let mut bytes = Vec::new();
    for number in numbers {
        (attack.request)(number, &mut bytes);
    }
    let text = String::from_utf8(bytes).unwrap();
    text.replace(&format!("site={SITE}"), "site=open")
        .replace(&format!("partner={PARTNER}"), "partner=network")
}

/// Sends hits over one connection, and waits for their replies.
async fn send(collector: &Collector, attack: &Attack) {
    let mut stream = TcpStream::connect(collector.http).await.unwrap();
    for first in (0..HITS).step_by(TOGETHER as usize) {
        let requests = requests(attack, first..first + TOGETHER);
        stream.write_all(requests.as_bytes()).await.unwrap();
        let mut replies = Vec::new();
        let answered = |replies: &[u8]| replies.windows(9).filter(|at| at == b"HTTP/1.1 ").count();
        while answered(&replies) < TOGETHER as usize || !replies.ends_with(b";") {
            assert!(stream.read_buf(&mut replies).await.unwrap() > 0);
        }
        assert!(replies.starts_with(b"HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn hits_that_repeat_every_id_are_loaded_and_reported_at_once() {
    let collector = Collector::open().await;
    let client = collector.database().await;
    let before = format!(
        "select avtryck.make_hit_day((now() at time zone 'UTC')::date); \
         insert into avtryck.hit (received_at, site_key, flags, kind, permit, consent_source, hit_id, \
             visitor_id, partner_uid, maid, device_id, click_id) \
         select now(), 0, 0, 4, 63, 1, gen_random_uuid(), 'aaaaaaaa-0000-0000-0000-000000000001', \
                'constant', 'constant', 'constant', 'constant' from generate_series(1, {EQUAL_ROWS})"
    );
    client.batch_execute(&before).await.unwrap();
    let attacks = ATTACKS.iter().copied().flatten();
    let attacks: Vec<&Attack> = attacks.filter(|a| a.name.starts_with("equal-")).collect();
    assert_eq!(attacks.len(), 3);
    let mut rows = i64::from(EQUAL_ROWS);
    for attack in &attacks {
        send(&collector, attack).await;
        rows += i64::try_from(HITS).unwrap();
        collector
            .wait_for("select count(*) from avtryck.hit", rows)
            .await;
    }
    client
        .batch_execute("set statement_timeout = '20s'")
        .await
        .unwrap();
    for attack in attacks {
        client
            .batch_execute(attack.query.unwrap())
            .await
            .expect(attack.name);
    }
    let sql = "select sum(gross_conversions)::bigint from avtryck.campaign_daily";
    let gross = collector.number(sql).await;
    let sql = "select sum(net_conversions)::bigint from avtryck.campaign_daily";
    let net = collector.number(sql).await;
    let most = collector.number("select avtryck.conversions_max()").await;
    assert!(gross > 1_000 && net <= most, "{gross}, {net}");
}
