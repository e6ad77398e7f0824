//! What withdrawal, erasure and export do with ties.

use serde_json::json;

use super::*;
use crate::postgres::identity;
use crate::postgres::server::embedded::testing::TestDatabase;

const BERTA: VisitorId = VisitorId([0xb0; 16]);

/// A tie of a visitor to Anna's MAID and user, as its job has grouped it, and one that waits to be
/// added up.
async fn tied() -> TestDatabase {
    let database = TestDatabase::migrated().await;
    let (maid, user) = (Subject::Maid(MAID).key(), Subject::User(USER).key());
    let [anna, berta, maid, user] =
        [ANNA.0, BERTA.0, maid, user].map(|id| uuid::Uuid::from_bytes(id).to_string());
    let edge = |a: &str, b: &str, (a_kind, b_kind): (i16, i16)| {
        let (a, b, kinds) = match a < b {
            true => (a, b, (a_kind, b_kind)),
            false => (b, a, (b_kind, a_kind)),
        };
        format!(
            "('{a}', '{b}', {}, {}, '2026-11-20', '2026-11-24', '2026-11-24', 63, 2, 0)",
            kinds.0, kinds.1
        )
    };
    let edges = [
        edge(&anna, &maid, (1, 2)),
        edge(&berta, &maid, (1, 2)),
        edge(&anna, &user, (1, 5)),
    ];
    let node = |id: &str, kind: i16, group: i64| {
        format!("('{id}', {kind}, {group}, {group}, 1, '2026-11-20', '2026-11-24')")
    };
    let nodes = [
        node(&anna, 1, 1),
        node(&berta, 1, 1),
        node(&maid, 2, 1),
        node(&user, 5, 0),
    ];
    let permits = [&anna, &berta, &maid, &user]
        .map(|id| format!("('{id}', 'shop', '', 63, 2, '2026-11-24T12:00Z')"));
    let sql = format!(
        "insert into avtryck.link_edge (a, b, a_kind, b_kind, first_day, last_day, proved_day, permit, \
             consent_source, source) values {}; \
         insert into avtryck.link_node (node, kind, device_group, proved_group, degree, first_day, last_day) values {}; \
         insert into avtryck.device_group values (1, 3, false, false, now(), now()); \
         insert into avtryck.device_owner values (1, '{user}', '2026-11-20', '2026-11-24', 1, 63, true); \
         insert into avtryck.link_forbidden values (least('{anna}'::uuid, '{berta}'), greatest('{anna}'::uuid, '{berta}'), now()); \
         insert into avtryck.link_change values (now(), '{anna}', null, 1, 'merge'); \
         insert into avtryck.household_shown values ('{anna}', 1, 7, 1, '2026-11-24'); \
         insert into avtryck.household_apart values ('{anna}', '{berta}'); \
         insert into avtryck.household_never values (avtryck.household_gone_key('{anna}')); \
         insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) values {}; \
         insert into avtryck.link_part values (array['{anna}']::uuid[], array['{user}']::uuid[], '{{1}}', '{{5}}', '{{\"\"}}', \
             array[now()], '{{63}}', '{{2}}', '{{0}}', '{{true}}', '{{false}}'); \
         insert into avtryck.permit_part values (array['{anna}']::uuid[], '{{news}}', '{{\"\"}}', '{{63}}', '{{2}}', array[now()])",
        edges.join(", "),
        nodes.join(", "),
        permits.join(", "),
    );
    let sql = match anna < user {
        true => sql,
        false => sql.replace(
            &format!("array['{anna}']::uuid[], array['{user}']::uuid[], '{{1}}', '{{5}}'"),
            &format!("array['{user}']::uuid[], array['{anna}']::uuid[], '{{5}}', '{{1}}'"),
        ),
    };
    database.client.batch_execute(&sql).await.unwrap();
    database
}

/// How many ties, nodes, owners, pairs that are forbidden, permits and changes there are, and parts
/// that wait.
async fn counts(client: &Client) -> [i64; 7] {
    let sql = "select (select count(*) from avtryck.link_edge), (select count(*) from avtryck.link_node), \
               (select count(*) from avtryck.device_owner), (select count(*) from avtryck.link_forbidden), \
               (select count(*) from avtryck.subject_permit), \
               (select count(*) from avtryck.link_change where reason <> 'merge'), \
               (select count(*) from avtryck.link_part) + (select count(*) from avtryck.permit_part)";
    let row = client.query_one(sql, &[]).await.unwrap();
    [0, 1, 2, 3, 4, 5, 6].map(|column| row.get(column))
}

