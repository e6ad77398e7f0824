#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::clock::UnixMicros;
use crate::hit::subject::Subject;
use crate::hit::{Flags, VisitorId};
use crate::postgres::batch::position;
use crate::postgres::batch::position::SpoolPosition;
use crate::postgres::server::embedded::testing::TestDatabase;
use crate::postgres::subject;
use crate::row::exposure::Act;

/// 2026-11-24T12:00:00Z.
const NOON: i64 = 1_795_521_600_000_000;

/// Anna sees or clicks the one creative, that many milliseconds past noon.
fn contact(act: Act, millis: i64) -> AdContact {
    AdContact {
        subject: [0xa1; 16],
        creative_key: 1,
        at: UnixMicros(NOON + millis * 1000),
        act,
    }
}

const SHOWN: Act = Act::Impression;
const CLICKED: Act = Act::Click(Flags::NO_IMPRESSION.with(Flags::FAST_CLICK));

/// The batch before, as the loader has it in memory, and how far its spool is loaded.
#[derive(Default)]
struct Before {
    added: PairTotals,
    end: u64,
}

/// Counts a batch that is looked up once the one before it is committed; the number and flag of
/// each hit.
async fn batch(
    database: &mut TestDatabase,
    before: &mut Before,
    hits: &[AdContact],
) -> Vec<(i32, &'static str)> {
    let spool_id = [9; 16];
    let mut earlier = look_up(&database.client, spool_id, hits.iter())
        .await
        .unwrap();
    earlier.complete(&before.added, (0, before.end));
    let transaction = database.client.transaction().await.unwrap();
    let (exposures, added) = earlier.number(hits);
    keep(&transaction, &added).await.unwrap();
    let from = (before.end > 0).then_some((0, before.end));
    *before = Before {
        added,
        end: before.end + 1,
    };
    let to = SpoolPosition {
        position: (0, before.end),
        records: 0,
    };
    assert!(
        position::advance_one(&transaction, spool_id, from, to)
            .await
            .unwrap()
            .is_some()
    );
    transaction.commit().await.unwrap();
    let words = exposures.iter().map(|exposure| {
        let flag = match exposure.flags {
            Flags::NO_IMPRESSION => "no_impression",
            Flags::FAST_CLICK => "fast_click",
            _ => "",
        };
        (exposure.number, flag)
    });
    words.collect()
}

/// The one pair, which is the same before and after it is added up.
async fn stored(database: &TestDatabase) -> String {
    let sql = "select concat_ws(' ', to_char(first_at, 'MI:SS.MS'), to_char(last_at, 'MI:SS.MS'), impressions, clicks) \
               from avtryck.exposure_detail";
    let read = async || database.client.query_one(sql, &[]).await.unwrap().get(0);
    let kept: String = read().await;
    add_up(&database.client).await.unwrap();
    assert_eq!(kept, read().await);
    kept
}

#[tokio::test]
async fn several_of_each_in_one_batch_count_in_their_order() {
    let (mut database, mut before) = (TestDatabase::migrated().await, Before::default());
    let hits = [
        contact(SHOWN, 0),
        contact(CLICKED, 99),
        contact(SHOWN, 200),
        contact(CLICKED, 300),
        contact(CLICKED, 299),
        // What carries no flag of its own may be as fast as it likes.
        contact(Act::Click(Flags::default()), 201),
    ];
    assert_eq!(
        batch(&mut database, &mut before, &hits).await,
        [
            (1, ""),
            (1, "fast_click"),
            (2, ""),
            (2, ""),
            (2, "fast_click"),
            (2, "")
        ]
    );
    assert_eq!(stored(&database).await, "00:00.000 00:00.200 2 4");
}

#[tokio::test]
async fn a_click_is_judged_by_the_impression_before_it_though_it_lies_in_another_batch() {
    let (mut database, mut before) = (TestDatabase::migrated().await, Before::default());
    let hits = [contact(SHOWN, 0)];
    assert_eq!(batch(&mut database, &mut before, &hits).await, [(1, "")]);
    let hits = [
        contact(CLICKED, 60),
        contact(CLICKED, 110),
        contact(SHOWN, 120),
        contact(CLICKED, 130),
        contact(CLICKED, 230),
    ];
    assert_eq!(
        batch(&mut database, &mut before, &hits).await,
        [
            (1, "fast_click"),
            (1, ""),
            (2, ""),
            (2, "fast_click"),
            (2, "")
        ]
    );
    assert_eq!(stored(&database).await, "00:00.000 00:00.120 2 4");
}

