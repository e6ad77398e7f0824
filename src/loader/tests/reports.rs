//! Reports against an oracle that computes them from the hits alone: hits that come in order and
//! late, withdrawals, erasures and expiry, over connections that break, with the jobs in between.

use std::fmt::Write as _;
use std::time::Duration;

use super::exposure::{Random, append_payloads, is_loaded};
use super::*;
use crate::hit::subject::Subject;
use crate::hit::{Flags, VisitorId};
use crate::jobs::{JOBS, JobLimits};
use crate::postgres::report;
use crate::postgres::subject::suppression::{self, Reason};
use crate::postgres::subject::{AskedBy, erase};

const ORACLES: [&str; 2] = [
    include_str!("../../postgres/tests/report_oracle.sql"),
    include_str!("../../postgres/tests/web_oracle.sql"),
];
const STEPS: usize = 70;
/// The most hits of a step.
const STEP_MAX: u64 = 40;
/// 2026-11-20T22:00:00Z.
const BEGIN: i64 = 1_795_212_000_000_000;
/// Where histories begin: there, and a day before days of 25 and of 23 hours in Stockholm.
const BEGINS: [i64; 3] = [BEGIN, BEGIN - 28 * DAY, BEGIN - 238 * DAY];
/// Time zones of sites: `None` is UTC. Days begin at whole hours, at halves and at quarters.
const ZONES: [Option<&str>; 6] = [
    None,
    Some("Europe/Stockholm"),
    Some("America/St_Johns"),
    Some("Asia/Kathmandu"),
    Some("Pacific/Auckland"),
    Some("America/Los_Angeles"),
];
const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1440 * MINUTE;

/// Makes a hit of one of eight people, as the seed determines it.
fn made(at: UnixMicros, random: &mut Random) -> Hit<'static> {
    let kind = match random.below(12) {
        0 => Kind::PageView,
        1..6 => Kind::Impression,
        6..8 => Kind::Click,
        8..11 => Kind::Event,
        _ => Kind::Callback,
    };
    let mut hit = Hit::new(at, kind, ["shop", "news"][random.below(2) as usize]);
    hit.permit = Permit::MEASURE.with(Permit::STORE);
    hit.event_name = match kind {
        Kind::Event => ["conversion", "viewable", "order"][random.below(3) as usize].into(),
        Kind::Callback => ["impression", "click", "conversion"][random.below(3) as usize].into(),
        _ => "".into(),
    };
    let person = random.below(8);
    if kind == Kind::Callback {
        hit.maid = format!("maid-{person}").into();
    }
    if random.below(5) > 0 {
        hit.visitor = Some(VisitorId([person as u8 + 1; 16]));
    }
    if random.below(4) == 0 {
        hit.category = "shoes".into();
    }
    if random.below(3) == 0 {
        hit.session_id = format!("s-{}", random.below(4)).into();
    }
    if random.below(3) == 0 {
        let earlier = random.below(DAY as u64) as i64;
        hit.occurred_at = Some(UnixMicros(at.0 - earlier));
    }
    let is_of_site = kind == Kind::PageView || kind == Kind::Event && random.below(2) == 0;
    if is_of_site {
        hit.page_url = format!("https://shop.example/{}", random.below(4)).into();
    } else {
        hit.partner = "network".into();
        hit.placement = format!("p-{}", random.below(2)).into();
    }
    if !is_of_site && random.below(8) > 0 {
        hit.campaign = format!("c-{}", random.below(2)).into();
        hit.creative = format!("big-{}", random.below(2)).into();
    }
    let names_click = hit.event_name == "conversion" && random.below(2) == 0;
    if kind == Kind::Click || names_click {
        hit.click_id = format!("k-{}", random.below(40)).into();
    }
    match random.below(12) {
        0 => hit.params = "{\"broken\":".into(),
        1 => hit.flags = Flags::PREVIEW,
        2 => hit.flags = Flags::OVER_LIMIT,
        3 => hit.permit = Permit::NONE,
        4 => hit.event_id = format!("id-{}", random.below(20)).into(),
        _ => {}
    }
    hit
}

