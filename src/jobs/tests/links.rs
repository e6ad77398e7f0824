//! Ties: what is counted of them, the audit, rules that become stricter, and why groups are split.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use uuid::Uuid;

use super::*;
use crate::hit::subject::Subject;
use crate::identity::{IdType, Node, TieRules};
use crate::metrics::{Metrics, graph::LOSSES};
use crate::postgres::identity::{self, Loss, Removal};

/// Makes limits whose rules let the IDs of these partners unite a device, and block a value.
fn limits(uniting: &[&str], blocked: &str) -> (JobLimits, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let types = uniting
        .iter()
        .map(|key| ((*key).to_owned(), IdType::Browser));
    let rules = TieRules::new(types, &[blocked.to_owned()], []);
    let graph = Graph::new(
        Arc::new(ArcSwap::from_pointee(rules)),
        Arc::clone(&metrics),
        Arc::<Notify>::default(),
    );
    let limits = JobLimits {
        graph: Some(graph),
        time_zones: None,
        ..LIMITS
    };
    (limits, metrics)
}

async fn run_job(client: &mut Client, limits: &JobLimits, name: &str) -> u64 {
    let job = JOBS.iter().find(|job| job.name == name).unwrap();
    job.run(client, limits, NOON).await.unwrap().changed
}

fn key(subject: &Subject<'_>) -> Uuid {
    Uuid::from_bytes(Node::of(subject).0)
}

/// Adds a tie of two IDs with their kinds, last seen on a day.
async fn tie(client: &Client, one: (Uuid, i16), other: (Uuid, i16), day: &str) {
    let ((a, a_kind), (b, b_kind)) = (one.min(other), one.max(other));
    let partner = if a_kind == 4 || b_kind == 4 {
        "net"
    } else {
        ""
    };
    let sql = format!(
        "insert into avtryck.link_edge \
         (a, b, a_kind, b_kind, partner, first_day, last_day, permit, consent_source, source) \
         values ($1, $2, $3, $4, $5, '{day}', '{day}', 63, 2, 0)"
    );
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&a, &b, &a_kind, &b_kind, &partner];
    client.execute(&sql, &values).await.unwrap();
}

/// Adds a hit with these IDs, at noon of a day.
async fn hit(client: &Client, (visitor, maid, did): (Option<Uuid>, &str, &str), permit: i16) {
    let sql = "insert into avtryck.hit \
         (received_at, site_key, flags, kind, permit, consent_source, hit_id, visitor_id, maid, device_id) \
         values ('2026-11-24T12:00Z', 1, 0, 1, $1, 2, gen_random_uuid(), $2, nullif($3, ''), nullif($4, ''))";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] = [&permit, &visitor, &maid, &did];
    client.execute(sql, &values).await.unwrap();
}

fn visitor(number: u8) -> (Uuid, i16) {
    (Uuid::from_bytes([number; 16]), 1)
}

fn assert_metrics(metrics: &Metrics, lines: &[&str]) {
    let text = metrics.render();
    for line in lines {
        let is_there = text.lines().any(|known| known == *line);
        let name = line.split(['{', ' ']).next().unwrap();
        let near: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
        assert!(is_there, "{line}: {near:#?}");
    }
}

const MAID: &str = "38400000-8CF0-11bd-b23e-10b96e40000d";

#[tokio::test]
async fn the_audit_counts_ties_that_no_stored_hit_permitted() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    make_days(client, 0..=2).await;
    let maid = (key(&Subject::Maid(MAID)), 2);
    let device = (key(&Subject::DeviceId("device-4711")), 3);
    let day = "2026-11-24";
    // A hit that permits, one that does not, one of another day, and none.
    hit(client, (Some(visitor(1).0), MAID, ""), 19).await;
    hit(client, (Some(visitor(2).0), MAID, ""), 47).await;
    hit(client, (Some(visitor(3).0), MAID, ""), 63).await;
    for number in [1, 2, 4] {
        tie(client, visitor(number), maid, day).await;
    }
    tie(client, visitor(3), maid, "2026-11-22").await;
    // Without a visitor the hits are found by the hash of the first ID.
    hit(client, (None, &MAID.to_lowercase(), "device-4711"), 63).await;
    tie(client, maid, device, day).await;
    let stranger = (key(&Subject::DeviceId("device-4712")), 3);
    tie(
        client,
        stranger,
        (key(&Subject::User(crate::hit::UserKey([7; 16]))), 5),
        day,
    )
    .await;
    // What is older than the hits are cannot be told.
    tie(client, visitor(9), maid, "2026-11-21").await;
    let (limits, metrics) = limits(&[], "none");
    assert_eq!(run_job(client, &limits, "link_audit").await, 4);
    let told = [
        "avtryck_link_audited_total 6",
        "avtryck_link_unpermitted_total 4",
    ];
    assert_metrics(&metrics, &told);
    let sql = "select count(*) from avtryck.audit_ties(10, '2026-11-22', '2026-11-24') as tie \
               where not is_permitted and (tie.a = $1 or tie.b = $1)";
    for (number, is_missed) in [(1, false), (2, true), (3, true), (4, true)] {
        let row = client.query_one(sql, &[&visitor(number).0]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), i64::from(is_missed), "{number}");
    }
    // The erasure of another ID deleted hits; those that are left still tell.
    let erase = "insert into avtryck.erasure (erased_at, key, id_kind, asked_by, removed) \
                 values ('2026-11-24T13:00Z', gen_random_uuid(), 'maid', 'cli', '{}')";
    client.batch_execute(erase).await.unwrap();
    assert_eq!(run_job(client, &limits, "link_audit").await, 1);
}

