//! Nights whose clocks jump, against Postgres: nothing goes that true time does not allow, and in
//! the end everything does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;

const HOUR_MICROS: i64 = 3600 * MICROS;
const RETENTION_DAYS: i64 = 30;
const NIGHTS: JobLimits = JobLimits {
    retention: Duration::from_hours(24 * 30),
    naming: None,
    graph: None,
    time_zones: None,
};

/// Numbers that look random, the same in each run of a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// Hours that a clock is off: 2 hours to 500 days, forward or back.
    fn hours(&mut self) -> i64 {
        let most = [24, 200, 12_000][usize::try_from(self.roll(3)).unwrap()];
        let hours = 2 + i64::try_from(self.roll(most)).unwrap();
        if self.roll(2) == 0 { hours } else { -hours }
    }
}

/// A collector and its Postgres. The truth is only known here.
struct World {
    database: TestDatabase,
    schedule: Schedule,
    started: Instant,
    /// Hours since noon, in truth.
    hour: i64,
    /// Hours that the clocks are ahead.
    postgres_off: i64,
    collector_off: i64,
    /// What was stored and is not gone, by table: when it was, and whether Postgres's clock was
    /// right then, so that it is due on its day.
    stored: BTreeMap<&'static str, Vec<(i64, bool)>>,
}

/// The tables, and how many days each keeps a row.
const KEPT: [(&str, i64); 5] = [
    ("hit", RETENTION_DAYS),
    ("rejected_hit", RETENTION_DAYS),
    ("partner_id", RETENTION_DAYS),
    ("exposure", RETENTION_DAYS),
    ("event_key", EVENT_KEY_DAYS as i64),
];

impl World {
    async fn new() -> World {
        let database = TestDatabase::migrated().await;
        // Roll-ups and the audit have tests of their own, and would take most of the time of a year
        // of nights.
        let sql = "create or replace function avtryck.build_report(as_of timestamptz) returns text \
                   language sql as 'select null::text'; \
                   create or replace function avtryck.audit_ties(most integer, first_kept date, today date) \
                   returns table (a uuid, b uuid, a_kind smallint, b_kind smallint, is_permitted boolean) \
                   language sql as 'select null::uuid, null::uuid, 1::smallint, 1::smallint, true where false'";
        database.client.batch_execute(sql).await.unwrap();
        World {
            database,
            schedule: Schedule::default(),
            started: clock::monotonic(),
            hour: 0,
            postgres_off: 0,
            collector_off: 0,
            stored: BTreeMap::new(),
        }
    }

    fn clocks(&self) -> Clocks {
        let at = |off| UnixMicros(NOON.0 + (self.hour + off) * HOUR_MICROS);
        let hours = u64::try_from(self.hour).unwrap();
        Clocks {
            postgres: at(self.postgres_off),
            collector: at(self.collector_off),
            monotonic: self.started + Duration::from_hours(hours),
        }
    }

    /// Stores a row in each table, as a batch does: the hit with the collector's time, the rest
    /// with Postgres's. Each bears the true hour as its mark. Notes the days that they bear where a
    /// clock is wrong or in doubt.
    async fn store(&mut self) {
        let clocks = self.clocks();
        let text = |at: UnixMicros| format!("timestamptz 'epoch' + interval '{} s'", at.seconds());
        let (stamp, now) = (text(clocks.collector), text(clocks.postgres));
        let mark = format!("lpad('{}', 32, '0')::uuid", self.hour);
        let differ = self.postgres_off != self.collector_off;
        let sql = format!(
            "select avtryck.make_hit_day((({stamp}) at time zone 'UTC')::date); \
             insert into avtryck.hit (received_at, site_key, flags, kind, permit, consent_source, hit_id) \
               values ({stamp}, 1, 0, 1, 3, 1, {mark}); \
             insert into avtryck.rejected_hit values ({now}, {mark}, 1, 1, 'bad', ''); \
             insert into avtryck.partner_id values ({mark}, {now}, {now}, 'adform', 'u'); \
             insert into avtryck.exposure values ({mark}, 1, {now}, {now}, 1, 0); \
             insert into avtryck.event_key values ({mark}, (({now}) at time zone 'UTC')::date); \
             insert into avtryck.wrong_clock_day \
               select distinct (at at time zone 'UTC')::date, clock.days from avtryck.clock \
               cross join unnest(array[{stamp}, {now}]) as at \
               where {differ} or wrong_at > {now} - interval '24 hours' \
                  or seen_at not between {now} - interval '30 days' and {now} + interval '1 hour' \
               on conflict (day) do update set lived_day = excluded.lived_day"
        );
        self.database.client.batch_execute(&sql).await.unwrap();
        for (table, _) in KEPT {
            let stored = self.stored.entry(table).or_default();
            stored.push((self.hour, self.postgres_off == 0));
        }
    }

    /// Runs what is due.
    async fn tick(&mut self) -> Tick {
        let clocks = self.clocks();
        let client = &mut self.database.client;
        let tick = self.schedule.tick(client, &NIGHTS, clocks).await.unwrap();
        for outcome in &tick.outcomes {
            assert!(outcome.result.is_ok(), "{outcome:?}");
        }
        tick
    }

