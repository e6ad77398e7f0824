//! Measures how fast reports are read: `make bench-report`.
//!
//! It fills a Postgres of its own with days of hits, 60 % of them about ads, rolls them up as the
//! job `report` does, and prints how long reports take, beside the views of before, which computed
//! them from the hits. The last day is rolled up as it is at five minutes to midnight: it is what
//! somebody sees who looks at today, with the hits of the last minutes read as they are.
//!
//! | variable | sets |
//! | --- | --- |
//! | `REPORT_DAYS`, `REPORT_DAY_HITS`, `REPORT_VISITORS` | the size |
//! | `REPORT_BEFORE` | 0 leaves out the views of before, which take hours of 30 days of 2 million hits |
//! | `REPORT_DIR` | the folder of the database |
//! | `REPORT_COPIES` | to how many days before the first one its roll-ups are copied, to ask for reach and frequency of a campaign over all of them |

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement fails by panicking and prints"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use avtryck::clock::UnixMicros;
use avtryck::postgres::server::embedded::Embedded;
use avtryck::postgres::{Database, report};
use tokio_postgres::Client;

/// 2026-11-01T00:00:00Z.
const FIRST_DAY: i64 = 1_793_491_200_000_000;
const DAY_MICROS: i64 = 86_400_000_000;
const MINUTE_MICROS: i64 = 60_000_000;

/// Each query is asked that many times, and the quickest answer counts.
const ROUNDS: usize = 3;

fn variable(name: &str, default: i64) -> i64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run());
}

async fn run() {
    let days = variable("REPORT_DAYS", 30);
    let hits = variable("REPORT_DAY_HITS", 100_000);
    let visitors = variable("REPORT_VISITORS", hits / 2);
    let mut builder = tempfile::Builder::new();
    builder.prefix("report");
    let dir = match std::env::var_os("REPORT_DIR") {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    }
    .unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let embedded = Embedded::start(&dir.path().join("postgres")).await.unwrap();
    let config = embedded.database("report").await.unwrap();
    let client = Database::at(config).connect().await.unwrap();
    fill(&client, days, hits, visitors).await;
    roll_up(&client, days, hits).await;
    measure(&client, days).await;
    measure_late(&client, days).await;
    begin_anew(&client, days).await;
    let copies = variable("REPORT_COPIES", 0);
    if copies > 0 {
        measure_copies(&client, copies).await;
    }
    drop(client);
    embedded.stop().await.unwrap();
}

