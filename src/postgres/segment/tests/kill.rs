//! An evaluation whose connection is cut anywhere, as when its collector is killed.

use std::time::Duration;

use super::*;

/// Kills in `make test`; `make chaos` has more of them.
const KILLS: u64 = 12;

const PEOPLE: u64 = 6_000;

/// How many members differ from whom plain SQL finds, and how many histories do not lead to the
/// members: a subject comes in and leaves by turns, and is a member if it came in last.
const WRONG: &str = "
    with looked as (select distinct subject from avtryck.subject_day where kind = 'event' and name = 'look'),
    wanted as (
        select 'looked' as key, subject from avtryck.subject_permit join looked using (subject) where permit & 7 = 7
        union all
        select 'others', subject from avtryck.subject_permit
        where permit & 7 = 7 and subject not in (select subject from looked)
    ),
    held as (select key, subject from avtryck.segment_member join avtryck.segment using (segment)),
    told as (
        select segment, subject, sum(case when is_entry then 1 else -1 end) as balance
        from avtryck.segment_change group by 1, 2
    )
    select (select count(*) from (select * from wanted except select * from held) as missing)
         + (select count(*) from (select * from held except select * from wanted) as too_many)
         + (select count(*) from told full join avtryck.segment_member as member using (segment, subject)
            where coalesce(balance, 0) <> case when member.since is null then 0 else 1 end)";

/// Changes some people by chance.
async fn live(client: &Client, random: &mut fastrand::Rng) {
    let of = |random: &mut fastrand::Rng| format!("md5('{}')::uuid", random.u64(..PEOPLE));
    for _ in 0..random.usize(1..40) {
        let subject = of(random);
        let sql = match random.u8(..4) {
            0 => format!("delete from avtryck.subject_day where subject = {subject}"),
            1 => format!("update avtryck.subject_permit set permit = 3 where subject = {subject}"),
            _ => format!(
                "insert into avtryck.subject_day values ({subject}, current_date, 'shop', '', 'event', 'look', 1, 7) \
                 on conflict do nothing"
            ),
        };
        let touch = format!("select avtryck.touch_subjects(array[{subject}])");
        client
            .batch_execute(&format!("{sql}; {touch}"))
            .await
            .unwrap();
    }
    if random.u8(..3) == 0 {
        fall_asleep(client).await;
    }
}

#[tokio::test]
async fn an_evaluation_that_is_killed_anywhere_leaves_members_and_history_that_are_right() {
    let mut database = TestDatabase::migrated().await;
    let kills: u64 = std::env::var("SEGMENT_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(KILLS);
    let book = book(&[
        ("looked", "events('look', '30 days') > 0"),
        ("others", "not in_segment('looked')"),
    ]);
    people(&database.client, 0, i32::try_from(PEOPLE).unwrap(), 7, 0).await;
    run(&mut database.client, &book).await;
    let mut random = fastrand::Rng::with_seed(11);
    let (mut killed, mut tries) = (0, 0);
    while killed < kills {
        tries += 1;
        assert!(tries < 20 * kills, "an evaluation ends before it is killed");
        live(&database.client, &mut random).await;
        let mut other = database.connect().await;
        let pid: i32 = other
            .query_one("select pg_backend_pid()", &[])
            .await
            .unwrap()
            .get(0);
        let pause = Duration::from_micros(random.u64(..120_000));
        let kill = async {
            tokio::time::sleep(pause).await;
            let sql = "select pg_terminate_backend($1)";
            database.client.execute(sql, &[&pid]).await.unwrap();
        };
        let (evaluated, ()) =
            tokio::join!(evaluate(&mut other, &book, (TODAY, true), &|| false), kill);
        killed += u64::from(evaluated.is_err());
        if tries % 5 == 0 || killed == kills {
            // The lock of a killed one goes with its connection.
            let mut done = None;
            while done.is_none() {
                let client = &mut database.client;
                done = evaluate(client, &book, (TODAY, true), &|| false)
                    .await
                    .unwrap();
            }
            let state = stand(&database.client, "others").await;
            assert_eq!((&*state.state, state.error), ("fresh", None));
            assert_eq!(
                count(&database.client, WRONG).await,
                0,
                "after {killed} kills"
            );
        }
    }
    eprintln!("{killed} kills of {tries} evaluations, 0 wrong");
}
