#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::postgres::server::embedded::testing::TestDatabase;
use crate::segment::snapshot::Snapshot;

fn exposed() -> ExposedSegments {
    let keys = (1..=6).map(|number| format!("s{number}")).collect();
    vec![("shop".to_owned(), keys)]
}

async fn prepare(client: &Client) {
    let sql = "insert into avtryck.segment (key, is_exposed) \
               select 's' || number, number <> 6 from generate_series(1, 7) as number order by number";
    client.execute(sql, &[]).await.unwrap();
}

/// What a page would be told, straight from the table.
async fn told(client: &Client) -> BTreeMap<Uuid, Vec<String>> {
    let sql = "select subject, array_agg(key order by segment) from avtryck.segment_member \
               join avtryck.segment using (segment) where is_exposed and key <> 's7' group by subject";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn ask(snapshot: &Snapshot, subject: Uuid) -> Vec<String> {
    snapshot.answer("shop", [Node(*subject.as_bytes())]).keys
}

#[tokio::test]
async fn the_snapshot_follows_the_table_through_any_history_and_any_order_of_commits() {
    let database = TestDatabase::migrated().await;
    let client = database.connect().await;
    prepare(&client).await;
    let mut others = [database.connect().await, database.connect().await];
    let snapshot = Arc::new(Snapshot::default());
    let mut reader = SnapshotReader::new(SnapshotWriter::new(Arc::clone(&snapshot)));
    let mut random = fastrand::Rng::with_seed(11);
    let subjects: Vec<Uuid> = (0..200).map(|_| Uuid::from_u128(random.u128(..))).collect();
    // Each of two writers changes subjects of its own, and commits long after it began.
    for round in 0..25 {
        let [one, other] = &mut others;
        let (mut begun, mut later) = (Vec::new(), Vec::new());
        for (writer, transactions) in [(one, &mut begun), (other, &mut later)] {
            transactions.push(writer.transaction().await.unwrap());
        }
        for (half, transaction) in begun.iter().chain(&later).enumerate() {
            for _ in 0..random.usize(1..8) {
                let subject = subjects[random.usize(..100) + 100 * half];
                let segment = random.i16(1..8);
                let sql = match random.bool() {
                    true => {
                        "insert into avtryck.segment_member values ($2, $1, now(), 7) on conflict do nothing"
                    }
                    false => {
                        "delete from avtryck.segment_member where subject = $1 and segment = $2"
                    }
                };
                transaction
                    .execute(sql, &[&subject, &segment])
                    .await
                    .unwrap();
            }
        }
        // A refresh sees neither, one of them, or both.
        for transactions in [later, begun] {
            if random.bool() {
                reader.refresh(&client, &exposed()).await.unwrap();
            }
            for transaction in transactions {
                transaction.commit().await.unwrap();
            }
        }
        reader.refresh(&client, &exposed()).await.unwrap();
        let told = told(&client).await;
        for subject in &subjects {
            let expected = told.get(subject).cloned().unwrap_or_default();
            assert_eq!(
                ask(&snapshot, *subject),
                expected,
                "round {round}, {subject}"
            );
        }
    }
}

#[tokio::test]
async fn a_segment_that_is_exposed_later_is_read_whole_and_one_that_is_not_any_more_is_told_no_longer()
 {
    let database = TestDatabase::migrated().await;
    let client = database.connect().await;
    prepare(&client).await;
    let snapshot = Arc::new(Snapshot::default());
    let mut reader = SnapshotReader::new(SnapshotWriter::new(Arc::clone(&snapshot)));
    let subject = Uuid::from_u128(5);
    let sql =
        "insert into avtryck.segment_member select segment, $1, now(), 7 from avtryck.segment";
    client.execute(sql, &[&subject]).await.unwrap();
    reader.refresh(&client, &exposed()).await.unwrap();
    assert_eq!(ask(&snapshot, subject), ["s1", "s2", "s3", "s4", "s5"]);
    let expose = "update avtryck.segment set is_exposed = key = 's6'";
    client.execute(expose, &[]).await.unwrap();
    reader.refresh(&client, &exposed()).await.unwrap();
    assert_eq!(ask(&snapshot, subject), ["s6"]);
    reader.refresh(&client, &Vec::new()).await.unwrap();
    assert_eq!(ask(&snapshot, subject), [""; 0]);
}

#[tokio::test]
async fn a_refresh_reads_all_where_notes_may_be_gone() {
    let database = TestDatabase::migrated().await;
    let client = database.connect().await;
    prepare(&client).await;
    let snapshot = Arc::new(Snapshot::default());
    let mut reader = SnapshotReader::new(SnapshotWriter::new(Arc::clone(&snapshot)));
    let subject = Uuid::from_u128(5);
    let change = async |sql: &str, reader: &mut SnapshotReader| {
        client.execute(sql, &[&subject]).await.unwrap();
        client
            .execute("delete from avtryck.segment_touched", &[])
            .await
            .unwrap();
        reader.refresh(&client, &exposed()).await.unwrap();
        ask(&snapshot, subject)
    };
    let (add, remove) = (
        "insert into avtryck.segment_member values (1, $1, now(), 7)",
        "delete from avtryck.segment_member where subject = $1",
    );
    assert_eq!(change(add, &mut reader).await, ["s1"]);
    // Nothing tells a refresh that follows soon.
    assert_eq!(change(remove, &mut reader).await, ["s1"]);
    // The clock of Postgres went ahead, went back, or another database answers.
    for (age, xmin) in [(3600.0, 0), (-3600.0, 0), (0.0, u64::MAX)] {
        let last = reader.last.as_mut().unwrap();
        last.at -= age;
        last.full_at = last.full_at.max(last.at) - 1.0;
        last.xmin = last.xmin.max(xmin);
        assert_eq!(change(remove, &mut reader).await, [""; 0]);
        assert_eq!(change(add, &mut reader).await, [""; 0]);
        reader.last = None;
        reader.refresh(&client, &exposed()).await.unwrap();
        assert_eq!(ask(&snapshot, subject), ["s1"]);
    }
}
