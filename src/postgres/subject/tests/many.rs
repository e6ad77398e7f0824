//! Visitors with more rows than anybody needs: what their questions cost, and that their files are
//! whole.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::*;
use crate::hit::subject::HELD_COUNTED_MAX;

/// The most rows of a day that these tests make of one visitor.
const OF_DAY: i64 = 40_000;

/// Makes that many rows of Anna's, and as many of others, on as few days as [`OF_DAY`] allows, the
/// rows of a day that far apart.
async fn fill(database: &TestDatabase, rows: i64, micros_apart: i64) {
    let sql = format!(
        "select avtryck.make_hit_day('2026-11-24'::date - day) from generate_series(0, 10) as day; \
         insert into avtryck.site values (1, 'shop', null); \
         insert into avtryck.hit (received_at, site_key, flags, kind, permit, consent_source, hit_id, visitor_id, \
                                  page_url, params) \
         select timestamptz '2026-11-24T00:00Z' - number / 2 / {OF_DAY} * interval '1 day' \
                    + number / 2 % {OF_DAY} * interval '{micros_apart} microseconds', \
                1, 0, 1 + number % 4, 3, 1, gen_random_uuid(), \
                case number % 2 when 0 then '{ANNA}'::uuid else gen_random_uuid() end, \
                'https://shop.example/' || number, '{{\"plan\": 1}}' \
         from generate_series(0, 2 * {rows} - 1) as number"
    );
    database.client.batch_execute(&sql).await.unwrap();
}

/// Exports Anna's rows; returns their pages' addresses, and the longest time of a page.
async fn pages_of(client: &Client) -> (Vec<String>, Duration) {
    let mut export = Export::new(Subject::Visitor(ANNA));
    let mut urls = Vec::new();
    let mut longest = Duration::ZERO;
    loop {
        let begun = Instant::now();
        let page = export.next(client).await.unwrap();
        longest = longest.max(begun.elapsed());
        let Some(lines) = page else {
            return (urls, longest);
        };
        let bytes: usize = lines.iter().map(String::len).sum();
        assert!(bytes < 600_000, "{bytes}");
        for line in lines {
            let line: Value = serde_json::from_str(&line).unwrap();
            urls.push(line["page_url"].as_str().unwrap().to_owned());
        }
    }
}

#[tokio::test]
async fn the_page_of_a_visitor_with_very_many_rows_is_answered_soon_and_says_that_they_are_many() {
    let rows = 200_000;
    let database = TestDatabase::migrated().await;
    fill(&database, rows, 1).await;
    let reader = HeldReader::new(database.connect().await).await.unwrap();
    let begun = Instant::now();
    let held = reader.read(ANNA, &scope(), 20).await.unwrap();
    eprintln!("a question about {rows} rows took {:?}", begun.elapsed());
    assert_eq!(held.hits, HELD_COUNTED_MAX + 1);
    assert_eq!(held.last.len(), 20);
    let counted: u64 = held.ads.iter().map(|ad| ad.seen + ad.clicked).sum();
    assert!(counted <= HELD_COUNTED_MAX + 1);
    // The work is that of the rows that are counted, wherever it is measured.
    let client = database.connect().await;
    client
        .batch_execute(super::super::held::SESSION)
        .await
        .unwrap();
    let sql = of_recent(super::super::held::ADS).replace("$1", &format!("'{ANNA}'"));
    let sql = format!("explain (analyze, format json) {sql}").replace("$2", "20");
    let plan: Value = client.query_one(&sql, &[]).await.unwrap().get(0);
    let read = rows_read(&plan[0]["Plan"]);
    // One of two rows is another visitor's.
    assert!(read <= 21_000.0, "{read} rows: {plan:#}");
}

/// How many rows the scans of `hit` in a plan returned or left out.
fn rows_read(node: &Value) -> f64 {
    let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
    let is_of_hit = node["Relation Name"]
        .as_str()
        .is_some_and(|name| name.starts_with("hit_2"));
    let own = match is_of_hit {
        true => (number("Actual Rows") + number("Rows Removed by Filter")) * number("Actual Loops"),
        false => 0.0,
    };
    let below = node["Plans"]
        .as_array()
        .into_iter()
        .flatten()
        .map(rows_read);
    own + below.sum::<f64>()
}