/// Runs a job, and returns how much it did.
async fn run(client: &mut Client, name: &str, as_of: i64) -> u64 {
    let limits = JobLimits {
        retention: Duration::from_hours(24 * 2),
        naming: None,
        graph: None,
        time_zones: None,
    };
    let job = JOBS.iter().find(|job| job.name == name).unwrap();
    let done = Box::pin(job.run(client, &limits, UnixMicros(as_of))).await;
    done.unwrap().changed
}

/// Checks that the reports say what the hits say.
async fn check_reports(client: &Client, story: &str) {
    for (told, expected) in [
        (
            "select * from avtryck.campaign_daily",
            "select * from plain.campaign",
        ),
        (
            "select * from avtryck.placement_daily",
            "select * from plain.placement",
        ),
        (
            "select * from avtryck.campaign_quality",
            "select * from plain.quality",
        ),
        (
            "select hour, act, faults, campaign, sum(gross)::bigint, sum(unmeasured)::bigint \
             from avtryck.ad_hour_detail group by 1, 2, 3, 4",
            "select * from plain.ad_hour",
        ),
        (
            "select day, creative, subject, sum(coalesce(shown, 1))::bigint \
             from avtryck.ad_day_detail cross join unnest(subjects, impressions) as seen (subject, shown) \
             group by 1, 2, 3",
            "select * from plain.seen",
        ),
        (
            "select * from avtryck.conversion_path where day not in (select day from avtryck.report_day)",
            "select site_day.day, path.* from avtryck.site_day cross join lateral plain.path_of(site_day.day) as path \
             where day not in (select day from avtryck.report_day)",
        ),
        (
            "select * from avtryck.web_daily where day not in (select day from plain.still_kept)",
            "select day, report.* from avtryck.site_day cross join lateral plain.web_of(day) as report \
             where day not in (select day from plain.still_kept)",
        ),
        (
            "select * from avtryck.web_page_daily where day not in (select day from plain.still_kept)",
            "select day, report.* from avtryck.site_day cross join lateral plain.web_page_of(day) as report \
             where day not in (select day from plain.still_kept)",
        ),
        (
            "select * from avtryck.web_session",
            "select day, session.* from avtryck.site_day cross join lateral plain.session_of(day) as session",
        ),
        (
            "select day, event, sum(hits)::bigint, sum(visitors)::bigint from avtryck.web_event_daily \
             where day not in (select day from plain.still_kept) group by 1, 2",
            "select * from plain.web_event where day not in (select day from plain.still_kept)",
        ),
        (
            "select day, sum(page_views)::bigint, sum(unmeasured_page_views)::bigint from avtryck.web_daily \
             where day not in (select day from plain.still_kept) \
             group by 1 having sum(page_views) + sum(unmeasured_page_views) > 0",
            "select * from plain.web_page_view where day not in (select day from plain.still_kept)",
        ),
        (
            "select * from avtryck.frequency('2026-01-01', '2026-12-31', null)",
            "select times, count(*) from ( \
                 select count(*) as times from plain.shown where subject is not null \
                 group by subject) as each group by 1",
        ),
        (
            "select * from avtryck.reach('2026-01-01', '2026-12-31', null, 'placement')",
            "select placement, count(distinct subject), count(*), round(count(*)::numeric / count(distinct subject), 2) \
             from plain.shown where subject is not null group by 1",
        ),
        (
            "select day, creative, sum(viewable)::bigint, sum(net_impressions)::bigint \
             from avtryck.campaign_view group by 1, 2 having sum(viewable) + sum(net_impressions) > 0",
            "select * from plain.campaign_view",
        ),
        (
            "select day, campaign, reason, sum(hits)::bigint from avtryck.campaign_invalid group by 1, 2, 3",
            "select * from plain.campaign_invalid",
        ),
    ] {
        let sql = format!(
            "with told as ({told}), expected as ({expected}) \
             select concat_ws(' ', side, row) from ( \
                 (select 'told' as side, told::text as row from told \
                  except all select 'told', expected::text from expected) \
                 union all \
                 (select 'expected', expected::text from expected \
                  except all select 'expected', told::text from told)) as difference order by 1"
        );
        let rows = client.query(&sql, &[]).await.unwrap();
        let differences: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert!(differences.is_empty(), "{told}\n{differences:#?}\n{story}");
    }
}

