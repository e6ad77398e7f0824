//! Segments over random histories: hits go through the loader, and after every step the members are
//! those whom plain SQL finds in the hits themselves.

use std::collections::BTreeSet;

use super::ties::Random;
use super::*;
use crate::hit::subject::Subject;
use crate::hit::{ConsentSource, Flags, UserKey, VisitorId};
use crate::postgres::identity::group;
use crate::postgres::segment::{self, evaluate};
use crate::postgres::subject::suppression::{self, Reason};
use crate::postgres::user_key;
use crate::segment::{Book, Definition, Guards, SegmentScope};

const USER_KEYS: [[u8; 16]; 1] = [[9; 16]];
const VISITORS: u64 = 7;
const STEPS: i32 = 8;
const PROFILE: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::PROFILE);

/// The segments, and for each what plain SQL finds over `raw`, a table of the hits as they were
/// made, and `ids`, whose facts count for whom.
const SEGMENTS: [(&str, &str, SegmentScope, &str); 6] = [
    (
        "looked",
        "events('look', '3 days') >= 2",
        SegmentScope::Device,
        "(select count(*) from fact where fact.subject = s and kind = 'event' and name = 'look' and day > today - 3) >= 2",
    ),
    (
        "bought",
        "events('buy', '30 days') > 0 and not in_segment('reader')",
        SegmentScope::Owner,
        "(select count(*) from owner_fact as fact where fact.subject = s and kind = 'event' and name = 'buy' and day > today - 30) > 0 \
         and not (select count(*) from fact where fact.subject = s and kind = 'page' and name = 'news' and day > today - 7) between 1 and 3",
    ),
    (
        "reader",
        "pages('news', '1 week') between 1 and 3",
        SegmentScope::Device,
        "(select count(*) from fact where fact.subject = s and kind = 'page' and name = 'news' and day > today - 7) between 1 and 3",
    ),
    (
        "unseen",
        "seen('spring', '7 days') = 0 and days_active >= 2",
        SegmentScope::Device,
        "(select count(*) from fact where fact.subject = s and kind = 'ad' and name = 'spring' and day > today - 7) = 0 \
         and (select count(distinct day) from own_fact where own_fact.subject = s and day > today - 30) >= 2",
    ),
    (
        "linked",
        "case when permits_link then in_segment('looked') else permits_match end",
        SegmentScope::Device,
        "case when exists (select from avtryck.subject_permit as p where p.subject = s and p.permit & 23 = 23) \
              then (select count(*) from fact where fact.subject = s and kind = 'event' and name = 'look' and day > today - 3) >= 2 \
              else exists (select from avtryck.subject_permit as p where p.subject = s and p.permit & 15 = 15) end",
    ),
    (
        "everybody",
        "coalesce(region, 'none') <> 'Skåne'",
        SegmentScope::Device,
        "true",
    ),
];

/// Whose facts count for whom, and what may be asked of them now. A fact counts if its hit was
/// stored, its subject allows it there now, and has not refused it there since.
const ORACLE: &str = "
    with today as (select (now() at time zone 'UTC')::date as today),
    allowed as (
        select raw.*, (raw.at at time zone 'UTC')::date as day, permit.permit as now from raw
        join avtryck.subject_permit as permit using (subject, site, partner)
        where not is_machine and raw.permit & 7 = 7 and permit.permit & 7 = 7 and not exists (
            select from raw as refusal
            where refusal.subject = raw.subject and refusal.site = raw.site and refusal.partner = raw.partner
              and refusal.step > raw.step and refusal.permit & 7 <> 7 and refusal.is_own_word)
    ),
    links as (select distinct subject from avtryck.subject_permit where permit & 23 = 23),
    alike as (
        select a.node as subject, b.node as other from avtryck.link_node as a join avtryck.link_node as b
        on a.proved_group = b.proved_group and a.proved_group <> 0 and a.node <> b.node
    ),
    login as (
        select case when a_kind = 5 then b else a end as subject, case when a_kind = 5 then a else b end as owner
        from avtryck.link_edge where 5 in (a_kind, b_kind) and proved_day is not null
    ),
    logins as (
        select subject, owner from login union select alike.subject, owner from alike join login on login.subject = other
    ),
    owner as (
        select subject, min(owner::text)::uuid as owner from logins group by subject having count(distinct owner) = 1
        union select owner, owner from login
    ),
    same_owner as (
        select a.subject, b.subject as other from owner as a join owner as b using (owner) where a.subject <> b.subject
    ),
    own_fact as (select * from allowed),
    fact as (
        select subject, kind, name, day from allowed
        union all
        select alike.subject, kind, name, day from alike join links on links.subject = alike.subject
        join allowed on allowed.subject = other where now & 23 = 23
    ),
    owner_fact as (
        select subject, kind, name, day from allowed
        union all
        select pair.subject, kind, name, day from (select * from alike union select * from same_owner) as pair
        join links on links.subject = pair.subject
        join allowed on allowed.subject = other where now & 23 = 23
    )
    select distinct s from today, (select distinct subject as s from avtryck.subject_permit where permit & 7 = 7) as known
    where ";