    /// Checks that what is gone was due in truth, to a day and an hour, and forgets it.
    async fn check(&mut self, story: &str) {
        for (table, days) in KEPT {
            let mark = match table {
                "hit" => "hit_id",
                "rejected_hit" => "spool_id",
                "partner_id" => "visitor_id",
                "exposure" => "subject",
                _ => "key",
            };
            let sql =
                format!("select ltrim(replace({mark}::text, '-', ''), '0') from avtryck.{table}");
            let rows = self.database.client.query(&sql, &[]).await.unwrap();
            let left: Vec<i64> = rows
                .iter()
                .map(|row| row.get::<_, String>(0).parse().unwrap_or(0))
                .collect();
            let hour = self.hour;
            self.stored.entry(table).or_default().retain(|(stored, _)| {
                let age = hour - stored;
                let is_left = left.contains(stored);
                assert!(
                    is_left || age >= (days - 1) * 24,
                    "{table}: a row of {age} h is gone\n{story}"
                );
                is_left
            });
        }
    }
}

/// Half a year in which clocks jump, are set right within a day of alerts, and collectors are
/// restarted or off.
async fn live_through(seed: u64) {
    let mut world = World::new().await;
    let mut dice = Dice(seed);
    let mut story = format!("seed {seed}");
    let (mut right_again, mut faults, mut ticks) = (None, 0, 0);
    while world.hour < 180 * 24 {
        if right_again.is_some_and(|hour| world.hour >= hour) {
            (world.postgres_off, world.collector_off) = (0, 0);
            right_again = None;
        }
        if right_again.is_none() && dice.roll(30) == 0 {
            let off = dice.hours();
            let which = dice.roll(3);
            if which < 2 {
                world.postgres_off = off;
            }
            if which > 0 {
                world.collector_off = off;
            }
            let for_hours = 1 + i64::try_from(dice.roll(20)).unwrap();
            right_again = Some(world.hour + for_hours);
            writeln!(
                story,
                "hour {}: {which} off by {off} h for {for_hours}",
                world.hour
            )
            .unwrap();
        }
        // No start falls into a time in which a clock is off by less than a day: nothing tells
        // that.
        if dice.roll(40) == 0 && (right_again.is_none() || world.postgres_off.abs() > 30) {
            let off = i64::try_from(dice.roll(60)).unwrap();
            writeln!(story, "hour {}: off for {off} h, and a start", world.hour).unwrap();
            if right_again.is_none() {
                world.hour += off;
            }
            world.schedule = Schedule::default();
        }
        world.store().await;
        ticks += 1;
        faults += u32::from(world.tick().await.standing.fault.is_some());
        world.check(&story).await;
        world.hour += 6;
    }
    assert!(faults > 10, "{faults} faults\n{story}");
    eprintln!("seed {seed}: {ticks} ticks, {faults} of them with a fault");

    // Then all is well. A hit up to ten days ahead goes that much later, and what is protected once
    // that many days have been lived through.
    (world.postgres_off, world.collector_off) = (0, 0);
    for _ in 0..45 * 24 {
        world.hour += 1;
        world.tick().await;
    }
    world.check(&story).await;
    for (table, stored) in &world.stored {
        let late: Vec<_> = stored.iter().filter(|(_, is_due)| *is_due).collect();
        assert!(late.is_empty(), "{table}: {late:?}\n{story}");
    }
}

#[tokio::test]
async fn whatever_the_clocks_do_nothing_is_deleted_too_soon_and_everything_in_the_end() {
    let given = std::env::var("CLOCK_SEED");
    live_through(given.map_or(11, |seed| seed.parse().unwrap())).await;
}

#[tokio::test]
async fn both_clocks_ahead_delete_nothing_for_a_day_and_then_a_days_worth_in_an_hour() {
    let mut world = World::new().await;
    for _ in 0..60 {
        world.store().await;
        world.tick().await;
        world.hour += 24;
    }
    let before = days(&world.database.client).await.len();
    let ahead = 400 * 24;
    (world.postgres_off, world.collector_off) = (ahead, ahead);
    // The process is started anew: nothing but the database knows what time it was.
    world.schedule = Schedule::default();
    let tick = world.tick().await;
    assert!(
        matches!(tick.standing.fault, Some(Fault::Unwatched(_))),
        "{tick:?}"
    );
    for _ in 0..23 {
        world.hour += 1;
        let standing = world.tick().await.standing;
        assert!(
            !standing.may_delete() && !standing.may_evaluate(),
            "{standing:?}"
        );
    }
    let made_ahead = 4;
    let kept = days(&world.database.client).await.len();
    assert!(kept >= before + made_ahead, "{kept}");
    for run in 1..=5 {
        world.hour += 1;
        let tick = world.tick().await;
        assert!(tick.held_back > 20, "{tick:?}");
        assert!(tick.standing.may_evaluate(), "{tick:?}");
        assert_eq!(days(&world.database.client).await.len(), kept - run);
    }
}