async fn fill(client: &Client, days: i64, hits: i64, visitors: i64) {
    let begun = Instant::now();
    let oracle = concat!(
        include_str!("../src/postgres/tests/report_oracle.sql"),
        include_str!("../src/postgres/tests/web_oracle.sql")
    );
    let fill = include_str!("report/fill.sql");
    client.batch_execute(oracle).await.unwrap();
    client.batch_execute(fill).await.unwrap();
    for day in 0..days {
        let sql =
            format!("select bench.fill(date '2026-11-01' + {day}, {hits}, {visitors}, 'infinity')");
        client.batch_execute(&sql).await.unwrap();
    }
    client.batch_execute("vacuum analyze").await.unwrap();
    println!(
        "{days} days of {hits} hits, filled in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
}

/// Rolls up all days, the last up to five minutes before its end. Of that, the last three hours are
/// rolled up each ten minutes, as the job does.
async fn roll_up(client: &Client, days: i64, hits: i64) {
    let last = FIRST_DAY + (days - 1) * DAY_MICROS;
    let begun = Instant::now();
    for minutes in (60..=1260).step_by(60).chain((1275..=1435).step_by(10)) {
        let as_of = UnixMicros(last + minutes * MINUTE_MICROS);
        while report::build_next(client, as_of).await.unwrap() {}
    }
    let micros = begun.elapsed().as_secs_f64() * 1e6 / (days * hits) as f64;
    for table in [
        "ad_day",
        "ad_hour",
        "ad_sum",
        "web_sum",
        "web_page_sum",
        "conversion_link",
    ] {
        let sql = format!("vacuum full avtryck.{table}");
        client.batch_execute(&sql).await.unwrap();
    }
    client.batch_execute("analyze").await.unwrap();
    let sql = "select sum(pg_total_relation_size(inhrelid))::bigint \
               from pg_inherits where inhparent = 'avtryck.hit'::regclass";
    let hit_bytes: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    println!("rolled up in {micros:.1} µs a hit, the stored reports among it");
    let mut sum = 0;
    for table in [
        "ad_hour",
        "ad_day",
        "ad_sum",
        "conversion_link",
        "campaign_day",
        "placement_day",
        "quality_day",
        "web_day",
        "web_page_day",
        "web_event_day",
        "web_search_day",
        "audience",
        "web_sum",
        "web_page_sum",
    ] {
        let sql = "select pg_total_relation_size('avtryck.' || $1::text)";
        let bytes: i64 = client.query_one(sql, &[&table]).await.unwrap().get(0);
        let share = 100.0 * bytes as f64 / hit_bytes as f64;
        println!(
            "{table}: {:.1} MB, {share:.2} % of the hits",
            bytes as f64 / 1e6
        );
        sum += bytes;
    }
    let share = 100.0 * sum as f64 / hit_bytes as f64;
    println!("together {share:.2} % of the hits; the goal is 5");
}

/// A report, what asks for it, and what asked for it before there were roll-ups.
struct Asked {
    name: &'static str,
    sql: &'static str,
    before: Option<&'static str>,
    goal_millis: Option<u64>,
}

const LAST: &str = "date '2026-11-01' + $days - 1";

const ASKED: [Asked; 21] = [
    Asked {
        name: "campaign_daily, all days but the last",
        sql: "select * from avtryck.campaign_daily where day < $last",
        before: Some(
            "select hit_day.day, report.* from avtryck.hit_day cross join lateral plain.campaign_of(day) as report where day < $last",
        ),
        goal_millis: Some(300),
    },
    Asked {
        name: "campaign_daily, the last day",
        sql: "select * from avtryck.campaign_daily where day = $last",
        before: Some("select * from plain.campaign_of($last)"),
        goal_millis: Some(300),
    },
    Asked {
        name: "campaign_daily, all days",
        sql: "select * from avtryck.campaign_daily where day <= $last",
        before: None,
        goal_millis: Some(300),
    },
    Asked {
        name: "placement_daily, all days but the last",
        sql: "select * from avtryck.placement_daily where day < $last",
        before: Some(
            "select hit_day.day, report.* from avtryck.hit_day cross join lateral plain.placement_of(day) as report where day < $last",
        ),
        goal_millis: None,
    },
    Asked {
        name: "placement_daily, the last day",
        sql: "select * from avtryck.placement_daily where day = $last",
        before: Some("select * from plain.placement_of($last)"),
        goal_millis: None,
    },
    Asked {
        name: "campaign_quality, all days but the last",
        sql: "select * from avtryck.campaign_quality where day < $last",
        before: Some(
            "select hit_day.day, report.* from avtryck.hit_day cross join lateral avtryck.quality_live(day) as report where day < $last",
        ),
        goal_millis: None,
    },
    Asked {
        name: "reach and frequency of a campaign, all days",
        sql: "select * from avtryck.frequency(date '2026-11-01', $last, array['campaign-3'])",
        before: None,
        goal_millis: Some(1000),
    },
    Asked {
        name: "reach of a campaign by region, all days",
        sql: "select * from avtryck.reach(date '2026-11-01', $last, array['campaign-3'], 'region')",
        before: None,
        goal_millis: Some(1000),
    },
    Asked {
        name: "reach of all campaigns together, all days",
        sql: "select * from avtryck.reach(date '2026-11-01', $last, null, 'all')",
        before: None,
        goal_millis: None,
    },
    Asked {
        name: "conversion_path of the last day",
        sql: "select * from avtryck.conversion_path where day = $last",
        before: None,
        goal_millis: Some(1000),
    },
    Asked {
        name: "conversion_path of all days but the last",
        sql: "select * from avtryck.conversion_path where day < $last",
        before: None,
        goal_millis: None,
    },
    Asked {
        name: "campaign_value of the last day",
        sql: "select * from avtryck.campaign_value where day = $last",
        before: None,
        goal_millis: None,
    },
    Asked {
        name: "campaign_value of all days but the last",
        sql: "select * from avtryck.campaign_value where day < $last",
        before: None,
        goal_millis: None,
    },
    Asked {
        name: "web_daily of the last day",
        sql: "select * from avtryck.web_daily where day = $last",
        before: Some("select * from plain.web_of($last)"),
        goal_millis: Some(1000),
    },
    Asked {
        name: "web_daily, all days but the last",
        sql: "select * from avtryck.web_daily where day < $last",
        before: None,
        goal_millis: Some(300),
    },
    Asked {
        name: "web_page_daily of the last day",
        sql: "select * from avtryck.web_page_daily where day = $last",
        before: Some("select * from plain.web_page_of($last)"),
        goal_millis: Some(1000),
    },
    Asked {
        name: "web_page_daily, all days but the last",
        sql: "select * from avtryck.web_page_daily where day < $last",
        before: None,
        goal_millis: Some(300),
    },
    Asked {
        name: "web_event_daily of the last day",
        sql: "select * from avtryck.web_event_daily where day = $last",
        before: None,
        goal_millis: Some(1000),
    },
    Asked {
        name: "web_search_daily of the last day",
        sql: "select * from avtryck.web_search_daily where day = $last",
        before: None,
        goal_millis: Some(1000),
    },
    Asked {
        name: "campaign_hourly of a day",
        sql: "select * from avtryck.campaign_hourly where day = $last - 1",
        before: None,
        goal_millis: None,
    },
    Asked {
        name: "attribution by time decay, a day",
        sql: "select * from avtryck.attribution($last, $last, 'time_decay', interval '30 days')",
        before: None,
        goal_millis: None,
    },
];

async fn measure(client: &Client, days: i64) {
    println!("| report | ms | goal | the view of before, ms |\n| --- | --- | --- | --- |");
    let last = LAST.replace("$days", &days.to_string());
    let asks_before = variable("REPORT_BEFORE", 1) != 0;
    for Asked {
        name,
        sql,
        before,
        goal_millis,
    } in ASKED
    {
        let took = quickest(client, &sql.replace("$last", &last), ROUNDS).await;
        let before = match before.filter(|_| asks_before) {
            Some(before) => millis(quickest(client, &before.replace("$last", &last), 1).await),
            None => String::new(),
        };
        let goal = goal_millis.map_or(String::new(), |goal| {
            let goal = Duration::from_millis(goal);
            let met = if took <= goal { "met" } else { "missed" };
            format!("{} {met}", millis(goal))
        });
        println!("| {name} | {} | {goal} | {before} |", millis(took));
    }
}

/// Prints how long the reports of the last day take while hits keep coming that are three hours
/// late, before the job has taken their marks and after, and how long the job takes.
async fn measure_late(client: &Client, days: i64) {
    let last = LAST.replace("$days", &days.to_string());
    let late = format!(
        "with late as ( \
             insert into avtryck.hit select (jsonb_populate_record(hit, jsonb_build_object('hit_id', gen_random_uuid()))).* \
             from avtryck.hit where received_at >= avtryck.day_start({last}) + interval '20 hours' \
                                and received_at < avtryck.day_start({last}) + interval '20 hours 10 minutes' limit 100 returning *), \
         copied as (insert into avtryck.late_hit select * from late where kind in (1, 2)) \
         insert into avtryck.report_mark values (avtryck.day_start({last}) + interval '20 hours', true, false)"
    );
    let as_of = UnixMicros(FIRST_DAY + (days - 1) * DAY_MICROS + 1435 * MINUTE_MICROS);
    for round in ["the first time", "again"] {
        client.batch_execute(&late).await.unwrap();
        for state in ["marked", "rolled up"] {
            for report in [
                "campaign_daily",
                "placement_daily",
                "web_daily",
                "web_page_daily",
            ] {
                let sql = format!("select * from avtryck.{report} where day = {last}");
                let took = millis(quickest(client, &sql, ROUNDS).await);
                println!("100 late hits, {round}, {state}: {report} {took} ms");
            }
            let begun = Instant::now();
            if state == "marked" {
                let take = "select avtryck.take_report_marks()";
                client.batch_execute(take).await.unwrap();
                let took = millis(begun.elapsed());
                while report::build_next(client, as_of).await.unwrap() {}
                println!(
                    "100 late hits, {round}: the job {} ms, {took} ms of it to take the marks",
                    millis(begun.elapsed())
                );
            }
        }
    }
}

/// Prints how long it takes to make the sums of the last day anew, as after an erasure.
async fn begin_anew(client: &Client, days: i64) {
    let last = LAST.replace("$days", &days.to_string());
    client.batch_execute("begin").await.unwrap();
    let forget = "select avtryck.forget_sums(null)";
    client.batch_execute(forget).await.unwrap();
    for build in ["build_ad_sum", "build_web_sum"] {
        let begun = Instant::now();
        let until = format!("avtryck.day_start({last}) + interval '1420 minutes'");
        let sql = format!("select avtryck.{build}({last}, 'UTC', {until})");
        client.batch_execute(&sql).await.unwrap();
        println!("{build}, begun anew: {} ms", millis(begun.elapsed()));
    }
    client.batch_execute("rollback").await.unwrap();
}

/// Copies what the first day has in `ad_day` to days before it, and prints how long reach and
/// frequency of a campaign take over all these days: as many impressions as if each day had had the
/// hits of the first. Whom they were shown to is drawn anew, of half a million people.
async fn measure_copies(client: &Client, copies: i64) {
    let sql = format!(
        "select avtryck.make_hit_day(date '2026-11-01' - n) from generate_series(1, {copies}) as n; \
         insert into avtryck.report_span (begins, ends) \
         select begins - n * interval '1 day', ends - n * interval '1 day' \
         from avtryck.report_span cross join generate_series(1, {copies}) as n where begins = '2026-11-01Z'; \
         insert into avtryck.ad_day (span, site_key, ad_key, unmeasured_impressions, unmeasured_clicks, subjects, impressions, others) \
         select span - n * interval '1 day', site_key, ad_key, unmeasured_impressions, unmeasured_clicks, drawn.subjects, impressions, others \
         from avtryck.ad_day cross join generate_series(1, {copies}) as n \
         cross join lateral ( \
             select array_agg((hashint8extended(abs(hashint8extended(subject, n) % 500000), 0) >> 18 << 18) | (subject & 262143) order by place) as subjects \
             from unnest(subjects) with ordinality as each (subject, place)) as drawn \
         where span = '2026-11-01Z' and ad_key = any(avtryck.ad_keys(array['campaign-3'])) \
         order by n, ad_key, site_key; \
         vacuum analyze"
    );
    for sql in sql.split("; ") {
        client.batch_execute(sql).await.unwrap();
    }
    let days = format!("date '2026-11-01' - {copies}, date '2026-11-01'");
    let sums = "select sum(subjects)::bigint, sum(times * subjects)::bigint";
    let sql = format!("{sums} from avtryck.frequency({days}, array['campaign-3'])");
    let row = client.query_one(&sql, &[]).await.unwrap();
    let (people, impressions): (i64, i64) = (row.get(0), row.get(1));
    println!(
        "{} days: {people} people had {impressions} impressions of the campaign",
        copies + 1
    );
    let by_subject = "select count(*) from ( \
        select subject >> 18 as subject, sum(coalesce(times, 1)) \
        from avtryck.ad_day cross join lateral unnest(subjects, impressions) as seen (subject, times) \
        where ad_key = any(avtryck.ad_keys(array['campaign-3'])) and span < '2026-11-02Z' group by 1) as each";
    for (name, sql) in [
        (
            "frequency",
            format!("select * from avtryck.frequency({days}, array['campaign-3'])"),
        ),
        (
            "reach",
            format!("select * from avtryck.reach({days}, array['campaign-3'], 'all')"),
        ),
        (
            "reach by region",
            format!("select * from avtryck.reach({days}, array['campaign-3'], 'region')"),
        ),
        ("added up by subject in plain SQL", by_subject.to_owned()),
    ] {
        let mut took = Vec::new();
        for _ in 0..5 {
            took.push(quickest(client, &sql, 1).await);
        }
        took.sort();
        let millis: Vec<String> = took.into_iter().map(millis).collect();
        println!("{name}: {} ms", millis.join(", "));
    }
}

fn millis(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e3)
}

async fn quickest(client: &Client, sql: &str, rounds: usize) -> Duration {
    let mut quickest = Duration::MAX;
    for _ in 0..rounds {
        let begun = Instant::now();
        client.query(sql, &[]).await.unwrap();
        quickest = quickest.min(begun.elapsed());
    }
    quickest
}