fn book() -> Book {
    let definitions = SEGMENTS.map(|(key, expression, scope, _)| Definition {
        key,
        names: [key, key],
        expression,
        scope,
        is_consented: false,
        min_size: 50,
        is_exported: false,
        last_day: None,
    });
    let guards = Guards {
        classes: &[],
        is_sensitive: &|_| false,
    };
    Book::read(&definitions, &guards).unwrap()
}

fn visitor(number: u64) -> VisitorId {
    VisitorId([u8::try_from(number * 31 + 3).unwrap(); 16])
}

fn maid(number: u64) -> String {
    format!("38400000-8cf0-11bd-b23e-10b96e4000{number:02x}")
}

/// What a visitor permits where during a step: a subject says one thing at a time.
fn permit_of(random: &mut Random) -> (Permit, ConsentSource) {
    let permits = [
        Permit::ALL,
        Permit::ALL,
        Permit::ALL.without(Permit::LINK),
        PROFILE.with(Permit::LINK),
        PROFILE,
        Permit::ALL.without(Permit::PROFILE),
        Permit::STORE.with(Permit::MEASURE),
    ];
    (random.of(&permits), ConsentSource::Choice)
}

/// A hit of a step: some of a browser, some of a system that knows the MAID or the user.
fn made(random: &mut Random, who: u64, site: &'static str, at: UnixMicros) -> Hit<'static> {
    let kind = random.of(&[Kind::Event, Kind::PageView, Kind::Impression]);
    let seconds = i64::try_from(random.below(3_600)).unwrap();
    let mut hit = Hit::new(UnixMicros(at.0 + seconds * 1_000_000), kind, site);
    hit.visitor = Some(visitor(who));
    match kind {
        Kind::Event => hit.event_name = random.of(&["look", "buy", "other"]).into(),
        Kind::PageView => hit.category = random.of(&["news", "sport", ""]).into(),
        _ => hit.campaign = random.of(&["spring", "autumn"]).into(),
    }
    match random.below(6) {
        0 => {
            hit.maid = maid(who / 2).into();
            hit.flags.set(Flags::SYSTEM.with(Flags::PROVED));
        }
        1 => {
            hit.user_key = Some(UserKey([u8::try_from(0x50 + who / 3).unwrap(); 16]));
            hit.flags.set(Flags::PROVED);
        }
        2 => hit.maid = maid(random.below(4)).into(),
        _ => {}
    }
    hit
}

/// Notes hits as they were made, for the oracle.
async fn note(client: &Client, step: i32, hits: &[Hit<'static>]) {
    for hit in hits {
        let subject = uuid::Uuid::from_bytes(hit.visitor.unwrap().0);
        let (kind, name) = match hit.kind {
            Kind::Event => ("event", &hit.event_name),
            Kind::PageView => ("page", &hit.category),
            _ => ("ad", &hit.campaign),
        };
        let at = hit.received_at.0;
        let is_own = hit.consent_source == ConsentSource::Choice;
        let (permit, is_machine) = (i16::from(hit.permit.bits()), hit.flags.has(Flags::BOT));
        let sql = "insert into raw select $1, $2, '', $3, $4, to_timestamp($5::bigint / 1e6), $6, $7, $8, $9";
        let (site, name) = (hit.site.to_string(), name.to_string());
        client
            .execute(
                sql,
                &[
                    &subject,
                    &site,
                    &kind,
                    &name,
                    &at,
                    &permit,
                    &is_own,
                    &is_machine,
                    &step,
                ],
            )
            .await
            .unwrap();
    }
}

async fn append_all(spool: &Spool, hits: &[Hit<'static>]) {
    let appender = spool.appender();
    let deliver = tokio::task::spawn_local(appender.deliver());
    let encoders = hits.iter().map(|hit| |out: &mut Vec<u8>| hit.encode(out));
    appender.append_all(encoders).unwrap().await.unwrap();
    deliver.abort();
}

async fn members(client: &Client, key: &str) -> BTreeSet<uuid::Uuid> {
    let sql = "select subject from avtryck.segment_member join avtryck.segment using (segment) where key = $1";
    let rows = client.query(sql, &[&key]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn compare(client: &Client, what: &str) -> usize {
    let mut all = 0;
    for (key, _, _, condition) in SEGMENTS {
        let rows = client.query(&format!("{ORACLE}{condition}"), &[]).await;
        let wanted: BTreeSet<uuid::Uuid> = rows.unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(members(client, key).await, wanted, "{key}, {what}");
        all += wanted.len();
    }
    all
}

/// One step of a history: hits, a withdrawal or an erasure.
async fn step(
    (client, spool): (&mut Client, &Spool),
    (random, gone): (&mut Random, &mut BTreeSet<u64>),
    number: i32,
) {
    let mut hits = Vec::new();
    // Half a day passes between two steps, so that the last of them is now.
    let hours = i64::from(STEPS - number) * 12;
    let now = UnixMicros(clock::now().0 - hours * 3_600_000_000);
    for who in 0..VISITORS {
        for site in ["shop", "news"] {
            let (permit, source) = permit_of(random);
            for _ in 0..random.below(4) {
                let mut hit = made(random, who, site, now);
                (hit.permit, hit.consent_source) = (permit, source);
                // What a machine refuses counts for some of the permits only.
                if permit == Permit::ALL && random.below(8) == 0 {
                    hit.flags.set(Flags::BOT);
                }
                if !gone.contains(&who) {
                    hits.push(hit);
                }
            }
        }
    }
    note(client, number, &hits).await;
    append_all(spool, &hits).await;
    if random.below(5) == 0 && gone.len() < 3 {
        let who = random.below(VISITORS);
        gone.insert(who);
        // What is appended is loaded before, or after: it is gone in either case.
        let reason = random.of(&[Reason::Withdrawal, Reason::Erasure]);
        let entry = (Subject::Visitor(visitor(who)), reason);
        suppression::add(client, &[entry]).await.unwrap();
        let subject = uuid::Uuid::from_bytes(visitor(who).0);
        let sql = "delete from raw where subject = $1";
        client.execute(sql, &[&subject]).await.unwrap();
    }
}

async fn follow_histories() {
    let dir = tempfile::tempdir().unwrap();
    let instructions = spool(&dir.path().join("instruction"));
    let mut found = 0;
    for seed in 1..=4 {
        let mut postgres = testing::TestDatabase::migrated().await;
        user_key::claim(&postgres.client, &USER_KEYS).await.unwrap();
        let sql = "create temporary table raw (subject uuid, site text, partner text, kind text, name text, \
                   at timestamptz, permit smallint, is_own_word boolean, is_machine boolean, step integer)";
        postgres.client.batch_execute(sql).await.unwrap();
        let hits = spool(&dir.path().join(format!("hits-{seed}")));
        let loader = loader(&hits, &instructions, postgres.config.clone());
        let loader = Loader {
            sink: loader.sink.with_user_keys(USER_KEYS.to_vec()),
            ..loader
        };
        let (mut random, mut gone) = (Random(seed), BTreeSet::new());
        for number in 0..STEPS {
            let known = (&mut random, &mut gone);
            Box::pin(step((&mut postgres.client, &hits), known, number)).await;
            Box::pin(load_once(&loader)).await.unwrap();
            let client = &mut postgres.client;
            crate::postgres::identity::fold(&*client).await.unwrap();
            segment::fold(client).await.unwrap();
            while Box::pin(group::settle_some(client))
                .await
                .unwrap()
                .is_full()
            {}
            let today = i32::try_from(clock::now().day()).unwrap();
            Box::pin(evaluate(client, &book(), (today, true), &|| false))
                .await
                .unwrap()
                .unwrap();
            found += compare(client, &format!("seed {seed}, step {number}")).await;
            let sql = "select count(*) from avtryck.segment_member where subject in (select key from avtryck.suppression)";
            let left: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
            assert_eq!(left, 0);
        }
        // Two days pass, and a night comes.
        let sql = "update raw set at = at - interval '2 days'; \
                   update avtryck.subject_day set day = day - 2; \
                   update avtryck.segment set full_began_at = now() - interval '2 days'";
        let client = &mut postgres.client;
        client.batch_execute(sql).await.unwrap();
        let today = i32::try_from(clock::now().day()).unwrap();
        Box::pin(evaluate(client, &book(), (today, true), &|| false))
            .await
            .unwrap()
            .unwrap();
        found += compare(client, &format!("seed {seed}, two days later")).await;
        hits.close();
    }
    assert!(found > 150, "{found} members are too few to show anything");
    instructions.close();
}

#[tokio::test]
async fn members_are_after_every_step_whom_plain_sql_finds_in_the_hits() {
    tokio::task::LocalSet::new()
        .run_until(Box::pin(follow_histories()))
        .await;
}