#[tokio::test]
async fn a_collector_that_was_off_for_a_week_catches_up_a_day_in_an_hour() {
    let mut world = World::new().await;
    for _ in 0..40 {
        world.store().await;
        world.tick().await;
        world.hour += 24;
    }
    world.hour += 7 * 24;
    world.schedule = Schedule::default();
    let mut held_back = Vec::new();
    for hour in 0..40 {
        let tick = world.tick().await;
        assert_eq!(tick.standing.may_evaluate(), hour > 0, "{tick:?}");
        held_back.push(tick.held_back);
        world.check("a week off").await;
        world.hour += 1;
    }
    assert_eq!(
        held_back[..24],
        [0; 24],
        "it waits to see the clocks in step"
    );
    // The seven days and the one that it waited, but for the one that goes first.
    assert_eq!(held_back.iter().max(), Some(&8));
    assert_eq!(held_back.last(), Some(&0));
    let (oldest, _) = world.stored["hit"][0];
    assert!(world.hour - oldest <= (RETENTION_DAYS + 1) * 24 + 24);
}

#[tokio::test]
async fn a_difference_stops_every_collector_of_the_database_until_a_day_after_it_ended() {
    let mut world = World::new().await;
    world.tick().await;
    let mut other = Schedule::default();
    let look = async |world: &World, other: &mut Schedule| {
        let mut client = world.database.connect().await;
        other
            .tick(&mut client, &NIGHTS, world.clocks())
            .await
            .unwrap()
            .standing
    };
    assert!(look(&world, &mut other).await.may_delete());
    for (off, is_fault) in [(2, true), (-2, true), (1, false)] {
        world.hour += 30;
        world.collector_off = off;
        let standing = world.tick().await.standing;
        let expected = is_fault.then_some(Fault::Differs(off * HOUR_MICROS));
        assert_eq!(standing.fault, expected);
        assert_eq!(standing.may_evaluate(), !is_fault);
        assert_eq!(standing.difference_micros, off * HOUR_MICROS);
        world.collector_off = 0;
        let standing = look(&world, &mut other).await;
        assert_eq!((standing.fault, standing.may_delete()), (None, !is_fault));
        assert!(standing.may_evaluate());
    }
    world.collector_off = 2;
    world.tick().await;
    world.collector_off = 0;
    // A restart forgets nothing of it.
    world.schedule = Schedule::default();
    for hour in 0..24 {
        assert_eq!(
            world.tick().await.standing.wait,
            Duration::from_hours(24 - hour)
        );
        world.hour += 1;
    }
    assert!(world.tick().await.standing.may_delete());
}

#[tokio::test]
async fn nobodys_watch_counts_for_nothing_and_small_jumps_add_up() {
    let mut world = World::new().await;
    world.tick().await;
    // Twice 40 minutes are more than an hour.
    let jump = |world: &World, minutes: i64| {
        let mut clocks = world.clocks();
        for at in [&mut clocks.postgres, &mut clocks.collector] {
            at.0 += minutes * 60 * MICROS;
        }
        clocks
    };
    for (minutes, is_fault) in [(40, false), (80, true)] {
        world.hour += 1;
        let clocks = jump(&world, minutes);
        let client = &mut world.database.client;
        let tick = world.schedule.tick(client, &NIGHTS, clocks).await.unwrap();
        assert_eq!(tick.standing.fault.is_some(), is_fault, "{tick:?}");
    }
    world.hour += 12;
    let tick = world.tick().await;
    assert!(tick.standing.fault.is_some(), "it jumped back");
    world.hour += 6;
    let standing = world.tick().await.standing;
    assert!(!standing.may_evaluate(), "{standing:?}");
    let waited = standing.wait;
    assert_eq!(waited, Duration::from_hours(18));
    world.hour += 20;
    world.schedule = Schedule::default();
    let tick = world.tick().await;
    assert_eq!((tick.standing.fault, tick.standing.wait), (None, waited));
}

#[tokio::test]
async fn a_withdrawn_visitor_is_suppressed_until_that_many_days_were_lived_through() {
    let mut world = World::new().await;
    world.tick().await;
    let add = "insert into avtryck.suppression \
        select gen_random_uuid(), to_timestamp(0), 'visitor', 'withdrawal', days from avtryck.clock";
    world.database.client.batch_execute(add).await.unwrap();
    let mut dice = Dice(5);
    let mut lived = 0;
    while count(&world.database.client, "suppression").await > 0 {
        // Each tenth day the clock is a year or two ahead, or set right again.
        if dice.roll(10) == 0 {
            let off = i64::try_from(dice.roll(3)).unwrap() * 400 * 24;
            (world.postgres_off, world.collector_off) = (off, off);
        }
        world.hour += 24;
        lived += 1;
        world.tick().await;
        assert!(lived < 1000);
    }
    assert!(lived >= i64::from(SUPPRESSION_DAYS), "{lived}");
}