#[tokio::test]
async fn the_file_of_a_visitor_with_very_many_rows_is_whole_and_no_page_takes_long() {
    let rows: usize = 80_000;
    let database = TestDatabase::migrated().await;
    fill(&database, 80_000, 700_000).await;
    let client = database.connect().await;
    set_up(&client).await.unwrap();
    let begun = Instant::now();
    let (urls, longest) = pages_of(&client).await;
    eprintln!(
        "{} rows in {:?}, a page in {longest:?} at most",
        urls.len(),
        begun.elapsed()
    );
    assert_eq!(urls.len(), rows);
    let distinct: HashSet<&str> = urls.iter().map(String::as_str).collect();
    assert_eq!(distinct.len(), rows);
    // Statements are cancelled after half of that.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[tokio::test]
async fn rows_of_one_moment_are_told_apart() {
    let database = TestDatabase::migrated().await;
    fill(&database, 5_000, 0).await;
    let client = database.connect().await;
    set_up(&client).await.unwrap();
    let (urls, _) = pages_of(&client).await;
    let distinct: HashSet<String> = urls.iter().cloned().collect();
    assert_eq!((urls.len(), distinct.len()), (5_000, 5_000));
}

#[tokio::test]
async fn an_export_whose_statements_are_too_slow_asks_for_less_and_is_whole() {
    let database = TestDatabase::migrated().await;
    fill(&database, 40_000, 2_000_000).await;
    let client = database.connect().await;
    set_up(&client).await.unwrap();
    // Reading the whole day takes longer than that, and a small part of it does not.
    let begun = Instant::now();
    let mut export = Export::new(Subject::Visitor(VisitorId([9; 16])));
    while export.next(&client).await.unwrap().is_some() {}
    let limit = (begun.elapsed().as_millis() * 2).max(20);
    let sql = format!("set statement_timeout = {limit}");
    client.batch_execute(&sql).await.unwrap();
    let (urls, _) = pages_of(&client).await;
    assert_eq!(urls.len(), 40_000);
}

#[tokio::test]
async fn between_two_pages_nothing_is_locked_and_what_stays_is_exported_once() {
    let database = TestDatabase::migrated().await;
    fill(&database, 6_000, 1_000_000).await;
    // Of the day before, which retention drops meanwhile.
    let insert = format!(
        "insert into avtryck.hit (received_at, site_key, flags, kind, permit, consent_source, hit_id, visitor_id, page_url) \
         select timestamptz '2026-11-23T00:00Z' + number * interval '1 second', 1, 0, 1, 3, 1, gen_random_uuid(), \
                '{ANNA}', 'https://old.example/' || number from generate_series(1, 3000) as number"
    );
    database.client.batch_execute(&insert).await.unwrap();
    let client = database.connect().await;
    set_up(&client).await.unwrap();
    let row = client
        .query_one("select pg_backend_pid()", &[])
        .await
        .unwrap();
    let backend: i32 = row.get(0);
    let mut export = Export::new(Subject::Visitor(ANNA));
    let mut lines: Vec<String> = Vec::new();
    let mut drops = 0;
    while let Some(some) = export.next(&client).await.unwrap() {
        let state = "select state, xact_start is null and backend_xmin is null, \
                     (select count(*) from pg_locks where pid = $1) from pg_stat_activity where pid = $1";
        let state = database.client.query_one(state, &[&backend]).await.unwrap();
        assert_eq!(
            (state.get(0), state.get(1), state.get(2)),
            (Some("idle"), Some(true), 0_i64)
        );
        lines.extend(some);
        if drops == 0 && !lines.is_empty() {
            drops += 1;
            // Whoever had to wait would fail.
            let drop = "set lock_timeout = '100ms'; drop table avtryck.hit_20261123; \
                        delete from avtryck.hit where page_url like 'https://shop.example/1%4'; \
                        insert into avtryck.hit select * from avtryck.hit where false";
            database.client.batch_execute(drop).await.unwrap();
        }
    }
    assert_eq!(drops, 1);
    let left = "select page_url from avtryck.hit where visitor_id = $1";
    let left = database
        .client
        .query(left, &[&Uuid::from_bytes(ANNA.0)])
        .await
        .unwrap();
    let urls: Vec<String> = lines
        .iter()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["page_url"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let distinct: HashSet<&str> = urls.iter().map(String::as_str).collect();
    assert_eq!(distinct.len(), urls.len());
    assert!(
        left.iter()
            .all(|row| distinct.contains(row.get::<_, &str>(0)))
    );
    assert!(
        urls.len() > left.len(),
        "some of the dropped day came before"
    );
}
