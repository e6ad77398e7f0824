#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use tokio_postgres::Client;

use crate::postgres::segment::evaluate;
use crate::postgres::server::embedded::testing::TestDatabase;
use crate::segment::{Book, Segment, Words};

const BEGUN: i32 = 20_000;

fn everybody(keys: &[&str]) -> Book {
    let segments = keys.iter().map(|key| Segment {
        key: (*key).to_owned(),
        names: ["namn".to_owned(), "name".to_owned()],
        sql: "true".to_owned(),
        digest: String::new(),
        min_size: 50,
        last_day: None,
        words: Words::default(),
    });
    Book {
        segments: segments.collect(),
    }
}

async fn members(client: &Client) -> Vec<(String, String)> {
    let sql = "select key, right(subject::text, 1) from avtryck.segment_member \
               join avtryck.segment using (segment) order by 1, 2";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn whoever_objects_does_not_come_back_whatever_is_evaluated_and_a_users_word_holds_for_devices()
 {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let book = everybody(&["a", "b"]);
    // 1 is the user of 2; 3 and 4 are alone.
    let sql = "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
               select ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'shop', '', 63, 2, now() \
               from generate_series(1, 4) as n; \
               insert into avtryck.link_edge \
                   (a, b, a_kind, b_kind, first_day, last_day, proved_day, permit, consent_source, source) \
               values ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002', 5, 1, \
                       current_date, current_date, current_date, 63, 2, 0)";
    client.batch_execute(sql).await.unwrap();
    evaluate(client, &book, (BEGUN, true), &|| false)
        .await
        .unwrap();
    assert_eq!(members(client).await.len(), 8);
    let sql = "insert into avtryck.objection (subject, kind, name) values \
               ('00000000-0000-0000-0000-000000000001', 'segment', 'a'), \
               ('00000000-0000-0000-0000-000000000003', 'segments', ''), \
               ('00000000-0000-0000-0000-000000000004', 'supplier', 'a')";
    client.batch_execute(sql).await.unwrap();
    let of = |key: &str, subject: &str| (key.to_owned(), subject.to_owned());
    let at_once = [
        of("a", "2"),
        of("a", "4"),
        of("b", "1"),
        of("b", "2"),
        of("b", "4"),
    ];
    assert_eq!(members(client).await, at_once);
    // The device follows its user in the next minute, and the night brings nobody back.
    for _ in 0..2 {
        evaluate(client, &book, (BEGUN, true), &|| false)
            .await
            .unwrap();
        assert_eq!(members(client).await, at_once[1..]);
        let sql = "update avtryck.segment set full_began_at = now() - interval '2 days'";
        client.batch_execute(sql).await.unwrap();
    }
    // A group of another definition is not another group.
    let mut other = book.clone();
    other.segments[0].digest = "other".to_owned();
    evaluate(client, &other, (BEGUN, true), &|| false)
        .await
        .unwrap();
    assert_eq!(members(client).await, at_once[1..]);
}
