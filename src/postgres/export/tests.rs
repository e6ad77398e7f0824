#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use tokio_postgres::Client;
use uuid::Uuid;

use super::compare::{MemberComparison, ToldPartner};
use super::*;
use crate::export::{Delivery, DeliveryKind, DeliveryLine, ExportId};
use crate::hit::VisitorId;
use crate::hit::subject::Subject;
use crate::postgres::server::embedded::testing::TestDatabase;
use crate::postgres::subject::suppression::{self, Reason};
use crate::postgres::subject::{AskedBy, erase};

fn partner(id: ExportId) -> ToldPartner {
    ToldPartner {
        key: "net".to_owned(),
        id,
        export_key: "a key of sixteen".to_owned(),
        segments: vec!["one".to_owned(), "two".to_owned()],
    }
}

fn visitor(number: u128) -> Uuid {
    // Spread over all ranges, and as no key of another kind is.
    Uuid::from_u128(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Two segments that may be told of, and so many visitors in both who permit everything to the
/// partner, which has signed its ID `uid-<number>` for each.
async fn stage(visitors: u128) -> TestDatabase {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    let sql = "insert into avtryck.segment (key, size, is_exposed, min_size) values \
               ('one', 99, true, 2), ('two', 99, true, 2)";
    client.batch_execute(sql).await.unwrap();
    for number in 0..visitors {
        add(client, number).await;
    }
    assert!(claim(client, "net").await.unwrap());
    database
}

async fn add(client: &Client, number: u128) {
    let (subject, uid) = (visitor(number), format!("uid-{number}"));
    permit(client, subject, "net", 63).await;
    let sql = "insert into avtryck.segment_member (segment, subject, since, permit) \
               select segment, $1, now(), 7 from avtryck.segment";
    client.execute(sql, &[&subject]).await.unwrap();
    let sql = "insert into avtryck.partner_id (visitor_id, first_seen, last_seen, partner, partner_uid, is_proved) \
               values ($1, now(), now(), 'net', $2, true)";
    client.execute(sql, &[&subject, &uid]).await.unwrap();
}

/// What a subject says by its own word.
async fn permit(client: &Client, subject: Uuid, partner: &str, permit: i16) {
    let sql = "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
               values ($1, 'shop', $2, $3, 2, now()) \
               on conflict (subject, site, partner) do update set permit = excluded.permit";
    client
        .execute(sql, &[&subject, &partner, &permit])
        .await
        .unwrap();
}

/// What a partner holds that does as it is told, in the order of arrival, and which deliveries it
/// has.
#[derive(Default)]
struct Memory {
    held: BTreeSet<(String, String)>,
    full: BTreeSet<(String, String)>,
    seen: Vec<Uuid>,
}

impl Memory {
    fn take(&mut self, delivery: &Delivery) {
        if self.seen.contains(&delivery.id) {
            return;
        }
        self.seen.push(delivery.id);
        for line in &delivery.lines {
            let DeliveryLine::Member { op, segment, id } = line else {
                panic!("{line:?}");
            };
            let entry = (segment.clone(), id.clone());
            match (*op, delivery.kind) {
                ("remove", DeliveryKind::Remove) => {
                    assert!(self.held.remove(&entry), "{entry:?} was never told");
                    self.full.remove(&entry);
                }
                ("add", DeliveryKind::Full) => {
                    self.full.insert(entry);
                }
                ("add", DeliveryKind::Delta) => {
                    self.held.insert(entry);
                }
                _ => panic!("{delivery:?}"),
            }
        }
        if delivery.kind == DeliveryKind::Full {
            self.held.extend(self.full.iter().cloned());
            if delivery.is_last {
                self.held = std::mem::take(&mut self.full);
            }
        }
    }

    fn ids(&self, segment: &str) -> Vec<&str> {
        let of_segment = self.held.iter().filter(|(known, _)| known == segment);
        of_segment.map(|(_, id)| &**id).collect()
    }
}

/// Returns what is to be sent next.
async fn next(client: &mut Client, partner: &ToldPartner) -> anyhow::Result<Option<Delivery>> {
    next_for_partner(client, partner, &mut None).await
}

/// Sends all that is due; returns the kinds of what was sent.
async fn run(client: &mut Client, partner: &ToldPartner, memory: &mut Memory) -> Vec<DeliveryKind> {
    let mut kinds = Vec::new();
    while let Some(delivery) = next(client, partner).await.unwrap() {
        memory.take(&delivery);
        finish(client, "net", &delivery).await.unwrap();
        kinds.push(delivery.kind);
    }
    kinds
}

/// Makes the hour pass after which members are compared again.
async fn pass_an_hour(client: &Client) {
    let sql = "update avtryck.export_target set compared_at = now() - interval '61 minutes'";
    client.batch_execute(sql).await.unwrap();
}

async fn count(client: &Client, table: &str) -> i64 {
    let sql = format!("select count(*) from avtryck.{table}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_keys_of_ids_are_made_in_sql_as_they_are_here() {
    let database = TestDatabase::migrated().await;
    let sql =
        "select avtryck.subject_key($1, 1::smallint), avtryck.partner_uid_key('adform', 'Åuid-1')";
    let row = database
        .client
        .query_one(sql, &[&visitor(7)])
        .await
        .unwrap();
    let own = Subject::Visitor(VisitorId(visitor(7).into_bytes())).key();
    let uid = Subject::PartnerUid {
        partner: "adform",
        uid: "Åuid-1",
    };
    assert_eq!(row.get::<_, Uuid>(0).into_bytes(), own);
    assert_eq!(row.get::<_, Uuid>(1).into_bytes(), uid.key());
}

#[tokio::test]
async fn a_partner_is_told_everything_then_what_came_and_everything_again_after_a_week() {
    let mut database = stage(3).await;
    let client = &mut database.client;
    let (net, mut memory) = (partner(ExportId::Partner), Memory::default());
    assert_eq!(run(client, &net, &mut memory).await, [DeliveryKind::Full]);
    assert_eq!(memory.ids("one"), ["uid-0", "uid-1", "uid-2"]);
    assert_eq!(memory.ids("two"), memory.ids("one"));
    add(client, 3).await;
    assert_eq!(
        run(client, &net, &mut memory).await,
        [],
        "the hour has not passed"
    );
    pass_an_hour(client).await;
    assert_eq!(run(client, &net, &mut memory).await, [DeliveryKind::Delta]);
    assert_eq!(memory.ids("one").len(), 4);
    pass_an_hour(client).await;
    assert_eq!(run(client, &net, &mut memory).await, []);
    let sql = "update avtryck.export_target set full_at = now() - interval '8 days'";
    client.batch_execute(sql).await.unwrap();
    pass_an_hour(client).await;
    memory
        .held
        .insert(("one".to_owned(), "from elsewhere".to_owned()));
    assert_eq!(run(client, &net, &mut memory).await, [DeliveryKind::Full]);
    assert_eq!(memory.ids("one").len(), 4);
}

#[tokio::test]
async fn whoever_leaves_by_any_way_is_removed_at_once_and_first_and_known_by_hash_afterwards() {
    let mut database = stage(8).await;
    let client = &mut database.client;
    let (net, mut memory) = (partner(ExportId::Partner), Memory::default());
    run(client, &net, &mut memory).await;
    add(client, 9).await;
    pass_an_hour(client).await;
    let pending = next(client, &net).await.unwrap().unwrap();
    assert_eq!(pending.kind, DeliveryKind::Delta);
    // Its answer was lost, and now people leave.
    memory.take(&pending);
    permit(client, visitor(0), "net", 3).await;
    permit(client, visitor(1), "", 7).await;
    let id = VisitorId(visitor(2).into_bytes());
    suppression::add(client, &[(Subject::Visitor(id), Reason::Withdrawal)])
        .await
        .unwrap();
    let uid = Subject::PartnerUid {
        partner: "net",
        uid: "uid-3",
    };
    suppression::add(client, &[(uid, Reason::Withdrawal)])
        .await
        .unwrap();
    let id = VisitorId(visitor(4).into_bytes());
    erase(client, &Subject::Visitor(id), AskedBy::Visitor)
        .await
        .unwrap();
    let sql = "insert into avtryck.objection (subject, kind, name) values ($1, 'segment', 'one')";
    client.execute(sql, &[&visitor(5)]).await.unwrap();
    let sql = "delete from avtryck.segment_member where subject = $1";
    client.execute(sql, &[&visitor(6)]).await.unwrap();
    permit(client, visitor(9), "net", 1).await;
    assert_eq!(count(client, "export_outbox").await, 15);

    let removal = next(client, &net).await.unwrap().unwrap();
    assert_eq!(
        (removal.kind, removal.lines.len()),
        (DeliveryKind::Remove, 15)
    );
    let again = next(client, &net).await.unwrap().unwrap();
    assert_eq!((again.id, &again.lines), (removal.id, &removal.lines));
    // What was begun has nobody left, so it is not sent again.
    assert_eq!(run(client, &net, &mut memory).await, [DeliveryKind::Remove]);
    assert_eq!(
        (memory.ids("one"), memory.ids("two")),
        (vec!["uid-7"], vec!["uid-5", "uid-7"])
    );
    assert_eq!(count(client, "export_outbox").await, 0);
    for number in 0..3 {
        let sql = "select count(*) from avtryck.export_past where subject_key = avtryck.subject_key($1, 1::smallint)";
        let past: i64 = client
            .query_one(sql, &[&visitor(number)])
            .await
            .unwrap()
            .get(0);
        assert_eq!(past, 2, "{number}");
    }
    // Nobody comes back of whom it must not be told.
    pass_an_hour(client).await;
    let sql = "insert into avtryck.segment_member (segment, subject, since, permit) \
               select segment, $1, now(), 7 from avtryck.segment";
    client.execute(sql, &[&visitor(6)]).await.unwrap();
    run(client, &net, &mut memory).await;
    assert_eq!(memory.ids("one"), ["uid-6", "uid-7"]);
}

#[tokio::test]
async fn what_was_not_sent_yet_is_neither_told_nor_taken_back() {
    let mut database = stage(3).await;
    let client = &mut database.client;
    let net = partner(ExportId::Partner);
    let mut comparison = MemberComparison::default();
    while !comparison.step(client, &net).await.unwrap() {}
    assert_eq!(count(client, "export_told").await, 6);
    permit(client, visitor(0), "net", 3).await;
    let outbox = (
        count(client, "export_told").await,
        count(client, "export_outbox").await,
    );
    assert_eq!(outbox, (4, 0));
    assert_eq!(count(client, "export_past").await, 0);
}

#[tokio::test]
async fn nobody_is_told_of_few_nor_by_claims_nor_against_what_a_site_was_told() {
    let mut database = stage(6).await;
    let client = &mut database.client;
    let (net, mut memory) = (partner(ExportId::Partner), Memory::default());
    // A claim of a browser, no permit by the partner's rules, a refusal on a site, and two browsers
    // under one ID, of which the last counts.
    for sql in [
        "update avtryck.partner_id set is_proved = false where partner_uid = 'uid-0'",
        "delete from avtryck.subject_permit where subject = (select visitor_id from avtryck.partner_id where partner_uid = 'uid-1')",
        "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
         select visitor_id, 'other', '', 3, 2, now() from avtryck.partner_id where partner_uid = 'uid-2'",
        "update avtryck.partner_id set partner_uid = 'uid-3', last_seen = now() + interval '1 hour' where partner_uid = 'uid-4'",
    ] {
        assert_eq!(client.execute(sql, &[]).await.unwrap(), 1, "{sql}");
    }
    run(client, &net, &mut memory).await;
    assert_eq!(memory.ids("one"), ["uid-3", "uid-5"]);
    // With fewer than min_size that match it is told of none, whatever the size of the segment.
    let sql = "update avtryck.segment set min_size = 3 where key = 'one'; delete from avtryck.export_segment";
    client.batch_execute(sql).await.unwrap();
    pass_an_hour(client).await;
    run(client, &net, &mut memory).await;
    assert_eq!((memory.ids("one").len(), memory.ids("two").len()), (0, 2));
    // A segment that is no longer its own, or too small, is taken back whole.
    let sql = "update avtryck.segment set is_exposed = false";
    client.batch_execute(sql).await.unwrap();
    pass_an_hour(client).await;
    run(client, &net, &mut memory).await;
    assert!(memory.held.is_empty());
}

#[tokio::test]
async fn a_large_list_comes_in_parts_of_which_each_has_whoever_is_left() {
    let mut database = stage(2).await;
    let client = &mut database.client;
    let sql = "with new as (select md5(n::text)::uuid as subject, n from generate_series(1, 12000) as n), \
               member as (insert into avtryck.segment_member (segment, subject, since, permit) \
                   select segment, subject, now(), 7 from avtryck.segment, new where key = 'one'), \
               allowed as (insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
                   select subject, 'shop', 'net', 15, 2, now() from new) \
               insert into avtryck.partner_id (visitor_id, first_seen, last_seen, partner, partner_uid, is_proved) \
               select subject, now(), now(), 'net', 'n' || n, true from new";
    client.batch_execute(sql).await.unwrap();
    let (net, mut memory) = (partner(ExportId::Partner), Memory::default());
    let first = next(client, &net).await.unwrap().unwrap();
    assert_eq!(
        (first.part, first.is_last, first.lines.len()),
        (1, false, 10_000)
    );
    let DeliveryLine::Member { id, .. } = first.lines[5].clone() else {
        panic!("{first:?}");
    };
    let sql = "delete from avtryck.segment_member where subject = (select visitor_id from avtryck.partner_id where partner_uid = $1)";
    client.execute(sql, &[&id]).await.unwrap();
    memory.take(&first);
    let kinds = run(client, &net, &mut memory).await;
    assert_eq!(
        kinds,
        [DeliveryKind::Remove, DeliveryKind::Full, DeliveryKind::Full]
    );
    assert_eq!(memory.held.len(), 12_003);
    let sql = "select lines from avtryck.export_delivery where number = $1";
    let lines: i32 = client
        .query_one(sql, &[&first.number])
        .await
        .unwrap()
        .get(0);
    assert_eq!(lines, 9_999, "sent again it had one fewer");
}

#[tokio::test]
async fn removals_overtake_a_comparison_that_is_under_way() {
    let mut database = stage(3).await;
    let client = &mut database.client;
    let (net, mut memory) = (partner(ExportId::Partner), Memory::default());
    run(client, &net, &mut memory).await;
    pass_an_hour(client).await;
    let mut under_way = Some(MemberComparison::default());
    for number in 0.. {
        // Whatever the comparison is at, whoever leaves is told of before it goes on.
        let subject = visitor(100 + number);
        add(client, 100 + number).await;
        let told = "insert into avtryck.export_told (partner, segment, subject, subject_key, id, id_key, permit, number, told_at) \
                    select 'net', segment, $1, $1, 'uid-late', $1, 15, 1, now() from avtryck.segment where key = 'one'";
        client.execute(told, &[&subject]).await.unwrap();
        let gone = "delete from avtryck.segment_member where subject = $1";
        client.execute(gone, &[&subject]).await.unwrap();
        let delivery = next_for_partner(client, &net, &mut under_way)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(delivery.kind, DeliveryKind::Remove);
        assert!(under_way.is_some(), "it went on before the removal");
        finish(client, "net", &delivery).await.unwrap();
        let comparison = under_way.as_mut().unwrap();
        if comparison.step(client, &net).await.unwrap() {
            // Segments to count, to take back and to compare, and nothing twice.
            assert_eq!(number, 7);
            break;
        }
    }
    assert!(
        next_for_partner(client, &net, &mut under_way)
            .await
            .unwrap()
            .is_none()
    );
    assert!(under_way.is_none());
    let sql = "select count(*) from avtryck.export_target where compared_at > now() - interval '1 minute'";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn users_have_an_id_of_the_partner_alone_and_only_where_somebody_vouches_for_them() {
    let mut database = stage(0).await;
    let client = &mut database.client;
    let (vouched, claimed) = (Uuid::from_u128(71), Uuid::from_u128(72));
    for (subject, id) in [(vouched, "aa"), (claimed, "bb")] {
        permit(client, subject, "net", 15).await;
        let sql = "insert into avtryck.subject_id values ($1, 5, '', $2, 15, now())";
        client.execute(sql, &[&subject, &id]).await.unwrap();
        let sql = "insert into avtryck.segment_member (segment, subject, since, permit) \
                   select segment, $1, now(), 7 from avtryck.segment";
        client.execute(sql, &[&subject]).await.unwrap();
    }
    let sql = "insert into avtryck.subject_seen values ($1, 0, 0, current_date, current_date, 7)";
    client.execute(sql, &[&vouched]).await.unwrap();
    client
        .batch_execute("update avtryck.segment set min_size = 1")
        .await
        .unwrap();
    let (net, mut memory) = (partner(ExportId::User), Memory::default());
    run(client, &net, &mut memory).await;
    let expected = crate::export::partner_user("a key of sixteen", "aa").unwrap();
    assert_eq!(memory.ids("one"), std::slice::from_ref(&expected));
    assert_ne!(
        crate::export::partner_user("another's key, 16", "aa").unwrap(),
        expected
    );
    // Without a site that permits it the ID itself goes.
    permit(client, vouched, "net", 7).await;
    assert_eq!(count(client, "subject_id").await, 1);
    run(client, &net, &mut memory).await;
    assert!(memory.held.is_empty());
}

#[tokio::test]
async fn a_webhook_has_each_event_and_no_entry_of_whoever_withdrew() {
    let mut database = stage(3).await;
    let client = &mut database.client;
    let keys = ["one".to_owned()];
    let hooks: [(&str, &[String]); 1] = [("crm", &keys)];
    assert!(claim(client, &webhook_target("crm")).await.unwrap());
    note_webhooks(client, &hooks).await.unwrap();
    let sql = "insert into avtryck.segment_change (at, segment, subject, is_entry, reason) \
               select now(), segment, $1, $2, $3 from avtryck.segment";
    let [anna, berta, carl, dora] = [0, 1, 2, 3].map(visitor);
    let changes = [
        (anna, true, "rule"),
        (berta, true, "definition"),
        (carl, true, "rule"),
        (dora, true, "rule"),
        (dora, false, "expiry"),
    ];
    for (subject, is_entry, reason) in changes {
        let change = client.execute(sql, &[&subject, &is_entry, &reason]).await;
        change.unwrap();
    }
    let said = |delivery: &Delivery| -> Vec<(&str, String)> {
        let lines = delivery.lines.iter().map(|line| match line {
            DeliveryLine::Event { event, subject, .. } => (*event, subject.clone()),
            DeliveryLine::Member { .. } => panic!("{line:?}"),
        });
        lines.collect()
    };
    let delivery = next_for_webhook(client, "crm").await.unwrap().unwrap();
    // Dora came and left before anybody was told.
    let entries = [anna, berta, carl].map(|subject| ("entry", subject.to_string()));
    assert_eq!(said(&delivery), entries);
    // Cut off, and both leave before it is sent again: it may have arrived.
    for (subject, reason) in [(anna, "expiry"), (berta, "withdrawal")] {
        client
            .execute(sql, &[&subject, &false, &reason])
            .await
            .unwrap();
    }
    let again = next_for_webhook(client, "crm").await.unwrap().unwrap();
    let left = [("entry", carl.to_string())];
    assert_eq!((again.id, said(&again)), (delivery.id, left.into()));
    finish(client, &webhook_target("crm"), &again)
        .await
        .unwrap();
    let last = next_for_webhook(client, "crm").await.unwrap().unwrap();
    let exits = [("exit", anna.to_string()), ("exit", berta.to_string())];
    assert_eq!((last.number, said(&last)), (2, exits.into()));
    finish(client, &webhook_target("crm"), &last).await.unwrap();
    // Nobody is told who came into a segment that is too small.
    client
        .batch_execute("update avtryck.segment set is_exposed = false")
        .await
        .unwrap();
    client
        .execute(sql, &[&visitor(2), &true, &"rule"])
        .await
        .unwrap();
    assert!(next_for_webhook(client, "crm").await.unwrap().is_none());
    note_webhooks(client, &[]).await.unwrap();
    assert_eq!(count(client, "webhook_outbox").await, 0);
}