#[tokio::test]
async fn metrics_say_how_many_ties_groups_owners_and_households_there_are_and_what_waits() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let maid = (key(&Subject::Maid(MAID)), 2);
    for number in 1..=4 {
        tie(client, visitor(number), maid, "2026-11-24").await;
    }
    let user = (key(&Subject::User(crate::hit::UserKey([7; 16]))), 5);
    tie(client, visitor(8), user, "2026-11-24").await;
    tie(client, visitor(1), user, "2026-11-24").await;
    client
        .batch_execute(
            "update avtryck.link_edge set proved_day = '2026-11-24' where a = '08080808-0808-0808-0808-080808080808'; \
             insert into avtryck.link_regroup (device_group, since) values (77, now() - interval '1 hour'); \
             insert into avtryck.sighting_part values (1, 51, '{1,2}', array[gen_random_uuid(), gen_random_uuid()], \
                 '{2026-11-24,2026-11-24}', '{1,2}'); \
             insert into avtryck.household_member (node, household, score, days, addresses, since, supported_on) \
             select gen_random_uuid(), n / 3, 1, 1, 1, '2026-11-01', '2026-11-24' from generate_series(3, 9) as n; \
             insert into avtryck.household_night values (true, (now() at time zone 'UTC')::date - 2, 1)",
        )
        .await
        .unwrap();
    let (limits, metrics) = limits(&[], "none");
    run_job(client, &limits, "link_count").await;
    let waiting = [
        "avtryck_link_waiting{what=\"ties\"} 6",
        "avtryck_link_waiting{what=\"splits\"} 1",
        "avtryck_link_waiting{what=\"sightings\"} 2",
    ];
    assert_metrics(&metrics, &waiting);
    let text = metrics.render();
    let seconds = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse::<f64>().unwrap()
    };
    assert!(seconds("avtryck_link_waiting_seconds{what=\"splits\"}") >= 3_600.0);
    let night = seconds("avtryck_household_night_age_seconds");
    assert!((2.0 * 86_400.0..3.0 * 86_400.0).contains(&night), "{night}");

    run_job(client, &limits, "link").await;
    let (_, counted) = super::links::limits(&[], "none");
    let again = JobLimits {
        graph: Some(Graph::new(
            Arc::default(),
            Arc::clone(&counted),
            Arc::default(),
        )),
        ..LIMITS
    };
    run_job(client, &again, "link_count").await;
    let found = [
        "avtryck_link_waiting{what=\"ties\"} 0",
        "avtryck_link_waiting{what=\"splits\"} 0",
        "avtryck_link_waiting_seconds{what=\"ties\"} 0",
        "avtryck_link_ties{proof=\"claimed\"} 5",
        "avtryck_link_ties{proof=\"proved\"} 1",
        "avtryck_link_groups{size=\"1\"} 1",
        "avtryck_link_groups{size=\"3_to_5\"} 1",
        "avtryck_link_owners{proof=\"claimed\"} 1",
        "avtryck_link_owners{proof=\"proved\"} 1",
        "avtryck_link_hubs 0",
        "avtryck_household_members 7",
        "avtryck_households{size=\"2\"} 0",
        "avtryck_households{size=\"3\"} 2",
    ];
    assert_metrics(&counted, &found);
    assert_metrics(&metrics, &["avtryck_link_splits_total{reason=\"other\"} 1"]);
}

#[test]
fn metrics_know_each_reason_for_a_lost_tie() {
    assert_eq!(Loss::ALL.map(Loss::name), LOSSES);
}