/// How often something happened that the test is about.
#[derive(Debug, Default)]
struct Happened {
    broken: u64,
    stored: u64,
    /// Spans of a day that is not over had become one.
    joined: u64,
    /// A part of a day was summed up, and some of its conversions were known.
    summed: u64,
    linked: u64,
    /// A part of a day of a site was summed up.
    web_summed: u64,
    /// Sums about sites were read with late hits beside them.
    late: u64,
    /// Sums about ads were read with spans that had changed since, or without some before their
    /// end.
    changed: u64,
    /// A site's time zone changed.
    moved: u64,
    erased: u64,
    withdrawn: u64,
    dropped: u64,
}

/// A database, two loaders of the same spools, and the clock of the story.
struct History {
    postgres: testing::TestDatabase,
    spools: Vec<Spool>,
    loaders: Vec<(Loader, Arc<Cut>)>,
    random: Random,
    now: i64,
    happened: Happened,
    story: String,
}

impl History {
    async fn new(seed: u64, dir: &std::path::Path) -> History {
        let postgres = testing::TestDatabase::migrated().await;
        for oracle in ORACLES {
            postgres.client.batch_execute(oracle).await.unwrap();
        }
        let zones = "select avtryck.set_time_zones(array['shop'], array['Europe/Stockholm'])";
        postgres.client.batch_execute(zones).await.unwrap();
        let spools: Vec<Spool> = (0..2)
            .map(|shard| spool(&dir.join(format!("spool-{shard}"))))
            .collect();
        let instructions = super::spool(&dir.join("instruction"));
        let mut loaders = Vec::new();
        for way in [Way::ToPostgres, Way::FromPostgres] {
            let (config, cut) = through_proxy(&postgres.config, way).await;
            let loader = Loader {
                spools: spools.clone(),
                ..loader(&spools[0], &instructions, config)
            };
            loaders.push((loader, cut));
        }
        History {
            postgres,
            spools,
            loaders,
            random: Random(seed),
            now: BEGINS[seed as usize % BEGINS.len()],
            happened: Happened::default(),
            story: format!("seed {seed}"),
        }
    }

    /// Appends hits, of which one in three is late, by up to three days.
    async fn append(&mut self) {
        for spool in self.spools.clone() {
            let mut payloads = Vec::new();
            for _ in 0..self.random.below(STEP_MAX) {
                self.now += self.random.below(20) as i64 * MINUTE / 2;
                let late = match self.random.below(6) {
                    0 => self.random.below(3 * DAY as u64) as i64,
                    1 => self.random.below(DAY as u64 / 2) as i64,
                    _ => 0,
                };
                let hit = made(UnixMicros(self.now - late), &mut self.random);
                let mut payload = Vec::new();
                hit.encode(&mut payload);
                payloads.push(payload);
            }
            append_payloads(&spool, payloads).await;
        }
    }

    /// Loads with one of the loaders over a connection that may break, or with both at once.
    async fn load(&mut self) {
        let late_hits_max = [20_000, 20_000, 20_000, 30, 0][self.random.below(5) as usize];
        let sql = format!(
            "create or replace function avtryck.late_hits_max() returns bigint \
             language sql immutable parallel safe return {late_hits_max}"
        );
        self.postgres.client.batch_execute(&sql).await.unwrap();
        for (loader, cut) in &mut self.loaders {
            let after = match self.random.below(2) {
                0 => u64::MAX,
                _ => self.random.below(24_000),
            };
            cut.after.store(after, Ordering::Relaxed);
            cut.seen.store(0, Ordering::Relaxed);
            cut.begun.store(false, Ordering::Relaxed);
            loader.batch_rows = 1 + self.random.below(STEP_MAX) as usize;
        }
        let [(one, _), (two, _)] = &self.loaders[..] else {
            unreachable!()
        };
        let outcomes = match self.random.below(3) {
            0 => {
                let (one, two) = tokio::join!(Box::pin(load_once(one)), Box::pin(load_once(two)));
                vec![one, two]
            }
            1 => vec![Box::pin(load_once(one)).await],
            _ => vec![Box::pin(load_once(two)).await],
        };
        let broken = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        self.happened.broken += broken as u64;
    }