#[tokio::test]
async fn a_click_that_nothing_came_before_has_no_impression() {
    let (mut database, mut before) = (TestDatabase::migrated().await, Before::default());
    let hits = [
        contact(CLICKED, 10),
        contact(Act::Click(Flags::FAST_CLICK), 20),
    ];
    assert_eq!(
        batch(&mut database, &mut before, &hits).await,
        [(0, "no_impression"), (0, "")]
    );
    assert_eq!(stored(&database).await, "00:00.010 00:00.020 0 2");
    let hits = [contact(CLICKED, 30), contact(SHOWN, 40), contact(SHOWN, 50)];
    assert_eq!(
        batch(&mut database, &mut before, &hits).await,
        [(0, "no_impression"), (1, ""), (2, "")]
    );
    assert_eq!(stored(&database).await, "00:00.040 00:00.050 2 3");
}

#[tokio::test]
async fn a_batch_counts_the_one_before_it_once_whenever_it_was_looked_up() {
    let (mut database, mut before) = (TestDatabase::migrated().await, Before::default());
    batch(
        &mut database,
        &mut before,
        &[contact(SHOWN, 0), contact(SHOWN, 10)],
    )
    .await;
    let beside = database.connect().await;
    let next = [contact(SHOWN, 1_000)];
    let early = look_up(&beside, [9; 16], next.iter()).await.unwrap();
    batch(&mut database, &mut before, &[contact(SHOWN, 500)]).await;
    let late = look_up(&beside, [9; 16], next.iter()).await.unwrap();
    add_up(&beside).await.unwrap();
    let later = look_up(&beside, [9; 16], next.iter()).await.unwrap();
    // Of a spool that nothing was loaded of, the batch before is always on its way.
    let other = look_up(&beside, [8; 16], next.iter()).await.unwrap();
    for (mut earlier, number) in [(early, 4), (late, 4), (later, 4), (other, 5)] {
        earlier.complete(&before.added, (0, before.end));
        let (exposures, _) = earlier.number(&next);
        assert_eq!(exposures[0].number, number);
    }
}

#[tokio::test]
async fn one_subject_is_found_by_index_in_the_view_and_many_are_looked_up_by_key() {
    let database = TestDatabase::migrated().await;
    database
        .client
        .batch_execute(
            "insert into avtryck.exposure select gen_random_uuid(), n, now(), now(), 1, 0 \
             from generate_series(1, 20000) as n; analyze avtryck.exposure",
        )
        .await
        .unwrap();
    set_up(&database.client).await.unwrap();
    let look_up = include_str!("look_up.sql")
        .replace(
            "unnest($1, $2)",
            "unnest(array[gen_random_uuid()], array[1::bigint])",
        )
        .replace("$3", "null");
    for sql in [
        "select * from avtryck.exposure_detail where subject = 'a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1'",
        &look_up,
    ] {
        let rows = database
            .client
            .query(&format!("explain {sql}"), &[])
            .await
            .unwrap();
        let plan: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan on exposure "), "{plan}");
        assert!(
            plan.contains("using exposure_pkey") || plan.contains("on exposure_pkey"),
            "{plan}"
        );
    }
}

#[tokio::test]
async fn pages_are_compressed_in_the_wal_where_the_role_may_say_so_and_elsewhere_it_goes_without() {
    let client = TestDatabase::migrated().await.client;
    let setting = async |name| -> String {
        let row = client.query_one(&format!("show {name}"), &[]).await;
        row.unwrap().get(0)
    };
    let sql = "create role may_not; create role may; grant set on parameter wal_compression to may";
    client.batch_execute(sql).await.unwrap();
    for (role, compression) in [("none", "lz4"), ("may_not", "off"), ("may", "lz4")] {
        let sql = format!("reset all; set role {role}");
        client.batch_execute(&sql).await.unwrap();
        set_up(&client).await.unwrap();
        assert_eq!(setting("wal_compression").await, compression, "{role}");
        assert_eq!(setting("synchronous_commit").await, "off");
    }
}

#[tokio::test]
async fn subject_access_finds_what_was_seen_under_each_kind_of_id() {
    let (mut database, mut before) = (TestDatabase::migrated().await, Before::default());
    let visitor = VisitorId([0xa1; 16]);
    let subjects = [
        Subject::Visitor(visitor),
        Subject::Maid("m"),
        Subject::PartnerUid {
            partner: "network",
            uid: "u",
        },
    ];
    let hits = subjects.map(|subject| AdContact {
        subject: match subject {
            Subject::Visitor(visitor) => visitor.0,
            other => other.key(),
        },
        ..contact(SHOWN, 0)
    });
    batch(&mut database, &mut before, &hits).await;
    for subject in &subjects {
        let client = database.connect().await;
        subject::set_up(&client).await.unwrap();
        let mut export = subject::Export::new(*subject);
        let mut lines = Vec::new();
        while let Some(some) = export.next(&client).await.unwrap() {
            lines.extend(some);
        }
        assert_eq!(lines.len(), 1, "{subject:?}");
        assert!(lines[0].contains("\"exposure\""), "{}", lines[0]);
        let removed = subject::remove(&mut database.client, subject)
            .await
            .unwrap();
        assert_eq!(removed.0["exposure"], 1);
    }
}
