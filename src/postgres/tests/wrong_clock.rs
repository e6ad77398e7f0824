//! Hits that a wrong clock stamped: kept and flagged, whatever their time is.

use super::*;
use crate::clock;
use crate::hit::subject::Subject;
use crate::postgres::clock::read_protected_days;
use crate::postgres::partition;
use crate::row::Link;
use crate::row::exposure::{Act, AdContact};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A batch of rows with these times, read at that time.
fn stamped(times: &[i64], read_at: UnixMicros) -> Load {
    let rows = times.iter().enumerate().map(|(number, at)| {
        let received_at = UnixMicros(*at);
        let row = Row {
            received_at,
            ..row(number)
        };
        (number, row, None)
    });
    let mut load = load(rows);
    load.read_at = read_at;
    load
}

/// Whether each row is flagged, in the order of its number.
async fn flagged(client: &Client) -> Vec<bool> {
    let sql = "select 'wrong_clock' = any(flags) from avtryck.hit_detail order by hit_id";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn hits_of_any_time_are_rows_and_those_that_cannot_be_right_are_flagged() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let now = clock::now().0;
    let times = [
        0,
        946_684_800 * SECOND,
        1_420_070_400 * SECOND,
        now - 1000 * DAY,
        now - 100 * DAY,
        now,
        now + 1800 * SECOND,
        now + 5400 * SECOND,
        now + 100 * DAY,
        now + 400 * DAY,
        4_102_444_800 * SECOND,
        253_402_300_799 * SECOND,
    ];
    let before_2026 = now - 1000 * DAY < 1_767_225_600 * SECOND;
    let loaded = commit(client, stamped(&times, UnixMicros(now)))
        .await
        .unwrap();
    assert_eq!((loaded.rows, loaded.rejected), (12, 0));
    let mut expected = [true; 12];
    expected[3] = before_2026;
    expected[4..=6].fill(false);
    assert_eq!(flagged(client).await, expected);
    let kept = "select extract(epoch from received_at)::bigint from avtryck.hit order by hit_id";
    let rows = client.query(kept, &[]).await.unwrap();
    let kept: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!((kept[0], kept[11]), (0, 253_402_300_799));
}

#[tokio::test]
async fn a_clock_that_is_slow_flags_what_it_stamped_and_not_what_waited() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let now = clock::now().0;
    let slow = now - 100 * DAY;
    let times = [slow - 60 * SECOND, slow - SECOND, now - DAY, now - SECOND];
    commit(client, stamped(&times, UnixMicros(slow)))
        .await
        .unwrap();
    assert_eq!(flagged(client).await, [true, true, false, false]);
}

#[tokio::test]
async fn a_clock_that_shows_another_day_each_second_makes_few_partitions_and_loses_no_hit() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let now = clock::now();
    // Near days are never refused, and days that are there already are not either.
    let times: Vec<i64> = (0..80).map(|n| (n * 100 + 1000) * DAY).collect();
    for (batch, from) in [None, Some((1, 100))].into_iter().enumerate() {
        let mut all = times.clone();
        all.push(now.0);
        let load = Load {
            spools: vec![span(from, progress(100 * (batch as u64 + 1)))],
            ..stamped(&all, now)
        };
        let loaded = commit(client, load).await.unwrap();
        assert_eq!((loaded.rows, loaded.rejected), (51, 30), "{batch}");
    }
    let days = "select count(*) from avtryck.hit_day";
    assert_eq!(number(client, days).await, 51);
    let reasons = "select count(distinct payload) from avtryck.rejected_hit where reason like 'received_at is far away%'";
    assert_eq!(number(client, reasons).await, 30);
}

#[tokio::test]
async fn days_of_flagged_hits_are_protected_for_as_long_as_they_are_kept() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let now = clock::now();
    let today = i32::try_from(now.day()).unwrap();
    let (slow, ahead) = (now.0 - 100 * DAY, now.0 + 400 * DAY);
    let late = now.0 - 95 * DAY;
    let load = stamped(&[slow, ahead, late], UnixMicros(slow + SECOND));
    commit(client, load).await.unwrap();
    assert_eq!(flagged(client).await, [true, true, false]);
    let due = async |client: &Client, kept: i32| {
        let protected = read_protected_days(client, kept).await.unwrap();
        let limits = (today - kept, today);
        let due = partition::read_due(client, limits, &protected)
            .await
            .unwrap();
        due.iter().map(|day| day - today).collect::<Vec<_>>()
    };
    let live = async |client: &Client, days: i32| {
        let sql = "insert into avtryck.clock values (true, now(), now(), null, now(), $1) \
            on conflict (one) do update set days = excluded.days";
        client.execute(sql, &[&days]).await.unwrap();
    };
    // What waited for long goes by its day, and the rest by when it was loaded.
    assert_eq!(due(client, 90).await, [-95]);
    live(client, 89).await;
    assert_eq!(due(client, 90).await, [-95]);
    live(client, 90).await;
    assert_eq!(due(client, 90).await, [-100, -95, 400]);
    for day in due(client, 90).await {
        partition::drop_day(client, today + day).await.unwrap();
    }
    assert_eq!(number(client, "select count(*) from avtryck.hit").await, 0);
}

