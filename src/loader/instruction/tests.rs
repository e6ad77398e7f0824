#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::clock;
use crate::hit::Permit;
use crate::loader::tests::{load_once, loader, spool};
use crate::postgres::server::embedded::testing;

const ANNA: VisitorId = VisitorId([0xa1; 16]);
const BERTA: VisitorId = VisitorId([0xb0; 16]);

async fn append(spool: &Spool, kind: Kind, visitors: &[VisitorId]) {
    let appender = spool.appender();
    let deliver = tokio::task::spawn_local(appender.deliver());
    let encoders = visitors.iter().map(|visitor| {
        move |out: &mut Vec<u8>| {
            let mut hit = Hit::new(clock::now(), kind, "site");
            hit.permit = Permit::ALL;
            hit.visitor = Some(*visitor);
            hit.encode(out);
        }
    });
    appender.append_all(encoders).unwrap().await.unwrap();
    deliver.abort();
}

/// Carries out all that is in the spool of instructions.
async fn carry_out(instructions: &Spool, config: &tokio_postgres::Config) {
    let work = Instructions {
        spool: instructions.clone(),
        database: Arc::new(Database::at(config.clone())),
        wait: Duration::from_millis(1),
        metrics: Arc::new(Metrics::new().unwrap()),
        progress: Arc::default(),
    };
    let progress = Arc::clone(&work.progress);
    let (stop, stopped) = watch::channel(false);
    let working = tokio::task::spawn_local(work.run(stopped));
    while progress.position(0) < instructions.committed_position() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.send_replace(true);
    working.await.unwrap();
}

async fn numbers(client: &Client) -> [i64; 4] {
    let row = client
        .query_one(
            "select (select count(*) from avtryck.hit), \
             (select count(*) from avtryck.hit where visitor_id = 'a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1'), \
             (select coalesce(sum(hits), 0)::bigint from avtryck.hit_count), \
             (select count(*) from avtryck.erasure where asked_by = 'visitor')",
            &[],
        )
        .await
        .unwrap();
    [0, 1, 2, 3].map(|column| row.get(column))
}

async fn erase_and_withdraw() {
    let postgres = testing::TestDatabase::migrated().await;
    let dir = tempfile::tempdir().unwrap();
    let [hits, instructions] = ["hits", "instruction"].map(|name| spool(&dir.path().join(name)));
    let loader = loader(&hits, &instructions, postgres.config.clone());
    append(&hits, Kind::PageView, &[ANNA, BERTA, ANNA]).await;
    load_once(&loader).await.unwrap();
    assert_eq!(numbers(&postgres.client).await, [3, 2, 0, 0]);

    // The loader suppresses the hits that wait when she asks, before anything is erased.
    append(&hits, Kind::PageView, &[ANNA, BERTA]).await;
    append(&instructions, Kind::Erasure, &[ANNA]).await;
    load_once(&loader).await.unwrap();
    assert_eq!(numbers(&postgres.client).await, [4, 2, 1, 0]);
    let nothing = position::read(&postgres.client, instructions.id().0).await;
    assert_eq!(nothing.unwrap(), None, "the erasure is still to come");
    carry_out(&instructions, &postgres.config).await;
    assert_eq!(numbers(&postgres.client).await, [2, 0, 1, 1]);

    // A withdrawal leaves rows, and a record that is not an instruction stops nothing.
    append(&instructions, Kind::PageView, &[BERTA]).await;
    append(&instructions, Kind::Withdrawal, &[BERTA]).await;
    carry_out(&instructions, &postgres.config).await;
    append(&hits, Kind::PageView, &[BERTA, ANNA]).await;
    load_once(&loader).await.unwrap();
    assert_eq!(numbers(&postgres.client).await, [2, 0, 3, 1]);

    // All of it again, as after a crash before the position moved, or in a restored database.
    postgres
        .client
        .batch_execute("delete from avtryck.spool_position; delete from avtryck.suppression")
        .await
        .unwrap();
    carry_out(&instructions, &postgres.config).await;
    assert_eq!(numbers(&postgres.client).await, [2, 0, 3, 2]);
    let reached = position::read(&postgres.client, instructions.id().0).await;
    let reached = reached.unwrap().map(into_reached).unwrap();
    assert_eq!(reached.position, instructions.committed_position());
    hits.close();
    instructions.close();
}

#[tokio::test]
async fn an_erasure_covers_what_is_loaded_and_what_waits_and_may_be_carried_out_twice() {
    tokio::task::LocalSet::new()
        .run_until(erase_and_withdraw())
        .await;
}
