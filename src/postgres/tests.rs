#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod agreement;
mod equal;
mod keyed;
mod readers;
mod refused;
mod report;
mod report_campaign;
mod report_docs;
mod report_grafana;
mod report_sound;
mod report_sum;
mod report_web;
mod report_zone;
mod wrong_clock;

use std::borrow::Cow;
use std::sync::Arc;

use tokio_postgres::Client;

use super::*;
use crate::clock::UnixMicros;
use crate::enrich::{DIMENSIONS, Device, DimensionTable, FactVisitor, sample};
use crate::hit::{ConsentSource, Flags, Hit, Kind, Permit, UserKey, VisitorId};
use crate::postgres::batch::position::{self, SpoolPosition};
use crate::postgres::server::embedded::testing::TestDatabase;
use crate::postgres::server::migrate::{is_current, schema};
use crate::row::dimension::{Found, Keyed};
use crate::row::{ChunkOffset, Count, EventKey, Keyer, Row, Said};

pub(super) const SPOOL: [u8; 16] = [7; 16];
/// 2026-11-24T12:34:56.789012Z.
pub(super) const NOON: UnixMicros = UnixMicros(1_795_523_696_789_012);

/// The keys of a row of which nothing is known but its site.
const SITE_ALONE: [Option<i64>; DIMENSIONS.len()] = {
    let mut keys = [None; DIMENSIONS.len()];
    keys[DimensionTable::Site as usize] = Some(1);
    keys
};

pub(super) fn row(number: usize) -> Row<'static> {
    let mut hit_id = [0; 16];
    hit_id[8..].copy_from_slice(&(number as u64).to_be_bytes());
    Row {
        received_at: NOON,
        keys: Cow::Borrowed(&SITE_ALONE),
        flags: Flags::default(),
        kind: Kind::PageView,
        permit: Permit::STORE.with(Permit::MEASURE),
        consent_source: ConsentSource::Tcf,
        hit_id,
        visitor_id: Some(VisitorId(hit_id)),
        page_url: Cow::Owned(format!(
            "https://telenor.se/mobiltelefoner/{number}?from=start"
        )),
        referrer: Cow::Borrowed("https://www.google.com/"),
        event_name: Cow::Borrowed(""),
        event_id: Cow::Borrowed(""),
        partner_uid: Cow::Borrowed(""),
        maid: Cow::Borrowed(""),
        device_id: Cow::Borrowed(""),
        click_id: Cow::Borrowed(""),
        session_id: Cow::Borrowed(""),
        client_ip: Some("192.0.2.0/24".parse().unwrap()),
        params: Cow::Borrowed(r#"{"plan":"unlimited"}"#),
        user_key: None,
        occurred_at: None,
        protocol: None,
    }
}

/// The key of an event that says nothing.
fn event(number: u8) -> Option<EventKey> {
    Some(EventKey {
        key: [number; 16],
        said: Said::default(),
        is_timed: false,
    })
}

/// The payload of the record with that number: its name.
fn payload(number: usize) -> String {
    format!("payload {number:06}")
}

fn record(number: usize) -> Record {
    let bytes = payload(0).len();
    Record {
        spool: 0,
        position: (1, number as u64),
        payload: number * bytes..(number + 1) * bytes,
    }
}

/// The payloads of that many records.
fn payloads(records: usize) -> Vec<u8> {
    (0..records).flat_map(|n| payload(n).into_bytes()).collect()
}

/// Returns a position in chunk 1, after that many bytes and a tenth as many records.
pub(super) fn progress(offset: u64) -> SpoolPosition {
    SpoolPosition {
        position: (1, offset),
        records: offset / 10,
    }
}

/// What a batch has of the spool.
pub(super) fn span(from: Option<ChunkOffset>, to: SpoolPosition) -> SpoolSpan {
    SpoolSpan {
        spool_id: SPOOL,
        from,
        to,
    }
}

/// Makes a batch of rows, each with its number and event key.
fn load<'a>(rows: impl IntoIterator<Item = (usize, Row<'a>, Option<EventKey>)>) -> Load {
    let mut load = Load {
        spools: vec![span(None, progress(100))],
        ..Load::new(&DIMENSIONS, Arc::new(Keyer::of_tests()))
    };
    for (number, row, event) in rows {
        let record = record(number);
        if let Err(reason) = load.rows.push(&row, event, None, &record) {
            let reason = reason.to_owned();
            load.rejected.push(Rejected { record, reason });
        }
    }
    load
}