#[tokio::test]
async fn while_the_clock_is_in_doubt_all_hits_are_flagged_and_their_days_protected() {
    let mut database = TestDatabase::migrated().await;
    let now = clock::now();
    let cases = [
        ("now(), now(), null", false),
        ("now(), now(), now() - interval '23 hours'", true),
        ("now(), now(), now() - interval '25 hours'", false),
        // Before the jobs look: the clock went back, or very far ahead. Less may have been a pause.
        ("now() + interval '2 hours', now(), null", true),
        ("now() - interval '31 days', now(), null", true),
        ("now() - interval '29 days', now(), null", false),
    ];
    for (number, (clocks, is_in_doubt)) in cases.into_iter().enumerate() {
        let client = &mut database.client;
        let sql = format!(
            "delete from avtryck.clock; delete from avtryck.hit; delete from avtryck.wrong_clock_day; \
             insert into avtryck.clock values (true, {clocks}, now(), 7)"
        );
        client.batch_execute(&sql).await.unwrap();
        let load = Load {
            spools: vec![span(
                (number > 0).then_some((1, 100 * number as u64)),
                progress(100 * (number as u64 + 1)),
            )],
            ..stamped(&[now.0 - 3 * DAY], now)
        };
        commit(client, load).await.unwrap();
        assert_eq!(flagged(client).await, [is_in_doubt], "{clocks}");
        let protected = read_protected_days(client, 1).await.unwrap();
        let days: Vec<i64> = protected
            .iter()
            .map(|day| i64::from(*day) - now.day())
            .collect();
        let expected: &[i64] = if is_in_doubt { &[-3, 0] } else { &[] };
        assert_eq!(days, expected, "{clocks}");
    }
}

#[tokio::test]
async fn what_is_derived_from_a_flagged_hit_goes_by_the_right_time() {
    for off in [-100 * DAY, 100 * DAY] {
        let mut database = TestDatabase::migrated().await;
        let client = &mut database.client;
        let now = clock::now().0;
        let read_at = UnixMicros(now + off);
        let mut load = stamped(&[], read_at);
        for (number, key, ago) in [(0, 0, 2 * SECOND), (1, 1, SECOND)] {
            let at = UnixMicros(now + off - ago);
            let contact = AdContact {
                subject: Subject::Maid("m").key(),
                creative_key: 1,
                at,
                act: Act::Impression,
            };
            let row = Row {
                received_at: at,
                ..row(number)
            };
            let record = record(number);
            load.rows
                .push(&row, event(key), Some(contact), &record)
                .unwrap();
            load.link(Link {
                is_proved: false,
                visitor: VisitorId([1; 16]),
                partner: "adform".to_owned(),
                partner_uid: "u".to_owned(),
                at,
            });
        }
        commit(client, load).await.unwrap();
        let sql = "select \
            (select bool_and(last_seen between now() - interval '1 minute' and now() + interval '1 minute') from avtryck.partner_id), \
            (select bool_and(last_at between now() - interval '1 minute' and now() + interval '1 minute') from avtryck.exposure_detail), \
            (select extract(epoch from last_at - first_at)::float8 from avtryck.exposure_detail), \
            (select bool_and(seen_on = (now() at time zone 'UTC')::date) from avtryck.event_key)";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!(
            (row.get(0), row.get(1), row.get(2), row.get(3)),
            (true, true, 1.0, true),
            "{off}"
        );
    }
}

#[tokio::test]
async fn counts_of_any_time_never_fail_a_batch() {
    let mut database = TestDatabase::migrated().await;
    let mut load = plain(0..1);
    for at in [i64::MIN, -1, 0, i64::MAX - 1, i64::MAX] {
        let hit = Hit::new(UnixMicros(at), Kind::PageView, "shop");
        load.counts.add(Count::of(&hit, &load.keyer));
    }
    let loaded = commit(&mut database.client, load).await.unwrap();
    assert_eq!((loaded.rows, loaded.counted), (1, 5));
}
