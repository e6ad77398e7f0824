#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::cell::Cell;

use tokio_postgres::Client;
use uuid::Uuid;

use super::preview::{preview, scale};
use super::status::{self, SegmentStatus};
use super::{Evaluated, evaluate, fold};
use crate::postgres::server::embedded::testing::TestDatabase;
use crate::segment::column::ProfileColumn;
use crate::segment::{Book, Definition, Guards, Segment, SegmentScope, Words, size};

mod cost;
mod effect;
mod kill;
mod millions;

const TODAY: i32 = 20_000;

fn book(definitions: &[(&str, &str)]) -> Book {
    let definitions = definitions.iter().map(|(key, expression)| Definition {
        key,
        names: [key, key],
        expression,
        scope: SegmentScope::Device,
        is_consented: false,
        min_size: 50,
        is_exported: false,
        last_day: None,
    });
    let guards = Guards {
        classes: &[],
        is_sensitive: &|_| false,
    };
    Book::read(&definitions.collect::<Vec<_>>(), &guards).unwrap()
}

/// A segment whose condition nothing checked.
fn unchecked(key: &str, sql: &str) -> Book {
    Book {
        segments: vec![Segment {
            key: key.to_owned(),
            names: [key.to_owned(), key.to_owned()],
            sql: sql.to_owned(),
            digest: sql.to_owned(),
            min_size: 50,
            last_day: None,
            words: Words::default(),
        }],
    }
}

/// Makes subjects that permit so much, by number from one to another, seen in a place.
async fn people(client: &Client, from: i32, until: i32, permit: i16, place: i64) {
    let sql = format!(
        "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
         select md5(n::text)::uuid, 'shop', '', {permit}, 2, now() from generate_series({from}, {until} - 1) as n; \
         insert into avtryck.subject_seen \
         select md5(n::text)::uuid, 0, {place}, current_date, current_date, 7 from generate_series({from}, {until} - 1) as n;"
    );
    client.batch_execute(&sql).await.unwrap();
}

async fn run(client: &mut Client, book: &Book) -> Evaluated {
    evaluate(client, book, (TODAY, true), &|| false)
        .await
        .unwrap()
        .unwrap()
}

async fn stand(client: &Client, key: &str) -> SegmentStatus {
    let (found, _) = status::read(client).await.unwrap();
    found.into_iter().find(|one| one.key == key).unwrap()
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn members(client: &Client) -> i64 {
    count(client, "select count(*) from avtryck.segment_member").await
}

/// Begins a night, whatever time it is.
async fn fall_asleep(client: &Client) {
    let sql = "update avtryck.segment set full_began_at = now() - interval '2 days'";
    client.batch_execute(sql).await.unwrap();
}

const NEW_PLACES: &str = "
    insert into avtryck.place (key, country, region, city, postal_code) values
    (1, 'SE', 'Skåne', 'Lund', '22100'), (2, 'SE', 'Skåne', 'Höör', '24300'), (3, 'DK', 'Hovedstaden', 'Lund', '1000')";

#[tokio::test]
async fn an_area_of_few_is_no_area_and_without_locate_there_is_none() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client.batch_execute(NEW_PLACES).await.unwrap();
    people(client, 0, 20, 39, 1).await;
    people(client, 20, 39, 39, 2).await;
    people(client, 39, 58, 39, 3).await;
    people(client, 58, 60, 7, 1).await;
    let book = book(&[
        ("lund", "city = 'Lund'"),
        ("hoor", "city = 'Höör' or postal_code = '24300'"),
        ("skane", "region = 'Skåne'"),
        ("nowhere", "city is null and postal_code is null"),
    ]);
    run(client, &book).await;
    let of = async |key: &str| stand(client, key).await.size.unwrap();
    // The other Lund is another area, of 19, and so is what is left of a city by two looks.
    assert_eq!((of("lund").await, of("hoor").await), (20, 0));
    assert_eq!((of("skane").await, of("nowhere").await), (41, 40));
}

