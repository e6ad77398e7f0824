//! What a trial tells of segments is what taking the file does.

use std::collections::BTreeSet;

use super::super::effect::Effect;
use super::*;
use crate::import::{CheckedRow, Manifest};
use crate::keys::UserKeyring;
use crate::postgres::import::{self, FileStanding, ImportFile};

/// Devices of whom a file may speak. Of some profile is permitted, and the last belong to one user.
const DEVICES: u32 = 60;
const ROUNDS: u64 = 12;
const KEYS: [&str; 3] = ["house", "rich", "both"];

fn manifest() -> Manifest {
    let now = jiff::Timestamp::from_microsecond(crate::clock::now().0).unwrap();
    let today = jiff::tz::TimeZone::UTC.to_datetime(now).date();
    let until = today + jiff::Span::new().days(300);
    let text = format!(
        "name = \"register\"\nsupplier = \"a register\"\nlegal_basis = \"consent\"\npurpose = [\"profile\"]\n\
                key = {{ kind = \"device_id\", column = \"nr\" }}\nvalid_from = \"2020-01-01\"\nvalid_until = \"{until}\"\n\
                [column.typ]\nattribute = \"housing_type\"\n[column.kr]\nattribute = \"income_band\"\n"
    );
    Manifest::parse(&text, today, &[]).unwrap()
}

fn row(manifest: &Manifest, device: u32, random: &mut fastrand::Rng) -> CheckedRow {
    let (typ, kr) = (
        ["house", "flat"][random.usize(..2)],
        ["low", "middle", "high"][random.usize(..3)],
    );
    let value = |name: &str| {
        Some(match name {
            "nr" => format!("d{device}").into(),
            "typ" => typ.into(),
            _ => kr.into(),
        })
    };
    manifest.check(value, &UserKeyring::new(&[])).unwrap()
}

async fn held(client: &Client) -> BTreeSet<(String, Uuid)> {
    let sql =
        "select key, subject from avtryck.segment_member join avtryck.segment using (segment)";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn begin(client: &mut Client, manifest: &Manifest, file: u8, replaces: bool) -> ImportFile {
    let (mut begun, standing) = import::begin(client, manifest, [file; 32], replaces)
        .await
        .unwrap();
    assert!(matches!(standing, FileStanding::Begun(_)));
    begun.forget_named(client).await.unwrap();
    begun.counts = Default::default();
    begun
}

#[tokio::test]
async fn a_trial_tells_of_segments_what_the_file_will_do() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let manifest = manifest();
    let mut random = fastrand::Rng::with_seed(7);
    let everyone: Vec<CheckedRow> = (0..DEVICES)
        .map(|device| row(&manifest, device, &mut random))
        .collect();
    let subjects = import::subjects(&everyone);
    let permit = "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
                  select unnest($1::uuid[]), 'shop', '', 7, 2, now()";
    client
        .execute(permit, &[&subjects[..50].to_vec()])
        .await
        .unwrap();
    let book = book(&[
        ("house", "housing_type = 'house'"),
        ("rich", "income_band = 'high'"),
        ("both", "housing_type = 'house' and income_band <> 'low'"),
    ]);
    run(client, &book).await;
    for round in 0..ROUNDS {
        let replaces = round % 2 == 1;
        let devices = random.choose_multiple(0..DEVICES, 40);
        let rows: Vec<CheckedRow> = devices
            .into_iter()
            .map(|device| row(&manifest, device, &mut random))
            .collect();
        let number = u8::try_from(round).unwrap();

        let mut effect = Effect::default();
        let mut trial = begin(client, &manifest, number, replaces).await;
        if replaces {
            trial.note_named(client, &rows).await.unwrap();
        }
        let mut transaction = trial.try_store(client, &rows, 0).await.unwrap();
        let named = import::subjects(&rows);
        effect.add(&mut transaction, &book, &named).await.unwrap();
        transaction.rollback().await.unwrap();
        let permitted = |subject: &&Uuid| subjects[..50].contains(*subject);
        assert_eq!(
            effect.matched,
            named.iter().filter(permitted).count() as u64
        );
        if replaces {
            let ended = trial.find_ended(client).await.unwrap();
            let mut transaction = trial.try_end(client, &ended).await.unwrap();
            effect.add(&mut transaction, &book, &ended).await.unwrap();
            transaction.rollback().await.unwrap();
        }
        trial.abandon(client).await.unwrap();
        client
            .execute("select pg_advisory_unlock_all()", &[])
            .await
            .unwrap();

        let before = held(client).await;
        let mut taken = begin(client, &manifest, number, replaces).await;
        if replaces {
            taken.note_named(client, &rows).await.unwrap();
        }
        taken.store(client, &rows, 0).await.unwrap();
        taken.finish(client, &manifest).await.unwrap();
        client
            .execute("select pg_advisory_unlock_all()", &[])
            .await
            .unwrap();
        run(client, &book).await;
        let after = held(client).await;
        let count = |key: &str, from: &BTreeSet<(String, Uuid)>, to: &BTreeSet<(String, Uuid)>| {
            from.difference(to).filter(|(of, _)| of == key).count() as u64
        };
        for key in KEYS {
            let changes = [count(key, &after, &before), count(key, &before, &after)];
            assert_eq!(effect.changes(key), changes, "{key} in round {round}");
        }
    }
    assert!(!held(client).await.is_empty());
}

#[tokio::test]
async fn a_trial_names_the_segments_that_change_much_and_those_that_fail() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let manifest = manifest();
    let mut random = fastrand::Rng::with_seed(8);
    let rows: Vec<CheckedRow> = (0..2 * DEVICES)
        .map(|device| row(&manifest, device, &mut random))
        .collect();
    let subjects = import::subjects(&rows);
    let permit = "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
                  select unnest($1::uuid[]), 'shop', '', 7, 2, now()";
    client.execute(permit, &[&subjects]).await.unwrap();
    let mut segments = book(&[("all", "true"), ("known", "housing_type is not null")]);
    run(client, &segments).await;
    fall_asleep(client).await;
    run(client, &segments).await;
    segments.segments.extend(
        unchecked(
            "broken",
            "1 / (length(income_band) - length(income_band)) = 1",
        )
        .segments,
    );
    let mut effect = Effect::default();
    let mut trial = begin(client, &manifest, 1, false).await;
    let mut transaction = trial.try_store(client, &rows, 0).await.unwrap();
    effect
        .add(&mut transaction, &segments, &subjects)
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    let told = effect.finish(client).await.unwrap();
    let told: Vec<_> = told
        .iter()
        .map(|one| (&*one.segment, one.enter.as_deref(), one.error.is_some()))
        .collect();
    assert_eq!(
        told,
        [("known", Some("about 120"), false), ("broken", None, true)]
    );
    let stored: i64 = count(client, "select count(*) from avtryck.attribute_value").await;
    assert_eq!(stored, 0);
}