async fn reasons(client: &Client, node: Uuid) -> Vec<String> {
    let sql =
        "select reason from avtryck.link_change where node = $1 and reason <> 'merge' order by at";
    let rows = client.query(sql, &[&node]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn group_of(client: &Client, node: Uuid) -> Option<i64> {
    let sql = "select device_group from avtryck.link_node where node = $1";
    let row = client.query_opt(sql, &[&node]).await.unwrap();
    row.map(|row| row.get(0))
}

#[tokio::test]
async fn ties_that_stricter_rules_would_not_make_go_and_the_change_says_rule() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let uid = "partner-4711";
    let partner_uid = (
        key(&Subject::PartnerUid {
            partner: "net",
            uid,
        }),
        4,
    );
    let blocked = (key(&Subject::DeviceId("Demo-Device")), 3);
    let maid = (key(&Subject::Maid(MAID)), 2);
    for number in [1, 2] {
        tie(client, visitor(number), partner_uid, "2026-11-24").await;
        tie(client, visitor(number + 2), blocked, "2026-11-24").await;
        tie(client, visitor(number + 4), maid, "2026-11-24").await;
    }
    let (before, _) = limits(&["net"], "none");
    run_job(client, &before, "link").await;
    let together = async |client: &Client, one: u8| {
        let groups = [
            group_of(client, visitor(one).0).await,
            group_of(client, visitor(one + 1).0).await,
        ];
        groups[0].is_some() && groups[0] == groups[1]
    };
    for one in [1, 3, 5] {
        assert!(together(client, one).await, "{one}");
    }
    let (after, metrics) = limits(&["other"], "Demo-Device");
    run_job(client, &after, "link").await;
    for (one, is_together) in [(1, false), (3, false), (5, true)] {
        assert_eq!(together(client, one).await, is_together, "{one}");
    }
    for node in [visitor(1), visitor(2), visitor(3), partner_uid, blocked] {
        assert_eq!(reasons(client, node.0).await, ["rule"]);
    }
    assert!(reasons(client, maid.0).await.is_empty());
    assert_metrics(&metrics, &["avtryck_link_splits_total{reason=\"rule\"} 2"]);
    // A value is blocked in any case, as far as a hash can tell.
    for (value, is_blocked) in [
        ("DEMO-DEVICE", true),
        ("demo-device", true),
        ("other-id", false),
    ] {
        let device = (key(&Subject::DeviceId(value)), 3);
        tie(client, visitor(20), device, "2026-11-24").await;
        run_job(client, &after, "link").await;
        assert_eq!(
            group_of(client, device.0).await.is_none(),
            is_blocked,
            "{value}"
        );
    }
}

#[tokio::test]
async fn a_change_says_expiry_where_that_was_the_cause_and_split_where_another_left() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let maid = (key(&Subject::Maid(MAID)), 2);
    let device = (key(&Subject::DeviceId("device-4711")), 3);
    // 187 days before noon's is 2026-05-21.
    tie(client, visitor(1), maid, "2026-05-20").await;
    tie(client, visitor(2), maid, "2026-11-24").await;
    for number in [3, 4] {
        tie(client, visitor(number), device, "2026-11-24").await;
    }
    let user = (key(&Subject::User(crate::hit::UserKey([7; 16]))), 5);
    tie(client, visitor(3), user, "2026-11-24").await;
    let (limits, metrics) = limits(&[], "none");
    run_job(client, &limits, "link").await;
    assert!(group_of(client, user.0).await.is_some());
    assert_eq!(run_job(client, &limits, "link_edge").await, 1);
    let transaction = client.transaction().await.unwrap();
    let gone = [device.0, visitor(3).0];
    identity::remove(&transaction, &gone, Removal::Withdrawal)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    run_job(client, &limits, "link").await;
    assert_eq!(reasons(client, visitor(1).0).await, ["expiry"]);
    assert!(reasons(client, visitor(2).0).await.is_empty());
    assert_eq!(reasons(client, device.0).await, ["withdrawal"]);
    assert_eq!(reasons(client, visitor(4).0).await, ["split"]);
    let told = [
        "avtryck_link_splits_total{reason=\"expiry\"} 1",
        "avtryck_link_splits_total{reason=\"withdrawal\"} 1",
        "avtryck_link_splits_total{reason=\"other\"} 0",
    ];
    assert_metrics(&metrics, &told);
    // Neither an ID nor a user stays longer than its ties.
    for (node, _) in [visitor(1), visitor(3), visitor(4), device, user] {
        assert_eq!(group_of(client, node).await, None, "{node}");
    }
}