    /// Does one thing, which chance picks.
    async fn step(&mut self) {
        let what = self.random.below(13);
        write!(self.story, " {what}").unwrap();
        let client = &mut self.postgres.client;
        let visitor = VisitorId([self.random.below(8) as u8 + 1; 16]);
        let subject = Subject::Visitor(visitor);
        match what {
            0..5 => {
                Box::pin(self.append()).await;
                Box::pin(self.load()).await;
            }
            5 => Box::pin(self.load()).await,
            6..9 => {
                // The job has run all the while, so that there are spans to become one.
                for minutes in (0..=12).rev().map(|runs| runs * 20) {
                    let as_of = self.now - minutes * MINUTE;
                    self.happened.stored += run(client, "report", as_of).await;
                }
                let sql = "select (select count(distinct (day, time_zone)) from avtryck.ad_sum), \
                                  (select count(*) from avtryck.conversion_link join avtryck.conversion_day \
                                     on day = (received_at at time zone 'UTC')::date \
                                   where known < avtryck.day_start(day + 1)), \
                                  (select count(*) from avtryck.web_sum), \
                                  (select count(*) from avtryck.report_span where built_at = '-infinity' \
                                   and not exists (select from avtryck.report_day \
                                                   where day = (begins at time zone 'UTC')::date))";
                let row = client.query_one(sql, &[]).await.unwrap();
                self.happened.summed += row.get::<_, i64>(0).cast_unsigned();
                self.happened.linked += row.get::<_, i64>(1).cast_unsigned();
                self.happened.web_summed += row.get::<_, i64>(2).cast_unsigned();
                self.happened.joined += row.get::<_, i64>(3).cast_unsigned();
            }
            9 => {
                client.execute("select plain.keep()", &[]).await.unwrap();
                run(client, "hit_count", self.now).await;
                self.happened.dropped += run(client, "retention", self.now).await;
            }
            10 => {
                self.happened.erased += 1;
                let erased = Box::pin(erase(client, &subject, AskedBy::Cli));
                erased.await.unwrap();
            }
            11 => {
                let zones = [0, 1].map(|_| ZONES[self.random.below(ZONES.len() as u64) as usize]);
                write!(self.story, " {zones:?}").unwrap();
                self.happened.moved += 1;
                let unknown = report::set_time_zones(client, &["shop", "news"], &zones).await;
                assert_eq!(unknown.unwrap(), [""; 0]);
            }
            _ => {
                self.happened.withdrawn += 1;
                let entry = (subject, Reason::Withdrawal);
                Box::pin(suppression::add(client, &[entry])).await.unwrap();
                // Then all hits would become counts before long.
                if self.random.below(2) == 0 {
                    let sql = "truncate avtryck.suppression";
                    client.batch_execute(sql).await.unwrap();
                }
            }
        }
        if self.random.below(3) == 0 {
            let differences = run(&mut self.postgres.client, "report_check", self.now).await;
            assert_eq!(differences, 0, "{}", self.story);
            let sql = "select (select count(*) from avtryck.late_hit), \
                              (select count(*) from avtryck.ad_sum_day \
                               cross join lateral avtryck.ad_sum_spans(day, time_zone, known) \
                               where is_summed <> is_clean)";
            let row = self.postgres.client.query_one(sql, &[]).await.unwrap();
            self.happened.late += row.get::<_, i64>(0).cast_unsigned();
            self.happened.changed += row.get::<_, i64>(1).cast_unsigned();
            check_reports(&self.postgres.client, &self.story).await;
        }
    }
}