/// Makes a batch of plain rows.
fn plain(numbers: std::ops::Range<usize>) -> Load {
    load(numbers.map(|number| (number, row(number), None)))
}

async fn commit(client: &mut Client, mut load: Load) -> Result<Loaded, CommitError> {
    let bytes = payloads(50_001);
    let payloads = Payloads {
        bytes: &bytes,
        keep: &<[u8]>::to_ascii_uppercase,
    };
    super::commit(client, &mut load, payloads).await
}

pub(super) async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Makes a batch without hits that brings one row of each dimension, and a device of which nothing
/// is known. Returns the keys of the others with it.
fn dimensions() -> (Load, [Option<i64>; DIMENSIONS.len()]) {
    let mut hit = Hit::new(NOON, Kind::Click, "telenor.se");
    hit.category = "shop".into();
    (hit.partner, hit.campaign) = ("adform".into(), "spring".into());
    (hit.creative, hit.placement) = ("b\0ig".into(), "top".into());
    hit.publisher = "dn.se".into();
    let facts = sample::facts(&hit);
    let mut load = plain(0..0);
    facts.visit(&mut New(&mut load));
    let unknown = Keyed::new(Device::default());
    New(&mut load).visit(DimensionTable::Device, &unknown);
    (load, facts.keys(&Keyer::of_tests()))
}

/// Adds every dimension row to a batch.
struct New<'l>(&'l mut Load);

impl FactVisitor for New<'_> {
    fn visit(&mut self, dimension: DimensionTable, found: &impl Found) {
        let key = found.key(&self.0.keyer);
        found.add_to(key, self.0.dimensions.of(dimension as usize).unwrap());
    }
}

/// A row with a value in every column.
fn full_row(keys: &[Option<i64>]) -> Row<'_> {
    Row {
        keys: Cow::Borrowed(keys),
        flags: Flags::CLEANED.with(Flags::THIRD_PARTY),
        kind: Kind::Click,
        permit: Permit::ALL,
        event_name: "order".into(),
        event_id: "e-1".into(),
        partner_uid: "p-1".into(),
        maid: "m-1".into(),
        device_id: "d-1".into(),
        click_id: "c-1".into(),
        session_id: "s-1".into(),
        user_key: Some(UserKey([0xee; 16])),
        occurred_at: Some(UnixMicros(NOON.0 - 3_600_000_000)),
        protocol: Some(3),
        client_ip: Some("2001:db8::/48".parse().unwrap()),
        ..row(5)
    }
}

/// Checks that further dimensions fill the columns that are not named.
fn check_further_columns(full: &Words, bare: &serde_json::Value, named: &Words) {
    for (column, value) in full {
        if !named.contains_key(column) {
            assert!(!value.is_null(), "{column}");
            assert!(bare[column].is_null(), "{column}");
        }
    }
}

type Words = serde_json::Map<String, serde_json::Value>;