async fn suppress(database: &mut TestDatabase, subject: Subject<'_>, reason: suppression::Reason) {
    suppression::add(&mut database.client, &[(subject, reason)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_withdrawal_takes_the_ties_of_an_id_with_what_waits_and_leaves_those_of_others() {
    let mut database = tied().await;
    assert_eq!(counts(&database.client).await, [3, 4, 1, 1, 4, 0, 2]);
    let anna = Subject::Visitor(ANNA);
    suppress(&mut database, anna, suppression::Reason::Withdrawal).await;
    // The user's only tie was Anna's.
    assert_eq!(counts(&database.client).await, [1, 3, 1, 1, 3, 1, 0]);
    let sql = "select device_group from avtryck.link_regroup order by 1";
    let groups = database.client.query(sql, &[]).await.unwrap();
    let groups: Vec<i64> = groups.iter().map(|row| row.get(0)).collect();
    assert!(groups.contains(&1), "{groups:?}");
    // What she said of her home stands, for she may permit it again.
    let sql = "select (select count(*) from avtryck.household_shown), (select count(*) from avtryck.household_apart), \
               (select count(*) from avtryck.household_never)";
    let row = database.client.query_one(sql, &[]).await.unwrap();
    assert_eq!([0, 1, 2].map(|column| row.get::<_, i64>(column)), [0, 1, 1]);
    // A second time nothing is left to go.
    suppress(&mut database, anna, suppression::Reason::Withdrawal).await;
    assert_eq!(counts(&database.client).await, [1, 3, 1, 1, 3, 1, 0]);
}

#[tokio::test]
async fn an_erasure_leaves_no_trace_of_a_visitor_among_ties() {
    let mut database = tied().await;
    let anna = Subject::Visitor(ANNA);
    let done = erase(&mut database.client, &anna, AskedBy::Cli).await;
    let mut expected = removed(0, 0);
    // Each row that was hers, those too that waited to be added up. The owner of the device stays.
    expected.0.extend([
        ("household_apart", 1),
        ("household_never", 1),
        ("household_shown", 1),
        ("link_change", 1),
        ("link_edge", 2),
        ("link_forbidden", 1),
        ("link_node", 1),
        ("subject_permit", 2),
    ]);
    assert_eq!(done.unwrap(), expected);
    let again = erase(&mut database.client, &anna, AskedBy::Cli).await;
    assert_eq!(again.unwrap(), removed(0, 0));
    assert_eq!(counts(&database.client).await, [1, 3, 1, 0, 3, 1, 0]);
    let left = dump(&database.client).await;
    assert!(!left.contains(&ANNA.to_string()), "{left}");
    let lines = exported(&mut database, &anna).await;
    let noted = ["link_change", "suppression", "erasure", "erasure"];
    assert_eq!(tables(&lines), noted);
    let sql = "select (select count(*) from avtryck.household_shown) + (select count(*) from avtryck.household_apart) \
               + (select count(*) from avtryck.household_never)";
    let left: i64 = database.client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "nothing of what she said of her home");
}

#[tokio::test]
async fn the_owner_of_a_device_goes_with_the_user() {
    let mut database = tied().await;
    let done = erase(&mut database.client, &Subject::User(USER), AskedBy::Cli).await;
    let Removed(removed) = done.unwrap();
    assert_eq!(removed.get("device_owner"), Some(&1), "{removed:?}");
    assert_eq!(counts(&database.client).await, [2, 3, 0, 1, 4, 1, 0]);
}

#[tokio::test]
async fn an_export_names_the_other_ids_of_a_device_by_kind_and_key_alone() {
    let mut database = tied().await;
    identity::fold(&database.client).await.unwrap();
    for (subject, expected) in [
        (
            Subject::Visitor(ANNA),
            vec![
                "subject_permit",
                "subject_permit",
                "link_edge",
                "link_edge",
                "link_node",
                "device_owner",
                "link_forbidden",
                "link_change",
                "household_shown",
                "household_apart",
                "household_never",
            ],
        ),
        (
            Subject::Maid(MAID),
            vec![
                "subject_permit",
                "link_edge",
                "link_edge",
                "link_node",
                "device_owner",
            ],
        ),
        (
            Subject::User(USER),
            vec!["subject_permit", "link_edge", "link_node", "device_owner"],
        ),
    ] {
        let lines = exported(&mut database, &subject).await;
        assert_eq!(tables(&lines), expected, "{subject:?}");
        let text = lines.iter().map(Value::to_string).collect::<String>();
        assert!(!text.contains(&BERTA.to_string()), "{text}");
        let is_annas = subject == Subject::Visitor(ANNA);
        assert_eq!(text.contains(&ANNA.to_string()), is_annas, "{text}");
    }
    let lines = exported(&mut database, &Subject::Maid(MAID)).await;
    let key = |subject: Subject<'_>| uuid::Uuid::from_bytes(subject.key()).to_string();
    let others: Vec<&Value> = lines[1..3].iter().map(|line| &line["other_key"]).collect();
    let mut expected = [key(Subject::Visitor(ANNA)), key(Subject::Visitor(BERTA))];
    expected.sort();
    assert_eq!(
        others,
        expected
            .iter()
            .map(|key| json!(key))
            .collect::<Vec<_>>()
            .iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(lines[1]["other_kind"], "visitor");
    assert_eq!(lines[3]["others"].as_array().unwrap().len(), 2);
    assert_eq!(
        lines[0]["permit"],
        json!(["store", "measure", "profile", "match", "link", "locate"])
    );
}