#[tokio::test]
async fn reports_say_what_the_hits_say_whatever_happens_to_them() {
    let local = tokio::task::LocalSet::new();
    let work = async {
        let mut happened = Vec::new();
        for seed in 1..=3 {
            let dir = tempfile::tempdir().unwrap();
            let mut history = Box::pin(History::new(seed, dir.path())).await;
            for _ in 0..STEPS {
                Box::pin(history.step()).await;
            }
            for _ in 0..200 {
                if is_loaded(&history.loaders[0].0) {
                    break;
                }
                Box::pin(history.load()).await;
            }
            // Two hours after the last day all of it is stored, and read from what is stored.
            let later = history.now + 2 * DAY;
            let client = &mut history.postgres.client;
            run(client, "report", later).await;
            let sql = "select count(*) from avtryck.hit_day where not avtryck.is_stored(day)";
            let left: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
            assert_eq!(left, 0, "{}", history.story);
            check_reports(client, &history.story).await;
            happened.push(history.happened);
            history.spools.iter().for_each(Spool::close);
        }
        let sum = |of: fn(&Happened) -> u64| happened.iter().map(of).sum::<u64>();
        assert!(sum(|of| of.broken) > 10, "{happened:?}");
        assert!(sum(|of| of.stored) > 30, "{happened:?}");
        assert!(sum(|of| of.joined) > 5, "{happened:?}");
        assert!(sum(|of| of.summed) > 5, "{happened:?}");
        assert!(sum(|of| of.linked) > 20, "{happened:?}");
        assert!(sum(|of| of.web_summed) > 20, "{happened:?}");
        assert!(sum(|of| of.late) > 50, "{happened:?}");
        assert!(sum(|of| of.changed) > 20, "{happened:?}");
        assert!(sum(|of| of.moved) > 5, "{happened:?}");
        assert!(sum(|of| of.erased) > 5, "{happened:?}");
        assert!(sum(|of| of.withdrawn) > 5, "{happened:?}");
        assert!(sum(|of| of.dropped) > 1, "{happened:?}");
    };
    local.run_until(Box::pin(work)).await;
}

#[tokio::test]
async fn a_roll_up_that_differs_from_the_hits_is_found_and_made_again() {
    let mut postgres = testing::TestDatabase::migrated().await;
    let client = &mut postgres.client;
    let hits = include_str!("../../postgres/tests/report.sql");
    for sql in [hits].iter().chain(&ORACLES) {
        client.batch_execute(sql).await.unwrap();
    }
    let later = BEGIN + 20 * DAY;
    run(client, "report", later).await;
    check_reports(client, "untouched").await;
    for wrong in [
        "update avtryck.ad_hour set hits[1] = hits[1] + (1::bigint << 31) where hits is not null and span = '2026-11-24Z'",
        "update avtryck.ad_day set others[1] = others[1] + (1 << 20) \
         where others is not null and span = '2026-11-24Z'",
        "update avtryck.ad_day set subjects = subjects || subjects[1:1] \
         where impressions is null and subjects is not null and span = '2026-11-23Z'",
        "update avtryck.campaign_day set gross_clicks[1] = gross_clicks[1] + 1 where day = '2026-11-24'",
        "delete from avtryck.hit_20261124 where kind = 3",
        "update avtryck.hit_20261124 set flags = 16384 where kind = 4",
        "update avtryck.hit_count set hits = hits + 1 where minute = '2026-11-24Z'",
    ] {
        client.batch_execute(wrong).await.unwrap();
        let mut found = false;
        // Chance picks an hour of the few days that there are.
        for _ in 0..500 {
            found = run(client, "report_check", later).await > 0;
            if found {
                break;
            }
        }
        assert!(found, "{wrong}");
        run(client, "report", later).await;
        check_reports(client, wrong).await;
    }
}