#[tokio::test]
async fn every_column_comes_back_through_the_view() {
    let mut database = TestDatabase::migrated().await;
    let (dimensions, keys) = dimensions();
    let full = full_row(&keys);
    let bare = Row {
        visitor_id: None,
        page_url: "".into(),
        referrer: "".into(),
        client_ip: None,
        params: "".into(),
        permit: Permit::NONE,
        consent_source: ConsentSource::Default,
        ..row(6)
    };
    let batch = Load {
        dimensions: dimensions.dimensions,
        ..load([(0, full, None), (1, bare, None)])
    };
    let loaded = commit(&mut database.client, batch).await.unwrap();
    assert_eq!(
        (loaded.rows, loaded.new_dimensions, loaded.new_days),
        // With the device of which nothing is known.
        (2, DIMENSIONS.len() as u64 + 1, 1)
    );
    let lines = database
        .client
        .query(
            "select to_jsonb(hit_detail)::text from avtryck.hit_detail order by hit_id",
            &[],
        )
        .await
        .unwrap();
    let [full, bare] = [0, 1]
        .map(|line: usize| serde_json::from_str::<serde_json::Value>(lines[line].get(0)).unwrap());
    let expected = serde_json::from_str::<Words>(
        r#"{
            "hit_id": "00000000-0000-0000-0000-000000000005",
            "received_at": "2026-11-24T12:34:56.789012+00:00",
            "kind": "click", "site": "telenor.se", "site_category": "shop",
            "page_url": "https://telenor.se/mobiltelefoner/5?from=start",
            "utm_source": null, "utm_medium": null, "utm_campaign": null, "utm_term": null,
            "utm_content": null, "gclid": null, "gbraid": null, "wbraid": null, "dclid": null,
            "msclkid": null, "fbclid": null, "ttclid": null, "twclid": null, "li_fat_id": null,
            "page_title": null, "screen": null, "viewport": null, "language": null,
            "browser_time_zone": null,
            "referrer": "https://www.google.com/",
            "visitor_id": "00000000-0000-0000-0000-000000000005",
            "country": "country of place", "region": "region of place", "city": "city of place",
            "postal_code": "postal_code of place", "latitude": 6.5, "longitude": 7.5,
            "time_zone": "time_zone of place", "asn": 4701, "network": "name of network",
            "device_class": "phone", "device_brand": "brand of device",
            "device_model": "model of device", "os": "os of device",
            "os_version": "os_version of device", "browser": "browser of device",
            "browser_version": "browser_version of device",
            "is_bot": true, "flags": ["cleaned", "third_party"],
            "permit": ["store", "measure", "profile", "match", "link", "locate"],
            "consent_source": "tcf", "partner": "adform", "partner_uid": "p-1", "maid": "m-1",
            "device_id": "d-1", "campaign": "spring", "creative": "b\ufffdig",
            "placement": "top", "publisher": "dn.se", "event_name": "order", "event_id": "e-1",
            "client_ip": "2001:db8::/48", "params": {"plan": "unlimited"},
            "click_id": "c-1", "exposure_number": null, "seen_before": null,
            "user_key": "eeeeeeee-eeee-eeee-eeee-eeeeeeeeeeee", "session_id": "s-1",
            "occurred_at": "2026-11-24T11:34:56.789012+00:00", "protocol": "matomo",
            "device_name": null, "page_domain": "domain of page_domain", "page_category": "shop",
            "page_category_source": "source of page_domain", "is_sensitive_page": true
            }"#,
    )
    .unwrap();
    let full = full.as_object().unwrap();
    for (column, value) in &expected {
        assert_eq!(full.get(column), Some(value), "{column}");
    }
    check_further_columns(full, &bare, &expected);
    for column in [
        "visitor_id",
        "page_url",
        "site",
        "country",
        "client_ip",
        "params",
        "os",
        "user_key",
        "session_id",
        "occurred_at",
    ] {
        assert!(bare[column].is_null(), "{column}");
    }
    assert_eq!(bare["permit"], serde_json::json!([]));
    assert_eq!(bare["consent_source"], "default");
    assert_eq!(bare["protocol"], "native");
}

#[tokio::test]
async fn bad_rows_among_twenty_thousand_are_set_aside_and_the_rest_loaded() {
    let mut database = TestDatabase::migrated().await;
    let mut rows: Vec<_> = (0..20_000).map(|n| (n, row(n), None)).collect();
    rows[3].1.page_url = "https://telenor.se/\0".into();
    rows[4].1.received_at = UnixMicros(i64::MAX);
    rows[777].1.params = "{".into();
    rows[777].2 = event(1);
    rows[778].1.params = r#"{"a":"\u0000"}"#.into();
    rows[19_999].1.params = Cow::Owned("[".repeat(200_000));
    let mut batch = load(rows);
    batch.rejected.push(Rejected {
        record: record(50_000),
        reason: "field 3 is not\0 UTF-8".into(),
    });
    let loaded = commit(&mut database.client, batch).await.unwrap();
    assert_eq!((loaded.rows, loaded.rejected), (19_995, 6));
    assert_eq!(
        number(&database.client, "select count(*) from avtryck.hit").await,
        19_995
    );
    assert_eq!(
        number(&database.client, "select count(*) from avtryck.event_key").await,
        0
    );
    let rejected = database
        .client
        .query(
            "select byte_offset, reason, payload from avtryck.rejected_hit order by byte_offset",
            &[],
        )
        .await
        .unwrap();
    let reasons = ["received_at", "22P02", "22P05", "54001", "field 3"];
    assert!(rejected[0].get::<_, &str>(1).contains("NUL"));
    for (line, reason) in rejected[1..].iter().zip(reasons) {
        assert!(line.get::<_, &str>(1).starts_with(reason), "{line:?}");
    }
    for (line, number) in rejected.iter().zip([3, 4, 777, 778, 19_999, 50_000]) {
        assert_eq!(line.get::<_, i64>(0), number as i64);
        assert_eq!(
            line.get::<_, &[u8]>(2),
            payload(number).to_ascii_uppercase().as_bytes()
        );
    }
    let position = position::read(&database.client, SPOOL).await.unwrap();
    assert_eq!(position, Some(progress(100)));
}