#[tokio::test]
async fn two_looks_at_a_size_on_one_day_do_not_tell_of_one_person() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let book = book(&[("all", "true")]);
    people(client, 0, 49, 7, 0).await;
    run(client, &book).await;
    let before = stand(client, "all").await;
    assert!(!before.is_exposed);
    people(client, 49, 60, 7, 0).await;
    assert_eq!(run(client, &book).await.changes, 11);
    let after = stand(client, "all").await;
    assert_eq!((after.size, after.is_exposed), (before.size, false));
    assert_eq!(size::show(after.size.unwrap(), after.min_size), "< 50");
    fall_asleep(client).await;
    run(client, &book).await;
    let night = stand(client, "all").await;
    assert_eq!((night.size, night.is_exposed), (Some(60), true));
    // One who leaves does not show either, nor does the segment vanish before the night.
    let sql = "delete from avtryck.subject_permit where subject in (select subject from avtryck.subject_permit limit 20)";
    client.batch_execute(sql).await.unwrap();
    run(client, &book).await;
    assert_eq!(members(client).await, 40);
    assert_eq!(stand(client, "all").await.size, Some(60));
    fall_asleep(client).await;
    run(client, &book).await;
    assert!(!stand(client, "all").await.is_exposed);
}

#[tokio::test]
async fn a_segment_that_cannot_be_evaluated_keeps_its_members_and_says_so_until_it_can() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    people(client, 0, 60, 7, 0).await;
    run(client, &unchecked("a", "true")).await;
    let broken = unchecked("a", "1 / (profile.permit - profile.permit) > 0");
    people(client, 60, 61, 7, 0).await;
    for _ in 0..2 {
        run(client, &broken).await;
        let stands = stand(client, "a").await;
        assert_eq!(stands.state, "failed");
        assert_eq!(stands.error.as_deref(), Some("division by zero"));
        assert_eq!(members(client).await, 60);
    }
    // Another one is not kept from its work.
    let mut both = broken.clone();
    both.segments.extend(unchecked("b", "true").segments);
    run(client, &both).await;
    assert_eq!(stand(client, "b").await.state, "fresh");
    run(client, &unchecked("a", "true")).await;
    assert_eq!(members(client).await, 61 + 61);
    let stands = stand(client, "a").await;
    assert_eq!((&*stands.state, stands.error), ("fresh", None));
}

#[tokio::test]
async fn an_evaluation_that_is_stopped_anywhere_goes_on_where_it_was() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let book = book(&[("all", "true"), ("none", "false")]);
    people(client, 0, 20_000, 7, 0).await;
    let mut behind = 0;
    for steps in 1..200 {
        let left = Cell::new(steps);
        let is_over = || {
            left.set(left.get() - 1);
            left.get() <= 0
        };
        evaluate(client, &book, (TODAY, true), &is_over)
            .await
            .unwrap();
        if stand(client, "none").await.state == "fresh" {
            break;
        }
        behind += 1;
    }
    assert!(behind > 3, "{behind}");
    assert_eq!(members(client).await, 20_000);
    assert_eq!(
        count(client, "select count(*) from avtryck.segment_change").await,
        20_000
    );
    // The whole night once more changes nothing.
    fall_asleep(client).await;
    assert_eq!(run(client, &book).await.changes, 0);
}

#[tokio::test]
async fn one_collector_evaluates_at_a_time() {
    let mut database = TestDatabase::migrated().await;
    let mut other = database.connect().await;
    let book = book(&[("all", "true")]);
    let lock = "select pg_advisory_lock(x'7365676d656e7473'::bigint)";
    database.client.batch_execute(lock).await.unwrap();
    let evaluated = evaluate(&mut other, &book, (TODAY, true), &|| false).await;
    assert_eq!(evaluated.unwrap(), None);
    let unlock = "select pg_advisory_unlock_all()";
    database.client.batch_execute(unlock).await.unwrap();
    run(&mut database.client, &book).await;
}

#[tokio::test]
async fn a_segment_ends_after_its_last_day_or_an_hour_without_a_collector_that_has_it() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    people(client, 0, 60, 7, 0).await;
    let mut both = book(&[("a", "true"), ("b", "true")]);
    both.segments[1].last_day = Some(TODAY);
    run(client, &both).await;
    assert_eq!(members(client).await, 120);
    let sql = "update avtryck.segment set claimed_at = now() - interval '2 hours' where key = 'a'";
    client.batch_execute(sql).await.unwrap();
    let only = Book {
        segments: both.segments[1..].to_vec(),
    };
    // By a clock that is not believed nothing ends.
    evaluate(client, &only, (TODAY + 1, false), &|| false)
        .await
        .unwrap();
    assert_eq!(members(client).await, 120);
    run(client, &only).await;
    assert_eq!(members(client).await, 60);
    evaluate(client, &only, (TODAY + 1, true), &|| false)
        .await
        .unwrap();
    assert_eq!(members(client).await, 0);
    let ended = "select count(*) from avtryck.segment_change where reason = 'end' and not is_entry";
    assert_eq!(count(client, ended).await, 120);
    assert!(status::read(client).await.unwrap().0.is_empty());
    // One that comes back has the number that it had.
    run(client, &both).await;
    assert_eq!(
        count(client, "select max(segment)::bigint from avtryck.segment").await,
        2
    );
}

