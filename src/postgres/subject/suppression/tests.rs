#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use super::*;
use crate::enrich::DIMENSIONS;
use crate::hit::{Flags, Kind, Permit, VisitorId};
use crate::postgres::batch::load::{Load, Record, Rejected};
use crate::postgres::server::embedded::testing::TestDatabase;
use crate::postgres::subject::{AskedBy, erase};
use crate::postgres::tests::{NOON, number, progress, row, span};
use crate::postgres::{CommitError, Loaded, commit};
use crate::row::{ChunkOffset, EventKey, Row, Said};

/// A batch with a hit of each visitor, with these flags; those of visitor 9 are flawed.
fn named(from: Option<ChunkOffset>, to: u64, visitors: &[(u8, Flags)]) -> (Load, Vec<u8>) {
    let mut load = Load {
        spools: vec![span(from, progress(to))],
        ..Load::new(&DIMENSIONS, Arc::new(Keyer::of_tests()))
    };
    let mut bytes = Vec::new();
    for (number, (visitor, flags)) in visitors.iter().enumerate() {
        let mut hit = Hit::new(NOON, Kind::Event, "shop");
        hit.permit = Permit::ALL;
        hit.flags = *flags;
        hit.visitor = Some(VisitorId([*visitor; 16]));
        let start = bytes.len();
        hit.encode(&mut bytes);
        let record = Record {
            spool: 0,
            position: (1, to + number as u64),
            payload: start..bytes.len(),
        };
        let row = Row {
            visitor_id: hit.visitor,
            flags: hit.flags,
            ..row(to as usize + number)
        };
        if *visitor == 9 {
            let reason = "it was flawed".to_owned();
            load.rejected.push(Rejected { record, reason });
        } else {
            let event = EventKey {
                key: [to as u8 + number as u8; 16],
                said: Said::default(),
                is_timed: false,
            };
            load.rows.push(&row, Some(event), None, &record).unwrap();
        }
    }
    (load, bytes)
}

async fn commit_named(
    client: &mut Client,
    (mut load, bytes): (Load, Vec<u8>),
) -> Result<Loaded, CommitError> {
    let payloads = Payloads {
        bytes: &bytes,
        keep: &<[u8]>::to_vec,
    };
    commit(client, &mut load, payloads).await
}

#[tokio::test]
async fn hits_of_suppressed_ids_become_counts_and_leave_nothing_else() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let none = Flags::default();
    let hits = [
        (1, none),
        (2, none),
        (1, Flags::PREFETCH),
        (9, none),
        (1, none),
    ];
    let loaded = commit_named(client, named(None, 10, &hits)).await.unwrap();
    assert_eq!((loaded.rows, loaded.suppressed, loaded.rejected), (4, 0, 1));
    let entries = [1, 9].map(|visitor| {
        let subject = Subject::Visitor(VisitorId([visitor; 16]));
        (subject, Reason::Withdrawal)
    });
    add(client, &entries).await.unwrap();
    let next = named(Some((1, 10)), 20, &hits);
    let loaded = commit_named(client, next).await.unwrap();
    assert_eq!((loaded.rows, loaded.suppressed, loaded.rejected), (1, 4, 0));
    assert_eq!(
        loaded.counted, 2,
        "neither what was prefetched nor what was flawed"
    );
    for (sql, expected) in [
        (
            "select count(*) from avtryck.hit where visitor_id = '01010101-0101-0101-0101-010101010101'",
            3,
        ),
        ("select sum(hits)::bigint from avtryck.hit_count", 2),
        ("select count(*) from avtryck.event_key", 5),
        ("select count(*) from avtryck.rejected_hit", 1),
    ] {
        assert_eq!(number(client, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn an_erasure_waits_for_the_batch_that_does_not_know_it() {
    tokio::task::LocalSet::new()
        .run_until(erase_while_a_batch_is_in_flight())
        .await;
}

async fn erase_while_a_batch_is_in_flight() {
    let mut database = TestDatabase::migrated().await;
    let subject = Subject::Visitor(VisitorId([1; 16]));
    let mut eraser = database.connect().await;
    let mut loader = database.connect().await;
    // Holds up a batch after it has read the list, at the table of event IDs.
    let holder = database.client.transaction().await.unwrap();
    holder
        .batch_execute("lock table avtryck.event_key in access exclusive mode")
        .await
        .unwrap();
    let batch = named(None, 10, &[(1, Flags::default())]);
    let loading = tokio::task::spawn_local(async move { commit_named(&mut loader, batch).await });
    let waiting = |kind: &'static str| {
        format!(
            "select count(*) from pg_locks where locktype = '{kind}' and not granted \
                 and database = (select oid from pg_database where datname = current_database())"
        )
    };
    until(&holder, &waiting("relation")).await;
    let erasing = tokio::task::spawn_local(async move {
        let asked_by = AskedBy::Cli;
        erase(&mut eraser, &subject, asked_by).await
    });
    until(&holder, &waiting("advisory")).await;
    holder.commit().await.unwrap();
    assert_eq!(loading.await.unwrap().unwrap().rows, 1);
    let removed = erasing.await.unwrap().unwrap();
    assert_eq!(removed.0["hit"], 1, "the batch's row is found and deleted");
    let sql = "select count(*) from avtryck.hit";
    assert_eq!(number(&database.client, sql).await, 0);
}

/// Waits until a query counts something.
async fn until(client: &Transaction<'_>, sql: &str) {
    let started = std::time::Instant::now();
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(started.elapsed().as_secs() < 60, "{sql}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