#[tokio::test]
async fn a_second_loader_finds_the_position_moved_and_stores_nothing() {
    let mut database = TestDatabase::migrated().await;
    assert_eq!(position::read(&database.client, SPOOL).await.unwrap(), None);
    let mut other = database.connect().await;
    let (one, two) = tokio::join!(
        commit(&mut database.client, plain(1..2)),
        commit(&mut other, plain(1..2))
    );
    assert!(one.is_ok() != two.is_ok());
    let failed = one.err().or(two.err()).unwrap();
    assert!(matches!(failed, CommitError::Moved), "{failed}");

    let next = |from, to| Load {
        spools: vec![span(from, to)],
        ..plain(1..2)
    };
    let stale = commit(&mut other, next(Some((1, 99)), progress(120))).await;
    assert!(matches!(stale, Err(CommitError::Moved)));
    commit(&mut other, next(Some((1, 100)), progress(160)))
        .await
        .unwrap();
    assert_eq!(number(&other, "select count(*) from avtryck.hit").await, 2);
    let position = position::read(&other, SPOOL).await.unwrap();
    assert_eq!(position, Some(progress(160)));
}

#[tokio::test]
async fn a_repeated_event_id_is_stored_once() {
    let mut database = TestDatabase::migrated().await;
    let three = || load([event(1), event(1), None].map(|event| (1, row(1), event)));
    let loaded = commit(&mut database.client, three()).await.unwrap();
    assert_eq!((loaded.rows, loaded.repeated), (2, 1));
    let batch = Load {
        spools: vec![span(Some((1, 100)), progress(200))],
        ..three()
    };
    let loaded = commit(&mut database.client, batch).await.unwrap();
    assert_eq!((loaded.rows, loaded.repeated), (1, 2));
}

#[tokio::test]
async fn a_url_for_one_use_that_is_used_again_is_stored_as_a_replay() {
    let mut database = TestDatabase::migrated().await;
    let key = event(1);
    let clicked = |number, params: &'static str| Row {
        kind: Kind::Click,
        flags: Flags::ONE_TIME.with(Flags::NEW_VISITOR),
        params: params.into(),
        ..row(number)
    };
    // The third is refused, and must not free the ID of the first.
    let rows = [(1, ""), (2, ""), (3, "{")].map(|(n, params)| (n, clicked(n, params), key));
    let loaded = commit(&mut database.client, load(rows)).await.unwrap();
    assert_eq!((loaded.rows, loaded.repeated, loaded.rejected), (2, 0, 1));
    let next = Load {
        spools: vec![span(Some((1, 100)), progress(200))],
        ..load([(4, clicked(4, ""), key)])
    };
    commit(&mut database.client, next).await.unwrap();
    let sql = "select flags from avtryck.hit order by hit_id";
    let rows = database.client.query(sql, &[]).await.unwrap();
    let flags: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    let replayed = Flags::NEW_VISITOR
        .with(Flags::REPLAYED)
        .bits()
        .cast_signed();
    assert_eq!(flags, [16, replayed, replayed]);
}

#[tokio::test]
async fn a_machine_that_uses_a_url_first_or_again_makes_no_replay() {
    let mut database = TestDatabase::migrated().await;
    let clicked = |number, flags: Flags| Row {
        kind: Kind::Click,
        flags: Flags::ONE_TIME.with(flags),
        ..row(number)
    };
    let (machine, person) = (event(1), event(2));
    let none = Flags::default();
    let rows = [
        (1, clicked(1, Flags::BOT), machine),
        (2, clicked(2, Flags::BOT), machine),
        (3, clicked(3, none), person),
        (4, clicked(4, Flags::BOT), machine),
        (5, clicked(5, none), person),
    ];
    let loaded = commit(&mut database.client, load(rows)).await.unwrap();
    assert_eq!((loaded.rows, loaded.repeated), (5, 0));
    let sql = "select flags from avtryck.hit order by hit_id";
    let rows = database.client.query(sql, &[]).await.unwrap();
    let flags: Vec<u32> = rows
        .iter()
        .map(|row| row.get::<_, i32>(0).cast_unsigned())
        .collect();
    let expected = [Flags::BOT, Flags::BOT, none, Flags::BOT, Flags::REPLAYED];
    assert_eq!(flags, expected.map(Flags::bits));
}