/// Adds facts of one subject as a batch does.
async fn add_facts(client: &Client, names: i32, permit: i16, kind: &str) {
    let sql = format!(
        "insert into avtryck.subject_day_part \
         select array_agg(md5('0')::uuid), array_agg('shop'::text), array_agg(''::text), array_agg('{kind}'::text), array_agg('n' || n), \
                array_agg(1), array_agg(0::bigint), array_agg(0::bigint), array_agg({permit}::smallint), array_agg(now()) \
         from generate_series(1, {names}) as n"
    );
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn hostile_names_do_not_make_a_subject_grow_nor_hide_what_is_known() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    people(client, 0, 1, 7, 0).await;
    add_facts(client, 3, 7, "page").await;
    fold(client).await.unwrap();
    for _ in 0..3 {
        add_facts(client, 1_000, 7, "page").await;
        add_facts(client, 1_000, 7, "event").await;
        fold(client).await.unwrap();
    }
    let names = async |kind: &str| {
        let sql = format!("select count(*) from avtryck.subject_day where kind = '{kind}'");
        count(client, &sql).await
    };
    assert_eq!((names("page").await, names("event").await), (50, 50));
    let sql = "select n::bigint from avtryck.subject_day where kind = 'page' and name = 'n2'";
    assert_eq!(count(client, sql).await, 4);
}

#[tokio::test]
async fn nothing_is_stored_without_the_permit_that_allows_it() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    people(client, 0, 60, 7, 0).await;
    run(client, &book(&[("all", "true")])).await;
    for sql in [
        "insert into avtryck.segment_member select segment, gen_random_uuid(), now(), 3 from avtryck.segment",
        "update avtryck.subject_seen set permit = 5",
        "insert into avtryck.subject_day select subject, now(), 'shop', '', 'event', 'x', 1, 6 from avtryck.subject_seen",
    ] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "23514", "{sql}");
    }
    add_facts(client, 1, 3, "event").await;
    assert!(fold(client).await.is_err());
}

#[tokio::test]
async fn a_refusal_of_profile_empties_everything_in_its_own_transaction() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    people(client, 0, 60, 7, 0).await;
    add_facts(client, 5, 7, "event").await;
    fold(client).await.unwrap();
    run(client, &book(&[("all", "true")])).await;
    add_facts(client, 5, 7, "event").await;
    let sql = "update avtryck.subject_permit set permit = 3, consent_source = 2, at = now() where subject = md5('0')::uuid";
    client.batch_execute(sql).await.unwrap();
    let zero = Uuid::parse_str("cfcd2084-95d5-65ef-66e7-dff9f98764da").unwrap();
    for table in ["subject_day", "subject_seen", "segment_member"] {
        let sql = format!("select count(*) from avtryck.{table} where subject = '{zero}'");
        assert_eq!(count(client, &sql).await, 0, "{table}");
    }
    fold(client).await.unwrap();
    assert_eq!(
        count(client, "select count(*) from avtryck.subject_day").await,
        0
    );
    assert_eq!(members(client).await, 59);
    let sql =
        "select count(*) from avtryck.segment_change where reason = 'withdrawal' and not is_entry";
    assert_eq!(count(client, sql).await, 1);
}

#[tokio::test]
async fn a_preview_estimates_from_a_sample_and_tells_what_members_have_in_common() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client.batch_execute(NEW_PLACES).await.unwrap();
    people(client, 0, 6_000, 7, 1).await;
    people(client, 6_000, 9_000, 7, 3).await;
    let book = book(&[("dk", "country = 'DK'"), ("all", "true")]);
    run(client, &book).await;
    let found = preview(client, &book.segments[0], [0, 50, 100, 150, 200, 250])
        .await
        .unwrap();
    let [members, low, high] = found.members;
    assert!(
        low < 3_000.0 && 3_000.0 < high && low <= members && members <= high,
        "{found:?}"
    );
    assert!(high - low < 4_000.0, "{found:?}");
    assert_eq!(found.overlaps["all"], found.sampled);
    assert_eq!(found.regions["Hovedstaden"], found.sampled);
    assert!(found.subjects > found.sampled);
}

