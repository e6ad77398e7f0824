//! What visitors ask on their own page: slow readers of files, and visitors with very many rows.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::privacy::{page, token, uuid, visitor};
use crate::support::{Collector, PATIENCE, until};

/// Gives a visitor that many rows on each of some days before today.
async fn fill(collector: &Collector, cookie: &str, days: i32, rows: i32) {
    let sql = format!(
        "select avtryck.make_hit_day(current_date - day) from generate_series(1, {days}) as day; \
         insert into avtryck.hit (received_at, site_key, flags, kind, permit, consent_source, hit_id, visitor_id, \
                                  page_url, event_id) \
         select (current_date - day)::timestamp at time zone 'UTC' + number * interval '1 millisecond', \
                1, 0, 1 + number % 4, 3, 1, gen_random_uuid(), '{}', repeat('x', 200), day || ':' || number \
         from generate_series(1, {days}) as day, generate_series(1, {rows}) as number",
        uuid(cookie)
    );
    let until_migrated = "select count(*) from avtryck.clock";
    collector.wait_for(until_migrated, 1).await;
    collector
        .database()
        .await
        .batch_execute(&sql)
        .await
        .unwrap();
}

/// Asks for the file of a visitor, and returns the connection on which it comes.
async fn ask_for_file(collector: &Collector, cookie: &str) -> TcpStream {
    let seen = page(collector, &[("Cookie", cookie)]).await;
    let body = format!("token={}", token(&seen));
    let mut stream = TcpStream::connect(collector.http).await.unwrap();
    let request = format!(
        "POST /privacy/file?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nCookie: {cookie}\r\nX-Forwarded-For: 2.64.0.7\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The body of a reply in chunks, which ends as it should.
fn unchunked(reply: &[u8]) -> Vec<u8> {
    let head = reply
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let mut rest = &reply[head + 4..];
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
}

/// How long the oldest transaction of the collector lasts, in milliseconds.
const OLDEST: &str = "select coalesce(max(extract(epoch from clock_timestamp() - xact_start) * 1000), 0)::bigint \
                      from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";

#[tokio::test]
async fn a_reader_of_a_byte_a_second_holds_up_neither_retention_nor_the_loader_and_gets_everything()
{
    let collector = Collector::open().await;
    let (anna, bo) = (visitor(&collector).await, visitor(&collector).await);
    // More than the sockets between them hold.
    fill(&collector, &anna, 3, 10_000).await;
    let mut file = ask_for_file(&collector, &anna).await;
    let mut reply = vec![0];
    file.read_exact(&mut reply).await.unwrap();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let database = collector.database().await;
    database
        .batch_execute("set lock_timeout = '2s'")
        .await
        .unwrap();
    for number in 0..4 {
        second.tick().await;
        let mut byte = [0];
        file.read_exact(&mut byte).await.unwrap();
        reply.extend_from_slice(&byte);
        let oldest = collector.number(OLDEST).await;
        assert!(oldest < 1000, "a transaction of {oldest} ms");
        // What retention does, and what a hit needs behind it.
        let drop = format!(
            "do $$ begin execute format('drop table if exists avtryck.hit_%s', \
             to_char(current_date - 3 - {number}, 'YYYYMMDD')); end $$"
        );
        database.batch_execute(&drop).await.unwrap();
        let begun = Instant::now();
        let target = format!("/p.gif?site=open&e=meanwhile-{number}");
        collector.get(&target, &[("Cookie", &bo)]).await;
        let of_bo = format!(
            "select count(*) from avtryck.hit where visitor_id = '{}'",
            uuid(&bo)
        );
        collector.wait_for(&of_bo, number + 1).await;
        let took = begun.elapsed();
        assert!(
            took < Duration::from_secs(2),
            "a hit was loaded after {took:?}"
        );
    }
    tokio::time::timeout(PATIENCE, file.read_to_end(&mut reply))
        .await
        .unwrap()
        .unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&unchunked(&reply)).unwrap();
    let mut ids: Vec<&str> = rows
        .iter()
        .map(|row| row["event_id"].as_str().unwrap())
        .collect();
    let number = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), number, "no row twice");
    for day in 1..=2 {
        let of_day = ids.iter().filter(|id| id.starts_with(&format!("{day}:")));
        assert_eq!(of_day.count(), 10_000, "day {day}, which stayed");
    }
    assert!(
        number < 30_000,
        "the rows of the day that was dropped are not all there"
    );
}

#[tokio::test]
async fn whoever_has_very_many_rows_and_asks_all_the_time_delays_nobody() {
    let collector = Collector::open().await;
    let (greedy, honest) = (visitor(&collector).await, visitor(&collector).await);
    fill(&collector, &greedy, 8, 40_000).await;
    let target = "/p.gif?site=open&u=https%3A%2F%2Fopen.example%2Fhonest";
    collector.get(target, &[("Cookie", &honest)]).await;
    let of_honest = format!(
        "select count(*) from avtryck.hit where visitor_id = '{}'",
        uuid(&honest)
    );
    collector.wait_for(&of_honest, 1).await;
    let seen = page(
        &collector,
        &[("Cookie", &greedy), ("Accept-Language", "en")],
    )
    .await;
    assert!(
        seen.body.contains("of more than 10,000. Times are Swedish"),
        "{}",
        seen.body
    );

    // One address asks by many connections at once, and as many addresses with the same cookie.
    let http = collector.http;
    let attack = |address: String| {
        let request = format!(
            "GET /privacy?site=open HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-Fetch-Dest: document\r\nCookie: {greedy}\r\n\
             X-Forwarded-For: {address}\r\nConnection: close\r\n\r\n"
        );
        tokio::spawn(async move {
            loop {
                let Ok(mut stream) = TcpStream::connect(http).await else {
                    continue;
                };
                let mut reply = Vec::new();
                drop(stream.write_all(request.as_bytes()).await);
                drop(stream.read_to_end(&mut reply).await);
            }
        })
    };
    let attackers: Vec<_> = (0..16)
        .flat_map(|number| ["2.64.1.1".to_owned(), format!("2.64.2.{number}")])
        .map(attack)
        .collect();
    until(async || {
        collector
            .metric("avtryck_refusals_total{reason=\"busy\"}")
            .await
            > 0.0
    })
    .await;
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let begun = Instant::now();
        let seen = page(&collector, &[("Cookie", &honest)]).await;
        slowest = slowest.max(begun.elapsed());
        assert!(
            seen.status == 200 && seen.body.contains("https://open.example/honest"),
            "{}",
            seen.body
        );
    }
    eprintln!("the slowest honest page took {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    for attacker in attackers {
        attacker.abort();
    }
}