#[tokio::test]
async fn counts_add_up_over_batches() {
    let mut database = TestDatabase::migrated().await;
    let count = Count {
        minute: NOON.0 / 60_000_000,
        site_key: 1,
        ad_key: 0,
        kind: Kind::Impression,
    };
    for (from, to) in [(None, progress(1)), (Some((1, 1)), progress(2))] {
        let mut batch = Load {
            spools: vec![span(from, to)],
            ..plain(0..0)
        };
        (0..6).for_each(|_| batch.counts.add(count));
        let loaded = commit(&mut database.client, batch).await.unwrap();
        assert_eq!(loaded.counted, 6);
    }
    let line = database
        .client
        .query_one(
            "select minute::text, kind, hits, partner from avtryck.hit_count_detail",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(line.get::<_, &str>(0), "2026-11-24 12:34:00+00");
    assert_eq!(line.get::<_, &str>(1), "impression");
    assert_eq!(line.get::<_, i64>(2), 12);
}

#[tokio::test]
async fn migrations_run_twice_and_at_once() {
    let mut database = TestDatabase::empty().await;
    let mut other = database.connect().await;
    let (one, two) = tokio::join!(migrate(&mut database.client), migrate(&mut other));
    one.unwrap();
    two.unwrap();
    migrate(&mut other).await.unwrap();
    assert!(is_current(&other).await.unwrap());
    assert_eq!(
        number(&other, "select count(*) from avtryck.migration").await,
        i64::try_from(schema::migrations::runner().get_migrations().len()).unwrap()
    );
}

#[tokio::test]
async fn each_table_and_view_with_its_columns_and_each_function_says_what_it_holds() {
    let client = TestDatabase::migrated().await.client;
    let sql = "select relname || coalesce('.' || attname, '') from pg_class \
        left join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped \
        where relnamespace = 'avtryck'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') and not relispartition \
          and (obj_description(pg_class.oid, 'pg_class') is null \
               or attnum is not null and col_description(attrelid, attnum) is null) order by 1";
    let rows = client.query(sql, &[]).await.unwrap();
    let bare: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(bare, [""; 0]);
    let sql = "select oid::regprocedure::text from pg_proc \
        where pronamespace = 'avtryck'::regnamespace and obj_description(oid, 'pg_proc') is null \
        order by 1";
    let rows = client.query(sql, &[]).await.unwrap();
    let bare: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(bare, [""; 0]);
    let sql = "select count(*) from pg_attribute where attrelid = 'avtryck.hit_detail'::regclass";
    assert!(number(&client, sql).await > 40);
}

#[tokio::test]
async fn an_error_that_is_not_the_rows_fails_the_batch_whole() {
    let mut database = TestDatabase::migrated().await;
    database
        .client
        .batch_execute("alter table avtryck.hit drop column params cascade")
        .await
        .unwrap();
    let failed = commit(&mut database.client, plain(1..2)).await;
    assert!(matches!(failed, Err(CommitError::Postgres(_))));
    let again = database.connect().await;
    assert_eq!(position::read(&again, SPOOL).await.unwrap(), None);
}

#[tokio::test]
async fn a_connection_commits_durably_and_gives_up_its_locks_whatever_the_database_says() {
    let database = TestDatabase::migrated().await;
    let name = database.config.get_dbname().unwrap();
    for (setting, value) in [
        ("synchronous_commit", "off"),
        ("default_transaction_isolation", "serializable"),
    ] {
        let sql = format!("alter database \"{name}\" set {setting} = '{value}'");
        database.client.batch_execute(&sql).await.unwrap();
    }
    let client = connect(&database.config).await.unwrap();
    for (setting, value) in [
        ("synchronous_commit", "on"),
        ("default_transaction_isolation", "read committed"),
        ("idle_in_transaction_session_timeout", "150s"),
    ] {
        let row = client
            .query_one(&format!("show {setting}"), &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, String>(0), value);
    }
}