#[test]
fn an_estimate_holds_what_was_found_and_its_interval_shrinks_as_ranges_agree() {
    let [members, low, high] = scale(&[10, 10, 10, 10, 10, 10]);
    assert!((members - 2_560.0).abs() < 1e-9 && low > 1_000.0 && high < 4_000.0);
    let [_, low, high] = scale(&[0; 6]);
    assert!(low.abs() < 1e-9 && high > 0.0);
    let spread = scale(&[0, 40, 3, 60, 1, 2]);
    assert!(spread[2] - spread[1] > high);
    assert!(spread[1] >= 106.0);
}

#[tokio::test]
async fn attributes_count_for_their_subject_its_owner_and_its_area_by_purpose_and_permit() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client.batch_execute(NEW_PLACES).await.unwrap();
    people(client, 0, 30, 55, 1).await;
    people(client, 30, 60, 7, 1).await;
    let sql = "
        insert into avtryck.attribute values (6, 'income_band', 'steps', 'financial', 'x', 'x', 500),
               (10, 'urbanisation', 'steps', 'ordinary', 'x', 'x', 100), (5, 'income', 'number', 'financial', 'x', 'x', 500);
        insert into avtryck.import (name, supplier, legal_basis, purposes, key_kind, partner, columns, valid_from, valid_until)
        values ('pages', 'x', 'consent', '{profile}', 'user', '', '{6,5}', current_date - 9, current_date + 9),
               ('other', 'x', 'consent', '{report}', 'visitor', '', '{6,5}', current_date - 9, current_date + 9),
               ('areas', 'x', 'consent', '{profile,export}', 'postal_code', '', '{10}', current_date - 9, current_date + 9);
        insert into avtryck.attribute_value
        select 1, md5(n::text)::uuid, md5(n::text)::uuid, array['high', '50000'], now() from generate_series(0, 9) as n;
        insert into avtryck.attribute_value values
               (1, md5('owner')::uuid, md5('owner')::uuid, '{middle,200}', now()),
               (2, md5('20')::uuid, md5('20')::uuid, '{high,1}', now());
        insert into avtryck.attribute_area values (3, '22100', '{city}', now());
        insert into avtryck.link_edge (a, b, a_kind, b_kind, partner, first_day, last_day, proved_day, permit, consent_source, source)
        select least(md5(n::text)::uuid, md5('owner')::uuid), greatest(md5(n::text)::uuid, md5('owner')::uuid),
               case when md5(n::text) < md5('owner') then 1 else 5 end, case when md5(n::text) < md5('owner') then 5 else 1 end,
               '', current_date, current_date, current_date, 55, 2, 0
        from generate_series(5, 14) as n;";
    client.batch_execute(sql).await.unwrap();
    let book = book(&[
        ("high", "income_band >= 'high'"),
        ("middle", "income_band in ('middle')"),
        ("rich", "income between 100 and 300"),
        ("town", "urbanisation > 'small_town'"),
    ]);
    let mut partners = book.clone();
    partners.segments[0].sql = partners.segments[0].sql.replace(
        "held.attribute = 6",
        "held.attribute = 6 and 'export' = any(held.purposes)",
    );
    partners.segments[0].digest = "of partners".to_owned();
    run(client, &book).await;
    let of = async |client: &Client, key: &str| stand(client, key).await.size.unwrap();
    // What is imported of a visitor goes before what is of the owner. The import for reports counts
    // for nobody here.
    assert_eq!(
        (of(client, "high").await, of(client, "middle").await),
        (10, 5)
    );
    assert_eq!(of(client, "rich").await, 5);
    // Areas take locate.
    assert_eq!(of(client, "town").await, 30);
    run(client, &partners).await;
    assert_eq!(of(client, "high").await, 0);
}

#[tokio::test]
async fn the_view_has_each_column_that_a_condition_may_name_and_no_other() {
    let database = TestDatabase::migrated().await;
    let sql = "select array_agg(column_name::text order by column_name::text collate \"C\") \
               from information_schema.columns where table_schema = 'avtryck' and table_name = 'profile'";
    let in_view: Vec<String> = database.client.query_one(sql, &[]).await.unwrap().get(0);
    let mut named: Vec<&str> = ProfileColumn::names()
        .chain(["subject", "permit"])
        .collect();
    named.sort_unstable();
    assert_eq!(in_view, named);
}
