//! Rows that are refused without a reason.

use super::*;

#[tokio::test]
async fn a_row_that_is_refused_without_a_reason_is_set_aside_unless_all_are() {
    let mut database = TestDatabase::migrated().await;
    // What a distributed table says of a row that another server refused.
    let refuse = |condition: &str| {
        format!(
            "create or replace function refuse() returns trigger language plpgsql as $$ begin \
                 if {condition} then \
                     raise exception 'a value: %', new.page_url using errcode = 'XX000'; \
                 end if; \
                 return new; \
             end $$"
        )
    };
    let sql = refuse("new.page_url like '%refused%'");
    let trigger = "create trigger refuse before insert on avtryck.hit \
                   for each row execute function refuse()";
    for sql in [sql.as_str(), trigger] {
        database.client.batch_execute(sql).await.unwrap();
    }
    let mut rows: Vec<_> = (0..1000).map(|n| (n, row(n), None)).collect();
    for at in [0, 500, 999] {
        rows[at].1.page_url = "https://telenor.se/refused".into();
    }
    let loaded = commit(&mut database.client, load(rows)).await.unwrap();
    assert_eq!((loaded.rows, loaded.rejected), (997, 3));
    let told = "select count(*) from avtryck.rejected_hit where reason like '%telenor%'";
    assert_eq!(number(&database.client, told).await, 0);
    // Now it is not the rows.
    let mut database = TestDatabase::migrated().await;
    for sql in [refuse("true").as_str(), trigger] {
        database.client.batch_execute(sql).await.unwrap();
    }
    let failed = commit(&mut database.client, plain(0..10))
        .await
        .unwrap_err();
    let said = format!("{:#}", anyhow::Error::from(failed));
    assert!(
        said.contains("XX000") && !said.contains("a value"),
        "{said}"
    );
    let rejected = "select count(*) from avtryck.rejected_hit";
    assert_eq!(number(&database.client, rejected).await, 0);
}
