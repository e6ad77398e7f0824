//! Hubs, caps and owners: what keeps groups small, and what anybody may do to them.

use super::*;
use crate::identity::group::{KIND_NODES_MAX, OWNERS_MAX};

async fn prove(client: &Client, (a, b): Pair) {
    let sql = "update avtryck.link_edge set proved_day = '2026-01-01', is_new = true where a = $1 and b = $2";
    client.execute(sql, &[&a, &b]).await.unwrap();
}

fn visitors() -> impl Iterator<Item = u8> {
    (6..200).filter(|number| node(*number).1 == 1)
}

#[tokio::test]
async fn whoever_names_an_id_from_many_browsers_takes_nothing_from_its_proved_group() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    // A MAID and a device ID that a system vouches for, and the browser of their owner.
    let (maid, device) = (3, 4);
    add_tie(client, maid, device, 0, true).await;
    let own = add_tie(client, 0, maid, 0, false).await;
    prove(client, own).await;
    settle_all(client).await;
    let proved = read_groups(client, "proved_group").await;
    assert_eq!(proved.len(), 3, "{proved:?}");

    // Eleven strangers name it, before and after it is looked at again.
    for visitor in visitors().take(11) {
        add_tie(client, maid, visitor, 1, false).await;
    }
    assert_eq!(settle_all(client).await.hubs, 1);
    for stays in ["a hub", "named once more", "proved once more"] {
        let groups = read_groups(client, "device_group").await;
        assert!(!groups.contains_key(&node(maid).0), "{stays}");
        assert_eq!(read_groups(client, "proved_group").await, proved, "{stays}");
        if stays == "a hub" {
            add_tie(client, maid, 199, 2, false).await;
        } else {
            prove(client, own).await;
        }
        settle_all(client).await;
    }
    // More proved ties than one device can have: then nobody knows whose it is.
    for visitor in visitors().take(11) {
        let tie = (node(maid).0, node(visitor).0);
        prove(client, tie).await;
    }
    settle_all(client).await;
    assert!(
        !read_groups(client, "proved_group")
            .await
            .contains_key(&node(maid).0)
    );
    // It comes back over proved ties alone once few of these are left.
    let few = "delete from avtryck.link_edge where b > $1 and proved_day is not null";
    client.execute(few, &[&node(8).0]).await.unwrap();
    let today = "select (now() at time zone 'UTC')::date - date '1970-01-01'";
    let today: i32 = client.query_one(today, &[]).await.unwrap().get(0);
    free_hubs(client, today + 30).await.unwrap();
    settle_all(client).await;
    let groups = read_groups(client, "proved_group").await;
    assert_eq!(groups.get(&node(maid).0), groups.get(&node(device).0));
}

#[tokio::test]
async fn a_hub_without_ties_goes_and_one_that_is_none_by_the_rules_of_today_is_found_anew() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    for visitor in visitors().take(11) {
        add_tie(client, 3, visitor, 0, false).await;
        add_tie(client, 9, visitor, 0, false).await;
    }
    assert_eq!(settle_all(client).await.hubs, 2);
    let delete = "delete from avtryck.link_edge where a = $1 and b > $2";
    client
        .execute(delete, &[&node(3).0, &node(12).0])
        .await
        .unwrap();
    settle_all(client).await;
    let trial = rebuild(client, &[], (0, true), |_| {}).await.unwrap();
    assert!(trial.freed > 0, "{trial:?}");
    assert!(
        !read_groups(client, "device_group")
            .await
            .contains_key(&node(3).0)
    );
    let rebuilt = rebuild(client, &[], (0, false), |_| {}).await.unwrap();
    assert_eq!(rebuilt.freed, trial.freed);
    let groups = read_groups(client, "device_group").await;
    assert_eq!(groups.get(&node(3).0), groups.get(&node(6).0));
    assert!(!groups.contains_key(&node(9).0));

    let delete = "delete from avtryck.link_edge where a = $1 or b = $1";
    client.execute(delete, &[&node(9).0]).await.unwrap();
    free_hubs(client, 0).await.unwrap();
    let sql = "select count(*) from avtryck.link_node where node = $1";
    let left: i64 = client.query_one(sql, &[&node(9).0]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn the_view_of_conflicts_says_which_cap_and_a_check_counts_the_ties_that_caps_leave_out() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    let sql = "select avtryck.group_cap(kind::smallint) from generate_series(1, 4) as kind";
    let rows = client.query(sql, &[]).await.unwrap();
    let caps: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    let of_kinds = KIND_NODES_MAX.map(|(kind, max)| (kind as i16, max));
    let expected: Vec<(i16, usize)> = (1..)
        .zip(caps)
        .map(|(kind, cap)| (kind, cap as usize))
        .collect();
    assert_eq!(of_kinds[..], expected);
    assert_eq!(GROUP_NODES_MAX, 20, "avtryck.broken_cap says 20");

    // Three MAIDs of one visitor, and four IDs of one partner.
    for maid in [3, 9, 15] {
        add_tie(client, 0, maid, i32::from(maid), false).await;
    }
    for uid in [5, 11, 17, 23] {
        add_tie(client, 1, uid, i32::from(uid), false).await;
    }
    settle_all(client).await;
    let sql = "select reason, cap from avtryck.link_conflict order by cap";
    let rows = client.query(sql, &[]).await.unwrap();
    let told: Vec<(&str, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(told, [("cap", "maid"), ("cap", "partner_uid of network")]);
    let uniting = ["network".to_owned()];
    let trial = rebuild(client, &uniting, (0, true), |_| {}).await.unwrap();
    assert_eq!(trial.grouped.capped, 2, "{trial:?}");
    assert_eq!((trial.grouped.split, trial.grouped.merged), (0, 0));
}

#[tokio::test]
async fn a_device_has_six_owners_in_ninety_days_and_the_proved_ones_stay() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    for user in 0..12 {
        add_tie(client, 0, USERS + user, i32::from(user), user >= 10).await;
    }
    // One of half a year before is of another time.
    add_tie(client, 0, USERS + 20, -180, false).await;
    settle_all(client).await;
    let sql = "select owner from avtryck.device_owner order by owner";
    let rows = client.query(sql, &[]).await.unwrap();
    let owners: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let kept = [0, 1, 2, 3, 10, 11, 20].map(|user| node(USERS + user).0);
    assert_eq!(owners, kept);
    assert_eq!(owners.len() as i64 - 1, OWNERS_MAX);
    let sql = "select is_shared from avtryck.device_group";
    assert!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
}
